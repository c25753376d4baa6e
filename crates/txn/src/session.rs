//! Sessions of a group: who may write, what was answered, what the client has seen.
//!
//! The table changes only by applying entries, so it is equal on every replica. `apply.rs` maintains
//! it, `evaluate.rs` asks it. Nothing is ever evicted: a result goes when the client acknowledges it,
//! a session when an entry closes or expires it.
//!
//! Its records reach the store with checkpoints only ([`SessionTable::take_changes`]): nearly every
//! result is acknowledged long before the next one, and then costs no record at all. A replica that
//! starts loads the table as of the checkpoint and replays the log above it. Results that a checkpoint
//! has taken stay in the store, and the table only knows that they are there: a retry is rare, and
//! thousands of sessions with replies of up to an entry each would not fit memory.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_store::{Change, Key, Keyspace, StoreError, View};
use quorate_types::limits::{GROUP_SESSIONS_MAX, SESSION_IN_FLIGHT_MAX};
use quorate_types::{Code, Error, LogTime, RequestId, SessionId, Slot};

use crate::money::HoldTable;
use crate::record::{ResultRecord, SessionRecord, damaged};

/// Memory of a session's record in a checkpoint.
const SESSION_MEMORY_BYTES: usize = 128;

/// Records read at once while loading.
const LOAD_PAGE: usize = 1024;

/// The sessions of one group, as applied entries left them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTable {
    keyspace: Keyspace,
    /// By opening slot.
    sessions: BTreeMap<Slot, Session>,
    unsaved: Unsaved,
    /// Open reservations. No sessions, but they live as these do: in memory, by applied
    /// entries, read from the store at the start.
    holds: HoldTable,
}

/// How the records in the store differ from the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Unsaved {
    /// Sessions whose records are older than they are. Invariant: an open session is here, once, iff
    /// its `is_changed` says so.
    changed: Vec<Slot>,
    /// Records of what is gone.
    removed: Vec<Key>,
    /// Memory of the results that have no record. Invariant: the sum of their sizes.
    bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    /// Log time of the last use.
    last_used: LogTime,
    /// Every request below was answered and acknowledged.
    lowest: u64,
    /// The results that are not acknowledged, by request. None is below `lowest`.
    results: BTreeMap<u64, Kept>,
    /// Anything here is newer than the records in the store.
    is_changed: bool,
    /// The store has a record of the session.
    is_stored: bool,
}

/// Where a result is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    /// Nowhere else.
    Here(ResultRecord),
    /// A checkpoint has taken it.
    Stored,
}

impl Unsaved {
    /// A result is dropped; `key` is that of its record.
    fn drop_result(&mut self, kept: Kept, key: impl FnOnce() -> Key) {
        match kept {
            Kept::Here(result) => self.bytes -= result.memory(),
            Kept::Stored => self.removed.push(key()),
        }
    }
}

