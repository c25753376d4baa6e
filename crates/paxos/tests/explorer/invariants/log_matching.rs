//! Two logs that hold an entry of one id are identical up to it (thesis, figure 3.2, Log Matching). Every
//! batch carries a hash over the history that it ends; so one id must never come with two hashes.

use std::collections::BTreeMap;

use quorate_paxos::Append;
use quorate_types::EntryId;

#[derive(Default)]
pub struct LogMatching {
    chains: BTreeMap<EntryId, u32>,
}

impl LogMatching {
    pub fn observe(&mut self, appends: &[Append]) {
        for append in appends {
            let tail = append.batch.tail();
            self.write(tail.id, tail.chain);
        }
    }

    /// A log is written that ends with this entry and this hash.
    pub fn write(&mut self, id: EntryId, chain: u32) {
        let first = *self.chains.entry(id).or_insert(chain);
        assert_eq!(first, chain, "two histories end with {id}");
    }
}
