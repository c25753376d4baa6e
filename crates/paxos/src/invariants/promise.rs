//! What is durable was promised before ("Paxos Made Simple", section 2.5: the acceptor records the
//! promise it has decided on).

use crate::replica::Replica;

pub(super) fn check(replica: &Replica) {
    assert!(replica.promised_synced <= replica.promised, "synced a promise that was never given");
}
