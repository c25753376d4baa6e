//! The store of one node: every group's records and applied positions, as of everything applied.
//!
//! Shared by reference: shard tasks of `quorate-replica` apply entries and read through [`View`],
//! read workers read, one background thread writes checkpoints. Calls the row table and an engine.
//! The lock is held for memory work only, never while the engine reads or writes (one exception, in
//! `scan`, is explained there).
//!
//! The order of events that makes a restart right: an entry is applied iff its slot is the applied
//! position plus one; rows and positions change under one lock, are frozen together, and reach the
//! engine in one atomic batch. So whatever prefix of batches survives a crash, its rows are exactly
//! those of its positions, and replay starts right above them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};

use bytes::Bytes;
use quorate_types::planted::{Bug, planted};
use quorate_types::{GroupId, Slot};
use tracing::debug;

use crate::base::Base;
use crate::checkpoint::{Checkpoint, Durability};
use crate::engine::{CheckpointBatch, Engine, EngineSnapshot, EngineStats};
use crate::error::StoreError;
use crate::install::Installs;
use crate::key::Key;
use crate::keys::{self, Keyspace};
use crate::pinned::Pinned;
use crate::row_table::RowTable;
use crate::view::{Change, View};

/// How often a scan starts again because a checkpoint began meanwhile, before it holds the lock.
/// Checkpoints are seconds apart, so a second attempt is already rare.
const SCAN_ATTEMPTS: usize = 3;

/// Memory that the layers of pinned views may take, those included that the store itself still reads.
/// Beyond, no view is pinned: who wants one is told so, and tries again.
const PINNED_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Records and applied positions of the groups of one node.
pub struct Store {
    pub(crate) engine: Arc<dyn Engine>,
    state: RwLock<State>,
    /// Held by whoever writes to the engine: checkpoints, installations and what they leave behind come
    /// from different threads. Taken before the lock of the state, and never while that is held.
    writing: Mutex<()>,
}

pub(crate) struct State {
    pub(crate) table: RowTable,
    /// Where each group stands. The groups are those the store was opened for.
    pub(crate) applied: BTreeMap<GroupId, Slot>,
    /// The groups that moved since the last checkpoint began.
    moved: BTreeSet<GroupId>,
    /// Which copy of their rows counts, for groups whose rows were installed.
    pub(crate) bases: BTreeMap<GroupId, Base>,
    /// Groups whose rows must not be used: others are to be installed.
    pub(crate) quarantined: BTreeSet<GroupId>,
    /// Snapshots on their way in.
    pub(crate) installs: Installs,
    /// The engine as the last pinned view has it, and what it is good for.
    snapshot: Option<(SnapshotStands, Weak<dyn EngineSnapshot>)>,
}

/// What a snapshot of the engine holds: every checkpoint that had ended, and perhaps the one that was
/// being written, and the rows installed by then. Two that stand alike are alike below the layers of the
/// row table, as far as anybody reads.
#[derive(Clone, Copy, PartialEq, Eq)]
struct SnapshotStands {
    freezes: u64,
    is_writing: bool,
    switches: u64,
}

/// How much the store holds. Estimates, for people and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Records changed since the last checkpoint began.
    pub active_records: usize,
    /// Memory they take.
    pub active_bytes: usize,
    /// Records of the checkpoint being written.
    pub frozen_records: usize,
    /// Memory they take.
    pub frozen_bytes: usize,
    /// The engine beneath.
    pub engine: EngineStats,
}

