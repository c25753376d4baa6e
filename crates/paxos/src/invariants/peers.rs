//! Whatever a follower has acknowledged, the leader has in its own log (thesis, figure 3.2, Leader
//! Append-Only: a leader neither overwrites nor deletes what it has sent).

use crate::replica::{Duty, Replica};

pub(super) fn check(replica: &Replica) {
    let Duty::Leader(leader) = &replica.duty else {
        return;
    };
    let last = replica.log.last().slot;
    for (id, peer) in &leader.peers {
        assert!(peer.slot_synced <= last, "peer {id} is ahead of its leader");
        assert!(peer.slot_synced <= peer.next, "peer {id} is sent what it is known to have");
    }
}
