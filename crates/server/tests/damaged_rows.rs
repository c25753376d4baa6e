//! Bytes of `rows` that change while a node is down: it fetches others by itself, and nothing wrong is served.
#![cfg(not(madsim))]
#![allow(missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Cluster, within};
use quorate_client::Client;
use quorate_types::{CheckState, Code, GroupId, Uid, Value};

const USERS: u64 = 60;

/// Rows of so many users, each with its own value.
async fn write(client: &Client) {
    for uid in 0..USERS {
        client.put("purchases", Uid(uid), "a", format!("of {uid}")).await.expect("put");
    }
}

async fn read(client: &Client) {
    for uid in 0..USERS {
        let found = client.get("purchases", Uid(uid), "a").await.expect("get");
        assert_eq!(found, Some(Value::Bytes(format!("of {uid}").into())), "user {uid}");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).expect("the folder exists");
    let mut files: Vec<PathBuf> = files.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

/// Every bit of a byte in the middle.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("readable");
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte = !*byte;
        fs::write(path, bytes).expect("writable");
    }
}

/// Every group's replicas hold the same, all of them.
async fn all_agree(cluster: &Cluster, client: &Client) {
    for group in cluster.topology.groups() {
        within(async || {
            let report =
                client.check_group(group.id, std::time::Duration::from_secs(3)).await.ok()?;
            let states = || report.replicas.iter().map(|(_, state)| state);
            assert!(!states().any(|state| matches!(state, CheckState::Differs(_))), "{report:?}");
            states().all(|state| *state == CheckState::Agrees).then_some(())
        })
        .await;
    }
}

/// What a node says that people should know.
async fn notices(client: &Client, name: &str) -> Vec<String> {
    let reports = client.cluster_status().await;
    let found = reports.into_iter().find(|report| report.name == name).expect("a node");
    found.status.map(|status| status.notices).unwrap_or_default()
}

/// Goal: a byte flipped in any file of `rows` is detected and repaired, or the node stops; nothing wrong is
/// ever served: afterwards all replicas hold the same, and everything that was acknowledged is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_byte_flipped_anywhere_in_rows_is_never_served() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    write(&client).await;
    let name = cluster.names().remove(2);
    let rows = cluster.data(&name).join("rows");
    cluster.stop_node(&name).await.expect("it stops");
    let mut repaired = 0;
    for number in 0..files(&rows).len() {
        let file = files(&rows).into_iter().nth(number);
        let Some(file) = file else { break }; // Other rows, other files.
        flip(&file);
        let aside = cluster.data(&name).join(format!("rows.damaged-{}", repaired + 1));
        cluster.start_node(&name);
        cluster.wait_until_serving().await;
        all_agree(&cluster, &client).await;
        if aside.exists() {
            repaired += 1;
            let told = notices(&client, &name).await;
            let named = format!("rows.damaged-{repaired}");
            assert!(told.iter().any(|notice| notice.contains(&named)), "{file:?}: {told:?}");
        }
        cluster.stop_node(&name).await.expect("it stops");
    }
    assert!(2 <= repaired, "tables, manifests and CURRENT are noticed; {repaired} were");
    cluster.start_node(&name);
    all_agree(&cluster, &client).await;
    read(&client).await;
}

/// Goal: damage that a process found while it ran is repaired by the next start, though that might not meet it.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_of_an_earlier_process_is_honoured_once() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    write(&client).await;
    let name = cluster.names().remove(1);
    cluster.stop_node(&name).await.expect("it stops");
    fs::write(cluster.data(&name).join("rows-damaged"), "a scan met a flipped bit")
        .expect("written");
    cluster.start_node(&name);
    cluster.wait_until_serving().await;
    all_agree(&cluster, &client).await;
    assert!(cluster.data(&name).join("rows.damaged-1").exists());
    assert!(!cluster.data(&name).join("rows-damaged").exists());
    let told = notices(&client, &name).await;
    assert!(told.iter().any(|notice| notice.contains("a scan met a flipped bit")), "{told:?}");
    read(&client).await;
}

/// Goal: a node that may not repair its rows refuses to start, as often as it is started, and touches nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_not_repair_refuses() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    write(&client).await;
    let name = cluster.names().remove(0);
    cluster.stop_node(&name).await.expect("it stops");
    let rows = cluster.data(&name).join("rows");
    fs::remove_file(rows.join("CURRENT")).expect("it was there");
    for _ in 0..2 {
        let mut options = cluster.options(&name);
        options.tuning.repair_rows = false;
        let refused = quorate_server::serve(options, std::future::pending()).await;
        let refused = refused.expect_err("its rows are damaged");
        assert_eq!(refused.code, Code::StoreDamaged, "{refused}");
        assert!(rows.exists() && !cluster.data(&name).join("rows.damaged-1").exists());
    }
    cluster.start_node(&name);
    cluster.leader_of(GroupId(1)).await;
    all_agree(&cluster, &client).await;
    read(&client).await;
}
