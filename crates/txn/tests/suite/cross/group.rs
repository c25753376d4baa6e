//! A group: a log that only grows, replicas that apply it, and whoever leads or believes so.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_store::{Keyspace, Overlay};
use quorate_txn::cross::{
    Cross, CrossEvent, CutEnd, CutView, Out, RequestKey, Settled, Verdict as Part, credit_group,
    evaluate_part, split,
};
use quorate_txn::money::{Debits, evaluate_debits};
use quorate_txn::{
    Context, Deletes, EntryPayload, Evaluation, Pending, Proposal, SessionTable, State, apply,
    evaluate,
};
use quorate_types::{
    Age, Attempt, Ballot, BootTime, CrossMessage, CutId, EntryId, Error, GroupId, LogTime,
    ReplicaId, Reply, ReplyBody, Request, RequestBody, SliceId, Slot, TableId, TransferBatch, Uid,
    Verdict,
};

use crate::common::Records;

pub(super) const GROUPS: u64 = 4;

pub(super) fn group_of(_: TableId, uid: Uid) -> Option<GroupId> {
    Some(GroupId(u32::try_from(uid.0 % GROUPS).expect("small") + 1))
}

pub(super) fn slice_of(_: TableId, uid: Uid) -> SliceId {
    SliceId(u16::try_from(uid.0 % 100).expect("below 100"))
}

/// What a caller is told. `None`: the leader is gone, ask again.
pub(super) type Told = Option<Result<Reply, Error>>;

/// A caller: its number, and its request for asking again.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) number: usize,
    pub(super) request: Request,
}

/// One replica and, while it leads or believes that it does, what belongs to its ballot.
pub(super) struct Replica {
    group: GroupId,
    pub(super) records: Records,
    pub(super) sessions: SessionTable,
    pub(super) cross: Cross,
    deletes: Deletes,
    applied: usize,
    ballot: Option<Ballot>,
    overlay: Overlay,
    pending: Pending,
    /// Proposed under the ballot and not chosen.
    pub(super) proposed: VecDeque<Bytes>,
    /// Who waits for the entry at a slot.
    slots: BTreeMap<Slot, Vec<usize>>,
    /// Who waits for a cross-unit transaction.
    requests: BTreeMap<RequestKey, (Request, Vec<usize>)>,
    /// Who waits for a lock.
    parked: BTreeMap<Attempt, Vec<Caller>>,
    /// Who waits for transfers with another group.
    transfers: BTreeMap<Attempt, (usize, TransferBatch)>,
    /// What was said of the first parts of batches.
    parts: BTreeMap<usize, Vec<Verdict>>,
    /// Answers that rest on the entry at a slot.
    answers: BTreeMap<Slot, Vec<(usize, ReplyBody)>>,
    /// Transactions that gave way and try again.
    pub(super) again: Vec<Request>,
    pub(super) told: Vec<(usize, Told)>,
    pub(super) sent: Vec<CrossMessage>,
    /// Views at the cuts that it passed while it led, with the records as they were there.
    pub(super) cuts: BTreeMap<CutId, (Records, CutView)>,
}

/// A group and its replicas.
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) log: Vec<Option<Bytes>>,
    ballots: Vec<Ballot>,
    pub(super) replicas: Vec<Replica>,
    pub(super) leader: usize,
    round: u64,
}

impl Replica {
    fn new(group: GroupId) -> Replica {
        let space = Keyspace::first(group);
        let records = Records::default();
        let cross = Cross::load(&records, space).expect("memory does not fail");
        Replica {
            group,
            records,
            sessions: SessionTable::new(space),
            cross,
            deletes: Deletes::after(Slot::ZERO),
            applied: 0,
            ballot: None,
            overlay: Overlay::new(),
            pending: Pending::new(),
            proposed: VecDeque::new(),
            slots: BTreeMap::new(),
            requests: BTreeMap::new(),
            parked: BTreeMap::new(),
            transfers: BTreeMap::new(),
            parts: BTreeMap::new(),
            answers: BTreeMap::new(),
            again: Vec::new(),
            told: Vec::new(),
            sent: Vec::new(),
            cuts: BTreeMap::new(),
        }
    }

