//! Reads of many rows at once: what a caller asks each group, and what it is told.
//!
//! Rows of several groups are read twice. If no group has anything new to tell the second time, every
//! row had the value that was read at one moment: the one between the two rounds. What makes that true
//! stands in `quorate-txn`, `many.rs`.

use crate::command::{RowAddress, Value};
use crate::cut::CutId;
use crate::ids::GroupId;
use crate::slot::Slot;

/// Names the state of a row. Of two answers about a row that name the same version, the later one also
/// says that the row did not change in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowVersion {
    /// The group that answered.
    pub group: GroupId,
    /// The slot of the last change to the row. If the row does not exist, a slot at or after the last
    /// delete in its slice.
    pub slot: Slot,
}

/// A row that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedRow {
    /// Which one.
    pub at: RowAddress,
    /// What the caller was told in the round before; `None` in the first round.
    pub known: Option<RowVersion>,
}

/// A row that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundRow {
    /// It is what the caller knows, and was so all the time.
    AsKnown,
    /// It is in this state, and has this value if it exists.
    Is(RowVersion, Option<Value>),
}

/// The rows that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRows {
    /// The latest cut that the log of the group had passed.
    pub cut: CutId,
    /// The rows, in the order in which they were asked for.
    pub rows: Vec<FoundRow>,
}
