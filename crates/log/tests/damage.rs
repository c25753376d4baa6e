//! Goal: what was durable and is broken is reported as damage; what was never acknowledged is a
//! torn tail; nothing broken is ever returned as a frame, and nothing on a disk makes us panic.

mod common;

use std::sync::Arc;

use bytes::Bytes;

use common::{contents_of, contents_read, frame, open, options};
use quorate_log::{
    CrashMode, Damage, DamageKind, Frame, HEADER_BYTES, Log, LogError, LogMark, LogOffset,
    LogOptions, Recovered, SegmentId, SimDisk,
};
use quorate_types::{Code, GroupId, Slot};

const FIRST: &str = "log/0000000001.seg";

/// Three synced frames of two groups in the first segment, and a seal if asked for.
fn three_frames(seal: Seal) -> (SimDisk, Vec<Frame>, Recovered) {
    let frames = vec![frame(1, 1, 3, 1, 37), frame(2, 1, 5, 2, 50), frame(1, 4, 6, 3, 61)];
    let disk = SimDisk::new();
    let (mut writer, _, _) = open(&disk.mount());
    for frame in &frames {
        writer.append(std::slice::from_ref(frame)).expect("it appends");
        writer.sync().expect("it syncs");
    }
    if let Seal::Yes = seal {
        writer.seal().expect("it seals");
    }
    disk.kill();
    // A look at a copy of the same life tells where the frames are.
    let twin = SimDisk::new();
    let (mut writer, _, _) = open(&twin.mount());
    writer.append(&frames).expect("it appends");
    writer.seal().expect("it seals");
    twin.kill();
    let (_, _, recovered) = open(&twin.mount());
    (disk, frames, recovered)
}

#[derive(Clone, Copy)]
enum Seal {
    Yes,
    No,
}

/// Position of a frame in the first segment, whose base is 0.
fn position(recovered: &Recovered, group: u32, place: usize) -> u64 {
    recovered.groups[&GroupId(group)].frames[place].offset.0
}

#[test]
fn every_flipped_bit_below_the_last_known_sync_is_damage() {
    let (_, frames, found) = three_frames(Seal::Yes);
    for (lost, group, place) in [(0, 1, 0), (1, 2, 0), (2, 1, 1)] {
        let start = position(&found, group, place);
        let bytes = (HEADER_BYTES + frames[lost].body.len()) as u64;
        for at in 0..bytes {
            let (disk, frames, _) = three_frames(Seal::Yes);
            disk.flip_bit(FIRST, start + at, (at % 8) as u8);
            let (_, reader, recovered) = open(&disk.mount());
            let [damage] = &recovered.damage[..] else { panic!("{:?}", recovered.decisions) };
            assert_eq!(damage.kind, DamageKind::Frames);
            assert_eq!(damage.offset, Some(LogOffset(start)));
            let kept: Vec<Frame> =
                (0..3).filter(|place| *place != lost).map(|place| frames[place].clone()).collect();
            assert_eq!(contents_read(&reader).expect("readable"), contents_of(&kept));
            let after = |group: u32| {
                recovered
                    .groups
                    .get(&GroupId(group))
                    .map(|g| g.frames.last().expect("one").after_damage)
            };
            assert_eq!(after(1), Some(lost < 2), "what follows damage is marked");
        }
    }
}

#[test]
fn every_flipped_bit_in_the_last_frame_is_a_torn_tail_without_a_seal() {
    let (_, frames, found) = three_frames(Seal::No);
    let start = position(&found, 1, 1);
    for at in 0..(HEADER_BYTES + frames[2].body.len()) as u64 {
        let (disk, frames, _) = three_frames(Seal::No);
        disk.flip_bit(FIRST, start + at, (at % 8) as u8);
        let (_, reader, recovered) = open(&disk.mount());
        assert_eq!(recovered.damage, [], "nobody knows that the last frame was ever durable");
        assert_eq!(contents_read(&reader).expect("readable"), contents_of(&frames[..2]));
    }
}

#[test]
fn a_flipped_bit_in_a_seal_or_behind_the_end_loses_nothing() {
    let (_, frames, found) = three_frames(Seal::Yes);
    let end = position(&found, 1, 1) + (HEADER_BYTES + frames[2].body.len()) as u64;
    for at in 0..200 {
        let (disk, frames, _) = three_frames(Seal::Yes);
        disk.flip_bit(FIRST, end + at, 3);
        let (_, reader, recovered) = open(&disk.mount());
        assert_eq!(recovered.damage, []);
        assert_eq!(contents_read(&reader).expect("readable"), contents_of(&frames));
    }
}

