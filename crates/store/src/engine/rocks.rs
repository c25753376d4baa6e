//! RocksDB as the engine: one column family, no WAL, one batch per checkpoint.
//!
//! Why this is enough: with a single column family and no WAL, what a crash leaves is always a prefix
//! of the batches in the order they were written, each of them whole, because a batch goes into one
//! memtable and a memtable becomes one file. Rows and applied positions share the batch. The log
//! brings back the rest.
//!
//! How far the prefix reaches is read with `ReadTier::Persisted`, which skips the memtables once
//! anything was written without a WAL, so it answers from files that are synced and listed in a
//! synced manifest. It also sees flushes that RocksDB started by itself.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use quorate_types::{GroupId, Slot};
use rocksdb::{
    BlockBasedOptions, Cache, CompactOptions, DB, DBCompressionType, DBRawIterator, ErrorKind,
    FlushOptions, LogLevel, Options, Range, ReadOptions, ReadTier, WriteBatch, WriteOptions,
    properties,
};

use super::rocks_run::{RocksRun, begin_runs};
use super::rocks_snapshot::RocksSnapshot;
use super::{CheckpointBatch, Engine, EngineRun, EngineSnapshot, EngineStats};
use crate::applied;
use crate::error::StoreError;
use crate::key::Key;
use crate::keys;

const MIB: usize = 1024 * 1024;
/// What flushes and compactions write is handed to the disk in pieces of this many bytes. A disk serves them one
/// after the other with the writes of the log, which wait for what is ahead of them: a piece, not a file.
pub(super) const PIECE_BYTES: u64 = 256 * 1024;
/// So often some of the rate of flushes and compactions becomes free: whatever became free at once is written at once.
const RATE_STEP_US: i64 = 1_000;
/// One of so many times a compaction goes before a flush that waits too, so that neither waits for ever.
const RATE_FAIRNESS: i32 = 10;
/// At least the bytes of any key.
const LONGEST_KEY_BYTES: usize = 2048;

/// How much memory and how many files RocksDB may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RocksOptions {
    /// Bytes of a memtable at which it is flushed. A checkpoint larger than this still goes into one.
    pub write_buffer_bytes: usize,
    /// Most memtables, the one being filled included.
    pub write_buffers: i32,
    /// Bytes of cached blocks; indexes and filters live in here too, so this is the bound.
    pub block_cache_bytes: usize,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of the first sorted level.
    pub level_base_bytes: u64,
    /// Most open files; -1 keeps all open.
    pub open_files: i32,
    /// Threads for flushes and compactions.
    pub background_jobs: i32,
    /// Bytes a second that flushes and compactions write at most; `None`: as many as they can. Left alone they write
    /// in bursts as fast as the disk can, for seconds, and every write of the log waits behind them.
    pub background_bytes_per_second: Option<u64>,
}

impl RocksOptions {
    /// For servers.
    #[must_use]
    pub fn normal() -> RocksOptions {
        RocksOptions {
            write_buffer_bytes: 64 * MIB,
            write_buffers: 3,
            block_cache_bytes: 512 * MIB,
            file_bytes: 64 * MIB as u64,
            level_base_bytes: 512 * MIB as u64,
            open_files: -1,
            background_jobs: 3,
            background_bytes_per_second: None,
        }
    }

    /// For laptops and the demo: some 50 MiB of memory.
    #[must_use]
    pub fn small() -> RocksOptions {
        RocksOptions {
            write_buffer_bytes: 8 * MIB,
            write_buffers: 2,
            block_cache_bytes: 16 * MIB,
            file_bytes: 8 * MIB as u64,
            level_base_bytes: 32 * MIB as u64,
            open_files: 64,
            background_jobs: 2,
            background_bytes_per_second: None,
        }
    }

    fn options(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_paranoid_checks(true);

        options.set_write_buffer_size(self.write_buffer_bytes);
        options.set_max_write_buffer_number(self.write_buffers);
        // Prefix recovery needs writes in order, and there is one writer: what would let several
        // write at once is off.
        options.set_unordered_write(false);
        options.set_allow_concurrent_memtable_write(false);

        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_target_file_size_base(self.file_bytes);
        options.set_max_bytes_for_level_base(self.level_base_bytes);
        options.set_max_background_jobs(self.background_jobs);
        options.set_max_open_files(self.open_files);
        options.set_bytes_per_sync(PIECE_BYTES);
        if let Some(rate) = self.background_bytes_per_second {
            let rate = i64::try_from(rate).unwrap_or(i64::MAX).max(1);
            options.set_ratelimiter(rate, RATE_STEP_US, RATE_FAIRNESS);
        }

        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(MIB);
        options.set_max_manifest_file_size(16 * MIB);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);

        let mut blocks = file_format(&mut options);
        blocks.set_block_cache(&Cache::new_lru_cache(self.block_cache_bytes));
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        options.set_block_based_table_factory(&blocks);
        options
    }
}

/// How files of records are written, by RocksDB and as runs.
pub(super) fn file_format(options: &mut Options) -> BlockBasedOptions {
    options.set_compression_type(DBCompressionType::Lz4);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_size(8 * 1024);
    blocks.set_bloom_filter(10.0, false);
    blocks
}

