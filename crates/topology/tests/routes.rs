//! Routing: every UID has exactly one group, and the explanation says why.

use proptest::prelude::*;
use quorate_topology::presets::{Options, one_city_three_idcs};
use quorate_topology::{RouteError, Topology, slice_label};
use quorate_types::{ClusterId, Code, Error, GroupId, NodeId, ReplicaId, SliceId, TableId, Uid};

const PURCHASES: TableId = TableId(1);
const RATES: TableId = TableId(4);

fn demo() -> Topology {
    Topology::parse(&one_city_three_idcs(&Options::demo(ClusterId(7)))).expect("presets are valid")
}

proptest! {
    #[test]
    fn every_uid_routes_to_exactly_one_group(uid in any::<u64>()) {
        let topology = demo();
        let route = topology.route(PURCHASES, Uid(uid)).unwrap();
        prop_assert_eq!(u64::from(route.slice.0), uid % 100);
        prop_assert!(route.unit.slices.contains(route.slice));
        let owners: Vec<GroupId> = topology
            .groups()
            .filter(|group| group.slices.contains(route.slice))
            .map(|group| group.id)
            .collect();
        prop_assert_eq!(owners, vec![route.group.id]);
        prop_assert_eq!(topology.route_slice(PURCHASES, route.slice), Ok(route));
        let global = topology.route(RATES, Uid(uid)).unwrap();
        prop_assert_eq!((global.slice, global.unit.name.as_str()), (SliceId::UNSHARDED, "GZ"));
    }
}

/// Goal: a unit may have several groups that share its slices.
#[test]
fn several_groups_of_one_unit_share_its_slices() {
    let text = one_city_three_idcs(&Options::demo(ClusterId(7))).replacen(
        "unit = \"RZ00\"",
        "unit = \"RZ00\"\nslices = \"00-09,20-24\"",
        1,
    ) + "\n[[group]]\nid = 9\nunit = \"RZ00\"\nslices = \"10-19\"\nlocality = \
           \"F@sh-a,F@sh-b,F@sh-c\"\n";
    let topology = Topology::parse(&text).unwrap();
    for (uid, group) in [(0, 1), (9, 1), (10, 9), (19, 9), (20, 1), (124, 1), (125, 2)] {
        assert_eq!(topology.route(PURCHASES, Uid(uid)).unwrap().group.id, GroupId(group), "{uid}");
    }
    assert_eq!(topology.unit("RZ00").unwrap().groups, [GroupId(1), GroupId(9)]);
}

/// Goal: members stand in the order in which to look for the leader.
#[test]
fn members_are_in_leader_order_with_equal_ranks_for_equal_zones() {
    let topology = demo();
    let group = topology.route(PURCHASES, Uid(30)).unwrap().group;
    assert_eq!(group.leader_order.to_string(), "sh-b;sh-a,sh-c");
    let members: Vec<(NodeId, ReplicaId, u32)> =
        group.members.iter().map(|m| (m.node, m.replica, m.rank)).collect();
    assert_eq!(
        members,
        [(NodeId(2), ReplicaId(2), 0), (NodeId(1), ReplicaId(1), 1), (NodeId(3), ReplicaId(3), 1)]
    );
}

/// Goal: where a zone has several nodes, replicas are spread, and new groups move none.
#[test]
fn replicas_are_spread_over_the_nodes_of_a_zone() {
    let node = "\n[[node]]\nid = 4\nzone = \"sh-a\"\nclient = \"h:1\"\npeer = \"h:2\"\nadmin = \
                \"h:3\"\n";
    let text = one_city_three_idcs(&Options::demo(ClusterId(7))) + node;
    let topology = Topology::parse(&text).unwrap();
    let groups_of = |id| topology.groups_of_node(NodeId(id)).map(|g| g.id.0).collect::<Vec<_>>();
    assert_eq!(groups_of(1), [1, 3, 5]);
    assert_eq!(groups_of(4), [2, 4]);
    assert_eq!(groups_of(2), [1, 2, 3, 4, 5]);
    let peers: Vec<u32> = topology.peers_of_node(NodeId(4)).map(|node| node.id.0).collect();
    assert_eq!(peers, [2, 3]);

    let grown = text.replacen("\"75-99\"", "\"75-89\"", 1)
        + "\n[[unit]]\nname = \"RZ04\"\nkind = \"rzone\"\nslices = \"90-99\"\n[[group]]\nid = \
           6\nunit = \"RZ04\"\nlocality = \"F@sh-a,F@sh-b,F@sh-c\"\nmembers = [\"n4\", \"n2\", \
           \"n3\"]\n";
    let grown = Topology::parse(&grown).unwrap();
    for group in topology.groups() {
        assert_eq!(grown.group(group.id).unwrap().members, group.members);
    }
}

/// Goal: what does not exist has its own error, with the code a client sees.
#[test]
fn unknown_tables_and_wrong_slices_are_coded() {
    let topology = demo();
    let unknown = topology.route(TableId(9), Uid(1)).unwrap_err();
    assert_eq!(unknown.code(), Code::UnknownTable);
    assert_eq!(unknown.to_string(), "no table has number 9");
    let misspelt = topology.require_table("purchase").unwrap_err();
    assert_eq!(
        misspelt.to_string(),
        "no table has the name \"purchase\"; did you mean \"purchases\"?"
    );
    assert_eq!(Error::from(misspelt).code, Code::UnknownTable);
    for (table, slice) in
        [(PURCHASES, SliceId(100)), (PURCHASES, SliceId::UNSHARDED), (RATES, SliceId(3))]
    {
        let error = topology.route_slice(table, slice).unwrap_err();
        assert!(matches!(error, RouteError::WrongSlice { .. }), "{error}");
        assert_eq!(error.code(), Code::InvalidRequest);
        assert!(error.to_string().contains(&slice_label(slice)), "{error}");
    }
    assert_eq!(topology.group_of_slice(SliceId(100)), None);
}

/// Goal: the explanation reads as the steps of the route.
#[test]
fn explanations_walk_from_uid_to_leader() {
    let topology = demo();
    let explained = topology.explain(PURCHASES, Uid(4_711)).unwrap();
    assert_eq!(
        explained.to_string().lines().collect::<Vec<_>>(),
        [
            "table purchases (t1) has class unit",
            "UID 4711: uid mod 100 gives slice 11",
            "slice 11 belongs to unit RZ00 (rzone)",
            "unit RZ00 keeps it in group g1",
            "leader preference 0: n1 at 127.0.0.1:6440 in sh.sh-a.sh-a, full replica",
            "leader preference 1: n2 at 127.0.0.1:6450 in sh.sh-b.sh-b, full replica",
            "leader preference 1: n3 at 127.0.0.1:6460 in sh.sh-c.sh-c, full replica",
        ]
    );
    assert_eq!(
        topology.explain(RATES, Uid(5)).unwrap().words()[..4],
        [
            "table rates (t4) has class global",
            "class global: not sharded, so UID 5 does not matter",
            "unit GZ (gzone) holds such tables",
            "unit GZ keeps it in group g5",
        ]
    );
    assert!(topology.explain(TableId(9), Uid(5)).is_err());
}
