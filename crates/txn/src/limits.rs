//! What a request may look like: sizes, counts, and fields that contradict each other.
//!
//! Called at the edge, before a request takes up memory in a queue; evaluation relies on it. The
//! numbers stand in `quorate_types::limits`.

use bytes::Bytes;
use quorate_types::limits::{
    ENTRY_BYTES_MAX, KEY_BYTES_MAX, READ_ROWS_MAX, TXN_OPS_MAX, VALUE_BYTES_MAX,
};
use quorate_types::{
    Code, Condition, CutRange, Error, Mutation, Request, RequestBody, RequestId, RowAddress,
    ScanRange, Value, WantedRow,
};

use crate::entry::{EFFECT_BYTES_MAX, HEAD_BYTES_MAX};
use crate::money;

/// Most bytes of the key of a row before the user's own: more than any.
const RECORD_KEY_FRONT_MAX: usize = 64;
/// Most characters of a key in a message.
const KEY_SHOWN_MAX: usize = 64;

/// Refuses a request that no group could carry out.
///
/// A transaction that passes fits a log entry, unless the values of its `reads` are too large
/// together; only the leader sees those.
///
/// # Errors
/// `KEY_TOO_LARGE`, `VALUE_TOO_LARGE`, `TXN_TOO_LARGE`, `BATCH_TOO_LARGE`, `FLOOR_ABOVE_BALANCE` or
/// `INVALID_REQUEST`.
pub fn check_limits(request: &Request) -> Result<(), Error> {
    match &request.body {
        RequestBody::OpenSession
        | RequestBody::CloseSession(_)
        | RequestBody::NewCut
        | RequestBody::PinCut(_)
        | RequestBody::UnpinCut(_)
        | RequestBody::ReadCut(_, CutRange::Accounts { .. } | CutRange::Transfers { .. }) => {
            check_no_id(request)
        }
        RequestBody::ReadCut(_, CutRange::Records { after, .. }) => {
            check_no_id(request).and_then(|()| check_portable(after.as_ref()))
        }
        RequestBody::ReadCut(_, CutRange::Rows(range)) => {
            check_no_id(request).and_then(|()| check_scan(range))
        }
        RequestBody::Get(at) => check_no_id(request).and_then(|()| check_key(at)),
        RequestBody::GetMany { rows, .. } => check_no_id(request).and_then(|()| check_many(rows)),
        RequestBody::Scan(range) => check_no_id(request).and_then(|()| check_scan(range)),
        RequestBody::Transact { conditions, mutations, reads } => {
            request.id.as_ref().map_or(Ok(()), check_id)?;
            check_transaction(conditions, mutations, reads)
        }
        RequestBody::CreateAccount(..)
        | RequestBody::SetAccount(..)
        | RequestBody::GetAccount(_)
        | RequestBody::Transfers(_)
        | RequestBody::GetTransfer(..)
        | RequestBody::History { .. } => {
            check_no_id(request).and_then(|()| money::check_limits(request))
        }
    }
}