    /// A checkpoint and a restart: what is in memory comes back from the records.
    fn restart(&mut self) {
        let space = Keyspace::first(self.group);
        let mut changes = self.sessions.take_changes();
        changes.extend(self.cross.table_mut().take_changes());
        self.records.change(&changes);
        let sessions = SessionTable::load(&self.records, space).expect("our own records load");
        assert_eq!(sessions, self.sessions);
        let cross = Cross::load(&self.records, space).expect("our own records load");
        let before: Vec<_> = self.cross.table().records().collect();
        let after: Vec<_> = cross.table().records().collect();
        assert_eq!(before, after, "loading gives the table that was kept");
        assert_eq!(self.cross.table().cut(), cross.table().cut());
        self.cross = cross;
        self.deletes = Deletes::after(Slot(self.applied as u64));
    }

    /// What every replica at this position must have, wherever its checkpoints were.
    pub(super) fn state(&self) -> Records {
        let mut records = self.records.clone();
        records.change(&self.sessions.clone().take_changes());
        records.change(&self.cross.table().clone().take_changes());
        records
    }

    pub(super) fn leads(&self) -> bool {
        self.ballot.is_some()
    }

    fn next_slot(&self) -> Slot {
        Slot((self.applied + self.proposed.len()) as u64 + 1)
    }

    /// A caller asks.
    pub(super) fn ask(&mut self, now: BootTime, caller: Caller) {
        let Caller { number, request } = caller;
        if !self.leads() {
            return self.told.push((number, None));
        }
        // As in the driver: a request for one group that waits to try again is not looked for.
        let spans = split(&request.body, &group_of).is_some_and(|cut| 1 < cut.parts.len());
        if let Some(id) = request.id.filter(|_| spans)
            && let Some((_, waiting)) = self.requests.get_mut(&(id.session, id.sequence))
        {
            return waiting.push(number);
        }
        match self.evaluate(now, &request) {
            Asked::Evaluated(Evaluation::Propose(proposal)) => {
                let slot = self.stage(&proposal);
                self.slots.entry(slot).or_default().push(number);
            }
            Asked::Evaluated(Evaluation::Join(slot)) => {
                self.slots.entry(slot).or_default().push(number);
            }
            Asked::Evaluated(Evaluation::Replay(reply)) => {
                self.told.push((number, Some(Ok(reply))));
            }
            Asked::Evaluated(Evaluation::Refuse(error)) => {
                // A refusal waits for what it saw; the simplest true answer here is to ask again.
                let told = if self.proposed.is_empty() { Some(Err(error)) } else { None };
                self.told.push((number, told));
            }
            Asked::Evaluated(Evaluation::Read(body)) => {
                let reply = Reply { at: EntryId::ZERO, replayed: false, body };
                self.told.push((number, Some(Ok(reply))));
            }
            Asked::Evaluated(Evaluation::Wait(holder)) => {
                self.parked.entry(holder).or_default().push(Caller { number, request });
            }
            Asked::Evaluated(Evaluation::Attempt) => {
                let id = request.id.expect("only requests with an id have attempts");
                let waiting = self.requests.entry((id.session, id.sequence));
                waiting.or_insert((request, Vec::new())).1.push(number);
            }
            Asked::Evaluated(Evaluation::Answer { body, .. }) => {
                // It rests on what is in flight.
                match self.overlay.last_slot() {
                    Some(slot) => self.answers.entry(slot).or_default().push((number, body)),
                    None => self.tell(number, body),
                }
            }
            Asked::Evaluated(Evaluation::WaitForTurn { attempt, account }) => {
                self.cross.fence(now, account);
                self.parked.entry(attempt).or_default().push(Caller { number, request });
            }
            Asked::Transferring(attempt, rest, out) => {
                self.transfers.insert(attempt, (number, rest));
                self.carry_out(now, out);
            }
            Asked::Evaluated(Evaluation::AtCut) => panic!("the world looks at views itself"),
            Asked::Begun(out) => {
                let id = request.id.expect("a cross-unit transaction has an id");
                self.requests.insert((id.session, id.sequence), (request, vec![number]));
                self.carry_out(now, out);
            }
        }
    }

