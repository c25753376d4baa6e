//! Where groups are: as the cluster file has it at first, and as their logs have it since.
//!
//! Nodes tell each other when the members of a group change, and when they meet. What is kept here only
//! says whom to ask; who counts in a group is in its log alone.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use quorate_paxos::{Member, Membership, MembershipAt};
use quorate_topology::{Group, Topology};
use quorate_types::{GroupId, MemberRole, NodeId, ReplicaId, ReplicaKind};

/// The members of all groups, as far as this node has heard.
pub(crate) struct Directory {
    topology: Arc<Topology>,
    /// What is known beyond the cluster file, with the greatest entry.
    heard: RwLock<BTreeMap<GroupId, MembershipAt>>,
}

impl Directory {
    pub(crate) fn new(topology: Arc<Topology>) -> Directory {
        Directory { topology, heard: RwLock::default() }
    }

    /// Takes in who takes part in a group; true if that is news.
    pub(crate) fn hear(&self, group: GroupId, at: &MembershipAt) -> bool {
        let mut heard = self.heard.write().unwrap_or_else(PoisonError::into_inner);
        // How a group began is in the cluster file, and a replica that nobody took in knows nothing. Of what is
        // chosen in one history the later entry is that of the later ballot too; of nonsense a later leader gets
        // rid.
        let order = |at: &MembershipAt| (at.membership.history(), at.id);
        let known = heard.get(&group).map(order).unwrap_or_default();
        let is_news = known < order(at) && self.topology.group(group).is_some();
        if is_news {
            heard.insert(group, at.clone());
        }
        is_news
    }

    /// All that is known beyond the cluster file.
    pub(crate) fn all(&self) -> Vec<(GroupId, MembershipAt)> {
        let heard = self.heard.read().unwrap_or_else(PoisonError::into_inner);
        heard.iter().map(|(group, at)| (*group, at.clone())).collect()
    }

    /// The nodes of a group, those that may lead first, in the leader order.
    pub(crate) fn nodes(&self, group: GroupId) -> Vec<NodeId> {
        let heard = self.heard.read().unwrap_or_else(PoisonError::into_inner);
        match (heard.get(&group), self.topology.group(group)) {
            (Some(at), _) => nodes_of(&at.membership),
            (None, Some(entry)) => nodes_of(&genesis(entry)),
            (None, None) => Vec::new(),
        }
    }

    /// The nodes of a group with replicas that can lead it, in the leader order.
    pub(crate) fn leaders(&self, group: GroupId) -> Vec<NodeId> {
        let mut nodes = self.nodes(group);
        nodes.retain(|node| self.kind_on(group, *node).may_lead());
        nodes
    }

    /// The members of a group on a node, as far as is known.
    pub(crate) fn members_on(&self, group: GroupId, node: NodeId) -> Vec<ReplicaId> {
        let heard = self.heard.read().unwrap_or_else(PoisonError::into_inner);
        let on = |members: &Membership| {
            let on_node = members.members().map(|(id, _)| id).filter(|id| id.node() == node);
            on_node.collect()
        };
        match (heard.get(&group), self.topology.group(group)) {
            (Some(at), _) => on(&at.membership),
            (None, Some(entry)) => on(&genesis(entry)),
            (None, None) => Vec::new(),
        }
    }

    /// What a node holds of a group, as far as is known.
    pub(crate) fn kind_on(&self, group: GroupId, node: NodeId) -> ReplicaKind {
        let heard = self.heard.read().unwrap_or_else(PoisonError::into_inner);
        let on_node = |at: &MembershipAt| {
            let mut members = at.membership.members();
            members.find(|(id, _)| id.node() == node).map(|(_, member)| member.kind)
        };
        let heard = heard.get(&group).and_then(on_node);
        let listed = || self.topology.group(group).map(|entry| kind_on(entry, node));
        heard.or_else(listed).unwrap_or_default()
    }

    /// True if there are members, and all are on nodes of this cluster.
    pub(crate) fn is_possible(&self, membership: &Membership) -> bool {
        let mut nodes = membership.members().map(|(id, _)| id.node()).peekable();
        nodes.peek().is_some() && nodes.all(|node| self.topology.node(node).is_some())
    }

    /// True if a node holds a replica of a group, as far as is known.
    pub(crate) fn has(&self, group: GroupId, node: NodeId) -> bool {
        self.nodes(group).contains(&node)
    }
}

/// How a group begins, by the cluster file.
pub(crate) fn genesis(group: &Group) -> Membership {
    let member = |entry: &quorate_topology::Member| {
        let rank = u16::try_from(entry.rank).unwrap_or(u16::MAX);
        let role = if entry.kind.votes() { MemberRole::Voter } else { MemberRole::Learner };
        (ReplicaId::first_on(entry.node), Member { rank, role, kind: entry.kind })
    };
    let members = group.members.iter().map(member).collect();
    Membership::new(members).expect("the cluster file was checked for the limits of groups")
}

/// What the cluster file wants of a group on a node; a full replica where it has none there.
pub(crate) fn kind_on(group: &Group, node: NodeId) -> ReplicaKind {
    let member = group.members.iter().find(|member| member.node == node);
    member.map_or(ReplicaKind::Full, |member| member.kind)
}

