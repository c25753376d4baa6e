//! Goal: the window agrees with a plain list of batches, whatever is appended, cut, recycled, evicted or
//! found again after a restart.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_types::{Ballot, EntryId, LogTime, ReplicaId, Slot, limits};

use super::LogWindow;
use crate::batch::{Batch, BatchKind, Tail};

#[derive(Clone, Debug)]
enum Op {
    /// So many entries under the ballot of the last ones, or of a later leader.
    Append { count: usize, rounds: u64 },
    /// A later leader replaces this many of the last batches.
    Replace { batches: usize, count: usize },
    /// The log is recycled through the end of this batch.
    Trim { batches: usize },
    /// Nothing is cached any more.
    Restart,
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1usize..4, 0u64..2).prop_map(|(count, rounds)| Op::Append { count, rounds }),
        2 => (1usize..5, 1usize..4).prop_map(|(batches, count)| Op::Replace { batches, count }),
        1 => (1usize..4).prop_map(|batches| Op::Trim { batches }),
        1 => Just(Op::Restart),
    ]
}

/// The log as a list.
#[derive(Default)]
struct Model {
    batches: Vec<Batch>,
    trimmed: EntryId,
    round: u64,
}

impl Model {
    fn tail(&self) -> Tail {
        self.batches.last().map_or_else(Tail::default, Batch::tail)
    }

    fn ids(&self) -> Vec<EntryId> {
        let ids = |batch: &Batch| batch.entries().map(|(id, _)| id).collect::<Vec<_>>();
        self.batches.iter().flat_map(ids).collect()
    }

    fn batch(&mut self, rounds: u64, count: usize) -> Batch {
        self.round = (self.round + rounds).max(1);
        let ballot = Ballot { round: self.round, replica: ReplicaId(1) };
        let payloads = vec![Bytes::from_static(b"entry"); count];
        let batch = Batch::new(BatchKind::Entries, ballot, self.tail(), LogTime(0), &payloads);
        self.batches.push(batch.clone());
        batch
    }

    /// What a restart finds on disk.
    fn restored(&self) -> LogWindow {
        let mut runs: Vec<(Slot, Ballot)> = Vec::new();
        for batch in &self.batches {
            if runs.last().is_none_or(|(_, ballot)| *ballot != batch.ballot()) {
                runs.push((batch.first(), batch.ballot()));
            }
        }
        LogWindow::restored(self.trimmed, runs, self.tail(), 1)
    }

    /// The last slot before the run of one ballot that holds `slot`.
    fn before_run_of(&self, slot: Slot) -> Slot {
        let ids = self.ids();
        let at = ids.iter().find(|id| id.slot == slot).map(|id| id.ballot);
        let first = ids.iter().filter(|id| Some(id.ballot) == at).map(|id| id.slot).min();
        first.map_or(self.trimmed.slot, Slot::prev)
    }

    fn compare(&self, window: &LogWindow) {
        window.check();
        let ids = self.ids();
        assert_eq!(window.last(), self.tail().id);
        assert_eq!(window.trimmed(), self.trimmed.slot);
        for slot in (0..self.tail().id.slot.0 + 3).map(Slot) {
            let expected = match slot == self.trimmed.slot {
                true => Some(self.trimmed),
                false => ids.iter().find(|id| id.slot == slot).copied(),
            };
            assert_eq!(window.id_at(slot), expected, "id at {slot}");
            let foreign = EntryId { slot, ballot: Ballot { round: 9999, replica: ReplicaId(2) } };
            assert_eq!(window.holds(foreign), slot < self.trimmed.slot, "foreign {slot}");
            if let Some(id) = expected {
                assert!(window.holds(id), "holds {id}");
            }
            if self.trimmed.slot < slot && slot <= self.tail().id.slot {
                assert_eq!(window.before_run_of(slot), self.before_run_of(slot), "run of {slot}");
            }
            let batch = self.batches.iter().find(|b| b.first() <= slot && slot <= b.last());
            if self.trimmed.slot < slot {
                let cached = batch.filter(|_| window.cached_from() <= slot);
                assert_eq!(window.cached(slot), cached, "cached {slot}");
            }
        }
    }
}

proptest! {
    #[test]
    fn window_equals_a_list(ops in vec(ops(), 1..40)) {
        let mut model = Model::default();
        let mut window = model.restored();
        for op in ops {
            match op {
                Op::Append { count, rounds } => window.append(model.batch(rounds, count)),
                Op::Replace { batches, count } => {
                    // The batch at the end of what is recycled stays.
                    let kept = model.batches.len().saturating_sub(batches).max(1);
                    if kept < model.batches.len() {
                        model.batches.truncate(kept);
                        window.append(model.batch(1, count));
                    }
                }
                Op::Trim { batches } => {
                    if batches < model.batches.len() {
                        model.trimmed = model.batches[batches - 1].last_id();
                        model.batches.drain(..batches);
                        window.trim(model.trimmed.slot);
                    }
                }
                Op::Restart => window = model.restored(),
            }
            window.evict(window.last().slot);
            model.compare(&window);
        }
    }
}

/// Goal: over its budget the cache drops the oldest batches, but never one that is not applied.
#[test]
fn eviction_stops_at_what_is_not_applied() {
    let mut window = LogWindow::restored(EntryId::ZERO, Vec::new(), Tail::default(), 1);
    let ballot = Ballot { round: 1, replica: ReplicaId(1) };
    let payload = Bytes::from(vec![0; limits::GROUP_CACHE_BYTES_MAX / 2]);
    for _ in 0..4 {
        let payloads = std::slice::from_ref(&payload);
        window.append(Batch::new(BatchKind::Entries, ballot, window.tail(), LogTime(0), payloads));
    }
    window.evict(Slot(1));
    assert_eq!(window.cached_from(), Slot(2));
    window.evict(Slot(4));
    assert_eq!(window.cached_from(), Slot(4));
}

/// Goal: a batch that continues another history than ours is our own bug and stops us.
#[test]
#[should_panic(expected = "another history")]
fn another_history_is_refused() {
    let ballot = Ballot { round: 1, replica: ReplicaId(1) };
    let word = |tail, word: &'static str| {
        let payload = [Bytes::from_static(word.as_bytes())];
        Batch::new(BatchKind::Entries, ballot, tail, LogTime(0), &payload)
    };
    let (ours, theirs) = (word(Tail::default(), "a"), word(Tail::default(), "b"));
    let mut window = LogWindow::restored(EntryId::ZERO, Vec::new(), Tail::default(), 1);
    window.append(ours);
    window.append(word(theirs.tail(), "c"));
}
