//! What may be lost, one thing at a time, with a majority of voters remaining in every group, and among them
//! one that can lead.
//!
//! Counts only: which nodes are down is told by the caller. The words are in `words.rs`.

use std::collections::BTreeSet;
use std::fmt;

use quorate_types::{GroupId, NodeId, ReplicaKind};

use crate::model::{Group, Node};
use crate::topology::Topology;
use crate::words;

/// A kind of thing that may be lost as one, from small to large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// A process or its machine.
    Node,
    /// A failure domain of an IDC.
    Zone,
    /// A data centre.
    Idc,
    /// A city.
    City,
}

impl Level {
    /// Every level, from small to large.
    pub const ALL: [Level; 4] = [Level::Node, Level::Zone, Level::Idc, Level::City];

    /// The word in sentences.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Level::Node => "node",
            Level::Zone => "zone",
            Level::Idc => "IDC",
            Level::City => "city",
        }
    }

    /// The name of the place of this level that a node is in.
    fn place_of(self, node: &Node) -> &str {
        match self {
            Level::Node => &node.name,
            Level::Zone => &node.zone,
            Level::Idc => &node.idc,
            Level::City => &node.city,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What the loss of one place would do to one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// What kind of place.
    pub level: Level,
    /// Its name.
    pub place: String,
    /// How many voters of the group it holds.
    pub voters_held: usize,
    /// How many of those are up.
    pub voters_up: usize,
    /// Whether a majority remains without it, and one that can lead.
    pub survived: bool,
}

/// What one group survives, given the nodes that are down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survives {
    /// The group.
    pub group: GroupId,
    /// `RZ00/g1`.
    pub label: String,
    /// How many members vote.
    pub voter_count: usize,
    /// How many votes are a majority.
    pub majority: usize,
    /// How many of its voters are up that can lead: the full ones.
    pub full_up: usize,
    /// The names of its voters that are down, in order of rank.
    pub down: Vec<String>,
    /// Each place that holds voters of the group, by level, then in order of rank.
    pub losses: Vec<Loss>,
    /// Whether each zone it uses is a whole IDC: then words do not tell them apart.
    zones_are_idcs: bool,
}

impl Survives {
    /// How many voters are up.
    #[must_use]
    pub fn up_count(&self) -> usize {
        self.voter_count - self.down.len()
    }

    /// Whether a majority is up, and among it one that can lead.
    #[must_use]
    pub fn has_majority(&self) -> bool {
        self.majority <= self.up_count() && 0 < self.full_up
    }

    /// How many more voters may be lost, whichever they are. Zero also without a majority.
    #[must_use]
    pub fn spare_voters(&self) -> usize {
        self.up_count().saturating_sub(self.majority).min(self.full_up.saturating_sub(1))
    }

    /// The places of one level that hold voters.
    pub fn at(&self, level: Level) -> impl Iterator<Item = &Loss> {
        self.losses.iter().filter(move |loss| loss.level == level)
    }

    /// Whether any one place of this level may be lost.
    #[must_use]
    pub fn any_one(&self, level: Level) -> bool {
        self.has_majority() && self.at(level).all(|loss| loss.survived)
    }

    /// The levels worth a sentence.
    pub(crate) fn levels_in_words(&self) -> impl Iterator<Item = Level> + '_ {
        Level::ALL.into_iter().filter(|level| *level != Level::Zone || !self.zones_are_idcs)
    }

    /// `RZ00/g1: survives the loss of any one node; of any one IDC; not of city sh (it holds 3 of 3
    /// voters)`.
    #[must_use]
    pub fn words(&self) -> String {
        words::group_survives(self)
    }
}

/// What every group of a cluster survives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSurvival {
    /// Per group, in order of number.
    pub groups: Vec<Survives>,
}

impl ClusterSurvival {
    /// Whether every group has a majority.
    #[must_use]
    pub fn all_have_majority(&self) -> bool {
        self.groups.iter().all(Survives::has_majority)
    }

    /// Whether every group survives the loss of any one place of this level.
    #[must_use]
    pub fn any_one(&self, level: Level) -> bool {
        self.groups.iter().all(|group| group.any_one(level))
    }

