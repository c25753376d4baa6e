//! Cluster files made from a few choices, for demos, benches and tests. They return text, so that a
//! user can save it, read it and change it.

use std::fmt::Write;

use quorate_types::ClusterId;

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
        }
    }
}

/// One city, three IDCs with a node each: four RZones whose preferred leaders rotate over the IDCs,
/// and a GZone.
#[must_use]
pub fn one_city_three_idcs(options: &Options) -> String {
    write(&[("sh", "sh-a"), ("sh", "sh-b"), ("sh", "sh-c")], options)
}

/// Three cities with 2, 2 and 1 IDCs and a node each: four RZones whose preferred leaders rotate
/// over the IDCs of the first two cities, and a GZone.
#[must_use]
pub fn three_cities_five_idcs(options: &Options) -> String {
    let places = [("sh", "sh-a"), ("sh", "sh-b"), ("hz", "hz-a"), ("hz", "hz-b"), ("sz", "sz-a")];
    write(&places, options)
}

/// One city, one IDC, one node: for trying things out. Survives nothing.
#[must_use]
pub fn one_node(options: &Options) -> String {
    write(&[("sh", "sh-a")], options)
}

/// The tables of every preset: number, name, class.
const TABLES: [(u16, &str, &str); 4] = [
    (1, "purchases", "unit"),
    (2, "load", "unit"),
    (3, "profiles", "unit"),
    (4, "rates", "global"),
];

const UNITS: [(&str, &str); 4] =
    [("RZ00", "00-24"), ("RZ01", "25-49"), ("RZ02", "50-74"), ("RZ03", "75-99")];

/// `places` are city and IDC of each node.
fn write(places: &[(&str, &str)], options: &Options) -> String {
    let mut out = String::new();
    write_text(places, options, &mut out).expect("writing to a string cannot fail");
    out
}

fn write_text(places: &[(&str, &str)], options: &Options, out: &mut String) -> std::fmt::Result {
    writeln!(out, "[cluster]")?;
    writeln!(out, "name = \"{}\"", options.name)?;
    writeln!(out, "id = \"{}\"", options.cluster_id)?;
    writeln!(out, "version = 1")?;
    writeln!(out, "lease = \"{}\"", options.lease)?;
    writeln!(out, "slices = 100")?;
    let mut cities: Vec<&str> = places.iter().map(|(city, _)| *city).collect();
    cities.dedup();
    for city in cities {
        writeln!(out, "\n[[city]]\nname = \"{city}\"")?;
    }
    for (city, idc) in places {
        writeln!(out, "\n[[idc]]\nname = \"{idc}\"\ncity = \"{city}\"")?;
    }
    for (index, (_, idc)) in (0_u32..).zip(places) {
        let id = index + 1;
        writeln!(out, "\n[[node]]\nid = {id}\nname = \"n{id}\"\nzone = \"{idc}\"")?;
        let step = if places.len() <= 4 { 10 } else { 100 };
        for (key, port) in [("client", CLIENT_PORT), ("peer", PEER_PORT), ("admin", ADMIN_PORT)] {
            writeln!(out, "{key} = \"{}\"", address(&options.hosts, id, step, port))?;
        }
    }
    for (id, name, class) in TABLES {
        writeln!(out, "\n[[table]]\nid = {id}\nname = \"{name}\"\nclass = \"{class}\"")?;
    }
    for (name, slices) in UNITS {
        writeln!(out, "\n[[unit]]\nname = \"{name}\"\nkind = \"rzone\"\nslices = \"{slices}\"")?;
    }
    writeln!(out, "\n[[unit]]\nname = \"GZ\"\nkind = \"gzone\"")?;
    let units = UNITS.iter().map(|(name, _)| *name).chain(["GZ"]);
    for (index, unit) in units.enumerate() {
        writeln!(out, "\n[[group]]\nid = {}\nunit = \"{unit}\"", index + 1)?;
        let replicas: Vec<String> = places.iter().map(|(_, idc)| format!("F@{idc}")).collect();
        writeln!(out, "locality = \"{}\"", replicas.join(","))?;
        writeln!(out, "leader-order = \"{}\"", leader_order(places, index))?;
    }
    Ok(())
}

fn address(hosts: &Hosts, id: u32, step: u32, port: u32) -> String {
    match hosts {
        Hosts::Loopback { port_offset } => {
            format!("127.0.0.1:{}", port + step * (id - 1) + u32::from(*port_offset))
        }
        Hosts::Numbered { prefix } => format!("{prefix}{id}:{port}"),
    }
}

/// The IDC number `turn` first, then the other IDCs of its city, then those of other cities. A city
/// that holds one IDC among several cities is not first for any turn.
fn leader_order(places: &[(&str, &str)], turn: usize) -> String {
    let idcs_in = |city: &str| places.iter().filter(|(other, _)| *other == city).count();
    let mut first: Vec<&(&str, &str)> =
        places.iter().filter(|(city, _)| 1 < idcs_in(city)).collect();
    if first.is_empty() {
        first = places.iter().collect();
    }
    let (home_city, home_idc) = *first[turn % first.len()];
    let others = |same_city: fn(&str, &str) -> bool| {
        places
            .iter()
            .filter(move |(city, idc)| same_city(city, home_city) && *idc != home_idc)
            .map(|(_, idc)| *idc)
            .collect::<Vec<&str>>()
            .join(",")
    };
    let ranks = [home_idc.to_owned(), others(|a, b| a == b), others(|a, b| a != b)];
    ranks.into_iter().filter(|rank| !rank.is_empty()).collect::<Vec<String>>().join(";")
}
