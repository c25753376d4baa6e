//! The newest records in memory, ahead of the engine.
//!
//! Changes go into the *active* layer. A checkpoint freezes it: it becomes the *frozen* layer, still
//! read from, until the engine has all of it. A view that is pinned *seals* it: what has changed so far
//! is shared with the view and changes no more, and the next checkpoint takes it along. A record is
//! looked for in active, sealed, frozen, engine, in that order. Used by `store.rs`, which holds it
//! behind its lock.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::mem;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use quorate_types::{GroupId, Slot};

use crate::engine::{CheckpointBatch, Engine, Records};
use crate::error::StoreError;
use crate::key::Key;
use crate::merge::merge;
use crate::view::Change;

/// What a record in the table costs beside its value: its key and the value's handle, which lie in a
/// node of the tree that is two thirds full, and what the allocator rounds up.
const RECORD_OVERHEAD_BYTES: usize = 128;

/// Most sealed layers. A read that finds nothing in memory looks at each until the next checkpoint,
/// which is seconds away.
const SEALED_MAX: usize = 32;

/// The layers of changes above the engine.
#[derive(Debug, Default)]
pub(crate) struct RowTable {
    active: Records,
    /// What `active` costs. Invariant: the sum of `cost` over its records.
    active_bytes: usize,
    /// Layers that views share, oldest first.
    sealed: Vec<Arc<Records>>,
    /// What they cost.
    sealed_bytes: usize,
    /// Layers that views share or shared, and what each costs: also those that the engine has by now and
    /// that only views keep in memory.
    shared: Vec<(Weak<Records>, usize)>,
    shared_frozen: Vec<(Weak<CheckpointBatch>, usize)>,
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
        let sealed = || self.sealed.iter().rev().find_map(|records| records.get(key));
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.get(key));
        self.active.get(key).or_else(sealed).or_else(frozen).cloned()
    }

    /// Everything above the engine as it is now, shared: nothing is copied. `None` if views share too
    /// many layers already, or would keep more than `bytes_max` in memory.
    pub(crate) fn seal(&mut self, bytes_max: usize) -> Option<SharedLayers> {
        let is_sealing = !self.active.is_empty();
        if is_sealing && SEALED_MAX <= self.sealed.len() {
            return None;
        }
        if bytes_max < self.shared_bytes() + self.active_bytes {
            return None;
        }
        if is_sealing {
            let layer = Arc::new(mem::take(&mut self.active));
            let bytes = mem::take(&mut self.active_bytes);
            self.shared.push((Arc::downgrade(&layer), bytes));
            self.sealed.push(layer);
            self.sealed_bytes += bytes;
        }
        if let Some(frozen) = &self.frozen {
            let frozen = (Arc::downgrade(frozen), frozen.bytes);
            if self.shared_frozen.last().is_none_or(|(last, _)| !last.ptr_eq(&frozen.0)) {
                self.shared_frozen.push(frozen);
            }
        }
        let frozen_bytes = self.frozen.as_ref().map_or(0, |frozen| frozen.bytes);
        Some(SharedLayers {
            sealed: self.sealed.clone(),
            frozen: self.frozen.clone(),
            bytes: self.sealed_bytes + frozen_bytes,
        })
    }

    /// What the layers cost that views share, as far as anybody keeps them.
    fn shared_bytes(&mut self) -> usize {
        self.shared.retain(|(layer, _)| 0 < layer.strong_count());
        self.shared_frozen.retain(|(layer, _)| 0 < layer.strong_count());
        let sealed = self.shared.iter().map(|(_, bytes)| bytes);
        sealed.chain(self.shared_frozen.iter().map(|(_, bytes)| bytes)).sum()
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
        let older = SharedLayers {
            sealed: self.sealed.clone(),
            frozen: self.frozen.clone(),
            bytes: 0, // A scan is over soon; nobody counts what it holds.
        };
        Layers { active, older, freezes: self.freezes }
    }

    /// Makes the active layer the frozen one and starts an empty one.
    ///
    /// # Panics
    /// If there is a frozen layer already.
    pub(crate) fn freeze(&mut self, applied: BTreeMap<GroupId, Slot>) -> Arc<CheckpointBatch> {
        assert!(self.frozen.is_none(), "row table: frozen twice");
        let bytes = self.active_bytes();
        (self.active_bytes, self.sealed_bytes) = (0, 0);
        let frozen = Arc::new(CheckpointBatch {
            records: mem::take(&mut self.active),
            older: mem::take(&mut self.sealed),
            applied,
            bytes,
        });
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
        self.active_bytes + self.sealed_bytes
    }

    pub(crate) fn active_records(&self) -> usize {
        self.active.len() + self.sealed.iter().map(|records| records.len()).sum::<usize>()
    }
}

