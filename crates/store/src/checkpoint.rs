//! When a checkpoint is due, and the checkpoint as it travels between threads.
//!
//! The owner of the store (a shard task of `quorate-replica`) asks the policy now and then, begins a
//! checkpoint on its own thread, which is quick, and lets another thread write it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_types::BootTime;

use crate::engine::CheckpointBatch;

/// Whether a checkpoint survives a crash once it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Whenever the engine gets round to it.
    Buffered,
    /// Before the write returns, with every earlier checkpoint.
    Flushed,
}

/// A checkpoint that was begun: the frozen layer of the row table and the positions it stands for.
#[derive(Debug)]
pub struct Checkpoint {
    pub(crate) batch: Arc<CheckpointBatch>,
    pub(crate) written: AtomicBool,
}

impl Checkpoint {
    pub(crate) fn new(batch: Arc<CheckpointBatch>) -> Checkpoint {
        Checkpoint { batch, written: AtomicBool::new(false) }
    }

    /// What will be written.
    #[must_use]
    pub fn batch(&self) -> &CheckpointBatch {
        &self.batch
    }

    /// True once the engine has it.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.written.load(Ordering::Acquire)
    }
}

/// When to write a checkpoint and when to force it to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointPolicy {
    /// Bytes of changed records at which a checkpoint is due. Bounds the memory of the row table.
    pub changed_bytes: u64,
    /// Time after the last checkpoint at which one is due if anything changed.
    pub checkpoint_age: Duration,
    /// Log bytes above the persisted position at which a flush is due. Bounds replay and log size.
    pub log_bytes: u64,
    /// Time after the last flush at which one is due if the log holds anything above the persisted
    /// position.
    pub flush_age: Duration,
}

/// What the policy decides on, as of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// Now.
    pub now: BootTime,
    /// Memory of what changed since the last checkpoint began: `Store::changed_bytes`.
    pub changed_bytes: u64,
    /// When the last checkpoint began, or when the store was opened.
    pub checkpointed_at: BootTime,
    /// Log bytes above the lowest persisted position: what a restart would replay.
    pub log_bytes: u64,
    /// When the last flush ended, or when the store was opened.
    pub flushed_at: BootTime,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// A checkpoint.
    Checkpoint,
    /// A checkpoint and a flush; if nothing changed since the last checkpoint, only the flush.
    Flush,
}

const MIB: u64 = 1024 * 1024;

impl CheckpointPolicy {
    /// For servers: replay of at most 256 MiB takes one or two seconds.
    #[must_use]
    pub fn normal() -> CheckpointPolicy {
        CheckpointPolicy {
            changed_bytes: 128 * MIB,
            checkpoint_age: Duration::from_secs(5),
            log_bytes: 256 * MIB,
            flush_age: Duration::from_secs(60),
        }
    }

    /// For laptops and the demo, where memory and disk count more than writes.
    #[must_use]
    pub fn small() -> CheckpointPolicy {
        CheckpointPolicy {
            changed_bytes: 4 * MIB,
            log_bytes: 16 * MIB,
            ..CheckpointPolicy::normal()
        }
    }

    /// What is due under `pressure`.
    #[must_use]
    pub fn due(&self, pressure: &Pressure) -> Due {
        let flush_old = self.flush_age <= pressure.now.since(pressure.flushed_at);
        if self.log_bytes <= pressure.log_bytes || (0 < pressure.log_bytes && flush_old) {
            return Due::Flush;
        }
        let old = self.checkpoint_age <= pressure.now.since(pressure.checkpointed_at);
        if self.changed_bytes <= pressure.changed_bytes || (0 < pressure.changed_bytes && old) {
            return Due::Checkpoint;
        }
        Due::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts what is due `seconds` after start, when the last flush was at the start and the last
    /// checkpoint `age` seconds ago.
    fn check(seconds: u64, age: u64, changed_bytes: u64, log_bytes: u64, want: Due) {
        let at = |seconds| BootTime::ZERO + Duration::from_secs(seconds);
        let pressure = Pressure {
            now: at(seconds),
            changed_bytes,
            checkpointed_at: at(seconds - age),
            log_bytes,
            flushed_at: at(0),
        };
        let due = CheckpointPolicy::small().due(&pressure);
        assert_eq!(due, want, "{pressure:?}");
    }

    #[test]
    fn checkpoints_come_by_size_or_age_and_flushes_by_log_or_age() {
        check(4, 4, 1, 1, Due::Nothing);
        check(5, 5, 1, 1, Due::Checkpoint);
        check(5, 5, 0, 1, Due::Nothing);
        check(1, 1, 4 * MIB, 4 * MIB, Due::Checkpoint);
        check(1, 1, 0, 16 * MIB, Due::Flush);
        check(60, 1, 0, 1, Due::Flush);
        check(60, 60, 0, 0, Due::Nothing);
    }
}
