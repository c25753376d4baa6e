//! When the row table goes to the engine. Called by the shard; the writing itself runs elsewhere.

use std::sync::Arc;

use quorate_store::{Checkpoint, CheckpointPolicy, Due, Durability, Pressure, Store, StoreError};
use quorate_txn::SessionTable;
use quorate_txn::cross::CrossTable;
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
    /// Frozen on the shard task, between two batches: the core starts again from the end of a batch.
    /// `None` if nothing changed since the last one.
    frozen: Option<Checkpoint>,
    durability: Durability,
}

/// What a group keeps in memory and hands to checkpoints only.
pub(crate) struct HeldBack<'a> {
    pub(crate) sessions: &'a mut SessionTable,
    pub(crate) attempts: &'a mut CrossTable,
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

    /// True while one is written.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// The log grew.
    pub(crate) fn appended(&mut self, bytes: u64) {
        self.log_bytes += bytes;
    }

    /// A checkpoint to write, if one is due. To be called between two batches. Groups hand
    /// in what they held back.
    pub(crate) fn poll<'a>(
        &mut self,
        now: BootTime,
        store: &Arc<Store>,
        held_back: impl Iterator<Item = HeldBack<'a>>,
    ) -> Option<CheckpointJob> {
        if self.running || store.is_switching() {
            return None; // A flush alone would count as one that covers the log.
        }
        let mut held_back: Vec<_> = held_back.collect();
        let unsaved: usize = held_back
            .iter()
            .map(|it| it.sessions.unsaved_bytes() + it.attempts.unsaved_bytes())
            .sum();
        let pressure = Pressure {
            now,
            changed_bytes: store.changed_bytes() + unsaved as u64,
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
        Some(CheckpointJob {
            store: Arc::clone(store),
            frozen: store.begin_checkpoint(|| {
                let take = |it: &mut HeldBack<'_>| {
                    let mut changes = it.sessions.take_changes();
                    changes.extend(it.attempts.take_changes());
                    changes
                };
                held_back.iter_mut().flat_map(take).collect()
            }),
            durability,
        })
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
        match self.frozen {
            Some(checkpoint) => {
                self.store.write_checkpoint(&checkpoint, self.durability)?;
                self.store.finish_checkpoint(checkpoint);
            }
            None if flushed => self.store.flush()?,
            None => {}
        }
        self.store.purge()?;
        Ok(flushed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_store::{Engine, Twin};
    use quorate_types::{GroupId, Slot};

    use super::*;

    /// Goal: a checkpoint holds what was applied when it was asked for, however late it is written; the
    /// shard asks between two batches, and a replica can only start again from the end of a batch.
    #[test]
    fn a_checkpoint_is_frozen_when_it_is_polled() {
        let group = GroupId(1);
        let engine = Arc::new(Twin::new());
        let store = Arc::new(Store::open(engine.clone(), [group]).expect("a fresh engine"));
        let mut checkpoints = Checkpoints::new(CheckpointPolicy::small(), BootTime::ZERO);
        store.apply(group, Slot(1), Vec::new());
        let later = BootTime::ZERO + Duration::from_secs(10);
        let job = checkpoints.poll(later, &store, std::iter::empty()).expect("one is due by age");
        store.apply(group, Slot(2), Vec::new());

        job.run().expect("the twin writes");

        assert_eq!(engine.applied(group).expect("readable"), Slot(1));
        assert_eq!(store.applied(group), Slot(2));
    }
}
