//! One replica of one group in cross-unit transactions: what it knows from the log, and while it
//! leads, what it coordinates and what it voted on.
//!
//! A message or an applied entry comes in, entries to propose and messages to send go out. Two duties
//! stand in files of their own: `coordinator.rs` for attempts this group began, `participant.rs` for
//! those of others; `cut.rs` keeps messages in their place among cuts. Everything but the table and the locks belongs to one ballot and is dropped with
//! it: the next leader finds in the table what it must take up.
//!
//! Rules, each checked by the explorer in `tests/suite/cross.rs`:
//! - a vote leaves only after its entry is applied here, and so is committed;
//! - a decision follows from votes alone, so two that decide cannot differ;
//! - an attempt that is not known is refused by an entry before anybody is told no (trap 28);
//! - the next attempt at a request begins after the one before is aborted in our own log (trap 27).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_store::{Change, Keyspace, StoreError, View};
use quorate_types::planted::{Bug, planted};
use quorate_types::{
    AccountAddress, Attempt, Ballot, BootTime, CrossBody, CrossMessage, CutId, EntryId, Error,
    GroupId, LogTime, Refusal, Reply, RequestId, SessionId, Vote, Watermark,
};

use super::coordinator::Running;
use super::cut::Behind;
use super::entry::{CrossEntry, Decide};
use super::locks::Locks;
use super::participant::{Asking, VoteAsked};
use super::record::{Record, State};
use super::table::{CrossEvent, CrossTable};
use super::vote::locked_keys;
use crate::apply::ApplyError;
use crate::money::{self, Escrow};

/// A participant that knows no decision asks for it after this long.
pub const ASK_AFTER: Duration = Duration::from_secs(1);
/// And again, each time.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(500);
/// A coordinator says again what was not answered after this long,
pub(super) const RESEND_FIRST: Duration = Duration::from_millis(100);
/// and then less and less often, down to this.
pub(super) const RESEND_MAX: Duration = Duration::from_secs(1);
/// An attempt without all votes for this long is given up.
pub const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(5);

/// A request by its session and number.
pub type RequestKey = (SessionId, u64);

/// One replica of one group.
#[derive(Debug)]
pub struct Cross {
    pub(super) table: CrossTable,
    pub(super) locks: Locks,
    pub(super) escrow: Escrow,
    pub(super) keyspace: Keyspace,
    pub(super) lead: Option<Lead>,
}

