//! The small words that all conversions share: ids, ballots, positions, values, row addresses.

use std::time::Duration;

use bytes::Bytes;
use quorate_types::{
    Ballot, ClusterId, EntryId, GroupId, ReplicaId, RequestId, RowAddress, SessionId, Slot,
    TableId, Uid, Value,
};

use super::{ConvertError, Tables};
use crate::v1;

/// A field of message type that must be present.
pub(crate) fn required<T>(value: Option<T>, field: &str) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::missing(field))
}

/// Converts every item of a repeated field; an error names the item.
pub(crate) fn each<W, T>(
    items: Vec<W>,
    field: &str,
    mut convert: impl FnMut(W) -> Result<T, ConvertError>,
) -> Result<Vec<T>, ConvertError> {
    let mut converted = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let name_it = |error: ConvertError| error.inside(&format!("{field}[{index}]"));
        converted.push(convert(item).map_err(name_it)?);
    }
    Ok(converted)
}

/// A number that must fit 16 bits.
pub(crate) fn narrow_u16(value: u32, field: &str) -> Result<u16, ConvertError> {
    u16::try_from(value).map_err(|_| too_large(field, value, u16::MAX.into()))
}

/// A number that must fit 8 bits.
pub(crate) fn narrow_u8(value: u32, field: &str) -> Result<u8, ConvertError> {
    u8::try_from(value).map_err(|_| too_large(field, value, u8::MAX.into()))
}

fn too_large(field: &str, value: u32, max: u64) -> ConvertError {
    ConvertError::TooLarge { field: field.to_owned(), value: value.into(), max }
}

/// Whole milliseconds, rounded up so that a short time does not become none.
pub(crate) fn millis(span: Duration) -> u64 {
    let rounded_up = span.as_nanos().div_ceil(1_000_000);
    u64::try_from(rounded_up).unwrap_or(u64::MAX)
}

/// Milliseconds where 0 means that nothing is said.
pub(crate) fn optional_millis(value: u64) -> Option<Duration> {
    (value != 0).then(|| Duration::from_millis(value))
}

/// A cluster id as text; empty means that none is named.
pub(crate) fn optional_cluster(text: &str, field: &str) -> Result<Option<ClusterId>, ConvertError> {
    if text.is_empty() { Ok(None) } else { cluster_from_wire(text, field).map(Some) }
}

pub(crate) fn cluster_from_wire(text: &str, field: &str) -> Result<ClusterId, ConvertError> {
    text.parse().map_err(|reason: String| ConvertError::malformed(field, reason))
}

pub(crate) fn ballot_to_wire(ballot: Ballot) -> v1::Ballot {
    v1::Ballot { round: ballot.round, replica: ballot.replica.0 }
}

pub(crate) fn ballot_from_wire(ballot: v1::Ballot) -> Ballot {
    Ballot { round: ballot.round, replica: ReplicaId(ballot.replica) }
}

pub(crate) fn entry_to_wire(id: EntryId) -> v1::EntryId {
    v1::EntryId { ballot: Some(ballot_to_wire(id.ballot)), slot: id.slot.0 }
}

pub(crate) fn entry_from_wire(id: v1::EntryId) -> Result<EntryId, ConvertError> {
    let ballot = ballot_from_wire(required(id.ballot, "ballot")?);
    Ok(EntryId { ballot, slot: Slot(id.slot) })
}

pub(crate) fn session_to_wire(session: SessionId) -> v1::SessionId {
    v1::SessionId { group: session.group.0, slot: session.slot.0 }
}

pub(crate) fn session_from_wire(session: v1::SessionId) -> Result<SessionId, ConvertError> {
    if session.group == 0 || session.slot == 0 {
        return Err(ConvertError::missing(if session.group == 0 { "group" } else { "slot" }));
    }
    Ok(SessionId { group: GroupId(session.group), slot: Slot(session.slot) })
}

pub(crate) fn request_id_to_wire(id: RequestId) -> v1::RequestId {
    v1::RequestId {
        session: Some(session_to_wire(id.session)),
        sequence: id.sequence,
        lowest_unanswered: id.lowest_unanswered,
    }
}

pub(crate) fn request_id_from_wire(id: v1::RequestId) -> Result<RequestId, ConvertError> {
    let session = session_from_wire(required(id.session, "session")?)
        .map_err(|error| error.inside("session"))?;
    if id.sequence == 0 {
        return Err(ConvertError::missing("sequence"));
    }
    if id.sequence < id.lowest_unanswered {
        let reason = format!("it is above the request's own number {}", id.sequence);
        return Err(ConvertError::malformed("lowest_unanswered", reason));
    }
    Ok(RequestId { session, sequence: id.sequence, lowest_unanswered: id.lowest_unanswered })
}

pub(crate) fn value_to_wire(value: Value) -> v1::Value {
    let kind = match value {
        Value::Bytes(data) => v1::value::Kind::Data(data),
        Value::Integer(integer) => v1::value::Kind::Integer(integer),
    };
    v1::Value { kind: Some(kind) }
}

pub(crate) fn value_from_wire(value: v1::Value) -> Result<Value, ConvertError> {
    Ok(match required(value.kind, "kind")? {
        v1::value::Kind::Data(data) => Value::Bytes(data),
        v1::value::Kind::Integer(integer) => Value::Integer(integer),
    })
}

/// A value that may be absent.
pub(crate) fn optional_value(
    value: Option<v1::Value>,
    field: &str,
) -> Result<Option<Value>, ConvertError> {
    value.map(value_from_wire).transpose().map_err(|error| error.inside(field))
}

/// A value that must be present.
pub(crate) fn required_value(value: Option<v1::Value>, field: &str) -> Result<Value, ConvertError> {
    value_from_wire(required(value, field)?).map_err(|error| error.inside(field))
}

/// A table by number, or by name if the number is 0.
pub(crate) fn table_from_wire(
    number: u32,
    name: &str,
    tables: Tables<'_>,
) -> Result<TableId, ConvertError> {
    if number != 0 {
        return narrow_u16(number, "table_id").map(TableId);
    }
    if name.is_empty() {
        return Err(ConvertError::missing("table"));
    }
    let unknown =
        || ConvertError::UnknownTable { field: "table".to_owned(), name: name.to_owned() };
    tables(name).ok_or_else(unknown)
}

/// A row address that carries the number of its table.
pub(crate) fn address_to_wire(at: RowAddress) -> v1::RowAddress {
    let RowAddress { table, uid, key } = at;
    v1::RowAddress { table: String::new(), uid: uid.0, key, table_id: table.0.into() }
}

pub(crate) fn address_from_wire(
    at: v1::RowAddress,
    tables: Tables<'_>,
) -> Result<RowAddress, ConvertError> {
    let table = table_from_wire(at.table_id, &at.table, tables)?;
    Ok(RowAddress { table, uid: Uid(at.uid), key: at.key })
}

/// A row address that must be present.
pub(crate) fn required_address(
    at: Option<v1::RowAddress>,
    field: &str,
    tables: Tables<'_>,
) -> Result<RowAddress, ConvertError> {
    address_from_wire(required(at, field)?, tables).map_err(|error| error.inside(field))
}

pub(crate) fn scan_position_to_wire(position: (Uid, Bytes)) -> v1::ScanPosition {
    v1::ScanPosition { uid: position.0.0, key: position.1 }
}

pub(crate) fn scan_position_from_wire(position: v1::ScanPosition) -> (Uid, Bytes) {
    (Uid(position.uid), position.key)
}
