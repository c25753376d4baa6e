//! What each call does when nothing goes wrong, and what a client says about setups that are wrong.

use std::time::Duration;

use futures::future::join_all;
use quorate_client::{Client, ClusterId, Code, NodeId, Outcome, Phase, Uid, Value};

use super::nodes::{ANY_GROUP, CLUSTER, Nodes};

#[tokio::test]
async fn every_call_does_what_it_says() {
    // Goal: put, get, delete, compare-and-set, transaction and scan end to end.
    let (nodes, client) = Nodes::with_client().await;
    let user = Uid(42);
    assert_eq!(client.get("load", user, "k").await.unwrap(), None);
    let first = client.put("load", user, "k", "one").await.unwrap();
    assert_eq!(client.get("load", user, "k").await.unwrap(), Some(Value::Bytes("one".into())));
    let one = || Some(Value::Bytes("one".into()));
    let second = client.compare_and_set("load", user, "k", one(), Some(Value::Integer(5))).await;
    assert!(first.at.slot < second.unwrap().at.slot);
    let error = client.compare_and_set("load", user, "k", None, one()).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::ConditionFailed, Outcome::NotApplied));

    let committed = client
        .transaction()
        .require_exists("load", user, "k")
        .add("load", user, "k", 10)
        .floor(0)
        .ceiling(100)
        .put("profiles", user, "name", "Ada")
        .read("load", user, "k")
        .read("load", user, "nothing")
        .commit()
        .await
        .unwrap();
    assert_eq!(committed.sums, [15]);
    assert_eq!(committed.reads, [Some(Value::Integer(5)), None]);
    assert!(!committed.replayed);
    let over = client.transaction().add("load", user, "k", -16).floor(0).commit().await;
    assert_eq!(over.unwrap_err().code(), Code::GuardFailed);

    client.delete("load", user, "k").await.unwrap();
    assert_eq!(client.get("load", user, "k").await.unwrap(), None);
    assert_eq!(nodes.world().effects, 4);
}

#[tokio::test]
async fn scans_walk_pages_and_slices() {
    // Goal: every row once, in order, whatever the page size.
    let (_nodes, client) = Nodes::with_client().await;
    for uid in [1_u64, 101, 7, 299] {
        for key in ["a1", "a2", "b1"] {
            client.put("load", Uid(uid), key, i64::try_from(uid).unwrap()).await.unwrap();
        }
    }
    let keys = |rows: &[quorate_client::ScannedRow]| {
        rows.iter().map(|row| (row.uid.0, row.key.clone())).collect::<Vec<_>>()
    };
    let mut scan = client.scan("load", Uid(1)).prefix("a").page_size(1);
    assert_eq!(keys(&scan.next_page().await.unwrap().unwrap()), [(1, "a1".into())]);
    assert_eq!(keys(&scan.next_page().await.unwrap().unwrap()), [(1, "a2".into())]);
    assert_eq!(scan.next_page().await.unwrap(), None);
    let rest = client.scan("load", Uid(1)).start_after("a1").collect_all().await.unwrap();
    assert_eq!(keys(&rest), [(1, "a2".into()), (1, "b1".into())]);

    let mut export = client.scan_table("load").page_size(2);
    let mut all = Vec::new();
    while let Some(rows) = export.next_page().await.unwrap() {
        assert!(rows.len() <= 2);
        all.extend(rows);
    }
    assert_eq!(export.progress(), (100, 100));
    let users: Vec<u64> = all.iter().map(|row| row.uid.0).collect();
    assert_eq!(users, [1, 1, 1, 101, 101, 101, 7, 7, 7, 299, 299, 299]);
    assert_eq!(client.scan_table("rates").collect_all().await.unwrap(), []);
}

#[tokio::test]
async fn many_callers_share_one_stream() {
    // Goal: requests are batched into frames, each takes effect once, the window moves on.
    let (nodes, client) = Nodes::with_client().await;
    let put = |index: u64| {
        let client = client.clone();
        async move { client.put("load", Uid(42), format!("k{index:04}"), 1).await }
    };
    let written = join_all((0..3000).map(put)).await;
    assert!(written.iter().all(Result::is_ok));
    {
        let world = nodes.world();
        assert_eq!((world.effects, world.rows.len()), (3000, 3000));
        assert!(world.frames < 1000, "{} frames", world.frames);
        let spread = |id: quorate_types::RequestId| id.sequence - id.lowest_unanswered;
        let widest = world.seen.iter().filter_map(|seen| seen.id).map(spread).max();
        assert!(widest < Some(1024), "{widest:?}");
    }
    // The server was told what is answered, so it keeps no more than the last results.
    client.put("load", Uid(42), "last", 1).await.unwrap();
    let world = nodes.world();
    assert_eq!(world.sessions.values().map(std::collections::BTreeMap::len).sum::<usize>(), 1);
}

#[tokio::test]
async fn large_values_share_the_stream_in_frames_that_fit() {
    // Goal: frames stay below the limit of decoders, and bytes in flight below the client's own.
    let nodes = Nodes::start(&[1, 2, 3]);
    nodes.client().await; // Returns when the servers are up.
    let builder = Client::builder(nodes.address(1)).max_in_flight_bytes(2 * 1024 * 1024);
    let client = builder.build().await.unwrap();
    let put = |index: u64| {
        let client = client.clone();
        async move { client.put("load", Uid(42), format!("k{index}"), vec![7; 500_000]).await }
    };
    for written in join_all((0..24).map(put)).await {
        written.unwrap();
    }
    assert_eq!(nodes.world().effects, 24);
    let rows = client.scan("load", Uid(42)).page_size(3).collect_all().await.unwrap();
    assert_eq!(rows.len(), 24);
}

