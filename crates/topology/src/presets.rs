//! Cluster files made from a few choices, for demos, benches and tests. They return text, so that a
//! user can save it, read it and change it.

use std::fmt::Write;

use quorate_types::{ClusterId, ReplicaKind};

use crate::model::LeaseProfile;

/// The first port for clients; node 1 listens on it.
pub const CLIENT_PORT: u32 = 6440;
/// The first port for other nodes.
pub const PEER_PORT: u32 = 6441;
/// The first port for health, metrics and the console.
pub const ADMIN_PORT: u32 = 6480;

/// How node `i`, from 1, is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// All on 127.0.0.1. Node `i` adds `10 * (i - 1)` to each port, or `100 * (i - 1)` in presets of
    /// more than four nodes, where tens would collide; all add `port_offset`. If that leaves the
    /// range of ports, the text names the impossible port and does not pass the check.
    Loopback {
        /// Added to every port, so that several clusters fit on one machine.
        port_offset: u16,
    },
    /// Each on its own address with the ports of node 1: `prefix` followed by `i`, such as `10.0.0.`.
    Numbered {
        /// What stands in front of the number.
        prefix: String,
    },
}

/// The choices of a preset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The name of the cluster.
    pub name: String,
    /// Its id. Never the same for two clusters; draw it at random.
    pub cluster_id: ClusterId,
    /// How nodes are reached.
    pub hosts: Hosts,
    /// Whether leaders hold leases, and how long.
    pub lease: LeaseProfile,
    /// Groups of each RZone, at least 1. Above 25 the cluster has as many slices as RZones have groups,
    /// otherwise 100.
    pub groups_per_unit: u32,
}

impl Options {
    /// A demo on loopback with the usual ports.
    #[must_use]
    pub fn demo(cluster_id: ClusterId) -> Options {
        Options {
            name: "demo".to_owned(),
            cluster_id,
            hosts: Hosts::Loopback { port_offset: 0 },
            lease: LeaseProfile::Lan,
            groups_per_unit: 1,
        }
    }

    /// Slices of each RZone.
    fn slices_per_unit(&self) -> u32 {
        self.groups_per_unit.max(SLICES_PER_UNIT)
    }
}

/// Where the nodes of a cluster stand, one in each IDC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// One city, three IDCs: any one IDC may be lost.
    #[default]
    OneCity,
    /// Two cities with 2 and 1 IDCs: any one IDC may be lost, and the smaller city.
    TwoCities,
    /// Three cities with 2, 2 and 1 IDCs, the last one log-only: any two IDCs may be lost, and any one city.
    ThreeCities,
    /// One city, two IDCs and an arbiter in a third place: any one of them may be lost.
    TwoAndArbiter,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Layout; 4] =
        [Layout::OneCity, Layout::TwoCities, Layout::ThreeCities, Layout::TwoAndArbiter];

    /// As on the command line: cities and IDCs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Layout::OneCity => "1c3i",
            Layout::TwoCities => "2c3i",
            Layout::ThreeCities => "3c5i",
            Layout::TwoAndArbiter => "1c2i1a",
        }
    }

    /// City and IDC of each node, in order of node number.
    #[must_use]
    pub fn places(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Layout::OneCity | Layout::TwoAndArbiter => {
                &[("sh", "sh-a"), ("sh", "sh-b"), ("sh", "sh-c")]
            }
            Layout::TwoCities => &[("sh", "sh-a"), ("sh", "sh-b"), ("hz", "hz-a")],
            Layout::ThreeCities => {
                &[("sh", "sh-a"), ("sh", "sh-b"), ("hz", "hz-a"), ("hz", "hz-b"), ("sz", "sz-a")]
            }
        }
    }

    /// What each group has in an IDC.
    #[must_use]
    pub fn kind(self, idc: &str) -> ReplicaKind {
        match (self, idc) {
            (Layout::ThreeCities, "sz-a") => ReplicaKind::LogOnly,
            (Layout::TwoAndArbiter, "sh-c") => ReplicaKind::Arbiter,
            _ => ReplicaKind::Full,
        }
    }
}

/// One city, three IDCs with a node each: four RZones whose preferred leaders rotate over the IDCs,
/// and a GZone.
#[must_use]
pub fn one_city_three_idcs(options: &Options) -> String {
    of_layout(Layout::OneCity, 1, options)
}

/// Three cities with 2, 2 and 1 IDCs and a node each, the last one log-only: four RZones whose preferred
/// leaders rotate over the IDCs of the first two cities, and a GZone.
#[must_use]
pub fn three_cities_five_idcs(options: &Options) -> String {
    of_layout(Layout::ThreeCities, 1, options)
}

