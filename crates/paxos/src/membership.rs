//! Who takes part in a group, and what a quorum of them is.
//!
//! A membership is an entry of the log, in force at a replica from the moment it is appended there. Voters
//! change only through a *joint* membership, in which quorums of the old and of the new voters are
//! needed; the next entry ends it (Ongaro's thesis, section 4.3). Replicas join as learners first, which
//! count nowhere, so that a group never waits for one that has no log yet.
//!
//! Two kinds of quorum: one *accepts* when a majority of the voters that keep the log has an entry on disk;
//! one *votes* when a majority of all voters, an arbiter among them, has promised. Any two of a membership
//! have a log in common, because there is at most one arbiter (Howard, Malkhi and Spiegelman, "Flexible
//! Paxos": only these two must meet).
//!
//! `membership/history.rs` keeps the memberships that may count, `membership/code.rs` has their bytes,
//! `change.rs` is the leader's part.

mod code;
mod history;

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::{EntryId, ReplicaId, ReplicaKind, limits};

pub use code::MembershipError;
pub use history::MembershipAt;
pub(crate) use history::Memberships;
pub use quorate_types::MemberRole as Role;

use crate::quorum::reached_by;

/// One member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its rank in the leader order, 0 first.
    pub rank: u16,
    /// What it counts for.
    pub role: Role,
    /// What it holds. Constant, but for full and read-only.
    pub kind: ReplicaKind,
}

/// Which life of a group this is. Forced recovery begins another one, in which some entries may not be that
/// were acknowledged in the one before; replicas of different histories never count together (`force.rs`). Of
/// two the greater one counts: two that began by mistake from the same one are told apart by their entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct History {
    /// 0 at first, raised by one by each forced recovery.
    pub number: u32,
    /// The entry that it began with; zero for the first one.
    pub since: EntryId,
}

/// The members of a group at some entry of its log.
///
/// Invariants: at most [`limits::GROUP_MEMBERS_MAX`]; a full voter before and after, unless there is no member
/// at all, which is how a replica starts that nobody has taken in yet; of all voters
/// more are full than may be lost at once; at most one arbiter votes before, and one after; read-only members never
/// vote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    members: BTreeMap<ReplicaId, Member>,
    /// Old and new voters differ.
    is_joint: bool,
    history: History,
}

impl Membership {
    /// Members with their roles.
    ///
    /// # Errors
    /// `MembershipError` if there are too many, or old or new voters are missing.
    pub fn new(members: BTreeMap<ReplicaId, Member>) -> Result<Membership, MembershipError> {
        if limits::GROUP_MEMBERS_MAX < members.len() {
            return Err(MembershipError::TooMany(members.len()));
        }
        if members.values().any(|it| it.kind == ReplicaKind::ReadOnly && it.role.wants_vote()) {
            return Err(MembershipError::ReadOnlyVoter);
        }
        for votes in [Role::votes_before, Role::votes_after] {
            let voters = || members.values().filter(|member| votes(member.role));
            if !members.is_empty() && !voters().any(|member| member.kind.may_lead()) {
                return Err(MembershipError::NoVoter);
            }
            // Else the loss of as many as the group is made for could leave the log alone, and nobody to lead.
            let wants = |it: &&Member| votes(it.role) || it.role == Role::Suspended;
            let wanted = || members.values().filter(wants);
            let full = wanted().filter(|member| member.kind.may_lead()).count();
            if full < wanted().count().div_ceil(2) {
                return Err(MembershipError::TooFewFull);
            }
            if 1 < voters().filter(|member| member.kind == ReplicaKind::Arbiter).count() {
                return Err(MembershipError::Arbiters);
            }
        }
        let is_joint = members.values().any(|it| it.role.votes_before() != it.role.votes_after());
        Ok(Membership { members, is_joint, history: History::default() })
    }

    /// The same members in another history.
    #[must_use]
    pub fn in_history(self, history: History) -> Membership {
        Membership { history, ..self }
    }

