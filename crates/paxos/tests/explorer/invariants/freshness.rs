//! A replica that says that it was fresh at some time has applied everything that anybody knew by then:
//! that was acknowledged, or was seen at any replica. This is what reads at any replica rest on. Under
//! leases it holds while the clocks drift by no more than the margin covers.

use std::collections::BTreeMap;

use quorate_types::{BootTime, ReplicaId, Slot};

/// Questions of one replica that are remembered.
const PENDING_MAX: usize = 16;

#[derive(Default)]
pub struct Freshness {
    /// When somebody asked, on the clock of the replica, and what was known then.
    pending: BTreeMap<ReplicaId, Vec<(BootTime, Slot)>>,
    /// The greatest slot applied anywhere: whoever reads there has seen it.
    shown: Slot,
    pub confirmed: u64,
    /// Wrong answers, where clocks drift beyond the margin.
    pub stale: u64,
}

impl Freshness {
    /// Nobody has seen more than this.
    pub fn showing(shown: Slot) -> Freshness {
        Freshness { shown, ..Freshness::default() }
    }

    /// A replica shows this.
    pub fn show(&mut self, applied: Slot) {
        self.shown = self.shown.max(applied);
    }

    /// True if it says that it is fresh for somebody who asked.
    pub fn satisfies(&self, id: ReplicaId, fresh_at: Option<BootTime>) -> bool {
        let pending = self.pending.get(&id).into_iter().flatten();
        pending.into_iter().any(|(asked_at, _)| Some(*asked_at) <= fresh_at)
    }

    pub fn asked(&mut self, id: ReplicaId, asked_at: BootTime, known: Slot) {
        let pending = self.pending.entry(id).or_default();
        if pending.len() < PENDING_MAX {
            pending.push((asked_at, known));
        }
    }

    /// A replica was stepped.
    pub fn observe(
        &mut self,
        id: ReplicaId,
        fresh_at: Option<BootTime>,
        applied: Slot,
        may_be_stale: bool,
    ) {
        self.show(applied);
        let Some(fresh_at) = fresh_at else { return };
        let Some(pending) = self.pending.get_mut(&id) else { return };
        pending.retain(|(asked_at, known)| {
            if fresh_at < *asked_at {
                return true;
            }
            self.confirmed += 1;
            if applied < *known {
                assert!(
                    may_be_stale,
                    "{id} is called fresh: {known} was known, {applied} is applied"
                );
                self.stale += 1;
            }
            false
        });
    }

    /// The greatest slot that a reader has seen anywhere.
    pub fn shown(&self) -> Slot {
        self.shown
    }

    /// Its clients get no answer.
    pub fn forget(&mut self, id: ReplicaId) {
        self.pending.remove(&id);
    }
}
