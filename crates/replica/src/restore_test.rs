//! What a replica starts from when rows were installed: every way in which log, base and rows can stand to
//! each other.

use std::sync::Arc;

use bytes::Bytes;
use quorate_log::{Frame, Log, LogOptions, LogWriter, SimDisk};
use quorate_paxos::{BatchKind, Membership};
use quorate_store::{Base, Twin};
use quorate_types::{LogTime, NodeId, ReplicaId, ReplicaKind};

use super::*;
const G: GroupId = GroupId(1);

fn ballot(round: u64) -> Ballot {
    Ballot { round, replica: ReplicaId(1) }
}

/// Batches of two entries each that continue `tail`, of one ballot.
fn batches(mut tail: Tail, round: u64, count: usize) -> Vec<Batch> {
    let next = |_| {
        let payloads = [Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        let batch = Batch::new(BatchKind::Entries, ballot(round), tail, LogTime(round), &payloads);
        tail = batch.tail();
        batch
    };
    (0..count).map(next).collect()
}

/// A log on a disk and the store beside it.
struct Node {
    writer: LogWriter,
    reader: LogReader,
    store: Arc<Store>,
}

impl Node {
    fn new() -> Node {
        let opened = Log::open(SimDisk::new().mount(), LogOptions::small(), 1);
        let (writer, reader, _found) = opened.expect("a fresh disk");
        let store = Store::open(Arc::new(Twin::new()), [G]).expect("a fresh engine");
        Node { writer, reader, store: Arc::new(store) }
    }

    fn log(&mut self, batches: &[Batch]) {
        for batch in batches {
            let (first, last, body) = (batch.first(), batch.last(), batch.encoded().clone());
            self.writer.append(&[Frame { group: G, first, last, body }]).expect("it writes");
        }
        self.writer.sync().expect("it syncs");
    }

    fn apply(&self, upto: u64) {
        for slot in self.store.applied(G).0 + 1..=upto {
            self.store.apply(G, Slot(slot), Vec::new());
        }
    }

    fn switch(&self, upto: u64) {
        let incarnation = self.store.keyspace(G).incarnation + 1;
        let base = Base { incarnation };
        self.store.switch(G, Slot(upto), base).expect("the twin writes");
    }

    fn restore(&self) -> Result<Restored, RestoreError> {
        self.restore_as(ReplicaKind::Full)
    }

    fn restore_as(&self, kind: ReplicaKind) -> Result<Restored, RestoreError> {
        let membership = MembershipAt {
            id: EntryId::ZERO,
            membership: Membership::of_voters([1, 2, 3].map(|id| (ReplicaId(id), id as u16))),
        };
        let (promised, lease_ns_max, found) = (ballot(9), 0, None);
        let is_outlived = false;
        let from =
            Restore { group: G, promised, membership, is_outlived, lease_ns_max, kind, found };
        restore(from, &self.reader, &self.store)
    }

    /// What it starts from: entry before the log, runs, last entry, applied, rows missing.
    fn starts(&self) -> (u64, Vec<(u64, u64)>, u64, u64, bool) {
        let it = self.restore().expect("it fits");
        let runs = it.runs.iter().map(|(first, ballot)| (first.0, ballot.round)).collect();
        (it.trimmed.slot.0, runs, it.tail.id.slot.0, it.slot_applied.0, it.rows_missing)
    }
}

/// The history that is chosen, 20 slots, and another one that parts from it after slot 4.
fn histories() -> (Vec<Batch>, Vec<Batch>) {
    let chosen = batches(Tail::default(), 1, 10);
    let other = [chosen[..2].to_vec(), batches(chosen[1].tail(), 2, 8)].concat();
    (chosen, other)
}

/// Goal: without installed rows everything is as it was: the whole log, and rows that it reaches down to.
#[test]
fn a_log_without_a_base_counts_as_a_whole() {
    let (chosen, _) = histories();
    let mut node = Node::new();
    assert_eq!(node.starts(), (0, vec![], 0, 0, false));
    node.log(&chosen);
    node.apply(7);
    assert_eq!(node.starts(), (0, vec![(1, 1)], 20, 7, false));
}

/// Goal: a log-only replica misses no rows wherever its log begins, and an arbiter starts from nothing.
#[test]
fn a_replica_without_rows_starts_where_its_log_begins() {
    let (chosen, _) = histories();
    let mut node = Node::new();
    let arbiter = node.restore_as(ReplicaKind::Arbiter).expect("nothing is wrong");
    assert_eq!((arbiter.tail.id, arbiter.rows_missing), (EntryId::ZERO, false));
    node.log(&chosen[3..]);
    assert!(node.starts().4, "a full replica needs rows below");
    let it = node.restore_as(ReplicaKind::LogOnly).expect("it fits");
    assert_eq!(it.slot_applied, it.trimmed.slot);
    assert_eq!((it.slot_applied, it.tail.id.slot), (Slot(6), Slot(20)));
    assert!(!it.rows_missing && it.applied_last.is_none());
}

/// Goal: a log that has the entry the rows end with keeps what stands above it, which may be acknowledged.
#[test]
fn a_log_that_has_the_last_entry_of_the_rows_is_kept() {
    let (chosen, _) = histories();
    let mut node = Node::new();
    node.log(&chosen);
    node.switch(10);
    assert_eq!(node.starts(), (0, vec![(1, 1)], 20, 10, false));
}

/// Goal: a log that ended below the rows, or differs, begins with the batch that the rows end with, written
/// before the switch. Until that the rows are missing: they end below.
#[test]
fn a_log_that_was_made_ready_for_rows_waits_for_them() {
    let (chosen, other) = histories();
    for stale in [&chosen[..3], &other[..2]] {
        let mut node = Node::new();
        node.log(stale);
        node.apply(4);
        node.log(&chosen[6..7]);
        assert_eq!(node.starts(), (12, vec![(13, 1)], 14, 4, true));
        node.switch(14);
        assert_eq!(node.starts(), (12, vec![(13, 1)], 14, 14, false));
        node.log(&chosen[7..]);
        assert_eq!(node.starts(), (12, vec![(13, 1)], 20, 14, false));
    }
}

/// Goal: frames of another history above the rows do not come back, though no slot is missing between.
#[test]
fn a_break_without_a_gap_is_found_by_the_chain() {
    let (chosen, other) = histories();
    let mut node = Node::new();
    node.log(&other[..8]);
    node.log(&chosen[4..5]);
    node.switch(10);
    assert_eq!(node.starts(), (8, vec![(9, 1)], 10, 10, false));
}

/// Goal: what was logged behind a break counts wherever the reader's pieces end. A frame that the break cut inside
/// its batch still decodes to slots that the frames behind it have: these are not skipped.
#[test]
fn what_follows_a_batch_that_a_break_cut_inside_is_read() {
    let wide = |tail: Tail, round, sizes: &[usize]| {
        let payloads: Vec<Bytes> = sizes.iter().map(|bytes| vec![7; *bytes].into()).collect();
        Batch::new(BatchKind::Entries, ballot(round), tail, LogTime(round), &payloads)
    };
    // Never chosen: three entries, and a batch of slots 4 to 8. Together they are one piece of the reader.
    let mut stale = Vec::new();
    let mut tail = Tail::default();
    for sizes in [&[900_000][..], &[900_000], &[900_000], &[180_000; 5]] {
        let batch = wide(tail, 2, sizes);
        tail = batch.tail();
        stale.push(batch);
    }
    // Chosen: rows come that end with slots 6 and 7. Then slot 8 is accepted, and acknowledged.
    let before = Tail { id: EntryId { slot: Slot(5), ballot: ballot(3) }, ..Tail::default() };
    let rows_end = wide(before, 3, &[450_000, 450_000]);
    let acknowledged = wide(rows_end.tail(), 3, &[10]);
    let mut node = Node::new();
    node.log(&stale);
    node.log(&[rows_end]);
    node.switch(7);
    node.log(&[acknowledged]);

    assert_eq!(
        node.starts(),
        (5, vec![(6, 3)], 8, 7, false),
        "slot 8 of ballot 3 was acknowledged"
    );
}

/// Goal: a replica that has just started can give its rows to one that needs them: it may be the only one that has
/// them, and as a leader it applies nothing new before the other has caught up.
#[test]
fn rows_are_given_away_before_anything_was_applied_since_the_start() {
    let (chosen, _) = histories();
    let mut node = Node::new();
    node.log(&chosen);
    node.apply(14);
    let restored = node.restore().expect("it fits");
    let ids = [1, 2, 3].map(ReplicaId);
    let paxos = quorate_paxos::Options {
        group: G,
        replica: ids[0],
        kind: ReplicaKind::Full,
        timing: quorate_paxos::Timing::lan(),
        pinned: false,
        log_budget_bytes: u64::MAX,
    };
    let options = crate::group::GroupOptions {
        paxos,
        slice_of: Arc::new(|_, _| quorate_types::SliceId(0)),
        group_of: Arc::new(|_, _| Some(G)),
        numbering: G,
        check_every: std::time::Duration::ZERO,
    };
    let now = quorate_types::BootTime(1_000_000_000);
    let (store, reader) = (Arc::clone(&node.store), node.reader.clone());
    let mut driver = crate::group::GroupDriver::new(now, options, restored, store, reader)
        .expect("the rows are readable");

    let source =
        driver.snapshot(NodeId(1), Slot(10)).expect("nothing fails").expect("it has slot 14");
    assert_eq!(source.last().last(), Slot(14));
}

/// Goal: a store that is lost is no error: the replica has its log and no rows.
#[test]
fn lost_rows_are_missing_and_the_log_is_kept() {
    let (chosen, _) = histories();
    let mut node = Node::new();
    node.log(&chosen[5..]);
    assert_eq!(node.starts(), (10, vec![(11, 1)], 20, 0, true));
    // Rows that had been installed filled a gap.
    let mut node = Node::new();
    node.log(&chosen[..2]);
    node.log(&chosen[5..]);
    assert_eq!(node.starts(), (10, vec![(11, 1)], 20, 0, true));
    // All that was ever logged is still there: it is replayed.
    let mut node = Node::new();
    node.log(&chosen);
    assert_eq!(node.starts(), (0, vec![(1, 1)], 20, 0, false));
}

/// Goal: rows above the log stay an error: entries that were acknowledged are gone.
#[test]
fn a_log_that_ends_below_the_rows_is_refused() {
    let (chosen, _) = histories();
    let mut node = Node::new();
    node.log(&chosen[..3]);
    node.apply(8);
    let refused = node.restore().expect_err("slots 7 and 8 are gone");
    assert_eq!(refused.to_string(), "log of g1: slots 7 to 8 are missing");
}
