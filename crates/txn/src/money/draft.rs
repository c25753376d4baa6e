//! What a batch leaves behind, before it is known at which slot and log time: the leader puts it on
//! the overlay when the entry has its slot, every replica into the store when it is applied.
//!
//! Made by `books.rs`. The log time of an entry is known only when it is applied: on the overlay the
//! records of what is in flight carry another one, which no decision looks at.

use bytes::BytesMut;
use quorate_store::{Change, Keyspace};
use quorate_types::{Account, HistoryPosition, LogTime, SliceId, Slot, TransferBatch};

use super::books::{HistoryChange, HoldKey, HoldNow};
use super::holds::HoldTable;
use super::record::{
    TRANSFER_RECORD_MAX, encode_account, encode_closed_hold, encode_history, encode_open_hold,
    put_transfer,
};

/// A transfer that takes effect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Created {
    /// Which one of the batch.
    pub(super) index: usize,
    /// The slice of its debit account.
    pub(super) slice: SliceId,
    /// What it moves, reserves or releases.
    pub(super) amount: u64,
}

/// A hold that changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct HoldChange {
    pub(super) key: HoldKey,
    pub(super) before: HoldNow,
    pub(super) now: HoldNow,
}

/// Rows as an entry leaves them.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    keyspace: Keyspace,
    /// In the order of their keys, like everything here.
    accounts: Vec<(SliceId, Account)>,
    batch: TransferBatch,
    created: Vec<Created>,
    holds: Vec<HoldChange>,
    history: Vec<HistoryChange>,
    /// The slot that the transfers name, if it is not that of the entry.
    voted_at: Option<Slot>,
}

impl Draft {
    pub(super) fn new(
        keyspace: Keyspace,
        accounts: Vec<(SliceId, Account)>,
        holds: Vec<HoldChange>,
        mut history: Vec<HistoryChange>,
    ) -> Draft {
        history.sort_unstable_by_key(|change| (change.slice, change.account, change.index));
        let (batch, created) = (TransferBatch::default(), Vec::new());
        Draft { keyspace, accounts, batch, created, holds, history, voted_at: None }
    }

    /// The same with the transfers of a batch that take effect, in the order of their keys.
    pub(super) fn with_transfers(self, batch: TransferBatch, created: Vec<Created>) -> Draft {
        Draft { batch, created, ..self }
    }

    /// The same with transfers that name the slot of the vote, which was told to who asked for them.
    pub(super) fn voted_at(self, slot: Slot) -> Draft {
        Draft { voted_at: Some(slot), ..self }
    }

    /// The account, where there is only one.
    pub(super) fn account(&self) -> Option<Account> {
        self.accounts.first().map(|(_, account)| *account)
    }

    /// The changes of an entry at this slot and log time, in the order of their keys.
    pub(crate) fn changes(&self, slot: Slot, log_time: LogTime) -> Vec<Change> {
        let count = self.accounts.len() + self.created.len() + 2 * self.holds.len();
        let mut changes = Vec::with_capacity(count + self.history.len());
        for (slice, account) in &self.accounts {
            let key = self.keyspace.account(*slice, account.address);
            changes.push(Change { key, value: Some(encode_account(account, slot)) });
        }
        self.put_transfers(self.voted_at.unwrap_or(slot), log_time, &mut changes);
        for HoldChange { key: HoldKey { slice, debit, pending }, now, .. } in &self.holds {
            let key = self.keyspace.open_hold(*slice, *debit, *pending);
            let value = match now {
                HoldNow::Open(hold) => Some(encode_open_hold(hold, log_time)),
                HoldNow::Closed(_) | HoldNow::Missing => None,
            };
            changes.push(Change { key, value });
        }
        for HoldChange { key: HoldKey { slice, debit, pending }, now, .. } in &self.holds {
            if let HoldNow::Closed(closed) = now {
                let key = self.keyspace.closed_hold(*slice, *debit, *pending);
                changes.push(Change { key, value: Some(encode_closed_hold(closed)) });
            }
        }
        for HistoryChange { slice, account, index, record } in &self.history {
            let at = HistoryPosition { slot, index: *index };
            let key = self.keyspace.history(*slice, *account, at);
            changes.push(Change { key, value: Some(encode_history(record)) });
        }
        changes
    }

    /// The transfers share one buffer: they are never changed, so they live and go together.
    fn put_transfers(&self, slot: Slot, log_time: LogTime, changes: &mut Vec<Change>) {
        let mut out = BytesMut::with_capacity(self.created.len() * TRANSFER_RECORD_MAX);
        let mut ends = Vec::with_capacity(self.created.len());
        let transfer = |created: &Created| {
            self.batch.get(created.index).expect("it was decided by its place in the batch")
        };
        for created in &self.created {
            put_transfer(&mut out, &transfer(created), created.amount, slot, log_time);
            ends.push(out.len());
        }
        let bytes = bytes::Bytes::copy_from_slice(&out);
        let mut start = 0;
        for (created, end) in self.created.iter().zip(ends) {
            let of = transfer(created);
            let key = self.keyspace.transfer(created.slice, of.debit.uid, of.id);
            changes.push(Change { key, value: Some(bytes.slice(start..end)) });
            start = end;
        }
    }

    /// How many holds it opens.
    pub(crate) fn holds_opened(&self) -> usize {
        let is_open = |hold: &HoldNow| matches!(hold, HoldNow::Open(_));
        self.holds.iter().filter(|it| is_open(&it.now) && !is_open(&it.before)).count()
    }

    /// Tells the table which holds were opened and closed by an entry of this log time.
    pub(crate) fn note_holds(&self, log_time: LogTime, table: &mut HoldTable) {
        for HoldChange { key, before, now } in &self.holds {
            if let HoldNow::Open(hold) = before {
                table.close(*key, hold.expiry.at(log_time));
            }
            if let HoldNow::Open(hold) = now {
                table.open(*key, hold.expiry.at(log_time));
            }
        }
    }
}
