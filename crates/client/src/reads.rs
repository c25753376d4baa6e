//! How fresh reads must be, and who may answer them. Public through [`Client::with_reads`].
//!
//! Writes always go to leaders, and so do reads unless told otherwise here. A handle made by
//! [`Client::with_reads`] remembers what it has written and read, so its reads never go back.

use std::collections::BTreeMap;
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
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    token: Token,
    /// Counts the moments at which a group took part in something whose place in its log nobody told us.
    marks: u64,
    /// The last such moment of each group that the token says this of. Only an answer of its leader to a
    /// question that began after it surely contains it.
    marked: BTreeMap<GroupId, u64>,
}

/// A moment in the life of a handle: when a question began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(u64);

impl ReadState {
    fn new(reads: Reads, token: Token) -> ReadState {
        // Whoever handed the token on marked them before anything is asked here.
        let marked = token.unplaced().map(|group| (group, 0)).collect();
        ReadState { reads, seen: Mutex::new(Seen { token, marks: 0, marked }) }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // A panic elsewhere leaves at most a position that is higher than the one it was marked with.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now: a question begins.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.lock().marks)
    }

    /// What a read of this group asks of a replica; `None`: the leader must answer.
    pub(crate) fn of_group(&self, group: GroupId) -> Option<Elsewhere> {
        let position = self.lock().token.position(group);
        if position.is_some_and(|position| position.is_unplaced) {
            return None;
        }
        let (stale_max, around_locks) = match &self.reads {
            Reads::Strong => return None,
            Reads::AtLeast(_) => {
                position?;
                (None, false)
            }
            Reads::BoundedStale(age) => (Some((*age).min(Elsewhere::STALE_MAX)), false),
            Reads::CityLocal => (Some(Elsewhere::STALE_MAX), true),
        };
        let at_least = position.map_or(Slot::ZERO, |position| position.slot);
        Some(Elsewhere { at_least, stale_max, around_locks })
    }

    /// A leader answered a question of that moment from this position.
    pub(crate) fn saw(&self, group: GroupId, slot: Slot, asked: Moment) {
        let mut seen = self.lock();
        seen.token.raise(group, slot);
        if seen.marked.get(&group).is_some_and(|mark| *mark <= asked.0) {
            seen.marked.remove(&group);
            seen.token.place(group);
        }
    }

    /// A replica answered from this position.
    pub(crate) fn saw_elsewhere(&self, group: GroupId, slot: Slot) {
        self.lock().token.raise(group, slot);
    }

    /// These groups took part in something, or may have; where in their logs is not known.
    pub(crate) fn saw_unplaced(&self, groups: impl IntoIterator<Item = GroupId>) {
        let mut seen = self.lock();
        seen.marks += 1;
        let mark = seen.marks;
        for group in groups {
            seen.token.ask_leader(group);
            seen.marked.insert(group, mark);
        }
    }

    /// True if reads do not wait for what is undecided.
    pub(crate) fn is_around_locks(&self) -> bool {
        self.reads == Reads::CityLocal
    }
}

impl Client {
    /// The same client with reads that need not go to leaders. Its own writes go to leaders as always,
    /// and its reads show them.
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
        self.of_reads(Some(Arc::new(ReadState::new(reads, seen))))
    }

    /// What this handle has written and read, for [`Reads::AtLeast`]. Empty for a handle whose reads
    /// are [`Reads::Strong`], which remembers nothing: there [`Written`](crate::Written) and
    /// [`Committed`](crate::Committed) carry tokens.
    #[must_use]
    pub fn token(&self) -> Token {
        match self.reads() {
            Some(state) => state.lock().token.clone(),
            None => Token::new(self.cluster_id()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::ClusterId;

    use super::*;

    const GROUP: GroupId = GroupId(4);

    fn state(reads: Reads) -> ReadState {
        ReadState::new(reads, Token::new(ClusterId(7)))
    }

    #[test]
    fn what_was_seen_is_asked_for() {
        // Goal: a handle's reads show what it wrote and read before, from whichever replica.
        let age = Duration::from_millis(20);
        let state = state(Reads::BoundedStale(age));
        let asked =
            |slot| Elsewhere { at_least: Slot(slot), stale_max: Some(age), around_locks: false };
        assert_eq!(state.of_group(GROUP), Some(asked(0)));
        state.saw(GROUP, Slot(9), state.now());
        state.saw_elsewhere(GROUP, Slot(8));
        assert_eq!(state.of_group(GROUP), Some(asked(9)));
        state.saw_elsewhere(GROUP, Slot(10));
        assert_eq!(state.of_group(GROUP), Some(asked(10)));
        assert_eq!(state.of_group(GroupId(5)), Some(asked(0)));
    }

    #[test]
    fn a_group_that_took_part_at_an_unknown_place_is_asked_at_its_leader() {
        // Goal: after a transaction over several units the replicas of the others may not know of it;
        // an answer of one that was on its way says nothing, nor does one of the leader to what was asked
        // before; what was asked of the leader afterwards does.
        for reads in [Reads::BoundedStale(Duration::ZERO), Reads::CityLocal] {
            let state = state(reads);
            let before = state.now();
            state.saw(GROUP, Slot(9), before);
            state.saw_unplaced([GROUP]);
            assert_eq!(state.of_group(GROUP), None);
            state.saw_elsewhere(GROUP, Slot(10));
            assert_eq!(state.of_group(GROUP), None);
            state.saw(GROUP, Slot(10), before);
            assert_eq!(state.of_group(GROUP), None);
            let after = state.now();
            state.saw_unplaced([GROUP, GroupId(5)]);
            state.saw(GROUP, Slot(11), after);
            assert_eq!(state.of_group(GROUP), None, "it took part once more");
            state.saw(GROUP, Slot(8), state.now());
            assert_eq!(state.of_group(GROUP).map(|asked| asked.at_least), Some(Slot(11)));
        }
    }

    #[test]
    fn a_token_says_nothing_of_groups_it_does_not_know() {
        // Goal: a read with a token of a group that the token has not met is not answered from rows of
        // any age, and neither is one of a group that only the leader knows of.
        let state = state(Reads::AtLeast(Token::new(ClusterId(7))));
        assert_eq!(state.of_group(GROUP), None);
        state.saw(GROUP, Slot(3), state.now());
        let asked = Elsewhere { at_least: Slot(3), stale_max: None, around_locks: false };
        assert_eq!(state.of_group(GROUP), Some(asked));
        let mut handed_on = Token::new(ClusterId(7));
        handed_on.ask_leader(GROUP);
        let state = ReadState::new(Reads::AtLeast(handed_on.clone()), handed_on);
        assert_eq!(state.of_group(GROUP), None);
        state.saw(GROUP, Slot(3), state.now());
        assert_eq!(state.of_group(GROUP), Some(asked));
    }
}