#[tokio::test]
async fn closing_ends_the_sessions_and_the_client_stays_usable() {
    // Goal: a short-lived client leaves nothing behind.
    let (nodes, client) = Nodes::with_client().await;
    for uid in [0, 30, 60] {
        client.put("load", Uid(uid), "k", 1).await.unwrap();
    }
    assert_eq!(nodes.world().sessions.len(), 3, "one for each group");
    client.close().await;
    assert_eq!(nodes.world().sessions.len(), 0);
    client.put("load", Uid(0), "k", 2).await.unwrap();
    assert_eq!(nodes.world().sessions.len(), 1);
}

#[tokio::test]
async fn mistakes_are_found_before_anything_is_sent() {
    // Goal: what no server would take costs no round trip and spoils no stream.
    let (nodes, client) = Nodes::with_client().await;
    let code = |result: Result<quorate_client::Committed, quorate_client::Error>| {
        let error = result.unwrap_err();
        assert_eq!((error.outcome(), error.attempts()), (Outcome::NotApplied, 0));
        error.code()
    };
    let start = || client.transaction();
    let commit = start().put("loads", Uid(1), "k", 1).put("load", Uid(1), "k", 1).commit();
    assert_eq!(code(commit.await), Code::UnknownTable);
    let commit = start().put("load", Uid(1), "k", 1).floor(3).commit();
    assert_eq!(code(commit.await), Code::InvalidRequest);
    assert_eq!(code(start().commit().await), Code::InvalidRequest);
    let commit = start().put("load", Uid(1), "k", vec![0; 600_000]).commit();
    assert_eq!(code(commit.await), Code::ValueTooLarge);
    let commit = start().put("load", Uid(1), "", 1).commit();
    assert_eq!(code(commit.await), Code::KeyTooLarge);
    assert_eq!(nodes.world().frames, 0);
}

#[tokio::test]
async fn the_wrong_cluster_is_refused_with_both_ids() {
    // Goal: nobody writes to a cluster that they do not mean.
    let (nodes, client) = Nodes::with_client().await;
    assert_eq!(client.cluster_id(), CLUSTER);
    let wanted = ClusterId(0xbad);
    let builder = Client::builder(format!("quorate://{}", nodes.address(2))).cluster_id(wanted);
    let error = builder.build().await.unwrap_err();
    assert_eq!(error.code(), Code::ClusterMismatch);
    for id in [wanted, CLUSTER] {
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    }
}

#[tokio::test]
async fn endpoints_that_do_not_answer_are_all_named() {
    // Goal: never a bare "cannot connect".
    let nodes = Nodes::start(&[]);
    let endpoints = format!("{},{}", nodes.address(1), nodes.address(2));
    let error = Client::builder(endpoints).build().await.unwrap_err();
    assert_eq!((error.code(), error.phase()), (Code::Unreachable, Some(Phase::Connect)));
    for node in [1, 2] {
        assert!(error.message().contains(nodes.address(node)), "{error}");
    }
    assert_eq!(error.endpoints().len(), 2);
    let error = Client::builder("http://h1:6440").build().await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
}

#[tokio::test]
async fn a_status_lists_the_nodes_that_are_down() {
    // Goal: `status` works while nodes are down and shows which.
    let nodes = Nodes::start(&[1, 3]);
    let client = nodes.client().await;
    let reports = client.cluster_status().await;
    let ids: Vec<u32> = reports.iter().map(|report| report.node.0).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(reports[2].status.as_ref().unwrap().node, NodeId(3));
    let error = reports[1].status.as_ref().unwrap_err();
    assert_eq!(error.code(), Code::Unreachable);
    assert!(error.to_string().contains(nodes.address(2)), "{error}");
    assert_eq!(client.node_status(nodes.address(1)).await.unwrap().name, "n1");
}

#[tokio::test]
async fn a_hand_over_is_asked_of_the_leader() {
    // Goal: the caller need not know who leads, before or after.
    let (nodes, client) = Nodes::with_client().await;
    nodes.world().leader = 2;
    let asked = client.transfer_leader(ANY_GROUP, Some(NodeId(3))).await.unwrap();
    assert_eq!((asked, nodes.world().leader), (NodeId(3), 3));
    client.put("load", Uid(0), "k", 1).await.unwrap();
    assert_eq!(nodes.nodes_asked(), [3], "the client went to the new leader at once");
}

#[tokio::test]
async fn futures_can_be_spawned() {
    // Goal: every call works from any task of a multi-threaded program.
    let (_nodes, client) = Nodes::with_client().await;
    let task = tokio::spawn(async move {
        client.put("load", Uid(1), "k", 1).await?;
        client.transaction().add("load", Uid(1), "k", 1).commit().await?;
        let rows = client.scan("load", Uid(1)).collect_all().await?;
        client.scan_table("rates").next_page().await?;
        client.refresh().await?;
        client.cluster_status().await;
        client.with_timeout(Duration::from_secs(1)).close().await;
        Ok::<usize, quorate_client::Error>(rows.len())
    });
    assert_eq!(task.await.unwrap().unwrap(), 1);
}
