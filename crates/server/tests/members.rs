//! Members that come and go, on real nodes.

#![cfg(not(madsim))]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of the cluster")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Cluster, within};
use quorate_client::{Client, Uid, Value};
use quorate_proto::v1;
use quorate_proto::v1::admin_client::AdminClient;
use quorate_topology::Node;
use quorate_types::{GroupId, NodeId, ReplicaId};
use tonic::transport::Channel;

const USER: Uid = Uid(1);

async fn admin(node: &Node) -> Option<AdminClient<Channel>> {
    AdminClient::connect(format!("http://{}", node.client)).await.ok()
}

/// Who takes part, as whoever leads says.
async fn members(cluster: &Cluster, group: GroupId) -> v1::GetMembersResponse {
    within(async || {
        for node in cluster.topology.nodes() {
            let Some(mut admin) = admin(node).await else { continue };
            let asked = admin.get_members(v1::GetMembersRequest { group: group.0 }).await;
            if let Ok(answer) = asked {
                return Some(answer.into_inner());
            }
        }
        None
    })
    .await
}

/// Waits until the members are so.
async fn until(
    cluster: &Cluster,
    group: GroupId,
    is_so: impl Fn(&v1::GetMembersResponse) -> bool,
) -> v1::GetMembersResponse {
    within(async || {
        let members = members(cluster, group).await;
        is_so(&members).then_some(members)
    })
    .await
}

fn is_voter(member: &v1::Member) -> bool {
    member.role() == v1::MemberRole::Voter
}

/// The only voters, all fit, and nothing under way.
fn are(members: &v1::GetMembersResponse, nodes: &[NodeId]) -> bool {
    let mut voters: Vec<u32> =
        members.members.iter().filter(|it| is_voter(it) && it.fit).map(|it| it.node).collect();
    voters.sort_unstable();
    members.chosen
        && !members.changing
        && members.members.len() == nodes.len()
        && voters.iter().eq(nodes.iter().map(|node| &node.0))
}

/// Asks whoever leads for these members.
async fn change(
    cluster: &Cluster,
    group: GroupId,
    seats: impl Fn(&v1::Member) -> Option<v1::Seat>,
    new: Option<v1::Seat>,
) {
    within(async || {
        let present = members(cluster, group).await;
        let members = present.members.iter().filter_map(&seats).chain(new).collect();
        let request = v1::ChangeMembersRequest { group: group.0, expected: present.since, members };
        let leader = present.members.iter().find(|member| member.leads)?.node;
        let mut admin = admin(cluster.topology.node(NodeId(leader))?).await?;
        admin.change_members(request).await.ok()
    })
    .await;
}

fn seat(member: &v1::Member) -> v1::Seat {
    let v1::Member { replica, node, rank, kind, .. } = *member;
    v1::Seat { replica, node, rank, kind, votes: is_voter(member) }
}

async fn write(client: &Client, number: i64) {
    within(async || client.put("load", USER, "k", number).await.ok()).await;
    let read = client.get("load", USER, "k").await.expect("it is read");
    assert_eq!(read, Some(Value::Integer(number)));
}

/// Goal: a node whose disk is lost comes back by itself with new replicas, which get log and rows and take the
/// places of the old ones; and then they count: the group goes on without one of the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_takes_its_place_again() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    for number in 0..50 {
        write(&client, number).await;
    }
    let group = client.route("load", USER).expect("it has a place").group;
    let nodes: Vec<Node> = cluster.topology.nodes().cloned().collect();
    let all: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
    let lost = nodes[2].clone();

    cluster.stop_node(&lost.name).await.expect("it stops");
    std::fs::remove_dir_all(cluster.data(&lost.name)).expect("it is there");
    cluster.start_node(&lost.name);
    for group in cluster.topology.groups() {
        let old = ReplicaId::first_on(lost.id).0;
        let is_replaced = |members: &v1::GetMembersResponse| {
            are(members, &all) && members.members.iter().all(|member| member.replica != old)
        };
        until(&cluster, group.id, is_replaced).await;
    }
    write(&client, 51).await;

    cluster.stop_node(&nodes[0].name).await.expect("it stops");
    write(&client, 52).await;
    // And it is the same replica after a restart.
    cluster.start_node(&nodes[0].name);
    let before = until(&cluster, group, |members| are(members, &all)).await;
    cluster.stop_node(&lost.name).await.expect("it stops");
    cluster.start_node(&lost.name);
    let after = until(&cluster, group, |members| are(members, &all)).await;
    let replicas = |members: &v1::GetMembersResponse| {
        members.members.iter().map(|member| member.replica).collect::<Vec<_>>()
    };
    assert_eq!(replicas(&before), replicas(&after));
    write(&client, 53).await;
}

