//! What every engine must do, run against RocksDB and against its twin.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not recognised as tests")]

mod common;

use std::sync::Arc;

use common::{Harness, all_rows, batch, delete, number, put, row};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use quorate_store::{Engine, EngineRun, Key};
use quorate_types::{GroupId, Slot};

const G: GroupId = GroupId(1);

on_both_engines! {
    written_records_are_read_until_removed,
    a_scan_keeps_order_bounds_and_limit,
    positions_persist_with_a_flush_and_not_before,
    a_position_of_one_group_moves_alone,
    an_orderly_stop_loses_nothing,
    a_crash_keeps_what_was_flushed_and_whole_batches,
    the_same_batch_twice_is_as_once,
    scans_equal_those_of_a_map,
    older_layers_of_a_batch_lose_to_newer_ones,
    a_snapshot_stands_still,
    a_removed_range_is_gone_and_nothing_beside_it,
    a_crash_keeps_removals_in_their_place,
    a_run_is_there_for_good_from_its_end_on,
    a_run_lies_over_what_was_written_before_and_under_what_comes_later,
    a_run_that_does_not_end_leaves_nothing,
}

fn numbers(found: &[(Key, bytes::Bytes)]) -> Vec<u64> {
    found.iter().map(|(_, value)| number(value)).collect()
}

// Goal: get finds the last value written, and nothing after a removal; an empty value is a value.
fn written_records_are_read_until_removed(harness: impl Harness) {
    let engine = harness.engine();
    assert_eq!(engine.get(&row(1, 1)).unwrap(), None);
    engine.write(&batch(1, 1, vec![put(row(1, 1), 10), put(row(1, 2), 20)])).unwrap();
    engine.flush().unwrap();
    engine.write(&batch(1, 2, vec![put(row(1, 1), 11), delete(row(1, 2))])).unwrap();
    assert_eq!(number(&engine.get(&row(1, 1)).unwrap().unwrap()), 11);
    assert_eq!(engine.get(&row(1, 2)).unwrap(), None);

    let mut empty = put(row(1, 3), 0);
    empty.value = Some(bytes::Bytes::new());
    engine.write(&batch(1, 3, vec![empty])).unwrap();
    assert_eq!(engine.get(&row(1, 3)).unwrap(), Some(bytes::Bytes::new()));
}

// Goal: a scan is half-open, sorted, limited, and empty for an empty or reversed range.
fn a_scan_keeps_order_bounds_and_limit(harness: impl Harness) {
    let engine = harness.engine();
    let changes = (1..=5).map(|i| put(row(1, i), i)).chain([put(row(2, 1), 99)]).collect();
    engine.write(&batch(1, 1, changes)).unwrap();

    let scan = |from: u64, end: u64, limit| {
        numbers(&engine.scan(&row(1, from), &row(1, end), limit).unwrap())
    };
    assert_eq!(scan(2, 4, 10), [2, 3]);
    assert_eq!(scan(0, 100, 10), [1, 2, 3, 4, 5]);
    assert_eq!(scan(0, 100, 2), [1, 2]);
    assert_eq!(scan(0, 100, 0), [0; 0]);
    assert_eq!(scan(3, 3, 10), [0; 0]);
    assert_eq!(scan(4, 2, 10), [0; 0]);
    let (from, end) = all_rows();
    assert_eq!(numbers(&engine.scan(&from, &end, usize::MAX).unwrap()), [1, 2, 3, 4, 5, 99]);
}

// Goal: `applied` follows every write, `persisted` follows only what a crash cannot take.
fn positions_persist_with_a_flush_and_not_before(harness: impl Harness) {
    let engine = harness.engine();
    let positions = || (engine.applied(G).unwrap(), engine.persisted(G).unwrap());
    assert_eq!(positions(), (Slot(0), Slot(0)));
    engine.write(&batch(1, 3, vec![put(row(1, 1), 1)])).unwrap();
    assert_eq!(positions(), (Slot(3), Slot(0)));
    engine.flush().unwrap();
    assert_eq!(positions(), (Slot(3), Slot(3)));
    engine.write(&batch(1, 7, vec![])).unwrap();
    assert_eq!(positions(), (Slot(7), Slot(3)));
    engine.flush().unwrap();
    engine.flush().unwrap();
    assert_eq!(positions(), (Slot(7), Slot(7)));
}

// Goal: a batch moves the groups it names and no other.
fn a_position_of_one_group_moves_alone(harness: impl Harness) {
    let engine = harness.engine();
    engine.write(&batch(1, 3, vec![])).unwrap();
    engine.write(&batch(2, 5, vec![])).unwrap();
    assert_eq!(engine.applied(GroupId(1)).unwrap(), Slot(3));
    assert_eq!(engine.applied(GroupId(2)).unwrap(), Slot(5));
    assert_eq!(engine.applied(GroupId(3)).unwrap(), Slot(0));
}

