//! What a client asks of a group and what it is told: the model behind the wire and the log.

use bytes::Bytes;

use crate::code::Error;
use crate::cut::{AccountsPage, CutId, CutRange, FoundTransfers, RecordsPage};
use crate::ids::{SessionId, TableId, Uid};
use crate::many::{FoundRows, WantedRow};
use crate::money::{
    Account, AccountAddress, AccountChange, AccountSettings, HistoryPage, HistoryPosition,
    TransferBatch, TransferId, TransferRecord, TransferResults,
};
use crate::slot::EntryId;

/// A value of a row: opaque bytes, or an integer that transactions may add to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Bytes the database never looks into.
    Bytes(Bytes),
    /// A signed 64-bit integer.
    Integer(i64),
}

impl Value {
    /// The size that counts against limits, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Value::Bytes(bytes) => bytes.len(),
            Value::Integer(_) => 8,
        }
    }
}

/// Where a row lives for a client: table, user, key. Rows of `home` and `global` tables use UID 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowAddress {
    /// The table.
    pub table: TableId,
    /// The user the row belongs to.
    pub uid: Uid,
    /// The key within table and user; at most `KEY_BYTES_MAX`.
    pub key: Bytes,
}

/// What must hold for a transaction to take effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The row exists.
    Exists(RowAddress),
    /// The row does not exist.
    Absent(RowAddress),
    /// The row exists and has this value.
    Equals(RowAddress, Value),
}

impl Condition {
    /// The row the condition looks at.
    #[must_use]
    pub fn address(&self) -> &RowAddress {
        match self {
            Condition::Exists(at) | Condition::Absent(at) | Condition::Equals(at, _) => at,
        }
    }
}

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Write the row, whether it exists or not.
    Put(RowAddress, Value),
    /// Remove the row; nothing happens if it does not exist.
    Delete(RowAddress),
    /// Add to an integer row; an absent row counts as 0. Refused if the sum would leave the bounds,
    /// leave 64 bits, or if the row holds bytes.
    Add {
        /// The row.
        at: RowAddress,
        /// What to add, may be negative.
        delta: i64,
        /// The smallest sum allowed, inclusive.
        floor: Option<i64>,
        /// The greatest sum allowed, inclusive.
        ceiling: Option<i64>,
    },
}

impl Mutation {
    /// The row the mutation changes.
    #[must_use]
    pub fn address(&self) -> &RowAddress {
        match self {
            Mutation::Put(at, _) | Mutation::Delete(at) | Mutation::Add { at, .. } => at,
        }
    }
}

/// An ordered scan over the keys of one user in one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRange {
    /// The table.
    pub table: TableId,
    /// The user; `None` walks every user of one slice given by `slice`.
    pub uid: Option<Uid>,
    /// The slice to walk when `uid` is `None`.
    pub slice: u16,
    /// Only keys with this prefix. Must be empty when `uid` is `None`.
    pub prefix: Bytes,
    /// Start after this row: the resume token of the previous page.
    pub after: Option<(Uid, Bytes)>,
    /// Most rows of the page; 0 and everything above `SCAN_ROWS_MAX` mean `SCAN_ROWS_MAX`.
    pub limit: u32,
}

/// A row found by a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedRow {
    /// The user the row belongs to.
    pub uid: Uid,
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Value,
}

/// One page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// Rows in order of UID, then key.
    pub rows: Vec<ScannedRow>,
    /// Where the next page starts; `None` when the scan is complete.
    pub next: Option<(Uid, Bytes)>,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// Open a session for writes. The reply carries its id.
    OpenSession,
    /// Close a session and drop its results.
    CloseSession(SessionId),
    /// Read one row, linearizable.
    Get(RowAddress),
    /// Read one page of rows, each page linearizable by itself.
    Scan(ScanRange),
    /// Change rows of one group under conditions, all or nothing. Put, delete and compare-and-set
    /// are transactions of one mutation. `reads` are rows whose values, as they were before the
    /// mutations, come back with the reply.
    Transact {
        /// All must hold.
        conditions: Vec<Condition>,
        /// Applied in order.
        mutations: Vec<Mutation>,
        /// Rows to return.
        reads: Vec<RowAddress>,
    },
    /// Create an account; nothing happens if it exists with these settings.
    CreateAccount(AccountAddress, AccountSettings),
    /// Change settings of an account.
    SetAccount(AccountAddress, AccountChange),
    /// Read an account, linearizable.
    GetAccount(AccountAddress),
    /// Carry out transfers between accounts of one group, each by itself, chains as a whole. No
    /// request id: the ids of the transfers make repetition harmless.
    Transfers(TransferBatch),
    /// Read a transfer by its id and the user it debits, linearizable.
    GetTransfer(Uid, TransferId),
    /// Read one page of an account's history, each page linearizable by itself.
    History {
        /// The account.
        account: AccountAddress,
        /// Start after this: `next` of the previous page.
        after: Option<HistoryPosition>,
        /// Most entries of the page; 0 and everything above `HISTORY_ENTRIES_MAX` mean that.
        limit: u32,
    },
    /// Make a cut. Goes to the group with the lowest id, whose leader keeps a view at it.
    NewCut,
    /// Make sure that this group keeps a view at a cut.
    PinCut(CutId),
    /// Read one page of the view at a cut.
    ReadCut(CutId, CutRange),
    /// The view at a cut is needed no more.
    UnpinCut(CutId),
    /// Read rows of this group at one moment, linearizable; of several groups, see `many.rs`.
    GetMany {
        /// The rows; at most `READ_ROWS_MAX`.
        rows: Vec<WantedRow>,
        /// The greatest cut in the answers of the round before. A group whose log has not passed it
        /// takes no row for known.
        cut: CutId,
    },
}

