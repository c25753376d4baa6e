//! Transfers: one movement of money between two accounts, and what is told about it.

use std::fmt;
use std::str::FromStr;

use super::account::AccountAddress;
use super::verdict::Verdict;
use crate::ids::Uid;
use crate::limits::TRANSFER_AMOUNT_MAX;
use crate::slot::Slot;
use crate::time::LogTime;

/// The id of a transfer, chosen by the caller: never 0, unique for ever among the transfers that
/// debit one user. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub u128);

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for TransferId {
    type Err = String;

    /// Parses 1 to 32 hexadecimal digits, not all of them 0; dashes, as in a UUID, are ignored.
    fn from_str(text: &str) -> Result<TransferId, String> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u128::from_str_radix(&digits, 16) {
            Ok(id) if is_hex && digits.len() <= 32 && id != 0 => Ok(TransferId(id)),
            _ => Err(format!(
                "{text:?} is no transfer id; write 1 to 32 hexadecimal digits, not all of them 0"
            )),
        }
    }
}

/// What a transfer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferKind {
    /// Moves the amount at once.
    Post,
    /// Reserves the amount on the debit side. The credit account is not touched, nor looked at.
    Pending {
        /// The reservation ends after this much log time, in ms; 0 for never.
        timeout_ms: u32,
    },
    /// Moves what a pending transfer has reserved: the amount, or all of it if the amount is 0. What
    /// is left is released.
    PostPending(TransferId),
    /// Releases what a pending transfer has reserved. The amount is 0.
    VoidPending(TransferId),
}

impl TransferKind {
    /// The pending transfer it ends.
    #[must_use]
    pub fn ends(self) -> Option<TransferId> {
        match self {
            TransferKind::Post | TransferKind::Pending { .. } => None,
            TransferKind::PostPending(pending) | TransferKind::VoidPending(pending) => {
                Some(pending)
            }
        }
    }

    /// True if the credit account is given something. The others touch the debit account alone.
    #[must_use]
    pub fn gives(self) -> bool {
        matches!(self, TransferKind::Post | TransferKind::PostPending(_))
    }

    /// The name in documents and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TransferKind::Post => "post",
            TransferKind::Pending { .. } => "pending",
            TransferKind::PostPending(_) => "post_pending",
            TransferKind::VoidPending(_) => "void_pending",
        }
    }
}

/// A transfer as it is asked for.
///
/// ```
/// use quorate_types::{AccountAddress, Invalid, Transfer, TransferId, Uid};
///
/// let (payer, shop) = (AccountAddress::new(Uid(42), 840), AccountAddress::new(Uid(7), 840));
/// let transfer = Transfer::post(TransferId(1), payer, shop, 250);
/// assert_eq!(transfer.check(), Ok(()));
/// assert_eq!(Transfer { amount: 0, ..transfer }.check(), Err(Invalid::NoAmount));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Who it is. A retry under the same id with the same content does nothing.
    pub id: TransferId,
    /// What it does.
    pub kind: TransferKind,
    /// Where the money comes from. Post and void of a pending transfer name its account.
    pub debit: AccountAddress,
    /// Where it goes. Of the same ledger, and another account.
    pub credit: AccountAddress,
    /// How much, in the smallest unit of the ledger; at most `TRANSFER_AMOUNT_MAX`.
    pub amount: u64,
    /// Anything the caller wants to find again.
    pub user_data: u128,
    /// It stands or falls with the next one of its batch.
    pub linked: bool,
}

impl Transfer {
    /// Moves an amount at once.
    #[must_use]
    pub fn post(
        id: TransferId,
        debit: AccountAddress,
        credit: AccountAddress,
        amount: u64,
    ) -> Transfer {
        Transfer {
            id,
            kind: TransferKind::Post,
            debit,
            credit,
            amount,
            user_data: 0,
            linked: false,
        }
    }

