//! Survival analysis against counting by hand, over every set of lost nodes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate_topology::presets::{
    Layout, Options, of_layout, one_city_three_idcs, one_node, three_cities_five_idcs,
};
use quorate_topology::{Level, Node, Topology, what_may_still_be_lost};
use quorate_types::{ClusterId, NodeId};

type Preset = fn(&Options) -> String;

fn build(preset: Preset) -> Topology {
    Topology::parse(&preset(&Options::demo(ClusterId(7)))).expect("presets are valid")
}

fn ids(numbers: &[u32]) -> BTreeSet<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

fn words(topology: &Topology, down: &[u32]) -> Vec<String> {
    what_may_still_be_lost(topology, &ids(down)).words()
}

fn place_of(node: &Node, level: Level) -> &str {
    match level {
        Level::Node => &node.name,
        Level::Zone => &node.zone,
        Level::Idc => &node.idc,
        Level::City => &node.city,
    }
}

/// Whether a group with these voters has a majority without the nodes `lost`: the definition.
fn alive(voters: &[NodeId], lost: &BTreeSet<NodeId>) -> bool {
    let up = voters.iter().filter(|voter| !lost.contains(voter)).count();
    voters.len() < 2 * up
}

/// Compares every answer about one topology with the definition, for every set of nodes down.
fn check_against_definition(topology: &Topology) {
    let nodes: Vec<&Node> = topology.nodes().collect();
    for mask in 0_u32..1 << nodes.len() {
        let is_down = |index: usize| mask & (1 << index) != 0;
        let down: BTreeSet<NodeId> =
            (0..nodes.len()).filter(|index| is_down(*index)).map(|index| nodes[index].id).collect();
        let survival = what_may_still_be_lost(topology, &down);
        let stopped = topology.groups_stopped_by(&down);
        for (group, told) in topology.groups().zip(&survival.groups) {
            let voters: Vec<NodeId> = group.voters().map(|voter| voter.node).collect();
            assert_eq!(told.group, group.id);
            assert_eq!(told.has_majority(), alive(&voters, &down));
            assert_eq!(stopped.contains(&group.id), !alive(&voters, &down));
            for level in Level::ALL {
                let mut any_one = true;
                for place in nodes.iter().map(|node| place_of(node, level)) {
                    let mut lost = down.clone();
                    let here = nodes.iter().filter(|node| place_of(node, level) == place);
                    lost.extend(here.map(|node| node.id));
                    let survived = alive(&voters, &lost);
                    any_one &= survived;
                    if let Some(loss) = told.at(level).find(|loss| loss.place == place) {
                        assert_eq!(loss.survived, survived, "{} {place}", told.label);
                    }
                }
                assert_eq!(told.any_one(level), any_one, "{} {level} {down:?}", told.label);
            }
            assert!(told.words().starts_with(&told.label));
        }
        let everywhere = |level| survival.groups.iter().all(|group| group.any_one(level));
        for level in Level::ALL {
            assert_eq!(survival.any_one(level), everywhere(level));
        }
    }
}

#[test]
fn presets_agree_with_the_definition() {
    let two_and_arbiter: Preset = |options| of_layout(Layout::TwoAndArbiter, 1, options);
    for preset in [one_node, one_city_three_idcs, three_cities_five_idcs, two_and_arbiter] {
        check_against_definition(&build(preset));
    }
}

/// A cluster of `zones` (city, IDC within it) with a node each and groups with those zones.
fn cluster_text(zones: &[(u8, u8)], groups: &[BTreeSet<usize>]) -> String {
    let mut text = "[cluster]\nname = \"p\"\nid = \"00000000000000000000000000000001\"\nslices = \
                    1\n[[unit]]\nname = \"GZ\"\nkind = \"gzone\"\n[[unit]]\nname = \
                    \"RZ00\"\nkind = \"rzone\"\nslices = \"0\"\n"
        .to_owned();
    let cities: BTreeSet<u8> = zones.iter().map(|(city, _)| *city).collect();
    for city in cities {
        text += &format!("[[city]]\nname = \"c{city}\"\n");
    }
    let idcs: BTreeSet<(u8, u8)> = zones.iter().copied().collect();
    for (city, idc) in idcs {
        text += &format!("[[idc]]\nname = \"c{city}-{idc}\"\ncity = \"c{city}\"\n");
    }
    for (index, (city, idc)) in zones.iter().enumerate() {
        let id = index + 1;
        text += &format!("[[zone]]\nname = \"z{id}\"\nidc = \"c{city}-{idc}\"\n");
        text += &format!("[[node]]\nid = {id}\nzone = \"z{id}\"\nclient = \"h{id}:1\"\n");
        text += &format!("peer = \"h{id}:2\"\nadmin = \"h{id}:3\"\n");
    }
    for (index, (unit, zones)) in ["GZ", "RZ00"].iter().zip(groups).enumerate() {
        let locality: Vec<String> = zones.iter().map(|zone| format!("F@z{}", zone + 1)).collect();
        text += &format!("[[group]]\nid = {}\nunit = \"{unit}\"\n", index + 1);
        text += &format!("locality = \"{}\"\n", locality.join(","));
    }
    text
}

