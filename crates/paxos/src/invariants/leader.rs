//! A leader leads under the promise it holds, which is its own ballot and on its disk ("Paxos Made
//! Simple", section 2.4: proposers choose from disjoint sets of numbers and remember the highest in stable
//! storage).

use crate::replica::{Duty, Replica};

pub(super) fn check(replica: &Replica) {
    if !matches!(replica.duty, Duty::Leader(_)) {
        return;
    }
    assert_eq!(replica.promised.replica, replica.options.replica, "leads under a foreign ballot");
    assert_eq!(
        replica.promised_synced, replica.promised,
        "leads under a ballot that is not durable"
    );
}
