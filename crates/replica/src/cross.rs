//! Cross-unit transactions of one group: requests for several groups, messages of other groups, and who
//! waits for a lock. Called by `group.rs` and `shard.rs`; the rules stand in `quorate_txn::cross`.
//!
//! What the rules ask for is carried out at once, but for entries: those are proposed at the end of the
//! round with everything else. Locks are taken when a vote is evaluated, so nothing that is staged in
//! between can contradict it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use quorate_paxos::Serving;
use quorate_store::{Keyspace, StoreError};
use quorate_txn::Evaluation;
use quorate_txn::cross::{
    Cross, CrossEntry, Out, RequestKey, Settled, Split, Verdict, VoteAsked, Yes, evaluate_part,
    split,
};
use quorate_types::planted::{Bug, planted};
use quorate_types::{
    Age, Attempt, AttemptStatus, Ballot, BootTime, Code, CrossMessage, Error, Part, Request,
    RequestBody, RequestId, SessionId, limits,
};

use crate::clock::Clock;
use crate::event::{Answer, ReplyTo};
use crate::group::{Effects, Fatal, GroupDriver, Held};
use crate::refuse;
use crate::transfers::Callers;

/// A request that waits for a lock longer than this is refused.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(3);
/// A transaction that gave way to an older one tries again after this long,
const AGAIN_FIRST: Duration = Duration::from_millis(2);
/// and then after twice as long each time, up to this.
const AGAIN_MAX: Duration = Duration::from_millis(64);
/// A decision nobody waits for joins the next entry, if there is one within this time: it is off every
/// caller's path, and a write of the log for it alone would delay those that are not.
const DECISION_LINGERS: Duration = Duration::from_millis(1);
/// A transaction that gave way this long is given up.
const GIVE_WAY_MAX: Duration = Duration::from_secs(5);

/// A request with whom it came from.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) reply: ReplyTo,
    /// When it first waited for a lock.
    pub(crate) parked_at: Option<BootTime>,
}

/// A request for several groups that is under way.
#[derive(Debug)]
struct Transacting {
    id: RequestId,
    request: Request,
    /// Who waits for it: the caller, and the same caller asking again.
    replies: Vec<ReplyTo>,
    first_ms: u64,
    since: BootTime,
    /// When it tries again; `None` while an attempt runs.
    again_at: Option<BootTime>,
    pause: Duration,
}

/// The part of a group that cross-unit transactions take. What waits belongs to one ballot.
pub(crate) struct CrossDriver {
    pub(crate) rules: Cross,
    /// Entries for the end of the round.
    entries: Vec<CrossEntry>,
    /// When entries that can wait are proposed at the latest; `None` if there are none.
    linger_until: Option<BootTime>,
    transacting: BTreeMap<RequestKey, Transacting>,
    /// Requests by the attempt whose lock they wait for, with the time they began to.
    parked: BTreeMap<Attempt, Vec<(BootTime, Asked)>>,
    parked_count: usize,
    /// Requests whose lock is gone.
    woken: VecDeque<(BootTime, Asked)>,
    /// When something of `transacting` tries again.
    agains: BTreeSet<(BootTime, RequestKey)>,
    /// Who waits for transfers with other groups.
    pub(crate) callers: Callers,
}

impl CrossDriver {
    pub(crate) fn load(
        view: &dyn quorate_store::View,
        keyspace: Keyspace,
    ) -> Result<CrossDriver, StoreError> {
        Ok(CrossDriver {
            rules: Cross::load(view, keyspace)?,
            entries: Vec::new(),
            linger_until: None,
            transacting: BTreeMap::new(),
            parked: BTreeMap::new(),
            parked_count: 0,
            woken: VecDeque::new(),
            agains: BTreeSet::new(),
            callers: Callers::default(),
        })
    }

    /// When the group must be looked at.
    pub(crate) fn next_deadline(&self) -> Option<BootTime> {
        let again = self.agains.first().map(|(at, _)| *at);
        // What came up while the round ended.
        let is_new = !self.entries.is_empty() && self.linger_until.is_none();
        let now = (is_new || !self.woken.is_empty()).then_some(BootTime::ZERO);
        [self.rules.next_deadline(), again, self.linger_until, now].into_iter().flatten().min()
    }

