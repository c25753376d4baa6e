//! The newest records in memory, ahead of the engine.
//!
//! Changes go into the *active* layer. A checkpoint freezes it: it becomes the *frozen* layer, still
//! read from, until the engine has all of it. A record is looked for in active, frozen, engine, in
//! that order. Used by `store.rs`, which holds it behind its lock.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use quorate_types::{GroupId, Slot};

use crate::engine::{CheckpointBatch, Engine};
use crate::error::StoreError;
use crate::key::Key;
use crate::merge::merge;
use crate::view::Change;

/// What a record in the table costs beside its value: its key and the value's handle, which lie in a
/// node of the tree that is two thirds full, and what the allocator rounds up.
const RECORD_OVERHEAD_BYTES: usize = 128;

/// The two layers of changes above the engine.
#[derive(Debug, Default)]
pub(crate) struct RowTable {
    active: BTreeMap<Key, Option<Bytes>>,
    /// What `active` costs. Invariant: the sum of `cost` over its records.
    active_bytes: usize,
    frozen: Option<Arc<CheckpointBatch>>,
    /// How often the active layer was frozen. The engine receives nothing newer than what was frozen
    /// by then: a scan that finds the same number before and after has read one state.
    freezes: u64,
}

impl RowTable {
    /// Puts one change into the active layer.
    pub(crate) fn apply(&mut self, Change { key, value }: Change) {
        self.active_bytes += cost(&key, value.as_ref());
        match self.active.entry(key) {
            Entry::Vacant(at) => {
                at.insert(value);
            }
            Entry::Occupied(mut at) => {
                let old = at.insert(value);
                self.active_bytes -= cost(at.key(), old.as_ref());
            }
        }
    }

    /// What the table knows of `key`: `None` if only the engine can tell, `Some(None)` if the record
    /// is removed.
    pub(crate) fn get(&self, key: &Key) -> Option<Option<Bytes>> {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.records.get(key));
        self.active.get(key).or_else(frozen).cloned()
    }

    /// What a scan needs of the table, so that it can go on without the lock.
    pub(crate) fn layers(&self, from: &Key, end: &Key, limit: usize) -> Layers {
        let mut active = Vec::new();
        let mut live = 0;
        if from < end {
            for (key, value) in self.active.range(from..end) {
                // As many live records as the answer may have: nothing behind them can be in it.
                if live == limit {
                    break;
                }
                live += usize::from(value.is_some());
                active.push((key.clone(), value.clone()));
            }
        }
        Layers { active, frozen: self.frozen.clone(), freezes: self.freezes }
    }

    /// Makes the active layer the frozen one and starts an empty one.
    ///
    /// # Panics
    /// If there is a frozen layer already.
    pub(crate) fn freeze(&mut self, applied: BTreeMap<GroupId, Slot>) -> Arc<CheckpointBatch> {
        assert!(self.frozen.is_none(), "row table: frozen twice");
        let records = mem::take(&mut self.active);
        let batch = CheckpointBatch { records, applied, bytes: mem::take(&mut self.active_bytes) };
        let frozen = Arc::new(batch);
        self.frozen = Some(Arc::clone(&frozen));
        self.freezes += 1;
        frozen
    }

    /// Lets go of the frozen layer: the engine has it. Handed back so that the caller can drop it,
    /// which takes time, where it disturbs nobody.
    pub(crate) fn take_frozen(&mut self) -> Option<Arc<CheckpointBatch>> {
        self.frozen.take()
    }

    pub(crate) fn frozen(&self) -> Option<&Arc<CheckpointBatch>> {
        self.frozen.as_ref()
    }

    pub(crate) fn freezes(&self) -> u64 {
        self.freezes
    }

    pub(crate) fn active_bytes(&self) -> usize {
        self.active_bytes
    }

    pub(crate) fn active_records(&self) -> usize {
        self.active.len()
    }
}

fn cost(key: &Key, value: Option<&Bytes>) -> usize {
    key.bytes_outside() + value.map_or(0, Bytes::len) + RECORD_OVERHEAD_BYTES
}

/// The part of a row table that one scan has to look through.
pub(crate) struct Layers {
    active: Vec<(Key, Option<Bytes>)>,
    frozen: Option<Arc<CheckpointBatch>>,
    /// The number of freezes when this was taken.
    pub(crate) freezes: u64,
}

impl Layers {
    /// Merges active over frozen over engine. `from` to `end` and `limit` are those the layers were
    /// taken for.
    pub(crate) fn scan(
        &self,
        engine: &dyn Engine,
        from: &Key,
        end: &Key,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let active = self.active.iter().map(|(key, value)| (Cow::Borrowed(key), value.as_ref()));
        merge(active, (from, end), limit, |from, end, rows| {
            self.scan_frozen(engine, from, end, rows)
        })
    }

    fn scan_frozen(
        &self,
        engine: &dyn Engine,
        from: &Key,
        end: &Key,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let Some(frozen) = self.frozen.as_ref().filter(|_| from < end) else {
            return engine.scan(from, end, limit);
        };
        let layer = frozen.records.range(from..end);
        let layer = layer.map(|(key, value)| (Cow::Borrowed(key), value.as_ref()));
        merge(layer, (from, end), limit, |from, end, rows| engine.scan(from, end, rows))
    }
}
