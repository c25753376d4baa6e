//! Transactions as closures, against nodes that follow a script.

use quorate_client::{Code, Error, Outcome, Uid, Value};
use quorate_types::Value as Row;

use crate::nodes::{Fault, Nodes, load_row};

const ADA: Uid = Uid(0);

#[tokio::test]
async fn a_closure_sees_its_own_writes_and_takes_effect_at_once() {
    // Goal: reads, writes and adds of one closure fit together, and reach the cluster as one request.
    let (nodes, client) = Nodes::with_client().await;
    client.put("load", ADA, "balance", 10).await.unwrap();
    let before = nodes.world().effects;
    let done = client
        .transact(|txn| async move {
            assert_eq!(txn.get("load", ADA, "balance").await?, Some(Value::Integer(10)));
            txn.add("load", ADA, "balance", -4, Some(0))?;
            txn.add("load", ADA, "new", 3, None)?;
            txn.add("load", ADA, "new", 4, None)?;
            txn.put("load", ADA, "name", "Ada")?;
            txn.delete("load", ADA, "name")?;
            assert_eq!(txn.get("load", ADA, "name").await?, None);
            txn.get("load", ADA, "balance").await
        })
        .await
        .unwrap();
    assert_eq!((done.value, done.attempts), (Some(Value::Integer(6)), 1));
    let world = nodes.world();
    assert_eq!(world.effects, before + 1);
    assert_eq!(world.rows[&load_row(0, "balance")], Row::Integer(6));
    assert_eq!(world.rows[&load_row(0, "new")], Row::Integer(7));
    assert!(!world.rows.contains_key(&load_row(0, "name")));
}

#[tokio::test]
async fn a_closure_runs_again_when_a_row_changed_meanwhile() {
    // Goal: what was decided on an old row never takes effect.
    let (nodes, client) = Nodes::with_client().await;
    client.put("load", ADA, "balance", 10).await.unwrap();
    let done = client
        .transact(|txn| async {
            let txn = txn;
            let Some(Value::Integer(balance)) = txn.get("load", ADA, "balance").await? else {
                panic!("it was written");
            };
            if txn.attempt() == 0 {
                client.put("load", ADA, "balance", 20).await?;
            }
            txn.put("load", ADA, "balance", balance + 1)
        })
        .await
        .unwrap();
    assert_eq!(done.attempts, 2);
    assert_eq!(nodes.world().rows[&load_row(0, "balance")], Row::Integer(21));
}

#[tokio::test]
async fn an_error_of_the_closure_ends_it_without_effect() {
    // Goal: the caller's own errors come back as they are, and known guards are refused at once.
    let (nodes, client) = Nodes::with_client().await;
    client.put("load", ADA, "balance", 10).await.unwrap();
    let before = nodes.world().effects;
    let refused = client.transact(|txn| async move {
        txn.get("load", ADA, "balance").await?;
        txn.add("load", ADA, "balance", -11, Some(0))
    });
    assert_eq!(refused.await.unwrap_err().code(), Code::GuardFailed);
    assert_eq!(nodes.world().effects, before);
}

#[tokio::test]
async fn only_an_idempotent_closure_runs_again_when_the_outcome_is_unknown() {
    // Goal: a closure that does not look cannot take effect twice; one that looks is told to.
    let (nodes, client) = Nodes::with_client().await;
    client.put("load", ADA, "balance", 10).await.unwrap();
    let lost = || vec![Fault::BreakAfter, crate::retries::refuse(Code::SessionExpired)];
    nodes.order(1, lost());
    let unknown =
        client.transact(|txn| async move { txn.add("load", ADA, "balance", 1, None) }).await;
    let unknown: Error = unknown.unwrap_err();
    assert_eq!(unknown.outcome(), Outcome::Unknown);
    assert_eq!(nodes.world().rows[&load_row(0, "balance")], Row::Integer(11));

    let done = client
        .transact_idempotent(|txn| async {
            let txn = txn;
            // Orders count row requests, and a read is one, so they are given once it was answered.
            if txn.get("load", ADA, "order").await?.is_some() {
                return Ok(txn.may_have_committed());
            }
            if txn.attempt() == 0 {
                nodes.order(1, lost());
            }
            txn.put("load", ADA, "order", 1)?;
            txn.add("load", ADA, "balance", 1, None)?;
            Ok::<_, Error>(false)
        })
        .await
        .unwrap();
    assert_eq!((done.value, done.attempts), (true, 2));
    assert_eq!(nodes.world().rows[&load_row(0, "balance")], Row::Integer(12));
}

#[tokio::test]
async fn a_transaction_can_run_on_a_task_of_its_own() {
    // Goal: services spawn their requests, so the future must be allowed to change threads.
    let (nodes, client) = Nodes::with_client().await;
    let key = "balance".to_owned();
    let task = tokio::spawn(async move {
        let paid = client.transact(|txn| {
            let key = key.clone();
            async move {
                txn.get("load", ADA, key.clone()).await?;
                txn.add("load", ADA, key, 5, None)
            }
        });
        let paid: Result<_, Error> = paid.await;
        paid.map(|done| done.attempts)
    });
    assert_eq!(task.await.unwrap().unwrap(), 1);
    assert_eq!(nodes.world().rows[&load_row(0, "balance")], Row::Integer(5));
}
