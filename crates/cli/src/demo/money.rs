//! Payments between customers of all units, all the time, and audits of all accounts while they go on.
//!
//! A bank account without a floor in each unit gives a few customers money; then they pay each other,
//! mostly across units. Who does not know what became of a payment asks again under its id. So at every
//! moment all balances add up to nothing, and at the end every payment that was acknowledged is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use quorate_client::{
    AccountAddress, AccountSettings, Client, Transfer, TransferId, TransferOutcome, Uid,
};
use quorate_types::Code;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use tokio::task::JoinHandle;

use super::timeline::whole_ms;
use crate::exit::Failure;

/// The ledger of all accounts.
const LEDGER: u32 = 840;
/// The code of the accounts that money comes from.
const BANK: u16 = 2;
/// Customers of each unit that pay and are paid.
const CUSTOMERS: usize = 8;
/// What each of them starts with.
const START: u64 = 10_000;
/// The largest payment.
const AMOUNT_MAX: u64 = 400;
/// How long one call may take, the client's own retries included.
const DEADLINE: Duration = Duration::from_secs(10);
/// Payments looked up at once at the end.
const LOOKING: usize = 64;

/// The payments while they go on.
#[derive(Debug)]
pub(super) struct Money {
    client: Client,
    stop: Arc<AtomicBool>,
    payers: Vec<JoinHandle<Paid>>,
}

/// What one payer was told.
#[derive(Debug, Default)]
struct Paid {
    /// Payments that took effect, by who paid.
    created: Vec<(Uid, TransferId)>,
    across: u64,
    refused: u64,
    asked_again: u64,
    /// Of none of these is known what became of it: the demo ended first.
    unknown: u64,
}

/// What all payments came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct MoneyReport {
    pub(super) accounts: u64,
    /// Payments that were acknowledged,
    pub(super) paid: u64,
    /// and those of them between two units.
    pub(super) across: u64,
    pub(super) refused: u64,
    /// Requests repeated under the same id because it was not known what became of the one before.
    pub(super) asked_again: u64,
    pub(super) unknown: u64,
    /// Acknowledged payments that are not there at the end.
    pub(super) missing: u64,
    pub(super) audits: Vec<Audited>,
}

/// All accounts added up as of one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Audited {
    /// The event it followed.
    pub(super) after: String,
    /// Why there is none.
    pub(super) problem: Option<String>,
    pub(super) accounts: u64,
    /// The sum of all balances.
    pub(super) sum: i64,
    pub(super) below_floor: u64,
    pub(super) took_ms: u64,
}

impl Audited {
    /// True if it was made and the books balance.
    pub(super) fn balances(&self) -> bool {
        self.problem.is_none() && self.sum == 0 && self.below_floor == 0
    }
}

impl Money {
    /// Opens accounts for a few customers of each unit and lets them pay each other.
    ///
    /// # Errors
    /// If the accounts cannot be opened or filled.
    pub(super) async fn start(
        client: &Client,
        customers: &[Uid],
        pause: Duration,
    ) -> Result<Money, Failure> {
        let client = client.with_timeout(DEADLINE);
        let topology = client.topology();
        let mut by_group: BTreeMap<u32, Vec<Uid>> = BTreeMap::new();
        for uid in customers {
            if let Ok(group) = topology.group_of_accounts(*uid) {
                by_group.entry(group.id.0).or_default().push(*uid);
            }
        }
        by_group.values_mut().for_each(|customers| customers.truncate(CUSTOMERS));
        let run: u64 = rand::rng().random();
        let mut opening = Vec::new();
        for (number, customers) in (0_u128..).zip(by_group.values()) {
            let bank = AccountAddress { code: BANK, ..account(customers[0]) };
            let ids = (u128::from(run) << 64 | number << 32)..;
            opening.push(open(&client, bank, customers, ids));
        }
        futures::future::try_join_all(opening).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let everybody: Arc<Vec<Uid>> = Arc::new(by_group.values().flatten().copied().collect());
        let payers = (1_u64..).zip(by_group.into_values()).map(|(number, customers)| {
            let payer = Payer {
                client: client.clone(),
                customers,
                everybody: Arc::clone(&everybody),
                stop: Arc::clone(&stop),
                pause,
                next: u128::from(run) << 64 | u128::from(number) << 48,
            };
            tokio::spawn(Box::pin(payer.pay()))
        });
        let payers = payers.collect();
        Ok(Money { client, stop, payers })
    }

    /// Adds up all accounts as of one moment.
    pub(super) async fn audit(&self, after: &str) -> Audited {
        audit(&self.client, after).await
    }

