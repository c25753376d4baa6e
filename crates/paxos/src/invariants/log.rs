//! The log has no hole, and every entry in it came under a ballot that was promised ("Paxos Made
//! Simple", section 2.2, P1a: a proposal is accepted only if no greater one was promised; the log without
//! holes is ours, see `docs/PROTOCOL.md`).

use crate::replica::Replica;

pub(super) fn check(replica: &Replica) {
    replica.log.check();
    assert!(
        replica.log.last().ballot <= replica.promised,
        "holds an entry of a ballot it never promised"
    );
}
