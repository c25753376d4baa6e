//! What a replica starts from: its promise, its log, its rows. Called by the server once per group,
//! before the shard runs.

use quorate_log::{LogError, LogReader, RecoveredGroup};
use quorate_paxos::{Batch, BatchError, Restored};
use quorate_store::{Store, StoreError};
use quorate_types::{Ballot, Code, EntryId, GroupId, Slot};

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
    /// The log has a hole, or starts above what the rows hold.
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
#[derive(Clone, Copy)]
pub struct Restore<'a> {
    /// The group.
    pub group: GroupId,
    /// The promise on disk.
    pub promised: Ballot,
    /// The longest lease the node ever granted; 0 on a fresh disk.
    pub lease_ns_max: u64,
    /// What recovery found in the log; `None` if it found nothing.
    pub found: Option<&'a RecoveredGroup>,
}

/// Reads the log of a group and checks it against promise and rows.
///
/// # Errors
/// `RestoreError` says what does not fit; the node must not start with it.
pub fn restore(
    from: Restore<'_>,
    reader: &LogReader,
    store: &Store,
) -> Result<Restored, RestoreError> {
    let Restore { group, promised, lease_ns_max, found } = from;
    let slot_applied = store.applied(group);
    let mut restored = Restored { promised, lease_ns_max, slot_applied, ..Restored::fresh() };
    if let Some((from, upto)) = found.and_then(|found| found.gap) {
        return Err(RestoreError::Missing { group, from, upto });
    }
    let mut next = Slot::ZERO;
    loop {
        let batches = read_batches(group, next, Slot(u64::MAX), CHUNK_BYTES, reader)?;
        let Some(last) = batches.last().filter(|last| next <= last.last()) else {
            break;
        };
        next = last.last().next();
        for batch in &batches {
            note(&mut restored, batch);
        }
    }
    let kept = restored.trimmed.slot;
    let last = restored.tail.id;
    if slot_applied < kept {
        return Err(RestoreError::Missing { group, from: slot_applied.next(), upto: kept });
    }
    if last.slot < slot_applied {
        return Err(RestoreError::Missing { group, from: last.slot.next(), upto: slot_applied });
    }
    if promised < last.ballot {
        return Err(RestoreError::BeyondPromise { group, entry: last, promised });
    }
    Ok(restored)
}

fn note(restored: &mut Restored, batch: &Batch) {
    if restored.runs.is_empty() {
        restored.trimmed = batch.prev();
    }
    if restored.runs.last().is_none_or(|(_, ballot)| *ballot != batch.ballot()) {
        restored.runs.push((batch.first(), batch.ballot()));
    }
    restored.tail = batch.tail();
}

/// Batches of a group for the core, read back from the log.
pub(crate) fn read_batches(
    group: GroupId,
    from: Slot,
    upto: Slot,
    bytes_max: usize,
    reader: &LogReader,
) -> Result<Vec<Batch>, RestoreError> {
    let frames = reader
        .read(group, from, bytes_max)
        .map_err(|source| RestoreError::Log { group, source })?;
    frames
        .into_iter()
        .filter(|frame| frame.first <= upto)
        .map(|frame| {
            let slot = frame.first;
            Batch::decode(frame.body).map_err(|source| RestoreError::Batch { group, slot, source })
        })
        .collect()
}
