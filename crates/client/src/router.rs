//! Who to ask: the topology, and for each group the node that led it last.
//!
//! `call` asks for a node, reports who answered and who did not, and follows what is said here. The
//! cache is a guess that a server's `NOT_LEADER` corrects; the topology is replaced as a whole.
//!
//! The members of a group change without the cluster file. Those that are told or found elsewhere are
//! remembered; once a member of the file says that it has no replica, every node is asked in turn.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Groups whose members are known not to be those of the cluster file.
    moved: BTreeMap<GroupId, Moved>,
    /// Nodes that could not answer, and until when others are asked first where any will do.
    shunned: BTreeMap<NodeId, Instant>,
}

/// What is known of the members of a group beyond the cluster file.
#[derive(Debug, Default)]
struct Moved {
    /// Nodes that lead or led the group, or were told to be members, without being so in the file.
    members: BTreeSet<NodeId>,
    /// Nodes with read-only replicas that the file does not have.
    readers: BTreeSet<NodeId>,
    /// A member of the file said that it has no replica: anybody may have one.
    is_lost: bool,
}

impl State {
    /// The nodes that may lead a group, in the order in which to look for the leader.
    fn candidates(&self, group: GroupId) -> Result<Vec<NodeId>, Error> {
        let found = require_group(&self.topology, group)?;
        let mut nodes: Vec<NodeId> = candidates(found).collect();
        let Some(moved) = self.moved.get(&group) else { return Ok(nodes) };
        nodes.extend(&moved.members);
        if moved.is_lost {
            let all = self.topology.nodes().map(|node| node.id);
            let others: Vec<NodeId> = all.filter(|node| !nodes.contains(node)).collect();
            nodes.extend(others);
        }
        Ok(nodes)
    }

