//! Requests: items of the pipelined stream, and unary calls.
//!
//! The client makes [`Item`]s; the server reads [`Item`]s and [`Call`]s. Both end in one
//! [`Request`], so that behind the edge nobody knows how a request came in.

use std::time::Duration;

use quorate_types::{
    ClusterId, Condition, CutId, Elsewhere, GroupId, Mutation, Part, Request, RequestBody,
    RequestId, RowAddress, ScanRange, SliceId, Slot, TableId, Uid,
};

use super::cut;
use super::many;
use super::money;
use super::words::{self, required};
use super::{ConvertError, Tables};
use crate::v1;

/// One request on the pipelined stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Names the request on its stream.
    pub id: u64,
    /// The group it goes to.
    pub group: GroupId,
    /// Time left; `None` leaves it to the server.
    pub time_left: Option<Duration>,
    /// The topology version the client routed by; 0 if it does not say.
    pub topology_version: u64,
    /// Of a read: it need not go to the leader.
    pub elsewhere: Option<Elsewhere>,
    /// The request.
    pub request: Request,
}

impl Item {
    /// The item for the wire. Tables travel by number.
    #[must_use]
    pub fn into_wire(self) -> v1::PipelineItem {
        v1::PipelineItem {
            id: self.id,
            group: self.group.0,
            // No time left is not the same as nothing said, which is 0 on the wire.
            deadline_ms: self.time_left.map_or(0, |left| words::millis(left).max(1)),
            topology_version: self.topology_version,
            request_id: self.request.id.map(words::request_id_to_wire),
            elsewhere: self.elsewhere.map(elsewhere_to_wire),
            body: Some(body_to_wire(self.request.body)),
        }
    }

    /// The item from the wire. Read `item.id` before, to answer an item that is refused.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_wire(item: v1::PipelineItem, tables: Tables<'_>) -> Result<Item, ConvertError> {
        if item.group == 0 {
            return Err(ConvertError::missing("group"));
        }
        let body = body_from_wire(required(item.body, "body")?, tables)?;
        Ok(Item {
            id: item.id,
            group: GroupId(item.group),
            time_left: words::optional_millis(item.deadline_ms),
            topology_version: item.topology_version,
            elsewhere: item.elsewhere.map(elsewhere_from_wire).transpose()?,
            request: Request { id: request_id(item.request_id)?, body },
        })
    }
}

/// What a unary call says about where it belongs. The server finds the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The group of this session, or the group that was named.
    Group(GroupId),
    /// The group of this user in this table.
    Row(TableId, Uid),
    /// The group of this slice of this table.
    Slice(TableId, SliceId),
    /// The group of this user's accounts.
    Accounts(Uid),
    /// The group that numbers the cuts.
    Cuts,
}

/// A unary call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The cluster the caller means, if it says.
    pub cluster: Option<ClusterId>,
    /// The group the caller believes in, if it says.
    pub group: Option<GroupId>,
    /// Where the request belongs. Of a transaction only its first row is looked at.
    pub place: Place,
    /// Time left; `None` leaves it to the server.
    pub time_left: Option<Duration>,
    /// Of a read: it need not go to the leader.
    pub elsewhere: Option<Elsewhere>,
    /// The request.
    pub request: Request,
}

