//! One group of this node: feeds its core, carries its outputs out, answers its callers.
//!
//! Called by `shard.rs` only. The room before a write is the service edge, the room after it is
//! `quorate-paxos` and then the log thread; `apply` below is where a write comes back, chosen.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_log::{Frame, LogReader};
use quorate_paxos::{Input, MembershipAt, Options, ReadToken, Replica, Restored, Serving};
use quorate_store::{Keyspace, Overlay, Store, StoreError};
use quorate_txn::cross::CrossEntry;
use quorate_txn::{
    ApplyError, Context, Deletes, EntryPayload, Evaluation, Pending, Proposal, SessionTable, State,
    evaluate, expire_holds, expire_idle,
};
use quorate_types::planted::{Bug, planted};
use quorate_types::{
    Attempt, Ballot, BootTime, CheckMessage, CrossMessage, EntryId, GroupId, NodeId, ReplicaId,
    ReplicaKind, Reply, ReplyBody, Request, RequestBody, SliceId, Slot, TableId, Uid, limits,
};

use crate::arrivals::Arrivals;
use crate::checks::CheckDriver;
use crate::clock::Clock;
use crate::cross::{Asked, CrossDriver};
use crate::cuts::{CutDriver, CutRead};
use crate::disk_health::DiskHangs;
use crate::elsewhere::ElsewhereDriver;
use crate::event::{Answer, ReplyTo};
use crate::force::ForceDriver;
use crate::hashing::HashJob;
use crate::members::MembersDriver;
use crate::network::PeerMessage;
use crate::refill::{RefillDriver, Switch, Wanted};
use crate::refuse;
use crate::restore::RestoreError;
use crate::waiters::Waiters;

/// A session without requests for this much log time is closed.
const SESSION_IDLE: Duration = Duration::from_secs(600);

/// The rule that gives a row its slice.
pub type SliceRule = Arc<dyn Fn(TableId, Uid) -> SliceId + Send + Sync>;

/// The rule that gives a row its group; `None` if there is no such table.
pub type GroupRule = Arc<dyn Fn(TableId, Uid) -> Option<GroupId> + Send + Sync>;

/// What the driver of a group is told when it starts.
#[derive(Clone)]
pub struct GroupOptions {
    /// Options of the core.
    pub paxos: Options,
    /// Where the row of a user in a table lives.
    pub slice_of: SliceRule,
    /// The group that holds it.
    pub group_of: GroupRule,
    /// The group of the cluster that makes the cuts: the one with the lowest id.
    pub numbering: GroupId,
    /// How often the leader has the replicas compare their rows; zero: only when it is asked to.
    pub check_every: Duration,
}

impl std::fmt::Debug for GroupOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupOptions").field("paxos", &self.paxos).finish_non_exhaustive()
    }
}

/// With so many bytes of rows that the engine does not have yet a leader takes no writes; tests have less. What is chosen
/// is applied whatever they are: followers are bounded only as far as their engines keep up with the leader's.
const UNWRITTEN_BYTES_MAX: u64 =
    if cfg!(test) { 1024 * 1024 } else { limits::NODE_UNWRITTEN_BYTES_MAX };

/// Why a group cannot go on. The node stops.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fatal {
    /// A chosen entry cannot be applied.
    #[error("{group}: {source}")]
    Apply {
        group: GroupId,
        #[source]
        source: ApplyError,
    },
    /// Rows cannot be read.
    #[error("{group}: {source}")]
    Store {
        group: GroupId,
        #[source]
        source: StoreError,
    },
    /// The log cannot be read back.
    #[error(transparent)]
    Log(#[from] RestoreError),
    /// The disk of the log does not answer.
    #[error("the node cannot write")]
    Disk(#[from] DiskHangs),
}

/// What a step of a group asks the shard to do.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) messages: BTreeMap<NodeId, Vec<PeerMessage>>,
    /// For the leaders of other groups.
    pub(crate) cross: Vec<CrossMessage>,
    /// Pages to be read off the shard task.
    pub(crate) cut_reads: Vec<CutRead>,
    pub(crate) promises: Vec<(GroupId, Ballot)>,
    /// Replicas whose suspect logs are whole again.
    pub(crate) whole_logs: Vec<(GroupId, ReplicaId)>,
    /// Who takes part, as it is chosen: durable before the frames below.
    pub(crate) memberships: Vec<(GroupId, MembershipAt)>,
    /// Nodes that are told who takes part in a group.
    pub(crate) told: Vec<(NodeId, GroupId, MembershipAt)>,
    /// Groups that have no replica here any more, and what it left by: behind everything else that it did.
    pub(crate) leaves: Vec<(GroupId, MembershipAt)>,
    /// Who takes part, as an arbiter keeps it: durable, then said so.
    pub(crate) kept: Vec<(GroupId, MembershipAt)>,
    /// Rows to be hashed off the shard task.
    pub(crate) hashes: Vec<HashJob>,
    /// About checks, for other replicas of the same group.
    pub(crate) checks: Vec<(NodeId, CheckMessage)>,
    /// Groups whose rows are given to nobody any more.
    pub(crate) withdrawn: Vec<GroupId>,
    /// Rows to fetch.
    pub(crate) refills: Vec<Wanted>,
    /// Rows to switch to or to give up, off the shard task.
    pub(crate) switches: Vec<Switch>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) writes: Vec<(GroupId, u64)>,
    /// When the disk of the log was last seen to work.
    pub(crate) disk_ok_at: BootTime,
    /// Groups that something happened to, in any order and more than once.
    pub(crate) touched: Vec<GroupId>,
}

