//! How large a request is, and whether any server would take it.
//!
//! Checked before a request is sent: a frame that is too large would break the stream, and with it
//! the requests of everybody else on it. The server checks again, exactly.

use quorate_types::limits::{
    ENTRY_BYTES_MAX, KEY_BYTES_MAX, READ_ROWS_MAX, TRANSFERS_MAX, TXN_OPS_MAX, VALUE_BYTES_MAX,
};
use quorate_types::{Code, Condition, Error, Mutation, RequestBody, RowAddress, Value};

/// An upper bound of the bytes around one key and value on the wire.
const PART_BYTES: usize = 64;
/// An upper bound of the bytes of a request that are not in its parts.
const HEAD_BYTES: usize = 128;

/// An upper bound of the bytes of a request on the wire.
///
/// # Errors
/// `KEY_TOO_LARGE`, `VALUE_TOO_LARGE`, `TXN_TOO_LARGE` or `BATCH_TOO_LARGE`.
pub(crate) fn checked(body: &RequestBody) -> Result<usize, Error> {
    let parts = match body {
        RequestBody::OpenSession | RequestBody::CloseSession(_) => 0,
        RequestBody::CreateAccount(..)
        | RequestBody::SetAccount(..)
        | RequestBody::GetAccount(_)
        | RequestBody::GetTransfer(..)
        | RequestBody::History { .. }
        | RequestBody::NewCut
        | RequestBody::PinCut(_)
        | RequestBody::ReadCut(..)
        | RequestBody::UnpinCut(_) => PART_BYTES,
        RequestBody::Transfers(batch) => {
            let count = batch.len();
            if count == 0 || TRANSFERS_MAX < count {
                let message = format!("the batch has {count} transfers");
                return Err(Error::new(Code::BatchTooLarge, message));
            }
            batch.bytes().len()
        }
        RequestBody::Get(at) => part(at, None)?,
        RequestBody::GetMany { rows, .. } => {
            if READ_ROWS_MAX < rows.len() {
                let message = format!("{} rows are asked for at once", rows.len());
                return Err(Error::new(Code::TxnTooLarge, message));
            }
            let bytes = rows.iter().map(|row| Ok(part(&row.at, None)? + PART_BYTES));
            bytes.sum::<Result<usize, Error>>()?
        }
        RequestBody::Scan(range) => {
            if KEY_BYTES_MAX < range.prefix.len() {
                let message = format!("the prefix of the scan has {} bytes", range.prefix.len());
                return Err(Error::new(Code::KeyTooLarge, message));
            }
            range.prefix.len() + range.after.as_ref().map_or(0, |(_, key)| key.len()) + PART_BYTES
        }
        RequestBody::Transact { conditions, mutations, reads } => {
            let count = conditions.len() + mutations.len() + reads.len();
            if TXN_OPS_MAX < count {
                let message = format!("the transaction has {count} parts");
                return Err(Error::new(Code::TxnTooLarge, message));
            }
            let mut bytes = 0;
            for condition in conditions {
                let value = match condition {
                    Condition::Equals(_, value) => Some(value),
                    Condition::Exists(_) | Condition::Absent(_) => None,
                };
                bytes += part(condition.address(), value)?;
            }
            for mutation in mutations {
                let value = match mutation {
                    Mutation::Put(_, value) => Some(value),
                    Mutation::Delete(_) | Mutation::Add { .. } => None,
                };
                bytes += part(mutation.address(), value)?;
            }
            for at in reads {
                bytes += part(at, None)?;
            }
            if ENTRY_BYTES_MAX + count * PART_BYTES < bytes {
                let message = format!("the transaction takes {bytes} bytes");
                return Err(Error::new(Code::TxnTooLarge, message));
            }
            bytes
        }
    };
    Ok(HEAD_BYTES + parts)
}

fn part(at: &RowAddress, value: Option<&Value>) -> Result<usize, Error> {
    let key = at.key.len();
    if key == 0 || KEY_BYTES_MAX < key {
        return Err(Error::new(Code::KeyTooLarge, format!("a key has {key} bytes")));
    }
    let value = value.map_or(0, Value::size);
    if VALUE_BYTES_MAX < value {
        return Err(Error::new(Code::ValueTooLarge, format!("a value has {value} bytes")));
    }
    Ok(PART_BYTES + key + value)
}

#[cfg(test)]
mod tests {
    use quorate_types::{TableId, Uid, limits};

    use super::*;

    fn puts(count: usize, key: usize, value: usize) -> RequestBody {
        let at = RowAddress { table: TableId(1), uid: Uid(1), key: vec![b'k'; key].into() };
        let put = Mutation::Put(at, Value::Bytes(vec![0; value].into()));
        let (conditions, reads) = (Vec::new(), Vec::new());
        RequestBody::Transact { conditions, mutations: vec![put; count], reads }
    }

    #[test]
    fn what_no_server_takes_is_never_sent() {
        // Goal: the largest request that passes fits a frame with room to spare.
        let largest = checked(&puts(1023, 1, 1000)).unwrap();
        assert!(largest <= limits::WIRE_FRAME_BYTES_MAX * 3 / 4, "{largest}");
        let code = |body| checked(&body).map(drop).map_err(|error| error.code);
        assert_eq!(code(puts(1, limits::KEY_BYTES_MAX, limits::VALUE_BYTES_MAX)), Ok(()));
        assert_eq!(code(puts(1, 0, 1)), Err(Code::KeyTooLarge));
        assert_eq!(code(puts(1, limits::KEY_BYTES_MAX + 1, 1)), Err(Code::KeyTooLarge));
        assert_eq!(code(puts(1, 1, limits::VALUE_BYTES_MAX + 1)), Err(Code::ValueTooLarge));
        assert_eq!(code(puts(3, 1, limits::VALUE_BYTES_MAX)), Err(Code::TxnTooLarge));
        assert_eq!(code(puts(1025, 1, 1)), Err(Code::TxnTooLarge));
    }
}
