//! The payload of a log entry: what a leader decided, in our own binary layout.
//!
//! Written by `evaluate.rs`, read by `apply.rs` on every replica. The group is not written: it is
//! the group of the log. Kinds are stable for ever; every number is a varint:
//!
//! | kind | entry | after the kind |
//! |---|---|---|
//! | `0x01` | open session | nothing: the session's id is the slot of the entry |
//! | `0x02` | close session | opening slot |
//! | `0x03` | expire sessions | count, opening slots |
//! | `0x10` | write without a request id | effects, reads, sums |
//! | `0x11` | write under a session | opening slot, sequence, sequence - lowest unanswered, effects, reads, sums |
//! | `0x20`-`0x22` | about money | `money/entry.rs` |
//! | `0x28` | check: the replicas compare the rows as of this entry | nothing |
//! | `0x30` to `0x34`, `0x38`, `0x39` | steps of transactions over several groups, cuts | `cross/entry.rs` |
//!
//! An effect is a tag (`0x01` put bytes, `0x02` put integer, `0x03` delete, `0x04` add), then slice,
//! table, uid, key behind its length, then the value or the delta. `reads` and `sums` are the reply:
//! a retry gets it long after the leader that computed it is gone.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_store::{Key, Keyspace};
use quorate_types::{GroupId, RequestId, SessionId, SliceId, Slot, TableId, Uid, Value};

use crate::codec::{
    DecodeError, Reader, VARINT_BYTES_MAX, put_bytes, put_length, put_reply, put_signed, put_varint,
};
use crate::cross::CrossEntry;
use crate::money::MoneyEntry;

const KIND_OPEN: u8 = 0x01;
const KIND_CLOSE: u8 = 0x02;
const KIND_EXPIRE: u8 = 0x03;
const KIND_WRITE: u8 = 0x10;
const KIND_SESSION_WRITE: u8 = 0x11;
const KIND_CHECK: u8 = 0x28;

const EFFECT_PUT_BYTES: u8 = 0x01;
const EFFECT_PUT_INTEGER: u8 = 0x02;
const EFFECT_DELETE: u8 = 0x03;
const EFFECT_ADD: u8 = 0x04;

/// Room for an entry of a cross-unit transaction before it grows: few rows, few groups.
const CROSS_BYTES: usize = 192;
/// Most bytes of an entry that carry neither effect nor reply: kind, request id, three counts.
pub(crate) const HEAD_BYTES_MAX: usize = 1 + 3 * VARINT_BYTES_MAX + 3 * 3;
/// Most bytes an effect and its sum take besides key and value: tag, slice, table, uid, two lengths,
/// sum.
pub(crate) const EFFECT_BYTES_MAX: usize = 1 + 3 + 3 + VARINT_BYTES_MAX + 2 + 3 + VARINT_BYTES_MAX;

/// Where a row lives in its group: a row key without the keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKey {
    /// The slice of the row, as the leader computed it.
    pub slice: SliceId,
    /// The table.
    pub table: TableId,
    /// The user.
    pub uid: Uid,
    /// The client's key.
    pub key: Bytes,
}

impl RowKey {
    /// The key of the row in a store.
    #[must_use]
    pub fn within(&self, keyspace: Keyspace) -> Key {
        keyspace.row(self.slice, self.table, self.uid, &self.key)
    }
}

/// One change to a row, decided: applying it cannot fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write the row.
    Put(RowKey, Value),
    /// Remove the row if it exists.
    Delete(RowKey),
    /// Add to an integer row, absent counts as 0. The guard was checked by the leader; the sum it
    /// computed stands in the entry and is compared when the effect is applied.
    Add {
        /// The row.
        at: RowKey,
        /// What to add.
        delta: i64,
    },
}

impl Effect {
    /// Bytes it takes in an entry, at most, with its sum.
    pub(crate) fn size(&self) -> usize {
        match self {
            Effect::Put(at, value) => EFFECT_BYTES_MAX + at.key.len() + value.size(),
            Effect::Delete(at) | Effect::Add { at, .. } => EFFECT_BYTES_MAX + at.key.len(),
        }
    }
}

