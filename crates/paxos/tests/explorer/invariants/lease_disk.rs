//! A leader whose disk has done nothing for longer than `disk_stall` asks for no lease: it could serve
//! reads for ever and accept no write (trap 21).

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_paxos::Message;
use quorate_types::{BootTime, ReplicaId};

use crate::common::cluster::Cluster;

#[derive(Default)]
pub struct LeaseDisk {
    progress: BTreeMap<ReplicaId, BootTime>,
}

impl LeaseDisk {
    pub fn progress(&mut self, id: ReplicaId, at: BootTime) {
        self.progress.insert(id, at);
    }

    pub fn observe(&self, cluster: &Cluster, id: ReplicaId, messages: &[(ReplicaId, Message)]) {
        if messages.iter().any(|(_, message)| matches!(message, Message::Heartbeat(_))) {
            let node = &cluster.nodes[&id];
            if let Some(at) = self.progress.get(&id) {
                check(id, node.now(cluster.real_ns).since(*at), node.options.timing.disk_stall);
            }
        }
    }
}

/// A leader asks for a lease after its disk has been idle for so long.
pub fn check(id: ReplicaId, idle: Duration, disk_stall: Duration) {
    assert!(idle <= disk_stall, "{id} renews its lease with a disk that hangs for {idle:?}");
}
