//! The attempts this group began: asks for votes, counts them, tells what came of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use quorate_types::limits::{GROUP_ATTEMPTS_MAX, GROUP_CROSS_MAX, GROUP_ESCROW_MAX};
use quorate_types::planted::{Bug, planted};
use quorate_types::{
    Age, Attempt, BootTime, Code, CrossBody, CutId, Error, GroupId, Part, PartReply, Refusal,
    Reply, ReplyBody, RequestId, SessionId, Slot, Verdict, Vote,
};

use super::core::{ATTEMPT_TIME_MAX, Cross, Out, RESEND_FIRST, RESEND_MAX, RequestKey, Settled};
use super::entry::{CrossEntry, Decide, Prepare};
use super::part::{ReplyOrder, Split};
use super::vote::{Yes, locked_keys};
use crate::entry::Write;
use crate::money::{DebitLeg, Leg};

/// An attempt that is not over.
#[derive(Debug)]
pub(super) struct Running {
    /// Every group that votes, ours too.
    participants: Vec<GroupId>,
    age: Age,
    /// The cut-up request; `None` for an attempt that a leader before us began: it can be asked
    /// about, not asked for again.
    split: Option<Split>,
    order: ReplyOrder,
    /// Our side of transfers, if it is about these.
    leg: Option<Arc<Leg>>,
    /// Yes votes that are committed.
    yes: BTreeMap<GroupId, PartReply>,
    /// The greatest cut that came with them.
    cut: CutId,
    /// Committed or aborted, once that is known.
    decision: Option<bool>,
    /// The reply of a committed one.
    pub(super) reply: Option<Reply>,
    /// Why it was aborted.
    refusal: Option<Settled>,
    /// Groups that have applied COMMIT.
    acknowledged: BTreeSet<GroupId>,
    started: BootTime,
    pause: Duration,
}

impl Running {
    /// Found prepared in the table.
    pub(super) fn recovered(now: BootTime, prepare: &Prepare) -> Running {
        let Prepare { participants, age, order, leg, .. } = prepare;
        let (order, leg) = (order.clone(), leg.clone());
        Running { order, leg, ..Running::new(now, participants, *age) }
    }

    /// Found committed in the table of `group`.
    pub(super) fn committed(now: BootTime, group: GroupId, participants: &[GroupId]) -> Running {
        // The session has the result; the age plays no part any more.
        let session = SessionId { group: GroupId(0), slot: Slot::ZERO };
        let age = Age { first_ms: 0, session, sequence: 0 };
        let acknowledged = BTreeSet::from([group]);
        Running { decision: Some(true), acknowledged, ..Running::new(now, participants, age) }
    }

    /// Its votes stand behind this cut.
    pub(super) fn above(self, cut: CutId) -> Running {
        Running { cut, ..self }
    }

    fn new(now: BootTime, participants: &[GroupId], age: Age) -> Running {
        Running {
            participants: participants.to_vec(),
            age,
            split: None,
            order: ReplyOrder::default(),
            leg: None,
            yes: BTreeMap::new(),
            cut: CutId::NONE,
            decision: None,
            reply: None,
            refusal: None,
            acknowledged: BTreeSet::new(),
            started: now,
            pause: RESEND_FIRST,
        }
    }

    /// Other groups that have not voted, or not applied COMMIT.
    pub(super) fn waits_for(&self, group: GroupId) -> Vec<GroupId> {
        match self.decision {
            None => missing(self, group),
            Some(true) => {
                let is_missing = |it: &GroupId| *it != group && !self.acknowledged.contains(it);
                self.participants.iter().copied().filter(is_missing).collect()
            }
            Some(false) => Vec::new(),
        }
    }

    /// True if a vote has as much in it as was asked for.
    fn fits(&self, from: GroupId, group: GroupId, reply: &PartReply) -> bool {
        let credits = match self.leg.as_deref() {
            Some(leg) if from != group => leg.able(),
            Some(_) | None => 0,
        };
        let is_known = |verdict: &Verdict| *verdict == Verdict::AlreadyApplied; // Ids are not theirs.
        let fits = reply.verdicts.len() == credits && !reply.verdicts.iter().any(is_known);
        fits && self.order.fits(from, reply)
    }

    fn request(&self) -> RequestKey {
        (self.age.session, self.age.sequence)
    }
}

