//! Reads: elsewhere with a token, many rows at one moment, pages, and a whole table at a cut.

use std::env;
use std::error::Error;
use std::time::Duration;

use quorate_client::{Client, Reads, Token, Uid, Value};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
pub(crate) async fn main() -> Result<(), Failure> {
    run(&connect().await?).await
}

pub(crate) async fn run(client: &Client) -> Result<(), Failure> {
    let (ada, bob) = (Uid(42), Uid(77));
    for day in 1..=5 {
        client.put("purchases", ada, format!("1998-01-0{day}/1"), day).await?;
    }

    // Whichever replica is near may answer, at most half a second behind. Own writes are always seen.
    let near = client.with_reads(Reads::BoundedStale(Duration::from_millis(500)));
    near.put("purchases", bob, "name", "Bob").await?;
    assert!(near.get("purchases", bob, "name").await?.is_some());
    // What was seen here goes on as text, say in a header; elsewhere it is seen, too.
    let header = near.token().to_string();
    let token: Token = header.parse()?;
    let there = client.with_reads(Reads::AtLeast(token));
    assert_eq!(there.get("purchases", bob, "name").await?, Some(Value::Bytes("Bob".into())));

    // Rows of several users at one moment, without a lock.
    let rows = [("purchases", ada, "1998-01-01/1"), ("purchases", bob, "name")];
    assert!(client.get_many(&rows).await?.iter().all(Option::is_some));

    // Page by page; each page is one moment, the whole is not.
    let mut scan = client.scan("purchases", ada).prefix("1998-01-").page_size(2);
    let mut found = 0;
    while let Some(page) = scan.next_page().await? {
        found += page.len();
    }
    assert!(5 <= found);

    // All of it is one moment: every group keeps a view until the cut is released, 60 s at most.
    let cut = client.cut().await?;
    client.put("purchases", ada, "1998-01-01/1", "changed since").await?;
    let rows = cut.scan("purchases", ada)?.prefix("1998-01-01").collect_all().await?;
    assert_eq!(rows[0].value, Value::Integer(1));
    cut.release().await;
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
