//! Sets voters aside that are not heard, in groups with an arbiter, and takes them back. Called by `change.rs` and
//! `leader.rs`.
//!
//! Two replicas and an arbiter choose nothing while one of the two is gone: the arbiter has no log. So after
//! [`Timing::suspend_after`] the leader puts a membership into its log that sets the silent one aside. It is the one
//! exception to "in force from when it is in the log": it counts only when the leader and the arbiter have it on
//! disk (`arbiter.rs`), because the one that is set aside does not take part in choosing it. Each leader logs
//! it again under its own ballot before it counts by it: what an arbiter keeps is then always later than any
//! way back that only the one set aside has in its log.
//!
//! The way back is a joint membership like any other: from when it is in the log nothing is chosen
//! without the one that returns.
//!
//! [`Timing::suspend_after`]: crate::Timing

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_types::{BootTime, ReplicaId, Slot};

use crate::batch::{Batch, BatchKind};
use crate::leader::Leader;
use crate::membership::{Member, Membership, MembershipAt, Role};
use crate::output::Output;
use crate::priority::{Health, Standing};
use crate::replica::{Duty, Replica};

impl Leader {
    /// Notes since when nothing is chosen although there is something to choose.
    pub(crate) fn note_stall(&mut self, now: BootTime, slot_committed: Slot, last: Slot) {
        let since = self.stalled.filter(|(slot, _)| *slot == slot_committed).map(|(_, at)| at);
        let has_more = slot_committed < last;
        self.stalled = has_more.then(|| (slot_committed, since.unwrap_or(now)));
    }
}

impl Replica {
    /// A new leader puts the membership into its log once more, where there is an arbiter: what that keeps is
    /// of the last leader then, whatever became of memberships that only some had.
    pub(crate) fn log_seats_again(&mut self, told: Option<MembershipAt>, out: &mut Output) {
        let present = told.unwrap_or_else(|| self.memberships.last().clone()).membership;
        if !present.has_arbiter() && !present.is_degraded() {
            return;
        }
        let tail = self.tail();
        let payload: [Bytes; 1] = [present.encode()];
        let kind = BatchKind::Membership;
        self.append(Batch::new(kind, self.promised, tail, tail.log_time, &payload), out);
        self.tell_arbiters(out);
    }

    /// The membership without the voters that are not heard, if nothing can be chosen with them, and could
    /// without.
    pub(crate) fn without_unheard(&self, now: BootTime) -> Option<Membership> {
        let Duty::Leader(leader) = &self.duty else {
            return None;
        };
        let present = self.memberships.current();
        let own = self.options.replica;
        if !present.has_arbiter() || leader.handover.is_some() {
            return None;
        }
        let answers = |id| self.answers(leader, now, id);
        if present.accepts_with(answers) {
            return None;
        }
        // A change that only adds goes on by itself later. Any other is given up: whoever asked for it has to ask
        // again.
        let mut present_roles = present.members().map(|(_, member)| member.role);
        let only_adds = !present_roles.any(|role| matches!(role, Role::Leaving | Role::Demoted));
        let role = |id: ReplicaId, member: &Member| match member.role {
            Role::Voter | Role::Leaving | Role::Demoted => {
                let stays = answers(id) || !member.kind.keeps_log();
                if stays { Role::Voter } else { Role::Suspended }
            }
            Role::Joining if member.kind.keeps_log() && (only_adds || !answers(id)) => {
                Role::Suspended
            }
            Role::Joining | Role::Learner => Role::Learner,
            Role::Suspended => Role::Suspended,
        };
        let member = |(id, it): (ReplicaId, &Member)| (id, Member { role: role(id, it), ..*it });
        let members: BTreeMap<ReplicaId, Member> = present.members().map(member).collect();
        let next = Membership::new(members).ok()?.in_history(present.history());
        let would_do = next.accepts_with(answers)
            && next.is_quorum(answers)
            && self.counting().all(|at| at.membership.is_quorum(answers));
        (would_do && next.keeps_voter(own) && next.is_degraded() && next != *present)
            .then_some(next)
    }

    /// True if a member is not known to be away: it was heard lately, and is not what everything waits for.
    pub(crate) fn answers(&self, leader: &Leader, now: BootTime, id: ReplicaId) -> bool {
        let Some(peer) = leader.peers.get(&id) else {
            return id == self.options.replica;
        };
        let patience = self.options.timing.suspend_after;
        let is_heard =
            now < peer.heard_at.unwrap_or(leader.elected_at).max(leader.elected_at) + patience;
        let stalled = leader.stalled.filter(|(_, since)| *since + patience <= now);
        let holds_up = stalled.is_some_and(|(slot, _)| peer.slot_synced <= slot);
        is_heard && (peer.is_arbiter || !holds_up)
    }

    /// The joint membership that takes back who was set aside and has the log again.
    pub(crate) fn with_suspended(&self, now: BootTime) -> Option<Membership> {
        let Duty::Leader(leader) = &self.duty else {
            return None;
        };
        let present = self.memberships.current();
        if !present.is_degraded() || leader.handover.is_some() {
            return None;
        }
        let keeps_up =
            |id| leader.peers.get(&id).is_some_and(|it| leader.chosen_before <= it.slot_synced);
        let returns = |id| keeps_up(id) && self.may_vote(now, id);
        let role = |id, role| match role {
            Role::Suspended if returns(id) => Role::Joining,
            other => other,
        };
        let member =
            |(id, it): (ReplicaId, &Member)| (id, Member { role: role(id, it.role), ..*it });
        let next = Membership::new(present.members().map(member).collect()).ok()?;
        let next = next.in_history(present.history());
        next.is_joint().then_some(next)
    }

    /// More full voters have everything through here on disk than may be lost at once.
    pub(crate) fn slot_secured(&self) -> Slot {
        let Duty::Leader(leader) = &self.duty else {
            return Slot::ZERO;
        };
        let present = self.memberships.current();
        if present.members().all(|(_, member)| member.kind.keeps_rows()) {
            return Slot::ZERO; // Nobody asks.
        }
        let secured = present.whole().secured(|id| self.slot_secured_at(leader, id));
        secured.unwrap_or(Slot::ZERO).min(self.slot_committed)
    }

    /// True if more of those full voters who stay have everything through here on disk than may be lost at once.
    pub(crate) fn is_secured_after_change(&self, leader: &Leader, slot: Slot) -> bool {
        let has_all = |id| slot <= self.slot_secured_at(leader, id);
        self.memberships.current().whole().secured_after(has_all) == Some(true)
    }

    /// Where rows are on their way, the log begins behind them, and they may be lost on it.
    fn slot_secured_at(&self, leader: &Leader, id: ReplicaId) -> Slot {
        let standing = leader.peers.get(&id).map(|peer| peer.standing);
        let can_lead = |it: Standing| it.health.fatal_faults < Health::CANNOT_LEAD;
        let has_rows = standing.is_none_or(|standing| standing.is_some_and(can_lead));
        if has_rows { self.synced_at(leader, id) } else { Slot::ZERO }
    }
}
