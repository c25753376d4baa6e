//! Entries are applied in the order of their slots, without a hole, each once in a life (the state
//! machine approach, "Paxos Made Simple", section 3: every server runs the commands in their order).

use quorate_paxos::Batch;
use quorate_types::{ReplicaId, Slot};

/// A replica that has applied so many entries is handed these.
pub fn check(applied: usize, id: ReplicaId, batches: &[Batch]) {
    let mut next = Slot(applied as u64 + 1);
    for batch in batches {
        in_order(id, next, batch.first());
        next = batch.last().next();
    }
}

/// The next slot to apply is `next`; `first` comes.
pub fn in_order(id: ReplicaId, next: Slot, first: Slot) {
    assert_eq!(next, first, "{id} applies out of order");
}
