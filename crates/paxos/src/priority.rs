//! Who should lead: the priority vector (rule 16 of the design), compared lexicographically.

use std::cmp::Ordering;

use quorate_types::{EntryId, ReplicaId};

/// Lag below this counts as none, so that placement decides among healthy replicas.
const LAG_EQUAL_BYTES: u64 = 1024 * 1024;

/// Health of a replica as its node sees it. Smaller is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Health {
    /// The node is shutting down.
    pub draining: bool,
    /// Faults that make it unfit to lead, such as a disk that hangs.
    pub fatal_faults: u8,
    /// Faults that make it a worse leader, such as a slow disk.
    pub serious_faults: u8,
}

impl Health {
    /// So many fatal faults say that a replica cannot lead at all, because it needs rows of another one.
    pub const CANNOT_LEAD: u8 = u8::MAX;
}

/// How well a replica would lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The replica.
    pub replica: ReplicaId,
    /// Its health.
    pub health: Health,
    /// Its last entry.
    pub last: EntryId,
    /// Encoded bytes of its log through `last`, to measure lag.
    pub log_bytes: u64,
    /// True if an operator wants it to lead.
    pub pinned: bool,
    /// Its rank in the group's leader order, 0 first.
    pub rank: u16,
}

impl Standing {
    /// `Less` if `self` should lead rather than `other`.
    ///
    /// Not a total order over many replicas, because lag is relative; used pairwise only.
    #[must_use]
    pub fn compare(&self, other: &Standing) -> Ordering {
        let (lag, other_lag) = lag_buckets(self, other);
        self.health
            .draining
            .cmp(&other.health.draining)
            .then(self.health.fatal_faults.cmp(&other.health.fatal_faults))
            .then(lag.cmp(&other_lag))
            .then(other.pinned.cmp(&self.pinned))
            .then(self.rank.cmp(&other.rank))
            .then(self.health.serious_faults.cmp(&other.health.serious_faults))
            .then(self.replica.cmp(&other.replica))
    }

    /// True if `self` should lead rather than `other`.
    #[must_use]
    pub fn is_better_than(&self, other: &Standing) -> bool {
        self.compare(other) == Ordering::Less
    }

    /// True if the place of `self` alone speaks for it: fit to lead, not behind, in no worse health, and
    /// pinned or ranked before `other`. Health alone moves no leadership here, so two nodes with faults
    /// never give one to each other in turns.
    #[must_use]
    pub fn is_better_placed_than(&self, other: &Standing) -> bool {
        let place = |standing: &Standing| (!standing.pinned, standing.rank);
        !self.health.draining
            && self.health.fatal_faults == 0
            && self.health <= other.health
            && lag_buckets(self, other) == (0, 0)
            && place(self) < place(other)
    }
}

/// Lag of each behind the other in powers of two of a mebibyte; 0 below one mebibyte.
fn lag_buckets(left: &Standing, right: &Standing) -> (u32, u32) {
    let bucket = |behind: u64| match behind / LAG_EQUAL_BYTES {
        0 => 0,
        mebibytes => mebibytes.ilog2() + 1,
    };
    let (left_lag, right_lag) = match left.last.cmp(&right.last) {
        Ordering::Less => (right.log_bytes.saturating_sub(left.log_bytes), 0),
        Ordering::Equal => (0, 0),
        Ordering::Greater => (0, left.log_bytes.saturating_sub(right.log_bytes)),
    };
    (bucket(left_lag), bucket(right_lag))
}

#[cfg(test)]
mod tests;
