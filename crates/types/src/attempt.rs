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

/// Which attempts of a coordinating group are over: those below `upto`, but for a few.
///
/// Over means aborted, or committed and applied by every participant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Watermark {
    /// Attempts below this one,
    pub upto: Attempt,
    /// but for these, in order: an attempt in doubt must not keep the records of all that came after
    /// it. At most [`Watermark::EXCEPT_MAX`].
    pub except: Vec<Attempt>,
}

impl Watermark {
    /// Most attempts that are excepted.
    pub const EXCEPT_MAX: usize = 64;

    /// Everything below an attempt.
    #[must_use]
    pub fn below(upto: Attempt) -> Watermark {
        Watermark { upto, except: Vec::new() }
    }

    /// True if the attempt is over. Knows nothing of attempts of other groups.
    #[must_use]
    pub fn covers(&self, attempt: Attempt) -> bool {
        let is_same = attempt.group == self.upto.group;
        is_same && attempt < self.upto && self.except.binary_search(&attempt).is_err()
    }

    /// This one and another of the same group together; `None` if that says no more than this one.
    /// What was over stays so: a leader that just took over does not know of every attempt that the
    /// one before had seen the end of, and excepts it.
    #[must_use]
    pub fn raised_by(&self, other: &Watermark) -> Option<Watermark> {
        let (high, low) = if self.upto < other.upto { (other, self) } else { (self, other) };
        let is_open = |attempt: &&Attempt| !low.covers(**attempt);
        let except = high.except.iter().filter(is_open).copied().collect();
        let raised = Watermark { upto: high.upto, except };
        (raised != *self).then_some(raised)
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
    fn what_is_over_stays_over() {
        // Goal: a watermark only ever covers more, whoever leads and whatever he knows.
        let ballot = |round| Ballot { round, replica: ReplicaId(2) };
        let attempt =
            |round, counter| Attempt { group: GroupId(1), ballot: ballot(round), counter };
        let mark = |upto, except: &[Attempt]| Watermark { upto, except: except.to_vec() };
        let first = mark(attempt(1, 9), &[attempt(1, 3)]);
        assert!(first.covers(attempt(1, 2)) && !first.covers(attempt(1, 3)));
        assert!(!first.covers(attempt(1, 9)) && !first.covers(attempt(2, 1)));
        // The next leader has not heard the end of 5.
        let next = mark(attempt(2, 1), &[attempt(1, 3), attempt(1, 5), attempt(1, 9)]);
        let both = first.raised_by(&next).expect("it says more");
        assert_eq!(both, mark(attempt(2, 1), &[attempt(1, 3), attempt(1, 9)]));
        assert_eq!(both.raised_by(&next), None);
        assert_eq!(both.raised_by(&first), None);
        assert_eq!(next.raised_by(&first), Some(both.clone()), "in either order");
        let last = both.raised_by(&mark(attempt(2, 1), &[])).expect("nothing is in doubt");
        assert_eq!(last, mark(attempt(2, 1), &[]));
    }

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
