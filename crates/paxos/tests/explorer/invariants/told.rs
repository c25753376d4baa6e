//! What a replica tells others about its promise and its log is on its disk, not only on its way there
//! ("Paxos Made Simple", section 2.5: an acceptor records before it answers; traps 1 and 2). So a promise
//! that anybody relies on never goes back, however often the replica crashes.

use std::collections::BTreeMap;

use quorate_paxos::{Message, Replica};
use quorate_types::{Ballot, EntryId, ReplicaId, Slot};

use crate::common::cluster::Cluster;

#[derive(Default)]
pub struct Told {
    promised: BTreeMap<ReplicaId, Ballot>,
}

impl Told {
    pub fn observe(&mut self, cluster: &Cluster, id: ReplicaId, messages: &[(ReplicaId, Message)]) {
        let disk = &cluster.nodes[&id].disk;
        // A log that is not of the history it counts in is promised as none at all.
        let is_crossing = cluster.nodes[&id].core.as_ref().is_some_and(Replica::is_crossing);
        let last = if is_crossing { EntryId::ZERO } else { disk.last() };
        for (_, message) in messages {
            match message {
                Message::Prepare(m) => self.promise(id, m.ballot, disk.promised),
                Message::Promise(m) => {
                    self.promise(id, m.ballot, disk.promised);
                    assert_eq!(m.last, last, "{id} promises with a log that is not on disk");
                }
                Message::Accepted(m) => {
                    self.promise(id, m.ballot, disk.promised);
                    log(id, m.slot_synced, disk.last());
                }
                Message::SeatsKept(m) => {
                    self.promise(id, m.ballot, disk.promised);
                    assert!(m.id <= disk.membership.id, "{id} keeps what is not on disk");
                }
                Message::HeartbeatAck(m) => {
                    self.promise(id, m.ballot, disk.promised);
                    log(id, m.slot_synced, disk.last());
                }
                _ => {}
            }
        }
    }

    /// A replica acts under a promise while its disk has another one.
    pub fn promise(&mut self, id: ReplicaId, ballot: Ballot, on_disk: Ballot) {
        assert!(ballot <= on_disk, "{id} tells of {ballot}, but has {on_disk} on disk");
        let told = self.promised.entry(id).or_default();
        *told = ballot.max(*told);
    }

    pub fn started(&mut self, cluster: &Cluster, id: ReplicaId) {
        if let Some(core) = &cluster.nodes[&id].core {
            self.restarted(id, core.promised());
        }
    }

    /// A replica starts with this promise.
    pub fn restarted(&mut self, id: ReplicaId, promised: Ballot) {
        let told = self.promised.get(&id).copied().unwrap_or_default();
        assert!(told <= promised, "{id} starts with {promised} after it has told of {told}");
    }
}

/// A replica says that its log is durable through a slot.
pub fn log(id: ReplicaId, told: Slot, on_disk: EntryId) {
    assert!(told <= on_disk.slot, "{id} tells of slot {told}, but has {on_disk} on disk");
}
