//! A segment as a start finds it, and what of it counts.
//!
//! Filled and judged by `recovery.rs`.

use std::ops::Range;
use std::sync::Arc;

use crate::disk::DiskFile;
use crate::frame::{LogOffset, SegmentId};
use crate::index::SegmentState;
use crate::scan::{Found, Scan};
use crate::segment::SegmentHead;

/// A segment as it was found.
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) file_bytes: u64,
    pub(crate) head: Option<SegmentHead>,
    pub(crate) is_foreign: bool,
    pub(crate) scan: Scan,
    pub(crate) unreadable: Vec<Range<u64>>,
    /// Behind the last byte that is not zero.
    pub(crate) used_bytes: u64,
}

impl Segment {
    /// The base, unless nothing in the file tells it.
    pub(crate) fn base(&self) -> Option<LogOffset> {
        if self.is_foreign { None } else { self.scan.base }
    }

    /// As part of an index, without frames.
    pub(crate) fn state(&self, is_damaged: bool) -> SegmentState {
        let file = Arc::clone(&self.file);
        SegmentState { file, file_bytes: self.file_bytes, live_frames: 0, is_damaged }
    }

    /// The bytes that the file had when it was made and has not now.
    pub(crate) fn cut_off(&self) -> Option<Range<u64>> {
        let range = self.file_bytes..self.head.as_ref()?.file_bytes;
        (!range.is_empty()).then_some(range)
    }

    /// Bytes behind the end of the log that are not zero: torn off, or of an earlier use of the file.
    pub(crate) fn ignored_bytes(&self, cut: LogOffset, tail: &[Found]) -> u64 {
        let cut = self.base().map_or(0, |base| cut.0.saturating_sub(base.0));
        self.used_bytes.saturating_sub(tail.last().map_or(cut, Found::end))
    }

    /// The greatest offset that something in this segment says is durable.
    pub(crate) fn says_synced(&self) -> LogOffset {
        let head = self.head.iter().filter(|_| !self.is_foreign).map(|head| head.synced_upto);
        let frames = self.scan.found.iter().map(|found| found.header.synced_upto);
        head.chain(frames).max().unwrap_or_default()
    }
}

/// What of a segment counts.
#[derive(Default)]
pub(crate) struct Parts {
    /// Frames below the limit.
    pub(crate) trusted: Vec<Found>,
    /// Positions below the limit without a valid frame.
    pub(crate) damaged: Vec<Range<u64>>,
    /// Frames above the limit, up to the first that is invalid.
    pub(crate) tail: Vec<Found>,
}

impl Parts {
    pub(crate) fn new(scan: &Scan, limit: u64, file_bytes: u64) -> Parts {
        let mut parts = Parts::default();
        let below =
            |range: &Range<u64>| (range.start < limit).then(|| range.start..range.end.min(limit));
        parts.damaged.extend(scan.holes.iter().filter_map(below));
        if file_bytes < limit {
            parts.damaged.push(file_bytes..limit);
        }
        let mut tail_end = limit;
        for found in &scan.found {
            if found.end() <= limit {
                parts.trusted.push(*found);
            } else if found.at < limit {
                // Both this frame and the one that says where the segment ends are valid, yet they
                // contradict each other. Neither is believed.
                parts.damaged.push(found.at..limit);
            } else if found.at == tail_end {
                parts.tail.push(*found);
                tail_end = found.end();
            } else {
                break;
            }
        }
        parts
    }

    /// The end of the last frame, tail included; `limit` if there is no tail.
    pub(crate) fn end(&self, limit: u64) -> u64 {
        self.tail.last().map_or(limit, Found::end)
    }
}

/// Compares pieces, because most of a segment that was never used is zeros.
pub(crate) fn used_bytes(bytes: &[u8]) -> u64 {
    const ZEROS: [u8; 4096] = [0; 4096];
    let piece = bytes.chunks(ZEROS.len()).rposition(|piece| piece != &ZEROS[..piece.len()]);
    let start = piece.map_or(0, |piece| piece * ZEROS.len());
    let last = bytes[start..].iter().take(ZEROS.len()).rposition(|byte| *byte != 0);
    last.map_or(0, |last| (start + last) as u64 + 1)
}
