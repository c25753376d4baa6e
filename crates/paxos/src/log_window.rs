//! What a replica knows of its own log without reading the disk: the ballot of every slot, and the
//! most recent batches.

use std::collections::VecDeque;

use quorate_types::{Ballot, EntryId, Slot, limits};

use crate::batch::{Batch, Tail};

/// The log as the core sees it.
///
/// ```text
///   trimmed          applied      synced <= last
///      |  on disk only  |  cached    |        |
/// -----+----------------+------------+--------+--> slots
/// ```
///
/// Invariants:
/// - `runs` are in order, start above `trimmed`, and the last run ends at `tail`;
/// - `cache` is contiguous and, when not empty, ends at `tail`;
/// - nothing at or below the commit position is ever cut (checked by the caller's assertion).
#[derive(Clone, Debug)]
pub struct LogWindow {
    /// First slot and ballot of each run of one ballot.
    runs: VecDeque<(Slot, Ballot)>,
    /// Everything through here is gone from disk.
    trimmed: EntryId,
    tail: Tail,
    /// False only before the end of `append`, after a cut into the part that is not cached.
    tail_is_hashed: bool,
    cache: VecDeque<Batch>,
    cache_bytes: usize,
    /// Some batch ends above `trimmed`, in order: slot, and bytes of the log through it.
    marks: VecDeque<(Slot, u64)>,
    /// How far these are apart, in bytes.
    mark_every: u64,
}

impl LogWindow {
    /// The log found on disk, with nothing cached.
    pub(crate) fn restored(
        trimmed: EntryId,
        runs: Vec<(Slot, Ballot)>,
        tail: Tail,
        mark_every: u64,
    ) -> LogWindow {
        let mut log = LogWindow {
            runs: runs.into(),
            trimmed,
            tail,
            tail_is_hashed: true,
            cache: VecDeque::new(),
            cache_bytes: 0,
            marks: VecDeque::new(),
            mark_every,
        };
        log.mark();
        log
    }

