//! Where a group's rows live: all that evaluation knows of the topology.

use quorate_store::{Key, Keyspace};
use quorate_types::{RowAddress, SliceId, TableId, Uid};

use crate::entry::RowKey;

/// Where a group's rows live. Constant while the group leads.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Group and incarnation.
    pub keyspace: Keyspace,
    /// The slice of a row: by UID, or `SliceId::UNSHARDED` for `home` and `global` tables.
    pub slice_of: &'a dyn Fn(TableId, Uid) -> SliceId,
}

impl Context<'_> {
    /// The store key of a row.
    #[must_use]
    pub fn key(&self, at: &RowAddress) -> Key {
        self.keyspace.row((self.slice_of)(at.table, at.uid), at.table, at.uid, &at.key)
    }

    pub(crate) fn row_key(&self, at: &RowAddress) -> RowKey {
        let slice = (self.slice_of)(at.table, at.uid);
        RowKey { slice, table: at.table, uid: at.uid, key: at.key.clone() }
    }
}
