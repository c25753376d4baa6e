//! How fresh the rows of a replica are, whoever leads: what reads at any replica rest on. Called by
//! `replica.rs` and `acceptor.rs`.
//!
//! A follower asks the leader with a stamp of its own clock. A leader that may answer reads, by lease or
//! by a round of heartbeats, sends the stamp back with its position. Once that position is applied here,
//! everything that anybody was told before the stamp is applied here. No two clocks are compared, and
//! the statement stays true whoever leads next; so an answer is old at worst, never wrong.

use std::collections::VecDeque;
use std::time::Duration;

use quorate_types::planted::{Bug, planted};
use quorate_types::{BootTime, ReplicaId, Slot};

use crate::leader::{Leader, Reader};
use crate::message::{Ask, Message, Told};
use crate::output::Output;
use crate::replica::{Duty, Replica};

/// A follower that nobody reads from asks this often all the same, when a heartbeat reminds it: so that
/// it knows how fresh it is when the leader is out of reach.
const ASK_UNASKED: Duration = Duration::from_secs(15);

/// Questions of a follower without an answer that it remembers,
const ASKED_MAX: usize = 8;
/// and that wait at the leader for its answer.
const ASKS_MAX: usize = 2;
/// A position that is not applied for so long is waited for no more.
const TOLD_MAX: Duration = Duration::from_secs(10);

/// What a replica knows of its own freshness.
#[derive(Clone, Debug)]
pub(crate) struct Freshness {
    /// When the replica started.
    started: BootTime,
    /// Everything acknowledged before then is applied here. Only rises.
    fresh_at: Option<BootTime>,
    /// When the questions were asked that have no answer yet, the oldest first: answers may take longer
    /// than it takes to ask again.
    asked: VecDeque<BootTime>,
    /// The answer, until its position is applied: when it was asked, and the position. While there is
    /// one, nothing is asked, so that a position to wait for does not run away.
    told: Option<(BootTime, Slot)>,
}

impl Freshness {
    /// Nothing is known yet.
    pub(crate) fn unknown(now: BootTime) -> Freshness {
        Freshness { started: now, fresh_at: None, asked: VecDeque::new(), told: None }
    }
}

impl Replica {
    /// Everything that was acknowledged to anybody before this time, on this node's clock, is applied
    /// here; so is everything that reads anywhere had shown. `None` if nothing is known.
    #[must_use]
    pub fn fresh_at(&self, now: BootTime) -> Option<BootTime> {
        self.freshness.fresh_at.max(self.led_at(now))
    }

    /// The latest time at which this replica surely was the only one to acknowledge anything, and had
    /// applied what others had acknowledged.
    fn led_at(&self, now: BootTime) -> Option<BootTime> {
        let Duty::Leader(leader) = &self.duty else { return None };
        if !leader.serving {
            return None;
        }
        let leased = self.lease_end(leader).is_some_and(|end| now < end);
        if leased { Some(now) } else { self.confirmed_at() }
    }

    /// Remembers it: the leadership may end with this step.
    pub(crate) fn note_led(&mut self, now: BootTime) {
        self.freshness.fresh_at = self.fresh_at(now);
    }

    /// Somebody wants to read here: asks the leader, unless an answer is on its way.
    pub(crate) fn on_ask_fresh(&mut self, now: BootTime, out: &mut Output) {
        let Freshness { asked, told, .. } = &mut self.freshness;
        if told.is_some_and(|(asked_at, _)| asked_at + TOLD_MAX < now) {
            *told = None; // What takes so long to come may never.
        }
        let again = self.options.timing.renew * 2;
        if told.is_some() || asked.back().is_some_and(|asked| now < *asked + again) {
            return;
        }
        self.ask_leader(now, out);
    }

    /// Asks the leader, if there is one.
    pub(crate) fn ask_leader(&mut self, now: BootTime, out: &mut Output) {
        let Duty::Follower { .. } = self.duty else { return };
        let Some(leader) = self.leader else { return };
        let asked = &mut self.freshness.asked;
        if asked.len() == ASKED_MAX {
            asked.pop_front();
        }
        asked.push_back(now);
        let (ballot, left) = (self.promised, self.slot_left());
        self.send(leader, Message::Ask(Ask { ballot, asked_at: now, left }), out);
    }

    /// The leader lives: asks it when the last answer is old.
    pub(crate) fn ask_now_and_then(&mut self, now: BootTime, out: &mut Output) {
        let Freshness { started, fresh_at, asked, .. } = &self.freshness;
        let last = (*fresh_at).max(asked.back().copied()).unwrap_or(*started);
        if last + ASK_UNASKED < now {
            self.on_ask_fresh(now, out);
        }
    }

    /// A follower asks where we stand. Answered like a read: under a lease at once, else after a round
    /// of heartbeats.
    pub(crate) fn on_ask(&mut self, now: BootTime, from: ReplicaId, msg: Ask, out: &mut Output) {
        self.note_lost(from, &msg, out);
        if msg.ballot != self.promised || self.serving(now).is_err() {
            return; // It asks again, whoever leads then.
        }
        if let Duty::Leader(leader) = &self.duty
            && ASKS_MAX <= leader.asks_of(from)
        {
            return; // The answers to those that wait will do.
        }
        self.on_reader(now, Reader::Follower { replica: from, asked_at: msg.asked_at }, out);
    }

    /// The answer to our question, or to one we no longer wait for.
    pub(crate) fn on_told(&mut self, now: BootTime, msg: Told) {
        // Exactly one of ours: before the machine was started anew, its clock may have shown any time.
        if !self.freshness.asked.contains(&msg.asked_at) {
            return;
        }
        self.note_end(msg);
        let asked_at = if planted(Bug::FreshFromReceipt) { now } else { msg.asked_at };
        self.freshness.asked.retain(|asked| msg.asked_at < *asked);
        if self.freshness.told.is_some_and(|(before, _)| asked_at <= before) {
            return;
        }
        self.freshness.told = Some((asked_at, msg.slot_applied));
        if msg.ballot == self.promised {
            self.learn_commit(msg.slot_applied);
        }
    }

    /// Compares what was told with what is applied.
    pub(crate) fn settle_freshness(&mut self) {
        let Freshness { told, fresh_at, .. } = &mut self.freshness;
        if let Some((asked_at, slot)) = *told
            && slot <= self.slot_applied
        {
            *fresh_at = (*fresh_at).max(Some(asked_at));
            *told = None;
        }
    }
}

impl Leader {
    /// How many questions of a follower wait.
    fn asks_of(&self, asker: ReplicaId) -> usize {
        let is_theirs = |reader: &Reader| matches!(reader, Reader::Follower { replica, .. } if *replica == asker);
        self.reads.iter().filter(|(_, reader)| is_theirs(reader)).count()
    }
}
