//! Batches: a run of consecutive entries, encoded once, sent, written and adopted as a unit.
//!
//! A leader closes a batch when it proposes; from then on the same bytes go to the log, to the peers
//! and to their logs, and nobody ever splits them. So logs are cut and commits land only at batch
//! ends. Every batch carries a hash over the history before it (`prev_chain`), which makes two logs
//! that differ anywhere differ at the next batch.
//!
//! Layout, big-endian, format 1:
//!
//! | bytes | field |
//! |---|---|
//! | 1 | format, 1 |
//! | 1 | kind: 0 entries, 1 `StartWork`, 2 membership |
//! | 16 | ballot of the first proposal: round u64, replica u64 |
//! | 8 | first slot |
//! | 4 | number of entries |
//! | 16 | ballot of the entry before `first` |
//! | 8 | log time in ms |
//! | 8 | encoded bytes of the group's log through this batch |
//! | 4 | chain hash before this batch |
//! | 4 | chain hash through this batch: crc32c of everything above and below, seeded with the former |
//! | ... | entries: length as LEB128, then the payload |

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_types::{Ballot, EntryId, LogTime, ReplicaId, Slot, limits};

use crate::membership::{Membership, MembershipAt, MembershipError};

const FORMAT: u8 = 1;
const CHAIN_OFFSET: usize = 1 + 1 + 16 + 8 + 4 + 16 + 8 + 8 + 4;
/// Bytes of a batch before its first entry.
pub const HEADER_BYTES: usize = CHAIN_OFFSET + 4;

/// What a batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// Payloads of proposals.
    Entries,
    /// The single empty entry by which a new leader commits everything before it.
    StartWork,
    /// An entry that says who takes part from here on; a [`Membership`]. Where it begins another history a
    /// second entry follows, for the driver: what that may have cost.
    Membership,
}

/// A run of consecutive entries of one ballot. Cheap to clone: the bytes are shared.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    kind: BatchKind,
    ballot: Ballot,
    first: Slot,
    count: u32,
    prev_ballot: Ballot,
    log_time: LogTime,
    log_bytes: u64,
    prev_chain: u32,
    chain: u32,
    encoded: Bytes,
}

/// Where a log stands: what the next batch must continue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The last entry.
    pub id: EntryId,
    /// The chain hash through it.
    pub chain: u32,
    /// Encoded bytes of the log through it.
    pub log_bytes: u64,
    /// Log time of the last batch.
    pub log_time: LogTime,
}

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the header or an entry needs.
    #[error("batch is cut short")]
    Short,
    /// Bytes follow the last entry.
    #[error("bytes follow the last entry of the batch")]
    Trailing,
    /// A format this version does not know.
    #[error("batch format {0} is unknown")]
    Format(u8),
    /// A kind this version does not know.
    #[error("batch kind {0} is unknown")]
    Kind(u8),
    /// No entries, more than the limit, a slot of 0, or sizes that cannot be.
    #[error("batch has an impossible shape")]
    Shape,
    /// The bytes do not match their checksum.
    #[error("batch does not match its chain hash")]
    Chain,
    /// Its entry should be a membership and is none.
    #[error("the membership in the batch: {0}")]
    Membership(#[from] MembershipError),
}