impl Cross {
    /// Begins an attempt at a transaction whose own part can be done. The caller has made sure that no
    /// attempt at the same request is under way.
    ///
    /// # Errors
    /// `OVERLOADED` if the group coordinates too many.
    ///
    /// # Panics
    /// If the replica does not lead.
    pub fn begin(
        &mut self,
        now: BootTime,
        id: &RequestId,
        first_ms: u64,
        split: Split,
        own: Yes,
    ) -> Result<Out, Error> {
        let group = self.table.group();
        let attempt = self.next_attempt()?;
        let lead = self.lead.as_mut().expect("only a leader begins an attempt");
        let age = Age { first_ms, session: id.session, sequence: id.sequence };
        let mut participants: Vec<GroupId> = split.parts.keys().copied().collect();
        if !split.parts.contains_key(&group) {
            participants.push(group); // It keeps the result even if it changes nothing.
            participants.sort_unstable();
        }
        let (exclusive, shared) = locked_keys(&own.write, &own.shared, self.keyspace);
        self.locks.take(attempt, age, exclusive, shared);
        lead.voting.insert(attempt);
        let before = lead.by_request.insert((id.session, id.sequence), attempt);
        assert!(before.is_none(), "{attempt} began while {before:?} at the same request runs");
        let order = split.order.clone();
        let running = Running {
            order: order.clone(),
            split: Some(split),
            ..Running::new(now, &participants, age)
        };
        lead.running.insert(attempt, running);
        lead.arm(attempt, now + RESEND_FIRST);
        let mut out = Out::default();
        out.entries.push(CrossEntry::Prepare(Box::new(Prepare {
            attempt,
            age,
            lowest_unanswered: id.lowest_unanswered,
            participants,
            order,
            write: own.write,
            shared: own.shared,
            leg: None,
        })));
        self.ask_for_votes(attempt, &mut out);
        Ok(out)
    }

    /// Begins an attempt at transfers whose debits can be carried out here, to credit accounts of
    /// another group. They have ids of their own, so no session is needed to ask for them again.
    ///
    /// # Errors
    /// `OVERLOADED` if the group coordinates too many.
    ///
    /// # Panics
    /// If the replica does not lead.
    pub fn begin_transfers(
        &mut self,
        now: BootTime,
        first_ms: u64,
        to: GroupId,
        debits: DebitLeg,
    ) -> Result<(Attempt, Out), Error> {
        let group = self.table.group();
        let open = self.escrow.len();
        // The other half is left for votes: two groups that fill each other would never end.
        if GROUP_ESCROW_MAX / 2 < open + debits.batch.len() {
            let message = format!("{group} has {open} transfers with other groups under way");
            return Err(Error::new(Code::Overloaded, message).after(RESEND_FIRST));
        }
        let attempt = self.next_attempt()?;
        let lead = self.lead.as_mut().expect("only a leader begins an attempt");
        // No session has slot 0, and no two attempts of a ballot have the same number.
        let session = SessionId { group, slot: Slot::ZERO };
        let age = Age { first_ms, session, sequence: attempt.counter };
        let mut participants = vec![group, to];
        participants.sort_unstable();
        let part = Part { credits: debits.credits(), ..Part::default() };
        let split = Split { parts: BTreeMap::from([(to, part)]), ..Split::default() };
        let leg = Arc::new(Leg::Debit(debits));
        self.locks.take(attempt, age, Vec::new(), Vec::new());
        self.escrow.take(attempt, &leg);
        lead.voting.insert(attempt);
        let running = Running {
            split: Some(split),
            leg: Some(Arc::clone(&leg)),
            ..Running::new(now, &participants, age)
        };
        lead.running.insert(attempt, running);
        lead.arm(attempt, now + RESEND_FIRST);
        let mut out = Out::default();
        out.entries.push(CrossEntry::Prepare(Box::new(Prepare {
            attempt,
            age,
            lowest_unanswered: 0,
            participants,
            order: ReplyOrder::default(),
            write: Write::default(),
            shared: Vec::new(),
            leg: Some(leg),
        })));
        self.ask_for_votes(attempt, &mut out);
        Ok((attempt, out))
    }

    /// True while an attempt at a request of the session is under way, or its result on the way to it.
    #[must_use]
    pub fn is_in_use(&self, session: SessionId) -> bool {
        let Some(lead) = &self.lead else { return false };
        lead.by_request.range((session, 0)..=(session, u64::MAX)).next().is_some()
    }

    /// A name for the next attempt, if there may be one more.
    fn next_attempt(&mut self) -> Result<Attempt, Error> {
        let group = self.table.group();
        let lead = self.lead.as_mut().expect("only a leader begins an attempt");
        let (running, known) = (lead.running.len(), self.table.len());
        if GROUP_CROSS_MAX <= running || GROUP_ATTEMPTS_MAX <= known {
            let message = format!("{group} coordinates {running} and remembers {known} attempts");
            return Err(Error::new(Code::Overloaded, message).after(RESEND_FIRST));
        }
        lead.counter += 1;
        Ok(Attempt { group, ballot: lead.ballot, counter: lead.counter })
    }