impl Store {
    /// Opens the store of `groups` on an engine and reads where each of them stands.
    ///
    /// # Errors
    /// `StoreError` if a position cannot be read, or rows that do not count any more cannot be removed.
    pub fn open(
        engine: Arc<dyn Engine>,
        groups: impl IntoIterator<Item = GroupId>,
    ) -> Result<Store, StoreError> {
        let (mut applied, mut bases) = (BTreeMap::new(), BTreeMap::new());
        let mut quarantined = BTreeSet::new();
        for group in groups {
            let slot = engine.applied(group)?;
            debug!(%group, applied = %slot, "store opened");
            applied.insert(group, slot);
            let key = keys::base(group);
            if let Some(stored) = engine.get(&key)? {
                bases.insert(group, Base::decode(&key, stored)?);
            }
            if engine.get(&keys::quarantine(group))?.is_some() {
                quarantined.insert(group);
            }
        }
        let groups: Vec<GroupId> = applied.keys().copied().collect();
        let (table, moved, installs) = (RowTable::default(), BTreeSet::new(), Installs::default());
        let state = State { table, applied, moved, bases, quarantined, installs, snapshot: None };
        let store = Store { engine, state: RwLock::new(state), writing: Mutex::new(()) };
        for group in groups {
            store.clear_what_nobody_reads(group)?;
        }
        Ok(store)
    }

    /// Takes a group in that the store was not opened for, with what the engine has of it.
    ///
    /// # Errors
    /// `StoreError` if the engine cannot be read.
    pub fn add_group(&self, group: GroupId) -> Result<(), StoreError> {
        if self.read().applied.contains_key(&group) {
            return Ok(());
        }
        let slot = self.engine.applied(group)?;
        let key = keys::base(group);
        let base = self.engine.get(&key)?.map(|stored| Base::decode(&key, stored)).transpose()?;
        debug!(%group, applied = %slot, "store takes a group in");
        let mut state = self.write();
        state.applied.insert(group, slot);
        state.bases.extend(base.map(|base| (group, base)));
        drop(state);
        self.clear_what_nobody_reads(group)
    }

    /// Where the installed rows of a group stand; `None` if its rows were never installed.
    #[must_use]
    pub fn base(&self, group: GroupId) -> Option<Base> {
        self.read().bases.get(&group).copied()
    }

    /// Where the rows of a group live. Changes when others are switched to.
    #[must_use]
    pub fn keyspace(&self, group: GroupId) -> Keyspace {
        self.read().keyspace(group)
    }

    /// Applies one entry: its changes and the new position become visible together.
    ///
    /// Values are kept as they are handed in until the next checkpoint is written; they should not
    /// share a buffer much larger than themselves.
    ///
    /// # Panics
    /// If `slot` is not the one after the group's applied position, if the store was not opened for
    /// the group, or if a change names an applied position: all of them bugs of the caller.
    pub fn apply(&self, group: GroupId, slot: Slot, changes: Vec<Change>) {
        self.apply_batch(group, [(slot, changes)]);
    }

    /// Applies consecutive entries of one group, visible all at once.
    ///
    /// # Panics
    /// As `apply`.
    pub fn apply_batch(
        &self,
        group: GroupId,
        entries: impl IntoIterator<Item = (Slot, Vec<Change>)>,
    ) {
        let mut state = self.write();
        for (slot, changes) in entries {
            state.apply(group, slot, changes);
        }
    }

    /// The slot of the last entry applied.
    ///
    /// # Panics
    /// If the store was not opened for the group.
    #[must_use]
    pub fn applied(&self, group: GroupId) -> Slot {
        self.read().applied(group)
    }

    /// The applied position that a crash right now would leave, or an earlier one. The log may be
    /// recycled up to here, and nowhere above.
    ///
    /// # Errors
    /// `StoreError` if the engine cannot read it.
    pub fn persisted(&self, group: GroupId) -> Result<Slot, StoreError> {
        self.engine.persisted(group)
    }

    /// Memory taken by the records changed since the last checkpoint began, each counted once; at
    /// least 1 if any entry was applied, even one without changes.
    #[must_use]
    pub fn changed_bytes(&self) -> u64 {
        let state = self.read();
        state.table.active_bytes().max(usize::from(!state.moved.is_empty())) as u64
    }

    /// Memory of all records that the engine does not have yet: those changed since the last checkpoint began, and
    /// those it is writing. Grows without end while more is changed than the engine can write.
    #[must_use]
    pub fn unwritten_bytes(&self) -> u64 {
        let state = self.read();
        let frozen = state.table.frozen().map_or(0, |frozen| frozen.bytes);
        (state.table.active_bytes() + frozen) as u64
    }

