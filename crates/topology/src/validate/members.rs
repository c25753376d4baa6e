//! Which node holds which replica.
//!
//! Where the file names members, they are checked. Otherwise each zone of the locality gives the
//! node that holds the fewest replicas so far, the lowest number among equals. Groups are taken in
//! order of number, so that a group added with a higher number never moves the replicas of others.

use std::collections::BTreeMap;

use quorate_types::{GroupId, NodeId, ReplicaId};

use super::groups::GroupDraft;
use super::places::Places;
use crate::locality::Placement;
use crate::model::{Group, Member, Node};
use crate::problem::Problems;
use crate::reader::At;
use crate::suggest;

/// The groups with their members, by number.
pub(super) fn assign(
    drafts: &[GroupDraft<'_>],
    places: &Places,
    problems: &mut Problems,
) -> BTreeMap<GroupId, Group> {
    let mut replica_counts: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut groups = BTreeMap::new();
    for draft in drafts {
        let nodes = match draft.members {
            Some(names) => named(draft, names, places, problems),
            None => spread(draft, places, &replica_counts, problems),
        };
        let Some(nodes) = nodes else { continue };
        for node in &nodes {
            *replica_counts.entry(node.id).or_default() += 1;
        }
        groups.insert(draft.id, group(draft, &nodes));
    }
    groups
}

/// The nodes the file names, one for each zone of the locality, in order of the locality.
fn named<'p>(
    draft: &GroupDraft<'_>,
    names: &At<Vec<At<String>>>,
    places: &'p Places,
    problems: &mut Problems,
) -> Option<Vec<&'p Node>> {
    let path = format!("{}.members", draft.path);
    let mut by_zone: BTreeMap<&str, &Node> = BTreeMap::new();
    let mut sound = true;
    for name in &names.value {
        let Some(node) = places.nodes.values().find(|node| node.name == name.value) else {
            if !places.node_names.contains(&name.value) {
                let known = places.node_names.iter().map(String::as_str);
                let message = format!("members name node {:?}, which is not declared", name.value);
                let hint = suggest::hint(&name.value, "nodes", known);
                problems.error(Some(name.line), path.clone(), message, hint);
            }
            sound = false;
            continue;
        };
        let wrong = if !draft.locality.zones().any(|zone| zone == node.zone) {
            format!("where {} has no replica", group_label(draft))
        } else if let Some(other) = by_zone.get(node.zone.as_str()) {
            format!("which already gives {:?}", other.name)
        } else {
            by_zone.insert(&node.zone, node);
            continue;
        };
        let message = format!("member {:?} is in zone {:?}, {wrong}", node.name, node.zone);
        problems.error(Some(name.line), path.clone(), message, None);
        sound = false;
    }
    if !sound {
        return None;
    }
    let mut nodes = Vec::with_capacity(draft.locality.placements.len());
    for zone in draft.locality.zones() {
        if let Some(node) = by_zone.get(zone) {
            nodes.push(*node);
            continue;
        }
        let message = format!("members name no node of zone {zone:?}");
        let in_zone = places.nodes.values().filter(|node| node.zone == zone);
        let known: Vec<&str> = in_zone.map(|node| node.name.as_str()).collect();
        let hint = (!known.is_empty()).then(|| format!("nodes there: {}", known.join(", ")));
        problems.error(Some(names.line), path.clone(), message, hint);
        sound = false;
    }
    sound.then_some(nodes)
}

/// The least loaded node of each zone.
fn spread<'p>(
    draft: &GroupDraft<'_>,
    places: &'p Places,
    replica_counts: &BTreeMap<NodeId, usize>,
    problems: &mut Problems,
) -> Option<Vec<&'p Node>> {
    let mut nodes = Vec::with_capacity(draft.locality.placements.len());
    let mut sound = true;
    for zone in draft.locality.zones() {
        let in_zone = places.nodes.values().filter(|node| node.zone == zone);
        let load = |node: &&Node| (replica_counts.get(&node.id).copied().unwrap_or(0), node.id);
        if let Some(node) = in_zone.min_by_key(load) {
            nodes.push(node);
            continue;
        }
        sound = false;
        if !places.all_nodes_placed {
            continue; // The node that is missed here has a problem of its own.
        }
        let message =
            format!("{} has a replica in zone {zone:?}, which has no node", group_label(draft));
        problems.error(Some(draft.line), format!("{}.locality", draft.path), message, None);
    }
    sound.then_some(nodes)
}

fn group_label(draft: &GroupDraft<'_>) -> String {
    format!("group {}", draft.id.0)
}

/// The group with one member per placement; `nodes` are in order of the locality.
fn group(draft: &GroupDraft<'_>, nodes: &[&Node]) -> Group {
    let member = |(placement, node): (&Placement, &&Node)| Member {
        node: node.id,
        replica: ReplicaId(u64::from(node.id.0)),
        kind: placement.kind,
        zone: placement.zone.clone(),
        rank: draft.leader_order.rank_of(&placement.zone),
    };
    let mut members: Vec<Member> =
        draft.locality.placements.iter().zip(nodes).map(member).collect();
    members.sort_by_key(|member| (member.rank, member.node));
    Group {
        id: draft.id,
        unit: draft.unit.clone(),
        slices: draft.slices.clone(),
        locality: draft.locality.clone(),
        leader_order: draft.leader_order.clone(),
        members,
    }
}
