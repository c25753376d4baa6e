//! Real nodes, real disks, real sockets: what a client can rely on.
#![cfg(not(madsim))]
#![allow(missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Cluster, within};
use quorate_types::{
    AccountAddress, AccountSettings, Code, GroupId, Transfer, TransferId, Uid, Value,
};

/// Goal: what is written is read back, through every kind of call.
#[tokio::test(flavor = "multi_thread")]
async fn rows_come_back_as_written() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    for uid in [7_u64, 30, 55, 99, 12_345_678] {
        client.put("purchases", Uid(uid), "a", "one").await.expect("put");
        client.put("purchases", Uid(uid), "b", 5_i64).await.expect("put");
        let a = client.get("purchases", Uid(uid), "a").await.expect("get");
        assert_eq!(a, Some(Value::Bytes("one".into())));
        let committed = client
            .transaction()
            .require_exists("purchases", Uid(uid), "a")
            .add("purchases", Uid(uid), "b", -3)
            .floor(0)
            .put("purchases", Uid(uid), "c", "three")
            .commit()
            .await
            .expect("txn");
        assert_eq!(committed.sums, vec![2]);
        let refused =
            client.transaction().add("purchases", Uid(uid), "b", -3).floor(0).commit().await;
        assert_eq!(refused.expect_err("the floor holds").code(), Code::GuardFailed);
        let rows =
            client.scan("purchases", Uid(uid)).page_size(2).collect_all().await.expect("scan");
        assert_eq!(rows.len(), 3);
    }
    client.put("rates", Uid(0), "EUR", 108_i64).await.expect("a global table lives in the GZone");
    let swapped = client
        .compare_and_set("rates", Uid(0), "EUR", Some(Value::Integer(1)), Some(Value::Integer(2)))
        .await;
    assert_eq!(swapped.expect_err("another value").code(), Code::ConditionFailed);
}

/// Goal: a graceful stop of each node in turn fails no request and loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn graceful_stops_fail_no_request() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let done = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let mut writers = Vec::new();
    for uid in [1_u64, 26, 51, 76] {
        let (client, done, written) = (client.clone(), Arc::clone(&done), Arc::clone(&written));
        writers.push(tokio::spawn(async move {
            let mut count = 0_i64;
            while !done.load(Ordering::Acquire) {
                let sums =
                    client.transaction().add("load", Uid(uid), "count", 1).commit().await?.sums;
                count += 1;
                assert_eq!(sums, vec![count], "a write was lost or doubled");
                written.fetch_add(1, Ordering::AcqRel);
            }
            Ok::<i64, quorate_client::Error>(count)
        }));
    }
    for name in cluster.names() {
        let before = written.load(Ordering::Acquire);
        within(async || (written.load(Ordering::Acquire) > before + 50).then_some(())).await;
        cluster.stop_node(&name).await.expect("a clean end");
        cluster.start_node(&name);
        let node = cluster.topology.node_by_name(&name).expect("known").id;
        within(async || {
            let reports = client.cluster_status().await;
            let caught_up = reports.into_iter().filter_map(|r| r.status.ok()).all(|status| {
                status.groups.iter().all(|g| {
                    g.members.iter().all(|m| m.node != node || m.slot_synced >= g.slot_committed)
                })
            });
            caught_up.then_some(())
        })
        .await;
    }
    done.store(true, Ordering::Release);
    for (writer, uid) in writers.into_iter().zip([1_u64, 26, 51, 76]) {
        let count = writer.await.expect("no panic").expect("no request failed");
        let found = client.get("load", Uid(uid), "count").await.expect("get");
        assert_eq!(found, Some(Value::Integer(count)));
    }
}