impl Batch {
    /// Encodes `payloads` as the continuation of `tail`.
    ///
    /// # Panics
    /// If `payloads` is empty or over the limits; the proposer splits before.
    #[must_use]
    pub fn new(
        kind: BatchKind,
        ballot: Ballot,
        tail: Tail,
        log_time: LogTime,
        payloads: &[Bytes],
    ) -> Batch {
        assert!(
            !payloads.is_empty() && payloads.len() <= limits::BATCH_ENTRIES_MAX,
            "batch of {} entries",
            payloads.len()
        );
        let body: usize = payloads.iter().map(|p| p.len() + 5).sum();
        let mut out = BytesMut::with_capacity(HEADER_BYTES + body);
        let count = u32::try_from(payloads.len()).expect("bounded by BATCH_ENTRIES_MAX");
        out.put_u8(FORMAT);
        out.put_u8(match kind {
            BatchKind::Entries => 0,
            BatchKind::StartWork => 1,
            BatchKind::Membership => 2,
        });
        put_ballot(&mut out, ballot);
        out.put_u64(tail.id.slot.next().0);
        out.put_u32(count);
        put_ballot(&mut out, tail.id.ballot);
        out.put_u64(log_time.0);
        let log_bytes_at = out.len();
        out.put_u64(0); // filled in below, once the length is known
        out.put_u32(tail.chain);
        out.put_u32(0); // the chain hash, last
        for payload in payloads {
            put_length(&mut out, payload.len());
            out.put_slice(payload);
        }
        let log_bytes = tail.log_bytes + out.len() as u64;
        out[log_bytes_at..log_bytes_at + 8].copy_from_slice(&log_bytes.to_be_bytes());
        let chain = chain_hash(tail.chain, &out);
        out[CHAIN_OFFSET..CHAIN_OFFSET + 4].copy_from_slice(&chain.to_be_bytes());
        Batch {
            kind,
            ballot,
            first: tail.id.slot.next(),
            count,
            prev_ballot: tail.id.ballot,
            log_time,
            log_bytes,
            prev_chain: tail.chain,
            chain,
            encoded: out.freeze(),
        }
    }

    /// Reads a batch from disk or network bytes and checks its hash.
    ///
    /// # Errors
    /// `BatchError` says what is wrong; nothing is trusted before it is checked.
    pub fn decode(encoded: Bytes) -> Result<Batch, BatchError> {
        if encoded.len() < HEADER_BYTES {
            return Err(BatchError::Short);
        }
        let mut head = &encoded[..HEADER_BYTES];
        let format = head.get_u8();
        if format != FORMAT {
            return Err(BatchError::Format(format));
        }
        let kind = match head.get_u8() {
            0 => BatchKind::Entries,
            1 => BatchKind::StartWork,
            2 => BatchKind::Membership,
            other => return Err(BatchError::Kind(other)),
        };
        let ballot = get_ballot(&mut head);
        let first = Slot(head.get_u64());
        let count = head.get_u32();
        let prev_ballot = get_ballot(&mut head);
        let log_time = LogTime(head.get_u64());
        let log_bytes = head.get_u64();
        let prev_chain = head.get_u32();
        let chain = head.get_u32();
        if chain_hash(prev_chain, &encoded) != chain {
            return Err(BatchError::Chain);
        }
        let end = first.0.checked_add(u64::from(count));
        let starts_log = first == Slot(1);
        if first == Slot::ZERO
            || count == 0
            || count as usize > limits::BATCH_ENTRIES_MAX
            || end.is_none()
            || ballot < prev_ballot
            || starts_log != (prev_ballot == Ballot::ZERO)
            || log_bytes < encoded.len() as u64
            || match kind {
                BatchKind::Entries => false,
                BatchKind::StartWork => count != 1,
                BatchKind::Membership => 2 < count,
            }
        {
            return Err(BatchError::Shape);
        }
        let mut rest = &encoded[HEADER_BYTES..];
        for _ in 0..count {
            let length = get_length(&mut rest).ok_or(BatchError::Short)?;
            if rest.len() < length {
                return Err(BatchError::Short);
            }
            rest.advance(length);
        }
        if !rest.is_empty() {
            return Err(BatchError::Trailing);
        }
        let batch = Batch {
            kind,
            ballot,
            first,
            count,
            prev_ballot,
            log_time,
            log_bytes,
            prev_chain,
            chain,
            encoded,
        };
        batch.read_membership()?;
        Ok(batch)
    }

