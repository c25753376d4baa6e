//! Goal: whichever bit of whichever field breaks, nothing broken is taken for whole, and what was
//! durable is either found or reported as damaged.
//!
//! Every bit of every field of every kind of frame and of both copies of the promises, one at a time.

mod common;

use std::ops::Range;

use common::{Contents, contents_of, contents_read, floors, frame, open, record};
use quorate_log::{CrashMode, Frame, HEADER_BYTES, Log, Opened, PromiseFile, Recovered, SimDisk};
use quorate_types::Code;

const FIRST: &str = "log/0000000001.seg";
const SECOND: &str = "log/0000000002.seg";
const HEADER: usize = HEADER_BYTES;

/// The fields of a frame's header; the table stands in `frame.rs`.
const FIELDS: [(&str, Range<usize>); 12] = [
    ("magic", 0..4),
    ("crc", 4..8),
    ("body length", 8..12),
    ("kind", 12..13),
    ("zeros", 13..16),
    ("group", 16..20),
    ("more zeros", 20..24),
    ("first slot", 24..32),
    ("last slot", 32..40),
    ("offset", 40..48),
    ("segment", 48..56),
    ("synced_upto", 56..64),
];

/// What a flipped bit may do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// The frame is gone, and reported as damaged.
    Damage,
    /// The frame is gone without a word: nobody knew that it was durable.
    TornTail,
    /// Nothing is lost but what the bit was part of; a broken head of a segment is reported.
    NothingLost,
}

struct Case {
    name: &'static str,
    file: &'static str,
    /// Position of the frame in the file.
    at: usize,
    body: Range<usize>,
    harm: Harm,
    /// Frames that must be found.
    kept: Contents,
}

/// A life of two segments: in the first a head with floors, two frames and a seal, in the second what
/// recovery writes, and one frame that was synced and never sealed.
fn life() -> (SimDisk, Vec<Frame>) {
    let frames = vec![frame(1, 1, 3, 1, 37), frame(2, 1, 5, 2, 50), frame(1, 4, 6, 3, 61)];
    let disk = SimDisk::new();
    let (mut writer, _, _) = open(&disk.mount());
    for frame in &frames[..2] {
        writer.append(std::slice::from_ref(frame)).expect("it appends");
        writer.sync().expect("it syncs");
    }
    writer.seal().expect("it seals");
    disk.kill();
    let (mut writer, _, _) = open(&disk.mount());
    writer.append(&frames[2..]).expect("it appends");
    writer.sync().expect("it syncs");
    disk.kill();
    (disk, frames)
}

fn cases() -> Vec<Case> {
    let (_, frames) = life();
    let padded = |bytes: usize| (HEADER + bytes).next_multiple_of(8);
    let body = |frame: &Frame| HEADER..HEADER + frame.body.len();
    let head = padded(24);
    let (one, two) = (padded(frames[0].body.len()), padded(frames[1].body.len()));
    // Behind the head of the second segment stands the cut, whose body has 16 bytes.
    let last = head + padded(16);
    let all = contents_of(&frames);
    let without = |lost: usize| {
        let kept: Vec<Frame> = (0..3).filter(|n| *n != lost).map(|n| frames[n].clone()).collect();
        contents_of(&kept)
    };
    let case = |name, file, at, body, harm, kept| Case { name, file, at, body, harm, kept };
    vec![
        case("head", FIRST, 0, HEADER..HEADER + 24, Harm::NothingLost, all.clone()),
        case("first frame", FIRST, head, body(&frames[0]), Harm::Damage, without(0)),
        case("second frame", FIRST, head + one, body(&frames[1]), Harm::Damage, without(1)),
        case("seal", FIRST, head + one + two, HEADER..HEADER, Harm::NothingLost, all.clone()),
        case("cut", SECOND, head, HEADER..HEADER + 16, Harm::NothingLost, all),
        case("last frame", SECOND, last, body(&frames[2]), Harm::TornTail, without(2)),
    ]
}

/// Flips each bit of `bytes`, one at a time, and judges what a start makes of it.
fn flip(case: &Case, field: &str, bytes: Range<usize>) -> (u64, u64) {
    let (mut flips, mut reported) = (0, 0);
    for (at, bit) in bytes.flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let (disk, _) = life();
        disk.flip_bit(case.file, (case.at + at) as u64, bit);
        let (_, reader, recovered) = open(&disk.mount());
        let found = contents_read(&reader).expect("what is reported is readable");
        let place = format!("{} of the {}, byte {at}, bit {bit}", field, case.name);
        assert_eq!(found, case.kept, "{place}: {:?}", recovered.decisions);
        check_report(case, &recovered, &place);
        check_next_start(&disk, &found, &place);
        flips += 1;
        reported += u64::from(!recovered.damage.is_empty());
    }
    (flips, reported)
}

