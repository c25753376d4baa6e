//! The log entries of cross-unit transactions. Part of the layout in `../entry.rs`:
//!
//! | kind | entry | after the kind |
//! |---|---|---|
//! | `0x30` | PREPARE yes | attempt, age, lowest unanswered, participants, groups of reads and of sums, effects, reads, sums, rows locked for reading |
//! | `0x31` | PREPARE no | attempt |
//! | `0x32` | COMMIT | attempt, greatest cut before its PREPAREs, reads, sums of the whole transaction (empty but in the coordinator's log) |
//! | `0x33` | ABORT | attempt |
//! | `0x34` | CLEAR | watermark: an attempt, and a list of excepted ones below it |
//! | `0x35` | PREPARE yes of transfers | as `0x30`, then one side of them |
//! | `0x36` | COMMIT of transfers | attempt, greatest cut, count, a verdict u8 of each credit (none but in the coordinator's log) |
//! | `0x38` | NEW CUT | nothing: the cut is the slot of the entry |
//! | `0x39` | CUT | cut |
//!
//! An attempt is group, ballot round, ballot replica, counter; an age is milliseconds, session group,
//! session slot, sequence. Every number is a varint.
//!
//! A side of transfers is `1` debit or `2` credit, count, the transfers in their layout, a verdict u8 of each;
//! then for each that can be carried out the slice u16, big-endian, and on the debit side what it moves;
//! on the debit side a list of index, slot and amount of those that had taken effect before.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use quorate_types::{
    Age, Attempt, Ballot, CutId, GroupId, PartReply, ReplicaId, RequestId, SessionId, SliceId,
    Slot, TableId, Uid, Watermark,
};

use super::part::ReplyOrder;
use crate::codec::{DecodeError, Reader, put_bytes, put_length, put_reply, put_varint};
use crate::entry::{RowKey, Write, put_effects, take_write};
use crate::money::{self, Leg};

pub(crate) const KIND_PREPARE: u8 = 0x30;
pub(crate) const KIND_REFUSE: u8 = 0x31;
pub(crate) const KIND_COMMIT: u8 = 0x32;
pub(crate) const KIND_ABORT: u8 = 0x33;
pub(crate) const KIND_CLEAR: u8 = 0x34;
pub(crate) const KIND_PREPARE_TRANSFERS: u8 = 0x35;
pub(crate) const KIND_COMMIT_TRANSFERS: u8 = 0x36;
pub(crate) const KIND_NEW_CUT: u8 = 0x38;
pub(crate) const KIND_CUT: u8 = 0x39;

/// PREPARE yes: the group will do its part if all others say yes too, and holds its locks until it
/// knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepare {
    /// The attempt.
    pub attempt: Attempt,
    /// Of the transaction; its session and sequence are those of the request.
    pub age: Age,
    /// The greatest request number below which the client has every answer. Used by the coordinator.
    pub lowest_unanswered: u64,
    /// Every group that votes, the coordinator's too, in order.
    pub participants: Vec<GroupId>,
    /// How the reply goes together. Empty but in the coordinator's log.
    pub order: ReplyOrder,
    /// What this group will change, and its part of the reply. Rows it changes are locked for writing.
    pub write: Write,
    /// Rows it only looked at, locked for reading.
    pub shared: Vec<RowKey>,
    /// Our side of transfers; then there are no rows.
    pub leg: Option<Arc<Leg>>,
}

impl Prepare {
    /// This group's part of the reply.
    #[must_use]
    pub fn reply(&self) -> PartReply {
        part_reply(&self.write, self.leg.as_deref())
    }

    /// The request the transaction answers.
    #[must_use]
    pub fn request(&self) -> RequestId {
        let Age { session, sequence, .. } = self.age;
        RequestId { session, sequence, lowest_unanswered: self.lowest_unanswered }
    }
}

/// A group's part of the reply: values of rows, or what its side says of transfers.
pub(super) fn part_reply(write: &Write, leg: Option<&Leg>) -> PartReply {
    let (reads, sums) = (write.reads.clone(), write.sums.clone());
    PartReply { reads, sums, verdicts: leg.map(Leg::reply).unwrap_or_default() }
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decide {
    /// Every participant said yes: the effects happen. In the coordinator's log with the whole reply.
    /// The cut is the greatest that any participant's log had before its PREPARE: the transaction
    /// belongs to all later cuts.
    Commit(Attempt, PartReply, CutId),
    /// Some participant said no, durably: nothing happens, ever.
    Abort(Attempt),
}

impl Decide {
    /// The attempt.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        match self {
            Decide::Commit(attempt, _, _) | Decide::Abort(attempt) => *attempt,
        }
    }
}

