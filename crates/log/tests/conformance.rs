//! Goal: the real disk and the simulated one behave alike, and the log and the promise file work on
//! both.

mod common;

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use common::{contents_of, contents_read, floors, frame, open, options, record};
use quorate_log::{
    Disk, Frame, Log, LogError, LogOptions, NodeRecord, Opened, PromiseFile, SimDisk, check_floors,
};
use quorate_types::{Ballot, Code, GroupId, ReplicaId, Slot};

/// A disk, and how to mount it again as after a clean end of the process.
trait Ground {
    fn mount(&mut self) -> Arc<dyn Disk>;
}

impl Ground for SimDisk {
    fn mount(&mut self) -> Arc<dyn Disk> {
        self.kill();
        SimDisk::mount(self)
    }
}

#[cfg(not(madsim))]
struct RealGround(tempfile::TempDir);

#[cfg(not(madsim))]
impl Ground for RealGround {
    fn mount(&mut self) -> Arc<dyn Disk> {
        Arc::new(quorate_log::RealDisk::open(self.0.path()).expect("nobody else has it"))
    }
}

macro_rules! on_both {
    ($($name:ident)*) => {
        mod simulated {
            $(#[test] fn $name() { super::$name(&mut super::SimDisk::new()); })*
        }
        #[cfg(not(madsim))]
        mod real {
            $(#[test] fn $name() {
                let dir = tempfile::tempdir().expect("a folder");
                super::$name(&mut super::RealGround(dir));
            })*
        }
    };
}

on_both! {
    files_are_written_read_and_cut
    names_are_listed_changed_and_removed
    frames_come_back_in_order_and_after_a_restart
    a_later_frame_cuts_older_ones
    a_read_starts_inside_a_frame_and_ends_at_its_limit
    released_segments_are_used_again
    a_group_that_rests_does_not_keep_what_others_wrote
    the_cap_refuses_before_anything_is_written
    impossible_frames_are_refused
    an_idle_log_does_not_grow_with_restarts
    a_thousand_frames_are_one_write
    promises_come_back_and_versions_rise
    a_broken_copy_is_survived_and_two_are_not
    promises_missing_beside_a_log_are_unreadable
    floors_follow_the_newest_segment
    a_newer_format_is_refused
}

fn write(disk: &dyn Disk, path: &str, offset: u64, parts: &[&[u8]]) {
    let file = if disk.exists(path).expect("asked") { disk.open(path) } else { disk.create(path) };
    let parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let file = file.expect("opened");
    file.write_at(offset, &parts).expect("written");
    file.sync_data().expect("synced");
}

fn files_are_written_read_and_cut(ground: &mut impl Ground) {
    let disk = ground.mount();
    write(disk.as_ref(), "f", 3, &[b"abc", b"", b"defg"]);
    let file = disk.open("f").expect("there");
    assert_eq!(file.len().expect("asked"), 10);
    let mut bytes = [9; 12];
    assert_eq!(file.read_at(0, &mut bytes).expect("read"), 10);
    assert_eq!(&bytes, b"\0\0\0abcdefg\x09\x09");
    let error = file.read_exact_at(5, &mut bytes).expect_err("too short");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    file.set_len(5).expect("cut");
    file.allocate(8).expect("allocated");
    file.allocate(2).expect("never shorter");
    assert_eq!(file.len().expect("asked"), 8);
    file.read_exact_at(0, &mut bytes[..8]).expect("read");
    assert_eq!(&bytes[..8], b"\0\0\0ab\0\0\0");
    assert!(!disk.create("f").expect("emptied").len().is_ok_and(|len| len != 0));
    let many: Vec<Vec<u8>> = (0..3000).map(|i: u32| i.to_le_bytes().to_vec()).collect();
    let parts: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    write(disk.as_ref(), "many", 0, &parts);
    let mut bytes = vec![0; 12_000];
    disk.open("many").expect("there").read_exact_at(0, &mut bytes).expect("read");
    assert_eq!(bytes, many.concat());
}

