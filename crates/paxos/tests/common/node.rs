//! One simulated node: a replica, its disk, its clock and its applied entries.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_paxos::{
    Append, Batch, Input, LogRead, MembershipAt, Options, Replica, Restored, Tail,
};
use quorate_types::{Ballot, BootTime, EntryId, ReplicaKind, Slot};

/// What survives a crash.
#[derive(Default)]
pub struct Disk {
    pub promised: Ballot,
    pub log: Vec<Batch>,
    /// The last membership that was made durable because it was chosen.
    pub membership: MembershipAt,
    /// The group goes on without what is on this disk.
    pub is_outlived: bool,
    pub trimmed: EntryId,
    /// Applied entries that have reached the rows, from slot 1 on.
    pub rows: Vec<(EntryId, Bytes)>,
    /// Rows that are lost, and not yet brought back.
    pub lost: Vec<(EntryId, Bytes)>,
    /// The rows were found to be damaged, and others have not taken their place yet.
    pub is_damaged: bool,
    /// Log that is lost, while the replica is not whole again.
    pub lost_log: Vec<Batch>,
    /// The log may lack what was acknowledged.
    pub is_suspect: bool,
    pub ever_started: bool,
}

/// Rows on their way from another replica.
pub struct Arriving {
    /// The batch they end with.
    pub last: Batch,
    pub membership: MembershipAt,
    pub rows: Vec<(EntryId, Bytes)>,
    pub phase: Phase,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Fetched,
    /// The log comes first.
    Logging,
    /// The replica waits for it.
    Installing,
    /// It is what the disk has.
    Switched,
}

impl Disk {
    /// Writes a batch: it replaces everything from its first slot on.
    pub fn write(&mut self, batch: Batch) {
        while self.log.last().is_some_and(|last| last.first() >= batch.first()) {
            self.log.pop();
        }
        self.log.push(batch);
    }

    /// True if the entry is on this disk, in rows or log. What is lost counts: that it is is the one fault more
    /// which the others must make good.
    pub fn has(&self, id: EntryId) -> bool {
        let is_row = |rows: &[(EntryId, Bytes)]| {
            let index = usize::try_from(id.slot.0 - 1).expect("small");
            rows.get(index).is_some_and(|(row, _)| *row == id)
        };
        if is_row(&self.rows) || is_row(&self.lost) {
            return true;
        }
        let is_in = |log: &[Batch]| {
            let after = log.partition_point(|batch| batch.first() <= id.slot);
            let batch = after.checked_sub(1).and_then(|index| log.get(index));
            batch.is_some_and(|batch| id.slot <= batch.last() && batch.ballot() == id.ballot)
        };
        is_in(&self.log) || is_in(&self.lost_log)
    }

    /// All but the first `keep` batches of the log are lost. Where the rows are ahead of what is left, that is of
    /// no use either.
    fn lose_log(&mut self, keep: usize) {
        let (_, log) = self.history();
        let mut log = log.to_vec();
        self.lost_log = log.split_off(keep.min(log.len()));
        if log.last().is_none_or(|last| last.last() < self.rows_upto()) {
            log.append(&mut self.lost_log);
            self.lost_log = std::mem::take(&mut log);
            self.trimmed = EntryId::ZERO;
        }
        self.log = log;
        self.is_suspect = true;
    }

    /// The last entry on this disk.
    pub fn last(&self) -> EntryId {
        let (before, log) = self.history();
        log.last().map_or(before, Batch::last_id)
    }

    /// Where the log begins, and the batches that continue it. What was there before a snapshot was
    /// installed does not: it ended differently.
    pub fn history(&self) -> (EntryId, &[Batch]) {
        let breaks = self.log.windows(2).rposition(|pair| {
            let end = pair[0].tail();
            pair[1].prev() != end.id || pair[1].prev_chain() != end.chain
        });
        let whole = &self.log[breaks.map_or(0, |before| before + 1)..];
        (whole.first().map_or(self.trimmed, Batch::prev), whole)
    }

