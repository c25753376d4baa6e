//! Money between users of all groups: transfers in one transaction each, and audits that read every
//! balance in one transaction, in two rounds without locks (`bank/glance.rs`), or everything at a cut.
//!
//! A transfer takes from one user and gives to one or two others, and leaves a row with each of them
//! that says how much. So every audit finds the same sum and no negative balance; at the end every
//! balance equals the start plus what its rows say, an acknowledged transfer has its rows with
//! everybody, a refused one with nobody, one of unknown outcome with everybody or nobody. At a cut all of
//! that holds, too: of what was acknowledged before it began nothing is missing, and no transfer is there by
//! half.

mod glance;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_client::{Client, Cut, Error, Outcome, Value};
use quorate_types::Uid;
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use crate::options::Options;
use crate::places::Place;
use crate::random::{Draw, random};
use crate::trace::Trace;
use crate::workload::Ending;

/// What every account starts with.
const START: i64 = 1_000;
/// Accounts of one group.
const ACCOUNTS_EACH: usize = 2;
/// Workers of the bank have numbers from here on.
const PROCESS: u32 = 700;
/// Transfers that a look without locks is for.
const LATEST: usize = 16;
/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The deadline of calls at the end.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// A user with a balance.
#[derive(Clone, Debug)]
struct Account {
    table: String,
    uid: Uid,
    key: String,
}

impl Account {
    /// The key of the row that a transfer leaves.
    fn row(&self, number: u64) -> String {
        format!("{}/paid/{number:020}", self.key)
    }
}

/// What is known of transfers, and everything that is wrong.
#[derive(Debug, Default)]
struct State {
    /// By number: the accounts that take part, and what the caller was told.
    transfers: BTreeMap<u64, (Vec<usize>, Told)>,
    /// The numbers of the latest.
    latest: VecDeque<u64>,
    audits: u64,
    glances: u64,
    cuts: u64,
    wrong: Vec<String>,
}

/// Who has the rows of each transfer.
type Rows = BTreeMap<u64, BTreeSet<usize>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Applied,
    NotApplied,
    Unknown,
}

/// What the books say at the end.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Everything that is wrong.
    pub wrong: Vec<String>,
    /// Transfers that were acknowledged.
    pub paid: u64,
    /// Audits that were answered.
    pub audits: u64,
    /// Looks in two rounds that were answered.
    pub glances: u64,
    /// Audits at a cut that were answered.
    pub cuts: u64,
}

/// The bank of a run. Clones share it.
#[derive(Clone)]
pub struct Bank {
    accounts: Arc<Vec<Account>>,
    state: Arc<Mutex<State>>,
    trace: Trace,
}

