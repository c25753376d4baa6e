//! How a group begins.

use quorate_paxos::Membership;
use quorate_types::{NodeId, ReplicaId};

/// Voters of these ranks, each on a node of its number.
pub(crate) fn voters(ids: impl IntoIterator<Item = (ReplicaId, u16)>) -> Membership {
    let seat = |(id, rank): (ReplicaId, u16)| (id, NodeId(id.0 as u32), rank);
    Membership::of_voters(ids.into_iter().map(seat))
}
