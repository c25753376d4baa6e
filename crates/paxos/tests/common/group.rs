//! How a group begins.

use quorate_paxos::Membership;
use quorate_types::ReplicaId;

/// Voters of these ranks.
pub(crate) fn voters(ids: impl IntoIterator<Item = (ReplicaId, u16)>) -> Membership {
    Membership::of_voters(ids)
}
