//! A cluster that does only what it is told, and says what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_paxos::{BatchKind, Input, Output, Proposed, ReadToken};
use quorate_types::ReplicaId;

use super::print;
use crate::common::calm::{self, Player};
use crate::common::cluster::{Cluster, Setup};
use crate::common::event::Event;
use crate::common::links::Link;
use crate::common::members;
use crate::invariants::{Judge, Scope};

/// How often it is looked for the way home.
const WATCH_STEP: Duration = Duration::from_millis(50);

/// What is printed of what happens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Messages and writes too.
    All,
    /// Duties, applied entries and answers to clients.
    Outcomes,
}

/// Who does what no command says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// What is sent to a node that is down is lost, log reads are answered at once, a tick brings word
    /// from the disk, and the clocks of single nodes may be set on: leases are not judged.
    Handy,
    /// Nobody: only what a command says happens. Written by the explorer.
    ByHand,
}

pub struct Stage {
    pub cluster: Cluster,
    judge: Judge,
    manner: Manner,
    pub cut: BTreeSet<Link>,
    /// Nodes whose disk finishes nothing.
    pub stalled: BTreeSet<ReplicaId>,
    reads: BTreeMap<ReadToken, String>,
    next_read: Option<String>,
    detail: Option<Detail>,
    events: Vec<String>,
}

impl Stage {
    pub fn new(mut setup: Setup, manner: Manner) -> Stage {
        setup.beyond_margin |= manner == Manner::Handy;
        Stage {
            cluster: Cluster::new(setup),
            judge: Judge::new(Scope::All),
            manner,
            cut: BTreeSet::new(),
            stalled: BTreeSet::new(),
            reads: BTreeMap::new(),
            next_read: None,
            detail: None,
            events: Vec::new(),
        }
    }

    /// The clock of `id` runs on while nothing happens there.
    pub fn pause(&mut self, id: ReplicaId, span: Duration) {
        self.cluster.node(id).clock_base += u64::try_from(span.as_nanos()).expect("a short span");
    }

    pub fn tick(&mut self, id: ReplicaId, span: Duration) {
        self.pause(id, span);
        if !self.stalled.contains(&id) {
            self.play(&Event::DiskProgress(id));
        }
        self.play(&Event::Tick(id));
    }

    pub fn propose(&mut self, id: ReplicaId, words: &[&str]) {
        let payloads = words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        self.feed(id, Input::Propose(payloads));
    }

    pub fn read(&mut self, id: ReplicaId, name: Option<&str>) {
        self.next_read = name.map(str::to_owned);
        self.play(&Event::Read(id));
    }

    /// Delivers what is on its way on this link now, at most `count` messages.
    pub fn deliver(&mut self, link: Link, count: usize) {
        for _ in 0..count.min(self.cluster.links.len(link)) {
            let pick = self.cluster.links.pick(link, 0).expect("counted");
            self.play(&Event::Deliver(pick));
        }
    }

    pub fn drop_queued(&mut self, (from, to): Link) {
        for message in self.cluster.links.clear((from, to)).collect::<Vec<_>>() {
            self.tell(Detail::All, format!("{from} -> {to}: {} (lost)", print::message(&message)));
        }
    }

