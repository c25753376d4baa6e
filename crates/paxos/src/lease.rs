//! The leader's right to answer reads: a lease granted by a majority, or a round of heartbeats for each
//! group of reads (read-index). Called by `replica.rs` and `leader.rs`.
//!
//! A follower counts its promise from receipt, the leader from sending and minus a margin, each on its
//! own boot clock; so only the rates of the clocks matter, never what they show.

use quorate_types::planted::{Bug, planted};
use quorate_types::{BootTime, ReplicaId, Slot};

use crate::leader::{Leader, Reader};
use crate::message::{Heartbeat, HeartbeatAck, Message, Told};
use crate::options::LeaseMode;
use crate::output::{NotServing, Output, ReadToken, ReadVerdict};
use crate::replica::{Duty, Replica};

impl Replica {
    /// A read whose view was taken before `now`: confirms it at once under a lease, else after the
    /// next round of heartbeats.
    pub(crate) fn on_read(&mut self, now: BootTime, token: ReadToken, out: &mut Output) {
        if let Err(reason) = self.serving(now) {
            out.reads.push((token, ReadVerdict::Refused(reason)));
            return;
        }
        self.on_reader(now, Reader::Local(token), out);
    }

    /// Somebody waits for a proof that this replica, which serves, led at `now`.
    pub(crate) fn on_reader(&mut self, now: BootTime, reader: Reader, out: &mut Output) {
        let own = self.options.replica;
        let alone = self.is_voted(|id| id == own);
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        // A heartbeat that bears the same instant was sent before the view was taken.
        let asked_at = match leader.heartbeat_at {
            Some(sent) if now <= sent && !alone => sent + std::time::Duration::from_nanos(1),
            Some(_) | None => now,
        };
        leader.reads.push_back((asked_at, reader));
        self.confirm_reads(now, out);
        self.ask_for_reads(now, out);
        if matches!(&self.duty, Duty::Leader(leader) if !leader.reads.is_empty()) {
            self.end_rest(now);
        }
    }

    /// End of the lease that a majority granted, if leases are on and it is held.
    pub(crate) fn lease_end(&self, leader: &Leader) -> Option<BootTime> {
        if self.options.timing.mode == LeaseMode::ReadIndex || leader.handover.is_some() {
            return None;
        }
        let confirmed = leader.confirmed_at(self.options.replica, self.counting())?;
        Some(confirmed + self.options.timing.lease - self.options.timing.lease_margin)
    }

    /// The latest time at which a quorum is known to have held its promise to us, if we lead.
    pub(crate) fn confirmed_at(&self) -> Option<BootTime> {
        let Duty::Leader(leader) = &self.duty else {
            return None;
        };
        leader.confirmed_at(self.options.replica, self.counting())
    }

    /// Answers waiting reads that the lease or the last round of heartbeats covers.
    pub(crate) fn confirm_reads(&mut self, now: BootTime, out: &mut Output) {
        let Duty::Leader(leader) = &self.duty else {
            return;
        };
        let checked_at = match leader.heartbeat_at {
            Some(at) if planted(Bug::StaleNow) => at,
            Some(_) | None => now,
        };
        let leased = self.lease_end(leader).is_some_and(|end| checked_at < end);
        let confirmed = self.confirmed_at();
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        if leader.handover.is_some() || !leader.serving {
            return;
        }
        let (ballot, slot_applied) = (self.promised, self.slot_applied);
        let slot_last = self.log.last().slot;
        while let Some((asked_at, reader)) = leader.reads.front().copied() {
            if !leased && confirmed.is_none_or(|at| at < asked_at) {
                return;
            }
            leader.reads.pop_front();
            match reader {
                Reader::Local(token) => out.reads.push((token, ReadVerdict::Confirmed)),
                Reader::Follower { replica, asked_at } => {
                    let told = Told { ballot, asked_at, slot_applied, slot_last };
                    out.messages.push((replica, Message::Told(told)));
                }
            }
        }
    }

    /// Starts a round of heartbeats for waiting reads, unless one is on its way: the next round then
    /// serves all that came meanwhile.
    fn ask_for_reads(&mut self, now: BootTime, out: &mut Output) {
        let Duty::Leader(leader) = &self.duty else {
            return;
        };
        let waiting = leader.reads.back().is_some_and(|(asked_at, _)| *asked_at <= now);
        let on_its_way = self.confirmed_at() < leader.heartbeat_at;
        if waiting && !on_its_way {
            self.send_heartbeats(now, out);
            self.confirm_reads(now, out);
        }
    }

