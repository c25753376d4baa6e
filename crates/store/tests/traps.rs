//! The traps of replicated logs that concern the rows. `docs/TRAPS.md` lists all of them.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::{Harness, number, put, row};
use quorate_store::{Durability, Engine, Store, Twin, View};
use quorate_types::{GroupId, Slot};

const GROUP: GroupId = GroupId(1);
/// Entries and checkpoints of the test: each entry writes its slot to two rows.
const ENTRIES: u64 = 6;

on_both_engines! {
    trap_06_rows_and_positions_survive_together,
    trap_08_persisted_is_what_a_crash_leaves,
}

fn checkpoint(store: &Store, durability: Durability) {
    let checkpoint = store.begin_checkpoint(Vec::new).expect("something was applied");
    store.write_checkpoint(&checkpoint, durability).expect("it can be written");
    store.finish_checkpoint(checkpoint);
}

fn apply(store: &Store, slot: u64) {
    store.apply(GROUP, Slot(slot), vec![put(row(1, 1), slot), put(row(1, 100 + slot), slot)]);
}

/// Goal: rows and the applied position are one batch: whatever part of the checkpoints a crash
/// leaves, the rows are exactly those of the position, so replay neither skips nor repeats an entry.
fn trap_06_rows_and_positions_survive_together(mut harness: impl Harness) {
    for crash in 0..20 {
        let store = Store::open(harness.engine(), [GROUP]).expect("it opens");
        let from = store.applied(GROUP).0;
        for slot in from + 1..=from + ENTRIES {
            apply(&store, slot);
            checkpoint(&store, Durability::Buffered);
        }
        drop(store);
        harness.crash(crash);

        let store = Store::open(harness.engine(), [GROUP]).expect("it opens");
        let applied = store.applied(GROUP);
        let newest = store.get(&row(1, 1)).expect("readable").map_or(0, |value| number(&value));
        assert_eq!(newest, applied.0, "crash {crash}: a row and its position differ");
        for slot in 1..=from + ENTRIES {
            let found = store.get(&row(1, 100 + slot)).expect("readable");
            assert_eq!(found.is_some(), slot <= applied.0, "crash {crash}: slot {slot}");
        }
    }
}

/// Goal: the persisted position, up to which the log may be recycled, is never above what a crash
/// leaves; what is only applied, or only written, does not count.
fn trap_08_persisted_is_what_a_crash_leaves(mut harness: impl Harness) {
    for crash in 0..20 {
        let store = Store::open(harness.engine(), [GROUP]).expect("it opens");
        let slot = store.applied(GROUP).0 + 1;
        apply(&store, slot);
        checkpoint(&store, Durability::Flushed);
        assert_eq!(store.persisted(GROUP).expect("readable"), Slot(slot));
        apply(&store, slot + 1);
        assert_eq!(store.persisted(GROUP).expect("readable"), Slot(slot), "applied only");
        checkpoint(&store, Durability::Buffered);
        let persisted = store.persisted(GROUP).expect("readable");
        drop(store);
        harness.crash(crash);
        let left = Store::open(harness.engine(), [GROUP]).expect("it opens").applied(GROUP);
        assert!(persisted <= left, "crash {crash} left {left}, {persisted} was called persisted");
    }
}

/// Goal: an entry is applied exactly once: replaying one that is applied already, or skipping one,
/// stops the replica instead of changing a row twice.
#[test]
fn trap_06_an_entry_is_applied_exactly_once() {
    let store = Store::open(std::sync::Arc::new(Twin::new()), [GROUP]).expect("it opens");
    apply(&store, 1);
    for wrong in [1, 3] {
        let again = catch_unwind(AssertUnwindSafe(|| apply(&store, wrong)));
        assert!(again.is_err(), "slot {wrong} was applied after slot 1");
    }
    assert_eq!(store.applied(GROUP), Slot(1));
}

/// Goal: there is one column family. With the write-ahead log off each family recovers a prefix of
/// its own, so rows and positions in two of them would come back from two different moments.
#[cfg(not(madsim))]
#[test]
fn trap_07_rows_and_positions_share_one_column_family() {
    let harness = common::rocks::RocksHarness::new();
    let store = Store::open(harness.engine(), [GROUP]).expect("it opens");
    apply(&store, 1);
    checkpoint(&store, Durability::Flushed);
    drop(store);
    let options = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&options, harness.folder()).expect("it is listed");
    assert_eq!(families, ["default"]);
}

/// Goal: the simulation has no foreign thread and no real file in it: RocksDB is a dependency of one
/// crate, and only where the simulator is not compiled in.
#[test]
fn trap_31_the_simulation_has_no_rocksdb() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut holders = Vec::new();
    for folder in std::fs::read_dir(crates).expect("the crates are readable") {
        let manifest = folder.expect("readable").path().join("Cargo.toml");
        let Ok(text) = std::fs::read_to_string(&manifest) else { continue };
        let mut table = "";
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                table = line;
            } else if line.starts_with("rocksdb") || line.contains("librocksdb") {
                holders.push((
                    manifest.parent().and_then(Path::file_name).map(ToOwned::to_owned),
                    table.to_owned(),
                ));
            }
        }
    }
    let only = (Some("store".into()), r#"[target."cfg(not(madsim))".dependencies]"#.to_owned());
    assert_eq!(holders, [only]);
}

/// Goal: the twin that replaces RocksDB there is not kinder: a crash takes what was not flushed.
#[test]
fn trap_31_the_twin_forgets_what_was_not_flushed() {
    let mut forgot = false;
    for seed in 0..20 {
        let twin = Twin::new();
        let store = Store::open(std::sync::Arc::new(twin.clone()), [GROUP]).expect("it opens");
        apply(&store, 1);
        checkpoint(&store, Durability::Buffered);
        forgot |= 0 < twin.crash(seed) && twin.applied(GROUP).expect("readable") == Slot(0);
    }
    assert!(forgot, "no crash of 20 took anything");
}
