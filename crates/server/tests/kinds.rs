//! Replicas that are not full, on real nodes: what they keep, what they count for, what they answer.

#![cfg(not(madsim))]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of the cluster")]

mod common;

use std::time::Duration;

use common::{Cluster, within};
use quorate_client::{Client, MemberRole, Members, Reads, Uid, Value};
use quorate_topology::{Group, Node, ReplicaKind, presets::Layout};
use quorate_types::{Code, GroupId, NodeId};

const USER: Uid = Uid(1);
/// More than an election takes, and setting a silent voter aside before it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Tries to write until somebody takes it.
async fn write(client: &Client, key: String, number: i64) {
    within(async || {
        let written = client.put("load", USER, key.clone(), number);
        tokio::time::timeout(PATIENCE, written).await.ok()?.ok()
    })
    .await;
}

/// Every number that was written, and no other.
async fn check(client: &Client, numbers: i64) {
    for number in 0..numbers {
        let key = format!("k{number}");
        let read = within(async || client.get("load", USER, key.clone()).await.ok()).await;
        assert_eq!(read, Some(Value::Integer(number)), "{key}");
    }
}

struct Written {
    client: Client,
    count: i64,
}

impl Written {
    async fn more(&mut self) {
        for _ in 0..5 {
            write(&self.client, format!("k{}", self.count), self.count).await;
            self.count += 1;
        }
    }

    async fn check(&self) {
        check(&self.client, self.count).await;
    }
}

fn group(cluster: &Cluster, client: &Client) -> Group {
    let id = client.route("load", USER).expect("it has a place").group;
    cluster.topology.group(id).expect("it is in the file").clone()
}

fn name(cluster: &Cluster, node: NodeId) -> String {
    let node: Option<&Node> = cluster.topology.node(node);
    node.expect("it is in the file").name.clone()
}

fn of_kind(group: &Group, kind: ReplicaKind) -> Vec<NodeId> {
    group.members.iter().filter(|it| it.kind == kind).map(|it| it.node).collect()
}

/// Waits until the members are so, as whoever leads says.
async fn until(client: &Client, group: GroupId, is_so: impl Fn(&Members) -> bool) -> Members {
    within(async || client.members(group).await.ok().filter(|members| is_so(members))).await
}

fn are_voters(members: &Members, nodes: &[NodeId]) -> bool {
    let is_voter = |node: &NodeId| {
        members.on(*node).is_some_and(|it| it.role == MemberRole::Voter && (it.fit || it.leads))
    };
    members.chosen && !members.changing && nodes.iter().all(is_voter)
}

/// Goal: four full replicas and a log-only one serve without any two of the five, also without those that have
/// rows and with the one that has none in the majority; and nothing that was acknowledged is lost on the way.
#[tokio::test(flavor = "multi_thread")]
async fn four_full_replicas_and_a_log_only_one_survive_any_two() {
    let mut cluster = Cluster::start_layout(Layout::ThreeCities, |text| text).await;
    let client = cluster.client().await;
    let group = group(&cluster, &client);
    let (full, log) = (of_kind(&group, ReplicaKind::Full), of_kind(&group, ReplicaKind::LogOnly));
    assert_eq!((full.len(), log.len()), (4, 1));
    let all = [full.clone(), log.clone()].concat();
    let mut written = Written { client, count: 0 };
    written.more().await;
    let members = until(&written.client, group.id, |members| are_voters(members, &all)).await;
    assert_eq!(members.on(log[0]).map(|member| member.kind), Some(ReplicaKind::LogOnly));

    let leader = cluster.leader_of(group.id).await;
    let other = full.iter().copied().find(|node| *node != leader).expect("four of them");
    let rest = full.iter().copied().filter(|node| ![leader, other].contains(node));
    let rest: Vec<NodeId> = rest.collect();
    // The leader and another full one; two full ones once more; the log-only one and a full one.
    for lost in [[leader, other], [rest[0], rest[1]], [log[0], leader]] {
        let names = lost.map(|node| name(&cluster, node));
        for name in &names {
            cluster.abort_node(name).await;
        }
        written.more().await;
        written.check().await;
        assert_ne!(cluster.leader_of(group.id).await, log[0], "it cannot lead");
        for name in &names {
            cluster.start_node(name);
        }
        until(&written.client, group.id, |members| are_voters(members, &all)).await;
    }
}