    /// The history that they are members in.
    #[must_use]
    pub fn history(&self) -> History {
        self.history
    }

    /// Voters alone: how a group begins.
    ///
    /// # Panics
    /// If they are none or too many.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = (ReplicaId, u16)>) -> Membership {
        let member = |(id, rank)| (id, Member { rank, role: Role::Voter, kind: ReplicaKind::Full });
        let members: BTreeMap<_, _> = voters.into_iter().map(member).collect();
        assert!(!members.is_empty(), "a group begins with voters");
        Membership::new(members).expect("a group begins within the limits")
    }

    /// The members in order of their ids.
    pub fn members(&self) -> impl Iterator<Item = (ReplicaId, &Member)> + '_ {
        self.members.iter().map(|(id, member)| (*id, member))
    }

    /// A member.
    #[must_use]
    pub fn get(&self, id: ReplicaId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// True while a change of voters is under way: two quorums are needed.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.is_joint
    }

    /// True if the replica counts in some quorum.
    #[must_use]
    pub fn has_voter(&self, id: ReplicaId) -> bool {
        self.get(id).is_some_and(|member| member.role.votes())
    }

    /// True if the replica counts in the quorums that stay.
    #[must_use]
    pub fn keeps_voter(&self, id: ReplicaId) -> bool {
        self.get(id).is_some_and(|member| member.role.votes_after())
    }

    /// True if an arbiter votes: who takes part is told to it, and members that are not heard are set
    /// aside.
    #[must_use]
    pub fn has_arbiter(&self) -> bool {
        self.arbiters().next().is_some()
    }

    /// The arbiters that vote: one, or two while one takes the place of the other.
    pub fn arbiters(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        let is_one = |member: &Member| member.kind == ReplicaKind::Arbiter && member.role.votes();
        self.members.iter().filter(move |(_, member)| is_one(member)).map(|(id, _)| *id)
    }

    /// True if a voter keeps the log only.
    #[must_use]
    pub fn has_log_only(&self) -> bool {
        let is_one = |it: &Member| it.kind == ReplicaKind::LogOnly && it.role.votes();
        self.members.values().any(is_one)
    }

    /// True if voters are set aside: entries are chosen on fewer disks than the group was made for.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.members.values().any(|member| member.role == Role::Suspended)
    }

    /// The same with everybody a voter who was set aside.
    pub(crate) fn whole(&self) -> Membership {
        let whole = |role| if role == Role::Suspended { Role::Voter } else { role };
        let member =
            |(id, it): (&ReplicaId, &Member)| (*id, Member { role: whole(it.role), ..*it });
        let members = self.members.iter().map(member).collect();
        Membership { members, ..*self }
    }

    /// True if those for whom this holds are a quorum that votes: a majority of the voters; of the old and of
    /// the new ones while a change is under way.
    pub fn is_quorum(&self, has: impl Fn(ReplicaId) -> bool) -> bool {
        self.reached(has) == Some(true)
    }

    /// True if those for whom this holds are a quorum that accepts.
    pub fn accepts_with(&self, has: impl Fn(ReplicaId) -> bool) -> bool {
        self.accepted(has) == Some(true)
    }

    /// The greatest value that a quorum that votes has reached. `None` if there are no voters.
    pub(crate) fn reached<T: Copy + Ord>(&self, value: impl Fn(ReplicaId) -> T) -> Option<T> {
        self.reached_in_both(|_| true, 0, value)
    }

    /// The greatest value that a quorum that accepts has reached. `None` if there are no voters.
    pub(crate) fn accepted<T: Copy + Ord>(&self, value: impl Fn(ReplicaId) -> T) -> Option<T> {
        self.accepted_by_fewer(0, value)
    }

    /// The same with quorums that are smaller than majorities: what a planted bug takes for enough.
    pub(crate) fn accepted_by_fewer<T: Copy + Ord>(
        &self,
        fewer: usize,
        value: impl Fn(ReplicaId) -> T,
    ) -> Option<T> {
        self.reached_in_both(ReplicaKind::keeps_log, fewer, value)
    }

    /// The greatest value that more full voters have reached than may be lost at once, by the size of the
    /// group: nobody else needs to keep it. `None` if there are too few full voters for that.
    pub(crate) fn secured<T: Copy + Ord>(&self, value: impl Fn(ReplicaId) -> T) -> Option<T> {
        let before = self.secured_among(Role::votes_before, &value)?;
        Some(before.min(self.secured_after(value)?))
    }

    /// The same by those alone who vote once the change under way is over.
    pub(crate) fn secured_after<T: Copy + Ord>(&self, value: impl Fn(ReplicaId) -> T) -> Option<T> {
        self.secured_among(Role::votes_after, &value)
    }

    fn secured_among<T: Copy + Ord>(
        &self,
        votes: fn(Role) -> bool,
        value: &impl Fn(ReplicaId) -> T,
    ) -> Option<T> {
        let counts = |it: &&Member| votes(it.role);
        let quorum = self.members.values().filter(counts).count().div_ceil(2);
        let full = |it: &Member| votes(it.role) && it.kind.may_lead();
        let full = self.members.iter().filter(|(_, it)| full(it));
        reached_by(quorum, full.map(|(id, _)| value(*id)).collect::<Vec<_>>().into_iter())
    }

    fn reached_in_both<T: Copy + Ord>(
        &self,
        counts: fn(ReplicaKind) -> bool,
        fewer: usize,
        value: impl Fn(ReplicaId) -> T,
    ) -> Option<T> {
        let after = self.reached_among(Role::votes_after, counts, fewer, &value)?;
        if !self.is_joint {
            return Some(after);
        }
        let before = self.reached_among(Role::votes_before, counts, fewer, &value)?;
        Some(after.min(before))
    }

    fn reached_among<T: Copy + Ord>(
        &self,
        votes: fn(Role) -> bool,
        counts: fn(ReplicaKind) -> bool,
        fewer: usize,
        value: &impl Fn(ReplicaId) -> T,
    ) -> Option<T> {
        // Looked up once each: this runs for every answer of every follower.
        let mut values = [None; limits::GROUP_MEMBERS_MAX];
        let mut count = 0;
        let counted = |member: &Member| votes(member.role) && counts(member.kind);
        for (id, _) in self.members.iter().filter(|(_, member)| counted(member)) {
            values[count] = Some(value(*id));
            count += 1;
        }
        let quorum = (count / 2 + 1).saturating_sub(fewer).max(1);
        reached_by(quorum, values[..count].iter().copied()).flatten()
    }

    /// True if no two quorums that must meet miss each other where this comes after `before`: what votes in one has a
    /// log in common with what accepts in the other. (Not for memberships that set voters aside: see
    /// `arbiter.rs`.)
    #[must_use]
    pub fn follows(&self, before: &Membership) -> bool {
        let voters = before.members().chain(self.members()).filter(|(_, it)| it.role.votes());
        let ids: Vec<ReplicaId> =
            voters.map(|(id, _)| id).collect::<BTreeSet<_>>().into_iter().collect();
        let meet = |votes: &Membership, accepts: &Membership| {
            (0..1_u32 << ids.len()).all(|set| {
                let has = |id| ids.binary_search(&id).is_ok_and(|at| set >> at & 1 == 1);
                !(votes.is_quorum(has) && accepts.accepts_with(|id| !has(id)))
            })
        };
        self.is_degraded() || (meet(self, before) && meet(before, self))
    }

    /// The membership after the change that is under way.
    pub(crate) fn in_the_end(&self) -> Membership {
        let stays = |(id, member): (&ReplicaId, &Member)| {
            member.role.in_the_end().map(|role| (*id, Member { role, ..*member }))
        };
        let members = self.members.iter().filter_map(stays).collect();
        Membership { members, is_joint: false, history: self.history }
    }
}

#[cfg(test)]
mod tests;
