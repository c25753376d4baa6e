//! One replica of three on a bench: the test is its peers, its disk and its clock.

use std::time::Duration;

use bytes::Bytes;
use quorate_paxos::message::{
    Accept, Accepted, Heartbeat, HeartbeatAck, PreVote, PreVoteAck, Prepare, Promise,
};
use quorate_paxos::{
    Batch, BatchKind, Health, Input, LeaseMode, Message, Options, Output, ReadToken, ReadVerdict,
    Replica, Restored, Standing, Tail, Timing,
};
use quorate_types::{Ballot, BootTime, EntryId, GroupId, LogTime, ReplicaId, ReplicaKind, Slot};

use crate::group;

pub(crate) const R1: ReplicaId = ReplicaId(1);
pub(crate) const R2: ReplicaId = ReplicaId(2);
pub(crate) const R3: ReplicaId = ReplicaId(3);
/// The length of a lease.
pub(crate) const LEASE: Duration = Duration::from_millis(1000);
/// Longer than any wait before a candidacy, shorter than a lease.
pub(crate) const A_WHILE: Duration = Duration::from_millis(600);

pub(crate) fn ballot(round: u64, replica: ReplicaId) -> Ballot {
    Ballot { round, replica }
}

pub(crate) fn id(slot: u64, ballot: Ballot) -> EntryId {
    EntryId { ballot, slot: Slot(slot) }
}

/// A batch of one entry behind `tail`.
pub(crate) fn entry(tail: Tail, ballot: Ballot, text: &'static str) -> Batch {
    let payload = [Bytes::from_static(text.as_bytes())];
    Batch::new(BatchKind::Entries, ballot, tail, LogTime(0), &payload)
}

/// A log of one entry per ballot.
pub(crate) fn log_of(ballots: &[Ballot]) -> Vec<Batch> {
    let mut tail = Tail::default();
    let mut log = Vec::new();
    for ballot in ballots {
        let batch = entry(tail, *ballot, "old");
        tail = batch.tail();
        log.push(batch);
    }
    log
}

/// An empty disk in a group of three.
pub(crate) fn fresh() -> Restored {
    Restored::fresh(group::voters([R1, R2, R3].map(|id| (id, id.0 as u16))))
}

/// What a disk with this log gives back.
pub(crate) fn restored(log: &[Batch], promised: Ballot) -> Restored {
    let mut runs: Vec<(Slot, Ballot)> = Vec::new();
    for batch in log {
        if runs.last().is_none_or(|(_, ballot)| *ballot != batch.ballot()) {
            runs.push((batch.first(), batch.ballot()));
        }
    }
    let tail = log.last().map_or_else(Tail::default, Batch::tail);
    Restored { promised, runs, tail, ..fresh() }
}

pub(crate) struct Bench {
    pub(crate) core: Replica,
    pub(crate) now: BootTime,
    me: ReplicaId,
}

impl Bench {
    /// A replica on an empty disk.
    pub(crate) fn fresh(me: ReplicaId, mode: LeaseMode) -> Bench {
        Bench::start(me, mode, fresh())
    }

    pub(crate) fn start(me: ReplicaId, mode: LeaseMode, restored: Restored) -> Bench {
        Bench::keeping(me, mode, restored, u64::MAX)
    }

    /// A replica that keeps so many bytes of log for followers that lag.
    pub(crate) fn keeping(
        me: ReplicaId,
        mode: LeaseMode,
        restored: Restored,
        log_budget_bytes: u64,
    ) -> Bench {
        Bench::of_kind(ReplicaKind::Full, me, mode, restored, log_budget_bytes)
    }

    /// A replica that holds this.
    pub(crate) fn of_kind(
        kind: ReplicaKind,
        me: ReplicaId,
        mode: LeaseMode,
        restored: Restored,
        log_budget_bytes: u64,
    ) -> Bench {
        let now = BootTime(1_000_000_000);
        let options = Options {
            group: GroupId(1),
            replica: me,
            kind,
            timing: Timing { mode, ..Timing::lan() },
            pinned: false,
            log_budget_bytes,
        };
        Bench { core: Replica::new(now, options, restored), now, me }
    }

