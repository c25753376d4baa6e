//! A replica whose log may have lost what it acknowledged follows, whatever happens: a vote of it may elect
//! somebody who lacks what is chosen ("Paxos Made Simple", section 2.2: an acceptor answers a prepare with what it
//! has accepted). What it says is checked in `told.rs`.

use crate::replica::{Duty, Replica};

pub(super) fn check(replica: &Replica) {
    let follows = matches!(replica.duty, Duty::Follower { .. });
    assert!(follows || !replica.is_log_suspect(), "runs or leads with a log that may lack entries");
}
