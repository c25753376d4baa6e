//! The store against a simple model, through checkpoints in any stage and crashes at any point.
//!
//! The model keeps every entry ever applied, as a log would. What must hold: positions and rows
//! always belong together, the persisted position never goes back and never exceeds what survives,
//! and replay from right above the surviving position restores exactly the model.

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{Harness, all_rows, row};
use proptest::prelude::*;
use quorate_store::{Change, Checkpoint, Durability, Key, Store, View};
use quorate_types::{GroupId, Slot};

const GROUPS: [GroupId; 3] = [GroupId(1), GroupId(2), GroupId(3)];

#[derive(Clone, Debug)]
enum Op {
    /// One entry of a group, as (row, new value).
    Apply(usize, Vec<(u64, Option<u8>)>),
    Begin,
    Write(Durability),
    Finish,
    Flush,
    Crash(u64),
    Restart,
    Scan(u64, u64, usize),
}

fn any_op() -> impl Strategy<Value = Op> {
    let changes = proptest::collection::vec((0u64..12, proptest::option::of(any::<u8>())), 0..5);
    prop_oneof![
        12 => (0..GROUPS.len(), changes).prop_map(|(group, changes)| Op::Apply(group, changes)),
        4 => Just(Op::Begin),
        3 => Just(Op::Write(Durability::Buffered)),
        1 => Just(Op::Write(Durability::Flushed)),
        4 => Just(Op::Finish),
        1 => Just(Op::Flush),
        1 => any::<u64>().prop_map(Op::Crash),
        1 => Just(Op::Restart),
        6 => (0u64..14, 0u64..14, 0usize..16).prop_map(|(a, b, limit)| Op::Scan(a, b, limit)),
    ]
}

type Rows = BTreeMap<Key, Bytes>;

fn change_rows(rows: &mut Rows, changes: &[Change]) {
    for Change { key, value } in changes {
        match value {
            Some(value) => rows.insert(key.clone(), value.clone()),
            None => rows.remove(key),
        };
    }
}

/// The store under test and the model beside it.
struct World<H> {
    harness: H,
    store: Option<Store>,
    running: Option<Checkpoint>,
    /// Every entry of every group; the entry at slot 1 stands first.
    logs: BTreeMap<GroupId, Vec<Vec<Change>>>,
    /// The positions of the newest checkpoint written.
    written: BTreeMap<GroupId, Slot>,
    /// The greatest persisted position seen.
    persisted: BTreeMap<GroupId, Slot>,
}

impl<H: Harness> World<H> {
    fn new(harness: H) -> World<H> {
        let store = Some(Store::open(harness.engine(), GROUPS).expect("an empty store opens"));
        let zero: BTreeMap<GroupId, Slot> = GROUPS.into_iter().map(|g| (g, Slot(0))).collect();
        let logs = GROUPS.into_iter().map(|g| (g, Vec::new())).collect();
        World { harness, store, running: None, logs, written: zero.clone(), persisted: zero }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    /// The rows after the entries up to `positions`.
    fn rows_at(&self, positions: impl Fn(GroupId) -> Slot) -> Rows {
        let mut rows = Rows::new();
        for (group, log) in &self.logs {
            let upto = usize::try_from(positions(*group).0).expect("a small number");
            log[..upto].iter().for_each(|changes| change_rows(&mut rows, changes));
        }
        rows
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Apply(index, changes) => {
                let group = GROUPS[index];
                let changes: Vec<Change> = changes
                    .into_iter()
                    .map(|(at, to)| Change {
                        key: row(group.0, at),
                        value: to.map(|to| Bytes::copy_from_slice(&[to])),
                    })
                    .collect();
                let log = self.logs.get_mut(&group).expect("a known group");
                log.push(changes.clone());
                let slot = Slot(log.len() as u64);
                self.store().apply(group, slot, changes);
            }
            Op::Begin => {
                let begun = self.store().begin_checkpoint(Vec::new);
                assert!(begun.is_none() || self.running.is_none(), "two checkpoints at once");
                self.running = begun.or_else(|| self.running.take());
            }
            Op::Write(durability) => {
                if let Some(checkpoint) = &self.running {
                    let store = self.store.as_ref().expect("the store is open");
                    store.write_checkpoint(checkpoint, durability).expect("it can be written");
                    self.written.extend(&checkpoint.batch().applied);
                    if durability == Durability::Flushed {
                        self.check_flushed();
                    }
                }
            }
            Op::Finish => {
                if let Some(checkpoint) = self.running.take_if(|running| running.is_written()) {
                    self.store().finish_checkpoint(checkpoint);
                }
            }
            Op::Flush => {
                self.store().flush().expect("it can be flushed");
                self.check_flushed();
            }
            Op::Crash(seed) => {
                self.running = None;
                self.harness.crash(seed);
                self.store = None;
                self.recover();
            }
            Op::Restart => {
                (self.running, self.store) = (None, None);
                self.harness.restart();
                self.recover();
            }
            Op::Scan(from, end, limit) => self.check_scan(from, end, limit),
        }
        self.check_positions();
    }