/// A layout with as many nodes in each IDC, at least one: four RZones whose preferred leaders rotate over
/// the IDCs of the larger cities, and a GZone. Every group has one replica in each IDC, of the kind that
/// [`Layout::kind`] says. With several nodes in an IDC each stands in a zone of its own, and the groups take turns
/// over the zones.
#[must_use]
pub fn of_layout(layout: Layout, nodes_per_idc: u32, options: &Options) -> String {
    let kind = |idc: &str| layout.kind(idc);
    write(&with_kinds(layout.places(), kind), nodes_per_idc.max(1), options)
}

/// One city, one IDC, one node: for trying things out. Survives nothing.
#[must_use]
pub fn one_node(options: &Options) -> String {
    write(&[("sh", "sh-a", ReplicaKind::Full)], 1, options)
}

/// The tables of every preset: number, name, class.
const TABLES: [(u16, &str, &str); 4] = [
    (1, "purchases", "unit"),
    (2, "load", "unit"),
    (3, "profiles", "unit"),
    (4, "rates", "global"),
];

/// The RZones. Each has an equal share of the slices.
const RZONES: [&str; 4] = ["RZ00", "RZ01", "RZ02", "RZ03"];
/// Slices of each of them, where its groups do not need more.
const SLICES_PER_UNIT: u32 = 25;

/// An IDC or a zone: its city, its name, what each group has there.
pub(crate) type Place<'a> = (&'a str, &'a str, ReplicaKind);

pub(crate) fn with_kinds<'a>(
    places: &[(&'a str, &'a str)],
    kind: impl Fn(&str) -> ReplicaKind,
) -> Vec<Place<'a>> {
    places.iter().map(|(city, idc)| (*city, *idc, kind(idc))).collect()
}

