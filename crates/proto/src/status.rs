//! What a node says about itself: the typed form of `NodeStatus`.
//!
//! The server fills it in, the client and the CLI show it.

use std::time::Duration;

use quorate_types::{Ballot, ClusterId, GroupId, Incarnation, NodeId, Slot};

/// A node at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Its name in the cluster file.
    pub name: String,
    /// Its data folder.
    pub incarnation: Incarnation,
    /// The version of the program.
    pub version: String,
    /// The version of the cluster file it routes by.
    pub topology_version: u64,
    /// Time since the process started.
    pub uptime: Duration,
    /// True if it is shutting down.
    pub draining: bool,
    /// True if it has recovered and takes requests.
    pub ready: bool,
    /// Bytes free on the disk of the data folder.
    pub disk_free_bytes: u64,
    /// Bytes of that disk.
    pub disk_total_bytes: u64,
    /// Bytes of the node's log.
    pub log_bytes: u64,
    /// The groups it holds a replica of, in order of number.
    pub groups: Vec<GroupStatus>,
    /// What people should know of the node, each a fragment.
    pub notices: Vec<String>,
}

/// The current duty of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader or waits for one.
    Follower,
    /// Asks for promises.
    Candidate,
    /// Leads.
    Leader,
}

impl Role {
    /// The word in tables and documents.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        }
    }
}

/// One replica of a group, as its node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// The unit it belongs to.
    pub unit: String,
    /// The duty of the replica on this node.
    pub role: Role,
    /// The ballot it leads with, follows or has promised.
    pub ballot: Ballot,
    /// The node it believes to lead.
    pub leader: Option<NodeId>,
    /// How long its lease still holds; zero on followers and without leases.
    pub lease_remaining: Duration,
    /// True if it answers reads and writes.
    pub serving: bool,
    /// The last entry of its log, on disk or not.
    pub slot_accepted: Slot,
    /// Durable through here.
    pub slot_synced: Slot,
    /// Known to be chosen through here.
    pub slot_committed: Slot,
    /// Applied to its rows through here.
    pub slot_applied: Slot,
    /// In a checkpoint of its store through here.
    pub slot_persisted: Slot,
    /// Open sessions.
    pub sessions: u64,
    /// On the leader, how far the other members are, in order of node.
    pub members: Vec<MemberProgress>,
}

/// A follower, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberProgress {
    /// The node.
    pub node: NodeId,
    /// Durable and equal to the leader's log through here, as far as the leader knows.
    pub slot_synced: Slot,
    /// Time since it was last heard; `None` if never under this leader.
    pub heard_ago: Option<Duration>,
    /// Bytes sent to it and not answered.
    pub in_flight_bytes: u64,
}