/// Goal: a full queue answers OVERLOADED at the edge and says when to ask again, and what was taken is
/// not lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_refused_and_recovers() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let group = GroupId(1);
    let leader = cluster.leader_of(group).await;
    let followers: Vec<String> = cluster
        .topology
        .nodes()
        .filter(|node| node.id != leader)
        .map(|node| node.name.clone())
        .collect();
    client.put("load", Uid(1), "warm", "up").await.expect("put");
    let address = cluster.topology.node(leader).expect("known").client.clone();
    let mut kv = quorate_proto::v1::kv_client::KvClient::connect(format!("http://{address}"))
        .await
        .expect("connect");
    for name in &followers {
        // Not graceful: the leader must not notice before its lease runs out.
        cluster.abort_node(name).await;
    }
    let mut overloaded = 0;
    let mut calls = Vec::new();
    for n in 0..60_u32 {
        let request = quorate_proto::v1::PutRequest {
            context: Some(quorate_proto::v1::RequestContext {
                timeout_ms: 300,
                ..Default::default()
            }),
            table: "load".to_owned(),
            uid: 1,
            key: n.to_be_bytes().to_vec().into(),
            value: Some(quorate_proto::v1::Value {
                kind: Some(quorate_proto::v1::value::Kind::Data(vec![7; 400 * 1024].into())),
            }),
        };
        let mut kv = kv.clone();
        calls.push(tokio::spawn(async move { kv.put(request).await }));
    }
    for call in calls {
        if let Err(status) = call.await.expect("no panic") {
            let said = |key: &str| status.metadata().get(key)?.to_str().ok().map(str::to_owned);
            if said("quorate-code").as_deref() == Some("OVERLOADED") {
                overloaded += 1;
                let wait = said("quorate-retry-after-ms").and_then(|wait| wait.parse::<u64>().ok());
                assert!(wait.is_some_and(|ms| 0 < ms), "it says when to ask again: {status:?}");
            }
        }
    }
    assert!(overloaded > 0, "60 puts of 400 KiB do not fit 8 MiB of uncommitted log");
    for name in &followers {
        cluster.start_node(name);
    }
    let value = within(async || client.get("load", Uid(1), "warm").await.ok()).await;
    assert_eq!(value, Some(Value::Bytes("up".into())));
    drop(kv.get(quorate_proto::v1::GetRequest::default()).await); // The connection still answers.
}

/// Goal: a data folder is taken only by its own node of its own cluster, and a port only once.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_folders_and_busy_ports_are_coded_errors() {
    let mut cluster = Cluster::start().await;
    let busy = serve_once(cluster.options("n1")).await;
    assert_eq!(busy.code, Code::DataFolderLocked);
    let mut options = cluster.options("n1");
    options.data = cluster.data("other");
    assert_eq!(serve_once(options).await.code, Code::PortInUse);

    cluster.stop_node("n1").await.expect("a clean end");
    let mut options = cluster.options("n1");
    options.data = cluster.data("n1");
    let text = std::fs::read_to_string(cluster.cluster_file()).expect("readable");
    let id = cluster.topology.cluster_id().to_string();
    let other = cluster.dir.path().join("other.toml");
    std::fs::write(&other, text.replace(&id, &"a".repeat(32))).expect("writable");
    options.cluster_file = other;
    assert_eq!(serve_once(options).await.code, Code::ClusterMismatch);

    cluster.stop_node("n2").await.expect("a clean end");
    let mut options = cluster.options("n1");
    options.data = cluster.data("n2");
    assert_eq!(serve_once(options).await.code, Code::NodeMismatch);
    let mut options = cluster.options("n1");
    options.node = "n9".to_owned();
    assert_eq!(serve_once(options).await.code, Code::ConfigInvalid);
}

