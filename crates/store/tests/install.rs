//! Rows that come from another store: pages of a view, their installation beside the old rows, the switch,
//! what is left behind; and crashes at every step of it, on both engines.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not recognised as tests")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::{Harness, delete, number, put};
use quorate_store::{
    Base, Change, CheckpointBatch, Durability, Engine, EngineRun, EngineSnapshot, EngineStats, Key,
    Keyspace, Pinned, Portable, Store, StoreError, Tally, Twin, View, decode_page, encode_page,
};
use quorate_types::{Code, GroupId, SliceId, Slot, TableId, Uid};

const G: GroupId = GroupId(1);
const OTHER: GroupId = GroupId(2);
/// Rows of the snapshot, and where it stands.
const ROWS: u64 = 40;
const AT: Slot = Slot(7);

on_both_engines! {
    a_view_comes_over_whole_in_pages_of_any_size,
    installed_rows_count_from_the_switch_on,
    trap_24_an_interrupted_snapshot_leaves_no_mixture,
    old_rows_that_were_only_in_memory_never_come_back,
    an_installation_goes_on_after_a_restart_and_starts_anew_for_another_snapshot,
    only_the_last_installation_that_was_begun_writes,
    what_cannot_be_a_record_is_refused_before_anything_is_written,
    a_group_is_installed_while_another_writes_checkpoints,
    a_view_pinned_after_a_switch_sees_the_new_rows,
    a_view_for_a_snapshot_has_what_was_held_back,
    a_discarded_installation_leaves_nothing,
    rows_that_are_given_up_are_whole_or_gone_after_a_crash,
    what_comes_after_rows_that_were_given_up_sees_nothing_of_them,
}

fn row(space: Keyspace, at: u64) -> Key {
    space.row(SliceId(0), TableId(1), Uid(at), b"")
}

fn open(harness: &impl Harness) -> Arc<Store> {
    Arc::new(Store::open(harness.engine(), [G, OTHER]).expect("it opens"))
}

fn checkpoint(store: &Store, durability: Durability) {
    let begun = store.begin_checkpoint(Vec::new).expect("something was applied");
    store.write_checkpoint(&begun, durability).expect("it can be written");
    store.finish_checkpoint(begun);
}

/// The rows of a group as (number of the row, value).
fn rows(view: &dyn View, space: Keyspace) -> Vec<(u64, u64)> {
    let prefix = space.table_prefix(SliceId(0), TableId(1));
    let found = view.scan(&prefix, &prefix.prefix_end(), usize::MAX).expect("it is readable");
    let uid = |key: &Key| quorate_store::keys::parse_row(key).expect("a row key").2.0;
    found.iter().map(|(key, value)| (uid(key), number(value))).collect()
}

/// A store whose rows of the group are partly in the engine, partly in layers, and a view of it.
fn source() -> Pinned {
    let store = Store::open(Arc::new(Twin::new()), [G]).expect("it opens");
    let space = store.keyspace(G);
    for slot in 1..=AT.0 {
        let changes =
            (0..ROWS).filter(|at| at % AT.0 < slot).map(|at| put(row(space, at), at + 100));
        let mut changes: Vec<Change> = changes.collect();
        changes.push(put(space.session(Slot(slot)), slot));
        changes.push(put(row(space, 1000), slot));
        store.apply(G, Slot(slot), changes);
        if slot % 3 == 0 {
            checkpoint(&store, Durability::Buffered);
        }
    }
    let gone = delete(row(space, 1000));
    store.pin_with(|| vec![gone, put(space.cut(), 5)]).expect("it is readable").expect("few views")
}

fn want() -> Vec<(u64, u64)> {
    (0..ROWS).map(|at| (at, at + 100)).collect()
}

/// All records of a view, over the wire in pages of about so many bytes.
fn pages(view: &Pinned, mut after: Option<Bytes>, bytes: usize) -> Vec<Vec<Portable>> {
    let mut pages = Vec::new();
    loop {
        let page = view.page(Keyspace::first(G), after.as_deref(), bytes).expect("it is readable");
        let page = decode_page(encode_page(&page)).expect("our own page");
        let Some(last) = page.last() else { return pages };
        after = Some(last.key.clone());
        pages.push(page);
    }
}

fn base() -> Base {
    Base { incarnation: 1 }
}

