//! Durability of what is chosen: when the first replica applies an entry, a majority has it on disk
//! ("Paxos Made Simple", section 2.2: a value is chosen when a majority has accepted it), and it stays on
//! a majority of disks whatever crashes or is overwritten (traps 1, 2 and 9).

use quorate_types::EntryId;

use crate::common::cluster::Cluster;

#[derive(Default)]
pub struct Durability {
    chosen: Vec<EntryId>,
}

impl Durability {
    /// An entry is applied for the first time anywhere.
    pub fn chosen(&mut self, cluster: &Cluster, id: EntryId) {
        require(id, cluster.copies(id), cluster.nodes.len());
        self.chosen.push(id);
    }

    /// Everything that was ever chosen is still there.
    pub fn check(&self, cluster: &Cluster) {
        for id in &self.chosen {
            require(*id, cluster.copies(*id), cluster.nodes.len());
        }
    }
}

/// A chosen entry has this many copies on disk.
pub fn require(id: EntryId, copies: usize, voters: usize) {
    assert!(voters / 2 < copies, "chosen entry {id} is on {copies} of {voters} disks");
}
