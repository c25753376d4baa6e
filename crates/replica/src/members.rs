//! Who takes part in a group: what a leader is asked about it, and what its driver does while that changes.
//! Called by `shard.rs`.
//!
//! The core has the rules. The driver hands changes in when nothing is evaluated that is not proposed yet,
//! goes on with those under way, and lets a new replica take the place of one on the same node that lost
//! its disk: first as a learner, then, once it has what it needs, as a voter.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_paxos::{
    ChangeRequest, Input, Member, MemberView, Membership, MembershipAt, NotChanged, Seat,
};
use quorate_types::{
    BootTime, Code, EntryId, Error, GroupId, MemberRole, NodeId, ReplicaId, ReplicaKind,
};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::event::{Departed, MembersStatus, Own, Presence};
use crate::force::Fate;
use crate::group::{Effects, Fatal, GroupDriver};
use crate::refuse;

/// Requests for changes that wait at once. Beyond: `OVERLOADED`.
const WAITING_MAX: usize = 64;

type ChangeReply = oneshot::Sender<Result<EntryId, Error>>;

/// The part of a group that changes of its members take.
#[derive(Default)]
pub(crate) struct MembersDriver {
    /// What the core said of the change it was asked for last.
    pub(crate) changed: Option<Result<EntryId, NotChanged>>,
    /// The membership that was sent to the promise file last.
    pub(crate) stored: MembershipAt,
    /// Nobody has taken it in under the id that it has now, as far as is known here. It reads first in its log who took
    /// part before it: that it is none of those does not mean that it has left. Kept beside the members.
    is_awaited: bool,
    /// The id that it had before, since the start.
    former: Option<ReplicaId>,
    /// The last members that other nodes have told of. They are chosen.
    pub(crate) heard: MembershipAt,
    /// Who waits until the entry that began his change is chosen.
    waiting: Vec<(EntryId, ChangeReply)>,
}

impl GroupDriver {
    /// Who takes part, if this replica leads.
    pub(crate) fn members(&self, now: BootTime) -> Result<MembersStatus, Error> {
        self.serving(now)?;
        let at = self.core.membership_at().clone();
        let views = self.core.member_views(now);
        let heard_ago = views.iter().map(|view| view.heard_at.map(|at| now.since(at))).collect();
        Ok(MembersStatus {
            is_chosen: at.id.slot <= self.core.slot_committed(),
            at,
            leader: self.options.paxos.replica,
            views,
            heard_ago,
            slot_last: self.core.log().last().slot,
        })
    }

    /// This replica, what it holds, and whether it is a member, as far as that is applied or heard here.
    pub(crate) fn own(&self) -> Own {
        let own = self.options.paxos.replica;
        // What the log says above may be that it has left.
        let is_in = |members: &Membership| members.get(own).is_some();
        let applied = &self.core.applied_membership().membership;
        let is_member = is_in(applied) && is_in(self.core.membership());
        let is_member = is_member && !self.has_left();
        let presence = if is_member { Presence::Member } else { Presence::NoMember };
        Own { replica: own, kind: self.kind(), presence }
    }

    /// How many voters are set aside until they are back.
    pub(crate) fn suspended(&self) -> usize {
        let members = self.core.membership().members();
        members.filter(|(_, member)| member.role == MemberRole::Suspended).count()
    }

    /// Other nodes tell of members, which are chosen.
    pub(crate) fn hear_members(&mut self, at: MembershipAt) {
        let is_ours = at.membership.history() == self.core.history();
        if is_ours && at.is_after(&self.members.heard) {
            self.members.heard = at;
        }
    }

    /// Nobody may ever tell it that it has left: who has left is sent nothing any more. A learner that was away does not
    /// run for leadership either, and so meets no leader; a voter may have the entry that it left by in its log, and
    /// never hear that it is chosen. What other nodes tell of is.
    fn has_left_unsaid(&self) -> bool {
        let (applied, known) = (self.core.applied_membership(), self.core.membership_at());
        let has_own = |at: &MembershipAt| at.membership.get(self.options.paxos.replica).is_some();
        let was_in = has_own(applied) || has_own(known);
        let heard = &self.members.heard;
        was_in && heard.is_after(applied) && !has_own(heard) && !has_own(self.last_members())
    }

