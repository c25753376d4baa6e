//! Where the live frames of each group are, in memory.
//!
//! Built by `recovery.rs`, changed by `writer.rs`, looked up by `reader.rs` under one lock. No I/O
//! happens under the lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_types::{GroupId, Slot};

use crate::disk::DiskFile;
use crate::frame::{Header, SegmentId};

/// A live frame and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    /// As written, but for its last slot.
    pub(crate) header: Header,
    /// The last slot that no later frame has cut off.
    pub(crate) last: Slot,
    /// Position in the file of its segment.
    pub(crate) at: u64,
}

/// The live frames of a group.
///
/// Invariant: slots rise from frame to frame and never overlap.
#[derive(Debug, Default)]
pub(crate) struct GroupIndex {
    pub(crate) frames: VecDeque<Located>,
    pub(crate) live_bytes: u64,
}

/// A segment that is part of the log.
pub(crate) struct SegmentState {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) file_bytes: u64,
    /// Frames in it that are live. At 0 it can be retired once it is the oldest.
    pub(crate) live_frames: u64,
    /// Keeps the segment, and with it the report of its damage at the next start, until the caller
    /// says that nothing is missing any more.
    pub(crate) is_damaged: bool,
}

/// All live frames and all segments.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) groups: BTreeMap<GroupId, GroupIndex>,
    pub(crate) segments: BTreeMap<SegmentId, SegmentState>,
}

impl Index {
    /// Adds a batch, which cuts older frames of its group from its first slot on.
    pub(crate) fn push(&mut self, header: Header, at: u64) {
        let group = self.groups.entry(header.group).or_default();
        while let Some(back) = group.frames.back_mut() {
            if back.last < header.first {
                break;
            }
            if back.header.first < header.first {
                back.last = header.first.prev();
                break;
            }
            let cut = *back;
            group.frames.pop_back();
            forget(&mut self.segments, group, &cut);
        }
        group.frames.push_back(Located { header, last: header.last, at });
        group.live_bytes += u64::from(header.body_bytes);
        if let Some(segment) = self.segments.get_mut(&header.segment) {
            segment.live_frames += 1;
        }
    }

    /// Drops the frames of a group that end at or below `upto`.
    pub(crate) fn release(&mut self, group: GroupId, upto: Slot) {
        let Some(index) = self.groups.get_mut(&group) else { return };
        while let Some(front) = index.frames.front().copied() {
            if upto < front.last {
                return;
            }
            index.frames.pop_front();
            forget(&mut self.segments, index, &front);
        }
        self.groups.remove(&group);
    }

    /// The oldest segment if none of its frames is live and it is not the newest.
    ///
    /// Only the oldest: a cut must not leave the log before the frames that it cuts, and a missing
    /// segment between others counts as damage.
    pub(crate) fn oldest_released(&self) -> Option<(SegmentId, u64)> {
        let (id, segment) = self.segments.first_key_value()?;
        let free = segment.live_frames == 0 && !segment.is_damaged && self.segments.len() > 1;
        free.then_some((*id, segment.file_bytes))
    }

    /// The live frames of the oldest segment, if nothing but last frames of groups holds it: each is the
    /// only live one of its group. A copy of such a frame may stand anywhere behind it, because there is
    /// nothing of the group that it could cut.
    pub(crate) fn held_by_last_frames(&self) -> Option<Vec<Located>> {
        let (id, segment) = self.segments.first_key_value()?;
        if segment.live_frames == 0 || segment.is_damaged || self.segments.len() < 3 {
            return None;
        }
        let alone = self.groups.values().filter(|group| group.frames.len() == 1);
        let here: Vec<Located> = alone
            .filter_map(|group| group.frames.front().copied())
            .filter(|frame| frame.header.segment == *id && frame.last == frame.header.last)
            .collect();
        (here.len() as u64 == segment.live_frames).then_some(here)
    }

    /// Bytes of all segment files.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.file_bytes).sum()
    }
}

fn forget(
    segments: &mut BTreeMap<SegmentId, SegmentState>,
    group: &mut GroupIndex,
    frame: &Located,
) {
    group.live_bytes -= u64::from(frame.header.body_bytes);
    if let Some(segment) = segments.get_mut(&frame.header.segment) {
        segment.live_frames -= 1;
    }
}

/// What writer and readers share.
pub(crate) struct Shared {
    index: Mutex<Index>,
    pub(crate) random: u64,
    has_room: AtomicBool,
}

impl Shared {
    pub(crate) fn new(index: Index, random: u64) -> Shared {
        Shared { index: Mutex::new(index), random, has_room: AtomicBool::new(true) }
    }

    /// The index. A panic elsewhere cannot leave it half changed in a way that loses frames, and a
    /// process that panics ends anyway.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.has_room.load(Ordering::Relaxed)
    }

    pub(crate) fn set_has_room(&self, room: bool) {
        self.has_room.store(room, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "index_test.rs"]
mod tests;
