//! Carries out what a replica asks for, and judges what it answers: every applied entry against what
//! was chosen, every confirmed read against what was acknowledged before it began.

use std::time::Duration;

use quorate_paxos::{Health, Input, Output, Proposed, ReadVerdict, RoleChange};
use quorate_types::{EntryId, ReplicaId, Slot};

use crate::node::Envelope;
use crate::weather::Weather;
use crate::world::World;

impl World {
    /// Steps one replica and carries its output out.
    pub fn feed(&mut self, id: ReplicaId, input: Input) {
        let real_ns = self.real_ns;
        let count = match &input {
            Input::Propose(payloads) => payloads.len() as u64,
            _ => 0,
        };
        if self.is_asleep(id) {
            return;
        }
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
            let read =
                self.reads.remove(&(id, token)).expect("a verdict on a read that nobody asked");
            if verdict == ReadVerdict::Confirmed {
                self.confirmed_reads += 1;
                assert!(
                    read.floor <= read.seen,
                    "{id} served a stale read: {} acknowledged, {} seen",
                    read.floor,
                    read.seen
                );
            }
        }
        let node = self.nodes.get_mut(&id).expect("known");
        node.log_reads.extend(out.log_reads);
        assert!(node.log_reads.len() < 50, "{id} reads its log without end");
        if self.rng.chance(50) {
            self.answer_log_reads(id);
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

    /// True if `id` believes it serves.
    pub fn serves(&self, id: ReplicaId) -> bool {
        let node = &self.nodes[&id];
        let now = node.now(self.real_ns);
        node.core.as_ref().is_some_and(|core| core.serving(now).is_ok())
    }

    /// At no instant do two replicas hold a lease, asleep or not.
    pub fn assert_one_lease(&self) {
        let holders = self.nodes.values().filter(|node| {
            let now = node.now(self.real_ns);
            let end = node.core.as_ref().and_then(|core| core.status(now).lease_until);
            end.is_some_and(|end| now < end)
        });
        let holders: Vec<ReplicaId> = holders.map(|node| node.options.replica).collect();
        assert!(holders.len() <= 1, "{holders:?} hold a lease at the same time");
    }

    /// Faults end; everybody is up; time passes evenly. A leader must serve and all must agree.
    pub fn converge(&mut self) {
        self.cut.clear();
        self.weather = Weather { loss_percent: 0, duplicate_percent: 0, ..self.weather };
        let real_ns = self.real_ns;
        for node in self.nodes.values_mut() {
            node.asleep_until = node.asleep_until.min(real_ns);
            if node.core.is_none() {
                node.start(real_ns);
            }
        }
        self.wake_up();
        let ids: Vec<ReplicaId> = self.nodes.keys().copied().collect();
        for id in &ids {
            self.feed(*id, Input::Health(Health::default()));
        }
        for _ in 0..800 {
            self.real_ns += u64::try_from(Duration::from_millis(10).as_nanos()).expect("small");
            for id in &ids {
                let now = self.nodes[id].now(self.real_ns);
                self.feed(*id, Input::DiskProgress(now));
                self.feed(*id, Input::Tick);
                self.answer_log_reads(*id);
                while !self.nodes[id].unsynced_promises.is_empty() {
                    self.sync_promise(*id);
                }
                while !self.nodes[id].unsynced.is_empty() {
                    self.sync_log(*id);
                }
            }
            for envelope in std::mem::take(&mut self.links) {
                self.feed(
                    envelope.to,
                    Input::Message { from: envelope.from, message: envelope.message },
                );
            }
        }
        self.assert_converged();
    }

    fn assert_converged(&mut self) {
        let ids = self.nodes.keys().copied();
        let serving: Vec<ReplicaId> = ids.filter(|id| self.serves(*id)).collect();
        assert_eq!(serving.len(), 1, "one replica serves after the faults end, not {serving:?}");
        let longest = self.nodes.values().map(|node| node.applied.len()).max();
        for (id, node) in &self.nodes {
            let status = node.core.as_ref().map(|core| core.status(node.now(self.real_ns)));
            assert_eq!(
                Some(node.applied.len()),
                longest,
                "{id} lags after the faults end: {status:?}"
            );
        }
        assert!(self.acked.0 <= longest.unwrap_or(0) as u64, "an acknowledged write is gone");
    }
}
