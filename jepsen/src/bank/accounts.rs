//! Transfers between accounts: batches of posts, some of them chains. Every one is asked for under its id
//! until it is known whether it stands, through two clients by turns, and some once more afterwards. At
//! the end the histories of both accounts have it once, or not at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_client::{
    AccountAddress, AccountSettings, Client, GroupId, Outcome, Transfer, TransferEffect,
    TransferId, TransferOutcome, Uid,
};
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use super::{AMOUNT_MAX, Compared, START, Shared, USERS, add, fits};
use crate::Failure;
use crate::ledger::End;
use crate::workload::patience;

/// Transfers between accounts of two units are asked for, too.
const ACROSS: bool = true;
/// The ledger of all accounts.
const LEDGER: u32 = 840;
/// The users whose accounts money comes from; one for each slice, beyond the others.
const SOURCES: u64 = 1_000;
/// Slices of the cluster file.
const SLICES: u64 = 100;
/// Most transfers of a request.
const BATCH_MAX: usize = 4;
/// How often a request is sent until its outcome is left open.
const TRIES_MAX: usize = 10;
/// From the ids of one sender to those of the next.
const IDS_APART: u128 = 1_000_000_000;
/// Between two looks at an account.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A transfer that was asked for.
#[derive(Clone, Copy, Debug)]
struct Noted {
    transfer: Transfer,
    told: End,
    /// The transfer that it stands or falls with.
    with: Option<u128>,
}

/// The accounts of the bank, and what was told of them.
pub(crate) struct Accounts {
    /// Those with a floor, by group.
    groups: Vec<Vec<AccountAddress>>,
    all: Vec<AccountAddress>,
    noted: Mutex<BTreeMap<u128, Noted>>,
    shared: Shared,
}

fn at(uid: u64) -> AccountAddress {
    AccountAddress::new(Uid(uid), LEDGER)
}

impl Accounts {
    /// Creates the accounts and gives those with a floor the start.
    pub(super) async fn open(client: &Client, shared: Shared) -> Result<Accounts, Failure> {
        let mut groups: BTreeMap<GroupId, (AccountAddress, Vec<AccountAddress>)> = BTreeMap::new();
        let topology = client.topology();
        for user in 0..USERS {
            let group = topology.group_of_accounts(Uid(user)).map_err(|error| error.to_string())?;
            let source = at(SOURCES + user % SLICES);
            groups.entry(group.id).or_insert((source, Vec::new())).1.push(at(user));
        }
        let mut noted = BTreeMap::new();
        let mut all = Vec::new();
        for (source, accounts) in groups.values() {
            for account in std::iter::once(source).chain(accounts) {
                let floor = (account != source).then_some(0);
                let history = true;
                let settings = AccountSettings { floor, history, ..AccountSettings::default() };
                client.create_account(*account, settings).await?;
                all.push(*account);
            }
            let fund = |account: &AccountAddress| {
                let id = TransferId(u128::MAX - u128::from(account.uid.0));
                Transfer::post(id, *source, *account, START.unsigned_abs())
            };
            let funds: Vec<Transfer> = accounts.iter().map(fund).collect();
            for (transfer, outcome) in funds.iter().zip(client.transfers(&funds).await) {
                if !outcome.stands() {
                    return Err(format!("an account cannot be funded: {outcome:?}").into());
                }
                let told = End::Done;
                noted.insert(transfer.id.0, Noted { transfer: *transfer, told, with: None });
            }
        }
        let groups = groups.into_values().map(|(_, accounts)| accounts).collect();
        Ok(Accounts { groups, all, noted: Mutex::new(noted), shared })
    }