/// An answer that waits for the verdict of the core: leadership must have held after it was computed.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) answer: Answer,
    pub(crate) reply: ReplyTo,
}

pub(crate) struct GroupDriver {
    pub(crate) options: GroupOptions,
    pub(crate) group: GroupId,
    /// Where its rows live: as the store says, which changes when rows are installed.
    pub(crate) keyspace: Keyspace,
    pub(crate) core: Replica,
    /// When the shard looks at the group again, at the latest.
    pub(crate) alarm: BootTime,
    /// What the core knows of the disk.
    pub(crate) disk_told: BootTime,
    pub(crate) store: Arc<Store>,
    pub(crate) reader: LogReader,
    pub(crate) sessions: SessionTable,
    /// Where rows were last deleted.
    pub(crate) deletes: Deletes,
    /// Effects of entries proposed but not applied. Belongs to one ballot.
    pub(crate) overlay: Overlay,
    /// What those entries will do to the sessions. Belongs to the same ballot.
    pub(crate) pending: Pending,
    /// Transactions over several groups.
    pub(crate) cross: CrossDriver,
    /// Reads that wait until this replica may answer them.
    pub(crate) elsewhere: ElsewhereDriver,
    /// Requests that wait until this replica serves.
    pub(crate) arrivals: Arrivals,
    /// Views at cuts.
    pub(crate) cuts: CutDriver,
    /// Comparing rows with the other replicas.
    pub(crate) checks: CheckDriver,
    /// Rows on their way from another node.
    pub(crate) refill: RefillDriver,
    /// Changes of who takes part.
    pub(crate) members: MembersDriver,
    /// Histories that begin by force.
    pub(crate) force: ForceDriver,
    pub(crate) waiters: Waiters,
    /// Payloads evaluated in this round, to be proposed at its end.
    pub(crate) proposals: Vec<Bytes>,
    /// The id of the first of them.
    pub(crate) proposals_at: EntryId,
    /// Refusals computed on entries that are not applied yet, by the last such slot.
    pub(crate) refusals: BTreeMap<Slot, Vec<Held>>,
    pub(crate) held: BTreeMap<ReadToken, Held>,
    pub(crate) next_token: u64,
    /// Released to the log thread through here.
    pub(crate) released: Slot,
    pub(crate) applied_entries: u64,
    pub(crate) leaderships: u64,
}

impl GroupDriver {
    pub(crate) fn new(
        now: BootTime,
        options: GroupOptions,
        restored: Restored,
        store: Arc<Store>,
        reader: LogReader,
    ) -> Result<GroupDriver, StoreError> {
        let group = options.paxos.group;
        let keyspace = store.keyspace(group);
        let sessions = SessionTable::load(store.as_ref(), keyspace)?;
        let cross = CrossDriver::load(store.as_ref(), keyspace)?;
        let core = Replica::new(now, options.paxos.clone(), restored);
        let is_quarantined = store.is_quarantined(group);
        let checks = CheckDriver::new(now, options.check_every, group.0, is_quarantined);
        Ok(GroupDriver {
            alarm: core.next_deadline(),
            disk_told: BootTime::ZERO,
            core,
            options,
            group,
            keyspace,
            deletes: Deletes::after(store.applied(group)),
            store,
            reader,
            sessions,
            overlay: Overlay::new(),
            pending: Pending::new(),
            cross,
            elsewhere: ElsewhereDriver::default(),
            arrivals: Arrivals::default(),
            cuts: CutDriver::default(),
            checks,
            refill: RefillDriver::default(),
            members: MembersDriver::default(),
            force: ForceDriver::default(),
            waiters: Waiters::default(),
            proposals: Vec::new(),
            proposals_at: EntryId::ZERO,
            refusals: BTreeMap::new(),
            held: BTreeMap::new(),
            next_token: 0,
            released: Slot::ZERO,
            applied_entries: 0,
            leaderships: 0,
        })
    }

