//! A cluster that does only what it is told: a queue per link, a disk and a clock per node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use quorate_paxos::{
    BatchKind, Input, LeaseMode, Message, Options, Output, Proposed, ReadToken, Timing,
};
use quorate_types::{BootTime, EntryId, GroupId, ReplicaId, Slot};

use crate::node::{Disk, Node};
use crate::print;

/// What is printed of what happens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Messages and writes too.
    All,
    /// Duties, applied entries and answers to clients.
    Outcomes,
}

#[derive(Default)]
pub struct Cluster {
    pub nodes: BTreeMap<ReplicaId, Node>,
    pub links: BTreeMap<(ReplicaId, ReplicaId), VecDeque<Message>>,
    pub cut: BTreeSet<(ReplicaId, ReplicaId)>,
    /// Nodes whose disk finishes nothing.
    pub stalled: BTreeSet<ReplicaId>,
    clocks: BTreeMap<ReplicaId, u64>,
    reads: BTreeMap<ReadToken, String>,
    detail: Option<Detail>,
    events: Vec<String>,
}

impl Cluster {
    /// Starts replicas `r1..`, ranked in this order, on empty disks.
    pub fn start_all(&mut self, count: u64, mode: LeaseMode, clock_ns: u64) {
        let voters: BTreeMap<ReplicaId, u16> =
            (1..=count).map(|id| (ReplicaId(id), id as u16)).collect();
        for id in voters.keys() {
            let options = Options {
                group: GroupId(1),
                replica: *id,
                voters: voters.clone(),
                timing: Timing { mode, ..Timing::lan() },
                pinned: false,
            };
            let node = Node {
                options,
                disk: Disk::default(),
                core: None,
                unsynced: VecDeque::new(),
                unsynced_promises: VecDeque::new(),
                applied: Vec::new(),
                log_reads: Vec::new(),
                asleep_until: 0,
                inbox: Vec::new(),
                clock_ppm: 0,
                clock_base: 0,
            };
            self.nodes.insert(*id, node);
            self.clocks.insert(*id, clock_ns);
            self.start(*id);
        }
    }

    pub fn ids(&self) -> Vec<ReplicaId> {
        self.nodes.keys().copied().collect()
    }

    fn node(&mut self, id: ReplicaId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap_or_else(|| panic!("no replica {id}"))
    }

    pub fn start(&mut self, id: ReplicaId) {
        let clock = self.clocks[&id];
        self.node(id).start(clock);
    }

    /// Loses what is not synced.
    pub fn crash(&mut self, id: ReplicaId) {
        self.node(id).crash(0, false);
    }

    /// The clock of `id` runs on while nothing happens there.
    pub fn pause(&mut self, id: ReplicaId, span: Duration) {
        *self.clocks.get_mut(&id).expect("started") +=
            u64::try_from(span.as_nanos()).expect("a short span");
    }

    pub fn tick(&mut self, id: ReplicaId, span: Duration) {
        self.pause(id, span);
        if !self.stalled.contains(&id) {
            let now = BootTime(self.clocks[&id]);
            self.feed(id, Input::DiskProgress(now));
        }
        self.feed(id, Input::Tick);
    }

    pub fn propose(&mut self, id: ReplicaId, words: &[&str]) {
        let payloads = words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        self.feed(id, Input::Propose(payloads));
    }

    pub fn read(&mut self, id: ReplicaId, name: &str) {
        let token = ReadToken(self.reads.len() as u64 + 1);
        self.reads.insert(token, name.to_owned());
        self.feed(id, Input::Read(token));
    }

    /// Delivers what is on its way on this link now, at most `count` messages.
    pub fn deliver(&mut self, from: ReplicaId, to: ReplicaId, count: usize) {
        let queue = self.links.entry((from, to)).or_default();
        let messages: Vec<Message> = queue.drain(..count.min(queue.len())).collect();
        for message in messages {
            self.feed(to, Input::Message { from, message });
        }
    }

    pub fn drop_queued(&mut self, from: ReplicaId, to: ReplicaId) {
        for message in self.links.remove(&(from, to)).unwrap_or_default() {
            self.tell(Detail::All, format!("{from} -> {to}: {} (lost)", print::message(&message)));
        }
    }

    pub fn sync_log(&mut self, id: ReplicaId, count: usize) {
        let node = self.node(id);
        let mut synced = None;
        for _ in 0..count {
            let Some(append) = node.unsynced.pop_front() else { break };
            synced = Some(append.write);
            node.disk.write(append.batch);
        }
        if let Some(write) = synced {
            self.feed(id, Input::Synced { write });
        }
    }

    pub fn sync_promise(&mut self, id: ReplicaId) {
        let node = self.node(id);
        if let Some(ballot) = node.unsynced_promises.pop_front() {
            node.disk.promised = ballot;
            self.feed(id, Input::PromiseSynced { ballot });
        }
    }

    /// Brings the rows to disk, and recycles the log that nobody needs.
    pub fn checkpoint(&mut self, id: ReplicaId) {
        let node = self.node(id);
        let core = node.core.as_ref().expect("runs");
        node.disk.rows_upto = core.slot_applied();
    }

