//! Who may begin another history, and when.

use std::time::Duration;

use quorate_types::{GroupId, ReplicaKind};

use super::*;
use crate::change::{ChangeRequest, Seat};
use crate::input::{Input, Restored};
use crate::message::{Message, PreVoteAck};
use crate::options::{Options, Timing};
use crate::output::Append;

const R1: ReplicaId = ReplicaId(1);
const R2: ReplicaId = ReplicaId(2);
const R3: ReplicaId = ReplicaId(3);
const NOW: BootTime = BootTime(10_000_000_000);

fn replica(own: ReplicaId) -> Replica {
    let options = Options {
        group: GroupId(1),
        replica: own,
        kind: ReplicaKind::Full,
        timing: Timing::lan(),
        pinned: false,
        log_budget_bytes: u64::MAX,
    };
    let voters = Membership::of_voters([R1, R2, R3].map(|id| (id, 0)));
    Replica::new(BootTime::ZERO, options, Restored::fresh(voters))
}

fn request(kept: &[ReplicaId]) -> ForceRequest {
    ForceRequest {
        history: History::default(),
        kept: kept.iter().copied().collect(),
        promised: Ballot { round: 40, replica: R2 },
        proven: EntryId::ZERO,
        note: Bytes::from_static(b"note"),
    }
}

fn forced(replica: &mut Replica, now: BootTime, request: ForceRequest) -> Result<(), NotForced> {
    replica.step(now, Input::Force(request)).forced.expect("it is answered at once")
}

/// What is written of the history that r1 begins alone, and the replica.
fn begun() -> (Replica, Append) {
    let mut it = replica(R1);
    let out = it.step(NOW, Input::Force(request(&[R1])));
    assert_eq!(out.forced, Some(Ok(())));
    let ballot = out.promise.expect("it promises");
    assert_eq!(ballot, Ballot { round: 41, replica: R1 }, "above all that was told");
    assert!(out.appends.is_empty(), "nothing is logged before the promise is durable");
    let mut out = it.step(NOW, Input::PromiseSynced { ballot });
    (it, out.appends.remove(0))
}

/// Goal: the entry begins the history above the log, under a durable ballot; nobody is told of it before it
/// is durable, and then the survivor leads.
#[test]
fn a_survivor_goes_on_alone() {
    let (mut it, append) = begun();
    assert_eq!((it.history().number, it.told_history()), (1, None));
    let at = append.batch.membership().expect("it names the members");
    let history = at.membership.history();
    assert_eq!((history.number, history.since), (1, at.id));
    let entries: Vec<Bytes> = append.batch.entries().map(|(_, payload)| payload).collect();
    assert_eq!(entries[1], Bytes::from_static(b"note"));
    let out = it.step(NOW, Input::Synced { write: append.write });
    assert_eq!(out.membership.as_ref(), it.told_history());
    it.check_invariants();
    let out = it.step(NOW, Input::Tick);
    let ballot = out.promise.expect("it runs");
    let out = it.step(NOW, Input::PromiseSynced { ballot });
    let write = out.appends.last().expect("StartWork").write;
    let _ = it.step(NOW, Input::Synced { write });
    assert!(it.serving(NOW).is_ok());
    it.check_invariants();
}

/// Goal: asked again, it does nothing again; asked for something else, it says which history it is in.
#[test]
fn asked_again_it_begins_nothing() {
    let (mut it, append) = begun();
    let out = it.step(NOW, Input::Force(request(&[R1])));
    assert_eq!((out.forced, out.promise), (Some(Ok(())), None));
    let _ = it.step(NOW, Input::Synced { write: append.write });
    assert_eq!(forced(&mut it, NOW, request(&[R1])), Ok(()));
    assert_eq!(forced(&mut it, NOW, request(&[R1, R2])), Err(NotForced::Impossible));
    let later = History { number: 3, ..it.history() };
    let later = ForceRequest { history: later, ..request(&[R1]) };
    assert_eq!(forced(&mut it, NOW, later), Err(NotForced::OtherHistory(it.history())));
}

/// Goal: what is not lost is not given up, and nobody begins a history in which he could not lead.
#[test]
fn refusals() {
    let mut it = replica(R1);
    let early = BootTime(1_000_000_000);
    assert_eq!(forced(&mut it, early, request(&[R1])), Err(NotForced::TooEarly));
    assert_eq!(forced(&mut it, NOW, request(&[R2])), Err(NotForced::Impossible));
    assert_eq!(forced(&mut it, NOW, request(&[R1, ReplicaId(9)])), Err(NotForced::Impossible));
    let proven = EntryId { slot: Slot(3), ballot: Ballot { round: 1, replica: R2 } };
    let lacking = ForceRequest { proven, ..request(&[R1]) };
    assert_eq!(forced(&mut it, NOW, lacking), Err(NotForced::LacksProven(proven)));
    let ack = PreVoteAck {
        ballot: Ballot { round: 1, replica: R1 },
        granted: false,
        promised: Ballot::ZERO,
        standing: replica(R2).standing(),
    };
    let _ = it.step(NOW, Input::Message { from: R2, message: Message::PreVoteAck(ack) });
    let soon = NOW + Duration::from_millis(500);
    assert_eq!(forced(&mut it, soon, request(&[R1])), Err(NotForced::QuorumAnswers));
    let later = NOW + Duration::from_secs(3);
    assert_eq!(forced(&mut it, later, request(&[R1])), Ok(()));
}

