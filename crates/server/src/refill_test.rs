//! Rows from node to node, over real sockets and simulated ones: from nodes that have them, with streams that break, and from a
//! source that does everything wrong.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use bytes::Bytes;
use futures::Stream;
use futures::future::FutureExt;
use quorate_log::SimDisk;
use quorate_paxos::{BatchKind, Tail};
use quorate_proto::convert::SnapshotPiece;
use quorate_replica::{Answer, Clock, PeerMessage, Stop};
use quorate_store::{Base, Engine, Keyspace, Portable, Tally, Twin, encode_page};
use quorate_topology::{Topology, presets};
use quorate_types::{
    Ballot, BootTime, ClusterId, CrossMessage, LogTime, Mutation, ReplicaId, Request, RequestBody,
    RowAddress, Slot, TableId, Uid, Value,
};
use tokio::sync::oneshot;
use tonic::{Response, Status, Streaming};

use super::*;
use crate::links::{Fate, Links};
use crate::node::{Node, NodeParts};
use crate::options::{Profile, Tuning};

/// Lets everything through, but breaks the stream of rows at these pieces.
#[derive(Default)]
struct Breaking {
    pieces: AtomicU64,
    at: BTreeSet<u64>,
}

impl Links for Breaking {
    fn peer_message(&self, _peer: NodeId, _message: &PeerMessage) -> Fate {
        vec![Duration::ZERO]
    }
    fn cross_message(&self, _peer: NodeId, _message: &CrossMessage) -> Fate {
        vec![Duration::ZERO]
    }
    fn check_message(&self, _peer: NodeId, _message: &quorate_types::CheckMessage) -> Fate {
        vec![Duration::ZERO]
    }
    fn snapshot_piece(&self, _peer: NodeId) -> Fate {
        let number = self.pieces.fetch_add(1, Ordering::Relaxed) + 1;
        if self.at.contains(&number) { Vec::new() } else { vec![Duration::ZERO] }
    }
    fn client_request(&self) -> Fate {
        vec![Duration::ZERO]
    }
    fn client_answer(&self) -> Fate {
        vec![Duration::ZERO]
    }
}

/// A clock that the simulation can stop.
struct SinceStart(tokio::time::Instant);

impl Clock for SinceStart {
    fn now(&self) -> BootTime {
        BootTime::ZERO + Duration::from_secs(1) + self.0.elapsed()
    }
}

fn topology() -> Arc<Topology> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 36_000 + (std::process::id() % 20) as u16 * 800;
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut offsets = (0..100).map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed) % 8 * 100);
    let ports = [6440, 6441, 6480, 6450, 6451, 6490, 6460, 6461, 6500];
    let offset = offsets.find(|offset| ports.iter().all(|port| free(offset + port)));
    let options = presets::Options {
        hosts: presets::Hosts::Loopback { port_offset: offset.expect("free ports") },
        ..presets::Options::demo(ClusterId(7))
    };
    let text = presets::one_city_three_idcs(&options);
    Arc::new(Topology::parse(&text).expect("the preset is valid"))
}

fn all_rows(group: GroupId, at_least: Slot) -> Wanted {
    Wanted { group, replica: ReplicaId(3), at_least, sources: Vec::new(), rows: true }
}

/// Nodes in this process, and the end of all of them.
struct Nodes {
    topology: Arc<Topology>,
    contexts: Vec<Arc<NodeContext>>,
    _stop: oneshot::Sender<()>,
}

impl Nodes {
    fn start(names: std::ops::RangeInclusive<u32>, links: &Arc<Breaking>, tuning: Tuning) -> Nodes {
        let topology = topology();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = stopped.map(|_| ()).shared();
        let start = |number: u32| {
            let parts = NodeParts {
                topology: Arc::clone(&topology),
                node: NodeId(number),
                profile: Profile::Small,
                tuning,
                disk: SimDisk::new().mount(),
                engine: Arc::new(Twin::new()),
                clock: Arc::new(SinceStart(tokio::time::Instant::now())),
                random: [u64::from(number), 7],
                links: Some(Arc::clone(links) as Arc<dyn Links>),
                far_links: None,
                stop: Stop::new(|error| panic!("a node stopped: {error}")),
                repaired: None,
                #[cfg(not(madsim))]
                security: None,
            };
            let node = Node::open(parts, |log| drop(tokio::spawn(log))).expect("it opens");
            let context = node.context();
            tokio::spawn(node.run(stopped.clone()));
            context
        };
        let contexts = names.map(start).collect();
        Nodes { topology: Arc::clone(&topology), contexts, _stop: stop }
    }