/// Goal: a node that counts with another lease is refused: a leader would rely on promises that were
/// never made.
#[tokio::test(flavor = "multi_thread")]
async fn another_lease_is_refused() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    cluster.stop_node("n3").await.expect("a clean end");
    let file = cluster.cluster_file();
    let text = std::fs::read_to_string(&file).expect("readable");
    std::fs::write(&file, text.replace("lease = \"lan\"", "lease = \"wan\"")).expect("writable");
    cluster.start_node("n3");
    let address = cluster.topology.node_by_name("n3").expect("known").client.clone();
    let before = within(async || client.node_status(&address).await.ok()).await;
    for n in 0..20 {
        client.put("load", Uid(1), "k", i64::from(n)).await.expect("the other two serve");
    }
    let after = client.node_status(&address).await.expect("up");
    let accepted = |status: &quorate_client::NodeStatus| status.groups[0].slot_accepted;
    assert_eq!(accepted(&before), accepted(&after));
    let leader = cluster.leader_of(GroupId(1)).await;
    assert_ne!(cluster.topology.node(leader).expect("known").name, "n3");
}

/// The options of a node that does not repair its log.
fn without_repair(cluster: &Cluster, name: &str) -> quorate_server::ServerOptions {
    let mut options = cluster.options(name);
    options.tuning.repair_log = false;
    options
}

/// Goal: damage below what was durable is found at start and named.
#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_middle_of_the_log_stops_the_start() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    for n in 0..50_u64 {
        client.put("load", Uid(1), n.to_string(), vec![1_u8; 1000]).await.expect("put");
    }
    // A majority has everything; what is not there yet cannot be damaged.
    let [first, second] =
        ["n1", "n2"].map(|name| cluster.topology.node_by_name(name).expect("known").client.clone());
    let accepted = async |address: &String| {
        let status = client.node_status(address).await.ok()?;
        status.groups.iter().find(|it| it.group == GroupId(1)).map(|it| it.slot_accepted)
    };
    within(async || (accepted(&first).await? <= accepted(&second).await?).then_some(())).await;
    cluster.stop_node("n2").await.expect("a clean end");
    let path = newest_segment(&cluster.data("n2"));
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[20_000] ^= 0x40;
    std::fs::write(path, bytes).expect("writable");
    assert_eq!(serve_once(without_repair(&cluster, "n2")).await.code, Code::LogDamaged);
}

/// Goal: a node whose newest segment is gone, or the whole log, does not start, however often it is
/// tried, and starts again with the same file put back.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_its_end_stops_the_start() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    // Started once more, it has nothing new to promise or write: only the start itself has told the
    // promise file of the segment.
    cluster.stop_node("n2").await.expect("a clean end");
    client.put("load", Uid(1), "k", "v").await.expect("put");
    cluster.start_node("n2");
    let address = cluster.topology.node_by_name("n2").expect("known").client.clone();
    within(async || client.node_status(&address).await.ok()).await;
    cluster.stop_node("n2").await.expect("a clean end");
    let log = cluster.data("n2").join("log");
    let newest = newest_segment(&cluster.data("n2"));
    let (away, folder) = (newest.with_extension("away"), log.with_extension("away"));
    std::fs::rename(&newest, &away).expect("moved");
    for _ in 0..2 {
        let error = serve_once(cluster.options("n2")).await;
        assert_eq!(error.code, Code::LogDamaged);
        assert!(error.message.contains("lost its end"), "{error}");
    }
    std::fs::rename(&log, &folder).expect("moved");
    assert_eq!(serve_once(cluster.options("n2")).await.code, Code::LogDamaged);
    std::fs::remove_dir_all(&log).expect("the empty one");
    std::fs::rename(&folder, &log).expect("moved back");
    std::fs::rename(&away, &newest).expect("moved back");
    cluster.start_node("n2");
    within(async || client.node_status(&address).await.ok()).await;
}

/// Goal: a newest segment that is shorter than it was made stops the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_newest_segment_stops_the_start() {
    let mut cluster = Cluster::start().await;
    cluster.stop_node("n2").await.expect("a clean end");
    let path = newest_segment(&cluster.data("n2"));
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("it is there");
    file.set_len(file.metadata().expect("asked").len() - 1).expect("cut");
    for _ in 0..2 {
        assert_eq!(serve_once(without_repair(&cluster, "n2")).await.code, Code::LogDamaged);
    }
}

