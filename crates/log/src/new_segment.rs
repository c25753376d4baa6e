//! The segment that a start begins: where the old log ends, and what it copies from behind that.
//!
//! Built by `recovery.rs` as bytes, and written by `segment.rs`.

use quorate_types::Slot;

use crate::error::LogError;
use crate::found_segment::Segment;
use crate::frame::{HEADER_BYTES, Header, Kind, LogOffset, SegmentId, frame_bytes, padding};
use crate::recovered::Recovered;
use crate::scan::Found;
use crate::segment::{Name, SegmentHead};

/// Bytes of the body of a cut: the segment that was cut, and where.
const CUT_BYTES: u64 = 16;

/// The segment that this start writes, as bytes.
pub(crate) struct NewSegment {
    pub(crate) head: SegmentHead,
    pub(crate) bytes: Vec<u8>,
    pub(crate) copies: Vec<Found>,
}

impl NewSegment {
    pub(crate) fn build(
        last: Option<&Segment>,
        tail: &[Found],
        base: LogOffset,
        random: u64,
        segment_bytes: u64,
        found: &Recovered,
    ) -> Result<NewSegment, LogError> {
        let id = SegmentId(last.map_or(1, |last| last.id.0 + 1));
        let floors = found.floors.clone();
        let tail: Vec<&Found> = tail.iter().filter(|f| f.header.kind == Kind::Batch).collect();
        let mut end = SegmentHead::bytes(floors.len());
        if last.is_some() {
            end +=
                frame_bytes(CUT_BYTES) + tail.iter().map(|f| f.header.frame_bytes()).sum::<u64>();
        }
        let (synced_upto, file_bytes) = (base.plus(end), segment_bytes.max(end));
        let head = SegmentHead { id, base, synced_upto, random, file_bytes, floors };
        let mut new = NewSegment { bytes: head.encode(), head, copies: Vec::new() };
        let Some(last) = last else { return Ok(new) };

        let damages = Slot(found.damage.len() as u64);
        let mut cut = Vec::new();
        cut.extend_from_slice(&last.id.0.to_le_bytes());
        cut.extend_from_slice(&base.0.to_le_bytes());
        let header = Header::internal(Kind::Cut, id, base, base);
        new.frame(Header { first: damages, last: damages, ..header }, &cut);
        for found in tail {
            let mut body = vec![0; found.header.body_bytes as usize];
            let at = found.at + HEADER_BYTES as u64;
            last.file
                .read_exact_at(at, &mut body)
                .map_err(|e| LogError::io("read", &Name::Segment(last.id).path(), e))?;
            let copy = new.frame(found.header, &body);
            new.copies.push(copy);
        }
        debug_assert_eq!(end, new.bytes.len() as u64, "the head says where this ends");
        Ok(new)
    }

    /// Adds a frame, at the place it has here.
    fn frame(&mut self, header: Header, body: &[u8]) -> Found {
        let at = self.bytes.len() as u64;
        let (segment, base) = (self.head.id, self.head.base);
        let mut header = Header { segment, offset: base.plus(at), synced_upto: base, ..header };
        self.bytes.extend_from_slice(&header.encode(self.head.random, body));
        self.bytes.extend_from_slice(body);
        self.bytes.extend_from_slice(padding(body.len()));
        Found { header, at }
    }
}
