//! Who takes part in a group, and what a quorum of them is.
//!
//! A membership is an entry of the log, in force at a replica from the moment it is appended there. Voters
//! change only through a *joint* membership, in which quorums of the old and of the new voters are
//! needed; the next entry ends it (Ongaro's thesis, section 4.3). Replicas join as learners first, which
//! count nowhere, so that a group never waits for one that has no log yet.
//!
//! `membership/history.rs` keeps the memberships that may count, `membership/code.rs` has their bytes,
//! `change.rs` is the leader's part.

mod code;
mod history;

use std::collections::BTreeMap;

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
/// Invariants: at most [`limits::GROUP_MEMBERS_MAX`]; voters before and after, unless there is no member
/// at all, which is how a replica starts that nobody has taken in yet.
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
        let has = |votes: fn(Role) -> bool| members.values().any(|member| votes(member.role));
        let has_voters = has(Role::votes_before) && has(Role::votes_after);
        if !members.is_empty() && !has_voters {
            return Err(MembershipError::NoVoter);
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

    /// True if those for whom this holds are a majority of the voters; of the old and of the new ones
    /// while a change is under way.
    pub fn is_quorum(&self, has: impl Fn(ReplicaId) -> bool) -> bool {
        self.reached(has) == Some(true)
    }

    /// The greatest value that a quorum has reached. `None` if there are no voters.
    pub(crate) fn reached<T: Copy + Ord>(&self, value: impl Fn(ReplicaId) -> T) -> Option<T> {
        self.reached_by_fewer(0, value)
    }

    /// The same with quorums that are smaller than majorities: what a planted bug takes for enough.
    pub(crate) fn reached_by_fewer<T: Copy + Ord>(
        &self,
        fewer: usize,
        value: impl Fn(ReplicaId) -> T,
    ) -> Option<T> {
        let after = self.reached_among(Role::votes_after, fewer, &value)?;
        if !self.is_joint {
            return Some(after);
        }
        let before = self.reached_among(Role::votes_before, fewer, &value)?;
        Some(after.min(before))
    }

    fn reached_among<T: Copy + Ord>(
        &self,
        votes: fn(Role) -> bool,
        fewer: usize,
        value: &impl Fn(ReplicaId) -> T,
    ) -> Option<T> {
        // Looked up once each: this runs for every answer of every follower.
        let mut values = [None; limits::GROUP_MEMBERS_MAX];
        let mut count = 0;
        for (id, _) in self.members.iter().filter(|(_, member)| votes(member.role)) {
            values[count] = Some(value(*id));
            count += 1;
        }
        let quorum = (count / 2 + 1).saturating_sub(fewer).max(1);
        reached_by(quorum, values[..count].iter().copied()).flatten()
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
