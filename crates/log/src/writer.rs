//! Appends frames and makes them durable: group commit for all groups of a node.
//!
//! Driven by the one log thread of a node, which drains its queue, appends everything as one write,
//! syncs once, and tells the groups. Uses `segment.rs` to begin segments and to give them back.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use quorate_types::{Ballot, GroupId, Slot};

use crate::disk::{Disk, DiskFile};
use crate::error::LogError;
use crate::frame::{Frame, HEADER_BYTES, Header, Kind, LogOffset, SegmentId, frame_bytes, padding};
use crate::index::{Located, SegmentState, Shared};
use crate::options::LogOptions;
use crate::reader::read_frame;
use crate::record::LogMark;
use crate::segment::{Name, Pool, SegmentHead};

/// Most segments given back at once: each costs the disk some steps, and a write may wait behind them.
const RETIRED_MAX: usize = 8;

/// What the writer has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Bytes written, headers and padding included.
    pub written_bytes: u64,
    /// Writes.
    pub writes: u64,
    /// Syncs of segments.
    pub syncs: u64,
}

/// What the writer has done and holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Since the start.
    pub counters: LogCounters,
    /// Segments of the log.
    pub segments: u64,
    /// Bytes of their files.
    pub log_bytes: u64,
    /// Bytes of live bodies by group.
    pub live_bytes: BTreeMap<GroupId, u64>,
}

/// The segment that recovery has begun, for the writer to go on with.
pub(crate) struct Newest {
    pub(crate) head: SegmentHead,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) file_bytes: u64,
    /// Position behind what is written and synced.
    pub(crate) at: u64,
}

/// The end of the log to which everything is appended.
///
/// Invariant: everything before the newest segment is durable; `durable <= end`.
///
/// After an error of a write or a sync nobody knows what is on the disk, and a later sync that
/// succeeds proves nothing. The writer then refuses everything for ever; the caller aborts the
/// process and lets recovery look at what is really there.
pub struct LogWriter {
    disk: Arc<dyn Disk>,
    options: LogOptions,
    pool: Pool,
    shared: Arc<Shared>,
    floors: BTreeMap<GroupId, Ballot>,
    segment: SegmentId,
    base: LogOffset,
    file: Arc<dyn DiskFile>,
    file_bytes: u64,
    /// Position in the file behind the last frame.
    at: u64,
    /// Everything below was synced.
    durable: LogOffset,
    /// A segment may have become free since the last look.
    retire_wanted: bool,
    poisoned: Option<String>,
    counters: LogCounters,
}