/// What belongs to one ballot.
#[derive(Debug)]
pub(super) struct Lead {
    pub(super) ballot: Ballot,
    /// Attempts begun under the ballot.
    pub(super) counter: u64,
    /// Attempts this group coordinates and that are not over.
    pub(super) running: BTreeMap<Attempt, Running>,
    /// The attempt at each request, until its result is with the session or it is aborted.
    pub(super) by_request: BTreeMap<RequestKey, Attempt>,
    /// Attempts of others that this group said yes to and that are undecided here.
    pub(super) asking: BTreeMap<Attempt, Asking>,
    /// Parts that an older transaction waits to have evaluated, and for whose lock.
    pub(super) waiting: BTreeMap<Attempt, (Attempt, VoteAsked)>,
    /// Votes about credits to accounts that a read waits for.
    pub(super) deferred: BTreeMap<Attempt, VoteAsked>,
    /// Votes proposed and not applied.
    pub(super) voting: BTreeSet<Attempt>,
    /// Decisions proposed and not applied.
    pub(super) deciding: BTreeSet<Attempt>,
    /// Why this group said no.
    pub(super) refusals: BTreeMap<Attempt, Refusal>,
    /// Watermarks heard from coordinators, which the log may not have.
    pub(super) heard: BTreeMap<GroupId, Watermark>,
    /// Watermarks proposed.
    pub(super) clearing: BTreeMap<GroupId, Watermark>,
    /// Groups to be told our watermark.
    pub(super) owed: BTreeSet<GroupId>,
    /// Messages from behind a cut that our log does not have yet.
    pub(super) behind: Behind,
    /// When something is said again. Invariant: `due` has the same pairs.
    timers: BTreeSet<(BootTime, Attempt)>,
    due: BTreeMap<Attempt, BootTime>,
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Out {
    /// Propose these, in this order, under the ballot that the replica leads with.
    pub entries: Vec<CrossEntry>,
    /// Send these.
    pub messages: Vec<CrossMessage>,
    /// Evaluate these parts and hand the verdicts in.
    pub evaluate: Vec<VoteAsked>,
    /// Tell whoever waits for these requests.
    pub settled: Vec<(RequestKey, Settled)>,
    /// Tell whoever waits for the transfers of these attempts.
    pub transferred: Vec<(Attempt, Result<Reply, Error>)>,
    /// Whoever waits for these attempts may try again.
    pub released: Vec<Attempt>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It took effect.
    Committed(Reply),
    /// It did not and will not.
    Refused(Error),
    /// It met the lock of an older one and was aborted: try again after a pause.
    Again,
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestStanding {
    /// An attempt is under way.
    Running,
    /// It is committed.
    Committed(Reply),
}

impl Out {
    /// Does this as well.
    pub fn extend(&mut self, more: Out) {
        self.entries.extend(more.entries);
        self.messages.extend(more.messages);
        self.evaluate.extend(more.evaluate);
        self.settled.extend(more.settled);
        self.transferred.extend(more.transferred);
        self.released.extend(more.released);
    }
}

impl Lead {
    pub(super) fn arm(&mut self, attempt: Attempt, at: BootTime) {
        self.disarm(attempt);
        self.due.insert(attempt, at);
        self.timers.insert((at, attempt));
    }

    pub(super) fn disarm(&mut self, attempt: Attempt) {
        if let Some(at) = self.due.remove(&attempt) {
            self.timers.remove(&(at, attempt));
        }
    }
}

impl Cross {
    /// The replica as the store has it. Does not lead.
    ///
    /// # Errors
    /// `StoreError` if the records cannot be read.
    pub fn load(view: &dyn View, keyspace: Keyspace) -> Result<Cross, StoreError> {
        let table = CrossTable::load(view, keyspace)?;
        let (locks, escrow) = (Locks::default(), Escrow::default());
        let mut cross = Cross { table, locks, escrow, keyspace, lead: None };
        let prepared: Vec<Attempt> = cross.table.records().map(|(attempt, _)| attempt).collect();
        for attempt in prepared {
            cross.lock_prepared(attempt);
        }
        Ok(cross)
    }

    /// What applied entries say.
    #[must_use]
    pub fn table(&self) -> &CrossTable {
        &self.table
    }

    /// For applying the next entry; what comes of it goes to [`Cross::applied`].
    pub fn table_mut(&mut self) -> &mut CrossTable {
        &mut self.table
    }

    /// Who holds which row.
    #[must_use]
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// What undecided transfers keep from others.
    #[must_use]
    pub fn escrow(&self) -> &Escrow {
        &self.escrow
    }

    /// True while it leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.lead.is_some()
    }

    /// How many attempts it coordinates.
    #[must_use]
    pub fn running(&self) -> usize {
        self.lead.as_ref().map_or(0, |lead| lead.running.len())
    }

    /// True if a part of an older transaction waits for a lock.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.lead.as_ref().is_some_and(|lead| !lead.waiting.is_empty())
    }

    /// What is known of a request that may be a cross-unit transaction; `None` if nothing is.
    #[must_use]
    pub fn standing(&self, id: &RequestId) -> Option<RequestStanding> {
        let lead = self.lead.as_ref()?;
        let attempt = lead.by_request.get(&(id.session, id.sequence))?;
        let reply = lead.running.get(attempt).and_then(|running| running.reply.clone());
        let reply = reply.map(|reply| Reply { replayed: true, ..reply });
        Some(reply.map_or(RequestStanding::Running, RequestStanding::Committed))
    }

    /// The replica serves under `ballot`: everything before its StartWork is applied. Takes up what
    /// leaders before it left.
    pub fn lead(&mut self, now: BootTime, ballot: Ballot) {
        let mut lead = Lead {
            ballot,
            counter: 0,
            running: BTreeMap::new(),
            by_request: BTreeMap::new(),
            asking: BTreeMap::new(),
            waiting: BTreeMap::new(),
            deferred: BTreeMap::new(),
            voting: BTreeSet::new(),
            deciding: BTreeSet::new(),
            refusals: BTreeMap::new(),
            heard: BTreeMap::new(),
            clearing: BTreeMap::new(),
            owed: BTreeSet::new(),
            behind: Behind::default(),
            timers: BTreeSet::new(),
            due: BTreeMap::new(),
        };
        for (attempt, record) in self.table.records() {
            let is_own = attempt.group == self.table.group();
            match &record.state {
                State::Prepared(prepare) if is_own => {
                    if prepare.leg.is_none() {
                        let id = prepare.request();
                        lead.by_request.insert((id.session, id.sequence), attempt);
                    }
                    lead.running.insert(attempt, Running::recovered(now, prepare));
                    lead.arm(attempt, now);
                }
                State::Prepared(_) => {
                    lead.asking.insert(attempt, Asking::default());
                    lead.arm(attempt, now + ASK_AFTER);
                }
                State::Committed { participants, .. } if is_own => {
                    let committed = Running::committed(now, attempt.group, participants);
                    lead.running.insert(attempt, committed.above(record.cut));
                    lead.arm(attempt, now);
                }
                State::Refused | State::Committed { .. } | State::Aborted => {}
            }
        }
        self.lead = Some(lead);
    }