/// The nodes of these members, those that may lead first, in the leader order.
fn nodes_of(membership: &Membership) -> Vec<NodeId> {
    let mut members: Vec<_> = membership.members().collect();
    let can_lead = |member: &Member| member.role.votes_after() && member.kind.may_lead();
    members.sort_by_key(|(id, member)| (!can_lead(member), member.rank, *id));
    let mut nodes: Vec<NodeId> = Vec::new();
    for (id, _) in members {
        if !nodes.contains(&id.node()) {
            nodes.push(id.node());
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets;
    use quorate_types::{Ballot, ClusterId, EntryId, Slot};

    use super::*;

    /// Goal: what is heard later counts, whoever says it when; what is heard of no group of the cluster, or says no more
    /// than the cluster file, changes nothing.
    #[test]
    fn the_later_entry_counts() {
        let text = presets::one_city_three_idcs(&presets::Options::demo(ClusterId(7)));
        let topology = Arc::new(Topology::parse(&text).expect("presets are valid"));
        let directory = Directory::new(Arc::clone(&topology));
        let group = topology.groups().next().expect("there is one").id;
        let at = |slot, nodes: &[u32]| {
            let ballot = Ballot { round: 1, replica: ReplicaId(1) };
            let voters = nodes.iter().map(|node| (ReplicaId::later_on(NodeId(*node), 9), 0));
            let membership = Membership::of_voters(voters);
            MembershipAt { id: EntryId { ballot, slot: Slot(slot) }, membership }
        };
        assert_eq!(directory.nodes(group).len(), 3);
        assert!(directory.hear(group, &at(7, &[1, 2])));
        assert!(!directory.hear(group, &at(5, &[3])), "old news");
        assert!(!directory.hear(GroupId(9999), &at(7, &[1])), "no such group");
        assert!(!directory.hear(group, &MembershipAt::default()));
        assert_eq!(directory.nodes(group), [NodeId(1), NodeId(2)]);
        assert_eq!(directory.members_on(group, NodeId(2)), [ReplicaId::later_on(NodeId(2), 9)]);
        assert!(directory.has(group, NodeId(2)) && !directory.has(group, NodeId(3)));
        assert_eq!(directory.all(), [(group, at(7, &[1, 2]))]);
    }

    /// Goal: whoever looks for a leader is sent to no replica that cannot lead; a group begins with the kinds of the
    /// cluster file, and goes on with those that are told.
    #[test]
    fn kinds_are_those_of_the_file_until_others_are_heard() {
        let text = presets::three_cities_five_idcs(&presets::Options::demo(ClusterId(7)));
        let text = text.replace("F@hz-b,L@sz-a", "R@hz-b,L@sz-a");
        let orders = [("hz-b;hz-a", "hz-a"), (";hz-a,hz-b", ";hz-a"), ("hz-a;hz-b", "hz-a")];
        let text = orders.into_iter().fold(text, |text, (from, to)| text.replace(from, to));
        let topology = Arc::new(Topology::parse(&text).expect("the file is valid"));
        let group = topology.groups().next().expect("there is one");
        let members = genesis(group);
        let roles: Vec<(MemberRole, ReplicaKind)> =
            members.members().map(|(_, member)| (member.role, member.kind)).collect();
        assert_eq!(roles[0], (MemberRole::Voter, ReplicaKind::Full));
        assert_eq!(roles[3], (MemberRole::Learner, ReplicaKind::ReadOnly));
        assert_eq!(roles[4], (MemberRole::Voter, ReplicaKind::LogOnly));
        let (id, directory) = (group.id, Directory::new(Arc::clone(&topology)));
        assert_eq!(directory.leaders(id), [1, 2, 3].map(NodeId));
        assert_eq!(directory.nodes(id).len(), 5);
        assert_eq!(directory.kind_on(id, NodeId(5)), ReplicaKind::LogOnly);
        let kind = ReplicaKind::Arbiter;
        let told =
            [(1, ReplicaKind::Full), (2, ReplicaKind::Full), (5, kind)].map(|(node, kind)| {
                let member = Member { rank: 0, role: MemberRole::Voter, kind };
                (ReplicaId::later_on(NodeId(node), 9), member)
            });
        let membership = Membership::new(told.into_iter().collect()).expect("three voters");
        let ballot = Ballot { round: 1, replica: ReplicaId(1) };
        let at = MembershipAt { id: EntryId { ballot, slot: Slot(9) }, membership };
        assert!(directory.hear(id, &at));
        assert_eq!(directory.leaders(id), [1, 2].map(NodeId));
        assert_eq!(directory.kind_on(id, NodeId(5)), kind);
        assert_eq!(directory.kind_on(id, NodeId(4)), ReplicaKind::ReadOnly, "as in the file");
    }

    /// Goal: nonsense that one node tells does not keep what is true out for ever, and members on nodes that do not
    /// exist are believed by nobody.
    #[test]
    fn a_later_leader_gets_rid_of_nonsense() {
        let text = presets::one_city_three_idcs(&presets::Options::demo(ClusterId(7)));
        let directory = Directory::new(Arc::new(Topology::parse(&text).expect("it is valid")));
        let group = directory.topology.groups().next().expect("there is one").id;
        let at = |round, slot, node: u32| {
            let id = ReplicaId::later_on(NodeId(node), 9);
            let ballot = Ballot { round, replica: ReplicaId(1) };
            let membership = Membership::of_voters([(id, 0)]);
            MembershipAt { id: EntryId { ballot, slot: Slot(slot) }, membership }
        };
        assert!(directory.hear(group, &at(3, u64::MAX, 1)));
        assert!(!directory.hear(group, &at(3, 8, 2)), "as far as anybody can tell");
        assert!(directory.hear(group, &at(4, 9, 2)), "of a later leader");
        assert!(directory.is_possible(&at(1, 1, 3).membership));
        assert!(!directory.is_possible(&at(1, 1, 99).membership));
        assert!(!directory.is_possible(&Membership::default()));
    }
}