    /// Evaluates a request and does what comes of it. Proposals wait for the end of the round.
    ///
    /// The clock is read again once the view of a read is taken: a lease that was checked before the
    /// view would say nothing about what a pause in between let others write.
    pub(crate) fn request(
        &mut self,
        clock: &dyn Clock,
        asked: Asked,
        has_room: bool,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        if let Some(error) = self.refuses_outlived() {
            asked.reply.answer(Err(error));
            return Ok(());
        }
        if self.has_view_for(&asked.request.body) {
            return self.at_cut(clock.now(), asked, fx);
        }
        let serving = match self.core.serving(clock.now()) {
            Ok(serving) => serving,
            Err(reason) => {
                self.wait_or_refuse(clock.now(), asked, reason);
                return Ok(());
            }
        };
        let body = &asked.request.body;
        let is_write = !body.is_read();
        let uncommitted = self.core.uncommitted_bytes();
        if is_write && limits::GROUP_UNCOMMITTED_BYTES_MAX as u64 <= uncommitted {
            let limit = limits::GROUP_UNCOMMITTED_BYTES_MAX;
            asked.reply.answer(Err(refuse::overloaded(self.group, uncommitted, limit)));
            return Ok(());
        }
        let unwritten = self.store.unwritten_bytes();
        if is_write && UNWRITTEN_BYTES_MAX <= unwritten {
            let error = refuse::rows_unwritten(self.group, unwritten, UNWRITTEN_BYTES_MAX);
            asked.reply.answer(Err(error));
            return Ok(());
        }
        if is_write && !has_room {
            asked.reply.answer(Err(refuse::disk_full(self.group)));
            return Ok(());
        }
        if matches!(body, RequestBody::NewCut)
            && let Some(error) = self.refuses_new_cut()
        {
            asked.reply.answer(Err(error));
            return Ok(());
        }
        if self.spans_groups(body) {
            return self.request_cross(clock, &serving, asked, fx);
        }
        if let RequestBody::Transfers(batch) = body {
            match self.credit_group(batch) {
                Ok(None) => {}
                Ok(Some(to)) => return self.request_transfers(clock, to, asked, fx),
                Err(error) => {
                    asked.reply.answer(Err(error));
                    return Ok(());
                }
            }
        }
        let evaluation = self.evaluate(&asked.request)?;
        self.answer(clock, &serving, asked, evaluation, fx)
    }

    /// Does what comes of a request.
    pub(crate) fn answer(
        &mut self,
        clock: &dyn Clock,
        serving: &Serving,
        asked: Asked,
        evaluation: Evaluation,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let Asked { request, reply, parked_at } = asked;
        match evaluation {
            Evaluation::Propose(proposal) => {
                self.begin_round(serving);
                let entry = self.stage(&proposal);
                self.waiters.add(entry, reply, can_ask_again(&request));
            }
            Evaluation::Join(slot) => {
                // In flight under this ballot: entries of older ones are applied before we serve.
                let entry = EntryId { ballot: serving.ballot, slot };
                self.waiters.add(entry, reply, can_ask_again(&request));
            }
            Evaluation::Replay(answer) => reply.answer(Ok(answer)),
            Evaluation::Refuse(error) => {
                self.answer_later(clock.now(), Held { answer: Err(error), reply }, fx)?;
            }
            Evaluation::Answer { body, replayed } => {
                let at = self.seen_at();
                let answer = Ok(Reply { at, replayed, body });
                self.answer_later(clock.now(), Held { answer, reply }, fx)?;
            }
            Evaluation::Read(body) => {
                let answer = Ok(self.read_reply(body));
                self.hold(clock.now(), Held { answer, reply }, fx)?;
            }
            Evaluation::Wait(holder) => {
                self.park(clock.now(), holder, Asked { request, reply, parked_at });
            }
            Evaluation::WaitForTurn { attempt, account } => {
                let asked = Asked { request, reply, parked_at };
                self.wait_for_turn(clock.now(), attempt, account, asked);
            }
            Evaluation::Attempt => self.join_attempt(clock, Asked { request, reply, parked_at }),
            Evaluation::AtCut => {
                self.at_cut(clock.now(), Asked { request, reply, parked_at }, fx)?;
            }
        }
        Ok(())
    }