    /// Requests that wait for an attempt may try again.
    fn wake(&mut self, attempt: Attempt) {
        let freed = self.parked.remove(&attempt).unwrap_or_default();
        self.parked_count -= freed.len();
        self.woken.extend(freed);
    }

    /// True while a request of the session is under way: between two attempts, too.
    pub(crate) fn is_in_use(&self, session: SessionId) -> bool {
        let mut own = self.transacting.range((session, 0)..=(session, u64::MAX));
        own.next().is_some() || self.rules.is_in_use(session)
    }

    /// The sessions whose requests wait for a lock: they are in use as well.
    pub(crate) fn sessions_waiting(&self) -> BTreeSet<SessionId> {
        let waiting = self.parked.values().flatten().chain(&self.woken);
        waiting.filter_map(|(_, asked)| asked.request.id.map(|id| id.session)).collect()
    }

    /// How many requests wait for a lock.
    pub(crate) fn parked(&self) -> usize {
        self.parked_count + self.woken.len()
    }
}

impl GroupDriver {
    /// True if a request names rows of several groups.
    pub(crate) fn spans_groups(&self, body: &RequestBody) -> bool {
        let RequestBody::Transact { conditions, mutations, reads } = body else { return false };
        if conditions.len() + mutations.len() + reads.len() < 2 {
            return false;
        }
        let rows = conditions
            .iter()
            .map(|condition| condition.address())
            .chain(mutations.iter().map(|mutation| mutation.address()))
            .chain(reads);
        let mut groups = rows.map(|at| (self.options.group_of)(at.table, at.uid));
        groups.any(|group| group != Some(self.group))
    }

    /// A request for several groups. The core serves.
    pub(crate) fn request_cross(
        &mut self,
        clock: &dyn Clock,
        serving: &Serving,
        asked: Asked,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let Some(id) = asked.request.id else {
            let message = "a transaction over several groups needs the id of a session";
            asked.reply.answer(Err(Error::new(Code::SeveralGroups, message)));
            return Ok(());
        };
        let key = (id.session, id.sequence);
        if let Some(transacting) = self.cross.transacting.get_mut(&key) {
            transacting.replies.push(asked.reply);
            return Ok(());
        }
        let first_ms = clock.wall_ms();
        match self.evaluate_cross(&id, first_ms, &asked.request)? {
            Evaluated::Known(known) => return self.answer(clock, serving, asked, known, fx),
            Evaluated::No(error) => {
                let held = Held { answer: Err(error), reply: asked.reply };
                self.answer_later(clock.now(), held, fx)?;
            }
            Evaluated::Locked(holder) => self.park(clock.now(), holder, asked),
            Evaluated::Yes(cut, own) => {
                let now = clock.now();
                match self.cross.rules.begin(now, &id, first_ms, cut, own) {
                    Ok(out) => {
                        self.note_transacting(now, id, first_ms, asked);
                        self.carry_out_cross(now, out, fx)?;
                    }
                    Err(error) => asked.reply.answer(Err(error)),
                }
            }
        }
        Ok(())
    }

    /// A request whose number an attempt has: ours, or one that a leader before us began.
    pub(crate) fn join_attempt(&mut self, clock: &dyn Clock, asked: Asked) {
        let Some(id) = asked.request.id else {
            unreachable!("only requests with an id have attempts");
        };
        match self.cross.transacting.get_mut(&(id.session, id.sequence)) {
            Some(transacting) => transacting.replies.push(asked.reply),
            None => self.note_transacting(clock.now(), id, clock.wall_ms(), asked),
        }
    }

    fn note_transacting(&mut self, now: BootTime, id: RequestId, first_ms: u64, asked: Asked) {
        let Asked { request, reply, .. } = asked;
        let transacting = Transacting {
            id,
            request,
            replies: vec![reply],
            first_ms,
            since: now,
            again_at: None,
            pause: AGAIN_FIRST,
        };
        self.cross.transacting.insert((id.session, id.sequence), transacting);
    }

