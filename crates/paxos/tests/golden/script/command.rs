//! The commands of a script.
//!
//! | command | effect |
//! |---|---|
//! | `start 3 lease`, `start 3 read-index` | replicas r1 r2 r3, ranked in this order, on empty disks |
//! | `tick r1 +100ms`, `tick all +100ms` | clocks go on and timers fire; disks report progress |
//! | `pause r1 +2000ms`, `pause all +2000ms` | the clock goes on, the replica does not |
//! | `propose r1 a b`, `read r1 x` | a client writes two entries, reads; a read is named |
//! | `deliver r1->r2`, `deliver r1->r2 1`, `deliver all` | messages on their way now arrive |
//! | `deliver r1->r2 accept`, `deliver r1->r2 accept#2` | the first, the second of a kind arrives |
//! | `lose r1->r2 accept`, `double r1->r2 accept` | it is lost, sent once more |
//! | `drop r1->r2` | messages on their way are lost |
//! | `swap r1->r2`, `double r1->r2` | the last message overtakes all, the first is doubled |
//! | `cut r1->r2`, `cut r3`, `heal` | links lose everything from now on, or no longer |
//! | `sync r1`, `sync r1 1`, `sync-promise r1` | log writes, a promise, become durable |
//! | `stall r1`, `unstall r1` | the disk finishes nothing, or again |
//! | `checkpoint r1`, `trim r1` | applied rows reach the disk; the log below is recycled |
//! | `snapshot r1 r2` | rows of r2 arrive at r1, if it asks for none that are newer |
//! | `install r1`, `switch r1`, `installed r1` | it waits for them, its disk has them, it hears of that |
//! | `lose-rows r1` | the rows of a node that is down are lost |
//! | `lose-log r1 keep 2` | the log of a node that is down is lost, but for the first two batches |
//! | `damage-rows r1` | the rows of a node that runs are found to be damaged |
//! | `change r1 voters=r1,r2,r4 learners=r5` | r1 is asked for these members |
//! | `continue r1` | it goes on with a change, if it is time |
//! | `force r3 keep=r3,r4` | r3 is asked to go on with these alone |
//! | `tell r4 r3` | r4 is told of the history that r3 is in |
//! | `lose-node r3`, `lose-node r3 disk` | r3 is lost, and its disk too |
//! | `find-node r3` | it is found after all, with its disk |
//! | `look`, `order` | an operator plans how to go on without those that are down, and orders it |
//! | `vanish r3` | a replica that has left is gone with its disk |
//! | `crash r1`, `start r1` | loses what is not durable; starts from what is |
//! | `crash r1 keep 2`, `crash r1 keep 0 promise` | so many log writes survive, and promises |
//! | `hand-over r1 r2`, `hand-over r1` | to r2, or to the best |
//! | `give-way r1` | to the best in better health, if there is one |
//! | `go-home r1` | to the best placed, if it has settled |
//! | `watch +5000ms` | for so long all clocks go on and all messages arrive; leaders go home |
//! | `drain r1`, `faults r1 1` | the node is about to leave; its health |
//! | `settle`, `settle quietly` | deliver and sync until nothing is on its way |
//! | `calm +8000ms` | faults end for so long; then all must agree |
//! | `hang +10000ms` | the serving leader's disk hangs; another leads within so long |
//! | `show r1`, `show all` | where a replica stands |
//!
//! What the explorer writes begins with `start 3 lease by-hand`. Nothing happens by itself there, and
//! leases are judged, because time is the same for all:
//!
//! | command | effect |
//! |---|---|
//! | `start ... margin=41ms ranks=0,1,1` | another lease margin, other ranks |
//! | `start ... settle=400ms` | another settling time |
//! | `start ... clocks=1000ms+20000ppm,...` | what clocks show and how much too fast they are |
//! | `start ... spares=2` | the last two begin as nobody's members |
//! | `start ... suspend=1800ms` | for how long an unheard voter is waited for |
//! | `start ... kinds=FFA` | what each holds: full, log-only, read-only, arbiter |
//! | `start ... budget=300` | leaders keep so many bytes of log for those that lag |
//! | `start ... beyond-margin` | the margin does not cover that: leases may overlap |
//! | `pass +10ms` | time goes on for all, each clock at its own rate |
//! | `tick r1`, `disk-progress r1` | due timers fire; the disk says that it works |
//! | `answer r1`, `answer r1 2` | the oldest log read is answered, with at most two batches |

use std::time::Duration;

use quorate_paxos::LeaseMode;
use quorate_types::ReplicaId;

use super::cluster::{Detail, Manner, Stage};
use crate::common::calm::Player;
use crate::common::cluster::{Clock, Setup};
use crate::common::event::{Event, Ids};
use crate::common::links::{Kind, Link, Pick};
use crate::common::members;

pub fn run(stage: &mut Option<Stage>, command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    if let ["start", count, mode @ ("lease" | "read-index"), options @ ..] = words.as_slice() {
        *stage = Some(start(count, mode, options));
        return;
    }
    let stage = stage.as_mut().expect("a script begins with `start 3 lease`");
    if !run_on_links(stage, &words) && !run_on_disks(stage, &words) && !run_on_nodes(stage, &words)
    {
        panic!("no such command: {command}");
    }
}

