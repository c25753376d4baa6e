//! A disk in memory that outlives a simulated node and fails as disks do.
//!
//! Held by simulations and tests, which make it fail; given to a node by [`SimDisk::mount`]. It has
//! no thread, no clock and no randomness but the seed of a crash, so a run repeats exactly.
//!
//! Two ways to die: [`SimDisk::kill`] ends the process and keeps the page cache, so bytes stay
//! readable that are not durable; [`SimDisk::crash`] cuts the power. Handles from before either are
//! stale, so that what is left of a dead node cannot write any more. Folders are durable at once.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

pub use super::sim_state::CrashMode;
use super::sim_state::{Change, Files, Naming, dir_of};
use crate::disk::{Disk, DiskFile};

/// What was done to a disk so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimCounters {
    /// Writes to files.
    pub writes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of folders.
    pub dir_syncs: u64,
    /// All of these, and creations, allocations, renames and removals: what
    /// [`SimDisk::stop_after`] counts.
    pub steps: u64,
}

#[derive(Debug, Default)]
struct State {
    files: Files,
    dirs: BTreeSet<String>,
    /// Raised by each crash or kill; handles of an older one are stale.
    generation: u64,
    /// Everything fails until the next crash or kill.
    stopped: bool,
    steps_left: Option<u64>,
    counters: SimCounters,
    capacity: Option<u64>,
    /// Bytes of the disk that other programs hold, beyond the capacity.
    others_bytes: u64,
    fail_writes: bool,
    fail_syncs: bool,
    fail_reads: Vec<(String, Range<u64>)>,
    sync_latency: Duration,
}