fn names_are_listed_changed_and_removed(ground: &mut impl Ground) {
    let disk = ground.mount();
    assert_eq!(disk.list("a/b").expect_err("missing").kind(), ErrorKind::NotFound);
    disk.create_dir_all("a/b").expect("created");
    disk.create_dir_all("a/b").expect("again");
    for name in ["z", "m", "k"] {
        disk.create(&format!("a/b/{name}")).expect("created");
    }
    write(disk.as_ref(), "a/b/m", 0, &[b"moved"]);
    disk.rename("a/b/m", "a/b/k").expect("renamed over another");
    disk.remove("a/b/z").expect("removed");
    disk.sync_dir("a/b").expect("synced");
    assert_eq!(disk.list("a/b").expect("listed"), ["k"]);
    assert_eq!(disk.list("a").expect("listed"), [""; 0]);
    assert_eq!(disk.open("a/b/k").expect("there").len().expect("asked"), 5);
    assert_eq!(disk.open("a/b/z").err().map(|e| e.kind()), Some(ErrorKind::NotFound));
    assert_eq!(disk.remove("a/b/z").expect_err("gone").kind(), ErrorKind::NotFound);
    assert!(disk.free_bytes().expect("asked") <= disk.total_bytes().expect("asked"));
}

fn frames_come_back_in_order_and_after_a_restart(ground: &mut impl Ground) {
    let mut frames = Vec::new();
    for life in 0..3 {
        let disk = ground.mount();
        let (mut writer, reader, recovered) = open(&disk);
        assert_eq!(recovered.damage, []);
        assert_eq!(recovered.cut.is_some(), life > 0);
        assert_eq!(contents_read(&reader).expect("readable"), contents_of(&frames));
        for step in 0..20 {
            let slot = life * 20 + step + 1;
            let new = [frame(1, slot, slot, slot, 300), frame(2, 2 * slot, 2 * slot + 1, slot, 90)];
            let end = writer.append(&new).expect("it appends");
            assert_eq!(writer.sync().expect("it syncs"), end);
            frames.extend(new);
        }
        assert_eq!(contents_read(&reader).expect("readable"), contents_of(&frames));
        assert!(writer.stats().segments > 1);
        assert_eq!(reader.bounds(GroupId(1)), Some((Slot(1), Slot(life * 20 + 20))));
        assert_eq!(reader.bounds(GroupId(3)), None);
    }
}

fn a_later_frame_cuts_older_ones(ground: &mut impl Ground) {
    let disk = ground.mount();
    let (mut writer, reader, _) = open(&disk);
    let frames = [
        frame(1, 1, 5, 1, 20),
        frame(1, 6, 9, 2, 20),
        frame(2, 1, 9, 3, 20),
        frame(1, 4, 4, 4, 20),
    ];
    writer.append(&frames).expect("it appends");
    writer.sync().expect("it syncs");
    let expect = |reader: &quorate_log::LogReader| {
        let read = reader.read(GroupId(1), Slot(1), usize::MAX).expect("readable");
        let cut = Frame { last: Slot(3), ..frames[0].clone() };
        assert_eq!(read, [cut, frames[3].clone()]);
        assert_eq!(reader.bounds(GroupId(2)), Some((Slot(1), Slot(9))));
    };
    expect(&reader);
    drop((writer, disk));
    let (_, reader, recovered) = open(&ground.mount());
    expect(&reader);
    let group = &recovered.groups[&GroupId(1)];
    assert_eq!((group.gap, group.intact_upto), (None, Slot(4)));
}

fn a_read_starts_inside_a_frame_and_ends_at_its_limit(ground: &mut impl Ground) {
    let (mut writer, reader, _) = open(&ground.mount());
    let frames: Vec<Frame> = (0..9).map(|i| frame(1, 10 * i + 1, 10 * i + 5, i, 100)).collect();
    writer.append(&frames).expect("it appends");
    let read = |from, bytes| reader.read(GroupId(1), Slot(from), bytes).expect("readable");
    assert_eq!(read(13, 1), frames[1..2], "at least one");
    assert_eq!(read(13, 299), frames[1..3]);
    assert_eq!(read(16, 300), frames[2..5], "between two frames");
    assert_eq!(read(86, 300), []);
    assert_eq!(reader.read(GroupId(2), Slot(1), 9).expect("readable"), []);
}