/// Goal: two full replicas and an arbiter go on without either of the two, one after the other: the silent one is
/// set aside, shown as such, and votes again by itself once it is back; then the other one may go.
#[tokio::test(flavor = "multi_thread")]
async fn two_full_replicas_and_an_arbiter_go_on_with_either() {
    let mut cluster = Cluster::start_layout(Layout::TwoAndArbiter, |text| text).await;
    let client = cluster.client().await;
    let group = group(&cluster, &client);
    let full = of_kind(&group, ReplicaKind::Full);
    let arbiter = of_kind(&group, ReplicaKind::Arbiter)[0];
    let all = [full.clone(), vec![arbiter]].concat();
    let mut written = Written { client, count: 0 };
    written.more().await;
    until(&written.client, group.id, |members| are_voters(members, &all)).await;
    // First one that follows, then the one that leads.
    let leader = cluster.leader_of(group.id).await;
    let follower = full.iter().copied().find(|node| *node != leader).expect("two of them");
    for lost in [follower, leader] {
        cluster.abort_node(&name(&cluster, lost)).await;
        written.more().await;
        written.check().await;
        let members = until(&written.client, group.id, |members| members.chosen).await;
        assert_eq!(members.on(lost).map(|member| member.role), Some(MemberRole::Suspended));
        assert_ne!(members.leader(), Some(arbiter));
        let lost = name(&cluster, lost);
        cluster.start_node(&lost);
        until(&written.client, group.id, |members| are_voters(members, &all)).await;
        written.more().await;
        written.check().await;
    }
    // The arbiter is not missed while both others are there, and comes back to what it kept.
    let arbiter = name(&cluster, arbiter);
    cluster.abort_node(&arbiter).await;
    written.more().await;
    cluster.start_node(&arbiter);
    until(&written.client, group.id, |members| are_voters(members, &all)).await;
    written.check().await;
}

/// Goal: a replica that lost its disk comes back as what it was, with an arbiter too: set aside, taken in under a
/// new id, and a voter again.
#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_replica_comes_back_as_what_it_was() {
    let mut cluster = Cluster::start_layout(Layout::TwoAndArbiter, |text| text).await;
    let client = cluster.client().await;
    let group = group(&cluster, &client);
    let nodes: Vec<NodeId> = group.members.iter().map(|member| member.node).collect();
    let mut written = Written { client, count: 0 };
    written.more().await;
    for lost in nodes.iter().copied().rev() {
        let kind = group.member_on(lost).expect("a member").kind;
        let (id, lost) = (lost, name(&cluster, lost));
        cluster.stop_node(&lost).await.expect("it stops");
        std::fs::remove_dir_all(cluster.data(&lost)).expect("it is there");
        cluster.start_node(&lost);
        let first = quorate_types::ReplicaId::first_on(id);
        let is_new = |members: &Members| {
            let replaced = members.on(id).is_some_and(|it| it.replica != first && it.kind == kind);
            replaced && are_voters(members, &nodes) && members.members.len() == 3
        };
        until(&written.client, group.id, is_new).await;
        written.more().await;
        written.check().await;
    }
}

/// Goal: a read-only replica answers the reads of its city, with and without a leader, and is nobody that counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_replica_answers_its_city_and_never_counts() {
    let mut cluster = Cluster::start_layout(Layout::ThreeCities, |text| {
        let text = text.replace("F@hz-b,L@sz-a", "R@hz-b,R@sz-a");
        let orders = [("hz-b;hz-a", "hz-a"), (";hz-a,hz-b", ";hz-a"), ("hz-a;hz-b", "hz-a")];
        orders.into_iter().fold(text, |text, (from, to)| text.replace(from, to))
    })
    .await;
    let client = cluster.client().await;
    let group = group(&cluster, &client);
    let (full, readers) =
        (of_kind(&group, ReplicaKind::Full), of_kind(&group, ReplicaKind::ReadOnly));
    assert_eq!((full.len(), readers.len()), (3, 2));
    let mut written = Written { client, count: 0 };
    written.more().await;
    let members = until(&written.client, group.id, |members| members.members.len() == 5).await;
    assert!(
        readers
            .iter()
            .all(|node| { members.on(*node).is_some_and(|it| it.role == MemberRole::Learner) })
    );
    let endpoints = cluster.endpoints();
    let near = || Client::builder(endpoints.clone()).near("sz").build();
    let near = within(async || near().await.ok()).await.with_reads(Reads::CityLocal);
    within(async || near.get("load", USER, "k0").await.ok().flatten()).await;
    // Without all that count, the ones that do not answer what they have, and take nothing.
    for node in &full {
        cluster.abort_node(&name(&cluster, *node)).await;
    }
    let read = within(async || near.get("load", USER, "k1").await.ok()).await;
    assert_eq!(read, Some(Value::Integer(1)));
    let write = tokio::time::timeout(PATIENCE, written.client.put("load", USER, "k", 1)).await;
    assert!(write.map_or(true, |write| write.is_err_and(|error| error.code() != Code::Internal)));
    for node in &full {
        let node = name(&cluster, *node);
        cluster.start_node(&node);
    }
    written.more().await;
    written.check().await;
}
