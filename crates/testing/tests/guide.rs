//! The test that docs/CLIENT.md shows, and the check that the guide shows nothing else than what runs.
#![cfg(not(madsim))]

use std::time::Duration;

use quorate_client::{Client, Outcome, RetryPolicy, Uid, Value};
use quorate_testing::Server;

/// What is to be tested: it takes an order, once.
async fn order(client: &Client, user: Uid, number: u32) -> Result<(), quorate_client::Error> {
    let row = format!("order/{number}");
    let fresh = client.compare_and_set("purchases", user, row, None, Some(Value::Integer(1))).await;
    fresh.map(drop)
}

#[tokio::test]
async fn an_order_is_taken_once_although_the_answer_is_lost() {
    // Goal: the caller never takes an unknown outcome for a failure.
    let server = Server::builder().table("purchases").unit("RZ00", "00-99").start().await.unwrap();
    let client = server.client().await.unwrap();
    server.faults().lose_answers(1);
    order(&client, Uid(42), 1).await.unwrap();

    let impatient = server.client_builder().retry(RetryPolicy::never()).build().await.unwrap();
    order(&impatient, Uid(42), 2).await.unwrap();
    server.faults().lose_answers(1);
    let error = order(&impatient, Uid(42), 3).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    let rows = client.scan("purchases", Uid(42)).prefix("order/").collect_all().await.unwrap();
    assert_eq!(rows.len(), 3);

    server.faults().slow(Duration::from_secs(10));
    let hurried = client.with_timeout(Duration::from_millis(50));
    assert!(hurried.get("purchases", Uid(42), "order/1").await.unwrap_err().is_retryable());
}

/// Lines without their indentation, so that a block may stand anywhere.
fn plain(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_guide_shows_only_what_runs() {
    // Goal: every block of Rust in the guide stands in an example or in the test above, line by line.
    let sources = [
        include_str!("guide.rs"),
        include_str!("../../client/examples/money.rs"),
        include_str!("../../client/examples/quickstart.rs"),
        include_str!("../../client/examples/reads.rs"),
        include_str!("../../client/examples/transact.rs"),
        include_str!("../../client/src/policy.rs"),
        include_str!("../../client/src/trace.rs"),
    ];
    // Documentation is code, too: `cargo test` runs it.
    let sources = sources.map(|text| plain(&text.replace("/// ", "")));
    let guide = include_str!("../../../docs/CLIENT.md");
    let mut blocks = 0;
    for block in guide.split("```rust\n").skip(1) {
        let block = plain(block.split("```").next().expect("a split has a first part"));
        blocks += 1;
        assert!(sources.iter().any(|source| source.contains(&block)), "nowhere:\n{block}");
    }
    assert!(5 <= blocks, "{blocks} blocks");
}
