//! Once faults end, one replica serves, the best placed one or one of these, and all members have applied the same ("Paxos Made Simple", section 3:
//! progress is made when one leader can talk to a majority; traps 17 and 22).

use quorate_types::ReplicaId;

use crate::common::cluster::Cluster;

/// So many leaderships may begin after the faults: elections under way, one home, and some to spare.
const MOVES_MAX: u32 = 5;

/// No leadership moves to and fro.
pub fn check_moves(moves: u32) {
    assert!(moves <= MOVES_MAX, "{moves} leaderships began after the faults ended");
}

pub fn check(cluster: &Cluster) {
    let serving: Vec<ReplicaId> =
        cluster.nodes.keys().copied().filter(|id| cluster.serves(*id)).collect();
    assert_eq!(serving.len(), 1, "one replica serves after the faults end, not {serving:?}");
    for id in serving {
        assert!(cluster.is_home(id), "{id} leads after the faults end, and is not the best placed");
    }
    let longest = cluster.members().map(|(_, node)| node.applied.len()).max().unwrap_or(0);
    for (id, node) in cluster.members() {
        let status = node.core.as_ref().map(|core| core.status(node.now(cluster.real_ns)));
        assert_eq!(node.applied.len(), longest, "{id} lags after the faults end: {status:?}");
    }
}

/// True if `check` would pass.
pub fn is_reached(cluster: &Cluster) -> bool {
    let mut lengths = cluster.members().map(|(_, node)| node.applied.len());
    let first = lengths.next();
    let serving: Vec<_> = cluster.nodes.keys().filter(|id| cluster.serves(**id)).collect();
    serving.len() == 1
        && cluster.is_home(*serving[0])
        && lengths.all(|length| Some(length) == first)
}