    fn group(&self) -> GroupId {
        self.topology.route(TableId(1), Uid(1)).expect("a table").group.id
    }

    /// Writes a row through whoever leads.
    async fn put(&self, key: u64, bytes: usize) {
        let at =
            RowAddress { table: TableId(1), uid: Uid(1), key: key.to_be_bytes().to_vec().into() };
        let value = Value::Bytes(vec![key as u8; bytes].into());
        let mutations = vec![Mutation::Put(at, value)];
        let body = RequestBody::Transact { conditions: Vec::new(), mutations, reads: Vec::new() };
        for round in 0..2000 {
            let shard = &self.contexts[round % self.contexts.len()].shard;
            let (send, receive) = oneshot::channel();
            let request = Request { id: None, body: body.clone() };
            let answer = move |answer: Answer| drop(send.send(answer));
            shard.request(self.group(), request, bytes, answer).expect("the shard runs");
            if receive.await.expect("every request is answered").is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody leads");
    }

    async fn applied(&self, node: usize) -> Slot {
        let status = self.contexts[node].shard.status().await.expect("the shard runs");
        let group = status.groups.iter().find(|it| it.group == self.group());
        group.expect("it has a replica").core.slot_applied
    }
}

fn empty_store(group: GroupId) -> Arc<Store> {
    let engine: Arc<dyn Engine> = Arc::new(Twin::new());
    Arc::new(Store::open(engine, [group]).expect("a fresh engine"))
}

fn rows(view: &quorate_store::Pinned, space: Keyspace) -> Vec<Portable> {
    view.page(space, None, usize::MAX).expect("it is readable")
}

/// Switches to rows that have come, and compares them with those of the source.
async fn switch_and_compare(nodes: &Nodes, store: &Store, refilled: Refilled) {
    let Refilled { group, last, membership, incarnation } = refilled;
    let base = Base { incarnation };
    store.switch(group, last.last(), base).expect("the twin writes");
    let here = store.pin().expect("readable").expect("few views");
    let there =
        nodes.contexts[0].shard.snapshot(group, NodeId(3), last.last()).await.expect("it has rows");
    assert_eq!(there.last(), &last, "nothing was written meanwhile");
    assert_eq!(there.membership(), &membership);
    let theirs = there.page(None, usize::MAX).expect("it is readable");
    assert_eq!(rows(&here, store.keyspace(group)), theirs);
    assert!(8 <= theirs.len(), "{} records", theirs.len());
}

// Goal: all rows come over, however often the stream breaks; what has come is not sent again.
#[cfg_attr(madsim, tokio::test)]
#[cfg_attr(not(madsim), tokio::test(flavor = "multi_thread", worker_threads = 2))]
async fn rows_come_over_whole_though_streams_break() {
    let links = Arc::new(Breaking { at: [3, 5, 10].into(), ..Breaking::default() });
    let nodes = Nodes::start(1..=3, &links, Tuning::default());
    for key in 0..8 {
        nodes.put(key, 50_000).await;
    }
    let group = nodes.group();
    while nodes.applied(0).await != nodes.applied(1).await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (store, at_least) = (empty_store(group), nodes.applied(0).await);
    let refilled =
        refill(&nodes.contexts[2], &store, &all_rows(group, at_least)).await.expect("it comes");
    assert!(at_least <= refilled.last.last());
    switch_and_compare(&nodes, &store, refilled).await;
    // A header for each of four streams, pages of two rows each and one more of two or less, the end.
    let pieces = links.pieces.load(Ordering::Relaxed);
    assert!((10..=20).contains(&pieces), "{pieces} pieces arrived");
}

// Goal: a replica that keeps no rows learns where those of others end, and nothing else comes or is kept for it.
#[cfg_attr(madsim, tokio::test)]
#[cfg_attr(not(madsim), tokio::test(flavor = "multi_thread", worker_threads = 2))]
async fn a_replica_without_rows_asks_only_where_they_end() {
    let links = Arc::new(Breaking::default());
    let nodes = Nodes::start(1..=3, &links, Tuning::default());
    nodes.put(1, 10).await;
    let (group, context) = (nodes.group(), &nodes.contexts[2]);
    let at_least = nodes.applied(0).await;
    let store = empty_store(group);
    let wanted = Wanted { rows: false, ..all_rows(group, at_least) };
    let found = refill(context, &store, &wanted).await.expect("it comes");
    assert!(at_least <= found.last.last());
    assert_eq!(found.membership.membership.members().count(), 3);
    assert_eq!(links.pieces.load(Ordering::Relaxed), 1, "a header");
    assert!(store.install_progress(group).expect("readable").is_none());
    assert!(nodes.contexts.iter().all(|context| context.snapshots.is_empty()));
}

// Goal: what a replica cannot give it refuses with a code, and nobody is asked for ever.
#[cfg_attr(madsim, tokio::test)]
#[cfg_attr(not(madsim), tokio::test(flavor = "multi_thread", worker_threads = 2))]
async fn rows_that_nobody_has_are_refused() {
    let nodes = Nodes::start(1..=3, &Arc::default(), Tuning::default());
    nodes.put(1, 10).await;
    let (group, context) = (nodes.group(), &nodes.contexts[2]);
    let store = empty_store(group);
    let refused =
        refill(context, &store, &all_rows(group, Slot(1 << 40))).await.expect_err("in the future");
    assert_eq!(refused.code, Code::SnapshotUnavailable, "{refused}");
    assert!(store.install_progress(group).expect("readable").is_none());
    let unknown =
        context.shard.snapshot(GroupId(999), NodeId(3), Slot(1)).await.expect_err("no such group");
    assert_eq!(unknown.code, Code::WrongNode);
}

// Goal: a node sends rows to no more others at once than it may; who leaves makes room for the next.
#[cfg_attr(madsim, tokio::test)]
#[cfg_attr(not(madsim), tokio::test(flavor = "multi_thread", worker_threads = 2))]
async fn a_node_sends_to_few_others_and_not_too_fast() {
    let tuning =
        Tuning { snapshots_served_max: 1, snapshot_bytes_per_second: 1, ..Tuning::default() };
    let nodes = Nodes::start(1..=3, &Arc::default(), tuning);
    nodes.put(1, 10).await;
    let (group, source, asks) = (nodes.group(), &nodes.contexts[0], &nodes.contexts[2]);
    while nodes.applied(0).await < Slot(2) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ask = || {
        let hello = asks.hello(source.node);
        SnapshotAsk { hello, group, at_least: Slot(1), resume: None, header_only: false, broken: 0 }
    };
    let first = crate::snapshots::serve(source, ask()).await.expect("it has rows");
    let Err(refused) = crate::snapshots::serve(source, ask()).await else {
        panic!("one is served")
    };
    assert_eq!((refused.code, refused.retry_after.is_some()), (Code::Overloaded, true));
    drop(first);
    // The stream notices that nobody reads it once it has something to say.
    let second = async {
        loop {
            if let Ok(second) = crate::snapshots::serve(source, ask()).await {
                return second;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    drop(tokio::time::timeout(Duration::from_secs(60), second).await.expect("the first has gone"));
}

type Scripts = Arc<Mutex<Vec<Vec<SnapshotPiece>>>>;

/// A node that sends what it is told to, stream by stream, the last script first. Remembers how many streams were said
/// to have broken.
struct Scripted(Scripts, Arc<Mutex<Vec<u32>>>);

type Frames = Pin<Box<dyn Stream<Item = Result<v1::PeerFrame, Status>> + Send>>;

#[tonic::async_trait]
impl v1::peer_server::Peer for Scripted {
    type StreamStream = Frames;
    type SnapshotStream = crate::snapshots::Pieces;

    async fn stream(
        &self,
        _request: tonic::Request<Streaming<v1::PeerFrame>>,
    ) -> Result<Response<Frames>, Status> {
        Err(Status::unavailable("it only has rows"))
    }

    async fn join(
        &self,
        _request: tonic::Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        Err(Status::unavailable("it only has rows"))
    }

    async fn is_sure_of(
        &self,
        _request: tonic::Request<v1::IsSureOfRequest>,
    ) -> Result<Response<v1::IsSureOfResponse>, Status> {
        Err(Status::unavailable("it only has rows"))
    }

    async fn snapshot(
        &self,
        request: tonic::Request<v1::SnapshotRequest>,
    ) -> Result<Response<crate::snapshots::Pieces>, Status> {
        self.1.lock().expect("no panic").push(request.get_ref().broken);
        let script = self.0.lock().expect("no panic").pop();
        let script = script.ok_or_else(|| Status::unavailable("no more"))?;
        let pieces = script.into_iter().map(|piece| Ok(piece.into_wire()));
        Ok(Response::new(Box::pin(futures::stream::iter(pieces))))
    }
}

// Goal: nothing is taken for rows that is not exactly what a source has counted; what is refused leaves
// nothing behind, and good rows that come afterwards are taken.
#[cfg_attr(madsim, tokio::test)]
#[cfg_attr(not(madsim), tokio::test(flavor = "multi_thread", worker_threads = 2))]
async fn what_does_not_fit_is_thrown_away() {
    let nodes = Nodes::start(3..=3, &Arc::default(), Tuning::default());
    let (group, context) = (nodes.group(), &nodes.contexts[0]);
    let (scripts, broken) = (Scripts::default(), Arc::default());
    let address = nodes.topology.node(NodeId(1)).expect("a node").peer.parse().expect("an address");
    let service =
        v1::peer_server::PeerServer::new(Scripted(Arc::clone(&scripts), Arc::clone(&broken)));
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve(address));

    let ballot = Ballot { round: 1, replica: ReplicaId(1) };
    let payload = [Bytes::from_static(b"x")];
    let batch =
        |tail| quorate_paxos::Batch::new(BatchKind::Entries, ballot, tail, LogTime(1), &payload);
    let (early, last) = (batch(Tail::default()), batch(batch(Tail::default()).tail()));
    let header = |id, last: &Batch| {
        let membership = (group, quorate_paxos::MembershipAt::default());
        SnapshotPiece::Header { id, last: last.clone(), membership, estimated_bytes: 0 }
    };
    let record = |number: u8| {
        let key = Keyspace::first(group).session(Slot(u64::from(number)));
        let key = [&key.as_bytes()[..1], &key.as_bytes()[9..]].concat();
        Portable { key: key.into(), value: Bytes::from_static(b"value") }
    };
    let page = |records: &[Portable]| SnapshotPiece::Page(encode_page(records));
    let mut tally = Tally::default();
    [record(1), record(2)].iter().for_each(|record| tally.add(record));
    let (all, short) = (counted(tally), SnapshotTally { records: 1, ..counted(tally) });
    let good = [page(&[record(1)]), page(&[record(2)])];
    let of_store = Portable { key: Bytes::from_static(&[1, 0, 0, 0, 1]), value: Bytes::new() };

    let wrong = [
        vec![header(9, &early), good[0].clone(), good[1].clone(), SnapshotPiece::End(all)],
        vec![good[0].clone()],
        vec![header(1, &last), good[0].clone(), SnapshotPiece::End(all)],
        vec![header(2, &last), good[0].clone(), good[1].clone(), SnapshotPiece::End(short)],
        vec![header(3, &last), good[0].clone(), SnapshotPiece::PartEnd(all), good[1].clone()],
        vec![header(4, &last), good[1].clone(), good[0].clone(), SnapshotPiece::End(all)],
        vec![header(5, &last), page(&[of_store]), SnapshotPiece::End(all)],
        vec![header(6, &last), SnapshotPiece::Page(Bytes::from_static(b"no page"))],
        vec![header(7, &last), header(7, &last)],
    ];
    for (number, wrong) in wrong.into_iter().enumerate() {
        let store = empty_store(group);
        scripts.lock().expect("no panic").push(wrong);
        let wanted = all_rows(group, Slot(2));
        let mut fetch = Fetch {
            context,
            store: &store,
            wanted: &wanted,
            node: NodeId(1),
            broken: 0,
            has_come: false,
        };
        let failed = loop {
            match fetch.run().await {
                // The source may not listen yet.
                Err(error) if error.code == Code::Unreachable => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                other => break other.expect_err("it does not fit"),
            }
        };
        let want = if number == 0 { Code::SnapshotUnavailable } else { Code::SnapshotDamaged };
        assert_eq!(failed.code, want, "script {number}: {failed}");
        let progress = store.install_progress(group).expect("readable");
        assert!(progress.is_none_or(|it| it.after.is_none()), "script {number}");
    }

    // A stream that breaks, and the rest in another one; and in a third one, because the process came to its end before
    // it could switch. The source hears each time how many broke.
    let store = empty_store(group);
    *scripts.lock().expect("no panic") = vec![
        vec![header(8, &last), good[1].clone(), SnapshotPiece::End(all)],
        vec![header(8, &last), good[0].clone()],
    ];
    let refilled =
        refill(context, &store, &all_rows(group, Slot(2))).await.expect("it comes in the end");
    assert_eq!((refilled.last, refilled.incarnation), (last.clone(), 1));
    scripts.lock().expect("no panic").push(vec![header(8, &last), SnapshotPiece::End(all)]);
    let refilled = refill(context, &store, &all_rows(group, Slot(2))).await.expect("all is here");
    assert_eq!((refilled.last, refilled.incarnation), (last, 1));
    assert!(broken.lock().expect("no panic").ends_with(&[0, 1, 2]), "{broken:?}");
}
