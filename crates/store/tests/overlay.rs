//! The overlay against a model that keeps every uncommitted entry.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not recognised as tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use common::{all_rows, delete, number, put, row};
use proptest::prelude::*;
use quorate_store::{Change, Key, Overlay, Store, Twin, View};
use quorate_types::{GroupId, Slot};

const G: GroupId = GroupId(1);

#[derive(Clone, Debug)]
enum Op {
    /// A new uncommitted entry.
    Push(Vec<(u64, Option<u64>)>),
    /// The oldest so many entries commit, are applied and settled.
    Commit(usize),
    /// The ballot changes: nothing uncommitted counts any more.
    Clear,
    Scan(u64, u64, usize),
}

fn any_op() -> impl Strategy<Value = Op> {
    let changes = proptest::collection::vec((0u64..12, proptest::option::of(0u64..100)), 0..5);
    prop_oneof![
        6 => changes.prop_map(Op::Push),
        3 => (0usize..4).prop_map(Op::Commit),
        1 => Just(Op::Clear),
        6 => (0u64..14, 0u64..14, 0usize..16).prop_map(|(a, b, limit)| Op::Scan(a, b, limit)),
    ]
}

fn check(ops: Vec<Op>) {
    let store = Store::open(Arc::new(Twin::new()), [G]).expect("an empty store opens");
    let mut overlay = Overlay::new();
    let mut uncommitted: Vec<(Slot, Vec<Change>)> = Vec::new();
    let mut committed: BTreeMap<Key, Bytes> = BTreeMap::new();
    for op in ops {
        match op {
            Op::Push(changes) => {
                let to_change = |(at, to): (u64, Option<u64>)| match to {
                    Some(to) => put(row(1, at), to),
                    None => delete(row(1, at)),
                };
                let changes: Vec<Change> = changes.into_iter().map(to_change).collect();
                let slot = overlay.last_slot().unwrap_or_else(|| store.applied(G)).next();
                overlay.push(slot, changes.clone());
                uncommitted.push((slot, changes));
            }
            Op::Commit(count) => {
                for (slot, changes) in uncommitted.drain(..count.min(uncommitted.len())) {
                    store.apply(G, slot, changes.clone());
                    fold(&mut committed, &changes);
                    overlay.settle(slot);
                }
            }
            Op::Clear => {
                overlay.clear();
                uncommitted.clear();
            }
            Op::Scan(from, end, limit) => {
                let mut rows = committed.clone();
                uncommitted.iter().for_each(|(_, changes)| fold(&mut rows, changes));
                let view = overlay.over(&store);
                for at in 0..12 {
                    assert_eq!(view.get(&row(1, at)).unwrap().as_ref(), rows.get(&row(1, at)));
                }
                let keys: Vec<Key> = (0..12).map(|at| row(1, at)).collect();
                let want = keys.iter().map(|key| rows.get(key).cloned());
                assert_eq!(view.get_many(&keys).unwrap(), want.collect::<Vec<_>>());
                let (from, end) = (row(1, from), row(1, end));
                let within = |key: &Key| from <= *key && *key < end;
                let want: Vec<_> =
                    rows.into_iter().filter(|(key, _)| within(key)).take(limit).collect();
                assert_eq!(view.scan(&from, &end, limit).unwrap(), want);
            }
        }
        assert_eq!(overlay.entries(), uncommitted.len());
        assert_eq!(overlay.last_slot(), uncommitted.last().map(|(slot, _)| *slot));
    }
    overlay.settle(Slot(u64::MAX));
    assert_eq!((overlay.bytes(), overlay.is_empty()), (0, true));
}

fn fold(rows: &mut BTreeMap<Key, Bytes>, changes: &[Change]) {
    for Change { key, value } in changes {
        match value {
            Some(value) => rows.insert(key.clone(), value.clone()),
            None => rows.remove(key),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    // Goal: the view is always the applied rows with every uncommitted entry on top, in order.
    #[test]
    fn an_overlay_shows_every_uncommitted_entry(ops in proptest::collection::vec(any_op(), 1..60)) {
        check(ops);
    }
}

#[test]
fn settling_an_entry_keeps_what_a_later_one_changed() {
    // Goal: the newest uncommitted change stays visible while older entries settle.
    let store = Store::open(Arc::new(Twin::new()), [G]).unwrap();
    let mut overlay = Overlay::new();
    overlay.push(Slot(1), vec![put(row(1, 1), 1), put(row(1, 2), 1)]);
    overlay.push(Slot(2), vec![put(row(1, 1), 2)]);
    overlay.push(Slot(3), vec![]);
    overlay.settle(Slot(1));
    assert_eq!(overlay.changed_at(&row(1, 1)), Some(Slot(2)));
    assert_eq!(overlay.changed_at(&row(1, 2)), None);
    assert_eq!(overlay.last_slot(), Some(Slot(3)));
    let (from, end) = all_rows();
    let found = overlay.over(&store).scan(&from, &end, 9).unwrap();
    assert_eq!(found.iter().map(|(_, value)| number(value)).collect::<Vec<_>>(), [2]);
}

#[test]
#[should_panic(expected = "2 pushed after 2")]
fn an_overlay_takes_entries_in_order() {
    // Goal: a slot pushed twice is our own bug.
    let mut overlay = Overlay::new();
    overlay.push(Slot(2), vec![]);
    overlay.push(Slot(2), vec![]);
}