/// Rows of its own for the group, at slot 3: what a replica has that is far behind.
fn behind(store: &Store, durability: Durability) {
    let space = store.keyspace(G);
    for slot in 1..=3 {
        store.apply(
            G,
            Slot(slot),
            vec![put(row(space, slot), slot), put(space.session(Slot(9)), 9)],
        );
    }
    checkpoint(store, durability);
}

const OLD: [(u64, u64); 3] = [(1, 1), (2, 2), (3, 3)];

/// Nothing of a keyspace is in the engine.
fn assert_gone(engine: &dyn Engine, space: Keyspace) {
    for tag in 0x10..=0xff_u8 {
        let front = [&[tag][..], &space.group.0.to_be_bytes(), &space.incarnation.to_be_bytes()];
        let from = Key::from_bytes(&front.concat());
        let found = engine.scan(&from, &from.prefix_end(), 1).expect("it is readable");
        assert!(found.is_empty(), "{:?} is still there", found[0].0);
    }
}

// Goal: pages of any size carry every record of the group once, in order, with the digest of all, and
// nothing of the store's own.
fn a_view_comes_over_whole_in_pages_of_any_size(_harness: impl Harness) {
    let view = source();
    let all: Vec<Portable> = pages(&view, None, usize::MAX).concat();
    assert_eq!(all.len() as u64, ROWS + AT.0 + 1);
    assert!(
        all.is_sorted_by(|a, b| a.key < b.key) && all.iter().all(|record| 0x10 <= record.key[0])
    );
    let tally = |records: &[Portable]| {
        let mut tally = Tally::default();
        records.iter().for_each(|record| tally.add(record));
        tally
    };
    for bytes in [1, 50, 333] {
        let pages = pages(&view, None, bytes);
        assert!(pages.iter().all(
            |page| page.len() == 1 || page.iter().map(Portable::bytes).sum::<usize>() <= bytes
        ));
        assert_eq!(pages.concat(), all);
        assert_eq!(tally(&pages.concat()), tally(&all));
    }
    for (index, record) in all.iter().enumerate() {
        assert_eq!(pages(&view, Some(record.key.clone()), 100).concat(), all[index + 1..]);
    }
}

// Goal: before the switch the old rows are read, after it the new ones, at the new position; the next
// entry goes on there, and what was installed survives restarts, with where it stands.
fn installed_rows_count_from_the_switch_on(mut harness: impl Harness) {
    let store = open(&harness);
    behind(&store, Durability::Buffered);
    let mut installer = store.begin_install(G, 77, 0).unwrap();
    for page in pages(&source(), None, 200) {
        installer.write(page).unwrap();
        assert_eq!(rows(&*store, store.keyspace(G)), OLD);
    }
    assert_eq!((store.base(G), store.applied(G)), (None, Slot(3)));
    let base_of_new = installer.end().unwrap();
    store.switch(G, AT, base_of_new).unwrap();

    let space = store.keyspace(G);
    assert_eq!((space.incarnation, store.base(G), store.applied(G)), (1, Some(base()), AT));
    assert_eq!((rows(&*store, space), store.persisted(G).unwrap()), (want(), AT));
    assert_eq!(store.get(&space.cut()).unwrap().as_ref().map(number), Some(5));
    assert_eq!(store.purge().unwrap(), 0);
    assert_gone(&*harness.engine(), Keyspace::first(G));

    store.apply(G, AT.next(), vec![put(row(space, 0), 1)]);
    checkpoint(&store, Durability::Flushed);
    drop(store);
    harness.crash(3);
    let store = open(&harness);
    assert_eq!((store.base(G), store.applied(G)), (Some(base()), AT.next()));
    let mut want = want();
    want[0] = (0, 1);
    assert_eq!(rows(&*store, store.keyspace(G)), want);
    assert!(store.install_progress(G).unwrap().is_none());
}

/// How many steps of a refill are left.
struct Steps(usize);

impl Steps {
    fn done(&mut self) -> bool {
        self.0 -= 1;
        self.0 == 0
    }
}

