//! Reads wait in the order in which they were asked, because one round of heartbeats confirms all that
//! came before it (thesis, section 6.4, step 4); and none waits at a leader that hands over, because its
//! lease is given up with the token (trap 18).

use crate::replica::{Duty, Replica};

pub(super) fn check(replica: &Replica) {
    let Duty::Leader(leader) = &replica.duty else {
        return;
    };
    let pairs = leader.reads.iter().zip(leader.reads.iter().skip(1));
    for ((before, _), (after, _)) in pairs {
        assert!(before <= after, "reads wait out of order");
    }
    assert!(leader.handover.is_none() || leader.reads.is_empty(), "reads wait during a hand-over");
}