fn clusters() -> impl Strategy<Value = String> {
    prop::collection::vec((0_u8..3, 0_u8..3), 1..7).prop_flat_map(|zones| {
        let group = prop::collection::btree_set(0..zones.len(), 1..=zones.len());
        prop::collection::vec(group, 2).prop_map(move |groups| cluster_text(&zones, &groups))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_clusters_agree_with_the_definition(text in clusters()) {
        check_against_definition(&Topology::parse(&text).unwrap());
    }
}

#[test]
fn one_city_survives_a_node_and_an_idc_but_not_the_city() {
    let lines = words(&build(one_city_three_idcs), &[]);
    assert_eq!(lines.len(), 6);
    assert_eq!(
        lines[0],
        "survives: 1 node yes; 1 IDC yes; 1 city NO (sh stops RZ00/g1, RZ01/g2, RZ02/g3, RZ03/g4 and \
         1 more)"
    );
    assert_eq!(
        lines[1],
        "RZ00/g1: survives the loss of any one node; of any one IDC; not of city sh (it holds 3 of \
         3 voters)"
    );
}

#[test]
fn three_cities_survive_any_one_city() {
    let topology = build(three_cities_five_idcs);
    let lines = words(&topology, &[]);
    assert_eq!(lines[0], "survives: 1 node yes; 1 IDC yes; 1 city yes");
    assert_eq!(
        lines[1],
        "RZ00/g1: survives the loss of any one node; of any one IDC; of any one city"
    );
    let survival = topology.survival();
    assert_eq!(survival.groups[0].spare_voters(), 2);
    assert!(survival.any_one(Level::City));
}

#[test]
fn what_is_down_changes_what_may_still_be_lost() {
    let five = build(three_cities_five_idcs);
    assert_eq!(
        words(&five, &[5])[1],
        "RZ00/g1: n5 is down; survives the loss of any one node; of any one IDC; not of any city \
         still up"
    );
    assert_eq!(
        words(&five, &[1])[..2],
        [
            "survives: 1 node yes; 1 IDC yes; 1 city NO (hz stops RZ00/g1, RZ01/g2, RZ02/g3, RZ03/g4 \
             and 1 more)",
            "RZ00/g1: n1 is down; survives the loss of any one node; of any one IDC; not of city \
             hz (it holds 2 of the 4 voters still up)",
        ]
    );
    let three = build(one_city_three_idcs);
    assert_eq!(
        words(&three, &[2])[1],
        "RZ00/g1: n2 is down; does not survive the loss of any node still up; nor of any IDC still \
         up; nor of city sh (it holds 2 of the 2 voters still up)"
    );
    assert_eq!(
        words(&three, &[2, 3, 99])[..2],
        [
            "without a majority: RZ00/g1, RZ01/g2, RZ02/g3, RZ03/g4 and 1 more",
            "RZ00/g1: stopped: 1 of 3 voters are up, 2 are needed (n2, n3 are down)",
        ]
    );
}

#[test]
fn a_single_node_survives_nothing() {
    assert_eq!(
        words(&build(one_node), &[])[1],
        "RZ00/g1: does not survive the loss of node n1 (it holds 1 of 1 voters); nor of IDC sh-a \
         (it holds 1 of 1 voters); nor of city sh (it holds 1 of 1 voters)"
    );
}

#[test]
fn zones_within_an_idc_are_told_apart() {
    let zones = [(0, 0), (0, 0), (0, 1)];
    let all: BTreeSet<usize> = (0..3).collect();
    let topology = Topology::parse(&cluster_text(&zones, &[all.clone(), all])).unwrap();
    assert_eq!(
        topology.survival().groups[1].words(),
        "RZ00/g2: survives the loss of any one node; of any one zone; not of IDC c0-0 (it holds 2 \
         of 3 voters); nor of city c0 (it holds 3 of 3 voters)"
    );
}