/// The effects of a transaction and the reply to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Write {
    /// Under which id it was asked; `None` if nobody can ask again.
    pub id: Option<RequestId>,
    /// In the order of the mutations.
    pub effects: Vec<Effect>,
    /// Values of the rows asked for, as they were before the effects.
    pub reads: Vec<Option<Value>>,
    /// The sum of each `Effect::Add`, in order.
    pub sums: Vec<i64>,
}

/// What a log entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryPayload {
    /// Open a session; its id is the entry's slot.
    OpenSession,
    /// Close a session and drop its results.
    CloseSession(SessionId),
    /// Drop sessions that were idle too long, and their results. Opening slots.
    ExpireSessions(Vec<Slot>),
    /// Change rows.
    Write(Write),
    /// A step of a transaction over several groups.
    Cross(CrossEntry),
    /// Change accounts.
    Money(MoneyEntry),
    /// Changes nothing: every replica hashes its rows as they are behind this entry, and they compare.
    Check,
}

impl EntryPayload {
    /// The bytes of the entry.
    ///
    /// # Panics
    /// If a request id acknowledges its own number; evaluation refuses such a request.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.size_hint());
        match self {
            EntryPayload::OpenSession => out.put_u8(KIND_OPEN),
            EntryPayload::CloseSession(session) => {
                out.put_u8(KIND_CLOSE);
                put_varint(&mut out, session.slot.0);
            }
            EntryPayload::ExpireSessions(slots) => {
                out.put_u8(KIND_EXPIRE);
                put_length(&mut out, slots.len());
                for slot in slots {
                    put_varint(&mut out, slot.0);
                }
            }
            EntryPayload::Write(write) => put_write(&mut out, write),
            EntryPayload::Cross(entry) => entry.put(&mut out),
            EntryPayload::Money(entry) => entry.put(&mut out),
            EntryPayload::Check => out.put_u8(KIND_CHECK),
        }
        out.freeze()
    }

    /// Reads an entry of `group`'s log. Keys and values share the memory of `bytes`.
    ///
    /// # Errors
    /// `DecodeError` if the bytes are not exactly one entry.
    pub fn decode(bytes: &Bytes, group: GroupId) -> Result<EntryPayload, DecodeError> {
        let mut reader = Reader::new(bytes);
        let payload = match reader.u8("kind")? {
            KIND_OPEN => EntryPayload::OpenSession,
            KIND_CLOSE => {
                let slot = Slot(reader.varint("session")?);
                EntryPayload::CloseSession(SessionId { group, slot })
            }
            KIND_EXPIRE => EntryPayload::ExpireSessions(
                reader.list("sessions", |reader| Ok(Slot(reader.varint("session")?)))?,
            ),
            KIND_WRITE => EntryPayload::Write(take_write(&mut reader, None)?),
            KIND_SESSION_WRITE => {
                let id = take_id(&mut reader, group)?;
                EntryPayload::Write(take_write(&mut reader, Some(id))?)
            }
            KIND_CHECK => EntryPayload::Check,
            kind if MoneyEntry::has_kind(kind) => {
                EntryPayload::Money(MoneyEntry::take(kind, &mut reader)?)
            }
            tag => match CrossEntry::take(tag, &mut reader)? {
                Some(entry) => EntryPayload::Cross(entry),
                None => return Err(DecodeError::UnknownTag { what: "kind", tag }),
            },
        };
        reader.finish()?;
        Ok(payload)
    }

    /// True for the bytes of an entry that asks for a check.
    #[must_use]
    pub fn is_check(bytes: &[u8]) -> bool {
        bytes.first() == Some(&KIND_CHECK)
    }

    /// Enough room for most entries, so that encoding allocates once.
    fn size_hint(&self) -> usize {
        match self {
            EntryPayload::OpenSession | EntryPayload::CloseSession(_) | EntryPayload::Check => {
                HEAD_BYTES_MAX
            }
            EntryPayload::Cross(_) => CROSS_BYTES,
            EntryPayload::ExpireSessions(slots) => HEAD_BYTES_MAX + slots.len() * VARINT_BYTES_MAX,
            EntryPayload::Money(entry) => entry.size_hint(),
            EntryPayload::Write(write) => {
                let effects = write.effects.iter().map(Effect::size);
                let reads = write
                    .reads
                    .iter()
                    .map(|read| 4 + read.as_ref().map_or(0, |value| value.size()));
                HEAD_BYTES_MAX + effects.sum::<usize>() + reads.sum::<usize>()
            }
        }
    }
}

