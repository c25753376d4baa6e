//! Rows of a group that come from another store: written beside those that count, then switched to.
//!
//! Every copy of a group's rows has a keyspace of its own, told apart by its incarnation. An installation
//! fills the next one, straight in the engine (`installer.rs`). The switch is one batch, flushed before anybody hears of
//! it: it raises the incarnation and says where the new rows stand. Whatever a crash leaves is the old
//! copy with its position or the new one with its own.
//!
//! The row table holds changes of the old copy until a checkpoint has taken them along. They go to the
//! old keyspace, which nobody reads after the switch. So old rows are removed for good only after a
//! checkpoint that began after the switch ([`Store::purge`]), or at the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use quorate_types::{GroupId, Slot};
use tracing::{debug, info};

use crate::base::{Base, Progress};
use crate::engine::CheckpointBatch;
use crate::error::StoreError;
use crate::installer::Installer;
use crate::key::Key;
use crate::keys::{self, Keyspace};
use crate::portable::Tally;
use crate::store::Store;

/// Format of the record that says that rows must not be used. Nothing follows it.
const QUARANTINE_FORMAT: u8 = 0x01;

/// What the store knows of snapshots on their way in.
#[derive(Debug, Default)]
pub(crate) struct Installs {
    /// The installation of each group that may write, by the number it was given.
    pub(crate) writers: BTreeMap<GroupId, u64>,
    /// Numbers given so far.
    begun: u64,
    /// Groups whose rows are being switched.
    switching: BTreeSet<GroupId>,
    /// Switches since the start.
    pub(crate) switches: u64,
    /// Old copies, with the number of the checkpoint that takes the last changes of each along.
    old: Vec<(Keyspace, u64)>,
}

impl Installs {
    pub(crate) fn is_switching(&self) -> bool {
        !self.switching.is_empty()
    }

    pub(crate) fn switches(&self, group: GroupId) -> bool {
        self.switching.contains(&group)
    }
}

impl Store {
    /// How far an installation of a group's rows has come that was broken off, perhaps by a crash.
    ///
    /// # Errors
    /// `StoreError` if the engine cannot read it.
    pub fn install_progress(&self, group: GroupId) -> Result<Option<Progress>, StoreError> {
        let key = keys::progress(group);
        let stored = self.engine.get(&key)?;
        let progress = stored.map(|stored| Progress::decode(&key, stored)).transpose()?;
        let incarnation = self.keyspace(group).incarnation + 1;
        Ok(progress.filter(|progress| progress.incarnation == incarnation))
    }

    /// Begins to install the rows of a group from a snapshot, or goes on where the installation of the
    /// same snapshot ended. What is there of another one is removed. How many streams of rows broke off before
    /// is remembered. May wait for the disk.
    ///
    /// # Errors
    /// `Overtaken` if the rows of the group were given up, or are of no group that the store was opened for; others
    /// if the engine refuses.
    pub fn begin_install(
        self: &Arc<Store>,
        group: GroupId,
        snapshot: u128,
        broken: u32,
    ) -> Result<Installer, StoreError> {
        let writing = self.writing();
        let (space, number) = {
            let mut state = self.write();
            if !state.applied.contains_key(&group) {
                return Err(StoreError::Overtaken { group });
            }
            let current = state.keyspace(group);
            state.installs.begun += 1;
            let number = state.installs.begun;
            state.installs.writers.insert(group, number);
            (Keyspace { incarnation: current.incarnation + 1, ..current }, number)
        };
        let known = self.install_progress(group)?.filter(|it| it.snapshot == snapshot);
        let incarnation = space.incarnation;
        let progress = match known {
            Some(known) => Progress { broken, ..known },
            None => {
                self.clear(space)?;
                let (after, tally) = (None, Tally::default());
                let progress = Progress { snapshot, incarnation, after, tally, broken };
                let records = [(keys::progress(group), Some(progress.encode()))].into();
                self.engine.write(&CheckpointBatch { records, ..CheckpointBatch::default() })?;
                // The removal too: what was removed does not come back between what is installed.
                self.engine.flush()?;
                progress
            }
        };
        drop(writing);
        debug!(%group, incarnation, records = progress.tally.records, "installs rows");
        Ok(Installer::begin(Arc::clone(self), space, number, progress))
    }

