//! Reads that any replica may answer, whoever leads. Called by `shard.rs`; how fresh a replica is, the
//! core says (`quorate_paxos`, `freshness.rs`).
//!
//! A read waits here until what it asks for is applied, and then sees what is applied: no lease is needed,
//! because what a replica was told of its freshness stays true. What this replica cannot answer in time it
//! sends to the leader.

use std::collections::VecDeque;
use std::time::Duration;

use quorate_paxos::{Input, NotServing};
use quorate_txn::{Evaluation, read_applied};
use quorate_types::elsewhere::FACT_BEHIND;
use quorate_types::planted::{Bug, planted};
use quorate_types::{BootTime, Code, Elsewhere, Error, ReplyBody, Request, Slot, limits};

use crate::clock::Clock;
use crate::cross::Asked;
use crate::event::{Answer, ReplyTo};
use crate::group::{Effects, Fatal, GroupDriver, Held};
use crate::refuse;

/// A read that this replica cannot answer for so long goes to the leader.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// While reads wait, the leader is asked this often where it stands, should it not answer.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// So many reads are answered in a round; the rest in the next.
const ANSWERS_EACH: usize = 512;

/// A read that waits.
#[derive(Debug)]
struct Waiting {
    request: Request,
    reply: ReplyTo,
    need: Need,
    until: BootTime,
}

/// What must be applied here.
#[derive(Clone, Copy, Debug)]
struct Need {
    at_least: Slot,
    /// Everything that anybody was told before this time.
    fresh_since: Option<BootTime>,
    around_locks: bool,
}

/// Reads that wait, in the order they came.
#[derive(Debug, Default)]
pub(crate) struct ElsewhereDriver {
    waiting: VecDeque<Waiting>,
    /// When the leader is asked again.
    ask_at: Option<BootTime>,
    /// What the replica had applied and how fresh it was when they were looked at last.
    looked_at: Option<(Slot, Option<BootTime>)>,
    /// The last look ended before it came to all of them.
    has_more: bool,
}

impl ElsewhereDriver {
    /// When the group must be looked at.
    pub(crate) fn next_deadline(&self) -> Option<BootTime> {
        if self.has_more {
            return Some(BootTime::ZERO);
        }
        // In the order they came is in the order they end.
        let ends = self.waiting.front().map(|waiting| waiting.until);
        [ends, self.ask_at].into_iter().flatten().min()
    }

    /// How many reads wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl GroupDriver {
    /// Answers a read, or lets it wait until it can be answered here.
    pub(crate) fn read_elsewhere(
        &mut self,
        clock: &dyn Clock,
        (request, reply): (Request, ReplyTo),
        elsewhere: Elsewhere,
        has_room: bool,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        if let Some(error) = self.refuses_outlived() {
            reply.answer(Err(error));
            return Ok(());
        }
        let now = clock.now();
        if !self.kind().keeps_rows() {
            let message = format!("the replica here is {} and has no rows", self.kind());
            reply.answer(Err(self.ask_leader(now, &message).with(FACT_BEHIND, true)));
            return Ok(());
        }
        let Elsewhere { at_least, stale_max, around_locks } = elsewhere;
        let fresh_since = stale_max.map(|age| now - age);
        let need = Need { at_least, fresh_since, around_locks };
        let waiting = Waiting { request, reply, need, until: now + WAIT_MAX };
        if self.is_met(now, &need) {
            return self.answer_elsewhere(clock, waiting, has_room, fx);
        }
        if self.core.serving(now).is_ok() {
            return self.answer_as_leader(clock, waiting, has_room, fx);
        }
        if limits::GROUP_PARKED_MAX <= self.elsewhere.len() {
            let message = format!("{} reads wait for what they need", self.elsewhere.len());
            let error = Error::new(Code::Overloaded, message).after(WAIT_MAX / 10);
            waiting.reply.answer(Err(error.with("group", self.group)));
            return Ok(());
        }
        self.elsewhere.waiting.push_back(waiting);
        self.elsewhere.looked_at = None; // The leader may have to be asked for its sake.
        Ok(())
    }