    /// How far the rows reach.
    pub fn rows_upto(&self) -> Slot {
        Slot(self.rows.len() as u64)
    }

    fn restored(&self, kind: ReplicaKind, lease_ns_max: u64) -> Restored {
        let mut runs: Vec<(Slot, Ballot)> = Vec::new();
        let (before, log) = self.history();
        for batch in log {
            if runs.last().is_none_or(|(_, ballot)| *ballot != batch.ballot()) {
                runs.push((batch.first(), batch.ballot()));
            }
        }
        let tail = log.last().map_or_else(Tail::default, Batch::tail);
        let is_short = kind.keeps_rows() && tail.id.slot < self.rows_upto();
        assert!(!is_short || self.is_suspect, "the rows are ahead of the log");
        let has_rows = kind.keeps_rows() && !is_short;
        Restored {
            promised: self.promised,
            lease_ns_max: if self.ever_started { lease_ns_max } else { 0 },
            trimmed: before,
            runs,
            tail,
            slot_applied: if has_rows { self.rows_upto() } else { before.slot },
            applied_last: log.iter().find(|batch| batch.last() == self.rows_upto()).cloned(),
            rows_missing: is_short
                || kind.keeps_rows() && (self.is_damaged || self.rows_upto() < before.slot),
            rows_at_least: self.rows_upto(),
            log_suspect: self.is_suspect,
            membership: self.membership.clone(),
            memberships_in_log: log.iter().filter_map(Batch::membership).collect(),
            is_outlived: self.is_outlived,
        }
    }
}

pub struct Node {
    pub options: Options,
    pub disk: Disk,
    pub core: Option<Replica>,
    /// Log writes handed over but not synced.
    pub unsynced: VecDeque<Append>,
    /// Memberships that become durable before the write of this number, or else before log is recycled.
    /// With it stands whether the group goes on without the replica.
    pub unsynced_memberships: Vec<(u64, MembershipAt, bool)>,
    /// The number of the last write handed over.
    pub last_write: u64,
    /// Promises handed over but not synced.
    pub unsynced_promises: VecDeque<Ballot>,
    /// Memberships that an arbiter is to keep.
    pub unsynced_kept: VecDeque<MembershipAt>,
    /// The log is whole again, which is not on disk yet.
    pub unsynced_whole: bool,
    /// Log reads asked for and not answered.
    pub log_reads: VecDeque<LogRead>,
    /// Everything applied since slot 1, as the rows would show it.
    pub applied: Vec<(EntryId, Bytes)>,
    /// Parts per million by which the clock runs fast, and its start.
    pub clock_ppm: i64,
    pub clock_base: u64,
    /// The replica asks for rows as of this slot or later.
    pub wants_rows: Option<Slot>,
    pub arriving: Option<Arriving>,
}

impl Node {
    pub fn now(&self, real_ns: u64) -> BootTime {
        let drift = (i128::from(real_ns) * i128::from(self.clock_ppm) / 1_000_000) as i64;
        BootTime(self.clock_base.wrapping_add(real_ns).wrapping_add_signed(drift))
    }

    pub fn start(&mut self, real_ns: u64) {
        let lease_ns = u64::try_from(self.options.timing.lease.as_nanos()).expect("seconds");
        let restored = self.disk.restored(self.options.kind, lease_ns);
        let core = Replica::new(self.now(real_ns), self.options.clone(), restored);
        self.disk.ever_started = true;
        self.applied = self.disk.rows.clone();
        self.core = Some(core);
    }

    /// A power cut: of what was not synced, a prefix of `keep` writes survives.
    pub fn crash(&mut self, keep: usize, keep_promise: bool) {
        self.core = None;
        self.sync_log(keep);
        self.last_write = 0;
        self.unsynced.clear();
        self.log_reads.clear();
        if keep_promise && let Some(ballot) = self.unsynced_promises.back() {
            self.disk.promised = *ballot;
            self.sync_histories();
        }
        self.unsynced_memberships.clear();
        if keep_promise && let Some(at) = self.unsynced_kept.pop_back() {
            self.disk.membership = at;
        }
        if keep_promise && self.unsynced_whole {
            self.make_whole();
        }
        self.unsynced_whole = false;
        self.unsynced_promises.clear();
        self.unsynced_kept.clear();
        self.wants_rows = None;
        self.arriving = None;
    }

