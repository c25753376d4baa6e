//! Where a node stands, for the admin service, readiness and metrics.

use std::time::Duration;

use quorate_proto::status::{GroupStatus, MemberProgress, NodeStatus, Role};
use quorate_replica::ShardStatus;
use quorate_types::{Error, ReplicaId};

use crate::context::NodeContext;
use crate::repair::Repaired;

impl NodeContext {
    /// Where this node and its groups stand.
    ///
    /// # Errors
    /// `SHUTTING_DOWN` if the node has stopped.
    pub async fn status(&self) -> Result<NodeStatus, Error> {
        let shard = self.shard.status().await?;
        let entry = self.entry();
        Ok(NodeStatus {
            cluster: self.topology.cluster_id(),
            node: self.node,
            name: entry.name.clone(),
            incarnation: self.incarnation,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            topology_version: self.topology.version(),
            uptime: self.clock.now().since(self.started_at),
            draining: shard.draining,
            ready: !shard.draining && shard.has_room,
            disk_free_bytes: self.disk.free_bytes().unwrap_or(0),
            disk_total_bytes: self.disk.total_bytes().unwrap_or(0),
            log_bytes: shard.log_bytes,
            groups: shard.groups.iter().map(|group| self.group_status(group)).collect(),
            notices: self.notices(&shard),
        })
    }

    /// What people should know.
    fn notices(&self, shard: &ShardStatus) -> Vec<String> {
        let mut notices: Vec<String> = self.repaired.iter().map(Repaired::notice).collect();
        for group in &shard.groups {
            let label = self.topology.group(group.group).map(quorate_topology::Group::label);
            let label = label.unwrap_or_else(|| group.group.to_string());
            if group.is_outlived {
                let history = group.history;
                notices.push(format!(
                    "{label} goes on in history {history} without the replica of this node, which serves and votes no more: empty its data folder and add it anew"
                ));
            } else if group.checks.is_diverged {
                notices.push(format!(
                    "its rows of {label} were not those of the majority: it does not serve them and fetches them anew"
                ));
            } else if group.refill.is_missing {
                notices.push(format!("it has no rows of {label} yet and fetches them"));
            }
            if group.core.serving && 0 < group.checks.differing {
                let count = group.checks.differing;
                notices.push(format!(
                    "the last check of {label} found {count} replicas with other rows"
                ));
            }
        }
        notices
    }

    fn group_status(&self, group: &quorate_replica::GroupStatus) -> GroupStatus {
        let core = &group.core;
        let unit =
            self.topology.group(group.group).map_or_else(String::new, |entry| entry.unit.clone());
        let members = core
            .members
            .iter()
            .zip(&group.heard_ms_ago)
            .map(|(member, (_, heard_ms_ago))| MemberProgress {
                node: member.replica.node(),
                slot_synced: member.slot_synced,
                heard_ago: heard_ms_ago.map(Duration::from_millis),
                in_flight_bytes: member.in_flight_bytes as u64,
            })
            .collect();
        GroupStatus {
            group: group.group,
            unit,
            role: match core.role {
                "leader" => Role::Leader,
                "candidate" => Role::Candidate,
                _ => Role::Follower,
            },
            ballot: core.promised,
            leader: core.leader.map(ReplicaId::node),
            lease_remaining: Duration::from_millis(group.lease_remaining_ms),
            serving: core.serving,
            slot_accepted: core.last.slot,
            slot_synced: core.slot_synced,
            slot_committed: core.slot_committed,
            slot_applied: core.slot_applied,
            slot_persisted: group.slot_persisted,
            sessions: group.sessions as u64,
            members,
        }
    }
}