/// A refill of the group beside checkpoints of another, until `steps` are over. True if it ended.
fn refill(store: &Arc<Store>, view: &Pinned, steps: &mut Steps) -> bool {
    let other = |store: &Store| {
        let slot = store.applied(OTHER).next();
        store.apply(OTHER, slot, vec![put(row(store.keyspace(OTHER), slot.0 % 5), slot.0)]);
    };
    let mut installer = store.begin_install(G, 77, 0).unwrap();
    if steps.done() {
        return false;
    }
    for page in pages(view, installer.after().cloned(), 300) {
        other(store);
        let begun = store.begin_checkpoint(Vec::new).expect("something was applied");
        installer.write(page).unwrap();
        if steps.done() {
            return false;
        }
        store.write_checkpoint(&begun, Durability::Buffered).unwrap();
        store.finish_checkpoint(begun);
        if steps.done() {
            return false;
        }
    }
    // An entry of the old rows, in memory only.
    if store.applied(G) < AT {
        let slot = store.applied(G).next();
        store.apply(G, slot, vec![put(row(store.keyspace(G), 2000), 1)]);
    }
    let base = installer.end().unwrap();
    store.switch(G, AT, base).unwrap();
    if steps.done() {
        return false;
    }
    other(store);
    checkpoint(store, Durability::Buffered);
    if steps.done() {
        return false;
    }
    assert_eq!(store.purge().unwrap(), 0);
    !steps.done()
}

// Goal: whatever step a crash comes at and whatever it takes, the group has its old rows at their
// position or the new ones at theirs, and nothing in between; then a second try ends well, going on
// where the first one was broken off if that is still known, and nothing else is left.
fn trap_24_an_interrupted_snapshot_leaves_no_mixture(mut harness: impl Harness) {
    let view = source();
    let (mut olds, mut news, mut resumed) = (0, 0, 0);
    for step in 1.. {
        let mut ended = false;
        for seed in 0..3_u64 {
            let store = open(&harness);
            let (begins_at, seen) = (store.base(G), store.applied(G));
            // Every case begins with an old copy: that of the case before.
            let first = begins_at.as_ref().map_or(0, |base| base.incarnation);
            if first == 0 && seen == Slot::ZERO {
                behind(&store, Durability::Flushed);
            }
            let before = (store.keyspace(G), store.applied(G), rows(&*store, store.keyspace(G)));
            let is_over = refill(&store, &view, &mut Steps(step));
            ended |= is_over;
            if seed == 2 {
                store.flush().unwrap();
            }
            drop(store);
            harness.crash(seed * 31 + step as u64);

            let store = open(&harness);
            let (space, applied) = (store.keyspace(G), store.applied(G));
            let found = rows(&*store, space);
            if space.incarnation == first {
                assert!(!is_over, "step {step}: a switch was lost");
                assert_eq!((space, applied, found), before);
                olds += 1;
                resumed += u32::from(store.install_progress(G).unwrap().is_some());
            } else {
                assert_eq!((space.incarnation, applied, found), (first + 1, AT, want()));
                assert_gone(&*harness.engine(), before.0);
                news += 1;
            }
            if space.incarnation == first {
                assert!(refill(&store, &view, &mut Steps(usize::MAX)));
                assert_eq!(rows(&*store, store.keyspace(G)), want());
                assert_gone(&*harness.engine(), before.0);
            }
            let next = Keyspace { incarnation: store.keyspace(G).incarnation + 1, ..space };
            assert_gone(&*harness.engine(), next);
        }
        if ended {
            break;
        }
    }
    println!("{olds} old, {resumed} of them resumed, {news} new");
    assert!(5 < olds && 5 < news && 3 < resumed);
}

