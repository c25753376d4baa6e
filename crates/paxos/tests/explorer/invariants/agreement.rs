//! Agreement: every replica applies the same entry at a slot ("Paxos Made Simple", section 2.1: only a
//! single value is chosen, and nobody learns another one).

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_types::{EntryId, Slot};

#[derive(Default)]
pub struct Agreement {
    entries: BTreeMap<Slot, (EntryId, Bytes)>,
}

impl Agreement {
    /// An entry is applied. True if nobody has applied this slot before.
    pub fn observe(&mut self, id: EntryId, payload: &Bytes) -> bool {
        let Some((first_id, first_payload)) = self.entries.get(&id.slot) else {
            self.entries.insert(id.slot, (id, payload.clone()));
            return true;
        };
        assert_eq!(
            (first_id, first_payload),
            (&id, payload),
            "two entries chosen at slot {}",
            id.slot
        );
        false
    }

    /// What is chosen, by slot.
    pub fn entries(&self) -> impl Iterator<Item = (&Slot, &(EntryId, Bytes))> {
        self.entries.iter()
    }

    /// The same as far as this slot.
    pub fn through(&self, slot: Slot) -> Agreement {
        let entries = self.entries.range(..=slot);
        Agreement { entries: entries.map(|(slot, it)| (*slot, it.clone())).collect() }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
}
