//! A leader's log holds its `StartWork`, and the leader serves only after it has applied it: only then
//! does it know everything that was ever chosen (Ongaro's thesis, section 6.4, step 1; traps 11 and 20).

use crate::replica::{Duty, Replica};

pub(super) fn check(replica: &Replica) {
    let Duty::Leader(leader) = &replica.duty else {
        return;
    };
    let start = leader.start_slot;
    assert!(start <= replica.log.last().slot, "leads without StartWork");
    assert!(!leader.serving || start <= replica.slot_applied, "serves before StartWork is applied");
}
