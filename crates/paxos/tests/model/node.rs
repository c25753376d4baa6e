//! One replica with its disk, and a short name for its state.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

use quorate_paxos::{Append, Batch, Message, Options, Replica, Restored, Tail};
use quorate_types::{Ballot, BootTime, EntryId, Slot};

use crate::group;
use crate::rules::{STEP, replica};

/// What survives a crash.
#[derive(Clone, Default)]
pub struct Disk {
    pub promised: Ballot,
    pub log: Vec<Batch>,
}

impl Disk {
    /// Writes a batch: it replaces everything from its first slot on.
    pub fn write(&mut self, batch: Batch) {
        self.log.retain(|kept| kept.first() < batch.first());
        self.log.push(batch);
    }

    pub fn holds(&self, id: EntryId) -> bool {
        let holds = |batch: &Batch| {
            batch.first() <= id.slot && id.slot <= batch.last() && batch.ballot() == id.ballot
        };
        self.log.iter().any(holds)
    }

    fn restored(&self, lease_ns_max: u64) -> Restored {
        let mut runs: Vec<(Slot, Ballot)> = Vec::new();
        for batch in &self.log {
            if runs.last().is_none_or(|(_, ballot)| *ballot != batch.ballot()) {
                runs.push((batch.first(), batch.ballot()));
            }
        }
        let tail = self.log.last().map_or_else(Tail::default, Batch::tail);
        Restored { promised: self.promised, lease_ns_max, runs, tail, ..fresh() }
    }
}

fn fresh() -> Restored {
    Restored::fresh(group::voters([0, 1, 2].map(|index| (replica(index), index as u16))))
}

/// What of a state is told apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Every time: leases count.
    Matter,
    /// None: no lease is granted, and a timer may fire whenever it likes.
    AreMerged,
}

#[derive(Clone)]
pub struct Node {
    pub core: Replica,
    pub disk: Disk,
    /// Log writes handed over but not synced.
    pub unsynced: VecDeque<Append>,
    /// A promise handed over but not synced.
    pub unsynced_promise: Option<Ballot>,
    /// Applied since the start of the replica.
    pub applied: Slot,
    /// What its clock last showed.
    pub now: BootTime,
    /// The name of all this; set by `rename`.
    pub name: u64,
}

impl Node {
    pub fn start(now: BootTime, options: Options, disk: Disk, lease_ns_max: u64) -> Node {
        let core = Replica::new(now, options, disk.restored(lease_ns_max));
        let (unsynced, unsynced_promise) = (VecDeque::new(), None);
        Node { core, disk, unsynced, unsynced_promise, applied: Slot::ZERO, now, name: 0 }
    }

    /// The log with what is on its way to disk, as whoever asked for the writes sees it.
    pub fn log_as_written(&self) -> Vec<Batch> {
        let mut disk = self.disk.clone();
        for append in &self.unsynced {
            disk.write(append.batch.clone());
        }
        disk.log
    }

    pub fn rename(&mut self, times: Times, text: &mut String) {
        text.clear();
        let _infallible = write!(text, "{:?}", self.core);
        let mut hasher = DefaultHasher::new();
        hash_state(text, times, &mut hasher);
        (self.disk.promised, self.unsynced_promise, self.applied).hash(&mut hasher);
        for batch in &self.disk.log {
            hash_batch(batch, &mut hasher);
        }
        for append in &self.unsynced {
            append.write.hash(&mut hasher);
            hash_batch(&append.batch, &mut hasher);
        }
        self.name = hasher.finish();
    }
}

/// Hashes what a replica prints of itself, without its constant options and without the counter that
/// only feeds its jitter. A time counts as the step of time at which it is reached, or not at all.
fn hash_state(text: &str, times: Times, hasher: &mut DefaultHasher) {
    let start = text.find("promised: ").unwrap_or(0);
    let mut rest = &text[start..];
    while let Some((end, is_time)) = next_number(rest) {
        hasher.write(&rest.as_bytes()[..end]);
        let after = rest[end..].trim_start_matches(|digit: char| digit.is_ascii_digit());
        if is_time && times == Times::Matter {
            let nanos: u64 = rest[end..rest.len() - after.len()].parse().expect("only digits");
            nanos.div_ceil(STEP.as_nanos() as u64).hash(hasher);
        }
        rest = after;
    }
    hasher.write(rest.as_bytes());
}

/// Where the next number begins that is not hashed as it stands, and whether it is a time.
fn next_number(text: &str) -> Option<(usize, bool)> {
    const MARKS: [(&str, bool); 2] = [("waits: ", false), ("BootTime(", true)];
    let found = MARKS
        .iter()
        .filter_map(|(mark, is_time)| text.find(mark).map(|at| (at + mark.len(), *is_time)));
    found.min()
}

fn hash_batch(batch: &Batch, hasher: &mut DefaultHasher) {
    (batch.first(), batch.last_id(), batch.tail().chain).hash(hasher);
}

/// The name of a message on its way.
pub fn name_of(from: usize, to: usize, message: &Message, times: Times) -> u64 {
    let mut hasher = DefaultHasher::new();
    (from, to).hash(&mut hasher);
    let text = format!("promised: {message:?}");
    hash_state(&text, times, &mut hasher);
    match message {
        Message::Accept(msg) => hash_batch(&msg.batch, &mut hasher),
        Message::FetchReply(msg) => {
            msg.batches.iter().flatten().for_each(|batch| hash_batch(batch, &mut hasher));
        }
        _ => {}
    }
    hasher.finish()
}