/// An entry of a cross-unit transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrossEntry {
    /// PREPARE yes.
    Prepare(Box<Prepare>),
    /// PREPARE no, which is also the tombstone of an attempt that somebody asked about in vain.
    Refuse(Attempt),
    /// COMMIT or ABORT.
    Decide(Decide),
    /// What it covers is over everywhere: the records go, and no such attempt is ever taken up again.
    Clear(Watermark),
    /// Makes a cut, in the log of the group with the lowest id.
    NewCut,
    /// The log passes a cut: what stands before this entry belongs to it, as far as it is decided.
    Cut(CutId),
}

impl CrossEntry {
    /// The attempt it decides.
    #[must_use]
    pub fn decides(&self) -> Option<Attempt> {
        match self {
            CrossEntry::Decide(decide) => Some(decide.attempt()),
            CrossEntry::Prepare(_)
            | CrossEntry::Refuse(_)
            | CrossEntry::Clear(_)
            | CrossEntry::NewCut
            | CrossEntry::Cut(_) => None,
        }
    }

    /// Appends kind and fields.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        match self {
            CrossEntry::Prepare(prepare) => {
                out.put_u8(match prepare.leg {
                    None => KIND_PREPARE,
                    Some(_) => KIND_PREPARE_TRANSFERS,
                });
                put_prepare(out, prepare);
            }
            CrossEntry::Refuse(attempt) => {
                out.put_u8(KIND_REFUSE);
                put_attempt(out, *attempt);
            }
            CrossEntry::Decide(Decide::Commit(attempt, reply, cut))
                if !reply.verdicts.is_empty() =>
            {
                out.put_u8(KIND_COMMIT_TRANSFERS);
                put_attempt(out, *attempt);
                put_varint(out, cut.0);
                put_length(out, reply.verdicts.len());
                money::put_verdicts(out, &reply.verdicts);
            }
            CrossEntry::Decide(Decide::Commit(attempt, reply, cut)) => {
                out.put_u8(KIND_COMMIT);
                put_attempt(out, *attempt);
                put_varint(out, cut.0);
                put_reply(out, &reply.reads, &reply.sums);
            }
            CrossEntry::Decide(Decide::Abort(attempt)) => {
                out.put_u8(KIND_ABORT);
                put_attempt(out, *attempt);
            }
            CrossEntry::Clear(watermark) => {
                out.put_u8(KIND_CLEAR);
                put_watermark(out, watermark);
            }
            CrossEntry::NewCut => out.put_u8(KIND_NEW_CUT),
            CrossEntry::Cut(cut) => {
                out.put_u8(KIND_CUT);
                put_varint(out, cut.0);
            }
        }
    }

    /// Reads the fields of an entry whose kind was read; `None` if it is no kind of ours.
    pub(crate) fn take(
        kind: u8,
        reader: &mut Reader<'_>,
    ) -> Result<Option<CrossEntry>, DecodeError> {
        Ok(Some(match kind {
            KIND_PREPARE => CrossEntry::Prepare(Box::new(take_prepare(reader, false)?)),
            KIND_PREPARE_TRANSFERS => CrossEntry::Prepare(Box::new(take_prepare(reader, true)?)),
            KIND_REFUSE => CrossEntry::Refuse(take_attempt(reader)?),
            KIND_COMMIT => {
                let attempt = take_attempt(reader)?;
                let cut = CutId(reader.varint("cut")?);
                let (reads, sums) = reader.reply()?;
                let reply = PartReply { reads, sums, verdicts: Vec::new() };
                CrossEntry::Decide(Decide::Commit(attempt, reply, cut))
            }
            KIND_COMMIT_TRANSFERS => {
                let attempt = take_attempt(reader)?;
                let cut = CutId(reader.varint("cut")?);
                let count = reader.count("verdicts")?;
                let verdicts = money::take_verdicts(reader, count)?;
                let reply = PartReply { verdicts, ..PartReply::default() };
                CrossEntry::Decide(Decide::Commit(attempt, reply, cut))
            }
            KIND_ABORT => CrossEntry::Decide(Decide::Abort(take_attempt(reader)?)),
            KIND_CLEAR => CrossEntry::Clear(take_watermark(reader)?),
            KIND_NEW_CUT => CrossEntry::NewCut,
            KIND_CUT => CrossEntry::Cut(CutId(reader.varint("cut")?)),
            _ => return Ok(None),
        }))
    }
}

pub(crate) fn put_prepare(out: &mut BytesMut, prepare: &Prepare) {
    put_attempt(out, prepare.attempt);
    put_varint(out, prepare.age.first_ms);
    put_varint(out, u64::from(prepare.age.session.group.0));
    put_varint(out, prepare.age.session.slot.0);
    put_varint(out, prepare.age.sequence);
    put_varint(out, prepare.lowest_unanswered);
    put_groups(out, &prepare.participants);
    put_groups(out, &prepare.order.reads);
    put_groups(out, &prepare.order.sums);
    put_effects(out, &prepare.write);
    put_length(out, prepare.shared.len());
    for at in &prepare.shared {
        put_varint(out, u64::from(at.slice.0));
        put_varint(out, u64::from(at.table.0));
        put_varint(out, at.uid.0);
        put_bytes(out, &at.key);
    }
    if let Some(leg) = &prepare.leg {
        leg.put(out);
    }
}

