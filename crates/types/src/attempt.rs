//! Names of cross-unit transactions: which attempt, and how old.

use std::fmt;

use crate::ballot::Ballot;
use crate::ids::{GroupId, SessionId};

/// One attempt at a transaction over several groups. Never reused: the coordinator counts within its
/// ballot, and no two leaders of a group share a ballot.
///
/// Ordered by group first, so the attempts of one coordinating group stand together and in the order
/// in which they were begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// The coordinating group: a participant itself, whose session the request came under.
    pub group: GroupId,
    /// The ballot its leader began the attempt under.
    pub ballot: Ballot,
    /// Number within the ballot, from 1.
    pub counter: u64,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.group, self.ballot, self.counter)
    }
}

/// How old a transaction is: the smaller, the older. A total order over all transactions; who meets
/// whose lock decides by it who waits (wait-die: Rosenkrantz, Stearns, Lewis, "System Level
/// Concurrency Control for Distributed Database Systems", 1978).
///
/// Only fairness rests on the clock that gave `first_ms`; safety rests on the order being total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Age {
    /// Wall-clock milliseconds at which a coordinator first met the request.
    pub first_ms: u64,
    /// The session of the request.
    pub session: SessionId,
    /// Its number in the session.
    pub sequence: u64,
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms/{}#{}", self.first_ms, self.session, self.sequence)
    }
}