fn released_segments_are_used_again(ground: &mut impl Ground) {
    let disk = ground.mount();
    let (mut writer, reader, _) = open(&disk);
    let mut most = 0;
    for slot in 1..=200 {
        writer.append(&[frame(1, slot, slot, slot, 900)]).expect("it appends");
        writer.sync().expect("it syncs");
        writer.release(GroupId(1), Slot(slot.saturating_sub(6))).expect("it releases");
        most = most.max(disk.list("log").expect("listed").len());
    }
    assert!(most <= 6, "{most} files");
    assert_eq!(reader.bounds(GroupId(1)), Some((Slot(195), Slot(200))));
    let stats = writer.stats();
    assert!(stats.live_bytes[&GroupId(1)] == 6 * 900 && stats.log_bytes <= 4 * 4096, "{stats:?}");
    drop((writer, disk));
    let (_, reader, recovered) = open(&ground.mount());
    assert_eq!(recovered.damage, []);
    let (first, last) = reader.bounds(GroupId(1)).expect("live");
    assert!(first <= Slot(195) && last == Slot(200));
}

fn a_group_that_rests_does_not_keep_what_others_wrote(ground: &mut impl Ground) {
    let disk = ground.mount();
    let (mut writer, reader, _) = open(&disk);
    let rests = [frame(1, 1, 1, 1, 100), frame(2, 7, 9, 2, 500)];
    writer.append(&rests).expect("it appends");
    let mut most = 0;
    // Twice the cap, released as it is applied.
    for slot in 1..=1500 {
        writer.append(&[frame(3, slot, slot, slot, 1500)]).expect("there is room");
        writer.sync().expect("it syncs");
        writer.release(GroupId(3), Slot(slot.saturating_sub(3))).expect("it releases");
        writer.free_oldest().expect("it frees");
        most = most.max(writer.stats().segments);
    }
    assert!(most <= 6, "{most} segments");
    let mut expected = rests.to_vec();
    expected.extend((1498..=1500).map(|slot| frame(3, slot, slot, slot, 1500)));
    assert_eq!(contents_read(&reader).expect("readable"), contents_of(&expected));
    drop((writer, disk));
    let (_, reader, recovered) = open(&ground.mount());
    assert_eq!(recovered.damage, []);
    let found = contents_read(&reader).expect("readable");
    let resting = |(group, _): &(GroupId, Slot)| *group != GroupId(3);
    assert_eq!(found.keys().filter(|key| resting(key)).count(), 4);
    assert!(contents_of(&rests).iter().all(|(key, body)| found.get(key) == Some(body)));
}

fn the_cap_refuses_before_anything_is_written(ground: &mut impl Ground) {
    let small = LogOptions { bytes_cap: 5 * 4096, reserve_ratio: 0.3, ..options() };
    let (mut writer, reader, _) = Log::open(ground.mount(), small, 1).expect("it opens");
    let mut slot = 0;
    let error = loop {
        slot += 1;
        if let Err(error) = writer.append(&[frame(1, slot, slot, slot, 1500)]) {
            break error;
        }
        // The machine's disk may be nearly full itself.
        assert!(!writer.has_room() || writer.stats().log_bytes < 3 * 4096);
    };
    assert_eq!(error.code(), Code::DiskFull);
    assert!(!reader.has_room());
    writer.sync().expect("it is not poisoned");
    assert_eq!(reader.last_slot(GroupId(1)), Some(Slot(slot - 1)));
    writer.release(GroupId(1), Slot(slot - 2)).expect("it releases");
    writer.append(&[frame(1, slot, slot, slot, 1500)]).expect("there is room again");
}

fn impossible_frames_are_refused(ground: &mut impl Ground) {
    let (mut writer, reader, _) = open(&ground.mount());
    let most = writer.body_bytes_max() as usize;
    let refused = [frame(1, 0, 0, 0, 9), frame(1, 3, 2, 0, 9), frame(1, 1, u64::MAX, 0, 9)];
    for bad in refused {
        let error = writer.append(&[frame(1, 1, 1, 1, 1), bad]).expect_err("impossible");
        assert!(matches!(error, LogError::InvalidSlots { .. }));
    }
    let error = writer.append(&[frame(1, 1, 1, 1, most + 1)]).expect_err("too large");
    assert_eq!(error.code(), Code::FrameTooLarge);
    assert_eq!(reader.bounds(GroupId(1)), None, "nothing of a refused append is written");
    writer.append(&[frame(1, 1, 1, 1, most), frame(1, 2, 2, 2, most)]).expect("just fits");
    assert_eq!(reader.bounds(GroupId(1)), Some((Slot(1), Slot(2))));
}

