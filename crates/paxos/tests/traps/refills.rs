//! Rows from another replica: what the leader keeps for who fetches them, and what may be obeyed after them.

use quorate_paxos::message::{Behind, HeartbeatAck};
use quorate_paxos::{
    Batch, BatchKind, Health, Input, LeaseMode, Membership, Message, Restored, Tail,
};
use quorate_types::{LogTime, Slot};

use crate::bench::{A_WHILE, Bench, LEASE, R1, R2, R3, ballot, entry, fresh, id, log_of, restored};

const ENTRIES: u64 = 40;

/// A leader that has applied 40 entries and keeps half of them for followers that lag; r2 has all.
fn leader_of_forty() -> Bench {
    let each = entry(Tail::default(), ballot(1, R1), "a").encoded().len() as u64;
    let start = Bench::keeping(R1, LeaseMode::Lease, fresh(), each * ENTRIES / 2);
    let mut leader = Bench::elected_on(start, quorate_types::EntryId::ZERO);
    leader.synced(1);
    leader.accepted(R2, 1);
    leader.confirmed(R2, leader.now);
    for slot in 2..=ENTRIES {
        leader.propose("a");
        leader.synced(slot);
        leader.accepted(R2, slot);
    }
    assert_eq!(leader.core.slot_applied(), Slot(ENTRIES));
    leader
}

/// r3 says how far its log reaches, and what it fetches.
fn r3_says(leader: &mut Bench, slot: u64, slot_refilling: Option<u64>) {
    let ack = HeartbeatAck {
        ballot: leader.core.promised(),
        sent_at: leader.now,
        slot_verified: Slot(slot),
        slot_synced: Slot(slot),
        slot_refilling: slot_refilling.map(Slot),
        standing: leader.standing(R3),
    };
    leader.hear(R3, Message::HeartbeatAck(ack));
}

/// Goal: the log above a snapshot is kept until its receiver has caught up, not only until the last byte of
/// it has arrived: else the receiver is behind again at once, and fetches for ever.
#[test]
fn log_is_kept_until_who_was_refilled_has_caught_up() {
    let mut leader = leader_of_forty();
    r3_says(&mut leader, 0, Some(5));
    assert_eq!(leader.core.slot_trimmable(), Slot(5), "kept for the snapshot");

    r3_says(&mut leader, 10, None);
    assert!(leader.core.slot_trimmable() <= Slot(10), "r3 has its rows and needs slot 11 next");
}

/// Goal: a follower that dies while it fetches does not hold more log than any other that lags.
#[test]
fn no_log_is_kept_for_a_snapshot_that_nobody_fetches_any_more() {
    let mut leader = leader_of_forty();
    let over_budget = leader.core.slot_trimmable();
    assert!(Slot(10) < over_budget, "half of the log");
    r3_says(&mut leader, 0, Some(5));
    for _ in 0..8 {
        leader.pass(LEASE / 2);
        leader.tick();
        leader.confirmed(R2, leader.now);
    }
    assert!(leader.leads(), "r2 hears it");
    assert_eq!(leader.core.slot_trimmable(), over_budget, "r3 was not heard for four leases");
}

/// Goal: a late message of a leader that had fallen before the rows were chosen harms nobody. Entries keep
/// their ballot, so the ballot of the last one (1.1) does not say under which (3.1) it was chosen.
#[test]
fn a_leader_older_than_the_choice_of_installed_rows_is_not_obeyed() {
    let (first, fallen) = (ballot(1, R1), ballot(2, R2));
    // r1 alone had slots 2 and 3. r2 led meanwhile and lost its unsynced log; r3 has it. Then 3.1 chose.
    let chosen = log_of(&[first, first, first]);
    let ghost = entry(chosen[0].tail(), fallen, "ghost");
    let late = entry(ghost.tail(), fallen, "late");
    let mut follower = Bench::fresh(R3, LeaseMode::ReadIndex);
    follower.promise_to(fallen);
    follower.accept(fallen, &chosen[0], 1);
    follower.accept(fallen, &ghost, 1);
    follower.synced(2);
    if !follower.core.may_install(id(3, first)) {
        return; // It waits until it has promised more.
    }
    follower.install(chosen[2].clone());

    follower.accept(fallen, &late, 1);
    assert_eq!(follower.core.log().last(), id(3, first), "the rows end with a chosen entry");
}

/// Goal: while rows are switched nobody is told where the old ones stand: the store may have the new ones.
#[test]
fn no_rows_are_given_away_while_others_take_their_place() {
    let leader = ballot(1, R1);
    let log = log_of(&[leader; 3]);
    let mut follower = Bench::following(R2, LeaseMode::Lease);
    log.iter().for_each(|batch: &Batch| {
        follower.accept(leader, batch, 1);
    });
    follower.synced(3);
    assert_eq!(follower.core.applied_last().map(Batch::last), Some(Slot(1)));
    let out = follower.install(log[2].clone());
    assert_eq!(out.install, Some(Slot(3)), "its log has the end of the rows");

    assert_eq!(follower.core.applied_last(), None);
}

