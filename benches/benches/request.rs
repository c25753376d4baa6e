//! What one put costs between the stages that wait: finding its group, the wire, deciding it on the
//! leader, applying it on every replica. No disk, no network, no consensus.
//!
//! `cargo bench -p quorate-benches --bench request -- --quick`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use quorate_proto::convert::Item;
use quorate_proto::v1;
use quorate_store::{Keyspace, Overlay, Store, Twin};
use quorate_topology::Topology;
use quorate_topology::presets::{Options, one_city_three_idcs};
use quorate_txn::cross::Cross;
use quorate_txn::{
    Context, Deletes, Evaluation, Pending, Proposal, SessionTable, State, apply, evaluate,
};
use quorate_types::{
    Ballot, ClusterId, EntryId, GroupId, LogTime, Mutation, ReplicaId, Request, RequestBody,
    RequestId, RowAddress, SessionId, SliceId, Slot, TableId, Uid, Value,
};

const GROUP: GroupId = GroupId(1);
const TABLE: TableId = TableId(2);
const VALUE_BYTES: usize = 256;
const USERS: u64 = 100_000;
/// Requests of one measurement.
const REQUESTS: u64 = 256;

fn slice_of(_: TableId, uid: Uid) -> SliceId {
    SliceId((uid.0 % 100) as u16)
}

/// Users in an order in which no two neighbours are near each other.
fn user(number: u64) -> Uid {
    Uid(number.wrapping_mul(61_803_398_877) % USERS)
}

fn put(number: u64) -> Request {
    let at = RowAddress { table: TABLE, uid: user(number), key: Bytes::from_static(b"b0") };
    let value = Value::Bytes(Bytes::from(vec![7; VALUE_BYTES]));
    Request {
        id: Some(RequestId {
            session: SessionId { group: GROUP, slot: Slot(1) },
            sequence: number,
            lowest_unanswered: number.saturating_sub(REQUESTS).max(1),
        }),
        body: RequestBody::Transact {
            conditions: Vec::new(),
            mutations: vec![Mutation::Put(at, value)],
            reads: Vec::new(),
        },
    }
}

/// A replica without a core: rows, sessions, what is in flight.
struct Replica {
    store: Store,
    sessions: SessionTable,
    overlay: Overlay,
    pending: Pending,
    cross: Cross,
    deletes: Deletes,
    last: Slot,
    next_request: u64,
}

impl Replica {
    /// One session is open and nothing is written yet.
    fn start() -> Replica {
        let store = Store::open(Arc::new(Twin::new()), [GROUP]).expect("a twin opens");
        let cross = Cross::load(&store, Keyspace::first(GROUP)).expect("a fresh store");
        let mut replica = Replica {
            store,
            sessions: SessionTable::new(Keyspace::first(GROUP)),
            overlay: Overlay::new(),
            pending: Pending::new(),
            cross,
            deletes: Deletes::after(Slot::ZERO),
            last: Slot::ZERO,
            next_request: 1,
        };
        let open = Request { id: None, body: RequestBody::OpenSession };
        let proposal = replica.evaluate(&open);
        replica.apply(&[proposal]);
        replica
    }

    fn evaluate(&mut self, request: &Request) -> Proposal {
        let context = Context { keyspace: Keyspace::first(GROUP), slice_of: &slice_of };
        let view = self.overlay.over(&self.store);
        let state = State {
            applied: &self.store,
            overlay: &view,
            sessions: &self.sessions,
            pending: &self.pending,
            cross: &self.cross,
            deletes: &self.deletes,
        };
        match evaluate(request, &context, &state).expect("memory can be read") {
            Evaluation::Propose(proposal) => proposal,
            other => panic!("no proposal: {other:?}"),
        }
    }

    /// Decides the next requests, as a leader does between two writes of its log.
    fn decide(&mut self) -> Vec<Proposal> {
        let mut slot = self.last;
        (0..REQUESTS)
            .map(|_| {
                let proposal = self.evaluate(&put(self.next_request));
                self.next_request += 1;
                slot = slot.next();
                self.overlay.push(slot, proposal.changes(slot));
                self.pending.propose(slot, &proposal);
                proposal
            })
            .collect()
    }

    /// Applies them, as every replica does.
    fn apply(&mut self, proposals: &[Proposal]) {
        for proposal in proposals {
            self.last = self.last.next();
            let at =
                EntryId { ballot: Ballot { round: 1, replica: ReplicaId(1) }, slot: self.last };
            let (sessions, attempts) = (&mut self.sessions, self.cross.table_mut());
            let log_time = LogTime(self.last.0);
            let applied = apply(proposal.payload(), at, log_time, sessions, attempts, &self.store);
            let applied = applied.expect("it was decided here");
            assert!(applied.reply.is_ok(), "{:?}", applied.reply);
            self.deletes.note(self.last, &applied.changes);
            self.store.apply(GROUP, self.last, applied.changes);
            self.overlay.settle(self.last);
            self.pending.settle(self.last);
        }
    }
}

fn request(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("a put of 256 B");
    benches.throughput(Throughput::Elements(1));
    let topology =
        Topology::parse(&one_city_three_idcs(&Options::demo(ClusterId(1)))).expect("a preset");
    let mut number = 0;
    benches.bench_function("route", |bencher| {
        bencher.iter(|| {
            number += 1;
            black_box(topology.route(TABLE, user(number)).expect("a route"));
        });
    });

    let item = Item {
        id: 1,
        group: GROUP,
        time_left: Some(Duration::from_secs(5)),
        topology_version: 1,
        elsewhere: None,
        request: put(7),
    };
    benches.bench_function("to the wire", |bencher| {
        bencher.iter(|| black_box(item.clone().into_wire().encode_to_vec()));
    });
    let bytes = Bytes::from(item.into_wire().encode_to_vec());
    let table = |_: &str| Some(TABLE);
    benches.bench_function("from the wire", |bencher| {
        bencher.iter(|| {
            let item = v1::PipelineItem::decode(bytes.clone()).expect("an item");
            black_box(Item::from_wire(item, &table).expect("a request"));
        });
    });

    benches.throughput(Throughput::Elements(REQUESTS));
    let mut replica = Replica::start();
    benches.bench_function("decide and apply", |bencher| {
        bencher.iter(|| {
            let proposals = replica.decide();
            replica.apply(&proposals);
        });
    });
    let mut leader = Replica::start();
    let mut follower = Replica::start();
    benches.bench_function("apply", |bencher| {
        bencher.iter_batched(
            || {
                let proposals = leader.decide();
                leader.apply(&proposals);
                proposals
            },
            |proposals| follower.apply(&proposals),
            BatchSize::PerIteration,
        );
    });
    benches.finish();
}

criterion_group!(benches, request);
criterion_main!(benches);
