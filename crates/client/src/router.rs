//! Who to ask: the topology, and for each group the node that led it last.
//!
//! `call` asks for a node, reports who answered and who did not, and follows what is said here. The
//! cache is a guess that a server's `NOT_LEADER` corrects; the topology is replaced as a whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_topology::{Group, ReplicaKind, TableClass, Topology};
use quorate_types::{Code, Error, GroupId, NodeId, SliceId, TableId, Uid, cut_group};
use tokio::time::Instant;

/// Where a row lives, for people and support tickets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteInfo {
    /// The topology version the answer stands on.
    pub topology_version: u64,
    /// The table.
    pub table: TableId,
    /// The slice; `SliceId::UNSHARDED` for tables of class `home` and `global`.
    pub slice: SliceId,
    /// The unit that owns the slice.
    pub unit: String,
    /// The group that holds it.
    pub group: GroupId,
    /// The nodes that may lead the group with their addresses, in the order in which they are asked:
    /// the last known leader first.
    pub candidates: Vec<(NodeId, String)>,
}

/// Topology and leader cache.
#[derive(Debug)]
pub(crate) struct Router {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    topology: Arc<Topology>,
    leaders: BTreeMap<GroupId, NodeId>,
    /// Nodes that could not answer, and until when others are asked first where any will do.
    shunned: BTreeMap<NodeId, Instant>,
}