    /// What is to become of a request that no attempt at is under way.
    fn evaluate_cross(
        &self,
        id: &RequestId,
        first_ms: u64,
        request: &Request,
    ) -> Result<Evaluated, Fatal> {
        let known = self.on_overlay(|context, state| quorate_txn::recognise(id, context, state))?;
        if let Some(known) = known {
            return Ok(Evaluated::Known(known));
        }
        let cut = split(&request.body, &|table, uid| (self.options.group_of)(table, uid));
        let Some(cut) = cut else {
            let message = "a row of the transaction belongs to no group";
            return Ok(Evaluated::No(Error::new(Code::UnknownTable, message)));
        };
        let own = cut.parts.get(&self.group).cloned().unwrap_or_default();
        let age = Age { first_ms, session: id.session, sequence: id.sequence };
        let groups = cut.parts.len() + usize::from(!cut.parts.contains_key(&self.group));
        Ok(match self.evaluate_part(&own, (age, groups))? {
            Verdict::Yes(own) => Evaluated::Yes(cut, own),
            Verdict::No(error) => Evaluated::No(cut.renumber(self.group, error)),
            Verdict::Locked(locked) => {
                Evaluated::Locked(*locked.ahead.first().expect("something is ahead"))
            }
        })
    }

    /// Waits until an attempt gives its locks back.
    pub(crate) fn park(&mut self, now: BootTime, holder: Attempt, mut asked: Asked) {
        if self.is_full_of_waits() {
            return asked.reply.answer(Err(self.too_many_wait()));
        }
        let since = *asked.parked_at.get_or_insert(now);
        self.cross.parked_count += 1;
        self.cross.parked.entry(holder).or_default().push((since, asked));
    }

    /// True if nothing more may wait. What waits keeps its share of the node's budget of bytes.
    pub(crate) fn is_full_of_waits(&self) -> bool {
        limits::GROUP_PARKED_MAX <= self.cross.parked()
    }

    pub(crate) fn too_many_wait(&self) -> Error {
        let message = format!("{} requests wait for locks", self.cross.parked());
        let error = Error::new(Code::Overloaded, message).after(LOCK_WAIT_MAX / 10);
        error.with("group", self.group)
    }

    /// Messages of another group.
    pub(crate) fn receive_cross(
        &mut self,
        now: BootTime,
        message: CrossMessage,
        has_room: bool,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        if self.core.serving(now).is_err() {
            return Ok(()); // It will be said again.
        }
        let takes_room = matches!(message.body, quorate_types::CrossBody::Prepare { .. });
        let is_full = limits::GROUP_UNCOMMITTED_BYTES_MAX as u64 <= self.core.uncommitted_bytes()
            || !has_room;
        if takes_room && is_full {
            return Ok(());
        }
        let out = self.cross.rules.receive(now, message);
        self.carry_out_cross(now, out, fx)
    }

    /// Carries out what the rules ask for.
    pub(crate) fn carry_out_cross(
        &mut self,
        now: BootTime,
        out: Out,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let mut outs = VecDeque::from([out]);
        while let Some(out) = outs.pop_front() {
            self.cross.entries.extend(out.entries);
            fx.cross.extend(out.messages);
            for asked in out.evaluate {
                let verdict = self.evaluate_vote(&asked)?;
                outs.push_back(self.cross.rules.voted(asked, verdict));
            }
            for (key, settled) in out.settled {
                self.settle_transacting(now, key, settled);
            }
            for (attempt, answer) in out.transferred {
                let rest = self.cross.callers.settle(attempt, answer);
                self.cross.woken.extend(rest);
            }
            for attempt in out.released {
                self.cross.wake(attempt);
            }
        }
        Ok(())
    }

    fn evaluate_vote(&self, asked: &VoteAsked) -> Result<Verdict, Fatal> {
        if !self.owns_all(&asked.part) {
            let message = format!("rows of the part do not belong to {}", self.group);
            let error = Error::new(Code::WrongUnit, message).with("group", self.group);
            return Ok(Verdict::No(error));
        }
        self.evaluate_part(&asked.part, (asked.age, asked.participants.len()))
    }

    /// What we make of our part of a transaction of this age and so many groups.
    fn evaluate_part(&self, part: &Part, transaction: (Age, usize)) -> Result<Verdict, Fatal> {
        self.on_overlay(|context, state| {
            let held = (state.cross.locks(), state.cross.escrow());
            evaluate_part(part, transaction, context, state.overlay, held)
        })
    }