    /// Rows that end with this batch are here.
    pub(crate) fn install(&mut self, last: Batch) -> Output {
        let membership = fresh().membership;
        self.step(Input::Install { last, membership })
    }

    /// A leader under 1.1 whose `StartWork` is at slot 1, on no disk yet and with no peer.
    pub(crate) fn elected(mode: LeaseMode) -> Bench {
        Bench::elected_on(Bench::fresh(R1, mode), EntryId::ZERO)
    }

    /// Lets `bench` win with the promise of r2, whose log ends with `last`.
    pub(crate) fn elected_on(mut bench: Bench, last: EntryId) -> Bench {
        let ballot = bench.campaign();
        let promise = Promise { ballot, last, slot_committed: Slot::ZERO, seats: None };
        bench.hear(R2, Message::Promise(promise));
        bench
    }

    /// A leader under 1.1 that serves, with the lease or the confirmation of r2 from now.
    pub(crate) fn serving(mode: LeaseMode) -> Bench {
        let mut bench = Bench::elected(mode);
        bench.synced(1);
        bench.accepted(R2, 1);
        bench.confirmed(R2, bench.now);
        assert!(bench.core.serving(bench.now).is_ok(), "the bench sets up a leader");
        bench
    }

    /// A follower of r1 under 1.1 that has promised durably and holds nothing.
    pub(crate) fn following(me: ReplicaId, mode: LeaseMode) -> Bench {
        let mut bench = Bench::fresh(me, mode);
        bench.promise_to(ballot(1, R1));
        bench
    }

    /// Asks r2 for its pre-vote and makes the own promise durable. Returns the ballot asked for.
    pub(crate) fn campaign(&mut self) -> Ballot {
        self.pass(A_WHILE);
        let asked = self.tick();
        let ballot = asked.messages.iter().find_map(|(_, message)| match message {
            Message::PreVote(msg) => Some(msg.ballot),
            _ => None,
        });
        let ballot = ballot.expect("nobody leads, so it asks");
        self.hear(R2, self.pre_vote_ack(R2, ballot));
        self.promise_synced(ballot);
        ballot
    }

    pub(crate) fn pre_vote_ack(&self, from: ReplicaId, ballot: Ballot) -> Message {
        let (promised, standing) = (Ballot::ZERO, self.standing(from));
        Message::PreVoteAck(PreVoteAck { ballot, granted: true, promised, standing })
    }

    /// How `replica` would lead: never better than the replica on the bench.
    pub(crate) fn standing(&self, replica: ReplicaId) -> Standing {
        let (health, last) = (Health::default(), EntryId::ZERO);
        Standing { replica, health, last, log_bytes: 0, pinned: false, rank: 9 }
    }

    pub(crate) fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    pub(crate) fn step(&mut self, input: Input) -> Output {
        self.core.step(self.now, input)
    }

    pub(crate) fn tick(&mut self) -> Output {
        self.step(Input::DiskProgress(self.now))
    }

    pub(crate) fn hear(&mut self, from: ReplicaId, message: Message) -> Output {
        self.step(Input::Message { from, message })
    }

    pub(crate) fn synced(&mut self, write: u64) -> Output {
        self.step(Input::Synced { write })
    }

    pub(crate) fn promise_synced(&mut self, ballot: Ballot) -> Output {
        self.step(Input::PromiseSynced { ballot })
    }

    /// Promises to the owner of `ballot`, durably.
    pub(crate) fn promise_to(&mut self, ballot: Ballot) -> Output {
        let prepare = Prepare { ballot, handover_from: None };
        self.hear(ballot.replica, Message::Prepare(prepare));
        self.promise_synced(ballot)
    }

    pub(crate) fn prepare(&mut self, ballot: Ballot) -> Output {
        self.hear(ballot.replica, Message::Prepare(Prepare { ballot, handover_from: None }))
    }