impl Bank {
    /// Accounts in every group that the workload knows.
    #[must_use]
    pub fn new(places: &[Place], trace: Trace) -> Bank {
        let mut accounts = Vec::new();
        for place in places.iter().filter(|place| place.is_ledger) {
            for number in 0..ACCOUNTS_EACH {
                let key = format!("account-{number}");
                accounts.push(Account { table: place.table.clone(), uid: place.uid, key });
            }
        }
        Bank { accounts: Arc::new(accounts), state: Arc::default(), trace }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives every account its money, in one transaction.
    ///
    /// # Errors
    /// Whatever keeps a cluster without faults from doing it.
    pub async fn open(&self, client: &Client) -> Result<(), Error> {
        let mut transaction = client.transaction();
        for Account { table, uid, key } in self.accounts.iter() {
            transaction = transaction.put(table, *uid, key.clone(), START);
        }
        transaction.commit().await.map(|_| ())
    }

    /// Pays and audits until told to end.
    pub async fn run(self, options: Options, number: u32, client: Client, ending: Ending) {
        let process = PROCESS + number;
        let mut rng = random(options.seed, Draw::Worker(process));
        let mut next = u64::from(process) * 1_000_000;
        while !ending.is_set() {
            let think = u64::try_from(options.think.as_micros()).unwrap_or(u64::MAX);
            tokio::time::sleep(Duration::from_micros(rng.random_range(0..=2 * think))).await;
            if rng.random_bool(0.1) {
                let told = self.audit_at_cut(&client).await;
                self.trace.event(&format!("{process} cut {told:?}"));
            } else if rng.random_bool(0.3) {
                let told = self.glance(&client).await;
                self.trace.event(&format!("{process} look {told:?}"));
            } else if rng.random_bool(0.2) {
                let told = self.audit(&client).await;
                self.trace.event(&format!("{process} audit {told:?}"));
            } else {
                next += 1;
                self.transfer(&mut rng, process, next, &client).await;
            }
        }
    }

    async fn transfer(&self, rng: &mut SmallRng, process: u32, number: u64, client: &Client) {
        let mut parties: Vec<usize> = (0..self.accounts.len()).collect();
        for index in (1..parties.len()).rev() {
            parties.swap(index, rng.random_range(0..=index));
        }
        parties.truncate(rng.random_range(2..=3));
        let amount = rng.random_range(1..=START / 3);
        {
            let mut state = self.lock();
            state.transfers.insert(number, (parties.clone(), Told::Unknown));
            state.latest.push_back(number);
            let excess = state.latest.len().saturating_sub(LATEST);
            state.latest.drain(..excess);
        }
        let result = self.pay(&parties, amount, number, client).await;
        let told = match &result {
            Ok(()) => Told::Applied,
            Err(error) if error.outcome() == Outcome::NotApplied => Told::NotApplied,
            Err(_) => Told::Unknown,
        };
        let code = result.err().map(|error| error.code());
        self.trace.event(&format!("{process} pays {number} {parties:?} {told:?} {code:?}"));
        self.lock().transfers.insert(number, (parties, told));
    }

    /// Takes from the first, gives to the others.
    async fn pay(
        &self,
        parties: &[usize],
        amount: i64,
        number: u64,
        client: &Client,
    ) -> Result<(), Error> {
        let mut transaction = client.transaction();
        let receivers = parties.len() as i64 - 1;
        for (place, index) in parties.iter().enumerate() {
            let account = &self.accounts[*index];
            let Account { table, uid, key } = account;
            let change = if place == 0 { -amount * receivers } else { amount };
            transaction = transaction.add(table, *uid, key.clone(), change);
            if place == 0 {
                transaction = transaction.floor(0);
            }
            transaction = transaction.put(table, *uid, account.row(number), change);
        }
        transaction.commit().await.map(|_| ())
    }

    /// Reads every balance in one transaction. False if it was not answered.
    async fn audit(&self, client: &Client) -> bool {
        let mut transaction = client.transaction();
        for Account { table, uid, key } in self.accounts.iter() {
            transaction = transaction.read(table, *uid, key.clone());
        }
        let Ok(committed) = transaction.commit().await else { return false };
        let balances: Vec<i64> = committed.reads.iter().map(number_of).collect();
        let mut state = self.lock();
        state.audits += 1;
        let wanted = START * self.accounts.len() as i64;
        if balances.iter().sum::<i64>() != wanted || balances.iter().any(|balance| *balance < 0) {
            state.wrong.push(format!("an audit found {balances:?}, not {wanted} in all"));
        }
        true
    }

    /// Reads everything at a cut. False if that was not to be had.
    async fn audit_at_cut(&self, client: &Client) -> bool {
        let before: Vec<u64> = {
            let state = self.lock();
            let applied = state.transfers.iter().filter(|(_, (_, told))| *told == Told::Applied);
            applied.map(|(number, _)| *number).collect()
        };
        let Ok(cut) = client.cut().await else { return false };
        let read = self.read_at_cut(&cut).await;
        let id = cut.id();
        cut.release().await;
        let Ok((balances, rows)) = read else { return false };
        let mut state = self.lock();
        let State { transfers, wrong, cuts, .. } = &mut *state;
        *cuts += 1;
        let wanted = START * self.accounts.len() as i64;
        if balances.iter().sum::<i64>() != wanted || balances.iter().any(|balance| *balance < 0) {
            wrong.push(format!("at cut {id} are {balances:?}, not {wanted} in all"));
        }
        for (number, found) in &rows {
            let parties = transfers.get(number).map(|(parties, _)| parties.iter().copied());
            if parties.is_none_or(|parties| parties.collect::<BTreeSet<_>>() != *found) {
                wrong.push(format!("at cut {id} transfer {number} is with {found:?} only"));
            }
        }
        for number in before.iter().filter(|number| !rows.contains_key(number)) {
            wrong.push(format!("cut {id} lacks transfer {number}, acknowledged before"));
        }
        true
    }

    /// Every balance at a cut, and who has the rows of each transfer.
    async fn read_at_cut(&self, cut: &Cut) -> Result<(Vec<i64>, Rows), Error> {
        let (mut balances, mut rows) = (Vec::new(), Rows::new());
        for (index, Account { table, uid, key }) in self.accounts.iter().enumerate() {
            let found = cut.scan(table, *uid)?.prefix(key.clone()).collect_all().await?;
            let mut balance = None;
            for row in found {
                if row.key == key.as_bytes() {
                    balance = Some(row.value);
                } else {
                    rows.entry(number_in(&row.key)).or_default().insert(index);
                }
            }
            balances.push(number_of(&balance));
        }
        Ok((balances, rows))
    }

    /// After the faults: everybody can pay everybody again, and the books are right.
    pub async fn close(&self, client: &Client, patience: Duration) -> Books {
        let client = client.with_timeout(CALL_TIMEOUT);
        let started = Instant::now();
        let mut number = u64::from(PROCESS - 1) * 1_000_000;
        for index in 0..self.accounts.len() {
            let parties = [index, (index + 1) % self.accounts.len()];
            loop {
                number += 1;
                self.lock().transfers.insert(number, (parties.to_vec(), Told::Unknown));
                let paid = self.pay(&parties, 0, number, &client).await;
                match paid {
                    Ok(()) => {
                        self.lock().transfers.insert(number, (parties.to_vec(), Told::Applied));
                        break;
                    }
                    Err(error) if patience < started.elapsed() => {
                        let what = format!("{parties:?} cannot pay at the end: {error}");
                        self.lock().wrong.push(what);
                        break;
                    }
                    Err(_) => tokio::time::sleep(LOOK_EVERY).await,
                }
            }
        }
        while !self.audit(&client).await && started.elapsed() < 2 * patience {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        while !self.glance(&client).await && started.elapsed() < 2 * patience {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        while !self.audit_at_cut(&client).await {
            if 2 * patience < started.elapsed() {
                self.lock().wrong.push("no cut can be made at the end".to_owned());
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if let Err(error) = self.check_books(&client).await {
            self.lock().wrong.push(format!("the books cannot be read: {error}"));
        }
        let state = self.lock();
        let applied = state.transfers.values().filter(|(_, told)| *told == Told::Applied).count();
        let State { audits, glances, cuts, .. } = *state;
        Books { wrong: state.wrong.clone(), paid: applied as u64, audits, glances, cuts }
    }

    /// Compares balances, rows, and what callers were told.
    async fn check_books(&self, client: &Client) -> Result<(), Error> {
        let mut rows = Rows::new();
        for (index, Account { table, uid, key }) in self.accounts.iter().enumerate() {
            // What a client gave up waiting for may still arrive: read until nothing moved.
            let mut before = client.get(table, *uid, key.clone()).await?;
            let found = loop {
                let prefix = format!("{key}/paid/");
                let found = client.scan(table, *uid).prefix(prefix).collect_all().await?;
                let balance = client.get(table, *uid, key.clone()).await?;
                if balance == before {
                    break found;
                }
                before = balance;
            };
            let mut sum = START;
            for row in &found {
                sum += number_of(&Some(row.value.clone()));
                rows.entry(number_in(&row.key)).or_default().insert(index);
            }
            let balance = number_of(&before);
            if balance != sum {
                let what = format!("account {index} has {balance}, its rows say {sum}");
                self.lock().wrong.push(what);
            }
        }
        let mut state = self.lock();
        let State { transfers, wrong, .. } = &mut *state;
        for (number, (parties, told)) in transfers.iter() {
            let parties: BTreeSet<usize> = parties.iter().copied().collect();
            let found = rows.remove(number).unwrap_or_default();
            let is_right = match told {
                Told::Applied => found == parties,
                Told::NotApplied => found.is_empty(),
                Told::Unknown => found.is_empty() || found == parties,
            };
            if !is_right {
                let what = "transfer, its rows are with";
                wrong.push(format!("{told:?} {what} {found:?} of {parties:?}: {number}"));
            }
        }
        wrong.extend(rows.into_keys().map(|number| format!("nobody made transfer {number}")));
        Ok(())
    }
}

fn number_of(value: &Option<Value>) -> i64 {
    match value {
        Some(Value::Integer(number)) => *number,
        Some(Value::Bytes(_)) | None => i64::MIN / 1_000,
    }
}

/// The transfer in the key of a row. A key that is none of ours counts as one that nobody made.
fn number_in(key: &[u8]) -> u64 {
    let number = std::str::from_utf8(key).ok();
    number.and_then(|key| key.rsplit('/').next()?.parse().ok()).unwrap_or(u64::MAX)
}
