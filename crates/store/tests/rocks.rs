//! What only real files can show: locks, damage, a killed process, flushes by RocksDB itself.

#![cfg(not(madsim))]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use common::{batch, number, put, row};
use quorate_store::{Change, Engine, Rocks, RocksOptions, StoreError};
use quorate_types::{Code, GroupId, Slot};

const G: GroupId = GroupId(1);
/// Set for the process that is to be killed: the folder of its store.
const VICTIM_FOLDER: &str = "QUORATE_TEST_VICTIM_FOLDER";

fn open(folder: &Path) -> Result<Rocks, StoreError> {
    Rocks::open(folder, &RocksOptions::small())
}

fn failure(result: Result<Rocks, StoreError>) -> StoreError {
    match result {
        Ok(_) => panic!("the store opened"),
        Err(error) => error,
    }
}

/// The only file with this ending.
fn file(folder: &Path, ending: &str) -> PathBuf {
    let files = fs::read_dir(folder).expect("the folder exists");
    let mut files = files.map(|entry| entry.expect("it is readable").path());
    files.find(|path| path.to_string_lossy().contains(ending)).expect("there is such a file")
}

/// A closed store whose only row is in one file.
fn one_row(folder: &Path) {
    let engine = open(folder).expect("an empty folder opens");
    engine.write(&batch(1, 1, vec![put(row(1, 1), 1)])).expect("it can be written");
}

#[test]
fn a_store_in_use_is_named_as_such() {
    // Goal: a second opener in this process learns that the folder is locked, not that it is broken.
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path()).unwrap();
    let error = failure(open(folder.path()));
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert_eq!(error.code(), Code::DataFolderLocked);
}

#[test]
fn a_flipped_bit_is_never_read_as_data() {
    // Goal: checksums are verified on read and a mismatch is damage of the store.
    let folder = tempfile::tempdir().unwrap();
    one_row(folder.path());
    let path = file(folder.path(), ".sst");
    let mut bytes = fs::read(&path).unwrap();
    bytes[3] ^= 0x40;
    fs::write(&path, bytes).unwrap();

    let error = match open(folder.path()) {
        Ok(engine) => engine.get(&row(1, 1)).unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(error.code(), Code::StoreDamaged);
}

#[test]
fn a_missing_file_is_damage() {
    // Goal: a store that lost a table or its manifest is refused as damaged, not opened without it.
    for ending in [".sst", "MANIFEST"] {
        let folder = tempfile::tempdir().unwrap();
        one_row(folder.path());
        fs::remove_file(file(folder.path(), ending)).unwrap();
        let error = failure(open(folder.path()));
        assert_eq!(error.code(), Code::StoreDamaged, "{ending}: {error}");
    }
}

#[test]
fn a_store_without_its_current_file_is_never_made_anew() {
    // Goal: RocksDB would take the folder for a new one, sooner or later open an empty store there and
    // remove the tables. It is refused, however often it is started, and its files stay.
    let folder = tempfile::tempdir().unwrap();
    one_row(folder.path());
    let current = fs::read(folder.path().join("CURRENT")).unwrap();
    fs::remove_file(folder.path().join("CURRENT")).unwrap();
    for _ in 0..3 {
        let error = failure(open(folder.path()));
        assert_eq!(error.code(), Code::StoreDamaged, "{error}");
    }
    fs::write(folder.path().join("CURRENT"), current).unwrap();
    assert_eq!(open(folder.path()).unwrap().get(&row(1, 1)).unwrap().map(|v| number(&v)), Some(1));
}

#[test]
fn a_first_start_that_was_cut_short_begins_again() {
    // Goal: what RocksDB leaves before its CURRENT file is durable is no damage.
    let folder = tempfile::tempdir().unwrap();
    for name in ["LOCK", "LOG", "IDENTITY", "MANIFEST-000001", "000001.dbtmp"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    one_row(folder.path());
    assert!(open(folder.path()).unwrap().get(&row(1, 1)).unwrap().is_some());
}

#[test]
fn a_checkpoint_larger_than_the_write_buffer_is_one_step() {
    // Goal: the size of a batch does not decide whether it is atomic.
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path()).unwrap();
    let big = Bytes::from(vec![7; 64 * 1024]);
    let changes = (0..400).map(|i| Change { key: row(1, i), value: Some(big.clone()) }).collect();
    engine.write(&batch(1, 1, changes)).unwrap();
    assert_eq!(engine.persisted(G).unwrap(), Slot(0));
    engine.flush().unwrap();
    assert_eq!(engine.persisted(G).unwrap(), Slot(1));
    assert_eq!(engine.scan(&row(1, 0), &row(1, 1000), 1000).unwrap().len(), 400);
}

#[test]
fn flushes_that_rocksdb_starts_by_itself_are_seen() {
    // Goal: the persisted position follows full write buffers without anybody asking for a flush.
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path()).unwrap();
    let big = Bytes::from(vec![7; 512 * 1024]);
    let mut slot = 0;
    while engine.persisted(G).unwrap() == Slot(0) {
        slot += 1;
        assert!(slot < 10_000, "nothing was persisted");
        let change = Change { key: row(1, slot % 8), value: Some(big.clone()) };
        engine.write(&batch(1, slot, vec![change])).unwrap();
    }
    assert!(engine.persisted(G).unwrap() < Slot(slot), "the last write cannot be persisted");
}

