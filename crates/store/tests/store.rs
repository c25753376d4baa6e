//! The store's own promises: layers, checkpoints, and reads beside them.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not recognised as tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use common::{Harness, all_rows, delete, number, put, row};
use quorate_store::{
    Change, CheckpointBatch, Durability, Engine, EngineRun, EngineSnapshot, EngineStats, Key,
    Pinned, Store, StoreError, Twin, View,
};
use quorate_types::{GroupId, Slot};

const G: GroupId = GroupId(1);

on_both_engines! {
    reads_are_the_same_in_every_stage_of_a_checkpoint,
    positions_without_changes_are_checkpointed_too,
    scans_beside_writers_and_checkpoints_see_one_moment,
    changes_that_were_held_back_are_part_of_the_next_checkpoint,
    pinned_views_stand_still_in_every_stage_of_a_checkpoint,
    too_many_pinned_views_are_refused_until_the_next_checkpoint,
}

// Goal: changes handed in when a checkpoint begins are read from then on and reach the engine with the
// positions of that checkpoint; nobody is asked for them if none begins.
fn changes_that_were_held_back_are_part_of_the_next_checkpoint(harness: impl Harness) {
    let store = open(&harness);
    let asked = |()| -> Vec<Change> { panic!("no checkpoint can begin") };
    assert!(store.begin_checkpoint(|| asked(())).is_none(), "nothing was applied");
    store.apply(G, Slot(1), vec![put(row(1, 1), 1), put(row(1, 2), 2)]);
    let begun = store.begin_checkpoint(|| vec![delete(row(1, 1)), put(row(1, 3), 3)]).unwrap();
    assert_eq!(rows(&store), [(2, 2), (3, 3)]);
    assert!(store.begin_checkpoint(|| asked(())).is_none(), "one is running");
    store.write_checkpoint(&begun, Durability::Buffered).unwrap();
    store.finish_checkpoint(begun);
    assert_eq!(rows(&store), [(2, 2), (3, 3)]);
    assert_eq!(harness.engine().applied(G).unwrap(), Slot(1));
    assert_eq!(harness.engine().get(&row(1, 3)).unwrap().as_ref().map(number), Some(3));
}

// Goal: wherever a view is pinned among entries and the stages of checkpoints, it reads what was
// applied then, for ever; and the store itself reads what is applied now.
fn pinned_views_stand_still_in_every_stage_of_a_checkpoint(harness: impl Harness) {
    let store = open(&harness);
    let mut model = BTreeMap::new();
    let mut pinned: Vec<(Pinned, Vec<(u64, u64)>)> = Vec::new();
    let mut running = None;
    for slot in 1..=120_u64 {
        let at = slot * 7 % 13;
        let change = if slot % 3 == 0 { delete(row(1, at)) } else { put(row(1, at), slot) };
        if change.value.is_some() {
            model.insert(at, slot)
        } else {
            model.remove(&at)
        };
        store.apply(G, Slot(slot), vec![change]);
        let now: Vec<(u64, u64)> = model.iter().map(|(at, to)| (*at, *to)).collect();
        running = match (slot % 5, running.take()) {
            (0, None) => store.begin_checkpoint(Vec::new),
            (2, Some(begun)) => {
                store.write_checkpoint(&begun, Durability::Buffered).unwrap();
                Some(begun)
            }
            (4, Some(begun)) if begun.is_written() => {
                store.finish_checkpoint(begun);
                None
            }
            (_, running) => running,
        };
        if slot % 4 == 1 {
            pinned.push((store.pin().unwrap().expect("few are pinned"), now.clone()));
            let again = store.pin().unwrap().expect("a second view of the same costs nothing");
            pinned.push((again, now.clone()));
        }
        assert_eq!(rows(&store), now);
        for (view, then) in &pinned {
            assert_eq!(rows(view), *then);
        }
        if 12 < pinned.len() {
            pinned.drain(..3);
        }
    }
    assert!(100 <= harness.engine().applied(G).unwrap().0, "checkpoints were written");
}

// Goal: what views hold in memory is bounded, and what was refused goes again later.
fn too_many_pinned_views_are_refused_until_the_next_checkpoint(harness: impl Harness) {
    let store = open(&harness);
    let mut pinned = Vec::new();
    let refused = (1..1000).find(|slot| {
        store.apply(G, Slot(*slot), vec![put(row(1, *slot), *slot)]);
        let view = store.pin().unwrap();
        let is_refused = view.is_none();
        pinned.extend(view);
        is_refused
    });
    let refused = refused.expect("there is a bound");
    assert!(0 < pinned[0].bytes() && pinned[0].bytes() < pinned[1].bytes());
    checkpoint(&store);
    let view = store.pin().unwrap().expect("a checkpoint has taken the layers along");
    assert_eq!(rows(&view).len() as u64, refused);
    assert_eq!(rows(&pinned[4]).len(), 5);
}

