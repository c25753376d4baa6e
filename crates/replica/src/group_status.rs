//! What a group says of itself. Called by `shard/questions.rs`.

use std::time::Duration;

use quorate_types::{BootTime, Slot};

use crate::event::GroupStatus;
use crate::group::GroupDriver;

impl GroupDriver {
    pub(crate) fn status(&self, now: BootTime) -> GroupStatus {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let core = self.core.status(now);
        let heard = |at: Option<BootTime>| at.map(|at| millis(now.since(at)));
        GroupStatus {
            group: self.group,
            lease_remaining_ms: core.lease_until.map_or(0, |end| millis(end.since(now))),
            heard_ms_ago: core
                .members
                .iter()
                .map(|member| (member.replica, heard(member.heard_at)))
                .collect(),
            core,
            kind: self.kind(),
            suspended: self.suspended(),
            slot_persisted: self.store.persisted(self.group).unwrap_or(Slot::ZERO),
            sessions: self.sessions.len(),
            attempts: self.cross.rules.table().len(),
            locked_rows: self.cross.rules.locks().rows(),
            parked: self.cross.parked(),
            open_holds: self.sessions.open_holds(),
            escrow_transfers: self.cross.rules.escrow().len(),
            fences: self.cross.rules.escrow().fences(),
            cuts: self.cuts.status(now),
            log_suspect: self.core.is_log_suspect(),
            refill: self.refill_status(),
            checks: self.check_status(now),
            history: self.core.history().number,
            is_outlived: self.core.is_outlived(),
            applied_entries: self.applied_entries,
            leaderships: self.leaderships,
        }
    }
}