    /// The last members that are known here or that other nodes have told of.
    fn last_members(&self) -> &MembershipAt {
        let (heard, known) = (&self.members.heard, self.core.membership_at());
        // Of two that are as old as each other the one that is known may not be chosen.
        if known.is_after(heard) { known } else { heard }
    }

    /// True if it was a member and knows that it is none any more.
    pub(crate) fn has_left(&self) -> bool {
        let applied = &self.core.applied_membership().membership;
        let own = self.options.paxos.replica;
        let is_none = |members: &Membership| members.get(own).is_none();
        let knows = is_none(applied) && is_none(self.core.membership());
        (knows && !self.members.is_awaited) || self.has_left_unsaid()
    }

    /// Since when it has left, by the last members that are known here, if it may go for good. One that is outlived
    /// stays: it may be the only place where what was lost can still be read.
    pub(crate) fn departed(&self) -> Option<Departed> {
        if !self.has_left() || self.core.is_outlived() {
            return None;
        }
        let since = self.last_members();
        let replica = self.options.paxos.replica;
        let is_out = since.membership.get(replica).is_none();
        is_out.then(|| Departed { group: self.group, replica, since: since.clone() })
    }

    /// For the promise file, beside its members.
    pub(crate) fn fate(&self) -> Fate {
        if self.core.is_outlived() {
            Fate::Outlived
        } else if self.members.is_awaited {
            Fate::Awaited
        } else {
            Fate::Present
        }
    }

    /// True if this replica is a member by exactly these members, has applied everything through the entry they came
    /// with, and so counts by no earlier ones ever again. An arbiter keeps them.
    pub(crate) fn is_sure_of(&self, at: &MembershipAt) -> bool {
        let core = &self.core;
        let is_member = at.membership.get(self.options.paxos.replica).is_some();
        let has_applied =
            !self.kind().keeps_log() || (at.id.slot <= core.slot_applied() && !core.rows_missing());
        let is_fit = !core.is_outlived() && !core.is_crossing() && !core.is_log_suspect();
        is_member && core.membership_at() == at && has_applied && is_fit
    }

    /// True if nobody has taken it in yet.
    pub(crate) fn was_never_in(&self) -> bool {
        let own = self.options.paxos.replica;
        self.members.is_awaited && self.core.membership().get(own).is_none()
    }

    /// Goes on under another id.
    pub(crate) fn rename(
        &mut self,
        now: BootTime,
        replica: ReplicaId,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        self.members.former = Some(self.options.paxos.replica);
        self.members.is_awaited = true;
        self.options.paxos.replica = replica;
        self.options.paxos.pinned = false;
        let out = self.core.rename(now, replica);
        self.carry_out(now, out, &mut VecDeque::new(), fx)
    }

    /// True if this is the replica, or was: what is done for it elsewhere goes on when it gets another id.
    pub(crate) fn is_or_was(&self, replica: ReplicaId) -> bool {
        self.options.paxos.replica == replica || self.members.former == Some(replica)
    }

    /// The membership as it is applied, if the promise file was not told of it.
    pub(crate) fn unstored_membership(&mut self) -> Option<MembershipAt> {
        if !self.kind().keeps_log() {
            return None; // Its core says which one it is to keep.
        }
        let at = self.core.applied_membership();
        let is_news = at.is_after(&self.members.stored);
        let at = is_news.then(|| at.clone())?;
        self.note_chosen(&at);
        Some(at)
    }

    /// The promise file had these members at the start.
    pub(crate) fn begin_with_members(&mut self, at: MembershipAt) {
        self.members.is_awaited = at.membership == Membership::default();
        self.members.stored = at;
    }

    /// The promise file says that nobody had taken it in.
    pub(crate) fn begin_awaited(&mut self) {
        self.members.is_awaited = true;
    }

