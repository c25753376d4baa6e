//! The leader: proposes, counts what is accepted, commits. Called by `replica.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use quorate_types::planted::{Bug, planted};
use quorate_types::{BootTime, EntryId, LogTime, ReplicaId, Slot, limits};

use crate::batch::{Batch, BatchKind};
use crate::handover::Handover;
use crate::membership::MembershipAt;
use crate::message::{Accepted, Commit, Message, Reject};
use crate::output::{Output, Proposed, ReadToken, RoleChange};
use crate::priority::Standing;
use crate::replica::{Duty, MemberStatus, Replica};

/// In so many instants of a period groups at rest renew their leases.
const REST_PHASES: u32 = 5;

/// State of a leadership.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    /// The slot of `StartWork`: nothing commits by counting below it (trap 12).
    pub(crate) start_slot: Slot,
    /// `StartWork` is applied: reads and writes are served.
    pub(crate) serving: bool,
    pub(crate) elected_at: BootTime,
    /// Log time when elected; it runs on from there.
    log_time_base: LogTime,
    pub(crate) peers: BTreeMap<ReplicaId, Progress>,
    /// When the next heartbeat is due.
    pub(crate) renew_at: BootTime,
    /// When the last heartbeat was sent.
    pub(crate) heartbeat_at: Option<BootTime>,
    /// Who waits for a proof that we lead, by the time at which we must still have led.
    pub(crate) reads: VecDeque<(BootTime, Reader)>,
    pub(crate) handover: Option<Handover>,
    /// It does not give way before: the last hand-over did not come about.
    pub(crate) stays_until: BootTime,
    /// What was chosen when the last heartbeat was due, and when the one before it was.
    pub(crate) chosen: Slot,
    pub(crate) chosen_before: Slot,
    /// Encoded bytes of the log through the commit position.
    pub(crate) committed_log_bytes: u64,
    /// The entry of the membership in force, if that sets voters aside and so many know of it that it counts.
    pub(crate) in_force: Option<EntryId>,
    /// The commit position, and since when it stands there although there is more to choose.
    pub(crate) stalled: Option<(Slot, BootTime)>,
}

/// Who waits for a proof of leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A reader of this node, whose view is taken.
    Local(ReadToken),
    /// A follower that wants to know where we stand.
    Follower {
        /// The follower.
        replica: ReplicaId,
        /// Its clock when it asked.
        asked_at: BootTime,
    },
}

/// What the leader knows of a follower.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Durable there and equal to our log through here. Only rises within a leadership.
    pub(crate) slot_synced: Slot,
    /// The next slot to send.
    pub(crate) next: Slot,
    /// Batches sent but not answered: first slot, last slot and bytes of each.
    in_flight: VecDeque<(Slot, Slot, usize)>,
    pub(crate) in_flight_bytes: usize,
    /// The send time of the latest heartbeat it answered.
    pub(crate) heard_at: Option<BootTime>,
    /// A heartbeat on its way, with what had been sent before it.
    pub(crate) probe: Option<(BootTime, Slot)>,
    /// What its last answered heartbeat called verified.
    pub(crate) slot_verified: Option<Slot>,
    /// Where the logs agree is not known yet: one batch at a time.
    pub(crate) probing: bool,
    /// Batches for it are being read back from the log.
    pub(crate) reading: bool,
    /// The greatest commit position it was told.
    pub(crate) commit_told: Slot,
    pub(crate) standing: Option<Standing>,
    /// Since when, without a break, it has been better placed than we, healthy, heard and not behind.
    pub(crate) fit_since: Option<BootTime>,
    /// It needs log that is gone: nothing is sent before a snapshot has brought it near.
    pub(crate) behind: bool,
    /// It fetches a snapshot at this slot, or got one and lags more than followers may.
    pub(crate) slot_refilling: Option<Slot>,
    /// It votes, and will when the change under way is over.
    pub(crate) may_lead: bool,
    /// It is a member no more, and gets the log until it knows.
    pub(crate) is_leaving: bool,
    /// When a heartbeat went out that told it that this is chosen.
    pub(crate) left_told_at: Option<BootTime>,
    /// It is an arbiter: it gets no log, but who takes part.
    pub(crate) is_arbiter: bool,
    /// The entries of the memberships that it was told last, and that it has on disk.
    pub(crate) seats_told: EntryId,
    pub(crate) seats_kept: EntryId,
}

impl Progress {
    /// Nothing is known of it but that it gets the log from `next` on.
    pub(crate) fn new(next: Slot, may_lead: bool) -> Progress {
        Progress { next, probing: true, may_lead, ..Progress::default() }
    }

