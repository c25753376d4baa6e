//! The topology as a value: what is asked of it by name and number.
//!
//! Routing is in `route.rs`, what-if questions in `survival.rs`.

use std::collections::BTreeMap;

use quorate_types::{ClusterId, GroupId, NodeId, SliceId, TableId};

use crate::file;
use crate::model::{City, Group, Idc, LeaseProfile, Node, Table, Unit, UnitKind, Zone};
use crate::problem::{Problem, Problems, TopologyError};
use crate::text;
use crate::validate;

/// The name of a cluster file in messages where the caller gives none.
pub const FILE_NAME_DEFAULT: &str = "cluster.toml";

/// A parsed and checked cluster file. Never changes.
///
/// Invariants: every name in it is declared; if there is an RZone, every slice belongs to exactly
/// one group; every group has at least one voter, at most one per zone; every table has a group to
/// live in.
///
/// Two are equal if they mean the same, whatever their texts look like.
#[derive(Clone, Debug)]
pub struct Topology {
    parts: Parts,
    text: String,
    warnings: Vec<Problem>,
}

/// What a topology consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) cluster_id: ClusterId,
    pub(crate) version: u64,
    pub(crate) lease: LeaseProfile,
    pub(crate) slice_count: u16,
    pub(crate) cities: Vec<City>,
    pub(crate) idcs: Vec<Idc>,
    pub(crate) zones: Vec<Zone>,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) tables: BTreeMap<TableId, Table>,
    pub(crate) units: BTreeMap<String, Unit>,
    pub(crate) groups: BTreeMap<GroupId, Group>,
    /// The group of each slice, by slice; empty without RZones. Derived from `groups`.
    pub(crate) slice_groups: Vec<GroupId>,
    /// The group of the GZone. Derived from `units`.
    pub(crate) gzone_group: Option<GroupId>,
}

impl Parts {
    /// Fills in what is derived.
    pub(crate) fn assemble(mut parts: Parts) -> Parts {
        let mut owners: BTreeMap<SliceId, GroupId> = BTreeMap::new();
        for group in parts.groups.values() {
            owners.extend(group.slices.iter().map(|slice| (slice, group.id)));
        }
        let whole = owners.is_empty() || owners.len() == usize::from(parts.slice_count);
        assert!(whole, "validation lets no slice without an owner pass");
        parts.slice_groups = owners.into_values().collect();
        let mut units = parts.units.values();
        let gzone = units.find(|unit| unit.kind == UnitKind::GZone);
        parts.gzone_group = gzone.and_then(|unit| unit.groups.first().copied());
        parts
    }
}

impl PartialEq for Topology {
    fn eq(&self, other: &Topology) -> bool {
        self.parts == other.parts
    }
}

impl Eq for Topology {}

impl Topology {
    /// Parses and checks the text of a cluster file; messages call it `cluster.toml`.
    ///
    /// # Errors
    /// Every problem found, with line and hint.
    pub fn parse(text: &str) -> Result<Topology, TopologyError> {
        Topology::parse_named(FILE_NAME_DEFAULT, text)
    }

    /// Parses and checks the text of a cluster file that the user knows as `file`.
    ///
    /// # Errors
    /// Every problem found, with line and hint.
    pub fn parse_named(file: &str, text: &str) -> Result<Topology, TopologyError> {
        let mut problems = Problems::default();
        let raw = file::read(text, &mut problems);
        let parts = raw.and_then(|raw| validate::build(&raw, &mut problems));
        let warnings = problems.finish(file)?;
        let parts = parts.expect("a file without problems gives a topology");
        Ok(Topology { parts, text: text.to_owned(), warnings })
    }

    /// What is allowed but probably not meant, in order of lines.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The text this topology was parsed from, comments and all: what a server hands to clients.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same topology as canonical text: zones, members and defaults written out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        text::write(&self.parts)
    }

    /// The name of the cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// The id of the cluster.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.parts.cluster_id
    }

    /// The topology version, from 1.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.parts.version
    }

    /// Whether leaders hold leases, and how long.
    #[must_use]
    pub fn lease(&self) -> LeaseProfile {
        self.parts.lease
    }

    /// How many slices there are; the slice of a UID is UID mod this.
    #[must_use]
    pub fn slice_count(&self) -> u16 {
        self.parts.slice_count
    }

    /// The cities, in order of the file.
    #[must_use]
    pub fn cities(&self) -> &[City] {
        &self.parts.cities
    }

    /// The IDCs, in order of the file.
    #[must_use]
    pub fn idcs(&self) -> &[Idc] {
        &self.parts.idcs
    }

    /// The zones, in order of the file.
    #[must_use]
    pub fn zones(&self) -> &[Zone] {
        &self.parts.zones
    }

    /// The nodes, in order of number.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> + Clone {
        self.parts.nodes.values()
    }

    /// The node with this number.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.parts.nodes.get(&id)
    }

    /// The node with this name.
    #[must_use]
    pub fn node_by_name(&self, name: &str) -> Option<&Node> {
        self.nodes().find(|node| node.name == name)
    }

    /// The tables, in order of number.
    pub fn tables(&self) -> impl ExactSizeIterator<Item = &Table> + Clone {
        self.parts.tables.values()
    }

    /// The table with this number.
    #[must_use]
    pub fn table(&self, id: TableId) -> Option<&Table> {
        self.parts.tables.get(&id)
    }

    /// The table with this name.
    #[must_use]
    pub fn table_by_name(&self, name: &str) -> Option<&Table> {
        self.tables().find(|table| table.name == name)
    }

    /// The units, in order of name.
    pub fn units(&self) -> impl ExactSizeIterator<Item = &Unit> + Clone {
        self.parts.units.values()
    }

    /// The unit with this name.
    #[must_use]
    pub fn unit(&self, name: &str) -> Option<&Unit> {
        self.parts.units.get(name)
    }

    /// The groups, in order of number.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = &Group> + Clone {
        self.parts.groups.values()
    }

    /// The group with this number.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.parts.groups.get(&id)
    }

    /// The groups a node holds a replica of, in order of number.
    pub fn groups_of_node(&self, node: NodeId) -> impl Iterator<Item = &Group> {
        self.groups().filter(move |group| group.member_on(node).is_some())
    }

    /// The other nodes that share a group with this one, in order of number: its peers.
    pub fn peers_of_node(&self, node: NodeId) -> impl Iterator<Item = &Node> {
        let shares_group =
            move |other: NodeId| self.groups_of_node(node).any(|g| g.member_on(other).is_some());
        self.nodes().filter(move |other| other.id != node && shares_group(other.id))
    }

    /// The group of the GZone.
    #[must_use]
    pub fn gzone_group(&self) -> Option<&Group> {
        self.group(self.parts.gzone_group?)
    }

    /// The group that holds a slice; the GZone's for `SliceId::UNSHARDED`.
    #[must_use]
    pub fn group_of_slice(&self, slice: SliceId) -> Option<&Group> {
        if slice == SliceId::UNSHARDED {
            return self.gzone_group();
        }
        self.group(*self.parts.slice_groups.get(usize::from(slice.0))?)
    }
}
