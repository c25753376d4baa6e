//! When the row table goes to the engine. Called by the shard; the writing itself runs elsewhere.

use std::sync::Arc;

use quorate_store::{CheckpointPolicy, Due, Durability, Pressure, Store, StoreError};
use quorate_types::BootTime;

/// Decides on checkpoints, one at a time.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    policy: CheckpointPolicy,
    checkpointed_at: BootTime,
    flushed_at: BootTime,
    /// Log bytes appended since the last flush began.
    log_bytes: u64,
    /// Log bytes of these that the running flush covers.
    covered_bytes: u64,
    running: bool,
}

/// A checkpoint to write off the shard task.
pub(crate) struct CheckpointJob {
    store: Arc<Store>,
    durability: Durability,
}

impl Checkpoints {
    pub(crate) fn new(policy: CheckpointPolicy, now: BootTime) -> Checkpoints {
        Checkpoints {
            policy,
            checkpointed_at: now,
            flushed_at: now,
            log_bytes: 0,
            covered_bytes: 0,
            running: false,
        }
    }

    /// The log grew.
    pub(crate) fn appended(&mut self, bytes: u64) {
        self.log_bytes += bytes;
    }

    /// A checkpoint to write, if one is due.
    pub(crate) fn poll(&mut self, now: BootTime, store: &Arc<Store>) -> Option<CheckpointJob> {
        if self.running {
            return None;
        }
        let pressure = Pressure {
            now,
            changed_bytes: store.changed_bytes(),
            checkpointed_at: self.checkpointed_at,
            log_bytes: self.log_bytes,
            flushed_at: self.flushed_at,
        };
        let durability = match self.policy.due(&pressure) {
            Due::Nothing => return None,
            Due::Checkpoint => Durability::Buffered,
            Due::Flush => Durability::Flushed,
        };
        self.running = true;
        self.checkpointed_at = now;
        if durability == Durability::Flushed {
            self.covered_bytes = self.log_bytes;
        }
        Some(CheckpointJob { store: Arc::clone(store), durability })
    }

    /// The job is done.
    pub(crate) fn finished(&mut self, now: BootTime, flushed: bool) {
        self.running = false;
        if flushed {
            self.flushed_at = now;
            self.log_bytes -= self.covered_bytes;
            self.covered_bytes = 0;
        }
    }
}

impl CheckpointJob {
    /// Writes the checkpoint. True if it was flushed, too.
    pub(crate) fn run(self) -> Result<bool, StoreError> {
        let flushed = self.durability == Durability::Flushed;
        match self.store.begin_checkpoint() {
            Some(checkpoint) => {
                self.store.write_checkpoint(&checkpoint, self.durability)?;
                self.store.finish_checkpoint(checkpoint);
            }
            None if flushed => self.store.flush()?,
            None => {}
        }
        Ok(flushed)
    }
}
