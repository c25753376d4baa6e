//! Transactions over several units on real nodes: what a caller can rely on while nodes come and go.
#![cfg(not(madsim))]
#![allow(missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Cluster, within};
use quorate_client::{Client, Error, Outcome};
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
