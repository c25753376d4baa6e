//! Opens the log: reads what is there, decides what of it counts, and starts a new segment.
//!
//! Called by the server once per start, after the promise file is open. Uses `scan.rs` to find
//! frames, `found_segment.rs` for what of them counts, and `new_segment.rs` for what it writes.
//!
//! The rules, in the order in which they are applied:
//!
//! 0. The log must reach the mark in the promise file, its newest segment at least. If it does not,
//!    nothing is written and nothing opened: a segment begun now would hide that.
//! 1. The head of a segment ends the segment before it at its base: bytes there do not count.
//! 2. `trusted` is the greatest `synced_upto` of any valid frame, heads included, or the mark. Only what lies below is known to
//!    be durable; a frame above may be readable from the page cache of a killed process, or after a
//!    failed sync, and yet not be on the disk.
//! 3. An invalid frame below `trusted` is damage. The first one at or above is the torn tail: it
//!    and everything behind it was never acknowledged and is dropped.
//! 4. A new segment begins at `trusted`. Valid frames between `trusted` and the torn tail are
//!    copied into it; it is synced, then named, then its name is synced. Only then are they
//!    reported. The old segment is never appended to again: a frame written there could end exactly
//!    where an old one, torn off by the cut, still begins.
//!
//! Between 3 and 4 the caller may give groups up, of which something is missing. Nothing is written before it has
//! done so, and their frames are not copied.
//!
//! A power cut during all this leaves the old log as it was, or the new segment complete.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use quorate_types::{GroupId, Slot};
use tracing::{error, info, warn};

use crate::disk::{Disk, DiskFile};
use crate::error::LogError;
use crate::found_segment::{Parts, Segment, used_bytes};
use crate::frame::{Kind, LogOffset, SegmentId};
use crate::index::{Index, SegmentState, Shared};
use crate::new_segment::NewSegment;
use crate::options::LogOptions;
use crate::reader::LogReader;
use crate::record::LogMark;
use crate::recovered::{self, Cut, Damage, DamageKind, Recovered};
use crate::scan::{Found, Scan, read_all, scan};
use crate::segment::{DIR, Name, Pool, SegmentHead};
use crate::writer::{LogWriter, Newest};

/// The log as a whole: the way to open it.
#[derive(Debug)]
pub struct Log;

impl Log {
    /// Opens the log, or creates one; `random` becomes the random number of a new log.
    ///
    /// Damage is not an error: it is reported in [`Recovered::damage`], and the log goes on behind
    /// it.
    ///
    /// # Errors
    /// `FORMAT_UNKNOWN` if a newer version wrote the log, `CONFIG_INVALID`, `DISK_FULL` or
    /// `DISK_FAILED`.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        random: u64,
    ) -> Result<(LogWriter, LogReader, Recovered), LogError> {
        Log::open_from(disk, options, random, LogMark::default())
    }

    /// Opens a log that reaches `mark` at least, as [`LogWriter::mark`] said when the promise file
    /// was stored.
    ///
    /// # Errors
    /// `LOG_DAMAGED` if the newest segment of the mark is missing, with nothing written; otherwise
    /// as [`Log::open`].
    pub fn open_from(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        random: u64,
        mark: LogMark,
    ) -> Result<(LogWriter, LogReader, Recovered), LogError> {
        Log::open_judged(
            disk,
            options,
            random,
            mark,
            BTreeMap::new(),
            |_, _, _| Ok(BTreeSet::new()),
        )
    }

    /// Opens a log that reaches `mark` at least, without the frames of groups that begin below `counts_from`.
    ///
    /// `judge` is called when all is read and nothing is written yet, with what was found, a reader of it, and the
    /// offset at which the log will go on. It returns the groups to give up: the log begins anew with none of
    /// their frames. What it decides must be durable when it returns, the offset included.
    ///
    /// # Errors
    /// `LOG_DAMAGED` if the newest segment of the mark is missing, and whatever `judge` says, both with nothing
    /// written; otherwise as [`Log::open`].
    pub fn open_judged<E: From<LogError>>(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        random: u64,
        mark: LogMark,
        counts_from: BTreeMap<GroupId, LogOffset>,
        judge: impl FnOnce(&Recovered, &LogReader, LogOffset) -> Result<BTreeSet<GroupId>, E>,
    ) -> Result<(LogWriter, LogReader, Recovered), E> {
        options.validate()?;
        disk.create_dir_all(DIR).map_err(|e| LogError::io("create folder", DIR, e))?;
        disk.sync_dir("").map_err(|e| LogError::io("sync folder", ".", e))?;
        let mut pool = Pool::new(Arc::clone(&disk), options.segment_bytes, options.recycled_max);
        let files = list(disk.as_ref(), &mut pool)?;
        check_end(&files, mark)?;
        // A killed process may have renamed a segment away without the name being durable. Its file
        // must not get new content while a power cut could bring the old name back.
        disk.sync_dir(DIR).map_err(|e| LogError::io("sync folder", DIR, e))?;
        let mut recovery = Recovery {
            out: Recovered::default(),
            damage_at: None,
            damage_last: None,
            durable: mark.durable,
            counts_from,
            random,
        };
        let segments = recovery.read(files)?;
        recovery.decide(disk, options, pool, segments, judge)
    }
}