// Goal: what the row table holds of the old rows, in any of its layers, goes with them: it is never read
// again, and after the next checkpoint or start it is nowhere.
fn old_rows_that_were_only_in_memory_never_come_back(mut harness: impl Harness) {
    let store = open(&harness);
    let old = store.keyspace(G);
    store.apply(G, Slot(1), vec![put(row(old, 1), 1)]);
    checkpoint(&store, Durability::Flushed);
    store.apply(G, Slot(2), vec![put(row(old, 2), 2)]);
    let sealed = store.pin().unwrap().expect("few views");
    store.apply(G, Slot(3), vec![put(row(old, 3), 3)]);
    let mut installer = store.begin_install(G, 1, 0).unwrap();
    installer.write(pages(&source(), None, usize::MAX).concat()).unwrap();
    installer.end().unwrap();
    store.switch(G, AT, base()).unwrap();
    assert_eq!(rows(&sealed, old), OLD[..2], "the view keeps what it saw");
    assert_eq!(store.purge().unwrap(), 1, "layers hold changes of the old rows");

    let begun = store.begin_checkpoint(Vec::new).expect("the group moved");
    assert_eq!(begun.batch().applied[&G], AT, "no position of the old rows");
    store.write_checkpoint(&begun, Durability::Buffered).unwrap();
    assert_eq!(store.purge().unwrap(), 1, "the checkpoint is not finished");
    store.finish_checkpoint(begun);
    assert_eq!(store.purge().unwrap(), 0);
    assert_gone(&*harness.engine(), old);
    assert_eq!(rows(&sealed, old), OLD[..2], "nor does a purge take it from the view");
    drop(sealed);

    // The same, with a crash after a checkpoint and no purge.
    let old = store.keyspace(G);
    store.apply(G, AT.next(), vec![put(row(old, 1), 1)]);
    let mut installer = store.begin_install(G, 2, 0).unwrap();
    installer.write(pages(&source(), None, usize::MAX).concat()).unwrap();
    installer.end().unwrap();
    store.switch(G, Slot(20), Base { incarnation: 2 }).unwrap();
    checkpoint(&store, Durability::Flushed);
    drop(store);
    harness.crash(1);
    let store = open(&harness);
    assert_eq!((rows(&*store, store.keyspace(G)), store.applied(G)), (want(), Slot(20)));
    assert_gone(&*harness.engine(), old);
}

// Goal: the same snapshot goes on behind the last record that survived, with the count of all; another
// one begins with an empty keyspace.
fn an_installation_goes_on_after_a_restart_and_starts_anew_for_another_snapshot(
    mut harness: impl Harness,
) {
    let view = source();
    let all = pages(&view, None, 300);
    let (first, rest) = all.split_at(2);
    let store = open(&harness);
    let mut installer = store.begin_install(G, 77, 0).unwrap();
    first.iter().for_each(|page| installer.write(page.clone()).unwrap());
    let tally = installer.tally();
    installer.end().unwrap();
    drop(store);
    harness.restart();

    let store = open(&harness);
    assert_eq!(store.install_progress(G).unwrap().unwrap().snapshot, 77);
    let mut installer = store.begin_install(G, 77, 0).unwrap();
    assert_eq!(installer.after(), Some(&first[1].last().unwrap().key));
    assert_eq!((installer.tally(), tally.records), (tally, first.concat().len() as u64));
    rest.iter().for_each(|page| installer.write(page.clone()).unwrap());
    let mut whole = Tally::default();
    all.concat().iter().for_each(|record| whole.add(record));
    assert_eq!(installer.tally(), whole);
    installer.end().unwrap();
    drop(store);
    harness.restart();

    let store = open(&harness);
    let mut installer = store.begin_install(G, 78, 0).unwrap();
    assert_eq!((installer.after(), installer.tally()), (None, Tally::default()));
    assert_gone(&*harness.engine(), Keyspace { incarnation: 1, ..Keyspace::first(G) });
    assert_eq!(store.install_progress(G).unwrap().unwrap().after, None);
    installer.write(all[1].clone()).unwrap();
    installer.end().unwrap();
    store.switch(G, AT, base()).unwrap();
    assert_eq!(rows(&*store, store.keyspace(G)).len(), all[1].len(), "only what was written now");
}

// Goal: an installation that was given up, but still runs somewhere, cannot write into its successor, nor
// into rows that count.
fn only_the_last_installation_that_was_begun_writes(harness: impl Harness) {
    let store = open(&harness);
    let all = pages(&source(), None, 300);
    let mut old = store.begin_install(G, 77, 0).unwrap();
    old.write(all[0].clone()).unwrap();
    let mut new = store.begin_install(G, 78, 0).unwrap();
    let refused = old.write(all[1].clone()).unwrap_err();
    assert!(matches!(refused, StoreError::Overtaken { group: G }), "{refused}");
    assert!(matches!(old.discard(), Err(StoreError::Overtaken { .. })));
    all.iter().for_each(|page| new.write(page.clone()).unwrap());
    new.end().unwrap();
    let mut new = store.begin_install(G, 78, 0).unwrap();
    store.switch(G, AT, base()).unwrap();
    let late = Portable { key: vec![0x34; 27].into(), value: Bytes::new() };
    assert!(matches!(new.write(vec![late]), Err(StoreError::Overtaken { .. })));
    assert_eq!(rows(&*store, store.keyspace(G)), want());
}