    /// True if no message is on its way and nothing waits for a disk that works.
    fn is_quiet(&self) -> bool {
        self.cluster.links.is_empty()
            && self.cluster.nodes.iter().all(|(id, node)| {
                self.stalled.contains(id)
                    || (node.unsynced.is_empty() && !node.has_unsynced_promises())
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
            for id in self.cluster.ids() {
                if !self.stalled.contains(&id) {
                    self.play(&Event::SyncPromise(id));
                    self.play(&Event::SyncLog { id, count: usize::MAX });
                }
            }
            let links: Vec<Link> = self.cluster.links.queues().map(|(link, _)| link).collect();
            for link in links {
                self.deliver(link, usize::MAX);
            }
        }
        panic!("it never settles");
    }

    /// Faults end for so long, and then everybody agrees.
    pub fn calm(&mut self, span: Duration) {
        self.detail = Some(Detail::Outcomes);
        calm::begin(self);
        for _ in 0..span.as_millis() / 10 {
            calm::round(self, None);
        }
        self.detail = None;
        self.judge.converged(&self.cluster);
    }

    /// Time passes for all, and whatever is sent arrives. Drivers look for the way home as nodes do.
    pub fn watch(&mut self, span: Duration) {
        let up = |stage: &Stage, id| stage.cluster.nodes[&id].core.is_some();
        for n in 1..=span.as_millis() / WATCH_STEP.as_millis() {
            let before = self.events.len();
            for id in self.cluster.ids() {
                self.detail = Some(Detail::Outcomes);
                if up(self, id) {
                    self.tick(id, WATCH_STEP);
                    self.play(&Event::GoHome(id));
                    self.play(&Event::ContinueChange(id));
                } else {
                    self.pause(id, WATCH_STEP);
                }
            }
            self.settle(Detail::Outcomes);
            if before < self.events.len() {
                self.events.insert(before, format!("{} ms:", WATCH_STEP.as_millis() * n));
            }
        }
    }

    /// The disk of the leader hangs, and another one leads within so long.
    pub fn hang(&mut self, span: Duration) {
        self.detail = Some(Detail::Outcomes);
        calm::hang(self, u32::try_from(span.as_millis() / 10).expect("a short span"));
        self.detail = None;
    }

    fn feed(&mut self, id: ReplicaId, input: Input) {
        if self.cluster.nodes[&id].core.is_none() {
            return;
        }
        self.judge.before_step(&self.cluster, id, &input);
        if let Input::Read(token) = &input {
            let name = self.next_read.take().unwrap_or_else(|| token.0.to_string());
            self.reads.insert(*token, name);
        }
        match &input {
            Input::Trimmed(slot) => {
                self.tell(Detail::All, format!("{id} recycles its log through {slot}"));
            }
            Input::LogWhole => self.tell(Detail::Outcomes, format!("{id} votes again")),
            Input::Installed { is_done } => {
                let rows = if *is_done { "the rows of the snapshot" } else { "its old rows" };
                self.tell(Detail::Outcomes, format!("{id} goes on with {rows}"));
            }
            _ => {}
        }
        let before = self.history_words(id);
        let Some(mut out) = self.cluster.step(id, input) else { return };
        self.print(id, &out);
        let after = self.history_words(id);
        if before != after {
            self.tell(Detail::Outcomes, format!("{id} {after}"));
        }
        self.judge.after_step(&self.cluster, id, &out);
        if self.manner == Manner::Handy {
            out.messages.retain(|(to, _)| !self.is_lost((id, *to)));
        }
        self.cluster.absorb(id, out);
        while self.manner == Manner::Handy && !self.cluster.nodes[&id].log_reads.is_empty() {
            self.play(&Event::AnswerRead { id, count: usize::MAX });
        }
    }

    /// Which history a replica counts in.
    fn history_words(&self, id: ReplicaId) -> String {
        let Some(core) = &self.cluster.nodes[&id].core else { return String::new() };
        let members = members::show(core.membership());
        match (core.is_outlived(), core.is_crossing(), core.history().number) {
            (true, _, number) => format!("is outlived by history {number} of {members}"),
            (false, true, number) => format!("crosses to history {number} of {members}"),
            (false, false, 0) => String::new(),
            (false, false, number) => format!("is in history {number}"),
        }
    }

    fn is_lost(&self, link: Link) -> bool {
        self.cut.contains(&link) || self.cluster.nodes[&link.1].core.is_none()
    }

    fn print(&mut self, id: ReplicaId, out: &Output) {
        if let Some(proposed) = out.proposed {
            let text = match proposed {
                Proposed::At { first } => format!("{id} proposes from {first} on"),
                Proposed::Refused(why) => format!("{id} refuses: {}", print::not_serving(why)),
            };
            self.tell(Detail::Outcomes, text);
        }
        match out.changed {
            Some(Ok(entry)) => {
                self.tell(Detail::Outcomes, format!("{id} begins a change of members at {entry}"));
            }
            Some(Err(why)) => {
                let why = print::not_changed(why);
                self.tell(Detail::Outcomes, format!("{id} changes no members: {why}"));
            }
            None => {}
        }
        match out.forced {
            Some(Ok(())) => self.tell(Detail::Outcomes, format!("{id} begins another history")),
            Some(Err(why)) => {
                let why = print::not_forced(why);
                self.tell(Detail::Outcomes, format!("{id} begins no history: {why}"));
            }
            None => {}
        }
        if let Some(ballot) = out.promise {
            self.tell(Detail::All, format!("{id} writes its promise of {ballot}"));
        }
        for (to, message) in &out.messages {
            let is_lost = self.manner == Manner::Handy && self.is_lost((id, *to));
            let mark = if is_lost { " (lost)" } else { "" };
            self.tell(Detail::All, format!("{id} -> {to}: {}{mark}", print::message(message)));
        }
        if let Some(at) = &out.keep {
            self.tell(Detail::All, format!("{id} writes {}", print::seats(at)));
        }
        for append in &out.appends {
            self.tell(Detail::All, format!("{id} writes {}", print::batch(&append.batch)));
        }
        for batch in &out.applies {
            for (entry, payload) in batch.entries() {
                let what = match batch.kind() {
                    BatchKind::StartWork => "StartWork".to_owned(),
                    BatchKind::Membership if entry.slot == batch.first() => {
                        print::membership(batch)
                    }
                    BatchKind::Membership | BatchKind::Entries => {
                        String::from_utf8_lossy(&payload).into_owned()
                    }
                };
                self.tell(Detail::Outcomes, format!("{id} applies {entry} {what}"));
            }
        }
        for role in &out.roles {
            self.tell(Detail::Outcomes, format!("{id} {}", print::role(*role)));
        }
        for (token, verdict) in &out.reads {
            let name = self.reads[token].clone();
            self.tell(Detail::Outcomes, format!("{id} read {name}: {}", print::verdict(*verdict)));
        }
        if out.log_whole {
            self.tell(Detail::Outcomes, format!("{id} has its whole log again"));
        }
        if let Some(slot) = out.refill {
            self.tell(Detail::Outcomes, format!("{id} asks for rows through {slot} or later"));
        }
        if let Some(slot) = out.install {
            self.tell(Detail::Outcomes, format!("{id} waits for its rows through {slot}"));
        }
        for wanted in &out.log_reads {
            let purpose = print::purpose(wanted.purpose);
            let text = format!("{id} reads its log from {} {purpose}", wanted.from);
            self.tell(Detail::All, text);
        }
    }

    /// Prints where a replica stands.
    pub fn show(&mut self, id: ReplicaId) {
        let node = &self.cluster.nodes[&id];
        let status = node.core.as_ref().map(|core| core.status(node.now(self.cluster.real_ns)));
        self.tell(Detail::Outcomes, print::stand(id, status.as_ref()));
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

impl Player for Stage {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn play(&mut self, event: &Event) {
        if let Some((id, input)) = self.cluster.turn(event) {
            self.feed(id, input);
        }
        match event {
            Event::Crash { id, .. } | Event::LoseNode { id, .. } => {
                self.judge.crashed(&self.cluster, *id);
            }
            Event::Start(id) => self.judge.started(&self.cluster, *id),
            _ => {}
        }
    }
}
