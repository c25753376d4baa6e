//! What accounts add up to, ledger by ledger, as `quorate audit` counts it.

use std::collections::BTreeMap;

use quorate_types::Account;
use serde::{Deserialize, Serialize};

/// The ledgers of a backup, or of a group in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    ledgers: BTreeMap<u32, LedgerTotal>,
}

/// One ledger. Sums have more than 64 bits: in a manifest they are texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerTotal {
    /// Its number.
    pub ledger: u32,
    /// Its accounts.
    pub accounts: u64,
    /// The sum of all balances: 0, or money was made or lost.
    #[serde(with = "text")]
    pub sum: i128,
    /// The sum of the balances above 0.
    #[serde(with = "text")]
    pub sum_of_positive: i128,
    /// What pending transfers reserve.
    #[serde(with = "text")]
    pub reserved: i128,
    /// Accounts whose balance, less what is reserved, lies below their floor.
    pub below_floor: u64,
}

impl Books {
    /// Counts one more account.
    pub fn add(&mut self, account: &Account) {
        let total = self.ledger(account.address.ledger);
        total.accounts += 1;
        total.sum += i128::from(account.balance);
        total.sum_of_positive += i128::from(account.balance.max(0));
        total.reserved += i128::from(account.reserved);
        let free = i128::from(account.balance) - i128::from(account.reserved);
        if account.settings.floor.is_some_and(|floor| free < i128::from(floor)) {
            total.below_floor += 1;
        }
    }

    /// Adds the books of another group.
    pub fn join(&mut self, other: &Books) {
        for theirs in other.ledgers.values() {
            let ours = self.ledger(theirs.ledger);
            ours.accounts += theirs.accounts;
            ours.sum += theirs.sum;
            ours.sum_of_positive += theirs.sum_of_positive;
            ours.reserved += theirs.reserved;
            ours.below_floor += theirs.below_floor;
        }
    }

    /// Every ledger, in order of number.
    #[must_use]
    pub fn totals(&self) -> Vec<LedgerTotal> {
        self.ledgers.values().cloned().collect()
    }

    fn ledger(&mut self, ledger: u32) -> &mut LedgerTotal {
        self.ledgers
            .entry(ledger)
            .or_insert_with(|| LedgerTotal { ledger, ..LedgerTotal::default() })
    }
}

impl LedgerTotal {
    /// True if it adds up to 0 and no account is below its floor.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.sum == 0 && self.below_floor == 0
    }
}

/// A number as a text.
mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(number: &i128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i128, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
