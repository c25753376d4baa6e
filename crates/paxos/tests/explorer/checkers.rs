//! Every rule over several replicas notices a history that breaks it.

use std::time::Duration;

use bytes::Bytes;
use quorate_paxos::{History, LeaseMode, ReadToken, ReadVerdict};
use quorate_types::{Ballot, BootTime, EntryId, ReplicaId, Slot};

use crate::common::cluster::{Cluster, Setup};
use crate::invariants::acknowledged::Acknowledged;
use crate::invariants::agreement::Agreement;
use crate::invariants::ballots::Ballots;
use crate::invariants::freshness::Freshness;
use crate::invariants::grants::{self, Grant};
use crate::invariants::line::Line;
use crate::invariants::log_matching::LogMatching;
use crate::invariants::one_lease::OneLease;
use crate::invariants::reads::Reads;
use crate::invariants::told::{self, Told};
use crate::invariants::watermarks::{Marks, Watermarks};
use crate::invariants::{apply_order, commit, convergence, durability, histories, lease_disk};
use crate::run::watch;

const R1: ReplicaId = ReplicaId(1);
const R2: ReplicaId = ReplicaId(2);

fn ballot(round: u64) -> Ballot {
    Ballot { round, replica: R1 }
}

fn entry(round: u64, slot: u64) -> EntryId {
    EntryId { ballot: ballot(round), slot: Slot(slot) }
}

/// Runs what keeps a rule, then what breaks it, and compares what the rule says.
fn check(keeps: impl FnOnce(), breaks: impl FnOnce(), says: &str) {
    assert_eq!(watch(keeps), None);
    let failure = watch(breaks).expect("the rule is broken");
    assert!(failure.message.contains(says), "{failure:?}");
    assert!(failure.place.contains("invariants/"), "{failure:?}");
}

/// Goal: another entry, or another payload, at a chosen slot is noticed.
#[test]
fn agreement() {
    let observe = |second: EntryId, payload: &'static str| {
        let mut rule = Agreement::default();
        rule.observe(entry(1, 1), &Bytes::from("a"));
        rule.observe(second, &Bytes::from(payload));
    };
    check(
        || observe(entry(1, 1), "a"),
        || observe(entry(2, 1), "a"),
        "two entries chosen at slot 1",
    );
    check(
        || observe(entry(1, 2), "b"),
        || observe(entry(1, 1), "b"),
        "two entries chosen at slot 1",
    );
}

/// Goal: a chosen entry on too few disks is noticed.
#[test]
fn durability() {
    let require = |is_kept| durability::require(entry(1, 1), is_kept);
    check(|| require(true), || require(false), "is on too few disks");
    for (count, spares) in [(3, 0), (4, 0), (5, 2)] {
        let setup = Setup { spares, ..Setup::plain(count, LeaseMode::Lease) };
        let cluster = Cluster::new(setup);
        let half = (count - spares as u64) / 2;
        assert!(cluster.is_enough(|id| id.0 <= half + 1), "a majority of the voters");
        assert!(!cluster.is_enough(|id| id.0 <= half || id.0 == 5), "who is no voter counts not");
    }
}

/// Goal: a commit position beyond a majority, or by counting an older ballot, is noticed.
#[test]
fn commit() {
    let require = |is_kept| commit::require(R1, entry(1, 1), is_kept);
    check(|| require(true), || require(false), "it is on too few disks");
    let counts = |round| commit::counts_own(R1, ballot(2), entry(round, 7));
    check(|| counts(2), || counts(1), "counting copies of an older ballot");
}

/// Goal: a ballot that is won twice, or by somebody else, is noticed.
#[test]
fn ballots() {
    let win = |rounds: [u64; 2], who: ReplicaId| {
        let mut rule = Ballots::default();
        rounds.iter().for_each(|round| rule.elected(ballot(*round), who));
    };
    check(|| win([1, 2], R1), || win([1, 1], R1), "elected twice");
    check(|| win([1, 2], R1), || win([1, 2], R2), "foreign ballot");
}

/// Goal: two leases at once are noticed, and counted where clocks are worse than the margin.
#[test]
fn one_lease() {
    let mut rule = OneLease::default();
    check(
        || rule.overlap(R1, R2, true),
        || OneLease::default().overlap(R1, R2, false),
        "at the same time",
    );
    assert_eq!(rule.overlaps, 1);
}

/// Goal: a vote within a lease is noticed, but not one by the lease's own token.
#[test]
fn grants() {
    let grant = Some(Grant { ballot: ballot(1), until: BootTime(100) });
    let vote = |now, token| grants::check(R1, grant, BootTime(now), ballot(2), token);
    check(|| vote(100, None), || vote(99, None), "within the lease of");
    check(|| vote(99, Some(ballot(1))), || vote(99, Some(Ballot::ZERO)), "within the lease of");
}

/// Goal: a lease that is renewed with a disk that hangs is noticed.
#[test]
fn lease_disk() {
    let renew = |idle| lease_disk::check(R1, Duration::from_millis(idle), Duration::from_secs(1));
    check(|| renew(1000), || renew(1001), "hangs");
}

/// Goal: a stale answer is noticed, and counted where clocks are worse than the margin.
#[test]
fn reads() {
    let read = |seen, may_be_stale| {
        let mut rule = Reads::default();
        rule.asked(R1, ReadToken(1), Slot(3), Slot(seen));
        rule.answered(R1, ReadToken(1), ReadVerdict::Confirmed, may_be_stale);
        rule.stale
    };
    let judge = |seen| assert_eq!(read(seen, false), 0);
    check(|| judge(3), || judge(2), "stale read: 3 acknowledged, 2 seen");
    assert_eq!(read(2, true), 1);
}