    pub(crate) fn pre_vote(&mut self, ballot: Ballot) -> Output {
        let standing = self.standing(ballot.replica);
        self.hear(ballot.replica, Message::PreVote(PreVote { ballot, standing }))
    }

    pub(crate) fn accept(&mut self, ballot: Ballot, batch: &Batch, committed: u64) -> Output {
        let (batch, slot_committed) = (batch.clone(), Slot(committed));
        self.hear(ballot.replica, Message::Accept(Accept { ballot, batch, slot_committed }))
    }

    pub(crate) fn accepted(&mut self, from: ReplicaId, slot: u64) -> Output {
        let accepted = Accepted { ballot: self.core.promised(), slot_synced: Slot(slot) };
        self.hear(from, Message::Accepted(accepted))
    }

    pub(crate) fn heartbeat(&mut self, ballot: Ballot, committed: u64) -> Output {
        let heartbeat = Heartbeat {
            ballot,
            sent_at: BootTime(77),
            slot_committed: Slot(committed),
            slot_releasable: Slot::ZERO,
            slot_secured: Slot::ZERO,
        };
        self.hear(ballot.replica, Message::Heartbeat(heartbeat))
    }

    /// A follower answers the heartbeat that was sent at `sent_at`.
    pub(crate) fn confirmed(&mut self, from: ReplicaId, sent_at: BootTime) -> Output {
        let ack = HeartbeatAck {
            ballot: self.core.promised(),
            sent_at,
            slot_verified: Slot(1),
            slot_synced: Slot(1),
            slot_refilling: None,
            standing: self.standing(from),
        };
        self.hear(from, Message::HeartbeatAck(ack))
    }

    pub(crate) fn read(&mut self, token: u64) -> Option<ReadVerdict> {
        let out = self.step(Input::Read(ReadToken(token)));
        out.reads.into_iter().find(|(of, _)| of.0 == token).map(|(_, verdict)| verdict)
    }

    pub(crate) fn propose(&mut self, text: &'static str) -> Output {
        self.step(Input::Propose(vec![Bytes::from_static(text.as_bytes())]))
    }

    pub(crate) fn leads(&self) -> bool {
        self.core.status(self.now).role == "leader"
    }

    pub(crate) fn me(&self) -> ReplicaId {
        self.me
    }
}

/// Promises in `out`, as (receiver, ballot).
pub(crate) fn promises(out: &Output) -> Vec<(ReplicaId, Ballot)> {
    let promise = |(to, message): &(ReplicaId, Message)| match message {
        Message::Promise(msg) => Some((*to, msg.ballot)),
        _ => None,
    };
    out.messages.iter().filter_map(promise).collect()
}

/// The slots that `out` calls durable here, in any message.
pub(crate) fn called_durable(out: &Output) -> Vec<Slot> {
    let slot = |(_, message): &(ReplicaId, Message)| match message {
        Message::Accepted(msg) => Some(msg.slot_synced),
        Message::HeartbeatAck(msg) => Some(msg.slot_synced),
        Message::Promise(msg) => Some(msg.last.slot),
        _ => None,
    };
    out.messages.iter().filter_map(slot).collect()
}

/// Requests for promises in `out`.
pub(crate) fn prepares(out: &Output) -> usize {
    out.messages.iter().filter(|(_, message)| matches!(message, Message::Prepare(_))).count()
}

/// Heartbeats in `out`.
pub(crate) fn heartbeats(out: &Output) -> usize {
    out.messages.iter().filter(|(_, message)| matches!(message, Message::Heartbeat(_))).count()
}

/// True if a heartbeat was answered, which grants a lease.
pub(crate) fn grants_lease(out: &Output) -> bool {
    out.messages.iter().any(|(_, message)| matches!(message, Message::HeartbeatAck(_)))
}

/// The pre-votes in `out`, as granted or not.
pub(crate) fn pre_votes(out: &Output) -> Vec<bool> {
    let vote = |(_, message): &(ReplicaId, Message)| match message {
        Message::PreVoteAck(msg) => Some(msg.granted),
        _ => None,
    };
    out.messages.iter().filter_map(vote).collect()
}
