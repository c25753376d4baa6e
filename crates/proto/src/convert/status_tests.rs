use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;

use super::super::strategies::{ballot, millis};
use super::*;

fn member() -> impl Strategy<Value = MemberProgress> {
    (1..99_u32, any::<u64>(), option::of(millis()), any::<u64>()).prop_map(
        |(node, slot_synced, heard_ago, in_flight_bytes)| MemberProgress {
            node: NodeId(node),
            slot_synced: Slot(slot_synced),
            heard_ago,
            in_flight_bytes,
        },
    )
}

fn group() -> impl Strategy<Value = GroupStatus> {
    let role = prop_oneof![Just(Role::Follower), Just(Role::Candidate), Just(Role::Leader)];
    let leader = option::of((1..99_u32).prop_map(NodeId));
    let slots = any::<[u64; 6]>();
    (role, ballot(), leader, millis(), any::<bool>(), slots, vec(member(), 0..4)).prop_map(
        |(role, ballot, leader, lease_remaining, serving, slots, members)| GroupStatus {
            group: GroupId(7),
            unit: "RZ00".to_owned(),
            role,
            ballot,
            leader,
            lease_remaining,
            serving,
            slot_accepted: Slot(slots[0]),
            slot_synced: Slot(slots[1]),
            slot_committed: Slot(slots[2]),
            slot_applied: Slot(slots[3]),
            slot_persisted: Slot(slots[4]),
            sessions: slots[5],
            members,
        },
    )
}

proptest! {
    #[test]
    fn a_status_round_trips(
        groups in vec(group(), 0..4),
        sizes in any::<[u64; 4]>(),
        flags in any::<[bool; 2]>(),
        uptime in millis(),
    ) {
        // Goal: the CLI shows what the node knows.
        let status = NodeStatus {
            cluster: ClusterId(9),
            node: NodeId(3),
            name: "n3".to_owned(),
            incarnation: Incarnation(0xabc),
            version: "0.1.0".to_owned(),
            topology_version: sizes[3],
            uptime,
            draining: flags[0],
            ready: flags[1],
            disk_free_bytes: sizes[0],
            disk_total_bytes: sizes[1],
            log_bytes: sizes[2],
            groups,
            notices: vec!["rows were damaged".to_owned()],
        };
        let encoded = status.clone().into_wire().encode_to_vec();
        let decoded = v1::NodeStatus::decode(&encoded[..]).expect("we encoded it");
        prop_assert_eq!(NodeStatus::from_wire(decoded), Ok(status));
    }

    #[test]
    fn bytes_from_the_network_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        // Goal: a broken node does not break `status`.
        if let Ok(status) = v1::NodeStatus::decode(&bytes[..]) {
            let _no_panic = NodeStatus::from_wire(status);
        }
        if let Ok(text) = v1::GetTopologyResponse::decode(&bytes[..]) {
            let _no_panic = TopologyText::from_wire(text);
        }
    }
}

#[test]
fn a_wrong_status_names_the_field() {
    // Goal: a mistake of another implementation can be found.
    let group = v1::GroupStatus { role: 9, ..v1::GroupStatus::default() };
    let status = v1::NodeStatus {
        cluster_id: ClusterId(1).to_string(),
        incarnation: "ff".into(),
        groups: vec![group],
        ..v1::NodeStatus::default()
    };
    let error = NodeStatus::from_wire(status).expect_err("there is no role 9");
    assert_eq!(error.field(), "groups[0].role");
    let error = NodeStatus::from_wire(v1::NodeStatus::default()).expect_err("it is empty");
    assert_eq!(error.field(), "incarnation");
}

#[test]
fn topologies_round_trip() {
    // Goal: an empty text means that the caller has the version.
    for toml in [None, Some("[cluster]".to_owned())] {
        let text = TopologyText { cluster: ClusterId(5), version: 4, toml };
        assert_eq!(TopologyText::from_wire(text.clone().into_wire()), Ok(text));
    }
}