    fn tell(&mut self, number: usize, body: ReplyBody) {
        let reply = Reply { at: EntryId::ZERO, replayed: false, body };
        match reply.body {
            ReplyBody::Transfers(_) => self.tell_transfers(number, Ok(reply)),
            _ => self.told.push((number, Some(Ok(reply)))),
        }
    }

    /// Evaluates a request; begins an attempt if it is for several groups.
    fn evaluate(&mut self, now: BootTime, request: &Request) -> Asked {
        let records = &self.records;
        let context = Context { keyspace: Keyspace::first(self.group), slice_of: &slice_of };
        let overlay = self.overlay.over(records);
        let state = State {
            applied: records,
            overlay: &overlay,
            sessions: &self.sessions,
            pending: &self.pending,
            cross: &self.cross,
            deletes: &self.deletes,
        };
        let group_of_user = |uid| group_of(TableId::ACCOUNTS, uid);
        if let RequestBody::Transfers(batch) = &request.body
            && let Some(to) =
                credit_group(batch, self.group, &group_of_user).expect("between two groups")
        {
            return match evaluate_debits(batch, &context, &state).expect("memory") {
                Debits::Wait(attempt) => Asked::Evaluated(Evaluation::Wait(attempt)),
                Debits::Nothing(body) => {
                    Asked::Evaluated(Evaluation::Answer { body, replayed: false })
                }
                Debits::Able { leg, rest } => match self.cross.begin_transfers(now, 0, to, leg) {
                    Ok((attempt, out)) => Asked::Transferring(attempt, rest, out),
                    Err(error) => Asked::Evaluated(Evaluation::Refuse(error)),
                },
            };
        }
        let cut = split(&request.body, &group_of).filter(|cut| 1 < cut.parts.len());
        let Some(cut) = cut else {
            return Asked::Evaluated(evaluate(request, &context, &state).expect("memory"));
        };
        let id = request.id.expect("a cross-unit transaction has an id");
        if let Some(known) =
            quorate_txn::evaluate::recognise(&id, &context, &state).expect("memory")
        {
            return Asked::Evaluated(known);
        }
        let own = cut.parts.get(&self.group).cloned().unwrap_or_default();
        let age = Age { first_ms: id.sequence, session: id.session, sequence: id.sequence };
        let groups = cut.parts.len();
        let held = (self.cross.locks(), self.cross.escrow());
        match evaluate_part(&own, (age, groups), &context, &overlay, held).expect("memory") {
            Part::Locked(locked) => Asked::Evaluated(Evaluation::Wait(locked.ahead[0])),
            Part::No(error) => {
                let error = cut.renumber(self.group, error);
                Asked::Evaluated(Evaluation::Refuse(error))
            }
            Part::Yes(yes) => {
                let begun = self.cross.begin(now, &id, id.sequence, cut, yes);
                Asked::Begun(begun.expect("few run at once"))
            }
        }
    }

    fn stage(&mut self, proposal: &Proposal) -> Slot {
        let slot = self.next_slot();
        self.overlay.push(slot, proposal.changes(slot));
        self.pending.propose(slot, proposal);
        self.proposed.push_back(proposal.payload().clone());
        slot
    }

    pub(super) fn carry_out(&mut self, now: BootTime, out: Out) {
        let mut outs = VecDeque::from([out]);
        let mut woken: Vec<Attempt> = Vec::new();
        while let Some(out) = outs.pop_front() {
            for entry in out.entries {
                let slot = self.next_slot();
                let at = EntryId { ballot: self.ballot.expect("it leads"), slot };
                let overlay = self.overlay.over(&self.records);
                let staged = self.cross.stage(&entry, at, &overlay).expect("what was voted for");
                self.overlay.push(slot, staged);
                woken.extend(entry.decides());
                if let Some(id) = self.cross.acknowledges(&entry) {
                    self.pending.acknowledge(slot, &id);
                }
                self.proposed.push_back(EntryPayload::Cross(entry).encode());
            }
            self.sent.extend(out.messages);
            for asked in out.evaluate {
                let records = &self.records;
                let context =
                    Context { keyspace: Keyspace::first(self.group), slice_of: &slice_of };
                let overlay = self.overlay.over(records);
                let verdict = {
                    let transaction = (asked.age, asked.participants.len());
                    let held = (self.cross.locks(), self.cross.escrow());
                    evaluate_part(&asked.part, transaction, &context, &overlay, held)
                };
                outs.push_back(self.cross.voted(asked, verdict.expect("memory")));
            }
            for (key, settled) in out.settled {
                self.settle(key, settled);
            }
            for (attempt, told) in out.transferred {
                let Some((number, rest)) = self.transfers.remove(&attempt) else { continue };
                match told {
                    Ok(reply) if !rest.is_empty() => self.go_on(now, number, reply, rest),
                    told => self.tell_transfers(number, told),
                }
            }
            woken.extend(out.released);
        }
        for attempt in woken {
            for caller in self.parked.remove(&attempt).unwrap_or_default() {
                self.ask(now, caller);
            }
        }
    }