type Files = Vec<(SegmentId, Arc<dyn DiskFile>, u64)>;

/// The segments in order of their numbers. Free files go to the pool.
fn list(disk: &dyn Disk, pool: &mut Pool) -> Result<Files, LogError> {
    let mut files = Files::new();
    for name in disk.list(DIR).map_err(|e| LogError::io("list", DIR, e))? {
        match Name::parse(&name) {
            Some(Name::Segment(id)) => {
                let path = Name::Segment(id).path();
                let file = disk.open(&path).map_err(|e| LogError::io("open", &path, e))?;
                let len = file.len().map_err(|e| LogError::io("stat", &path, e))?;
                files.push((id, file, len));
            }
            Some(Name::Free(id)) => pool.adopt(id)?,
            None => warn!(name, "a file in the log folder is not ours"),
        }
    }
    files.sort_by_key(|(id, _, _)| *id);
    Ok(files)
}

/// A crash cannot take away a segment that the promise file names: it is durable under its name
/// before it is named there.
fn check_end(files: &Files, mark: LogMark) -> Result<(), LogError> {
    let newest = files.last().map(|(id, _, _)| *id);
    if newest.unwrap_or_default() < mark.segment {
        let recorded = mark.segment;
        error!(newest = newest.unwrap_or_default().0, %recorded, "the log lost its newest segment");
        return Err(LogError::EndMissing { newest, recorded });
    }
    Ok(())
}

/// Collects what is found, while it is found.
struct Recovery {
    out: Recovered,
    /// Segment and position of the first damage.
    damage_at: Option<(SegmentId, u64)>,
    /// The same of the last that is there to see.
    damage_last: Option<(SegmentId, u64)>,
    /// Everything below was durable, says the promise file.
    durable: LogOffset,
    /// Frames of these groups that begin below do not count.
    counts_from: BTreeMap<GroupId, LogOffset>,
    /// The random number of the log; of a new one before a head was found.
    random: u64,
}

impl Recovery {
    fn read(&mut self, files: Files) -> Result<Vec<Segment>, LogError> {
        let mut heads = Vec::new();
        for (id, file, _) in &files {
            heads.push(SegmentHead::read(file.as_ref(), *id)?);
        }
        let newest = heads.iter().flatten().next_back();
        let random = newest.map_or(self.random, |head| head.random);
        self.random = random;
        self.out.floors = newest.map(|head| head.floors.clone()).unwrap_or_default();
        let mut segments = Vec::new();
        for ((id, file, file_bytes), head) in files.into_iter().zip(heads) {
            let is_foreign = head.as_ref().is_some_and(|head| head.random != random);
            let (bytes, unreadable) = read_all(file.as_ref(), file_bytes);
            let from = head.as_ref().map_or(0, |head| SegmentHead::bytes(head.floors.len()));
            let base = head.as_ref().map(|head| head.base);
            let scan =
                if is_foreign { Scan::default() } else { scan(&bytes, from, id, base, random) };
            let used_bytes = used_bytes(&bytes);
            let segment =
                Segment { id, file, file_bytes, head, is_foreign, scan, unreadable, used_bytes };
            segments.push(segment);
        }
        Ok(segments)
    }