fn write(places: &[Place<'_>], nodes_per_idc: u32, options: &Options) -> String {
    let mut out = String::new();
    write_text(places, nodes_per_idc, options, &mut out).expect("writing to a string cannot fail");
    out
}

fn write_text(
    places: &[Place<'_>],
    nodes_per_idc: u32,
    options: &Options,
    out: &mut String,
) -> std::fmt::Result {
    writeln!(out, "[cluster]")?;
    writeln!(out, "name = \"{}\"", options.name)?;
    writeln!(out, "id = \"{}\"", options.cluster_id)?;
    writeln!(out, "version = 1")?;
    writeln!(out, "lease = \"{}\"", options.lease)?;
    writeln!(out, "slices = {}", options.slices_per_unit() * RZONES.len() as u32)?;
    write_places(places, nodes_per_idc, options, out)?;
    for (id, name, class) in TABLES {
        writeln!(out, "\n[[table]]\nid = {id}\nname = \"{name}\"\nclass = \"{class}\"")?;
    }
    let slices_each = options.slices_per_unit();
    for (first, name) in (0..).step_by(slices_each as usize).zip(RZONES) {
        let slices = slice_range(first, slices_each);
        writeln!(out, "\n[[unit]]\nname = \"{name}\"\nkind = \"rzone\"\nslices = \"{slices}\"")?;
    }
    writeln!(out, "\n[[unit]]\nname = \"GZ\"\nkind = \"gzone\"")?;
    let mut id = 0;
    for (turn, (first, name)) in (0..).step_by(slices_each as usize).zip(RZONES).enumerate() {
        for share in 0..options.groups_per_unit {
            id += 1;
            writeln!(out, "\n[[group]]\nid = {id}\nunit = \"{name}\"")?;
            if options.groups_per_unit != 1 {
                let from = share * slices_each / options.groups_per_unit;
                let end = (share + 1) * slices_each / options.groups_per_unit;
                writeln!(out, "slices = \"{}\"", slice_range(first + from, end - from))?;
            }
            write_replicas(places, nodes_per_idc, turn + share as usize, out)?;
        }
    }
    writeln!(out, "\n[[group]]\nid = {}\nunit = \"GZ\"", id + 1)?;
    write_replicas(places, nodes_per_idc, RZONES.len(), out)
}

/// Cities, IDCs, zones where an IDC has several, and nodes.
fn write_places(
    places: &[Place<'_>],
    nodes_per_idc: u32,
    options: &Options,
    out: &mut String,
) -> std::fmt::Result {
    let mut cities: Vec<&str> = places.iter().map(|(city, ..)| *city).collect();
    cities.dedup();
    for city in cities {
        writeln!(out, "\n[[city]]\nname = \"{city}\"")?;
    }
    for (city, idc, _) in places {
        writeln!(out, "\n[[idc]]\nname = \"{idc}\"\ncity = \"{city}\"")?;
    }
    let zones = || places.iter().flat_map(|(_, idc, _)| (0..nodes_per_idc).map(move |n| (*idc, n)));
    if 1 < nodes_per_idc {
        for (idc, number) in zones() {
            let zone = zone_name(idc, nodes_per_idc, number);
            writeln!(out, "\n[[zone]]\nname = \"{zone}\"\nidc = \"{idc}\"")?;
        }
    }
    let step = port_step(places.len() * nodes_per_idc as usize);
    for (id, (idc, number)) in (1_u32..).zip(zones()) {
        let zone = zone_name(idc, nodes_per_idc, number);
        writeln!(out, "\n[[node]]\nid = {id}\nname = \"n{id}\"\nzone = \"{zone}\"")?;
        for (key, port) in [("client", CLIENT_PORT), ("peer", PEER_PORT), ("admin", ADMIN_PORT)] {
            writeln!(out, "{key} = \"{}\"", address(&options.hosts, id, step, port))?;
        }
    }
    Ok(())
}

/// The zone of a node in its IDC: the IDC itself where it has one node only.
fn zone_name(idc: &str, nodes_per_idc: u32, number: u32) -> String {
    if nodes_per_idc == 1 { idc.to_owned() } else { format!("{idc}-{}", number + 1) }
}

/// `count` slices from `first` on.
pub(crate) fn slice_range(first: u32, count: u32) -> String {
    format!("{first:02}-{:02}", first + count - 1)
}

/// A replica in every IDC, in the zones of this turn; the leader of this turn.
fn write_replicas(
    places: &[Place<'_>],
    nodes_per_idc: u32,
    turn: usize,
    out: &mut String,
) -> std::fmt::Result {
    let number = (turn % nodes_per_idc as usize) as u32;
    let zones: Vec<String> =
        places.iter().map(|(_, idc, _)| zone_name(idc, nodes_per_idc, number)).collect();
    let places: Vec<Place<'_>> = places
        .iter()
        .zip(&zones)
        .map(|((city, _, kind), zone)| (*city, zone.as_str(), *kind))
        .collect();
    writeln!(out, "locality = \"{}\"", locality(&places))?;
    writeln!(out, "leader-order = \"{}\"", leader_order(&places, turn))
}

/// Between the ports of two nodes on one machine: the ports of five nodes would collide with tens.
pub(crate) fn port_step(nodes: usize) -> u32 {
    if nodes <= 4 { 10 } else { 100 }
}

fn address(hosts: &Hosts, id: u32, step: u32, port: u32) -> String {
    match hosts {
        Hosts::Loopback { port_offset } => {
            format!("127.0.0.1:{}", port + step * (id - 1) + u32::from(*port_offset))
        }
        Hosts::Numbered { prefix } => format!("{prefix}{id}:{port}"),
    }
}

/// `F@sh-a,F@sh-b,L@hz-a`.
pub(crate) fn locality(places: &[Place<'_>]) -> String {
    let replicas = places.iter().map(|(_, zone, kind)| format!("{}@{zone}", kind.letter()));
    replicas.collect::<Vec<String>>().join(",")
}

/// The IDC number `turn` first, then the other IDCs of its city, then those of other cities; only those where a
/// replica can lead. A city that holds one IDC among several cities is not first for any turn.
pub(crate) fn leader_order(places: &[Place<'_>], turn: usize) -> String {
    let places: Vec<Place<'_>> =
        places.iter().copied().filter(|(_, _, kind)| kind.may_lead()).collect();
    let idcs_in = |city: &str| places.iter().filter(|(other, ..)| *other == city).count();
    let mut first: Vec<&Place<'_>> = places.iter().filter(|(city, ..)| 1 < idcs_in(city)).collect();
    if first.is_empty() {
        first = places.iter().collect();
    }
    let (home_city, home_idc, _) = *first[turn % first.len()];
    let others = |same_city: fn(&str, &str) -> bool| {
        places
            .iter()
            .filter(move |(city, idc, _)| same_city(city, home_city) && *idc != home_idc)
            .map(|(_, idc, _)| *idc)
            .collect::<Vec<&str>>()
            .join(",")
    };
    let ranks = [home_idc.to_owned(), others(|a, b| a == b), others(|a, b| a != b)];
    ranks.into_iter().filter(|rank| !rank.is_empty()).collect::<Vec<String>>().join(";")
}
