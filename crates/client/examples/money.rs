//! Accounts, a transfer, a batch with a chain, and an audit.

use std::env;
use std::error::Error;

use quorate_client::{
    AccountAddress, AccountSettings, Client, Transfer, TransferId, TransferOutcome, Uid,
};

/// US dollars, in cents.
const LEDGER: u32 = 840;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
pub(crate) async fn main() -> Result<(), Failure> {
    run(&connect().await?).await
}

pub(crate) async fn run(client: &Client) -> Result<(), Failure> {
    let account = |uid| AccountAddress::new(Uid(uid), LEDGER);
    let (bank, ada, bob, fees) = (account(1), account(42), account(77), account(142));
    // The bank may owe; nobody else may.
    let open = AccountSettings { floor: None, ..AccountSettings::default() };
    client.create_account(bank, open).await?;
    for other in [ada, bob, fees] {
        client.create_account(other, AccountSettings::default()).await?;
    }

    // The id makes it happen once, however often it is sent. Draw ids at random, keep them with the order.
    let salary = Transfer::post(TransferId(1), bank, ada, 1_000);
    assert!(client.transfer(salary).await.stands());
    let again = client.transfer(salary).await;
    assert!(matches!(again, TransferOutcome::AlreadyApplied(_)));

    // Many in one call. `linked`: the fee is taken only with the payment that follows it.
    let fee = Transfer { linked: true, ..Transfer::post(TransferId(2), ada, fees, 3) };
    let batch = [
        fee,
        Transfer::post(TransferId(3), ada, account(142), 250),
        Transfer::post(TransferId(4), ada, bob, 100), // To another unit.
    ];
    for (transfer, outcome) in batch.iter().zip(client.transfers(&batch).await) {
        match outcome {
            TransferOutcome::Created(effect) => println!("{}: {}", transfer.id, effect.amount),
            TransferOutcome::AlreadyApplied(_) => println!("{}: done before", transfer.id),
            TransferOutcome::Refused(refusal) => println!("{}: {refusal}", transfer.id),
            // Sending it again under its id settles it.
            TransferOutcome::Failed(error) => println!("{}: {error}", transfer.id),
        }
    }
    let left = client.account(ada).await?.ok_or("the account was created")?;
    assert_eq!(left.balance, 1_000 - 3 - 250 - 100);

    // All accounts of all units as of one moment: no money was made or lost.
    let report = client.audit().await?;
    assert!(report.balances());
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
