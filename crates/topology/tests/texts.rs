//! Texts in and out: round trips, presets, the documentation, and arbitrary bytes.

use proptest::prelude::*;
use quorate_topology::presets::{
    self, Hosts, Layout, Options, one_city_three_idcs, one_node, three_cities_five_idcs,
};
use quorate_topology::{LeaseProfile, Level, TableClass, Topology, UnitKind};
use quorate_types::{ClusterId, NodeId};

const REFERENCE: &str = include_str!("../../../docs/TOPOLOGY.md");

/// The `toml` blocks of the reference page.
fn documented_blocks() -> Vec<&'static str> {
    let parts = REFERENCE.split("```toml\n").skip(1);
    parts.filter_map(|part| part.split("```").next()).collect()
}

/// Goal: a client that parses what a server serves holds the same topology.
fn check_round_trip(text: &str) {
    let topology = Topology::parse(text).expect("the text is valid");
    assert_eq!(topology.text(), text);
    assert_eq!(Topology::parse(topology.text()).as_ref(), Ok(&topology));
    let canonical = topology.to_toml();
    let again = Topology::parse(&canonical).expect("the canonical text is valid");
    assert_eq!(again, topology);
    assert_eq!(again.to_toml(), canonical);
}

#[test]
fn every_preset_is_valid_without_warnings_and_round_trips() {
    let hosts =
        [Hosts::Loopback { port_offset: 1_000 }, Hosts::Numbered { prefix: "10.0.0.".into() }];
    for hosts in hosts {
        for preset in [one_city_three_idcs, three_cities_five_idcs] {
            let options = Options { hosts: hosts.clone(), ..Options::demo(ClusterId(1)) };
            let text = preset(&options);
            check_round_trip(&text);
            assert_eq!(Topology::parse(&text).unwrap().warnings(), []);
        }
    }
    check_round_trip(&one_node(&Options::demo(ClusterId(1))));
}

#[test]
fn the_demo_has_the_usual_ports_and_rotating_leaders() {
    let options =
        Options { hosts: Hosts::Loopback { port_offset: 100 }, ..Options::demo(ClusterId(42)) };
    let topology = Topology::parse(&one_city_three_idcs(&options)).unwrap();
    assert_eq!(topology.cluster_id(), ClusterId(42));
    assert_eq!(topology.lease(), LeaseProfile::Lan);
    let addresses: Vec<[&str; 3]> = topology
        .nodes()
        .map(|node| [node.client.as_str(), node.peer.as_str(), node.admin.as_str()])
        .collect();
    assert_eq!(
        addresses,
        [
            ["127.0.0.1:6540", "127.0.0.1:6541", "127.0.0.1:6580"],
            ["127.0.0.1:6550", "127.0.0.1:6551", "127.0.0.1:6590"],
            ["127.0.0.1:6560", "127.0.0.1:6561", "127.0.0.1:6600"],
        ]
    );
    let first: Vec<NodeId> = topology.groups().map(|group| group.members[0].node).collect();
    assert_eq!(first, [1, 2, 3, 1, 2].map(NodeId));
    assert_eq!(topology.table_by_name("rates").unwrap().class, TableClass::Global);
    assert_eq!(topology.gzone_group().unwrap().unit, "GZ");
}

#[test]
fn five_idcs_prefer_leaders_in_the_two_larger_cities() {
    let text = three_cities_five_idcs(&Options::demo(ClusterId(42)));
    let topology = Topology::parse(&text).unwrap();
    let orders: Vec<String> =
        topology.groups().map(|group| group.leader_order.to_string()).collect();
    assert_eq!(
        orders,
        [
            "sh-a;sh-b;hz-a,hz-b",
            "sh-b;sh-a;hz-a,hz-b",
            "hz-a;hz-b;sh-a,sh-b",
            "hz-b;hz-a;sh-a,sh-b",
            "sh-a;sh-b;hz-a,hz-b",
        ]
    );
}

#[test]
fn several_nodes_in_an_idc_share_the_groups() {
    // Goal: a larger demo spreads its groups, and survives what the smaller one does.
    for layout in Layout::ALL {
        let text = presets::of_layout(layout, 2, &Options::demo(ClusterId(42)));
        check_round_trip(&text);
        let topology = Topology::parse(&text).unwrap();
        assert_eq!(topology.warnings(), []);
        assert_eq!(topology.nodes().len(), 2 * layout.places().len());
        for group in topology.groups() {
            assert_eq!(group.members.len(), layout.places().len());
        }
        assert!(topology.nodes().all(|node| topology.groups_of_node(node.id).next().is_some()));
        let one = Topology::parse(&presets::of_layout(layout, 1, &Options::demo(ClusterId(42))));
        let (one, two) = (one.unwrap().survival(), topology.survival());
        for level in [Level::Node, Level::Idc, Level::City] {
            assert_eq!(one.any_one(level), two.any_one(level), "{} {level}", layout.word());
        }
    }
}

#[test]
fn an_impossible_port_offset_is_refused_by_the_check() {
    let hosts = Hosts::Loopback { port_offset: u16::MAX };
    let text = presets::one_city_three_idcs(&Options { hosts, ..Options::demo(ClusterId(1)) });
    let report = Topology::parse(&text).unwrap_err().to_string();
    assert!(report.contains("client address \"127.0.0.1:71975\" has a port outside"), "{report}");
}

