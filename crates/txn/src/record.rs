//! The values of session and result records.
//!
//! Used by `session.rs` and `apply.rs`; the keys stand in `quorate_store::keys`. Layouts are stable,
//! the first byte is the format, every number is a varint:
//!
//! | record | after the format byte `0x01` |
//! |---|---|
//! | session | log time of last use in ms, lowest unanswered |
//! | result | slot, ballot round, ballot replica, lowest unanswered, reads, sums |

use bytes::{BufMut, Bytes, BytesMut};
use quorate_store::{Key, StoreError};
use quorate_types::{Ballot, EntryId, LogTime, ReplicaId, Slot, Value};

use crate::codec::{DecodeError, Reader, put_reply, put_varint};

const FORMAT: u8 = 0x01;

/// What is kept of a session besides its results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    /// When the session was last used, to the step of `session.rs`.
    pub(crate) last_used: LogTime,
    /// The greatest `lowest_unanswered` when the record was written. A result record may know better.
    pub(crate) lowest: u64,
}

/// The first result of a request, kept until the client acknowledges it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResultRecord {
    /// The entry that took effect.
    pub(crate) at: EntryId,
    /// The session's `lowest_unanswered` after that entry.
    pub(crate) lowest: u64,
    /// The reply.
    pub(crate) reads: Vec<Option<Value>>,
    /// The reply.
    pub(crate) sums: Vec<i64>,
}

impl SessionRecord {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(16);
        out.put_u8(FORMAT);
        put_varint(&mut out, self.last_used.0);
        put_varint(&mut out, self.lowest);
        out.freeze()
    }

    pub(crate) fn decode(key: &Key, bytes: &Bytes) -> Result<SessionRecord, StoreError> {
        let decode = |mut reader: Reader<'_>| {
            take_format(&mut reader)?;
            let last_used = LogTime(reader.varint("last used")?);
            let lowest = reader.varint("lowest unanswered")?;
            reader.finish().map(|()| SessionRecord { last_used, lowest })
        };
        decode(Reader::new(bytes)).map_err(|error| damaged(key, &error))
    }
}

impl ResultRecord {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32);
        out.put_u8(FORMAT);
        put_varint(&mut out, self.at.slot.0);
        put_varint(&mut out, self.at.ballot.round);
        put_varint(&mut out, self.at.ballot.replica.0);
        put_varint(&mut out, self.lowest);
        put_reply(&mut out, &self.reads, &self.sums);
        out.freeze()
    }

    pub(crate) fn decode(key: &Key, bytes: &Bytes) -> Result<ResultRecord, StoreError> {
        let decode = |mut reader: Reader<'_>| {
            take_format(&mut reader)?;
            let slot = Slot(reader.varint("slot")?);
            let round = reader.varint("ballot round")?;
            let replica = ReplicaId(reader.varint("ballot replica")?);
            let lowest = reader.varint("lowest unanswered")?;
            let (reads, sums) = reader.reply()?;
            let at = EntryId { ballot: Ballot { round, replica }, slot };
            reader.finish().map(|()| ResultRecord { at, lowest, reads, sums })
        };
        decode(Reader::new(bytes)).map_err(|error| damaged(key, &error))
    }
}

/// The error for a record whose bytes or key make no sense.
pub(crate) fn damaged(key: &Key, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged { key: format!("{key:?}"), reason: reason.to_string() }
}

fn take_format(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    match reader.u8("format")? {
        FORMAT => Ok(()),
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
        let result = ResultRecord { at, lowest: 5, reads, sums: vec![-1] };
        let bytes = result.encode();
        assert_eq!(ResultRecord::decode(&key, &bytes).ok(), Some(result));
        for end in 0..bytes.len() {
            let error = ResultRecord::decode(&key, &bytes.slice(..end));
            assert!(matches!(error, Err(StoreError::Damaged { .. })), "cut at {end}");
        }
    }
}