    /// Makes the installed rows of `base` the rows of the group, as of `applied`, in one step that is
    /// durable when this returns. From then on they are read, and entries go on from there; whoever keeps
    /// anything in memory that was read from the old ones must load it anew. Waits for the disk.
    ///
    /// Of the group nothing may be applied meanwhile, and no checkpoint that names it may be running.
    ///
    /// # Errors
    /// `StoreError` if the engine refuses. Which rows count then is known after the next start.
    ///
    /// # Panics
    /// If the above does not hold, if the incarnation is not the next one, or if `applied` goes back: bugs
    /// of the caller.
    pub fn switch(&self, group: GroupId, applied: Slot, base: Base) -> Result<(), StoreError> {
        {
            let mut state = self.write();
            let (before, current) = (state.applied(group), state.keyspace(group));
            assert!(before <= applied, "store: {group} would go back from {before} to {applied}");
            assert!(
                base.incarnation == current.incarnation + 1,
                "store: {base:?} after {current:?}"
            );
            assert!(
                !state.table.frozen().is_some_and(|frozen| frozen.applied.contains_key(&group)),
                "store: the rows of {group} are switched during a checkpoint of them"
            );
            assert!(state.installs.switching.insert(group), "store: {group} is switched twice");
        }
        let written = self.write_switch(group, applied, base);
        let mut state = self.write();
        state.installs.switching.remove(&group);
        written?;
        let old = state.keyspace(group);
        // The next checkpoint takes along what the table holds of the old rows; if it holds nothing,
        // nothing has to be waited for.
        let is_empty = state.table.active_records() == 0 && state.table.frozen().is_none();
        let taken_by = state.table.freezes() + u64::from(!is_empty);
        state.installs.old.push((old, taken_by));
        state.installs.switches += 1;
        state.applied.insert(group, applied);
        info!(%group, incarnation = base.incarnation, %applied, "switched to installed rows");
        state.bases.insert(group, base);
        state.quarantined.remove(&group);
        Ok(())
    }

    /// Remembers that the rows of a group must not be used, durably when this returns, until others were
    /// switched to. They stay where they are meanwhile; whoever has views of them may go on. Waits for the
    /// disk.
    ///
    /// # Errors
    /// `StoreError` if the engine refuses.
    pub fn quarantine(&self, group: GroupId) -> Result<(), StoreError> {
        let writing = self.writing();
        let format = Bytes::from_static(&[QUARANTINE_FORMAT]);
        let records = [(keys::quarantine(group), Some(format))].into();
        self.engine.write(&CheckpointBatch { records, ..CheckpointBatch::default() })?;
        drop(writing);
        self.engine.flush()?;
        self.write().quarantined.insert(group);
        Ok(())
    }

    /// True if the rows of a group must not be used: others are to be installed.
    #[must_use]
    pub fn is_quarantined(&self, group: GroupId) -> bool {
        self.read().quarantined.contains(&group)
    }

    fn write_switch(&self, group: GroupId, applied: Slot, base: Base) -> Result<(), StoreError> {
        let writing = self.writing();
        self.write().installs.writers.remove(&group);
        self.engine.write(&CheckpointBatch {
            records: [
                (keys::base(group), Some(base.encode())),
                (keys::progress(group), None),
                (keys::quarantine(group), None),
            ]
            .into(),
            applied: [(group, applied)].into(),
            ..CheckpointBatch::default()
        })?;
        drop(writing);
        self.engine.flush()
    }

    /// Gives up everything that the store has of a group, whose replica has left; the store is as if it was not opened
    /// for it. Durably so when this returns; the records go by and by ([`Store::purge`]), or at the next start. To be
    /// repeated after a crash: where there is nothing any more, nothing is written. Waits for the disk.
    ///
    /// What comes later of the group, after [`Store::add_group`], begins with no rows, in a keyspace that none was
    /// ever written to: changes that the table still holds go to the old one.
    ///
    /// Nothing of the group may be applied meanwhile, and no checkpoint that names it may be running.
    ///
    /// # Errors
    /// `StoreError` if the engine refuses.
    ///
    /// # Panics
    /// If the above does not hold: bugs of the caller.
    pub fn give_up(&self, group: GroupId) -> Result<(), StoreError> {
        let writing = self.writing();
        let (current, is_empty) = {
            let mut state = self.write();
            assert!(
                !state.table.frozen().is_some_and(|frozen| frozen.applied.contains_key(&group)),
                "store: the rows of {group} are given up during a checkpoint of them"
            );
            assert!(!state.installs.switches(group), "store: {group} is given up and switched");
            state.installs.writers.remove(&group);
            let is_empty = state.applied.remove(&group).is_none_or(|slot| slot == Slot::ZERO);
            (state.keyspace(group), is_empty)
        };
        // Neither the copy that counts nor the one that was being installed.
        let next = Keyspace { incarnation: current.incarnation + 1, ..current };
        let base = Base { incarnation: next.incarnation + 1 };
        let has = |key: &Key| Ok::<_, StoreError>(self.engine.get(key)?.is_some());
        let is_empty = is_empty
            && self.engine.applied(group)? == Slot::ZERO
            && !has(&keys::progress(group))?
            && !has(&keys::quarantine(group))?;
        if !is_empty {
            self.engine.write(&CheckpointBatch {
                records: [
                    (keys::base(group), Some(base.encode())),
                    (keys::progress(group), None),
                    (keys::quarantine(group), None),
                ]
                .into(),
                applied: [(group, Slot::ZERO)].into(),
                ..CheckpointBatch::default()
            })?;
            self.engine.flush()?;
        }
        drop(writing);
        let mut state = self.write();
        state.bases.remove(&group);
        state.quarantined.remove(&group);
        if !is_empty {
            let is_clean = state.table.active_records() == 0 && state.table.frozen().is_none();
            let taken_by = state.table.freezes() + u64::from(!is_clean);
            state.installs.old.extend([(current, taken_by), (next, taken_by)]);
            state.installs.switches += 1;
            info!(%group, incarnation = base.incarnation, "gave up the rows of a group");
        }
        Ok(())
    }

