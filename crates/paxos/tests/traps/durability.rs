//! What may be said before the disk has it, and what a late message must not undo.

use bytes::Bytes;
use quorate_paxos::{BatchKind, Input, LeaseMode, Message};
use quorate_types::{Slot, limits};

use crate::bench::{
    A_WHILE, Bench, R1, R2, R3, ballot, called_durable, entry, id, log_of, prepares, promises,
    restored,
};

/// Goal: a leader counts its own copy only once its own disk has it.
/// One follower and a leader that has not synced are one copy, not a majority.
#[test]
fn trap_01_own_copy_counts_only_when_synced() {
    let mut leader = Bench::elected(LeaseMode::Lease);
    leader.accepted(R2, 1);
    assert_eq!(leader.core.slot_committed(), Slot::ZERO, "one synced copy is no majority");

    leader.synced(1);
    assert_eq!(leader.core.slot_committed(), Slot(1));
}

/// Goal: two followers may complete a majority before the leader's own disk does, but nothing is
/// applied, and so nothing answered, before it is on this disk too.
#[test]
fn trap_01_nothing_is_applied_before_the_own_disk_has_it() {
    let mut leader = Bench::elected(LeaseMode::Lease);
    leader.accepted(R2, 1);
    let out = leader.accepted(R3, 1);
    assert_eq!(leader.core.slot_committed(), Slot(1), "two of three have it");
    assert!(out.applies.is_empty(), "a crash now would leave applied rows above the log");

    let out = leader.synced(1);
    assert_eq!(out.applies.len(), 1);
}

/// Goal: a follower says that it holds an entry only after its own sync.
/// No message of any kind may name the slot before.
#[test]
fn trap_02_a_follower_answers_after_its_sync() {
    let leader = ballot(1, R1);
    let mut follower = Bench::following(R2, LeaseMode::Lease);
    let batch = entry(Default::default(), leader, "a");
    let mut said = called_durable(&follower.accept(leader, &batch, 0));
    said.extend(called_durable(&follower.accept(leader, &batch, 0)));
    said.extend(called_durable(&follower.heartbeat(leader, 0)));
    assert!(said.iter().all(|slot| *slot == Slot::ZERO), "told of an unsynced entry: {said:?}");

    assert_eq!(called_durable(&follower.synced(1)), [Slot(1)]);
}

/// Goal: a promise leaves the replica only after the promise and the log it names are on disk.
#[test]
fn trap_02_a_promise_waits_for_both_files() {
    let (leader, rival) = (ballot(1, R1), ballot(2, R3));
    let mut follower = Bench::following(R2, LeaseMode::ReadIndex);
    follower.accept(leader, &entry(Default::default(), leader, "a"), 0);
    follower.prepare(rival);
    assert_eq!(promises(&follower.promise_synced(rival)), [], "the entry is not on disk");
    assert_eq!(promises(&follower.synced(1)), [(R3, rival)]);

    let later = ballot(3, R3);
    follower.prepare(later);
    assert_eq!(promises(&follower.prepare(later)), [], "the promise is not on disk");
    assert_eq!(promises(&follower.promise_synced(later)), [(R3, later)]);
}

/// Goal: a candidate asks for promises only once its own is on disk: after a crash it would otherwise
/// run a second time under a ballot that others have promised it.
#[test]
fn trap_02_a_candidate_asks_after_its_own_promise() {
    let mut candidate = Bench::fresh(R1, LeaseMode::Lease);
    candidate.pass(A_WHILE);
    candidate.tick();
    let granted = candidate.pre_vote_ack(R2, ballot(1, R1));
    let out = candidate.hear(R2, granted);
    assert_eq!(out.promise, Some(ballot(1, R1)), "written first");
    assert_eq!(prepares(&out), 0, "asked for promises with a ballot it can forget");

    assert_eq!(prepares(&candidate.promise_synced(ballot(1, R1))), 2);
}

/// Goal: an accept that arrives late or twice never cuts what was accepted after it.
/// Only an entry that really differs makes a follower drop its tail.
#[test]
fn trap_09_a_stale_append_does_not_cut() {
    let leader = ballot(1, R1);
    let mut follower = Bench::following(R2, LeaseMode::Lease);
    let log = log_of(&[leader, leader, leader]);
    for batch in &log {
        follower.accept(leader, batch, 0);
    }
    for stale in &log[..2] {
        let out = follower.accept(leader, stale, 0);
        assert!(out.appends.is_empty(), "wrote {stale:?} again, over what follows it");
        assert_eq!(follower.core.log().last(), id(3, leader));
    }
}

