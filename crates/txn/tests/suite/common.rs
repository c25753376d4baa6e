//! A replica in memory, and a leader on top of it, as the driver of a group would run them.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_store::{Change, Key, Keyspace, Overlay, StoreError, View};
use quorate_txn::cross::{Cross, CrossTable};
use quorate_txn::{
    Applied, Context, Deletes, Evaluation, Pending, Proposal, SessionTable, State, apply, evaluate,
};
use quorate_types::{
    Ballot, Code, Condition, EntryId, Error, GroupId, LogTime, Mutation, ReplicaId, Reply,
    ReplyBody, Request, RequestBody, RequestId, RowAddress, SessionId, SliceId, Slot, TableId, Uid,
    Value,
};

pub(crate) const GROUP: GroupId = GroupId(7);
pub(crate) const SPACE: Keyspace = Keyspace { group: GROUP, incarnation: 0 };
pub(crate) const BALLOT: Ballot = Ballot { round: 3, replica: ReplicaId(5) };
/// A table whose rows no UID owns.
pub(crate) const HOME: TableId = TableId(9);

/// The slice rule of the tests.
pub(crate) fn slice_of(table: TableId, uid: Uid) -> SliceId {
    match table {
        HOME => SliceId::UNSHARDED,
        _ => SliceId(u16::try_from(uid.0 % 100).expect("below 100")),
    }
}

pub(crate) fn context() -> Context<'static> {
    Context { keyspace: SPACE, slice_of: &slice_of }
}

/// Records in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Records(pub(crate) BTreeMap<Key, Bytes>);

impl Records {
    pub(crate) fn change(&mut self, changes: &[Change]) {
        for Change { key, value } in changes {
            match value {
                Some(value) => self.0.insert(key.clone(), value.clone()),
                None => self.0.remove(key),
            };
        }
    }
}

impl View for Records {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &Key, end: &Key, limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        assert!(from < end, "an empty range is not worth a seek");
        let pair = |(key, value): (&Key, &Bytes)| (key.clone(), value.clone());
        Ok(self.0.range(from..end).take(limit).map(pair).collect())
    }
}

/// An entry of the log.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: EntryId,
    pub(crate) log_time: LogTime,
    pub(crate) payload: Bytes,
}

/// What every replica has: records and the sessions among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) records: Records,
    pub(crate) sessions: SessionTable,
}

impl Replica {
    pub(crate) fn new() -> Replica {
        Replica { records: Records::default(), sessions: SessionTable::new(SPACE) }
    }

    pub(crate) fn apply(&mut self, entry: &Entry) -> Applied {
        let Entry { at, log_time, payload } = entry;
        let mut attempts = CrossTable::new(SPACE);
        let applied =
            apply(payload, *at, *log_time, &mut self.sessions, &mut attempts, &self.records);
        let applied = applied.expect("an entry of our log applies");
        self.records.change(&applied.changes);
        applied
    }

    /// A checkpoint: the records show the sessions as they are.
    pub(crate) fn checkpoint(&mut self) {
        let changes = self.sessions.take_changes();
        self.records.change(&changes);
        assert_eq!(self.sessions.unsaved_bytes(), 0);
    }

    /// What every replica at this position must have, wherever its checkpoints were.
    pub(crate) fn state(&self) -> Records {
        let mut whole = self.clone();
        whole.checkpoint();
        whole.records
    }

    /// The replica after a checkpoint and a restart: the sessions come from the records.
    pub(crate) fn reload(&mut self) {
        self.checkpoint();
        let loaded = SessionTable::load(&self.records, SPACE).expect("our own records load");
        assert_eq!(loaded, self.sessions, "loading gives the table that was kept");
        self.sessions = loaded;
    }
}

/// A replica that leads: evaluates, proposes, applies later.
pub(crate) struct Leader {
    pub(crate) replica: Replica,
    pub(crate) deletes: Deletes,
    pub(crate) overlay: Overlay,
    pub(crate) pending: Pending,
    /// Entries in flight and what evaluation said they will change in rows.
    pub(crate) in_flight: Vec<(Entry, Vec<Change>)>,
    pub(crate) next: Slot,
    pub(crate) now: LogTime,
}

impl Leader {
    pub(crate) fn new() -> Leader {
        Leader {
            replica: Replica::new(),
            deletes: Deletes::after(Slot::ZERO),
            overlay: Overlay::new(),
            pending: Pending::new(),
            in_flight: Vec::new(),
            next: Slot(1),
            now: LogTime(0),
        }
    }

    pub(crate) fn evaluate(&self, request: &Request) -> Evaluation {
        let records = &self.replica.records;
        let state = State {
            applied: records,
            overlay: &self.overlay.over(records),
            sessions: &self.replica.sessions,
            pending: &self.pending,
            cross: &Cross::load(&Records::default(), SPACE).expect("memory does not fail"),
            deletes: &self.deletes,
        };
        evaluate(request, &context(), &state).expect("memory does not fail")
    }

    pub(crate) fn append(&mut self, proposal: &Proposal) -> EntryId {
        let at = EntryId { ballot: BALLOT, slot: self.next };
        let changes = proposal.changes(at.slot);
        self.overlay.push(at.slot, changes.clone());
        self.pending.propose(at.slot, proposal);
        let payload = proposal.payload().clone();
        self.in_flight.push((Entry { at, log_time: self.now, payload }, changes));
        self.next = self.next.next();
        at
    }

