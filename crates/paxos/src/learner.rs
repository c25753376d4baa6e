//! The learner: moves the commit position and hands chosen batches to be applied. Called at the end of
//! every step and by whoever learns of a commit.

use quorate_types::planted::{Bug, planted};
use quorate_types::{Slot, limits};

use crate::batch::{Batch, BatchKind};
use crate::output::{LogRead, Output, ReadPurpose};
use crate::replica::Replica;

/// Bytes read back from the log at a time.
const READ_BYTES: usize = 4 * limits::BATCH_BYTES_MAX;

impl Replica {
    /// Takes over the leader's commit position as far as our log is known to equal the leader's
    /// (trap 10: never past what its messages have verified).
    pub(crate) fn learn_commit(&mut self, slot_committed: Slot) {
        let ours =
            if planted(Bug::CommitUnverified) { self.log.last().slot } else { self.slot_verified };
        let verified = slot_committed.min(ours);
        self.slot_committed = self.slot_committed.max(verified);
    }

    /// Hands out what may be applied: chosen, and durable here.
    pub(crate) fn advance_apply(&mut self, out: &mut Output) {
        if self.lacks_rows() {
            return;
        }
        let upto = self.slot_committed.min(self.slot_synced);
        if !self.options.kind.keeps_rows() {
            self.pass_over(upto, out);
            return;
        }
        while self.slot_applied < upto {
            let Some(batch) = self.next_to_apply() else {
                self.read_to_apply(out);
                return;
            };
            if upto < batch.last() {
                return; // The commit position of a message may fall inside a batch of ours.
            }
            self.slot_applied = batch.last();
            self.applied_last = Some(batch.clone());
            if batch.kind() == BatchKind::Membership {
                self.memberships.settle(self.slot_applied);
                out.membership = Some(self.applied_membership().clone());
            }
            out.applies.push(batch);
        }
        if self.log.cached_from() <= self.slot_applied.next() {
            self.read_ahead.clear();
        }
    }

    /// Who has no rows has nothing to apply: what is chosen is done with.
    fn pass_over(&mut self, upto: Slot, out: &mut Output) {
        let before = self.applied_membership().id;
        self.slot_applied = self.slot_applied.max(upto);
        if before < self.applied_membership().id {
            self.memberships.settle(self.slot_applied);
            out.membership = Some(self.applied_membership().clone());
        }
    }

    /// The batch after the applied position, from the cache or from what was read ahead.
    fn next_to_apply(&mut self) -> Option<Batch> {
        let next = self.slot_applied.next();
        if let Some(batch) = self.log.cached(next) {
            return Some(batch.clone());
        }
        while self.read_ahead.front().is_some_and(|batch| batch.first() < next) {
            self.read_ahead.pop_front();
        }
        let batch = self.read_ahead.front()?;
        // What was read ahead may have been cut since.
        if batch.first() != next || !self.log.holds(batch.last_id()) {
            self.read_ahead.clear();
            return None;
        }
        Some(batch.clone())
    }

    /// Reads more than may be applied yet, so that a log is read once however slowly commits arrive.
    fn read_to_apply(&mut self, out: &mut Output) {
        if self.apply_reading {
            return;
        }
        self.apply_reading = true;
        out.log_reads.push(LogRead {
            purpose: ReadPurpose::Apply,
            from: self.slot_applied.next(),
            upto: self.log.cached_from().prev(),
            bytes_max: READ_BYTES,
        });
    }

    /// Batches read back for applying; the end of the step applies them.
    pub(crate) fn on_apply_read(&mut self, batches: Vec<Batch>) {
        self.apply_reading = false;
        self.read_ahead = batches.into();
    }
}
