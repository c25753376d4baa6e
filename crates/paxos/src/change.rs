//! Changes of who takes part: the leader's part. Called by `replica.rs`.
//!
//! A change begins with an entry that names the members and their roles, and is in force from then on, at
//! whoever has the entry. Where voters change, that membership is joint: nothing is chosen, promised or
//! leased without quorums of both. Once it is chosen, a second entry ends it. A leader that is to
//! leave hands over first, so that whoever ends the change stays.
//!
//! The driver says when an entry may be put into the log ([`Input::ContinueChange`]), because it knows
//! whether anything was evaluated that is not proposed yet.
//!
//! [`Input::ContinueChange`]: crate::Input::ContinueChange

use std::collections::BTreeMap;

use quorate_types::planted::{Bug, planted};
use quorate_types::{BootTime, EntryId, ReplicaId, ReplicaKind, Slot, limits};

use crate::batch::{Batch, BatchKind};
use crate::handover::lives;
use crate::leader::{Leader, Progress};
use crate::membership::{Member, Membership, Role};
use crate::message::Message;
use crate::output::{NotChanged, Output};
use crate::priority::{Health, Standing};
use crate::replica::{Duty, Replica};

/// A replica that is to vote must lack less of the log than this.
const VOTER_LAG_BYTES_MAX: u64 = 1024 * 1024;

/// Who is to take part when a change is over, wanted by somebody who knows who does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRequest {
    /// The entry that the present membership came with.
    pub expected: EntryId,
    /// Everybody who is to be a member.
    pub members: BTreeMap<ReplicaId, Seat>,
}

/// A member as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// The replica.
    pub replica: ReplicaId,
    /// Rank and role.
    pub member: Member,
    /// Durable and equal to the leader's log through here.
    pub slot_synced: Slot,
    /// When the heartbeat was sent that it answered last; now for the leader itself.
    pub heard_at: Option<BootTime>,
    /// Bytes of log that it lacks, as of its last answer.
    pub lag_bytes: u64,
    /// It gets a snapshot, or must.
    pub is_refilling: bool,
    /// It could vote: it was heard, has its rows, and is not far behind.
    pub is_fit: bool,
}

/// How a change goes on by itself.
enum NextChange {
    /// This membership is next.
    To(Membership),
    /// A leader that leaves hands over first.
    HandOver,
}

/// What a replica is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its rank in the leader order.
    pub rank: u16,
    /// What it holds.
    pub kind: ReplicaKind,
    /// Voter, or learner.
    pub votes: bool,
}

impl Replica {
    /// Begins a change, or says why not.
    pub(crate) fn on_change(&mut self, now: BootTime, request: &ChangeRequest, out: &mut Output) {
        let begun = self.membership_for(now, request);
        out.changed = Some(begun.map(|membership| self.propose_membership(now, &membership, out)));
    }

    /// The membership that begins a change.
    fn membership_for(
        &self,
        now: BootTime,
        request: &ChangeRequest,
    ) -> Result<Membership, NotChanged> {
        self.serving(now).map_err(NotChanged::NotServing)?;
        let at = self.memberships.last();
        if at.id != request.expected {
            return Err(NotChanged::Stale(at.id));
        }
        if self.slot_committed < at.id.slot || at.membership.is_joint() {
            return Err(NotChanged::InProgress);
        }
        let present = &at.membership;
        let mut members = BTreeMap::new();
        for (id, seat) in &request.members {
            let before = present.get(*id);
            let same_data = |it: &Member| {
                it.kind == seat.kind || (it.kind.keeps_rows() && seat.kind.keeps_rows())
            };
            if !before.is_none_or(same_data) {
                return Err(NotChanged::Impossible);
            }
            let votes = present.has_voter(*id);
            let is_suspended = before.is_some_and(|member| member.role == Role::Suspended);
            let role = match (votes, seat.votes) {
                (false, true) if is_suspended => Role::Suspended,
                (true, true) => Role::Voter,
                (true, false) => Role::Demoted,
                (false, true) => Role::Joining,
                (false, false) => Role::Learner,
            };
            members.insert(*id, Member { rank: seat.rank, role, kind: seat.kind });
        }
        for (id, member) in present.members().filter(|(_, member)| member.role.votes()) {
            members.entry(id).or_insert(Member { role: Role::Leaving, ..*member });
        }
        let next = Membership::new(members).map_err(|_| NotChanged::Impossible)?;
        let next = next.in_history(present.history());
        if next == *present {
            return Err(NotChanged::NoChange);
        }
        let joining = next.members().filter(|(_, member)| member.role == Role::Joining);
        if let Some((id, _)) = joining.into_iter().find(|(id, _)| !self.may_vote(now, *id)) {
            return Err(NotChanged::NotReady(id));
        }
        let fit = |id| self.is_fit(now, id);
        if !next.is_quorum(fit) || !next.accepts_with(fit) {
            return Err(NotChanged::NoQuorum);
        }
        // Or it could not end: see `with_one_kept`.
        let waits = next.is_joint() && next.has_log_only();
        if waits && next.whole().secured_after(fit) != Some(true) {
            return Err(NotChanged::NoQuorum);
        }
        if planted(Bug::SingleStep) {
            return Ok(next.in_the_end());
        }
        Ok(next)
    }