    fn decide<E: From<LogError>>(
        mut self,
        disk: Arc<dyn Disk>,
        options: LogOptions,
        mut pool: Pool,
        segments: Vec<Segment>,
        judge: impl FnOnce(&Recovered, &LogReader, LogOffset) -> Result<BTreeSet<GroupId>, E>,
    ) -> Result<(LogWriter, LogReader, Recovered), E> {
        let trusted = segments.iter().map(Segment::says_synced).fold(self.durable, Ord::max);
        let random = self.random;
        // What there is, and what there will be, but for the copies.
        let (mut seen, mut index) = (Index::default(), Index::default());
        let mut base = trusted;
        let mut tail = Vec::new();
        for (place, segment) in segments.iter().enumerate() {
            let damage_before = self.out.damage.len();
            let is_last = place + 1 == segments.len();
            let next = segments.get(place + 1);
            let next_base =
                next.filter(|next| next.id.0 - segment.id.0 == 1).and_then(Segment::base);
            let mut parts = Parts::default();
            if let Some(segment_base) = segment.base() {
                let says = segments[..=place].iter().map(Segment::says_synced).max();
                let local = if is_last { trusted } else { says.unwrap_or_default() };
                base = base.max(segment_base);
                let limit = next_base.unwrap_or(local).max(segment_base).0 - segment_base.0;
                parts = Parts::new(&segment.scan, limit, segment.file_bytes);
                if next_base.is_none() && !is_last {
                    // The head that would say where this segment ends is lost. What follows without
                    // a break was synced before the next segment got its name.
                    let end = parts.end(limit);
                    parts.trusted.append(&mut parts.tail);
                    base = base.max(segment_base.plus(end));
                }
            }
            self.note_damage(segment, &parts, is_last);
            self.note_missing(segment, next);
            for index in [&mut seen, &mut index] {
                let is_damaged = damage_before < self.out.damage.len();
                index.segments.insert(segment.id, segment.state(is_damaged));
                self.push(index, &parts.trusted);
            }
            tail = parts.tail;
        }
        self.push(&mut seen, &tail);
        self.out.groups = recovered::groups(&seen, self.damage_at, self.damage_last);
        let seen = LogReader::new(Arc::new(Shared::new(seen, random)));
        let given_up = judge(&self.out, &seen, base)?;
        for group in &given_up {
            index.release(*group, Slot(u64::MAX));
        }
        tail.retain(|found| self.counts(found) && !given_up.contains(&found.header.group));
        let ignored = segments.last().map_or(0, |last| last.ignored_bytes(base, &tail));
        let segment_bytes = options.segment_bytes;
        let new =
            NewSegment::build(segments.last(), &tail, base, random, segment_bytes, &self.out)?;
        let file = pool.create(new.head.id, &[IoSlice::new(&new.bytes)])?;
        let file_bytes = new.head.file_bytes;
        index.segments.insert(
            new.head.id,
            SegmentState { file: Arc::clone(&file), file_bytes, live_frames: 0, is_damaged: false },
        );
        self.push(&mut index, &new.copies);
        self.note_cut(segments.last(), &new, ignored, &mut index);
        self.out.groups = recovered::groups(&index, self.damage_at, self.damage_last);
        self.note_groups();
        let shared = Arc::new(Shared::new(index, random));
        let reader = LogReader::new(Arc::clone(&shared));
        let newest = Newest { head: new.head, file, file_bytes, at: new.bytes.len() as u64 };
        let writer = LogWriter::new(disk, options, pool, shared, newest);
        Ok((writer, reader, self.out))
    }

    fn note_damage(&mut self, segment: &Segment, parts: &Parts, is_last: bool) {
        self.out.end_lost |= is_last
            && (segment.is_foreign || segment.head.is_none() || segment.cut_off().is_some());
        if segment.is_foreign {
            return self.damage(segment, DamageKind::Foreign, 0..segment.file_bytes);
        }
        if let Some(range) = segment.cut_off().filter(|_| is_last) {
            self.damage(segment, DamageKind::Short, range);
        }
        let has_no_head = segment.head.is_none();
        if has_no_head && parts.damaged.first().is_none_or(|range| range.start != 0) {
            self.damage(segment, DamageKind::Head, 0..segment.file_bytes);
        }
        for range in &parts.damaged {
            let kind = match range.start {
                0 if has_no_head => DamageKind::Head,
                _ => DamageKind::Frames,
            };
            self.damage(segment, kind, range.clone());
        }
        for found in parts.trusted.iter().chain(&parts.tail) {
            if found.header.kind == Kind::Cut && Slot::ZERO < found.header.first {
                self.damage(segment, DamageKind::Earlier, found.at..found.at);
            }
        }
        for range in &segment.unreadable {
            let matters = parts.trusted.last().is_none_or(|last| range.start < last.end());
            if is_last || matters {
                self.damage(segment, DamageKind::Unreadable, range.clone());
            }
        }
    }

