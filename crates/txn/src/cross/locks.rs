//! Who holds which row: attempts that said yes, or are about to, and whose decision is not applied.
//!
//! A request never reads or writes around a lock: it waits until the decision is applied. Locks last
//! from the leader's evaluation of a PREPARE to the application of its COMMIT or ABORT; they are
//! rebuilt from the table by whoever leads next.

use std::collections::BTreeMap;

use quorate_store::Key;
use quorate_types::{Age, Attempt};

/// The locks of a group. Empty in a group without cross-unit transactions, and then they cost
/// nothing.
#[derive(Clone, Debug, Default)]
pub struct Locks {
    holders: BTreeMap<Attempt, Holder>,
    /// Rows that somebody will change. One holder each.
    exclusive: BTreeMap<Key, Attempt>,
    /// Rows that somebody looked at. Any number of holders, none of them also in `exclusive`.
    shared: BTreeMap<Key, Vec<Attempt>>,
    /// Rows that an older transaction waits for. Younger ones must not overtake it, or readers that
    /// share a row would keep it from being written for ever.
    wanted: BTreeMap<Key, Vec<Want>>,
    /// The rows that each of these waits for.
    wants: BTreeMap<Attempt, Vec<Key>>,
}

#[derive(Clone, Debug)]
struct Want {
    age: Age,
    attempt: Attempt,
    is_exclusive: bool,
}

#[derive(Clone, Debug)]
struct Holder {
    age: Age,
    exclusive: Vec<Key>,
    shared: Vec<Key>,
}

