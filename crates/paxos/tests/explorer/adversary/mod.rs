//! Draws a schedule: what happens next, given what the cluster looks like. All randomness of the explorer
//! is here. Links are cut, nodes sleep and disks are slow by what is drawn and what is not.

mod aside;
mod disaster;
mod moves;
mod plots;
pub mod rng;
mod stage;
pub mod weather;

use std::collections::VecDeque;

use quorate_types::ReplicaId;

use crate::common::cluster::{Cluster, Setup};
use crate::common::event::Event;
use crate::common::links::{Kind, Link};
use disaster::Disaster;
use rng::Rng;
use stage::{Opening, Stage, Ways};
use weather::Weather;

/// A stage that waits for a leader ends within this time.
const SOON_NS: u64 = 100_000_000;

pub struct Adversary {
    rng: Rng,
    pub weather: Weather,
    ids: Vec<ReplicaId>,
    /// Drawn, not yet played.
    pending: VecDeque<Event>,
    /// Deliveries left of the burst under way.
    deliveries: u64,
    /// Links that lose everything, apart from plots.
    cut: Ways,
    /// The stage under way and when it ends.
    stage: Option<(u64, Stage)>,
    next_stages: VecDeque<Stage>,
    /// Most are lost for ever, at some moment.
    disaster: Option<Disaster>,
    next_value: u64,
    moves_left: u64,
}

impl Adversary {
    /// The adversary of a seed, and the cluster it plays with.
    pub fn new(seed: u64, moves: u64) -> (Adversary, Setup) {
        let mut rng = Rng::new(seed);
        let weather = Weather::draw(&mut rng);
        let setup = weather.setup(&mut rng);
        let disaster = Disaster::draw(&mut rng, moves);
        let adversary = Adversary {
            rng,
            weather,
            ids: (1..=weather.replicas()).map(ReplicaId).collect(),
            pending: VecDeque::new(),
            deliveries: 0,
            cut: Ways::NONE,
            stage: None,
            next_stages: VecDeque::new(),
            disaster,
            next_value: 1,
            moves_left: moves,
        };
        (adversary, setup)
    }