/// Goal: a follower that was behind and got all that log from another leader after all needs no snapshot. It
/// may be the only one that can lead.
#[test]
fn who_has_got_the_log_that_it_lacked_runs_for_leadership() {
    let (old, new) = (ballot(1, R1), ballot(2, R3));
    let log = log_of(&[old; 6]);
    let mut follower = Bench::following(R2, LeaseMode::Lease);
    follower.accept(old, &log[0], 1);
    follower.synced(1);
    follower.hear(R1, Message::Behind(Behind { ballot: old, trimmed: id(5, old) }));
    // r3 still has that log, and dies before it has told of a commit.
    follower.pass(LEASE);
    follower.promise_to(new);
    log.iter().for_each(|batch| {
        follower.accept(new, batch, 1);
    });
    follower.synced(6);
    assert_eq!(follower.core.log().last(), id(6, old));

    let mut asks = 0;
    for _ in 0..8 {
        follower.pass(A_WHILE);
        let out = follower.tick();
        let is_ask = |(_, message): &&(_, Message)| matches!(message, Message::PreVote(_));
        asks += out.messages.iter().filter(is_ask).count();
    }
    assert!(0 < asks, "it has rows and the whole log, and never asks to lead");
}

/// Goal: a leadership is not given to who cannot take it: without rows the token is ignored, and nobody leads.
#[test]
fn no_token_goes_to_who_needs_rows() {
    let mut leader = Bench::serving(LeaseMode::Lease);
    let mut standing = leader.standing(R2);
    standing.health.fatal_faults = Health::CANNOT_LEAD;
    let ack = HeartbeatAck {
        ballot: leader.core.promised(),
        sent_at: leader.now,
        slot_verified: Slot(1),
        slot_synced: Slot(1),
        slot_refilling: None,
        standing,
    };
    leader.hear(R2, Message::HeartbeatAck(ack));
    let out = leader.step(Input::HandOver(None));
    let is_token = |(_, message): &(_, Message)| matches!(message, Message::TakeOver(_));
    assert!(!out.messages.iter().any(is_token), "r2 will not run, and r1 has given up");
}

/// Goal: a leader whose rows are found to be damaged serves nobody from the same moment on, and gives its
/// rows to nobody; nothing is applied to them.
#[test]
fn a_leader_with_damaged_rows_stops_at_once() {
    let mut leader = Bench::serving(LeaseMode::Lease);
    assert!(leader.core.applied_last().is_some());
    let out = leader.step(Input::RowsDamaged);
    assert!(!leader.leads(), "it has damaged rows");
    assert_eq!(leader.core.applied_last(), None, "others must not get them");
    assert_eq!(out.refill, Some(Slot(1)), "rows as of the entry that was applied last");
    leader.pass(LEASE * 4);
    assert_eq!(pre_votes_asked(&leader.tick()), 0, "and it does not run again");
}

/// Goal: rows that stand before ours do not take their place though ours are damaged: what this replica
/// was told of its freshness would not be true any more.
#[test]
fn damaged_rows_are_not_replaced_by_older_ones() {
    let leader = ballot(1, R1);
    let log = log_of(&[leader; 3]);
    let mut follower = Bench::following(R2, LeaseMode::Lease);
    log.iter().for_each(|batch: &Batch| {
        follower.accept(leader, batch, 3);
    });
    follower.synced(3);
    assert_eq!(follower.core.slot_applied(), Slot(3));
    follower.step(Input::RowsDamaged);

    assert!(!follower.core.may_install(id(2, leader)), "ours stood at slot 3");
    assert!(follower.core.may_install(id(3, leader)));
    let out = follower.install(log[2].clone());
    assert_eq!(out.install, Some(Slot(3)));
    follower.step(Input::Installed { is_done: true });
    assert!(!follower.core.rows_missing());
    assert_eq!(follower.core.slot_applied(), Slot(3));
}

/// Goal: what is kept for followers that lag shrinks when the node gets more groups, at once and not only for the
/// log that comes.
#[test]
fn trap_08_a_smaller_share_of_the_log_counts_at_once() {
    let mut leader = leader_of_forty();
    let before = leader.core.slot_trimmable();
    let each = entry(Tail::default(), ballot(1, R1), "a").encoded().len() as u64;
    leader.core.set_log_budget(each * ENTRIES / 4);
    let after = leader.core.slot_trimmable();
    assert!(before <= Slot(ENTRIES / 2) && Slot(ENTRIES / 2) < after, "{before} then {after}");
}

fn pre_votes_asked(out: &quorate_paxos::Output) -> usize {
    let is_ask = |(_, message): &&(_, Message)| matches!(message, Message::PreVote(_));
    out.messages.iter().filter(is_ask).count()
}

/// Goal: a membership that came and went through the log while there were no rows is made durable with the rows
/// that follow it, before the log that holds it may go. A restart would bring the old members back.
#[test]
fn trap_16_members_outlive_the_log_that_named_them() {
    let by = ballot(1, R1);
    let first = entry(Tail::default(), by, "a");
    let members = Membership::of_voters([(R1, 1), (R2, 2)]);
    let (kind, payload) = (BatchKind::Membership, [members.encode()]);
    let second = Batch::new(kind, by, first.tail(), LogTime(0), &payload);
    let third = entry(second.tail(), by, "b");
    let named = second.membership().expect("it is one");
    let log = [first, second, third.clone()];
    let lost = Restored {
        rows_missing: true,
        memberships_in_log: vec![named.clone()],
        ..restored(&log, by)
    };
    let mut follower = Bench::start(R2, LeaseMode::Lease, lost);
    let out = follower.step(Input::Install { last: third, membership: named.clone() });
    assert_eq!(out.install, Some(Slot(3)), "its log has the last entry of the snapshot");
    let out = follower.step(Input::Installed { is_done: true });
    assert_eq!(out.membership, Some(named));
}
