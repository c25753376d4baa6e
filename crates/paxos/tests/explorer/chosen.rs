//! Invariants over all replicas: what is chosen stays chosen.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_types::{Ballot, EntryId, ReplicaId, Slot};

#[derive(Default)]
pub struct Chosen {
    entries: BTreeMap<Slot, (EntryId, Bytes)>,
    leaders: BTreeMap<Ballot, ReplicaId>,
}

impl Chosen {
    /// Agreement and durability: every replica applies the same entry at a slot, and when the first
    /// one does so the entry is on the disks of a majority ("Paxos Made Simple", section 2.2, P2).
    pub fn observe(&mut self, id: EntryId, payload: &Bytes, durable: usize, voters: usize) {
        if let Some((first_id, first_payload)) = self.entries.get(&id.slot) {
            assert_eq!(
                (first_id, first_payload),
                (&id, payload),
                "two entries chosen at slot {}",
                id.slot
            );
            return;
        }
        assert!(voters / 2 < durable, "{id} applied with {durable} of {voters} copies on disk");
        self.entries.insert(id.slot, (id, payload.clone()));
    }

    /// At most one leader per ballot, and only its owner.
    pub fn elected(&mut self, ballot: Ballot, replica: ReplicaId) {
        assert_eq!(ballot.replica, replica, "elected under a foreign ballot");
        assert!(self.leaders.insert(ballot, replica).is_none(), "elected twice under {ballot}");
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
}