    /// A membership is chosen: it is to be durable before these writes.
    pub fn keep_membership(&mut self, membership: Option<MembershipAt>, appends: &[Append]) {
        // One of another history comes before whatever is written next: so the log thread does it with all of them.
        let history = |at: &MembershipAt| at.membership.history();
        let is_later =
            membership.as_ref().is_some_and(|at| history(&self.disk.membership) < history(at));
        let never = if is_later { self.last_write + 1 } else { u64::MAX };
        let before = appends.first().map_or(never, |append| append.write);
        self.last_write = appends.last().map_or(self.last_write, |append| append.write);
        let is_outlived = self.core.as_ref().is_some_and(Replica::is_outlived);
        self.unsynced_memberships.extend(membership.map(|at| (before, at, is_outlived)));
    }

    fn sync_memberships(&mut self, write: u64) {
        let due = self.unsynced_memberships.extract_if(.., |(before, ..)| *before <= write);
        for (_, at, is_outlived) in due {
            self.disk.is_outlived |= is_outlived;
            if !self.disk.membership.is_after(&at) {
                self.disk.membership = at;
            }
        }
    }

    /// The promise file is one: with a promise it has the history in which that was given.
    fn sync_histories(&mut self) {
        let of_disk = self.disk.membership.membership.history();
        let later = self.unsynced_memberships.iter();
        let later = later.filter(|(_, at, _)| of_disk < at.membership.history());
        if let Some(write) = later.map(|(before, ..)| *before).max() {
            self.sync_memberships(write);
        }
    }

    /// The memberships that this node may count by, now or after a restart.
    pub fn memberships(&self) -> Vec<MembershipAt> {
        let (_, log) = self.disk.history();
        let in_log = log.iter().chain(self.unsynced.iter().map(|append| &append.batch));
        in_log.filter_map(Batch::membership).chain([self.disk.membership.clone()]).collect()
    }

    /// The node is gone with its disk.
    pub fn vanish(&mut self) {
        self.crash(0, false);
        self.disk = Disk::default();
    }

    /// Part of the log is lost with the node down.
    pub fn lose_log(&mut self, keep: usize) {
        assert!(self.core.is_none() && self.disk.lost_log.is_empty());
        self.disk.lose_log(keep);
    }

    fn make_whole(&mut self) {
        self.disk.is_suspect = false;
        self.disk.lost_log.clear();
    }

    /// The rows are lost with the node down, and with them where they came from.
    pub fn lose_rows(&mut self) {
        assert!(self.core.is_none() && self.disk.lost.is_empty());
        self.disk.lost = std::mem::take(&mut self.disk.rows);
    }

    /// The rows are found to be damaged. The disk remembers it; the replica hears of it unless others are
    /// about to take their place.
    pub fn damage_rows(&mut self) -> Option<Input> {
        if self.arriving.as_ref().is_some_and(|it| it.phase != Phase::Fetched) {
            return None;
        }
        self.disk.is_damaged = true;
        Some(Input::RowsDamaged)
    }

    /// What this node has applied, to go to another one.
    pub fn snapshot(&self) -> Option<Arriving> {
        let core = self.core.as_ref()?;
        let (last, membership) = (core.applied_last()?.clone(), core.snapshot_membership().clone());
        let rows = self.applied[..last.last().0 as usize].to_vec();
        Some(Arriving { last, membership, rows, phase: Phase::Fetched })
    }

