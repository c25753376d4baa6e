//! Answers: items of the pipelined stream, and the responses of unary calls.
//!
//! The server makes both from a [`Reply`] or an [`Error`]; the client reads [`Answer`]s.

use bytes::Bytes;
use quorate_types::{
    Ballot, Code, CutId, EntryId, Error, GroupId, ReplicaId, Reply, ReplyBody, ScanPage,
    ScannedRow, SessionId, Slot, Uid, Value,
};

use super::ConvertError;
use super::cut;
use super::error::{LeaderHint, detail_from_error, error_from_detail};
use super::many;
use super::money;
use super::words::{self, required};
use crate::v1;

/// One answer on the pipelined stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The id of the request.
    pub id: u64,
    /// Who leads the group, if the node says.
    pub leader: Option<LeaderHint>,
    /// What became of the request, with the group whose log the reply stands on.
    pub result: Result<(GroupId, Reply), Error>,
}

impl Answer {
    /// The answer for the wire.
    #[must_use]
    pub fn into_wire(self) -> v1::PipelineReply {
        use v1::pipeline_reply::Result as Wire;
        let result = match self.result {
            Ok((group, reply)) => Wire::Reply(reply_to_wire(group, reply)),
            Err(error) => Wire::Error(detail_from_error(&error)),
        };
        let leader = self.leader.as_ref().map(LeaderHint::to_wire);
        v1::PipelineReply { id: self.id, leader, result: Some(result) }
    }

    /// The answer from the wire. Read `reply.id` before, to settle a request whose answer is refused.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_wire(reply: v1::PipelineReply) -> Result<Answer, ConvertError> {
        use v1::pipeline_reply::Result as Wire;
        let result = match required(reply.result, "result")? {
            Wire::Reply(reply) => {
                Ok(reply_from_wire(reply).map_err(|error| error.inside("reply"))?)
            }
            Wire::Error(detail) => Err(error_from_detail(detail)),
        };
        let leader = reply.leader.and_then(LeaderHint::from_wire);
        Ok(Answer { id: reply.id, leader, result })
    }
}

/// The response of `Get`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn get_response(
    group: GroupId,
    reply: Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::GetResponse, Error> {
    let header = header(group, &reply, leader);
    let ReplyBody::Row(value) = reply.body else { return Err(other_answer("Get", &reply.body)) };
    Ok(v1::GetResponse { header, value: value.map(words::value_to_wire) })
}

/// The response of `Put`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn put_response(
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::PutResponse, Error> {
    let header = committed_header("Put", group, reply, leader)?;
    Ok(v1::PutResponse { header })
}

/// The response of `Delete`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn delete_response(
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::DeleteResponse, Error> {
    let header = committed_header("Delete", group, reply, leader)?;
    Ok(v1::DeleteResponse { header })
}

/// The response of `CompareAndSet`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn compare_and_set_response(
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::CompareAndSetResponse, Error> {
    let header = committed_header("CompareAndSet", group, reply, leader)?;
    Ok(v1::CompareAndSetResponse { header })
}

/// The response of `Scan`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn scan_response(
    group: GroupId,
    reply: Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::ScanResponse, Error> {
    let header = header(group, &reply, leader);
    let ReplyBody::Page(page) = reply.body else { return Err(other_answer("Scan", &reply.body)) };
    let v1::ScanPage { rows, next } = page_to_wire(page);
    Ok(v1::ScanResponse { header, rows, next })
}

/// The response of `Transact`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn transact_response(
    group: GroupId,
    reply: Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::TransactResponse, Error> {
    let header = header(group, &reply, leader);
    let ReplyBody::Committed { reads, sums } = reply.body else {
        return Err(other_answer("Transact", &reply.body));
    };
    Ok(v1::TransactResponse { header, committed: Some(committed_to_wire(reads, sums)) })
}

/// The response of `OpenSession`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn open_session_response(
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::OpenSessionResponse, Error> {
    let header = header(group, reply, leader);
    let ReplyBody::Session(session) = reply.body else {
        return Err(other_answer("OpenSession", &reply.body));
    };
    Ok(v1::OpenSessionResponse { header, session: Some(words::session_to_wire(session)) })
}

