//! Cuts: one moment of all groups, and what is read at it.

use std::fmt;

use bytes::Bytes;

use crate::command::ScanRange;
use crate::ids::{GroupId, Uid};
use crate::money::{Account, AccountAddress, TransferId, TransferRecord};
use crate::slot::Slot;
use crate::time::LogTime;

/// A cut through the logs of all groups: the slot of its `NewCut` entry in the log of the group with
/// the lowest id. Later cuts are greater; [`CutId::NONE`] is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CutId(pub u64);

impl CutId {
    /// No cut yet.
    pub const NONE: CutId = CutId(0);

    /// The cut that the `NewCut` entry at this slot makes.
    #[must_use]
    pub fn at(slot: Slot) -> CutId {
        CutId(slot.0)
    }
}

impl fmt::Display for CutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// What is read at a cut, page by page. A page has at most `SCAN_ROWS_MAX` records and ends before its
/// bytes exceed `SCAN_BYTES_MAX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CutRange {
    /// Every account of the group, in order of slice, user, ledger and code.
    Accounts {
        /// Start after this account: `next` of the previous page.
        after: Option<AccountAddress>,
        /// Most accounts of the page; 0 and everything above the limit mean the limit.
        limit: u32,
    },
    /// Rows, as a scan would find them.
    Rows(ScanRange),
    /// The transfers with an id, whomever they debit. There is no index by id: a page looks at the users
    /// of `CUT_LOOKS_MAX` accounts, in order of slice and user, and mostly finds nothing.
    Transfers {
        /// The id.
        id: TransferId,
        /// Start after this user: `next` of the previous page.
        after: Option<Uid>,
    },
    /// Every record of the group that a backup holds, in the order of their keys. Whoever reads so keeps
    /// the view for longer than others do.
    Records {
        /// Start after this key: `next` of the previous page.
        after: Option<Bytes>,
        /// Most bytes of the page, but at least one record; 0 and everything above the limit
        /// (`CUT_PAGE_BYTES`) mean the limit.
        bytes: u32,
    },
}

/// One page of accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountsPage {
    /// The accounts.
    pub accounts: Vec<Account>,
    /// Where the next page starts; `None` after the last one.
    pub next: Option<AccountAddress>,
}

/// One page of a search for transfers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundTransfers {
    /// Those that were found; each names the user it debits.
    pub transfers: Vec<TransferRecord>,
    /// Where the next page starts; `None` after the last one. A page that found nothing may have a next.
    pub next: Option<Uid>,
}

/// One page of the records that a backup holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordsPage {
    /// The records, in the layout of pages between nodes. No bytes: there are no more.
    pub records: Bytes,
    /// Where the next page starts: the key of the last record. `None` if the page is empty.
    pub next: Option<Bytes>,
    /// No record of the view is of a later entry of the group's log.
    pub upto: Slot,
    /// Log time of that entry: whoever goes on from these records must not begin before.
    pub log_time: LogTime,
}

/// The group whose log numbers the cuts: the one with the lowest id.
#[must_use]
pub fn cut_group(groups: impl IntoIterator<Item = GroupId>) -> Option<GroupId> {
    groups.into_iter().min()
}