fn open(harness: &impl Harness) -> Store {
    Store::open(harness.engine(), [G]).expect("an empty store opens")
}

fn checkpoint(store: &Store) {
    let begun = store.begin_checkpoint(Vec::new).expect("something was applied");
    store.write_checkpoint(&begun, Durability::Buffered).expect("it can be written");
    store.finish_checkpoint(begun);
}

fn rows(store: &dyn View) -> Vec<(u64, u64)> {
    let (from, end) = all_rows();
    let found = store.scan(&from, &end, 100).expect("it is readable");
    for (key, value) in &found {
        assert_eq!(store.get(key).expect("it is readable").as_ref(), Some(value));
    }
    // Many at once are the same one by one, also those that are not there.
    let keys: Vec<Key> = (0..20).rev().map(|uid| row(1, uid)).collect();
    let one_by_one = keys.iter().map(|key| store.get(key).expect("it is readable"));
    assert_eq!(store.get_many(&keys).expect("it is readable"), one_by_one.collect::<Vec<_>>());
    let uid = |key: &Key| quorate_store::keys::parse_row(key).expect("a row key").2.0;
    found.iter().map(|(key, value)| (uid(key), number(value))).collect()
}

// Goal: no stage of a checkpoint shows; newer layers win, and removals hide what is beneath.
fn reads_are_the_same_in_every_stage_of_a_checkpoint(harness: impl Harness) {
    let store = open(&harness);
    store.apply(G, Slot(1), (1..=4).map(|i| put(row(1, i), i)).collect());
    checkpoint(&store);
    store.apply(G, Slot(2), vec![put(row(1, 1), 10), delete(row(1, 2)), put(row(1, 5), 5)]);
    let begun = store.begin_checkpoint(Vec::new).unwrap();
    store.apply(G, Slot(3), vec![delete(row(1, 1)), put(row(1, 2), 20), delete(row(1, 5))]);

    let want = [(2, 20), (3, 3), (4, 4)];
    assert_eq!(rows(&store), want);
    assert!(store.begin_checkpoint(Vec::new).is_none(), "one is running");
    store.write_checkpoint(&begun, Durability::Buffered).unwrap();
    assert_eq!(rows(&store), want);
    store.finish_checkpoint(begun);
    assert_eq!(rows(&store), want);
    checkpoint(&store);
    assert_eq!(rows(&store), want);
    assert!(store.begin_checkpoint(Vec::new).is_none(), "nothing was applied");
    assert_eq!(store.applied(G), Slot(3));
}

// Goal: an entry that changes nothing still moves the position that survives.
fn positions_without_changes_are_checkpointed_too(harness: impl Harness) {
    let store = open(&harness);
    assert_eq!(store.changed_bytes(), 0);
    store.apply(G, Slot(1), vec![]);
    assert_eq!(store.changed_bytes(), 1);
    let begun = store.begin_checkpoint(Vec::new).unwrap();
    assert_eq!(store.changed_bytes(), 0);
    store.write_checkpoint(&begun, Durability::Flushed).unwrap();
    store.finish_checkpoint(begun);
    assert_eq!(store.persisted(G).unwrap(), Slot(1));
}