    /// These members are chosen, and on their way to the promise file.
    pub(crate) fn note_chosen(&mut self, at: &MembershipAt) {
        self.members.stored = at.clone();
        self.note_own(at);
    }

    /// It goes by these, and may be one of them.
    pub(crate) fn note_own(&mut self, at: &MembershipAt) {
        self.members.is_awaited &= at.membership.get(self.options.paxos.replica).is_none();
    }

    /// Begins a change. The answer comes once it is chosen that it has begun.
    pub(crate) fn change_members(
        &mut self,
        now: BootTime,
        request: ChangeRequest,
        reply: ChangeReply,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        if WAITING_MAX <= self.members.waiting.len() {
            let error = Error::new(Code::Overloaded, "too many changes of members wait");
            answer(reply, Err(refuse::of_group(error, self.group)));
            return Ok(());
        }
        match self.try_change(now, request, fx)? {
            Ok(entry) => self.members.waiting.push((entry, reply)),
            Err(why) => answer(reply, Err(refused(self.group, why))),
        }
        Ok(())
    }

    fn try_change(
        &mut self,
        now: BootTime,
        request: ChangeRequest,
        fx: &mut Effects,
    ) -> Result<Result<EntryId, NotChanged>, Fatal> {
        self.propose(now, fx)?; // Slots were given out that come before.
        self.step(now, Input::Change(request), fx)?;
        Ok(self.members.changed.take().expect("the core answers a change at once"))
    }

    /// A replica that was made in the place of one on the same node wants to be a member.
    pub(crate) fn join(
        &mut self,
        now: BootTime,
        replica: ReplicaId,
        kind: ReplicaKind,
        fx: &mut Effects,
    ) -> Result<Result<(), Error>, Fatal> {
        let group = self.group;
        if let Err(error) = self.serving(now) {
            return Ok(Err(error));
        }
        let at = self.core.membership_at();
        if at.membership.get(replica).is_some() {
            return Ok(Ok(()));
        }
        let before = at.membership.members().filter(|(id, _)| id.node() == replica.node());
        let before: Vec<(ReplicaId, Member)> = before.map(|(id, member)| (id, *member)).collect();
        let Some((_, place)) = before.first().copied() else {
            let node = replica.node();
            let message =
                format!("no member of {group} is on {node}: add it with `quorate group add`");
            let error = Error::new(Code::InvalidRequest, message);
            return Ok(Err(refuse::of_group(error, group)));
        };
        if !kind.holds_as(place.kind) {
            let (node, was) = (replica.node(), place.kind);
            let message = format!(
                "the member of {group} on {node} is {was} and this replica is {kind}: remove that one with `quorate \
                 group remove`, then add this one"
            );
            let error = Error::new(Code::InvalidRequest, message);
            return Ok(Err(refuse::of_group(error, group)));
        }
        let expected = at.id;
        let mut members = seats(&at.membership);
        // A learner that is not there any more is of no use to anybody.
        for (id, _) in before.iter().filter(|(_, member)| member.role == MemberRole::Learner) {
            members.remove(id);
        }
        members.insert(replica, Seat { rank: place.rank, kind: place.kind, votes: false });
        info!(%group, %replica, "takes a replica in that comes in the place of another");
        let begun = self.try_change(now, ChangeRequest { expected, members }, fx)?;
        Ok(begun.map(|_| ()).map_err(|why| refused(group, why)))
    }

    /// Goes on with what is under way: ends a change of voters, makes a learner the voter in whose place it
    /// came, answers who waits. Called after everything else of a round.
    pub(crate) fn tick_members(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        if self.core.is_change_due(now) {
            self.propose(now, fx)?; // Slots were given out that come before.
            self.step(now, Input::ContinueChange, fx)?;
        }
        if self.members.waiting.is_empty() {
            return Ok(());
        }
        let (group, committed) = (self.group, self.core.slot_committed());
        let leads = self.core.serving(now).is_ok();
        let log = self.core.log();
        self.members.waiting = std::mem::take(&mut self.members.waiting)
            .into_iter()
            .filter_map(|(entry, reply)| {
                if entry.slot <= committed {
                    let is_ours = log.holds(entry);
                    let lost = || refused(group, NotChanged::Stale(entry));
                    answer(reply, if is_ours { Ok(entry) } else { Err(lost()) });
                    None
                } else if leads {
                    Some((entry, reply))
                } else {
                    answer(reply, Err(refuse::outcome_unknown(group, None)));
                    None
                }
            })
            .collect();
        Ok(())
    }

