//! At no instant do two replicas hold a lease ("Paxos Made Live", section 5.2, master leases; thesis,
//! section 6.4.1; traps 17 to 19). Holds while the clocks drift by no more than the margin covers.

use quorate_paxos::Replica;
use quorate_types::ReplicaId;

use crate::common::cluster::Cluster;

#[derive(Default)]
pub struct OneLease {
    /// Steps at which two held one, where clocks drift beyond the margin.
    pub overlaps: u64,
}

impl OneLease {
    /// Looks at the others when one that holds a lease has done something.
    pub fn observe(&mut self, cluster: &Cluster, id: ReplicaId, may_overlap: bool) {
        if !holds(cluster, id) {
            return;
        }
        // In the one before it others may lead on, until they hear of a history that began by force.
        let history = |id: &ReplicaId| cluster.nodes[id].core.as_ref().map(Replica::history);
        let others = cluster.nodes.keys().filter(|other| **other != id);
        for other in others.filter(|other| history(other) == history(&id)) {
            if holds(cluster, *other) {
                self.overlap(id, *other, may_overlap);
            }
        }
    }

    pub fn overlap(&mut self, id: ReplicaId, other: ReplicaId, may_overlap: bool) {
        assert!(may_overlap, "{id} and {other} hold a lease at the same time");
        self.overlaps += 1;
    }
}

fn holds(cluster: &Cluster, id: ReplicaId) -> bool {
    let node = &cluster.nodes[&id];
    let now = node.now(cluster.real_ns);
    cluster.leads(id)
        && node
            .core
            .as_ref()
            .and_then(|core| core.status(now).lease_until)
            .is_some_and(|end| now < end)
}
