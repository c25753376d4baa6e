//! The examples of the client, against a server in memory.
#![cfg(not(madsim))]

use std::error::Error;

use quorate_client::Client;
use quorate_testing::Server;

#[path = "../../client/examples/money.rs"]
mod money;
#[path = "../../client/examples/quickstart.rs"]
mod quickstart;
#[path = "../../client/examples/reads.rs"]
mod reads;
#[path = "../../client/examples/transact.rs"]
mod transact;

type Ended = Result<(), Box<dyn Error + Send + Sync>>;

/// Runs an example twice: what it left behind must not be in its way. Its `main` would find a cluster by
/// itself.
async fn check(run: impl AsyncFn(&Client) -> Ended, _main: fn() -> Ended) {
    let server = Server::builder().table("purchases").start().await.expect("it starts");
    let client = server.client().await.expect("it answers");
    for round in 1..=2 {
        run(&client).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
}

#[tokio::test]
async fn quickstart_runs() {
    // Goal: what the guide shows works as it stands.
    check(async |client| quickstart::run(client).await, quickstart::main).await;
}

#[tokio::test]
async fn transact_runs() {
    // Goal: what the guide shows works as it stands.
    check(async |client| transact::run(client).await, transact::main).await;
}

#[tokio::test]
async fn money_runs() {
    // Goal: what the guide shows works as it stands, and a second run moves nothing twice.
    check(async |client| money::run(client).await, money::main).await;
}

#[tokio::test]
async fn reads_run() {
    // Goal: what the guide shows works as it stands.
    check(async |client| reads::run(client).await, reads::main).await;
}
