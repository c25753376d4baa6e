//! A world of replicas under a random schedule: lossy, duplicating, reordering links, one-way cuts,
//! disks that lose what was not synced, log reads that come late, drifting clocks, pauses of one node or
//! of all, restarts, hand-overs. What the replicas answer is judged in `carry_out.rs`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_paxos::{Health, Input, Options, ReadToken, Timing};
use quorate_types::{Ballot, EntryId, GroupId, ReplicaId, Slot};

use crate::chosen::Chosen;
use crate::node::{Disk, Envelope, Node};
use crate::rng::Rng;
use crate::weather::Weather;

pub struct PendingRead {
    /// Everything acknowledged to anybody before the read began.
    pub floor: Slot,
    /// What the view of the read contained.
    pub seen: Slot,
}

pub struct World {
    pub rng: Rng,
    pub weather: Weather,
    pub nodes: BTreeMap<ReplicaId, Node>,
    pub chosen: Chosen,
    pub real_ns: u64,
    pub links: Vec<Envelope>,
    pub cut: BTreeSet<(ReplicaId, ReplicaId)>,
    pub reads: BTreeMap<(ReplicaId, ReadToken), PendingRead>,
    /// Reads that clients have sent to a node that sleeps, with what was acknowledged before.
    asleep: BTreeMap<ReplicaId, Vec<(ReadToken, Slot)>>,
    next_token: u64,
    next_payload: u64,
    /// The greatest slot whose proposer has told its client.
    pub acked: Slot,
    pub acked_by_ballot: BTreeMap<Ballot, Slot>,
    pub waiting: BTreeMap<ReplicaId, BTreeSet<EntryId>>,
    pub confirmed_reads: u64,
    pub acked_writes: u64,
    pub elections: u64,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let weather = Weather::draw(&mut rng);
        World::with(rng, weather)
    }

    pub fn with(mut rng: Rng, weather: Weather) -> World {
        let voters: BTreeMap<ReplicaId, u16> =
            (1..=weather.voters).map(|id| (ReplicaId(id), id as u16 / 2)).collect();
        let nodes = voters
            .keys()
            .map(|id| {
                let options = Options {
                    group: GroupId(1),
                    replica: *id,
                    voters: voters.clone(),
                    timing: Timing {
                        mode: weather.mode,
                        lease_margin: weather.lease_margin(),
                        ..Timing::lan()
                    },
                    pinned: false,
                };
                let ppm = rng.below(2 * weather.drift_ppm + 1) as i64 - weather.drift_ppm as i64;
                let node = Node {
                    options,
                    disk: Disk::default(),
                    core: None,
                    unsynced: Default::default(),
                    unsynced_promises: Default::default(),
                    applied: Vec::new(),
                    log_reads: Vec::new(),
                    asleep_until: 0,
                    inbox: Vec::new(),
                    clock_ppm: ppm,
                    clock_base: rng.below(1 << 40),
                };
                (*id, node)
            })
            .collect();
        let mut world = World {
            rng,
            weather,
            nodes,
            chosen: Chosen::default(),
            real_ns: 1_000_000_000,
            links: Vec::new(),
            cut: BTreeSet::new(),
            reads: BTreeMap::new(),
            asleep: BTreeMap::new(),
            next_token: 0,
            next_payload: 0,
            acked: Slot::ZERO,
            acked_by_ballot: BTreeMap::new(),
            waiting: BTreeMap::new(),
            confirmed_reads: 0,
            acked_writes: 0,
            elections: 0,
        };
        for node in world.nodes.values_mut() {
            node.start(world.real_ns);
        }
        world
    }

    fn any_node(&mut self) -> ReplicaId {
        let index = self.rng.index(self.nodes.len());
        *self.nodes.keys().nth(index).expect("index below length")
    }

    /// Mostly a node that believes it serves, for what clients do.
    fn likely_server(&mut self) -> ReplicaId {
        let ids: Vec<ReplicaId> = self.nodes.keys().copied().collect();
        let serving: Vec<ReplicaId> = ids.into_iter().filter(|id| self.serves(*id)).collect();
        if serving.is_empty() || self.rng.chance(25) {
            return self.any_node();
        }
        serving[self.rng.index(serving.len())]
    }

    /// One random event.
    pub fn step(&mut self) {
        self.wake_up();
        self.assert_one_lease();
        let id = self.any_node();
        let weather = self.weather;
        if self.rng.below(1000) < weather.crash_permille {
            return self.crash_or_start(id);
        }
        if self.rng.below(1000) < weather.cut_permille {
            return self.cut_or_heal(id);
        }
        if self.rng.below(1000) < weather.pause_permille {
            // Everybody pauses: the same as one long delay for every message and timer.
            self.real_ns += self.rng.below(1_500_000_000);
        }
        if self.rng.below(1000) < weather.sleep_permille {
            self.fall_asleep();
        }
        if self.rng.below(1000) < weather.handover_permille {
            let target = if self.rng.chance(50) { None } else { Some(self.any_node()) };
            let leader = self.likely_server();
            return self.feed(leader, Input::HandOver(target));
        }
        if self.rng.below(1000) < weather.trim_permille {
            return self.checkpoint_and_trim(id);
        }
        match self.rng.below(100) {
            0..=49 => {
                for _ in 0..=self.rng.below(self.weather.burst) {
                    self.deliver_one();
                }
            }
            50..=64 => self.sync_some(World::sync_log),
            65..=69 => self.sync_some(World::sync_promise),
            70..=79 => {
                self.real_ns += self.rng.below(weather.tick_ms * 1_000_000);
                self.tick_most();
            }
            80..=86 => {
                let id = self.likely_server();
                self.propose(id);
            }
            87..=95 => {
                let id = self.likely_server();
                self.read(id);
            }
            96..=97 => self.answer_log_reads(id),
            98 => {
                let serious_faults = self.rng.below(2) as u8;
                let draining = self.rng.chance(10);
                let health = Health { serious_faults, draining, ..Health::default() };
                self.feed(id, Input::Health(health));
            }
            _ => {
                let now = self.nodes[&id].now(self.real_ns);
                self.feed(id, Input::DiskProgress(now));
            }
        }
    }

    fn crash_or_start(&mut self, id: ReplicaId) {
        let keep = self.rng.index(4);
        let keep_promise = self.rng.chance(50);
        let real_ns = self.real_ns;
        let node = self.nodes.get_mut(&id).expect("known");
        if node.core.is_some() {
            node.crash(keep, keep_promise);
            self.reads.retain(|(at, _), _| *at != id);
            self.waiting.remove(&id);
            self.asleep.remove(&id);
            if self.rng.chance(50) {
                self.nodes.get_mut(&id).expect("known").start(real_ns);
            }
        } else {
            node.start(real_ns);
        }
    }

    fn sync_some(&mut self, sync: fn(&mut World, ReplicaId)) {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            if self.rng.chance(self.weather.sync_percent) {
                sync(self, id);
            }
        }
    }

    fn tick_most(&mut self) {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            if self.rng.chance(80) {
                let now = self.nodes[&id].now(self.real_ns);
                if self.rng.chance(50) {
                    self.feed(id, Input::DiskProgress(now));
                }
                self.feed(id, Input::Tick);
            }
        }
    }

    /// A node stands still, mostly the leader and long enough for the others to elect another one.
    fn fall_asleep(&mut self) {
        let sleeper = self.likely_server();
        if self.nodes.values().any(|node| node.asleep_until != 0) {
            return;
        }
        if self.rng.chance(50) {
            self.cut.clear();
        }
        let until = self.real_ns + self.rng.below(4_000_000_000);
        self.nodes.get_mut(&sleeper).expect("known").asleep_until = until;
    }

    /// Nodes whose sleep is over go on. The first they see is what peers or clients sent meanwhile.
    pub fn wake_up(&mut self) {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let node = self.nodes.get_mut(&id).expect("known");
            if node.asleep_until == 0 || self.real_ns < node.asleep_until {
                continue;
            }
            node.asleep_until = 0;
            let inbox = std::mem::take(&mut node.inbox);
            if self.rng.chance(50) {
                for Envelope { from, to, message } in inbox {
                    self.feed(to, Input::Message { from, message });
                }
            } else {
                self.links.extend(inbox);
            }
            // The latest question first: it knows of most that was acknowledged meanwhile.
            for (token, floor) in self.asleep.remove(&id).unwrap_or_default().into_iter().rev() {
                self.start_read(id, token, floor);
            }
        }
    }

    pub fn is_asleep(&self, id: ReplicaId) -> bool {
        self.nodes[&id].asleep_until != 0
    }

    fn cut_or_heal(&mut self, id: ReplicaId) {
        let ids: Vec<ReplicaId> = self.nodes.keys().copied().collect();
        match self.rng.below(4) {
            0 => self.cut.extend(ids.iter().map(|other| (id, *other))), // It only hears.
            1 => self.cut.extend(ids.iter().flat_map(|other| [(id, *other), (*other, id)])),
            _ => {
                let other = self.any_node();
                if !self.cut.remove(&(id, other)) {
                    self.cut.insert((id, other)); // One way.
                }
            }
        }
        if self.rng.chance(40) {
            self.cut.clear();
        }
    }

    fn deliver_one(&mut self) {
        if self.links.is_empty() {
            return;
        }
        // Mostly in order, sometimes not.
        let index = if self.rng.chance(70) { 0 } else { self.rng.index(self.links.len()) };
        let envelope = self.links.remove(index);
        if self.is_asleep(envelope.to) {
            self.nodes.get_mut(&envelope.to).expect("known").inbox.push(envelope);
            return;
        }
        if self.rng.chance(self.weather.loss_percent)
            || self.cut.contains(&(envelope.from, envelope.to))
        {
            return;
        }
        if self.rng.chance(self.weather.duplicate_percent) {
            let Envelope { from, to, ref message } = envelope;
            self.links.push(Envelope { from, to, message: message.clone() });
        }
        self.real_ns += self.rng.below(300_000);
        self.feed(envelope.to, Input::Message { from: envelope.from, message: envelope.message });
    }

    pub fn sync_log(&mut self, id: ReplicaId) {
        if self.is_asleep(id) {
            return;
        }
        let count = 1 + self.rng.index(4);
        let node = self.nodes.get_mut(&id).expect("known");
        let mut synced = None;
        for _ in 0..count {
            let Some(append) = node.unsynced.pop_front() else { break };
            synced = Some(append.write);
            node.disk.write(append.batch);
        }
        let now = node.now(self.real_ns);
        if let Some(write) = synced {
            self.feed(id, Input::DiskProgress(now));
            self.feed(id, Input::Synced { write });
        }
    }

    pub fn sync_promise(&mut self, id: ReplicaId) {
        if self.is_asleep(id) {
            return;
        }
        let node = self.nodes.get_mut(&id).expect("known");
        if let Some(ballot) = node.unsynced_promises.pop_front() {
            assert!(node.disk.promised < ballot, "promise on disk went back");
            node.disk.promised = ballot;
            self.feed(id, Input::PromiseSynced { ballot });
        }
    }

    fn checkpoint_and_trim(&mut self, id: ReplicaId) {
        if self.is_asleep(id) {
            return;
        }
        let node = self.nodes.get_mut(&id).expect("known");
        let Some(core) = &node.core else { return };
        node.disk.rows_upto = core.slot_applied();
        let upto = core.slot_trimmable().min(node.disk.rows_upto);
        while node.disk.log.len() > 1 && node.disk.log[0].last() <= upto {
            node.disk.trimmed = node.disk.log.remove(0).last_id();
        }
        let trimmed = node.disk.trimmed.slot;
        self.feed(id, Input::Trimmed(trimmed));
    }

    fn propose(&mut self, id: ReplicaId) {
        let count = 1 + self.rng.index(3);
        let payloads = (0..count)
            .map(|_| {
                self.next_payload += 1;
                Bytes::from(self.next_payload.to_string())
            })
            .collect();
        self.feed(id, Input::Propose(payloads));
    }

    fn read(&mut self, id: ReplicaId) {
        self.next_token += 1;
        let token = ReadToken(self.next_token);
        if self.is_asleep(id) {
            self.asleep.entry(id).or_default().push((token, self.acked));
        } else {
            self.start_read(id, token, self.acked);
        }
    }

    /// Takes the view of a read and asks whether its answer may go out.
    fn start_read(&mut self, id: ReplicaId, token: ReadToken, floor: Slot) {
        let Some(core) = &self.nodes[&id].core else { return };
        let seen = core.slot_applied();
        self.reads.insert((id, token), PendingRead { floor, seen });
        self.feed(id, Input::Read(token));
    }

    /// Batches that were asked for come back, as the log stands now.
    pub fn answer_log_reads(&mut self, id: ReplicaId) {
        if self.is_asleep(id) {
            return;
        }
        let node = self.nodes.get_mut(&id).expect("known");
        for wanted in std::mem::take(&mut node.log_reads) {
            let mut batches = self.nodes[&id].log_as_written();
            batches.retain(|b| wanted.from <= b.last() && b.first() <= wanted.upto);
            batches.truncate(1 + self.rng.index(3));
            self.feed(id, Input::LogRead { purpose: wanted.purpose, batches });
        }
    }
}
