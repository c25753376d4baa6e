//! One simulated node: a replica, its disk, its clock and its applied entries.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_paxos::{Append, Batch, Input, LogRead, Options, Replica, Restored, Tail};
use quorate_types::{Ballot, BootTime, EntryId, Slot};

/// What survives a crash.
#[derive(Default)]
pub struct Disk {
    pub promised: Ballot,
    pub log: Vec<Batch>,
    pub trimmed: EntryId,
    /// How many applied entries have reached the checkpointed rows.
    pub rows_upto: Slot,
    pub ever_started: bool,
}

impl Disk {
    /// Writes a batch: it replaces everything from its first slot on.
    pub fn write(&mut self, batch: Batch) {
        while self.log.last().is_some_and(|last| last.first() >= batch.first()) {
            self.log.pop();
        }
        self.log.push(batch);
    }

    /// True if the entry is on this disk, or was recycled because every voter had it.
    pub fn has(&self, id: EntryId) -> bool {
        if id.slot <= self.trimmed.slot {
            return true;
        }
        let after = self.log.partition_point(|batch| batch.first() <= id.slot);
        let batch = after.checked_sub(1).and_then(|index| self.log.get(index));
        batch.is_some_and(|batch| id.slot <= batch.last() && batch.ballot() == id.ballot)
    }

    /// The last entry on this disk.
    pub fn last(&self) -> EntryId {
        self.log.last().map_or(self.trimmed, Batch::last_id)
    }

    fn restored(&self, lease_ns_max: u64) -> Restored {
        let mut runs: Vec<(Slot, Ballot)> = Vec::new();
        for batch in &self.log {
            if runs.last().is_none_or(|(_, ballot)| *ballot != batch.ballot()) {
                runs.push((batch.first(), batch.ballot()));
            }
        }
        Restored {
            promised: self.promised,
            lease_ns_max: if self.ever_started { lease_ns_max } else { 0 },
            trimmed: self.trimmed,
            runs,
            tail: self.log.last().map_or_else(Tail::default, Batch::tail),
            slot_applied: self.rows_upto,
        }
    }
}

pub struct Node {
    pub options: Options,
    pub disk: Disk,
    pub core: Option<Replica>,
    /// Log writes handed over but not synced.
    pub unsynced: VecDeque<Append>,
    /// Promises handed over but not synced.
    pub unsynced_promises: VecDeque<Ballot>,
    /// Log reads asked for and not answered.
    pub log_reads: VecDeque<LogRead>,
    /// Everything applied since slot 1, as the rows would show it.
    pub applied: Vec<(EntryId, Bytes)>,
    /// Parts per million by which the clock runs fast, and its start.
    pub clock_ppm: i64,
    pub clock_base: u64,
}

impl Node {
    pub fn now(&self, real_ns: u64) -> BootTime {
        let drift = (i128::from(real_ns) * i128::from(self.clock_ppm) / 1_000_000) as i64;
        BootTime(self.clock_base.wrapping_add(real_ns).wrapping_add_signed(drift))
    }

    pub fn start(&mut self, real_ns: u64) {
        let lease_ns = u64::try_from(self.options.timing.lease.as_nanos()).expect("seconds");
        let core =
            Replica::new(self.now(real_ns), self.options.clone(), self.disk.restored(lease_ns));
        self.disk.ever_started = true;
        self.applied.truncate(self.disk.rows_upto.0 as usize);
        self.core = Some(core);
    }

    /// A power cut: of what was not synced, a prefix of `keep` writes survives.
    pub fn crash(&mut self, keep: usize, keep_promise: bool) {
        self.core = None;
        for append in self.unsynced.drain(..).take(keep) {
            self.disk.write(append.batch);
        }
        self.unsynced.clear();
        self.log_reads.clear();
        if keep_promise && let Some(ballot) = self.unsynced_promises.back() {
            self.disk.promised = *ballot;
        }
        self.unsynced_promises.clear();
    }

    /// The first writes that wait become durable. Returns what the replica is told.
    pub fn sync_log(&mut self, count: usize) -> Option<Input> {
        let mut synced = None;
        for _ in 0..count {
            let Some(append) = self.unsynced.pop_front() else { break };
            synced = Some(append.write);
            self.disk.write(append.batch);
        }
        synced.map(|write| Input::Synced { write })
    }

    /// The first promise that waits becomes durable.
    pub fn sync_promise(&mut self) -> Option<Input> {
        let ballot = self.unsynced_promises.pop_front()?;
        assert!(self.disk.promised < ballot, "promise on disk went back");
        self.disk.promised = ballot;
        Some(Input::PromiseSynced { ballot })
    }

    /// Brings the rows to disk.
    pub fn checkpoint(&mut self) {
        if let Some(core) = &self.core {
            self.disk.rows_upto = core.slot_applied();
        }
    }

    /// Recycles the log that is in the rows on disk and that nobody needs.
    pub fn trim(&mut self) -> Option<Slot> {
        let upto = self.core.as_ref()?.slot_trimmable().min(self.disk.rows_upto);
        while self.disk.log.len() > 1 && self.disk.log[0].last() <= upto {
            self.disk.trimmed = self.disk.log.remove(0).last_id();
        }
        Some(self.disk.trimmed.slot)
    }

    /// The oldest log read that waits gets its answer, as the log stands now.
    pub fn answer_read(&mut self, count: usize) -> Option<Input> {
        let wanted = self.log_reads.pop_front()?;
        let mut batches = self.log_as_written();
        batches.retain(|batch| wanted.from <= batch.last() && batch.first() <= wanted.upto);
        batches.truncate(count.max(1));
        Some(Input::LogRead { purpose: wanted.purpose, batches })
    }

    /// The log with what is on its way to disk, as whoever asked for the writes sees it.
    pub fn log_as_written(&self) -> Vec<Batch> {
        let written = self.disk.log.iter().chain(self.unsynced.iter().map(|append| &append.batch));
        let mut batches: Vec<Batch> = Vec::new();
        for batch in written {
            batches.retain(|kept| kept.first() < batch.first());
            batches.push(batch.clone());
        }
        batches
    }
}
