//! A world of replicas under a random schedule: lossy, duplicating, reordering links, one-way cuts,
//! disks that lose what was not synced, drifting clocks, pauses, restarts, hand-overs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_paxos::{
    Health, Input, LeaseMode, Message, Options, Output, Proposed, ReadToken, ReadVerdict, RoleChange, Timing,
};
use quorate_types::{Ballot, EntryId, GroupId, ReplicaId, Slot};

use crate::chosen::Chosen;
use crate::node::{Disk, Node};
use crate::rng::Rng;

/// How wild a schedule is. Drawn per seed and printed with a failure.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub voters: u64,
    pub mode: LeaseMode,
    pub loss_percent: u64,
    pub duplicate_percent: u64,
    pub crash_permille: u64,
    pub cut_permille: u64,
    pub pause_permille: u64,
    pub handover_permille: u64,
    pub trim_permille: u64,
    /// Clock rate errors up to this; the lease margin covers 10 % of a lease.
    pub drift_ppm: u64,
}

impl Weather {
    pub fn draw(rng: &mut Rng) -> Weather {
        Weather {
            voters: [1, 2, 3, 3, 3, 3, 4, 5, 5, 7][rng.index(10)],
            mode: if rng.chance(75) { LeaseMode::Lease } else { LeaseMode::ReadIndex },
            loss_percent: [0, 0, 1, 5, 20][rng.index(5)],
            duplicate_percent: [0, 2, 10][rng.index(3)],
            crash_permille: [0, 1, 4, 10][rng.index(4)],
            cut_permille: [0, 2, 8][rng.index(3)],
            pause_permille: [0, 2, 6][rng.index(3)],
            handover_permille: [0, 2, 5][rng.index(3)],
            trim_permille: [0, 5, 20][rng.index(3)],
            drift_ppm: [0, 1_000, 20_000][rng.index(3)],
        }
    }
}

struct Envelope {
    from: ReplicaId,
    to: ReplicaId,
    message: Message,
}

struct PendingRead {
    /// Everything acknowledged to anybody before the read began.
    floor: Slot,
    /// What the view of the read contained.
    seen: Slot,
}