impl Call {
    /// A call of `Get`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_get(call: v1::GetRequest, tables: Tables<'_>) -> Result<Call, ConvertError> {
        let table = words::table_from_wire(0, &call.table, tables)?;
        let at = RowAddress { table, uid: Uid(call.uid), key: call.key };
        Call::new(call.context, Place::Row(at.table, at.uid), RequestBody::Get(at))
    }

    /// A call of `Put`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_put(call: v1::PutRequest, tables: Tables<'_>) -> Result<Call, ConvertError> {
        let table = words::table_from_wire(0, &call.table, tables)?;
        let at = RowAddress { table, uid: Uid(call.uid), key: call.key };
        let value = words::required_value(call.value, "value")?;
        Call::of_mutation(call.context, Vec::new(), Mutation::Put(at, value))
    }

    /// A call of `Delete`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_delete(call: v1::DeleteRequest, tables: Tables<'_>) -> Result<Call, ConvertError> {
        let table = words::table_from_wire(0, &call.table, tables)?;
        let at = RowAddress { table, uid: Uid(call.uid), key: call.key };
        Call::of_mutation(call.context, Vec::new(), Mutation::Delete(at))
    }

    /// A call of `CompareAndSet`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_compare_and_set(
        call: v1::CompareAndSetRequest,
        tables: Tables<'_>,
    ) -> Result<Call, ConvertError> {
        let table = words::table_from_wire(0, &call.table, tables)?;
        let at = RowAddress { table, uid: Uid(call.uid), key: call.key };
        let condition = match words::optional_value(call.expected, "expected")? {
            Some(value) => Condition::Equals(at.clone(), value),
            None => Condition::Absent(at.clone()),
        };
        let mutation = match words::optional_value(call.new, "new")? {
            Some(value) => Mutation::Put(at, value),
            None => Mutation::Delete(at),
        };
        Call::of_mutation(call.context, vec![condition], mutation)
    }

    /// A call of `Scan`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_scan(call: v1::ScanRequest, tables: Tables<'_>) -> Result<Call, ConvertError> {
        let v1::ScanRequest { context, table, uid, slice, prefix, after, limit } = call;
        let range = v1::ScanRange { table, table_id: 0, uid, slice, prefix, after, limit };
        let range = scan_from_wire(range, tables)?;
        let place = match range.uid {
            Some(uid) => Place::Row(range.table, uid),
            None => Place::Slice(range.table, SliceId(range.slice)),
        };
        Call::new(context, place, RequestBody::Scan(range))
    }

    /// A call of `Transact`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_transact(
        call: v1::TransactRequest,
        tables: Tables<'_>,
    ) -> Result<Call, ConvertError> {
        let transaction = required(call.transaction, "transaction")?;
        let body = transaction_from_wire(transaction, tables)
            .map_err(|error| error.inside("transaction"))?;
        let first = addresses(&body).next();
        let first = first.ok_or_else(|| ConvertError::missing("transaction.mutations"))?;
        let mut asked = Call::new(call.context, Place::Row(first.table, first.uid), body)?;
        // Its session says which group coordinates, should there be several.
        if let Some(id) = asked.request.id {
            asked.place = Place::Group(id.session.group);
        }
        Ok(asked)
    }

    /// A call of `OpenSession`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_open_session(
        call: v1::OpenSessionRequest,
        tables: Tables<'_>,
    ) -> Result<Call, ConvertError> {
        let named = call.context.as_ref().map_or(0, |context| context.group);
        let place = if named != 0 {
            Place::Group(GroupId(named))
        } else {
            Place::Row(words::table_from_wire(0, &call.table, tables)?, Uid(call.uid))
        };
        Call::new(call.context, place, RequestBody::OpenSession)
    }

    /// A call of `CloseSession`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_close_session(call: v1::CloseSessionRequest) -> Result<Call, ConvertError> {
        let session = words::session_from_wire(required(call.session, "session")?)
            .map_err(|error| error.inside("session"))?;
        let place = Place::Group(session.group);
        Call::new(call.context, place, RequestBody::CloseSession(session))
    }

    fn of_mutation(
        context: Option<v1::RequestContext>,
        conditions: Vec<Condition>,
        mutation: Mutation,
    ) -> Result<Call, ConvertError> {
        let at = mutation.address();
        let place = Place::Row(at.table, at.uid);
        let mutations = vec![mutation];
        let body = RequestBody::Transact { conditions, mutations, reads: Vec::new() };
        Call::new(context, place, body)
    }

    pub(super) fn new(
        context: Option<v1::RequestContext>,
        place: Place,
        body: RequestBody,
    ) -> Result<Call, ConvertError> {
        let context = context.unwrap_or_default();
        let inside = |error: ConvertError| error.inside("context");
        let cluster = words::optional_cluster(&context.cluster_id, "cluster_id").map_err(inside)?;
        let id = request_id(context.request_id).map_err(inside)?;
        let elsewhere = context.elsewhere.map(elsewhere_from_wire).transpose().map_err(inside)?;
        Ok(Call {
            cluster,
            elsewhere,
            group: (context.group != 0).then_some(GroupId(context.group)),
            place,
            time_left: words::optional_millis(context.timeout_ms),
            request: Request { id, body },
        })
    }
}

