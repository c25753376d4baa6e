//! Finds the valid frames of one segment, and the holes between them.
//!
//! Called by `recovery.rs` for each segment, which decides what a hole means.

use std::ops::Range;

use crate::disk::DiskFile;
use crate::frame::{ALIGN, HEADER_BYTES, Header, Kind, LogOffset, MAGIC, SegmentId};

/// What a failing disk is asked for at once; what cannot be read is zeros in the scan.
const READ_BYTES: usize = 256 * 1024;

/// A valid frame and its position in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) header: Header,
    pub(crate) at: u64,
}

impl Found {
    pub(crate) fn end(&self) -> u64 {
        self.at + self.header.frame_bytes()
    }
}

/// What a segment holds after its head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// In order of position.
    pub(crate) found: Vec<Found>,
    /// What lies between them, before the first and behind the last.
    pub(crate) holes: Vec<Range<u64>>,
    /// Known from the head, or else from the first frame found.
    pub(crate) base: Option<LogOffset>,
}

/// Reads a whole file. What cannot be read is zeros, and its ranges are returned.
pub(crate) fn read_all(file: &dyn DiskFile, len: u64) -> (Vec<u8>, Vec<Range<u64>>) {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let mut unreadable: Vec<Range<u64>> = Vec::new();
    for (index, chunk) in bytes.chunks_mut(READ_BYTES).enumerate() {
        let start = (index * READ_BYTES) as u64;
        if file.read_exact_at(start, chunk).is_err() {
            chunk.fill(0);
            let end = start + chunk.len() as u64;
            match unreadable.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => unreadable.push(start..end),
            }
        }
    }
    (bytes, unreadable)
}

/// Scans the bytes of a segment from position `from` on.
pub(crate) fn scan(
    bytes: &[u8],
    from: u64,
    segment: SegmentId,
    base: Option<LogOffset>,
    random: u64,
) -> Scan {
    let mut scan = Scan { base, ..Scan::default() };
    let len = bytes.len() as u64;
    let mut at = from;
    let mut hole = from;
    while at + HEADER_BYTES as u64 <= len {
        let Some(header) = frame_at(bytes, at, segment, scan.base, random) else {
            at += ALIGN;
            continue;
        };
        if hole < at {
            scan.holes.push(hole..at);
        }
        scan.base = Some(LogOffset(header.offset.0 - at));
        let found = Found { header, at };
        at = found.end();
        hole = at;
        scan.found.push(found);
    }
    if hole < len {
        scan.holes.push(hole..len);
    }
    scan
}

fn frame_at(
    bytes: &[u8],
    at: u64,
    segment: SegmentId,
    base: Option<LogOffset>,
    random: u64,
) -> Option<Header> {
    let bytes = &bytes[at as usize..];
    if bytes[..MAGIC.len()] != MAGIC {
        return None;
    }
    let fits = |header: &Header| {
        header.segment == segment
            && header.kind != Kind::SegmentHead
            && header.synced_upto <= header.offset
            && header.first <= header.last
            && header.last.0 < u64::MAX
            && match base {
                Some(base) => base.plus(at) == header.offset,
                None => at <= header.offset.0,
            }
    };
    Header::decode(bytes, random, fits).map(|(header, _)| header)
}

#[cfg(test)]
#[path = "scan_test.rs"]
mod tests;
