//! Replicas that are no members, and what they may do.

use std::time::Duration;

use quorate_paxos::message::Mismatch;
use quorate_paxos::{LeaseMode, Message};
use quorate_types::{EntryId, ReplicaId, Slot};

use crate::bench::{Bench, ballot};

/// Goal: a replica that is no member and says what cannot be - it holds more than its leader ever wrote, or answers
/// a heartbeat of the future - counts nowhere and stops nobody.
#[test]
fn trap_16_a_stranger_that_talks_nonsense_stops_no_leader() {
    let stranger = ReplicaId(9);
    let mut leader = Bench::serving(LeaseMode::Lease);
    leader.pre_vote(ballot(7, stranger)); // From now on it is sent the log.
    leader.accepted(stranger, 99);
    leader.confirmed(stranger, leader.now + Duration::from_secs(3600));
    let (ballot, slot_committed) = (leader.core.promised(), Slot(u64::MAX));
    let mismatch = Mismatch { ballot, last: EntryId::ZERO, slot_committed };
    leader.hear(stranger, Message::Mismatch(mismatch));
    leader.core.check_invariants();
    assert!(leader.leads());
    leader.propose("a");
    leader.synced(2);
    leader.accepted(stranger, 2);
    assert_eq!(leader.core.slot_committed(), Slot(1), "its vote is no vote");
}
