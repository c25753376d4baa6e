//! A ballot has at most one leader, its owner, and is won once (Ongaro's thesis, figure 3.2, Election
//! Safety; in Paxos by construction, because a ballot names its proposer).

use std::collections::BTreeSet;

use quorate_types::{Ballot, ReplicaId};

#[derive(Default)]
pub struct Ballots {
    won: BTreeSet<Ballot>,
}

impl Ballots {
    pub fn elected(&mut self, ballot: Ballot, replica: ReplicaId) {
        assert_eq!(ballot.replica, replica, "elected under a foreign ballot");
        assert!(self.won.insert(ballot), "elected twice under {ballot}");
    }

    pub fn count(&self) -> usize {
        self.won.len()
    }
}