impl LogWriter {
    /// A writer behind what recovery has written and synced.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        pool: Pool,
        shared: Arc<Shared>,
        newest: Newest,
    ) -> LogWriter {
        let Newest { head, file, file_bytes, at } = newest;
        let writer = LogWriter {
            disk,
            options,
            pool,
            shared,
            floors: head.floors,
            segment: head.id,
            base: head.base,
            file,
            file_bytes,
            at,
            durable: head.base.plus(at),
            retire_wanted: false,
            poisoned: None,
            counters: LogCounters { written_bytes: at, writes: 1, syncs: 1 },
        };
        writer.has_room();
        writer
    }

    /// Writes frames behind all earlier ones, with one write per segment. Returns the end of the
    /// log: the frames are durable once [`LogWriter::sync`] returned that offset or a later one.
    ///
    /// A frame cuts its group's older frames from its first slot on.
    ///
    /// # Errors
    /// `FRAME_TOO_LARGE`, `INTERNAL` for impossible slots, and `DISK_FULL` before anything was
    /// written; anything else poisons the writer.
    pub fn append(&mut self, frames: &[Frame]) -> Result<LogOffset, LogError> {
        self.check()?;
        frames.iter().try_for_each(|frame| self.check_frame(frame))?;
        let runs = self.split(frames);
        self.make_ready(runs.len() as u64 - 1)?;
        let done = self.write_runs(frames, runs);
        self.poison(done)?;
        Ok(self.end())
    }

    /// Makes everything appended so far durable and returns its end.
    ///
    /// # Errors
    /// Every error poisons the writer.
    pub fn sync(&mut self) -> Result<LogOffset, LogError> {
        self.check()?;
        let done = self.sync_segment();
        self.poison(done)?;
        Ok(self.durable)
    }

    /// Records on the disk how far the log is durable, so that damage below can be told from a torn
    /// tail. Called after 10 ms without an append, and every 500 ms as a probe of the disk.
    ///
    /// # Errors
    /// `DISK_FULL` before anything was written; anything else poisons the writer.
    pub fn seal(&mut self) -> Result<LogOffset, LogError> {
        self.sync()?;
        let needs_segment = self.file_bytes < self.at + frame_bytes(0);
        self.make_ready(u64::from(needs_segment))?;
        let done = self.write_seal(needs_segment);
        self.poison(done)?;
        self.has_room();
        Ok(self.durable)
    }

    /// The group does not need its frames that end at or below `upto` any more. Segments at the old
    /// end of the log without any frame still needed are taken out of it.
    ///
    /// Not durable: after a start, released frames may be back.
    ///
    /// # Errors
    /// Every error poisons the writer.
    pub fn release(&mut self, group: GroupId, upto: Slot) -> Result<(), LogError> {
        self.check()?;
        self.shared.lock().release(group, upto);
        self.retire_wanted = true;
        let done = self.retire_released();
        self.poison(done)
    }

    /// Copies the frames that hold the oldest segment to the end of the log, if they are the last ones of
    /// groups that rest and are worth it. Without this a group that writes nothing keeps everything that
    /// others have written since, until the log is full. Asked after releases.
    ///
    /// Only what fits the newest segment is copied, the rest another time: the promise file knows of that
    /// segment already. In one that it does not know, the only copy of a frame could be lost unnoticed.
    ///
    /// # Errors
    /// `DISK_FAILED`; every error of the write poisons the writer.
    pub fn free_oldest(&mut self) -> Result<(), LogError> {
        self.check()?;
        let Some(held) = self.shared.lock().held_by_last_frames() else { return Ok(()) };
        let bytes: u64 = held.iter().map(|frame| frame.header.frame_bytes()).sum();
        let is_cheap = bytes <= self.options.segment_bytes / 4;
        if !is_cheap && self.log_bytes() < self.options.bytes_cap / 2 {
            return Ok(());
        }
        let mut copies = Vec::with_capacity(held.len());
        let mut end = self.at;
        for frame in held {
            end += frame.header.frame_bytes();
            if self.file_bytes < end {
                break;
            }
            match self.read_back(&frame)? {
                Some(copy) => copies.push(copy),
                None => return Ok(()),
            }
        }
        if copies.is_empty() {
            return Ok(());
        }
        tracing::debug!(frames = copies.len(), bytes, "the oldest segment is freed");
        self.retire_wanted = true;
        self.append(&copies).map(|_| ())
    }

    /// A live frame as it stands on the disk. `None` if that is not what was written: then its segment
    /// stays, so that the next start reports it.
    fn read_back(&self, frame: &Located) -> Result<Option<Frame>, LogError> {
        let Header { segment, offset, group, first, .. } = frame.header;
        let file = self.shared.lock().segments.get(&segment).map(|it| Arc::clone(&it.file));
        let Some(file) = file else { return Ok(None) };
        let body = read_frame(file.as_ref(), frame, self.shared.random)
            .map_err(|error| LogError::io("read", &Name::Segment(segment).path(), error))?;
        if body.is_none() {
            tracing::error!(%segment, %offset, "a frame is not what was written");
            if let Some(state) = self.shared.lock().segments.get_mut(&segment) {
                state.is_damaged = true;
            }
        }
        Ok(body.map(|body| Frame { group, first, last: frame.last, body }))
    }

    /// Nothing is missing any more: every replica of this node has proven its log complete. Until
    /// this is called, damaged segments are kept, so that a restart reports the damage again.
    ///
    /// # Errors
    /// Every error poisons the writer.
    pub fn clear_damage(&mut self) -> Result<(), LogError> {
        self.check()?;
        for segment in self.shared.lock().segments.values_mut() {
            segment.is_damaged = false;
        }
        self.retire_wanted = true;
        let done = self.retire_released();
        self.poison(done)
    }

    /// The promises to put at the head of each segment from now on: all groups of the node.
    pub fn set_floors(&mut self, floors: BTreeMap<GroupId, Ballot>) {
        self.floors = floors;
    }

    /// Begins a new segment now. Needed after a group left the node or got a new replica, so that
    /// the newest floors do not name its old promise.
    ///
    /// # Errors
    /// `DISK_FULL` before anything was written; anything else poisons the writer.
    pub fn roll(&mut self) -> Result<(), LogError> {
        self.check()?;
        self.make_ready(1)?;
        let done = self.begin_segment();
        self.poison(done)
    }

    /// Whether there is more room than the reserve, on the disk and under the cap. Below it the
    /// edge refuses clients and leaders leave, but appends still work.
    pub fn has_room(&self) -> bool {
        let log = self.log_bytes() + self.options.segment_bytes;
        let cap = self.options.bytes_cap - self.options.reserve_of(self.options.bytes_cap);
        let room = match (self.disk.free_bytes(), self.disk.total_bytes()) {
            // Files in the pool are ours already.
            (Ok(free), Ok(total)) => {
                self.options.reserve_of(total) <= free.saturating_add(self.pool_bytes())
            }
            // A disk that does not even answer this takes no more clients.
            _ => false,
        };
        let room = room && log <= cap;
        self.shared.set_has_room(room);
        room
    }

    /// The end of the log, durable or not.
    #[must_use]
    pub fn end(&self) -> LogOffset {
        self.base.plus(self.at)
    }

    /// How far the log is durable.
    #[must_use]
    pub fn durable(&self) -> LogOffset {
        self.durable
    }

    /// How far the log reaches durably, for the promise file. Its segment rises with each new one:
    /// nothing in a segment may be acknowledged before the promise file knows of it.
    #[must_use]
    pub fn mark(&self) -> LogMark {
        LogMark { segment: self.segment, durable: self.durable }
    }

    /// Most bytes the body of a frame may have, with the floors as they are set.
    #[must_use]
    pub fn body_bytes_max(&self) -> u64 {
        let head = SegmentHead::bytes(self.floors.len());
        self.options.segment_bytes.saturating_sub(head + frame_bytes(0)) & !7
    }

    /// What the writer has done since its start. Cheap.
    #[must_use]
    pub fn counters(&self) -> LogCounters {
        self.counters
    }

    /// What the writer has done and holds.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let index = self.shared.lock();
        LogStats {
            counters: self.counters,
            segments: index.segments.len() as u64,
            log_bytes: index.file_bytes(),
            live_bytes: index.groups.iter().map(|(id, group)| (*id, group.live_bytes)).collect(),
        }
    }

    fn check(&self) -> Result<(), LogError> {
        match &self.poisoned {
            Some(reason) => Err(LogError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn poison<T>(&mut self, done: Result<T, LogError>) -> Result<T, LogError> {
        if let Err(error) = &done {
            tracing::error!(%error, "the log writer stops for ever");
            self.poisoned = Some(error.to_string());
        }
        done
    }

    fn check_frame(&self, frame: &Frame) -> Result<(), LogError> {
        let Frame { group, first, last, ref body } = *frame;
        if first == Slot::ZERO || last < first || last.0 == u64::MAX {
            return Err(LogError::InvalidSlots { group, first, last });
        }
        let (bytes, bytes_max) = (body.len() as u64, self.body_bytes_max());
        if bytes_max < bytes {
            return Err(LogError::FrameTooLarge { bytes, bytes_max });
        }
        Ok(())
    }

    /// Which frames go to the current segment, the next, and so on. Never empty, but the first run
    /// may be.
    fn split(&self, frames: &[Frame]) -> Vec<Range<usize>> {
        let mut runs = Vec::new();
        let (mut from, mut at, mut room) = (0, self.at, self.file_bytes);
        for (place, frame) in frames.iter().enumerate() {
            let bytes = frame_bytes(frame.body.len() as u64);
            if room < at + bytes {
                runs.push(from..place);
                (from, at) = (place, SegmentHead::bytes(self.floors.len()));
                room = self.options.segment_bytes;
            }
            at += bytes;
        }
        runs.push(from..frames.len());
        runs
    }

    /// Makes sure that `count` segments can be begun, before anything is written.
    fn make_ready(&mut self, count: u64) -> Result<(), LogError> {
        let needed_bytes = count * self.options.segment_bytes;
        let log_bytes = self.log_bytes();
        if count > 0 && self.options.bytes_cap < log_bytes + needed_bytes {
            self.shared.set_has_room(false);
            return Err(LogError::Full { log_bytes, needed_bytes });
        }
        let done = self.pool.ensure(count as usize);
        match done {
            Err(error) if error.code() == quorate_types::Code::DiskFull => {
                self.shared.set_has_room(false);
                Err(LogError::Full { log_bytes, needed_bytes })
            }
            other => self.poison(other),
        }
    }

    fn write_runs(&mut self, frames: &[Frame], runs: Vec<Range<usize>>) -> Result<(), LogError> {
        for (place, run) in runs.into_iter().enumerate() {
            if place > 0 {
                self.begin_segment()?;
            }
            self.write_run(&frames[run])?;
        }
        Ok(())
    }

    fn write_run(&mut self, frames: &[Frame]) -> Result<(), LogError> {
        if frames.is_empty() {
            return Ok(());
        }
        let mut located = Vec::with_capacity(frames.len());
        let mut heads = Vec::with_capacity(frames.len());
        let mut at = self.at;
        for frame in frames {
            let mut header = Header {
                kind: Kind::Batch,
                group: frame.group,
                first: frame.first,
                last: frame.last,
                offset: self.base.plus(at),
                segment: self.segment,
                synced_upto: self.durable,
                body_bytes: 0,
            };
            heads.push(header.encode(self.shared.random, &frame.body));
            located.push((header, at));
            at += header.frame_bytes();
        }
        let mut parts = Vec::with_capacity(3 * frames.len());
        for (head, frame) in heads.iter().zip(frames) {
            parts.push(IoSlice::new(head));
            parts.extend(
                [&frame.body[..], padding(frame.body.len())]
                    .into_iter()
                    .filter(|part| !part.is_empty())
                    .map(IoSlice::new),
            );
        }
        self.write(&parts, at)?;
        let mut index = self.shared.lock();
        for (header, at) in located {
            index.push(header, at);
        }
        Ok(())
    }

    fn write_seal(&mut self, needs_segment: bool) -> Result<(), LogError> {
        if needs_segment {
            self.begin_segment()?;
        }
        let mut header = Header::internal(Kind::Seal, self.segment, self.end(), self.durable);
        let head = header.encode(self.shared.random, &[]);
        self.write(&[IoSlice::new(&head)], self.at + HEADER_BYTES as u64)?;
        self.sync_segment()
    }

    /// Writes behind the last frame, up to position `end`.
    fn write(&mut self, parts: &[IoSlice<'_>], end: u64) -> Result<(), LogError> {
        debug_assert!(end <= self.file_bytes, "a run fits its segment");
        self.file
            .write_at(self.at, parts)
            .map_err(|e| LogError::io("write", &Name::Segment(self.segment).path(), e))?;
        self.counters.written_bytes += end - self.at;
        self.counters.writes += 1;
        self.at = end;
        Ok(())
    }

    fn sync_segment(&mut self) -> Result<(), LogError> {
        if self.durable == self.end() {
            return Ok(());
        }
        self.file
            .sync_data()
            .map_err(|e| LogError::io("sync", &Name::Segment(self.segment).path(), e))?;
        self.counters.syncs += 1;
        self.durable = self.end();
        self.retire_released()
    }

    /// Ends the current segment durably and begins the next at its end.
    fn begin_segment(&mut self) -> Result<(), LogError> {
        // The head of the next one says that everything below its base is durable.
        self.sync_segment()?;
        let id = SegmentId(self.segment.0 + 1);
        let base = self.end();
        let floors = self.floors.clone();
        let (random, end) = (self.shared.random, SegmentHead::bytes(floors.len()));
        let file_bytes = self.options.segment_bytes.max(end);
        let synced_upto = base.plus(end);
        let head = SegmentHead { id, base, synced_upto, random, file_bytes, floors }.encode();
        let file = self.pool.create(id, &[IoSlice::new(&head)])?;
        self.shared.lock().segments.insert(
            id,
            SegmentState { file: Arc::clone(&file), file_bytes, live_frames: 0, is_damaged: false },
        );
        (self.segment, self.base, self.file) = (id, base, file);
        (self.file_bytes, self.at) = (file_bytes, head.len() as u64);
        self.counters.written_bytes += self.at;
        self.counters.writes += 1;
        self.counters.syncs += 1;
        self.durable = self.end();
        self.has_room();
        self.retire_wanted = true;
        self.retire_released()
    }

    /// Waits for the next sync if anything is not durable: it may be the frame that cut the last
    /// live one of a segment.
    fn retire_released(&mut self) -> Result<(), LogError> {
        if !self.retire_wanted || self.durable < self.end() {
            return Ok(());
        }
        self.retire_wanted = false;
        let mut retired = 0;
        while !self.retire_wanted {
            // Taken out of the index first: from here on no reader looks into the file, and one
            // that still holds it notices.
            let oldest = {
                let mut index = self.shared.lock();
                let oldest = index.oldest_released();
                oldest.inspect(|(id, _)| {
                    index.segments.remove(id);
                })
            };
            let Some((id, file_bytes)) = oldest else { break };
            self.pool.retire(id, file_bytes)?;
            retired += 1;
            self.retire_wanted = retired == RETIRED_MAX; // The others after the next sync.
        }
        if 0 < retired {
            self.has_room();
        }
        Ok(())
    }

    fn log_bytes(&self) -> u64 {
        self.shared.lock().file_bytes()
    }

    fn pool_bytes(&self) -> u64 {
        self.pool.len() as u64 * self.options.segment_bytes
    }
}
