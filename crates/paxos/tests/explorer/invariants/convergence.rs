//! Once faults end, one replica serves and all have applied the same ("Paxos Made Simple", section 3:
//! progress is made when one leader can talk to a majority; traps 17 and 22).

use quorate_types::ReplicaId;

use crate::common::cluster::Cluster;

pub fn check(cluster: &Cluster) {
    let serving: Vec<ReplicaId> =
        cluster.nodes.keys().copied().filter(|id| cluster.serves(*id)).collect();
    assert_eq!(serving.len(), 1, "one replica serves after the faults end, not {serving:?}");
    let longest = cluster.nodes.values().map(|node| node.applied.len()).max().unwrap_or(0);
    for (id, node) in &cluster.nodes {
        let status = node.core.as_ref().map(|core| core.status(node.now(cluster.real_ns)));
        assert_eq!(node.applied.len(), longest, "{id} lags after the faults end: {status:?}");
    }
}

/// True if `check` would pass.
pub fn is_reached(cluster: &Cluster) -> bool {
    let mut lengths = cluster.nodes.values().map(|node| node.applied.len());
    let first = lengths.next();
    cluster.nodes.keys().filter(|id| cluster.serves(**id)).count() == 1
        && lengths.all(|length| Some(length) == first)
}
