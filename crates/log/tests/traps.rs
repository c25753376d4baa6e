//! The traps of replicated logs that concern the disk. `docs/TRAPS.md` lists all of them.

mod common;

use common::{contents_of, contents_read, floors, frame, open, options, record};
use quorate_log::{
    CrashMode, Log, LogError, NodeRecord, Opened, PromiseFile, SimDisk, check_floors,
};
use quorate_types::{Code, GroupId, Slot};

const FIRST: &str = "log/0000000001.seg";

/// Goal: after a sync failed nothing is written or synced any more, because a later sync can succeed
/// without the bytes that the first one lost.
#[test]
fn trap_03_a_failed_sync_is_never_tried_again() {
    let disk = SimDisk::new();
    let (mut writer, _, _) = open(&disk.mount());
    writer.append(&[frame(1, 1, 1, 1, 100)]).expect("it appends");
    disk.set_fail_syncs(true);
    assert!(matches!(writer.sync(), Err(LogError::Io { .. })));
    disk.set_fail_syncs(false);
    let syncs = disk.counters().syncs;
    assert!(matches!(writer.sync(), Err(LogError::Poisoned { .. })));
    assert!(matches!(writer.append(&[frame(1, 2, 2, 2, 9)]), Err(LogError::Poisoned { .. })));
    assert!(matches!(writer.seal(), Err(LogError::Poisoned { .. })));
    assert_eq!(disk.counters().syncs, syncs, "the disk was asked again");

    disk.crash_as(CrashMode::KeepAll, 0);
    let (_, reader, _) = open(&disk.mount());
    assert_eq!(reader.bounds(GroupId(1)), None, "the bytes never reached the disk");
}

/// Goal: the same for the promise file: a promise whose sync failed is not made good by another one.
#[test]
fn trap_03_a_failed_promise_stops_the_promise_file() {
    let disk = SimDisk::new();
    let (mut promises, _) = PromiseFile::open(disk.mount()).expect("it opens");
    promises.store(&record(1)).expect("it stores");
    disk.set_fail_syncs(true);
    assert!(matches!(promises.store(&record(2)), Err(LogError::Io { .. })));
    disk.set_fail_syncs(false);
    assert!(matches!(promises.store(&record(3)), Err(LogError::Poisoned { .. })));
}

/// Goal: a segment is used only once its name is on the disk: a synced file that no folder names is
/// lost with everything in it.
#[test]
fn trap_04_a_new_segment_is_named_durably_before_it_is_used() {
    let disk = SimDisk::new();
    let (mut writer, _, _) = open(&disk.mount());
    let frames = [frame(1, 1, 1, 1, 100), frame(1, 2, 2, 2, 100)];
    writer.append(&frames[..1]).expect("it appends");
    writer.roll().expect("it rolls");
    writer.append(&frames[1..]).expect("it appends");
    writer.sync().expect("it syncs");

    disk.crash_as(CrashMode::DropAll, 0);
    let (_, reader, recovered) = open(&disk.mount());
    assert_eq!(recovered.damage, []);
    assert_eq!(contents_read(&reader).expect("readable"), contents_of(&frames));
}

/// Goal: a fresh promise file is found again after a power cut, by its name too.
#[test]
fn trap_04_a_new_promise_file_is_named_durably() {
    let disk = SimDisk::new();
    let (mut promises, _) = PromiseFile::open(disk.mount()).expect("it opens");
    promises.store(&record(3)).expect("it stores");
    disk.crash_as(CrashMode::DropAll, 0);
    let (_, opened) = PromiseFile::open(disk.mount()).expect("it opens");
    assert!(matches!(opened, Opened::Valid(found) if found.groups == record(3).groups));
}

/// Goal: a segment that was given back is gone for good before its file gets new content.
#[test]
fn trap_04_a_recycled_segment_does_not_come_back() {
    // Two released files are kept for reuse, the others are removed.
    for (released, seed) in [2, 7].into_iter().flat_map(|upto| (0..30).map(move |n| (upto, n))) {
        let disk = SimDisk::new();
        let (mut writer, _, _) = open(&disk.mount());
        for slot in 1..=8 {
            writer.append(&[frame(1, slot, slot, slot, 100)]).expect("it appends");
            writer.roll().expect("it rolls");
        }
        writer.release(GroupId(1), Slot(released)).expect("it releases");
        assert!(!disk.mount().exists(FIRST).expect("asked"));
        disk.crash_as(if seed == 0 { CrashMode::DropAll } else { CrashMode::Mixed }, seed);
        let (_, _, recovered) = open(&disk.mount());
        assert_eq!(recovered.damage, [], "a segment came back without the one behind it");
        assert_eq!(recovered.groups[&GroupId(1)].frames[0].first, Slot(released + 1));
    }
}