// Goal: a stop in order persists what was only written, and after it everything is persisted.
fn an_orderly_stop_loses_nothing(mut harness: impl Harness) {
    harness.engine().write(&batch(1, 3, vec![put(row(1, 1), 1)])).unwrap();
    harness.restart();
    let engine = harness.engine();
    assert_eq!(number(&engine.get(&row(1, 1)).unwrap().unwrap()), 1);
    assert_eq!(engine.applied(G).unwrap(), Slot(3));
    assert_eq!(engine.persisted(G).unwrap(), Slot(3));
}

// Goal: after a crash rows and position are those of one batch, at or after the last flush.
fn a_crash_keeps_what_was_flushed_and_whole_batches(mut harness: impl Harness) {
    for seed in 0..8 {
        let base = harness.engine().applied(G).unwrap().0;
        for step in 1..=4 {
            let slot = base + step;
            let changes = (0..10).map(|i| put(row(1, i), slot)).collect();
            harness.engine().write(&batch(1, slot, changes)).unwrap();
            if step == 2 {
                harness.engine().flush().unwrap();
            }
        }
        let persisted = harness.engine().persisted(G).unwrap();
        assert!(Slot(base + 2) <= persisted);
        harness.crash(seed);

        let engine = harness.engine();
        let left = engine.applied(G).unwrap();
        assert!(persisted <= left && left <= Slot(base + 4));
        assert_eq!(engine.persisted(G).unwrap(), left);
        let (from, end) = all_rows();
        assert_eq!(numbers(&engine.scan(&from, &end, 100).unwrap()), [left.0; 10]);
    }
}

// Goal: a checkpoint whose write failed half-way for the caller may be written again.
fn the_same_batch_twice_is_as_once(harness: impl Harness) {
    let engine = harness.engine();
    engine.write(&batch(1, 1, vec![put(row(1, 1), 1), put(row(1, 2), 2)])).unwrap();
    let again = batch(1, 2, vec![put(row(1, 1), 3), delete(row(1, 2))]);
    engine.write(&again).unwrap();
    engine.write(&again).unwrap();
    let (from, end) = all_rows();
    assert_eq!(numbers(&engine.scan(&from, &end, 100).unwrap()), [3]);
    assert_eq!(engine.applied(G).unwrap(), Slot(2));
}

// Goal: whatever is written, flushed and removed, any scan equals that of a sorted map.
fn scans_equal_those_of_a_map(harness: impl Harness) {
    let change = (0u64..32, proptest::option::of(0u64..100));
    let batches = proptest::collection::vec(proptest::collection::vec(change, 0..8), 1..6);
    let input = (batches, 0u64..34, 0u64..34, 0usize..40);
    let engine = harness.engine();
    let model = std::cell::RefCell::new(std::collections::BTreeMap::new());
    let check = |(batches, from, end, limit): (Vec<Vec<_>>, u64, u64, usize)| {
        let mut model = model.borrow_mut();
        for (index, changes) in batches.into_iter().enumerate() {
            let mut written = Vec::new();
            for (at, to) in changes {
                match to {
                    Some(to) => {
                        model.insert(row(1, at), to);
                        written.push(put(row(1, at), to));
                    }
                    None => {
                        model.remove(&row(1, at));
                        written.push(delete(row(1, at)));
                    }
                }
            }
            engine.write(&batch(1, 1, written)).unwrap();
            if index % 3 == 2 {
                engine.flush().unwrap();
            }
        }
        let (from, end) = (row(1, from), row(1, end));
        let want = model.iter().filter(|(key, _)| from <= **key && **key < end).take(limit);
        let want: Vec<u64> = want.map(|(_, value)| *value).collect();
        prop_assert_eq!(numbers(&engine.scan(&from, &end, limit).unwrap()), want);
        Ok(())
    };
    // One engine for all cases: what earlier cases left is part of the test.
    let config = Config { cases: 48, max_shrink_iters: 0, ..Config::default() };
    TestRunner::new(config).run(&input, check).unwrap();
}