    /// True if every row of a part is ours: another node may route by another cluster file.
    fn owns_all(&self, part: &Part) -> bool {
        let conditions = part.conditions.iter().map(|condition| condition.address());
        let mutations = part.mutations.iter().map(|mutation| mutation.address());
        let mut rows = conditions.chain(mutations).chain(&part.reads);
        let mut credits = part.credits.iter();
        rows.all(|at| (self.options.group_of)(at.table, at.uid) == Some(self.group))
            && credits.all(|credit| self.group_of_accounts(credit.credit.uid) == Some(self.group))
    }

    /// Tells who waits for a transaction, or notes that it tries again.
    fn settle_transacting(&mut self, now: BootTime, key: RequestKey, settled: Settled) {
        let Some(transacting) = self.cross.transacting.get_mut(&key) else { return };
        let answer: Answer = match settled {
            Settled::Committed(reply) => Ok(reply),
            Settled::Refused(error) => Err(error),
            Settled::Again if now.since(transacting.since) < GIVE_WAY_MAX => {
                let at = now + transacting.pause;
                transacting.pause = (transacting.pause * 2).min(AGAIN_MAX);
                transacting.again_at = Some(at);
                self.cross.agains.insert((at, key));
                return;
            }
            Settled::Again => {
                let message = "older transactions held its rows for too long";
                Err(Error::new(Code::TxnAborted, message).with("group", self.group))
            }
        };
        let replies = self.cross.transacting.remove(&key).map(|it| it.replies);
        for reply in replies.into_iter().flatten() {
            reply.answer(answer.clone());
        }
    }

    /// Timers of attempts, transactions that try again, requests whose lock is gone.
    pub(crate) fn tick_cross(
        &mut self,
        clock: &dyn Clock,
        has_room: bool,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let now = clock.now();
        if self.cross.rules.next_deadline().is_some_and(|at| at <= now) {
            let out = self.cross.rules.tick(now);
            self.carry_out_cross(now, out, fx)?;
        }
        while let Some((at, key)) = self.cross.agains.first().copied()
            && at <= now
        {
            self.cross.agains.remove(&(at, key));
            self.try_again(clock, key, fx)?;
        }
        // Whoever finds the next lock in its way is parked again, so this ends.
        for _ in 0..self.cross.woken.len() {
            let Some((since, asked)) = self.cross.woken.pop_front() else { break };
            if LOCK_WAIT_MAX < now.since(since) {
                asked.reply.answer(Err(still_locked(self.group, now.since(since))));
                continue;
            }
            self.request(clock, asked, has_room, fx)?;
        }
        Ok(())
    }

    fn try_again(
        &mut self,
        clock: &dyn Clock,
        key: RequestKey,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let now = clock.now();
        let Some(transacting) = self.cross.transacting.get_mut(&key) else { return Ok(()) };
        transacting.again_at = None;
        let Transacting { id, first_ms, .. } = *transacting;
        let request = transacting.request.clone();
        let settled = match self.evaluate_cross(&id, first_ms, &request)? {
            Evaluated::Yes(cut, own) => {
                match self.cross.rules.begin(now, &id, first_ms, cut, own) {
                    Ok(out) => return self.carry_out_cross(now, out, fx),
                    Err(error) => Settled::Refused(error),
                }
            }
            // It holds nothing, so it may wait for anybody.
            Evaluated::Locked(_) => Settled::Again,
            Evaluated::No(error) => {
                let replies = self.cross.transacting.remove(&key).map(|it| it.replies);
                for reply in replies.into_iter().flatten() {
                    let held = Held { answer: Err(error.clone()), reply };
                    self.answer_later(now, held, fx)?;
                }
                return Ok(());
            }
            // Its session is gone, or another request took its number.
            Evaluated::Known(known) => {
                let replies = self.cross.transacting.remove(&key).map(|it| it.replies);
                for reply in replies.into_iter().flatten() {
                    let asked = Asked { request: request.clone(), reply, parked_at: None };
                    match self.core.serving(now) {
                        Ok(serving) => self.answer(clock, &serving, asked, known.clone(), fx)?,
                        Err(reason) => {
                            asked.reply.answer(Err(refuse::not_serving(self.group, reason)));
                        }
                    }
                }
                return Ok(());
            }
        };
        self.settle_transacting(now, key, settled);
        Ok(())
    }

