//! An audit: the accounts of all units added up as of one moment.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use quorate_types::{Account, AccountAddress, Code, CutId, GroupId};

use crate::client::Client;
use crate::cut::{CUT_READ_ATTEMPTS, Cut, GROUPS_AT_ONCE};
use crate::error::Error;

/// Accounts below their floor that are named.
const NAMED_MAX: usize = 16;

/// What the books of all units say at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditReport {
    /// The cut that was read.
    pub cut: CutId,
    /// How many groups were read: all there are.
    pub groups: usize,
    /// Each ledger.
    pub ledgers: BTreeMap<u32, LedgerAudit>,
}

/// One ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerAudit {
    /// Its accounts.
    pub accounts: u64,
    /// The sum of all balances. 0, or money was made or lost.
    pub sum: i128,
    /// The sum of the balances above 0.
    pub sum_of_positive: i128,
    /// What pending transfers reserve.
    pub reserved: u128,
    /// Accounts whose balance, less what is reserved, lies below their floor. 0, or a floor was broken.
    pub below_floor: u64,
    /// The first of them.
    pub first_below_floor: Vec<AccountAddress>,
    /// What each unit holds: money that came into it less what went out.
    pub units: BTreeMap<String, UnitAudit>,
}

/// One unit in a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnitAudit {
    /// Its accounts.
    pub accounts: u64,
    /// The sum of their balances.
    pub balance: i128,
}

impl AuditReport {
    /// True if every ledger adds up to 0 and no account is below its floor.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.ledgers.values().all(LedgerAudit::balances)
    }
}

impl LedgerAudit {
    /// True if it adds up to 0 and no account is below its floor.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.sum == 0 && self.below_floor == 0
    }

    fn add(&mut self, unit: &str, account: &Account) {
        self.accounts += 1;
        self.sum += i128::from(account.balance);
        self.sum_of_positive += i128::from(account.balance.max(0));
        self.reserved += u128::from(account.reserved);
        let free = i128::from(account.balance) - i128::from(account.reserved);
        if account.settings.floor.is_some_and(|floor| free < i128::from(floor)) {
            self.below_floor += 1;
            self.name(account.address);
        }
        if !self.units.contains_key(unit) {
            self.units.insert(unit.to_owned(), UnitAudit::default());
        }
        if let Some(of_unit) = self.units.get_mut(unit) {
            of_unit.accounts += 1;
            of_unit.balance += i128::from(account.balance);
        }
    }

    fn join(&mut self, other: LedgerAudit) {
        self.accounts += other.accounts;
        self.sum += other.sum;
        self.sum_of_positive += other.sum_of_positive;
        self.reserved += other.reserved;
        self.below_floor += other.below_floor;
        for address in other.first_below_floor {
            self.name(address);
        }
        for (unit, theirs) in other.units {
            let ours = self.units.entry(unit).or_default();
            ours.accounts += theirs.accounts;
            ours.balance += theirs.balance;
        }
    }

    fn name(&mut self, address: AccountAddress) {
        if self.first_below_floor.len() < NAMED_MAX {
            self.first_below_floor.push(address);
        }
    }
}

impl Client {
    /// Adds up the accounts of all units as of one moment, while money moves: it holds no locks and
    /// keeps nobody waiting. Takes memory by ledger and unit, not by account.
    ///
    /// The books are those of one serial order of all transfers, and contain every transfer that was
    /// acknowledged before the audit began.
    ///
    /// # Errors
    /// `CUT_LOST` if leaders changed each time it was tried; others see [`Error`].
    pub async fn audit(&self) -> Result<AuditReport, Error> {
        let mut attempts = 1;
        loop {
            let cut = self.cut().await?;
            let read = audit_at(self, &cut).await;
            cut.release().await;
            match read {
                Err(error) if error.code() == Code::CutLost && attempts < CUT_READ_ATTEMPTS => {
                    attempts += 1;
                }
                ended => return ended,
            }
        }
    }
}

async fn audit_at(client: &Client, cut: &Cut) -> Result<AuditReport, Error> {
    let topology = client.topology();
    let unit_of = |group: GroupId| topology.group(group).map_or("?", |group| group.unit.as_str());
    let books = futures::stream::iter(cut.groups().to_vec())
        .map(|group| ledgers_of(cut, group, unit_of(group)))
        .buffer_unordered(GROUPS_AT_ONCE);
    let ledgers = books
        .try_fold(BTreeMap::<u32, LedgerAudit>::new(), |mut all, of_group| async move {
            for (ledger, theirs) in of_group {
                all.entry(ledger).or_default().join(theirs);
            }
            Ok(all)
        })
        .await?;
    Ok(AuditReport { cut: cut.id(), groups: cut.groups().len(), ledgers })
}

async fn ledgers_of(
    cut: &Cut,
    group: GroupId,
    unit: &str,
) -> Result<BTreeMap<u32, LedgerAudit>, Error> {
    let mut ledgers = BTreeMap::<u32, LedgerAudit>::new();
    let mut accounts = cut.accounts_of(&[group]);
    while let Some(page) = accounts.next_page().await? {
        for account in page {
            ledgers.entry(account.address.ledger).or_default().add(unit, &account);
        }
    }
    Ok(ledgers)
}

#[cfg(test)]
mod tests {
    use quorate_types::{AccountSettings, LogTime, Uid};

    use super::*;

    fn account(uid: u64, balance: i64, reserved: u64, floor: Option<i64>) -> Account {
        let settings = AccountSettings { floor, ..AccountSettings::default() };
        let address = AccountAddress::new(Uid(uid), 840);
        Account { address, settings, balance, reserved, created: LogTime(0) }
    }

    #[test]
    fn books_of_units_are_added_up() {
        // Goal: sums never overflow, whichever group they come from, and what is wrong is counted and
        // named.
        let (mut one, mut two) = (LedgerAudit::default(), LedgerAudit::default());
        one.add("RZ00", &account(1, i64::MIN, 0, None));
        one.add("RZ00", &account(2, i64::MAX, 5, Some(0)));
        two.add("RZ01", &account(101, 1, 0, Some(0)));
        assert!(!one.balances() && !two.balances());
        one.join(two);
        assert!(one.balances(), "{one:?}");
        assert_eq!((one.accounts, one.sum_of_positive), (3, i128::from(i64::MAX) + 1));
        assert_eq!((one.reserved, one.units["RZ01"].balance), (5, 1));

        let mut broken = LedgerAudit::default();
        broken.add("RZ00", &account(1, -10, 0, None));
        broken.add("RZ00", &account(2, 10, 11, Some(0)));
        one.join(broken);
        assert!(!one.balances());
        assert_eq!(one.below_floor, 1);
        assert_eq!(one.first_below_floor, [AccountAddress::new(Uid(2), 840)]);
    }
}
