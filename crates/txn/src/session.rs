//! Sessions of a group: who may write, what was answered, what the client has seen.
//!
//! The table changes only by applying entries, so it is equal on every replica, and every bit of it
//! stands in session and result records, so a replica loads it again after a restart. `apply.rs`
//! maintains it, `evaluate.rs` asks it. Nothing is ever evicted: a result goes when the client
//! acknowledges it, a session when an entry closes or expires it.
//!
//! The replies themselves stay in the store; the table only knows that they are there. A retry is
//! rare, and thousands of sessions with replies of up to an entry each would not fit memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_store::{Change, Key, Keyspace, StoreError, View};
use quorate_types::limits::{GROUP_SESSIONS_MAX, SESSION_IN_FLIGHT_MAX};
use quorate_types::{Code, Error, LogTime, RequestId, SessionId, Slot};

use crate::record::{ResultRecord, SessionRecord, damaged};

/// How exactly last use is kept. Most writes of a busy session then leave its record alone.
pub const LAST_USED_STEP: Duration = Duration::from_secs(1);

/// Records read at once while loading.
const LOAD_PAGE: usize = 1024;

/// The sessions of one group, as applied entries left them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTable {
    keyspace: Keyspace,
    /// By opening slot.
    sessions: BTreeMap<Slot, Session>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    /// Log time of a use at most `LAST_USED_STEP` before the last one. Equal to the record's.
    last_used: LogTime,
    /// Every request below was answered and acknowledged. At least the record's; the greatest of
    /// the record's and those in `results`.
    lowest: u64,
    /// Numbers of the requests that have a result record. None is below `lowest`.
    results: BTreeSet<u64>,
}

/// What applied entries say about a request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its session is not open.
    NoSession,
    /// It took effect; the result record is there.
    Answered,
    /// It is below what the client acknowledged.
    Acknowledged {
        /// The lowest number that is not.
        lowest: u64,
    },
    /// Nothing is known of it.
    New,
}

impl SessionTable {
    /// The table of a group without sessions.
    #[must_use]
    pub fn new(keyspace: Keyspace) -> SessionTable {
        SessionTable { keyspace, sessions: BTreeMap::new() }
    }

    /// Rebuilds the table from the records of applied entries.
    ///
    /// # Errors
    /// `StoreError` if records cannot be read or contradict each other.
    pub fn load(view: &dyn View, keyspace: Keyspace) -> Result<SessionTable, StoreError> {
        let mut table = SessionTable::new(keyspace);
        for_each_record(view, &keyspace.session_prefix(), |key, bytes| {
            let slot = session_slot(key)?;
            let record = SessionRecord::decode(key, bytes)?;
            let SessionRecord { last_used, lowest } = record;
            table.sessions.insert(slot, Session { last_used, lowest, results: BTreeSet::new() });
            Ok(())
        })?;
        for_each_record(view, &keyspace.result_prefix(), |key, bytes| {
            let (slot, sequence) = result_position(key)?;
            let record = ResultRecord::decode(key, bytes)?;
            let session = table.sessions.get_mut(&slot);
            let session = session.ok_or_else(|| damaged(key, &"it belongs to no session"))?;
            session.lowest = session.lowest.max(record.lowest);
            session.results.insert(sequence);
            Ok(())
        })?;
        Ok(table)
    }

    /// Where the records of this table live.
    #[must_use]
    pub fn keyspace(&self) -> Keyspace {
        self.keyspace
    }

    /// How many sessions are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// True if no session is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// True if the session opened at `slot` is open.
    #[must_use]
    pub fn contains(&self, slot: Slot) -> bool {
        self.sessions.contains_key(&slot)
    }

    /// Sessions that were idle for `idle_limit` or longer at log time `now`, in order of opening. They
    /// stay open until an entry expires them.
    #[must_use]
    pub fn expired(&self, now: LogTime, idle_limit: Duration) -> Vec<Slot> {
        let idle = |session: &Session| idle_limit <= now.since(session.last_used);
        self.sessions.iter().filter(|(_, session)| idle(session)).map(|(slot, _)| *slot).collect()
    }

    /// What became of a request.
    pub(crate) fn standing(&self, id: &RequestId) -> Standing {
        match self.sessions.get(&id.session.slot) {
            None => Standing::NoSession,
            Some(session) if session.results.contains(&id.sequence) => Standing::Answered,
            Some(Session { lowest, .. }) if id.sequence < *lowest => {
                Standing::Acknowledged { lowest: *lowest }
            }
            Some(_) => Standing::New,
        }
    }

    /// Whether the session takes one more request beside `in_flight` uncommitted ones, once the
    /// results are dropped that the request acknowledges.
    pub(crate) fn has_room(&self, id: &RequestId, in_flight: usize) -> bool {
        let Some(session) = self.sessions.get(&id.session.slot) else { return false };
        let held = session.results.len();
        if held + in_flight < SESSION_IN_FLIGHT_MAX {
            return true;
        }
        let dropped = session.results.range(..id.lowest_unanswered).count();
        held - dropped + in_flight < SESSION_IN_FLIGHT_MAX
    }