/// Refuses a key that is longer than any of a record.
fn check_portable(after: Option<&Bytes>) -> Result<(), Error> {
    match after {
        Some(key) if KEY_BYTES_MAX + RECORD_KEY_FRONT_MAX < key.len() => {
            let message = format!("no record has a key of {} bytes", key.len());
            Err(Error::new(Code::InvalidRequest, message).with("field", "after"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Refuses numbers that cannot belong to a request of a session.
pub(crate) fn check_id(id: &RequestId) -> Result<(), Error> {
    let RequestId { sequence, lowest_unanswered, .. } = *id;
    let message = if sequence == 0 {
        "requests of a session are numbered from 1".to_owned()
    } else if sequence < lowest_unanswered {
        format!("request {sequence} acknowledges itself: lowest unanswered is {lowest_unanswered}")
    } else {
        return Ok(());
    };
    Err(Error::new(Code::InvalidRequest, message))
}

/// A row in a message.
pub(crate) fn describe(at: &RowAddress) -> String {
    let key = String::from_utf8_lossy(&at.key);
    let cut = if key.chars().nth(KEY_SHOWN_MAX).is_some() { "..." } else { "" };
    let shown: String = key.chars().take(KEY_SHOWN_MAX).collect();
    format!("row {}/{}/\"{}{cut}\"", at.table, at.uid, shown.escape_debug())
}

/// An error about a row: the message names it, and so do the facts.
pub(crate) fn row_error(code: Code, at: &RowAddress, what: &str) -> Error {
    Error::new(code, format!("{} {what}", describe(at)))
        .with("table", at.table)
        .with("uid", at.uid)
        .with("key", String::from_utf8_lossy(&at.key))
}

fn check_no_id(request: &Request) -> Result<(), Error> {
    match request.id {
        None => Ok(()),
        Some(_) => Err(invalid("only transactions carry a request id")),
    }
}

fn invalid(message: &str) -> Error {
    Error::new(Code::InvalidRequest, message)
}

fn check_key(at: &RowAddress) -> Result<(), Error> {
    match at.key.len() {
        1..=KEY_BYTES_MAX => Ok(()),
        length => {
            let what = format!("has a key of {length} bytes");
            Err(row_error(Code::KeyTooLarge, at, &what).with("length", length))
        }
    }
}

fn check_value(at: &RowAddress, value: &Value) -> Result<(), Error> {
    let size = value.size();
    if VALUE_BYTES_MAX < size {
        let what = format!("is given a value of {size} bytes");
        return Err(row_error(Code::ValueTooLarge, at, &what).with("length", size));
    }
    Ok(())
}

fn check_scan(range: &ScanRange) -> Result<(), Error> {
    if KEY_BYTES_MAX < range.prefix.len() {
        let length = range.prefix.len();
        let message = format!("the prefix of the scan has {length} bytes");
        return Err(Error::new(Code::KeyTooLarge, message).with("length", length));
    }
    if range.uid.is_none() && !range.prefix.is_empty() {
        return Err(invalid("a scan over a slice takes no prefix: name a uid"));
    }
    let Some((uid, key)) = &range.after else { return Ok(()) };
    if range.uid.is_some_and(|scanned| scanned != *uid) {
        return Err(invalid("the scan continues after a row of another uid"));
    }
    check_key(&RowAddress { table: range.table, uid: *uid, key: key.clone() })
}

fn check_many(rows: &[WantedRow]) -> Result<(), Error> {
    match rows.len() {
        0 => Err(invalid("no row is asked for")),
        1..=READ_ROWS_MAX => rows.iter().try_for_each(|row| check_key(&row.at)),
        count => {
            let message = format!("{count} rows are asked for at once, at most {READ_ROWS_MAX}");
            Err(Error::new(Code::TxnTooLarge, message).with("rows", count))
        }
    }
}

fn check_transaction(
    conditions: &[Condition],
    mutations: &[Mutation],
    reads: &[RowAddress],
) -> Result<(), Error> {
    let parts = conditions.len() + mutations.len() + reads.len();
    if parts == 0 {
        return Err(invalid("the transaction is empty"));
    }
    if TXN_OPS_MAX < parts {
        let message = format!("the transaction has {parts} parts");
        return Err(Error::new(Code::TxnTooLarge, message).with("parts", parts));
    }
    let mut bytes = HEAD_BYTES_MAX;
    for condition in conditions {
        bytes += check_part(condition.address(), value_of_condition(condition))?;
    }
    for mutation in mutations {
        bytes += check_part(mutation.address(), value_of_mutation(mutation))?;
        check_bounds(mutation)?;
    }
    for at in reads {
        bytes += check_part(at, None)?;
    }
    if ENTRY_BYTES_MAX < bytes {
        let message = format!("the transaction takes {bytes} bytes");
        return Err(Error::new(Code::TxnTooLarge, message).with("length", bytes));
    }
    Ok(())
}

/// Checks key and value; returns the most bytes the part can take in an entry.
fn check_part(at: &RowAddress, value: Option<&Value>) -> Result<usize, Error> {
    check_key(at)?;
    let size = match value {
        None => 0,
        Some(value) => {
            check_value(at, value)?;
            value.size()
        }
    };
    Ok(EFFECT_BYTES_MAX + at.key.len() + size)
}

fn value_of_condition(condition: &Condition) -> Option<&Value> {
    match condition {
        Condition::Equals(_, value) => Some(value),
        Condition::Exists(_) | Condition::Absent(_) => None,
    }
}

fn value_of_mutation(mutation: &Mutation) -> Option<&Value> {
    match mutation {
        Mutation::Put(_, value) => Some(value),
        Mutation::Delete(_) | Mutation::Add { .. } => None,
    }
}

fn check_bounds(mutation: &Mutation) -> Result<(), Error> {
    match mutation {
        Mutation::Add { at, floor: Some(floor), ceiling: Some(ceiling), .. } if ceiling < floor => {
            let what = format!("has a floor of {floor} above its ceiling of {ceiling}");
            Err(row_error(Code::InvalidRequest, at, &what))
        }
        Mutation::Put(..) | Mutation::Delete(_) | Mutation::Add { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_types::{GroupId, SessionId, Slot, TableId, Uid};

    use super::*;

    fn at(length: usize) -> RowAddress {
        RowAddress { table: TableId(1), uid: Uid(42), key: vec![b'k'; length].into() }
    }

    fn put(key: usize, value: usize) -> Mutation {
        Mutation::Put(at(key), Value::Bytes(vec![0; value].into()))
    }

    fn transact(mutations: Vec<Mutation>, reads: Vec<RowAddress>) -> RequestBody {
        RequestBody::Transact { conditions: Vec::new(), mutations, reads }
    }

    fn scan(uid: Option<u64>, prefix: usize, after: Option<(u64, usize)>) -> RequestBody {
        RequestBody::Scan(ScanRange {
            table: TableId(1),
            uid: uid.map(Uid),
            slice: 42,
            prefix: vec![b'p'; prefix].into(),
            after: after.map(|(uid, length)| (Uid(uid), at(length).key)),
            limit: 0,
        })
    }

    fn many(key: usize, count: usize) -> RequestBody {
        let row = WantedRow { at: at(key), known: None };
        RequestBody::GetMany { rows: vec![row; count], cut: quorate_types::CutId::NONE }
    }

    fn check(body: RequestBody, sequence: Option<(u64, u64)>) -> Option<Code> {
        let session = SessionId { group: GroupId(1), slot: Slot(1) };
        let id = sequence.map(|(sequence, lowest_unanswered)| RequestId {
            session,
            sequence,
            lowest_unanswered,
        });
        check_limits(&Request { id, body }).err().map(|error| error.code)
    }

    #[test]
    fn each_limit_has_its_code() {
        // Goal: a request at a limit passes, one beyond it gets the code of that limit.
        let over = |floor, ceiling| {
            let (floor, ceiling) = (Some(floor), Some(ceiling));
            transact(vec![Mutation::Add { at: at(1), delta: 1, floor, ceiling }], Vec::new())
        };
        let cases = [
            (RequestBody::OpenSession, None),
            (RequestBody::Get(at(KEY_BYTES_MAX)), None),
            (RequestBody::Get(at(KEY_BYTES_MAX + 1)), Some(Code::KeyTooLarge)),
            (RequestBody::Get(at(0)), Some(Code::KeyTooLarge)),
            (transact(vec![put(1, VALUE_BYTES_MAX)], Vec::new()), None),
            (transact(vec![put(1, VALUE_BYTES_MAX + 1)], Vec::new()), Some(Code::ValueTooLarge)),
            (transact(vec![put(1, VALUE_BYTES_MAX); 2], Vec::new()), Some(Code::TxnTooLarge)),
            (transact(vec![put(1, 1); TXN_OPS_MAX], Vec::new()), None),
            (transact(vec![put(1, 1); TXN_OPS_MAX + 1], Vec::new()), Some(Code::TxnTooLarge)),
            (transact(vec![put(1, 1); TXN_OPS_MAX], vec![at(1)]), Some(Code::TxnTooLarge)),
            (transact(Vec::new(), vec![at(0)]), Some(Code::KeyTooLarge)),
            (transact(Vec::new(), Vec::new()), Some(Code::InvalidRequest)),
            (over(5, 5), None),
            (over(6, 5), Some(Code::InvalidRequest)),
            (scan(Some(42), KEY_BYTES_MAX, Some((42, 1))), None),
            (scan(Some(42), KEY_BYTES_MAX + 1, None), Some(Code::KeyTooLarge)),
            (scan(Some(42), 0, Some((43, 1))), Some(Code::InvalidRequest)),
            (scan(Some(42), 0, Some((42, 0))), Some(Code::KeyTooLarge)),
            (scan(None, 0, Some((43, 1))), None),
            (scan(None, 1, None), Some(Code::InvalidRequest)),
            (many(1, READ_ROWS_MAX), None),
            (many(1, READ_ROWS_MAX + 1), Some(Code::TxnTooLarge)),
            (many(KEY_BYTES_MAX + 1, 1), Some(Code::KeyTooLarge)),
            (many(1, 0), Some(Code::InvalidRequest)),
        ];
        for (body, code) in cases {
            let shown = format!("{body:?}").chars().take(200).collect::<String>();
            assert_eq!(check(body, None), code, "{shown}");
        }
    }

    #[test]
    fn request_ids_make_sense() {
        // Goal: ids that no client library would send are refused before they reach a session.
        let write = || transact(vec![put(1, 1)], Vec::new());
        assert_eq!(check(write(), Some((1, 0))), None);
        assert_eq!(check(write(), Some((5, 5))), None);
        assert_eq!(check(write(), Some((0, 0))), Some(Code::InvalidRequest));
        assert_eq!(check(write(), Some((5, 6))), Some(Code::InvalidRequest));
        assert_eq!(check(RequestBody::Get(at(1)), Some((1, 1))), Some(Code::InvalidRequest));
        assert_eq!(check(many(1, 1), Some((1, 1))), Some(Code::InvalidRequest));
    }

    #[test]
    fn messages_name_the_row() {
        // Goal: a reader of the message finds the row, even if its key is long or no text.
        let key = Bytes::from_static(b"a\xff\"");
        let odd = RowAddress { table: TableId(1), uid: Uid(42), key };
        assert_eq!(describe(&odd), "row t1/42/\"a\u{fffd}\\\"\"");
        let error = check_limits(&Request { id: None, body: RequestBody::Get(at(2000)) });
        let error = error.expect_err("the key is too long");
        let want = format!("row t1/42/\"{}...\" has a key of 2000 bytes", "k".repeat(64));
        assert_eq!(error.message, want);
        assert_eq!(error.facts.get("length").map(String::as_str), Some("2000"));
    }
}
