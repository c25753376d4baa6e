//! The cluster file of a new cluster, made from a few choices and explained by comments: the one that
//! `quorate topology new` writes and its user keeps. `presets.rs` makes the bare ones of demos and tests.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use quorate_types::ClusterId;

use crate::model::{LeaseProfile, TableClass};
use crate::presets::{
    ADMIN_PORT, CLIENT_PORT, Layout, PEER_PORT, leader_order, locality, port_step, slice_range,
    with_kinds,
};

/// Slices of a new cluster.
const SLICES: u32 = 100;
/// Most RZones of a new cluster; each has two slices then.
pub const UNITS_MAX: u32 = SLICES / 2;

/// What there is to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// The name of the cluster.
    pub name: String,
    /// Its id, drawn at random.
    pub cluster_id: ClusterId,
    /// Where the nodes stand.
    pub layout: Layout,
    /// The machine of each node of the layout, in order: a name or an address without a port, IPv6 in
    /// brackets. Nodes of the same machine get ports of their own.
    pub hosts: Vec<String>,
    /// Added to every port.
    pub port_offset: u16,
    /// Whether leaders hold leases, and how long.
    pub lease: LeaseProfile,
    /// RZones, 1 to [`UNITS_MAX`]; each gets an equal share of the slices.
    pub units: u32,
    /// Tables by name and class, in order of their numbers.
    pub tables: Vec<(String, TableClass)>,
}

impl NewFile {
    /// The text of the file. Whether names, addresses and numbers are allowed is for
    /// [`Topology::parse`](crate::Topology::parse) to say.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("writing to a string cannot fail");
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        self.write_cluster(out)?;
        self.write_places(out)?;
        self.write_nodes(out)?;
        self.write_tables(out)?;
        self.write_units(out)
    }

    fn write_cluster(&self, out: &mut String) -> fmt::Result {
        let layout = words(self.layout).replace("; ", ";\n# ");
        writeln!(out, "# The cluster file. Layout {}: {layout}.", self.layout.word())?;
        out.push_str(
            "# Every node is started with this same file; clients get it from the nodes. docs/TOPOLOGY.md explains\n\
             # each key, and `quorate topology validate FILE` checks a change before a node is started with it.\n\n\
             [cluster]\n",
        );
        writeln!(out, "name = {}", quoted(&self.name))?;
        out.push_str(
            "# Drawn at random for this cluster alone. Data folders carry it; never change it.\n",
        );
        writeln!(out, "id = \"{}\"", self.cluster_id)?;
        out.push_str("# Raise it with every change of the file.\nversion = 1\n");
        out.push_str(
            "# lan: leaders hold leases of 1 s. wan: of 3 s, for cities far apart. off: none, and every read asks a\n\
             # majority.\n",
        );
        writeln!(out, "lease = \"{}\"", self.lease)?;
        out.push_str(
            "# The slice of a user is the UID modulo this. Fixed once the cluster has started.\n",
        );
        writeln!(out, "slices = {SLICES}")
    }

    fn write_places(&self, out: &mut String) -> fmt::Result {
        out.push_str(
            "\n# Places: an IDC is what fails together. Call them what you like, everywhere in this file.\n",
        );
        let mut cities: Vec<&str> = self.places().iter().map(|(city, _)| *city).collect();
        cities.dedup();
        for city in cities {
            writeln!(out, "[[city]]\nname = \"{city}\"\n")?;
        }
        for (city, idc) in self.places() {
            writeln!(out, "[[idc]]\nname = \"{idc}\"\ncity = \"{city}\"\n")?;
        }
        Ok(())
    }

    fn write_nodes(&self, out: &mut String) -> fmt::Result {
        out.push_str(
            "# Nodes. Others dial these addresses: clients `client`, nodes `peer`, your monitoring `admin` (health and\n\
             # metrics). So every other machine must be able to reach them.\n",
        );
        let mut met: BTreeMap<&str, u32> = BTreeMap::new();
        for ((id, (_, idc)), host) in (1_u32..).zip(self.places()).zip(&self.hosts) {
            let before = met.entry(host).or_default();
            let shift = *before * port_step(self.places().len()) + u32::from(self.port_offset);
            *before += 1;
            writeln!(out, "[[node]]\nid = {id}\nname = \"n{id}\"\nzone = \"{idc}\"")?;
            for (key, port) in [("client", CLIENT_PORT), ("peer", PEER_PORT), ("admin", ADMIN_PORT)]
            {
                writeln!(out, "{key} = {}", quoted(&format!("{host}:{}", port + shift)))?;
            }
            out.push('\n');
        }
        Ok(())
    }

    fn write_tables(&self, out: &mut String) -> fmt::Result {
        out.push_str(
            "# Tables. unit: rows belong to users and lie in the unit of the user. home, global: in the GZone. Numbers\n\
             # never change and are never used again.\n",
        );
        for (id, (name, class)) in (1..).zip(&self.tables) {
            let name = quoted(name);
            writeln!(out, "[[table]]\nid = {id}\nname = {name}\nclass = \"{class}\"\n")?;
        }
        Ok(())
    }

    fn write_units(&self, out: &mut String) -> fmt::Result {
        let shares = || {
            (0..self.units).map(|unit| {
                let from = unit * SLICES / self.units;
                (unit, slice_range(from, (unit + 1) * SLICES / self.units - from))
            })
        };
        out.push_str(
            "# Units. Each RZone owns the users of its slices; the GZone is not sharded.\n",
        );
        for (unit, slices) in shares() {
            writeln!(
                out,
                "[[unit]]\nname = \"RZ{unit:02}\"\nkind = \"rzone\"\nslices = \"{slices}\"\n"
            )?;
        }
        out.push_str("[[unit]]\nname = \"GZ\"\nkind = \"gzone\"\n\n");
        out.push_str(
            "# Groups: a unit's replicas, one in each IDC, and where its leader is wanted: `,` is equal, `;` is then.\n\
             # F is full; L keeps the log and no rows; R has rows and no vote; A votes and keeps nothing. The leader's IDC answers reads and decides writes, so put it near the callers of the unit.\n",
        );
        for (unit, _) in shares() {
            self.write_group(unit + 1, &format!("RZ{unit:02}"), out)?;
            out.push('\n');
        }
        self.write_group(self.units + 1, "GZ", out)
    }

    fn write_group(&self, id: u32, unit: &str, out: &mut String) -> fmt::Result {
        let places = with_kinds(self.places(), |idc| self.layout.kind(idc));
        let (locality, order) = (locality(&places), leader_order(&places, id as usize - 1));
        writeln!(out, "[[group]]\nid = {id}\nunit = \"{unit}\"")?;
        writeln!(out, "locality = \"{locality}\"\nleader-order = \"{order}\"")
    }

    fn places(&self) -> &'static [(&'static str, &'static str)] {
        self.layout.places()
    }
}