    /// The nodes that may answer reads of a group whoever leads: those that may lead it, then the read-only ones.
    fn readers(&self, group: GroupId) -> Result<Vec<NodeId>, Error> {
        let mut nodes = self.candidates(group)?;
        let members = &require_group(&self.topology, group)?.members;
        let listed = members.iter().filter(|member| member.kind == ReplicaKind::ReadOnly);
        let told = self.moved.get(&group).into_iter().flat_map(|moved| &moved.readers).copied();
        for node in listed.map(|member| member.node).chain(told) {
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        Ok(nodes)
    }

    /// Whether the file has the node, but not as a member of this group that may lead.
    fn is_stranger(&self, group: GroupId, node: NodeId) -> bool {
        let found = self.topology.group(group);
        let is_member = found.is_some_and(|found| candidates(found).any(|member| member == node));
        found.is_some() && !is_member && self.topology.node(node).is_some()
    }
}

impl Router {
    pub(crate) fn new(topology: Arc<Topology>) -> Router {
        Router {
            state: Mutex::new(State {
                topology,
                leaders: BTreeMap::new(),
                moved: BTreeMap::new(),
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

    /// Takes a topology if it is newer. Leaders that it does not have are forgotten, and what was learnt of
    /// members beside the older one.
    pub(crate) fn replace(&self, topology: Arc<Topology>) {
        let mut state = self.lock();
        if state.topology.version() < topology.version() {
            state.leaders.retain(|group, node| {
                topology.group(*group).is_some() && topology.node(*node).is_some()
            });
            state.moved.clear();
            state.topology = topology;
        }
    }

    /// The node to ask first: the last known leader, otherwise the first in the leader order.
    pub(crate) fn first(&self, group: GroupId) -> Result<NodeId, Error> {
        let state = self.lock();
        if let Some(leader) = state.leaders.get(&group) {
            return Ok(*leader);
        }
        state.candidates(group)?.first().copied().ok_or_else(|| nobody_leads(group))
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
        let found = state.readers(group)?;
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
        found.into_iter().min_by_key(order).ok_or_else(|| nobody_leads(group))
    }

    /// A node could not answer: until then others are asked first where any will do.
    pub(crate) fn shun(&self, node: NodeId, until: Instant) {
        self.lock().shunned.insert(node, until);
    }

    /// The node to ask after this one, in the leader order, from the start after the end.
    pub(crate) fn next(&self, group: GroupId, after: NodeId) -> Result<NodeId, Error> {
        let state = self.lock();
        let found = state.candidates(group)?;
        let mut after_it = found.iter().skip_while(|node| **node != after).skip(1);
        let next = after_it.next().or_else(|| found.first());
        next.copied().ok_or_else(|| nobody_leads(group))
    }

    /// The address of a node for clients.
    pub(crate) fn address(&self, node: NodeId) -> Option<String> {
        self.lock().topology.node(node).map(|node| node.client.clone())
    }

    /// A node answered as leader, or was named as leader. Nodes that the cluster file does not have are
    /// ignored.
    pub(crate) fn note_leader(&self, group: GroupId, node: NodeId) {
        let mut state = self.lock();
        if state.leaders.get(&group) == Some(&node) {
            return;
        }
        if state.topology.group(group).is_some() && state.topology.node(node).is_some() {
            state.leaders.insert(group, node);
        }
        if state.is_stranger(group, node) {
            state.moved.entry(group).or_default().members.insert(node);
        }
    }

    /// A node that should be a member has no replica of the group.
    pub(crate) fn note_absent(&self, group: GroupId, node: NodeId) {
        let mut state = self.lock();
        if state.topology.group(group).is_some() {
            let moved = state.moved.entry(group).or_default();
            moved.members.remove(&node);
            moved.is_lost = true;
        }
    }

    /// The members of a group, as its leader told them: those that may lead, and those that only answer reads.
    pub(crate) fn note_members(
        &self,
        group: GroupId,
        nodes: impl Iterator<Item = NodeId>,
        readers: impl Iterator<Item = NodeId>,
    ) {
        let mut state = self.lock();
        for node in nodes {
            if state.is_stranger(group, node) {
                state.moved.entry(group).or_default().members.insert(node);
            }
        }
        for node in readers {
            if state.is_stranger(group, node) {
                state.moved.entry(group).or_default().readers.insert(node);
            }
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
        let others = state.candidates(route.group.id)?;
        let others = others.into_iter().filter(|node| Some(*node) != leader);
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

/// The members of the cluster file that may lead a group, in the leader order.
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
    fn read_only_replicas_answer_reads_that_any_may_answer_and_no_others() {
        // Goal: a replica in the city of the caller is used for what it can do, and one without rows for nothing.
        let text = presets::three_cities_five_idcs(&presets::Options::demo(ClusterId(7)));
        let five = Arc::new(Topology::parse(&text).expect("presets are valid"));
        let text = text.replace("F@hz-b,L@sz-a", "R@hz-b,R@sz-a");
        let orders = [("hz-b;hz-a", "hz-a"), (";hz-a,hz-b", ";hz-a"), ("hz-a;hz-b", "hz-a")];
        let text = orders.into_iter().fold(text, |text, (from, to)| text.replace(from, to));
        let readers = Arc::new(Topology::parse(&text).expect("three full and two read-only"));
        let (group, now) = (GroupId(1), Instant::now());
        let router = Router::new(five);
        assert_ne!(router.nearest(group, Some("sz"), now).unwrap(), NodeId(5), "it has no rows");
        let router = Router::new(readers);
        assert_eq!(router.nearest(group, Some("sz"), now).unwrap(), NodeId(5));
        let mut node = router.first(group).unwrap();
        for _ in 0..5 {
            assert!(node.0 < 4, "{node} cannot lead");
            node = router.next(group, node).unwrap();
        }
        let router = Router::new(topology(1));
        router.note_members(group, std::iter::empty(), [NodeId(3)].into_iter());
        assert_eq!(router.nearest(group, Some("sh-c"), now).unwrap(), NodeId(3), "as it was");
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
    fn members_that_the_file_does_not_have_are_found() {
        // Goal: a group whose members changed is found by what is told, and at last by asking everybody.
        let text = presets::three_cities_five_idcs(&presets::Options::demo(ClusterId(7)));
        let turn = |line: &str| match line.split_once(" = ") {
            Some(("locality", _)) => "locality = \"F@sh-a,F@sh-b,F@hz-a\"".to_owned(),
            Some(("leader-order", _)) => "leader-order = \"sh-a;sh-b;hz-a\"".to_owned(),
            _ => line.to_owned(),
        };
        let text: Vec<String> = text.lines().map(turn).collect();
        let topology = Arc::new(Topology::parse(&text.join("\n")).expect("three of five"));
        let group = topology.groups().next().unwrap().id;
        let router = Router::new(topology);
        let ring = || {
            let mut nodes = vec![router.first(group).unwrap()];
            while let Some(next) =
                router.next(group, nodes[nodes.len() - 1]).ok().filter(|next| !nodes.contains(next))
            {
                nodes.push(next);
            }
            nodes.iter().map(|node| node.0).collect::<Vec<u32>>()
        };
        assert_eq!(ring(), [1, 2, 3]);
        router.note_members(group, [2, 3, 5].map(NodeId).into_iter(), std::iter::empty());
        assert_eq!(ring(), [1, 2, 3, 5]);
        router.note_absent(group, NodeId(1));
        assert_eq!(ring(), [1, 2, 3, 5, 4], "anybody may have it");
        router.note_leader(group, NodeId(4));
        assert_eq!(router.first(group).unwrap(), NodeId(4));
        router.note_leader(group, NodeId(99));
        assert_eq!(router.first(group).unwrap(), NodeId(4), "the file does not have it");
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