    pub(crate) fn evaluate(&self, request: &Request) -> Result<Evaluation, Fatal> {
        self.on_overlay(|context, state| evaluate(request, context, state))
    }

    /// Evaluates something on what is applied and in flight.
    pub(crate) fn on_overlay<T>(
        &self,
        evaluate: impl FnOnce(&Context<'_>, &State<'_>) -> Result<T, StoreError>,
    ) -> Result<T, Fatal> {
        let slice_of = |table, uid| (self.options.slice_of)(table, uid);
        let context = Context { keyspace: self.keyspace, slice_of: &slice_of };
        let overlay = self.overlay.over(self.store.as_ref());
        let state = State {
            applied: self.store.as_ref(),
            overlay: &overlay,
            sessions: &self.sessions,
            pending: &self.pending,
            cross: &self.cross.rules,
            deletes: &self.deletes,
        };
        evaluate(&context, &state).map_err(|source| Fatal::Store { group: self.group, source })
    }

    /// Fixes where the proposals of this round will stand, once.
    pub(crate) fn begin_round(&mut self, serving: &Serving) {
        if self.proposals.is_empty() {
            self.proposals_at = EntryId { ballot: serving.ballot, slot: serving.next_slot };
        }
    }

    /// Gives a proposal the slot it will have, so that the next evaluation sees its effects.
    pub(crate) fn stage(&mut self, proposal: &Proposal) -> EntryId {
        let slot = self.next_slot();
        self.overlay.push(slot, proposal.changes(slot));
        self.pending.propose(slot, proposal);
        self.proposals.push(proposal.payload().clone());
        EntryId { slot, ..self.proposals_at }
    }

    /// The same for an entry of a cross-unit transaction. What it does to rows nobody may see before it is
    /// applied: they are locked. What it does to accounts everybody sees who decides after it; then the
    /// attempt comes back.
    pub(crate) fn stage_cross_entry(
        &mut self,
        entry: CrossEntry,
    ) -> Result<Option<Attempt>, Fatal> {
        let (slot, group) = (self.next_slot(), self.group);
        let at = EntryId { slot, ..self.proposals_at };
        let overlay = self.overlay.over(self.store.as_ref());
        let staged = self.cross.rules.stage(&entry, at, &overlay);
        let staged = staged.map_err(|source| Fatal::Apply { group, source })?;
        let is_on_overlay = !staged.is_empty();
        self.overlay.push(slot, staged);
        let attempt = entry.decides().filter(|_| is_on_overlay);
        if let Some(id) = self.cross.rules.acknowledges(&entry) {
            self.pending.acknowledge(slot, &id);
        }
        let payload = EntryPayload::Cross(entry).encode();
        assert!(payload.len() <= limits::ENTRY_BYTES_MAX, "{}: an entry is too large", self.group);
        self.proposals.push(payload);
        Ok(attempt)
    }

    fn next_slot(&self) -> Slot {
        self.proposals_at.slot.plus(self.proposals.len() as u64)
    }

    /// A refusal is a read of everything it could have seen, and so is an answer without an entry: it
    /// waits until that is applied, and then for the verdict of the core.
    pub(crate) fn answer_later(
        &mut self,
        now: BootTime,
        held: Held,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        if planted(Bug::RefusalUnconfirmed) {
            held.reply.answer(held.answer);
            return Ok(());
        }
        match self.overlay.last_slot() {
            Some(slot) => {
                self.refusals.entry(slot).or_default().push(held);
                Ok(())
            }
            None => self.hold(now, held, fx),
        }
    }

    pub(crate) fn hold(
        &mut self,
        now: BootTime,
        held: Held,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        if planted(Bug::ReadUnconfirmed) && held.answer.is_ok() {
            held.reply.answer(held.answer);
            return Ok(());
        }
        self.next_token += 1;
        let token = ReadToken(self.next_token);
        self.held.insert(token, held);
        self.step(now, Input::Read(token), fx)
    }

    pub(crate) fn read_reply(&self, body: ReplyBody) -> Reply {
        Reply { at: self.applied_at(), replayed: false, body }
    }