    /// Reserves an amount, for `timeout_ms` of log time, or until it is posted or voided if that is 0.
    #[must_use]
    pub fn pending(
        id: TransferId,
        debit: AccountAddress,
        credit: AccountAddress,
        amount: u64,
        timeout_ms: u32,
    ) -> Transfer {
        let kind = TransferKind::Pending { timeout_ms };
        Transfer { kind, ..Transfer::post(id, debit, credit, amount) }
    }

    /// Moves what a pending transfer between these accounts has reserved: `amount`, or all if 0.
    #[must_use]
    pub fn post_pending(
        id: TransferId,
        pending: TransferId,
        debit: AccountAddress,
        credit: AccountAddress,
        amount: u64,
    ) -> Transfer {
        let kind = TransferKind::PostPending(pending);
        Transfer { kind, ..Transfer::post(id, debit, credit, amount) }
    }

    /// Releases what a pending transfer between these accounts has reserved.
    #[must_use]
    pub fn void_pending(
        id: TransferId,
        pending: TransferId,
        debit: AccountAddress,
        credit: AccountAddress,
    ) -> Transfer {
        let kind = TransferKind::VoidPending(pending);
        Transfer { kind, ..Transfer::post(id, debit, credit, 0) }
    }

    /// Whether it makes sense by itself, whatever the accounts hold.
    ///
    /// # Errors
    /// What is wrong; its verdict is then [`Verdict::Invalid`].
    pub fn check(&self) -> Result<(), Invalid> {
        let is_amount_free = match self.kind {
            TransferKind::Post | TransferKind::Pending { .. } => false,
            TransferKind::PostPending(_) => true,
            TransferKind::VoidPending(_) if self.amount != 0 => return Err(Invalid::VoidAmount),
            TransferKind::VoidPending(_) => true,
        };
        if self.id.0 == 0 {
            return Err(Invalid::NoId);
        }
        if self.debit.ledger != self.credit.ledger {
            return Err(Invalid::TwoLedgers);
        }
        if self.debit == self.credit {
            return Err(Invalid::OneAccount);
        }
        if self.amount == 0 && !is_amount_free {
            return Err(Invalid::NoAmount);
        }
        if TRANSFER_AMOUNT_MAX < self.amount {
            return Err(Invalid::AmountTooLarge);
        }
        match self.kind.ends() {
            Some(TransferId(0)) => Err(Invalid::NoPendingId),
            Some(pending) if pending == self.id => Err(Invalid::EndsItself),
            Some(_) | None => Ok(()),
        }
    }
}

/// How a transfer contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The id is 0.
    NoId,
    /// The accounts belong to two ledgers.
    TwoLedgers,
    /// Debit and credit account are the same.
    OneAccount,
    /// The amount is 0.
    NoAmount,
    /// The amount is above `TRANSFER_AMOUNT_MAX`.
    AmountTooLarge,
    /// A void names an amount.
    VoidAmount,
    /// The id of the pending transfer is 0.
    NoPendingId,
    /// It is to end the pending transfer that it is itself.
    EndsItself,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Invalid::NoId => "the id is 0",
            Invalid::TwoLedgers => "the accounts belong to two ledgers",
            Invalid::OneAccount => "debit and credit account are the same",
            Invalid::NoAmount => "the amount is 0",
            Invalid::AmountTooLarge => "the amount is above 9,223,372,036,854,775,807",
            Invalid::VoidAmount => "a void names an amount",
            Invalid::NoPendingId => "the id of the pending transfer is 0",
            Invalid::EndsItself => "it names itself as the pending transfer",
        })
    }
}

impl std::error::Error for Invalid {}

/// How a pending transfer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The amount is reserved.
    Open {
        /// The log time at which it may be expired; `None` for never.
        expires: Option<LogTime>,
    },
    /// An amount was moved, the rest released.
    Posted {
        /// What was moved.
        amount: u64,
        /// The transfer that did it.
        by: TransferId,
    },
    /// The amount was released.
    Voided {
        /// The transfer that did it.
        by: TransferId,
    },
    /// Its time was over, and the amount was released.
    Expired,
}

