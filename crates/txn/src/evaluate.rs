//! Turns a request into an answer or into an entry: decided once, by the leader.
//!
//! Called by the driver of a group that leads and has applied its `StartWork`, once per request.
//! Calls `read.rs` for reads, `transact.rs` for transactions, and asks the session table and the
//! pending table whether the request was seen before.
//!
//! What is computed on the overlay may rest on entries that never commit. The driver therefore
//! releases a [`Evaluation::Refuse`] or an [`Evaluation::Answer`] only after everything proposed before it is committed and the
//! lease was checked after the evaluation; it releases the reply to a [`Proposal`] after applying
//! its entry.

use std::time::Duration;

use bytes::Bytes;
use quorate_store::{Change, StoreError, View};
use quorate_types::limits::{ENTRY_BYTES_MAX, GROUP_SESSIONS_MAX, SESSION_IN_FLIGHT_MAX};
use quorate_types::planted::{Bug, planted};
use quorate_types::{
    AccountAddress, Attempt, Code, Error, LogTime, Reply, ReplyBody, Request, RequestBody,
    RequestId, SessionId, Slot,
};

use crate::context::Context;
use crate::cross::vote::holders;
use crate::cross::{Cross, CrossEntry, RequestStanding};
use crate::draft::{RowStates, row_changes};
use crate::entry::EntryPayload;
use crate::limits::check_id;
use crate::many::{Deletes, get_many};
use crate::money;
use crate::pending::{InFlight, Pending};
use crate::read::{bounds, read_applied};
use crate::session::{SessionTable, Standing, sequence_reused, session_expired};
use crate::transact::{Decided, Stop, Transaction, transact};

/// Most sessions one entry expires. Each may have a thousand results to drop; what is left over goes
/// with the next entry.
pub const EXPIRE_SESSIONS_MAX: usize = 64;

/// What the leader knows when it evaluates.
#[derive(Clone, Copy)]
pub struct State<'a> {
    /// Everything applied. Reads see this.
    pub applied: &'a dyn View,
    /// The effects of entries in flight over `applied`. Writes see this.
    pub overlay: &'a dyn View,
    /// Sessions as of `applied`.
    pub sessions: &'a SessionTable,
    /// What entries in flight will do to them.
    pub pending: &'a Pending,
    /// Transactions over several groups: their locks, and the requests they answer.
    pub cross: &'a Cross,
    /// Where rows were last deleted, as of `applied`.
    pub deletes: &'a Deletes,
}

/// What is to be done with a request.
#[derive(Clone, Debug)]
pub enum Evaluation {
    /// Append this entry; the reply comes from applying it.
    Propose(Proposal),
    /// Refuse. Release the error as a read on the overlay, see the module.
    Refuse(Error),
    /// Answer at once: an earlier attempt took effect and that is committed. Needs no lease, because
    /// it stays true.
    Replay(Reply),
    /// The same request is in flight in the entry at this slot: settle the caller with that entry.
    Join(Slot),
    /// An answer that is a read on the overlay: nothing changes, and it is true once everything
    /// proposed before it is applied. Release it like a refusal.
    Answer {
        /// The answer.
        body: ReplyBody,
        /// True if what was asked for had taken effect before.
        replayed: bool,
    },
    /// A read of the applied rows. Release it after checking the lease.
    Read(ReplyBody),
    /// A row it needs is locked by this attempt, or what it asks depends on the attempt's transfers:
    /// evaluate again once that is decided.
    Wait(Attempt),
    /// A read of an account that undecided transfers touch: evaluate again once this attempt is decided.
    /// To be told to [`Cross::fence`] first, so that no others come in between for ever.
    WaitForTurn {
        /// One of those that touch it.
        attempt: Attempt,
        /// The account.
        account: AccountAddress,
    },
    /// An attempt at a transaction over several groups is under way at the same request: settle the
    /// caller with that.
    Attempt,
    /// About the view at a cut: whoever keeps the views answers.
    AtCut,
}

