//! Changes of entries that are not applied yet, on top of a view of what is.
//!
//! A leader evaluates requests against its overlay over the store, pushes the changes it decided,
//! and settles them once their entry is applied; at every change of ballot it clears the overlay.
//! Used by `quorate-txn` and `quorate-replica`; calls only the view beneath.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_types::Slot;

use crate::error::StoreError;
use crate::key::Key;
use crate::merge::merge;
use crate::view::{Change, View};

/// Uncommitted changes of one group, by the slot of their entry.
///
/// Only the newest change of a record is kept: the older ones can never be seen again, because
/// entries settle from the front and an overlay is only ever dropped as a whole.
#[derive(Debug, Default)]
pub struct Overlay {
    /// The newest change of every record, with the slot it belongs to.
    changes: BTreeMap<Key, (Slot, Option<Bytes>)>,
    /// The records each unsettled entry changed, in order of slot. Invariant: the slot of every
    /// change in `changes` is here.
    entries: VecDeque<(Slot, Vec<Key>)>,
    /// Bytes of keys and values in `changes`.
    bytes: usize,
}

impl Overlay {
    /// An overlay without changes.
    #[must_use]
    pub fn new() -> Overlay {
        Overlay::default()
    }

    /// Adds what the entry at `slot` will change. An entry without changes counts for `last_slot`.
    ///
    /// # Panics
    /// If `slot` is not above every unsettled one.
    pub fn push(&mut self, slot: Slot, changes: Vec<Change>) {
        if let Some(last) = self.last_slot() {
            assert!(last < slot, "overlay: {slot} pushed after {last}");
        }
        let mut keys = Vec::with_capacity(changes.len());
        for Change { key, value } in changes {
            self.bytes += bytes_of(&key, value.as_ref());
            if let Some((_, old)) = self.changes.insert(key.clone(), (slot, value)) {
                self.bytes -= bytes_of(&key, old.as_ref());
            }
            keys.push(key);
        }
        self.entries.push_back((slot, keys));
    }

    /// Drops the changes of entries up to and including `upto`: the view beneath has them now.
    pub fn settle(&mut self, upto: Slot) {
        while let Some((slot, keys)) = self.entries.pop_front_if(|(slot, _)| *slot <= upto) {
            for key in keys {
                self.drop_change(&key, slot);
            }
        }
    }

    /// Removes the change of `key` unless an entry above `slot` has replaced it.
    fn drop_change(&mut self, key: &Key, slot: Slot) {
        if self.changes.get(key).is_some_and(|(newest, _)| *newest == slot) {
            let (_, value) = self.changes.remove(key).expect("it was just looked up");
            self.bytes -= bytes_of(key, value.as_ref());
        }
    }

    /// Forgets everything: the entries may never be chosen.
    pub fn clear(&mut self) {
        *self = Overlay::default();
    }

    /// The slot of the newest unsettled entry; `None` if there is none. Whatever was computed on the
    /// overlay may be told only after this slot is committed.
    #[must_use]
    pub fn last_slot(&self) -> Option<Slot> {
        self.entries.back().map(|(slot, _)| *slot)
    }

    /// True if no entry is unsettled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries are unsettled.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the keys and values held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The slot of the newest unsettled entry that changes `key`.
    #[must_use]
    pub fn changed_at(&self, key: &Key) -> Option<Slot> {
        self.changes.get(key).map(|(slot, _)| *slot)
    }

    /// The records as they will be once every unsettled entry is applied on top of `base`.
    #[must_use]
    pub fn over<'a>(&'a self, base: &'a dyn View) -> OverlayView<'a> {
        OverlayView { overlay: self, base }
    }
}

/// An overlay seen together with the view beneath it.
#[derive(Clone, Copy)]
pub struct OverlayView<'a> {
    overlay: &'a Overlay,
    base: &'a dyn View,
}

impl View for OverlayView<'_> {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        match self.overlay.changes.get(key) {
            Some((_, value)) => Ok(value.clone()),
            None => self.base.get(key),
        }
    }

    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut values = self.base.get_many(keys)?;
        for (key, value) in keys.iter().zip(&mut values) {
            if let Some((_, newer)) = self.overlay.changes.get(key) {
                value.clone_from(newer);
            }
        }
        Ok(values)
    }

    fn scan(&self, from: &Key, end: &Key, limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        if end <= from {
            return Ok(Vec::new());
        }
        let layer = self
            .overlay
            .changes
            .range(from..end)
            .map(|(key, (_, value))| (Cow::Borrowed(key), value.as_ref()));
        merge(layer, (from, end), limit, |from, end, rows| self.base.scan(from, end, rows))
    }
}

fn bytes_of(key: &Key, value: Option<&Bytes>) -> usize {
    key.as_bytes().len() + value.map_or(0, Bytes::len)
}