    /// The ballot is over.
    pub fn unlead(&mut self) {
        if self.lead.take().is_none() {
            return;
        }
        self.locks.forget_wants();
        self.escrow.unstage();
        self.escrow.unfence_all();
        let held: Vec<Attempt> = self.locks.attempts().collect();
        for attempt in held {
            if self.table.prepared(attempt).is_none() {
                self.locks.release(attempt); // Its vote may never be chosen.
                self.escrow.release(attempt);
            }
        }
    }

    /// A message of another group. Ignored by a replica that does not lead: it will be said again.
    pub fn receive(&mut self, now: BootTime, message: CrossMessage) -> Out {
        let mut out = Out::default();
        if self.lead.is_none() || message.from == self.table.group() {
            return out;
        }
        if self.waits_for_cut(&message, &mut out) {
            return out;
        }
        let CrossMessage { from, body, .. } = message;
        match body {
            CrossBody::Prepare { attempt, age, watermark, participants, part } => {
                if attempt.group != from || watermark.group != from {
                    return out; // Only a coordinator asks for votes.
                }
                self.hear(Watermark::below(watermark));
                self.asked_to_vote(VoteAsked { attempt, age, participants, part }, &mut out);
            }
            CrossBody::Ask { attempt } => self.asked(from, attempt, &mut out),
            CrossBody::Voted { attempt, vote, cut } if attempt.group == self.table.group() => {
                self.count(now, from, (attempt, cut), vote, &mut out);
            }
            CrossBody::Voted { attempt, vote, cut } => {
                self.told(from, (attempt, cut), &vote, &mut out);
            }
            CrossBody::Decide { attempt, commit, cut } => {
                if attempt.group == from {
                    self.told_decision(from, (attempt, cut), commit, &mut out);
                }
            }
            CrossBody::Decided { attempt } => self.acknowledged(from, attempt, &mut out),
            CrossBody::Clear { watermark } => {
                if watermark.upto.group == from {
                    self.hear(watermark);
                }
            }
            CrossBody::AskCut => self.say(from, CrossBody::TellCut, &mut out),
            CrossBody::TellCut => {} // What it had to say stood in its head.
        }
        out
    }

    /// The request whose result an entry will leave with its session, if it is such an entry: to be
    /// noted in [`Pending`](crate::Pending) when the entry is proposed.
    #[must_use]
    pub fn acknowledges(&self, entry: &CrossEntry) -> Option<RequestId> {
        let CrossEntry::Decide(Decide::Commit(attempt, _, _)) = entry else { return None };
        let is_own = attempt.group == self.table.group();
        let prepare = self.table.prepared(*attempt).filter(|_| is_own)?;
        prepare.leg.is_none().then(|| prepare.request())
    }

    /// What an entry will change in accounts, for the overlay: it is going to stand at `at`. From here on
    /// who decides sees it there, and not in escrow. Nothing for entries that are not about transfers.
    ///
    /// # Errors
    /// `ApplyError` if the accounts are not those that the vote was on.
    pub fn stage(
        &mut self,
        entry: &CrossEntry,
        at: EntryId,
        overlay: &dyn View,
    ) -> Result<Vec<Change>, ApplyError> {
        let CrossEntry::Decide(Decide::Commit(attempt, reply, _)) = entry else {
            return Ok(Vec::new());
        };
        let Some(Record { state: State::Prepared(prepare), at: voted, .. }) =
            self.table.get(*attempt)
        else {
            return Ok(Vec::new());
        };
        let Some(leg) = &prepare.leg else { return Ok(Vec::new()) };
        let slots = (at, voted.slot);
        let draft = money::settle(leg, &reply.verdicts, slots, self.keyspace, overlay)?;
        self.escrow.stage(*attempt);
        if planted(Bug::CommitOffOverlay) {
            return Ok(Vec::new());
        }
        // The log time of the entry is not known yet; nothing decided on the overlay needs it.
        Ok(draft.changes(at.slot, LogTime::default()))
    }

