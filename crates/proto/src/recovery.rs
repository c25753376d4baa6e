//! Where a survivor of a group stands, and the order to go on without the others: the typed forms of
//! `GetStandingResponse` and `ForceRecoveryRequest`.
//!
//! The client asks every node for the first, a planner makes the second of them (`quorate-topology`).

use quorate_types::{
    Ballot, EntryId, GroupId, Loss, MemberRole, NodeId, ReplicaId, ReplicaKind, Slot,
};

/// A history of a group by its number and the entry that it began with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryReport {
    /// 0 at first, raised by one by each forced recovery.
    pub number: u32,
    /// The entry that it began with; zero for the first one.
    pub since: EntryId,
}

/// Where a replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingReport {
    /// The replica.
    pub replica: ReplicaId,
    /// The history that it counts in.
    pub history: HistoryReport,
    /// The members that it counts by, in order.
    pub members: Vec<(ReplicaId, MemberRole, ReplicaKind)>,
    /// The entry that they came with.
    pub since: EntryId,
    /// The group goes on without it, for ever.
    pub outlived: bool,
    /// Its log is not yet of the history that it counts in.
    pub crossing: bool,
    /// It has rows that go with its log.
    pub has_rows: bool,
    /// What it has promised.
    pub promised: Ballot,
    /// The last entry of its log that is on disk; zero: its log is empty.
    pub last: EntryId,
    /// The greatest entry that it knows to be chosen; zero: it knows of none.
    pub committed: EntryId,
    /// Applied to its rows through here.
    pub slot_applied: Slot,
    /// The entry at the slot that was asked about.
    pub at_slot: Option<EntryId>,
    /// The node that it takes for the leader.
    pub leader: Option<NodeId>,
}

/// The order to begin another history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryOrder {
    /// The group.
    pub group: GroupId,
    /// Its name, as it was typed.
    pub confirm: String,
    /// The history that is given up.
    pub history: HistoryReport,
    /// The greatest ballot that any survivor has promised.
    pub promised: Ballot,
    /// The greatest entry that any survivor knows to be chosen.
    pub proven: EntryId,
    /// For the ledger; the operator in it is filled in by the node.
    pub loss: Loss,
}
