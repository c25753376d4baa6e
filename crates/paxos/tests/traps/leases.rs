//! What a promise about time is worth: after a restart, a step-down, a pause, on a disk that hangs.

use std::time::Duration;

use quorate_paxos::message::{Heartbeat, Prepare, Reject};
use quorate_paxos::{Input, LeaseMode, Message, ReadToken, ReadVerdict, Restored};
use quorate_types::{BootTime, Slot};

use crate::bench::{
    A_WHILE, Bench, LEASE, R1, R2, R3, ballot, fresh, grants_lease, heartbeats, pre_votes, promises,
};

const A_MOMENT: Duration = Duration::from_millis(1);

/// A replica that comes back after a life in which it granted leases.
fn restarted(mode: LeaseMode) -> Bench {
    let lease_ns_max = u64::try_from(LEASE.as_nanos()).expect("one second");
    Bench::start(R2, mode, Restored { promised: ballot(1, R1), lease_ns_max, ..fresh() })
}

/// Goal: a restarted replica promises nobody anything for as long as a lease it may have granted:
/// no promise, no pre-vote, no lease, no candidacy, in both modes.
#[test]
fn trap_17_a_restarted_replica_is_silent_for_a_lease() {
    for mode in [LeaseMode::Lease, LeaseMode::ReadIndex] {
        let mut replica = restarted(mode);
        replica.pass(LEASE - A_MOMENT);
        assert_eq!(replica.prepare(ballot(2, R3)).promise, None, "voted inside a forgotten lease");
        assert_eq!(pre_votes(&replica.pre_vote(ballot(2, R3))), [false]);
        assert!(!grants_lease(&replica.heartbeat(ballot(1, R1), 0)));
        assert_eq!(replica.tick().messages, [], "it does not run either");

        let mut replica = restarted(mode);
        replica.pass(LEASE + A_MOMENT);
        assert_eq!(promises(&replica.promise_to(ballot(2, R3))), [(R3, ballot(2, R3))]);
    }
}

/// Goal: the silence concerns new promises only: under the ballot promised before the crash a
/// restarted replica goes on to accept.
#[test]
fn trap_17_the_silence_does_not_stop_accepts() {
    let leader = ballot(1, R1);
    let mut replica = restarted(LeaseMode::Lease);
    let batch = crate::bench::entry(Default::default(), leader, "a");
    assert_eq!(replica.accept(leader, &batch, 0).appends.len(), 1);
}

/// Goal: a leader's own vote stays bound by the leases it asked for, even when it steps down.
/// Until the last one has ended it promises no other ballot.
#[test]
fn trap_18_stepping_down_keeps_the_own_lease_promise() {
    let mut leader = Bench::serving(LeaseMode::Lease);
    let deposed = Reject { ballot: ballot(1, R1), promised: ballot(2, R3) };
    leader.pass(LEASE / 4);
    leader.hear(R3, Message::Reject(deposed));
    assert!(!leader.leads());
    assert_eq!(leader.prepare(ballot(2, R3)).promise, None, "its lease may still be counted on");

    leader.pass(LEASE);
    assert_eq!(leader.prepare(ballot(2, R3)).promise, Some(ballot(2, R3)));
}

/// Goal: the end of a granted lease never moves back, and a candidate obeys its own grant.
#[test]
fn trap_18_a_granted_lease_outlives_everything_else() {
    let leader = ballot(1, R1);
    let mut follower = Bench::following(R2, LeaseMode::Lease);
    follower.heartbeat(leader, 0);
    follower.pass(LEASE / 2);
    let last = follower.now;
    follower.heartbeat(leader, 0);
    follower.pass(LEASE - A_MOMENT);
    assert_eq!(follower.prepare(ballot(2, R3)).promise, None, "the second grant has not ended");
    assert_eq!(follower.tick().promise, None, "nor may it run itself");
    assert!(follower.now < last + LEASE);

    follower.now = last + LEASE;
    assert_eq!(follower.prepare(ballot(2, R3)).promise, Some(ballot(2, R3)));
}

