//! Who takes part in a group: the typed form of `GetMembersResponse`.
//!
//! The leader fills it in, the client and the CLI show it and plan changes by it.

use std::time::Duration;

use quorate_types::{EntryId, MemberRole, NodeId, ReplicaId, ReplicaKind, Slot};

/// Who takes part in a group, as its leader has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The entry that this membership came with.
    pub since: EntryId,
    /// True once that entry is chosen.
    pub chosen: bool,
    /// True while a change of voters is under way.
    pub changing: bool,
    /// In order of replica.
    pub members: Vec<MemberReport>,
    /// The last slot of the leader's log.
    pub slot_last: Slot,
}

impl Members {
    /// The member on a node. While a replica of a node is replaced by another one of the same node, the
    /// one that votes.
    #[must_use]
    pub fn on(&self, node: NodeId) -> Option<&MemberReport> {
        let there = self.members.iter().filter(|member| member.node == node);
        there.max_by_key(|member| member.role.votes_after())
    }

    /// The node that leads.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.members.iter().find(|member| member.leads).map(|member| member.node)
    }
}

/// One member of a group, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberReport {
    /// The replica. Never used again once it has left.
    pub replica: ReplicaId,
    /// Its node.
    pub node: NodeId,
    /// Its rank in the leader order, 0 first.
    pub rank: u16,
    /// What it counts for.
    pub role: MemberRole,
    /// True if it leads.
    pub leads: bool,
    /// Durable and equal to the leader's log through here, as far as the leader knows.
    pub slot_synced: Slot,
    /// Time since it was last heard; `None` if never under this leader.
    pub heard_ago: Option<Duration>,
    /// Bytes of log that it lacks, as of its last answer.
    pub lag_bytes: u64,
    /// True if it has no rows yet, or fetches them from another replica.
    pub refilling: bool,
    /// True if it could vote: heard, with its rows, and not far behind.
    pub fit: bool,
    /// What it holds.
    pub kind: ReplicaKind,
}