fn put_write(out: &mut BytesMut, write: &Write) {
    match write.id {
        None => out.put_u8(KIND_WRITE),
        Some(id) => {
            let behind = id.sequence.checked_sub(id.lowest_unanswered);
            out.put_u8(KIND_SESSION_WRITE);
            put_varint(out, id.session.slot.0);
            put_varint(out, id.sequence);
            put_varint(out, behind.expect("evaluation refuses ids that acknowledge themselves"));
        }
    }
    put_effects(out, write);
}

/// Effects and reply, without an id.
pub(crate) fn put_effects(out: &mut BytesMut, write: &Write) {
    put_length(out, write.effects.len());
    for effect in &write.effects {
        put_effect(out, effect);
    }
    put_reply(out, &write.reads, &write.sums);
}

fn put_effect(out: &mut BytesMut, effect: &Effect) {
    match effect {
        Effect::Put(at, Value::Bytes(bytes)) => {
            put_row_key(out, EFFECT_PUT_BYTES, at);
            put_bytes(out, bytes);
        }
        Effect::Put(at, Value::Integer(number)) => {
            put_row_key(out, EFFECT_PUT_INTEGER, at);
            put_signed(out, *number);
        }
        Effect::Delete(at) => put_row_key(out, EFFECT_DELETE, at),
        Effect::Add { at, delta } => {
            put_row_key(out, EFFECT_ADD, at);
            put_signed(out, *delta);
        }
    }
}

fn put_row_key(out: &mut BytesMut, tag: u8, at: &RowKey) {
    out.put_u8(tag);
    put_varint(out, u64::from(at.slice.0));
    put_varint(out, u64::from(at.table.0));
    put_varint(out, at.uid.0);
    put_bytes(out, &at.key);
}

fn take_id(reader: &mut Reader<'_>, group: GroupId) -> Result<RequestId, DecodeError> {
    let slot = Slot(reader.varint("session")?);
    let sequence = reader.varint("sequence")?;
    let behind = reader.varint("lowest unanswered")?;
    let lowest_unanswered = sequence
        .checked_sub(behind)
        .ok_or(DecodeError::OutOfRange { what: "lowest unanswered", value: behind })?;
    Ok(RequestId { session: SessionId { group, slot }, sequence, lowest_unanswered })
}

pub(crate) fn take_write(
    reader: &mut Reader<'_>,
    id: Option<RequestId>,
) -> Result<Write, DecodeError> {
    let effects = reader.list("effects", take_effect)?;
    let (reads, sums) = reader.reply()?;
    let adds = effects.iter().filter(|effect| matches!(effect, Effect::Add { .. })).count();
    if adds != sums.len() {
        return Err(DecodeError::SumsMissing { adds, sums: sums.len() });
    }
    Ok(Write { id, effects, reads, sums })
}

