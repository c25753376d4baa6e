//! Memberships that may count stand in the order of their entries, at entries that the log has or that are
//! chosen; and who leads sends its log to everybody who is in it (thesis, section 4.1: a server uses the
//! latest configuration in its log).

use crate::replica::{Duty, Replica};

pub(super) fn check(replica: &Replica) {
    replica.memberships.check();
    let at = replica.memberships.last();
    assert!(
        at.id.slot <= replica.slot_applied.max(replica.log.trimmed())
            || replica.log.holds_exactly(at.id)
            || replica.memberships.is_settled(),
        "takes members from {}, which is not in the log",
        at.id
    );
    let Duty::Leader(leader) = &replica.duty else {
        return;
    };
    let members = at.membership.members().filter(|(id, _)| *id != replica.options.replica);
    for (id, _) in members {
        assert!(leader.peers.contains_key(&id), "leads without {id}");
    }
}
