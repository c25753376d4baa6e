//! What each group that is led here survives, as its leader sees the members.

use std::collections::{BTreeMap, BTreeSet};

use quorate_replica::GroupStatus;
use quorate_topology::{ClusterSurvival, Level, Topology, what_may_still_be_lost};
use quorate_types::{GroupId, NodeId};

/// A voter this many slots behind its leader's commit counts as lost, as in `quorate status`.
const LAG_SLOTS_MAX: u64 = 8192;
/// With leases, members answer several times a second; one not heard of for so long counts as lost.
const HEARD_MS_AGO_MAX: u64 = 10_000;

/// For each group that serves here and each level, whether any one more place of that level may be lost.
pub(super) fn survival(topology: &Topology, groups: &[GroupStatus]) -> Vec<(GroupId, Level, bool)> {
    let has_leases = topology.lease().length().is_some();
    // Few nodes are lost at a time, so few sets of lost nodes differ.
    let mut computed: BTreeMap<BTreeSet<NodeId>, ClusterSurvival> = BTreeMap::new();
    let mut found = Vec::new();
    for group in groups.iter().filter(|group| group.core.serving) {
        let lost = lost_of(topology, group, has_leases);
        let all =
            computed.entry(lost).or_insert_with_key(|lost| what_may_still_be_lost(topology, lost));
        let survives = all.groups.iter().find(|survives| survives.group == group.group);
        for level in Level::ALL {
            found.extend(survives.map(|survives| (group.group, level, survives.any_one(level))));
        }
    }
    found
}

/// The members that cannot be relied on when something else is lost.
fn lost_of(topology: &Topology, group: &GroupStatus, has_leases: bool) -> BTreeSet<NodeId> {
    let committed = group.core.slot_committed.0;
    let members = group.core.members.iter().zip(&group.heard_ms_ago);
    let has_log = |node: NodeId| {
        let member = topology.group(group.group).and_then(|entry| entry.member_on(node));
        member.is_none_or(|member| member.kind.keeps_log())
    };
    let is_lost = |node: NodeId, slot_synced: u64, heard_ms_ago: Option<u64>| {
        let is_unheard = heard_ms_ago.is_none_or(|ms| HEARD_MS_AGO_MAX < ms);
        let lag = committed.saturating_sub(slot_synced);
        (has_log(node) && LAG_SLOTS_MAX < lag) || (has_leases && is_unheard)
    };
    members
        .filter(|(member, (_, heard_ms_ago))| {
            is_lost(member.replica.node(), member.slot_synced.0, *heard_ms_ago)
        })
        .map(|(member, _)| member.replica.node())
        .collect()
}