/// Commands about messages and about all. False if it is none of them.
fn run_on_links(stage: &mut Stage, words: &[&str]) -> bool {
    match *words {
        ["deliver", "all"] => deliver_all(stage),
        ["deliver", way] => stage.deliver(link(way), usize::MAX),
        ["deliver", way, which] => match which.parse() {
            Ok(count) => stage.deliver(link(way), count),
            Err(_) => stage.play(&Event::Deliver(pick(way, which))),
        },
        ["lose", way, which] => stage.play(&Event::Lose(pick(way, which))),
        ["double", way, which] => stage.play(&Event::Duplicate(pick(way, which))),
        ["double", way] => {
            let first = stage.cluster.links.pick(link(way), 0).expect("nothing is on its way");
            stage.play(&Event::Duplicate(first));
        }
        ["drop", way] => stage.drop_queued(link(way)),
        ["swap", way] => stage.cluster.links.swap(link(way)),
        ["cut", way] => cut(stage, way),
        ["heal"] => stage.cut.clear(),
        ["pass", span] => stage.play(&Event::Pass { ns: nanos(span) }),
        ["settle"] => stage.settle(Detail::All),
        ["settle", "quietly"] => stage.settle(Detail::Outcomes),
        ["calm", span] => stage.calm(duration(span)),
        ["watch", span] => stage.watch(duration(span)),
        ["hang", span] => stage.hang(duration(span)),
        ["look"] => stage.play(&Event::Look),
        ["order"] => stage.play(&Event::Order),
        _ => return false,
    }
    true
}

/// Commands about what is lost, or found again. False if it is none of them.
fn run_on_disks(stage: &mut Stage, words: &[&str]) -> bool {
    let event = match *words {
        ["lose-node", id] => Event::LoseNode { id: replica(id), with_disk: false },
        ["lose-node", id, "disk"] => Event::LoseNode { id: replica(id), with_disk: true },
        ["find-node", id] => Event::FindNode(replica(id)),
        ["vanish", id] => Event::Vanish(replica(id)),
        ["lose-rows", id] => Event::LoseRows(replica(id)),
        ["lose-log", id, "keep", keep] => Event::LoseLog { id: replica(id), keep: number(keep) },
        ["damage-rows", id] => Event::DamageRows(replica(id)),
        _ => return false,
    };
    stage.play(&event);
    true
}

/// Commands about one node, or each. False if it is none of them.
fn run_on_nodes(stage: &mut Stage, words: &[&str]) -> bool {
    let event = match *words {
        [verb @ ("tick" | "pause" | "show"), "all", ref rest @ ..] => {
            for id in stage.cluster.ids() {
                run_on_nodes(stage, &[&[verb, &id.to_string()], rest].concat());
            }
            return true;
        }
        ["tick", id, span] => {
            stage.tick(replica(id), duration(span));
            return true;
        }
        ["pause", id, span] => {
            stage.pause(replica(id), duration(span));
            return true;
        }
        ["show", id] => {
            stage.show(replica(id));
            return true;
        }
        ["propose", id, ref payloads @ ..] => {
            stage.propose(replica(id), payloads);
            return true;
        }
        ["read", id, ref name @ ..] => {
            stage.read(replica(id), name.first().copied());
            return true;
        }
        ["stall", id] => {
            stage.stalled.insert(replica(id));
            return true;
        }
        ["unstall", id] => {
            stage.stalled.remove(&replica(id));
            return true;
        }
        ["tick", id] => Event::Tick(replica(id)),
        ["ask", id] => Event::AskFresh(replica(id)),
        ["disk-progress", id] => Event::DiskProgress(replica(id)),
        ["start", id] => Event::Start(replica(id)),
        ["crash", id] => Event::Crash { id: replica(id), keep: 0, keep_promise: false },
        ["crash", id, "keep", keep, ref rest @ ..] => {
            Event::Crash { id: replica(id), keep: number(keep), keep_promise: *rest == ["promise"] }
        }
        ["sync", id] => Event::SyncLog { id: replica(id), count: usize::MAX },
        ["sync", id, count] => Event::SyncLog { id: replica(id), count: number(count) },
        ["sync-promise", id] => Event::SyncPromise(replica(id)),
        ["checkpoint", id] => Event::Checkpoint(replica(id)),
        ["trim", id] => Event::Trim(replica(id)),
        ["answer", id] => Event::AnswerRead { id: replica(id), count: usize::MAX },
        ["answer", id, count] => Event::AnswerRead { id: replica(id), count: number(count) },
        ["change", id, voters, learners] => Event::Change {
            id: replica(id),
            voters: ids(voters, "voters="),
            learners: ids(learners, "learners="),
        },
        ["continue", id] => Event::ContinueChange(replica(id)),
        ["force", id, keep] => Event::Force { id: replica(id), keep: ids(keep, "keep=") },
        ["tell", id, from] => Event::Tell { id: replica(id), from: replica(from) },
        ["snapshot", id, from] => Event::Snapshot { id: replica(id), from: replica(from) },
        ["install", id] => Event::Install(replica(id)),
        ["switch", id] => Event::Switch(replica(id)),
        ["installed", id] => Event::Installed(replica(id)),
        ["hand-over", id] => Event::HandOver { id: replica(id), to: None },
        ["hand-over", id, to] => Event::HandOver { id: replica(id), to: Some(replica(to)) },
        ["give-way", id] => Event::GiveWay(replica(id)),
        ["go-home", id] => Event::GoHome(replica(id)),
        ["drain", id] => Event::Health { id: replica(id), draining: true, serious_faults: 0 },
        ["faults", id, count] => Event::Health {
            id: replica(id),
            draining: false,
            serious_faults: count.parse().expect("a number"),
        },
        _ => return false,
    };
    stage.play(&event);
    true
}