// Goal: with entries that keep a sum, every scan finds that sum, whatever runs beside it.
fn scans_beside_writers_and_checkpoints_see_one_moment(harness: impl Harness) {
    const ROWS: u64 = 20;
    const START: u64 = 1_000_000;
    let store = open(&harness);
    let mut balances = [START; ROWS as usize];
    store.apply(G, Slot(1), (0..ROWS).map(|i| put(row(1, i), START)).collect());
    checkpoint(&store);

    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if store.changed_bytes() != 0 {
                    checkpoint(&store);
                }
            }
        });
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let sum: u64 = rows_only(&store).iter().map(|(_, value)| number(value)).sum();
                assert_eq!(sum, ROWS * START);
            }
        });
        for slot in 2..4_000u64 {
            let (from, to) = (slot * 7 % ROWS, (slot * 13 + 1) % ROWS);
            balances[from as usize] -= 1;
            balances[to as usize] += 1;
            let changes = [from, to].map(|i| put(row(1, i), balances[i as usize]));
            store.apply(G, Slot(slot), changes.to_vec());
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn rows_only(store: &Store) -> Vec<(Key, Bytes)> {
    let (from, end) = all_rows();
    store.scan(&from, &end, 100).expect("it is readable")
}

type Hook = Box<dyn FnOnce() + Send>;

/// A twin that lets something happen right before its next scan.
struct Meddled {
    twin: Twin,
    before_scan: Mutex<Option<Hook>>,
}

impl Engine for Meddled {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.twin.get(key)
    }
    fn scan(&self, from: &Key, end: &Key, limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let hook = self.before_scan.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
        self.twin.scan(from, end, limit)
    }
    fn write(&self, batch: &CheckpointBatch) -> Result<(), StoreError> {
        self.twin.write(batch)
    }
    fn remove_range(&self, from: &Key, end: &Key) -> Result<(), StoreError> {
        self.twin.remove_range(from, end)
    }
    fn bytes_in(&self, from: &Key, end: &Key) -> u64 {
        self.twin.bytes_in(from, end)
    }
    fn begin_run(&self) -> Result<Box<dyn EngineRun>, StoreError> {
        self.twin.begin_run()
    }
    fn run_bytes(&self) -> usize {
        self.twin.run_bytes()
    }
    fn flush(&self) -> Result<(), StoreError> {
        self.twin.flush()
    }
    fn applied(&self, group: GroupId) -> Result<Slot, StoreError> {
        self.twin.applied(group)
    }
    fn persisted(&self, group: GroupId) -> Result<Slot, StoreError> {
        self.twin.persisted(group)
    }
    fn snapshot(&self) -> Result<Arc<dyn EngineSnapshot>, StoreError> {
        self.twin.snapshot()
    }
    fn stats(&self) -> EngineStats {
        self.twin.stats()
    }
}

#[test]
fn a_scan_starts_again_if_newer_records_reach_the_engine_meanwhile() {
    // Goal: no scan mixes an old active layer with a newer engine.
    let engine = Arc::new(Meddled { twin: Twin::new(), before_scan: Mutex::new(None) });
    let store = Arc::new(Store::open(engine.clone(), [G]).unwrap());
    store.apply(G, Slot(1), vec![put(row(1, 2), 0)]);
    checkpoint(&store);
    store.apply(G, Slot(2), vec![put(row(1, 1), 0)]);

    let meddler = Arc::clone(&store);
    *engine.before_scan.lock().unwrap() = Some(Box::new(move || {
        meddler.apply(G, Slot(3), vec![put(row(1, 1), 1), put(row(1, 2), 1)]);
        checkpoint(&meddler);
    }));
    assert_eq!(rows(&*store), [(1, 1), (2, 1)]);
}

#[test]
fn a_frozen_layer_that_is_finished_during_a_scan_is_still_read() {
    // Goal: finishing the checkpoint a scan looks through takes nothing from the scan.
    let engine = Arc::new(Meddled { twin: Twin::new(), before_scan: Mutex::new(None) });
    let store = Arc::new(Store::open(engine.clone(), [G]).unwrap());
    store.apply(G, Slot(1), vec![put(row(1, 1), 1)]);
    let begun = store.begin_checkpoint(Vec::new).unwrap();
    store.apply(G, Slot(2), vec![put(row(1, 2), 2)]);

    let meddler = Arc::clone(&store);
    *engine.before_scan.lock().unwrap() = Some(Box::new(move || {
        meddler.write_checkpoint(&begun, Durability::Buffered).unwrap();
        meddler.finish_checkpoint(begun);
    }));
    assert_eq!(rows(&*store), [(1, 1), (2, 2)]);
}

#[test]
fn memory_is_counted_once_per_record() {
    // Goal: overwriting replaces the old cost, removing keeps the marker's, freezing moves it all.
    let store = Store::open(Arc::new(Twin::new()), [G]).unwrap();
    let changed = |slot, change: Change| {
        store.apply(G, Slot(slot), vec![change]);
        store.changed_bytes()
    };
    let long = Change { key: row(1, 1), value: Some(vec![0; 1000].into()) };
    let with_long = changed(1, long.clone());
    assert_eq!(changed(2, long), with_long);
    assert_eq!(changed(3, put(row(1, 1), 0)), with_long - 1000 + 8);
    assert_eq!(changed(4, delete(row(1, 1))), with_long - 1000);

    let begun = store.begin_checkpoint(Vec::new).unwrap();
    let stats = store.stats();
    assert_eq!((stats.active_records, stats.active_bytes), (0, 0));
    assert_eq!((stats.frozen_records, stats.frozen_bytes as u64), (1, with_long - 1000));
    store.write_checkpoint(&begun, Durability::Buffered).unwrap();
    store.finish_checkpoint(begun);
    assert_eq!(store.stats().frozen_bytes, 0);
}