fn cost(key: &Key, value: Option<&Bytes>) -> usize {
    key.bytes_outside() + value.map_or(0, Bytes::len) + RECORD_OVERHEAD_BYTES
}

/// Layers that change no more, held by whoever reads them.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedLayers {
    /// Oldest first.
    sealed: Vec<Arc<Records>>,
    frozen: Option<Arc<CheckpointBatch>>,
    /// What they cost.
    pub(crate) bytes: usize,
}

/// Asks what lies below the layers for records of a range.
type Below<'a> = &'a dyn Fn(&Key, &Key, usize) -> Result<Vec<(Key, Bytes)>, StoreError>;

impl SharedLayers {
    /// What they know of a record, as `RowTable::get`.
    pub(crate) fn get(&self, key: &Key) -> Option<Option<Bytes>> {
        self.newest_first().find_map(|records| records.get(key)).cloned()
    }

    /// Merges them over what is below.
    pub(crate) fn scan(
        &self,
        below: Below<'_>,
        from: &Key,
        end: &Key,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let layers: Vec<&Records> = self.newest_first().collect();
        if from < end { scan_layers(&layers, below, (from, end), limit) } else { Ok(Vec::new()) }
    }

    fn newest_first(&self) -> impl Iterator<Item = &Records> {
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.layers());
        self.sealed.iter().rev().map(Arc::as_ref).chain(frozen)
    }
}

fn scan_layers(
    layers: &[&Records],
    below: Below<'_>,
    (from, end): (&Key, &Key),
    limit: usize,
) -> Result<Vec<(Key, Bytes)>, StoreError> {
    let Some((newest, older)) = layers.split_first().filter(|_| from < end) else {
        return below(from, end, limit);
    };
    let layer = newest.range(from..end);
    let layer = layer.map(|(key, value)| (Cow::Borrowed(key), value.as_ref()));
    merge(layer, (from, end), limit, |from, end, rows| scan_layers(older, below, (from, end), rows))
}

/// The part of a row table that one scan has to look through.
pub(crate) struct Layers {
    active: Vec<(Key, Option<Bytes>)>,
    older: SharedLayers,
    /// The number of freezes when this was taken.
    pub(crate) freezes: u64,
}

impl Layers {
    /// Merges active over sealed over frozen over engine. `from` to `end` and `limit` are those the
    /// layers were taken for.
    pub(crate) fn scan(
        &self,
        engine: &dyn Engine,
        from: &Key,
        end: &Key,
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let below = |from: &Key, end: &Key, rows: usize| engine.scan(from, end, rows);
        let active = self.active.iter().map(|(key, value)| (Cow::Borrowed(key), value.as_ref()));
        merge(active, (from, end), limit, |from, end, rows| {
            self.older.scan(&below, from, end, rows)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(number: u8) -> Change {
        Change { key: Key::from_bytes(&[number]), value: Some(Bytes::from(vec![number; 100])) }
    }

    #[test]
    fn views_keep_a_bounded_part_of_the_memory() {
        // Goal: layers that only views keep are counted until the last view is gone.
        let mut table = RowTable::default();
        table.apply(change(1));
        let each = table.active_bytes();
        let first = table.seal(2 * each).expect("there is room");
        table.apply(change(2));
        let second = table.seal(2 * each).expect("there is room");
        table.apply(change(3));
        assert!(table.seal(2 * each).is_none(), "three layers are too much");
        assert_eq!((table.active_records(), first.bytes, second.bytes), (3, each, 2 * each));

        let frozen = table.freeze(BTreeMap::new());
        drop((table.take_frozen(), frozen));
        table.apply(change(4));
        assert!(table.seal(2 * each).is_none(), "the views keep two layers");
        drop(first);
        assert!(table.seal(2 * each).is_none(), "the second has both");
        drop(second);
        assert!(table.seal(2 * each).is_some());
    }
}
