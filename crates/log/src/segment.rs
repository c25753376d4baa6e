//! Segments: the files of the log, how they begin, and how they come and go.
//!
//! Created by `writer.rs` when one is full and by `recovery.rs` at each start; released ones come
//! back here to be used again.
//!
//! # Storage layout
//!
//! | file in `log/` | what it is |
//! |---|---|
//! | `NNNNNNNNNN.seg` | a segment of the log; N is its sequence number |
//! | `NNNNNNNNNN.free` | room for a segment to come; its content means nothing |
//!
//! A segment begins with a frame of kind 1, whose body is:
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 4 | format, 2 |
//! | 4 | 8 | random number of the log |
//! | 12 | 8 | length of the file |
//! | 20 | 4 | number of promise floors |
//! | 24 | 20 each | group (4), round (8), replica (8) |
//!
//! Its `offset` is the base of the segment; its `synced_upto` ends what was written before the file
//! got its name: the head, and in a segment begun by recovery a cut and copied frames. The base also
//! ends the segment before: whatever stands there
//! at or above the base does not count. A file gets the name `.seg` only after its head, and all
//! that recovery puts behind it, is durable; so a `.seg` whose head is invalid is damaged, never
//! half made. Everything below the base is durable before the file gets its name.
//!
//! So is the length of the file. A newest segment that is shorter lost bytes; an older one may have
//! been cut to what is used of it when a start began the segment behind it.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use quorate_types::planted::{Bug, planted};
use quorate_types::{Ballot, GroupId, ReplicaId};

use crate::disk::{Disk, DiskFile};
use crate::error::LogError;
use crate::frame::{HEADER_BYTES, Header, Kind, LogOffset, SegmentId, frame_bytes, padding};

/// The folder of the log.
pub(crate) const DIR: &str = "log";
/// The format of segments.
const FORMAT: u32 = 2;
const FLOOR_BYTES: usize = 20;
const FLOORS_AT: usize = 24;
/// Largest number of a segment: at one a second, for longer than the universe exists.
const ID_MAX: u64 = u64::MAX / 2;
/// Longest body of a head that recovery reads: more floors than a node has groups.
const HEAD_BODY_MAX: u32 = 16 * 1024 * 1024;

/// What a name in the folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Segment(SegmentId),
    Free(SegmentId),
}

impl Name {
    pub(crate) fn parse(name: &str) -> Option<Name> {
        let (digits, kind) = name.split_once('.')?;
        let number = digits.parse().ok()?;
        // One name per number, and always a next number.
        if ID_MAX < number || digits != format!("{number:010}") {
            return None;
        }
        match kind {
            "seg" => Some(Name::Segment(SegmentId(number))),
            "free" => Some(Name::Free(SegmentId(number))),
            _ => None,
        }
    }

    pub(crate) fn path(self) -> String {
        match self {
            Name::Segment(id) => format!("{DIR}/{:010}.seg", id.0),
            Name::Free(id) => format!("{DIR}/{:010}.free", id.0),
        }
    }
}

/// The beginning of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) id: SegmentId,
    pub(crate) base: LogOffset,
    /// Where the bytes end that are durable before the file has its name; at least its own end.
    pub(crate) synced_upto: LogOffset,
    pub(crate) random: u64,
    /// Length of the file when it got its name.
    pub(crate) file_bytes: u64,
    /// For each group the ballot that was promised when the segment was created. Only a floor: the
    /// promises themselves are in the promise file.
    pub(crate) floors: BTreeMap<GroupId, Ballot>,
}

impl SegmentHead {
    /// Bytes of the frame of a head with this many floors.
    pub(crate) fn bytes(floors: usize) -> u64 {
        frame_bytes((FLOORS_AT + floors * FLOOR_BYTES) as u64)
    }

