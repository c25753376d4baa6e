//! Once faults end, one replica serves, the best placed one or one of these, and all members have applied the same ("Paxos Made Simple", section 3:
//! progress is made when one leader can talk to a majority; traps 17 and 22).

use quorate_paxos::MembershipAt;
use quorate_types::ReplicaId;

use crate::common::cluster::Cluster;
use crate::common::node::Node;

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
    let at = &cluster.membership;
    assert!(!at.membership.is_degraded(), "voters are set aside after the faults end");
    for (id, kept) in kept(cluster) {
        assert_eq!(kept, at, "arbiter {id} knows of other members");
    }
    let longest = cluster.members().map(|(_, node)| applied(node)).max().unwrap_or(0);
    for (id, node) in cluster.members().filter(|(_, node)| node.options.kind.keeps_log()) {
        let status = node.core.as_ref().map(|core| core.status(node.now(cluster.real_ns)));
        assert!(!is_suspect(node), "the log of {id} is suspect after the faults end");
        assert_eq!(applied(node), longest, "{id} lags after the faults end: {status:?}");
    }
}

/// True if `check` would pass.
pub fn is_reached(cluster: &Cluster) -> bool {
    let mut with_log = cluster.members().filter(|(_, node)| node.options.kind.keeps_log());
    let is_one_suspect = cluster.members().any(|(_, node)| is_suspect(node));
    let mut lengths = with_log.by_ref().map(|(_, node)| applied(node));
    let first = lengths.next();
    let serving: Vec<_> = cluster.nodes.keys().filter(|id| cluster.serves(**id)).collect();
    serving.len() == 1
        && !is_one_suspect
        && cluster.is_home(*serving[0])
        && !cluster.membership.membership.is_degraded()
        && kept(cluster).all(|(_, kept)| *kept == cluster.membership)
        && lengths.all(|length| Some(length) == first)
}

/// True if it does not vote because its log may lack entries.
fn is_suspect(node: &Node) -> bool {
    node.core.as_ref().is_some_and(quorate_paxos::Replica::is_log_suspect)
}

/// What arbiters keep of who takes part.
fn kept(cluster: &Cluster) -> impl Iterator<Item = (&ReplicaId, &MembershipAt)> {
    let membership = &cluster.membership.membership;
    let is_arbiter = |id: &ReplicaId| membership.arbiters().any(|it| it == *id);
    let arbiters = cluster.members().filter(move |(id, _)| is_arbiter(id));
    arbiters.map(|(id, node)| (id, &node.disk.membership))
}

/// How far a replica has come.
fn applied(node: &Node) -> usize {
    if node.options.kind.keeps_rows() {
        return node.applied.len();
    }
    let slot = node.core.as_ref().map_or(0, |core| core.slot_applied().0);
    if node.options.kind.keeps_log() { slot as usize } else { 0 }
}
