//! Names of cross-unit transactions: which attempt, and how old.

use std::fmt;
use std::str::FromStr;

use crate::ballot::Ballot;
use crate::ids::{GroupId, ReplicaId, SessionId};

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

impl FromStr for Attempt {
    type Err = String;

    /// Parses what `Display` writes: `g1/5.2/7`.
    fn from_str(text: &str) -> Result<Attempt, String> {
        let wrong = || format!("{text:?} is no attempt; it looks like g1/5.2/7");
        let mut parts = text.split('/');
        let (Some(group), Some(ballot), Some(counter), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let group = group.strip_prefix('g').unwrap_or(group).parse().map_err(|_| wrong())?;
        let (round, replica) = ballot.split_once('.').ok_or_else(wrong)?;
        let round = round.parse().map_err(|_| wrong())?;
        let replica = ReplicaId(replica.parse().map_err(|_| wrong())?);
        let counter = counter.parse().map_err(|_| wrong())?;
        Ok(Attempt { group: GroupId(group), ballot: Ballot { round, replica }, counter })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_survives_text_and_back() {
        // Goal: what a list shows can be asked for.
        let ballot = Ballot { round: 5, replica: ReplicaId(2) };
        let attempt = Attempt { group: GroupId(1), ballot, counter: 7 };
        assert_eq!(attempt.to_string(), "g1/5.2/7");
        assert_eq!("g1/5.2/7".parse(), Ok(attempt));
        for wrong in ["", "g1", "g1/5/7", "g1/5.2/7/8", "x/5.2/7", "g1/5.2/-7"] {
            assert!(wrong.parse::<Attempt>().is_err(), "{wrong}");
        }
    }
}