    /// Roughly how many bytes the records of a keyspace take in the engine. Waits for the disk.
    #[must_use]
    pub fn bytes_of(&self, space: Keyspace) -> u64 {
        space.ranges().map(|(from, end)| self.engine.bytes_in(&from, &end)).sum()
    }

    /// How much the store holds.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let engine = self.engine.stats();
        let state = self.read();
        let frozen = state.table.frozen();
        StoreStats {
            active_records: state.table.active_records(),
            active_bytes: state.table.active_bytes(),
            frozen_records: frozen.map_or(0, |frozen| frozen.layers().map(BTreeMap::len).sum()),
            frozen_bytes: frozen.map_or(0, |frozen| frozen.bytes),
            engine,
        }
    }

    /// Step 1 of a checkpoint: freezes what was applied so far, which is quick, whatever the amount.
    /// `None` if no entry was applied since the last one began, if that one is not finished, or while rows
    /// of a group are being switched: a batch must not hold a position of theirs from before.
    ///
    /// `last` is asked only if a checkpoint begins, and without the lock, for changes that belong to the
    /// applied entries but were held back so far; they are part of it. Whoever applies entries must be
    /// who calls this, so that none is applied in between.
    #[must_use]
    pub fn begin_checkpoint(&self, last: impl FnOnce() -> Vec<Change>) -> Option<Checkpoint> {
        let begins = {
            let state = self.read();
            state.can_freeze()
        };
        let last = if begins { last() } else { return None };
        let mut state = self.write();
        if !state.can_freeze() {
            // A switch began meanwhile. What was held back belongs to what is applied, in whatever batch.
            last.into_iter().for_each(|change| state.table.apply(change));
            return None;
        }
        for change in last {
            state.table.apply(change);
        }
        let moved = std::mem::take(&mut state.moved);
        // Of a group that was given up since there is no position any more.
        let position = |group| Some((group, *state.applied.get(&group)?));
        let applied = moved.into_iter().filter_map(position).collect();
        Some(Checkpoint::new(state.table.freeze(applied)))
    }

    /// Step 2: writes it to the engine. This is the heavy part; it may run on any thread while
    /// entries are applied and records read. May be repeated if it failed.
    ///
    /// # Errors
    /// `StoreError` if the engine refuses. What was applied stays readable.
    pub fn write_checkpoint(
        &self,
        checkpoint: &Checkpoint,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let writing = self.writing();
        if planted(Bug::AppliedApart) {
            let applied = checkpoint.batch.applied.clone();
            self.engine.write(&CheckpointBatch { applied, ..CheckpointBatch::default() })?;
        }
        self.engine.write(&checkpoint.batch)?;
        drop(writing);
        checkpoint.written.store(true, Ordering::Release);
        match durability {
            Durability::Buffered => Ok(()),
            Durability::Flushed => self.engine.flush(),
        }
    }

    /// Step 3: lets go of the frozen layer. Best called on the thread that wrote the checkpoint:
    /// dropping its records takes time, and they are dropped here, outside the lock.
    ///
    /// # Panics
    /// If the checkpoint is not written, or is not the one that was begun last.
    pub fn finish_checkpoint(&self, checkpoint: Checkpoint) {
        assert!(checkpoint.is_written(), "store: checkpoint finished before it was written");
        let frozen = self.write().table.take_frozen();
        let frozen = frozen.expect("a checkpoint is begun once and finished once");
        assert!(Arc::ptr_eq(&frozen, &checkpoint.batch), "store: finished another checkpoint");
    }

    /// Keeps everything as it is applied now readable, whatever is applied afterwards; costs no more
    /// than the begin of a checkpoint, whatever the amount. `None` if too many views were pinned since
    /// the last checkpoint, or keep too much in memory. Must be called by whoever begins checkpoints.
    ///
    /// # Errors
    /// `StoreError` if the engine refuses.
    pub fn pin(&self) -> Result<Option<Pinned>, StoreError> {
        self.pin_with(Vec::new)
    }

    /// The same with what `last` hands out: changes that belong to the applied entries but were held back
    /// so far, as in `begin_checkpoint`. They are applied with that, whether a view is pinned or not.
    ///
    /// # Errors
    /// `StoreError` if the engine refuses.
    pub fn pin_with(
        &self,
        last: impl FnOnce() -> Vec<Change>,
    ) -> Result<Option<Pinned>, StoreError> {
        let last = last();
        let mut state = self.write();
        last.into_iter().for_each(|change| state.table.apply(change));
        let Some(layers) = state.table.seal(PINNED_BYTES_MAX) else { return Ok(None) };
        let stands = SnapshotStands {
            freezes: state.table.freezes(),
            is_writing: state.table.frozen().is_some(),
            switches: state.installs.switches,
        };
        let known = state.snapshot.as_ref().filter(|(before, _)| *before == stands);
        if let Some(engine) = known.and_then(|(_, engine)| engine.upgrade()) {
            return Ok(Some(Pinned::new(layers, engine)));
        }
        drop(state);
        // Without the lock: a checkpoint that is being written may arrive meanwhile, and is in the
        // layers, too; no other can begin.
        let engine = self.engine.snapshot()?;
        self.write().snapshot = Some((stands, Arc::downgrade(&engine)));
        Ok(Some(Pinned::new(layers, engine)))
    }

    /// Makes every checkpoint written so far persistent before it returns.
    ///
    /// # Errors
    /// `StoreError` if the engine cannot write.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.engine.flush()
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        // Asserts under the lock come before the change they guard, so a panic leaves it whole.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of whoever writes to the engine.
    pub(crate) fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner) // It guards nothing but the turn.
    }
}

