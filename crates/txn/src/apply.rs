//! Applies a committed entry: the same changes and the same reply on every replica.
//!
//! Called by the driver for each entry above the applied position, in log order, with a view that
//! holds the changes of every entry before. Decides nothing: guards were decided by the leader, and
//! its sums are compared with ours. Calls `session.rs`.
//!
//! Evaluation never proposes a write whose session is gone or whose id was used, so those cases do
//! not occur in a log of ours; they are still answered here without effects, the same on every
//! replica, because applying a write twice is the worst a database can do.

use bytes::Bytes;
use quorate_store::{Change, Key, Keyspace, StoreError, View};
use quorate_types::planted::{Bug, planted};
use quorate_types::{
    Code, CutId, EntryId, Error, LogTime, Reply, ReplyBody, RequestId, SessionId, Slot, Value,
};

use crate::codec::DecodeError;
use crate::cross::table::Contradiction;
use crate::cross::{CrossEntry, CrossEvent, CrossTable, Decide};
use crate::draft::{Draft, RowStates, row_changes};
use crate::entry::{Effect, EntryPayload, Write};
use crate::money;
use crate::record::ResultRecord;
use crate::session::{SessionTable, Standing, sequence_reused, session_expired};

/// What an entry does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Changes to rows, in key order.
    pub changes: Vec<Change>,
    /// What whoever waits for the entry is told; an error means that nothing changed.
    pub reply: Result<Reply, Error>,
    /// What it did to an attempt at a cross-unit transaction, if it is about one.
    pub cross: Option<CrossEvent>,
}

/// Why a committed entry cannot be applied. The replica must stop: going on would leave it different
/// from the others.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The payload is no entry this version knows.
    #[error("entry {at} does not decode")]
    Decode {
        /// The entry.
        at: EntryId,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// Records could not be read.
    #[error("entry {at} cannot be applied")]
    Store {
        /// The entry.
        at: EntryId,
        /// What the store said.
        #[source]
        source: StoreError,
    },
    /// What became of a cross-unit transaction contradicts what the log said before.
    #[error("entry {at} cannot be applied")]
    Cross {
        /// The entry.
        at: EntryId,
        /// The contradiction.
        #[source]
        source: Contradiction,
    },
    /// Adding gave another sum than the leader's: the rows here are not those of the leader.
    #[error("entry {at}: row {key} becomes {found:?}, for the leader it became {expected}")]
    Diverged {
        /// The entry.
        at: EntryId,
        /// The row's key in hexadecimal.
        key: String,
        /// The sum in the entry.
        expected: i64,
        /// The sum here; `None` if the row cannot be added to.
        found: Option<i64>,
    },
    /// What was decided about accounts is not possible here: they are not those of the leader.
    #[error("entry {at} about money: {what}; the accounts here are not those of the leader")]
    Money {
        /// The entry.
        at: EntryId,
        /// What is wrong.
        what: &'static str,
    },
}

impl ApplyError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            ApplyError::Decode { .. } => Code::FormatUnknown,
            ApplyError::Store { source, .. } => source.code(),
            ApplyError::Diverged { .. } | ApplyError::Cross { .. } | ApplyError::Money { .. } => {
                Code::StoreDamaged
            }
        }
    }
}

impl ResultRecord {
    /// The answer to a retry.
    pub(crate) fn into_reply(self) -> Reply {
        let body = ReplyBody::Committed { reads: self.reads, sums: self.sums };
        Reply { at: self.at, replayed: true, body }
    }
}

/// Applies the entry `at` to the sessions and tells what it changes in the store. `log_time` is that
/// of the entry. On an error nothing has changed.
///
/// # Errors
/// `ApplyError`; the replica must not go on.
pub fn apply(
    payload: &Bytes,
    at: EntryId,
    log_time: LogTime,
    sessions: &mut SessionTable,
    attempts: &mut CrossTable,
    view: &dyn View,
) -> Result<Applied, ApplyError> {
    let keyspace = sessions.keyspace();
    let payload = EntryPayload::decode(payload, keyspace.group)
        .map_err(|source| ApplyError::Decode { at, source })?;
    match payload {
        EntryPayload::OpenSession => {
            sessions.open(at.slot, log_time);
            let session = SessionId { group: keyspace.group, slot: at.slot };
            Ok(applied(at, Vec::new(), ReplyBody::Session(session)))
        }
        EntryPayload::CloseSession(session) => Ok(close(session, at, sessions)),
        EntryPayload::ExpireSessions(slots) => Ok(expire(&slots, at, sessions)),
        EntryPayload::Write(write) => apply_write(write, at, log_time, sessions, view),
        EntryPayload::Money(entry) => {
            money::apply(&entry, at, log_time, keyspace, sessions.holds_mut(), view)
        }
        EntryPayload::Check => {
            let nothing = ReplyBody::Committed { reads: Vec::new(), sums: Vec::new() };
            Ok(applied(at, Vec::new(), nothing))
        }
        EntryPayload::Cross(entry) => apply_cross(entry, at, log_time, sessions, attempts, view),
    }
}

