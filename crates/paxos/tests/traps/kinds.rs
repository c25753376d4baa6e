//! Replicas that hold less than others, and what they must not do.

use quorate_paxos::message::{Heartbeat, HeartbeatAck, PreVote, PreVoteAck, Seats, SeatsKept};
use quorate_paxos::{
    Health, Input, LeaseMode, Member, Membership, MembershipAt, Message, Output, Restored, Role,
};
use quorate_types::{Ballot, BootTime, EntryId, ReplicaId, ReplicaKind, Slot};

use crate::bench::{Bench, R1, R2, R3, ballot, log_of};

/// r1 and r2 are full, r3 is of this kind. r2 is in this role.
fn with(kind: ReplicaKind, role: Role) -> Membership {
    let member = |role, kind| Member { rank: 0, role, kind };
    let full = ReplicaKind::Full;
    let them = [(R1, Role::Voter, full), (R2, role, full), (R3, Role::Voter, kind)];
    let members = them.map(|(id, role, kind)| (id, member(role, kind)));
    Membership::new(members.into_iter().collect()).expect("a group")
}

fn third(kind: ReplicaKind) -> Bench {
    let restored = Restored::fresh(with(kind, Role::Voter));
    let mut bench = Bench::of_kind(kind, R3, LeaseMode::Lease, restored, u64::MAX);
    bench.promise_to(ballot(1, R1));
    bench
}

fn heartbeat(bench: &mut Bench, leader: Ballot, releasable: u64, secured: u64) {
    let heartbeat = Heartbeat {
        ballot: leader,
        sent_at: BootTime(77),
        slot_committed: Slot(6),
        slot_releasable: Slot(releasable),
        slot_secured: Slot(secured),
    };
    bench.hear(leader.replica, Message::Heartbeat(heartbeat));
}

/// Goal: a log-only replica applies nothing, and keeps the log that too few full ones have on disk, however much the
/// leader may release of its own.
#[test]
fn trap_25_a_log_only_replica_keeps_what_full_ones_lack() {
    let leader = ballot(1, R1);
    let mut it = third(ReplicaKind::LogOnly);
    for batch in &log_of(&[leader; 7]) {
        let out = it.accept(leader, batch, 6);
        assert!(out.applies.is_empty(), "it has no rows");
    }
    assert!(it.synced(7).applies.is_empty());
    heartbeat(&mut it, leader, 5, 3);
    assert_eq!(it.core.slot_applied(), Slot(6), "what is chosen is done with");
    assert_eq!(it.core.slot_trimmable(), Slot(3));
    heartbeat(&mut it, leader, 5, 6);
    assert_eq!(it.core.slot_trimmable(), Slot(5));
    assert_eq!(it.core.applied_last(), None, "nobody gets rows from it");
}

/// Goal: who cannot evaluate anything never asks for votes, and says so to whoever would hand over to it.
#[test]
fn who_has_no_rows_never_runs() {
    for kind in [ReplicaKind::LogOnly, ReplicaKind::Arbiter] {
        let mut it = third(kind);
        for _ in 0..50 {
            it.pass(std::time::Duration::from_millis(200));
            let out = it.tick();
            assert!(out.messages.is_empty() && out.promise.is_none(), "{kind}: {out:?}");
        }
    }
}

fn seats(bench: &mut Bench, leader: Ballot, slot: u64, role: Role) -> (MembershipAt, Output) {
    let id = EntryId { ballot: leader, slot: Slot(slot) };
    let at = MembershipAt { id, membership: with(ReplicaKind::Arbiter, role) };
    let told = Seats { ballot: leader, at: at.clone() };
    (at, bench.hear(leader.replica, Message::Seats(told)))
}

fn kept(out: &Output) -> Vec<EntryId> {
    let kept = |(_, message): &(ReplicaId, Message)| match message {
        Message::SeatsKept(SeatsKept { id, .. }) => Some(*id),
        _ => None,
    };
    out.messages.iter().filter_map(kept).collect()
}