    /// Puts a membership into the log. Whoever has it counts by it from here on.
    pub(crate) fn propose_membership(
        &mut self,
        now: BootTime,
        membership: &Membership,
        out: &mut Output,
    ) -> EntryId {
        let before = self.memberships.current();
        assert!(
            membership.follows(before) || planted(Bug::SingleStep),
            "quorums of {membership:?} and {before:?} miss each other"
        );
        let Duty::Leader(leader) = &self.duty else {
            panic!("only a leader changes who takes part");
        };
        let log_time = leader.log_time(now).max(self.tail().log_time);
        let payload = [membership.encode()];
        let (kind, tail) = (BatchKind::Membership, self.tail());
        let batch = Batch::new(kind, self.promised, tail, log_time, &payload);
        let id = batch.last_id();
        self.append(batch, out);
        self.pump_all(out);
        self.tell_arbiters(out);
        self.send_heartbeats(now, out);
        self.end_rest(now);
        id
    }

    /// How the members are, as the leader sees them, in order; nothing elsewhere.
    #[must_use]
    pub fn member_views(&self, now: BootTime) -> Vec<MemberView> {
        let Duty::Leader(leader) = &self.duty else {
            return Vec::new();
        };
        let log_bytes = self.log.tail().log_bytes;
        let view = |(id, member): (ReplicaId, &Member)| {
            let peer = leader.peers.get(&id);
            let is_own = id == self.options.replica;
            let lag = peer.map_or(0, |peer| {
                let its = peer.standing.map_or(0, |standing| standing.log_bytes);
                log_bytes.saturating_sub(its)
            });
            MemberView {
                replica: id,
                member: *member,
                slot_synced: peer.map_or(self.slot_synced, |peer| peer.slot_synced),
                heard_at: if is_own { Some(now) } else { peer.and_then(|peer| peer.heard_at) },
                lag_bytes: lag,
                is_refilling: peer.is_some_and(|peer| peer.behind || peer.slot_refilling.is_some()),
                is_fit: is_own || self.may_vote(now, id),
            }
        };
        self.membership().members().map(view).collect()
    }

    /// True if `Input::ContinueChange` would do something now.
    #[must_use]
    pub fn is_change_due(&self, now: BootTime) -> bool {
        self.next_change(now).is_some()
    }

    fn next_change(&self, now: BootTime) -> Option<NextChange> {
        let Duty::Leader(leader) = &self.duty else {
            return None;
        };
        if let Some(without) = self.without_unheard(now) {
            return Some(NextChange::To(without));
        }
        let at = self.memberships.last();
        let is_chosen = at.id.slot <= self.slot_committed || planted(Bug::JointUnchosen);
        if self.serving(now).is_err() || !is_chosen {
            return None;
        }
        if !at.membership.keeps_voter(self.options.replica) {
            return (leader.stays_until <= now).then_some(NextChange::HandOver);
        }
        if at.membership.is_joint() {
            // Who keeps only the log may have dropped what the old full voters have: first the new ones have it.
            let is_secured = self.is_secured_after_change(leader, at.id.slot);
            if at.membership.has_log_only() && !is_secured {
                return self.with_one_kept(now, leader).map(NextChange::To);
            }
            return Some(NextChange::To(at.membership.in_the_end()));
        }
        self.with_suspended(now).map(NextChange::To)
    }