/// A step of a cross-unit transaction. Nobody waits for its entry: who waits for the transaction is
/// told by `cross/core.rs`.
fn apply_cross(
    entry: CrossEntry,
    at: EntryId,
    log_time: LogTime,
    sessions: &mut SessionTable,
    attempts: &mut CrossTable,
    view: &dyn View,
) -> Result<Applied, ApplyError> {
    let mut changes = Vec::new();
    let event = match entry {
        CrossEntry::Prepare(prepare) => attempts.prepare(prepare, at),
        CrossEntry::Refuse(attempt) => attempts.refuse(attempt, at),
        CrossEntry::Clear(watermark) => attempts.clear(watermark),
        CrossEntry::Cut(cut) => attempts.pass(cut),
        CrossEntry::NewCut => {
            let cut = CutId::at(at.slot);
            let event = attempts.pass(cut);
            return Ok(Applied { cross: Some(event), ..applied(at, changes, ReplyBody::Cut(cut)) });
        }
        CrossEntry::Decide(decide) => {
            if let Decide::Commit(attempt, reply, _) = &decide
                && let Some(prepare) = attempts.prepared(*attempt)
                && let Some(leg) = &prepare.leg
            {
                let voted_at = attempts.get(*attempt).map_or(at, |record| record.at);
                let (keyspace, slots) = (sessions.keyspace(), (at, voted_at.slot));
                let draft = money::settle(leg, &reply.verdicts, slots, keyspace, view)?;
                draft.note_holds(log_time, sessions.holds_mut());
                changes = draft.changes(at.slot, log_time);
            } else if let Decide::Commit(attempt, reply, _) = &decide
                && let Some(prepare) = attempts.prepared(*attempt)
            {
                let rows = rows_after(&prepare.write, at, sessions.keyspace(), view)?;
                changes = row_changes(&rows, at.slot);
                let id = prepare.request();
                let voted_at = attempts.get(*attempt).map_or(at, |record| record.at);
                // The client may have given up on the request meanwhile: then nobody asks again.
                if attempt.group == attempts.group()
                    && sessions.standing(&id) == Standing::New
                    && !planted(Bug::ResultForgotten)
                {
                    let result = ResultRecord::new(voted_at, &reply.reads, &reply.sums);
                    sessions.keep_result(&id, log_time, result);
                }
            }
            attempts.decide(&decide).map_err(|source| ApplyError::Cross { at, source })?
        }
    };
    let body = ReplyBody::Committed { reads: Vec::new(), sums: Vec::new() };
    let reply = Ok(Reply { at, replayed: false, body });
    Ok(Applied { changes, reply, cross: Some(event) })
}

pub(crate) fn applied(at: EntryId, changes: Vec<Change>, body: ReplyBody) -> Applied {
    Applied { changes, reply: Ok(Reply { at, replayed: false, body }), cross: None }
}

fn refused(error: Error) -> Applied {
    Applied { changes: Vec::new(), reply: Err(error), cross: None }
}

fn close(session: SessionId, at: EntryId, sessions: &mut SessionTable) -> Applied {
    if !sessions.close(session.slot) {
        return refused(session_expired(session));
    }
    applied(at, Vec::new(), ReplyBody::SessionClosed)
}

fn expire(slots: &[Slot], at: EntryId, sessions: &mut SessionTable) -> Applied {
    for slot in slots {
        sessions.close(*slot);
    }
    // A client that closes a session while it is being expired waits for this entry.
    applied(at, Vec::new(), ReplyBody::SessionClosed)
}

fn apply_write(
    write: Write,
    at: EntryId,
    log_time: LogTime,
    sessions: &mut SessionTable,
    view: &dyn View,
) -> Result<Applied, ApplyError> {
    if let Some(id) = &write.id
        && !planted(Bug::DoubleApply)
        && let Some(reply) = answer_known(id, at, sessions, view)?
    {
        return Ok(Applied { changes: Vec::new(), reply, cross: None });
    }
    let rows = rows_after(&write, at, sessions.keyspace(), view)?;
    let changes = row_changes(&rows, at.slot);
    let Write { id, reads, sums, .. } = write;
    if let Some(id) = &id {
        sessions.keep_result(id, log_time, ResultRecord::new(at, &reads, &sums));
    }
    Ok(applied(at, changes, ReplyBody::Committed { reads, sums }))
}

/// The reply to a write that must not take effect; `None` if it must.
fn answer_known(
    id: &RequestId,
    at: EntryId,
    sessions: &SessionTable,
    view: &dyn View,
) -> Result<Option<Result<Reply, Error>>, ApplyError> {
    Ok(match sessions.standing(id) {
        Standing::New => None,
        Standing::NoSession => Some(Err(session_expired(id.session))),
        Standing::Acknowledged { lowest } => Some(Err(sequence_reused(id, lowest))),
        Standing::Answered => {
            let result = sessions.result(id, view);
            Some(Ok(result.map_err(|source| ApplyError::Store { at, source })?.into_reply()))
        }
    })
}

pub(crate) fn rows_after(
    write: &Write,
    at: EntryId,
    keyspace: Keyspace,
    view: &dyn View,
) -> Result<RowStates, ApplyError> {
    let mut draft = Draft::new(view);
    let mut sums = write.sums.iter();
    for effect in &write.effects {
        match effect {
            Effect::Put(row, value) => draft.set(row.within(keyspace), Some(value.clone())),
            Effect::Delete(row) => draft.set(row.within(keyspace), None),
            Effect::Add { at: row, delta } => {
                let key = row.within(keyspace);
                let expected = *sums.next().expect("decoding counted the sums");
                let sum = draft.sum(&key, *delta);
                let sum = sum.map_err(|source| ApplyError::Store { at, source })?;
                let found = sum.ok().map(|(_, sum)| sum);
                if found != Some(expected) {
                    return Err(diverged(at, &key, expected, found));
                }
                draft.set(key, Some(Value::Integer(expected)));
            }
        }
    }
    Ok(draft.into_rows())
}

fn diverged(at: EntryId, key: &Key, expected: i64, found: Option<i64>) -> ApplyError {
    ApplyError::Diverged { at, key: format!("{key:?}"), expected, found }
}