/// The simulated disk. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk without a limit.
    #[must_use]
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// The disk as a node sees it, until the next crash or kill.
    #[must_use]
    pub fn mount(&self) -> Arc<dyn Disk> {
        let generation = self.lock().generation;
        Arc::new(Mount { state: Arc::clone(&self.state), generation })
    }

    /// A power cut: what was not synced survives by chance, each write by itself.
    pub fn crash(&self, seed: u64) {
        self.crash_as(CrashMode::Mixed, seed);
    }

    /// A power cut with a given kind of outcome.
    pub fn crash_as(&self, mode: CrashMode, seed: u64) {
        let mut state = self.lock();
        state.restart();
        state.files.crash(mode, &mut SmallRng::seed_from_u64(seed));
    }

    /// The process dies, the machine lives: everything stays readable, nothing becomes durable.
    pub fn kill(&self) {
        self.lock().restart();
    }

    /// An empty disk takes the place of this one.
    pub fn lose(&self) {
        let mut state = self.lock();
        state.restart();
        state.files = Files::default();
        state.dirs = BTreeSet::new();
    }

    /// Lets `steps` more steps happen; then everything fails until the next crash or kill.
    pub fn stop_after(&self, steps: u64) {
        self.lock().steps_left = Some(steps);
    }

    /// Whether [`SimDisk::stop_after`] has struck.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Room for the files of this disk in bytes; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Bytes that other programs hold: the disk is so much larger than its capacity.
    pub fn set_others_bytes(&self, bytes: u64) {
        self.lock().others_bytes = bytes;
    }

    /// Bytes of all files, as they would be counted against a limit.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().files.used_bytes()
    }

    /// Makes every write fail with an I/O error, leaving it written or not.
    pub fn set_fail_writes(&self, fail: bool) {
        self.lock().fail_writes = fail;
    }

    /// Makes every sync fail. What it should have made durable stays readable and is never made
    /// durable by a later sync, as on Linux.
    pub fn set_fail_syncs(&self, fail: bool) {
        self.lock().fail_syncs = fail;
    }

    /// Makes reads that touch a range of a file fail, as a bad sector does.
    pub fn fail_reads(&self, path: &str, range: Range<u64>) {
        self.lock().fail_reads.push((path.to_owned(), range));
    }

    /// Virtual time a sync takes; the driver of the log reads and sleeps it.
    pub fn set_sync_latency(&self, latency: Duration) {
        self.lock().sync_latency = latency;
    }

    /// Flips one bit of a file, durably: damage, not a crash. No effect past the end.
    pub fn flip_bit(&self, path: &str, offset: u64, bit: u8) {
        let mut state = self.lock();
        if let Some(file) = state.files.names.get(path).copied()
            && let Some(file) = state.files.files.get_mut(&file)
        {
            file.flip(offset, bit);
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> SimCounters {
        self.lock().counters
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}

impl State {
    fn restart(&mut self) {
        self.generation += 1;
        self.stopped = false;
        self.steps_left = None;
    }

    fn check(&self, generation: u64) -> io::Result<()> {
        if self.generation != generation {
            return Err(failed("the simulated node that used this handle is dead"));
        }
        if self.stopped {
            return Err(failed("the simulated disk is stopped"));
        }
        Ok(())
    }

    /// Counts a step that changes something. The last one allowed still happens.
    fn step(&mut self, generation: u64) -> io::Result<()> {
        self.check(generation)?;
        if let Some(left) = &mut self.steps_left {
            if *left == 0 {
                self.stopped = true;
                return self.check(generation);
            }
            *left -= 1;
        }
        self.counters.steps += 1;
        Ok(())
    }

    fn make_room(&self, file: u64, len: u64) -> io::Result<()> {
        let old = self.files.files.get(&file).map_or(0, |f| f.cached.len);
        let grown = len.saturating_sub(old);
        match self.capacity {
            Some(capacity) if grown > 0 && capacity < self.files.used_bytes() + grown => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

struct Mount {
    state: Arc<Mutex<State>>,
    generation: u64,
}

impl Mount {
    fn checked(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = lock(&self.state);
        state.check(self.generation)?;
        Ok(state)
    }

    fn stepped(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = lock(&self.state);
        state.step(self.generation)?;
        Ok(state)
    }

    fn handle(&self, path: &str, file: u64) -> Arc<dyn DiskFile> {
        let (state, generation) = (Arc::clone(&self.state), self.generation);
        Arc::new(SimFile { state, generation, file, path: path.to_owned() })
    }
}

impl Disk for Mount {
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.checked()?;
        let file = *state.files.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(path, file))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.stepped()?;
        let dir = dir_of(path);
        if !dir.is_empty() && !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = state.files.create(path);
        if let Some(content) = state.files.files.get_mut(&file) {
            content.change(Change::SetLen(0));
        }
        Ok(self.handle(path, file))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.checked()?;
        if !dir.is_empty() && !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state.files.names.keys().filter(|name| dir_of(name) == dir);
        Ok(inside.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned()).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.stepped()?;
        if dir_of(from) != dir_of(to) {
            return Err(failed("a rename stays in its folder"));
        }
        let file = *state.files.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.name(Naming::Rename { from: from.to_owned(), to: to.to_owned(), file });
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.stepped()?;
        if !state.files.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.files.name(Naming::Unlink { name: path.to_owned() });
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.stepped()?;
        if state.fail_syncs {
            return Err(failed("simulated sync error"));
        }
        state.counters.dir_syncs += 1;
        state.files.sync_dir(dir);
        Ok(())
    }

    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        let mut state = self.checked()?;
        let mut rest = dir;
        while !rest.is_empty() {
            state.dirs.insert(rest.to_owned());
            rest = dir_of(rest);
        }
        Ok(())
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        Ok(self.checked()?.files.names.contains_key(path))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.checked()?;
        Ok(state.capacity.map_or(u64::MAX / 2, |all| all.saturating_sub(state.files.used_bytes())))
    }

    fn total_bytes(&self) -> io::Result<u64> {
        let state = self.checked()?;
        Ok(state.capacity.map_or(u64::MAX / 2, |bytes| bytes + state.others_bytes))
    }

    fn sync_latency(&self) -> Duration {
        lock(&self.state).sync_latency
    }
}

struct SimFile {
    state: Arc<Mutex<State>>,
    generation: u64,
    file: u64,
    path: String,
}

impl SimFile {
    fn change(&self, change: Change, end: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.step(self.generation)?;
        if state.fail_writes {
            return Err(failed("simulated write error"));
        }
        state.make_room(self.file, end)?;
        if matches!(change, Change::Write { .. }) {
            state.counters.writes += 1;
        }
        let file = state.files.files.get_mut(&self.file).ok_or(io::ErrorKind::NotFound)?;
        file.change(change);
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let state = lock(&self.state);
        state.check(self.generation)?;
        Ok(state.files.files.get(&self.file).ok_or(io::ErrorKind::NotFound)?.cached.len)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let state = lock(&self.state);
        state.check(self.generation)?;
        let end = offset + into.len() as u64;
        let bad = |(path, range): &(String, Range<u64>)| {
            *path == self.path && range.start < end && offset < range.end
        };
        if state.fail_reads.iter().any(bad) {
            return Err(failed("simulated read error"));
        }
        let file = state.files.files.get(&self.file).ok_or(io::ErrorKind::NotFound)?;
        Ok(file.cached.read(offset, into))
    }

    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let end = offset + bytes.len() as u64;
        self.change(Change::Write { offset, bytes }, end)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.step(self.generation)?;
        let fail = state.fail_syncs;
        state.counters.syncs += 1;
        let file = state.files.files.get_mut(&self.file).ok_or(io::ErrorKind::NotFound)?;
        if fail {
            // The kernel marks the pages clean and forgets them: readable, never written again.
            file.unsynced.clear();
            return Err(failed("simulated sync error"));
        }
        file.sync();
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let len = len.max(self.len()?);
        self.change(Change::SetLen(len), len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len), len)
    }
}
