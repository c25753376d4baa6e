//! The commands of a script.
//!
//! | command | effect |
//! |---|---|
//! | `start 3 lease`, `start 3 read-index` | replicas r1 r2 r3, ranked in this order, on empty disks |
//! | `tick r1 +100ms`, `tick all +100ms` | clocks go on and timers fire; disks report progress |
//! | `pause r1 +2000ms`, `pause all +2000ms` | the clock goes on, the replica does not |
//! | `propose r1 a b`, `read r1 x` | a client writes two entries, reads; a read is named |
//! | `deliver r1->r2`, `deliver r1->r2 1`, `deliver all` | messages on their way now arrive |
//! | `drop r1->r2` | messages on their way are lost |
//! | `swap r1->r2`, `double r1->r2` | the last message overtakes all, the first is doubled |
//! | `cut r1->r2`, `cut r3`, `heal` | links lose everything from now on, or no longer |
//! | `sync r1`, `sync r1 1`, `sync-promise r1` | log writes, a promise, become durable |
//! | `stall r1`, `unstall r1` | the disk finishes nothing, or again |
//! | `checkpoint r1`, `trim r1` | applied rows reach the disk; the log below is recycled |
//! | `crash r1`, `start r1` | loses what is not durable; starts from what is |
//! | `hand-over r1 r2`, `hand-over r1` | to r2, or to the best |
//! | `drain r1` | the node is about to leave |
//! | `settle`, `settle quietly` | deliver and sync until nothing is on its way |
//! | `show r1`, `show all` | where a replica stands |

use std::time::Duration;

use quorate_paxos::{Health, Input, LeaseMode};
use quorate_types::ReplicaId;

use crate::cluster::{Cluster, Detail};

const SECOND_NS: u64 = 1_000_000_000;

pub fn run(cluster: &mut Cluster, command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        ["start", count, "lease"] => start_all(cluster, count, LeaseMode::Lease),
        ["start", count, "read-index"] => start_all(cluster, count, LeaseMode::ReadIndex),
        ["start", id] => cluster.start(replica(id)),
        ["crash", id] => cluster.crash(replica(id)),
        ["tick", "all", span] => {
            cluster.ids().into_iter().for_each(|id| cluster.tick(id, duration(span)));
        }
        ["tick", id, span] => cluster.tick(replica(id), duration(span)),
        ["pause", "all", span] => {
            cluster.ids().into_iter().for_each(|id| cluster.pause(id, duration(span)));
        }
        ["pause", id, span] => cluster.pause(replica(id), duration(span)),
        ["propose", id, payloads @ ..] => cluster.propose(replica(id), payloads),
        ["read", id, name] => cluster.read(replica(id), name),
        ["deliver", "all"] => deliver_all(cluster),
        ["deliver", way] => deliver(cluster, way, usize::MAX),
        ["deliver", way, count] => deliver(cluster, way, count.parse().expect("a number")),
        ["drop", way] => {
            let (from, to) = link(way);
            cluster.drop_queued(from, to);
        }
        ["swap", way] => {
            let queue = cluster.links.get_mut(&link(way)).expect("nothing is on its way");
            queue.rotate_right(1);
        }
        ["double", way] => {
            let queue = cluster.links.get_mut(&link(way)).expect("nothing is on its way");
            let first = queue.front().expect("nothing is on its way").clone();
            queue.push_back(first);
        }
        ["cut", way] => cut(cluster, way),
        ["heal"] => cluster.cut.clear(),
        ["sync", id] => cluster.sync_log(replica(id), usize::MAX),
        ["sync", id, count] => cluster.sync_log(replica(id), count.parse().expect("a number")),
        ["sync-promise", id] => cluster.sync_promise(replica(id)),
        ["stall", id] => drop(cluster.stalled.insert(replica(id))),
        ["unstall", id] => drop(cluster.stalled.remove(&replica(id))),
        ["checkpoint", id] => cluster.checkpoint(replica(id)),
        ["trim", id] => cluster.trim(replica(id)),
        ["hand-over", id] => cluster.feed(replica(id), Input::HandOver(None)),
        ["hand-over", id, to] => cluster.feed(replica(id), Input::HandOver(Some(replica(to)))),
        ["drain", id] => {
            let health = Health { draining: true, ..Health::default() };
            cluster.feed(replica(id), Input::Health(health));
        }
        ["settle"] => cluster.settle(Detail::All),
        ["settle", "quietly"] => cluster.settle(Detail::Outcomes),
        ["show", "all"] => cluster.ids().into_iter().for_each(|id| cluster.show(id)),
        ["show", id] => cluster.show(replica(id)),
        _ => panic!("no such command: {command}"),
    }
}

fn start_all(cluster: &mut Cluster, count: &str, mode: LeaseMode) {
    cluster.start_all(count.parse().expect("a number"), mode, SECOND_NS);
}

fn deliver(cluster: &mut Cluster, way: &str, count: usize) {
    let (from, to) = link(way);
    cluster.deliver(from, to, count);
}

fn deliver_all(cluster: &mut Cluster) {
    let queued: Vec<_> = cluster.links.iter().map(|(way, queue)| (*way, queue.len())).collect();
    for ((from, to), count) in queued {
        cluster.deliver(from, to, count);
    }
}

/// What is on its way is lost too.
fn cut(cluster: &mut Cluster, way: &str) {
    let ways = if way.contains("->") {
        vec![link(way)]
    } else {
        let id = replica(way);
        cluster.ids().into_iter().flat_map(|other| [(id, other), (other, id)]).collect()
    };
    for (from, to) in ways {
        cluster.drop_queued(from, to);
        cluster.cut.insert((from, to));
    }
}

fn replica(word: &str) -> ReplicaId {
    let number = word.strip_prefix('r').and_then(|number| number.parse().ok());
    ReplicaId(number.unwrap_or_else(|| panic!("no replica: {word}")))
}

fn link(word: &str) -> (ReplicaId, ReplicaId) {
    let (from, to) = word.split_once("->").expect("a link is r1->r2");
    (replica(from), replica(to))
}

fn duration(word: &str) -> Duration {
    let millis = word.strip_prefix('+').and_then(|rest| rest.strip_suffix("ms"));
    let millis = millis.and_then(|millis| millis.parse().ok());
    Duration::from_millis(millis.unwrap_or_else(|| panic!("no span of time: {word}")))
}