    /// An entry about an attempt was applied to the table.
    pub fn applied(&mut self, now: BootTime, event: &CrossEvent) -> Out {
        let mut out = Out::default();
        match event {
            CrossEvent::Prepared(attempt) => {
                self.lock_prepared(*attempt);
                self.vote_stands(now, *attempt, &mut out);
            }
            CrossEvent::Refused(attempt) => self.vote_stands(now, *attempt, &mut out),
            CrossEvent::Decided { attempt, commit, .. } => {
                self.release(*attempt, &mut out);
                self.decision_stands(*attempt, *commit, &mut out);
            }
            CrossEvent::Cleared(dropped) => {
                for attempt in dropped {
                    self.release(*attempt, &mut out);
                    if let Some(lead) = &mut self.lead {
                        lead.asking.remove(attempt);
                        lead.refusals.remove(attempt);
                        lead.disarm(*attempt);
                    }
                }
            }
            CrossEvent::Nothing(attempt) => {
                if let Some(lead) = &mut self.lead {
                    lead.voting.remove(attempt);
                    lead.deciding.remove(attempt);
                }
                if self.table.prepared(*attempt).is_none() {
                    self.release(*attempt, &mut out);
                }
            }
            CrossEvent::Cut(_) => self.cut_stands(now, &mut out),
        }
        out
    }

    /// A read waits for the undecided transfers of an account: for a moment no others come in between.
    /// A moment is enough for those whose groups have majorities.
    pub fn fence(&mut self, now: BootTime, account: AccountAddress) {
        if self.lead.is_some() {
            self.escrow.fence(now, account);
        }
    }

    /// Votes that waited for a read may be evaluated, unless they wait for another one, too.
    fn unfence(&mut self, out: &mut Out) {
        let Some(lead) = &mut self.lead else { return };
        for asked in std::mem::take(&mut lead.deferred).into_values() {
            self.asked_to_vote(asked, out);
        }
    }

    /// Says again what was not answered.
    pub fn tick(&mut self, now: BootTime) -> Out {
        let mut out = Out::default();
        for attempt in self.escrow.end_fences(now) {
            out.released.push(attempt); // Who waited for the read need not wait for this.
            self.unfence(&mut out);
        }
        let Some(lead) = &mut self.lead else { return out };
        let mut due = Vec::new();
        while let Some((at, attempt)) = lead.timers.first().copied()
            && at <= now
        {
            lead.disarm(attempt);
            due.push(attempt);
        }
        for attempt in due {
            if attempt.group == self.table.group() {
                self.say_again(now, attempt, &mut out);
            } else {
                self.ask_all(now, attempt, &mut out);
            }
        }
        out
    }

    /// When the next tick is wanted.
    #[must_use]
    pub fn next_deadline(&self) -> Option<BootTime> {
        let timer = self.lead.as_ref()?.timers.first().map(|(at, _)| *at);
        [timer, self.escrow.next_fence_end()].into_iter().flatten().min()
    }

    /// Drops what is over: proposes watermarks, tells ours to those it concerns, and asks for that of
    /// others whose attempts are decided here and still kept. To be called now and then.
    pub fn clean(&mut self) -> Out {
        let mut out = Out::default();
        let Some(own) = self.own_watermark() else { return out };
        let group = self.table.group();
        let Some(lead) = &mut self.lead else { return out };
        lead.heard.insert(group, own.clone());
        for (coordinator, watermark) in &lead.heard {
            let before = lead.clearing.get(coordinator);
            let is_proposed = before.is_some_and(|before| before.raised_by(watermark).is_none());
            if !is_proposed && self.table.covered(watermark).next().is_some() {
                lead.clearing.insert(*coordinator, watermark.clone());
                out.entries.push(CrossEntry::Clear(watermark.clone()));
            }
        }
        for to in std::mem::take(&mut lead.owed) {
            let body = CrossBody::Clear { watermark: own.clone() };
            let cut = self.table.cut();
            out.messages.push(CrossMessage { from: group, to, cut, body });
        }
        for (attempt, watermark_missing) in self.lingering() {
            if watermark_missing {
                self.say(attempt.group, CrossBody::Ask { attempt }, &mut out);
            }
        }
        out
    }