/// An open RocksDB. Closing it flushes; a crash does not.
pub struct Rocks {
    db: Arc<DB>,
    /// Where runs are written.
    runs: PathBuf,
    /// Runs begun since the start.
    runs_begun: AtomicU64,
    run_bytes: usize,
    /// Snapshots that live.
    snapshots: Arc<AtomicUsize>,
    read: ReadOptions,
    read_persisted: ReadOptions,
    write: WriteOptions,
}

impl Rocks {
    /// Opens the database in folder `path`, creating it if there is none.
    ///
    /// # Errors
    /// `StoreError::Locked` if it is open elsewhere, `Corrupt` if its files are damaged or missing,
    /// `Engine` for everything else.
    pub fn open(path: &Path, profile: &RocksOptions) -> Result<Rocks, StoreError> {
        refuse_lost_database(path)?;
        let db = DB::open(&profile.options(), path).map_err(|error| open_error(path, &error))?;
        sync_parent(path)?;

        let mut read_persisted = verified();
        read_persisted.set_read_tier(ReadTier::Persisted);
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        Ok(Rocks {
            db: Arc::new(db),
            runs: begin_runs(path)?,
            runs_begun: AtomicU64::new(0),
            run_bytes: usize::try_from(profile.file_bytes).unwrap_or(usize::MAX),
            snapshots: Arc::default(),
            read: verified(),
            read_persisted,
            write,
        })
    }

    fn position(&self, group: GroupId, options: &ReadOptions) -> Result<Slot, StoreError> {
        let stored = self
            .db
            .get_pinned_opt(keys::applied(group).as_bytes(), options)
            .map_err(|error| engine_error("read an applied position", &error))?;
        applied::decode(group, stored.as_deref())
    }

    fn property(&self, name: &properties::PropName) -> u64 {
        self.db.property_int_value(name).ok().flatten().unwrap_or(0)
    }
}

impl Engine for Rocks {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let found = self.db.get_opt(key.as_bytes(), &self.read);
        let found = found.map_err(|error| engine_error("read a record", &error))?;
        Ok(found.map(Bytes::from))
    }

    fn scan(&self, from: &Key, end: &Key, limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        scan(from, end, limit, |options| self.db.raw_iterator_opt(options))
    }

    fn write(&self, batch: &CheckpointBatch) -> Result<(), StoreError> {
        let mut out = WriteBatch::with_capacity_bytes(batch.bytes);
        // In the order of their age: RocksDB keeps the last of a record.
        for (key, value) in batch.older.iter().map(Arc::as_ref).chain([&batch.records]).flatten() {
            match value {
                Some(value) => out.put(key.as_bytes(), value),
                None => out.delete(key.as_bytes()),
            }
        }
        for (group, slot) in &batch.applied {
            out.put(keys::applied(*group).as_bytes(), applied::encode(*slot));
        }
        self.db
            .write_opt(out, &self.write)
            .map_err(|error| engine_error("write a checkpoint", &error))
    }

    fn remove_range(&self, from: &Key, end: &Key) -> Result<(), StoreError> {
        let failed = |error| engine_error("remove records", &error);
        let mut out = WriteBatch::default();
        out.delete_range(from.as_bytes(), end.as_bytes());
        self.db.write_opt(out, &self.write).map_err(failed)?;
        // Whole files go at once, instead of when a compaction comes to them; snapshots do not keep them.
        // One that is not counted yet will be taken after the removal, and does not see what is removed.
        if self.snapshots.load(Ordering::SeqCst) == 0 {
            self.db.delete_file_in_range(from.as_bytes(), &last_below(end)).map_err(failed)?;
        }
        Ok(())
    }

    fn reclaim(&self, from: &Key, end: &Key) -> Result<(), StoreError> {
        // A removal in memory takes nothing from the files.
        self.flush()?;
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        // Files that a flush left beside others' records, and those at both ends of the range. What is in the
        // middle went with the removal.
        self.db.compact_range_opt(Some(from.as_bytes()), Some(end.as_bytes()), &options);
        Ok(())
    }

    fn begin_run(&self) -> Result<Box<dyn EngineRun>, StoreError> {
        let number = self.runs_begun.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(RocksRun::begin(&self.db, self.runs.join(format!("{number}.run")))?))
    }

    fn run_bytes(&self) -> usize {
        self.run_bytes
    }

    fn flush(&self) -> Result<(), StoreError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_opt(&options).map_err(|error| engine_error("flush", &error))
    }

    fn applied(&self, group: GroupId) -> Result<Slot, StoreError> {
        self.position(group, &self.read)
    }

    fn persisted(&self, group: GroupId) -> Result<Slot, StoreError> {
        self.position(group, &self.read_persisted)
    }

    fn snapshot(&self) -> Result<Arc<dyn EngineSnapshot>, StoreError> {
        Ok(Arc::new(RocksSnapshot::new(Arc::clone(&self.db), Arc::clone(&self.snapshots))?))
    }

    fn bytes_in(&self, from: &Key, end: &Key) -> u64 {
        let range = Range::new(from.as_bytes(), end.as_bytes());
        self.db.get_approximate_sizes(&[range]).iter().sum()
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            memory_bytes: self.property(properties::SIZE_ALL_MEM_TABLES)
                + self.property(properties::BLOCK_CACHE_USAGE)
                + self.property(properties::ESTIMATE_TABLE_READERS_MEM),
            disk_bytes: self.property(properties::TOTAL_SST_FILES_SIZE),
            records: self.property(properties::ESTIMATE_NUM_KEYS),
            compaction_pending_bytes: self.property(properties::ESTIMATE_PENDING_COMPACTION_BYTES),
        }
    }
}

