//! What the store asks of the thing that keeps records beneath the row table.
//!
//! Implemented by RocksDB (`engine/rocks.rs`, not in a simulation build) and by a twin in memory
//! (`engine/twin.rs`). Called by `store.rs` only.

#[cfg(all(not(madsim), feature = "rocks"))]
pub mod rocks;
#[cfg(all(not(madsim), feature = "rocks"))]
mod rocks_run;
#[cfg(all(not(madsim), feature = "rocks"))]
mod rocks_snapshot;
pub mod twin;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use quorate_types::{GroupId, Slot};

use crate::error::StoreError;
use crate::key::Key;

/// Changed records in key order; `None` removes one.
pub type Records = BTreeMap<Key, Option<Bytes>>;

/// One checkpoint: every record changed since the one before, with the applied positions that belong
/// to it. Each record once, unless a view was pinned since: it shares what had changed before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointBatch {
    /// The newest changes.
    pub records: Records,
    /// Changes before those, oldest first; newer ones win.
    pub older: Vec<Arc<Records>>,
    /// Where each group that moved stands after these records.
    pub applied: BTreeMap<GroupId, Slot>,
    /// Roughly how much memory all these records take.
    pub bytes: usize,
}

impl CheckpointBatch {
    /// Its layers, the newest first.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Records> {
        std::iter::once(&self.records).chain(self.older.iter().rev().map(Arc::as_ref))
    }

    /// What it says of a record: `None` for nothing, `Some(None)` that it is removed.
    pub(crate) fn get(&self, key: &Key) -> Option<&Option<Bytes>> {
        self.layers().find_map(|records| records.get(key))
    }
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
    /// Bytes that compactions will have to rewrite as things are. If it keeps rising, they are too slow for what is
    /// written.
    pub compaction_pending_bytes: u64,
}

/// Keeps records and applied positions, and after a crash still has a prefix of the batches written,
/// whole ones only, at least up to everything it reported as persisted.
///
/// Writes come from one writer at a time. Reads may come from any thread, also during a write, and
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

    /// Removes the records with `from <= key < end`: a write like any other, but of what it removes a
    /// part may be gone for good at once, even if a crash takes the writes before. So first whatever says
    /// that these records count must be gone persistently. Snapshots keep them.
    ///
    /// # Errors
    /// `StoreError` if the engine refuses.
    fn remove_range(&self, from: &Key, end: &Key) -> Result<(), StoreError>;

    /// Gives the disk back what removed records with `from <= key < end` still take. May take long, and may run beside
    /// writes. In memory there is nothing to do.
    ///
    /// # Errors
    /// `StoreError` if the engine refuses.
    fn reclaim(&self, _from: &Key, _end: &Key) -> Result<(), StoreError> {
        Ok(())
    }

    /// Begins a run: many records that come from elsewhere and go to where nothing is yet. They need not go through
    /// memory, nor be written again to be sorted: they come in order.
    ///
    /// # Errors
    /// `StoreError` if the engine refuses.
    fn begin_run(&self) -> Result<Box<dyn EngineRun>, StoreError>;

    /// The bytes of records that one run is to have.
    fn run_bytes(&self) -> usize;

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

    /// The group's position as a crash right now would leave it, or an earlier one. Never goes back, but to 0 when all
    /// that there is of the group is given up.
    ///
    /// # Errors
    /// `StoreError` if it cannot be read.
    fn persisted(&self, group: GroupId) -> Result<Slot, StoreError>;

    /// Keeps everything as of the last write readable, whatever is written afterwards. Cheap to make;
    /// while it lives, what is overwritten takes room on the disk.
    ///
    /// # Errors
    /// `StoreError` if the engine refuses.
    fn snapshot(&self) -> Result<Arc<dyn EngineSnapshot>, StoreError>;

    /// Roughly how many bytes the records with `from <= key < end` take.
    fn bytes_in(&self, from: &Key, end: &Key) -> u64;

    /// How much the engine holds.
    fn stats(&self) -> EngineStats;
}

/// Records on their way into an engine. Dropped before its end, it leaves nothing.
pub trait EngineRun: Send {
    /// Takes a record whose key is above those before.
    ///
    /// # Errors
    /// `StoreError` if the engine refuses; the run is of no use then.
    fn add(&mut self, key: &Key, value: &[u8]) -> Result<(), StoreError>;

    /// Makes its records those of the engine, over what was there. They are persistent when this returns, also if
    /// writes that came before are not; but of those that are about a key between its first and its last, none is lost
    /// then. To be called by the writer of the engine. Of an empty run, nothing.
    ///
    /// # Errors
    /// `StoreError` if the engine refuses. All of its records are there then, or none.
    fn end(self: Box<Self>) -> Result<(), StoreError>;
}

/// An engine as it was at one moment.
pub trait EngineSnapshot: Send + Sync {
    /// The value of `key` then.
    ///
    /// # Errors
    /// `StoreError` if it cannot be read or its checksum is wrong.
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError>;

    /// The values of many records then, in the order of `keys`.
    ///
    /// # Errors
    /// `StoreError` if one cannot be read or its checksum is wrong.
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Records with `from <= key < end` then, in key order, at most `limit`.
    ///
    /// # Errors
    /// `StoreError` if they cannot be read or a checksum is wrong.
    fn scan(&self, from: &Key, end: &Key, limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError>;
}
