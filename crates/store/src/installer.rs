//! Records from another store on their way into the next keyspace of a group. Begun by `install.rs`.
//!
//! ```text
//!   write: records of one tag gather, a few in memory, more in a run ([`crate::EngineRun`])
//!   a run is full, the tag changes, or the end: they are in the engine, and then how far they go
//! ```
//!
//! What the engine says of how far they go is never ahead of what it has. It may lag: a run outlives a crash at once,
//! what is written after it not yet. Then the same records come once more, and are the same.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::{Base, Progress};
use crate::engine::{CheckpointBatch, EngineRun, Records};
use crate::error::StoreError;
use crate::key::Key;
use crate::keys::{self, Keyspace};
use crate::portable::{Portable, Tally, foreign};
use crate::store::Store;

/// Below this share of a full run records are not worth a file.
const FEW: usize = 64;

/// An installation of a group's rows. Nothing that it writes is read before [`Store::switch`]. Begun once
/// more for the same group, the later one counts, and this one writes no more.
pub struct Installer {
    store: Arc<Store>,
    space: Keyspace,
    number: u64,
    snapshot: u128,
    /// Streams of these rows that broke off before.
    broken: u32,
    /// The engine has everything through here, and has been told so. Never above `come`.
    written: Reached,
    /// What has come.
    come: Reached,
    gathered: Gathered,
}

/// How far records go.
#[derive(Clone, Default)]
struct Reached {
    after: Option<Bytes>,
    tally: Tally,
}

/// Records between what is written and what has come. All are of one tag, and in one place or the other.
#[derive(Default)]
struct Gathered {
    few: Records,
    run: Option<Box<dyn EngineRun>>,
    bytes: usize,
}

impl Installer {
    /// One that goes on from there.
    pub(crate) fn begin(
        store: Arc<Store>,
        space: Keyspace,
        number: u64,
        from: Progress,
    ) -> Installer {
        let Progress { snapshot, after, tally, broken, .. } = from;
        let written = Reached { after, tally };
        let (come, gathered) = (written.clone(), Gathered::default());
        Installer { store, space, number, snapshot, broken, written, come, gathered }
    }

    /// The portable key of the last record that came; `None` before the first.
    #[must_use]
    pub fn after(&self) -> Option<&Bytes> {
        self.come.after.as_ref()
    }

    /// The records that came, those before a restart included.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.come.tally
    }

    /// Takes records, which go on in order where the last ones ended. Some may be in the engine only with later ones or
    /// at the end. May wait for the disk.
    ///
    /// # Errors
    /// `Foreign` if a record cannot be one of a group or is out of order, and then none is taken;
    /// `Overtaken` if another installation has begun; others if the engine refuses. Then it goes back to what the
    /// engine has.
    pub fn write(&mut self, records: Vec<Portable>) -> Result<(), StoreError> {
        self.check_not_overtaken()?;
        let mut placed = Vec::with_capacity(records.len());
        let mut after = self.come.after.as_ref();
        for record in &records {
            if after.is_some_and(|after| record.key <= *after) {
                return Err(foreign(&record.key, "it is out of order"));
            }
            placed.push(self.space.place(record)?);
            after = Some(&record.key);
        }
        let taken = placed.into_iter().zip(records).try_for_each(|(key, it)| self.take(key, it));
        self.settled(taken)
    }

    /// Brings everything that came into the engine, also if more is to come another time. What may be switched to if
    /// this is all. May wait for the disk.
    ///
    /// # Errors
    /// `Overtaken` if another installation has begun; others if the engine refuses.
    pub fn end(mut self) -> Result<Base, StoreError> {
        self.put_down()?;
        Ok(Base { incarnation: self.space.incarnation })
    }

    /// Throws away what was written.
    ///
    /// # Errors
    /// `Overtaken` if another installation has begun; others if the engine refuses.
    pub fn discard(mut self) -> Result<(), StoreError> {
        self.gathered = Gathered::default();
        let writing = self.store.writing();
        self.check_not_overtaken()?;
        self.store.write().installs.writers.remove(&self.space.group);
        self.store.clear(self.space)?;
        drop(writing);
        Ok(())
    }

    fn take(&mut self, key: Key, record: Portable) -> Result<(), StoreError> {
        let is_same_tag =
            self.come.after.as_ref().is_none_or(|last| last.first() == record.key.first());
        let run_bytes = self.store.engine.run_bytes();
        if !is_same_tag || run_bytes <= self.gathered.bytes {
            self.put_down()?;
        }
        self.come.tally.add(&record);
        let gathered = &mut self.gathered;
        gathered.bytes += record.bytes();
        match &mut gathered.run {
            Some(run) => run.add(&key, &record.value)?,
            None => {
                gathered.few.insert(key, Some(record.value));
            }
        }
        self.come.after = Some(record.key);
        if gathered.run.is_none() && run_bytes / FEW <= gathered.bytes {
            let mut run = self.store.engine.begin_run()?;
            for (key, value) in std::mem::take(&mut gathered.few) {
                run.add(&key, &value.expect("nothing is removed"))?;
            }
            gathered.run = Some(run);
        }
        Ok(())
    }

    /// What is gathered goes into the engine, and then how far it goes.
    fn put_down(&mut self) -> Result<(), StoreError> {
        let Gathered { few, run, bytes } = std::mem::take(&mut self.gathered);
        if bytes == 0 {
            return Ok(());
        }
        let Keyspace { group, incarnation } = self.space;
        let Installer { snapshot, broken, .. } = *self;
        let Reached { after, tally } = self.come.clone();
        let progress = Progress { snapshot, incarnation, after, tally, broken };
        let mut records = few;
        records.insert(keys::progress(group), Some(progress.encode()));

        let writing = self.store.writing();
        self.check_not_overtaken()?;
        // What is in a run is not in the batch.
        let in_batch = if run.is_some() { 0 } else { bytes };
        if let Some(run) = run {
            run.end()?;
        }
        let batch = CheckpointBatch { records, bytes: in_batch, ..CheckpointBatch::default() };
        self.store.engine.write(&batch)?;
        drop(writing);
        // A restart in the middle of many rows finds most of them.
        if self.store.engine.run_bytes() <= bytes {
            self.store.engine.flush()?;
        }
        self.written = self.come.clone();
        Ok(())
    }

    /// After an error: what is gathered is lost, or not counted.
    fn settled(&mut self, done: Result<(), StoreError>) -> Result<(), StoreError> {
        if done.is_err() {
            self.gathered = Gathered::default();
            self.come = self.written.clone();
        }
        done
    }

    fn check_not_overtaken(&self) -> Result<(), StoreError> {
        let group = self.space.group;
        match self.store.read().installs.writers.get(&group) {
            Some(number) if *number == self.number => Ok(()),
            Some(_) | None => Err(StoreError::Overtaken { group }),
        }
    }
}

impl std::fmt::Debug for Installer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Keyspace { group, incarnation } = self.space;
        let records = self.come.tally.records;
        write!(f, "Installer({group}, incarnation {incarnation}, {records} records)")
    }
}