    fn damage(&mut self, segment: &Segment, kind: DamageKind, at: Range<u64>) {
        let offset = segment.base().map(|base| base.plus(at.start));
        let bytes = at.end - at.start;
        error!(segment = %segment.id, ?kind, position = at.start, bytes, "the log is damaged");
        self.out.decisions.push(format!(
            "segment {}: damage of kind {kind:?} at position {}, {bytes} bytes",
            segment.id, at.start
        ));
        let place = (segment.id, at.start);
        self.damage_at = Some(self.damage_at.map_or(place, |first| first.min(place)));
        if kind != DamageKind::Earlier {
            self.damage_last = self.damage_last.max(Some(place));
        }
        self.out.damage.push(Damage { segment: segment.id, kind, offset, bytes });
    }

    fn note_missing(&mut self, segment: &Segment, next: Option<&Segment>) {
        let Some(next) = next.filter(|next| next.id.0 - segment.id.0 > 1) else { return };
        let (first, upto) = (SegmentId(segment.id.0 + 1), SegmentId(next.id.0 - 1));
        error!(segment = %first, %upto, "segments of the log are missing");
        self.out.decisions.push(format!("segments {first} to {upto}: damage, files are missing"));
        let place = (first, 0);
        self.damage_at = Some(self.damage_at.map_or(place, |at| at.min(place)));
        self.damage_last = self.damage_last.max(Some(place));
        let kind = DamageKind::Missing { upto };
        self.out.damage.push(Damage { segment: first, kind, offset: None, bytes: 0 });
    }

    /// Records how the old log ended, and gives the room behind its end back.
    fn note_cut(
        &mut self,
        last: Option<&Segment>,
        new: &NewSegment,
        ignored_bytes: u64,
        index: &mut Index,
    ) {
        let Some(last) = last else {
            info!(segment = %new.head.id, "created a log");
            self.out.decisions.push(format!("created a log with segment {}", new.head.id));
            return;
        };
        let copied_bytes = new.copies.iter().map(|copy| u64::from(copy.header.body_bytes)).sum();
        let copied_frames = new.copies.len() as u64;
        let offset = new.head.base;
        // One line for each start, whose `end` says how it went.
        let end = match (self.out.damage.len(), ignored_bytes) {
            (0, 0) => "clean",
            (0, _) => "torn",
            (_, _) => "damaged",
        };
        info!(end, segment = %last.id, %offset, copied_frames, copied_bytes, ignored_bytes,
            damages = self.out.damage.len(), new_segment = %new.head.id,
            "the log ends at the last offset known durable");
        self.out.decisions.push(format!(
            "segment {}: cut at {offset}; {copied_frames} frames above it copied to segment {}",
            last.id, new.head.id
        ));
        self.out.cut = Some(Cut { segment: last.id, offset, copied_frames, copied_bytes });
        let Some(base) = last.base().filter(|_| self.out.damage.is_empty()) else { return };
        // Nothing above the cut counts any more, and the segment is never written again. Without
        // this, every start of an idle node would cost a segment. If it fails, only room is lost.
        let used = offset.0 - base.0;
        if used < last.file_bytes
            && last.file.set_len(used).is_ok()
            && let Some(state) = index.segments.get_mut(&last.id)
        {
            state.file_bytes = used;
        }
    }

    fn push(&self, index: &mut Index, frames: &[Found]) {
        let is_batch = |found: &&Found| found.header.kind == Kind::Batch;
        for found in frames.iter().filter(is_batch).filter(|found| self.counts(found)) {
            index.push(found.header, found.at);
        }
    }

    /// False for a frame of what was given up.
    fn counts(&self, found: &Found) -> bool {
        let from = self.counts_from.get(&found.header.group);
        from.is_none_or(|from| *from <= found.header.offset)
    }

    fn note_groups(&mut self) {
        for (group, found) in &self.out.groups {
            let first = found.frames.first().map_or_else(Default::default, |frame| frame.first);
            let last = found.frames.last().map_or_else(Default::default, |frame| frame.last);
            let frames = found.frames.len();
            match found.gap {
                None => info!(%group, frames, %first, %last, "recovered a group"),
                Some((from, to)) => {
                    warn!(%group, frames, %first, %last, gap_first = %from, gap_last = %to,
                        "recovered a group with slots missing");
                    let line = format!("{group}: slots {from} to {to} are missing");
                    self.out.decisions.push(line);
                }
            }
        }
    }
}