#[test]
#[should_panic(expected = "applies 3 after 1")]
fn a_gap_between_entries_is_our_own_bug() {
    // Goal: an entry is applied iff its slot is the applied position plus one.
    let store = Store::open(Arc::new(Twin::new()), [G]).unwrap();
    store.apply(G, Slot(1), vec![]);
    store.apply(G, Slot(3), vec![]);
}

#[test]
#[should_panic(expected = "applies 1 after 1")]
fn an_entry_applied_twice_is_our_own_bug() {
    // Goal: an entry is applied iff its slot is the applied position plus one.
    let store = Store::open(Arc::new(Twin::new()), [G]).unwrap();
    store.apply(G, Slot(1), vec![]);
    store.apply(G, Slot(1), vec![]);
}

#[test]
#[should_panic(expected = "finished before it was written")]
fn an_unwritten_checkpoint_cannot_be_finished() {
    // Goal: the frozen layer is never dropped before the engine has it.
    let store = Store::open(Arc::new(Twin::new()), [G]).unwrap();
    store.apply(G, Slot(1), vec![put(row(1, 1), 1)]);
    let begun = store.begin_checkpoint(Vec::new).unwrap();
    store.finish_checkpoint(begun);
}

#[test]
#[should_panic(expected = "changes an applied position")]
fn an_entry_cannot_write_positions() {
    // Goal: positions change only by applying.
    let store = Store::open(Arc::new(Twin::new()), [G]).unwrap();
    store.apply(G, Slot(1), vec![put(quorate_store::keys::applied(G), 9)]);
}

#[test]
fn a_checkpoint_that_fails_keeps_everything_readable_and_can_be_repeated() {
    // Goal: an engine that refuses loses nothing of what was applied.
    struct Refusing {
        twin: Twin,
        refused: OnceLock<()>,
    }
    impl Engine for Refusing {
        fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
            self.twin.get(key)
        }
        fn scan(
            &self,
            from: &Key,
            to: &Key,
            limit: usize,
        ) -> Result<Vec<(Key, Bytes)>, StoreError> {
            self.twin.scan(from, to, limit)
        }
        fn write(&self, batch: &CheckpointBatch) -> Result<(), StoreError> {
            match self.refused.set(()) {
                Ok(()) => Err(StoreError::Engine { what: "write", reason: "no".to_owned() }),
                Err(()) => self.twin.write(batch),
            }
        }
        fn remove_range(&self, from: &Key, end: &Key) -> Result<(), StoreError> {
            self.twin.remove_range(from, end)
        }
        fn bytes_in(&self, from: &Key, end: &Key) -> u64 {
            self.twin.bytes_in(from, end)
        }
        fn begin_run(&self) -> Result<Box<dyn EngineRun>, StoreError> {
            self.twin.begin_run()
        }
        fn run_bytes(&self) -> usize {
            self.twin.run_bytes()
        }
        fn flush(&self) -> Result<(), StoreError> {
            self.twin.flush()
        }
        fn applied(&self, group: GroupId) -> Result<Slot, StoreError> {
            self.twin.applied(group)
        }
        fn persisted(&self, group: GroupId) -> Result<Slot, StoreError> {
            self.twin.persisted(group)
        }
        fn snapshot(&self) -> Result<Arc<dyn EngineSnapshot>, StoreError> {
            self.twin.snapshot()
        }
        fn stats(&self) -> EngineStats {
            self.twin.stats()
        }
    }
    let engine = Refusing { twin: Twin::new(), refused: OnceLock::new() };
    let store = Store::open(Arc::new(engine), [G]).unwrap();
    store.apply(G, Slot(1), vec![put(row(1, 1), 1)]);
    let begun = store.begin_checkpoint(Vec::new).unwrap();
    assert!(store.write_checkpoint(&begun, Durability::Flushed).is_err());
    assert_eq!((rows(&store), store.persisted(G).unwrap()), (vec![(1, 1)], Slot(0)));
    store.write_checkpoint(&begun, Durability::Flushed).unwrap();
    store.finish_checkpoint(begun);
    assert_eq!((rows(&store), store.persisted(G).unwrap()), (vec![(1, 1)], Slot(1)));
}