    /// The head as a frame, with padding.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let count = u32::try_from(self.floors.len()).expect("group ids are 32-bit");
        let mut body = Vec::with_capacity(FLOORS_AT + self.floors.len() * FLOOR_BYTES);
        body.extend_from_slice(&FORMAT.to_le_bytes());
        body.extend_from_slice(&self.random.to_le_bytes());
        body.extend_from_slice(&self.file_bytes.to_le_bytes());
        body.extend_from_slice(&count.to_le_bytes());
        for (group, ballot) in &self.floors {
            body.extend_from_slice(&group.0.to_le_bytes());
            body.extend_from_slice(&ballot.round.to_le_bytes());
            body.extend_from_slice(&ballot.replica.0.to_le_bytes());
        }
        let mut header = Header::internal(Kind::SegmentHead, self.id, self.base, self.synced_upto);
        let mut bytes = header.encode(0, &body).to_vec();
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(padding(body.len()));
        bytes
    }

    /// Decodes the head at the start of a file. `Ok(None)` if it is damaged.
    pub(crate) fn decode(bytes: &[u8], id: SegmentId) -> Result<Option<SegmentHead>, LogError> {
        let fits = |header: &Header| {
            header.kind == Kind::SegmentHead
                && header.segment == id
                && header.offset <= header.synced_upto
                && header.body_bytes <= HEAD_BODY_MAX
        };
        let Some((header, body)) = Header::decode(bytes, 0, fits) else { return Ok(None) };
        let Some((format, body)) = body.split_first_chunk::<4>() else { return Ok(None) };
        let found = u32::from_le_bytes(*format);
        if found != FORMAT {
            let path = Name::Segment(id).path();
            return Err(LogError::FormatUnknown { path, found, known: FORMAT });
        }
        Ok(decode_body(body).map(|(random, file_bytes, floors)| SegmentHead {
            id,
            base: header.offset,
            synced_upto: header.synced_upto,
            random,
            file_bytes,
            floors,
        }))
    }

    /// Reads the head of a file. `Ok(None)` if it is damaged or cannot be read.
    pub(crate) fn read(
        file: &dyn DiskFile,
        id: SegmentId,
    ) -> Result<Option<SegmentHead>, LogError> {
        let mut bytes = vec![0; HEADER_BYTES];
        if file.read_exact_at(0, &mut bytes).is_err() {
            return Ok(None);
        }
        let head = bytes.first_chunk::<HEADER_BYTES>().and_then(Header::peek);
        let Some(header) = head.filter(|h| h.body_bytes <= HEAD_BODY_MAX) else { return Ok(None) };
        bytes.resize(HEADER_BYTES + header.body_bytes as usize, 0);
        if file.read_exact_at(0, &mut bytes).is_err() {
            return Ok(None);
        }
        SegmentHead::decode(&bytes, id)
    }
}

fn decode_body(body: &[u8]) -> Option<(u64, u64, BTreeMap<GroupId, Ballot>)> {
    let (random, body) = body.split_first_chunk::<8>()?;
    let (file_bytes, body) = body.split_first_chunk::<8>()?;
    let (count, body) = body.split_first_chunk::<4>()?;
    if body.len() != (u32::from_le_bytes(*count) as usize).checked_mul(FLOOR_BYTES)? {
        return None;
    }
    let mut floors = BTreeMap::new();
    for floor in body.chunks_exact(FLOOR_BYTES) {
        let (group, floor) = floor.split_first_chunk::<4>()?;
        let (round, floor) = floor.split_first_chunk::<8>()?;
        let (replica, _) = floor.split_first_chunk::<8>()?;
        let replica = ReplicaId(u64::from_le_bytes(*replica));
        let ballot = Ballot { round: u64::from_le_bytes(*round), replica };
        floors.insert(GroupId(u32::from_le_bytes(*group)), ballot);
    }
    Some((u64::from_le_bytes(*random), u64::from_le_bytes(*file_bytes), floors))
}

/// Files ready to become segments: released ones, and fresh ones allocated ahead.
pub(crate) struct Pool {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    kept_max: usize,
    /// Kept in order, so that the same run uses the same files.
    free: Vec<Name>,
    /// Free files are numbered apart from each other, from the highest number seen.
    next: u64,
}

