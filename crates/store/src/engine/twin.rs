//! The engine's twin for simulation: in memory, deterministic, and able to crash.
//!
//! A handle is cheap to clone and all clones share one state, so the simulator keeps a clone while
//! the node that uses the twin is killed and started again. Like RocksDB without a WAL it holds
//! batches that are not persistent yet and loses some of them in a crash: a suffix, whole batches,
//! none that it had reported as persisted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quorate_types::{GroupId, Slot};

use super::{CheckpointBatch, Engine, EngineRun, EngineSnapshot, EngineStats};
use crate::applied;
use crate::error::StoreError;
use crate::key::Key;
use crate::keys;

/// Unflushed bytes at which the twin flushes by itself, as RocksDB does with a full write buffer.
const WRITE_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// The bytes of a run: so few that simulated rows come in several.
const RUN_BYTES: usize = 1024;

/// An engine in memory that outlives the node using it.
#[derive(Clone)]
pub struct Twin {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    /// What a crash leaves at least. `persisted` answers from here.
    flushed: Records,
    /// What was written since, oldest first.
    unflushed: VecDeque<Written>,
    /// The sum of the bytes of `unflushed`.
    unflushed_bytes: usize,
    /// `flushed` with all of `unflushed` on top. Reads are answered from here.
    /// Shared with snapshots: who writes while one lives copies it first.
    live: Arc<Records>,
    write_buffer_bytes: usize,
}

/// A write.
enum Written {
    Batch(CheckpointBatch),
    /// Everything from the first key to below the second was removed.
    Removed(Key, Key),
}

impl Written {
    /// True if it is about a key from the first of these to the second.
    fn touches(&self, first: &Key, last: &Key) -> bool {
        match self {
            Written::Batch(batch) => {
                batch.layers().any(|records| records.range(first..=last).next().is_some())
            }
            Written::Removed(from, end) => from <= last && first < end,
        }
    }
}

#[derive(Clone, Default)]
struct Records {
    found: BTreeMap<Key, Bytes>,
    /// Those whose bytes have changed by themselves. What a read would find does not match its checksum.
    damaged: BTreeSet<Key>,
}

impl Records {
    fn redo(&mut self, written: &Written) {
        match written {
            Written::Batch(batch) => self.write(batch),
            Written::Removed(from, end) => self.remove(from, end, |_| true),
        }
    }

    fn remove(&mut self, from: &Key, end: &Key, is_wanted: impl Fn(usize) -> bool) {
        if end <= from {
            return;
        }
        let found: Vec<Key> = self.found.range(from..end).map(|(key, _)| key.clone()).collect();
        for (_, key) in found.iter().enumerate().filter(|(index, _)| is_wanted(*index)) {
            self.put(key.clone(), None);
        }
    }

    /// Whatever stood there does not matter any more.
    fn put(&mut self, key: Key, value: Option<Bytes>) {
        self.damaged.remove(&key);
        match value {
            Some(value) => self.found.insert(key, value),
            None => self.found.remove(&key),
        };
    }

    fn write(&mut self, batch: &CheckpointBatch) {
        for (key, value) in batch.older.iter().map(Arc::as_ref).chain([&batch.records]).flatten() {
            self.put(key.clone(), value.clone());
        }
        for (group, slot) in &batch.applied {
            self.put(keys::applied(*group), Some(applied::encode(*slot)));
        }
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.check(key)?;
        Ok(self.found.get(key).cloned())
    }

    fn range(&self, from: &Key, end: &Key, limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        if end <= from {
            return Ok(Vec::new());
        }
        let found = self.found.range(from..end).take(limit);
        let found = found.map(|(key, value)| {
            self.check(key)?;
            Ok((key.clone(), value.clone()))
        });
        found.collect()
    }

    fn check(&self, key: &Key) -> Result<(), StoreError> {
        if self.damaged.contains(key) {
            let reason = format!("the checksum of {key:?} is wrong");
            return Err(StoreError::Corrupt { what: "read", reason });
        }
        Ok(())
    }

    fn applied(&self, group: GroupId) -> Result<Slot, StoreError> {
        applied::decode(group, self.get(&keys::applied(group))?.as_deref())
    }

    fn bytes(&self) -> u64 {
        self.found.iter().map(|(k, v)| (k.as_bytes().len() + v.len()) as u64).sum()
    }
}

impl Default for Twin {
    fn default() -> Twin {
        Twin::new()
    }
}

impl Twin {
    /// An empty twin.
    #[must_use]
    pub fn new() -> Twin {
        Twin::with_write_buffer(WRITE_BUFFER_BYTES)
    }

    /// An empty twin that flushes by itself before a write once this many bytes are unflushed.
    #[must_use]
    pub fn with_write_buffer(bytes: usize) -> Twin {
        let shared = Shared {
            flushed: Records::default(),
            unflushed: VecDeque::new(),
            unflushed_bytes: 0,
            live: Arc::default(),
            write_buffer_bytes: bytes,
        };
        Twin { shared: Arc::new(Mutex::new(shared)) }
    }

