//! Reads that any replica of a group may answer, and what they ask of it.

use std::time::Duration;

use crate::slot::Slot;

/// Fact of an error: this replica lacks what the read asks for; another one may have it.
pub const FACT_BEHIND: &str = "replica_behind";

/// What a replica must have applied to answer a read that need not go to the leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// Everything through this position of the group's log; zero asks for nothing.
    pub at_least: Slot,
    /// Everything that anybody was told before this long ago. With `Some(Duration::ZERO)` the read is
    /// linearizable, wherever it is answered. `None`: rows may be of any age.
    pub stale_max: Option<Duration>,
    /// Show rows that an undecided transaction holds as they are without it. Otherwise such a read goes
    /// to the leader and waits there: it may be told of one part of a transaction already, and must not
    /// miss the other.
    pub around_locks: bool,
}

impl Elsewhere {
    /// Longest `stale_max` that means anything: a replica that nobody reads from does not ask more often
    /// how fresh it is than every quarter of it.
    pub const STALE_MAX: Duration = Duration::from_secs(60);
}