/// A layout in words.
#[must_use]
pub fn words(layout: Layout) -> &'static str {
    match layout {
        Layout::OneCity => {
            "one city, three IDCs, a node in each; any one IDC may be lost, not the city"
        }
        Layout::TwoCities => {
            "two cities with two IDCs and one, a node in each; any one IDC may be lost, of the cities only the \
             smaller one"
        }
        Layout::ThreeCities => {
            "three cities with two, two and one IDCs, a node in each, the last one log-only; any two IDCs or any one \
             city may be lost"
        }
        Layout::TwoAndArbiter => {
            "one city, two IDCs and an arbiter in a third place, which keeps no data; any one of the three may be lost"
        }
    }
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Level, Topology};

    fn new_file(layout: Layout) -> NewFile {
        NewFile {
            name: "pay".to_owned(),
            cluster_id: ClusterId(7),
            layout,
            hosts: vec!["127.0.0.1".to_owned(); layout.places().len()],
            port_offset: 0,
            lease: LeaseProfile::Lan,
            units: 4,
            tables: vec![
                ("purchases".to_owned(), TableClass::Unit),
                ("rates".to_owned(), TableClass::Global),
            ],
        }
    }

    #[test]
    fn every_layout_gives_a_valid_file_without_warnings() {
        // Goal: what a user starts from has no mistakes, whatever was chosen.
        for layout in Layout::ALL {
            for units in [1, 3, 4, UNITS_MAX] {
                let text = NewFile { units, ..new_file(layout) }.text();
                let topology = Topology::parse(&text).expect("a new file is valid");
                assert_eq!(topology.warnings(), [], "{}", layout.word());
                assert_eq!(topology.nodes().len(), layout.places().len());
                assert_eq!(topology.groups().len(), units as usize + 1);
                assert_eq!(topology.cluster_id(), ClusterId(7));
            }
        }
    }

    #[test]
    fn a_layout_survives_what_its_words_say() {
        // Goal: nobody is promised a loss that would stop a unit.
        for (layout, idc, city) in [
            (Layout::OneCity, true, false),
            (Layout::TwoCities, true, false),
            (Layout::ThreeCities, true, true),
            (Layout::TwoAndArbiter, true, false),
        ] {
            let topology = Topology::parse(&new_file(layout).text()).expect("a new file is valid");
            let survival = topology.survival();
            for (level, wanted) in [(Level::Idc, idc), (Level::City, city)] {
                assert_eq!(survival.any_one(level), wanted, "{} {level:?}", layout.word());
            }
        }
    }

    #[test]
    fn nodes_of_one_machine_get_ports_of_their_own() {
        // Goal: no two nodes of a machine collide, and nodes of different machines have the usual ports.
        for layout in Layout::ALL {
            let topology = Topology::parse(&new_file(layout).text()).expect("a new file is valid");
            let ports: BTreeSet<&str> = topology
                .nodes()
                .flat_map(|node| [&node.client, &node.peer, &node.admin])
                .map(String::as_str)
                .collect();
            assert_eq!(ports.len(), 3 * layout.places().len());
        }
        let hosts = ["a.example", "[fd00::1]", "a.example"].map(str::to_owned).to_vec();
        let file = NewFile { hosts, port_offset: 1000, ..new_file(Layout::OneCity) };
        let topology = Topology::parse(&file.text()).expect("a new file is valid");
        let clients: Vec<&str> = topology.nodes().map(|node| node.client.as_str()).collect();
        assert_eq!(clients, ["a.example:7440", "[fd00::1]:7440", "a.example:7450"]);
    }

    #[test]
    fn a_name_cannot_break_out_of_its_quotes() {
        // Goal: a strange name is a mistake that the check names, not another file.
        let name = "a\"\nid = \"x".to_owned();
        let error = Topology::parse(&NewFile { name, ..new_file(Layout::default()) }.text());
        let error = error.expect_err("the name is not allowed").to_string();
        assert!(error.contains("name"), "{error}");
        assert!(!error.contains("duplicate"), "{error}");
    }
}