fn take_effect(reader: &mut Reader<'_>) -> Result<Effect, DecodeError> {
    let tag = reader.u8("effect")?;
    let at = RowKey {
        slice: SliceId(reader.u16("slice")?),
        table: TableId(reader.u16("table")?),
        uid: Uid(reader.varint("uid")?),
        key: reader.bytes("key")?,
    };
    match tag {
        EFFECT_PUT_BYTES => Ok(Effect::Put(at, Value::Bytes(reader.bytes("value")?))),
        EFFECT_PUT_INTEGER => Ok(Effect::Put(at, Value::Integer(reader.signed("value")?))),
        EFFECT_DELETE => Ok(Effect::Delete(at)),
        EFFECT_ADD => Ok(Effect::Add { at, delta: reader.signed("delta")? }),
        tag => Err(DecodeError::UnknownTag { what: "effect", tag }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(3);

    fn row_key(key: &'static [u8]) -> RowKey {
        RowKey { slice: SliceId(42), table: TableId(1), uid: Uid(u64::MAX), key: key.into() }
    }

    fn id(sequence: u64, lowest_unanswered: u64) -> RequestId {
        let session = SessionId { group: GROUP, slot: Slot(1 << 34) };
        RequestId { session, sequence, lowest_unanswered }
    }

    #[test]
    fn every_kind_of_entry_comes_back() {
        // Goal: encode and decode agree on all kinds, effects and reply values.
        let write = Write {
            id: Some(id(9, 4)),
            effects: vec![
                Effect::Put(row_key(b"a"), Value::Bytes(Bytes::from_static(b"value"))),
                Effect::Put(row_key(b"b"), Value::Integer(i64::MIN)),
                Effect::Delete(row_key(b"c")),
                Effect::Add { at: row_key(b"d"), delta: -5 },
            ],
            reads: vec![None, Some(Value::Integer(-1)), Some(Value::Bytes(Bytes::new()))],
            sums: vec![i64::MAX],
        };
        let payloads = [
            EntryPayload::OpenSession,
            EntryPayload::CloseSession(SessionId { group: GROUP, slot: Slot(7) }),
            EntryPayload::ExpireSessions(vec![Slot(1), Slot(u64::MAX)]),
            EntryPayload::Write(Write::default()),
            EntryPayload::Write(write),
        ];
        for payload in payloads {
            assert_eq!(EntryPayload::decode(&payload.encode(), GROUP), Ok(payload));
        }
    }

    #[test]
    fn every_prefix_of_an_entry_is_refused() {
        // Goal: a cut entry is an error wherever the cut falls, and so is a longer one.
        let effects = vec![Effect::Add { at: row_key(b"key"), delta: 1 << 40 }];
        let write = Write { id: Some(id(9, 9)), effects, reads: vec![None], sums: vec![3] };
        let bytes = EntryPayload::Write(write).encode();
        for end in 0..bytes.len() {
            assert!(EntryPayload::decode(&bytes.slice(..end), GROUP).is_err(), "cut at {end}");
        }
        let mut longer = BytesMut::from(&bytes[..]);
        longer.put_u8(0);
        let error = EntryPayload::decode(&longer.freeze(), GROUP);
        assert_eq!(error, Err(DecodeError::Trailing { count: 1 }));
    }

    #[test]
    fn nonsense_is_named() {
        // Goal: each way an entry can be wrong has its own error.
        let cases: [(&[u8], DecodeError); 5] = [
            (&[], DecodeError::Truncated { what: "kind", at: 0 }),
            (&[0], DecodeError::UnknownTag { what: "kind", tag: 0 }),
            (&[KIND_WRITE, 0, 0, 1, 2], DecodeError::SumsMissing { adds: 0, sums: 1 }),
            (&[KIND_WRITE, 1, 9, 0, 0, 0, 0], DecodeError::UnknownTag { what: "effect", tag: 9 }),
            (
                &[KIND_SESSION_WRITE, 1, 2, 3],
                DecodeError::OutOfRange { what: "lowest unanswered", value: 3 },
            ),
        ];
        for (bytes, error) in cases {
            assert_eq!(EntryPayload::decode(&Bytes::from_static(bytes), GROUP), Err(error));
        }
    }

    #[test]
    fn a_put_costs_few_bytes_above_key_and_value() {
        // Goal: log bytes per put stay at key + value + 40 in the entry, which leaves the batch and
        // frame layers their share of 64. The positions are those of a group after years of work.
        let key: &[u8] = &[7; 16];
        let at =
            RowKey { slice: SliceId(99), table: TableId(200), uid: Uid(u64::MAX), key: key.into() };
        let value = Value::Bytes(vec![1; 256].into());
        let effects = vec![Effect::Put(at, value)];
        let write = Write { id: Some(id(1 << 34, (1 << 34) - 1000)), effects, ..Write::default() };
        let size = EntryPayload::Write(write).encode().len();
        assert!(size <= 256 + 16 + 40, "{size} bytes");
    }
}
