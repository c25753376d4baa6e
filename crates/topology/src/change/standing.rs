//! What a group survives with these members: `survival.rs` for members that are not those of the cluster
//! file, and for two counts of votes at once while they change.

use std::collections::BTreeSet;

use quorate_types::{MemberRole, NodeId, ReplicaKind};

use super::{MembersNow, is_joint};
use crate::model::Group;
use crate::survival::{Level, Survives, survives_with};
use crate::topology::Topology;
use crate::words;

/// What a group survives with some members.
///
/// Invariant: one count of votes, or two while voters change: of those that stay, then of those from before.
/// What must be chosen then needs both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    counts: Vec<Survives>,
}

impl Standing {
    /// What a group survives with these members; those that are not fit count as lost already.
    #[must_use]
    pub fn of(topology: &Topology, group: &Group, members: &MembersNow) -> Standing {
        let unfit = members.iter().filter(|(_, member)| !member.fit);
        let down: BTreeSet<NodeId> = unfit.map(|(node, _)| *node).collect();
        let count = |votes: fn(MemberRole) -> bool| {
            let voters = members.iter().filter(|(_, member)| votes(member.role));
            let mut voters: Vec<(NodeId, ReplicaKind)> =
                voters.map(|(node, member)| (*node, member.kind)).collect();
            // In order of rank, as everywhere else.
            let rank = |node: &NodeId| {
                topology.node(*node).map(|node| group.leader_order.rank_of(&node.zone))
            };
            voters.sort_by_key(|(node, _)| (rank(node), *node));
            survives_with(topology, group, &voters, &down)
        };
        let mut counts = vec![count(MemberRole::votes_after)];
        if is_joint(members) {
            counts.push(count(MemberRole::votes_before));
        }
        Standing { counts }
    }

    /// True while two majorities are needed.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        1 < self.counts.len()
    }

    /// True if every count has a majority.
    #[must_use]
    pub fn has_majority(&self) -> bool {
        self.counts.iter().all(Survives::has_majority)
    }

    /// True if any one place of this level may be lost.
    #[must_use]
    pub fn any_one(&self, level: Level) -> bool {
        self.counts.iter().all(|count| count.any_one(level))
    }

    /// `survives the loss of any one node; of any one IDC; not of city sh (it holds 3 of 3 voters)`.
    #[must_use]
    pub fn words(&self) -> String {
        words::sentence(&self.counts.iter().collect::<Vec<&Survives>>())
    }
}