impl Router {
    pub(crate) fn new(topology: Arc<Topology>) -> Router {
        Router {
            state: Mutex::new(State {
                topology,
                leaders: BTreeMap::new(),
                shunned: BTreeMap::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is a single assignment, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topology in use.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.lock().topology)
    }

    /// Its version.
    pub(crate) fn topology_version(&self) -> u64 {
        self.lock().topology.version()
    }

    /// Takes a topology if it is newer. Leaders that are no nodes any more are forgotten.
    pub(crate) fn replace(&self, topology: Arc<Topology>) {
        let mut state = self.lock();
        if state.topology.version() < topology.version() {
            state.leaders.retain(|group, node| {
                topology.group(*group).is_some() && topology.node(*node).is_some()
            });
            state.topology = topology;
        }
    }

    /// The node to ask first: the last known leader, otherwise the first in the leader order.
    pub(crate) fn first(&self, group: GroupId) -> Result<NodeId, Error> {
        let state = self.lock();
        if let Some(leader) = state.leaders.get(&group) {
            return Ok(*leader);
        }
        let found = require_group(&state.topology, group)?;
        candidates(found).next().ok_or_else(|| nobody_leads(group))
    }

    /// The replica to ask for a read that need not go to the leader: in this IDC, or else in its city or
    /// the city of this name, or else the first of all. Among equals the first in the leader order.
    pub(crate) fn nearest(
        &self,
        group: GroupId,
        near: Option<&str>,
        now: Instant,
    ) -> Result<NodeId, Error> {
        let state = self.lock();
        let found = require_group(&state.topology, group)?;
        let idcs = state.topology.idcs();
        let idc = idcs.iter().find(|idc| Some(idc.name.as_str()) == near);
        let city = idc.map(|idc| idc.city.as_str()).or(near);
        let distance = |node: &NodeId| match state.topology.node(*node) {
            Some(node) if Some(node.idc.as_str()) == near => 0,
            Some(node) if Some(node.city.as_str()) == city => 1,
            Some(_) | None => 2,
        };
        let is_shunned = |node: &NodeId| state.shunned.get(node).is_some_and(|until| now < *until);
        let order = |node: &NodeId| (is_shunned(node), distance(node));
        candidates(found).min_by_key(order).ok_or_else(|| nobody_leads(group))
    }

    /// A node could not answer: until then others are asked first where any will do.
    pub(crate) fn shun(&self, node: NodeId, until: Instant) {
        self.lock().shunned.insert(node, until);
    }

    /// The node to ask after this one, in the leader order, from the start after the end.
    pub(crate) fn next(&self, group: GroupId, after: NodeId) -> Result<NodeId, Error> {
        let state = self.lock();
        let found = require_group(&state.topology, group)?;
        let mut after_it = candidates(found).skip_while(|node| *node != after).skip(1);
        let next = after_it.next().or_else(|| candidates(found).next());
        next.ok_or_else(|| nobody_leads(group))
    }

    /// The address of a node for clients.
    pub(crate) fn address(&self, node: NodeId) -> Option<String> {
        self.lock().topology.node(node).map(|node| node.client.clone())
    }

    /// A node answered as leader, or was named as leader. It need not be a member by the cluster file: groups
    /// move. Strangers are ignored.
    pub(crate) fn note_leader(&self, group: GroupId, node: NodeId) {
        let mut state = self.lock();
        if state.leaders.get(&group) == Some(&node) {
            return;
        }
        if state.topology.group(group).is_some() && state.topology.node(node).is_some() {
            state.leaders.insert(group, node);
        }
    }

    /// A node is not the leader, or cannot be reached.
    pub(crate) fn forget_leader(&self, group: GroupId, node: NodeId) {
        let mut state = self.lock();
        if state.leaders.get(&group) == Some(&node) {
            state.leaders.remove(&group);
        }
    }

    /// The number of a table.
    pub(crate) fn table(&self, name: &str) -> Result<TableId, Error> {
        Ok(self.lock().topology.require_table(name)?.id)
    }

    /// The group of a user's rows.
    pub(crate) fn group_of(&self, table: TableId, uid: Uid) -> Result<GroupId, Error> {
        Ok(self.lock().topology.route(table, uid)?.group.id)
    }

    /// The one group of these users' accounts.
    pub(crate) fn group_of_accounts(&self, users: &[Uid]) -> Result<GroupId, Error> {
        let state = self.lock();
        let mut groups = users.iter().map(|uid| state.topology.group_of_accounts(*uid));
        let nobody = || Error::new(Code::InvalidRequest, "no account is named");
        let first = groups.next().ok_or_else(nobody)??.id;
        for other in groups {
            let other = other?.id;
            if other != first {
                let message = format!("accounts of {first} and of {other} are in one request");
                return Err(Error::new(Code::SeveralGroups, message));
            }
        }
        Ok(first)
    }

    /// The group that makes the cuts.
    pub(crate) fn group_of_cuts(&self) -> Result<GroupId, Error> {
        let state = self.lock();
        let groups = state.topology.groups().map(|group| group.id);
        cut_group(groups).ok_or_else(|| Error::new(Code::UnknownGroup, "the cluster has no group"))
    }

    /// The slices of a table, in order.
    pub(crate) fn slices(&self, table: &str) -> Result<Vec<SliceId>, Error> {
        let state = self.lock();
        let table = state.topology.require_table(table)?;
        Ok(match table.class {
            TableClass::Unit => (0..state.topology.slice_count()).map(SliceId).collect(),
            TableClass::Home | TableClass::Global => vec![SliceId::UNSHARDED],
        })
    }

    /// The group of a slice.
    pub(crate) fn group_of_slice(&self, table: TableId, slice: SliceId) -> Result<GroupId, Error> {
        Ok(self.lock().topology.route_slice(table, slice)?.group.id)
    }

    /// Everything about the way to a user's rows.
    pub(crate) fn describe(&self, table: &str, uid: Uid) -> Result<RouteInfo, Error> {
        let state = self.lock();
        let topology = &state.topology;
        let route = topology.route(topology.require_table(table)?.id, uid)?;
        let leader = state.leaders.get(&route.group.id).copied();
        let others = candidates(route.group).filter(|node| Some(*node) != leader);
        let with_address = |node| Some((node, topology.node(node)?.client.clone()));
        Ok(RouteInfo {
            topology_version: topology.version(),
            table: route.table.id,
            slice: route.slice,
            unit: route.unit.name.clone(),
            group: route.group.id,
            candidates: leader.into_iter().chain(others).filter_map(with_address).collect(),
        })
    }
}

/// The nodes that may lead a group, in the order in which to look for the leader.
fn candidates(group: &Group) -> impl Iterator<Item = NodeId> {
    let full = group.members.iter().filter(|member| member.kind == ReplicaKind::Full);
    full.map(|member| member.node)
}

fn require_group(topology: &Topology, group: GroupId) -> Result<&Group, Error> {
    let unknown =
        || Error::new(Code::UnknownGroup, format!("the cluster file has no group {group}"));
    topology.group(group).ok_or_else(unknown)
}

fn nobody_leads(group: GroupId) -> Error {
    Error::new(Code::NoQuorum, format!("group {group} has no full replica that could lead it"))
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets;
    use quorate_types::ClusterId;

    use super::*;

    fn topology(version: u64) -> Arc<Topology> {
        let text = presets::one_city_three_idcs(&presets::Options::demo(ClusterId(7)));
        let text = text.replace("version = 1", &format!("version = {version}"));
        Arc::new(Topology::parse(&text).expect("presets are valid"))
    }

    #[test]
    fn members_are_asked_in_the_leader_order_and_again_from_the_start() {
        // Goal: without a hint every member is asked in turn.
        let router = Router::new(topology(1));
        let order: Vec<NodeId> = candidates(router.topology().group(GroupId(2)).unwrap()).collect();
        assert_eq!(order.len(), 3);
        let mut node = router.first(GroupId(2)).unwrap();
        for round in 0..7 {
            assert_eq!(node, order[round % 3]);
            node = router.next(GroupId(2), node).unwrap();
        }
        // A node that left the group is followed by the first.
        assert_eq!(router.next(GroupId(2), NodeId(99)).unwrap(), order[0]);
        assert_eq!(router.first(GroupId(99)).unwrap_err().code, Code::UnknownGroup);
    }

    #[test]
    fn the_nearest_replica_is_in_the_same_idc_or_city() {
        // Goal: a read that any replica may answer stays as near as it can.
        let router = Router::new(topology(1));
        let (topology, group, now) = (router.topology(), GroupId(2), Instant::now());
        for node in topology.nodes() {
            assert_eq!(router.nearest(group, Some(&node.idc), now).unwrap(), node.id);
        }
        let preferred = candidates(topology.group(group).unwrap()).next().unwrap();
        let city = topology.node(preferred).unwrap().city.clone();
        for near in [None, Some(city.as_str()), Some("nowhere")] {
            assert_eq!(router.nearest(group, near, now).unwrap(), preferred);
        }
        router.note_leader(group, NodeId(3));
        assert_eq!(router.nearest(group, None, now).unwrap(), preferred, "any replica will do");
        let until = now + std::time::Duration::from_secs(1);
        router.shun(preferred, until);
        assert_ne!(router.nearest(group, None, now).unwrap(), preferred, "it could not answer");
        assert_eq!(router.nearest(group, None, until).unwrap(), preferred, "perhaps it can now");
    }

    #[test]
    fn the_leader_cache_learns_and_forgets() {
        // Goal: the last known leader is asked first until it is known not to lead.
        let router = Router::new(topology(1));
        let group = GroupId(1);
        let preferred = router.first(group).unwrap();
        let other = router.next(group, preferred).unwrap();
        router.note_leader(group, NodeId(99));
        assert_eq!(router.first(group).unwrap(), preferred, "strangers are ignored");
        router.note_leader(group, other);
        assert_eq!(router.first(group).unwrap(), other);
        assert_eq!(router.describe("profiles", Uid(3)).unwrap().candidates[0].0, other);
        router.forget_leader(group, preferred);
        assert_eq!(router.first(group).unwrap(), other, "somebody else failed");
        router.forget_leader(group, other);
        assert_eq!(router.first(group).unwrap(), preferred);
    }

    #[test]
    fn only_a_newer_topology_is_taken() {
        // Goal: an answer that took long does not bring back the past.
        let router = Router::new(topology(5));
        router.replace(topology(4));
        assert_eq!(router.topology().version(), 5);
        router.replace(topology(6));
        assert_eq!(router.topology().version(), 6);
    }

    #[test]
    fn routes_name_slice_unit_and_group() {
        // Goal: what support asks for.
        let router = Router::new(topology(1));
        let route = router.describe("profiles", Uid(142)).unwrap();
        assert_eq!((route.slice, route.unit.as_str()), (SliceId(42), "RZ01"));
        assert_eq!(route.group, router.group_of(route.table, Uid(142)).unwrap());
        assert_eq!(route.candidates.len(), 3);
        let error = router.describe("profile", Uid(1)).unwrap_err();
        assert_eq!(error.code, Code::UnknownTable);
        assert!(error.message.contains("did you mean"), "{error}");
    }
}