    /// Sends a heartbeat to every peer and renews our own promise.
    pub(crate) fn send_heartbeats(&mut self, now: BootTime, out: &mut Output) {
        let slot_releasable = self.slot_trimmable();
        let slot_secured = self.slot_secured();
        let slot_committed = self.slot_told();
        let is_chosen = self.memberships.last().id.slot <= slot_committed;
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        if leader.handover.as_ref().is_some_and(|handover| handover.token_sent) {
            return; // Given up for good: nothing may look like a living leader.
        }
        let is_stalled = self.options.timing.disk_stall < now.since(self.disk_ok_at);
        if is_stalled && !planted(Bug::RenewWithoutDisk) {
            return; // Trap 21: a leader that cannot write must not keep its lease.
        }
        leader.heartbeat_at = Some(now);
        for peer in leader.peers.values_mut() {
            if peer.probe.is_none() && !peer.is_arbiter {
                peer.probe = Some((now, peer.next));
            }
        }
        self.lease_until = self.lease_until.max(now + self.options.timing.lease);
        let ballot = self.promised;
        let heartbeat =
            Heartbeat { ballot, sent_at: now, slot_committed, slot_releasable, slot_secured };
        leader.note_left_told(now, is_chosen);
        for peer in leader.peers.keys() {
            out.messages.push((*peer, Message::Heartbeat(heartbeat.clone())));
        }
    }

    /// A follower's promise is still ours.
    pub(crate) fn on_heartbeat_ack(
        &mut self,
        now: BootTime,
        from: ReplicaId,
        msg: &HeartbeatAck,
        out: &mut Output,
    ) {
        let last = self.log.last().slot;
        let over_budget = self.log.end_before_last(self.options.log_budget_bytes);
        let over_budget = over_budget.unwrap_or(Slot::ZERO);
        self.note_fitness(now, from, msg);
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        let Some(peer) = leader.peers.get_mut(&from).filter(|_| msg.ballot == self.promised) else {
            return; // An answer to an older leadership.
        };
        assert!(msg.slot_synced <= last, "peer {from} is ahead of its leader");
        assert!(msg.sent_at <= now, "peer {from} echoes a time to come");

        let promised_at = if planted(Bug::LeaseFromReceipt) { now } else { msg.sent_at };
        peer.heard_at = peer.heard_at.max(Some(promised_at));
        peer.standing = Some(msg.standing);
        // With the snapshot it still lacks what was written meanwhile.
        let caught_up_to = peer.slot_refilling.map(|slot| slot.max(msg.slot_synced));
        let lagging = caught_up_to.filter(|slot| *slot < over_budget);
        peer.slot_refilling = msg.slot_refilling.or(lagging);
        peer.settle(msg.slot_synced);
        let is_behind = peer.behind && peer.slot_synced < self.log.trimmed();
        if let Some((sent_at, next)) = peer.probe
            && sent_at <= msg.sent_at
        {
            peer.probe = None;
            // Batches travel on another connection than heartbeats: while the follower moves on they
            // are late, not lost.
            let moves = peer.slot_verified.is_some_and(|before| before < msg.slot_verified);
            let lacks = msg.slot_verified < next.prev() && !moves;
            if let Some(next) = lacks.then(|| peer.resend_from(msg.slot_verified, last)).flatten() {
                peer.rewind(next);
            }
        }
        peer.slot_verified = Some(msg.slot_verified);
        leader.forget_left(from, self.memberships.last().id, msg.sent_at);
        if is_behind {
            self.send_behind(from, out); // It may not have heard.
        }
        self.tell_again(from, out);
        self.advance_commit(out);
        self.pump(from, out);
        self.confirm_reads(now, out);
        self.ask_for_reads(now, out);
    }

    /// Tells every waiting reader to ask elsewhere.
    pub(crate) fn refuse_waiting_reads(
        &mut self,
        next_leader: Option<ReplicaId>,
        out: &mut Output,
    ) {
        if let Duty::Leader(leader) = &mut self.duty {
            for (_, reader) in leader.reads.drain(..) {
                if let Reader::Local(token) = reader {
                    let refused = ReadVerdict::Refused(NotServing::NotLeader(next_leader));
                    out.reads.push((token, refused));
                }
            }
        }
    }
}
