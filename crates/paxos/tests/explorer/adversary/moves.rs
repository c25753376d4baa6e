//! The moves of a schedule: each draws a few events. Those of a stage serve its plot.

use quorate_types::{ReplicaId, ReplicaKind};

use super::stage::Nodes;
use super::{Adversary, plots};
use crate::common::cluster::Cluster;
use crate::common::event::{Event, Ids};
use crate::common::node::Phase;

const MS: u64 = 1_000_000;

impl Adversary {
    /// A move outside of plots.
    pub(super) fn draw_free(&mut self, cluster: &Cluster) {
        let weather = self.weather;
        let id = self.any_node();
        if self.rng.below(1000) < weather.plot_permille {
            let plot = plots::draw(&mut self.rng, cluster);
            return self.begin(plot);
        }
        if self.rng.below(1000) < weather.crash_permille {
            return self.crash_or_start(cluster, id);
        }
        if self.rng.below(1000) < weather.cut_permille {
            return self.cut_or_heal(id);
        }
        if self.rng.below(1000) < weather.pause_permille {
            // Everybody pauses: the same as one long delay for every message and timer.
            let ns = self.rng.below(1_500 * MS);
            self.pending.push_back(Event::Pass { ns });
        }
        if self.rng.below(1000) < weather.sleep_permille {
            if self.rng.chance(50) {
                self.cut = super::Ways::NONE;
            }
            let sleeper = self.likely_server(cluster);
            let plot = plots::sleeper(&mut self.rng, sleeper);
            return self.begin(plot);
        }
        if self.rng.below(1000) < weather.handover_permille {
            let to = if self.rng.chance(50) { None } else { Some(self.any_node()) };
            let id = self.likely_server(cluster);
            let homeward = self.rng.chance(50);
            let event = if homeward { Event::GoHome(id) } else { Event::HandOver { id, to } };
            return self.pending.push_back(event);
        }
        if self.rng.below(1000) < weather.trim_permille {
            self.pending.push_back(Event::Checkpoint(id));
            return self.pending.push_back(Event::Trim(id));
        }
        if self.rng.below(1000) < weather.snapshot_permille {
            let from = self.any_node();
            let id = self.likely_behind(cluster);
            return self.pending.push_back(Event::Snapshot { id, from });
        }
        if self.rng.below(1000) < weather.change_permille {
            return self.change_members(cluster);
        }
        if self.rng.below(1000) < weather.lose_rows_permille {
            return self.lose_rows(cluster, id);
        }
        if self.rng.below(1000) < weather.lose_log_permille {
            return self.lose_log(cluster, id);
        }
        if cluster.nodes[&id].arriving.is_some() && self.rng.chance(30) {
            return self.go_on_with_snapshot(cluster, id);
        }
        match self.rng.below(100) {
            0..=49 => self.burst(weather.burst),
            50..=64 => self.sync_logs(weather.sync_percent, Nodes::NONE),
            65..=69 => self.sync_promises(cluster, weather.sync_percent, Nodes::NONE),
            70..=79 => self.pass(cluster, weather.tick_ms, Nodes::NONE, Nodes::NONE),
            80..=86 => {
                let id = self.likely_server(cluster);
                self.propose(id);
            }
            87..=92 => {
                let id = self.likely_server(cluster);
                self.pending.push_back(Event::Read(id));
            }
            93..=95 => self.pending.push_back(Event::AskFresh(id)),
            96..=97 => self.answer_read(id),
            98 => {
                let serious_faults = self.rng.below(2) as u8;
                let draining = self.rng.chance(10);
                self.pending.push_back(Event::Health { id, draining, serious_faults });
            }
            _ if self.rng.chance(50) => self.pending.push_back(Event::DiskProgress(id)),
            _ => {
                let id = self.likely_server(cluster);
                self.pending.push_back(Event::GiveWay(id));
            }
        }
    }