/// Goal: a group moves to a node that never held it, while it is written to: the new replica is made, learns,
/// votes, and the old one leaves; clients that know only the cluster file find it.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_moves_to_another_node() {
    let mut cluster = Cluster::start_wide().await;
    let client = cluster.client().await;
    for number in 0..50 {
        write(&client, number).await;
    }
    let group = client.route("load", USER).expect("it has a place").group;
    let before = members(&cluster, group).await;
    let held: Vec<NodeId> = before.members.iter().map(|it| NodeId(it.node)).collect();
    let nodes: Vec<Node> = cluster.topology.nodes().cloned().collect();
    let free = nodes.iter().filter(|node| !held.contains(&node.id)).map(|node| node.id);
    let free: Vec<NodeId> = free.collect();
    assert_eq!((held.len(), free.len()), (3, 3), "every group is on half of the nodes");

    // One after the other all three move.
    for (old, new) in held.iter().zip(&free) {
        let mut there = admin(cluster.topology.node(*new).expect("known")).await.expect("it runs");
        let request = v1::CreateReplicaRequest { group: group.0, kind: 0 };
        let made = there.create_replica(request).await.expect("it is made").into_inner();
        let again = there.create_replica(request).await.expect("the same").into_inner();
        assert_eq!(made, again);
        let learner = v1::Seat { replica: made.replica, node: new.0, ..v1::Seat::default() };
        change(&cluster, group, |member| Some(seat(member)), Some(learner)).await;
        until(&cluster, group, |members| {
            members.members.iter().any(|member| member.replica == made.replica && member.fit)
        })
        .await;
        let joins = |member: &v1::Member| match member.node {
            node if node == old.0 => None,
            node if node == new.0 => Some(v1::Seat { votes: true, ..seat(member) }),
            _ => Some(seat(member)),
        };
        change(&cluster, group, joins, None).await;
        until(&cluster, group, |members| {
            !members.changing && !members.members.iter().any(|member| member.node == old.0)
        })
        .await;
        write(&client, i64::from(new.0) * 100).await;
    }
    let mut sorted = free.clone();
    sorted.sort_unstable();
    until(&cluster, group, |members| are(members, &sorted)).await;

    // Whoever knows only the cluster file finds the way, also after the nodes have started again.
    let stranger = cluster.client().await;
    write(&stranger, 1).await;
    for node in &nodes {
        cluster.stop_node(&node.name).await.expect("it stops");
    }
    for node in &nodes {
        cluster.start_node(&node.name);
    }
    let later = cluster.client().await.with_timeout(Duration::from_secs(20));
    write(&later, 2).await;
    until(&cluster, group, |members| are(members, &sorted)).await;
}

/// Bytes of all files below a folder.
fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0, // RocksDB has removed it meanwhile.
    };
    entries.flatten().map(bytes).sum()
}

/// Bytes that no compression makes less of.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(bytes).collect()
}

/// Waits until a node has no replica of a group, as it says itself.
async fn until_gone(client: &Client, node: &Node, group: GroupId) {
    within(async || {
        let reports = client.cluster_status().await;
        reports.into_iter().find_map(|report| {
            let status = report.status.ok().filter(|status| status.node == node.id)?;
            status.groups.iter().all(|it| it.group != group).then_some(())
        })
    })
    .await;
}