// Goal: a record of the store, one out of order, one of no known kind stop the whole page.
fn what_cannot_be_a_record_is_refused_before_anything_is_written(harness: impl Harness) {
    let store = open(&harness);
    let good = pages(&source(), None, 300)[0].clone();
    let record = |key: &[u8]| Portable { key: Bytes::copy_from_slice(key), value: Bytes::new() };
    let out_of_order = good[0].clone();
    for bad in [record(&[1, 0, 0, 0, 1]), record(&[0x35; 9]), record(&[0x21; 9]), out_of_order] {
        let mut installer = store.begin_install(G, 1, 0).unwrap();
        let refused = installer.write([good.clone(), vec![bad]].concat()).unwrap_err();
        assert!(matches!(refused, StoreError::Foreign { .. }), "{refused}");
        assert_eq!((refused.code(), installer.tally().records), (Code::SnapshotDamaged, 0));
    }
    assert_gone(&*harness.engine(), Keyspace { incarnation: 1, ..Keyspace::first(G) });
}

// Goal: both write to the engine from threads of their own, and neither disturbs the other.
fn a_group_is_installed_while_another_writes_checkpoints(mut harness: impl Harness) {
    let store = open(&harness);
    let (view, done) = (source(), AtomicBool::new(false));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for round in 0..20 {
                let mut installer = store.begin_install(G, round, 0).unwrap();
                for page in pages(&view, None, 100) {
                    installer.write(page).unwrap();
                }
                let base = installer.end().unwrap();
                while store.begin_checkpoint(Vec::new).is_some_and(|begun| {
                    store.write_checkpoint(&begun, Durability::Buffered).unwrap();
                    store.finish_checkpoint(begun);
                    false
                }) {}
                store.switch(G, AT, base).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        let space = store.keyspace(OTHER);
        for slot in 1.. {
            store.apply(OTHER, Slot(slot), vec![put(row(space, slot % 7), slot)]);
            if let Some(begun) = store.begin_checkpoint(Vec::new) {
                store.write_checkpoint(&begun, Durability::Buffered).unwrap();
                store.finish_checkpoint(begun);
                store.purge().unwrap();
            }
            if done.load(Ordering::Acquire) && 100 < slot {
                break;
            }
        }
    });
    let (slot, others) = (store.applied(OTHER), rows(&*store, store.keyspace(OTHER)));
    checkpoint_if_any(&store);
    store.flush().unwrap();
    drop(store);
    harness.crash(5);
    let store = open(&harness);
    assert_eq!((store.applied(OTHER), rows(&*store, store.keyspace(OTHER))), (slot, others));
    assert_eq!(rows(&*store, store.keyspace(G)), want());
    for incarnation in 0..store.keyspace(G).incarnation {
        assert_gone(&*harness.engine(), Keyspace { group: G, incarnation });
    }
}

fn checkpoint_if_any(store: &Store) {
    if let Some(begun) = store.begin_checkpoint(Vec::new) {
        store.write_checkpoint(&begun, Durability::Buffered).unwrap();
        store.finish_checkpoint(begun);
    }
}

// Goal: views share what the engine held when the one before was pinned, but not across a switch.
fn a_view_pinned_after_a_switch_sees_the_new_rows(harness: impl Harness) {
    let store = open(&harness);
    behind(&store, Durability::Buffered);
    let before = store.pin().unwrap().expect("few views");
    let mut installer = store.begin_install(G, 1, 0).unwrap();
    installer.write(pages(&source(), None, usize::MAX).concat()).unwrap();
    installer.end().unwrap();
    let between = store.pin().unwrap().expect("few views");
    store.switch(G, AT, base()).unwrap();
    let after = store.pin().unwrap().expect("few views");
    assert_eq!(rows(&after, store.keyspace(G)), want());
    store.purge().unwrap();
    for view in [before, between] {
        assert_eq!(rows(&view, Keyspace::first(G)), OLD);
    }
}

// Goal: changes held back for checkpoints are in such a view; the next checkpoint has them too, and those
// that came after.
fn a_view_for_a_snapshot_has_what_was_held_back(harness: impl Harness) {
    let store = open(&harness);
    let space = store.keyspace(G);
    store.apply(G, Slot(1), vec![put(row(space, 1), 1)]);
    let view = store.pin_with(|| vec![put(row(space, 2), 2), put(row(space, 3), 3)]).unwrap();
    let view = view.expect("few views");
    store.apply(G, Slot(2), vec![put(row(space, 1), 10)]);
    let begun = store.begin_checkpoint(|| vec![delete(row(space, 3))]).unwrap();
    store.write_checkpoint(&begun, Durability::Buffered).unwrap();
    store.finish_checkpoint(begun);
    assert_eq!(rows(&view, space), OLD);
    assert_eq!(rows(&*store, space), [(1, 10), (2, 2)]);
    let engine = harness.engine();
    assert_eq!(engine.get(&row(space, 2)).unwrap().as_ref().map(number), Some(2));
    assert_eq!(engine.get(&row(space, 3)).unwrap(), None);
}