/// Every row a request names, in the order of conditions, mutations, reads. Empty for scans,
/// sessions and money.
pub fn addresses(body: &RequestBody) -> impl Iterator<Item = &RowAddress> {
    let wanted = if let RequestBody::GetMany { rows, .. } = body { &rows[..] } else { &[] };
    let (one, conditions, mutations, reads) = match body {
        RequestBody::Get(at) => (Some(at), &[][..], &[][..], &[][..]),
        RequestBody::Transact { conditions, mutations, reads } => {
            (None, &conditions[..], &mutations[..], &reads[..])
        }
        RequestBody::OpenSession
        | RequestBody::CloseSession(_)
        | RequestBody::Scan(_)
        | RequestBody::CreateAccount(..)
        | RequestBody::SetAccount(..)
        | RequestBody::GetAccount(_)
        | RequestBody::Transfers(_)
        | RequestBody::GetTransfer(..)
        | RequestBody::History { .. }
        | RequestBody::NewCut
        | RequestBody::PinCut(_)
        | RequestBody::ReadCut(..)
        | RequestBody::UnpinCut(_)
        | RequestBody::GetMany { .. } => (None, &[][..], &[][..], &[][..]),
    };
    let conditions = conditions.iter().map(Condition::address);
    let mutations = mutations.iter().map(Mutation::address);
    let wanted = wanted.iter().map(|row| &row.at);
    one.into_iter().chain(conditions).chain(mutations).chain(reads).chain(wanted)
}

fn elsewhere_to_wire(elsewhere: Elsewhere) -> v1::Elsewhere {
    v1::Elsewhere {
        at_least_slot: elsewhere.at_least.0,
        // Rounded down: nobody gets rows older than asked for.
        stale_max_ms: elsewhere
            .stale_max
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        around_locks: elsewhere.around_locks,
    }
}

fn elsewhere_from_wire(elsewhere: v1::Elsewhere) -> Result<Elsewhere, ConvertError> {
    let stale_max = elsewhere.stale_max_ms.map(Duration::from_millis);
    if stale_max.is_some_and(|age| Elsewhere::STALE_MAX < age) {
        let reason = "a read may be at most 60,000 ms old";
        return Err(ConvertError::malformed("elsewhere.stale_max_ms", reason));
    }
    let at_least = Slot(elsewhere.at_least_slot);
    Ok(Elsewhere { at_least, stale_max, around_locks: elsewhere.around_locks })
}

fn request_id(id: Option<v1::RequestId>) -> Result<Option<RequestId>, ConvertError> {
    let id = id.map(words::request_id_from_wire).transpose();
    id.map_err(|error| error.inside("request_id"))
}

fn body_to_wire(body: RequestBody) -> v1::pipeline_item::Body {
    use v1::pipeline_item::Body;
    match body {
        RequestBody::OpenSession => Body::OpenSession(v1::OpenSession {}),
        RequestBody::CloseSession(session) => Body::CloseSession(words::session_to_wire(session)),
        RequestBody::Get(at) => Body::Get(words::address_to_wire(at)),
        RequestBody::Scan(range) => Body::Scan(scan_to_wire(range)),
        RequestBody::CreateAccount(at, settings) => {
            Body::CreateAccount(money::new_account_to_wire(at, settings))
        }
        RequestBody::SetAccount(at, change) => {
            Body::SetAccount(money::changed_account_to_wire(at, change))
        }
        RequestBody::GetAccount(at) => Body::GetAccount(money::address_to_wire(at)),
        RequestBody::Transfers(batch) => Body::Transfers(batch.bytes().clone()),
        RequestBody::GetTransfer(debit, id) => Body::GetTransfer(money::name_to_wire(debit, id)),
        RequestBody::History { account, after, limit } => {
            Body::History(money::range_to_wire(account, after, limit))
        }
        RequestBody::NewCut => Body::NewCut(v1::NewCut {}),
        RequestBody::PinCut(cut) => Body::PinCut(cut.0),
        RequestBody::ReadCut(at, range) => Body::ReadCut(cut::read_to_wire(at, range)),
        RequestBody::UnpinCut(cut) => Body::UnpinCut(cut.0),
        RequestBody::GetMany { rows, cut } => Body::GetMany(many::many_to_wire(rows, cut)),
        RequestBody::Transact { conditions, mutations, reads } => {
            Body::Transact(part_to_wire(Part { conditions, mutations, reads, ..Part::default() }))
        }
    }
}

