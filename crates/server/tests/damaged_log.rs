//! Bytes of the log that change while a node is down: it fetches what it may have lost, does not vote before it has
//! it, and nothing that was acknowledged is lost.
#![cfg(not(madsim))]
#![allow(missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Cluster, within};
use quorate_client::Client;
use quorate_types::{CheckState, Code, Uid, Value};

const USERS: u64 = 40;

async fn write(client: &Client, round: u64) {
    for uid in 0..USERS {
        let value = format!("{round} of {uid}");
        client.put("purchases", Uid(uid), "a", value).await.expect("put");
    }
}

async fn read(client: &Client, round: u64) {
    for uid in 0..USERS {
        let found = client.get("purchases", Uid(uid), "a").await.expect("get");
        let expected = Value::Bytes(format!("{round} of {uid}").into());
        assert_eq!(found, Some(expected), "user {uid}");
    }
}

fn newest_segment(data: &Path) -> PathBuf {
    let files = fs::read_dir(data.join("log")).expect("a log");
    let files = files.map(|entry| entry.expect("readable").path());
    let segments = files.filter(|path| path.extension().is_some_and(|ext| ext == "seg"));
    segments.max().expect("a segment")
}

/// Flips a bit of the log, so many 64ths of what is written from its beginning.
fn flip(data: &Path, part: usize) -> PathBuf {
    let path = newest_segment(data);
    let mut bytes = fs::read(&path).expect("readable");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("it is not empty");
    bytes[used * part / 64] ^= 0x10;
    fs::write(&path, bytes).expect("writable");
    path
}

fn listed(data: &Path) -> Vec<(PathBuf, u64)> {
    let files =
        fs::read_dir(data.join("log")).expect("a log").map(|entry| entry.expect("readable"));
    let mut files: Vec<_> =
        files.map(|it| (it.path(), it.metadata().expect("there").len())).collect();
    files.sort();
    files
}

/// What a node says that people should know; `None` before it answers.
async fn notices(client: &Client, name: &str) -> Option<Vec<String>> {
    let reports = client.cluster_status().await;
    let found = reports.into_iter().find(|report| report.name == name).expect("a node");
    found.status.ok().map(|status| status.notices)
}

/// Waits until a node has nothing to say, and all replicas hold the same.
async fn is_well(cluster: &Cluster, client: &Client, name: &str) {
    within(async || notices(client, name).await?.is_empty().then_some(())).await;
    for group in cluster.topology.groups() {
        within(async || {
            let report = client.check_group(group.id, Duration::from_secs(3)).await.ok()?;
            let states = || report.replicas.iter().map(|(_, state)| state);
            assert!(!states().any(|state| matches!(state, CheckState::Differs(_))), "{report:?}");
            states().all(|state| *state == CheckState::Agrees).then_some(())
        })
        .await;
    }
}

/// Goal: a bit flipped anywhere in the log of a node is repaired from the others without anybody's help, wherever
/// it is, and one time after another; then the node votes again, with everything that was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_bit_flipped_anywhere_in_the_log_is_repaired() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    let name = cluster.names().remove(1);
    let mut round = 0;
    for part in [1, 30, 62] {
        round += 1;
        write(&client, round).await;
        cluster.stop_node(&name).await.expect("it stops");
        flip(&cluster.data(&name), part);
        cluster.start_node(&name);
        cluster.wait_until_serving().await;
        round += 1;
        write(&client, round).await;
        is_well(&cluster, &client, &name).await;
    }
    // It is needed now.
    let other = cluster.names().remove(0);
    cluster.stop_node(&other).await.expect("it stops");
    read(&client, round).await;
    write(&client, round + 1).await;
    cluster.start_node(&other);
    is_well(&cluster, &client, &other).await;
    read(&client, round + 1).await;
}

/// Goal: a log that has lost its end may lack the last writes of every group: all of them are fetched.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_newest_segment_is_repaired() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    write(&client, 1).await;
    let name = cluster.names().remove(2);
    cluster.stop_node(&name).await.expect("it stops");
    let file = fs::OpenOptions::new().write(true).open(newest_segment(&cluster.data(&name)));
    file.expect("it is there").set_len(9000).expect("cut");
    cluster.start_node(&name);
    is_well(&cluster, &client, &name).await;
    let other = cluster.names().remove(0);
    cluster.stop_node(&other).await.expect("it stops");
    read(&client, 1).await;
    write(&client, 2).await;
    cluster.start_node(&other);
    is_well(&cluster, &client, &name).await;
    read(&client, 2).await;
}

/// Goal: a node that may not repair its log refuses to start, as often as it is started, and touches nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_not_repair_refuses() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    write(&client, 1).await;
    let name = cluster.names().remove(0);
    cluster.stop_node(&name).await.expect("it stops");
    let data = cluster.data(&name);
    flip(&data, 40);
    let before = listed(&data);
    for _ in 0..2 {
        let mut options = cluster.options(&name);
        options.tuning.repair_log = false;
        let refused = quorate_server::serve(options, std::future::pending()).await;
        let refused = refused.expect_err("its log is damaged");
        assert_eq!(refused.code, Code::LogDamaged, "{refused}");
        assert_eq!(listed(&data), before);
    }
    cluster.start_node(&name);
    is_well(&cluster, &client, &name).await;
    read(&client, 1).await;
}