/// An entry to append, and what the leader needs until it is applied.
#[derive(Clone, Debug)]
pub struct Proposal {
    payload: Bytes,
    rows: Rows,
    in_flight: InFlight,
}

/// What an entry changes, before it has a slot.
#[derive(Clone, Debug)]
enum Rows {
    Of(RowStates),
    OfMoney(Box<money::Draft>),
}

impl Proposal {
    /// The bytes of the entry.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// What the entry will change in rows, for the overlay, once it is known to stand at `slot`.
    #[must_use]
    pub fn changes(&self, slot: Slot) -> Vec<Change> {
        match &self.rows {
            Rows::Of(rows) => row_changes(rows, slot),
            // The log time of the entry is not known yet; nothing decided on the overlay needs it.
            Rows::OfMoney(draft) => draft.changes(slot, LogTime::default()),
        }
    }

    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// An entry at which the replicas compare their rows.
    #[must_use]
    pub fn check() -> Proposal {
        Proposal::of_sessions(&EntryPayload::Check, InFlight::Anonymous)
    }

    fn of_sessions(payload: &EntryPayload, in_flight: InFlight) -> Proposal {
        let rows = Rows::Of(RowStates::default());
        Proposal { payload: payload.encode(), rows, in_flight }
    }

    pub(crate) fn of_money(payload: &EntryPayload, draft: money::Draft) -> Proposal {
        let in_flight = match draft.holds_opened() {
            0 => InFlight::Anonymous,
            opened => InFlight::Holds(opened),
        };
        let rows = Rows::OfMoney(Box::new(draft));
        Proposal { payload: payload.encode(), rows, in_flight }
    }
}

/// Decides what to do with a request that passed [`check_limits`](crate::check_limits) and belongs
/// to this group by its route.
///
/// # Errors
/// `StoreError` if rows or sessions could not be read: no answer to the client's question.
pub fn evaluate(
    request: &Request,
    context: &Context<'_>,
    state: &State<'_>,
) -> Result<Evaluation, StoreError> {
    match &request.body {
        RequestBody::OpenSession => Ok(evaluate_open(state)),
        RequestBody::CloseSession(session) => Ok(evaluate_close(*session, context, state)),
        RequestBody::NewCut => {
            let payload = EntryPayload::Cross(CrossEntry::NewCut);
            Ok(Evaluation::Propose(Proposal::of_sessions(&payload, InFlight::Anonymous)))
        }
        RequestBody::PinCut(_) | RequestBody::ReadCut(..) | RequestBody::UnpinCut(_) => {
            Ok(Evaluation::AtCut)
        }
        RequestBody::Get(_)
        | RequestBody::Scan(_)
        | RequestBody::GetAccount(_)
        | RequestBody::GetTransfer(..)
        | RequestBody::History { .. } => evaluate_read(&request.body, context, state),
        RequestBody::GetMany { rows, cut } => get_many(rows, *cut, context, state),
        RequestBody::Transact { conditions, mutations, reads } => {
            let asked = Transaction { conditions, mutations, reads };
            evaluate_transaction(request.id.as_ref(), &asked, context, state)
        }
        RequestBody::CreateAccount(at, settings) => {
            money::create_account(*at, *settings, context, state)
        }
        RequestBody::SetAccount(at, change) => money::set_account(*at, change, context, state),
        RequestBody::Transfers(batch) => money::transfers(batch, context, state),
    }
}

/// A read of applied records, unless it has to wait for something undecided.
fn evaluate_read(
    body: &RequestBody,
    context: &Context<'_>,
    state: &State<'_>,
) -> Result<Evaluation, StoreError> {
    if let Some(wait) = in_the_way(body, context, state) {
        return Ok(wait);
    }
    let read = read_applied(body, context, state.applied)?;
    Ok(Evaluation::Read(read.expect("the caller has looked")))
}

