//! Which open holds end when: what the leader looks at to propose their expiry.
//!
//! Kept beside the sessions, changed only by applying entries, and so equal on every replica. Holds with
//! a time-out are here one by one, the others are counted. A replica that starts reads them from the
//! records of open holds.

use std::collections::BTreeSet;

use quorate_store::keys::parse_open_hold;
use quorate_store::{Keyspace, StoreError, View};
use quorate_types::LogTime;

use super::books::HoldKey;
use super::record::decode_open_hold;
use crate::record::damaged;
use crate::session::for_each_record;

/// The open holds of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HoldTable {
    /// Those that have a time-out, by the log time at which they may be expired.
    timed: BTreeSet<(LogTime, HoldKey)>,
    /// How many there are. Invariant: those in `timed`, and those without a time-out.
    open: usize,
}

impl HoldTable {
    /// The table as the records of a view say.
    pub(crate) fn load(view: &dyn View, keyspace: Keyspace) -> Result<HoldTable, StoreError> {
        let mut table = HoldTable::default();
        for_each_record(view, &keyspace.open_hold_prefix(), |key, bytes| {
            let (slice, debit, pending) =
                parse_open_hold(key).ok_or_else(|| damaged(key, &"it is no key of a hold"))?;
            let hold = decode_open_hold(key, debit, bytes)?;
            // A record says when, not after how long.
            let expires = hold.expiry.at(LogTime::default());
            table.open(HoldKey { slice, debit, pending }, expires);
            Ok(())
        })?;
        Ok(table)
    }

    /// How many holds are open.
    pub(crate) fn len(&self) -> usize {
        self.open
    }

    /// A hold was opened.
    pub(super) fn open(&mut self, key: HoldKey, expires: Option<LogTime>) {
        self.open += 1;
        if let Some(expires) = expires {
            self.timed.insert((expires, key));
        }
    }

    /// A hold was closed.
    pub(super) fn close(&mut self, key: HoldKey, expires: Option<LogTime>) {
        self.open -= 1;
        if let Some(expires) = expires {
            self.timed.remove(&(expires, key));
        }
    }

    /// Holds whose time is over, the longest over first.
    pub(super) fn expired(&self, now: LogTime) -> impl Iterator<Item = HoldKey> + '_ {
        self.timed.iter().take_while(move |(expires, _)| *expires <= now).map(|(_, key)| *key)
    }
}

#[cfg(test)]
#[path = "holds_test.rs"]
mod tests;