fn is_welcome(bench: &mut Bench, candidate: ReplicaId, round: u64) -> bool {
    let asked = ballot(round, candidate);
    let standing = bench.standing(candidate);
    let out = bench.hear(candidate, Message::PreVote(PreVote { ballot: asked, standing }));
    let granted = |(_, message): &(ReplicaId, Message)| {
        matches!(message, Message::PreVoteAck(PreVoteAck { granted: true, .. }))
    };
    out.messages.iter().any(granted)
}

/// Goal: an arbiter says that it keeps who takes part only once that is on disk, never goes back to an older
/// membership, does not vote for who was set aside, and takes in no log.
#[test]
fn an_arbiter_keeps_the_last_members_it_was_told() {
    let (first, second) = (ballot(1, R1), ballot(2, R1));
    let mut it = third(ReplicaKind::Arbiter);
    let out = it.accept(first, &log_of(&[first])[0], 0);
    assert_eq!(out, Output::default(), "it has no log");

    let (at, out) = seats(&mut it, first, 9, Role::Suspended);
    assert_eq!(out.keep.as_ref(), Some(&at));
    assert_eq!(kept(&out), [], "it is not on disk");
    let out = it.step(Input::Kept(at.id));
    assert_eq!(kept(&out), [at.id]);

    let (_, out) = seats(&mut it, first, 4, Role::Voter);
    assert_eq!(
        (out.keep, kept(&Output { messages: out.messages, ..Output::default() })),
        (None, vec![])
    );
    let (_, out) = seats(&mut it, first, 9, Role::Suspended);
    assert_eq!(kept(&out), [at.id], "said again");

    it.pass(std::time::Duration::from_secs(10));
    assert!(is_welcome(&mut it, R1, 7));
    assert!(!is_welcome(&mut it, R2, 7), "it was set aside");
    it.promise_to(second);
    let (back, _) = seats(&mut it, second, 2, Role::Voter);
    let out = it.step(Input::Kept(back.id));
    assert_eq!(kept(&out), [back.id], "of a later leader, wherever its log stands");
    it.pass(std::time::Duration::from_secs(10));
    assert!(is_welcome(&mut it, R2, 8));
}

/// What the next heartbeat says that enough full voters have.
fn secured(leader: &mut Bench) -> Slot {
    leader.pass(std::time::Duration::from_millis(300));
    let out = leader.tick();
    let said = |(_, message): &(ReplicaId, Message)| match message {
        Message::Heartbeat(heartbeat) => Some(heartbeat.slot_secured),
        _ => None,
    };
    out.messages.iter().find_map(said).expect("it is time for one")
}

/// Goal: a full voter whose rows are on their way secures nothing: its log begins behind them, and after a crash both are
/// gone. Who keeps only the log has to keep it.
#[test]
fn trap_25_a_full_voter_without_rows_secures_nothing() {
    let restored = Restored::fresh(with(ReplicaKind::LogOnly, Role::Voter));
    let fresh = Bench::of_kind(ReplicaKind::Full, R1, LeaseMode::Lease, restored, u64::MAX);
    let mut leader = Bench::elected_on(fresh, EntryId::ZERO);
    leader.synced(1);
    leader.accepted(R2, 1);
    leader.confirmed(R2, leader.now);
    assert_eq!(secured(&mut leader), Slot(1));

    let mut standing = leader.standing(R2);
    standing.health.fatal_faults = Health::CANNOT_LEAD;
    let ack = HeartbeatAck {
        ballot: ballot(1, R1),
        sent_at: leader.now,
        slot_verified: Slot(1),
        slot_synced: Slot(1),
        slot_refilling: None,
        standing,
    };
    leader.hear(R2, Message::HeartbeatAck(ack));
    assert_eq!(secured(&mut leader), Slot::ZERO);
}