    /// As in the driver: the rest of a batch, once what it rests on is decided.
    fn go_on(&mut self, now: BootTime, number: usize, reply: Reply, rest: TransferBatch) {
        let ReplyBody::Transfers(results) = reply.body else { panic!("of transfers") };
        self.parts.entry(number).or_default().extend(results.verdicts);
        let request = Request { id: None, body: RequestBody::Transfers(rest) };
        self.ask(now, Caller { number, request });
    }

    /// The answer to transfers, after the parts that were answered before.
    fn tell_transfers(&mut self, number: usize, told: Result<Reply, Error>) {
        let before = self.parts.remove(&number).unwrap_or_default();
        let told = match told {
            Ok(Reply { body: ReplyBody::Transfers(mut results), at, replayed }) => {
                results.verdicts.splice(0..0, before);
                Some(Ok(Reply { at, replayed, body: ReplyBody::Transfers(results) }))
            }
            Err(_) if !before.is_empty() => None, // Some of it took effect.
            told => Some(told),
        };
        self.told.push((number, told));
    }

    fn settle(&mut self, key: RequestKey, settled: Settled) {
        let Some((request, waiting)) = self.requests.remove(&key) else { return };
        let told = match settled {
            Settled::Committed(reply) => Ok(reply),
            Settled::Refused(error) => Err(error),
            Settled::Again => {
                self.again.push(request.clone());
                self.requests.insert(key, (request, waiting));
                return;
            }
        };
        self.told.extend(waiting.into_iter().map(|number| (number, Some(told.clone()))));
    }

    /// A transaction that gave way tries again.
    pub(super) fn try_again(&mut self, now: BootTime, request: Request) {
        let id = request.id.expect("it has one");
        let Some((_, waiting)) = self.requests.remove(&(id.session, id.sequence)) else { return };
        for number in waiting {
            self.ask(now, Caller { number, request: request.clone() });
        }
    }

    /// Applies what is chosen and not applied.
    fn apply(&mut self, now: BootTime, log: &[Option<Bytes>], ballots: &[Ballot]) {
        while self.applied < log.len() {
            let slot = Slot(self.applied as u64 + 1);
            let at = EntryId { ballot: ballots[self.applied], slot };
            self.applied += 1;
            let Some(payload) = &log[self.applied - 1] else { continue };
            let passed = self.cross.table().cut();
            let applied = apply(
                payload,
                at,
                LogTime(slot.0),
                &mut self.sessions,
                self.cross.table_mut(),
                &self.records,
            )
            .expect("what is chosen applies");
            self.records.change(&applied.changes);
            self.deletes.note(slot, &applied.changes);
            if self.leads() {
                self.proposed.pop_front();
            }
            self.overlay.settle(slot);
            self.pending.settle(slot);
            for number in self.slots.remove(&slot).unwrap_or_default() {
                self.told.push((number, Some(applied.reply.clone())));
            }
            for (number, body) in self.answers.remove(&slot).unwrap_or_default() {
                self.tell(number, body);
            }
            if let Some(event) = applied.cross {
                self.note_cut(passed, at, &event);
                let out = self.cross.applied(now, &event);
                self.carry_out(now, out);
            }
        }
    }