// Goal: what was thrown away is not gone on with, whatever a crash brings back of it.
fn a_discarded_installation_leaves_nothing(mut harness: impl Harness) {
    let view = source();
    for seed in 0..6 {
        let store = open(&harness);
        let mut installer = store.begin_install(G, 77, 0).unwrap();
        assert_eq!(installer.after(), None);
        pages(&view, None, 300).into_iter().for_each(|page| installer.write(page).unwrap());
        if seed % 2 == 0 {
            store.flush().unwrap();
        }
        installer.discard().unwrap();
        drop(store);
        harness.crash(seed);
        let store = open(&harness);
        assert!(store.install_progress(G).unwrap().is_none());
        assert_gone(&*harness.engine(), Keyspace { incarnation: 1, ..Keyspace::first(G) });
    }
}

type Hook = Box<dyn FnOnce() + Send>;

/// A twin that lets something happen right before its next flush.
struct Meddled {
    twin: Twin,
    before_flush: Mutex<Option<Hook>>,
}

impl Engine for Meddled {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.twin.get(key)
    }
    fn scan(&self, from: &Key, end: &Key, limit: usize) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.twin.scan(from, end, limit)
    }
    fn write(&self, batch: &CheckpointBatch) -> Result<(), StoreError> {
        self.twin.write(batch)
    }
    fn remove_range(&self, from: &Key, end: &Key) -> Result<(), StoreError> {
        self.twin.remove_range(from, end)
    }
    fn begin_run(&self) -> Result<Box<dyn EngineRun>, StoreError> {
        self.twin.begin_run()
    }
    fn run_bytes(&self) -> usize {
        self.twin.run_bytes()
    }
    fn flush(&self) -> Result<(), StoreError> {
        let hook = self.before_flush.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
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
    fn bytes_in(&self, from: &Key, end: &Key) -> u64 {
        self.twin.bytes_in(from, end)
    }
    fn stats(&self) -> EngineStats {
        self.twin.stats()
    }
}

#[test]
fn no_checkpoint_begins_while_rows_are_switched() {
    // Goal: a batch with the position of the old rows can never follow the switch, nor one with their
    // changes and without that position come before it.
    let engine = Arc::new(Meddled { twin: Twin::new(), before_flush: Mutex::new(None) });
    let store = Arc::new(Store::open(engine.clone(), [G]).unwrap());
    behind(&store, Durability::Buffered);
    store.apply(G, Slot(4), vec![put(row(Keyspace::first(G), 4), 4)]);
    let (meddler, called) = (Arc::clone(&store), Arc::new(AtomicBool::new(false)));
    let has_run = Arc::clone(&called);
    *engine.before_flush.lock().unwrap() = Some(Box::new(move || {
        assert!(meddler.is_switching());
        assert!(meddler.begin_checkpoint(|| panic!("none can begin")).is_none());
        assert_eq!(
            rows(&*meddler, meddler.keyspace(G)).len(),
            4,
            "the old rows are read until then"
        );
        has_run.store(true, Ordering::Release);
    }));
    store.switch(G, AT, base()).unwrap();
    assert!(called.load(Ordering::Acquire) && !store.is_switching());
    let begun = store.begin_checkpoint(Vec::new).expect("now it can");
    assert_eq!(begun.batch().applied[&G], AT);
}

#[test]
#[should_panic(expected = "during a checkpoint of them")]
fn a_switch_waits_for_a_checkpoint_of_the_group() {
    // Goal: the frozen position of the old rows would be written after the switch.
    let store = Store::open(Arc::new(Twin::new()), [G]).unwrap();
    store.apply(G, Slot(1), vec![]);
    let _frozen = store.begin_checkpoint(Vec::new).unwrap();
    let _never = store.switch(G, AT, base());
}

