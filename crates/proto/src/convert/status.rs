//! Node status and topology to and from the wire.

use std::time::Duration;

use quorate_types::{ClusterId, GroupId, Incarnation, NodeId, Slot};

use super::ConvertError;
use super::words::{self, required};
use crate::status::{GroupStatus, MemberProgress, NodeStatus, Role};
use crate::v1;

/// The cluster file that a node hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyText {
    /// The cluster.
    pub cluster: ClusterId,
    /// The version of the file.
    pub version: u64,
    /// The file; `None` if the caller has this version.
    pub toml: Option<String>,
}

impl TopologyText {
    /// The answer for the wire.
    #[must_use]
    pub fn into_wire(self) -> v1::GetTopologyResponse {
        v1::GetTopologyResponse {
            cluster_id: self.cluster.to_string(),
            version: self.version,
            toml: self.toml.unwrap_or_default(),
        }
    }

    /// The answer from the wire.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_wire(response: v1::GetTopologyResponse) -> Result<TopologyText, ConvertError> {
        Ok(TopologyText {
            cluster: words::cluster_from_wire(&response.cluster_id, "cluster_id")?,
            version: response.version,
            toml: (!response.toml.is_empty()).then_some(response.toml),
        })
    }
}

impl NodeStatus {
    /// The status for the wire.
    #[must_use]
    pub fn into_wire(self) -> v1::NodeStatus {
        v1::NodeStatus {
            cluster_id: self.cluster.to_string(),
            node_id: self.node.0,
            node_name: self.name,
            incarnation: self.incarnation.to_string(),
            version: self.version,
            topology_version: self.topology_version,
            uptime_ms: words::millis(self.uptime),
            draining: self.draining,
            ready: self.ready,
            disk_free_bytes: self.disk_free_bytes,
            disk_total_bytes: self.disk_total_bytes,
            log_bytes: self.log_bytes,
            groups: self.groups.into_iter().map(group_to_wire).collect(),
            notices: self.notices,
        }
    }

    /// The status from the wire.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_wire(status: v1::NodeStatus) -> Result<NodeStatus, ConvertError> {
        let incarnation = u64::from_str_radix(&status.incarnation, 16).map_err(|_| {
            ConvertError::malformed("incarnation", "it is no 64-bit hexadecimal number")
        })?;
        Ok(NodeStatus {
            cluster: words::cluster_from_wire(&status.cluster_id, "cluster_id")?,
            node: NodeId(status.node_id),
            name: status.node_name,
            incarnation: Incarnation(incarnation),
            version: status.version,
            topology_version: status.topology_version,
            uptime: Duration::from_millis(status.uptime_ms),
            draining: status.draining,
            ready: status.ready,
            disk_free_bytes: status.disk_free_bytes,
            disk_total_bytes: status.disk_total_bytes,
            log_bytes: status.log_bytes,
            groups: words::each(status.groups, "groups", group_from_wire)?,
            notices: status.notices,
        })
    }
}

fn group_to_wire(status: GroupStatus) -> v1::GroupStatus {
    let role = match status.role {
        Role::Follower => v1::Role::Follower,
        Role::Candidate => v1::Role::Candidate,
        Role::Leader => v1::Role::Leader,
    };
    v1::GroupStatus {
        group: status.group.0,
        unit: status.unit,
        role: role.into(),
        ballot: Some(words::ballot_to_wire(status.ballot)),
        leader_node: status.leader.map_or(0, |node| node.0),
        lease_remaining_ms: words::millis(status.lease_remaining),
        serving: status.serving,
        slot_accepted: status.slot_accepted.0,
        slot_synced: status.slot_synced.0,
        slot_committed: status.slot_committed.0,
        slot_applied: status.slot_applied.0,
        slot_persisted: status.slot_persisted.0,
        sessions: status.sessions,
        members: status.members.iter().map(member_to_wire).collect(),
    }
}

fn group_from_wire(status: v1::GroupStatus) -> Result<GroupStatus, ConvertError> {
    let role = match v1::Role::try_from(status.role) {
        Ok(v1::Role::Follower) => Role::Follower,
        Ok(v1::Role::Candidate) => Role::Candidate,
        Ok(v1::Role::Leader) => Role::Leader,
        Ok(v1::Role::Unspecified) => return Err(ConvertError::missing("role")),
        Err(_) => {
            let reason = format!("role {} is not known", status.role);
            return Err(ConvertError::malformed("role", reason));
        }
    };
    Ok(GroupStatus {
        group: GroupId(status.group),
        unit: status.unit,
        role,
        ballot: words::ballot_from_wire(required(status.ballot, "ballot")?),
        leader: (status.leader_node != 0).then_some(NodeId(status.leader_node)),
        lease_remaining: Duration::from_millis(status.lease_remaining_ms),
        serving: status.serving,
        slot_accepted: Slot(status.slot_accepted),
        slot_synced: Slot(status.slot_synced),
        slot_committed: Slot(status.slot_committed),
        slot_applied: Slot(status.slot_applied),
        slot_persisted: Slot(status.slot_persisted),
        sessions: status.sessions,
        members: status.members.iter().map(member_from_wire).collect(),
    })
}

fn member_to_wire(member: &MemberProgress) -> v1::MemberProgress {
    v1::MemberProgress {
        node: member.node.0,
        slot_synced: member.slot_synced.0,
        heard_ms_ago: member.heard_ago.map(words::millis),
        in_flight_bytes: member.in_flight_bytes,
    }
}

fn member_from_wire(member: &v1::MemberProgress) -> MemberProgress {
    MemberProgress {
        node: NodeId(member.node),
        slot_synced: Slot(member.slot_synced),
        heard_ago: member.heard_ms_ago.map(Duration::from_millis),
        in_flight_bytes: member.in_flight_bytes,
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
