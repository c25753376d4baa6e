//! A disaster: a majority of the voters is lost at one moment, some disks for ever, and an operator has the group go
//! on with those that are left. He looks, and what he orders then may come later than he thinks.

use quorate_paxos::History;
use quorate_types::ReplicaId;

use super::rng::Rng;
use super::{Adversary, Ways};
use crate::common::cluster::Cluster;
use crate::common::event::Event;

const MS: u64 = 1_000_000;

/// What is drawn of it beforehand.
#[derive(Clone, Copy, Debug)]
pub struct Disaster {
    /// It strikes when so many moves are left.
    at: u64,
    /// Nodes whose disks are not lost are found again.
    comes_back: bool,
}

impl Disaster {
    /// Of a schedule with so many moves, or none.
    pub fn draw(rng: &mut Rng, moves: u64) -> Option<Disaster> {
        let strikes = rng.chance(10);
        let (at, comes_back) = (moves / 5 + rng.below(moves * 3 / 5), rng.chance(50));
        strikes.then_some(Disaster { at, comes_back })
    }
}

impl Adversary {
    /// A move of the disaster, or of who deals with it. False if it is not their turn.
    pub(super) fn draw_disaster(&mut self, cluster: &Cluster) -> bool {
        let Some(disaster) = self.disaster else { return false };
        if cluster.lost.is_empty() {
            return self.moves_left <= disaster.at && self.strike(cluster, disaster);
        }
        if !self.rng.chance(8) {
            return false;
        }
        match cluster.latest_history() {
            Some((history, from)) => self.tell(cluster, disaster, history, from),
            None => self.operate(cluster, disaster),
        }
        true
    }

    /// Most of the voters go down, until the others are no quorum. One that could lead is left.
    fn strike(&mut self, cluster: &Cluster, disaster: Disaster) -> bool {
        let membership = &cluster.membership.membership;
        let may_lead = |id: &ReplicaId| {
            let member = membership.get(*id);
            member.is_some_and(|it| it.kind.may_lead() && it.role.votes())
                && cluster.nodes[id].core.is_some()
        };
        let able: Vec<ReplicaId> = self.ids.iter().copied().filter(may_lead).collect();
        if able.is_empty() || self.ids.len() < 2 || !cluster.is_every_disk_whole() {
            return false; // Later, perhaps.
        }
        let survivor = *self.rng.one_of(&able);
        let mut order = self.ids.clone();
        (1..order.len()).rev().for_each(|at| order.swap(at, self.rng.index(at + 1)));
        let mut lost: Vec<ReplicaId> = Vec::new();
        for id in order.into_iter().filter(|id| *id != survivor) {
            let is_lost = membership.is_quorum(|other| !lost.contains(&other));
            if is_lost || self.rng.chance(15) {
                lost.push(id);
            }
        }
        if self.rng.chance(50) {
            self.cut = Ways::NONE;
        }
        self.stage = None;
        self.next_stages.clear();
        for id in lost {
            let with_disk = !disaster.comes_back || self.rng.chance(30);
            self.pending.push_back(Event::LoseNode { id, with_disk });
        }
        true
    }

    /// Time passes until nobody hopes any more; the operator looks, and orders.
    fn operate(&mut self, cluster: &Cluster, disaster: Disaster) {
        match self.rng.below(100) {
            0..=39 => {
                let ns = self.rng.between(100, 1_200) * MS;
                self.pending.push_back(Event::Pass { ns });
                let up = self.ids.iter().filter(|id| cluster.nodes[*id].core.is_some());
                self.pending.extend(up.map(|id| Event::Tick(*id)));
            }
            40..=69 => {
                self.pending.push_back(Event::Look);
                if self.rng.chance(60) {
                    self.pending.push_back(Event::Order);
                }
            }
            70..=94 => self.pending.push_back(Event::Order),
            95..=96 if disaster.comes_back => self.find(cluster),
            _ => {
                let id = self.any_node();
                self.pending.push_back(Event::Start(id));
            }
        }
    }

    /// Another history has begun: others hear of it, and nodes that were lost come back.
    fn tell(&mut self, cluster: &Cluster, disaster: Disaster, history: History, last: ReplicaId) {
        if disaster.comes_back && self.rng.chance(15) {
            return self.find(cluster);
        }
        let behind = |id: &ReplicaId| {
            cluster.nodes[id].core.as_ref().is_some_and(|core| core.history() < history)
        };
        let behind: Vec<ReplicaId> = self.ids.iter().copied().filter(behind).collect();
        if behind.is_empty() || self.rng.chance(50) {
            return;
        }
        let id = *self.rng.one_of(&behind);
        // Anybody who knows may tell, also who knows only how it began.
        let from = if self.rng.chance(50) { last } else { self.any_node() };
        self.pending.push_back(Event::Tell { id, from });
    }

    fn find(&mut self, cluster: &Cluster) {
        let lost: Vec<ReplicaId> = cluster.lost.iter().copied().collect();
        let id = *self.rng.one_of(&lost);
        self.pending.push_back(Event::FindNode(id));
        self.pending.push_back(Event::Start(id));
    }
}