fn an_idle_log_does_not_grow_with_restarts(ground: &mut impl Ground) {
    for _ in 0..30 {
        let disk = ground.mount();
        let (mut writer, _, _) = open(&disk);
        writer.seal().expect("it seals");
        assert!(writer.stats().log_bytes < 3 * 4096, "{:?}", writer.stats());
        writer.release(GroupId(1), Slot(1)).expect("it releases");
        assert_eq!(writer.stats().segments, 1);
    }
}

fn a_thousand_frames_are_one_write(ground: &mut impl Ground) {
    let (mut writer, reader, _) =
        Log::open(ground.mount(), LogOptions::small(), 1).expect("it opens");
    let before = writer.counters();
    let frames: Vec<Frame> = (1..=3000).map(|slot| frame(1, slot, slot, slot, 50)).collect();
    writer.append(&frames).expect("it appends");
    writer.sync().expect("it syncs");
    writer.sync().expect("nothing to do");
    let after = writer.counters();
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (1, 1));
    assert_eq!(reader.read(GroupId(1), Slot(1), usize::MAX).expect("readable"), frames);
}

fn promises_come_back_and_versions_rise(ground: &mut impl Ground) {
    let (mut file, opened) = PromiseFile::open(ground.mount()).expect("it opens");
    assert_eq!(opened, Opened::Fresh);
    // A shorter record over a longer one.
    for round in 1..=3 {
        file.store(&record(round)).expect("it stores");
    }
    let short = NodeRecord { peers: Default::default(), ..record(4) };
    file.store(&short).expect("it stores");
    drop(file);
    let (file, opened) = PromiseFile::open(ground.mount()).expect("it opens");
    assert_eq!(opened, Opened::Valid(NodeRecord { version: 4, ..short }));
    assert_eq!(file.version(), 4);
}

fn a_broken_copy_is_survived_and_two_are_not(ground: &mut impl Ground) {
    for broken in ["promises.a", "promises.b"] {
        let (mut file, _) = PromiseFile::open(ground.mount()).expect("it opens");
        file.store(&record(8)).expect("it stores");
        drop(file);
        let disk = ground.mount();
        write(disk.as_ref(), broken, 20, &[b"xxxx"]);
        drop(disk);
        let (mut file, opened) = PromiseFile::open(ground.mount()).expect("it opens");
        assert!(matches!(opened, Opened::Valid(found) if found.groups == record(8).groups));
        file.store(&record(9)).expect("it stores");
    }
    let disk = ground.mount();
    write(disk.as_ref(), "promises.a", 20, &[b"xxxx"]);
    write(disk.as_ref(), "promises.b", 21, &[b"xxxx"]);
    let (mut file, opened) = PromiseFile::open(disk).expect("it opens");
    assert!(matches!(opened, Opened::Unreadable { .. }));
    let error = file.store(&record(10)).expect_err("it must not go on as if nothing were");
    assert_eq!(error.code(), Code::PromisesUnreadable);
    file.store_anew(&record(11)).expect("it stores");
    file.store(&record(12)).expect("it stores");
}

fn promises_missing_beside_a_log_are_unreadable(ground: &mut impl Ground) {
    let disk = ground.mount();
    let _ = open(&disk);
    let (_, opened) = PromiseFile::open(disk).expect("it opens");
    assert!(matches!(opened, Opened::Unreadable { .. }));
}

