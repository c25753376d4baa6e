//! Transactions over several units on real nodes: what a caller can rely on while nodes come and go.
#![cfg(not(madsim))]
#![allow(missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use common::{Cluster, within};
use quorate_client::{Client, Error, Outcome};
use quorate_proto::v1;
use quorate_types::{Code, GroupId, Slot, Uid, Value};

/// One user of each of the four units.
const USERS: [Uid; 4] = [Uid(1), Uid(26), Uid(51), Uid(76)];
const START: i64 = 1_000;

async fn open(client: &Client) {
    let mut opening = client.transaction();
    for user in USERS {
        opening = opening.put("purchases", user, "balance", START);
    }
    opening.commit().await.expect("nothing is broken");
}

async fn pay(client: &Client, from: Uid, to: Uid, amount: i64) -> Result<(), Error> {
    let paying = client.transaction().add("purchases", from, "balance", -amount).floor(0);
    paying.add("purchases", to, "balance", amount).commit().await.map(|_| ())
}

async fn balances(client: &Client) -> Result<Vec<i64>, Error> {
    let mut audit = client.transaction();
    for user in USERS {
        audit = audit.read("purchases", user, "balance");
    }
    let reads = audit.commit().await?.reads;
    let number = |read: Option<Value>| match read {
        Some(Value::Integer(number)) => number,
        other => panic!("no balance: {other:?}"),
    };
    Ok(reads.into_iter().map(number).collect())
}

/// Goal: money moves between units at once or not at all, guards hold on either side, conditions are
/// named by their place in the request, and nothing stays behind.
#[tokio::test(flavor = "multi_thread")]
async fn money_moves_between_units() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    open(&client).await;
    pay(&client, USERS[0], USERS[3], 400).await.expect("there is enough");
    assert_eq!(balances(&client).await.expect("it is read"), [600, 1000, 1000, 1400]);
    let refused = pay(&client, USERS[0], USERS[2], 601).await.expect_err("the floor holds");
    assert_eq!((refused.code(), refused.outcome()), (Code::GuardFailed, Outcome::NotApplied));
    // The unit that cannot do its part is not the one that coordinates.
    let refused = client
        .transaction()
        .add("purchases", USERS[1], "balance", 5)
        .require_exists("purchases", USERS[1], "balance")
        .require_absent("purchases", USERS[2], "balance")
        .commit()
        .await
        .expect_err("the row exists");
    assert_eq!(refused.code(), Code::ConditionFailed);
    assert_eq!(refused.as_error().facts.get("condition").map(String::as_str), Some("1"));
    assert_eq!(balances(&client).await.expect("it is read"), [600, 1000, 1000, 1400]);
    // A read of one row waits for whoever changes it.
    let (paid, read) = tokio::join!(
        pay(&client, USERS[1], USERS[2], 1),
        client.get("purchases", USERS[2], "balance")
    );
    paid.expect("there is enough");
    assert!(matches!(read.expect("it is read"), Some(Value::Integer(1000 | 1001))));
    within(async || {
        let reports = client.attempts().await;
        let known: Vec<_> = reports.into_iter().flat_map(|it| it.attempts.unwrap()).collect();
        known.is_empty().then_some(())
    })
    .await;
}

/// Goal: closures over several units are serializable: two that take turns at one balance do not lose
/// an update.
#[tokio::test(flavor = "multi_thread")]
async fn closures_do_not_lose_updates() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    open(&client).await;
    let mut tasks = Vec::new();
    for worker in 0..4 {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            let (from, to) = (USERS[worker], USERS[(worker + 1) % USERS.len()]);
            for _ in 0..10 {
                let moved = client.transact_idempotent(|txn| async move {
                    let Some(Value::Integer(one)) = txn.get("purchases", from, "balance").await?
                    else {
                        panic!("every user has a balance");
                    };
                    let Some(Value::Integer(other)) = txn.get("purchases", to, "balance").await?
                    else {
                        panic!("every user has a balance");
                    };
                    txn.put("purchases", from, "balance", one - 1)?;
                    txn.put("purchases", to, "balance", other + 1)
                });
                let _whole: Result<_, Error> = moved.await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("no worker panics");
    }
    let sum: i64 = balances(&client).await.expect("it is read").iter().sum();
    assert_eq!(sum, START * 4);
}

/// Goal: nodes that are stopped and started one after the other in the middle of payments cost no money
/// and make none, and whoever is left pays on.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_come_and_go_cost_no_money() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    open(&client).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut payers = Vec::new();
    for payer in 0..4_usize {
        let (client, done) = (client.clone(), Arc::clone(&done));
        payers.push(tokio::spawn(async move {
            let (mut paid, mut turn) = (0_u32, 0_usize);
            while !done.load(Ordering::Acquire) {
                turn += 1;
                let to = USERS[(payer + 1 + turn % 3) % USERS.len()];
                paid += u32::from(pay(&client, USERS[payer], to, 1).await.is_ok());
            }
            paid
        }));
    }
    let auditor = {
        let (client, done) = (client.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut audits = 0_u32;
            while !done.load(Ordering::Acquire) {
                if let Ok(found) = balances(&client).await {
                    assert_eq!(found.iter().sum::<i64>(), START * 4, "{found:?}");
                    audits += 1;
                }
            }
            audits
        })
    };
    for name in cluster.names() {
        cluster.stop_node(&name).await.expect("it stops as it should");
        cluster.start_node(&name);
        // Until everybody can pay everybody again.
        for (from, to) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
            within(async || pay(&client, USERS[from], USERS[to], 1).await.ok()).await;
        }
    }
    done.store(true, Ordering::Release);
    for payer in payers {
        assert!(0 < payer.await.expect("no payer panics"), "a payer never paid");
    }
    assert!(0 < auditor.await.expect("every audit found the whole sum"));
    let sum: i64 = within(async || balances(&client).await.ok()).await.iter().sum();
    assert_eq!(sum, START * 4);
}

