//! Positions in a group's log.

use std::fmt;

use crate::ballot::Ballot;

/// A position in a group's log: 1-based, no gaps. Slot 0 stands before the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u64);

impl Slot {
    /// Before the first entry.
    pub const ZERO: Slot = Slot(0);

    /// The slot after this one.
    #[must_use]
    pub fn next(self) -> Slot {
        Slot(self.0 + 1)
    }

    /// The slot before this one; slot 0 has none and stays.
    #[must_use]
    pub fn prev(self) -> Slot {
        Slot(self.0.saturating_sub(1))
    }

    /// The slot `count` further on.
    #[must_use]
    pub fn plus(self, count: u64) -> Slot {
        Slot(self.0 + count)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What identifies an entry for life: its slot and the ballot it was first proposed with.
///
/// Ordered by ballot, then slot: the order in which the winner of an election compares the tails of
/// the logs it was promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The ballot of the first proposal. Kept when a later leader adopts the entry.
    pub ballot: Ballot,
    /// The position.
    pub slot: Slot,
}

impl EntryId {
    /// Before the first entry of any log.
    pub const ZERO: EntryId = EntryId { ballot: Ballot::ZERO, slot: Slot::ZERO };
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.slot, self.ballot)
    }
}
