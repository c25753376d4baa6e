//! Durability of what is chosen: when the first replica applies an entry, so many voters have it on disk
//! that every quorum has one of them ("Paxos Made Simple", section 2.2: a value is chosen when a majority
//! has accepted it), and it stays so whatever crashes, is overwritten or leaves (traps 1, 2, 9 and 16).

use quorate_types::{EntryId, Slot};

use crate::common::cluster::Cluster;

#[derive(Default)]
pub struct Durability {
    chosen: Vec<EntryId>,
}

impl Durability {
    /// An entry is applied for the first time anywhere.
    pub fn chosen(&mut self, cluster: &Cluster, id: EntryId) {
        require(id, cluster.is_chosen(id));
        self.chosen.push(id);
    }

    /// The same, where nobody can say any more which disks it was on.
    pub fn note(&mut self, id: EntryId) {
        self.chosen.push(id);
    }

    /// What was chosen through this slot.
    pub fn through(&self, slot: Slot) -> impl Iterator<Item = EntryId> {
        self.chosen.iter().copied().filter(move |id| id.slot <= slot)
    }

    /// Everything that was ever chosen is still there.
    pub fn check(&self, cluster: &Cluster) {
        for id in &self.chosen {
            require(*id, cluster.is_kept(*id));
        }
    }
}

/// A chosen entry is on enough disks, or not.
pub fn require(id: EntryId, is_kept: bool) {
    assert!(is_kept, "chosen entry {id} is on too few disks");
}