#[test]
fn a_flipped_bit_in_a_head_is_damage_and_the_frames_are_still_found() {
    for at in 0..80 {
        let (disk, frames, _) = three_frames(Seal::Yes);
        // The second start writes the second segment, whose head knows the log's random number.
        let (_, _, _) = open(&disk.mount());
        disk.kill();
        disk.flip_bit(FIRST, at, 1);
        let (_, reader, recovered) = open(&disk.mount());
        let [damage] = &recovered.damage[..] else { panic!("{:?}", recovered.decisions) };
        assert_eq!((damage.segment, &damage.kind), (SegmentId(1), &DamageKind::Head));
        assert_eq!(contents_read(&reader).expect("readable"), contents_of(&frames));
    }
}

#[test]
fn a_log_with_no_valid_head_is_damage_and_goes_on() {
    let (disk, _, _) = three_frames(Seal::Yes);
    disk.flip_bit(FIRST, 9, 1);
    // Without the random number of the head, no frame can be told from garbage.
    let (mut writer, reader, recovered) =
        Log::open(disk.mount(), options(), 0x0dd).expect("the log opens");
    assert_eq!(recovered.damage.len(), 1);
    assert_eq!(contents_read(&reader).expect("readable"), contents_of(&[]));
    let next = frame(1, 1, 1, 9, 9);
    writer.append(std::slice::from_ref(&next)).expect("it appends");
    writer.sync().expect("it syncs");
    disk.crash(1);
    let (_, reader, recovered) = open(&disk.mount());
    assert!(!recovered.damage.is_empty(), "damage is reported until it is cleared");
    assert_eq!(contents_read(&reader).expect("readable"), contents_of(&[next]));
}

/// Five segments with one frame of group 1 each, slots 1 to 5.
fn five_segments() -> (SimDisk, Vec<Frame>) {
    let disk = SimDisk::new();
    let (mut writer, _, _) = open(&disk.mount());
    let frames: Vec<Frame> = (1..=5).map(|slot| frame(1, slot, slot, slot, 100)).collect();
    for frame in &frames {
        writer.append(std::slice::from_ref(frame)).expect("it appends");
        writer.roll().expect("it rolls");
    }
    disk.kill();
    (disk, frames)
}

#[test]
fn a_missing_segment_is_damage_and_a_gap() {
    let (disk, _) = five_segments();
    let mount = disk.mount();
    mount.remove("log/0000000003.seg").expect("removed");
    mount.remove("log/0000000004.seg").expect("removed");
    let (_, _, recovered) = open(&mount);
    let kind = DamageKind::Missing { upto: SegmentId(4) };
    assert_eq!(recovered.damage, [Damage { segment: SegmentId(3), kind, offset: None, bytes: 0 }]);
    let group = &recovered.groups[&GroupId(1)];
    assert_eq!(group.gap, Some((Slot(3), Slot(4))));
    assert_eq!(group.intact_upto, Slot(2));
    let after: Vec<bool> = group.frames.iter().map(|frame| frame.after_damage).collect();
    assert_eq!(after, [false, false, true]);
}

const THIRD: &str = "log/0000000003.seg";

fn cut_third(disk: &SimDisk, bytes: u64) {
    disk.mount().open(THIRD).expect("there").set_len(bytes).expect("cut");
}

/// Puts the third segment of another log in place of ours.
fn replace_third(disk: &SimDisk) {
    let other = SimDisk::new();
    let (mut writer, _, _) = Log::open(other.mount(), options(), 0xbad).expect("it opens");
    writer.roll().expect("it rolls");
    writer.roll().expect("it rolls");
    let mut bytes = vec![0; 4096];
    other.mount().open(THIRD).expect("there").read_exact_at(0, &mut bytes).expect("read");
    let file = disk.mount().open(THIRD).expect("there");
    file.write_at(0, &[std::io::IoSlice::new(&bytes)]).expect("written");
}

#[test]
fn a_middle_segment_that_is_empty_short_foreign_or_unreadable_is_damage() {
    type Harm = fn(&SimDisk);
    let harms: [(Harm, DamageKind); 4] = [
        (|disk| cut_third(disk, 0), DamageKind::Head),
        (|disk| cut_third(disk, 150), DamageKind::Frames),
        (|disk| disk.fail_reads(THIRD, 0..4096), DamageKind::Head),
        (replace_third, DamageKind::Foreign),
    ];
    for (harm, kind) in harms {
        let (disk, frames) = five_segments();
        harm(&disk);
        let (_, reader, recovered) = open(&disk.mount());
        assert_eq!(recovered.damage[0].kind, kind, "{:?}", recovered.decisions);
        assert!(recovered.damage.iter().all(|damage| damage.segment == SegmentId(3)));
        assert_eq!(recovered.groups[&GroupId(1)].gap, Some((Slot(3), Slot(3))));
        let kept = [&frames[..2], &frames[3..]].concat();
        assert_eq!(contents_read(&reader).expect("readable"), contents_of(&kept));
    }
}