/// What a read has to wait for: its answer would depend on how something undecided ends.
fn in_the_way(body: &RequestBody, context: &Context<'_>, state: &State<'_>) -> Option<Evaluation> {
    let locks = state.cross.locks();
    match body {
        RequestBody::Get(_) | RequestBody::Scan(_) if locks.is_empty() => None,
        RequestBody::Get(at) => locks.against_reading(&context.key(at)).map(Evaluation::Wait),
        RequestBody::Scan(range) => {
            let (from, end) = bounds(range, context);
            locks.against_scanning(&from, &end).map(Evaluation::Wait)
        }
        RequestBody::GetAccount(account) | RequestBody::History { account, .. } => {
            let (account, attempt) = (*account, undecided(*account, state)?);
            Some(Evaluation::WaitForTurn { attempt, account })
        }
        RequestBody::GetTransfer(debit, id) => {
            state.cross.escrow().unapplied_id(*debit, *id).map(Evaluation::Wait)
        }
        _ => None,
    }
}

/// An attempt that may be committed and whose effect on an account is not applied. One whose PREPARE is
/// not applied here is not committed yet.
fn undecided(at: AccountAddress, state: &State<'_>) -> Option<Attempt> {
    if planted(Bug::ReadAroundEscrow) {
        return None;
    }
    let table = state.cross.table();
    state.cross.escrow().unapplied(at).find(|attempt| table.prepared(*attempt).is_some())
}

/// An entry that expires sessions idle for `idle_limit` or longer; `None` if there are none. Sessions
/// with a request in flight are in use and left alone, and so are those of which `is_in_use` says so: an
/// attempt over several groups may be in doubt for as long as another group has no majority, and its
/// result has a place only in its session.
#[must_use]
pub fn expire_idle(
    sessions: &SessionTable,
    pending: &Pending,
    is_in_use: &dyn Fn(SessionId) -> bool,
    now: LogTime,
    idle_limit: Duration,
) -> Option<Proposal> {
    let mut slots = sessions.expired(now, idle_limit);
    let group = sessions.keyspace().group;
    let is_busy = |slot| pending.is_busy(slot) || is_in_use(SessionId { group, slot });
    slots.retain(|slot| !is_busy(*slot));
    slots.truncate(EXPIRE_SESSIONS_MAX);
    if slots.is_empty() {
        return None;
    }
    let payload = EntryPayload::ExpireSessions(slots.clone());
    Some(Proposal::of_sessions(&payload, InFlight::Close(slots)))
}

fn evaluate_open(state: &State<'_>) -> Evaluation {
    if !state.sessions.has_room_for_session(state.pending.opening()) {
        let message = format!("the group has {GROUP_SESSIONS_MAX} sessions");
        let error = Error::new(Code::SessionLimit, message).with("limit", GROUP_SESSIONS_MAX);
        return Evaluation::Refuse(error);
    }
    Evaluation::Propose(Proposal::of_sessions(&EntryPayload::OpenSession, InFlight::Open))
}

fn evaluate_close(session: SessionId, context: &Context<'_>, state: &State<'_>) -> Evaluation {
    if let Err(error) = check_group(session, context) {
        return Evaluation::Refuse(error);
    }
    if let Some(slot) = state.pending.closing(session.slot) {
        return Evaluation::Join(slot);
    }
    if !state.sessions.contains(session.slot) {
        return Evaluation::Refuse(session_expired(session));
    }
    let payload = EntryPayload::CloseSession(session);
    Evaluation::Propose(Proposal::of_sessions(&payload, InFlight::Close(vec![session.slot])))
}