    /// What a power failure does: keeps everything flushed and some number of the batches written
    /// after it, chosen by `seed`, and loses the rest. Says how many batches were lost. Of what a lost
    /// removal had removed, a part is gone nevertheless.
    ///
    /// The caller makes sure that nobody uses the twin for the node that crashed any more.
    pub fn crash(&self, seed: u64) -> usize {
        let mut shared = self.lock();
        let choices = shared.unflushed.len() as u64 + 1;
        let kept = usize::try_from(mixed(seed) % choices).expect("at most the number of batches");
        let lost = shared.unflushed.split_off(kept);
        shared.flush();
        let (parts, part) = ((mixed(seed) >> 32) as usize % 3 + 1, (mixed(seed) >> 40) as usize);
        for written in &lost {
            if let Written::Removed(from, end) = written {
                shared.flushed.remove(from, end, |index| (index + part) % parts == 0);
            }
        }
        let lost = lost.len();
        shared.live = Arc::new(shared.flushed.clone());
        lost
    }

    /// Loses everything, as a disk that is replaced.
    ///
    /// The caller makes sure that nobody uses the twin for the node that lost it any more.
    pub fn lose(&self) {
        let mut shared = self.lock();
        shared.flushed = Records::default();
        shared.unflushed.clear();
        shared.unflushed_bytes = 0;
        shared.live = Arc::default();
    }

    /// Changes bytes of a record that is on the disk, which one by `seed`. Whoever reads it from here on is told so,
    /// as by the checksums of a real engine; what is written in its place is whole. False if there is none.
    pub fn damage(&self, seed: u64) -> bool {
        let mut shared = self.lock();
        let count = shared.flushed.found.len().max(1) as u64;
        let which = usize::try_from(mixed(seed) % count).expect("less than there are records");
        let Some(key) = shared.flushed.found.keys().nth(which).cloned() else { return false };
        let is_newer = shared.live.found.get(&key) != shared.flushed.found.get(&key);
        if !is_newer {
            Arc::make_mut(&mut shared.live).damaged.insert(key.clone());
        }
        shared.flushed.damaged.insert(key);
        true
    }

    /// How many batches are written but not flushed.
    #[must_use]
    pub fn unflushed_batches(&self) -> usize {
        self.lock().unflushed.len()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Every change under the lock is completed by code that does not panic.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn take(&mut self, written: Written, bytes: usize) {
        if self.write_buffer_bytes <= self.unflushed_bytes {
            self.flush();
        }
        Arc::make_mut(&mut self.live).redo(&written);
        self.unflushed_bytes += bytes;
        self.unflushed.push_back(written);
    }

    /// As RocksDB does with a file that is handed to it: what is in memory goes to the disk first if they overlap.
    fn take_run(&mut self, records: &BTreeMap<Key, Bytes>) {
        let ends = records.first_key_value().zip(records.last_key_value());
        let Some(((first, _), (last, _))) = ends else { return };
        if self.unflushed.iter().any(|written| written.touches(first, last)) {
            self.flush();
        }
        let live = Arc::make_mut(&mut self.live);
        for (key, value) in records {
            self.flushed.put(key.clone(), Some(value.clone()));
            live.put(key.clone(), Some(value.clone()));
        }
    }

    fn flush(&mut self) {
        for written in self.unflushed.drain(..) {
            self.flushed.redo(&written);
        }
        self.unflushed_bytes = 0;
    }
}

impl Engine for Twin {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.lock().live.get(key)
    }

    fn scan(&self, from: &Key, end: &Key, limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.lock().live.range(from, end, limit)
    }

    fn write(&self, batch: &CheckpointBatch) -> Result<(), StoreError> {
        self.lock().take(Written::Batch(batch.clone()), batch.bytes);
        Ok(())
    }

    fn remove_range(&self, from: &Key, end: &Key) -> Result<(), StoreError> {
        self.lock().take(Written::Removed(from.clone(), end.clone()), 0);
        Ok(())
    }

    fn begin_run(&self) -> Result<Box<dyn EngineRun>, StoreError> {
        Ok(Box::new(TwinRun { twin: self.clone(), records: BTreeMap::new() }))
    }

    fn run_bytes(&self) -> usize {
        RUN_BYTES
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.lock().flush();
        Ok(())
    }

    fn applied(&self, group: GroupId) -> Result<Slot, StoreError> {
        self.lock().live.applied(group)
    }

    fn persisted(&self, group: GroupId) -> Result<Slot, StoreError> {
        self.lock().flushed.applied(group)
    }

    fn snapshot(&self) -> Result<Arc<dyn EngineSnapshot>, StoreError> {
        let live: Arc<Records> = Arc::clone(&self.lock().live);
        Ok(live)
    }