pub struct World {
    pub rng: Rng,
    pub weather: Weather,
    pub nodes: BTreeMap<ReplicaId, Node>,
    pub chosen: Chosen,
    real_ns: u64,
    links: Vec<Envelope>,
    cut: BTreeSet<(ReplicaId, ReplicaId)>,
    reads: BTreeMap<(ReplicaId, ReadToken), PendingRead>,
    next_token: u64,
    next_payload: u64,
    /// The greatest slot whose proposer has told its client.
    acked: Slot,
    acked_by_ballot: BTreeMap<Ballot, Slot>,
    waiting: BTreeMap<ReplicaId, BTreeSet<EntryId>>,
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
        let voters: BTreeMap<ReplicaId, u16> = (1..=weather.voters).map(|id| (ReplicaId(id), id as u16 / 2)).collect();
        let nodes = voters
            .keys()
            .map(|id| {
                let options = Options {
                    group: GroupId(1),
                    replica: *id,
                    voters: voters.clone(),
                    timing: Timing { mode: weather.mode, ..Timing::lan() },
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

    /// One random event.
    pub fn step(&mut self) {
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
        if self.rng.below(1000) < weather.handover_permille {
            return self.feed(id, Input::HandOver(None));
        }
        if self.rng.below(1000) < weather.trim_permille {
            return self.checkpoint_and_trim(id);
        }
        match self.rng.below(100) {
            0..=49 => self.deliver_one(),
            50..=64 => self.sync_log(id),
            65..=69 => self.sync_promise(id),
            70..=79 => {
                self.real_ns += self.rng.below(20_000_000);
                self.feed(id, Input::Tick);
            }
            80..=91 => self.propose(id),
            92..=97 => self.read(id),
            98 => {
                let serious = self.rng.below(2) as u8;
                self.feed(id, Input::Health(Health { serious_faults: serious, ..Health::default() }));
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
        } else {
            node.start(real_ns);
        }
    }

    fn cut_or_heal(&mut self, id: ReplicaId) {
        let other = self.any_node();
        if !self.cut.remove(&(id, other)) {
            self.cut.insert((id, other)); // One way.
        }
        if self.rng.chance(20) {
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
        if self.rng.chance(self.weather.loss_percent) || self.cut.contains(&(envelope.from, envelope.to)) {
            return;
        }
        if self.rng.chance(self.weather.duplicate_percent) {
            let Envelope { from, to, ref message } = envelope;
            self.links.push(Envelope { from, to, message: message.clone() });
        }
        self.real_ns += self.rng.below(300_000);
        self.feed(envelope.to, Input::Message { from: envelope.from, message: envelope.message });
    }

    fn sync_log(&mut self, id: ReplicaId) {
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

    fn sync_promise(&mut self, id: ReplicaId) {
        let node = self.nodes.get_mut(&id).expect("known");
        if let Some(ballot) = node.unsynced_promises.pop_front() {
            assert!(node.disk.promised < ballot, "promise on disk went back");
            node.disk.promised = ballot;
            self.feed(id, Input::PromiseSynced { ballot });
        }
    }

    fn checkpoint_and_trim(&mut self, id: ReplicaId) {
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
        let Some(core) = &self.nodes[&id].core else { return };
        self.next_token += 1;
        let token = ReadToken(self.next_token);
        self.reads.insert((id, token), PendingRead { floor: self.acked, seen: core.slot_applied() });
        self.feed(id, Input::Read(token));
    }

    /// Steps one replica and carries its output out.
    fn feed(&mut self, id: ReplicaId, input: Input) {
        let real_ns = self.real_ns;
        let count = match &input {
            Input::Propose(payloads) => payloads.len() as u64,
            _ => 0,
        };
        let node = self.nodes.get_mut(&id).expect("known");
        let now = node.now(real_ns);
        let Some(core) = node.core.as_mut() else { return };
        let out = core.step(now, input);
        core.check_invariants();
        core.check_output(&out);
        self.carry_out(id, count, out);
    }

    fn carry_out(&mut self, id: ReplicaId, count: u64, out: Output) {
        if let Some(Proposed::At { first }) = out.proposed {
            let ids = (0..count).map(|n| EntryId { slot: first.slot.plus(n), ..first });
            self.waiting.entry(id).or_default().extend(ids);
        }
        let node = self.nodes.get_mut(&id).expect("known");
        node.unsynced_promises.extend(out.promise);
        node.unsynced.extend(out.appends);
        for (to, message) in out.messages {
            self.links.push(Envelope { from: id, to, message });
        }
        for batch in out.applies {
            self.apply(id, &batch);
        }
        for role in out.roles {
            self.observe(id, role);
        }
        for (token, verdict) in out.reads {
            let read = self.reads.remove(&(id, token)).expect("a verdict on a read that nobody asked");
            if verdict == ReadVerdict::Confirmed {
                self.confirmed_reads += 1;
                assert!(read.floor <= read.seen, "{id} served a stale read: {} acknowledged, {} seen", read.floor, read.seen);
            }
        }
        for wanted in out.log_reads {
            let node = &self.nodes[&id];
            let on_disk = node.disk.log.iter().chain(node.unsynced.iter().map(|append| &append.batch));
            let mut batches: Vec<_> = Vec::new();
            for batch in on_disk {
                batches.retain(|kept: &quorate_paxos::Batch| kept.first() < batch.first());
                batches.push(batch.clone());
            }
            batches.retain(|b| wanted.from <= b.last() && b.first() <= wanted.upto);
            batches.truncate(1 + self.rng.index(3));
            self.feed(id, Input::LogRead { purpose: wanted.purpose, batches });
        }
    }

    fn apply(&mut self, id: ReplicaId, batch: &quorate_paxos::Batch) {
        for (entry, payload) in batch.entries() {
            let durable = self.nodes.values().filter(|node| node.disk.has(entry)).count();
            self.chosen.observe(entry, &payload, durable, self.nodes.len());
            let node = self.nodes.get_mut(&id).expect("known");
            assert_eq!(entry.slot.0, node.applied.len() as u64 + 1, "{id} applied out of order");
            node.applied.push((entry, payload));
            if self.waiting.get_mut(&id).is_some_and(|waiting| waiting.remove(&entry)) {
                self.acked = self.acked.max(entry.slot);
                self.acked_by_ballot.insert(entry.ballot, entry.slot);
                self.acked_writes += 1;
            }
        }
    }

    fn observe(&mut self, id: ReplicaId, role: RoleChange) {
        match role {
            RoleChange::Elected { ballot } => {
                self.elections += 1;
                self.chosen.elected(ballot, id);
            }
            RoleChange::Serving { ballot } => {
                // A leader may begin to serve when a later one already has: only what older ballots
                // acknowledged must be there. Its reads are checked one by one.
                let applied = Slot(self.nodes[&id].applied.len() as u64);
                let older = self.acked_by_ballot.range(..ballot).map(|(_, slot)| *slot).max();
                assert!(older <= Some(applied), "{id} serves without acknowledged slot {older:?}");
            }
            RoleChange::Follower { .. } | RoleChange::Candidate { .. } => {
                self.waiting.remove(&id);
            }
        }
    }

    /// Faults end; everybody is up; time passes evenly. A leader must serve and all must agree.
    pub fn converge(&mut self) {
        self.cut.clear();
        self.weather = Weather { loss_percent: 0, duplicate_percent: 0, ..self.weather };
        let real_ns = self.real_ns;
        for node in self.nodes.values_mut() {
            if node.core.is_none() {
                node.start(real_ns);
            }
        }
        let ids: Vec<ReplicaId> = self.nodes.keys().copied().collect();
        for _ in 0..800 {
            self.real_ns += u64::try_from(Duration::from_millis(10).as_nanos()).expect("small");
            for id in &ids {
                let now = self.nodes[id].now(self.real_ns);
                self.feed(*id, Input::DiskProgress(now));
                self.feed(*id, Input::Tick);
                while !self.nodes[id].unsynced_promises.is_empty() {
                    self.sync_promise(*id);
                }
                while !self.nodes[id].unsynced.is_empty() {
                    self.sync_log(*id);
                }
            }
            for envelope in std::mem::take(&mut self.links) {
                self.feed(envelope.to, Input::Message { from: envelope.from, message: envelope.message });
            }
        }
        self.assert_converged();
    }

    fn assert_converged(&mut self) {
        let serving: Vec<ReplicaId> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.core.as_ref().is_some_and(|core| core.serving(node.now(self.real_ns)).is_ok()))
            .map(|(id, _)| *id)
            .collect();
        assert_eq!(serving.len(), 1, "one replica serves after the faults end, not {serving:?}");
        let longest = self.nodes.values().map(|node| node.applied.len()).max();
        for (id, node) in &self.nodes {
            let status = node.core.as_ref().map(|core| core.status(node.now(self.real_ns)));
            assert_eq!(Some(node.applied.len()), longest, "{id} lags after the faults end: {status:?}");
        }
        assert!(self.acked.0 <= longest.unwrap_or(0) as u64, "an acknowledged write is gone");
    }
}
