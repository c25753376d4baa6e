//! `trimmed <= applied <= min(committed, synced)`, and nothing is beyond the last entry: a replica applies
//! only what is chosen and on its own disk, and recycles only what it has applied (trap 8).

use crate::replica::Replica;

pub(super) fn check(replica: &Replica) {
    let last = replica.log.last().slot;
    let applicable = replica.slot_committed.min(replica.slot_synced);
    assert!(
        replica.slot_applied <= applicable,
        "applied {} beyond committed and synced {applicable}",
        replica.slot_applied
    );
    assert!(replica.slot_synced <= last, "synced {} beyond last {last}", replica.slot_synced);
    assert!(
        replica.slot_committed <= last,
        "committed {} beyond last {last}",
        replica.slot_committed
    );
    assert!(replica.slot_verified <= last, "verified {} beyond last {last}", replica.slot_verified);
    assert!(
        replica.rows_missing || replica.log.trimmed() <= replica.slot_applied,
        "trimmed beyond applied"
    );
}