    /// The same change, but a full voter stays that was to leave, because so many of the new ones are not heard that
    /// the change could not end. One at a time, and chosen before the next: the quorums of what it would have ended
    /// in, which another leader may have in its log, meet those of what it ends in now.
    fn with_one_kept(&self, now: BootTime, leader: &Leader) -> Option<Membership> {
        let present = self.memberships.current();
        let answers = |id| self.answers(leader, now, id);
        if present.whole().secured_after(answers) == Some(true) {
            return None; // They only have to catch up.
        }
        if present.is_degraded() {
            return None; // Then not all quorums that may count are those of the log: an arbiter keeps others.
        }
        let leaves = |member: &Member| matches!(member.role, Role::Leaving | Role::Demoted);
        let mut leaving = present.members().filter(|(_, it)| leaves(it) && it.kind.may_lead());
        let (kept, _) = leaving.find(|(id, _)| answers(*id))?;
        let role = |id, role| if id == kept { Role::Voter } else { role };
        let member =
            |(id, it): (ReplicaId, &Member)| (id, Member { role: role(id, it.role), ..*it });
        let next = Membership::new(present.members().map(member).collect()).ok()?;
        let next = next.in_history(present.history());
        (next.follows(present) && next.follows(&present.in_the_end())).then_some(next)
    }

    /// Ends a change whose joint membership is chosen, hands over to somebody who stays, sets voters aside that
    /// are not heard, or takes them back.
    pub(crate) fn on_continue_change(&mut self, now: BootTime, out: &mut Output) {
        match self.next_change(now) {
            Some(NextChange::To(membership)) => {
                self.propose_membership(now, &membership, out);
            }
            Some(NextChange::HandOver) => self.on_hand_over(now, None, out),
            None => {}
        }
    }

    /// True if a learner has nearly all of the log and its rows, and answers.
    pub(crate) fn may_vote(&self, now: BootTime, id: ReplicaId) -> bool {
        let Duty::Leader(leader) = &self.duty else {
            return false;
        };
        let (log_bytes, is_learner) =
            (self.log.tail().log_bytes, self.memberships.current().get(id).is_some());
        let is_near = |peer: &Progress| {
            let lag = peer.standing.map(|it| log_bytes.saturating_sub(it.log_bytes));
            let has_log = lag.is_some_and(|lag| lag < VOTER_LAG_BYTES_MAX)
                && !peer.behind
                && peer.slot_refilling.is_none();
            has_log || peer.is_arbiter
        };
        is_learner && leader.peers.get(&id).is_some_and(is_near) && self.is_fit(now, id)
    }

    /// True if it answered a heartbeat not long ago, and has rows that go with its log.
    fn is_fit(&self, now: BootTime, id: ReplicaId) -> bool {
        let Duty::Leader(leader) = &self.duty else {
            return false;
        };
        let heard_since = self.heard_since(now);
        let member = self.memberships.current().get(id);
        let needs_rows = member.is_none_or(|member| member.kind.may_lead());
        let has_rows = |standing: &Standing| standing.health.fatal_faults < Health::CANNOT_LEAD;
        let is_fit = |peer: &Progress| {
            lives(peer, heard_since)
                && (!needs_rows || peer.standing.as_ref().is_some_and(has_rows))
        };
        id == self.options.replica || leader.peers.get(&id).is_some_and(is_fit)
    }

