//! Who has granted a lease promises no other ballot before it ends, by its own clock, also when it has
//! restarted meanwhile and forgotten what it granted (trap 17), and whatever happens to its own
//! leadership (trap 18). The one exception is the token of the very ballot that holds the lease.
//! From "Paxos Made Live", section 5.2: replicas refuse other proposers while a lease runs.

use std::collections::BTreeMap;

use quorate_paxos::{Input, LeaseMode, Message, Output};
use quorate_types::{Ballot, BootTime, ReplicaId};

use crate::common::cluster::Cluster;

/// A lease that a replica has granted, itself included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub ballot: Ballot,
    pub until: BootTime,
}

#[derive(Default)]
pub struct Grants {
    granted: BTreeMap<ReplicaId, Grant>,
    /// The ballot whose token came with the input that is being stepped.
    token: Option<Ballot>,
}

impl Grants {
    pub fn before_step(&mut self, input: &Input) {
        self.token = match input {
            Input::Message { message: Message::Prepare(prepare), .. } => prepare.handover_from,
            Input::Message { message: Message::TakeOver(token), .. } => Some(token.ballot),
            _ => None,
        };
    }

    pub fn after_step(&mut self, cluster: &Cluster, id: ReplicaId, out: &Output) {
        let node = &cluster.nodes[&id];
        if node.options.timing.mode == LeaseMode::ReadIndex {
            return;
        }
        let now = node.now(cluster.real_ns);
        let grant = self.granted.get(&id).copied();
        if let Some(ballot) = out.promise {
            check(id, grant, now, ballot, self.token);
            if self.token.is_some() && self.token == grant.map(|grant| grant.ballot) {
                self.granted.remove(&id); // The holder gave its lease up for good.
            }
        }
        for (_, message) in &out.messages {
            match message {
                Message::PreVoteAck(ack) if ack.granted => check(id, grant, now, ack.ballot, None),
                Message::HeartbeatAck(ack) => {
                    self.grant(id, ack.ballot, now + node.options.timing.lease);
                }
                Message::Heartbeat(sent) => {
                    self.grant(id, sent.ballot, now + node.options.timing.lease);
                }
                _ => {}
            }
        }
    }

    fn grant(&mut self, id: ReplicaId, ballot: Ballot, until: BootTime) {
        self.granted.insert(id, Grant { ballot, until });
    }
}

/// A vote for `ballot` at `now` by a replica that has granted a lease.
pub fn check(
    id: ReplicaId,
    grant: Option<Grant>,
    now: BootTime,
    ballot: Ballot,
    token: Option<Ballot>,
) {
    let Some(grant) = grant else { return };
    assert!(
        grant.until <= now || ballot == grant.ballot || token == Some(grant.ballot),
        "{id} votes for {ballot} within the lease of {}",
        grant.ballot
    );
}