    /// A leader keeps a view at every cut that its log passes, and the views learn what comes after.
    fn note_cut(&mut self, passed: CutId, at: EntryId, event: &CrossEvent) {
        let space = Keyspace::first(self.group);
        for (records, view) in self.cuts.values_mut() {
            view.learn(event, (at, LogTime(at.slot.0)), records, space).expect("memory");
        }
        if let CrossEvent::Cut(cut) = event
            && passed < *cut
            && self.leads()
        {
            let end = CutEnd { upto: at.slot, log_time: LogTime(at.slot.0) };
            let view = CutView::new(*cut, self.cross.table(), end);
            self.cuts.insert(*cut, (self.records.clone(), view));
        }
    }

    /// The ballot is over, and it knows.
    pub(super) fn step_down(&mut self) {
        self.ballot = None;
        self.cuts.clear();
        self.cross.unlead();
        self.overlay.clear();
        self.pending.clear();
        self.proposed.clear();
        self.again.clear();
        let slots = std::mem::take(&mut self.slots).into_values().flatten();
        let requests = std::mem::take(&mut self.requests).into_values().flat_map(|(_, all)| all);
        let parked = std::mem::take(&mut self.parked).into_values().flatten();
        let all = slots.chain(requests).chain(parked.map(|caller| caller.number));
        self.parts.clear();
        let transfers = std::mem::take(&mut self.transfers).into_values().map(|(number, _)| number);
        let answers = std::mem::take(&mut self.answers).into_values().flatten();
        let all = all.chain(transfers).chain(answers.map(|(number, _)| number));
        self.told.extend(all.map(|number| (number, None)));
    }
}

enum Asked {
    Evaluated(Evaluation),
    Begun(Out),
    Transferring(Attempt, TransferBatch, Out),
}

impl Group {
    pub(super) fn new(number: u32) -> Group {
        let id = GroupId(number);
        let replicas = (0..3).map(|_| Replica::new(id)).collect();
        let mut group =
            Group { id, log: Vec::new(), ballots: Vec::new(), replicas, leader: 0, round: 0 };
        group.elect(BootTime::ZERO, 0, 0, false);
        group
    }

    pub(super) fn leader(&mut self) -> &mut Replica {
        &mut self.replicas[self.leader]
    }

    fn ballot(&self) -> Ballot {
        Ballot { round: self.round, replica: ReplicaId(1) }
    }

    /// Some entries of the leader are chosen, and it applies them. Nobody else does yet.
    pub(super) fn choose(&mut self, now: BootTime, count: usize) {
        let count = count.min(self.leader().proposed.len());
        let ballot = self.ballot();
        let chosen: Vec<Bytes> = self.leader().proposed.iter().take(count).cloned().collect();
        self.log.extend(chosen.into_iter().map(Some));
        self.ballots.resize(self.log.len(), ballot);
        let leader = self.leader;
        self.replicas[leader].apply(now, &self.log, &self.ballots);
    }

    /// Another replica leads. It adopted `adopted` of the old leader's entries that were not chosen.
    /// The old leader may not have heard of it.
    pub(super) fn elect(&mut self, now: BootTime, next: usize, adopted: usize, is_unaware: bool) {
        let ballot = self.ballot();
        let tail: Vec<Bytes> = self.leader().proposed.iter().take(adopted).cloned().collect();
        if !is_unaware || next == self.leader {
            self.leader().step_down();
        }
        self.log.extend(tail.into_iter().map(Some));
        self.ballots.resize(self.log.len(), ballot);
        self.round += 1;
        self.log.push(None); // StartWork
        self.ballots.push(self.ballot());
        self.leader = next;
        if self.replicas[next].leads() {
            self.replicas[next].step_down();
        }
        let ballot = self.ballot();
        let leader = &mut self.replicas[next];
        leader.apply(now, &self.log, &self.ballots);
        leader.ballot = Some(ballot);
        leader.cross.lead(now, ballot);
    }

    /// A replica that does not lead catches up and may start again from its checkpoint. One that
    /// believes to lead learns better.
    pub(super) fn catch_up(&mut self, now: BootTime, index: usize, is_restart: bool) {
        if index == self.leader {
            return;
        }
        let replica = &mut self.replicas[index];
        if replica.leads() {
            replica.step_down();
        }
        replica.apply(now, &self.log, &self.ballots);
        if is_restart {
            replica.restart();
        }
    }
}