    /// Where the log stands.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// The id of the last entry.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.tail.id
    }

    /// The last slot that is gone from disk.
    #[must_use]
    pub fn trimmed(&self) -> Slot {
        self.trimmed.slot
    }

    /// The last entry that is gone from disk.
    #[must_use]
    pub fn trimmed_id(&self) -> EntryId {
        self.trimmed
    }

    /// The id of the entry at `slot`, if the log has one there that is not trimmed.
    #[must_use]
    pub fn id_at(&self, slot: Slot) -> Option<EntryId> {
        if slot == self.trimmed.slot {
            return Some(self.trimmed);
        }
        if slot > self.tail.id.slot || slot < self.trimmed.slot {
            return None;
        }
        let after = self.runs.partition_point(|(first, _)| *first <= slot);
        let (_, ballot) = self.runs.get(after.checked_sub(1)?)?;
        Some(EntryId { ballot: *ballot, slot })
    }

    /// The last slot before the run of one ballot that holds `slot`: a batch end, and where two logs
    /// that differ at `slot` may still agree. Never below what is trimmed.
    #[must_use]
    pub(crate) fn before_run_of(&self, slot: Slot) -> Slot {
        let after = self.runs.partition_point(|(first, _)| *first <= slot);
        match after.checked_sub(1).and_then(|index| self.runs.get(index)) {
            Some((first, _)) => first.prev(),
            None => self.trimmed.slot,
        }
    }

    /// True if the log holds this entry, which is ours or that of a leader we obey. What is trimmed was
    /// chosen, so it is equal in the logs of all who lead since. Of anybody else's entry only
    /// [`LogWindow::holds_exactly`] can tell: a log that lags may differ below what is trimmed here.
    #[must_use]
    pub fn holds(&self, id: EntryId) -> bool {
        id.slot < self.trimmed.slot || self.id_at(id.slot) == Some(id)
    }

    /// True if exactly this entry is known to be in the log; never below what is trimmed.
    #[must_use]
    pub fn holds_exactly(&self, id: EntryId) -> bool {
        self.id_at(id.slot) == Some(id)
    }

    /// The greatest batch end with at least so many bytes of log behind it, as far as remembered.
    #[must_use]
    pub(crate) fn end_before_last(&self, bytes: u64) -> Option<Slot> {
        let upto = self.tail.log_bytes.checked_sub(bytes)?;
        let after = self.marks.partition_point(|(_, log_bytes)| *log_bytes <= upto);
        self.marks.get(after.checked_sub(1)?).map(|(slot, _)| *slot)
    }

    /// Drops the whole log. The batch that is appended next follows `prev` and begins it anew.
    pub(crate) fn begin_after(&mut self, prev: EntryId) {
        self.runs.clear();
        self.cache.clear();
        self.cache_bytes = 0;
        self.marks.clear();
        self.trimmed = prev;
        self.tail = Tail { id: prev, ..self.tail };
        self.tail_is_hashed = false;
    }

    /// Remembers where the log ends now, if that is some way behind the last such place.
    fn mark(&mut self) {
        let Tail { id, log_bytes, .. } = self.tail;
        if self.marks.back().is_none_or(|(_, last)| last + self.mark_every <= log_bytes) {
            self.marks.push_back((id.slot, log_bytes));
        }
    }

    /// Puts `batch` at its place, dropping everything from its first slot on.
    ///
    /// # Panics
    /// If the batch does not follow the entry it names, or continues another history.
    pub(crate) fn append(&mut self, batch: Batch) {
        assert!(self.holds(batch.prev()), "{batch:?} does not follow {:?}", self.tail.id);
        self.cut_from(batch.first());
        if self.tail_is_hashed {
            assert_eq!(
                batch.prev_chain(),
                self.tail.chain,
                "{batch:?} continues another history than ours"
            );
        }
        self.tail_is_hashed = true;
        if self.runs.back().is_none_or(|(_, ballot)| *ballot != batch.ballot()) {
            self.runs.push_back((batch.first(), batch.ballot()));
        }
        self.tail = batch.tail();
        self.cache_bytes += batch.encoded().len();
        self.cache.push_back(batch);
        self.mark();
    }

    /// Drops every entry at `first` and after it.
    fn cut_from(&mut self, first: Slot) {
        if first > self.tail.id.slot {
            return;
        }
        while self.runs.back().is_some_and(|(start, _)| *start >= first) {
            self.runs.pop_back();
        }
        while self.marks.back().is_some_and(|(end, _)| first <= *end) {
            self.marks.pop_back();
        }
        while self.cache.back().is_some_and(|batch| batch.first() >= first) {
            let batch = self.cache.pop_back().expect("looked at just now");
            self.cache_bytes -= batch.encoded().len();
        }
        match self.cache.back() {
            Some(batch) => {
                assert!(batch.last() < first, "cut at {first} splits {batch:?}");
                self.tail = batch.tail();
            }
            None => {
                // The new tail is on disk only. Its id is known; its hash is learned again with the
                // batch that replaces what was cut, which is appended in the same call.
                let id = self.runs.back().map_or(self.trimmed, |(_, ballot)| EntryId {
                    ballot: *ballot,
                    slot: first.prev(),
                });
                self.tail = Tail { id, ..self.tail };
                self.tail_is_hashed = false;
            }
        }
    }

    /// The cached batch that holds `slot`.
    #[must_use]
    pub(crate) fn cached(&self, slot: Slot) -> Option<&Batch> {
        let after = self.cache.partition_point(|batch| batch.first() <= slot);
        let batch = self.cache.get(after.checked_sub(1)?)?;
        (slot <= batch.last()).then_some(batch)
    }

    /// The first slot still cached; one past the last when nothing is.
    #[must_use]
    pub(crate) fn cached_from(&self) -> Slot {
        self.cache.front().map_or_else(|| self.tail.id.slot.next(), Batch::first)
    }

    /// Drops the oldest batches over the budget, but none that is not applied.
    pub(crate) fn evict(&mut self, slot_applied: Slot) {
        while self.cache_bytes > limits::GROUP_CACHE_BYTES_MAX
            && self.cache.front().is_some_and(|batch| batch.last() <= slot_applied)
        {
            let batch = self.cache.pop_front().expect("looked at just now");
            self.cache_bytes -= batch.encoded().len();
        }
    }

    /// The log through `slot` is gone from disk.
    pub(crate) fn trim(&mut self, slot: Slot) {
        if slot <= self.trimmed.slot || slot >= self.tail.id.slot {
            return;
        }
        self.trimmed = self.id_at(slot).expect("between trimmed and tail");
        while self.marks.front().is_some_and(|(end, _)| *end <= slot) {
            self.marks.pop_front();
        }
        while self.runs.get(1).is_some_and(|(first, _)| *first <= slot.next()) {
            self.runs.pop_front();
        }
        if let Some((first, _)) = self.runs.front_mut()
            && *first <= slot
        {
            *first = slot.next();
        }
    }

    /// Checks the invariants.
    pub(crate) fn check(&self) {
        let mut before = self.trimmed.slot;
        for (first, _) in &self.runs {
            assert!(before < *first, "runs out of order at {first}");
            before = *first;
        }
        if let Some((_, ballot)) = self.runs.back() {
            assert_eq!(*ballot, self.tail.id.ballot, "last run and tail differ");
        }
        for pair in self.cache.iter().zip(self.cache.iter().skip(1)) {
            assert_eq!(pair.0.last().next(), pair.1.first(), "cache has a hole");
        }
        if let Some(batch) = self.cache.back() {
            assert_eq!(batch.last_id(), self.tail.id, "cache does not end at the tail");
        }
        let (ends, above) = (self.marks.iter(), self.marks.iter().skip(1));
        assert!(ends.zip(above).all(|(end, above)| end.0 < above.0), "marks out of order");
        assert!(
            self.marks.back().is_none_or(|(end, _)| *end <= self.tail.id.slot),
            "a mark beyond the tail"
        );
    }
}

#[cfg(test)]
mod tests;
