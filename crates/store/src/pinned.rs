//! Views that stand still: everything as it was applied at one moment, for as long as somebody holds
//! them. Made by `store.rs`; read by any thread.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::EngineSnapshot;
use crate::error::StoreError;
use crate::key::Key;
use crate::row_table::SharedLayers;
use crate::view::View;

/// A view that stands still: the layers of the row table of then over a snapshot of the engine of then.
/// While it lives, it keeps those layers in memory and what was overwritten since on the disk.
#[derive(Clone)]
pub struct Pinned {
    layers: SharedLayers,
    engine: Arc<dyn EngineSnapshot>,
}

impl Pinned {
    pub(crate) fn new(layers: SharedLayers, engine: Arc<dyn EngineSnapshot>) -> Pinned {
        Pinned { layers, engine }
    }

    /// Memory that it may be the only one to hold.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.layers.bytes
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({} bytes)", self.layers.bytes)
    }
}

impl View for Pinned {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        match self.layers.get(key) {
            Some(value) => Ok(value),
            None => self.engine.get(key),
        }
    }

    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let known: Vec<_> = keys.iter().map(|key| self.layers.get(key)).collect();
        let unknown = keys.iter().zip(&known).filter(|(_, known)| known.is_none());
        let unknown: Vec<Key> = unknown.map(|(key, _)| key.clone()).collect();
        let mut beneath = self.engine.get_many(&unknown)?.into_iter();
        Ok(known
            .into_iter()
            .map(|known| known.unwrap_or_else(|| beneath.next().flatten()))
            .collect())
    }

    fn scan(&self, from: &Key, end: &Key, limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let below = |from: &Key, end: &Key, rows: usize| self.engine.scan(from, end, rows);
        self.layers.scan(&below, from, end, limit)
    }
}
