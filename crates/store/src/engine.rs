//! What the store asks of the thing that keeps records beneath the row table.
//!
//! Implemented by RocksDB (`engine/rocks.rs`, not in a simulation build) and by a twin in memory
//! (`engine/twin.rs`). Called by `store.rs` only.

#[cfg(not(madsim))]
pub mod rocks;
pub mod twin;

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_types::{GroupId, Slot};

use crate::error::StoreError;
use crate::key::Key;

/// One checkpoint: every record changed since the one before, once, with the applied positions that
/// belong to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointBatch {
    /// The newest value of every changed record in key order; `None` removes it.
    pub records: BTreeMap<Key, Option<Bytes>>,
    /// Where each group that moved stands after these records.
    pub applied: BTreeMap<GroupId, Slot>,
    /// Roughly how much memory `records` takes.
    pub bytes: usize,
}

/// How much an engine holds. Estimates, for people and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Bytes of memory for write buffers, caches and indexes.
    pub memory_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Records.
    pub records: u64,
}

/// Keeps records and applied positions, and after a crash still has a prefix of the batches written,
/// whole ones only, at least up to everything it reported as persisted.
///
/// Batches come from one writer at a time. Reads may come from any thread, also during a write, and
/// see each batch whole or not at all.
pub trait Engine: Send + Sync + 'static {
    /// The value of `key`, as of the last write.
    ///
    /// # Errors
    /// `StoreError` if it cannot be read or its checksum is wrong.
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError>;

    /// Records with `from <= key < end` in key order, at most `limit`, all as of one moment.
    ///
    /// # Errors
    /// `StoreError` if they cannot be read or a checksum is wrong.
    fn scan(&self, from: &Key, end: &Key, limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError>;

    /// Writes records and positions as one atomic step. Not persistent until a flush. Writing the
    /// same batch twice in a row is the same as once.
    ///
    /// # Errors
    /// `StoreError` if the engine refuses.
    fn write(&self, batch: &CheckpointBatch) -> Result<(), StoreError>;

    /// Makes everything written so far persistent before it returns.
    ///
    /// # Errors
    /// `StoreError` if it cannot be written.
    fn flush(&self) -> Result<(), StoreError>;

    /// The group's position as of the last write; slot 0 before the first.
    ///
    /// # Errors
    /// `StoreError` if it cannot be read.
    fn applied(&self, group: GroupId) -> Result<Slot, StoreError>;

    /// The group's position as a crash right now would leave it, or an earlier one. Never goes back.
    ///
    /// # Errors
    /// `StoreError` if it cannot be read.
    fn persisted(&self, group: GroupId) -> Result<Slot, StoreError>;

    /// How much the engine holds.
    fn stats(&self) -> EngineStats;
}
