//! Ballots: totally ordered proposal numbers.

use std::fmt;

use crate::ids::ReplicaId;

/// A proposal number, ordered by round and then by the replica that owns it.
///
/// Two replicas never use the same ballot, because the owner is part of it; a promise for an equal
/// ballot can therefore only be a repetition (Lamport, "Paxos Made Simple", section 2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Raised by each candidacy above every round the candidate has seen.
    pub round: u64,
    /// The replica that may lead under this ballot.
    pub replica: ReplicaId,
}

impl Ballot {
    /// Below every ballot in use: nothing promised, nothing accepted.
    pub const ZERO: Ballot = Ballot { round: 0, replica: ReplicaId(0) };

    /// The ballot `replica` uses to go above `self`.
    #[must_use]
    pub fn next_for(self, replica: ReplicaId) -> Ballot {
        Ballot { round: self.round + 1, replica }
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round, self.replica.0)
    }
}