    /// The first record of each other coordinator, if it is decided here, and whether no watermark
    /// above it was heard.
    fn lingering(&self) -> Vec<(Attempt, bool)> {
        let Some(lead) = &self.lead else { return Vec::new() };
        let mut found = Vec::new();
        let mut group = None;
        for (attempt, record) in self.table.records() {
            if group == Some(attempt.group) || attempt.group == self.table.group() {
                continue;
            }
            group = Some(attempt.group);
            let is_decided = !matches!(record.state, State::Prepared(_));
            let is_heard = lead.heard.get(&attempt.group).is_some_and(|it| it.covers(attempt));
            found.push((attempt, is_decided && !is_heard));
        }
        found
    }

    /// What the log says of an attempt, as others are told, with the cut that belongs to it.
    pub(super) fn vote_of(&self, attempt: Attempt) -> Option<(Vote, CutId)> {
        let record = self.table.get(attempt)?;
        let vote = match &record.state {
            State::Prepared(prepare) => Vote::Yes(prepare.reply()),
            State::Committed { reply, .. } => Vote::Committed(reply.clone()),
            State::Refused | State::Aborted => {
                let lead = self.lead.as_ref();
                let why = lead.and_then(|lead| lead.refusals.get(&attempt));
                Vote::No(why.cloned().unwrap_or(Refusal::Unknown))
            }
        };
        Some((vote, record.cut))
    }

    pub(super) fn say(&self, to: GroupId, body: CrossBody, out: &mut Out) {
        let (from, cut) = (self.table.group(), self.table.cut());
        out.messages.push(CrossMessage { from, to, cut, body });
    }

    /// The lowest attempt of this group that is not over; the next one if all are.
    pub(super) fn lowest_running(&self) -> Option<Attempt> {
        let lead = self.lead.as_ref()?;
        let group = self.table.group();
        let next = Attempt { group, ballot: lead.ballot, counter: lead.counter + 1 };
        Some(lead.running.keys().next().copied().unwrap_or(next))
    }

    /// What is over of this group's attempts: everything but what runs, up to the first attempt that
    /// is one exception too many.
    pub(super) fn own_watermark(&self) -> Option<Watermark> {
        let lead = self.lead.as_ref()?;
        let group = self.table.group();
        let next = Attempt { group, ballot: lead.ballot, counter: lead.counter + 1 };
        let mut running = lead.running.keys().copied();
        let except: Vec<Attempt> = running.by_ref().take(Watermark::EXCEPT_MAX).collect();
        Some(Watermark { upto: running.next().unwrap_or(next), except })
    }

    fn hear(&mut self, watermark: Watermark) {
        let Some(lead) = &mut self.lead else { return };
        let group = watermark.upto.group;
        let raised = match lead.heard.get(&group) {
            None => Some(watermark),
            Some(before) => before.raised_by(&watermark),
        };
        lead.heard.extend(raised.map(|watermark| (group, watermark)));
    }

    fn lock_prepared(&mut self, attempt: Attempt) {
        let Some(prepare) = self.table.prepared(attempt) else { return };
        let (exclusive, shared) = locked_keys(&prepare.write, &prepare.shared, self.keyspace);
        self.locks.take(attempt, prepare.age, exclusive, shared);
        if let Some(leg) = &prepare.leg {
            self.escrow.take(attempt, leg);
        }
    }

    /// Gives what an attempt holds back; who waited for it is evaluated again.
    fn release(&mut self, attempt: Attempt, out: &mut Out) {
        if !self.locks.release(attempt) {
            return;
        }
        out.released.push(attempt);
        if self.escrow.release(attempt) {
            self.unfence(out);
        }
        let Some(lead) = &mut self.lead else { return };
        let freed: Vec<Attempt> = lead
            .waiting
            .iter()
            .filter(|(_, (holder, _))| *holder == attempt)
            .map(|(waiter, _)| *waiter)
            .collect();
        for waiter in freed {
            out.evaluate.extend(lead.waiting.remove(&waiter).map(|(_, asked)| asked));
        }
    }

    /// A vote of this group is committed: counts for our own attempt, is told for another's.
    fn vote_stands(&mut self, now: BootTime, attempt: Attempt, out: &mut Out) {
        let Some(lead) = &mut self.lead else { return };
        lead.voting.remove(&attempt);
        let Some((vote, cut)) = self.vote_of(attempt) else { return };
        if attempt.group == self.table.group() {
            return self.count(now, self.table.group(), (attempt, cut), vote, out);
        }
        if let Some(lead) = &mut self.lead
            && !vote.is_no()
        {
            lead.asking.insert(attempt, Asking::default());
            lead.arm(attempt, now + ASK_AFTER);
        }
        self.say(attempt.group, CrossBody::Voted { attempt, vote, cut }, out);
    }
}