    fn check_flushed(&self) {
        for group in GROUPS {
            let persisted = self.store().persisted(group).expect("it is readable");
            assert_eq!(persisted, self.written[&group], "{group} after a flush");
        }
    }

    fn check_positions(&mut self) {
        for (group, log) in &self.logs {
            let store = self.store.as_ref().expect("the store is open");
            let applied = store.applied(*group);
            assert_eq!(applied, Slot(log.len() as u64));
            let persisted = store.persisted(*group).expect("it is readable");
            assert!(self.persisted[group] <= persisted, "{group}: persisted went back");
            assert!(persisted <= self.written[group], "{group}: persisted but never written");
            self.persisted.insert(*group, persisted);
        }
    }

    fn check_scan(&self, from: u64, end: u64, limit: usize) {
        let rows = self.rows_at(|group| self.store().applied(group));
        let (from, end) = (row(2, from), row(2, end));
        let within = rows.iter().filter(|(key, _)| from <= **key && **key < end);
        let want: Vec<(Key, Bytes)> =
            within.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect();
        assert_eq!(self.store().scan(&from, &end, limit).expect("it is readable"), want);
        for at in 0..12 {
            let found = self.store().get(&row(1, at)).expect("it is readable");
            assert_eq!(found.as_ref(), rows.get(&row(1, at)));
        }
    }

    /// Opens what survived, checks it, and replays the rest of the logs.
    fn recover(&mut self) {
        let store = Store::open(self.harness.engine(), GROUPS).expect("what survived opens");
        for group in GROUPS {
            let left = store.applied(group);
            assert!(self.persisted[&group] <= left, "{group}: lost what was persisted");
            assert!(left <= self.written[&group], "{group}: holds what was never written");
            assert_eq!(store.persisted(group).expect("it is readable"), left);
            self.written.insert(group, left);
        }
        let (from, end) = all_rows();
        let found = store.scan(&from, &end, usize::MAX).expect("it is readable");
        let want = self.rows_at(|group| store.applied(group));
        assert!(found.into_iter().eq(want), "rows and positions do not belong together");

        for (group, log) in &self.logs {
            let left = store.applied(*group);
            let skipped = usize::try_from(left.0).expect("a small number");
            let slots = (left.0 + 1..).map(Slot);
            store.apply_batch(*group, slots.zip(log[skipped..].iter().cloned()));
        }
        let found = store.scan(&from, &end, usize::MAX).expect("it is readable");
        let want = self.rows_at(|group| store.applied(group));
        assert!(found.into_iter().eq(want), "replay does not restore the model");
        self.store = Some(store);
    }
}

fn check(harness: impl Harness, ops: Vec<Op>) {
    let mut world = World::new(harness);
    for op in ops.into_iter().chain([Op::Crash(7), Op::Begin, Op::Crash(8)]) {
        world.run(op);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    // Goal: the invariants above hold on the twin, whose crashes take any unflushed suffix.
    #[test]
    fn replay_restores_the_model_on_the_twin(ops in proptest::collection::vec(any_op(), 1..80)) {
        check(common::TwinHarness::new(), ops);
    }
}

#[cfg(not(madsim))]
proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 64, ..Default::default() })]

    // Goal: the same invariants hold on RocksDB, killed with whatever its files held.
    #[test]
    fn replay_restores_the_model_on_rocksdb(ops in proptest::collection::vec(any_op(), 1..60)) {
        check(common::rocks::RocksHarness::new(), ops);
    }
}
