//! What the consensus core costs: one batch from proposal to apply on three replicas in memory, with
//! every message delivered and every write synced at once. The throughput is per entry, for all three
//! replicas together; no disk, no network, no encoding of envelopes.
//!
//! `cargo bench -p quorate-benches --bench core_step -- --quick`

use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quorate_paxos::{Input, Membership, Message, Options, Output, Replica, Restored, Timing};
use quorate_types::{BootTime, GroupId, ReplicaId, ReplicaKind, Slot};

const PAYLOAD_BYTES: usize = 256;

/// Three replicas, and the messages between them.
struct Group {
    replicas: BTreeMap<ReplicaId, Replica>,
    messages: VecDeque<(ReplicaId, ReplicaId, Message)>,
    now: BootTime,
    entries_applied: u64,
}

impl Group {
    /// Starts three replicas on empty disks and has `r1` elected.
    fn start() -> Group {
        let ids = [1, 2, 3].map(ReplicaId);
        let membership = Membership::of_voters(ids.map(|id| (id, id.0 as u16)));
        let now = BootTime(1_000_000_000);
        let replicas = ids.map(|id| {
            let options = Options {
                group: GroupId(1),
                replica: id,
                kind: ReplicaKind::Full,
                timing: Timing::lan(),
                pinned: false,
                log_budget_bytes: u64::MAX,
            };
            (id, Replica::new(now, options, Restored::fresh(membership.clone())))
        });
        let replicas = replicas.into();
        let mut group = Group { replicas, messages: VecDeque::new(), now, entries_applied: 0 };
        group.now = now + Duration::from_millis(200);
        group.feed(ReplicaId(1), Input::Tick);
        group.settle();
        assert!(group.replicas[&ReplicaId(1)].serving(group.now).is_ok(), "r1 was not elected");
        group
    }

    /// Proposes one batch and runs until all three have applied it.
    fn commit(&mut self, payloads: &[Bytes]) -> Slot {
        self.now = self.now + Duration::from_micros(10);
        self.feed(ReplicaId(1), Input::Propose(payloads.to_vec()));
        self.settle();
        self.replicas[&ReplicaId(3)].slot_applied()
    }

    fn settle(&mut self) {
        while let Some((from, to, message)) = self.messages.pop_front() {
            self.feed(to, Input::Message { from, message });
        }
    }

    /// Steps a replica, and syncs at once what it wants on disk.
    fn feed(&mut self, id: ReplicaId, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let replica = self.replicas.get_mut(&id).expect("one of three");
            let Output { promise, messages, appends, applies, .. } = replica.step(self.now, input);
            self.messages.extend(messages.into_iter().map(|(to, message)| (id, to, message)));
            inputs.extend(promise.map(|ballot| Input::PromiseSynced { ballot }));
            if let Some(append) = appends.last() {
                inputs.push_back(Input::DiskProgress(self.now));
                inputs.push_back(Input::Synced { write: append.write });
            }
            let applied = applies.iter().flat_map(|batch| batch.entries());
            for (_, payload) in applied {
                black_box(payload);
                self.entries_applied += 1;
            }
        }
    }
}

fn core_step(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("propose to applied, 3 replicas, 256 B");
    for entries in [1usize, 16, 256] {
        let payloads = vec![Bytes::from(vec![7u8; PAYLOAD_BYTES]); entries];
        let mut group = Group::start();
        benches.throughput(Throughput::Elements(entries as u64));
        benches.bench_function(format!("batch of {entries}"), |bencher| {
            bencher.iter(|| black_box(group.commit(&payloads)));
        });
        let slots: u64 = group.replicas.values().map(|replica| replica.slot_applied().0).sum();
        assert_eq!(slots, group.entries_applied, "every entry is applied once on each replica");
    }
    benches.finish();
}

criterion_group!(benches, core_step);
criterion_main!(benches);