// Goal: of a record that stands in several layers of a batch the newest counts, removals too.
fn older_layers_of_a_batch_lose_to_newer_ones(harness: impl Harness) {
    let engine = harness.engine();
    let layer = |changes| Arc::new(batch(1, 1, changes).records);
    let mut written = batch(1, 3, vec![put(row(1, 1), 13), delete(row(1, 2))]);
    written.older.push(layer(vec![put(row(1, 1), 11), put(row(1, 2), 21), put(row(1, 3), 31)]));
    written.older.push(layer(vec![put(row(1, 1), 12), delete(row(1, 3)), put(row(1, 4), 42)]));
    engine.write(&written).unwrap();
    let (from, end) = all_rows();
    assert_eq!(numbers(&engine.scan(&from, &end, 100).unwrap()), [13, 42]);
}

// Goal: whatever is written, flushed and removed afterwards, a snapshot reads what it read first; those
// who made it may be gone.
fn a_snapshot_stands_still(harness: impl Harness) {
    let engine = harness.engine();
    engine.write(&batch(1, 1, vec![put(row(1, 1), 1), put(row(1, 2), 2)])).unwrap();
    let snapshot = engine.snapshot().unwrap();
    let (from, end) = all_rows();
    for slot in 2..6 {
        let changes = vec![put(row(1, 1), 10 * slot), delete(row(1, 2)), put(row(1, slot), slot)];
        engine.write(&batch(1, slot, changes)).unwrap();
        engine.flush().unwrap();
        assert_eq!(numbers(&snapshot.scan(&from, &end, 100).unwrap()), [1, 2]);
        assert_eq!(numbers(&snapshot.scan(&row(1, 2), &end, 100).unwrap()), [2]);
        assert_eq!(numbers(&snapshot.scan(&from, &end, 1).unwrap()), [1]);
        assert_eq!(snapshot.get(&row(1, 5)).unwrap(), None);
        let many = snapshot.get_many(&[row(1, 5), row(1, 2), row(1, 1)]).unwrap();
        let many: Vec<_> = many.iter().map(|value| value.as_ref().map(number)).collect();
        assert_eq!(many, [None, Some(2), Some(1)]);
        assert!(snapshot.get_many(&[]).unwrap().is_empty());
    }
    let later = engine.snapshot().unwrap();
    drop(engine);
    drop(harness);
    assert_eq!(number(&snapshot.get(&row(1, 1)).unwrap().unwrap()), 1);
    assert_eq!(numbers(&later.scan(&from, &end, 100).unwrap()), [50, 3, 4, 5]);
}

// Goal: a range is half-open, also where its end is a key; snapshots keep what they saw.
fn a_removed_range_is_gone_and_nothing_beside_it(harness: impl Harness) {
    let engine = harness.engine();
    let (from, end) = all_rows();
    for round in 0..6_u64 {
        let changes = (0..20).map(|at| put(row(1, at), at)).collect();
        engine.write(&batch(1, round + 1, changes)).unwrap();
        if round % 2 == 0 {
            engine.flush().unwrap();
        }
        let snapshot = engine.snapshot().unwrap();
        let kept = (round < 3).then_some(&snapshot);
        if kept.is_none() {
            drop(engine.snapshot());
        }
        engine.remove_range(&row(1, 3), &row(1, 18)).unwrap();
        assert_eq!(numbers(&engine.scan(&from, &end, 100).unwrap()), [0, 1, 2, 18, 19]);
        assert_eq!(engine.get(&row(1, 18)).unwrap().as_ref().map(number), Some(18));
        assert_eq!(numbers(&snapshot.scan(&from, &end, 100).unwrap()).len(), 20);
        assert_eq!(engine.applied(G).unwrap(), Slot(round + 1));
    }
    engine.write(&batch(1, 9, vec![put(row(1, 5), 55)])).unwrap();
    assert_eq!(numbers(&engine.scan(&from, &end, 100).unwrap()), [0, 1, 2, 55, 18, 19]);
    assert_eq!(engine.bytes_in(&end, &from), 0);
}

// Goal: a crash that keeps what was written after a removal keeps the removal; one that does not may have
// lost a part of the range nevertheless, and nothing beside it.
fn a_crash_keeps_removals_in_their_place(mut harness: impl Harness) {
    for seed in 0..12 {
        let base = harness.engine().applied(G).unwrap().0;
        let changes = (0..20).map(|at| put(row(1, at), at)).collect();
        harness.engine().write(&batch(1, base + 1, changes)).unwrap();
        harness.engine().flush().unwrap();
        harness.engine().remove_range(&row(1, 5), &row(1, 15)).unwrap();
        harness.engine().write(&batch(1, base + 2, vec![put(row(1, 10), 100)])).unwrap();
        harness.crash(seed);

        let engine = harness.engine();
        let left = numbers(&engine.scan(&row(1, 5), &row(1, 15), 100).unwrap());
        if engine.applied(G).unwrap().0 == base + 2 {
            assert_eq!(left, [100]);
        } else {
            assert!(left.iter().all(|at| (5..15).contains(at)));
        }
        let beside = engine.scan(&row(1, 0), &row(1, 5), 100).unwrap();
        let beside = [beside, engine.scan(&row(1, 15), &row(1, 99), 100).unwrap()].concat();
        assert_eq!(numbers(&beside), [0, 1, 2, 3, 4, 15, 16, 17, 18, 19]);
    }
}