    /// Sends until it is over.
    pub(super) async fn send(
        self: Arc<Self>,
        sender: u64,
        clients: [Client; 2],
        mut random: SmallRng,
    ) {
        let clients = clients.map(|client| patience(&client, sender));
        let mut next = (u128::from(sender) + 1) * IDS_APART;
        while !self.shared.is_over() {
            let batch = self.draw(&mut next, &mut random);
            let told = self.ask(&clients, &batch).await;
            for (index, (transfer, told)) in batch.iter().zip(&told).enumerate() {
                let before = index.checked_sub(1).map(|before| &batch[before]);
                let with = before.filter(|before| before.linked).map(|before| before.id.0);
                self.note(Noted { transfer: *transfer, told: *told, with });
            }
            // One that was refused would be decided anew.
            let all_stand = told.iter().all(|told| *told == End::Done);
            if all_stand && random.random_bool(0.05) {
                self.ask_again(&clients[1], &batch).await;
            }
        }
    }

    /// The next request: posts, two of them linked now and then.
    fn draw(&self, next: &mut u128, random: &mut SmallRng) -> Vec<Transfer> {
        let count = random.random_range(1..=BATCH_MAX);
        let is_chain = random.random_bool(0.1);
        let accounts =
            if ACROSS { &self.all } else { self.groups.choose(random).unwrap_or(&self.all) };
        let mut post = |random: &mut SmallRng| {
            *next += 1;
            let pair: Vec<_> = accounts.choose_multiple(random, 2).copied().collect();
            let amount = random.random_range(1..=AMOUNT_MAX).unsigned_abs();
            Transfer::post(TransferId(*next), pair[0], pair[1], amount)
        };
        let mut batch: Vec<Transfer> = (0..count).map(|_| post(random)).collect();
        if is_chain && 1 < count {
            batch[0].linked = true;
            // One pair, whatever units it is in.
            (batch[1].debit, batch[1].credit) = (batch[0].debit, batch[0].credit);
        }
        batch
    }

    /// Asks until every outcome is known, or for long enough.
    async fn ask(&self, clients: &[Client; 2], batch: &[Transfer]) -> Vec<End> {
        let mut known = vec![Known::default(); batch.len()];
        for client in clients.iter().cycle().take(TRIES_MAX) {
            let outcomes = client.transfers(batch).await;
            for ((known, transfer), outcome) in known.iter_mut().zip(batch).zip(&outcomes) {
                let refused_late = known.stands && matches!(outcome, TransferOutcome::Refused(_));
                if refused_late {
                    self.shared.wrong(|| format!("{:?} stood, then {outcome:?}", transfer.id));
                }
                known.note(outcome);
            }
            if !outcomes.iter().any(is_unknown) {
                break;
            }
        }
        let counts = &self.shared.counts;
        let told: Vec<End> = known.into_iter().map(Known::end).collect();
        for told in &told {
            match told {
                End::Done => add(&counts.moved),
                End::NotDone => add(&counts.not_done),
                End::Unknown => add(&counts.unknown),
            }
        }
        told
    }

    /// Asks once more for what was acknowledged: it is told so, twice the same.
    async fn ask_again(&self, client: &Client, batch: &[Transfer]) {
        let mut first: Option<Vec<Option<TransferEffect>>> = None;
        for _ in 0..2 {
            let outcomes = client.transfers(batch).await;
            for (transfer, outcome) in batch.iter().zip(&outcomes) {
                match outcome {
                    TransferOutcome::AlreadyApplied(_) | TransferOutcome::Failed(_) => {}
                    TransferOutcome::Created(_) | TransferOutcome::Refused(_) => {
                        self.shared.wrong(|| format!("{:?} stood, then {outcome:?}", transfer.id));
                    }
                }
            }
            let effects: Vec<_> = outcomes.iter().map(TransferOutcome::effect).collect();
            if let Some(first) = &first {
                let differ = first.iter().zip(&effects).any(|(one, other)| {
                    one.is_some_and(|one| other.is_some_and(|other| one != other))
                });
                if differ {
                    self.shared.wrong(|| format!("told {first:?}, then {effects:?}"));
                }
            }
            first = Some(effects);
        }
        add(&self.shared.counts.again);
    }