    /// Answers the reads that can be answered now, sends on those that have waited too long, and asks the
    /// leader where it stands for the sake of those that wait.
    pub(crate) fn tick_elsewhere(
        &mut self,
        clock: &dyn Clock,
        has_room: bool,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        if self.elsewhere.waiting.is_empty() {
            return Ok(());
        }
        let now = clock.now();
        let standing = (self.core.slot_applied(), self.core.fresh_at(now));
        let is_due = self.elsewhere.next_deadline().is_some_and(|at| at <= now);
        if self.elsewhere.looked_at == Some(standing) && !is_due {
            return Ok(());
        }
        self.elsewhere.looked_at = Some(standing);
        self.elsewhere.has_more = false;
        let mut answered = 0;
        for waiting in std::mem::take(&mut self.elsewhere.waiting) {
            if answered == ANSWERS_EACH {
                self.elsewhere.has_more = true; // Other groups have their turn before.
                self.elsewhere.waiting.push_back(waiting);
                continue;
            }
            answered += 1;
            if self.is_met(now, &waiting.need) {
                self.answer_elsewhere(clock, waiting, has_room, fx)?;
            } else if self.core.serving(now).is_ok() {
                self.answer_as_leader(clock, waiting, has_room, fx)?;
            } else if waiting.until <= now {
                let Waiting { reply, need, .. } = waiting;
                reply.answer(Err(self.behind(now, &need)));
            } else {
                answered -= 1;
                self.elsewhere.waiting.push_back(waiting);
            }
        }
        let fresh_at = self.core.fresh_at(now);
        let mut wanted = self.elsewhere.waiting.iter().filter_map(|it| it.need.fresh_since);
        if wanted.any(|since| fresh_at.is_none_or(|at| at < since)) {
            self.elsewhere.ask_at = Some(now + ASK_EVERY);
            self.step(now, Input::AskFresh, fx)?;
        } else {
            self.elsewhere.ask_at = None;
        }
        Ok(())
    }

    /// This replica ends.
    pub(crate) fn refuse_elsewhere(&mut self, refused: &Answer) {
        for waiting in std::mem::take(&mut self.elsewhere.waiting) {
            waiting.reply.answer(refused.clone());
        }
    }

    /// True if everything is applied here that a read needs.
    fn is_met(&self, now: BootTime, need: &Need) -> bool {
        if planted(Bug::AnswerBehind) {
            return true;
        }
        if self.core.rows_missing() {
            return false; // What is applied is not what there should be.
        }
        let is_fresh = |since| self.core.fresh_at(now).is_some_and(|at| since <= at);
        need.at_least <= self.core.slot_applied() && need.fresh_since.is_none_or(is_fresh)
    }

    /// Answers from what is applied; what is undecided here sends the read to the leader.
    fn answer_elsewhere(
        &mut self,
        clock: &dyn Clock,
        waiting: Waiting,
        has_room: bool,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        match self.read_here(&waiting.request, waiting.need.around_locks)? {
            Some(body) => waiting.reply.answer(Ok(self.read_reply(body))),
            None if self.core.serving(clock.now()).is_ok() => {
                return self.answer_as_leader(clock, waiting, has_room, fx);
            }
            None => {
                let message = "an undecided transaction or transfer is in the way on this replica";
                waiting.reply.answer(Err(self.ask_leader(clock.now(), message)));
            }
        }
        Ok(())
    }

    /// What is applied here; `None` if something undecided is in the way.
    fn read_here(&self, request: &Request, around_locks: bool) -> Result<Option<ReplyBody>, Fatal> {
        if around_locks {
            return self
                .on_overlay(|context, state| read_applied(&request.body, context, state.applied));
        }
        Ok(match self.evaluate(request)? {
            Evaluation::Read(body) => Some(body),
            _ => None,
        })
    }

    /// The leader answers as it does any read, unless no leader can have that much.
    fn answer_as_leader(
        &mut self,
        clock: &dyn Clock,
        waiting: Waiting,
        has_room: bool,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let Waiting { request, reply, need, .. } = waiting;
        let last = self.core.slot_applied();
        if last < need.at_least {
            let message = format!(
                "{} ends at slot {last}, the read asks for slot {}: no answer of this cluster named it",
                self.group, need.at_least
            );
            let error = Error::new(Code::InvalidRequest, message).with("group", self.group);
            // Unless it has been deposed, and does not know yet what others have said since.
            return self.hold(clock.now(), Held { answer: Err(error), reply }, fx);
        }
        self.request(clock, Asked { request, reply, parked_at: None }, has_room, fx)
    }

    /// This replica lacks what a read needs.
    fn behind(&self, now: BootTime, need: &Need) -> Error {
        let applied = self.core.slot_applied();
        let message = if applied < need.at_least {
            format!(
                "this replica has applied slot {applied}, the read needs slot {}",
                need.at_least
            )
        } else {
            "this replica cannot find out in time how fresh it is".to_owned()
        };
        self.ask_leader(now, &message).with(FACT_BEHIND, true)
    }

    fn ask_leader(&self, now: BootTime, message: &str) -> Error {
        match self.core.serving(now) {
            Err(NotServing::NotLeader(leader)) => refuse::not_here(self.group, leader, message),
            Err(reason) => refuse::not_serving(self.group, reason),
            Ok(_) => refuse::not_here(self.group, Some(self.options.paxos.replica), message),
        }
    }
}