/// A transfer that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferRecord {
    /// What was asked.
    pub transfer: Transfer,
    /// What was moved, reserved or released.
    pub amount: u64,
    /// The slot of the entry that carried it, in the log of the group of its debit account.
    pub slot: Slot,
    /// The log time of that entry.
    pub created: LogTime,
    /// How it stands, if it is a pending one.
    pub hold: Option<Hold>,
}

/// More about one transfer of a batch that stands: of one that had taken effect before, and of one
/// that ended a pending transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferDetail {
    /// Which transfer of the batch, from 0.
    pub index: u32,
    /// The slot of the entry that carried it.
    pub slot: Slot,
    /// What was moved, reserved or released.
    pub amount: u64,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferResults {
    /// One for each transfer, in the order of the batch.
    pub verdicts: Vec<Verdict>,
    /// In the order of the batch.
    pub details: Vec<TransferDetail>,
}

/// Where in the history of an account one stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryPosition {
    /// The slot of the entry that changed the balance.
    pub slot: Slot,
    /// Which transfer of its batch did, from 0.
    pub index: u16,
}

/// One change of the balance of an account that keeps its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Where it stands.
    pub at: HistoryPosition,
    /// What was added; negative for a debit.
    pub delta: i64,
    /// The balance afterwards.
    pub balance: i64,
    /// The transfer.
    pub transfer: TransferId,
    /// The user it debits: together with the id it names the transfer.
    pub debit: Uid,
}

/// One page of a history, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// The changes.
    pub entries: Vec<HistoryEntry>,
    /// Give this as `after` for the next page; `None` when the history is complete.
    pub next: Option<HistoryPosition>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(uid: u64, ledger: u32) -> AccountAddress {
        AccountAddress::new(Uid(uid), ledger)
    }

    #[test]
    fn ids_survive_text_and_back() {
        // Goal: short ids may be typed, long ones are printed whole, nothing else passes.
        let id = TransferId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("01234567-89ab-cdef-0011-223344556677".parse(), Ok(id));
        assert_eq!("ff".parse(), Ok(TransferId(255)));
        for text in ["", "0", "00", "g", "+1", "-", &"1".repeat(33)] {
            assert!(text.parse::<TransferId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_contradiction_has_its_name() {
        // Goal: a transfer that makes sense passes, every other one is told what is wrong.
        let (id, other) = (TransferId(1), TransferId(2));
        let (a, b) = (account(1, 840), account(2, 840));
        let post = Transfer::post(id, a, b, 5);
        let cases = [
            (post, Ok(())),
            (Transfer::post(id, a, account(1, 841), 5), Err(Invalid::TwoLedgers)),
            (Transfer::post(id, a, AccountAddress { code: 2, ..a }, 5), Ok(())),
            (Transfer::post(id, a, a, 5), Err(Invalid::OneAccount)),
            (Transfer::post(id, a, b, 0), Err(Invalid::NoAmount)),
            (Transfer::post(id, a, b, TRANSFER_AMOUNT_MAX), Ok(())),
            (Transfer::post(id, a, b, TRANSFER_AMOUNT_MAX + 1), Err(Invalid::AmountTooLarge)),
            (Transfer::post(TransferId(0), a, b, 5), Err(Invalid::NoId)),
            (Transfer::pending(id, a, b, 0, 5), Err(Invalid::NoAmount)),
            (Transfer::pending(id, a, b, 1, 0), Ok(())),
            (Transfer::post_pending(id, other, a, b, 0), Ok(())),
            (Transfer::post_pending(id, TransferId(0), a, b, 0), Err(Invalid::NoPendingId)),
            (Transfer::post_pending(id, id, a, b, 0), Err(Invalid::EndsItself)),
            (Transfer::void_pending(id, other, a, b), Ok(())),
            (
                Transfer { amount: 1, ..Transfer::void_pending(id, other, a, b) },
                Err(Invalid::VoidAmount),
            ),
        ];
        for (transfer, want) in cases {
            assert_eq!(transfer.check(), want, "{transfer:?}");
        }
    }
}