fn newest_segment(data: &std::path::Path) -> std::path::PathBuf {
    let mut segments: Vec<_> = std::fs::read_dir(data.join("log"))
        .expect("a log")
        .map(|entry| entry.expect("readable").path())
        .collect();
    segments.retain(|path| path.extension().is_some_and(|ext| ext == "seg"));
    segments.into_iter().max().expect("a segment")
}

/// Starts a node that must not start.
async fn serve_once(options: quorate_server::ServerOptions) -> quorate_types::Error {
    let never = std::future::pending::<()>();
    let ended = tokio::time::timeout(
        std::time::Duration::from_secs(20),
        quorate_server::serve(options, never),
    );
    ended.await.expect("it ends by itself").expect_err("it must not start")
}

/// Goal: the admin port says alive, ready line by line, and counts in the OpenMetrics form.
#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_answers() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    client.put("load", Uid(1), "k", "v").await.expect("put");
    for node in cluster.topology.nodes() {
        assert!(http_get(&node.admin, "/livez").await.starts_with("HTTP/1.1 200"));
        let ready = within(async || {
            let answer = http_get(&node.admin, "/readyz?verbose").await;
            answer.starts_with("HTTP/1.1 200").then_some(answer)
        })
        .await;
        for line in ["[+]shard ok", "[+]draining ok", "[+]log_disk ok", "[+]leaders ok"] {
            assert!(ready.contains(line), "{line} is not in {ready}");
        }
        let metrics = http_get(&node.admin, "/metrics").await;
        assert!(
            metrics.contains("quorate_group_has_leader{unit=\"RZ00\",group=\"1\"} 1"),
            "{metrics}"
        );
        assert!(metrics.trim_end().ends_with("# EOF"), "{metrics}");
    }
}

/// Goal: what keeps room or keeps others waiting shows in the metrics: reservations on every replica, views
/// at cuts where they are kept.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_of_reservations_and_cuts() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let at = |uid| AccountAddress::new(Uid(uid), 840);
    let open = AccountSettings { floor: None, ..AccountSettings::default() };
    for uid in [1, 101] {
        client.create_account(at(uid), open).await.expect("it is new");
    }
    for id in 1..=3 {
        let hold = Transfer::pending(TransferId(id), at(1), at(101), 5, 0);
        assert!(client.transfer(hold).await.stands());
    }
    let void = Transfer::void_pending(TransferId(9), TransferId(1), at(1), at(101));
    assert!(client.transfer(void).await.stands());
    let cut = client.cut().await.expect("nothing is broken");
    let leader = cluster.leader_of(GroupId(1)).await;
    let label = "{unit=\"RZ00\",group=\"1\"}";
    for node in cluster.topology.nodes() {
        let views = u32::from(node.id == leader);
        let wanted = [
            format!("quorate_group_open_reservations{label} 2\n"),
            format!("quorate_group_cut_views{label} {views}\n"),
            format!("quorate_group_fenced_accounts{label} 0\n"),
            format!("quorate_group_parked_requests{label} 0\n"),
            format!("quorate_group_escrow_transfers{label} 0\n"),
        ];
        // A follower applies a little later.
        let metrics = within(async || {
            let metrics = http_get(&node.admin, "/metrics").await;
            wanted.iter().all(|line| metrics.contains(line)).then_some(metrics)
        })
        .await;
        let age = metrics.lines().find_map(|line| {
            line.strip_prefix(&format!("quorate_group_cut_view_age_seconds{label} "))
        });
        let age: f64 = age.expect("it is told").parse().expect("a number");
        assert!(views == 1 || age == 0.0, "{age}");
    }
    cut.release().await;
}

async fn http_get(address: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // Groups serve with two nodes; the third may be starting.
    let mut socket = within(async || tokio::net::TcpStream::connect(address).await.ok()).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("writable");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("readable");
    answer
}