impl State {
    pub(crate) fn keyspace(&self, group: GroupId) -> Keyspace {
        let incarnation = self.bases.get(&group).map_or(0, |base| base.incarnation);
        Keyspace { group, incarnation }
    }

    fn can_freeze(&self) -> bool {
        !self.moved.is_empty() && self.table.frozen().is_none() && !self.installs.is_switching()
    }

    pub(crate) fn applied(&self, group: GroupId) -> Slot {
        let Some(slot) = self.applied.get(&group) else {
            panic!("store: not opened for {group}");
        };
        *slot
    }

    fn apply(&mut self, group: GroupId, slot: Slot, changes: Vec<Change>) {
        let applied = self.applied(group);
        assert!(slot == applied.next(), "store: {group} applies {slot} after {applied}");
        assert!(
            !self.installs.switches(group),
            "store: {group} applies while its rows are switched"
        );
        for change in &changes {
            assert!(!change.key.is_of_store(), "store: an entry changes an applied position");
        }

        for change in changes {
            self.table.apply(change);
        }
        self.applied.insert(group, slot);
        self.moved.insert(group);
    }
}

impl View for Store {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        // The engine is asked without the lock: a record that the table did not have was complete in
        // the engine then, and if a newer one arrives there meanwhile, it was applied meanwhile.
        let found = self.read().table.get(key);
        match found {
            Some(value) => Ok(value),
            None => self.engine.get(key),
        }
    }

    /// All records as of one moment, although the engine is read without the lock: it can only
    /// receive newer records than the layers looked at after another freeze, and then the scan
    /// starts again. The last attempt holds the lock, which keeps a freeze away.
    fn scan(&self, from: &Key, end: &Key, limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        for _ in 1..SCAN_ATTEMPTS {
            let layers = self.read().table.layers(from, end, limit);
            let found = layers.scan(&*self.engine, from, end, limit)?;
            if self.read().table.freezes() == layers.freezes {
                return Ok(found);
            }
        }
        let state = self.read();
        state.table.layers(from, end, limit).scan(&*self.engine, from, end, limit)
    }
}