/// The length of a segment on the disk.
fn length(disk: &SimDisk, path: &str) -> u64 {
    disk.mount().open(path).expect("there").len().expect("asked")
}

/// Goal: a newest segment that is shorter than it was made is damage, wherever it ends, also behind
/// everything known to be written: what stood there is not known.
#[test]
fn a_newest_segment_cut_short_is_damage() {
    const NEWEST: &str = "log/0000000006.seg";
    let (disk, _) = five_segments();
    let made = length(&disk, NEWEST);
    for bytes in (0..made).step_by(7).chain([made - 1]) {
        let (disk, _) = five_segments();
        disk.mount().open(NEWEST).expect("there").set_len(bytes).expect("cut");
        for start in 0..3 {
            let (_, _, recovered) = open(&disk.mount());
            assert!(!recovered.damage.is_empty(), "{bytes} bytes, start {start}");
            assert!(0 < start || recovered.damage[0].segment == SegmentId(6));
            disk.crash_as(CrashMode::DropAll, bytes);
        }
    }
}

/// Goal: segments of other lengths are no damage: of another run's options, larger than options say,
/// and those that a start has cut to what is used of them.
#[test]
fn segments_of_every_length_they_were_made_with_are_whole() {
    let (disk, frames) = five_segments();
    let lengths = [8192, 4096, 16384, 4096, 4096, 1024, 2048];
    for (place, segment_bytes) in lengths.into_iter().enumerate() {
        let options = LogOptions { segment_bytes, ..options() };
        let (mut writer, reader, recovered) =
            Log::open(disk.mount(), options, 1).expect("it opens");
        assert_eq!(recovered.damage, [], "{segment_bytes}: {:?}", recovered.decisions);
        let newest = format!("log/{:010}.seg", writer.mark().segment.0);
        assert!(segment_bytes <= length(&disk, &newest));
        let found = contents_read(&reader).expect("readable");
        let ours = contents_of(&frames);
        assert!(ours.iter().all(|(key, body)| found.get(key) == Some(body)), "{segment_bytes}");
        // Frames that were never synced are copied: for a small segment they are too many.
        for slot in 0..12 {
            let slot = 1 + 100 * place as u64 + slot;
            writer.append(&[frame(2, slot, slot, slot, 300)]).expect("it appends");
        }
        disk.kill();
    }
}

/// Goal: a log that does not reach the segment its promise file names is not opened, and nothing is
/// written that would hide it from the next start.
#[test]
fn a_log_without_the_segment_it_must_have_is_refused() {
    for lost in 1..=6 {
        let (disk, _) = five_segments();
        let mark = LogMark { segment: SegmentId(6), durable: LogOffset(0) };
        for segment in lost..=6 {
            disk.mount().remove(&format!("log/{segment:010}.seg")).expect("removed");
        }
        let before = disk.mount().list("log").expect("listed");
        for _ in 0..3 {
            let opened = Log::open_from(disk.mount(), options(), 1, mark);
            let error = opened.err().expect("refused");
            assert_eq!(error.code(), Code::LogDamaged);
            let newest = (1 < lost).then(|| SegmentId(lost - 1));
            let recorded = SegmentId(6);
            assert!(
                matches!(error, LogError::EndMissing { newest: n, recorded: r } if (n, r) == (newest, recorded))
            );
        }
        assert_eq!(disk.mount().list("log").expect("listed"), before);
    }
}

/// Goal: what the promise file knows to be durable is damage if it is not there, although nothing in
/// the log itself says that it was durable.
#[test]
fn what_the_mark_says_is_durable_is_no_torn_tail() {
    let (disk, frames, found) = three_frames(Seal::No);
    let start = position(&found, 1, 1);
    let end = start + (HEADER_BYTES + frames[2].body.len()).next_multiple_of(8) as u64;
    disk.flip_bit(FIRST, start + 70, 0);
    let mark = LogMark { segment: SegmentId(1), durable: LogOffset(end) };
    let (_, _, recovered) =
        Log::open_from(disk.mount(), options(), 1, mark).expect("the log opens");
    let [damage] = &recovered.damage[..] else { panic!("{:?}", recovered.decisions) };
    assert_eq!((damage.offset, &damage.kind), (Some(LogOffset(start)), &DamageKind::Frames));
}

