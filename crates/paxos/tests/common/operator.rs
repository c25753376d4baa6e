//! Nodes that are lost for ever, and the operator who goes on without them as `quorate group unsafe-recover` does:
//! asks all that answer where they stand, plans, and orders the one to begin another history whose log is taken.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_paxos::{ForceRequest, History, Input, Replica};
use quorate_topology::recovery::{NotRecovered, Recovery, Survivor, plan, proven};
use quorate_types::{EntryId, ReplicaId, Slot};

use crate::common::cluster::Cluster;
use crate::common::node::Node;

impl Cluster {
    /// A node goes down for good. (No disk is lost while another one is not whole again: one may fail.)
    pub(super) fn lose_node(&mut self, id: ReplicaId, with_disk: bool) {
        let is_first = self.membership.membership.history() == History::default();
        if !is_first || !self.is_every_disk_whole() || self.gone.contains(&id) {
            return;
        }
        let node = self.node(id);
        if with_disk {
            node.vanish();
        } else {
            node.crash(0, false);
        }
        self.gone.insert(id);
        self.lost.insert(id);
    }

    /// A node that was lost may start again, if it has a disk.
    pub(super) fn find_node(&mut self, id: ReplicaId) {
        if self.lost.contains(&id) && self.node(id).disk.ever_started {
            self.gone.remove(&id);
        }
    }

    /// The operator asks everybody twice: first for what is known to be chosen, and then which entry is there.
    pub(super) fn look(&mut self) {
        self.plan = self.recovery().ok();
    }

    /// How the group could go on without those that are down.
    pub fn recovery(&self) -> Result<Recovery, NotRecovered> {
        let slot = proven(&self.survivors(Slot::ZERO)).slot;
        plan(&self.survivors(slot), None)
    }

    fn survivors(&self, slot: Slot) -> Vec<Survivor> {
        let standing = |id: &ReplicaId| {
            let node = &self.nodes[id];
            let core = node.core.as_ref()?;
            let id_at = |slot: Slot| core.log().id_at(slot).filter(|_| Slot::ZERO < slot);
            let status = core.status(node.now(self.real_ns));
            let last = status.last.slot.min(status.slot_synced);
            let at = core.membership_at();
            let History { number, since } = at.membership.history();
            let members = at.membership.members();
            Some(Survivor {
                replica: *id,
                history: (number, since),
                members: members.map(|(id, member)| (id, (member.role, member.kind))).collect(),
                members_since: at.id.slot,
                is_outlived: core.is_outlived(),
                is_crossing: core.is_crossing(),
                has_rows: !core.rows_missing(),
                promised: core.promised(),
                last: id_at(last).unwrap_or(EntryId::ZERO),
                committed: id_at(core.slot_committed()).unwrap_or(EntryId::ZERO),
                at_proven: id_at(slot),
                leader: status.leader.map(ReplicaId::node),
            })
        };
        self.nodes.keys().filter_map(standing).collect()
    }

    /// The plan is carried out, as it was when the operator looked. He gives no order to another one before he knows what
    /// became of the last: two histories could begin (`forced_twice.txt`).
    pub(super) fn order(&mut self) -> Option<(ReplicaId, Input)> {
        let Recovery { history: (number, since), proven, taken, promised, kept, learners, .. } =
            self.plan.take()?;
        self.nodes.get(&taken)?.core.as_ref()?;
        let history = History { number, since };
        if let Some(last) = self.ordered.filter(|last| *last != taken) {
            let core = self.nodes.get(&last)?.core.as_ref()?;
            if core.is_forcing() || history < core.history() {
                return None;
            }
        }
        self.ordered = Some(taken);
        let request = ForceRequest {
            history,
            kept: kept.union(&learners).copied().collect(),
            promised,
            proven,
            note: Bytes::from_static(b"lost"),
        };
        Some((taken, Input::Force(request)))
    }

    /// The latest history that anybody who is up may tell of, and who.
    pub fn latest_history(&self) -> Option<(History, ReplicaId)> {
        let told = |(id, node): (&ReplicaId, &Node)| {
            let at = node.core.as_ref()?.told_history()?;
            Some((at.membership.history(), *id))
        };
        self.nodes.iter().filter_map(told).max()
    }

    /// Replicas that nobody takes in again: they were lost, or hold what the history that this one counts in may lack.
    /// (Their nodes may take part with empty disks and other ids.)
    pub(super) fn strangers(&self, leader: ReplicaId) -> BTreeSet<ReplicaId> {
        let core = self.nodes[&leader].core.as_ref();
        let (history, members) = core.map(|it| (it.history(), it.membership())).unzip();
        let is_member = |id: &ReplicaId| members.is_some_and(|it| it.get(*id).is_some());
        let is_stranger = |(id, node): &(&ReplicaId, &Node)| {
            let is_empty = node.disk.last() == EntryId::ZERO;
            let counts = node.core.as_ref().filter(|core| !core.is_outlived());
            let is_ours = is_empty || counts.map(Replica::history) == history;
            self.lost.contains(id)
                || history != Some(History::default()) && !is_member(id) && !is_ours
        };
        self.nodes.iter().filter(is_stranger).map(|(id, _)| *id).collect()
    }

    /// How many that are up know that the group goes on without them.
    pub fn outlived(&self) -> u64 {
        let cores = self.nodes.values().filter_map(|node| node.core.as_ref());
        cores.filter(|core| core.is_outlived()).count() as u64
    }

    /// True if nodes were lost, and nothing is known to be chosen in another history.
    pub fn is_unrecovered(&self) -> bool {
        !self.lost.is_empty() && self.membership.membership.history() == History::default()
    }
}
