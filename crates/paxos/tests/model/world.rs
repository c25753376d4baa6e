//! Three replicas, what is on its way between them, and everything that may happen next.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use quorate_paxos::message::PreVoteAck;
use quorate_paxos::{Health, Input, LeaseMode, Message, Output, Standing};
use quorate_types::{BootTime, EntryId};

use crate::judge::History;
use crate::node::{Disk, Node, name_of};
use crate::rules::{Budget, Disks, Event, LEASE, Rules, STEP, index, options, replica};

#[derive(Clone)]
pub struct Envelope {
    pub from: usize,
    pub to: usize,
    pub message: Rc<Message>,
    pub name: u64,
}

#[derive(Clone)]
pub struct World {
    pub nodes: [Rc<Node>; 3],
    /// In order of name, so that the order of sending makes no difference.
    pub wire: Vec<Envelope>,
    pub history: Rc<History>,
    pub budget: Budget,
    pub now: BootTime,
}

impl World {
    /// Three replicas on empty disks.
    pub fn new(rules: &Rules, budget: Budget) -> World {
        let now = BootTime(10_000_000_000);
        let node = |index| {
            let disk = Disk::default();
            let mut node = Node::start(now, options(rules, index), disk, 0);
            node.rename(rules.times(), &mut String::new());
            Rc::new(node)
        };
        World {
            nodes: [node(0), node(1), node(2)],
            wire: Vec::new(),
            history: Rc::new(History::default()),
            budget,
            now,
        }
    }

    /// The first replica leads under 1.1, and everybody has its `StartWork`.
    pub fn led(rules: &Rules, budget: Budget) -> World {
        let calm = Rules {
            disks: Disks::Immediate,
            heartbeats: &[],
            cut: &[],
            commit_notices: true,
            ..*rules
        };
        let mut world = World::new(&calm, Budget { campaigns: 1, ..Budget::default() });
        world.now = world.now + STEP;
        world.happen(&calm, Event::Campaign(0));
        while !world.wire.is_empty() {
            // Promises before what follows from them, as on a link that keeps the order.
            let first = |envelope: &Envelope| {
                matches!(*envelope.message, Message::Prepare(_) | Message::Promise(_))
            };
            let place = world.wire.iter().position(first).unwrap_or(0);
            world.happen(&calm, Event::Deliver { place, again: false });
        }
        assert!(world.nodes[0].core.serving(world.now).is_ok(), "a calm network elects r1");
        world.budget = budget;
        world
    }

    /// Everything that may happen next.
    pub fn events(&self, rules: &Rules) -> Vec<Event> {
        let mut events = Vec::new();
        for place in 0..self.wire.len() {
            if place > 0 && self.wire[place - 1].name == self.wire[place].name {
                continue; // The same message twice: either may arrive.
            }
            events.push(Event::Deliver { place, again: false });
            if self.budget.repeats > 0 {
                events.push(Event::Deliver { place, again: true });
            }
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let leads = node.core.status(self.now).role == "leader";
            let may_run = !leads || rules.mode == LeaseMode::ReadIndex;
            if self.budget.campaigns > 0 && may_run && rules.candidates.contains(&index) {
                events.push(Event::Campaign(index));
            }
            if self.budget.proposals > 0 && node.core.serving(self.now).is_ok() {
                events.push(Event::Propose(index));
            }
            let is_due = node.now < self.now || rules.mode == LeaseMode::ReadIndex;
            if self.budget.renewals > 0 && leads && is_due && rules.heartbeats.contains(&index) {
                events.push(Event::Renew(index));
            }
            if !node.unsynced.is_empty() {
                events.push(Event::SyncLog(index));
            }
            if node.unsynced_promise.is_some() {
                events.push(Event::SyncPromise(index));
            }
            if self.budget.crashes > 0 {
                let promises: &[bool] = match node.unsynced_promise {
                    Some(_) => &[false, true],
                    None => &[false],
                };
                for writes in 0..=node.unsynced.len() {
                    events.extend(promises.iter().map(|promise| Event::Crash {
                        node: index,
                        writes,
                        promise: *promise,
                    }));
                }
            }
        }
        if self.budget.steps > 0 {
            events.push(Event::Pass);
        }
        events
    }

    pub fn happen(&mut self, rules: &Rules, event: Event) {
        match event {
            Event::Deliver { place, again } => {
                let Envelope { from, to, message, .. } = match again {
                    true => self.wire[place].clone(),
                    false => self.wire.remove(place),
                };
                self.budget.repeats -= u8::from(again);
                let message = Message::clone(&message);
                self.feed(rules, to, Input::Message { from: replica(from), message });
            }
            Event::Campaign(index) => {
                self.budget.campaigns -= 1;
                self.campaign(rules, index);
            }
            Event::Propose(index) => {
                self.budget.proposals -= 1;
                let text = self.budget.proposals.to_string();
                self.feed(rules, index, Input::Propose(vec![Bytes::from(text)]));
            }
            Event::SyncLog(index) => self.sync_log(rules, index),
            Event::SyncPromise(index) => self.sync_promise(rules, index),
            Event::Crash { node, writes, promise } => {
                self.budget.crashes -= 1;
                self.crash(rules, node, writes, promise);
            }
            Event::Pass => {
                self.budget.steps -= 1;
                self.now = self.now + STEP;
            }
            Event::Renew(index) => {
                self.budget.renewals -= 1;
                if rules.mode == LeaseMode::ReadIndex {
                    self.let_timer_fire(index);
                }
                self.feed(rules, index, Input::Tick);
            }
        }
    }