/// Goal: rows of all units are read as they were at one moment while money moves between them and nodes
/// come and go, rows that do not exist among them.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_all_units_are_read_at_one_moment() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    open(&client).await;
    let done = Arc::new(AtomicBool::new(false));
    let payer = {
        let (client, done) = (client.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut turn = 0_usize;
            while !done.load(Ordering::Acquire) {
                let (from, to) = (USERS[turn % 4], USERS[(turn + 1 + turn / 4 % 3) % 4]);
                let _may_fail = pay(&client, from, to, 1).await;
                turn += 1;
            }
        })
    };
    let reader = {
        let (client, done) = (client.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut reads = 0_u32;
            while !done.load(Ordering::Acquire) {
                if let Ok(found) = glance(&client).await {
                    assert_eq!(found.iter().sum::<i64>(), START * 4, "{found:?}");
                    reads += 1;
                }
            }
            reads
        })
    };
    for name in cluster.names() {
        cluster.stop_node(&name).await.expect("it stops as it should");
        cluster.start_node(&name);
        within(async || glance(&client).await.ok()).await;
    }
    done.store(true, Ordering::Release);
    payer.await.expect("the payer does not panic");
    assert!(3 < reader.await.expect("every read found the whole sum"));
}

/// Goal: a read of rows of all units writes nothing into any log.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_many_rows_leaves_no_entry() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    for user in USERS {
        client.put("purchases", user, "balance", START).await.expect("nothing is broken");
    }
    // Sessions and leaders come to rest first.
    within(async || {
        let before = slots(&client).await;
        glance(&client).await.ok()?;
        (before == slots(&client).await).then_some(())
    })
    .await;
}

/// Goal: a caller in another language reads in rounds, too: a row is as known until it changes, and no
/// group answers for rows of another.
#[tokio::test(flavor = "multi_thread")]
async fn the_unary_call_asks_one_group() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    client.put("purchases", USERS[0], "balance", START).await.expect("nothing is broken");
    let group = client.route("purchases", USERS[0]).expect("it has one").group;
    let leader = cluster.leader_of(group).await;
    let address = cluster.topology.node(leader).expect("it is in the file").client.clone();
    let kv = v1::kv_client::KvClient::connect(format!("http://{address}")).await;
    let mut kv = kv.expect("it listens");
    let wanted = |user: Uid, known| {
        let (table, key) = ("purchases".to_owned(), Bytes::from_static(b"balance"));
        v1::WantedRow { at: Some(v1::RowAddress { table, uid: user.0, key, table_id: 0 }), known }
    };
    let asked = |rows| {
        let asked = Some(v1::GetMany { rows, cut: 0 });
        v1::GetManyRequest { context: None, asked }
    };
    let told = kv.get_many(asked(vec![wanted(USERS[0], None)])).await.expect("it leads");
    let first = told.into_inner().found.expect("it answers").rows.remove(0);
    assert!(first.value.is_some());
    let again = asked(vec![wanted(USERS[0], first.version)]);
    let told = kv.get_many(again.clone()).await.expect("it leads");
    assert_eq!(told.into_inner().found.expect("it answers").rows, [v1::FoundRow::default()]);
    client.put("purchases", USERS[0], "balance", START).await.expect("nothing is broken");
    let told = kv.get_many(again).await.expect("it leads");
    let changed = told.into_inner().found.expect("it answers").rows.remove(0);
    assert!(changed.version.is_some() && changed.version != first.version);
    let both = asked(vec![wanted(USERS[0], None), wanted(USERS[1], None)]);
    let refused = kv.get_many(both).await.expect_err("they are of two groups");
    let code = refused.metadata().get("quorate-code").and_then(|code| code.to_str().ok());
    assert_eq!(code, Some("WRONG_UNIT"));
}

/// The ends of all logs.
async fn slots(client: &Client) -> BTreeMap<GroupId, Slot> {
    let mut ends = BTreeMap::new();
    for report in client.cluster_status().await {
        for group in report.status.expect("all nodes are there").groups {
            let end = ends.entry(group.group).or_insert(Slot::ZERO);
            *end = group.slot_accepted.max(*end);
        }
    }
    ends
}

/// All balances, and a row of each user that nobody has.
async fn glance(client: &Client) -> Result<Vec<i64>, Error> {
    let of_user = |user| [("purchases", user, "balance"), ("purchases", user, "none")];
    let rows: Vec<_> = USERS.into_iter().flat_map(of_user).collect();
    let found = client.get_many(&rows).await?;
    let numbers = found.chunks(2).map(|pair| match pair {
        [Some(Value::Integer(number)), None] => *number,
        other => panic!("no balance: {other:?}"),
    });
    Ok(numbers.collect())
}