/// Conditions, mutations and reads: a transaction, or what one group does of it.
pub(super) fn part_to_wire(part: Part) -> v1::Transaction {
    v1::Transaction {
        conditions: part.conditions.into_iter().map(condition_to_wire).collect(),
        mutations: part.mutations.into_iter().map(mutation_to_wire).collect(),
        reads: part.reads.into_iter().map(words::address_to_wire).collect(),
    }
}

pub(super) fn part_from_wire(
    transaction: v1::Transaction,
    tables: Tables<'_>,
) -> Result<Part, ConvertError> {
    let v1::Transaction { conditions, mutations, reads } = transaction;
    Ok(Part {
        conditions: words::each(conditions, "conditions", |c| condition_from_wire(c, tables))?,
        mutations: words::each(mutations, "mutations", |m| mutation_from_wire(m, tables))?,
        reads: words::each(reads, "reads", |at| words::address_from_wire(at, tables))?,
        ..Part::default()
    })
}

fn body_from_wire(
    body: v1::pipeline_item::Body,
    tables: Tables<'_>,
) -> Result<RequestBody, ConvertError> {
    use v1::pipeline_item::Body;
    match body {
        Body::OpenSession(v1::OpenSession {}) => Ok(RequestBody::OpenSession),
        Body::CloseSession(session) => words::session_from_wire(session)
            .map(RequestBody::CloseSession)
            .map_err(|error| error.inside("close_session")),
        Body::Get(at) => words::address_from_wire(at, tables)
            .map(RequestBody::Get)
            .map_err(|error| error.inside("get")),
        Body::Scan(range) => scan_from_wire(range, tables)
            .map(RequestBody::Scan)
            .map_err(|error| error.inside("scan")),
        Body::Transact(transaction) => {
            transaction_from_wire(transaction, tables).map_err(|error| error.inside("transact"))
        }
        Body::CreateAccount(account) => {
            money::new_account_from_wire(account).map_err(|error| error.inside("create_account"))
        }
        Body::SetAccount(account) => {
            money::changed_account_from_wire(account).map_err(|error| error.inside("set_account"))
        }
        Body::GetAccount(at) => money::address_from_wire(at)
            .map(RequestBody::GetAccount)
            .map_err(|error| error.inside("get_account")),
        Body::Transfers(bytes) => money::batch_from_wire(bytes),
        Body::GetTransfer(name) => {
            money::name_from_wire(&name).map_err(|error| error.inside("get_transfer"))
        }
        Body::History(range) => {
            money::range_from_wire(range).map_err(|error| error.inside("history"))
        }
        Body::NewCut(v1::NewCut {}) => Ok(RequestBody::NewCut),
        Body::PinCut(cut) => Ok(RequestBody::PinCut(CutId(cut))),
        Body::ReadCut(read) => {
            cut::read_from_wire(read, tables).map_err(|error| error.inside("read_cut"))
        }
        Body::UnpinCut(cut) => Ok(RequestBody::UnpinCut(CutId(cut))),
        Body::GetMany(asked) => many::many_from_wire(asked, tables)
            .map(|(rows, cut)| RequestBody::GetMany { rows, cut })
            .map_err(|error| error.inside("get_many")),
    }
}