    pub fn trim(&mut self, id: ReplicaId) {
        let node = self.node(id);
        let core = node.core.as_ref().expect("runs");
        let upto = core.slot_trimmable().min(node.disk.rows_upto);
        while node.disk.log.len() > 1 && node.disk.log[0].last() <= upto {
            node.disk.trimmed = node.disk.log.remove(0).last_id();
        }
        let trimmed = node.disk.trimmed.slot;
        self.tell(Detail::All, format!("{id} recycles its log through {trimmed}"));
        self.feed(id, Input::Trimmed(trimmed));
    }

    /// True if no message is on its way and nothing waits for a disk that works.
    pub fn is_quiet(&self) -> bool {
        self.links.values().all(VecDeque::is_empty)
            && self.nodes.iter().all(|(id, node)| {
                self.stalled.contains(id)
                    || (node.unsynced.is_empty() && node.unsynced_promises.is_empty())
            })
    }

    /// Syncs and delivers until nothing is on its way. Time stands still.
    pub fn settle(&mut self, detail: Detail) {
        self.detail = Some(detail);
        for _ in 0..10_000 {
            if self.is_quiet() {
                self.detail = None;
                return;
            }
            for id in self.ids() {
                if !self.stalled.contains(&id) {
                    self.sync_promise(id);
                    self.sync_log(id, usize::MAX);
                }
            }
            for (from, to) in self.links.keys().copied().collect::<Vec<_>>() {
                self.deliver(from, to, usize::MAX);
            }
        }
        panic!("it never settles");
    }

    pub fn feed(&mut self, id: ReplicaId, input: Input) {
        let now = BootTime(self.clocks[&id]);
        let node = self.node(id);
        let Some(core) = node.core.as_mut() else { return };
        let out = core.step(now, input);
        core.check_invariants();
        core.check_output(&out);
        self.carry_out(id, out);
    }

    fn carry_out(&mut self, id: ReplicaId, out: Output) {
        if let Some(proposed) = out.proposed {
            let text = match proposed {
                Proposed::At { first } => format!("{id} proposes from {first} on"),
                Proposed::Refused(why) => format!("{id} refuses: {}", print::not_serving(why)),
            };
            self.tell(Detail::Outcomes, text);
        }
        if let Some(ballot) = out.promise {
            self.tell(Detail::All, format!("{id} writes its promise of {ballot}"));
            self.node(id).unsynced_promises.push_back(ballot);
        }
        for (to, message) in out.messages {
            let lost = self.cut.contains(&(id, to)) || self.nodes[&to].core.is_none();
            let mark = if lost { " (lost)" } else { "" };
            self.tell(Detail::All, format!("{id} -> {to}: {}{mark}", print::message(&message)));
            if !lost {
                self.links.entry((id, to)).or_default().push_back(message);
            }
        }
        for append in out.appends {
            self.tell(Detail::All, format!("{id} writes {}", print::batch(&append.batch)));
            self.node(id).unsynced.push_back(append);
        }
        for batch in out.applies {
            for (entry, payload) in batch.entries() {
                let what = match batch.kind() {
                    BatchKind::StartWork => "StartWork".to_owned(),
                    BatchKind::Entries => String::from_utf8_lossy(&payload).into_owned(),
                };
                self.tell(Detail::Outcomes, format!("{id} applies {entry} {what}"));
                self.node(id).applied.push((entry, payload));
            }
        }
        for role in out.roles {
            self.tell(Detail::Outcomes, format!("{id} {}", print::role(role)));
        }
        for (token, verdict) in out.reads {
            let name = self.reads[&token].clone();
            self.tell(Detail::Outcomes, format!("{id} read {name}: {}", print::verdict(verdict)));
        }
        for wanted in out.log_reads {
            let purpose = print::purpose(wanted.purpose);
            let text = format!("{id} reads its log from {} {purpose}", wanted.from);
            self.tell(Detail::All, text);
            let mut batches = self.nodes[&id].disk.log.clone();
            batches.retain(|b| wanted.from <= b.last() && b.first() <= wanted.upto);
            self.feed(id, Input::LogRead { purpose: wanted.purpose, batches });
        }
    }

    /// Prints where a replica stands.
    pub fn show(&mut self, id: ReplicaId) {
        let now = BootTime(self.clocks[&id]);
        let node = self.node(id);
        let Some(core) = &node.core else {
            return self.tell(Detail::Outcomes, format!("{id} is down"));
        };
        let status = core.status(now);
        let duty = if status.serving { "serving leader" } else { status.role };
        let text = format!(
            "{id} is {duty}, promised {}, last {}, synced {}, committed {}, applied {}",
            status.promised,
            status.last,
            status.slot_synced,
            status.slot_committed,
            status.slot_applied
        );
        self.tell(Detail::Outcomes, text);
    }

    /// The entry a replica holds at a slot, on disk or not.
    pub fn held(&self, id: ReplicaId, slot: Slot) -> Option<EntryId> {
        self.nodes[&id].core.as_ref()?.log().id_at(slot)
    }

    pub fn tell(&mut self, detail: Detail, text: String) {
        assert!(self.events.len() < 2000, "it never ends: {:?}", self.events.last());
        if self.detail != Some(Detail::Outcomes) || detail == Detail::Outcomes {
            self.events.push(text);
        }
    }

    pub fn take_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }
}
