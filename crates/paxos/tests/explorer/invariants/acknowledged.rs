//! Nothing acknowledged is lost: a leader begins to serve only when it has applied everything that older
//! ballots acknowledged (thesis, figure 3.2, Leader Completeness; trap 11), and in the end every member
//! has applied it.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::{Ballot, EntryId, ReplicaId, Slot};

use crate::common::cluster::Cluster;

#[derive(Default)]
pub struct Acknowledged {
    waiting: BTreeMap<ReplicaId, BTreeSet<EntryId>>,
    entries: BTreeSet<EntryId>,
    upto: Slot,
    by_ballot: BTreeMap<Ballot, Slot>,
}

impl Acknowledged {
    pub fn proposed(&mut self, id: ReplicaId, first: EntryId, count: u64) {
        let ids = (0..count).map(|n| EntryId { slot: first.slot.plus(n), ..first });
        self.waiting.entry(id).or_default().extend(ids);
    }

    /// What was acknowledged through this slot.
    pub fn through(&self, slot: Slot) -> Acknowledged {
        let mut kept = Acknowledged::default();
        self.entries.iter().filter(|id| id.slot <= slot).for_each(|id| kept.answered(*id));
        kept
    }

    /// A proposer that applies its own entry answers its client.
    pub fn applied(&mut self, id: ReplicaId, entry: EntryId) {
        if self.waiting.get_mut(&id).is_some_and(|waiting| waiting.remove(&entry)) {
            self.answered(entry);
        }
    }

    /// A client is told that its write is done.
    pub fn answered(&mut self, entry: EntryId) {
        self.upto = self.upto.max(entry.slot);
        let newest = self.by_ballot.entry(entry.ballot).or_default();
        *newest = entry.slot.max(*newest);
        self.entries.insert(entry);
    }

    /// Its clients will never know.
    pub fn gives_up(&mut self, id: ReplicaId) {
        self.waiting.remove(&id);
    }

    /// A leader may begin to serve when a later one already has: only what older ballots acknowledged
    /// must be there. Its reads are judged one by one.
    pub fn serves(&self, id: ReplicaId, ballot: Ballot, applied: Slot) {
        let older = self.by_ballot.range(..ballot).map(|(_, slot)| *slot).max();
        assert!(older <= Some(applied), "{id} serves without acknowledged slot {older:?}");
    }

    /// Every member has applied every acknowledged entry.
    pub fn check_all_applied(&self, cluster: &Cluster) {
        for (id, node) in cluster.members().filter(|(_, node)| node.options.kind.keeps_rows()) {
            let applied: BTreeSet<EntryId> = node.applied.iter().map(|(entry, _)| *entry).collect();
            let lost = self.entries.difference(&applied).next();
            assert_eq!(lost, None, "an acknowledged write is not in the rows of {id}");
        }
    }

    /// The greatest slot that was acknowledged.
    pub fn upto(&self) -> Slot {
        self.upto
    }

    pub fn count(&self) -> usize {
        self.entries.len()
    }
}