impl RequestBody {
    /// True if it changes nothing, whatever the answer.
    #[must_use]
    pub fn is_read(&self) -> bool {
        match self {
            RequestBody::Get(_)
            | RequestBody::Scan(_)
            | RequestBody::GetAccount(_)
            | RequestBody::GetTransfer(..)
            | RequestBody::History { .. }
            | RequestBody::PinCut(_)
            | RequestBody::ReadCut(..)
            | RequestBody::UnpinCut(_)
            | RequestBody::GetMany { .. } => true,
            RequestBody::NewCut
            | RequestBody::OpenSession
            | RequestBody::CloseSession(_)
            | RequestBody::Transact { .. }
            | RequestBody::CreateAccount(..)
            | RequestBody::SetAccount(..)
            | RequestBody::Transfers(_) => false,
        }
    }

    /// True if any replica may answer it: see [`Elsewhere`](crate::Elsewhere).
    #[must_use]
    pub fn is_readable_elsewhere(&self) -> bool {
        matches!(
            self,
            RequestBody::Get(_)
                | RequestBody::Scan(_)
                | RequestBody::GetAccount(_)
                | RequestBody::GetTransfer(..)
                | RequestBody::History { .. }
        )
    }

    /// True if it may be repeated without a request id: it changes what it finds to what it says,
    /// carries ids of its own, or changes nothing that anybody sees.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        matches!(
            self,
            RequestBody::CreateAccount(..)
                | RequestBody::SetAccount(..)
                | RequestBody::Transfers(_)
                | RequestBody::NewCut
        )
    }
}

/// The identity of a write: retried under the same id it takes effect once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// The session, opened in the group the request goes to.
    pub session: SessionId,
    /// Number of the request in its session, from 1.
    pub sequence: u64,
    /// Every request of the session below this number has been answered; results below are dropped.
    pub lowest_unanswered: u64,
}

/// A request to one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Identity of a write; `None` for reads and for writes whose caller accepts an unknown outcome.
    pub id: Option<RequestId>,
    /// What is asked.
    pub body: RequestBody,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It took effect, durably, exactly once.
    Applied(T),
    /// It did not and will not take effect; the error says why.
    NotApplied(Error),
    /// Nobody answered for certain. Asking again under the same request id settles it.
    Unknown(Error),
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyBody {
    /// The session that was opened.
    Session(SessionId),
    /// The session is closed.
    SessionClosed,
    /// The row, if it exists.
    Row(Option<Value>),
    /// A page of rows.
    Page(ScanPage),
    /// The transaction took effect.
    Committed {
        /// The rows asked for in `reads`, as they were before.
        reads: Vec<Option<Value>>,
        /// The new values of `Add` mutations, in order.
        sums: Vec<i64>,
    },
    /// The account as it is now; `None` if it does not exist.
    Account(Option<Account>),
    /// What became of each transfer.
    Transfers(TransferResults),
    /// The transfer, if it took effect.
    Transfer(Option<Box<TransferRecord>>),
    /// A page of an account's history.
    History(HistoryPage),
    /// The cut that was made, is kept a view of, or is so no more.
    Cut(CutId),
    /// A page of the accounts at a cut.
    Accounts(AccountsPage),
    /// A page of a search for transfers at a cut.
    FoundTransfers(FoundTransfers),
    /// A page of the records at a cut that a backup holds.
    Records(RecordsPage),
    /// The rows of a read of many.
    Rows(FoundRows),
}

/// A positive answer with the position it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The entry that carried the write, or the last applied one a read has seen.
    pub at: EntryId,
    /// True if a write was answered from its session: an earlier attempt had taken effect.
    pub replayed: bool,
    /// The answer.
    pub body: ReplyBody,
}
