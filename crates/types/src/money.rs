//! Accounts and transfers: the words of money, their texts and the layout in which transfers travel.
//!
//! Used by every crate on the data path: `quorate-txn` decides transfers, `quorate-proto` carries
//! them, clients make them. Amounts are whole numbers of the smallest unit of a ledger; there are no
//! fractions and no exchange between ledgers.

mod account;
mod batch;
mod transfer;
mod verdict;

pub use account::{Account, AccountAddress, AccountChange, AccountSettings};
pub use batch::{BatchError, TRANSFER_BYTES, TransferBatch};
pub use transfer::{
    HistoryEntry, HistoryPage, HistoryPosition, Hold, Invalid, Transfer, TransferDetail,
    TransferId, TransferKind, TransferRecord, TransferResults,
};
pub use verdict::Verdict;