/// Goal: a broken frame below what is known to be durable is damage and is reported: cutting it off
/// like a torn tail would forget what was acknowledged.
#[test]
fn trap_05_damage_below_a_sync_is_no_torn_tail() {
    let disk = SimDisk::new();
    let (mut writer, _, _) = open(&disk.mount());
    let frames = [frame(1, 1, 1, 1, 100), frame(1, 2, 2, 2, 100)];
    for frame in &frames {
        writer.append(std::slice::from_ref(frame)).expect("it appends");
        writer.sync().expect("it syncs");
    }
    writer.seal().expect("it seals");
    disk.kill();
    let (_, _, clean) = open(&disk.mount());
    let first = clean.groups[&GroupId(1)].frames[0].offset.0;
    disk.flip_bit(FIRST, first + 80, 3);

    let (_, reader, recovered) = open(&disk.mount());
    assert_eq!(recovered.damage.len(), 1, "{:?}", recovered.decisions);
    let group = &recovered.groups[&GroupId(1)];
    assert!(
        group.frames.iter().all(|frame| frame.after_damage),
        "it may have lost a cut before it"
    );
    assert_eq!(contents_read(&reader).expect("readable"), contents_of(&frames[1..]));
}

/// Goal: what was written and never synced may be torn, and that is not damage: the log starts
/// without it and without alarm.
#[test]
fn trap_05_a_torn_tail_is_no_damage() {
    for seed in 0..50 {
        let disk = SimDisk::new();
        let (mut writer, _, _) = open(&disk.mount());
        let frames = [frame(1, 1, 1, 1, 100), frame(1, 2, 2, 2, 1500)];
        writer.append(&frames[..1]).expect("it appends");
        writer.sync().expect("it syncs");
        writer.append(&frames[1..]).expect("it appends");
        disk.crash_as(CrashMode::TearBytes, seed);
        let (_, reader, recovered) = open(&disk.mount());
        assert_eq!(recovered.damage, [], "{:?}", recovered.decisions);
        let held = contents_read(&reader).expect("readable");
        assert!(held == contents_of(&frames[..1]) || held == contents_of(&frames));
    }
}

/// Goal: a frame whose bytes changed is not a frame, wherever the bit is.
#[test]
fn trap_05_a_changed_frame_is_never_returned() {
    for at in 0..140 {
        let disk = SimDisk::new();
        let (mut writer, _, _) = open(&disk.mount());
        let only = frame(1, 1, 1, 1, 64);
        writer.append(std::slice::from_ref(&only)).expect("it appends");
        writer.seal().expect("it seals");
        disk.kill();
        disk.flip_bit(FIRST, 80 + at, (at % 8) as u8);
        let (_, reader, _) = open(&disk.mount());
        let held = contents_read(&reader).expect("readable");
        assert!(held.is_empty() || held == contents_of(&[only]), "garbage was taken: {held:?}");
    }
}

/// Goal: the log keeps everything that was not given back, whatever else is recycled around it.
#[test]
fn trap_08_only_what_was_released_is_recycled() {
    let disk = SimDisk::new();
    let (mut writer, _, _) = open(&disk.mount());
    for slot in 1..=4 {
        writer.append(&[frame(1, slot, slot, slot, 100)]).expect("it appends");
        writer.roll().expect("it rolls");
    }
    writer.append(&[frame(2, 1, 1, 9, 100)]).expect("it appends");
    writer.sync().expect("it syncs");
    writer.release(GroupId(2), Slot(100)).expect("it releases");
    writer.release(GroupId(1), Slot(2)).expect("it releases");
    disk.crash_as(CrashMode::DropAll, 0);
    let (_, reader, _) = open(&disk.mount());
    let (first, last) = reader.bounds(GroupId(1)).expect("not released");
    assert!(first <= Slot(3) && last == Slot(4), "{first} to {last}");
}

/// Goal: a folder with a log and without promises is not fresh: its node promised something and has
/// forgotten what.
#[test]
fn trap_16_lost_promises_beside_a_log_are_noticed() {
    let disk = SimDisk::new();
    let (mut promises, opened) = PromiseFile::open(disk.mount()).expect("it opens");
    assert_eq!(opened, Opened::Fresh);
    promises.store(&record(1)).expect("it stores");
    let _log = open(&disk.mount());
    for copy in ["promises.a", "promises.b"] {
        disk.mount().remove(copy).expect("removed");
    }
    let (mut promises, opened) = PromiseFile::open(disk.mount()).expect("it opens");
    assert!(matches!(opened, Opened::Unreadable { .. }), "{opened:?}");
    let error = promises.store(&record(1)).expect_err("it must not promise again");
    assert_eq!(error.code(), Code::PromisesUnreadable);
}

/// Goal: a promise file that was put back from an older copy is told by the floors in the log beside
/// it, and counts as unreadable.
#[test]
fn trap_16_promises_older_than_the_log_are_refused() {
    let disk = SimDisk::new();
    let (mut writer, _, _) = open(&disk.mount());
    writer.set_floors(floors(&record(5)));
    writer.roll().expect("it rolls");
    disk.crash_as(CrashMode::DropAll, 0);
    let (_, _, recovered) = Log::open(disk.mount(), options(), 1).expect("it opens");
    check_floors(&record(5), &recovered.floors).expect("as the log says");
    let older: NodeRecord = record(4);
    let error = check_floors(&older, &recovered.floors).expect_err("it forgot a promise");
    assert_eq!(error.code(), Code::PromisesUnreadable);
}