    /// Lets timers fire until the replica asks for pre-votes, and grants it one. Under leases it fires
    /// only what is due now.
    fn campaign(&mut self, rules: &Rules, index: usize) {
        let mut asked = None;
        if rules.mode == LeaseMode::ReadIndex {
            // A leader that runs has heard nobody for long.
            let node = Rc::make_mut(&mut self.nodes[index]);
            node.now = node.now + 2 * LEASE;
        }
        for _ in 0..3 {
            if rules.mode == LeaseMode::ReadIndex {
                self.let_timer_fire(index);
            }
            let out = self.step(rules, index, Input::Tick);
            asked = out.messages.iter().find_map(|(_, message)| match message {
                Message::PreVote(msg) => Some(msg.ballot),
                _ => None,
            });
            self.carry_out(rules, index, out);
            if asked.is_some() {
                break;
            }
        }
        if let Some(ballot) = asked {
            let peer = replica((index + 1) % 3);
            let standing = Standing {
                replica: peer,
                health: Health::default(),
                last: EntryId::ZERO,
                log_bytes: 0,
                pinned: false,
                rank: 9,
            };
            let highest = self.nodes.iter().map(|node| node.core.promised()).max();
            let promised = highest.filter(|_| rules.informed).unwrap_or_default();
            let ack = PreVoteAck { ballot, granted: true, promised, standing };
            let message = Message::PreVoteAck(ack);
            self.feed(rules, index, Input::Message { from: peer, message });
        }
        self.rename(rules, index);
    }

    /// Without leases a clock may show anything, so a timer fires when it likes.
    fn let_timer_fire(&mut self, index: usize) {
        let node = Rc::make_mut(&mut self.nodes[index]);
        node.now = node.now.max(node.core.next_deadline());
    }

    fn crash(&mut self, rules: &Rules, index: usize, writes: usize, promise: bool) {
        let node = &self.nodes[index];
        let mut disk = node.disk.clone();
        for append in node.unsynced.iter().take(writes) {
            disk.write(append.batch.clone());
        }
        if let Some(ballot) = node.unsynced_promise.filter(|_| promise) {
            disk.promised = ballot;
        }
        let lease_ns_max = match rules.mode {
            LeaseMode::Lease => u64::try_from(LEASE.as_nanos()).expect("one second"),
            LeaseMode::ReadIndex => 0,
        };
        let now = node.now.max(self.now);
        let node = Node::start(now, options(rules, index), disk, lease_ns_max);
        self.nodes[index] = Rc::new(node);
        self.rename(rules, index);
    }

    fn sync_log(&mut self, rules: &Rules, index: usize) {
        let node = Rc::make_mut(&mut self.nodes[index]);
        let append = node.unsynced.pop_front().expect("something is not synced");
        node.disk.write(append.batch);
        self.feed(rules, index, Input::Synced { write: append.write });
    }

    fn sync_promise(&mut self, rules: &Rules, index: usize) {
        let node = Rc::make_mut(&mut self.nodes[index]);
        let ballot = node.unsynced_promise.take().expect("a promise is not synced");
        assert!(node.disk.promised < ballot, "the promise on disk goes back");
        node.disk.promised = ballot;
        self.feed(rules, index, Input::PromiseSynced { ballot });
    }

    fn step(&mut self, rules: &Rules, index: usize, input: Input) -> Output {
        let now = self.now;
        let node = Rc::make_mut(&mut self.nodes[index]);
        if rules.mode == LeaseMode::Lease {
            node.now = now;
        }
        let out = node.core.step(node.now, input);
        node.core.check_invariants();
        node.core.check_output(&out);
        out
    }

    /// Steps a replica and carries its output out, and that of the log reads it asks for.
    fn feed(&mut self, rules: &Rules, index: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let out = self.step(rules, index, input);
            for wanted in &out.log_reads {
                let mut batches = self.nodes[index].log_as_written();
                batches.retain(|b| wanted.from <= b.last() && b.first() <= wanted.upto);
                inputs.push_back(Input::LogRead { purpose: wanted.purpose, batches });
            }
            self.carry_out(rules, index, out);
        }
        self.flush(rules, index);
        self.rename(rules, index);
    }

    fn flush(&mut self, rules: &Rules, index: usize) {
        if rules.disks == Disks::Immediate {
            if self.nodes[index].unsynced_promise.is_some() {
                self.sync_promise(rules, index);
            }
            if !self.nodes[index].unsynced.is_empty() {
                self.sync_log(rules, index);
            }
        }
    }

    fn carry_out(&mut self, rules: &Rules, from: usize, out: Output) {
        let node = Rc::make_mut(&mut self.nodes[from]);
        node.unsynced_promise = out.promise.or(node.unsynced_promise);
        node.unsynced.extend(out.appends);
        for (to, message) in out.messages {
            let to = index(to);
            if rules.arrives(from, to, &message) {
                let name = name_of(from, to, &message, rules.times());
                let place = self.wire.partition_point(|other| other.name < name);
                let message = Rc::new(message);
                self.wire.insert(place, Envelope { from, to, message, name });
            }
        }
        self.judge(from, &out.applies, &out.roles);
    }

    fn rename(&mut self, rules: &Rules, index: usize) {
        thread_local! {
            static TEXT: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
        }
        let node = Rc::make_mut(&mut self.nodes[index]);
        TEXT.with_borrow_mut(|text| node.rename(rules.times(), text));
    }
}
