//! Hashes of rows, and rows in quarantine, on both engines.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not recognised as tests")]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Harness, put};
use quorate_store::{Durability, Keyspace, Pinned, RowsHasher, Store};
use quorate_types::{Difference, GroupId, RowsDigest, SliceId, Slot, TableId, Uid};

const G: GroupId = GroupId(1);

on_both_engines! {
    equal_rows_have_equal_digests_wherever_they_lie,
    a_digest_names_the_slice_that_differs,
    quarantine_outlives_a_crash_and_ends_with_other_rows,
}

fn open(harness: &impl Harness) -> Arc<Store> {
    Arc::new(Store::open(harness.engine(), [G]).expect("it opens"))
}

fn checkpoint(store: &Store, durability: Durability) {
    let begun = store.begin_checkpoint(Vec::new).expect("something was applied");
    store.write_checkpoint(&begun, durability).expect("it can be written");
    store.finish_checkpoint(begun);
}

/// Slots 1 to 30, each with a row in one of three slices and a session; `wrong` has another value.
fn fill(store: &Store, wrong: Option<u64>) {
    let space = store.keyspace(G);
    for slot in 1..=30 {
        let value = if wrong == Some(slot) { 0 } else { slot };
        let row = space.row(SliceId((slot % 3) as u16), TableId(1), Uid(slot), b"");
        store.apply(G, Slot(slot), vec![put(row, value), put(space.session(Slot(slot)), 1)]);
    }
}

fn digest(view: &Pinned, space: Keyspace, page: usize) -> RowsDigest {
    let mut hasher = RowsHasher::new();
    while !hasher.page(view, space, page).expect("it is readable") {}
    assert!(0 < hasher.bytes());
    hasher.finish()
}

fn digest_now(store: &Store) -> RowsDigest {
    let view = store.pin().expect("it is readable").expect("few views");
    digest(&view, store.keyspace(G), 200)
}

/// Goal: what counts are the records: not the size of the pages, nor whether they lie in memory, in the
/// engine or in another incarnation, nor what is applied after the view was pinned.
fn equal_rows_have_equal_digests_wherever_they_lie(mut harness: impl Harness) {
    let store = open(&harness);
    let space = store.keyspace(G);
    fill(&store, None);
    let view = store.pin().expect("it is readable").expect("few views");
    let expected = digest(&view, space, 1);
    assert_eq!(expected.slices.len(), 3);
    assert_eq!(digest(&view, space, usize::MAX), expected);
    store.apply(G, Slot(31), vec![put(space.session(Slot(1)), 2)]);
    assert_eq!(digest(&view, space, 200), expected);
    assert_ne!(digest_now(&store), expected);

    let mut installer = store.begin_install(G, 1, 0).unwrap();
    installer.write(view.page(space, None, usize::MAX).unwrap()).unwrap();
    let base = installer.end().unwrap();
    checkpoint(&store, Durability::Flushed);
    store.switch(G, Slot(31), base).unwrap();
    assert_eq!(digest_now(&store), expected);
    drop((view, store));
    harness.restart();
    assert_eq!(digest_now(&open(&harness)), expected);
}

/// Goal: people are told where to look.
fn a_digest_names_the_slice_that_differs(harness: impl Harness) {
    let store = open(&harness);
    fill(&store, Some(7));
    let other = Store::open(Arc::new(quorate_store::Twin::new()), [G]).unwrap();
    fill(&other, None);
    let difference = digest_now(&store).difference(&digest_now(&other));
    assert_eq!(difference, Difference { slices: vec![SliceId(1)], rest: false });
}

/// Goal: rows that were found to be wrong stay unused until others have taken their place, whatever
/// crashes in between.
fn quarantine_outlives_a_crash_and_ends_with_other_rows(mut harness: impl Harness) {
    let store = open(&harness);
    fill(&store, None);
    assert!(!store.is_quarantined(G));
    store.quarantine(G).unwrap();
    assert!(store.is_quarantined(G));
    drop(store);
    harness.crash(1);
    let store = open(&harness);
    assert!(store.is_quarantined(G), "the crash came after it was durable");

    let record = quorate_store::Portable {
        key: Bytes::from_static(&[0x24]),
        value: Bytes::from_static(&[1]),
    };
    let mut installer = store.begin_install(G, 1, 0).unwrap();
    installer.write(vec![record]).unwrap();
    store.switch(G, Slot(40), installer.end().unwrap()).unwrap();
    assert!(!store.is_quarantined(G));
    drop(store);
    harness.crash(2);
    assert!(!open(&harness).is_quarantined(G));
}
