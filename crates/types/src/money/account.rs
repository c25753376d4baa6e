//! Accounts: where they are, what they hold, what they allow.

use std::fmt;
use std::str::FromStr;

use crate::ids::Uid;
use crate::time::LogTime;

/// Which account: of whom, in which ledger, of which kind. Written `42:840:1`, or `42:840` for code 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountAddress {
    /// The user the account belongs to. The account lives in the unit of that user.
    pub uid: Uid,
    /// The ledger: a currency or an asset. Transfers stay within one.
    pub ledger: u32,
    /// The kind of account, for a user who has several in a ledger; 1 by default.
    pub code: u16,
}

impl AccountAddress {
    /// The code of an account whose text names none.
    pub const CODE_USUAL: u16 = 1;

    /// The usual account of a user in a ledger.
    #[must_use]
    pub const fn new(uid: Uid, ledger: u32) -> AccountAddress {
        AccountAddress { uid, ledger, code: AccountAddress::CODE_USUAL }
    }
}

impl fmt::Display for AccountAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.uid, self.ledger, self.code)
    }
}

impl FromStr for AccountAddress {
    type Err = String;

    /// Parses `uid:ledger:code` or `uid:ledger`. The error says what would be right.
    fn from_str(text: &str) -> Result<AccountAddress, String> {
        let malformed = || {
            format!("{text:?} is no account; write uid:ledger or uid:ledger:code, such as 42:840")
        };
        let mut parts = text.split(':');
        let mut part = || parts.next();
        let (uid, ledger, code) = (part(), part(), part());
        if parts.next().is_some() {
            return Err(malformed());
        }
        let uid = number(uid.ok_or_else(malformed)?).ok_or_else(malformed)?;
        let ledger = number(ledger.ok_or_else(malformed)?).ok_or_else(malformed)?;
        let code = match code {
            None => AccountAddress::CODE_USUAL,
            Some(code) => number(code).ok_or_else(malformed)?,
        };
        Ok(AccountAddress { uid: Uid(uid), ledger, code })
    }
}

/// Digits only: `+1` would be another text for the same account.
fn number<T: FromStr>(digits: &str) -> Option<T> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

/// What an account allows. Given when it is created, changed by an [`AccountChange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountSettings {
    /// What the free balance never falls below; `None` for no floor. The default is 0.
    pub floor: Option<i64>,
    /// Nothing may be debited. A reservation made before may still be voided.
    pub no_debits: bool,
    /// Nothing may be credited.
    pub no_credits: bool,
    /// Every change of the balance is kept and can be listed.
    pub history: bool,
}

impl Default for AccountSettings {
    fn default() -> AccountSettings {
        AccountSettings { floor: Some(0), no_debits: false, no_credits: false, history: false }
    }
}

/// New settings of an account; `None` leaves one as it is. Doing it twice is doing it once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// The new floor; `Some(None)` takes the floor away.
    pub floor: Option<Option<i64>>,
    /// Whether debits are refused.
    pub no_debits: Option<bool>,
    /// Whether credits are refused.
    pub no_credits: Option<bool>,
    /// Whether changes of the balance are kept from now on.
    pub history: Option<bool>,
}

impl AccountChange {
    /// The settings after the change.
    #[must_use]
    pub fn of(&self, before: AccountSettings) -> AccountSettings {
        AccountSettings {
            floor: self.floor.unwrap_or(before.floor),
            no_debits: self.no_debits.unwrap_or(before.no_debits),
            no_credits: self.no_credits.unwrap_or(before.no_credits),
            history: self.history.unwrap_or(before.history),
        }
    }
}

/// An account as a reader sees it.
///
/// Invariant: `balance - reserved` is never below the floor, nor below the smallest 64-bit number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Which one.
    pub address: AccountAddress,
    /// What it allows.
    pub settings: AccountSettings,
    /// Credits minus debits.
    pub balance: i64,
    /// The sum of the pending debits that are open.
    pub reserved: u64,
    /// When it was created, in log time of its group.
    pub created: LogTime,
}

impl Account {
    /// What may still be debited before the floor is met is what lies between this and the floor.
    #[must_use]
    pub fn free(&self) -> i128 {
        i128::from(self.balance) - i128::from(self.reserved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_text_and_back() {
        // Goal: what is printed parses, the code may be left out, nothing else passes.
        let address = AccountAddress { uid: Uid(u64::MAX), ledger: u32::MAX, code: u16::MAX };
        assert_eq!(address.to_string().parse(), Ok(address));
        assert_eq!("42:840".parse(), Ok(AccountAddress::new(Uid(42), 840)));
        assert_eq!(AccountAddress::new(Uid(42), 840).to_string(), "42:840:1");
        let wrong = ["", "42", "42:", ":840", "42:840:", "42:840:1:1", "+42:840", "42:-1"];
        for text in wrong.into_iter().chain(["42:4294967296", "42:840:65536", "a:b", "42 :840"]) {
            let error = text.parse::<AccountAddress>().expect_err(text);
            assert!(error.contains("such as 42:840"), "{error}");
        }
    }

    #[test]
    fn a_change_leaves_the_rest_as_it_is() {
        // Goal: only what is named changes, and a floor can be taken away.
        let before = AccountSettings { no_credits: true, ..AccountSettings::default() };
        let change = AccountChange { floor: Some(None), ..AccountChange::default() };
        assert_eq!(change.of(before), AccountSettings { floor: None, ..before });
        assert_eq!(change.of(change.of(before)), change.of(before));
        assert_eq!(AccountChange::default().of(before), before);
    }
}
