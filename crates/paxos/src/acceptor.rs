//! The acceptor: promises ballots and accepts batches. Called by `replica.rs`; its answers go out only
//! after what they tell of is on disk.

use quorate_types::planted::{Bug, planted};
use quorate_types::{Ballot, BootTime, EntryId, ReplicaId};

use crate::message::{
    Accept, Accepted, Commit, Heartbeat, HeartbeatAck, Message, Mismatch, Prepare, Promise, Reject,
};
use crate::options::LeaseMode;
use crate::output::Output;
use crate::replica::{Duty, Replica};

impl Replica {
    /// Phase 1 request. Promised unless a higher promise, a live lease or the silence after a restart
    /// stands against it.
    pub(crate) fn on_prepare(
        &mut self,
        now: BootTime,
        from: ReplicaId,
        msg: &Prepare,
        out: &mut Output,
    ) {
        if msg.ballot.replica != from {
            return; // A ballot belongs to the replica in it.
        }
        if msg.ballot < self.promised {
            self.send_reject(from, msg.ballot, out);
            return;
        }
        if self.is_log_suspect() {
            return; // What it has may not be all that it acknowledged.
        }
        if msg.ballot == self.promised {
            self.promise_owed_to = Some(from); // A repetition: only its owner can have sent it.
            self.give_owed_promise(now, out);
            return;
        }
        // A hand-over token ends the lease of exactly the ballot that was handed over.
        let handed_over = msg.handover_from == Some(self.promised)
            || (planted(Bug::TokenAnyPromise) && msg.handover_from.is_some());
        if !self.may_promise(now, handed_over) {
            return;
        }
        self.promise(now, msg.ballot, out);
        self.promise_owed_to = Some(from);
        if planted(Bug::PromiseBeforeSync) {
            self.give_owed_promise(now, out);
        }
    }

    /// True if a ballot above `promised` may be promised now.
    pub(crate) fn may_promise(&self, now: BootTime, handed_over: bool) -> bool {
        if now < self.silent_until {
            return false; // Trap 17: a restarted replica does not know what it granted.
        }
        match self.options.timing.mode {
            LeaseMode::Lease => self.is_lease_over(now) || handed_over,
            // Without leases the promise to a living leader is a courtesy of pre-votes only.
            LeaseMode::ReadIndex => true,
        }
    }

    /// True if the lease that was granted to a leader has ended.
    pub(crate) fn is_lease_over(&self, now: BootTime) -> bool {
        self.lease_until <= now || planted(Bug::VoteInLease)
    }

    /// Promises `ballot`: nothing below it is accepted from here on, and nothing is answered before
    /// the promise is on disk.
    pub(crate) fn promise(&mut self, now: BootTime, ballot: Ballot, out: &mut Output) {
        assert!(self.promised < ballot, "promise of {ballot} after {}", self.promised);
        // The lease goes first: a leader must not answer reads under a ballot it has given up.
        let led = !matches!(self.duty, Duty::Follower { .. });
        self.promised = ballot;
        self.promise_owed_to = None;
        self.slot_verified = self.slot_committed;
        self.round_seen = self.round_seen.max(ballot.round);
        out.promise = Some(ballot);
        if planted(Bug::PromiseBeforeSync) {
            self.promised_synced = ballot;
        }
        if led || self.leader.is_some() {
            self.become_follower(now, None, out);
        }
        // Whoever asked gets a round to show itself, or slow links make every election a duel.
        self.wait_for_leader(now + self.options.timing.round);
    }

    /// The promise is on disk.
    pub(crate) fn on_promise_synced(&mut self, now: BootTime, ballot: Ballot, out: &mut Output) {
        assert!(ballot <= self.promised, "a promise of {ballot} came back that was never given");
        self.promised_synced = self.promised_synced.max(ballot);
        self.give_owed_promise(now, out);
    }

    /// Answers a prepare once promise and log are durable: what the answer names must survive a crash.
    pub(crate) fn give_owed_promise(&mut self, now: BootTime, out: &mut Output) {
        if self.promised_synced != self.promised || self.slot_synced != self.log.last().slot {
            return;
        }
        let Some(to) = self.promise_owed_to.take() else {
            return;
        };
        let promise = Promise {
            ballot: self.promised,
            last: self.last_to_promise(),
            slot_committed: self.slot_committed,
            seats: self.seats_kept(),
        };
        if to == self.options.replica {
            self.on_own_promise(now, promise, out);
        } else {
            self.send(to, Message::Promise(promise), out);
        }
    }

    /// True if `ballot` is the promise, durable, so that its leader may be obeyed. A higher one is
    /// promised first and obeyed when its leader repeats itself; a lower one is rejected.
    pub(crate) fn obeys(
        &mut self,
        now: BootTime,
        from: ReplicaId,
        ballot: Ballot,
        out: &mut Output,
    ) -> bool {
        if ballot.replica != from || from == self.options.replica {
            return false;
        }
        if ballot < self.promised {
            self.send_reject(from, ballot, out);
            return false;
        }
        if self.promised < ballot {
            if self.may_promise(now, false) {
                self.promise(now, ballot, out);
            }
            return false;
        }
        if self.promised_synced != self.promised {
            return false;
        }
        if !matches!(self.duty, Duty::Follower { .. }) || self.leader != Some(from) {
            self.become_follower(now, Some(from), out);
        }
        self.has_yielded = false;
        true
    }