fn evaluate_transaction(
    id: Option<&RequestId>,
    asked: &Transaction<'_>,
    context: &Context<'_>,
    state: &State<'_>,
) -> Result<Evaluation, StoreError> {
    if let Some(id) = id
        && !planted(Bug::DoubleApply)
        && let Some(known) = recognise(id, context, state)?
    {
        return Ok(known);
    }
    if let Some(holder) = holders(asked, context, state.cross.locks()).first() {
        return Ok(Evaluation::Wait(*holder));
    }
    // Without an id nobody can ask again, so a transaction that changes nothing needs no entry.
    let only_reads = asked.mutations.is_empty() && id.is_none();
    let view = if only_reads { state.applied } else { state.overlay };
    let Decided { mut write, rows } = match transact(asked, context, view) {
        Ok(decided) => decided,
        Err(Stop::Refused(error)) => return Ok(Evaluation::Refuse(*error)),
        Err(Stop::Store(error)) => return Err(error),
    };
    if only_reads {
        return Ok(Evaluation::Read(ReplyBody::Committed { reads: write.reads, sums: write.sums }));
    }
    write.id = id.copied();
    let payload = EntryPayload::Write(write).encode();
    if ENTRY_BYTES_MAX < payload.len() {
        let length = payload.len();
        let message = format!("the transaction takes {length} bytes with the rows it returns");
        let error = Error::new(Code::TxnTooLarge, message).with("length", length);
        return Ok(Evaluation::Refuse(error));
    }
    let in_flight = id.copied().map_or(InFlight::Anonymous, InFlight::Request);
    Ok(Evaluation::Propose(Proposal { payload, rows: Rows::Of(rows), in_flight }))
}

/// Whether a request must not be evaluated: seen before, or its session cannot take it. `None` if it
/// is new, and then its entry will be applied: no entry in flight closes its session or acknowledges
/// its number.
pub fn recognise(
    id: &RequestId,
    context: &Context<'_>,
    state: &State<'_>,
) -> Result<Option<Evaluation>, StoreError> {
    let refuse = |error| Ok(Some(Evaluation::Refuse(error)));
    if let Err(error) = check_id(id).and_then(|()| check_group(id.session, context)) {
        return refuse(error);
    }
    let session = id.session.slot;
    match state.sessions.standing(id) {
        Standing::NoSession => return refuse(session_expired(id.session)),
        Standing::Acknowledged { lowest } => return refuse(sequence_reused(id, lowest)),
        Standing::Answered => {
            let result = state.sessions.result(id, state.applied)?;
            return Ok(Some(Evaluation::Replay(result.into_reply())));
        }
        Standing::New => {}
    }
    // Before everything else: whatever rows it names this time, its number is taken.
    match state.cross.standing(id) {
        Some(RequestStanding::Committed(reply)) => return Ok(Some(Evaluation::Replay(reply))),
        Some(RequestStanding::Running) => return Ok(Some(Evaluation::Attempt)),
        None => {}
    }
    if let Some(slot) = state.pending.request(id) {
        return Ok(Some(Evaluation::Join(slot)));
    }
    if state.pending.closing(session).is_some() {
        return refuse(session_expired(id.session));
    }
    let lowest = state.pending.lowest(session);
    if id.sequence < lowest {
        return refuse(sequence_reused(id, lowest));
    }
    if !state.sessions.has_room(id, state.pending.requests(session)) {
        return refuse(session_full(id));
    }
    Ok(None)
}

fn check_group(session: SessionId, context: &Context<'_>) -> Result<(), Error> {
    let group = context.keyspace.group;
    if session.group != group {
        let message = format!("session {session} was opened in another group than {group}");
        return Err(Error::new(Code::InvalidRequest, message).with("session", session));
    }
    Ok(())
}

fn session_full(id: &RequestId) -> Error {
    let message = format!(
        "session {} has {SESSION_IN_FLIGHT_MAX} requests that are in flight or not acknowledged",
        id.session,
    );
    Error::new(Code::SessionFull, message)
        .with("session", id.session)
        .with("limit", SESSION_IN_FLIGHT_MAX)
}
