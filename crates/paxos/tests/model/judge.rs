//! What must hold over all replicas, in every state.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use quorate_paxos::{Batch, Input, ReadToken, ReadVerdict, RoleChange};
use quorate_types::{Ballot, EntryId, Slot};

use crate::world::World;

/// What has happened and must stay true. Part of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct History {
    /// What was applied anywhere, in order of slot.
    chosen: Vec<(EntryId, Bytes)>,
    /// Who was elected with which ballot.
    elected: BTreeMap<Ballot, usize>,
    /// The last slot that a leader of each ballot has applied, and so acknowledged.
    acknowledged: BTreeMap<Ballot, Slot>,
}

impl World {
    /// Judges what one replica did.
    pub fn judge(&mut self, index: usize, applies: &[Batch], roles: &[RoleChange]) {
        for batch in applies {
            for (id, payload) in batch.entries() {
                self.applied(index, id, payload);
            }
        }
        for role in roles {
            match role {
                RoleChange::Elected { ballot } => {
                    let history = Rc::make_mut(&mut self.history);
                    let before = history.elected.insert(*ballot, index);
                    assert_eq!(before, None, "{ballot} was won twice");
                }
                RoleChange::Serving { ballot } => {
                    let applied = self.nodes[index].applied;
                    let older = self.history.acknowledged.range(..*ballot).map(|(_, slot)| *slot);
                    assert!(older.max() <= Some(applied), "{ballot} serves without what was told");
                }
                RoleChange::Follower { .. } | RoleChange::Candidate { .. } => {}
            }
        }
    }

    fn applied(&mut self, index: usize, id: EntryId, payload: Bytes) {
        let node = Rc::make_mut(&mut self.nodes[index]);
        assert_eq!(id.slot, node.applied.next(), "applied out of order");
        node.applied = id.slot;
        let leads = node.core.status(node.now).role == "leader";
        let ballot = node.core.promised();
        let history = Rc::make_mut(&mut self.history);
        let place = id.slot.0 as usize - 1;
        match history.chosen.get(place) {
            Some(chosen) => assert_eq!(*chosen, (id, payload), "two values at slot {}", id.slot),
            None => history.chosen.push((id, payload)),
        }
        if leads {
            let slot = history.acknowledged.entry(ballot).or_default();
            *slot = id.slot.max(*slot);
        }
    }

    /// What is chosen is on the disks of a majority, now and for ever.
    pub fn check_durability(&self) {
        for (id, _) in &self.history.chosen {
            let copies = self.nodes.iter().filter(|node| node.disk.holds(*id)).count();
            assert!(2 <= copies, "{id} is chosen and on {copies} disks");
        }
    }

    /// No two leases at once, and no read that a lease would let out now is stale.
    pub fn check_leases(&self) {
        let acknowledged = self.history.acknowledged.values().max().copied().unwrap_or_default();
        let mut holders = 0;
        for node in &self.nodes {
            let lease = node.core.status(self.now).lease_until;
            holders += usize::from(lease.is_some_and(|end| self.now < end));
            if node.core.serving(self.now).is_err() {
                continue;
            }
            // A read that comes now, at a replica that has not looked at its clock since `node.now`.
            let mut core = node.core.clone();
            let out = core.step(self.now, Input::Read(ReadToken(1)));
            let confirmed = out.reads.iter().any(|(_, verdict)| *verdict == ReadVerdict::Confirmed);
            assert!(
                !confirmed || acknowledged <= node.applied,
                "stale read: slot {acknowledged} is acknowledged, {} is seen",
                node.applied
            );
        }
        assert!(holders <= 1, "{holders} replicas hold a lease");
    }
}
