//! The loss ledger: where a group cannot, or for a while could not, vouch for what it had acknowledged.
//!
//! Entries are rows of the group itself (`quorate-store`, `ledger.rs`), written when the log entry is applied
//! that they belong to, so every replica holds the same ones.

use crate::{EntryId, LogTime, ReplicaId, Slot};

/// Why there is an entry in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LossKind {
    /// A majority was given up for ever: the group goes on in another history.
    ForcedRecovery,
    /// For a while a single replica held what was acknowledged.
    SingleCopy,
}

impl LossKind {
    /// The word in messages and documents.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            LossKind::ForcedRecovery => "forced-recovery",
            LossKind::SingleCopy => "single-copy",
        }
    }
}

/// What may be lost, as it is told with the log entry.
///
/// Invariant: `proven_through <= kept_through`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Why.
    pub kind: LossKind,
    /// The number of the history before,
    pub history_before: u32,
    /// and after: the same, unless the recovery was forced.
    pub history_after: u32,
    /// Through here every entry is known to be chosen, and kept.
    pub proven_through: Slot,
    /// Entries above that through here are kept; nobody knows whether they, or others in their place, were
    /// acknowledged. Whatever was acknowledged above is lost.
    pub kept_through: Slot,
    /// The replicas that go on.
    pub kept: Vec<ReplicaId>,
    /// Those that were given up.
    pub given_up: Vec<ReplicaId>,
    /// Who asked for it; empty if nobody did.
    pub operator: String,
    /// What was said about it.
    pub reason: String,
    /// The clock of whoever asked, in milliseconds since 1970; 0 if nobody did. For people only.
    pub told_at_ms: u64,
}

impl Loss {
    /// The first and the last slot whose entries are kept without anybody knowing whether they were chosen.
    #[must_use]
    pub fn at_risk(&self) -> Option<(Slot, Slot)> {
        let is_some = self.proven_through < self.kept_through;
        is_some.then(|| (self.proven_through.next(), self.kept_through))
    }

    /// From here on whatever was acknowledged is lost.
    #[must_use]
    pub fn lost_from(&self) -> Slot {
        self.kept_through.next()
    }
}

/// An entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossEntry {
    /// The log entry that it was opened with.
    pub opened: EntryId,
    /// Log time then.
    pub opened_at: LogTime,
    /// The log entry that ended what it tells of, and log time then; `None`: it goes on, or was over at once.
    pub closed: Option<(EntryId, LogTime)>,
    /// What it tells.
    pub loss: Loss,
}