    /// Everything through `slot` is durable there.
    pub(crate) fn settle(&mut self, slot: Slot) {
        self.slot_synced = self.slot_synced.max(slot);
        self.next = self.next.max(slot.next());
        while self.in_flight.front().is_some_and(|(_, last, _)| *last <= slot) {
            let (_, _, bytes) = self.in_flight.pop_front().expect("looked at just now");
            self.in_flight_bytes -= bytes;
        }
        if self.in_flight.is_empty() {
            self.probing = false;
        }
    }

    /// True if another batch may be sent.
    pub(crate) fn has_room(&self) -> bool {
        let window = if self.probing { 1 } else { limits::PEER_IN_FLIGHT_BYTES_MAX };
        self.in_flight_bytes < window
    }

    /// From where to send again when the follower has verified less than was sent: from what is not
    /// answered, less what it has. If everything was answered it has restarted, and its last batch
    /// shows it that it holds our log. `None` if what it lacks is about to be sent anyway.
    pub(crate) fn resend_from(&self, slot_verified: Slot, last: Slot) -> Option<Slot> {
        match self.in_flight.front() {
            Some((first, _, _)) => Some(slot_verified.next().max(*first)),
            None if last < self.next => Some(self.slot_synced),
            None => None,
        }
    }

    /// Sends again from `next` on. What is known to be durable there is not sent again, but for its
    /// last batch: a follower that restarted holds it without knowing that it equals ours.
    pub(crate) fn rewind(&mut self, next: Slot) {
        self.next = next.max(self.slot_synced);
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.probe = None;
        self.probing = true;
    }

    pub(crate) fn sent(&mut self, batch: &Batch) {
        let bytes = batch.encoded().len();
        self.next = batch.last().next();
        self.in_flight.push_back((batch.first(), batch.last(), bytes));
        self.in_flight_bytes += bytes;
    }
}

impl Leader {
    /// The latest time at which a quorum is known to have held its promise to us: what a quorum has reached
    /// of the send times of answered heartbeats, our own counting as answered when sent.
    pub(crate) fn confirmed_at<'m>(
        &self,
        own: ReplicaId,
        counting: impl Iterator<Item = &'m MembershipAt>,
    ) -> Option<BootTime> {
        let heard = |id| match self.peers.get(&id) {
            Some(peer) => peer.heard_at,
            None if id == own => self.heartbeat_at,
            None => None,
        };
        counting.map(|at| at.membership.reached(heard).flatten()).min().flatten()
    }

    /// Log time at `now`.
    pub(crate) fn log_time(&self, now: BootTime) -> LogTime {
        let elapsed = u64::try_from(now.since(self.elected_at).as_millis()).unwrap_or(u64::MAX);
        LogTime(self.log_time_base.0.saturating_add(elapsed))
    }

    pub(crate) fn slot_held_by_all(&self, own_synced: Slot) -> Slot {
        let stay = self.peers.values().filter(|peer| !peer.is_leaving && !peer.is_arbiter);
        stay.map(|peer| peer.slot_synced).fold(own_synced, Slot::min)
    }

    /// The lowest slot above which a follower that lives needs the log, because it fetches a snapshot or
    /// has just got one.
    pub(crate) fn slot_refilling(&self, lease: Duration) -> Option<Slot> {
        let lives = |peer: &&Progress| match (peer.heard_at, self.heartbeat_at) {
            (Some(heard_at), Some(heartbeat_at)) => heartbeat_at <= heard_at + lease,
            (None, _) | (_, None) => false,
        };
        let stay = self.peers.values().filter(|peer| !peer.is_leaving);
        stay.filter(lives).filter_map(|peer| peer.slot_refilling).min()
    }

    pub(crate) fn member_status(&self) -> Vec<MemberStatus> {
        self.peers
            .iter()
            .map(|(replica, peer)| MemberStatus {
                replica: *replica,
                slot_synced: peer.slot_synced,
                heard_at: peer.heard_at,
                in_flight_bytes: peer.in_flight_bytes,
                health: peer.standing.map(|standing| standing.health),
            })
            .collect()
    }
}

impl Replica {
    /// Starts a leadership on an adopted log: appends `StartWork` and tells everybody. An arbiter may have
    /// told of a later membership than the log has.
    pub(crate) fn become_leader(
        &mut self,
        now: BootTime,
        told: Option<MembershipAt>,
        out: &mut Output,
    ) {
        assert_eq!(self.promised.replica, self.options.replica, "leads under a foreign ballot");
        assert_eq!(self.promised_synced, self.promised, "leads under a ballot that is not durable");
        if planted(Bug::Reballot) {
            self.propose_adopted_anew(out);
        }
        self.homing.leads_again(now, &self.options.timing);
        let tail = self.tail();
        let start_slot = tail.id.slot.next();
        self.duty = Duty::Leader(Box::new(Leader {
            start_slot,
            serving: false,
            elected_at: now,
            log_time_base: tail.log_time,
            peers: BTreeMap::new(),
            renew_at: now + self.options.timing.renew,
            heartbeat_at: None,
            reads: VecDeque::new(),
            handover: None,
            stays_until: now,
            chosen: start_slot,
            chosen_before: start_slot,
            committed_log_bytes: tail.log_bytes,
            in_force: None,
            stalled: None,
        }));
        self.leader = Some(self.options.replica);
        out.roles.push(RoleChange::Elected { ballot: self.promised });
        let start =
            Batch::new(BatchKind::StartWork, self.promised, tail, tail.log_time, &[Bytes::new()]);
        self.append(start, out);
        self.seat_peers();
        self.log_seats_again(told, out);
        self.pump_all(out);
        self.send_heartbeats(now, out);
    }

