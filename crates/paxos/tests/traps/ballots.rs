//! Who may lead, which log wins, and which copies count.

use quorate_paxos::message::{FetchReply, Promise, Reject};
use quorate_paxos::{
    BatchKind, Input, LeaseMode, Message, NotServing, Output, ReadToken, ReadVerdict,
};
use quorate_types::{Ballot, ReplicaId, Slot};

use crate::bench::{
    A_WHILE, Bench, LEASE, R1, R2, R3, ballot, entry, heartbeats, id, log_of, pre_votes, promises,
    restored,
};

fn fetches(out: &Output) -> Vec<ReplicaId> {
    let fetch =
        |(to, message): &(ReplicaId, Message)| matches!(message, Message::Fetch(_)).then_some(*to);
    out.messages.iter().filter_map(fetch).collect()
}

/// r1 with ghosts of 1.1 at slots 2 and 3, and the log that a later leadership of r2 left: shorter,
/// and better, because it ends with that leader's StartWork.
fn candidate_with_ghosts() -> (Bench, Ballot, quorate_paxos::Batch) {
    let (old, later) = (ballot(1, R1), ballot(2, R2));
    let ghosts = log_of(&[old, old, old]);
    let start_work = entry(ghosts[0].tail(), later, "start work");
    let mut candidate = Bench::start(R1, LeaseMode::ReadIndex, restored(&ghosts, old));
    // Two rounds of pre-votes: the answer to the first tells of 2.2.
    candidate.hear(R2, Message::Reject(Reject { ballot: old, promised: later }));
    let asked = candidate.campaign();
    assert_eq!(asked, ballot(3, R1));
    (candidate, asked, start_work)
}

/// Goal: among the promised logs the one with the greatest ballot wins, however short.
/// An entry that a later leader did not see stays dead: the phantom does not come back.
#[test]
fn trap_11_the_best_log_is_not_the_longest() {
    let (mut candidate, asked, start_work) = candidate_with_ghosts();
    let promise =
        Promise { ballot: asked, last: start_work.last_id(), slot_committed: Slot(2), seats: None };
    let out = candidate.hear(R2, Message::Promise(promise));
    assert_eq!(fetches(&out), [R2], "the shorter log of the later leader must be fetched");
    assert!(!candidate.leads());

    // The logs differ behind slot 1; r1 steps back, and takes over what r2 has there.
    let trimmed = quorate_types::EntryId::ZERO;
    let reply = |prev, batches| FetchReply { ballot: asked, prev, batches, trimmed };
    let ghost = id(3, ballot(1, R1));
    candidate.hear(R2, Message::FetchReply(reply(ghost, None)));
    let asked_from = quorate_types::EntryId::ZERO;
    let log = vec![log_of(&[ballot(1, R1)]).remove(0), start_work.clone()];
    candidate.hear(R2, Message::FetchReply(reply(asked_from, Some(log))));
    assert!(candidate.leads());
    assert_eq!(candidate.core.log().id_at(Slot(2)), Some(start_work.last_id()), "the ghost is cut");
    assert_eq!(candidate.core.log().last(), id(3, asked), "its own StartWork replaces the other");
}

/// Goal: a new leader answers nothing, and takes no proposal, before its StartWork is chosen and
/// applied here.
#[test]
fn trap_11_a_leader_serves_after_start_work_is_applied() {
    let mut leader = Bench::elected(LeaseMode::Lease);
    assert!(leader.leads());
    assert_eq!(leader.core.serving(leader.now), Err(NotServing::NotReady));
    leader.accepted(R2, 1);
    leader.accepted(R3, 1);
    assert_eq!(leader.core.slot_committed(), Slot(1));
    assert_eq!(leader.core.serving(leader.now), Err(NotServing::NotReady), "chosen, not applied");

    leader.synced(1);
    assert!(leader.core.serving(leader.now).is_ok());
}

/// Goal: entries of an older ballot are never chosen by counting their copies, however many there
/// are; they are chosen with the first entry of the own ballot, StartWork (figure 8 of Raft).
#[test]
fn trap_12_old_ballots_are_not_counted() {
    let old = ballot(1, R3);
    let log = log_of(&[old, old]);
    let bench = Bench::start(R1, LeaseMode::ReadIndex, restored(&log, old));
    let mut leader = Bench::elected_on(bench, id(2, old));
    assert!(leader.leads());
    leader.accepted(R2, 2);
    leader.accepted(R3, 2);
    assert_eq!(leader.core.slot_committed(), Slot::ZERO, "three copies of an old ballot");

    leader.accepted(R2, 3);
    leader.synced(1);
    assert_eq!(leader.core.slot_committed(), Slot(3), "StartWork chooses everything before it");
}

