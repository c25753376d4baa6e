//! How fresh reads must be, and who may answer them. Public through [`Client::with_reads`].
//!
//! Writes always go to leaders, and so do reads unless told otherwise here. A handle made by
//! [`Client::with_reads`] remembers what it has written and read, so its reads never go back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_types::{Elsewhere, GroupId, Slot};

use crate::client::Client;
use crate::token::Token;

/// How fresh reads must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reads {
    /// Linearizable, answered by the leader. The default.
    #[default]
    Strong,
    /// Contains at least what the token stands for: what its holder has written or read before. Any
    /// replica that has got there answers, the nearest first. Of groups that the token does not know,
    /// the leader answers.
    AtLeast(Token),
    /// At most this old, and at most 60 s; answered by the nearest replica that can tell. With
    /// [`Duration::ZERO`] reads are linearizable: the replica asks the leader where it stands, and the
    /// rows still travel the short way.
    BoundedStale(Duration),
    /// As fresh as the nearest replica is, if that is at most 60 s old, also while the leader is out of
    /// reach. Does not wait for undecided transactions and transfers: it may show one part of what
    /// another unit shows already, or not show a part yet.
    CityLocal,
}

/// What a handle that reads elsewhere remembers.
#[derive(Debug)]
pub(crate) struct ReadState {
    reads: Reads,
    seen: Mutex<Token>,
}

impl ReadState {
    fn lock(&self) -> MutexGuard<'_, Token> {
        // Every change is a single assignment, so a panic elsewhere leaves nothing half done.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a read of this group asks of a replica; `None`: the leader must answer.
    pub(crate) fn of_group(&self, group: GroupId) -> Option<Elsewhere> {
        let at_least = self.lock().position(group);
        let (stale_max, around_locks) = match (&self.reads, at_least) {
            // It took part in something whose place in its log nobody told us.
            (_, Some(None)) => return None,
            (Reads::Strong, _) | (Reads::AtLeast(_), None) => return None,
            (Reads::AtLeast(_), Some(_)) => (None, false),
            (Reads::BoundedStale(age), _) => (Some((*age).min(Elsewhere::STALE_MAX)), false),
            (Reads::CityLocal, _) => (Some(Elsewhere::STALE_MAX), true),
        };
        let at_least = at_least.flatten().unwrap_or(Slot::ZERO);
        Some(Elsewhere { at_least, stale_max, around_locks })
    }

    /// A leader answered from this position.
    pub(crate) fn saw(&self, group: GroupId, slot: Slot) {
        self.lock().raise(group, slot);
    }

    /// A replica answered from this position.
    pub(crate) fn saw_elsewhere(&self, group: GroupId, slot: Slot) {
        let mut seen = self.lock();
        if seen.position(group) != Some(None) {
            seen.raise(group, slot);
        }
    }

    /// The group took part in something; where in its log is not known.
    pub(crate) fn saw_unplaced(&self, group: GroupId) {
        self.lock().ask_leader(group);
    }
}

impl Client {
    /// The same client with reads that need not go to leaders. Its own writes go to leaders as always,
    /// and its reads show them, unless they are [`Reads::CityLocal`] reads of what other units do not
    /// know to be decided yet.
    ///
    /// Which replica is the nearest is told by [`Builder::near`](crate::Builder::near).
    ///
    /// ```no_run
    /// # async fn example(client: quorate_client::Client) -> Result<(), quorate_client::Error> {
    /// use std::time::Duration;
    /// use quorate_client::{Reads, Token, Uid};
    ///
    /// // In one process: write, and hand on what was seen.
    /// let here = client.with_reads(Reads::BoundedStale(Duration::from_millis(500)));
    /// here.put("profiles", Uid(42), "name", "Ada").await?;
    /// let token = here.token().to_string();
    /// // In another: whichever replica answers, it shows that write.
    /// let there = client.with_reads(Reads::AtLeast(token.parse().expect("we made it")));
    /// assert!(there.get("profiles", Uid(42), "name").await?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_reads(&self, reads: Reads) -> Client {
        let seen = match &reads {
            Reads::Strong => return self.of_reads(None),
            // One of another cluster says nothing of this one.
            Reads::AtLeast(token) => Token::new(self.cluster_id()).merge(token),
            Reads::BoundedStale(_) | Reads::CityLocal => self.token(),
        };
        self.of_reads(Some(Arc::new(ReadState { reads, seen: Mutex::new(seen) })))
    }

    /// What this handle has written and read, for [`Reads::AtLeast`]. Empty for a handle whose reads
    /// are [`Reads::Strong`]: it need not remember anything, its answers carry tokens themselves.
    #[must_use]
    pub fn token(&self) -> Token {
        match self.reads() {
            Some(state) => state.lock().clone(),
            None => Token::new(self.cluster_id()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::ClusterId;

    use super::*;

    fn state(reads: Reads) -> ReadState {
        ReadState { reads, seen: Mutex::new(Token::new(ClusterId(7))) }
    }

    #[test]
    fn what_was_seen_is_asked_for() {
        // Goal: a handle's reads show what it wrote and read before, from whichever replica.
        let (group, age) = (GroupId(4), Duration::from_millis(20));
        let state = state(Reads::BoundedStale(age));
        let asked =
            |slot| Elsewhere { at_least: Slot(slot), stale_max: Some(age), around_locks: false };
        assert_eq!(state.of_group(group), Some(asked(0)));
        state.saw(group, Slot(9));
        state.saw_elsewhere(group, Slot(8));
        assert_eq!(state.of_group(group), Some(asked(9)));
        state.saw_elsewhere(group, Slot(10));
        assert_eq!(state.of_group(group), Some(asked(10)));
        assert_eq!(state.of_group(GroupId(5)), Some(asked(0)));
    }

    #[test]
    fn a_group_that_took_part_at_an_unknown_place_is_asked_at_its_leader() {
        // Goal: after a transaction over several units the replicas of the others may not know of it;
        // an answer of one that was on its way says nothing, one of the leader does.
        let group = GroupId(4);
        for reads in [Reads::BoundedStale(Duration::ZERO), Reads::CityLocal] {
            let state = state(reads);
            state.saw(group, Slot(9));
            state.saw_unplaced(group);
            assert_eq!(state.of_group(group), None);
            state.saw_elsewhere(group, Slot(10));
            assert_eq!(state.of_group(group), None);
            state.saw(group, Slot(11));
            assert_eq!(state.of_group(group).map(|asked| asked.at_least), Some(Slot(11)));
        }
    }

    #[test]
    fn a_token_says_nothing_of_groups_it_does_not_know() {
        // Goal: a read with a token of a group that the token has not met is not answered from rows of
        // any age.
        let state = state(Reads::AtLeast(Token::new(ClusterId(7))));
        assert_eq!(state.of_group(GroupId(4)), None);
        state.saw(GroupId(4), Slot(3));
        let asked = Elsewhere { at_least: Slot(3), stale_max: None, around_locks: false };
        assert_eq!(state.of_group(GroupId(4)), Some(asked));
    }
}