#[test]
fn damage_stays_reported_until_it_is_cleared_and_recycled() {
    let (disk, _, found) = three_frames(Seal::Yes);
    disk.flip_bit(FIRST, position(&found, 2, 0) + 70, 0);
    for _ in 0..3 {
        let (mut writer, _, recovered) = open(&disk.mount());
        assert!(!recovered.damage.is_empty());
        writer.release(GroupId(1), Slot(100)).expect("it releases");
        assert!(disk.mount().exists(FIRST).expect("asked"), "the damaged segment is kept");
        disk.kill();
    }
    let (mut writer, _, _) = open(&disk.mount());
    writer.release(GroupId(1), Slot(100)).expect("it releases");
    writer.clear_damage().expect("it clears");
    writer.roll().expect("it rolls");
    disk.crash(3);
    let (_, _, recovered) = open(&disk.mount());
    assert_eq!(recovered.damage, []);
}

#[test]
fn damage_that_heals_by_itself_is_still_reported() {
    // The newest segment cannot be read once, so the log goes on without it; when it can be read
    // again, its frames lie behind the place where the log went on.
    let (disk, _, _) = three_frames(Seal::Yes);
    let mount = disk.mount();
    mount.rename(FIRST, "log/hidden").expect("renamed");
    mount.create(FIRST).expect("created");
    let (_, _, recovered) = open(&mount);
    assert!(!recovered.damage.is_empty());
    mount.rename("log/hidden", FIRST).expect("renamed");
    let (_, _, recovered) = open(&mount);
    assert!(
        recovered
            .damage
            .iter()
            .any(|damage| damage.kind == DamageKind::Earlier || damage.kind == DamageKind::Foreign)
    );
}

#[test]
fn a_frame_inside_a_value_never_passes_for_a_frame() {
    let (disk, frames, found) = three_frames(Seal::Yes);
    let (mut writer, _, _) = open(&disk.mount());
    // A value that is a whole valid frame of this log, at an aligned place.
    let mut inner = vec![0; 4000];
    let file = disk.mount().open(FIRST).expect("there");
    let read = file.read_at(position(&found, 2, 0), &mut inner).expect("read");
    inner.truncate(read);
    inner.truncate(HEADER_BYTES + frames[1].body.len());
    let outer = Frame { body: Bytes::from(inner), ..frame(3, 1, 1, 0, 0) };
    writer.append(&[outer]).expect("it appends");
    writer.append(&[frame(3, 2, 2, 0, 0)]).expect("it appends");
    writer.seal().expect("it seals");
    disk.kill();
    let (_, _, clean) = open(&disk.mount());
    let outer = clean.groups[&GroupId(3)].frames[0];
    disk.kill();
    let position = outer.offset.0 - second_base(&disk);
    disk.flip_bit("log/0000000002.seg", position + 30, 0);
    let (_, reader, recovered) = open(&disk.mount());
    assert_eq!(recovered.damage.len(), 1);
    let group = &recovered.groups[&GroupId(3)];
    assert_eq!(group.frames.len(), 1, "only the frame behind the broken one");
    assert_eq!(group.frames[0].first, Slot(2));
    assert_eq!(reader.bounds(GroupId(2)), Some((Slot(1), Slot(5))));
}

/// The base of the second segment, from the offset field of its head.
fn second_base(disk: &SimDisk) -> u64 {
    let mut bytes = [0; 8];
    let file = disk.mount().open("log/0000000002.seg").expect("there");
    file.read_exact_at(40, &mut bytes).expect("read");
    u64::from_le_bytes(bytes)
}

#[test]
fn a_frame_that_breaks_while_the_log_is_open_is_an_error_of_the_read() {
    let disk = SimDisk::new();
    let (mut writer, reader, _) = open(&disk.mount());
    writer.append(&[frame(1, 1, 1, 1, 100), frame(1, 2, 2, 2, 100)]).expect("it appends");
    disk.flip_bit(FIRST, 200, 0);
    let error = reader.read(GroupId(1), Slot(1), 1000).expect_err("broken");
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    assert_eq!(error.code(), Code::LogDamaged);
}

#[test]
fn any_bytes_in_the_log_folder_are_opened_without_a_panic() {
    for seed in 0..300_u64 {
        let (disk, _) = five_segments();
        for step in 0..(1 + seed % 40) {
            let dice = (seed * 1000 + step).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let path = format!("log/{:010}.seg", 1 + dice % 6);
            disk.flip_bit(&path, (dice >> 8) % 400, (dice >> 50) as u8);
        }
        let mount: Arc<_> = disk.mount();
        let opened = Log::open(mount, options(), 1);
        if let Ok((mut writer, reader, _)) = opened {
            let _ = contents_read(&reader).expect("what is reported is readable");
            writer.append(&[frame(1, 9, 9, 9, 9)]).expect("it appends");
            writer.sync().expect("it syncs");
        }
        disk.crash_as(CrashMode::Mixed, seed);
        let _ = Log::open(disk.mount(), options(), 1).map(|_| ());
    }
}
