//! The stored form of what a log says of attempts. Keys stand in `quorate_store::keys`.
//!
//! | record | format | fields |
//! |---|---|---|
//! | attempt | `0x02` | state, entry of the vote (slot, round, replica), cut, then by state |
//!
//! States: 1 prepared, then PREPARE as in the log; 2 refused; 3 committed, then participants, reads
//! and sums; 4 aborted; 5 prepared, with transfers; 6 committed, then participants, count, a verdict
//! of each credit.
//!
//! | record | format | fields |
//! |---|---|---|
//! | watermark | `0x01` | as in CLEAR |
//! | latest cut | `0x01` | cut |

use bytes::{BufMut, Bytes, BytesMut};
use quorate_store::{Key, StoreError};
use quorate_types::{Ballot, CutId, EntryId, GroupId, PartReply, ReplicaId, Slot, Watermark};

use super::entry::{
    Prepare, put_groups, put_prepare, put_watermark, take_group, take_prepare, take_watermark,
};
use crate::codec::{DecodeError, Reader, put_length, put_reply, put_varint};
use crate::money;
use crate::record::{damaged, take_format};

const ATTEMPT_FORMAT: u8 = 0x02;
const FORMAT: u8 = 0x01;

const PREPARED: u8 = 1;
const REFUSED: u8 = 2;
const COMMITTED: u8 = 3;
const ABORTED: u8 = 4;
const PREPARED_TRANSFERS: u8 = 5;
const COMMITTED_TRANSFERS: u8 = 6;

/// What the log says of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// PREPARE yes: locked, undecided here.
    Prepared(Box<Prepare>),
    /// PREPARE no.
    Refused,
    /// COMMIT: its effects are in the rows.
    Committed {
        /// Every group that voted.
        participants: Vec<GroupId>,
        /// This group's part of the reply: whoever coordinates may still have to ask for it.
        reply: PartReply,
    },
    /// PREPARE yes, then ABORT.
    Aborted,
}

impl State {
    /// True once COMMIT is applied.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        matches!(self, State::Committed { .. })
    }

    /// The word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            State::Prepared(_) => "prepared",
            State::Refused => "refused",
            State::Committed { .. } => "committed",
            State::Aborted => "aborted",
        }
    }
}

/// What the log says of an attempt, and where it says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it says.
    pub state: State,
    /// The entry of the vote.
    pub at: EntryId,
    /// Of a prepared one, the latest cut before PREPARE in this log; of a committed one, the greatest
    /// such cut of all participants; otherwise none.
    pub cut: CutId,
}

impl Record {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(ATTEMPT_FORMAT);
        out.put_u8(match &self.state {
            State::Prepared(prepare) if prepare.leg.is_some() => PREPARED_TRANSFERS,
            State::Prepared(_) => PREPARED,
            State::Refused => REFUSED,
            State::Committed { reply, .. } if !reply.verdicts.is_empty() => COMMITTED_TRANSFERS,
            State::Committed { .. } => COMMITTED,
            State::Aborted => ABORTED,
        });
        put_varint(&mut out, self.at.slot.0);
        put_varint(&mut out, self.at.ballot.round);
        put_varint(&mut out, self.at.ballot.replica.0);
        put_varint(&mut out, self.cut.0);
        match &self.state {
            State::Prepared(prepare) => put_prepare(&mut out, prepare),
            State::Committed { participants, reply } => {
                put_groups(&mut out, participants);
                if reply.verdicts.is_empty() {
                    put_reply(&mut out, &reply.reads, &reply.sums);
                } else {
                    put_length(&mut out, reply.verdicts.len());
                    money::put_verdicts(&mut out, &reply.verdicts);
                }
            }
            State::Refused | State::Aborted => {}
        }
        out.freeze()
    }

    pub(super) fn decode(key: &Key, bytes: &Bytes) -> Result<Record, StoreError> {
        let decode = |mut reader: Reader<'_>| {
            take_format(ATTEMPT_FORMAT, &mut reader)?;
            let state = reader.u8("state")?;
            let slot = Slot(reader.varint("slot")?);
            let round = reader.varint("ballot round")?;
            let replica = ReplicaId(reader.varint("ballot replica")?);
            let at = EntryId { ballot: Ballot { round, replica }, slot };
            let cut = CutId(reader.varint("cut")?);
            let state = match state {
                PREPARED => State::Prepared(Box::new(take_prepare(&mut reader, false)?)),
                PREPARED_TRANSFERS => State::Prepared(Box::new(take_prepare(&mut reader, true)?)),
                REFUSED => State::Refused,
                COMMITTED => {
                    let participants = reader.list("participants", take_group)?;
                    let (reads, sums) = reader.reply()?;
                    let reply = PartReply { reads, sums, verdicts: Vec::new() };
                    State::Committed { participants, reply }
                }
                COMMITTED_TRANSFERS => {
                    let participants = reader.list("participants", take_group)?;
                    let count = reader.count("verdicts")?;
                    let verdicts = money::take_verdicts(&mut reader, count)?;
                    let reply = PartReply { verdicts, ..PartReply::default() };
                    State::Committed { participants, reply }
                }
                ABORTED => State::Aborted,
                tag => return Err(DecodeError::UnknownTag { what: "state", tag }),
            };
            reader.finish().map(|()| Record { state, at, cut })
        };
        decode(Reader::new(bytes)).map_err(|error| damaged(key, &error))
    }
}

pub(super) fn encode_watermark(watermark: &Watermark) -> Bytes {
    let mut out = BytesMut::with_capacity(24 * (1 + watermark.except.len()));
    out.put_u8(FORMAT);
    put_watermark(&mut out, watermark);
    out.freeze()
}

pub(super) fn decode_watermark(key: &Key, bytes: &Bytes) -> Result<Watermark, StoreError> {
    let decode = |mut reader: Reader<'_>| {
        take_format(FORMAT, &mut reader)?;
        let watermark = take_watermark(&mut reader)?;
        reader.finish().map(|()| watermark)
    };
    decode(Reader::new(bytes)).map_err(|error| damaged(key, &error))
}

pub(super) fn encode_cut(cut: CutId) -> Bytes {
    let mut out = BytesMut::with_capacity(11);
    out.put_u8(FORMAT);
    put_varint(&mut out, cut.0);
    out.freeze()
}

pub(super) fn decode_cut(key: &Key, bytes: &Bytes) -> Result<CutId, StoreError> {
    let decode = |mut reader: Reader<'_>| {
        take_format(FORMAT, &mut reader)?;
        let cut = CutId(reader.varint("cut")?);
        reader.finish().map(|()| cut)
    };
    decode(Reader::new(bytes)).map_err(|error| damaged(key, &error))
}