    /// Sends its part to every group whose vote is missing.
    fn ask_for_votes(&self, attempt: Attempt, out: &mut Out) {
        let (Some(lead), Some(watermark)) = (&self.lead, self.lowest_running()) else { return };
        let Some(running) = lead.running.get(&attempt) else { return };
        let Some(split) = &running.split else { return };
        for to in missing(running, self.table.group()) {
            let body = CrossBody::Prepare {
                attempt,
                age: running.age,
                watermark,
                participants: running.participants.clone(),
                part: split.parts.get(&to).cloned().unwrap_or_else(Part::default),
            };
            self.say(to, body, out);
        }
    }

    /// A vote on an attempt of ours.
    pub(super) fn count(
        &mut self,
        now: BootTime,
        from: GroupId,
        (attempt, cut): (Attempt, CutId),
        vote: Vote,
        out: &mut Out,
    ) {
        let group = self.table.group();
        let Some(lead) = &mut self.lead else { return };
        let Some(running) = lead.running.get_mut(&attempt) else {
            return self.late_vote(from, attempt, &vote, out);
        };
        if !running.participants.contains(&from) {
            return;
        }
        if let Some(commit) = running.decision {
            let cut = running.cut;
            if from != group {
                self.say(from, CrossBody::Decide { attempt, commit, cut }, out);
            }
            return;
        }
        match vote {
            Vote::Yes(reply) | Vote::Committed(reply) => {
                if !running.fits(from, group, &reply) {
                    return; // It does not answer what was asked; asking again may.
                }
                running.yes.insert(from, reply);
                running.cut = running.cut.max(cut);
                if running.yes.len() == running.participants.len() {
                    self.commit(now, attempt, out);
                }
            }
            Vote::No(refusal) => self.abort(from, attempt, refusal, out),
        }
    }

    /// A vote on an attempt that is over, or that no leader of ours may take up again.
    fn late_vote(&mut self, from: GroupId, attempt: Attempt, vote: &Vote, out: &mut Out) {
        let Some(lead) = &self.lead else { return };
        let Some(watermark) = self.own_watermark() else { return };
        // Of a ballot after ours nothing is known here: we no longer lead.
        if attempt.ballot <= lead.ballot && watermark.covers(attempt) {
            if matches!(vote, Vote::Yes(_)) {
                // Had it been committed, `from` would have applied that before we forgot it.
                let cut = CutId::NONE;
                self.say(from, CrossBody::Decide { attempt, commit: false, cut }, out);
            }
            self.say(from, CrossBody::Clear { watermark }, out);
        }
    }

    /// Everybody said yes: it is committed, whatever happens now.
    fn commit(&mut self, now: BootTime, attempt: Attempt, out: &mut Out) {
        let group = self.table.group();
        let at = self.table.get(attempt).map(|record| record.at);
        let Some(lead) = &mut self.lead else { return };
        let Some(running) = lead.running.get_mut(&attempt) else { return };
        let merged = running.order.merge(&running.yes).expect("each vote was found to fit");
        running.decision = Some(true);
        let at = at.expect("our own yes is applied, it was counted");
        running.split = None; // Nobody is asked for a vote any more.
        running.pause = RESEND_FIRST;
        if let Some(Leg::Debit(debits)) = running.leg.as_deref() {
            let body = ReplyBody::Transfers(debits.results(&merged.verdicts, at.slot));
            out.transferred.push((attempt, Ok(Reply { at, replayed: false, body })));
        } else {
            let (reads, sums) = (merged.reads.clone(), merged.sums.clone());
            let body = ReplyBody::Committed { reads, sums };
            let reply = Reply { at, replayed: false, body };
            running.reply = Some(reply.clone());
            out.settled.push((running.request(), Settled::Committed(reply)));
        }
        let cut = running.cut;
        let others: Vec<GroupId> =
            running.participants.iter().copied().filter(|it| *it != group).collect();
        lead.deciding.insert(attempt);
        lead.arm(attempt, now + RESEND_FIRST);
        out.entries.push(CrossEntry::Decide(Decide::Commit(attempt, merged, cut)));
        for to in others {
            self.say(to, CrossBody::Decide { attempt, commit: true, cut }, out);
        }
    }

    /// Somebody said no, durably: it is aborted, whatever happens now.
    fn abort(&mut self, from: GroupId, attempt: Attempt, refusal: Refusal, out: &mut Out) {
        let group = self.table.group();
        let Some(lead) = &mut self.lead else { return };
        let Some(running) = lead.running.get_mut(&attempt) else { return };
        running.decision = Some(false);
        running.refusal = Some(match refusal {
            Refusal::Conflict => Settled::Again,
            Refusal::Refused(error) => Settled::Refused(match &running.split {
                Some(split) => split.renumber(from, *error),
                None => *error,
            }),
            Refusal::Unknown => Settled::Refused(given_up(attempt, from)),
        });
        let others: Vec<GroupId> =
            running.participants.iter().copied().filter(|it| *it != group && *it != from).collect();
        lead.disarm(attempt);
        lead.deciding.insert(attempt);
        // Our own yes is in the log before this entry, or it never will be.
        out.entries.push(CrossEntry::Decide(Decide::Abort(attempt)));
        for to in others {
            let cut = CutId::NONE;
            self.say(to, CrossBody::Decide { attempt, commit: false, cut }, out);
        }
    }