    fn bytes_in(&self, from: &Key, end: &Key) -> u64 {
        if end <= from {
            return 0;
        }
        let shared = self.lock();
        let found = shared.live.found.range(from..end);
        found.map(|(key, value)| (key.as_bytes().len() + value.len()) as u64).sum()
    }

    fn stats(&self) -> EngineStats {
        let shared = self.lock();
        EngineStats {
            memory_bytes: shared.unflushed_bytes as u64,
            disk_bytes: shared.flushed.bytes(),
            records: shared.live.found.len() as u64,
            compaction_pending_bytes: 0,
        }
    }
}

/// A run on its way into a twin.
struct TwinRun {
    twin: Twin,
    records: BTreeMap<Key, Bytes>,
}

impl EngineRun for TwinRun {
    fn add(&mut self, key: &Key, value: &[u8]) -> Result<(), StoreError> {
        let last = self.records.last_key_value().map(|(last, _)| last);
        assert!(last.is_none_or(|last| last < key), "store: a run out of order at {key:?}");
        self.records.insert(key.clone(), Bytes::copy_from_slice(value));
        Ok(())
    }

    fn end(self: Box<Self>) -> Result<(), StoreError> {
        self.twin.lock().take_run(&self.records);
        Ok(())
    }
}

impl EngineSnapshot for Records {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        Records::get(self, key)
    }

    fn scan(&self, from: &Key, end: &Key, limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.range(from, end, limit)
    }
}

/// Spreads neighbouring seeds (the finalizer of SplitMix64), so that seeds 0, 1, 2 differ in more
/// than their last bits.
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(1);

    fn batch(slot: u64) -> CheckpointBatch {
        let key = Key::from_bytes(b"k");
        CheckpointBatch {
            records: BTreeMap::from([(key, Some(vec![slot as u8].into()))]),
            applied: BTreeMap::from([(GROUP, Slot(slot))]),
            bytes: 10,
            ..CheckpointBatch::default()
        }
    }

    #[test]
    fn a_crash_leaves_every_prefix_from_the_flushed_one_on_and_no_other() {
        let mut seen = BTreeSet::new();
        for seed in 0..64 {
            let twin = Twin::new();
            for slot in 1..=2 {
                twin.write(&batch(slot)).unwrap();
            }
            twin.flush().unwrap();
            for slot in 3..=5 {
                twin.write(&batch(slot)).unwrap();
            }
            let lost = twin.crash(seed);
            let left = twin.applied(GROUP).unwrap();
            assert_eq!(left, Slot(5 - lost as u64));
            assert_eq!(twin.persisted(GROUP).unwrap(), left);
            seen.insert(left.0);
        }
        assert_eq!(seen, BTreeSet::from([2, 3, 4, 5]));
    }

    #[test]
    fn a_full_write_buffer_flushes_what_came_before_the_write() {
        let twin = Twin::with_write_buffer(20);
        for slot in 1..=3 {
            twin.write(&batch(slot)).unwrap();
        }
        assert_eq!(twin.persisted(GROUP).unwrap(), Slot(2));
        assert_eq!(twin.applied(GROUP).unwrap(), Slot(3));
        assert_eq!(twin.unflushed_batches(), 1);
    }

    /// Goal: a record whose bytes have changed is never read, also after a crash; what is written in its place is, and
    /// what stands beside it.
    #[test]
    fn a_damaged_record_is_told_and_not_read() {
        let (first, end) = (Key::from_bytes(b"a"), Key::from_bytes(b"zz"));
        let is_damaged =
            |read: Result<(), StoreError>| matches!(read, Err(StoreError::Corrupt { .. }));
        for seed in 0..16 {
            let twin = Twin::new();
            assert!(!twin.damage(seed), "there is nothing");
            twin.write(&batch(1)).unwrap();
            twin.flush().unwrap();
            assert!(twin.damage(seed));
            for _ in 0..2 {
                let row = is_damaged(twin.get(&Key::from_bytes(b"k")).map(drop));
                assert_ne!(row, is_damaged(twin.applied(GROUP).map(drop)), "one of the two");
                assert!(!row || is_damaged(twin.scan(&first, &end, 9).map(drop)));
                let snapshot = twin.snapshot().unwrap();
                assert_eq!(row, is_damaged(snapshot.get(&Key::from_bytes(b"k")).map(drop)));
                twin.crash(seed);
            }
            twin.write(&batch(2)).unwrap();
            assert_eq!(twin.applied(GROUP).unwrap(), Slot(2));
            assert_eq!(twin.get(&Key::from_bytes(b"k")).unwrap(), Some(vec![2].into()));
        }
    }

    #[test]
    fn a_clone_sees_what_another_handle_wrote() {
        let twin = Twin::new();
        let kept = twin.clone();
        twin.write(&batch(1)).unwrap();
        drop(twin);
        assert_eq!(kept.applied(GROUP).unwrap(), Slot(1));
    }
}
