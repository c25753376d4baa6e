//! Emptying a node: which node takes each of its replicas over, and the plan for each group.

use std::collections::BTreeMap;

use quorate_types::{GroupId, NodeId};

use super::{MembersNow, Plan, Redundancy, Refusal, Wish, in_the_end, plan};
use crate::model::{Group, Node};
use crate::topology::Topology;

/// Where the replicas of a node go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Each to the nearest node that has room for it: in its zone, else its IDC, else its city.
    Spread,
    /// All to this node.
    To(NodeId),
}

/// The nodes that could take a replica, each with how many it holds.
pub type Usable = BTreeMap<NodeId, usize>;

/// A plan for each group that has a replica on the node, in order of number. Groups whose replica has
/// left it already have none.
///
/// # Errors
/// The first group that has no way. Nothing should be done then, not even for the others.
pub fn plan_moves(
    topology: &Topology,
    groups: &BTreeMap<GroupId, MembersNow>,
    from: NodeId,
    to: Move,
    usable: &Usable,
    redundancy: Redundancy,
) -> Result<Vec<Plan>, Refusal> {
    let mut usable = usable.clone();
    let mut plans = Vec::new();
    for (group, now) in groups.iter().filter(|(_, now)| now.contains_key(&from)) {
        let found = topology.group(*group).ok_or(Refusal::UnknownGroup(group.0))?;
        let settled = in_the_end(now);
        let wish = match to {
            // It is leaving.
            _ if !settled.contains_key(&from) => Wish::Remove(from),
            Move::To(by) => Wish::Replace(from, by),
            Move::Spread => {
                let by = successor(topology, found, &settled, from, &usable)?;
                if !settled.contains_key(&by) {
                    *usable.entry(by).or_default() += 1;
                }
                Wish::Replace(from, by)
            }
        };
        plans.push(plan(topology, *group, now, wish, redundancy)?);
    }
    Ok(plans)
}

/// The node that takes a replica over: the nearest, then one that has a learner already (that of a move
/// that was interrupted), then one whose zone has no other member, then the one with the fewest
/// replicas, then the lowest number.
fn successor(
    topology: &Topology,
    group: &Group,
    members: &MembersNow,
    from: NodeId,
    usable: &Usable,
) -> Result<NodeId, Refusal> {
    let Some(leaving) = topology.node(from) else {
        let (group, node) = (group.label(), from.to_string());
        let why = "the cluster file does not have it".to_owned();
        return Err(Refusal::NoSuccessor { group, node, why, place: "the file".to_owned() });
    };
    let zone_is_taken = |zone: &str| {
        let others = members.keys().filter(|node| **node != from);
        others.filter_map(|node| topology.node(*node)).any(|node| node.zone == zone)
    };
    let votes = |node: NodeId| members.get(&node).is_some_and(|member| member.role.votes_after());
    let kind = members.get(&from).map(|member| member.kind);
    let holds_other = |node: NodeId| {
        let member = members.get(&node);
        member.is_some_and(|member| kind.is_some_and(|kind| !member.kind.holds_as(kind)))
    };
    let near = topology.nodes().filter(|node| node.id != from).filter_map(|node| {
        let replicas = usable.get(&node.id).filter(|_| !votes(node.id) && !holds_other(node.id))?;
        let is_new = !members.contains_key(&node.id);
        let is_crowded = is_new && zone_is_taken(&node.zone);
        Some(((distance(leaving, node)?, is_new, is_crowded, *replicas, node.id), node.id))
    });
    near.min().map(|(_, node)| node).ok_or_else(|| Refusal::NoSuccessor {
        group: group.label(),
        node: leaving.name.clone(),
        why: why_none(topology, leaving, &votes),
        place: format!("zone {}, IDC {} or city {}", leaving.zone, leaving.idc, leaving.city),
    })
}

/// How far a node is from another one; `None` in another city.
fn distance(from: &Node, to: &Node) -> Option<u8> {
    if from.zone == to.zone {
        Some(0)
    } else if from.idc == to.idc {
        Some(1)
    } else if from.city == to.city {
        Some(2)
    } else {
        None
    }
}

/// What is the matter with the other nodes of the city.
fn why_none(topology: &Topology, from: &Node, votes: &impl Fn(NodeId) -> bool) -> String {
    let others = topology.nodes().filter(|node| node.id != from.id && node.city == from.city);
    let reason = |node: &Node| {
        let what = if votes(node.id) { "votes in the group already" } else { "cannot be used" };
        format!("{} {what}", node.name)
    };
    let reasons: Vec<String> = others.map(reason).collect();
    if reasons.is_empty() {
        return format!("it is the only node of city {}", from.city);
    }
    format!("in city {}, {}", from.city, reasons.join(", "))
}
