//! Hashing rows for checks, off the shard task: one group of the node at a time, a piece after the other, and
//! never faster than the rate. Used by `shard.rs`; what comes of it goes to `checks.rs`.

use std::collections::VecDeque;
use std::time::Duration;

use quorate_store::{Keyspace, Pinned, RowsHasher, StoreError};
use quorate_types::{BootTime, EntryId, GroupId, RowsDigest};

/// Bytes of rows that are read at once.
const PIECE_BYTES: usize = 1024 * 1024;
/// Bytes of rows a second, all groups of the node together: what a disk has left beside its work.
const BYTES_PER_SECOND: u64 = 64 * 1024 * 1024;
/// A view that is hashed is kept so long at most: what is overwritten meanwhile takes room on the disk.
const VIEW_TIME_MAX: Duration = Duration::from_secs(300);
/// Views that wait to be hashed, each of another group.
const WAITING_MAX: usize = 8;

/// Rows of a group to be hashed as of one entry.
pub struct HashJob {
    pub(crate) group: GroupId,
    pub(crate) at: EntryId,
    space: Keyspace,
    view: Pinned,
    hasher: RowsHasher,
    since: BootTime,
    is_done: bool,
}

impl std::fmt::Debug for HashJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HashJob({} at {}, {:?})", self.group, self.at, self.hasher)
    }
}

impl HashJob {
    /// The rows in a view, pinned just now at this entry.
    pub(crate) fn new(now: BootTime, space: Keyspace, view: Pinned, at: EntryId) -> HashJob {
        let (group, hasher) = (space.group, RowsHasher::new());
        HashJob { group, at, space, view, hasher, since: now, is_done: false }
    }

    /// Hashes one piece. Waits for the disk.
    pub(crate) fn run(&mut self) -> Result<(), StoreError> {
        self.is_done = self.hasher.page(&self.view, self.space, PIECE_BYTES)?;
        Ok(())
    }
}

/// What is to be done next.
#[derive(Default)]
pub(crate) struct Hashing {
    waiting: VecDeque<HashJob>,
    /// A piece is being hashed.
    is_busy: bool,
    /// Nothing is hashed before.
    next_at: BootTime,
}

impl Hashing {
    /// True if nothing is to be hashed.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.is_busy
    }

    /// Takes a job in; one of the same group that waits is given up for it. Says what is not taken because too
    /// many wait.
    pub(crate) fn push(&mut self, job: HashJob) -> Option<(GroupId, EntryId)> {
        self.waiting.retain(|other| other.group != job.group);
        if WAITING_MAX <= self.waiting.len() {
            return Some((job.group, job.at));
        }
        self.waiting.push_back(job);
        None
    }

    /// The job of which a piece is to be hashed now.
    pub(crate) fn next(&mut self, now: BootTime) -> Option<HashJob> {
        if self.is_busy || now < self.next_at {
            return None;
        }
        let job = self.waiting.pop_front()?;
        self.is_busy = true;
        Some(job)
    }

    /// A piece is hashed. Says what the rows are if it was the last one; `Some(None)` if it takes too long.
    /// `is_wanted` is false if nobody asks for it any more.
    pub(crate) fn hashed(
        &mut self,
        now: BootTime,
        job: HashJob,
        is_wanted: bool,
    ) -> Option<Option<RowsDigest>> {
        self.is_busy = false;
        let nanos = PIECE_BYTES as u64 * 1_000_000_000 / BYTES_PER_SECOND;
        self.next_at = now + Duration::from_nanos(nanos);
        if !is_wanted {
            return None;
        }
        if job.is_done {
            return Some(Some(job.hasher.finish()));
        }
        if job.since + VIEW_TIME_MAX < now {
            return Some(None);
        }
        self.waiting.push_front(job);
        None
    }

    /// When the next piece is due; `None` if nothing waits for the time.
    pub(crate) fn next_deadline(&self) -> Option<BootTime> {
        (!self.is_busy && !self.waiting.is_empty()).then_some(self.next_at)
    }
}