impl Pool {
    pub(crate) fn new(disk: Arc<dyn Disk>, segment_bytes: u64, kept_max: usize) -> Pool {
        Pool { disk, segment_bytes, kept_max, free: Vec::new(), next: 1 }
    }

    pub(crate) fn len(&self) -> usize {
        self.free.len()
    }

    /// Takes in a free file found at start, or removes it if it has another size.
    pub(crate) fn adopt(&mut self, id: SegmentId) -> Result<(), LogError> {
        self.next = self.next.max(id.0.saturating_add(1));
        let name = Name::Free(id);
        let path = name.path();
        let open = self.disk.open(&path).map_err(|e| LogError::io("open", &path, e))?;
        let len = open.len().map_err(|e| LogError::io("stat", &path, e))?;
        if len == self.segment_bytes && self.free.len() < self.kept_max {
            self.free.push(name);
            return Ok(());
        }
        self.disk.remove(&path).map_err(|e| LogError::io("remove", &path, e))
    }

    /// Has at least `count` files of full length ready. On error nothing that matters was written.
    pub(crate) fn ensure(&mut self, count: usize) -> Result<(), LogError> {
        while self.free.len() < count {
            let name = Name::Free(SegmentId(self.next));
            let path = name.path();
            let file = self.disk.create(&path).map_err(|e| LogError::io("create", &path, e))?;
            if let Err(error) = file.allocate(self.segment_bytes) {
                // Half of it may be taken, which on a full disk somebody else needs. If even this
                // fails, the next start removes the file.
                let _ = self.disk.remove(&path);
                return Err(LogError::io("allocate", &path, error));
            }
            self.next += 1;
            self.free.push(name);
        }
        Ok(())
    }

    /// Makes a segment of a free file: `parts`, from its head on, and the file's length are durable
    /// under its name when this returns.
    pub(crate) fn create(
        &mut self,
        id: SegmentId,
        parts: &[IoSlice<'_>],
    ) -> Result<Arc<dyn DiskFile>, LogError> {
        self.ensure(1)?;
        let name = self.free.pop().expect("one file is ready").path();
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let file = self.disk.open(&name).map_err(|e| LogError::io("open", &name, e))?;
        let write = || -> io::Result<()> {
            if self.segment_bytes < bytes {
                file.allocate(bytes)?;
            }
            file.write_at(0, parts)?;
            file.sync_data()
        };
        write().map_err(|e| LogError::io("write", &name, e))?;
        let path = Name::Segment(id).path();
        self.disk.rename(&name, &path).map_err(|e| LogError::io("rename", &name, e))?;
        if !planted(Bug::NoDirSync) {
            self.disk.sync_dir(DIR).map_err(|e| LogError::io("sync folder", DIR, e))?;
        }
        Ok(file)
    }

    /// Takes a released segment out of the log. When this returns, no restart finds it again.
    ///
    /// Each is synced by itself: if two renames could survive a power cut in either order, one that
    /// did not would be a hole in the log.
    pub(crate) fn retire(&mut self, id: SegmentId, file_bytes: u64) -> Result<(), LogError> {
        let path = Name::Segment(id).path();
        if file_bytes == self.segment_bytes && self.free.len() < self.kept_max {
            let name = Name::Free(SegmentId(self.next));
            self.next += 1;
            self.disk.rename(&path, &name.path()).map_err(|e| LogError::io("rename", &path, e))?;
            self.disk.sync_dir(DIR).map_err(|e| LogError::io("sync folder", DIR, e))?;
            self.free.push(name);
            return Ok(());
        }
        self.disk.remove(&path).map_err(|e| LogError::io("remove", &path, e))?;
        self.disk.sync_dir(DIR).map_err(|e| LogError::io("sync folder", DIR, e))
    }
}

#[cfg(test)]
#[path = "segment_test.rs"]
mod tests;
