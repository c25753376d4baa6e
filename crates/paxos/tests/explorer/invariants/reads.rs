//! A read that was confirmed shows everything that was acknowledged to anybody before it was asked
//! (linearizability; thesis, section 6.4; traps 19 and 20). Under leases this holds while the clocks
//! drift by no more than the margin covers.

use std::collections::BTreeMap;

use quorate_paxos::{ReadToken, ReadVerdict};
use quorate_types::{ReplicaId, Slot};

/// A read that waits for its verdict.
#[derive(Clone, Copy, Debug)]
struct Pending {
    /// Everything acknowledged before it.
    floor: Slot,
    /// What its view contains.
    seen: Slot,
}

#[derive(Default)]
pub struct Reads {
    pending: BTreeMap<(ReplicaId, ReadToken), Pending>,
    pub confirmed: u64,
    /// Stale answers, where clocks drift beyond the margin.
    pub stale: u64,
}

impl Reads {
    pub fn asked(&mut self, id: ReplicaId, token: ReadToken, floor: Slot, seen: Slot) {
        self.pending.insert((id, token), Pending { floor, seen });
    }

    pub fn answered(
        &mut self,
        id: ReplicaId,
        token: ReadToken,
        verdict: ReadVerdict,
        may_be_stale: bool,
    ) {
        let read =
            self.pending.remove(&(id, token)).expect("a verdict on a read that nobody asked");
        if verdict != ReadVerdict::Confirmed {
            return;
        }
        self.confirmed += 1;
        let Pending { floor, seen } = read;
        if seen < floor {
            assert!(may_be_stale, "{id} served a stale read: {floor} acknowledged, {seen} seen");
            self.stale += 1;
        }
    }

    /// Its clients get no answer.
    pub fn forget(&mut self, id: ReplicaId) {
        self.pending.retain(|(at, _), _| *at != id);
    }
}