/// Goal: a replica that calls itself fresh and is not is noticed, and counted where clocks are worse than
/// the margin.
#[test]
fn freshness() {
    let ask = |applied, may_be_stale| {
        let mut rule = Freshness::default();
        rule.observe(R2, None, Slot(3), false);
        rule.asked(R1, BootTime(7), rule.shown());
        rule.observe(R1, Some(BootTime(6)), Slot(0), false);
        rule.observe(R1, Some(BootTime(7)), Slot(applied), may_be_stale);
        assert_eq!(rule.confirmed, 1);
        rule.stale
    };
    let judge = |applied| assert_eq!(ask(applied, false), 0);
    check(|| judge(3), || judge(2), "called fresh: 3 was known, 2 is applied");
    assert_eq!(ask(2, true), 1);
}

/// Goal: a leader that lacks what an older one acknowledged is noticed, and so is a replica in the end.
#[test]
fn acknowledged() {
    let serve = |applied| {
        let mut rule = Acknowledged::default();
        rule.answered(entry(1, 4));
        rule.serves(R2, ballot(2), Slot(applied));
    };
    check(|| serve(4), || serve(3), "serves without acknowledged slot");
    let cluster = Cluster::new(Setup::plain(3, LeaseMode::Lease));
    let lose = |answered: &[EntryId]| {
        let mut rule = Acknowledged::default();
        answered.iter().for_each(|id| rule.answered(*id));
        rule.check_all_applied(&cluster);
    };
    check(|| lose(&[]), || lose(&[entry(1, 1)]), "is not in the rows");
}

/// Goal: two histories that end with one id are noticed.
#[test]
fn log_matching() {
    let write = |chain| {
        let mut rule = LogMatching::default();
        rule.write(entry(1, 5), 17);
        rule.write(entry(1, 5), chain);
    };
    check(|| write(17), || write(18), "two histories end with");
}

/// Goal: a promise or a log that is told before it is on disk, and a promise that is forgotten, are
/// noticed.
#[test]
fn told() {
    let promise = |on_disk| Told::default().promise(R1, ballot(2), ballot(on_disk));
    check(|| promise(2), || promise(1), "on disk");
    let restart = |with| {
        let mut rule = Told::default();
        rule.promise(R1, ballot(2), ballot(2));
        rule.restarted(R1, ballot(with));
    };
    check(|| restart(3), || restart(1), "after it has told of");
    check(|| told::log(R1, Slot(4), entry(1, 4)), || told::log(R1, Slot(5), entry(1, 4)), "slot 5");
}

/// Goal: a watermark that falls is noticed.
#[test]
fn watermarks() {
    let fall = |to: Marks| {
        let mut rule = Watermarks::default();
        let promised = ballot(1);
        rule.moved(R1, Marks { promised, committed: Slot(4), applied: Slot(3), trimmed: Slot(2) });
        rule.moved(R1, to);
    };
    let same =
        Marks { promised: ballot(1), committed: Slot(4), applied: Slot(3), trimmed: Slot(2) };
    check(|| fall(same), || fall(Marks { promised: Ballot::ZERO, ..same }), "goes back");
    check(|| fall(same), || fall(Marks { committed: Slot(3), ..same }), "goes back");
    check(|| fall(same), || fall(Marks { applied: Slot(2), ..same }), "goes back");
    check(|| fall(same), || fall(Marks { trimmed: Slot(1), ..same }), "goes back");
}

/// Goal: a history that begins without what was proven, and a replica that goes back to an older one, are noticed.
#[test]
fn histories() {
    let begin = |has| histories::stays(entry(1, 4), has);
    check(|| begin(Some(entry(1, 4))), || begin(Some(entry(2, 4))), "is proven, and lost");
    check(|| begin(None), || begin(Some(entry(2, 4))), "is proven, and lost");
    let later = History { number: 1, since: entry(2, 5) };
    let go = |from, to| histories::rises(R1, from, to);
    let first = History::default();
    check(|| go(first, later), || go(later, first), "goes back");
}

/// Goal: a history that begins keeps what was proven, and another entry there is noticed; what was above may be lost.
#[test]
fn lines() {
    let next = |second: EntryId| {
        let mut first = Line::default();
        for slot in 1..=3 {
            first.agreement.observe(entry(1, slot), &Bytes::new());
            first.acknowledged.answered(entry(1, slot));
        }
        let mut line = first.begin(entry(5, 3), Slot(2));
        assert_eq!(line.known(), Slot(2));
        line.agreement.observe(second, &Bytes::new());
    };
    check(|| next(entry(5, 3)), || next(entry(5, 2)), "two entries chosen at slot 2");
}

/// Goal: a hole in what is applied is noticed.
#[test]
fn apply_order() {
    let apply = |first| apply_order::in_order(R1, Slot(3), Slot(first));
    check(|| apply(3), || apply(4), "out of order");
    check(|| apply(3), || apply(2), "out of order");
}

/// Goal: a group without a leader is noticed.
#[test]
fn convergence() {
    let cluster = Cluster::new(Setup::plain(3, LeaseMode::Lease));
    assert!(!convergence::is_reached(&cluster));
    check(
        || (),
        || convergence::check(&cluster),
        "one replica serves after the faults end, not []",
    );
    let moves = convergence::check_moves;
    check(|| moves(5), || moves(6), "6 leaderships began");
}