#[test]
fn the_examples_of_the_reference_are_valid() {
    let blocks = documented_blocks();
    assert!(2 <= blocks.len());
    for block in &blocks {
        check_round_trip(block);
        assert_eq!(Topology::parse(block).unwrap().warnings(), []);
    }
    let small = Topology::parse(blocks[0]).unwrap();
    assert_eq!(small.name(), "pay-demo");
    assert_eq!(small.unit("GZ").unwrap().kind, UnitKind::GZone);
}

#[test]
fn the_reference_shows_what_its_second_example_survives() {
    let racks = Topology::parse(documented_blocks()[1]).unwrap();
    for line in &racks.survival().words()[..2] {
        assert!(REFERENCE.contains(line.as_str()), "{line}");
    }
}

#[test]
fn the_reference_names_every_key() {
    let canonical = three_cities_five_idcs(&Options::demo(ClusterId(1)));
    let canonical = Topology::parse(&canonical).unwrap().to_toml();
    for line in canonical.lines() {
        if let Some((key, _)) = line.split_once(" = ") {
            assert!(REFERENCE.contains(&format!("`{key}`")), "{key} is not in the reference");
        }
    }
}

/// Goal: the same meaning written differently is the same topology; another meaning is not.
#[test]
fn topologies_are_compared_by_meaning() {
    let text = one_city_three_idcs(&Options::demo(ClusterId(1)));
    let topology = Topology::parse(&text).unwrap();
    let commented = format!("# a comment\n{}", text.replace("\"00-24\"", "\"00-09, 10-24\""));
    assert_eq!(Topology::parse(&commented).unwrap(), topology);
    let other = text.replacen("version = 1", "version = 2", 1);
    assert_ne!(Topology::parse(&other).unwrap(), topology);
}

/// Pieces of cluster files, so that random texts get past the first checks.
fn fragments() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "[cluster]",
        "[[city]]",
        "[[idc]]",
        "[[zone]]",
        "[[node]]",
        "[[table]]",
        "[[unit]]",
        "[[group]]",
        "id = 1",
        "id = 0x10",
        "id = -9223372036854775808",
        "name = \"sh\"",
        "name = \"RZ00\"",
        "city = \"sh\"",
        "idc = \"sh\"",
        "zone = \"sh\"",
        "kind = \"rzone\"",
        "kind = \"gzone\"",
        "kind = \"czone\"",
        "slices = 10000",
        "slices = \"0-9999\"",
        "slices = \"-\"",
        "unit = \"RZ00\"",
        "locality = \"F@sh\"",
        "locality = \"@,@\"",
        "leader-order = \";\"",
        "members = [\"n1\"]",
        "members = [[1]]",
        "class = \"home\"",
        "client = \"[::1]:1\"",
        "peer = \"[\"",
        "admin = \":\"",
        "a.b.c = {d = 1}",
        "group = 1",
        "node = [1, {id = 2}]",
        "cluster = []",
        "\u{feff}",
        "\"\\u0000\" = '\u{1F600}'",
    ]);
    prop_oneof![6 => fixed.prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        if let Err(error) = Topology::parse(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn arbitrary_pieces_never_panic(pieces in prop::collection::vec(fragments(), 0..40)) {
        let text = pieces.join("\n");
        if let Err(error) = Topology::parse(&text) {
            let lines = text.lines().count().max(1);
            for problem in &error.problems {
                prop_assert!(problem.line.is_none_or(|line| (1..=lines + 1).contains(&line)));
            }
        }
    }

    #[test]
    fn damaged_files_never_panic(at in any::<prop::sample::Index>(), with in any::<String>()) {
        let text = three_cities_five_idcs(&Options::demo(ClusterId(1)));
        let mut lines: Vec<&str> = text.lines().collect();
        let index = at.index(lines.len());
        lines[index] = &with;
        drop(Topology::parse(&lines.join("\n")));
        lines.remove(index);
        drop(Topology::parse(&lines.join("\n")));
        let cut = at.index(text.len());
        if text.is_char_boundary(cut) {
            drop(Topology::parse(&text[..cut]));
        }
    }
}

#[test]
fn deep_nesting_is_refused_without_overflow() {
    let text = format!("x = {}", "[".repeat(100_000));
    assert!(Topology::parse(&text).is_err());
}

#[test]
fn a_preset_with_many_groups_gives_every_slice_one_of_them() {
    // Goal: whatever the number of groups of a unit, the preset passes the check and all groups share
    // the slices and the leaders evenly.
    for (groups_per_unit, slices) in
        [(1, 100), (2, 100), (3, 100), (25, 100), (26, 104), (250, 1000)]
    {
        let options = Options { groups_per_unit, ..Options::demo(ClusterId(1)) };
        let topology = Topology::parse(&presets::one_city_three_idcs(&options)).unwrap();
        assert_eq!(topology.slice_count(), slices);
        assert_eq!(topology.groups().count() as u32, 4 * groups_per_unit + 1);
        let mut held = std::collections::BTreeMap::new();
        for slice in 0..slices {
            let route = topology
                .route(quorate_types::TableId(1), quorate_types::Uid(slice.into()))
                .unwrap();
            *held.entry(route.group.id).or_insert(0) += 1;
        }
        assert_eq!(held.len() as u32, 4 * groups_per_unit);
        let (least, most) = (held.values().min().unwrap(), held.values().max().unwrap());
        assert!(most - least <= 1, "{least} to {most} slices a group");
    }
}
