//! Connects, writes and reads a row, and says what an error means.
//!
//! ```sh
//! scripts/cargo run -p quorate-client --example quickstart
//! ```

use std::env;
use std::error::Error;
use std::time::Duration;

use quorate_client::{Client, Code, Outcome, Uid, Value};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
pub(crate) async fn main() -> Result<(), Failure> {
    let client = connect().await?;
    let done = run(&client).await;
    client.close().await; // So that the cluster need not remember the sessions of this client.
    done
}

pub(crate) async fn run(client: &Client) -> Result<(), Failure> {
    let user = Uid(42);
    let route = client.route("purchases", user)?;
    println!("{user} lives in unit {}, in group {}", route.unit, route.group);

    let written = client.put("purchases", user, "1998-01-01/1", "1 disc").await?;
    println!("durable on a majority, at slot {} of {}", written.at.slot, written.group);
    let row = client.get("purchases", user, "1998-01-01/1").await?;
    assert_eq!(row, Some(Value::Bytes("1 disc".into())));

    // This call alone has 200 ms, retries included.
    let hurried = client.with_timeout(Duration::from_millis(200));
    match hurried.put("purchases", user, "1998-01-02/1", "2 discs").await {
        Ok(_) => println!("written"),
        // It had no effect and will have none: doing it again is safe.
        Err(error) if error.has_no_side_effects() => println!("not written: {error}"),
        // Nobody knows yet: read the row before doing anything else about it.
        Err(error) => println!("perhaps written: {error}"),
    }

    // A condition that does not hold is no fault: its code says so, and nothing happened.
    let there = client.compare_and_set("purchases", user, "1998-01-01/1", None, None).await;
    let error = there.expect_err("the row exists");
    assert_eq!((error.code(), error.outcome()), (Code::ConditionFailed, Outcome::NotApplied));
    Ok(())
}

/// `QUORATE_ENDPOINTS` says where; `QUORATE_TLS_DIR` has the certificate of the client `me`, if there are any.
async fn connect() -> Result<Client, Failure> {
    let endpoints = env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:6440".to_owned());
    let builder = Client::builder(endpoints);
    #[cfg(not(madsim))]
    let builder = match env::var_os("QUORATE_TLS_DIR") {
        Some(folder) => {
            let paths = quorate_client::Paths::of_client(folder.as_ref(), &"me".parse()?);
            builder.tls(quorate_client::Tls::open(paths)?)
        }
        None => builder,
    };
    Ok(builder.build().await?)
}