/// Goal: who is told of a history counts by it at once and for ever; who is no member of it and holds
/// something is silent from then on, and who holds nothing may be taken in.
#[test]
fn others_are_told() {
    let (mut it, append) = begun();
    let _ = it.step(NOW, Input::Synced { write: append.write });
    let told = it.told_history().expect("durable").clone();
    let mut empty = replica(R2);
    let out = empty.step(NOW, Input::History(told.clone()));
    assert_eq!(out.membership, Some(told.clone()));
    assert!(!empty.is_outlived() && !empty.membership().has_voter(R2) && empty.is_crossing());
    let mut other = leader_of_two();
    assert!(other.serving(NOW).is_ok());
    let out = other.step(NOW, Input::History(told.clone()));
    assert_eq!(out.membership, Some(told));
    assert!(other.is_outlived() && other.serving(NOW).is_err());
    other.check_invariants();
    let out = other.step(NOW + Duration::from_secs(60), Input::Tick);
    assert!(out.messages.is_empty() && out.promise.is_none());
}

/// r2, which leads a group of its own.
fn leader_of_two() -> Replica {
    let restored = Restored::fresh(Membership::of_voters([(R2, 0)]));
    let mut it = Replica::new(BootTime::ZERO, Options { ..replica(R2).options }, restored);
    let ballot = it.step(NOW, Input::Tick).promise.expect("it runs");
    let out = it.step(NOW, Input::PromiseSynced { ballot });
    let write = out.appends.last().expect("StartWork").write;
    let _ = it.step(NOW, Input::Synced { write });
    it
}

/// r1, which leads its history with r2 as a learner, and has begun to take r2 in as a voter: nobody knows whether
/// that is chosen.
fn changing() -> Replica {
    let mut it = replica(R1);
    let ballot = it.step(NOW, Input::Force(request(&[R1]))).promise.expect("it promises");
    let mut out = it.step(NOW, Input::PromiseSynced { ballot });
    let write = out.appends.remove(0).write;
    let _ = it.step(NOW, Input::Synced { write });
    let ballot = it.step(NOW, Input::Tick).promise.expect("it runs");
    let out = it.step(NOW, Input::PromiseSynced { ballot });
    let _ = it.step(NOW, Input::Synced { write: out.appends.last().expect("StartWork").write });
    let seat = |id, votes| (id, Seat { rank: 0, kind: ReplicaKind::Full, votes });
    let members = [seat(R1, true), seat(R2, false)].into();
    let expected = it.membership_at().id;
    let out = it.step(NOW, Input::Change(ChangeRequest { expected, members }));
    assert!(matches!(out.changed, Some(Ok(_))), "{:?}", out.changed);
    it
}

/// Goal: whoever is told keeps what it is told, so it is told of no members that may never be chosen.
#[test]
fn nobody_is_told_of_a_change_under_way() {
    let it = changing();
    assert!(it.membership().get(R2).is_some(), "the change is in force here");
    let told = it.told_history().expect("a later history");
    assert_eq!(told.id, it.history().since);
    assert!(told.membership.get(R2).is_none());
}

/// Goal: an arbiter that is told twice, before its disk has it, keeps what it was told first.
#[test]
fn an_arbiter_is_told_twice() {
    let (mut it, append) = begun();
    let _ = it.step(NOW, Input::Synced { write: append.write });
    let told = it.told_history().expect("durable").clone();
    let options = Options { kind: ReplicaKind::Arbiter, ..replica(R3).options };
    let restored = Restored::fresh(Membership::of_voters([R1, R2, R3].map(|id| (id, 0))));
    let mut arbiter = Replica::new(BootTime::ZERO, options, restored);
    let out = arbiter.step(NOW, Input::History(told.clone()));
    assert_eq!(out.keep, Some(told.clone()));
    let out = arbiter.step(NOW, Input::History(told.clone()));
    assert_eq!(out.keep, None);
    let _ = arbiter.step(NOW, Input::Kept(told.id));
    assert_eq!(arbiter.history(), told.membership.history());
}

/// Goal: rows of before the entry that a history began with go to others of that history, and only to these; who
/// still crosses gives none away, and what the group goes on without is never replaced.
#[test]
fn rows_of_a_history() {
    let mut it = leader_of_two();
    let gives = |it: &Replica| it.applied_last().map(Batch::last);
    assert_eq!(gives(&it), Some(Slot(1)));
    let first = it.snapshot_membership().clone();
    assert_eq!((first.id, first.membership.history().number), (EntryId::ZERO, 0));

    let (mut other, append) = begun();
    let _ = other.step(NOW, Input::Synced { write: append.write });
    let alone = other.told_history().expect("durable").clone();
    let members =
        [R1, R2].map(|id| (id, Member { rank: 0, role: Role::Voter, kind: ReplicaKind::Full }));
    let since = EntryId { slot: Slot(5), ..alone.id };
    let history = History { since, ..alone.membership.history() };
    let both = Membership::new(members.into()).expect("a group").in_history(history);
    let _ = it.step(NOW, Input::History(MembershipAt { id: since, membership: both }));
    assert!(it.is_crossing() && !it.is_outlived());
    assert_eq!(gives(&it), None, "its rows may not be those of the others");
    assert_eq!(it.snapshot_membership().membership.history(), history);

    let mut outlived = leader_of_two();
    let _ = outlived.step(NOW, Input::History(alone));
    assert!(outlived.is_outlived());
    let later = |it: &Replica| EntryId { slot: Slot(9), ballot: it.promised() };
    assert!(it.may_install(later(&it)) && !outlived.may_install(later(&outlived)));
}
