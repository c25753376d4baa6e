//! The values of session and result records.
//!
//! Used by `session.rs` and `apply.rs`; the keys stand in `quorate_store::keys`. Layouts are stable,
//! every number after the format byte is a varint:
//!
//! | record | format | fields |
//! |---|---|---|
//! | session | `0x01` | log time of last use in ms, lowest unanswered |
//! | result | `0x02` | slot, ballot round, ballot replica, reads, sums |

use bytes::{BufMut, Bytes, BytesMut};
use quorate_store::{Key, StoreError};
use quorate_types::{Ballot, EntryId, LogTime, ReplicaId, Slot, Value};

use crate::codec::{DecodeError, Reader, put_reply, put_varint};

const SESSION_FORMAT: u8 = 0x01;
const RESULT_FORMAT: u8 = 0x02;

/// What is kept of a session besides its results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    /// When the session was last used.
    pub(crate) last_used: LogTime,
    /// The greatest `lowest_unanswered` of its requests.
    pub(crate) lowest: u64,
}

/// The first result of a request, kept until the client acknowledges it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResultRecord {
    /// The entry that took effect.
    pub(crate) at: EntryId,
    /// The reply.
    pub(crate) reads: Vec<Option<Value>>,
    /// The reply.
    pub(crate) sums: Vec<i64>,
}

impl SessionRecord {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(16);
        out.put_u8(SESSION_FORMAT);
        put_varint(&mut out, self.last_used.0);
        put_varint(&mut out, self.lowest);
        out.freeze()
    }

    pub(crate) fn decode(key: &Key, bytes: &Bytes) -> Result<SessionRecord, StoreError> {
        let decode = |mut reader: Reader<'_>| {
            take_format(SESSION_FORMAT, &mut reader)?;
            let last_used = LogTime(reader.varint("last used")?);
            let lowest = reader.varint("lowest unanswered")?;
            reader.finish().map(|()| SessionRecord { last_used, lowest })
        };
        decode(Reader::new(bytes)).map_err(|error| damaged(key, &error))
    }
}

impl ResultRecord {
    /// A result to keep for long. Values read are copied: they share the memory of the batch they
    /// arrived in, which is much larger.
    pub(crate) fn new(at: EntryId, reads: &[Option<Value>], sums: &[i64]) -> ResultRecord {
        let copy = |value: &Value| match value {
            Value::Bytes(bytes) => Value::Bytes(Bytes::copy_from_slice(bytes)),
            Value::Integer(number) => Value::Integer(*number),
        };
        let reads = reads.iter().map(|read| read.as_ref().map(copy)).collect();
        ResultRecord { at, reads, sums: sums.to_vec() }
    }

    /// Memory it takes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let read = |read: &Option<Value>| {
            size_of::<Option<Value>>() + read.as_ref().map_or(0, Value::size)
        };
        size_of::<ResultRecord>()
            + self.reads.iter().map(read).sum::<usize>()
            + size_of_val(&self.sums[..])
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32);
        out.put_u8(RESULT_FORMAT);
        put_varint(&mut out, self.at.slot.0);
        put_varint(&mut out, self.at.ballot.round);
        put_varint(&mut out, self.at.ballot.replica.0);
        put_reply(&mut out, &self.reads, &self.sums);
        out.freeze()
    }

    pub(crate) fn decode(key: &Key, bytes: &Bytes) -> Result<ResultRecord, StoreError> {
        let decode = |mut reader: Reader<'_>| {
            take_format(RESULT_FORMAT, &mut reader)?;
            let slot = Slot(reader.varint("slot")?);
            let round = reader.varint("ballot round")?;
            let replica = ReplicaId(reader.varint("ballot replica")?);
            let (reads, sums) = reader.reply()?;
            let at = EntryId { ballot: Ballot { round, replica }, slot };
            reader.finish().map(|()| ResultRecord { at, reads, sums })
        };
        decode(Reader::new(bytes)).map_err(|error| damaged(key, &error))
    }
}

/// The error for a record whose bytes or key make no sense.
pub(crate) fn damaged(key: &Key, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged { key: format!("{key:?}"), reason: reason.to_string() }
}

pub(crate) fn take_format(format: u8, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    match reader.u8("format")? {
        found if found == format => Ok(()),
        tag => Err(DecodeError::UnknownTag { what: "format", tag }),
    }
}

#[cfg(test)]
mod tests {
    use quorate_store::Keyspace;
    use quorate_types::GroupId;

    use super::*;

    #[test]
    fn records_come_back_and_damage_is_named() {
        // Goal: what a replica wrote it reads again; anything else is a damaged record, no panic.
        let key = Keyspace::first(GroupId(1)).result(Slot(3), 7);
        let session = SessionRecord { last_used: LogTime(123_456), lowest: 5 };
        assert_eq!(SessionRecord::decode(&key, &session.encode()).ok(), Some(session));
        let at =
            EntryId { ballot: Ballot { round: 4, replica: ReplicaId(u64::MAX) }, slot: Slot(9) };
        let reads = vec![None, Some(Value::Integer(3))];
        let result = ResultRecord { at, reads, sums: vec![-1] };
        let bytes = result.encode();
        assert_eq!(ResultRecord::decode(&key, &bytes).ok(), Some(result));
        for end in 0..bytes.len() {
            let error = ResultRecord::decode(&key, &bytes.slice(..end));
            assert!(matches!(error, Err(StoreError::Damaged { .. })), "cut at {end}");
        }
    }
}