    /// True while the rows of a group are being switched: no checkpoint can begin.
    #[must_use]
    pub fn is_switching(&self) -> bool {
        self.read().installs.is_switching()
    }

    /// Removes old copies of rows, as soon as nothing of them can reach the engine any more. To be called
    /// after checkpoints, off the task that applies. Says how many are left.
    ///
    /// # Errors
    /// `StoreError` if the engine refuses.
    pub fn purge(&self) -> Result<usize, StoreError> {
        let (due, left) = {
            let mut state = self.write();
            let (freezes, is_writing) = (state.table.freezes(), state.table.frozen().is_some());
            let is_due = |by: u64| by < freezes || (by == freezes && !is_writing);
            let (due, left) = state.installs.old.drain(..).partition(|(_, by)| is_due(*by));
            state.installs.old = left;
            let due: Vec<(Keyspace, u64)> = due;
            (due, state.installs.old.len())
        };
        for (space, _) in due {
            let writing = self.writing();
            debug!(group = %space.group, incarnation = space.incarnation, "removes old rows");
            let removed = self.remove(space.ranges())?;
            drop(writing);
            for (from, end) in removed {
                self.engine.reclaim(&from, &end)?;
            }
        }
        Ok(left)
    }

    /// At the start: removes every copy of a group's rows but the one that counts and the one that an
    /// installation may go on with.
    pub(crate) fn clear_what_nobody_reads(&self, group: GroupId) -> Result<(), StoreError> {
        let _writing = self.writing();
        let current = self.keyspace(group);
        let next = Keyspace { incarnation: current.incarnation + 1, ..current };
        if self.install_progress(group)?.is_none() {
            self.clear(next)?;
        }
        let first = Keyspace::first(group);
        let before = first.ranges().zip(current.ranges());
        let _removed = self.remove(before.map(|((from, _), (end, _))| (from, end)))?;
        let last = Keyspace { incarnation: u32::MAX, ..current };
        let behind = next.ranges().zip(last.ranges());
        let _removed = self.remove(behind.map(|((_, from), (_, end))| (from, end)))?;
        Ok(())
    }

    /// Removes a copy that an installation made. First what says that it may be gone on with, persistently:
    /// see [`crate::Engine::remove_range`]. To be called by the writer of the engine.
    pub(crate) fn clear(&self, space: Keyspace) -> Result<(), StoreError> {
        let progress = keys::progress(space.group);
        if self.engine.get(&progress)?.is_some() {
            let records = [(progress, None)].into();
            self.engine.write(&CheckpointBatch { records, ..CheckpointBatch::default() })?;
            self.engine.flush()?;
        }
        let _removed = self.remove(space.ranges())?;
        Ok(())
    }

    /// Removes what there is in these ranges; those in which there was something. To be called by the writer of the
    /// engine.
    fn remove(
        &self,
        ranges: impl Iterator<Item = (Key, Key)>,
    ) -> Result<Vec<(Key, Key)>, StoreError> {
        let mut removed = Vec::new();
        for (from, end) in ranges {
            if !self.engine.scan(&from, &end, 1)?.is_empty() {
                self.engine.remove_range(&from, &end)?;
                removed.push((from, end));
            }
        }
        Ok(removed)
    }
}