/// The response of `CloseSession`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn close_session_response(
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::CloseSessionResponse, Error> {
    let header = header(group, reply, leader);
    let ReplyBody::SessionClosed = reply.body else {
        return Err(other_answer("CloseSession", &reply.body));
    };
    Ok(v1::CloseSessionResponse { header })
}

fn committed_header(
    call: &str,
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<Option<v1::ResponseHeader>, Error> {
    match reply.body {
        ReplyBody::Committed { .. } => Ok(header(group, reply, leader)),
        ReplyBody::Session(_)
        | ReplyBody::SessionClosed
        | ReplyBody::Row(_)
        | ReplyBody::Page(_)
        | ReplyBody::Account(_)
        | ReplyBody::Transfers(_)
        | ReplyBody::Transfer(_)
        | ReplyBody::History(_)
        | ReplyBody::Cut(_)
        | ReplyBody::Accounts(_)
        | ReplyBody::FoundTransfers(_)
        | ReplyBody::Records(_)
        | ReplyBody::Rows(_) => Err(other_answer(call, &reply.body)),
    }
}

pub(super) fn header(
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Option<v1::ResponseHeader> {
    Some(v1::ResponseHeader {
        at: Some(position_to_wire(group, reply.at)),
        replayed: reply.replayed,
        leader: leader.map(LeaderHint::to_wire),
    })
}

pub(super) fn other_answer(call: &str, body: &ReplyBody) -> Error {
    let kind = match body {
        ReplyBody::Session(_) => "an opened session",
        ReplyBody::SessionClosed => "a closed session",
        ReplyBody::Row(_) => "a row",
        ReplyBody::Page(_) => "a page",
        ReplyBody::Committed { .. } => "a transaction",
        ReplyBody::Account(_) => "an account",
        ReplyBody::Transfers(_) => "verdicts on transfers",
        ReplyBody::Transfer(_) => "a transfer",
        ReplyBody::History(_) => "a history",
        ReplyBody::Cut(_) => "a cut",
        ReplyBody::Accounts(_) => "a page of accounts",
        ReplyBody::FoundTransfers(_) => "found transfers",
        ReplyBody::Records(_) => "a page of records",
        ReplyBody::Rows(_) => "several rows",
    };
    Error::new(Code::Internal, format!("{call} was answered with {kind}"))
}

fn position_to_wire(group: GroupId, at: EntryId) -> v1::Position {
    v1::Position {
        group: group.0,
        slot: at.slot.0,
        ballot_round: at.ballot.round,
        ballot_replica: at.ballot.replica.0,
    }
}

fn reply_to_wire(group: GroupId, reply: Reply) -> v1::Reply {
    use v1::reply::Body;
    let body = match reply.body {
        ReplyBody::Session(session) => Body::Session(words::session_to_wire(session)),
        ReplyBody::SessionClosed => Body::SessionClosed(v1::SessionClosed {}),
        ReplyBody::Row(value) => Body::Row(optional_to_wire(value)),
        ReplyBody::Page(page) => Body::Page(page_to_wire(page)),
        ReplyBody::Committed { reads, sums } => Body::Committed(committed_to_wire(reads, sums)),
        ReplyBody::Account(account) => {
            let account = account.map(money::account_to_wire);
            Body::Account(v1::OptionalAccount { account })
        }
        ReplyBody::Transfers(results) => Body::Transfers(money::results_to_wire(&results)),
        ReplyBody::Transfer(found) => {
            let transfer = found.map(|record| money::record_to_wire(&record));
            Body::Transfer(v1::OptionalTransfer { transfer })
        }
        ReplyBody::History(page) => Body::History(money::page_to_wire(page)),
        ReplyBody::Cut(cut) => Body::Cut(cut.0),
        ReplyBody::Accounts(page) => Body::Accounts(cut::accounts_to_wire(page)),
        ReplyBody::FoundTransfers(page) => Body::FoundTransfers(cut::found_to_wire(&page)),
        ReplyBody::Records(page) => Body::Records(cut::records_to_wire(page)),
        ReplyBody::Rows(found) => Body::Rows(many::found_to_wire(found)),
    };
    let at = Some(position_to_wire(group, reply.at));
    v1::Reply { at, replayed: reply.replayed, body: Some(body) }
}

fn reply_from_wire(reply: v1::Reply) -> Result<(GroupId, Reply), ConvertError> {
    use v1::reply::Body;
    let position = required(reply.at, "at")?;
    let ballot =
        Ballot { round: position.ballot_round, replica: ReplicaId(position.ballot_replica) };
    let at = EntryId { ballot, slot: Slot(position.slot) };
    let body = match required(reply.body, "body")? {
        Body::Session(session) => ReplyBody::Session(session_from_wire(session)?),
        Body::SessionClosed(v1::SessionClosed {}) => ReplyBody::SessionClosed,
        Body::Row(row) => ReplyBody::Row(words::optional_value(row.value, "row.value")?),
        Body::Page(page) => {
            ReplyBody::Page(page_from_wire(page).map_err(|error| error.inside("page"))?)
        }
        Body::Committed(committed) => {
            let (reads, sums) =
                committed_from_wire(committed).map_err(|error| error.inside("committed"))?;
            ReplyBody::Committed { reads, sums }
        }
        Body::Account(v1::OptionalAccount { account }) => {
            let account = account.map(money::account_from_wire).transpose();
            ReplyBody::Account(account.map_err(|error| error.inside("account"))?)
        }
        Body::Transfers(results) => {
            let results = money::results_from_wire(results);
            ReplyBody::Transfers(results.map_err(|error| error.inside("transfers"))?)
        }
        Body::Transfer(v1::OptionalTransfer { transfer }) => {
            let found = transfer.map(money::record_from_wire).transpose();
            ReplyBody::Transfer(found.map_err(|error| error.inside("transfer"))?.map(Box::new))
        }
        Body::History(page) => {
            let page = money::page_from_wire(page);
            ReplyBody::History(page.map_err(|error| error.inside("history"))?)
        }
        Body::Cut(cut) => ReplyBody::Cut(CutId(cut)),
        Body::Accounts(page) => {
            let page = cut::accounts_from_wire(page);
            ReplyBody::Accounts(page.map_err(|error| error.inside("accounts"))?)
        }
        Body::FoundTransfers(page) => {
            let page = cut::found_from_wire(page);
            ReplyBody::FoundTransfers(page.map_err(|error| error.inside("found_transfers"))?)
        }
        Body::Records(page) => ReplyBody::Records(cut::records_from_wire(page)),
        Body::Rows(found) => {
            let found = many::found_from_wire(found);
            ReplyBody::Rows(found.map_err(|error| error.inside("rows"))?)
        }
    };
    Ok((GroupId(position.group), Reply { at, replayed: reply.replayed, body }))
}

fn session_from_wire(session: v1::SessionId) -> Result<SessionId, ConvertError> {
    words::session_from_wire(session).map_err(|error| error.inside("session"))
}

fn optional_to_wire(value: Option<Value>) -> v1::OptionalValue {
    v1::OptionalValue { value: value.map(words::value_to_wire) }
}

pub(super) fn committed_to_wire(reads: Vec<Option<Value>>, sums: Vec<i64>) -> v1::Committed {
    v1::Committed { reads: reads.into_iter().map(optional_to_wire).collect(), sums }
}

pub(super) fn committed_from_wire(
    committed: v1::Committed,
) -> Result<(Vec<Option<Value>>, Vec<i64>), ConvertError> {
    let optional = |read: v1::OptionalValue| words::optional_value(read.value, "value");
    Ok((words::each(committed.reads, "reads", optional)?, committed.sums))
}

pub(super) fn page_to_wire(page: ScanPage) -> v1::ScanPage {
    let row_to_wire = |row: ScannedRow| v1::ScannedRow {
        uid: row.uid.0,
        key: row.key,
        value: Some(words::value_to_wire(row.value)),
    };
    v1::ScanPage {
        rows: page.rows.into_iter().map(row_to_wire).collect(),
        next: page.next.map(words::scan_position_to_wire),
    }
}

fn page_from_wire(page: v1::ScanPage) -> Result<ScanPage, ConvertError> {
    let row_from_wire = |row: v1::ScannedRow| {
        let value = words::required_value(row.value, "value")?;
        Ok(ScannedRow { uid: Uid(row.uid), key: row.key, value })
    };
    let rows = words::each(page.rows, "rows", row_from_wire)?;
    let next: Option<(Uid, Bytes)> = page.next.map(words::scan_position_from_wire);
    Ok(ScanPage { rows, next })
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