fn floors_follow_the_newest_segment(ground: &mut impl Ground) {
    let disk = ground.mount();
    let (mut writer, _, recovered) = open(&disk);
    assert!(recovered.floors.is_empty());
    writer.set_floors(floors(&record(5)));
    writer.append(&[frame(1, 1, 1, 1, 3000), frame(1, 2, 2, 2, 3000)]).expect("it appends");
    drop((writer, disk));
    let disk = ground.mount();
    let (mut writer, _, recovered) = open(&disk);
    assert_eq!(recovered.floors, floors(&record(5)));
    check_floors(&record(5), &recovered.floors).expect("equal");
    check_floors(&record(6), &recovered.floors).expect("above");
    let error = check_floors(&record(4), &recovered.floors).expect_err("below");
    assert_eq!(error.code(), Code::PromisesUnreadable);
    let without = NodeRecord { groups: Default::default(), ..record(5) };
    check_floors(&without, &recovered.floors).expect_err("a group the record has forgotten");
    // A group that left: it is gone once the newest segment does not name it.
    let ballot = Ballot { round: 6, replica: ReplicaId(7) };
    writer.set_floors([(GroupId(2), ballot)].into());
    writer.roll().expect("it rolls");
    drop((writer, disk));
    let (_, _, recovered) = open(&ground.mount());
    assert_eq!(recovered.floors, [(GroupId(2), ballot)].into());
}

fn a_newer_format_is_refused(ground: &mut impl Ground) {
    let disk = ground.mount();
    let (mut file, _) = PromiseFile::open(Arc::clone(&disk)).expect("it opens");
    file.store(&record(1)).expect("it stores");
    let mut bytes = vec![0; 16];
    let copy = disk.open("promises.a").expect("there");
    bytes.resize(copy.len().expect("asked") as usize, 0);
    copy.read_exact_at(0, &mut bytes).expect("read");
    bytes[8] += 1;
    let crc = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    write(disk.as_ref(), "promises.a", 0, &[&bytes]);
    let error = PromiseFile::open(disk).err().expect("refused");
    assert_eq!(error.code(), Code::FormatUnknown);
}

#[cfg(not(madsim))]
#[test]
fn a_data_folder_belongs_to_one_process() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = quorate_log::RealDisk::open(dir.path()).expect("free");
    let error = quorate_log::RealDisk::open(dir.path()).expect_err("locked");
    assert_eq!(error.code(), Code::DataFolderLocked);
    drop(first);
    quorate_log::RealDisk::open(dir.path()).expect("free again");
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(6 * 4096));
    let (mut writer, reader, _) = open(&disk.mount());
    let mut slot = 0;
    let mut refused_at = None;
    let error = loop {
        slot += 1;
        let done = writer.append(&[frame(1, slot, slot, slot, 1500)]);
        if !writer.has_room() {
            refused_at.get_or_insert(slot);
        }
        if let Err(error) = done {
            break error;
        }
    };
    assert_eq!(error.code(), Code::DiskFull);
    assert!(refused_at.is_some_and(|at| at < slot), "the edge refuses before the disk does");
    writer.sync().expect("it is not poisoned");
    assert_eq!(reader.last_slot(GroupId(1)), Some(Slot(slot - 1)));
    disk.set_capacity(Some(60 * 4096));
    writer.append(&[frame(1, slot, slot, slot, 1500)]).expect("there is room again");
    assert!(writer.has_room());
}

/// Goal: frames that are still wanted in order are never copied, for a copy would cut those behind it;
/// nor is one that is not what was written.
#[test]
fn only_last_frames_are_moved() {
    let disk = SimDisk::new();
    let (mut writer, reader, _) = open(&disk.mount());
    let kept = [frame(1, 1, 1, 1, 100), frame(1, 2, 2, 2, 100), frame(2, 1, 1, 3, 100)];
    writer.append(&kept).expect("it appends");
    for slot in 1..=20 {
        writer.append(&[frame(3, slot, slot, slot, 1500)]).expect("it appends");
    }
    writer.sync().expect("it syncs");
    writer.release(GroupId(3), Slot(19)).expect("it releases");
    let end = writer.end();
    writer.free_oldest().expect("nothing to do");
    assert_eq!(writer.end(), end, "group 1 needs both of its frames where they are");

    writer.release(GroupId(1), Slot(1)).expect("it releases");
    let (group_2, _) = reader.bounds(GroupId(2)).expect("live");
    assert_eq!(group_2, Slot(1));
    let bytes = disk.mount().open("log/0000000001.seg").expect("there").len().expect("known");
    for at in 0..bytes {
        // The body of group 2, wherever it is.
        let mut found = vec![0; 8];
        let file = disk.mount().open("log/0000000001.seg").expect("there");
        if file.read_exact_at(at, &mut found).is_ok() && found == *b"<2:1-1#3" {
            disk.flip_bit("log/0000000001.seg", at, 1);
            break;
        }
    }
    writer.free_oldest().expect("it leaves the damage alone");
    assert_eq!(writer.end(), end);
    let error = reader.read(GroupId(2), Slot(1), 1000).expect_err("damaged");
    assert_eq!(error.code(), Code::LogDamaged);
}

