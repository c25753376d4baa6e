//! What a replica starts from: its promise, its log, its rows. Called by the server once per group,
//! before the shard runs.

use quorate_log::{LogError, LogReader, RecoveredGroup};
use quorate_paxos::{Batch, BatchError, MembershipAt, Restored, Tail};
use quorate_store::{Store, StoreError};
use quorate_types::{Ballot, Code, EntryId, GroupId, ReplicaKind, Slot};
use tracing::info;

/// Bytes of log read at a time.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;

/// Why a group cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The log cannot be read.
    #[error("log of {group}: {source}")]
    Log {
        /// The group.
        group: GroupId,
        /// What failed.
        #[source]
        source: LogError,
    },
    /// A frame of the log is no batch.
    #[error("log of {group}: the frame at slot {slot} is no batch: {source}")]
    Batch {
        /// The group.
        group: GroupId,
        /// Its first slot.
        slot: Slot,
        /// What is wrong.
        #[source]
        source: BatchError,
    },
    /// The log ends below what the rows hold, or has a hole where it is read.
    #[error("log of {group}: slots {from} to {upto} are missing")]
    Missing {
        /// The group.
        group: GroupId,
        /// First missing slot.
        from: Slot,
        /// Last missing slot.
        upto: Slot,
    },
    /// The log holds an entry of a ballot that was never promised.
    #[error("log of {group} holds entry {entry}, but only {promised} was promised")]
    BeyondPromise {
        /// The group.
        group: GroupId,
        /// The last entry.
        entry: EntryId,
        /// The promise on disk.
        promised: Ballot,
    },
    /// The rows cannot be read.
    #[error("rows of {group}: {source}")]
    Store {
        /// The group.
        group: GroupId,
        /// What failed.
        #[source]
        source: StoreError,
    },
}

impl RestoreError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            RestoreError::Log { source, .. } => source.code(),
            RestoreError::Batch { .. } | RestoreError::Missing { .. } => Code::LogDamaged,
            RestoreError::BeyondPromise { .. } => Code::PromisesUnreadable,
            RestoreError::Store { source, .. } => source.code(),
        }
    }
}

/// What is on disk of one group.
#[derive(Clone)]
pub struct Restore<'a> {
    /// The group.
    pub group: GroupId,
    /// The promise on disk.
    pub promised: Ballot,
    /// The last membership that was known to be chosen.
    pub membership: MembershipAt,
    /// The group goes on without what this replica holds, for ever.
    pub is_outlived: bool,
    /// The longest lease the node ever granted; 0 on a fresh disk.
    pub lease_ns_max: u64,
    /// What the replica holds.
    pub kind: ReplicaKind,
    /// What recovery found in the log; `None` if it found nothing.
    pub found: Option<&'a RecoveredGroup>,
}

/// Reads the log of a group and checks it against promise and rows.
///
/// The log counts from its last break on. Batches continue each other but at one kind of place: where rows
/// were installed, or were about to be, the log goes on with the batch that the new rows end with, and what
/// stood before is of no use any more. (That bytes in between were once durable and are lost is for recovery to
/// find, which knows what was durable; nothing here could tell.)
///
/// Rows that the log does not reach down to are missing, and so are all rows if the store is lost, or were
/// found to be wrong: they must come from another replica. A replica that keeps none has applied everything that its
/// log does not reach down to.
///
/// # Errors
/// `RestoreError` says what does not fit; the node must not start with it.
pub fn restore(
    from: Restore<'_>,
    reader: &LogReader,
    store: &Store,
) -> Result<Restored, RestoreError> {
    let Restore { group, promised, membership, is_outlived, lease_ns_max, kind, found } = from;
    if let Some((from, upto)) = found.and_then(|found| found.gap) {
        info!(%group, %from, %upto, "the log goes on behind a gap");
    }
    let keeps_rows = kind.keeps_rows();
    let slot_applied = if keeps_rows { store.applied(group) } else { Slot::ZERO };
    let mut run = Run::default();
    let mut next = Slot::ZERO;
    let mut applied_last = None;
    loop {
        let frames = read_frames(group, next, Slot(u64::MAX), CHUNK_BYTES, reader)?;
        let Some((last, _)) = frames.last().filter(|(last, _)| next <= *last) else {
            break;
        };
        // Where the frame ends: a later one may have cut it inside its batch.
        next = last.next();
        for (_, batch) in frames {
            run.note(&batch);
            if batch.last() == slot_applied {
                applied_last = Some(batch);
            }
        }
    }
    let Run { trimmed, runs, tail, memberships } = run;
    let last = tail.id;
    if last.slot < slot_applied {
        return Err(RestoreError::Missing { group, from: last.slot.next(), upto: slot_applied });
    }
    if promised < last.ballot {
        return Err(RestoreError::BeyondPromise { group, entry: last, promised });
    }
    // Without rows nothing can be missing below the log.
    let slot_applied = if keeps_rows { slot_applied } else { trimmed.slot };
    let rows_missing = keeps_rows && (slot_applied < trimmed.slot || store.is_quarantined(group));
    // What stood there before a break is not what the rows end with.
    let applied_last = applied_last.filter(|batch| trimmed.slot < batch.last());
    Ok(Restored {
        promised,
        lease_ns_max,
        trimmed,
        runs,
        tail,
        slot_applied,
        applied_last,
        rows_missing,
        membership,
        memberships_in_log: memberships,
        is_outlived,
    })
}

/// Batches that continue each other.
#[derive(Default)]
struct Run {
    /// The entry before the first.
    trimmed: EntryId,
    runs: Vec<(Slot, Ballot)>,
    tail: Tail,
    memberships: Vec<MembershipAt>,
}

impl Run {
    fn note(&mut self, batch: &Batch) {
        let continues = batch.prev() == self.tail.id && batch.prev_chain() == self.tail.chain;
        if self.runs.is_empty() || !continues {
            *self = Run { trimmed: batch.prev(), ..Run::default() };
        }
        if self.runs.last().is_none_or(|(_, ballot)| *ballot != batch.ballot()) {
            self.runs.push((batch.first(), batch.ballot()));
        }
        self.tail = batch.tail();
        self.memberships.extend(batch.membership());
    }
}

/// Batches of a group for the core, read back from the log.
pub(crate) fn read_batches(
    group: GroupId,
    from: Slot,
    upto: Slot,
    bytes_max: usize,
    reader: &LogReader,
) -> Result<Vec<Batch>, RestoreError> {
    let frames = read_frames(group, from, upto, bytes_max, reader)?;
    Ok(frames.into_iter().map(|(_, batch)| batch).collect())
}

/// The same, each with the last slot that its frame still counts for.
fn read_frames(
    group: GroupId,
    from: Slot,
    upto: Slot,
    bytes_max: usize,
    reader: &LogReader,
) -> Result<Vec<(Slot, Batch)>, RestoreError> {
    let frames = reader
        .read(group, from, bytes_max)
        .map_err(|source| RestoreError::Log { group, source })?;
    frames
        .into_iter()
        .filter(|frame| frame.first <= upto)
        .map(|frame| {
            let (slot, last) = (frame.first, frame.last);
            let batch = Batch::decode(frame.body);
            let batch = batch.map_err(|source| RestoreError::Batch { group, slot, source })?;
            Ok((last, batch))
        })
        .collect()
}

#[cfg(test)]
#[path = "restore_test.rs"]
mod tests;