    /// Evaluates, and appends if there is something to append.
    pub(crate) fn submit(&mut self, request: &Request) -> Submitted {
        match self.evaluate(request) {
            Evaluation::Propose(proposal) => Submitted::Proposed(self.append(&proposal)),
            Evaluation::Refuse(error) => Submitted::Refused(error),
            Evaluation::Replay(reply) => Submitted::Replayed(reply),
            Evaluation::Join(slot) => Submitted::Joined(slot),
            Evaluation::Answer { body, replayed } => Submitted::Answered(body, replayed),
            Evaluation::Read(body) => Submitted::Read(body),
            Evaluation::Wait(attempt) => panic!("nothing is locked, but it waits for {attempt}"),
            Evaluation::WaitForTurn { attempt, .. } => {
                panic!("nothing is in escrow, but it waits for {attempt}")
            }
            Evaluation::Attempt => panic!("there are no transactions over several groups"),
            Evaluation::AtCut => panic!("nobody asks for a view"),
        }
    }

    /// Applies the oldest entry in flight.
    pub(crate) fn apply_next(&mut self) -> (Entry, Applied) {
        let (entry, changes) = self.in_flight.remove(0);
        let applied = self.replica.apply(&entry);
        self.deletes.note(entry.at.slot, &applied.changes);
        let keys = |changes: &[Change]| -> Vec<_> {
            changes.iter().map(|change| change.key.clone()).collect()
        };
        assert_eq!(keys(&applied.changes), keys(&changes), "{} changes what it said", entry.at);
        assert!(keys(&changes).is_sorted(), "{} changes in the order of keys", entry.at);
        // Records of money tell the log time of their entry, which its evaluation did not know.
        let is_same = |(one, other): (&Change, &Change)| {
            one == other || (!is_row(one) && entry.log_time != LogTime(0))
        };
        assert!(applied.changes.iter().zip(&changes).all(is_same), "{}: other values", entry.at);
        self.overlay.settle(entry.at.slot);
        self.pending.settle(entry.at.slot);
        (entry, applied)
    }

    pub(crate) fn apply_all(&mut self) -> Vec<Applied> {
        (0..self.in_flight.len()).map(|_| self.apply_next().1).collect()
    }

    /// Another leader won, and none of the entries in flight was chosen; then this one leads again.
    pub(crate) fn lose_ballot(&mut self) {
        self.in_flight.clear();
        self.overlay.clear();
        self.pending.clear();
    }

    /// Submits and applies.
    pub(crate) fn run(&mut self, request: &Request) -> Result<Reply, Error> {
        match self.submit(request) {
            Submitted::Proposed(_) => self.apply_all().pop().expect("it is in flight").reply,
            Submitted::Refused(error) => Err(error),
            Submitted::Replayed(reply) => Ok(reply),
            Submitted::Answered(body, replayed) => Ok(Reply { at: EntryId::ZERO, replayed, body }),
            Submitted::Read(body) => Ok(Reply { at: EntryId::ZERO, replayed: false, body }),
            Submitted::Joined(slot) => panic!("nothing is in flight, but it joined {slot}"),
        }
    }

    pub(crate) fn open(&mut self) -> SessionId {
        let request = Request { id: None, body: RequestBody::OpenSession };
        match self.run(&request).expect("there is room for a session").body {
            ReplyBody::Session(session) => session,
            other => panic!("opening a session gave {other:?}"),
        }
    }

    pub(crate) fn value(&self, at: &RowAddress) -> Option<Value> {
        let request = Request { id: None, body: RequestBody::Get(at.clone()) };
        match self.evaluate(&request) {
            Evaluation::Read(ReplyBody::Row(value)) => value,
            other => panic!("reading a row gave {other:?}"),
        }
    }
}

/// `Evaluation`, with the proposal in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Submitted {
    Proposed(EntryId),
    Refused(Error),
    Replayed(Reply),
    Joined(Slot),
    Answered(ReplyBody, bool),
    Read(ReplyBody),
}

impl Submitted {
    /// The code of a refusal.
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Submitted::Refused(error) => Some(error.code),
            _ => None,
        }
    }
}

pub(crate) fn is_row(change: &Change) -> bool {
    quorate_store::keys::parse_row(&change.key).is_some()
}

pub(crate) fn row(key: &'static str) -> RowAddress {
    RowAddress { table: TableId(1), uid: Uid(42), key: Bytes::from_static(key.as_bytes()) }
}

pub(crate) fn bytes(text: &'static str) -> Value {
    Value::Bytes(Bytes::from_static(text.as_bytes()))
}

pub(crate) fn put(key: &'static str, value: Value) -> Mutation {
    Mutation::Put(row(key), value)
}

pub(crate) fn add(key: &'static str, delta: i64) -> Mutation {
    Mutation::Add { at: row(key), delta, floor: None, ceiling: None }
}

pub(crate) fn add_above(key: &'static str, delta: i64, floor: i64) -> Mutation {
    Mutation::Add { at: row(key), delta, floor: Some(floor), ceiling: None }
}

pub(crate) fn request(session: SessionId, sequence: u64, lowest_unanswered: u64) -> RequestId {
    RequestId { session, sequence, lowest_unanswered }
}

pub(crate) fn transact(
    id: Option<RequestId>,
    conditions: Vec<Condition>,
    mutations: Vec<Mutation>,
    reads: Vec<RowAddress>,
) -> Request {
    Request { id, body: RequestBody::Transact { conditions, mutations, reads } }
}

pub(crate) fn write(id: Option<RequestId>, mutations: Vec<Mutation>) -> Request {
    transact(id, Vec::new(), mutations, Vec::new())
}

pub(crate) fn close(session: SessionId) -> Request {
    Request { id: None, body: RequestBody::CloseSession(session) }
}

pub(crate) fn sums(sums: &[i64]) -> ReplyBody {
    ReplyBody::Committed { reads: Vec::new(), sums: sums.to_vec() }
}
