//! Who takes part in a group, as operators and programs above the core see it.

use std::fmt;

use crate::{NodeId, ReplicaId};

/// What a replica holds and whether it votes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReplicaKind {
    /// `F`: log and rows; votes and may lead.
    #[default]
    Full,
    /// `L`: log only; votes.
    LogOnly,
    /// `R`: rows for reads; does not vote.
    ReadOnly,
    /// `A`: neither log nor rows; votes on elections and configurations.
    Arbiter,
}

impl ReplicaKind {
    /// The letter in a locality.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            ReplicaKind::Full => 'F',
            ReplicaKind::LogOnly => 'L',
            ReplicaKind::ReadOnly => 'R',
            ReplicaKind::Arbiter => 'A',
        }
    }

    /// The word in messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ReplicaKind::Full => "full",
            ReplicaKind::LogOnly => "log-only",
            ReplicaKind::ReadOnly => "read-only",
            ReplicaKind::Arbiter => "arbiter",
        }
    }

    /// Whether it counts towards a majority.
    #[must_use]
    pub fn votes(self) -> bool {
        match self {
            ReplicaKind::Full | ReplicaKind::LogOnly | ReplicaKind::Arbiter => true,
            ReplicaKind::ReadOnly => false,
        }
    }

    /// The kind of a letter.
    #[must_use]
    pub fn of_letter(letter: &str) -> Option<ReplicaKind> {
        match letter {
            "F" => Some(ReplicaKind::Full),
            "L" => Some(ReplicaKind::LogOnly),
            "R" => Some(ReplicaKind::ReadOnly),
            "A" => Some(ReplicaKind::Arbiter),
            _ => None,
        }
    }

    /// The number under which disks keep it.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            ReplicaKind::Full => 0,
            ReplicaKind::LogOnly => 1,
            ReplicaKind::ReadOnly => 2,
            ReplicaKind::Arbiter => 3,
        }
    }

    /// The kind of a number.
    #[must_use]
    pub fn of_number(number: u8) -> Option<ReplicaKind> {
        match number {
            0 => Some(ReplicaKind::Full),
            1 => Some(ReplicaKind::LogOnly),
            2 => Some(ReplicaKind::ReadOnly),
            3 => Some(ReplicaKind::Arbiter),
            _ => None,
        }
    }

    /// Whether a replica of this kind has on its disk what one of the other needs: full and read-only ones differ
    /// only in what they count for.
    #[must_use]
    pub fn holds_as(self, other: ReplicaKind) -> bool {
        self == other || (self.keeps_rows() && other.keeps_rows())
    }

    /// Whether it keeps the log.
    #[must_use]
    pub fn keeps_log(self) -> bool {
        self != ReplicaKind::Arbiter
    }

    /// Whether it applies the log to rows.
    #[must_use]
    pub fn keeps_rows(self) -> bool {
        matches!(self, ReplicaKind::Full | ReplicaKind::ReadOnly)
    }

    /// Whether it may lead: only who has the rows can evaluate requests.
    #[must_use]
    pub fn may_lead(self) -> bool {
        self == ReplicaKind::Full
    }
}

impl fmt::Display for ReplicaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

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
    /// A voter that is set aside while it is not heard, in a group with an arbiter: counts in no quorum, and is a
    /// voter again, by itself, once it has all of the log.
    Suspended,
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
            MemberRole::Suspended => "suspended",
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
        self.votes_before() || self.votes_after()
    }

    /// Counts in the quorums that stay, or is to be taken back into them.
    #[must_use]
    pub fn wants_vote(self) -> bool {
        self.votes_after() || self == MemberRole::Suspended
    }

    /// The role once the change is over; `None`: no member any more.
    #[must_use]
    pub fn in_the_end(self) -> Option<MemberRole> {
        match self {
            MemberRole::Learner | MemberRole::Demoted => Some(MemberRole::Learner),
            MemberRole::Voter | MemberRole::Joining => Some(MemberRole::Voter),
            MemberRole::Suspended => Some(MemberRole::Suspended),
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
    /// What it holds.
    pub kind: ReplicaKind,
    /// Voter, or learner.
    pub votes: bool,
}
