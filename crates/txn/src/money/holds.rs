//! Which open holds end when: what the leader looks at to propose their expiry.
//!
//! Kept beside the sessions, changed only by applying entries, and so equal on every replica. Only
//! holds with a time-out are here. A replica that starts reads them from the records of open holds.

use std::collections::BTreeSet;

use quorate_store::keys::parse_open_hold;
use quorate_store::{Keyspace, StoreError, View};
use quorate_types::LogTime;

use super::books::HoldKey;
use super::record::{Expiry, decode_open_hold};
use crate::record::damaged;
use crate::session::for_each_record;

/// The open holds of a group that have a time-out, by the log time at which they may be expired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HoldTable(BTreeSet<(LogTime, HoldKey)>);

impl HoldTable {
    /// The table as the records of a view say.
    pub(crate) fn load(view: &dyn View, keyspace: Keyspace) -> Result<HoldTable, StoreError> {
        let mut table = HoldTable::default();
        for_each_record(view, &keyspace.open_hold_prefix(), |key, bytes| {
            let (slice, debit, pending) =
                parse_open_hold(key).ok_or_else(|| damaged(key, &"it is no key of a hold"))?;
            let hold = decode_open_hold(key, debit, bytes)?;
            if let Expiry::At(at) = hold.expiry {
                table.open(HoldKey { slice, debit, pending }, Some(at));
            }
            Ok(())
        })?;
        Ok(table)
    }

    /// A hold was opened.
    pub(super) fn open(&mut self, key: HoldKey, expires: Option<LogTime>) {
        if let Some(expires) = expires {
            self.0.insert((expires, key));
        }
    }

    /// A hold was closed.
    pub(super) fn close(&mut self, key: HoldKey, expires: Option<LogTime>) {
        if let Some(expires) = expires {
            self.0.remove(&(expires, key));
        }
    }

    /// Holds whose time is over, the longest over first.
    pub(super) fn expired(&self, now: LogTime) -> impl Iterator<Item = HoldKey> + '_ {
        self.0.iter().take_while(move |(expires, _)| *expires <= now).map(|(_, key)| *key)
    }
}