/// Goal: a frame is copied only into a segment that the promise file can know of already, wherever in it
/// the log ends.
#[test]
fn copies_begin_no_segment() {
    for frames in 1..60 {
        let (mut writer, reader, _) = open(&SimDisk::new().mount());
        writer.append(&[frame(1, 1, 1, 1, 500)]).expect("it appends");
        for slot in 1..=frames {
            writer.append(&[frame(3, slot, slot, slot, 300)]).expect("it appends");
        }
        writer.sync().expect("it syncs");
        writer.release(GroupId(3), Slot(frames - 1)).expect("it releases");
        let segment = writer.mark().segment;
        writer.free_oldest().expect("it frees");
        assert_eq!(writer.mark().segment, segment, "{frames} frames");
        assert_eq!(reader.bounds(GroupId(1)), Some((Slot(1), Slot(1))));
    }
}

/// Goal: many segments that are released at once go by and by: nothing waits behind all of them.
#[test]
fn released_segments_go_a_few_at_a_time() {
    let (mut writer, _, _) = open(&SimDisk::new().mount());
    for slot in 1..=30 {
        writer.append(&[frame(1, slot, slot, slot, 100)]).expect("it appends");
        writer.roll().expect("it rolls");
    }
    writer.append(&[frame(1, 31, 31, 31, 100)]).expect("it appends");
    writer.sync().expect("it syncs");
    writer.release(GroupId(1), Slot(30)).expect("it releases");
    let mut held = vec![writer.stats().segments];
    while held.last().is_some_and(|segments| 1 < *segments) && held.len() < 10 {
        writer.seal().expect("it seals");
        held.push(writer.stats().segments);
    }
    assert_eq!(held, [23, 15, 7, 1], "eight with each sync");
}

#[test]
fn the_reserve_of_the_cap_is_seen_by_writer_and_reader() {
    let small = LogOptions { bytes_cap: 5 * 4096, reserve_ratio: 0.3, ..options() };
    let (mut writer, reader, _) = Log::open(SimDisk::new().mount(), small, 1).expect("it opens");
    for slot in 1..=6 {
        writer.append(&[frame(1, slot, slot, slot, 1500)]).expect("it appends");
        assert_eq!(writer.has_room(), writer.stats().log_bytes < 3 * 4096);
        assert_eq!(reader.has_room(), writer.has_room());
    }
    assert!(!reader.has_room());
    writer.release(GroupId(1), Slot(5)).expect("it releases");
    writer.sync().expect("it syncs");
    assert!(reader.has_room());
}

#[test]
fn a_failed_write_stops_the_writer_for_ever() {
    let disk = SimDisk::new();
    let (mut writer, _, _) = open(&disk.mount());
    disk.set_fail_writes(true);
    let error = writer.append(&[frame(1, 1, 1, 1, 1)]).expect_err("fails");
    assert_eq!(error.code(), Code::DiskFailed);
    disk.set_fail_writes(false);
    assert!(matches!(writer.sync(), Err(LogError::Poisoned { .. })));
    assert!(matches!(writer.seal(), Err(LogError::Poisoned { .. })));
    assert!(matches!(writer.release(GroupId(1), Slot(1)), Err(LogError::Poisoned { .. })));

    let (mut file, _) = PromiseFile::open(disk.mount()).expect("it opens");
    file.store_anew(&record(1)).expect("it stores");
    disk.set_fail_syncs(true);
    file.store(&record(2)).expect_err("fails");
    disk.set_fail_syncs(false);
    assert!(matches!(file.store(&record(2)), Err(LogError::Poisoned { .. })));
}
