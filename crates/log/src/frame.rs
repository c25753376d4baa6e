//! Frames: the unit in which the log is written and checked.
//!
//! Encoded by `writer.rs` and `segment.rs`, decoded by `scan.rs` and `reader.rs`.
//!
//! # Storage layout
//!
//! Integers are little-endian. A frame is a header, a body, and zeros up to the next multiple of 8.
//!
//! | at | bytes | field | |
//! |---:|---:|---|---|
//! | 0 | 4 | magic | `QLF1` |
//! | 4 | 4 | crc | crc32c of log random, bytes 8 to 64, body |
//! | 8 | 4 | body length | without padding |
//! | 12 | 1 | kind | 1 segment head, 2 batch, 3 seal, 4 cut |
//! | 13 | 3 | zero | |
//! | 16 | 4 | group | 0 unless a batch |
//! | 20 | 4 | zero | |
//! | 24 | 8 | first slot | in a cut: how many damages that start found; 0 in a head and a seal |
//! | 32 | 8 | last slot | as the first, but for batches |
//! | 40 | 8 | offset | position of the frame in the log |
//! | 48 | 8 | segment | sequence number of its segment |
//! | 56 | 8 | synced_upto | every byte of the log below was durable when this was written |
//! | 64 | | body | |
//!
//! The offset of a frame is the base of its segment plus its position in the file. The crc covers a
//! random number of the log, the segment's sequence number and the offset, so neither bytes inside
//! a value nor what an earlier use left in a recycled file pass for a frame. The head of a segment,
//! at position 0, carries the random number itself and is checked with 0 in its place.

use std::fmt;

use bytes::Bytes;

use quorate_types::planted::{Bug, planted};
use quorate_types::{GroupId, Slot};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 64;
/// Frames start at multiples of this, which makes the search for one after damage faster.
pub(crate) const ALIGN: u64 = 8;
pub(crate) const MAGIC: [u8; 4] = *b"QLF1";

/// A position in the log of a node: bytes, over all segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogOffset(pub u64);

impl LogOffset {
    pub(crate) fn plus(self, bytes: u64) -> LogOffset {
        LogOffset(self.0.saturating_add(bytes))
    }
}

impl fmt::Display for LogOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The sequence number of a segment, from 1, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A batch of consecutive entries of one group, as the log takes and returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The group.
    pub group: GroupId,
    /// Its first slot.
    pub first: Slot,
    /// Its last slot. In a frame that was read this is the last slot that still counts: a later
    /// frame may have cut the rest off, whose entries in `body` must be ignored.
    pub last: Slot,
    /// The entries, in the caller's encoding.
    pub body: Bytes,
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Opens a segment.
    SegmentHead = 1,
    /// Entries of one group. Cuts the group's older frames from its first slot on.
    Batch = 2,
    /// Nothing but its `synced_upto`.
    Seal = 3,
    /// After the head of a segment that recovery opened: where the segment before ends.
    Cut = 4,
}

/// The header of a frame, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) group: GroupId,
    pub(crate) first: Slot,
    pub(crate) last: Slot,
    pub(crate) offset: LogOffset,
    pub(crate) segment: SegmentId,
    pub(crate) synced_upto: LogOffset,
    pub(crate) body_bytes: u32,
}

impl Header {
    /// A header of a frame that belongs to no group.
    pub(crate) fn internal(
        kind: Kind,
        segment: SegmentId,
        offset: LogOffset,
        synced_upto: LogOffset,
    ) -> Header {
        let (group, first, last) = (GroupId(0), Slot::ZERO, Slot::ZERO);
        Header { kind, group, first, last, offset, segment, synced_upto, body_bytes: 0 }
    }

    /// The bytes of the header. Sets the body length from `body`.
    pub(crate) fn encode(&mut self, random: u64, body: &[u8]) -> [u8; HEADER_BYTES] {
        self.body_bytes = u32::try_from(body.len()).expect("bodies are limited by the segment");
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[12] = self.kind as u8;
        bytes[16..20].copy_from_slice(&self.group.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.last.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.offset.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.segment.0.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.synced_upto.0.to_le_bytes());
        let crc = checksum(random, &bytes, body);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes the frame at the start of `bytes` if `fits` likes its header and its crc is right.
    ///
    /// `fits` runs before the crc, so that a search through a value full of fake headers does not
    /// compute the crc of everything behind each.
    pub(crate) fn decode(
        bytes: &[u8],
        random: u64,
        fits: impl FnOnce(&Header) -> bool,
    ) -> Option<(Header, &[u8])> {
        let (head, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let header = Header::peek(head)?;
        if !fits(&header) {
            return None;
        }
        let body = rest.get(..header.body_bytes as usize)?;
        let is_whole = u32_at(head, 4) == checksum(random, head, body);
        (is_whole || planted(Bug::NoChecksum)).then_some((header, body))
    }

    /// The fields, unchecked but for magic, kind and the zeros between them.
    pub(crate) fn peek(head: &[u8; HEADER_BYTES]) -> Option<Header> {
        if head[0..4] != MAGIC || head[13..16] != [0; 3] || head[20..24] != [0; 4] {
            return None;
        }
        let kind = match head[12] {
            1 => Kind::SegmentHead,
            2 => Kind::Batch,
            3 => Kind::Seal,
            4 => Kind::Cut,
            _ => return None,
        };
        Some(Header {
            kind,
            group: GroupId(u32_at(head, 16)),
            first: Slot(u64_at(head, 24)),
            last: Slot(u64_at(head, 32)),
            offset: LogOffset(u64_at(head, 40)),
            segment: SegmentId(u64_at(head, 48)),
            synced_upto: LogOffset(u64_at(head, 56)),
            body_bytes: u32_at(head, 8),
        })
    }

    /// Bytes of the whole frame with its padding.
    pub(crate) fn frame_bytes(&self) -> u64 {
        frame_bytes(u64::from(self.body_bytes))
    }
}

/// Bytes of a frame with a body of this length.
pub(crate) fn frame_bytes(body_bytes: u64) -> u64 {
    (HEADER_BYTES as u64 + body_bytes).next_multiple_of(ALIGN)
}

/// The zeros after a body of this length.
pub(crate) fn padding(body_bytes: usize) -> &'static [u8] {
    const ZEROS: [u8; ALIGN as usize] = [0; ALIGN as usize];
    &ZEROS[..frame_bytes(body_bytes as u64) as usize - HEADER_BYTES - body_bytes]
}

fn checksum(random: u64, head: &[u8; HEADER_BYTES], body: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&random.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &head[8..]), body)
}

fn u32_at(head: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(head: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
#[path = "frame_test.rs"]
mod tests;
