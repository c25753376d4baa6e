//! The seam between who reads records and who keeps them.

use bytes::Bytes;

use crate::error::StoreError;
use crate::key::Key;

/// Records as of one moment. Implemented by the store (everything applied) and by an overlay of
/// uncommitted effects on top of it.
pub trait View {
    /// The value of `key`, if the record exists.
    ///
    /// # Errors
    /// `StoreError` if the engine could not read.
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError>;

    /// The values of many records, in the order of `keys`. For whoever looks for what is mostly not there:
    /// some views take as long for one answer as for all of them.
    ///
    /// # Errors
    /// `StoreError` if the engine could not read.
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Records with `from <= key < end` in key order, at most `limit`.
    ///
    /// # Errors
    /// `StoreError` if the engine could not read.
    fn scan(&self, from: &Key, end: &Key, limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError>;
}

/// One change to a record: its new value, or `None` to remove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The record.
    pub key: Key,
    /// Its new value; `None` removes it.
    pub value: Option<Bytes>,
}