    /// The last entry that an evaluation on the overlay may have seen.
    pub(crate) fn seen_at(&self) -> EntryId {
        match self.overlay.last_slot() {
            // What is in flight is of the ballot that the core leads under.
            Some(slot) => EntryId { ballot: self.core.promised(), slot },
            None => self.applied_at(),
        }
    }

    pub(crate) fn applied_at(&self) -> EntryId {
        let slot = self.core.slot_applied();
        self.core.log().id_at(slot).unwrap_or(EntryId { slot, ..EntryId::ZERO })
    }

    /// Proposes what was evaluated in this round.
    pub(crate) fn propose(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        self.stage_cross(now)?;
        if self.proposals.is_empty() {
            return Ok(());
        }
        let payloads = std::mem::take(&mut self.proposals);
        self.step(now, Input::Propose(payloads), fx)
    }

    /// Steps the core and carries its output out, and that of the log reads it asks for.
    pub(crate) fn step(
        &mut self,
        now: BootTime,
        input: Input,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let mut inputs = VecDeque::new();
        let mut next = Some(input);
        if self.disk_told < fx.disk_ok_at {
            // Before anything else: every step fires timers, and a leader that has not heard of its
            // disk for long renews no lease.
            self.disk_told = fx.disk_ok_at;
            inputs.extend(next.replace(Input::DiskProgress(fx.disk_ok_at)));
        }
        while let Some(input) = next {
            let out = self.core.step(now, input);
            if cfg!(any(madsim, debug_assertions)) {
                self.core.check_invariants();
                self.core.check_output(&out);
            }
            self.carry_out(now, out, &mut inputs, fx)?;
            next = inputs.pop_front();
        }
        Ok(())
    }

    /// Proposes the end of sessions that nobody uses, and of reservations whose time is over.
    pub(crate) fn expire(&mut self, now: BootTime) -> Result<(), Fatal> {
        let Ok(serving) = self.core.serving(now) else {
            return Ok(());
        };
        let waiting = self.cross.sessions_waiting();
        let is_in_use = |session| self.cross.is_in_use(session) || waiting.contains(&session);
        let (pending, log_time) = (&self.pending, serving.log_time);
        let idle = expire_idle(&self.sessions, pending, &is_in_use, log_time, SESSION_IDLE);
        let overlay = self.overlay.over(self.store.as_ref());
        let escrow = self.cross.rules.escrow();
        let over = expire_holds(&self.sessions, escrow, &overlay, serving.log_time)
            .map_err(|source| Fatal::Store { group: self.group, source })?;
        for proposal in [idle, over].into_iter().flatten() {
            self.begin_round(&serving);
            self.stage(&proposal);
        }
        Ok(())
    }

    /// What this replica holds.
    pub(crate) fn kind(&self) -> ReplicaKind {
        self.options.paxos.kind
    }

    /// How far the log may be released now, if that is further than before.
    pub(crate) fn release_upto(&mut self) -> Result<Option<Slot>, Fatal> {
        let trimmable = self.core.slot_trimmable();
        if trimmable <= self.released {
            return Ok(None);
        }
        if !self.kind().keeps_rows() {
            // No rows here need it: the core knows who else does.
            self.released = trimmable;
            return Ok(Some(trimmable));
        }
        let persisted = self.store.persisted(self.group);
        let persisted = persisted.map_err(|source| Fatal::Store { group: self.group, source })?;
        // The batch that the rows on disk end with stays: whoever starts from them can give them away.
        let below = Slot(persisted.0.saturating_sub(1));
        let upto = if planted(Bug::RecycleEarly) { trimmable } else { trimmable.min(below) };
        if upto <= self.released {
            return Ok(None);
        }
        self.released = upto;
        Ok(Some(upto))
    }

    /// Tells the core where the log on disk begins now.
    pub(crate) fn trimmed(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        match self.reader.first_slot(self.group) {
            Some(first) => self.step(now, Input::Trimmed(first.prev()), fx),
            None => Ok(()),
        }
    }

    pub(crate) fn next_deadline(&self) -> BootTime {
        let core = self.core.next_deadline();
        let others = [
            self.cross.next_deadline(),
            self.elsewhere.next_deadline(),
            self.arrivals.next_deadline(),
        ];
        others.into_iter().flatten().fold(core, BootTime::min)
    }
}

/// Whether a write that was not answered may be sent once more.
fn can_ask_again(request: &Request) -> bool {
    request.id.is_some() || request.body.is_repeatable()
}

#[cfg(test)]
#[path = "group_test.rs"]
mod tests;
