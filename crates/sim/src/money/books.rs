//! What a bank holds at the end: read through the client, and compared with what was asked and told.
//!
//! | rule | seen in |
//! |---|---|
//! | money is neither made nor lost | the balances add up to 0 |
//! | a balance is the sum of its history, and never below its floor | accounts, histories |
//! | what is reserved is what open holds reserve | accounts, records |
//! | what was acknowledged is there once, on both sides; what was refused is not | records, histories |
//! | what is unknown is there as a whole or not at all | the same |
//! | a hold ends once | records that name it |
//! | a chain stands or falls as a whole | records |

use std::collections::BTreeMap;

use quorate_client::{Client, Error};
use quorate_types::{
    Account, AccountAddress, HistoryEntry, Hold, Transfer, TransferKind, TransferRecord,
};

use super::asked::{Asked, Attempt, Effect, Name, name, show};

/// Records read side by side.
const READS_AT_ONCE: usize = 16;

/// The books as they were read.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    pub(super) accounts: BTreeMap<AccountAddress, Account>,
    pub(super) histories: BTreeMap<AccountAddress, Vec<HistoryEntry>>,
    pub(super) records: BTreeMap<Name, TransferRecord>,
}

impl Books {
    /// Reads everything, as of one moment: again if something arrived meanwhile that a client had given
    /// up waiting for.
    pub(super) async fn read(
        client: &Client,
        addresses: &[AccountAddress],
        names: &[Name],
    ) -> Result<Books, Error> {
        let mut before = accounts(client, addresses).await?;
        loop {
            let mut histories = BTreeMap::new();
            for address in addresses {
                let history = client.account_history(*address).collect_all().await?;
                histories.insert(*address, history);
            }
            let records = records(client, names).await?;
            let accounts = accounts(client, addresses).await?;
            if accounts == before {
                return Ok(Books { accounts, histories, records });
            }
            before = accounts;
        }
    }

    /// Everything that is wrong with the books, given what was asked and told.
    pub(super) fn check(&self, asked: &Asked) -> Vec<String> {
        let mut wrong = Vec::new();
        let sum: i128 = self.accounts.values().map(|it| i128::from(it.balance)).sum();
        if sum != 0 {
            wrong.push(format!("the balances add up to {sum}, not to 0"));
        }
        let mut moves: BTreeMap<Name, Vec<(AccountAddress, i64)>> = BTreeMap::new();
        for (address, history) in &self.histories {
            for entry in history {
                let moved = moves.entry((entry.debit, entry.transfer)).or_default();
                moved.push((*address, entry.delta));
            }
            wrong.extend(self.check_account(*address, history));
        }
        for (name, attempts) in &asked.attempts {
            let (record, moved) = (self.records.get(name), moves.remove(name).unwrap_or_default());
            let what = check_transfer(attempts, record, moved);
            wrong.extend(what.into_iter().map(|what| format!("{}: {what}", show(*name))));
        }
        let strangers = moves.into_keys();
        wrong.extend(strangers.map(|name| format!("{}: nobody asked for it", show(name))));
        for chain in &asked.chains {
            let found = chain.iter().filter(|name| self.records.contains_key(name)).count();
            if found != 0 && found != chain.len() {
                let (of, first) = (chain.len(), show(chain[0]));
                wrong.push(format!("{found} of the {of} transfers of a chain stand, from {first}"));
            }
        }
        wrong.extend(self.check_holds());
        wrong
    }

    fn check_account(&self, address: AccountAddress, history: &[HistoryEntry]) -> Vec<String> {
        let Some(account) = self.accounts.get(&address) else {
            return vec![format!("account {address} is gone")];
        };
        let mut wrong = Vec::new();
        let floor = account.settings.floor.unwrap_or(i64::MIN);
        let mut sum = 0_i64;
        for entry in history {
            sum = sum.wrapping_add(entry.delta);
            if sum != entry.balance {
                let HistoryEntry { at, delta, balance, .. } = entry;
                let what = format!("{delta:+} at {at:?} made {balance}, not {sum}");
                wrong.push(format!("history of {address}: {what}"));
                sum = entry.balance;
            }
            if sum < floor {
                wrong.push(format!("account {address} fell to {sum}, its floor is {floor}"));
            }
        }
        let Account { balance, reserved, .. } = *account;
        if balance != sum {
            wrong.push(format!("account {address} has {balance}, its history says {sum}"));
        }
        if account.free() < i128::from(floor) {
            wrong.push(below_floor(account));
        }
        let open = self.records.values().filter(|record| {
            record.transfer.debit == address && matches!(record.hold, Some(Hold::Open { .. }))
        });
        let held: u64 = open.map(|record| record.amount).sum();
        if reserved != held {
            wrong.push(format!("account {address} reserves {reserved}, its holds {held}"));
        }
        wrong
    }