    /// The snapshot is here: the replica waits until it is what the disk has, or has no use for it.
    pub fn install(&mut self) -> Option<Input> {
        let arriving = self.arriving.as_mut().filter(|it| it.phase == Phase::Fetched)?;
        let core = self.core.as_ref()?;
        let is_ours = arriving.membership.membership.history() == core.history();
        if is_ours && core.may_install(arriving.last.last_id()) {
            arriving.phase = Phase::Logging;
            let (last, membership) = (arriving.last.clone(), arriving.membership.clone());
            return Some(Input::Install { last, membership });
        }
        self.arriving = None;
        Some(Input::Refilling(None))
    }

    /// One write makes the snapshot the rows of this disk.
    pub fn switch(&mut self) {
        let Some(arriving) = self.arriving.as_mut() else { return };
        if arriving.phase != Phase::Installing {
            return;
        }
        arriving.phase = Phase::Switched;
        if self.options.kind.keeps_rows() {
            self.disk.rows = arriving.rows.clone();
        }
        self.disk.lost.clear();
        self.disk.is_damaged = false;
    }

    /// The replica is told what became of it.
    pub fn installed(&mut self) -> Option<Input> {
        if matches!(self.arriving.as_ref()?.phase, Phase::Fetched | Phase::Logging) {
            return None;
        }
        let arriving = self.arriving.take()?;
        self.wants_rows = None;
        let is_done = arriving.phase == Phase::Switched;
        if is_done && self.options.kind.keeps_rows() {
            self.applied = arriving.rows;
        }
        Some(Input::Installed { is_done })
    }

    /// The first writes that wait become durable. Returns what the replica is told.
    pub fn sync_log(&mut self, count: usize) -> Option<Input> {
        let mut synced = None;
        for _ in 0..count {
            let Some(append) = self.unsynced.pop_front() else { break };
            self.sync_memberships(append.write);
            synced = Some(append.write);
            self.disk.write(append.batch);
        }
        synced.map(|write| Input::Synced { write })
    }

    /// True if something is on its way to the promise file.
    pub fn has_unsynced_promises(&self) -> bool {
        !self.unsynced_promises.is_empty() || !self.unsynced_kept.is_empty() || self.unsynced_whole
    }

    /// The first promise that waits becomes durable; if there is none, the first membership that an arbiter is
    /// to keep, or that the log is whole again.
    pub fn sync_promise(&mut self) -> Option<Input> {
        let Some(ballot) = self.unsynced_promises.pop_front() else {
            if std::mem::take(&mut self.unsynced_whole) {
                self.make_whole();
                return Some(Input::LogWhole);
            }
            let at = self.unsynced_kept.pop_front()?;
            let order = |at: &MembershipAt| (at.membership.history(), at.id);
            assert!(order(&self.disk.membership) < order(&at), "an arbiter goes back");
            let id = at.id;
            self.disk.membership = at;
            return Some(Input::Kept(id));
        };
        assert!(self.disk.promised < ballot, "promise on disk went back");
        self.disk.promised = ballot;
        self.sync_histories();
        Some(Input::PromiseSynced { ballot })
    }

    /// Brings the rows to disk.
    pub fn checkpoint(&mut self) {
        // A snapshot that is the rows already is newer.
        let is_switched = self.arriving.as_ref().is_some_and(|it| it.phase == Phase::Switched);
        if self.core.is_some() && !is_switched {
            self.disk.rows.extend_from_slice(&self.applied[self.disk.rows.len()..]);
        }
    }

    /// Recycles the log that is in the rows on disk and that nobody needs.
    pub fn trim(&mut self) -> Option<Slot> {
        let upto = self.core.as_ref()?.slot_trimmable();
        if self.unsynced_memberships.iter().any(|(before, ..)| *before <= self.last_write) {
            return None; // Those go first.
        }
        self.sync_memberships(u64::MAX);
        let in_rows = Slot(self.disk.rows_upto().0.saturating_sub(1));
        let upto = if self.options.kind.keeps_rows() { upto.min(in_rows) } else { upto };
        while self.disk.log.len() > 1 && self.disk.log[0].last() <= upto {
            self.disk.trimmed = self.disk.log.remove(0).last_id();
        }
        Some(upto.min(self.disk.trimmed.slot))
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