impl Locks {
    /// True if nothing is locked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// How many rows are locked.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.exclusive.len() + self.shared.len()
    }

    /// Takes locks; nothing happens if the attempt holds its locks already. A row in both lists is
    /// locked for writing.
    ///
    /// # Panics
    /// If another attempt holds a row in a way that excludes this one: two of them would both believe
    /// in what they read.
    pub fn take(&mut self, attempt: Attempt, age: Age, exclusive: Vec<Key>, shared: Vec<Key>) {
        if self.holders.contains_key(&attempt) {
            return;
        }
        for key in &exclusive {
            let before = self.exclusive.insert(key.clone(), attempt);
            assert!(
                before.is_none_or(|holder| holder == attempt) && !self.shared.contains_key(key),
                "{attempt} locks {key:?}, which {before:?} holds"
            );
        }
        let shared: Vec<Key> =
            shared.into_iter().filter(|key| self.exclusive.get(key) != Some(&attempt)).collect();
        for key in &shared {
            let writer = self.exclusive.get(key);
            assert!(writer.is_none(), "{attempt} reads {key:?}, which {writer:?} holds");
            let holders = self.shared.entry(key.clone()).or_default();
            if !holders.contains(&attempt) {
                holders.push(attempt);
            }
        }
        self.holders.insert(attempt, Holder { age, exclusive, shared });
    }

    /// Gives all locks of an attempt back. False if it held none.
    pub fn release(&mut self, attempt: Attempt) -> bool {
        let Some(holder) = self.holders.remove(&attempt) else { return false };
        for key in holder.exclusive {
            self.exclusive.remove(&key);
        }
        for key in holder.shared {
            if let Some(holders) = self.shared.get_mut(&key) {
                holders.retain(|other| *other != attempt);
                if holders.is_empty() {
                    self.shared.remove(&key);
                }
            }
        }
        true
    }

    /// An attempt waits for these rows.
    pub fn want(&mut self, attempt: Attempt, age: Age, exclusive: Vec<Key>, shared: Vec<Key>) {
        self.unwant(attempt);
        for (keys, is_exclusive) in [(&exclusive, true), (&shared, false)] {
            for key in keys {
                let wants = self.wanted.entry(key.clone()).or_default();
                wants.push(Want { age, attempt, is_exclusive });
            }
        }
        self.wants.insert(attempt, exclusive.into_iter().chain(shared).collect());
    }

    /// An attempt waits no longer. False if it did not.
    pub fn unwant(&mut self, attempt: Attempt) -> bool {
        let Some(keys) = self.wants.remove(&attempt) else { return false };
        for key in keys {
            if let Some(wants) = self.wanted.get_mut(&key) {
                wants.retain(|want| want.attempt != attempt);
                if wants.is_empty() {
                    self.wanted.remove(&key);
                }
            }
        }
        true
    }

    /// Nobody waits for anything.
    pub fn forget_wants(&mut self) {
        self.wanted.clear();
        self.wants.clear();
    }

    /// Who waits for a row and must not be overtaken by a transaction of this age.
    pub fn ahead_of(
        &self,
        age: Age,
        key: &Key,
        is_exclusive: bool,
    ) -> impl Iterator<Item = Attempt> + '_ {
        let wants = self.wanted.get(key).into_iter().flatten();
        wants
            .filter(move |want| want.age < age && (is_exclusive || want.is_exclusive))
            .map(|want| want.attempt)
    }

    /// True if nothing is locked and nobody waits.
    #[must_use]
    pub fn are_idle(&self) -> bool {
        self.holders.is_empty() && self.wants.is_empty()
    }

    /// Whose lock keeps a row from being read.
    #[must_use]
    pub fn against_reading(&self, key: &Key) -> Option<Attempt> {
        self.exclusive.get(key).copied()
    }

    /// Whose locks keep a row from being written.
    pub fn against_writing(&self, key: &Key) -> impl Iterator<Item = Attempt> + '_ {
        let readers = self.shared.get(key).into_iter().flatten();
        self.exclusive.get(key).into_iter().chain(readers).copied()
    }

    /// Whose lock keeps `from <= key < end` from being scanned: the first in order of keys.
    #[must_use]
    pub fn against_scanning(&self, from: &Key, end: &Key) -> Option<Attempt> {
        if end <= from {
            return None;
        }
        self.exclusive.range(from..end).next().map(|(_, attempt)| *attempt)
    }

    /// How old a holder is, or one who waits.
    #[must_use]
    pub fn age_of(&self, attempt: Attempt) -> Option<Age> {
        let held = self.holders.get(&attempt).map(|holder| holder.age);
        held.or_else(|| {
            let key = self.wants.get(&attempt)?.first()?;
            self.wanted.get(key)?.iter().find(|want| want.attempt == attempt).map(|want| want.age)
        })
    }

    /// How many rows an attempt has locked.
    #[must_use]
    pub fn rows_of(&self, attempt: Attempt) -> usize {
        self.holders.get(&attempt).map_or(0, |it| it.exclusive.len() + it.shared.len())
    }

    /// Attempts that hold locks, in order.
    pub fn attempts(&self) -> impl Iterator<Item = Attempt> + '_ {
        self.holders.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use quorate_store::Keyspace;
    use quorate_types::{Ballot, GroupId, ReplicaId, SessionId, SliceId, Slot, TableId, Uid};

    use super::*;

    fn attempt(counter: u64) -> Attempt {
        let ballot = Ballot { round: 1, replica: ReplicaId(1) };
        Attempt { group: GroupId(1), ballot, counter }
    }

    fn age(first_ms: u64) -> Age {
        let session = SessionId { group: GroupId(1), slot: Slot(1) };
        Age { first_ms, session, sequence: 1 }
    }

    fn key(uid: u64) -> Key {
        Keyspace::first(GroupId(1)).row(SliceId(1), TableId(1), Uid(uid), b"k")
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        // Goal: what each kind of lock keeps out, and that releasing leaves nothing behind.
        let mut locks = Locks::default();
        locks.take(attempt(1), age(1), vec![key(1)], vec![key(1), key(2)]);
        locks.take(attempt(2), age(2), Vec::new(), vec![key(2), key(2)]);
        assert_eq!(locks.against_reading(&key(1)), Some(attempt(1)));
        assert_eq!(locks.against_reading(&key(2)), None);
        let writers: Vec<_> = locks.against_writing(&key(2)).collect();
        assert_eq!(writers, [attempt(1), attempt(2)]);
        assert_eq!(locks.against_scanning(&key(0), &key(2)), Some(attempt(1)));
        assert_eq!(locks.against_scanning(&key(2), &key(9)), None);
        assert!(locks.release(attempt(1)) && !locks.release(attempt(1)));
        assert_eq!(locks.against_reading(&key(1)), None);
        assert_eq!(locks.against_writing(&key(2)).count(), 1);
        assert!(locks.release(attempt(2)) && locks.is_empty() && locks.rows() == 0);
    }

    #[test]
    #[should_panic(expected = "which")]
    fn two_writers_of_a_row_stop_the_node() {
        // Goal: a lock given twice is noticed where it happens.
        let mut locks = Locks::default();
        locks.take(attempt(1), age(1), vec![key(1)], Vec::new());
        locks.take(attempt(2), age(2), vec![key(1)], Vec::new());
    }
}
