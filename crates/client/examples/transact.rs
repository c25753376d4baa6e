//! Transactions: as one request, as a closure, and as a closure that is told about its earlier runs.

use std::env;
use std::error::Error;

use quorate_client::{Client, Code, Uid, Value};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
pub(crate) async fn main() -> Result<(), Failure> {
    run(&connect().await?).await
}

pub(crate) async fn run(client: &Client) -> Result<(), Failure> {
    let (ada, bob) = (Uid(42), Uid(77)); // In different units, which makes no difference here.
    client.put("purchases", ada, "points", 100).await?;
    client.put("purchases", bob, "points", 0).await?;

    // Known beforehand: one request, all or nothing, and the sum may not fall below 0.
    let committed = client
        .transaction()
        .add("purchases", ada, "points", -30)
        .floor(0)
        .add("purchases", bob, "points", 30)
        .commit()
        .await?;
    assert_eq!(committed.sums, [70, 30]);

    // It reads, decides and writes; it runs again if what it read has changed meanwhile.
    let given = client
        .transact(|txn| async move {
            let Some(Value::Integer(points)) = txn.get("purchases", ada, "points").await? else {
                return Ok(0);
            };
            txn.add("purchases", ada, "points", -points / 2, Some(0))?;
            txn.add("purchases", bob, "points", points / 2, None)?;
            Ok::<_, quorate_client::Error>(points / 2)
        })
        .await?;
    println!("{} points given in {} runs", given.value, given.attempts);

    // Runs again after a lost answer, too. Then it may have taken effect before, and must look: here at
    // the order, which it writes under an id of its own.
    let order = "order/4711";
    client.delete("purchases", ada, order).await?;
    client
        .transact_idempotent(|txn| async move {
            if txn.may_have_committed() && txn.get("purchases", ada, order).await?.is_some() {
                return Ok(());
            }
            txn.put("purchases", ada, order, 5)?;
            txn.add("purchases", ada, "points", -5, Some(0))?;
            Ok::<_, quorate_client::Error>(())
        })
        .await?;
    assert_eq!(client.get("purchases", ada, "points").await?, Some(Value::Integer(30)));

    let more_than_there_is =
        client.transaction().add("purchases", ada, "points", -31).floor(0).commit().await;
    assert_eq!(more_than_there_is.expect_err("31 are too many").code(), Code::GuardFailed);
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