    /// Whether the group takes one more session beside `opening` uncommitted ones.
    pub(crate) fn has_room_for_session(&self, opening: usize) -> bool {
        self.sessions.len() + opening < GROUP_SESSIONS_MAX
    }

    /// Opens the session of the entry at `slot`.
    pub(crate) fn open(&mut self, slot: Slot, now: LogTime, changes: &mut Vec<Change>) {
        let session = Session { last_used: now, lowest: 0, results: BTreeSet::new() };
        changes.push(self.session_change(slot, &session));
        let before = self.sessions.insert(slot, session);
        assert!(before.is_none(), "a session was opened twice at slot {slot}");
    }

    /// Closes a session and drops its results; false if it was not open.
    pub(crate) fn close(&mut self, slot: Slot, changes: &mut Vec<Change>) -> bool {
        let Some(session) = self.sessions.remove(&slot) else { return false };
        changes.push(Change { key: self.keyspace.session(slot), value: None });
        for sequence in session.results {
            changes.push(Change { key: self.keyspace.result(slot, sequence), value: None });
        }
        true
    }

    /// The lowest number that is not acknowledged once the request took effect.
    pub(crate) fn lowest_after(&self, id: &RequestId) -> u64 {
        let lowest = self.sessions.get(&id.session.slot).map_or(0, |session| session.lowest);
        lowest.max(id.lowest_unanswered)
    }

    /// Keeps the result of a request that just took effect, and drops those it acknowledges.
    pub(crate) fn keep_result(
        &mut self,
        id: &RequestId,
        now: LogTime,
        result: &ResultRecord,
        changes: &mut Vec<Change>,
    ) {
        // The record that raised `lowest` lives at least as long as `lowest` itself, because its own
        // number is not below. So `load` finds `lowest` although the session record is seldom written.
        assert!(result.lowest <= id.sequence, "request {} was acknowledged", id.sequence);
        let slot = id.session.slot;
        let session = self.sessions.get_mut(&slot).expect("the standing of the id was New");
        session.lowest = result.lowest;

        if LAST_USED_STEP <= now.since(session.last_used) {
            session.last_used = now;
            let record = SessionRecord { last_used: now, lowest: session.lowest };
            let value = Some(record.encode());
            changes.push(Change { key: self.keyspace.session(slot), value });
        }
        while let Some(sequence) = session.results.first().copied() {
            if session.lowest <= sequence {
                break;
            }
            session.results.pop_first();
            changes.push(Change { key: self.keyspace.result(slot, sequence), value: None });
        }
        session.results.insert(id.sequence);
        let key = self.keyspace.result(slot, id.sequence);
        changes.push(Change { key, value: Some(result.encode()) });
    }

    /// The result kept for a request whose standing is `Answered`.
    pub(crate) fn result(
        &self,
        id: &RequestId,
        view: &dyn View,
    ) -> Result<ResultRecord, StoreError> {
        let key = self.keyspace.result(id.session.slot, id.sequence);
        let bytes = view.get(&key)?;
        let bytes =
            bytes.ok_or_else(|| damaged(&key, &"the session has it, the store does not"))?;
        ResultRecord::decode(&key, &bytes)
    }

    fn session_change(&self, slot: Slot, session: &Session) -> Change {
        let record = SessionRecord { last_used: session.last_used, lowest: session.lowest };
        Change { key: self.keyspace.session(slot), value: Some(record.encode()) }
    }
}

/// The refusal of a request whose session is not open.
pub(crate) fn session_expired(session: SessionId) -> Error {
    Error::new(Code::SessionExpired, format!("session {session} is not open"))
        .with("session", session)
}

/// The refusal of a request number that the client acknowledged.
pub(crate) fn sequence_reused(id: &RequestId, lowest: u64) -> Error {
    let message = format!(
        "request {} of session {} was acknowledged: the lowest unanswered one is {lowest}",
        id.sequence, id.session,
    );
    Error::new(Code::SequenceReused, message)
        .with("session", id.session)
        .with("sequence", id.sequence)
        .with("lowest_unanswered", lowest)
}

fn for_each_record(
    view: &dyn View,
    prefix: &Key,
    mut record: impl FnMut(&Key, &bytes::Bytes) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let end = prefix.prefix_end();
    let mut from = prefix.clone();
    loop {
        let page = view.scan(&from, &end, LOAD_PAGE)?;
        for (key, bytes) in &page {
            record(key, bytes)?;
        }
        match page.last() {
            Some((last, _)) if page.len() == LOAD_PAGE => from = last.successor(),
            _ => return Ok(()),
        }
    }
}

fn session_slot(key: &Key) -> Result<Slot, StoreError> {
    match quorate_store::keys::parse_session(key) {
        Some((slot, None)) => Ok(slot),
        _ => Err(damaged(key, &"it is no session key")),
    }
}

fn result_position(key: &Key) -> Result<(Slot, u64), StoreError> {
    match quorate_store::keys::parse_session(key) {
        Some((slot, Some(sequence))) => Ok((slot, sequence)),
        _ => Err(damaged(key, &"it is no result key")),
    }
}