/// Goal: adopted entries keep the ballot of their first proposal; only StartWork is new.
/// Re-proposing them under the new ballot would make an acknowledged entry unrecognisable.
#[test]
fn trap_12_adopted_entries_keep_their_ballot() {
    let old = ballot(1, R3);
    let mut leader = Bench::fresh(R1, LeaseMode::ReadIndex);
    leader.promise_to(old);
    for batch in log_of(&[old, old]) {
        leader.accept(old, &batch, 0);
    }
    leader.synced(2);
    let asked = leader.campaign();
    let promise =
        Promise { ballot: asked, last: id(2, old), slot_committed: Slot::ZERO, seats: None };
    let out = leader.hear(R2, Message::Promise(promise));
    let kinds: Vec<_> = out.appends.iter().map(|append| append.batch.kind()).collect();
    assert_eq!(kinds, [BatchKind::StartWork]);
    assert_eq!(leader.core.log().id_at(Slot(2)), Some(id(2, old)));
    assert_eq!(leader.core.log().last(), id(3, asked));
}

/// Goal: a read waits for the own StartWork and for a majority that confirms the leadership after
/// the read came; without leases one confirmation from before is not enough.
#[test]
fn trap_20_a_read_needs_start_work_and_a_majority() {
    let mut leader = Bench::elected(LeaseMode::ReadIndex);
    let refused = Some(ReadVerdict::Refused(NotServing::NotReady));
    assert_eq!(leader.read(1), refused, "what older leaders committed may be unknown here");

    let mut leader = Bench::serving(LeaseMode::ReadIndex);
    leader.pass(A_WHILE / 2);
    assert_eq!(leader.read(2), None, "confirmed before the read came, perhaps deposed since");
    let sent_at = leader.now;
    leader.pass(A_WHILE / 2);
    let out = leader.confirmed(R2, sent_at);
    assert_eq!(out.reads, [(ReadToken(2), ReadVerdict::Confirmed)]);
}

/// Goal: a replica that is cut off from the leader alone disturbs nobody: its pre-vote is refused by
/// those who hear the leader, and asking changes nothing there.
#[test]
fn trap_22_who_hears_a_leader_refuses_pre_votes() {
    let leader = ballot(1, R1);
    let mut follower = Bench::following(R2, LeaseMode::Lease);
    follower.heartbeat(leader, 0);
    follower.pass(LEASE / 2);
    let out = follower.pre_vote(ballot(9, R3));
    assert_eq!(pre_votes(&out), [false]);
    assert_eq!(follower.core.promised(), leader, "a question raises no ballot");

    follower.pass(LEASE);
    let out = follower.pre_vote(ballot(9, R3));
    assert_eq!(pre_votes(&out), [true], "nobody was heard for a lease");
    assert_eq!(follower.core.promised(), leader);
}

/// Goal: a candidate that gets no majority of pre-votes raises no ballot, however often it asks.
#[test]
fn trap_22_asking_alone_raises_no_ballot() {
    let mut lonely = Bench::fresh(R3, LeaseMode::Lease);
    for _ in 0..20 {
        lonely.pass(A_WHILE);
        let out = lonely.tick();
        assert_eq!(out.promise, None, "a promise to itself without a pre-vote");
    }
    assert_eq!(lonely.core.promised(), Ballot::ZERO);
}

/// Goal: a leader that no majority answers steps down, so that a group is not held by a replica
/// that can only send.
#[test]
fn trap_22_a_leader_without_a_majority_steps_down() {
    let mut leader = Bench::serving(LeaseMode::Lease);
    leader.pass(LEASE / 2);
    leader.tick();
    assert!(leader.leads());
    leader.pass(LEASE);
    leader.tick();
    assert!(!leader.leads(), "{} still leads without an answer for 1.5 leases", leader.me());
}

/// Goal: a group in which nothing happens is looked after like a busy one: its leader goes on
/// sending heartbeats, and its followers notice when they end.
#[test]
fn trap_23_an_idle_group_notices_a_dead_leader() {
    let mut leader = Bench::serving(LeaseMode::Lease);
    for _ in 0..5 {
        let due = leader.core.next_deadline();
        assert!(due.since(leader.now) <= LEASE / 4, "the next heartbeat is never far");
        leader.now = due;
        assert_eq!(heartbeats(&leader.tick()), 2);
        leader.confirmed(R2, due);
    }

    let mut follower = Bench::following(R2, LeaseMode::Lease);
    follower.heartbeat(ballot(1, R1), 0);
    let due = follower.core.next_deadline();
    assert!(due.since(follower.now) <= LEASE + A_WHILE, "it wants to be woken when the lease ends");
    follower.now = due + A_WHILE;
    let out = follower.step(Input::Tick);
    let asks = out.messages.iter().any(|(_, message)| matches!(message, Message::PreVote(_)));
    assert!(asks, "nobody runs for a group without traffic");
}

/// Goal: a promise binds to the owner of the ballot: nobody else can use its number.
#[test]
fn trap_16_a_ballot_belongs_to_one_replica() {
    let mut follower = Bench::fresh(R2, LeaseMode::ReadIndex);
    let foreign = quorate_paxos::message::Prepare { ballot: ballot(5, R3), handover_from: None };
    let out = follower.hear(R1, Message::Prepare(foreign));
    assert_eq!(out.promise, None, "r1 asks with a ballot of r3");
    assert_eq!(promises(&follower.promise_to(ballot(5, R3))), [(R3, ballot(5, R3))]);
}
