//! Distances and cuts between real nodes.
#![cfg(not(madsim))]
#![allow(missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod common;

use std::time::{Duration, Instant};

use common::Cluster;
use quorate_client::{Client, Code, Link, Uid};

const DELAY: Duration = Duration::from_millis(20);

async fn tell_all(cluster: &Cluster, client: &Client, links: &[Link]) {
    for node in cluster.topology.nodes() {
        client.set_links(&node.client, links).await.expect("faults are allowed");
    }
}

/// Goal: links are left alone unless a node was started to have them broken, and then distances are felt by
/// clients and by nodes, a cut stops what it cuts, and mending ends it.
#[tokio::test(flavor = "multi_thread")]
async fn links_are_far_and_cut_where_that_is_allowed() {
    let mut cluster = Cluster::start().await;
    let operator = cluster.client().await;
    let n1 = cluster.topology.nodes().next().expect("a node").client.clone();
    let refused = operator.set_links(&n1, &[]).await.expect_err("not allowed");
    assert_eq!(refused.code(), Code::FaultsNotAllowed, "{refused}");

    for name in cluster.names() {
        cluster.stop_node(&name).await.expect("a clean end");
    }
    let far = vec![Link::far("sh", "sh", DELAY)];
    cluster.far_links = Some(far.clone());
    for name in cluster.names() {
        cluster.start_node(&name);
    }
    cluster.wait_until_serving().await;
    assert_eq!(operator.links(&n1).await.expect("allowed"), far);
    let unknown = operator.set_links(&n1, &[Link::cut("sh", "mars")]).await.expect_err("no place");
    assert_eq!(unknown.code(), Code::InvalidRequest, "{unknown}");

    let near = Client::builder(cluster.endpoints()).near("sh-a").build().await.expect("a client");
    near.put("load", Uid(1), "a", "1").await.expect("written");
    let began = Instant::now();
    near.put("load", Uid(1), "a", "2").await.expect("written");
    let took = began.elapsed();
    // From the client and back, and from the leader to a follower and back.
    assert!(4 * DELAY <= took, "{took:?}");

    let cuts: Vec<Link> = ["n1", "n2", "n3"].map(|node| Link::cut(node, "sh-a")).to_vec();
    tell_all(&cluster, &operator, &cuts).await;
    let brief = near.with_timeout(Duration::from_secs(2));
    let lost = brief.put("load", Uid(1), "a", "3").await.expect_err("no answer gets through");
    assert_eq!(lost.code(), Code::DeadlineExceeded, "{lost}");
    tell_all(&cluster, &operator, &[]).await;
    near.put("load", Uid(1), "a", "4").await.expect("the connection was never closed");
}