    fn note(&self, noted: Noted) {
        let mut all = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(noted.transfer.id.0, noted);
    }

    /// Reads accounts until it is over: none is below its floor.
    pub(super) async fn look(self: Arc<Self>, client: Client, mut random: SmallRng) {
        while !self.shared.is_over() {
            let account = self.all[random.random_range(0..self.all.len())];
            if let Ok(Some(account)) = client.account(account).await {
                let floor = account.settings.floor.unwrap_or(i64::MIN);
                if account.free() < i128::from(floor) {
                    self.shared.wrong(|| format!("an account below its floor: {account:?}"));
                }
                add(&self.shared.counts.audits);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Compares accounts, histories and what senders were told.
    pub(super) async fn check(&self, client: &Client) -> Result<Compared, Failure> {
        let mut sides: BTreeMap<u128, Vec<(AccountAddress, i64)>> = BTreeMap::new();
        let (mut found, mut total) = (Compared::default(), 0_i128);
        for at in &self.all {
            let account = client.account(*at).await?.ok_or("an account is gone")?;
            let history = client.account_history(*at).collect_all().await?;
            let floor = account.settings.floor.unwrap_or(i64::MIN);
            let mut sum = 0_i64;
            for entry in &history {
                sum += entry.delta;
                if sum != entry.balance || sum < floor {
                    self.shared.wrong(|| format!("{at} had {sum} at {entry:?}, floor {floor}"));
                }
                sides.entry(entry.transfer.0).or_default().push((*at, entry.delta));
            }
            if sum != account.balance {
                self.shared.wrong(|| format!("{account:?}, its history says {sum}"));
            }
            total += i128::from(account.balance);
            found.compared += history.len() as u64 + 1;
        }
        if total != 0 {
            self.shared.wrong(|| format!("the accounts add up to {total}, not to 0"));
        }
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let stands: BTreeMap<u128, bool> =
            noted.keys().map(|id| (*id, sides.contains_key(id))).collect();
        for (id, Noted { transfer, told, with }) in noted.iter() {
            let is = sides.remove(id).unwrap_or_default();
            let amount = i64::try_from(transfer.amount).unwrap_or(i64::MAX);
            if !fits(*told, is.clone(), [(transfer.debit, -amount), (transfer.credit, amount)]) {
                found.missing += u64::from(*told == End::Done && is.is_empty());
                self.shared.wrong(|| format!("{transfer:?}, told {told:?}, is {is:?}"));
            }
            if with.is_some_and(|with| stands.get(&with) != stands.get(id)) {
                self.shared.wrong(|| format!("half of a chain stands: {transfer:?}"));
            }
        }
        for id in sides.keys() {
            self.shared.wrong(|| format!("nobody made transfer {id:x}"));
        }
        Ok(found)
    }
}

/// What is known of a transfer after some answers.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    stands: bool,
    /// An attempt was not answered: it may still arrive, after a later one was refused.
    is_open: bool,
}

impl Known {
    fn note(&mut self, outcome: &TransferOutcome) {
        self.stands |= outcome.stands();
        self.is_open |= is_unknown(outcome);
    }

    fn end(self) -> End {
        match self {
            Known { stands: true, .. } => End::Done,
            Known { is_open: true, .. } => End::Unknown,
            Known { .. } => End::NotDone,
        }
    }
}

fn is_unknown(outcome: &TransferOutcome) -> bool {
    matches!(outcome, TransferOutcome::Failed(error) if error.outcome() == Outcome::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stood_once_stands() {
        // Goal: an attempt without an answer leaves the outcome open, unless another one stands.
        let known = |stands, is_open| Known { stands, is_open }.end();
        assert_eq!(known(false, false), End::NotDone);
        assert_eq!(known(false, true), End::Unknown);
        assert_eq!(known(true, true), End::Done);
    }
}