    /// Our own log has the decision.
    pub(super) fn own_decision_stands(&mut self, attempt: Attempt, commit: bool, out: &mut Out) {
        let Some(lead) = &mut self.lead else { return };
        let Some(running) = lead.running.get_mut(&attempt) else { return };
        let (request, group) = (running.request(), self.table.group());
        let was_current = lead.by_request.get(&request) == Some(&attempt);
        if was_current {
            lead.by_request.remove(&request);
        }
        if commit {
            return self.acknowledged(self.table.group(), attempt, out);
        }
        let (settled, is_transfers) = (running.refusal.take(), running.leg.is_some());
        let participants = std::mem::take(&mut running.participants);
        lead.running.remove(&attempt);
        lead.owed.extend(participants.into_iter().filter(|it| *it != self.table.group()));
        match settled {
            Some(Settled::Refused(error)) if is_transfers => {
                out.transferred.push((attempt, Err(error)));
            }
            Some(Settled::Again) if is_transfers => {
                let error = given_up(attempt, group);
                out.transferred.push((attempt, Err(error)));
            }
            Some(settled) => out.settled.push((request, settled)),
            None => {}
        }
    }

    /// A group has applied COMMIT. Once all have, the attempt is over.
    pub(super) fn acknowledged(&mut self, from: GroupId, attempt: Attempt, _out: &mut Out) {
        let group = self.table.group();
        let Some(lead) = &mut self.lead else { return };
        let Some(running) = lead.running.get_mut(&attempt) else { return };
        if running.decision != Some(true) || !running.participants.contains(&from) {
            return;
        }
        running.acknowledged.insert(from);
        let is_over = running.acknowledged.len() == running.participants.len();
        if is_over || planted(Bug::ForgetDecision) {
            let participants = std::mem::take(&mut running.participants);
            lead.running.remove(&attempt);
            lead.disarm(attempt);
            lead.owed.extend(participants.into_iter().filter(|it| *it != group));
        }
    }

    /// Nobody has said what this attempt waits for: says it again, or gives it up.
    pub(super) fn say_again(&mut self, now: BootTime, attempt: Attempt, out: &mut Out) {
        let group = self.table.group();
        let Some(lead) = &mut self.lead else { return };
        let Some(running) = lead.running.get_mut(&attempt) else { return };
        let pause = running.pause;
        running.pause = (pause * 2).min(RESEND_MAX);
        let can_be_asked_for =
            running.split.is_some() && now.since(running.started) < ATTEMPT_TIME_MAX;
        let missing = match running.decision {
            None => missing(running, group),
            Some(true) => {
                let acknowledged = |it: &GroupId| running.acknowledged.contains(it);
                running.participants.iter().copied().filter(|it| !acknowledged(it)).collect()
            }
            Some(false) => Vec::new(),
        };
        let (decision, cut) = (running.decision, running.cut);
        lead.arm(attempt, now + pause);
        match decision {
            None if can_be_asked_for => self.ask_for_votes(attempt, out),
            // Asking makes a group that knows nothing say no for ever.
            None => {
                for to in missing {
                    self.say(to, CrossBody::Ask { attempt }, out);
                }
                self.count_own(now, attempt, out);
            }
            Some(commit) => {
                for to in missing.into_iter().filter(|it| *it != group) {
                    self.say(to, CrossBody::Decide { attempt, commit, cut }, out);
                }
            }
        }
    }

    /// Counts our own vote for an attempt that was found in the table.
    fn count_own(&mut self, now: BootTime, attempt: Attempt, out: &mut Out) {
        if let Some((vote, cut)) = self.vote_of(attempt) {
            self.count(now, self.table.group(), (attempt, cut), vote, out);
        }
    }
}

/// Other groups whose yes is not known.
fn missing(running: &Running, group: GroupId) -> Vec<GroupId> {
    let is_missing = |it: &GroupId| *it != group && !running.yes.contains_key(it);
    running.participants.iter().copied().filter(is_missing).collect()
}

fn given_up(attempt: Attempt, by: GroupId) -> Error {
    let message = format!("attempt {attempt} was given up: {by} had not voted in time");
    Error::new(Code::TxnAborted, message).with("attempt", attempt).with("group", by.0)
}
