//! Every rule notices a state that breaks it.

use quorate_types::{Ballot, BootTime, EntryId, GroupId, ReplicaId, ReplicaKind, Slot};

use crate::input::{Input, Restored};
use crate::leader::Reader;
use crate::membership::Membership;
use crate::message::{Accepted, HeartbeatAck, Message, Prepare, Promise};
use crate::options::{Options, Timing};
use crate::output::{Output, ReadToken};
use crate::replica::{Duty, Replica};

const NOW: BootTime = BootTime(5_000_000_000);

/// A group of one that leads, serves, and has `StartWork` in slot 1.
fn leader() -> Replica {
    let mut replica = follower();
    let out = replica.step(NOW, Input::Tick);
    let ballot = out.promise.expect("it runs at once");
    let out = replica.step(NOW, Input::PromiseSynced { ballot });
    let write = out.appends.last().expect("StartWork").write;
    let _ = replica.step(NOW, Input::Synced { write });
    replica.check_invariants();
    assert!(replica.serving(NOW).is_ok());
    replica
}

fn follower() -> Replica {
    let options = Options {
        group: GroupId(1),
        replica: ReplicaId(1),
        kind: ReplicaKind::Full,
        timing: Timing::lan(),
        pinned: false,
        log_budget_bytes: u64::MAX,
    };
    let alone = Membership::of_voters([(ReplicaId(1), 0)]);
    let replica = Replica::new(BootTime::ZERO, options, Restored::fresh(alone));
    replica.check_invariants();
    replica
}

fn lead(replica: &mut Replica) -> &mut crate::leader::Leader {
    match &mut replica.duty {
        Duty::Leader(leader) => leader,
        _ => panic!("it leads"),
    }
}

fn tell(message: Message) {
    let out = Output { messages: vec![(ReplicaId(2), message)], ..Output::default() };
    follower().check_output(&out);
}

const BALLOT: Ballot = Ballot { round: 9, replica: ReplicaId(1) };

/// Goal: an entry above the promise is noticed.
#[test]
#[should_panic(expected = "holds an entry of a ballot it never promised")]
fn log() {
    let mut replica = leader();
    replica.promised = Ballot::ZERO;
    replica.check_invariants();
}

/// Goal: an applied position that is not durable is noticed.
#[test]
#[should_panic(expected = "applied 1 beyond committed and synced 0")]
fn watermarks() {
    let mut replica = leader();
    replica.slot_synced = Slot::ZERO;
    replica.check_invariants();
}

/// Goal: a commit position beyond the log is noticed.
#[test]
#[should_panic(expected = "committed 7 beyond last 1")]
fn committed_beyond_the_log() {
    let mut replica = leader();
    replica.slot_committed = Slot(7);
    replica.check_invariants();
}

/// Goal: a durable promise that was never given is noticed.
#[test]
#[should_panic(expected = "synced a promise that was never given")]
fn promise() {
    let mut replica = follower();
    replica.promised_synced = BALLOT;
    replica.check_invariants();
}

/// Goal: a leader under a promise that is not durable is noticed.
#[test]
#[should_panic(expected = "leads under a ballot that is not durable")]
fn leader_without_a_durable_ballot() {
    let mut replica = leader();
    replica.promised_synced = Ballot::ZERO;
    replica.check_invariants();
}

/// Goal: a leader that serves too early is noticed.
#[test]
#[should_panic(expected = "serves before StartWork is applied")]
fn start_work() {
    let mut replica = leader();
    replica.slot_applied = Slot::ZERO;
    replica.check_invariants();
}

/// Goal: a follower that is ahead of its leader is noticed.
#[test]
#[should_panic(expected = "peer r2 is ahead of its leader")]
fn peers() {
    let mut replica = leader();
    let mut progress = crate::leader::Progress::default();
    progress.settle(Slot(3));
    lead(&mut replica).peers.insert(ReplicaId(2), progress);
    replica.check_invariants();
}

/// Goal: reads out of order are noticed.
#[test]
#[should_panic(expected = "reads wait out of order")]
fn reads() {
    let mut replica = leader();
    lead(&mut replica).reads =
        [(BootTime(2), Reader::Local(ReadToken(1))), (BootTime(1), Reader::Local(ReadToken(2)))]
            .into_iter()
            .collect();
    replica.check_invariants();
}

/// Goal: a promise that is told before it is durable is noticed.
#[test]
#[should_panic(expected = "promise sent before it is durable")]
fn promise_told() {
    tell(Message::Promise(Promise {
        ballot: BALLOT,
        last: EntryId::ZERO,
        slot_committed: Slot::ZERO,
        seats: None,
    }));
}

/// Goal: a log that is acknowledged before it is durable is noticed.
#[test]
#[should_panic(expected = "accepted sent before it is durable")]
fn log_told() {
    tell(Message::Accepted(Accepted { ballot: Ballot::ZERO, slot_synced: Slot(1) }));
}

/// Goal: a log that is told of in a heartbeat ack before it is durable is noticed.
#[test]
#[should_panic(expected = "heartbeat ack ahead of the disk")]
fn log_told_with_a_heartbeat() {
    let standing = follower().standing();
    tell(Message::HeartbeatAck(HeartbeatAck {
        ballot: Ballot::ZERO,
        sent_at: BootTime::ZERO,
        slot_verified: Slot(1),
        slot_synced: Slot(1),
        slot_refilling: None,
        standing,
    }));
}

/// Goal: a candidacy that begins before the own promise is durable is noticed.
#[test]
#[should_panic(expected = "prepare sent before the own promise is durable")]
fn prepare_told() {
    tell(Message::Prepare(Prepare { ballot: BALLOT, handover_from: None }));
}
