//! Goal: every decision of a start is one line of the log with the facts in fields, so that whoever
//! reads it afterwards knows why the node came up as it did, or did not.

mod common;

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Once;

use common::{floors, frame, open, record};
use quorate_log::{CrashMode, PromiseFile, SimDisk, check_floors};
use quorate_types::{GroupId, Slot};

const FIRST: &str = "log/0000000001.seg";

thread_local! {
    /// What this thread logged.
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes to the lines of the thread that logs: each test runs on its own.
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `act` logs. One subscriber for the whole process: with one for each test, a line that another
/// thread reaches first without any may stay switched off.
fn logged<T>(act: impl FnOnce() -> T) -> (T, Vec<String>) {
    static SUBSCRIBE: Once = Once::new();
    SUBSCRIBE.call_once(|| {
        tracing_subscriber::fmt()
            .with_writer(|| Lines)
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .init();
    });
    LINES.with_borrow_mut(Vec::clear);
    let done = act();
    let text = String::from_utf8(LINES.with_borrow_mut(std::mem::take)).expect("lines are text");
    (done, text.lines().map(|line| line.trim_start().to_owned()).collect())
}

/// Asserts that exactly one line has this message, and that it has each of the fields.
#[track_caller]
fn one_line(lines: &[String], message: &str, fields: &[&str]) {
    let found: Vec<&String> = lines.iter().filter(|line| line.contains(message)).collect();
    let [line] = found[..] else { panic!("{} times {message:?} in {lines:#?}", found.len()) };
    for field in fields {
        assert!(line.contains(field), "{field} is not in {line}");
    }
}

const ENDS: &str = "the log ends at the last offset known durable";

#[test]
fn a_fresh_start_says_so() {
    let disk = SimDisk::new();
    let (_, lines) = logged(|| {
        let (mut promises, _) = PromiseFile::open(disk.mount()).expect("it opens");
        promises.store(&record(1)).expect("it stores");
        open(&disk.mount());
    });
    one_line(&lines, "the data folder is fresh", &["INFO"]);
    one_line(&lines, "created a log", &["INFO", "segment=1"]);
}

/// A disk with one sealed frame of slots 1 to 3.
fn one_frame() -> SimDisk {
    let disk = SimDisk::new();
    let (mut writer, _, _) = open(&disk.mount());
    writer.append(&[frame(1, 1, 3, 1, 100)]).expect("it appends");
    writer.seal().expect("it seals");
    disk
}

#[test]
fn a_clean_end_says_where() {
    let disk = one_frame();
    disk.kill();
    let (_, lines) = logged(|| open(&disk.mount()));
    let nothing = ["copied_frames=0", "ignored_bytes=0", "damages=0"];
    one_line(&lines, ENDS, &["INFO", "end=\"clean\"", "segment=1", "offset=", "new_segment=2"]);
    one_line(&lines, ENDS, &nothing);
    one_line(&lines, "recovered a group", &["group=", "frames=1", "first=1", "last=3"]);
}

#[test]
fn a_torn_tail_says_where_it_was_cut() {
    let disk = one_frame();
    let (mut writer, _, _) = open(&disk.mount());
    writer.append(&[frame(1, 4, 4, 2, 1500)]).expect("it appends");
    disk.crash_as(CrashMode::KeepAll, 0);
    // A bit of what was never synced differs: the frame is dropped.
    disk.flip_bit("log/0000000002.seg", 700, 1);
    let ((_, _, recovered), lines) = logged(|| open(&disk.mount()));
    assert_eq!(recovered.damage, []);
    assert_eq!(recovered.groups[&GroupId(1)].intact_upto, Slot(3));
    one_line(&lines, ENDS, &["end=\"torn\"", "segment=2", "copied_frames=0", "damages=0"]);
    assert!(!lines.iter().any(|line| line.contains("ignored_bytes=0")), "{lines:#?}");
}

#[test]
fn a_tail_that_was_copied_says_how_much() {
    let disk = one_frame();
    let (mut writer, _, _) = open(&disk.mount());
    writer.append(&[frame(1, 4, 4, 2, 200)]).expect("it appends");
    disk.kill();
    let (_, lines) = logged(|| open(&disk.mount()));
    one_line(&lines, ENDS, &["end=\"clean\"", "copied_frames=1", "copied_bytes=200"]);
}

#[test]
fn damage_says_which_kind_and_where() {
    let disk = one_frame();
    disk.kill();
    disk.flip_bit(FIRST, 180, 1);
    let (_, lines) = logged(|| open(&disk.mount()));
    let place = ["ERROR", "segment=1", "kind=Frames", "position=", "bytes="];
    one_line(&lines, "the log is damaged", &place);
    one_line(&lines, ENDS, &["end=\"damaged\"", "damages=1"]);
}

#[test]
fn missing_segments_and_slots_are_named() {
    let disk = SimDisk::new();
    let (mut writer, _, _) = open(&disk.mount());
    for slot in 1..=4 {
        writer.append(&[frame(1, slot, slot, slot, 100)]).expect("it appends");
        writer.roll().expect("it rolls");
    }
    disk.kill();
    disk.mount().remove("log/0000000002.seg").expect("removed");
    let (_, lines) = logged(|| open(&disk.mount()));
    one_line(&lines, "segments of the log are missing", &["ERROR", "segment=2", "upto=2"]);
    let gap = ["WARN", "group=", "gap_first=2", "gap_last=2"];
    one_line(&lines, "recovered a group with slots missing", &gap);
}

#[test]
fn the_copy_of_the_promises_that_counts_is_named() {
    for (broken, copy) in [(None, "both"), (Some(0), "promises.b"), (Some(1), "promises.a")] {
        let disk = SimDisk::new();
        let (mut promises, _) = PromiseFile::open(disk.mount()).expect("it opens");
        promises.store(&record(1)).expect("it stores");
        disk.kill();
        if let Some(place) = broken {
            disk.flip_bit(["promises.a", "promises.b"][place], 30, 2);
        }
        let (_, lines) = logged(|| PromiseFile::open(disk.mount()).expect("it opens"));
        let copy = format!("copy=\"{copy}\"");
        one_line(&lines, "read the promises", &["INFO", &copy, "version=", "groups=2"]);
        if broken.is_some() {
            one_line(&lines, "a copy of the promises is invalid", &["ERROR", "path="]);
        }
    }
}

#[test]
fn unreadable_promises_say_why() {
    let disk = SimDisk::new();
    let (mut promises, _) = PromiseFile::open(disk.mount()).expect("it opens");
    promises.store(&record(1)).expect("it stores");
    disk.kill();
    disk.flip_bit("promises.a", 30, 2);
    disk.flip_bit("promises.b", 31, 2);
    let (_, lines) = logged(|| PromiseFile::open(disk.mount()).expect("it opens"));
    one_line(&lines, "the promises are unreadable", &["ERROR", "reason=\"no copy is valid\""]);

    let disk = one_frame();
    let (_, lines) = logged(|| PromiseFile::open(disk.mount()).expect("it opens"));
    let reason = "reason=\"no copy exists beside the log\"";
    one_line(&lines, "the promises are unreadable", &["ERROR", reason]);
}

#[test]
fn floors_are_compared_aloud() {
    let floors = floors(&record(5));
    let (_, lines) = logged(|| check_floors(&record(5), &floors).expect("as high"));
    one_line(&lines, "no promise is below its floor in the log", &["INFO", "floors=2"]);
    let (_, lines) = logged(|| check_floors(&record(4), &floors).expect_err("below"));
    let fields = ["ERROR", "group=", "promised=4.7", "floor=5.7"];
    one_line(&lines, "the promises are older than the log", &fields);
}