    /// The membership that begins with this batch, if it holds one.
    ///
    /// # Panics
    /// If `new` was given other bytes than those of a membership; `decode` checks.
    #[must_use]
    pub fn membership(&self) -> Option<MembershipAt> {
        self.read_membership().expect("checked by decode, or written by us")
    }

    fn read_membership(&self) -> Result<Option<MembershipAt>, MembershipError> {
        if self.kind != BatchKind::Membership {
            return Ok(None);
        }
        let (id, bytes) = self.entries().next().expect("a batch is not empty");
        Ok(Some(MembershipAt { id, membership: Membership::decode(&bytes)? }))
    }

    /// What the batch holds.
    #[must_use]
    pub fn kind(&self) -> BatchKind {
        self.kind
    }

    /// The ballot its entries were first proposed with.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Its first slot.
    #[must_use]
    pub fn first(&self) -> Slot {
        self.first
    }

    /// Its last slot.
    #[must_use]
    pub fn last(&self) -> Slot {
        Slot(self.first.0 + u64::from(self.count) - 1)
    }

    /// The id of its last entry.
    #[must_use]
    pub fn last_id(&self) -> EntryId {
        EntryId { ballot: self.ballot, slot: self.last() }
    }

    /// The id of the entry it follows.
    #[must_use]
    pub fn prev(&self) -> EntryId {
        EntryId { ballot: self.prev_ballot, slot: self.first.prev() }
    }

    /// The chain hash it continues.
    #[must_use]
    pub fn prev_chain(&self) -> u32 {
        self.prev_chain
    }

    /// Log time when it was proposed.
    #[must_use]
    pub fn log_time(&self) -> LogTime {
        self.log_time
    }

    /// Where a log stands that ends with this batch.
    #[must_use]
    pub fn tail(&self) -> Tail {
        Tail {
            id: self.last_id(),
            chain: self.chain,
            log_bytes: self.log_bytes,
            log_time: self.log_time,
        }
    }

    /// The bytes for log and wire.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The entries in order, with their ids. Payloads share the batch's bytes.
    pub fn entries(&self) -> impl Iterator<Item = (EntryId, Bytes)> + '_ {
        let mut offset = HEADER_BYTES;
        (0..u64::from(self.count)).map(move |index| {
            let mut rest = &self.encoded[offset..];
            let before = rest.len();
            let length =
                get_length(&mut rest).expect("lengths were checked by decode or written by new");
            let start = offset + (before - rest.len());
            offset = start + length;
            let id = EntryId { ballot: self.ballot, slot: self.first.plus(index) };
            (id, self.encoded.slice(start..offset))
        })
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            BatchKind::Entries => "",
            BatchKind::StartWork => "StartWork ",
            BatchKind::Membership => "Membership ",
        };
        write!(f, "{kind}[{}..{}]@{}", self.first, self.last(), self.ballot)
    }
}

/// crc32c over the whole batch but its own hash, continuing `seed`.
fn chain_hash(seed: u32, encoded: &[u8]) -> u32 {
    let head = crc32c::crc32c_append(seed, &encoded[..CHAIN_OFFSET]);
    crc32c::crc32c_append(head, &encoded[CHAIN_OFFSET + 4..])
}

fn put_ballot(out: &mut BytesMut, ballot: Ballot) {
    out.put_u64(ballot.round);
    out.put_u64(ballot.replica.0);
}

fn get_ballot(head: &mut &[u8]) -> Ballot {
    Ballot { round: head.get_u64(), replica: ReplicaId(head.get_u64()) }
}

fn put_length(out: &mut BytesMut, mut length: usize) {
    while length >= 0x80 {
        out.put_u8((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
}

fn get_length(rest: &mut &[u8]) -> Option<usize> {
    let mut length = 0usize;
    for shift in [0, 7, 14, 21] {
        if rest.is_empty() {
            return None;
        }
        let byte = rest.get_u8();
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}

#[cfg(test)]
mod tests;