    /// Refuses requests that have waited for a lock too long, and drops records that are over. Called
    /// now and then.
    pub(crate) fn clean_cross(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        if !self.cross.rules.leads() {
            return Ok(());
        }
        let group = self.group;
        for parked in self.cross.parked.values_mut() {
            let (late, patient): (Vec<_>, Vec<_>) =
                parked.drain(..).partition(|(since, _)| LOCK_WAIT_MAX < now.since(*since));
            *parked = patient;
            self.cross.parked_count -= late.len();
            for (since, asked) in late {
                asked.reply.answer(Err(still_locked(group, now.since(since))));
            }
        }
        self.cross.parked.retain(|_, parked| !parked.is_empty());
        let out = self.cross.rules.clean();
        self.carry_out_cross(now, out, fx)
    }

    /// What the group knows of attempts while it leads.
    pub(crate) fn attempts(&self) -> Vec<AttemptStatus> {
        let parked = |attempt| self.cross.parked.get(&attempt).map_or(0, Vec::len);
        self.cross.rules.report(&parked)
    }

    /// Asks at once about an attempt that is undecided here. False if there is none.
    pub(crate) fn resolve(
        &mut self,
        now: BootTime,
        attempt: Attempt,
        fx: &mut Effects,
    ) -> Result<bool, Fatal> {
        let mut out = Out::default();
        let asked = self.cross.rules.ask_now(now, attempt, &mut out);
        self.carry_out_cross(now, out, fx)?;
        Ok(asked)
    }

    /// Stages the entries of this round, if the group can propose.
    pub(crate) fn stage_cross(&mut self, now: BootTime) -> Result<(), Fatal> {
        if self.cross.entries.is_empty() || self.cross_entries_linger(now) {
            return Ok(());
        }
        let Ok(serving) = self.core.serving(now) else {
            self.cross.linger_until = Some(now + DECISION_LINGERS); // Handing over may fail.
            return Ok(());
        };
        self.cross.linger_until = None;
        self.begin_round(&serving);
        for entry in std::mem::take(&mut self.cross.entries) {
            let on_overlay = self.stage_cross_entry(entry)?;
            // Who waits for transfers need not wait until they are applied.
            if let Some(attempt) = on_overlay {
                self.cross.wake(attempt);
            }
        }
        Ok(())
    }

    /// True if the entries of this round can wait for others.
    fn cross_entries_linger(&mut self, now: BootTime) -> bool {
        let can_wait =
            |entry: &CrossEntry| matches!(entry, CrossEntry::Decide(_) | CrossEntry::Clear(_));
        let has_company = !self.proposals.is_empty();
        let somebody_waits = 0 < self.cross.parked() || self.cross.rules.has_waiting();
        if has_company || somebody_waits || !self.cross.entries.iter().all(can_wait) {
            return false;
        }
        now < *self.cross.linger_until.get_or_insert(now + DECISION_LINGERS)
    }

    /// The group serves.
    pub(crate) fn lead_cross(&mut self, now: BootTime, ballot: Ballot) {
        self.cross.rules.lead(now, ballot);
    }

    /// The ballot is over: what had an attempt may have taken effect, what waited did not.
    pub(crate) fn lose_cross(&mut self, refused: &Answer, unknown: &Answer) {
        self.cross.rules.unlead();
        self.cross.entries.clear();
        self.cross.linger_until = None;
        self.cross.agains.clear();
        for transacting in std::mem::take(&mut self.cross.transacting).into_values() {
            let is_waiting = transacting.again_at.is_some();
            let answer = if is_waiting || planted(Bug::LostAsRefused) { refused } else { unknown };
            for reply in transacting.replies {
                reply.answer(answer.clone());
            }
        }
        let parked = std::mem::take(&mut self.cross.parked).into_values().flatten();
        for (_, asked) in parked.chain(std::mem::take(&mut self.cross.woken)) {
            asked.reply.answer(refused.clone());
        }
        self.cross.parked_count = 0;
        self.cross.callers.lose(unknown);
    }
}

/// A request for several groups, looked at.
enum Evaluated {
    /// Seen before, or its session cannot take it.
    Known(Evaluation),
    /// Our own part can be done.
    Yes(Split, Yes),
    /// It cannot.
    No(Error),
    /// Somebody holds a row.
    Locked(Attempt),
}

fn still_locked(group: quorate_types::GroupId, waited: Duration) -> Error {
    let message = format!("a row stayed locked for {} ms", waited.as_millis());
    refuse::of_group(Error::new(Code::Locked, message), group)
}