/// A key below `end` with no key of ours in between: RocksDB takes the end of a range of files as part of
/// it, and `end` itself may be somebody else's first key.
fn last_below(end: &Key) -> Vec<u8> {
    let mut bytes = end.as_bytes().to_vec();
    if let Some(last) = bytes.pop()
        && 0 < last
    {
        bytes.push(last - 1);
        bytes.resize(LONGEST_KEY_BYTES, u8::MAX);
    }
    bytes
}

/// Reads that notice flipped bits.
pub(super) fn verified() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options
}

/// Records of a range, from an iterator over the database or over a snapshot of it.
pub(super) fn scan<'a>(
    from: &Key,
    end: &Key,
    limit: usize,
    iterate: impl FnOnce(ReadOptions) -> DBRawIterator<'a>,
) -> Result<Vec<(Key, Bytes)>, StoreError> {
    let mut found = Vec::new();
    if end <= from || limit == 0 {
        return Ok(found);
    }
    let mut options = verified();
    options.set_iterate_upper_bound(end.as_bytes());
    let mut records = iterate(options);
    records.seek(from.as_bytes());
    while let Some((key, value)) = records.item() {
        let key = Key::from_bytes(key);
        found.push((key, Bytes::copy_from_slice(value)));
        if found.len() == limit {
            return Ok(found);
        }
        records.next();
    }
    // An iterator that met an error looks like one that came to the end.
    records.status().map_err(|error| engine_error("scan records", &error))?;
    Ok(found)
}

/// Refuses a folder with tables or logs of RocksDB in it and no `CURRENT`. RocksDB takes such a folder
/// for a new database: it makes an empty one there and removes the tables. Both kinds of files are
/// only ever made after `CURRENT` is durable, so this is never a first start that was cut short.
fn refuse_lost_database(path: &Path) -> Result<(), StoreError> {
    let failed = |error: std::io::Error| StoreError::Engine {
        what: "list the folder of the store",
        reason: format!("{}: {error}", path.display()),
    };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let mut orphan = None;
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        if name == "CURRENT" {
            return Ok(());
        }
        let ending = Path::new(&name).extension();
        if ending.is_some_and(|ending| ending == "sst" || ending == "log") {
            orphan = Some(name);
        }
    }
    let Some(orphan) = orphan else { return Ok(()) };
    let reason = format!("{} has {} and no CURRENT", path.display(), orphan.display());
    Err(StoreError::Corrupt { what: "open the store", reason })
}

/// Syncs the entry of the database's folder in its parent. RocksDB syncs its own folder, but if the
/// power fails and the folder itself is gone, so is everything reported as persisted.
fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(|error| StoreError::Engine {
        what: "sync the folder of the store",
        reason: format!("{}: {error}", parent.display()),
    })
}

pub(super) fn engine_error(what: &'static str, error: &rocksdb::Error) -> StoreError {
    let reason = error.to_string();
    match error.kind() {
        ErrorKind::Corruption => StoreError::Corrupt { what, reason },
        _ => StoreError::Engine { what, reason },
    }
}

/// RocksDB has no error of its own for a lock that is held or a file that is missing: both are I/O
/// errors told apart by their text (`env/fs_posix.cc`). A test pins the texts.
fn open_error(path: &Path, error: &rocksdb::Error) -> StoreError {
    let text = error.to_string();
    let held_here = text.contains("lock hold by current process");
    let held_elsewhere = text.contains("While lock file") && text.contains("Resource temporarily");
    if held_here || held_elsewhere {
        return StoreError::Locked { path: path.display().to_string() };
    }
    let what = "open the store";
    if error.kind() == ErrorKind::IOError && text.contains("No such file or directory") {
        return StoreError::Corrupt { what, reason: text };
    }
    engine_error(what, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_key_of_a_range_is_below_its_end_and_above_all_others() {
        // Goal: no file is dropped that has the key at which a range ends, which may be all of a record's
        // key; and those whose keys are all below it are.
        let space = |incarnation: u32| crate::Keyspace { group: GroupId(1), incarnation };
        for incarnation in [0, 254, 255, 256, 65535] {
            for ((from, end), (next, _)) in
                space(incarnation).ranges().zip(space(incarnation + 1).ranges())
            {
                assert!(end <= next, "{end:?}");
                let last = Key::from_bytes(&last_below(&end));
                let longest = [from.as_bytes(), &[255; 1100]].concat();
                assert!(Key::from_bytes(&longest) < last && last < end, "{last:?}");
            }
        }
    }
}