/// Makes a replica on a node, and waits until it votes in the place of the one on another node.
async fn replace(cluster: &Cluster, group: GroupId, old: NodeId, new: NodeId) -> ReplicaId {
    let request = v1::CreateReplicaRequest { group: group.0, kind: 0 };
    let made = within(async || {
        let mut there = admin(cluster.topology.node(new)?).await?;
        Some(there.create_replica(request).await.ok()?.into_inner().replica)
    })
    .await;
    let learner = v1::Seat { replica: made, node: new.0, ..v1::Seat::default() };
    change(cluster, group, |member| Some(seat(member)), Some(learner)).await;
    until(cluster, group, |members| {
        members.members.iter().any(|member| member.replica == made && member.fit)
    })
    .await;
    let joins = |member: &v1::Member| match member.node {
        node if node == old.0 => None,
        node if node == new.0 => Some(v1::Seat { votes: true, ..seat(member) }),
        _ => Some(seat(member)),
    };
    change(cluster, group, joins, None).await;
    until(cluster, group, |members| {
        !members.changing && !members.members.iter().any(|member| member.node == old.0)
    })
    .await;
    ReplicaId(made)
}

/// Goal: a replica that is replaced leaves its disk, but not before everybody who takes part knows; a restart brings
/// nothing back, and the node can be given the group again, under an id that it never had.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_replaced_replica_held_leaves_the_disk() {
    const VALUE_BYTES: usize = 60_000;
    const VALUES: u64 = 400;
    let mut cluster = Cluster::start_wide().await;
    let client = cluster.client().await;
    let group = client.route("load", USER).expect("it has a place").group;
    let key = |number: u64| format!("k{number}");
    for number in 0..VALUES {
        let value = Value::Bytes(noise(number + 1, VALUE_BYTES).into());
        within(async || client.put("load", USER, key(number), value.clone()).await.ok()).await;
    }
    let before = members(&cluster, group).await;
    let held: Vec<NodeId> = before.members.iter().map(|it| NodeId(it.node)).collect();
    let nodes: Vec<Node> = cluster.topology.nodes().cloned().collect();
    let node = |id: NodeId| nodes.iter().find(|node| node.id == id).expect("known");
    let free = nodes.iter().find(|node| !held.contains(&node.id)).expect("one is free");
    let (leaves, away) = (held[0], held[1]);
    let rows = cluster.data(&node(leaves).name).join("rows");
    let all = VALUES * VALUE_BYTES as u64;
    within(async || (all / 2 < bytes_below(&rows)).then_some(())).await;

    let new = replace(&cluster, group, leaves, free.id).await;
    until_gone(&client, node(leaves), group).await;
    within(async || (bytes_below(&rows) < all / 20).then_some(())).await;
    write(&client, 1).await;

    // It stays so, and so does who comes after it.
    for name in [&node(leaves).name, &node(away).name] {
        cluster.stop_node(name).await.expect("it stops");
        cluster.start_node(name);
        write(&client, 2).await;
    }
    until_gone(&client, node(leaves), group).await;
    assert!(bytes_below(&rows) < all / 20);

    // It comes back in the place of the one that came for it.
    let again = replace(&cluster, group, free.id, leaves).await;
    assert_ne!(again, ReplicaId::first_on(leaves));
    until_gone(&client, free, group).await;
    assert_ne!(new, again);
    let mut sorted = held.clone();
    sorted.sort_unstable();
    until(&cluster, group, |members| are(members, &sorted)).await;
    cluster.stop_node(&node(away).name).await.expect("it stops");
    for number in (0..VALUES).step_by(37) {
        let read = within(async || client.get("load", USER, key(number)).await.ok()).await;
        assert!(
            matches!(read, Some(Value::Bytes(value)) if value == noise(number + 1, VALUE_BYTES))
        );
    }
    write(&client, 3).await;
}
