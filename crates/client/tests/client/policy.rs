//! Retry policies: how often a call is tried, and what all calls together may repeat.

use std::time::Duration;

use futures::future::join_all;
use quorate_client::{Client, Code, Outcome, Phase, RetryBudget, RetryPolicy, Uid};
use tokio::time::Instant;

use super::nodes::{Fault, Nodes};
use super::retries::refuse;

const USER: Uid = Uid(0);

async fn client_with(nodes: &Nodes, policy: RetryPolicy) -> Client {
    nodes.client().await; // Returns when the servers are up.
    let builder = Client::builder(nodes.address(1)).attempt_timeout(Duration::from_millis(300));
    builder.retry(policy).build().await.expect("it answers")
}

#[tokio::test]
async fn who_never_repeats_sends_once() {
    // Goal: one attempt, and the outcome that one attempt leaves; a leader that is named is no repetition.
    let nodes = Nodes::start(&[1, 2, 3]);
    let client = client_with(&nodes, RetryPolicy::never()).await;
    client.put("load", USER, "warm", 1).await.unwrap(); // Opens the session.
    nodes.world().seen.clear();
    nodes.order(1, [refuse(Code::NotReady), Fault::BreakAfter]);
    let error = client.put("load", USER, "k", 1).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::NotReady, Outcome::NotApplied));
    let error = client.put("load", USER, "k", 2).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::OutcomeUnknown, Outcome::Unknown));
    assert_eq!(nodes.nodes_asked(), [1, 1]);
    nodes.world().leader = 2;
    client.put("load", USER, "k", 3).await.unwrap();
    assert_eq!(nodes.nodes_asked(), [1, 1, 1, 2]);
}

#[tokio::test]
async fn a_sick_cluster_is_not_hammered() {
    // Goal: however many calls fail, they repeat no more than the budget has; each was sent once, and says
    // what it waited for.
    let nodes = Nodes::start(&[1, 2, 3]);
    let budget = RetryBudget::new(20, 10);
    let client = client_with(&nodes, RetryPolicy::default().budget(budget).seed(1)).await;
    for node in [1, 2, 3] {
        nodes.order(node, vec![refuse(Code::NoQuorum); 10_000]);
    }
    let hurried = client.with_timeout(Duration::from_millis(500));
    let started = Instant::now();
    let calls = (0..100).map(|_| hurried.get("load", USER, "k"));
    let errors: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap_err).collect();
    // By time the bucket gets some more, also while a slow machine lets the calls end late.
    let most = 100 + 20 + 10 * started.elapsed().as_secs_f64().ceil() as usize + 1;
    let sent = nodes.world().seen.len();
    assert!((100 + 20..=most).contains(&sent), "{sent} requests, at most {most}");
    for error in &errors {
        assert_eq!(error.code(), Code::DeadlineExceeded);
        assert_eq!(error.last_answer().map(|last| last.code), Some(Code::NoQuorum));
        assert_eq!(error.outcome(), Outcome::NotApplied);
    }
    let waited = errors.iter().filter(|error| error.phase() == Some(Phase::Budget)).count();
    assert!(50 < waited, "{waited} waited for the budget");
}

#[tokio::test]
async fn calls_that_succeed_pay_for_repetitions() {
    // Goal: an empty bucket lets calls through again as soon as the cluster answers, without the clock.
    let nodes = Nodes::start(&[1, 2, 3]);
    let budget = RetryBudget::new(1, 1);
    let client = client_with(&nodes, RetryPolicy::default().budget(budget)).await;
    client.get("load", USER, "k").await.unwrap();
    nodes.order(1, [refuse(Code::NotReady), refuse(Code::NotReady)]);
    let started = Instant::now();
    client.get("load", USER, "k").await.unwrap_or_default(); // Takes the only token, and waits for one.
    let first = started.elapsed();
    nodes.order(1, [refuse(Code::NotReady)]);
    let waits = client.get("load", USER, "k");
    let others = async {
        while nodes.world().faults.values().any(|faults| !faults.is_empty()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..20 {
            client.get("load", USER, "other").await.unwrap();
        }
    };
    let started = Instant::now();
    let (waited, ()) = futures::join!(waits, others);
    waited.unwrap();
    // The clock alone would take as long as it did the first time.
    assert!(started.elapsed() < first / 2, "{:?} after {first:?}", started.elapsed());
}
