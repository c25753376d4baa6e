//! Reads frames back, from any thread.
//!
//! Held by whoever serves followers that lag and replays entries at start. Looks a frame up under
//! the lock it shares with the writer, reads and checks it without.

use std::sync::Arc;

use bytes::Bytes;

use quorate_types::{GroupId, Slot};

use crate::disk::DiskFile;
use crate::error::LogError;
use crate::frame::{Frame, HEADER_BYTES, Header};
use crate::index::{Located, Shared};

/// Reads the live frames of the log. Clones share everything.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> LogReader {
        LogReader { shared }
    }

    /// Live frames in order of slot, from the one that contains or follows `from`, until their
    /// bodies would pass `bytes_max`; at least one if there is any. Slots may be missing between
    /// two frames. Frames that are appended but not synced yet are among them.
    ///
    /// # Errors
    /// `LOG_DAMAGED` if a frame is not what was written, `DISK_FAILED` if it cannot be read.
    pub fn read(
        &self,
        group: GroupId,
        from: Slot,
        bytes_max: usize,
    ) -> Result<Vec<Frame>, LogError> {
        let mut frames = Vec::new();
        let mut bytes = 0;
        for (located, file) in self.locate(group, from, bytes_max) {
            match read_frame(file.as_ref(), &located, self.shared.random) {
                Ok(Some(body)) => {
                    bytes += body.len();
                    let Header { group, first, .. } = located.header;
                    frames.push(Frame { group, first, last: located.last, body });
                }
                // Released, and its file used again, between lookup and read: no longer live. What
                // was collected so far was released before it and is still right.
                _ if !self.is_live(&located) => {}
                Ok(None) => {
                    let Header { segment, offset, .. } = located.header;
                    return Err(LogError::Damaged { segment, offset });
                }
                Err(error) => {
                    let path = crate::segment::Name::Segment(located.header.segment).path();
                    return Err(LogError::io("read", &path, error));
                }
            }
        }
        debug_assert!(bytes <= bytes_max || frames.len() == 1, "one frame may pass the limit");
        Ok(frames)
    }

    /// The first live slot of a group.
    #[must_use]
    pub fn first_slot(&self, group: GroupId) -> Option<Slot> {
        self.bounds(group).map(|(first, _)| first)
    }

    /// The last live slot of a group.
    #[must_use]
    pub fn last_slot(&self, group: GroupId) -> Option<Slot> {
        self.bounds(group).map(|(_, last)| last)
    }

    /// The first and the last live slot of a group; `None` if it has no live frame.
    #[must_use]
    pub fn bounds(&self, group: GroupId) -> Option<(Slot, Slot)> {
        let index = self.shared.lock();
        let frames = &index.groups.get(&group)?.frames;
        Some((frames.front()?.header.first, frames.back()?.last))
    }

    /// The groups that have live frames, in order.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.shared.lock().groups.keys().copied().collect()
    }

    /// Whether the writer last saw more room than the reserve. Cheap, for the edge to ask per
    /// request.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.shared.has_room()
    }

    fn locate(
        &self,
        group: GroupId,
        from: Slot,
        bytes_max: usize,
    ) -> Vec<(Located, Arc<dyn DiskFile>)> {
        let index = self.shared.lock();
        let Some(live) = index.groups.get(&group) else { return Vec::new() };
        let start = live.frames.partition_point(|frame| frame.last < from);
        let mut found = Vec::new();
        let mut bytes = 0;
        for frame in live.frames.range(start..) {
            bytes += frame.header.body_bytes as usize;
            if bytes_max < bytes && !found.is_empty() {
                break;
            }
            if let Some(segment) = index.segments.get(&frame.header.segment) {
                found.push((*frame, Arc::clone(&segment.file)));
            }
        }
        found
    }

    fn is_live(&self, located: &Located) -> bool {
        let index = self.shared.lock();
        let Some(live) = index.groups.get(&located.header.group) else { return false };
        let at = live.frames.partition_point(|frame| frame.header.first < located.header.first);
        live.frames.get(at).is_some_and(|frame| frame.header == located.header)
    }
}

/// The body of a frame, or `None` if the bytes are not the frame that was written there.
pub(crate) fn read_frame(
    file: &dyn DiskFile,
    located: &Located,
    random: u64,
) -> std::io::Result<Option<Bytes>> {
    let mut bytes = vec![0; HEADER_BYTES + located.header.body_bytes as usize];
    file.read_exact_at(located.at, &mut bytes)?;
    let same = |header: &Header| *header == located.header;
    if Header::decode(&bytes, random, same).is_none() {
        return Ok(None);
    }
    Ok(Some(Bytes::from(bytes).slice(HEADER_BYTES..)))
}