/// Writes batches for ever, each of them its slot into every row, and prints what is persisted.
fn victim(folder: &Path) {
    let options = RocksOptions { write_buffer_bytes: 64 * 1024, ..RocksOptions::small() };
    let engine = Rocks::open(folder, &options).expect("the store opens");
    let mut out = std::io::stdout();
    for slot in engine.applied(G).expect("it is readable").0 + 1.. {
        let changes = (0..20).map(|i| put(row(1, i), slot)).collect();
        engine.write(&batch(1, slot, changes)).expect("it can be written");
        if slot % 64 == 0 {
            engine.flush().expect("it can be flushed");
        }
        let persisted = engine.persisted(G).expect("it is readable");
        if writeln!(out, "persisted {persisted}").is_err() {
            return; // The parent is gone.
        }
    }
}

#[test]
fn a_killed_process_leaves_whole_batches_from_the_persisted_one_on() {
    // Goal: kill -9 at any point loses nothing that was reported as persisted, and no part of a batch.
    if let Some(folder) = std::env::var_os(VICTIM_FOLDER) {
        return victim(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut left = Slot(0);
    for lines in [20, 150, 333, 1000] {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("a_killed_process_leaves_whole_batches_from_the_persisted_one_on")
            .env(VICTIM_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Held until the kill: without a reader the victim would leave, and its lock with it.
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let persisted = |line: &str| Some(line.split_once("persisted ")?.1.parse::<u64>().unwrap());
        let reported = out.by_ref().lines().filter_map(|line| persisted(&line.unwrap()));
        let reported = Slot(reported.take(lines).last().unwrap());
        let error = failure(open(folder.path()));
        assert!(matches!(error, StoreError::Locked { .. }), "open in another process: {error}");
        process.kill().unwrap();
        process.wait().unwrap();

        let engine = open(folder.path()).unwrap();
        assert!(left <= reported, "the persisted position went back at the start");
        left = engine.applied(G).unwrap();
        assert!(reported <= left, "{reported} was reported as persisted, {left} is left");
        assert_eq!(engine.persisted(G).unwrap(), left);
        let found = engine.scan(&row(1, 0), &row(1, 1000), 1000).unwrap();
        let values: Vec<u64> = found.iter().map(|(_, value)| number(value)).collect();
        assert_eq!(values, vec![left.0; if left == Slot(0) { 0 } else { 20 }]);
    }
}

#[test]
fn what_a_crash_leaves_of_runs_goes_at_the_next_start() {
    // Goal: files that nobody ends do not fill the disk.
    let folder = tempfile::tempdir().expect("a temporary folder");
    one_row(folder.path());
    let runs = folder.path().join("runs");
    std::fs::write(runs.join("0.run"), vec![1_u8; 1000]).expect("writable");
    let rocks = open(folder.path()).expect("it opens");
    assert_eq!(std::fs::read_dir(&runs).expect("it is there").count(), 0);
    let mut run = rocks.begin_run().expect("the folder is there");
    run.add(&quorate_store::Key::from_bytes(b"\x10k"), b"v").expect("room");
    assert_eq!(std::fs::read_dir(&runs).expect("it is there").count(), 1);
    run.end().expect("it is taken over");
    assert_eq!(std::fs::read_dir(&runs).expect("it is there").count(), 0);
}
