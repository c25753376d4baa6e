//! Who takes part in a group, as operators and programs above the core see it.

use std::fmt;

use crate::{NodeId, ReplicaId};

/// What a member of a group counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberRole {
    /// Gets the log and applies it; counts in no quorum and never leads.
    Learner,
    /// Counts in every quorum.
    Voter,
    /// Counts among the new voters of a change that is under way.
    Joining,
    /// Counts among the old voters of a change that is under way, and is no member when it ends.
    Leaving,
    /// Counts among the old voters of a change that is under way, and is a learner when it ends.
    Demoted,
}

impl MemberRole {
    /// The word in tables and documents.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            MemberRole::Learner => "learner",
            MemberRole::Voter => "voter",
            MemberRole::Joining => "joining",
            MemberRole::Leaving => "leaving",
            MemberRole::Demoted => "demoted",
        }
    }

    /// Counts in the quorums from before a change, or at any time if there is none.
    #[must_use]
    pub fn votes_before(self) -> bool {
        matches!(self, MemberRole::Voter | MemberRole::Leaving | MemberRole::Demoted)
    }

    /// Counts in the quorums that stay.
    #[must_use]
    pub fn votes_after(self) -> bool {
        matches!(self, MemberRole::Voter | MemberRole::Joining)
    }

    /// Counts in some quorum.
    #[must_use]
    pub fn votes(self) -> bool {
        self != MemberRole::Learner
    }

    /// The role once the change is over; `None`: no member any more.
    #[must_use]
    pub fn in_the_end(self) -> Option<MemberRole> {
        match self {
            MemberRole::Learner | MemberRole::Demoted => Some(MemberRole::Learner),
            MemberRole::Voter | MemberRole::Joining => Some(MemberRole::Voter),
            MemberRole::Leaving => None,
        }
    }
}

impl fmt::Display for MemberRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a replica is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberSeat {
    /// The replica.
    pub replica: ReplicaId,
    /// Its node.
    pub node: NodeId,
    /// Its rank in the leader order, 0 first.
    pub rank: u16,
    /// Voter, or learner.
    pub votes: bool,
}