fn start(count: &str, mode: &str, options: &[&str]) -> Stage {
    let mode = if mode == "lease" { LeaseMode::Lease } else { LeaseMode::ReadIndex };
    let mut setup = Setup::plain(count.parse().expect("a number"), mode);
    let mut manner = Manner::Handy;
    for option in options {
        match option.split_once('=').unwrap_or((option, "")) {
            ("by-hand", "") => manner = Manner::ByHand,
            ("budget", bytes) => setup.log_budget = bytes.parse().expect("bytes"),
            ("spares", count) => setup.spares = number(count),
            ("suspend", span) => setup.suspend_after = duration(span),
            ("kinds", kinds) => setup.kinds = members::kinds(kinds),
            ("beyond-margin", "") => setup.beyond_margin = true,
            ("margin", span) => setup.lease_margin = Duration::from_nanos(nanos(span)),
            ("settle", span) => setup.settle = duration(span),
            ("ranks", ranks) => {
                setup.ranks = ranks.split(',').map(|rank| rank.parse().expect("a rank")).collect();
            }
            ("clocks", clocks) => setup.clocks = clocks.split(',').map(clock).collect(),
            _ => panic!("no such option: {option}"),
        }
    }
    Stage::new(setup, manner)
}

fn deliver_all(stage: &mut Stage) {
    let queued: Vec<(Link, usize)> =
        stage.cluster.links.queues().map(|(link, queue)| (link, queue.len())).collect();
    for (link, count) in queued {
        stage.deliver(link, count);
    }
}

/// What is on its way is lost too.
fn cut(stage: &mut Stage, way: &str) {
    let ways = if way.contains("->") {
        vec![link(way)]
    } else {
        let id = replica(way);
        stage.cluster.ids().into_iter().flat_map(|other| [(id, other), (other, id)]).collect()
    };
    for link in ways {
        stage.drop_queued(link);
        stage.cut.insert(link);
    }
}

fn replica(word: &str) -> ReplicaId {
    let number = word.strip_prefix('r').and_then(|number| number.parse().ok());
    ReplicaId(number.unwrap_or_else(|| panic!("no replica: {word}")))
}

/// `voters=r1,r2`, or nobody: `learners=`.
fn ids(word: &str, name: &str) -> Ids {
    let list = word.strip_prefix(name).unwrap_or_else(|| panic!("no {name}: {word}"));
    Ids::of(list.split(',').filter(|word| !word.is_empty()).map(replica))
}

fn link(word: &str) -> Link {
    let (from, to) = word.split_once("->").expect("a link is r1->r2");
    (replica(from), replica(to))
}

/// `accept`, or `accept#2` for the second one.
fn pick(way: &str, which: &str) -> Pick {
    let (from, to) = link(way);
    let (name, nth) = which.split_once('#').unwrap_or((which, "1"));
    let kind = Kind::ALL.iter().copied().find(|kind| kind.name() == name);
    let kind = kind.unwrap_or_else(|| panic!("no kind of message: {name}"));
    Pick { from, to, kind, nth: number(nth).checked_sub(1).expect("they count from 1") }
}

/// `1000ms+20000ppm`, `1000ms-1ppm`, `1000ms`.
fn clock(word: &str) -> Clock {
    let sign = word.find(['+', '-']).unwrap_or(word.len());
    let (start, rate) = word.split_at(sign);
    let ppm = rate.strip_suffix("ppm").map_or(0, |ppm| ppm.parse().expect("a rate"));
    Clock { start_ns: nanos(start), ppm }
}

fn number(word: &str) -> usize {
    word.parse().unwrap_or_else(|_| panic!("no number: {word}"))
}

/// `+10ms`, `+10us` or `+10ns`; the sign may be left out.
fn nanos(word: &str) -> u64 {
    let text = word.strip_prefix('+').unwrap_or(word);
    let units = [("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
    let parsed = units
        .iter()
        .find_map(|(unit, ns)| Some(text.strip_suffix(unit)?.parse::<u64>().ok()? * ns));
    parsed.unwrap_or_else(|| panic!("no span of time: {word}"))
}

fn duration(word: &str) -> Duration {
    Duration::from_nanos(nanos(word))
}