    /// The membership in force is another one: whoever leads sends the log to those who are in it. Who is in
    /// it no more is sent the log until it knows that.
    pub(crate) fn seat_peers(&mut self) {
        let own = self.options.replica;
        let first = self.log.last().slot;
        // Who is needed by a membership before that still counts is heard, whether it stays or not.
        let needed = self.counting().flat_map(|at| at.membership.members());
        let needed = needed.filter(|(id, it)| it.role.votes() && *id != own);
        let needed: BTreeMap<ReplicaId, bool> =
            needed.map(|(id, it)| (id, it.kind == ReplicaKind::Arbiter)).collect();
        let current = self.memberships.current();
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        for (id, is_arbiter) in &needed {
            let peer = leader.peers.entry(*id).or_insert_with(|| Progress::new(first, false));
            peer.is_arbiter = *is_arbiter;
        }
        leader.peers.retain(|id, peer| {
            current.get(*id).is_some() || !peer.is_leaving || needed.contains_key(id)
        });
        let may_lead = |id| {
            let is_full = |member: &Member| member.kind.may_lead() && member.role.votes_after();
            current.get(id).is_some_and(is_full)
        };
        for (id, peer) in &mut leader.peers {
            peer.may_lead = may_lead(*id);
            peer.is_leaving = current.get(*id).is_none();
            peer.left_told_at = None;
        }
        for (id, member) in current.members().filter(|(id, _)| *id != own) {
            let may_lead = may_lead(id);
            let peer = leader.peers.entry(id).or_insert_with(|| Progress::new(first, may_lead));
            peer.is_arbiter = member.kind == ReplicaKind::Arbiter;
        }
    }
}

impl Replica {
    /// Goes on under another id, because this one has left and is not used again. Log and promise stay what they
    /// are: more than a new replica needs. The id must be durable.
    #[must_use]
    pub fn rename(&mut self, now: BootTime, replica: ReplicaId) -> Output {
        let mut out = Output::default();
        if !matches!(self.duty, Duty::Follower { .. }) {
            self.become_follower(now, None, &mut out);
        }
        self.options.replica = replica;
        self.options.pinned = false;
        out
    }

    /// True for an answer to this leader that nobody can give, by somebody who is no member: a replica whose disk
    /// or memory is not what it was, or one of another history of the group. It counts nowhere, and must not
    /// stop whoever hears it. (Members run our code on what they were sent: of theirs it is asserted.)
    #[must_use]
    pub fn is_absurd(&self, now: BootTime, from: ReplicaId, message: &Message) -> bool {
        if self.membership().get(from).is_some() || !matches!(self.duty, Duty::Leader(_)) {
            return false;
        }
        let last = self.log.last().slot;
        match message {
            Message::Accepted(msg) => msg.ballot == self.promised && last < msg.slot_synced,
            Message::HeartbeatAck(msg) => {
                msg.ballot == self.promised && (last < msg.slot_synced || now < msg.sent_at)
            }
            Message::Mismatch(msg) => {
                msg.ballot == self.promised && last < msg.last.slot.max(msg.slot_committed)
            }
            _ => false,
        }
    }

    /// Somebody runs who is no member, and does not know that yet: he gets the log until he does.
    pub(crate) fn note_stranger(&mut self, from: ReplicaId) {
        let first = self.log.last().slot;
        let at = self.memberships.last();
        let is_stranger = at.id.slot <= self.slot_committed && at.membership.get(from).is_none();
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        let has_room = leader.peers.len() < 2 * limits::GROUP_MEMBERS_MAX;
        if is_stranger && has_room {
            let stranger = leader.peers.entry(from).or_insert_with(|| Progress::new(first, false));
            stranger.is_leaving = true;
        }
    }
}

impl Leader {
    /// A heartbeat goes out that says how far the log is chosen. Whoever left hears of it with that.
    pub(crate) fn note_left_told(&mut self, now: BootTime, is_chosen: bool) {
        for peer in self.peers.values_mut().filter(|peer| peer.is_leaving && is_chosen) {
            peer.left_told_at.get_or_insert(now);
        }
    }

    /// Forgets a replica that knows that it has left. One that never says so is told until the next change
    /// or the next leader.
    pub(crate) fn forget_left(&mut self, from: ReplicaId, since: EntryId, sent_at: BootTime) {
        let knows = |peer: &Progress| {
            peer.is_leaving
                && peer.left_told_at.is_some_and(|at| at <= sent_at)
                && since.slot <= peer.slot_synced
        };
        if self.peers.get(&from).is_some_and(knows) {
            self.peers.remove(&from);
        }
    }
}
