//! Within one life of a replica its promise and its watermarks only rise: what was promised, committed,
//! applied or recycled stays so (thesis, figure 3.1: the indexes and the term increase monotonically;
//! trap 18).

use std::collections::BTreeMap;

use quorate_types::{Ballot, ReplicaId, Slot};

use crate::common::cluster::Cluster;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub promised: Ballot,
    pub committed: Slot,
    pub applied: Slot,
    pub trimmed: Slot,
}

#[derive(Default)]
pub struct Watermarks {
    last: BTreeMap<ReplicaId, Marks>,
}

impl Watermarks {
    pub fn observe(&mut self, cluster: &Cluster, id: ReplicaId) {
        let Some(core) = &cluster.nodes[&id].core else { return };
        let marks = Marks {
            promised: core.promised(),
            committed: core.slot_committed(),
            applied: core.slot_applied(),
            trimmed: core.log().trimmed(),
        };
        self.moved(id, marks);
    }

    pub fn moved(&mut self, id: ReplicaId, marks: Marks) {
        let before = self.last.insert(id, marks).unwrap_or_default();
        let rises = before.promised <= marks.promised
            && before.committed <= marks.committed
            && before.applied <= marks.applied
            && before.trimmed <= marks.trimmed;
        assert!(rises, "{id} goes back from {before:?} to {marks:?}");
    }

    /// A new life begins.
    pub fn forget(&mut self, id: ReplicaId) {
        self.last.remove(&id);
    }
}