/// What applied entries say about a request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its session is not open.
    NoSession,
    /// It took effect; its result is kept.
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
        let (sessions, unsaved) = (BTreeMap::new(), Unsaved::default());
        SessionTable { keyspace, sessions, unsaved, holds: HoldTable::default() }
    }

    /// The table as of the last checkpoint.
    ///
    /// # Errors
    /// `StoreError` if records cannot be read or contradict each other.
    pub fn load(view: &dyn View, keyspace: Keyspace) -> Result<SessionTable, StoreError> {
        let mut table = SessionTable::new(keyspace);
        table.holds = HoldTable::load(view, keyspace)?;
        for_each_record(view, &keyspace.session_prefix(), |key, bytes| {
            let slot = session_slot(key)?;
            let record = SessionRecord::decode(key, bytes)?;
            let SessionRecord { last_used, lowest } = record;
            let results = BTreeMap::new();
            let session =
                Session { last_used, lowest, results, is_changed: false, is_stored: true };
            table.sessions.insert(slot, session);
            Ok(())
        })?;
        for_each_record(view, &keyspace.result_prefix(), |key, bytes| {
            let (slot, sequence) = result_position(key)?;
            ResultRecord::decode(key, bytes)?;
            let session = table.sessions.get_mut(&slot);
            let session = session.ok_or_else(|| damaged(key, &"it belongs to no session"))?;
            if sequence < session.lowest {
                return Err(damaged(key, &"it was acknowledged"));
            }
            session.results.insert(sequence, Kept::Stored);
            Ok(())
        })?;
        Ok(table)
    }

    /// Where the records of this table live.
    #[must_use]
    pub fn keyspace(&self) -> Keyspace {
        self.keyspace
    }

    /// How many reservations of the group are open.
    #[must_use]
    pub fn open_holds(&self) -> usize {
        self.holds.len()
    }

    /// The open reservations.
    pub(crate) fn holds(&self) -> &HoldTable {
        &self.holds
    }

    /// The same, for applying an entry.
    pub(crate) fn holds_mut(&mut self) -> &mut HoldTable {
        &mut self.holds
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
            Some(session) if session.results.contains_key(&id.sequence) => Standing::Answered,
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

    /// Memory of what the next checkpoint takes from here.
    #[must_use]
    pub fn unsaved_bytes(&self) -> usize {
        self.unsaved.bytes + self.unsaved.changed.len() * SESSION_MEMORY_BYTES
    }

    /// Changes that bring the records in the store up to this table. To be called between two entries,
    /// when a checkpoint begins, and to be part of it: the table counts on them from now on.
    #[must_use = "what is not written is lost"]
    pub fn take_changes(&mut self) -> Vec<Change> {
        let Unsaved { changed, removed, .. } = std::mem::take(&mut self.unsaved);
        let removed = removed.into_iter().map(|key| Change { key, value: None });
        let mut changes: Vec<_> = removed.collect();
        for slot in changed {
            // A session that was closed since has nothing left to write.
            let Some(session) = self.sessions.get_mut(&slot) else { continue };
            let record = SessionRecord { last_used: session.last_used, lowest: session.lowest };
            let value = Some(record.encode());
            changes.push(Change { key: self.keyspace.session(slot), value });
            for (sequence, kept) in &mut session.results {
                if let Kept::Here(result) = kept {
                    let key = self.keyspace.result(slot, *sequence);
                    changes.push(Change { key, value: Some(result.encode()) });
                    *kept = Kept::Stored;
                }
            }
            (session.is_changed, session.is_stored) = (false, true);
        }
        changes
    }

    /// Opens the session of the entry at `slot`.
    pub(crate) fn open(&mut self, slot: Slot, now: LogTime) {
        let results = BTreeMap::new();
        let session =
            Session { last_used: now, lowest: 0, results, is_changed: true, is_stored: false };
        let before = self.sessions.insert(slot, session);
        assert!(before.is_none(), "a session was opened twice at slot {slot}");
        self.unsaved.changed.push(slot);
    }

    /// Closes a session and drops its results; false if it was not open.
    pub(crate) fn close(&mut self, slot: Slot) -> bool {
        let Some(session) = self.sessions.remove(&slot) else { return false };
        for (sequence, kept) in session.results {
            self.unsaved.drop_result(kept, || self.keyspace.result(slot, sequence));
        }
        if session.is_stored {
            self.unsaved.removed.push(self.keyspace.session(slot));
        }
        true
    }

    /// The lowest number that is not acknowledged once the request took effect.
    fn lowest_after(&self, id: &RequestId) -> u64 {
        let lowest = self.sessions.get(&id.session.slot).map_or(0, |session| session.lowest);
        lowest.max(id.lowest_unanswered)
    }

    /// Keeps the result of a request that just took effect, and drops those it acknowledges.
    pub(crate) fn keep_result(&mut self, id: &RequestId, now: LogTime, result: ResultRecord) {
        let slot = id.session.slot;
        let lowest = self.lowest_after(id);
        assert!(lowest <= id.sequence, "request {} was acknowledged", id.sequence);
        let session = self.sessions.get_mut(&slot).expect("the standing of the id was New");
        if !session.is_changed {
            session.is_changed = true;
            self.unsaved.changed.push(slot);
        }
        session.last_used = now;
        session.lowest = lowest;
        while let Some(first) = session.results.first_entry()
            && *first.key() < lowest
        {
            let (sequence, kept) = first.remove_entry();
            self.unsaved.drop_result(kept, || self.keyspace.result(slot, sequence));
        }
        self.unsaved.bytes += result.memory();
        session.results.insert(id.sequence, Kept::Here(result));
    }

    /// The result kept for a request whose standing is `Answered`; `view` is that of applied records.
    pub(crate) fn result(
        &self,
        id: &RequestId,
        view: &dyn View,
    ) -> Result<ResultRecord, StoreError> {
        let session = self.sessions.get(&id.session.slot);
        let kept = session.and_then(|session| session.results.get(&id.sequence));
        if let Some(Kept::Here(result)) = kept {
            return Ok(result.clone());
        }
        let key = self.keyspace.result(id.session.slot, id.sequence);
        let bytes = view.get(&key)?;
        let bytes =
            bytes.ok_or_else(|| damaged(&key, &"the session has it, the store does not"))?;
        ResultRecord::decode(&key, &bytes)
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

/// Walks all records behind a prefix, page by page.
pub(crate) fn for_each_record(
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