    /// Lets a learner take the place of a voter of the same node that is heard no more, once it can vote. Called now
    /// and then. A node has one replica of a group: what is heard no more beside one that is heard never
    /// comes back, and so it goes, too, where somebody has let the new one vote already.
    pub(crate) fn heal_members(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        let at = self.core.membership_at();
        if at.membership.is_joint() || self.core.serving(now).is_err() {
            return Ok(());
        }
        let views = self.core.member_views(now);
        let mut replaced = views.iter().filter(|new| new.is_fit).filter_map(|new| {
            let is_lost =
                |old: &&MemberView| old.replica.node() == new.replica.node() && !old.is_fit;
            Some((new, views.iter().find(is_lost)?))
        });
        let Some((new, old)) = replaced.next() else {
            return Ok(());
        };
        let expected = at.id;
        let votes = new.member.role.wants_vote() || old.member.role.wants_vote();
        let (rank, kind) = (old.member.rank, new.member.kind);
        let (new, old) = (new.replica, old.replica);
        let mut members = seats(&at.membership);
        members.remove(&old);
        members.insert(new, Seat { rank, kind, votes });
        match self.try_change(now, ChangeRequest { expected, members }, fx)? {
            Ok(entry) => {
                info!(group = %self.group, %old, %new, %entry, "a replica takes the place of another");
            }
            Err(why) => {
                warn!(group = %self.group, %old, %new, ?why, "a replica cannot take the place of another yet");
            }
        }
        Ok(())
    }
}

/// The nodes of those members that may lead, each once.
pub(crate) fn leader_nodes_of(membership: &Membership) -> Vec<NodeId> {
    let can_lead = membership.members().filter(|(_, member)| member.kind.may_lead());
    let nodes: BTreeSet<NodeId> = can_lead.map(|(id, _)| id.node()).collect();
    nodes.into_iter().collect()
}

/// What everybody is now.
fn seats(membership: &Membership) -> BTreeMap<ReplicaId, Seat> {
    let seat = |member: &Member| Seat {
        rank: member.rank,
        kind: member.kind,
        votes: member.role.wants_vote(),
    };
    membership.members().map(|(id, member)| (id, seat(member))).collect()
}

fn answer(reply: ChangeReply, answer: Result<EntryId, Error>) {
    let _gone = reply.send(answer).is_err(); // The caller may have left.
}

/// Why members do not change, for whoever asked.
fn refused(group: GroupId, why: NotChanged) -> Error {
    let error = match why {
        NotChanged::NotServing(reason) => return refuse::not_serving(group, reason),
        NotChanged::Stale(since) => {
            Error::new(Code::MembersChanged, format!("{group} has other members since {since}"))
        }
        NotChanged::InProgress => Error::new(
            Code::MembersChanged,
            format!("a change of the members of {group} is under way"),
        ),
        NotChanged::NoChange => {
            Error::new(Code::InvalidRequest, format!("these are the members of {group} already"))
        }
        NotChanged::Impossible => {
            let message = format!("{group} would have no voter, or too many members");
            Error::new(Code::InvalidRequest, message)
        }
        NotChanged::NotReady(id) => {
            let message = format!(
                "{id} cannot vote in {group} yet: it must be a learner that has nearly all of the log and its rows"
            );
            Error::new(Code::MemberNotReady, message).with("replica", id.0)
        }
        NotChanged::NoQuorum => {
            let message = format!(
                "too few voters of {group} live and have their rows, before or after the change"
            );
            Error::new(Code::NoQuorum, message)
        }
    };
    refuse::of_group(error, group)
}