/// Goal: a hand-over ends the lease of the ballot that was handed over and of no other.
#[test]
fn trap_18_a_token_ends_only_its_own_lease() {
    for (token, promised) in [(ballot(1, R1), Some(ballot(9, R3))), (ballot(0, R1), None)] {
        let mut follower = Bench::following(R2, LeaseMode::Lease);
        follower.heartbeat(ballot(1, R1), 0);
        let prepare = Prepare { ballot: ballot(9, R3), handover_from: Some(token) };
        let out = follower.hear(R3, Message::Prepare(prepare));
        assert_eq!(out.promise, promised, "with the token of {token}");
    }
}

/// Goal: a lease is judged by the time read after the input was taken from the queue. A leader that
/// stood still for longer than its lease confirms nothing, even if it was not told of time passing.
#[test]
fn trap_19_a_pause_ends_the_lease() {
    let mut leader = Bench::serving(LeaseMode::Lease);
    assert_eq!(leader.read(1), Some(ReadVerdict::Confirmed));
    leader.pass(LEASE + A_MOMENT);
    assert_ne!(leader.read(2), Some(ReadVerdict::Confirmed), "another may have led meanwhile");
}

/// Goal: a leader counts its lease from when it sent the heartbeat, not from the answer, and ends it
/// before its followers do.
#[test]
fn trap_19_a_lease_counts_from_the_sending() {
    let mut leader = Bench::serving(LeaseMode::Lease);
    let sent_at = leader.now;
    leader.pass(LEASE / 2);
    leader.confirmed(R2, sent_at);
    let end = leader.core.status(leader.now).lease_until.expect("a lease");
    assert!(end < sent_at + LEASE, "followers that heard it at once would be free before {end}");
}

/// Goal: a leader whose log makes no progress renews nothing, so a leader that cannot write does
/// not keep its group for ever.
#[test]
fn trap_21_a_leader_that_cannot_write_stops_renewing() {
    let mut leader = Bench::serving(LeaseMode::Lease);
    let hangs_since = leader.now;
    let mut last_sent = hangs_since;
    for _ in 0..30 {
        leader.pass(LEASE / 10);
        if heartbeats(&leader.step(Input::Tick)) > 0 {
            last_sent = leader.now;
            leader.confirmed(R2, leader.now);
        }
    }
    assert!(
        last_sent.since(hangs_since) <= LEASE,
        "renewed {:?} after",
        last_sent.since(hangs_since)
    );
    assert!(!leader.leads(), "and it steps down, so that another may lead");

    let mut healthy = Bench::serving(LeaseMode::Lease);
    healthy.pass(LEASE / 10);
    assert_eq!(heartbeats(&healthy.tick()), 2, "progress alone keeps it");
}

/// Goal: an answer to a heartbeat of an older leadership confirms nothing in this one.
#[test]
fn trap_20_an_old_confirmation_does_not_count() {
    let mut leader = Bench::elected(LeaseMode::ReadIndex);
    leader.synced(1);
    leader.accepted(R2, 1);
    leader.pass(A_WHILE / 2);
    assert_eq!(leader.read(1), None);
    let now = leader.now;
    let ack = quorate_paxos::message::HeartbeatAck {
        ballot: ballot(0, R1),
        sent_at: now,
        slot_verified: Slot(1),
        slot_synced: Slot(1),
        slot_refilling: None,
        standing: leader.standing(R2),
    };
    let out = leader.hear(R2, Message::HeartbeatAck(ack));
    assert_eq!(out.reads, [], "it was given to another ballot");
    let out = leader.confirmed(R2, now);
    assert_eq!(out.reads, [(ReadToken(1), ReadVerdict::Confirmed)]);
}

/// Goal: the clock of a peer is echoed, never compared with the own one.
#[test]
fn trap_19_clocks_of_two_nodes_are_never_compared() {
    for sent_at in [BootTime(1), BootTime(u64::MAX / 2)] {
        let mut follower = Bench::following(R2, LeaseMode::Lease);
        let heartbeat = Heartbeat {
            ballot: ballot(1, R1),
            sent_at,
            slot_committed: Slot::ZERO,
            slot_releasable: Slot::ZERO,
            slot_secured: Slot::ZERO,
        };
        assert!(grants_lease(&follower.hear(R1, Message::Heartbeat(heartbeat))));
        follower.pass(LEASE - A_MOMENT);
        assert_eq!(follower.prepare(ballot(2, R3)).promise, None);
        follower.pass(A_MOMENT);
        assert_eq!(follower.prepare(ballot(2, R3)).promise, Some(ballot(2, R3)));
    }
}