    /// A move of the stage under way: time passes faster, and links, disks and nodes that the stage
    /// does not hold back are quick.
    pub(super) fn draw_staged(&mut self, cluster: &Cluster) {
        let Some((_, stage)) = &self.stage else { return };
        let (asleep, clients, step_ms) = (stage.asleep, stage.clients, stage.step_ms);
        let (slow_logs, slow_promises) =
            (stage.slow_logs.and(asleep), stage.slow_promises.and(asleep));
        match self.rng.below(100) {
            0..=41 => self.burst(12),
            42..=66 => {
                self.sync_logs(80, slow_logs);
                self.sync_promises(cluster, 80, slow_promises);
                self.answer_reads(cluster, slow_logs);
            }
            67..=81 => self.pass(cluster, step_ms, slow_logs, asleep),
            82..=89 => {
                if let Some(id) = self.client_of(cluster, clients, asleep) {
                    self.propose(id);
                }
            }
            90..=96 => {
                if let Some(id) = self.client_of(cluster, clients, asleep) {
                    self.pending.push_back(Event::Read(id));
                }
            }
            _ => {
                let id = self.any_node();
                if !asleep.has(id) {
                    self.pending.push_back(Event::AskFresh(id));
                }
            }
        }
    }

    /// Members change: mostly by one or two, sometimes to anything. A change that has begun goes on.
    fn change_members(&mut self, cluster: &Cluster) {
        let id = self.likely_server(cluster);
        if self.rng.chance(40) {
            return self.pending.push_back(Event::ContinueChange(id));
        }
        if self.rng.chance(10) {
            let id = self.any_node();
            return self.pending.push_back(Event::Vanish(id));
        }
        let Some(core) = &cluster.nodes[&id].core else { return };
        let present = core.membership().clone();
        let wild = self.rng.chance(10);
        let (mut voters, mut learners) = (Vec::new(), Vec::new());
        for n in 0..self.ids.len() {
            let other = self.ids[n];
            let before = present.get(other).map(|member| member.role.votes());
            let after = match self.rng.below(if wild { 4 } else { 12 }) {
                0 => None,
                1 => Some(false),
                2 => Some(true),
                _ => before,
            };
            match after {
                Some(true) => voters.push(other),
                Some(false) => learners.push(other),
                None => {}
            }
        }
        let (voters, learners) = (Ids::of(voters), Ids::of(learners));
        self.pending.push_back(Event::Change { id, voters, learners });
    }

    /// Rows that have arrived come one step closer, or all the way.
    fn go_on_with_snapshot(&mut self, cluster: &Cluster, id: ReplicaId) {
        let Some(arriving) = &cluster.nodes[&id].arriving else { return };
        self.pending.push_back(match arriving.phase {
            Phase::Fetched => Event::Install(id),
            Phase::Logging => Event::SyncLog { id, count: 1 },
            Phase::Installing if self.rng.chance(10) => Event::Installed(id), // It fails.
            Phase::Installing => Event::Switch(id),
            Phase::Switched => Event::Installed(id),
        });
    }

    /// A node loses its rows when it goes down, or finds that they are damaged while it runs.
    fn lose_rows(&mut self, cluster: &Cluster, id: ReplicaId) {
        if self.rng.chance(50) {
            return self.pending.push_back(Event::DamageRows(id));
        }
        if cluster.nodes[&id].core.is_some() {
            let keep = self.rng.index(4);
            self.pending.push_back(Event::Crash { id, keep, keep_promise: true });
        }
        self.pending.push_back(Event::LoseRows(id));
    }

    /// A node loses part of its log when it goes down, most of the time the end. What it had sent before may
    /// still be on its way.
    fn lose_log(&mut self, cluster: &Cluster, id: ReplicaId) {
        if cluster.nodes[&id].core.is_some() {
            self.pending.push_back(Event::Crash { id, keep: usize::MAX, keep_promise: true });
        }
        let len = cluster.nodes[&id].disk.log.len();
        let from = if self.rng.chance(70) { len.saturating_sub(4) } else { 0 };
        let keep = from + self.rng.index(len - from + 1);
        self.pending.push_back(Event::LoseLog { id, keep });
        if self.rng.chance(70) {
            self.pending.push_back(Event::Start(id));
        }
    }

    fn client_of(
        &mut self,
        cluster: &Cluster,
        clients: Option<ReplicaId>,
        asleep: Nodes,
    ) -> Option<ReplicaId> {
        let id = match clients {
            Some(id) if self.rng.chance(50) => id,
            Some(_) | None => self.likely_server(cluster),
        };
        (!asleep.has(id)).then_some(id)
    }

    pub(super) fn any_node(&mut self) -> ReplicaId {
        *self.rng.one_of(&self.ids)
    }

    /// Mostly a node that believes it serves, for what clients do.
    fn likely_server(&mut self, cluster: &Cluster) -> ReplicaId {
        let serving: Vec<ReplicaId> =
            self.ids.iter().copied().filter(|id| cluster.serves(*id)).collect();
        if serving.is_empty() || self.rng.chance(25) {
            return self.any_node();
        }
        *self.rng.one_of(&serving)
    }