#[test]
#[should_panic(expected = "would go back")]
fn a_switch_never_goes_back() {
    // Goal: what was applied, and perhaps answered, is never taken back by older rows.
    let store = Store::open(Arc::new(Twin::new()), [G]).unwrap();
    (1..=AT.0 + 1).for_each(|slot| store.apply(G, Slot(slot), vec![]));
    let _never = store.switch(G, AT, base());
}

// Goal: whatever step of giving up a crash comes at, the rows are as they were or there are none, and giving up once
// more leaves nothing of them; the other group has lost nothing.
fn rows_that_are_given_up_are_whole_or_gone_after_a_crash(mut harness: impl Harness) {
    let view = source();
    let (mut olds, mut gones) = (0, 0);
    for case in 0..12_u64 {
        let store = open(&harness);
        let space = store.keyspace(G);
        let other = store.applied(OTHER).next();
        store.apply(OTHER, other, vec![put(row(store.keyspace(OTHER), 1), other.0)]);
        behind(&store, Durability::Flushed);
        let mut installer = store.begin_install(G, case.into(), 0).unwrap();
        let mut pages = pages(&view, None, 300).into_iter();
        installer.write(pages.next().expect("there are some")).unwrap();
        if case % 2 == 0 {
            store.quarantine(G).unwrap();
        }
        store.apply(G, Slot(4), vec![put(row(space, 4), 4)]); // In memory only.
        let is_given_up = 0 < case % 4;
        if is_given_up {
            store.give_up(G).unwrap();
            let late = installer.write(pages.next().expect("there are some"));
            assert!(matches!(late, Err(StoreError::Overtaken { group: G })));
            let late = store.begin_install(G, 99, 0).map(|_| ());
            assert!(matches!(late, Err(StoreError::Overtaken { group: G })));
        }
        if 1 < case % 4 {
            store.purge().unwrap();
        }
        if case % 4 == 3 {
            store.apply(OTHER, other.next(), vec![]);
            checkpoint(&store, Durability::Flushed);
            assert_eq!(store.purge().unwrap(), 0);
        }
        drop(store);
        harness.crash(case * 17);

        let store = open(&harness);
        if store.applied(G) == Slot::ZERO {
            assert!(rows(&*store, store.keyspace(G)).is_empty() && !store.is_quarantined(G));
            gones += 1;
        } else {
            assert!(!is_given_up, "case {case}: it was flushed");
            assert_eq!((store.applied(G), rows(&*store, space)), (Slot(3), OLD.to_vec()));
            olds += 1;
        }
        store.give_up(G).unwrap();
        store.give_up(G).unwrap();
        assert_eq!(store.purge().unwrap(), 0);
        for incarnation in 0..=space.incarnation + 4 {
            assert_gone(&*harness.engine(), Keyspace { incarnation, ..space });
        }
        assert!(other <= store.applied(OTHER));
        assert_eq!(rows(&*store, store.keyspace(OTHER)), [(1, other.0)]);
    }
    assert_eq!((olds, gones), (3, 9));
}

// Goal: a group that is taken in again begins with nothing, although the row table still held changes of the rows
// before when they were given up; and when those have come to the engine, they go and its own stay.
fn what_comes_after_rows_that_were_given_up_sees_nothing_of_them(harness: impl Harness) {
    let store = open(&harness);
    let old = store.keyspace(G);
    behind(&store, Durability::Flushed);
    store.apply(G, Slot(4), vec![put(row(old, 4), 4)]);
    let view = store.pin().unwrap().expect("few views");
    store.give_up(G).unwrap();
    assert_eq!(store.purge().unwrap(), 2, "layers hold changes of the old rows");
    assert_eq!(rows(&view, old).len(), 4, "who reads a view goes on");

    store.add_group(G).unwrap();
    let new = store.keyspace(G);
    assert_eq!((store.applied(G), store.persisted(G).unwrap()), (Slot::ZERO, Slot::ZERO));
    assert!(rows(&*store, new).is_empty());
    store.apply(G, Slot(1), vec![put(row(new, 1), 7)]);
    checkpoint(&store, Durability::Flushed);
    assert_eq!(store.purge().unwrap(), 0);
    assert_gone(&*harness.engine(), old);
    assert_eq!(rows(&*store, new), [(1, 7)]);
    assert_eq!(store.persisted(G).unwrap(), Slot(1));
    assert_eq!(rows(&view, old).len(), 4, "nor is anything taken from it later");
}