pub(super) fn scan_to_wire(range: ScanRange) -> v1::ScanRange {
    v1::ScanRange {
        table: String::new(),
        table_id: range.table.0.into(),
        uid: range.uid.map(|uid| uid.0),
        slice: range.slice.into(),
        prefix: range.prefix,
        after: range.after.map(words::scan_position_to_wire),
        limit: range.limit,
    }
}

pub(super) fn scan_from_wire(
    range: v1::ScanRange,
    tables: Tables<'_>,
) -> Result<ScanRange, ConvertError> {
    Ok(ScanRange {
        table: words::table_from_wire(range.table_id, &range.table, tables)?,
        uid: range.uid.map(Uid),
        slice: words::narrow_u16(range.slice, "slice")?,
        prefix: range.prefix,
        after: range.after.map(words::scan_position_from_wire),
        limit: range.limit,
    })
}

fn transaction_from_wire(
    transaction: v1::Transaction,
    tables: Tables<'_>,
) -> Result<RequestBody, ConvertError> {
    let Part { conditions, mutations, reads, .. } = part_from_wire(transaction, tables)?;
    Ok(RequestBody::Transact { conditions, mutations, reads })
}

fn condition_to_wire(condition: Condition) -> v1::Condition {
    use v1::condition::Kind;
    let kind = match condition {
        Condition::Exists(at) => Kind::Exists(words::address_to_wire(at)),
        Condition::Absent(at) => Kind::Absent(words::address_to_wire(at)),
        Condition::Equals(at, value) => Kind::Equals(v1::RowEquals {
            at: Some(words::address_to_wire(at)),
            value: Some(words::value_to_wire(value)),
        }),
    };
    v1::Condition { kind: Some(kind) }
}

fn condition_from_wire(
    condition: v1::Condition,
    tables: Tables<'_>,
) -> Result<Condition, ConvertError> {
    use v1::condition::Kind;
    match required(condition.kind, "kind")? {
        Kind::Exists(at) => words::address_from_wire(at, tables)
            .map(Condition::Exists)
            .map_err(|error| error.inside("exists")),
        Kind::Absent(at) => words::address_from_wire(at, tables)
            .map(Condition::Absent)
            .map_err(|error| error.inside("absent")),
        Kind::Equals(equals) => words::required_address(equals.at, "at", tables)
            .and_then(|at| Ok((at, words::required_value(equals.value, "value")?)))
            .map(|(at, value)| Condition::Equals(at, value))
            .map_err(|error| error.inside("equals")),
    }
}

fn mutation_to_wire(mutation: Mutation) -> v1::Mutation {
    use v1::mutation::Kind;
    let kind = match mutation {
        Mutation::Put(at, value) => Kind::Put(v1::PutMutation {
            at: Some(words::address_to_wire(at)),
            value: Some(words::value_to_wire(value)),
        }),
        Mutation::Delete(at) => Kind::Delete(words::address_to_wire(at)),
        Mutation::Add { at, delta, floor, ceiling } => Kind::Add(v1::AddMutation {
            at: Some(words::address_to_wire(at)),
            delta,
            floor,
            ceiling,
        }),
    };
    v1::Mutation { kind: Some(kind) }
}

fn mutation_from_wire(
    mutation: v1::Mutation,
    tables: Tables<'_>,
) -> Result<Mutation, ConvertError> {
    use v1::mutation::Kind;
    match required(mutation.kind, "kind")? {
        Kind::Put(put) => words::required_address(put.at, "at", tables)
            .and_then(|at| Ok((at, words::required_value(put.value, "value")?)))
            .map(|(at, value)| Mutation::Put(at, value))
            .map_err(|error| error.inside("put")),
        Kind::Delete(at) => words::address_from_wire(at, tables)
            .map(Mutation::Delete)
            .map_err(|error| error.inside("delete")),
        Kind::Add(v1::AddMutation { at, delta, floor, ceiling }) => {
            words::required_address(at, "at", tables)
                .map(|at| Mutation::Add { at, delta, floor, ceiling })
                .map_err(|error| error.inside("add"))
        }
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