    /// Mostly the node that has applied the least, for rows that come from others.
    fn likely_behind(&mut self, cluster: &Cluster) -> ReplicaId {
        let behind = self.ids.iter().copied().min_by_key(|id| cluster.nodes[id].applied.len());
        match behind {
            Some(id) if self.rng.chance(75) => id,
            Some(_) | None => self.any_node(),
        }
    }

    /// Messages arrive one after the other, within a millisecond or so.
    fn burst(&mut self, upto: u64) {
        self.deliveries = 1 + self.rng.below(upto);
        let ns = self.rng.below(300_000 * self.deliveries);
        self.pending.push_back(Event::Pass { ns });
    }

    fn sync_logs(&mut self, percent: u64, slow: Nodes) {
        for n in 0..self.ids.len() {
            let id = self.ids[n];
            if self.rng.chance(percent) && !slow.has(id) {
                let count = 1 + self.rng.index(4);
                self.pending.push_back(Event::DiskProgress(id));
                self.pending.push_back(Event::SyncLog { id, count });
            }
        }
    }

    fn sync_promises(&mut self, cluster: &Cluster, percent: u64, slow: Nodes) {
        for n in 0..self.ids.len() {
            let id = self.ids[n];
            let is_arbiter = cluster.setup.kinds[n] == ReplicaKind::Arbiter;
            let is_brisk = self.stage.as_ref().is_some_and(|(_, stage)| stage.brisk.has(id));
            let is_slow = is_arbiter && self.weather.slow_arbiters && !is_brisk;
            let hardly_moves = is_slow && !self.rng.chance(3);
            if self.rng.chance(percent) && !slow.has(id) && !hardly_moves {
                self.pending.push_back(Event::SyncPromise(id));
            }
        }
    }

    /// Time passes and most timers are looked at.
    fn pass(&mut self, cluster: &Cluster, upto_ms: u64, slow: Nodes, asleep: Nodes) {
        let ns = self.rng.below(upto_ms * MS);
        let has_arbiter = cluster.setup.kinds.contains(&ReplicaKind::Arbiter);
        self.pending.push_back(Event::Pass { ns });
        for n in 0..self.ids.len() {
            let id = self.ids[n];
            if self.rng.chance(80) && !asleep.has(id) && cluster.nodes[&id].core.is_some() {
                if self.rng.chance(50) && !slow.has(id) {
                    self.pending.push_back(Event::DiskProgress(id));
                }
                self.pending.push_back(Event::Tick(id));
                // As drivers do, which look all the time: else nobody is ever set aside.
                if has_arbiter && self.rng.chance(40) && cluster.leads(id) {
                    self.pending.push_back(Event::ContinueChange(id));
                }
            }
        }
    }

    fn propose(&mut self, id: ReplicaId) {
        let count = 1 + self.rng.below(3);
        self.pending.push_back(Event::Propose { id, first: self.next_value, count });
        self.next_value += count;
    }

    fn answer_reads(&mut self, cluster: &Cluster, slow: Nodes) {
        for (id, node) in &cluster.nodes {
            if !node.log_reads.is_empty() && !slow.has(*id) {
                self.answer_read(*id);
            }
        }
    }

    fn answer_read(&mut self, id: ReplicaId) {
        let count = 1 + self.rng.index(3);
        self.pending.push_back(Event::AnswerRead { id, count });
    }

    fn crash_or_start(&mut self, cluster: &Cluster, id: ReplicaId) {
        let (keep, keep_promise) = (self.rng.index(4), self.rng.chance(50));
        if cluster.nodes[&id].core.is_none() {
            return self.pending.push_back(Event::Start(id));
        }
        self.pending.push_back(Event::Crash { id, keep, keep_promise });
        if self.rng.chance(50) {
            self.pending.push_back(Event::Start(id));
        }
    }

    fn cut_or_heal(&mut self, id: ReplicaId) {
        use super::Ways;
        let both = Ways::from(id).and(Ways::to(id));
        let other = self.any_node();
        let one_way = Ways::way((id, other));
        self.cut = match self.rng.below(4) {
            0 => self.cut.and(Ways::from(id)), // It only hears.
            1 => self.cut.and(both),
            _ if self.cut.has((id, other)) => self.cut.without(one_way),
            _ => self.cut.and(one_way),
        };
        if self.rng.chance(40) {
            self.cut = Ways::NONE;
        }
    }
}