    /// The next event; `None` when the schedule is over.
    pub fn draw(&mut self, cluster: &Cluster) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if self.deliveries > 0 {
                self.deliveries -= 1;
                self.draw_delivery(cluster);
                continue;
            }
            self.moves_left = self.moves_left.checked_sub(1)?;
            if self.draw_disaster(cluster) {
                continue;
            }
            self.change_stage(cluster);
            if self.stage.is_some() {
                self.draw_staged(cluster);
            } else {
                self.draw_free(cluster);
            }
        }
    }

    /// Begins the next stage of the plot when the last one is over.
    fn change_stage(&mut self, cluster: &Cluster) {
        if let Some((until, stage)) = &mut self.stage {
            if stage.until_leads.is_some_and(|id| cluster.leads(id)) {
                stage.until_leads = None;
                stage.step_ms = 20;
                *until = cluster.real_ns + self.rng.below(SOON_NS);
            }
            if cluster.real_ns < *until {
                return;
            }
        }
        self.stage = None;
        let Some(mut stage) = self.next_stages.pop_front() else { return };
        for opening in std::mem::take(&mut stage.opening) {
            self.open(cluster, opening);
        }
        if stage.deposes {
            for id in self.ids.iter().filter(|id| cluster.leads(**id)) {
                stage.lost = stage.lost.and(Ways::from(*id));
                stage.held = stage.held.and(Ways::to(*id));
            }
        }
        self.stage = Some((cluster.real_ns + stage.span_ns, stage));
    }

    fn begin(&mut self, plot: Vec<Stage>) {
        if self.stage.is_none() {
            self.next_stages = plot.into();
        }
    }

    fn open(&mut self, cluster: &Cluster, opening: Opening) {
        match opening {
            Opening::Flush(to) => {
                let links: Vec<Link> = cluster
                    .links
                    .queues()
                    .map(|(link, _)| link)
                    .filter(|link| link.1 == to)
                    .collect();
                for link in links {
                    // Each is the oldest of its kind when its turn has come.
                    let picks =
                        (0..cluster.links.len(link)).filter_map(|n| cluster.links.pick(link, n));
                    self.pending.extend(picks.map(|mut pick| {
                        pick.nth = 0;
                        Event::Deliver(pick)
                    }));
                }
            }
            Opening::Clear => {
                for (link, queue) in cluster.links.queues() {
                    let picks = (0..queue.len()).filter_map(|n| cluster.links.pick(link, n));
                    self.pending.extend(picks.map(|mut pick| {
                        pick.nth = 0;
                        Event::Lose(pick)
                    }));
                }
            }
            Opening::Read(id) => self.pending.push_back(Event::Read(id)),
            Opening::HandOver(id, to) => self.pending.push_back(Event::HandOver { id, to }),
            Opening::Forget(id) => {
                self.pending.push_back(Event::Crash { id, keep: 0, keep_promise: false });
                self.pending.push_back(Event::Start(id));
            }
            Opening::Drain(id) => {
                self.pending.push_back(Event::Health { id, draining: true, serious_faults: 0 });
            }
            Opening::Stay(id) => {
                self.pending.push_back(Event::Health { id, draining: false, serious_faults: 0 });
            }
            Opening::Restart(id) => {
                let (keep, keep_promise) = (self.rng.index(4), self.rng.chance(50));
                self.pending.push_back(Event::Crash { id, keep, keep_promise });
                self.pending.push_back(Event::Start(id));
            }
        }
    }

    /// One message arrives, is lost or is sent once more.
    fn draw_delivery(&mut self, cluster: &Cluster) {
        let Some((link, index)) = self.draw_message(cluster) else {
            self.deliveries = 0;
            return;
        };
        let Some(pick) = cluster.links.pick(link, index) else { return };
        let is_cut = self.cut.has(link)
            || self.stage.as_ref().is_some_and(|(_, stage)| stage.lost.has(link));
        if let Some((_, stage)) = &mut self.stage
            && stage.held_kinds.has(pick.kind)
        {
            stage.passes = stage.passes.saturating_sub(1);
        }
        if is_cut || self.rng.chance(self.weather.loss_percent) {
            self.pending.push_back(Event::Lose(pick));
            return;
        }
        if self.rng.chance(self.weather.duplicate_percent) {
            self.pending.push_back(Event::Duplicate(pick));
        }
        self.pending.push_back(Event::Deliver(pick));
    }

    /// Mostly the oldest message of all, sometimes any. None that the stage holds back.
    fn draw_message(&mut self, cluster: &Cluster) -> Option<(Link, usize)> {
        let passes = match &self.stage {
            Some((_, stage)) => stage.passes > 0 && self.rng.chance(10),
            None => false,
        };
        let stage = self.stage.as_ref().map(|(_, stage)| stage);
        let is_held = |link: Link, kind: Kind| {
            stage.is_some_and(|stage| {
                stage.held.has(link)
                    || stage.asleep.has(link.1)
                    || (stage.held_kinds.has(kind) && !passes)
            })
        };
        if self.rng.chance(30) {
            let links = cluster.links.queues().filter(|(_, queue)| !queue.is_empty());
            let links: Vec<(Link, usize)> =
                links.map(|(link, queue)| (link, queue.len())).collect();
            if links.is_empty() {
                return None;
            }
            let (link, len) = *self.rng.one_of(&links);
            let index = self.rng.index(len);
            let pick = cluster.links.pick(link, index)?;
            if !is_held(link, pick.kind) {
                return Some((link, index));
            }
        }
        let mut oldest: Option<(u64, Link, usize)> = None;
        for (link, queue) in cluster.links.queues() {
            let free = queue.iter().enumerate().find(|(_, sent)| {
                oldest.is_some_and(|(number, _, _)| number < sent.number)
                    || !is_held(link, Kind::of(&sent.message))
            });
            if let Some((index, sent)) = free
                && oldest.is_none_or(|(number, _, _)| sent.number < number)
            {
                oldest = Some((sent.number, link, index));
            }
        }
        oldest.map(|(_, link, index)| (link, index))
    }
}