/// A run of rows with these numbers as values.
fn run(engine: &dyn Engine, records: &[(u64, u64)]) -> Box<dyn EngineRun> {
    let mut run = engine.begin_run().unwrap();
    for (at, to) in records {
        run.add(&row(1, *at), &common::value(*to)).unwrap();
    }
    run
}

// Goal: what a run brings is read at once and outlives a crash that takes writes from before it.
fn a_run_is_there_for_good_from_its_end_on(mut harness: impl Harness) {
    for seed in 0..12 {
        let engine = harness.engine();
        engine.write(&batch(1, seed + 1, vec![put(row(1, 100), seed)])).unwrap();
        let snapshot = engine.snapshot().unwrap();
        let (first, many) = (seed * 1000 + 1000, 300);
        let records: Vec<(u64, u64)> = (0..many).map(|at| (first + at, at)).collect();
        run(&*engine, &records).end().unwrap();
        let (from, end) = (row(1, first), row(1, first + many));
        assert_eq!(snapshot.scan(&from, &end, 1000).unwrap(), []);
        for _ in 0..2 {
            let found = numbers(&harness.engine().scan(&from, &end, 1000).unwrap());
            assert_eq!(found, (0..many).collect::<Vec<_>>());
            harness.crash(seed);
        }
    }
}

// Goal: order holds for records that are in a run and in writes, whatever a crash takes: a write or a removal from
// before never comes back over the run, and of one that came later nothing else is left than what it made of it.
fn a_run_lies_over_what_was_written_before_and_under_what_comes_later(mut harness: impl Harness) {
    let rows = |engine: &dyn Engine| -> Vec<u64> {
        numbers(&engine.scan(&row(1, 0), &row(1, 99), 100).unwrap())
    };
    for seed in 0..12 {
        let engine = harness.engine();
        let before = |from: u64| (0..8).map(|at| put(row(1, at), at + from)).collect::<Vec<_>>();
        engine.write(&batch(1, 3 * seed + 1, before(10))).unwrap();
        engine.flush().unwrap();
        if seed % 2 == 0 {
            engine.remove_range(&row(1, 0), &row(1, 8)).unwrap();
        } else {
            engine.write(&batch(1, 3 * seed + 2, before(20))).unwrap();
        }
        run(&*engine, &[(2, 102), (3, 103), (4, 104)]).end().unwrap();
        let without = if seed % 2 == 0 {
            vec![102, 103, 104]
        } else {
            vec![20, 21, 102, 103, 104, 25, 26, 27]
        };
        assert_eq!(rows(&*engine), without);
        harness.crash(seed);
        assert_eq!(rows(&*harness.engine()), without, "with {seed}");

        let engine = harness.engine();
        engine
            .write(&batch(1, 3 * seed + 3, vec![put(row(1, 3), 203), delete(row(1, 4))]))
            .unwrap();
        let with: Vec<u64> = without.iter().filter(|it| **it != 104).copied().collect();
        let with: Vec<u64> = with.into_iter().map(|it| if it == 103 { 203 } else { it }).collect();
        assert_eq!(rows(&*engine), with);
        harness.crash(seed);
        let found = rows(&*harness.engine());
        let is_after = harness.engine().applied(G).unwrap().0 == 3 * seed + 3;
        assert_eq!(found, if is_after { with } else { without }, "with {seed}");
    }
}

// Goal: a run that is broken off, or has nothing in it, is as if it never was.
fn a_run_that_does_not_end_leaves_nothing(mut harness: impl Harness) {
    let engine = harness.engine();
    engine.write(&batch(1, 1, vec![put(row(1, 1), 1)])).unwrap();
    drop(run(&*engine, &[(1, 5), (2, 6)]));
    run(&*engine, &[]).end().unwrap();
    let unended = run(&*engine, &[(1, 7)]);
    let (from, end) = all_rows();
    assert_eq!(numbers(&engine.scan(&from, &end, 100).unwrap()), [1]);
    engine.flush().unwrap();
    drop(engine);
    harness.crash(1);
    drop(unended);
    assert_eq!(numbers(&harness.engine().scan(&from, &end, 100).unwrap()), [1]);
}