/// `has_leg`: it is about transfers.
pub(crate) fn take_prepare(reader: &mut Reader<'_>, has_leg: bool) -> Result<Prepare, DecodeError> {
    let attempt = take_attempt(reader)?;
    let first_ms = reader.varint("age")?;
    let group = take_group(reader)?;
    let slot = Slot(reader.varint("session")?);
    let age =
        Age { first_ms, session: SessionId { group, slot }, sequence: reader.varint("sequence")? };
    let lowest_unanswered = reader.varint("lowest unanswered")?;
    let participants = reader.list("participants", take_group)?;
    let order = ReplyOrder {
        reads: reader.list("groups of reads", take_group)?,
        sums: reader.list("groups of sums", take_group)?,
    };
    let write = take_write(reader, None)?;
    let shared = reader.list("locked rows", |reader| {
        Ok(RowKey {
            slice: SliceId(reader.u16("slice")?),
            table: TableId(reader.u16("table")?),
            uid: Uid(reader.varint("uid")?),
            key: reader.bytes("key")?,
        })
    })?;
    let leg = if has_leg { Some(Arc::new(Leg::take(reader)?)) } else { None };
    Ok(Prepare { attempt, age, lowest_unanswered, participants, order, write, shared, leg })
}

pub(crate) fn put_attempt(out: &mut BytesMut, attempt: Attempt) {
    put_varint(out, u64::from(attempt.group.0));
    put_varint(out, attempt.ballot.round);
    put_varint(out, attempt.ballot.replica.0);
    put_varint(out, attempt.counter);
}

pub(crate) fn take_attempt(reader: &mut Reader<'_>) -> Result<Attempt, DecodeError> {
    let group = take_group(reader)?;
    let round = reader.varint("ballot round")?;
    let replica = ReplicaId(reader.varint("ballot replica")?);
    let counter = reader.varint("counter")?;
    Ok(Attempt { group, ballot: Ballot { round, replica }, counter })
}

pub(super) fn put_watermark(out: &mut BytesMut, watermark: &Watermark) {
    put_attempt(out, watermark.upto);
    put_length(out, watermark.except.len());
    for attempt in &watermark.except {
        put_attempt(out, *attempt);
    }
}

pub(super) fn take_watermark(reader: &mut Reader<'_>) -> Result<Watermark, DecodeError> {
    let upto = take_attempt(reader)?;
    let except = reader.list("excepted attempts", take_attempt)?;
    Ok(Watermark { upto, except })
}

pub(super) fn put_groups(out: &mut BytesMut, groups: &[GroupId]) {
    put_length(out, groups.len());
    for group in groups {
        put_varint(out, u64::from(group.0));
    }
}

pub(super) fn take_group(reader: &mut Reader<'_>) -> Result<GroupId, DecodeError> {
    let value = reader.varint("group")?;
    let group = u32::try_from(value);
    group.map(GroupId).map_err(|_| DecodeError::OutOfRange { what: "group", value })
}

#[cfg(test)]
mod tests {
    use quorate_types::Value;

    use super::*;
    use crate::entry::EntryPayload;

    #[test]
    fn every_entry_comes_back_and_no_prefix_does() {
        // Goal: encode and decode agree on what is decided and on cuts, and a cut entry is an error.
        let group = GroupId(7);
        let ballot = Ballot { round: 1 << 40, replica: ReplicaId(3) };
        let attempt = Attempt { group, ballot, counter: u64::MAX };
        let (reads, sums) = (vec![None, Some(Value::Integer(-1))], vec![i64::MIN]);
        let reply = PartReply { reads, sums, verdicts: Vec::new() };
        for entry in [
            CrossEntry::Refuse(attempt),
            CrossEntry::Decide(Decide::Commit(attempt, reply, CutId(1 << 50))),
            CrossEntry::Decide(Decide::Commit(attempt, PartReply::default(), CutId::NONE)),
            CrossEntry::Decide(Decide::Abort(attempt)),
            CrossEntry::Clear(Watermark { upto: attempt, except: vec![attempt] }),
            CrossEntry::NewCut,
            CrossEntry::Cut(CutId(u64::MAX)),
        ] {
            let bytes = EntryPayload::Cross(entry.clone()).encode();
            for end in 0..bytes.len() {
                assert!(EntryPayload::decode(&bytes.slice(..end), group).is_err(), "{entry:?}");
            }
            assert_eq!(EntryPayload::decode(&bytes, group), Ok(EntryPayload::Cross(entry)));
        }
    }
}