    /// The places of this level whose loss would stop a group, each with the labels of those groups.
    #[must_use]
    pub fn critical(&self, level: Level) -> Vec<(String, Vec<String>)> {
        let mut places: Vec<(String, Vec<String>)> = Vec::new();
        for group in &self.groups {
            for loss in group.at(level).filter(|loss| !loss.survived) {
                match places.iter_mut().find(|(place, _)| *place == loss.place) {
                    Some((_, labels)) => labels.push(group.label.clone()),
                    None => places.push((loss.place.clone(), vec![group.label.clone()])),
                }
            }
        }
        places.sort();
        places
    }

    /// One line for the cluster, one word per level: `survives: 1 node yes; 1 IDC yes; 1 city NO
    /// (sh stops RZ00/g1, GZ/g5)`.
    #[must_use]
    pub fn headline(&self) -> String {
        words::headline(self)
    }

    /// The headline, then one line per group.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        words::cluster_survives(self)
    }
}

impl Topology {
    /// What the cluster survives with every node up.
    #[must_use]
    pub fn survival(&self) -> ClusterSurvival {
        what_may_still_be_lost(self, &BTreeSet::new())
    }

    /// The groups that have no majority while the nodes `lost` are lost, in order of number.
    #[must_use]
    pub fn groups_stopped_by(&self, lost: &BTreeSet<NodeId>) -> Vec<GroupId> {
        let stopped = |group: &&Group| {
            let up = || group.voters().filter(|voter| !lost.contains(&voter.node));
            up().count() < group.majority() || !up().any(|voter| voter.kind.may_lead())
        };
        self.groups().filter(stopped).map(|group| group.id).collect()
    }
}

/// What every group survives while the nodes `down` are down already. Numbers that are no nodes are
/// ignored.
#[must_use]
pub fn what_may_still_be_lost(topology: &Topology, down: &BTreeSet<NodeId>) -> ClusterSurvival {
    let groups = topology.groups().map(|group| survives(topology, group, down)).collect();
    ClusterSurvival { groups }
}

/// What one group survives while the nodes `down` are down already. Its members need not be those of the
/// cluster file.
#[must_use]
pub fn survives(topology: &Topology, group: &Group, down: &BTreeSet<NodeId>) -> Survives {
    let voters: Vec<_> = group.voters().map(|voter| (voter.node, voter.kind)).collect();
    survives_with(topology, group, &voters, down)
}

/// What a group survives while these nodes hold its voters, whatever the cluster file says. Nodes that
/// are not in the file are not counted.
pub(crate) fn survives_with(
    topology: &Topology,
    group: &Group,
    voters: &[(NodeId, ReplicaKind)],
    down: &BTreeSet<NodeId>,
) -> Survives {
    let of_file = |(id, kind): &(NodeId, ReplicaKind)| Some((topology.node(*id)?, *kind));
    let voters: Vec<(&Node, ReplicaKind)> = voters.iter().filter_map(of_file).collect();
    let majority = voters.len() / 2 + 1;
    let is_up = |(node, _): &&(&Node, ReplicaKind)| !down.contains(&node.id);
    let can_lead = |(_, kind): &&(&Node, ReplicaKind)| kind.may_lead();
    let up_count = voters.iter().filter(is_up).count();
    let full_up = voters.iter().filter(is_up).filter(can_lead).count();
    let mut losses: Vec<Loss> = Vec::new();
    for level in Level::ALL {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for place in voters.iter().map(|(node, _)| level.place_of(node)) {
            if !seen.insert(place) {
                continue;
            }
            let held = || voters.iter().filter(|(node, _)| level.place_of(node) == place);
            let voters_up = held().filter(is_up).count();
            let full_held = held().filter(is_up).filter(can_lead).count();
            losses.push(Loss {
                level,
                place: place.to_owned(),
                voters_held: held().count(),
                voters_up,
                survived: majority <= up_count - voters_up && full_held < full_up,
            });
        }
    }
    let zones_of = |idc: &str| topology.zones().iter().filter(|zone| zone.idc == idc).count();
    Survives {
        group: group.id,
        label: group.label(),
        voter_count: voters.len(),
        majority,
        full_up,
        down: voters.iter().filter(|it| !is_up(it)).map(|(node, _)| node.name.clone()).collect(),
        losses,
        zones_are_idcs: voters.iter().all(|(node, _)| zones_of(&node.idc) == 1),
    }
}