    /// Phase 2 request: appends the batch if it follows our log, and answers when it is durable.
    pub(crate) fn on_accept(
        &mut self,
        now: BootTime,
        from: ReplicaId,
        msg: Accept,
        out: &mut Output,
    ) {
        if !self.options.kind.keeps_log() || !self.obeys(now, from, msg.ballot, out) {
            return;
        }
        if self.parts_ways(&msg.batch) {
            self.outlive(out);
            return;
        }
        let prev = msg.batch.prev();
        if !self.log.holds(prev) {
            self.send_mismatch(from, prev, out);
            return;
        }

        let last = msg.batch.last();
        if self.log.holds(msg.batch.last_id()) && !planted(Bug::CutOnRepeat) {
            // Trap 9: a repetition never cuts what follows it.
            self.slot_verified = self.slot_verified.max(last);
            self.send_accepted(out);
        } else if !self.log.holds(msg.batch.last_id()) && msg.batch.first() <= self.slot_verified {
            // From a leader that fell before the rows were chosen which we have of others since: nobody
            // can have chosen this.
        } else {
            assert!(
                self.slot_verified < msg.batch.first(),
                "leader {from} replaces its own {:?}",
                msg.batch
            );
            self.append(msg.batch, out);
            self.slot_verified = last;
        }
        self.learn_commit(msg.slot_committed);
    }

    /// Names an entry of ours at or before the one the leader hoped to share. The same one only once between two
    /// heartbeats: behind one batch that is late or lost all that are on their way do not follow our log, and for
    /// each answer the leader would send all of them again.
    fn send_mismatch(&mut self, to: ReplicaId, hoped: EntryId, out: &mut Output) {
        let end = self.log.last().slot;
        let slot = if end < hoped.slot { end } else { self.log.before_run_of(hoped.slot) };
        let shared = slot.max(self.slot_committed);
        let last = self.log.id_at(shared).expect("between what is trimmed and the last entry");
        if self.mismatch_told.replace((self.promised, last)) == Some((self.promised, last)) {
            return;
        }
        let mismatch =
            Mismatch { ballot: self.promised, last, slot_committed: self.slot_committed };
        self.send(to, Message::Mismatch(mismatch), out);
    }

    /// Tells the leader how far our log equals its own on disk.
    pub(crate) fn send_accepted(&mut self, out: &mut Output) {
        let Some(leader) = self.leader else {
            return;
        };
        if self.promised.replica != leader || self.promised_synced != self.promised {
            return;
        }
        let slot_synced = self.slot_synced.min(self.slot_verified);
        self.send(leader, Message::Accepted(Accepted { ballot: self.promised, slot_synced }), out);
    }

    /// The leader lives: grants the lease from now on and confirms the leadership.
    pub(crate) fn on_heartbeat(
        &mut self,
        now: BootTime,
        from: ReplicaId,
        msg: &Heartbeat,
        out: &mut Output,
    ) {
        if !self.obeys(now, from, msg.ballot, out) || now < self.silent_until {
            return;
        }
        // Trap 18: the end of what we promised never moves back.
        self.lease_until = self.lease_until.max(now + self.options.timing.lease);
        self.wait_for_leader(self.lease_until);
        self.mismatch_told = None; // It may have been lost.
        self.learn_commit(msg.slot_committed);
        self.slot_releasable =
            self.slot_releasable.max(msg.slot_releasable.min(self.slot_committed));
        self.slot_secured = self.slot_secured.max(msg.slot_secured.min(self.slot_committed));
        let ack = HeartbeatAck {
            ballot: msg.ballot,
            sent_at: msg.sent_at,
            slot_verified: self.slot_verified,
            slot_synced: self.slot_synced.min(self.slot_verified),
            slot_refilling: self.slot_refilling(),
            standing: self.standing(),
        };
        self.send(from, Message::HeartbeatAck(ack), out);
        self.ask_for_rows(out);
        self.ask_for_end(now, out);
        self.ask_now_and_then(now, out);
    }

    /// A commit notice.
    pub(crate) fn on_commit(
        &mut self,
        now: BootTime,
        from: ReplicaId,
        msg: &Commit,
        out: &mut Output,
    ) {
        if self.obeys(now, from, msg.ballot, out) {
            self.learn_commit(msg.slot_committed);
        }
    }

    pub(crate) fn send_reject(&self, to: ReplicaId, ballot: Ballot, out: &mut Output) {
        self.send(
            to,
            Message::Reject(Reject { ballot, promised: self.promised_synced.max(ballot) }),
            out,
        );
    }
}
