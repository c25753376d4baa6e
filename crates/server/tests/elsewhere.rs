//! Reads that any replica may answer, on real nodes.
#![cfg(not(madsim))]
#![allow(missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod common;

use std::time::Duration;

use common::{Cluster, within};
use quorate_client::{Client, Reads};
use quorate_topology::Node;
use quorate_types::{
    AccountAddress, AccountSettings, Code, NodeId, Transfer, TransferId, Uid, Value,
};

const USER: Uid = Uid(1);
/// Another user of the same unit.
const BESIDE: Uid = Uid(2);
const FAR: Uid = Uid(51);

/// A client beside a node: what it reads elsewhere it asks there first.
async fn beside(node: &Node) -> Client {
    within(async || {
        let builder = Client::builder(node.client.clone()).near(node.idc.clone());
        builder.build().await.ok()
    })
    .await
}

/// Goal: whichever replica is asked, a read shows what its token stands for, what was acknowledged before
/// it began if that was asked for, and what the handle itself has written and read.
#[tokio::test(flavor = "multi_thread")]
async fn every_replica_shows_what_is_asked_for() {
    let cluster = Cluster::start().await;
    let writer = cluster.client().await;
    let nodes: Vec<Node> = cluster.topology.nodes().cloned().collect();
    let mut near = Vec::new();
    for node in &nodes {
        near.push(beside(node).await);
    }
    for round in 0..40_i64 {
        let written = writer.put("load", USER, "k", round).await.expect("nothing is broken");
        let paid = writer
            .transaction()
            .put("load", USER, "a", round)
            .put("load", FAR, "b", round)
            .commit()
            .await
            .expect("nothing is broken");
        let token = written.token().merge(paid.token());
        let token: quorate_client::Token = token.to_string().parse().expect("we made it");
        for client in &near {
            for reads in [Reads::AtLeast(token.clone()), Reads::BoundedStale(Duration::ZERO)] {
                let client = client.with_reads(reads);
                for (user, key) in [(USER, "k"), (USER, "a"), (FAR, "b")] {
                    let read = client.get("load", user, key).await.expect("nothing is broken");
                    assert_eq!(read, Some(Value::Integer(round)), "{key} {:?}", client.token());
                }
                let rows = client.scan("load", USER).collect_all().await.expect("it is read");
                assert_eq!(rows.len(), 2);
            }
            let own = client.with_reads(Reads::CityLocal);
            // Not among the rows that others count: their tokens say nothing of these.
            own.put("load", BESIDE, "mine", round).await.expect("nothing is broken");
            let read = own.get("load", BESIDE, "mine").await.expect("nothing is broken");
            assert_eq!(read, Some(Value::Integer(round)), "its own write");
            own.delete("load", BESIDE, "mine").await.expect("nothing is broken");
            let read = own.get("load", BESIDE, "mine").await.expect("nothing is broken");
            assert_eq!(read, None, "its own write");
        }
    }
    let foreign = "1-0000000000000000ffffffffffffffff-1.99-2.99".parse().expect("it is a token");
    let elsewhere = near[0].with_reads(Reads::AtLeast(foreign));
    assert!(elsewhere.get("load", USER, "k").await.is_ok(), "it says nothing of this cluster");
}

/// Goal: transfers between units are whole wherever they are read with a token or a bound, and a
/// position that no group ever had is refused.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_read_anywhere() {
    let cluster = Cluster::start().await;
    let nodes: Vec<Node> = cluster.topology.nodes().cloned().collect();
    let (from, to) = (AccountAddress::new(USER, 840), AccountAddress::new(FAR, 840));
    let settings = AccountSettings { floor: None, ..AccountSettings::default() };
    let client = beside(&nodes[2]).await;
    for at in [from, to] {
        client.create_account(at, settings).await.expect("nothing is broken");
    }
    let client = client.with_reads(Reads::BoundedStale(Duration::from_secs(10)));
    for number in 1..=30_i64 {
        let id = TransferId(u128::try_from(number).unwrap());
        let outcome = client.transfer(Transfer::post(id, from, to, 1)).await;
        assert!(outcome.stands(), "{outcome:?}");
        let balance = async |at| client.account(at).await.expect("it is read").unwrap().balance;
        assert_eq!((balance(from).await, balance(to).await), (-number, number));
        let found = client.find_transfer(USER, id).await.expect("it is read");
        assert!(found.is_some());
    }
    let ahead = format!("{}", client.token());
    let group = client.route("load", USER).expect("it has a place").group;
    let ahead =
        format!("{}-{}.99999999", ahead.split("-").take(2).collect::<Vec<_>>().join("-"), group.0);
    let hasty = client.with_reads(Reads::AtLeast(ahead.parse().expect("it is a token")));
    let error = hasty.account(from).await.expect_err("no answer named it");
    assert_eq!(error.code(), Code::InvalidRequest);
}

/// Goal: a city that has lost the majority still reads, at most a minute old, and says so when it is asked
/// for more.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_replica_answers_city_local_reads() {
    let mut cluster = Cluster::start().await;
    let writer = cluster.client().await;
    let written = writer.put("load", USER, "k", 7_i64).await.expect("nothing is broken");
    let leader = cluster.leader_of(written.group).await;
    let last =
        cluster.topology.nodes().find(|node| node.id != leader).cloned().expect("three nodes");
    let client = beside(&last).await;
    // It asks where the leader stands, and from then on knows how fresh it is.
    let fresh = client.with_reads(Reads::BoundedStale(Duration::ZERO));
    assert_eq!(fresh.get("load", USER, "k").await.expect("it is read"), Some(Value::Integer(7)));
    let others: Vec<(NodeId, String)> = cluster
        .topology
        .nodes()
        .filter(|node| node.id != last.id)
        .map(|node| (node.id, node.name.clone()))
        .collect();
    for (_, name) in &others {
        cluster.abort_node(name).await;
    }
    let local = client.with_reads(Reads::CityLocal);
    assert_eq!(local.get("load", USER, "k").await.expect("it is near"), Some(Value::Integer(7)));
    let hurried = client.with_timeout(Duration::from_secs(2));
    for reads in [Reads::Strong, Reads::BoundedStale(Duration::ZERO)] {
        let error = hurried.with_reads(reads).get("load", USER, "k").await;
        let code = error.expect_err("nobody leads").code();
        let says_so = [Code::DeadlineExceeded, Code::NotLeader, Code::Unreachable, Code::NoQuorum];
        assert!(says_so.contains(&code), "{code:?}");
    }
}