    /// Each hold and the transfers that ended it.
    fn check_holds(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut ends: BTreeMap<Name, Vec<&TransferRecord>> = BTreeMap::new();
        for (name, record) in &self.records {
            if let Some(pending) = record.transfer.kind.ends() {
                ends.entry((name.0, pending)).or_default().push(record);
            }
        }
        for (name, record) in &self.records {
            let ended = ends.remove(name).unwrap_or_default();
            let is_right = match (record.hold, ended.as_slice()) {
                (None, []) | (Some(Hold::Open { .. } | Hold::Expired), []) => true,
                (Some(Hold::Posted { amount, by }), [post]) => {
                    let is_post = matches!(post.transfer.kind, TransferKind::PostPending(_));
                    let fits = post.amount == amount && amount <= record.amount;
                    is_post && fits && post.transfer.id == by
                }
                (Some(Hold::Voided { by }), [void]) => {
                    let is_void = matches!(void.transfer.kind, TransferKind::VoidPending(_));
                    is_void && void.transfer.id == by
                }
                _ => false,
            };
            if !is_right {
                let (hold, amount, show) = (record.hold, record.amount, show(*name));
                let by: Vec<_> = ended.iter().map(|it| (it.transfer.id, it.amount)).collect();
                wrong.push(format!("{show}: a hold of {amount} is {hold:?}, ended by {by:?}"));
            }
        }
        wrong.extend(ends.into_keys().map(|name| format!("{}: ended, never open", show(name))));
        wrong
    }
}

/// What an account below its floor is reported as.
pub(super) fn below_floor(account: &Account) -> String {
    let Account { address, balance, reserved, settings, .. } = account;
    format!(
        "account {address} has {balance}, reserves {reserved}, its floor is {:?}",
        settings.floor
    )
}

/// The record and the two sides of one transfer, given every time that it was asked for.
fn check_transfer(
    attempts: &[Attempt],
    record: Option<&TransferRecord>,
    mut moved: Vec<(AccountAddress, i64)>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let standing = attempts.iter().find(|attempt| attempt.told.effect().is_some());
    let Some(record) = record else {
        if let Some(Attempt { told, .. }) = standing {
            wrong.push(format!("told {told:?}, and it is not there"));
        }
        if !moved.is_empty() {
            wrong.push(format!("it is not there, but it moved {moved:?}"));
        }
        return wrong;
    };
    let effect = Effect { slot: record.slot, amount: record.amount };
    let mut asked = attempts.iter().filter(|attempt| attempt.transfer == record.transfer);
    if let Some(Attempt { told, transfer, .. }) = standing
        && (told.effect() != Some(effect) || *transfer != record.transfer)
    {
        wrong.push(format!("told {told:?} of {transfer:?}, found {record:?}"));
    }
    if asked.all(|attempt| attempt.told.is_none()) {
        let told: Vec<_> = attempts.iter().map(|attempt| attempt.told).collect();
        wrong.push(format!("it is there, but was told {told:?}"));
    }
    let mut wanted = sides(&record.transfer, record.amount);
    moved.sort_unstable();
    wanted.sort_unstable();
    if moved != wanted {
        wrong.push(format!("it moved {moved:?}, not {wanted:?}"));
    }
    wrong
}

/// What a transfer that stands moves.
fn sides(transfer: &Transfer, amount: u64) -> Vec<(AccountAddress, i64)> {
    match transfer.kind {
        TransferKind::Pending { .. } | TransferKind::VoidPending(_) => Vec::new(),
        TransferKind::Post | TransferKind::PostPending(_) => {
            let amount = i64::try_from(amount).unwrap_or(i64::MAX);
            vec![(transfer.debit, -amount), (transfer.credit, amount)]
        }
    }
}

async fn accounts(
    client: &Client,
    addresses: &[AccountAddress],
) -> Result<BTreeMap<AccountAddress, Account>, Error> {
    let mut found = BTreeMap::new();
    for address in addresses {
        if let Some(account) = client.account(*address).await? {
            found.insert(*address, account);
        }
    }
    Ok(found)
}

/// The records of those of these transfers that stand.
async fn records(client: &Client, names: &[Name]) -> Result<BTreeMap<Name, TransferRecord>, Error> {
    let mut records = BTreeMap::new();
    for some in names.chunks(READS_AT_ONCE) {
        let ask = |(debit, id): &Name| {
            let (client, debit, id) = (client.clone(), *debit, *id);
            tokio::spawn(async move { client.find_transfer(debit, id).await })
        };
        let asking: Vec<_> = some.iter().map(ask).collect();
        for asked in asking {
            let found = asked.await.unwrap_or_else(|error| panic!("a read ended: {error}"))?;
            if let Some(record) = found {
                records.insert(name(&record.transfer), record);
            }
        }
    }
    Ok(records)
}

#[cfg(test)]
#[path = "books_test.rs"]
mod tests;
