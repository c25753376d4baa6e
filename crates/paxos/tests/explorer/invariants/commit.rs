//! Nobody's commit position is beyond what enough voters have on disk ("Paxos Made Simple", section 2.2), and
//! a leader that counts copies commits only through an entry of its own ballot: copies of an older one
//! do not show that it is chosen (figure 8 of Ongaro's thesis, section 3.6.2; trap 12).

use std::collections::BTreeMap;

use quorate_paxos::RoleChange;
use quorate_types::{Ballot, EntryId, ReplicaId, Slot};

use crate::common::cluster::Cluster;

#[derive(Default)]
pub struct Commit {
    upto: BTreeMap<ReplicaId, Slot>,
    /// Committed entries that were found on enough disks.
    seen: BTreeMap<Slot, EntryId>,
}

impl Commit {
    /// What is known through this slot.
    pub fn through(&self, slot: Slot) -> Commit {
        let seen = self.seen.range(..=slot).map(|(slot, id)| (*slot, *id)).collect();
        Commit { upto: BTreeMap::new(), seen }
    }

    /// A replica was stepped. Nobody can say any more which disks had what is below `from`.
    pub fn observe(
        &mut self,
        cluster: &Cluster,
        id: ReplicaId,
        roles: &[RoleChange],
        from: Option<Slot>,
    ) {
        let Some(core) = &cluster.nodes[&id].core else { return };
        let committed = core.slot_committed();
        let before = self.upto.insert(id, committed).unwrap_or_default();
        if committed <= before {
            return;
        }
        // The slot may be recycled, or lie in the rows of a replica that has just started.
        let Some(entry) = core.log().id_at(committed) else { return };
        let is_elected = roles.iter().any(|role| matches!(role, RoleChange::Elected { .. }));
        if cluster.leads(id) && !is_elected {
            counts_own(id, core.promised(), entry);
        }
        if let Some(first) = self.seen.get(&committed) {
            assert_eq!(*first, entry, "{id} takes another entry for chosen at slot {committed}");
            return;
        }
        if from.is_some_and(|from| from <= entry.slot) {
            require(id, entry, cluster.is_chosen(entry));
        }
        self.seen.insert(committed, entry);
    }

    pub fn forget(&mut self, id: ReplicaId) {
        self.upto.remove(&id);
    }
}

/// A leader has moved its commit position to this entry.
pub fn counts_own(id: ReplicaId, ballot: Ballot, entry: EntryId) {
    assert_eq!(entry.ballot, ballot, "{id} commits by counting copies of an older ballot");
}

/// A commit position names this entry, which is on enough disks, or not.
pub fn require(id: ReplicaId, entry: EntryId, is_kept: bool) {
    assert!(is_kept, "{id} calls {entry} committed: it is on too few disks");
}