    /// Planted: what was adopted gets our ballot, so that nobody knows his entry again.
    fn propose_adopted_anew(&mut self, out: &mut Output) {
        let mut adopted = Vec::new();
        let mut next = self.slot_committed.next();
        while let Some(batch) = self.log.cached(next) {
            next = batch.last().next();
            adopted.push(batch.clone());
        }
        for old in adopted {
            if let Some(tail) = self.log.cached(old.prev().slot).map(Batch::tail) {
                let payloads: Vec<Bytes> = old.entries().map(|(_, payload)| payload).collect();
                let ours = Batch::new(old.kind(), self.promised, tail, old.log_time(), &payloads);
                self.append(ours, out);
            }
        }
    }

    /// Puts payloads into the log as one or more batches.
    pub(crate) fn on_propose(&mut self, now: BootTime, payloads: &[Bytes], out: &mut Output) {
        let serving = match self.serving(now) {
            Ok(serving) => serving,
            Err(reason) => {
                out.proposed = Some(Proposed::Refused(reason));
                return;
            }
        };
        out.proposed = Some(Proposed::At {
            first: EntryId { ballot: serving.ballot, slot: serving.next_slot },
        });
        let mut rest = payloads;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(batch_len(rest));
            let log_time = serving.log_time.max(self.tail().log_time);
            let batch = Batch::new(BatchKind::Entries, serving.ballot, self.tail(), log_time, head);
            self.append(batch, out);
            rest = tail;
        }
        self.pump_all(out);
        self.end_rest(now);
    }

    /// Phase 2 answer. Counts only if it belongs to our current ballot.
    pub(crate) fn on_accepted(&mut self, from: ReplicaId, msg: &Accepted, out: &mut Output) {
        let last = self.log.last().slot;
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        let Some(peer) = leader.peers.get_mut(&from).filter(|_| msg.ballot == self.promised) else {
            return; // An answer to an older leadership.
        };
        assert!(msg.slot_synced <= last, "peer {from} is ahead of its leader");

        peer.settle(msg.slot_synced);
        self.advance_commit(out);
        self.pump(from, out);
    }

    /// Somebody promised a higher ballot: this leadership or candidacy is over.
    pub(crate) fn on_reject(&mut self, now: BootTime, msg: &Reject, out: &mut Output) {
        self.round_seen = self.round_seen.max(msg.promised.round);
        if msg.ballot != self.promised || msg.promised <= self.promised {
            return;
        }
        if !matches!(self.duty, Duty::Follower { .. })
            && self.promised.replica == self.options.replica
        {
            self.become_follower(now, None, out);
        }
    }

    /// Commits what a majority has on disk, from `StartWork` on.
    pub(crate) fn advance_commit(&mut self, out: &mut Output) {
        self.note_in_force();
        let Duty::Leader(leader) = &self.duty else {
            return;
        };
        let synced = |id| self.synced_at(leader, id);
        let fewer = usize::from(planted(Bug::MinorityCommits));
        let at = self.memberships.last();
        let members = &at.membership;
        let mut reached = members.accepted_by_fewer(fewer, synced).expect("a group has voters");
        let counts = !members.is_degraded() || leader.in_force == Some(at.id);
        if !counts && !planted(Bug::SuspendOnAppend) {
            // Until it counts, what came before it does, to whoever knows of no more.
            for at in self.counting() {
                let also = at.membership.accepted(synced).expect("a group has voters");
                reached = reached.min(also);
            }
        }
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        let is_ours = leader.start_slot <= reached || planted(Bug::CountOldBallots);
        if !is_ours || reached <= self.slot_committed {
            return;
        }
        self.slot_committed = reached;
        self.slot_verified = reached;
        if let Some(batch) = self.log.cached(reached) {
            leader.committed_log_bytes = batch.tail().log_bytes;
        }
        self.tell_arbiters(out);
        self.advance_apply(out);
    }

    /// Through here a member is known to have the leader's log on disk.
    pub(crate) fn synced_at(&self, leader: &Leader, id: ReplicaId) -> Slot {
        match leader.peers.get(&id) {
            Some(peer) => peer.slot_synced,
            None if id == self.options.replica => self.slot_synced,
            None => Slot::ZERO,
        }
    }

    /// Starts to serve once `StartWork` was handed out to be applied.
    pub(crate) fn announce_serving(&mut self, out: &mut Output) {
        let ballot = self.promised;
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        let is_applied = leader.start_slot <= self.slot_applied || planted(Bug::ServeEarly);
        if !leader.serving && is_applied {
            leader.serving = true;
            self.has_yielded = false;
            out.roles.push(RoleChange::Serving { ballot });
        }
    }

    /// How far a leader tells of commits: only as far as it has applied them itself. So nobody reads
    /// at a follower what a read at the leader does not show yet, also while the leader's disk is the
    /// slowest.
    pub(crate) fn slot_told(&self) -> Slot {
        if planted(Bug::TellUnapplied) {
            return self.slot_committed;
        }
        self.slot_committed.min(self.slot_applied)
    }

    /// Tells followers of a commit when nothing else that is on its way will.
    pub(crate) fn announce_commit(&mut self, out: &mut Output) {
        let slot_committed = self.slot_told();
        let idle = slot_committed == self.log.last().slot;
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        if !idle {
            return; // The batches still uncommitted are followed by a commit or another batch.
        }
        for (id, peer) in &mut leader.peers {
            if peer.commit_told < slot_committed && slot_committed <= peer.slot_synced {
                peer.commit_told = slot_committed;
                out.messages
                    .push((*id, Message::Commit(Commit { ballot: self.promised, slot_committed })));
            }
        }
    }

    /// Heartbeats when due; steps down without a majority.
    pub(crate) fn fire_leader_timers(&mut self, now: BootTime, out: &mut Output) {
        let timing = self.options.timing;
        let confirmed_at = self.confirmed_at();
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        let heard = confirmed_at.unwrap_or(leader.elected_at);
        if heard + timing.lease < now {
            self.become_follower(now, None, out); // Nobody can say that we still lead.
            return;
        }
        leader.note_stall(now, self.slot_committed, self.log.last().slot);
        if leader.renew_at <= now {
            let next =
                if self.is_at_rest(now) { self.next_at_rest(now) } else { now + timing.renew };
            if let Duty::Leader(leader) = &mut self.duty {
                leader.renew_at = next;
                leader.chosen_before = leader.chosen;
                leader.chosen = leader.chosen.max(self.slot_committed);
            }
            self.send_heartbeats(now, out);
            self.confirm_reads(now, out);
        }
        self.expire_handover(now, out);
    }

    /// True if heartbeats only renew the lease: everything is committed, whoever lives has it and knows,
    /// and nobody waits.
    fn is_at_rest(&self, now: BootTime) -> bool {
        let Duty::Leader(leader) = &self.duty else {
            return false;
        };
        let last = self.log.last().slot;
        let lease = self.options.timing.lease;
        let has_all = |peer: &Progress| {
            let lives = peer.heard_at.is_some_and(|heard_at| now < heard_at + lease);
            !lives
                || peer.is_arbiter
                || (peer.slot_verified == Some(last) && peer.commit_told == last)
        };
        leader.serving
            && leader.handover.is_none()
            && leader.reads.is_empty()
            && self.slot_committed == last
            && leader.peers.values().all(has_all)
    }

    /// When a group at rest renews next. Groups of a node that rest meet in a few instants of its clock,
    /// so that their heartbeats travel in one frame, and not all in one, so that nothing waits long
    /// behind them.
    fn next_at_rest(&self, now: BootTime) -> BootTime {
        let period = self.options.timing.renew_at_rest;
        let phase = period / REST_PHASES * (self.options.group.0 % REST_PHASES);
        let since = now.since(BootTime::ZERO + phase);
        let passed = since.as_nanos() % period.as_nanos();
        now + period - Duration::from_nanos(u64::try_from(passed).expect("less than a period"))
    }

    /// The rest is over: the next heartbeat comes as soon as in a busy group.
    pub(crate) fn end_rest(&mut self, now: BootTime) {
        let soon = now + self.options.timing.renew;
        if let Duty::Leader(leader) = &mut self.duty {
            leader.renew_at = leader.renew_at.min(soon);
        }
    }
}

/// How many of the payloads fit one batch; at least one.
fn batch_len(payloads: &[Bytes]) -> usize {
    let mut bytes = 0;
    let fitting = payloads
        .iter()
        .take(limits::BATCH_ENTRIES_MAX)
        .take_while(|payload| {
            bytes += payload.len() + 4;
            bytes <= limits::BATCH_BYTES_MAX
        })
        .count();
    fitting.max(1)
}