/// Goal: the same accept, sent anew by a later leader that adopted the entry, cuts nothing either.
#[test]
fn trap_09_an_adopted_entry_sent_again_does_not_cut() {
    let (old, new) = (ballot(1, R1), ballot(2, R3));
    let log = log_of(&[old, old]);
    let mut follower = Bench::start(R2, LeaseMode::ReadIndex, restored(&log, old));
    follower.promise_to(new);
    let out = follower.accept(new, &log[0], 0);
    assert!(out.appends.is_empty());
    assert_eq!(follower.core.log().last(), id(2, old));
}

/// Goal: an append whose predecessor is recycled here is not a mismatch: a recycled entry was chosen
/// and is equal everywhere.
#[test]
fn trap_09_a_recycled_predecessor_is_no_mismatch() {
    let leader = ballot(1, R1);
    let mut follower = Bench::following(R2, LeaseMode::Lease);
    let log = log_of(&[leader, leader, leader]);
    for batch in &log {
        follower.accept(leader, batch, 3);
    }
    follower.synced(3);
    follower.step(Input::Trimmed(Slot(2)));
    assert_eq!(follower.core.log().trimmed(), Slot(2));

    for stale in &log {
        let out = follower.accept(leader, stale, 3);
        let mismatch = |(_, message): &(_, Message)| matches!(message, Message::Mismatch(_));
        assert!(!out.messages.iter().any(mismatch), "{stale:?} is held or was recycled");
        assert!(out.appends.is_empty());
    }
    assert_eq!(follower.core.log().last(), id(3, leader));
}

/// Goal: a commit position counts only as far as this leader's messages have shown our log to equal
/// its own. Our slot 2 is of an older leader: it must not be committed by number.
#[test]
fn trap_10_commit_stops_at_what_was_verified() {
    let (old, new) = (ballot(1, R1), ballot(2, R3));
    let log = log_of(&[old, old]);
    let mut follower = Bench::start(R2, LeaseMode::ReadIndex, restored(&log, old));
    follower.promise_to(new);
    follower.heartbeat(new, 2);
    assert_eq!(follower.core.slot_committed(), Slot::ZERO, "nothing is verified yet");

    follower.accept(new, &log[0], 2);
    assert_eq!(follower.core.slot_committed(), Slot(1), "only what this message verified");

    let chosen = entry(log[0].tail(), new, "new");
    let out = follower.accept(new, &chosen, 2);
    assert_eq!(out.appends.len(), 1, "the differing entry is replaced");
    assert_eq!(follower.core.log().last(), id(2, new));
    assert_eq!(follower.core.slot_committed(), Slot(2));
}

/// Goal: a proposal starts as an entry of the ballot that proposes it, directly behind StartWork.
#[test]
fn trap_11_start_work_comes_before_any_proposal() {
    let mut leader = Bench::elected(LeaseMode::Lease);
    assert!(leader.propose("too early").appends.is_empty());
    leader.synced(1);
    leader.accepted(R2, 1);

    let out = leader.propose("a");
    let batch = &out.appends[0].batch;
    assert_eq!((batch.kind(), batch.last_id()), (BatchKind::Entries, id(2, ballot(1, R1))));
    assert_eq!(batch.prev(), id(1, ballot(1, R1)));
}

/// Goal: an entry as large as the limit goes into a batch of its own, and what was asked for with it
/// goes on: nothing waits for a batch with room for it.
#[test]
fn trap_30_the_largest_entry_does_not_wedge_the_group() {
    let mut leader = Bench::serving(LeaseMode::Lease);
    let payload = |bytes| Bytes::from(vec![7; bytes]);
    let payloads = vec![payload(10), payload(limits::ENTRY_BYTES_MAX), payload(10)];
    let out = leader.step(Input::Propose(payloads));
    let lasts: Vec<Slot> = out.appends.iter().map(|append| append.batch.last()).collect();
    assert_eq!(lasts, [Slot(2), Slot(3), Slot(4)]);

    leader.synced(4);
    leader.accepted(R2, 4);
    assert_eq!(leader.core.slot_committed(), Slot(4));
}