    /// Lets every payer end its payment, and looks for every one that was acknowledged.
    ///
    /// # Errors
    /// If a payer or a look-up ends badly.
    pub(super) async fn stop(self, mut audits: Vec<Audited>) -> Result<MoneyReport, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = MoneyReport::default();
        let mut created = Vec::new();
        for payer in self.payers {
            let paid = payer.await.map_err(|error| {
                let message = format!("a payer ended badly: {error}");
                Failure::new(Code::Internal, message)
            })?;
            report.paid += paid.created.len() as u64;
            report.across += paid.across;
            report.refused += paid.refused;
            report.asked_again += paid.asked_again;
            report.unknown += paid.unknown;
            created.extend(paid.created);
        }
        let client = &self.client;
        let look = |(uid, id)| async move { client.find_transfer(uid, id).await };
        let mut looks =
            futures::stream::iter(created.into_iter().map(look)).buffer_unordered(LOOKING);
        while let Some(found) = looks.next().await {
            let found = found.map_err(|error| crate::cluster::failure(&error))?;
            report.missing += u64::from(found.is_none());
        }
        drop(looks);
        audits.push(audit(client, "the end").await);
        report.accounts = audits.last().map_or(0, |last| last.accounts);
        report.audits = audits;
        Ok(report)
    }
}

async fn audit(client: &Client, after: &str) -> Audited {
    let began = Instant::now();
    let mut audited = Audited {
        after: after.to_owned(),
        problem: None,
        accounts: 0,
        sum: 0,
        below_floor: 0,
        took_ms: 0,
    };
    match client.audit().await {
        Ok(report) => {
            let ledger = report.ledgers.get(&LEDGER).cloned().unwrap_or_default();
            audited.accounts = ledger.accounts;
            audited.sum = i64::try_from(ledger.sum).unwrap_or(i64::MAX);
            audited.below_floor = ledger.below_floor;
        }
        Err(error) => audited.problem = Some(error.to_string()),
    }
    audited.took_ms = whole_ms(began.elapsed());
    audited
}

/// Opens the accounts of a unit and gives its customers money.
async fn open(
    client: &Client,
    bank: AccountAddress,
    customers: &[Uid],
    mut ids: impl Iterator<Item = u128>,
) -> Result<(), Failure> {
    let failure = |error: &quorate_client::Error| crate::cluster::failure(error);
    let no_floor = AccountSettings { floor: None, ..AccountSettings::default() };
    create(client, bank, no_floor).await?;
    let mut funds = Vec::new();
    for (uid, id) in customers.iter().zip(&mut ids) {
        let settings = AccountSettings::default();
        create(client, account(*uid), settings).await?;
        funds.push(Transfer::post(TransferId(id), bank, account(*uid), START));
    }
    for outcome in client.transfers(&funds).await {
        match outcome {
            TransferOutcome::Created(_) | TransferOutcome::AlreadyApplied(_) => {}
            TransferOutcome::Refused(refusal) => {
                let message = format!("a customer could not be given money: {refusal}");
                return Err(Failure::new(Code::Internal, message));
            }
            TransferOutcome::Failed(error) => return Err(failure(&error)),
        }
    }
    Ok(())
}

/// Opens an account, unless an earlier run has.
async fn create(
    client: &Client,
    account: AccountAddress,
    settings: AccountSettings,
) -> Result<(), Failure> {
    match client.create_account(account, settings).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Code::AccountExists => Ok(()),
        Err(error) => Err(crate::cluster::failure(&error)),
    }
}

fn account(uid: Uid) -> AccountAddress {
    AccountAddress::new(uid, LEDGER)
}

struct Payer {
    client: Client,
    /// Who pays: all of one unit.
    customers: Vec<Uid>,
    /// Who is paid.
    everybody: Arc<Vec<Uid>>,
    stop: Arc<AtomicBool>,
    /// After each payment.
    pause: Duration,
    next: u128,
}

impl Payer {
    async fn pay(mut self) -> Paid {
        let mut random = rand::rngs::SmallRng::seed_from_u64(rand::rng().random());
        let mut paid = Paid::default();
        while !self.stop.load(Ordering::Relaxed) {
            let (from, to) =
                (self.customers.choose(&mut random), self.everybody.choose(&mut random));
            let (Some(from), Some(to)) = (from.copied(), to.copied()) else { break };
            if from != to {
                self.next += 1;
                let amount = random.random_range(1..=AMOUNT_MAX);
                let id = TransferId(self.next);
                let transfer = Transfer::post(id, account(from), account(to), amount);
                self.one(transfer, &mut paid).await;
            }
            tokio::time::sleep(self.pause).await;
        }
        paid
    }

    /// One payment, until it is known what became of it.
    async fn one(&self, transfer: Transfer, paid: &mut Paid) {
        let is_across = !self.customers.contains(&transfer.credit.uid);
        loop {
            match self.client.transfer(transfer).await {
                TransferOutcome::Created(_) | TransferOutcome::AlreadyApplied(_) => {
                    paid.created.push((transfer.debit.uid, transfer.id));
                    paid.across += u64::from(is_across);
                    return;
                }
                TransferOutcome::Refused(_) => {
                    paid.refused += 1;
                    return;
                }
                TransferOutcome::Failed(_) if self.stop.load(Ordering::Relaxed) => {
                    paid.unknown += 1;
                    return;
                }
                TransferOutcome::Failed(_) => paid.asked_again += 1,
            }
            tokio::time::sleep(self.pause).await;
        }
    }
}