fn check_report(case: &Case, recovered: &Recovered, place: &str) {
    match case.harm {
        Harm::Damage => assert!(!recovered.damage.is_empty(), "{place}: lost without a word"),
        Harm::TornTail => assert_eq!(recovered.damage, [], "{place}: nobody knew of it"),
        Harm::NothingLost => {}
    }
}

/// What one start reported, the next one finds, even after a power cut.
fn check_next_start(disk: &SimDisk, found: &Contents, place: &str) {
    disk.crash_as(CrashMode::DropAll, 0);
    let (_, reader, _) = open(&disk.mount());
    assert_eq!(&contents_read(&reader).expect("readable"), found, "{place}, a start later");
}

#[test]
fn every_bit_of_every_field_of_every_frame() {
    let (mut flips, mut reported) = (0, 0);
    for case in cases() {
        for (field, bytes) in FIELDS {
            let (more, damaged) = flip(&case, field, bytes);
            (flips, reported) = (flips + more, reported + damaged);
        }
        let (more, damaged) = flip(&case, "body", case.body.clone());
        (flips, reported) = (flips + more, reported + damaged);
    }
    println!("{flips} flipped bits in frames: 0 taken for whole, {reported} reported as damage");
}

/// A promise file stored twice, and the bytes of a copy.
fn promised() -> (SimDisk, u64) {
    let disk = SimDisk::new();
    let (mut promises, _) = PromiseFile::open(disk.mount()).expect("it opens");
    promises.store(&record(1)).expect("it stores");
    promises.store(&record(2)).expect("it stores");
    disk.kill();
    let bytes = disk.mount().open("promises.a").expect("there").len().expect("asked");
    (disk, bytes)
}

#[test]
fn every_bit_of_each_copy_of_the_promises() {
    let (_, bytes) = promised();
    let mut flips = 0;
    for (at, bit) in (0..bytes).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        for copy in ["promises.a", "promises.b"] {
            let (disk, _) = promised();
            disk.flip_bit(copy, at, bit);
            match PromiseFile::open(disk.mount()) {
                Ok((_, Opened::Valid(found))) => assert_eq!(found.groups, record(2).groups),
                other => panic!("byte {at}, bit {bit} of {copy}: {:?}", other.map(|(_, o)| o)),
            }
            flips += 1;
        }
    }
    println!("{flips} flipped bits in one copy of the promises: 0 forgotten");
}

#[test]
fn both_copies_broken_are_never_taken_for_fresh() {
    let (_, bytes) = promised();
    let mut flips = 0;
    for at in 0..bytes {
        let (disk, _) = promised();
        disk.flip_bit("promises.a", at, (at % 8) as u8);
        disk.flip_bit("promises.b", (at * 7 + 5) % bytes, 3);
        match PromiseFile::open(disk.mount()) {
            Ok((mut promises, Opened::Unreadable { .. })) => {
                let error = promises.store(&record(3)).expect_err("it must not promise again");
                assert_eq!(error.code(), Code::PromisesUnreadable);
            }
            other => panic!("byte {at}: {:?}", other.map(|(_, opened)| opened)),
        }
        flips += 2;
    }
    println!("{flips} flipped bits in both copies of the promises: none taken for fresh or whole");
}

/// Goal: the floors in the head of the newest segment are believed only if they are whole: a bit that
/// raises or lowers one is noticed.
#[test]
fn every_bit_of_a_floor() {
    let mut flips = 0;
    for (at, bit) in (HEADER + 24..HEADER + 64).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let disk = SimDisk::new();
        let (mut writer, _, _) = open(&disk.mount());
        writer.set_floors(floors(&record(5)));
        writer.append(&[frame(1, 1, 1, 1, 10)]).expect("it appends");
        writer.roll().expect("it rolls");
        disk.kill();
        disk.flip_bit(SECOND, at as u64, bit);
        let (_, _, recovered) = Log::open(disk.mount(), common::options(), 1).expect("it opens");
        assert!(recovered.floors.is_empty(), "byte {at}, bit {bit}: {:?}", recovered.floors);
        assert!(!recovered.damage.is_empty(), "byte {at}, bit {bit}: floors lost without a word");
        flips += 1;
    }
    println!("{flips} flipped bits in floors: all noticed");
}
