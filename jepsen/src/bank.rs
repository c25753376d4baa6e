//! A bank under load: payments between rows of users of all units, one transaction each, audits that read
//! every balance in one transaction, and transfers between accounts.
//!
//! `rows.rs` has payments and audits, `accounts.rs` the transfers. Both note what callers were told and
//! compare it at the end with everything that is there.

pub(crate) mod accounts;
pub(crate) mod rows;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_client::Client;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use crate::Failure;
use crate::ledger::End;
use crate::options::Options;

use self::accounts::Accounts;
use self::rows::Rows;

/// Users of the bank: two of each slice, so that every unit has a hundred.
pub(crate) const USERS: u64 = 200;
/// What every user begins with, in rows and on the account.
pub(crate) const START: i64 = 1_000;
/// Largest payment: several in a row meet the floor.
pub(crate) const AMOUNT_MAX: i64 = 400;
/// Wrong things that are kept in words.
const WRONG_MAX: usize = 100;

/// How calls ended, counted while they run.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Payments that were acknowledged.
    pub(crate) paid: AtomicU64,
    /// Those between two units.
    pub(crate) paid_far: AtomicU64,
    /// Transfers that were acknowledged.
    pub(crate) moved: AtomicU64,
    /// Transfers asked for again after they were acknowledged.
    pub(crate) again: AtomicU64,
    /// Payments and transfers that were refused, or surely not carried out.
    pub(crate) not_done: AtomicU64,
    /// Payments and transfers of unknown outcome.
    pub(crate) unknown: AtomicU64,
    /// Audits that were answered, and reads of accounts.
    pub(crate) audits: AtomicU64,
}

impl Counts {
    /// Acknowledged transactions: payments and transfers.
    pub(crate) fn done(&self) -> u64 {
        get(&self.paid) + get(&self.moved)
    }
}

/// The value of a count.
pub(crate) fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

/// Adds 1 to a count.
pub(crate) fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// What every task of the bank has.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    pub(crate) counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    wrong: Arc<Mutex<(u64, Vec<String>)>>,
}

impl Shared {
    /// True if it is time to end.
    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Notes something wrong.
    pub(crate) fn wrong(&self, what: impl FnOnce() -> String) {
        let mut wrong = self.lock();
        wrong.0 += 1;
        if wrong.1.len() < WRONG_MAX {
            wrong.1.push(what());
        }
    }

    /// How many things are wrong, and the first of them.
    pub(crate) fn all_wrong(&self) -> (u64, Vec<String>) {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Vec<String>)> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True if the sides of a payment that were found are what its caller was told: both, each once, or
/// none.
pub(crate) fn fits<A: Ord>(told: End, mut found: Vec<(A, i64)>, whole: [(A, i64); 2]) -> bool {
    let mut whole = Vec::from(whole);
    found.sort_unstable();
    whole.sort_unstable();
    match told {
        End::Done => found == whole,
        End::NotDone => found.is_empty(),
        End::Unknown => found.is_empty() || found == whole,
    }
}

/// What was compared at the end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compared {
    /// Rows and entries of histories.
    pub(crate) compared: u64,
    /// Acknowledged payments and transfers that are not there.
    pub(crate) missing: u64,
}

/// The bank. Its tasks end with it.
pub(crate) struct Bank {
    pub(crate) shared: Shared,
    rows: Arc<Rows>,
    accounts: Arc<Accounts>,
    tasks: JoinSet<()>,
}

impl Bank {
    /// Gives every user money.
    pub(crate) async fn open(client: &Client) -> Result<Bank, Failure> {
        let shared = Shared::default();
        let rows = Arc::new(Rows::open(client, shared.clone()).await?);
        let accounts = Arc::new(Accounts::open(client, shared.clone()).await?);
        Ok(Bank { shared, rows, accounts, tasks: JoinSet::new() })
    }

    /// Starts payers, senders and auditors, half of them through each client.
    pub(crate) fn start(
        &mut self,
        options: &Options,
        clients: &[Client; 2],
        random: &mut SmallRng,
    ) {
        let mut source = || SmallRng::seed_from_u64(random.random());
        let of = |task: u64| &clients[usize::from(task % 2 == 1)];
        for payer in 0..options.writers {
            let (rows, client) = (Arc::clone(&self.rows), of(payer).clone());
            self.tasks.spawn(rows.pay(payer, client, source()));
        }
        for sender in 0..options.adders {
            let (accounts, client) = (Arc::clone(&self.accounts), of(sender).clone());
            let other = of(sender + 1).clone();
            self.tasks.spawn(accounts.send(sender, [client, other], source()));
        }
        for client in clients {
            self.tasks.spawn(Arc::clone(&self.rows).audit(client.clone()));
            let looking = Arc::clone(&self.accounts).look(client.clone(), source());
            self.tasks.spawn(looking);
        }
    }

    /// Lets every call end.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        Ok(())
    }

    /// Compares everything that is there with what callers were told.
    pub(crate) async fn check(&self, client: &Client) -> Result<Compared, Failure> {
        let rows = self.rows.check(client).await?;
        let accounts = self.accounts.check(client).await?;
        Ok(Compared {
            compared: rows.compared + accounts.compared,
            missing: rows.missing + accounts.missing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_once_or_none() {
        // Goal: a payment that is lost, halved, doubled or there although it was refused is noticed.
        let whole = || [(1, -5), (2, 5)];
        let fits = |told, found: &[(i32, i64)]| fits(told, found.to_vec(), whole());
        assert!(fits(End::Done, &[(2, 5), (1, -5)]));
        assert!(fits(End::NotDone, &[]) && fits(End::Unknown, &[]) && fits(End::Unknown, &whole()));
        assert!(!fits(End::Done, &[]) && !fits(End::NotDone, &whole()));
        for told in [End::Done, End::NotDone, End::Unknown] {
            assert!(!fits(told, &[(1, -5)]), "half of it");
            assert!(!fits(told, &[(1, -5), (2, 5), (1, -5), (2, 5)]), "twice");
            assert!(!fits(told, &[(1, -5), (2, 6)]), "another amount");
        }
    }
}
