//! Checks of rows over three nodes in one process, whose engines the tests can reach: what differs is found,
//! stops serving, and is fetched anew from those who agree.
#![allow(missing_docs, unreachable_pub)]

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use futures::FutureExt;
use quorate_log::SimDisk;
use quorate_replica::{Answer, Clock, GroupStatus, Stop};
use quorate_server::{Node, NodeContext, NodeParts, Profile, Tuning};
use quorate_store::{CheckpointBatch, Engine, Keyspace, Twin};
use quorate_topology::{Topology, presets};
use quorate_types::{
    BootTime, CheckReport, CheckState, ClusterId, Code, Elsewhere, GroupId, Mutation, NodeId,
    Request, RequestBody, RowAddress, SliceId, TableId, Uid, Value,
};
use tokio::sync::oneshot;

const USER: Uid = Uid(1);
const TABLE: TableId = TableId(1);
/// The slice of the user.
const SLICE: SliceId = SliceId(1);

struct SinceStart(tokio::time::Instant);

impl Clock for SinceStart {
    fn now(&self) -> BootTime {
        BootTime::ZERO + Duration::from_secs(1) + self.0.elapsed()
    }
}

struct Nodes {
    topology: Arc<Topology>,
    contexts: Vec<Arc<NodeContext>>,
    engines: Vec<Twin>,
    _stop: oneshot::Sender<()>,
}

fn topology() -> Arc<Topology> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 22_000 + (std::process::id() % 20) as u16 * 600;
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut offsets = (0..100).map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed) % 6 * 100);
    let ports = [6440, 6441, 6480, 6450, 6451, 6490, 6460, 6461, 6500];
    let offset = offsets.find(|offset| ports.iter().all(|port| free(offset + port)));
    let options = presets::Options {
        hosts: presets::Hosts::Loopback { port_offset: offset.expect("free ports") },
        ..presets::Options::demo(ClusterId(7))
    };
    let text = presets::one_city_three_idcs(&options);
    Arc::new(Topology::parse(&text).expect("the preset is valid"))
}

impl Nodes {
    fn start(tuning: Tuning) -> Nodes {
        let topology = topology();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = stopped.map(|_| ()).shared();
        let engines: Vec<Twin> = (0..3).map(|_| Twin::new()).collect();
        let start = |number: u32| {
            let parts = NodeParts {
                topology: Arc::clone(&topology),
                node: NodeId(number),
                profile: Profile::Small,
                tuning,
                disk: SimDisk::new().mount(),
                engine: Arc::new(engines[number as usize - 1].clone()),
                clock: Arc::new(SinceStart(tokio::time::Instant::now())),
                random: [u64::from(number), 7],
                links: None,
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
        let contexts = (1..=3).map(start).collect();
        Nodes { topology: Arc::clone(&topology), contexts, engines, _stop: stop }
    }

    fn group(&self) -> GroupId {
        self.topology.route(TABLE, USER).expect("a table").group.id
    }

    fn address(key: u64) -> RowAddress {
        RowAddress { table: TABLE, uid: USER, key: key.to_be_bytes().to_vec().into() }
    }

    /// Writes a row through whoever leads.
    async fn put(&self, key: u64) {
        let mutations = vec![Mutation::Put(Nodes::address(key), Value::Integer(1))];
        let body = RequestBody::Transact { conditions: Vec::new(), mutations, reads: Vec::new() };
        for round in 0..2000 {
            let shard = &self.contexts[round % self.contexts.len()].shard;
            let (send, receive) = oneshot::channel();
            let request = Request { id: None, body: body.clone() };
            let answer = move |answer: Answer| drop(send.send(answer));
            shard.request(self.group(), request, 100, answer).expect("the shard runs");
            if receive.await.expect("every request is answered").is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody leads");
    }

    async fn status(&self, node: usize) -> GroupStatus {
        let status = self.contexts[node].shard.status().await.expect("the shard runs");
        let group = status.groups.into_iter().find(|it| it.group == self.group());
        group.expect("it has a replica")
    }

    /// Asks whoever leads to check, until a check has heard all.
    async fn check(&self) -> CheckReport {
        for round in 0..2000 {
            let shard = &self.contexts[round % self.contexts.len()].shard;
            let heard = |report: &CheckReport| {
                report.replicas.iter().all(|(_, state)| *state != CheckState::NotHeard)
            };
            match shard.check(self.group(), Duration::from_secs(5)).await {
                Ok(report) if heard(&report) => return report,
                Ok(_) => {}
                Err(error) => assert!(
                    matches!(error.code, Code::NotLeader | Code::NotReady | Code::DeadlineExceeded),
                    "{error}"
                ),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no check hears all");
    }

    async fn leader(&self) -> usize {
        for _ in 0..2000 {
            for node in 0..self.contexts.len() {
                if self.status(node).await.core.serving {
                    return node;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nobody leads");
    }

    /// Puts a record beneath the rows of a node that no entry has written.
    fn spoil(&self, node: usize, key: u8) {
        let key = Keyspace::first(self.group()).row(SLICE, TABLE, USER, &[0xff, key]);
        let records = [(key, Some(vec![1].into()))].into();
        let batch = CheckpointBatch { records, ..CheckpointBatch::default() };
        self.engines[node].write(&batch).expect("the twin writes");
    }

    /// Waits until a node has rows of another that count.
    async fn refilled(&self, node: usize) {
        for _ in 0..4000 {
            let status = self.status(node).await;
            if 0 < status.refill.installed && !status.refill.is_missing {
                assert!(!status.checks.is_diverged);
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("its rows were not replaced");
    }
}

fn state(report: &CheckReport, node: usize) -> &CheckState {
    let found = report.replicas.iter().find(|(id, _)| *id == NodeId(node as u32 + 1));
    &found.expect("a voter").1
}

fn assert_differs(report: &CheckReport, node: usize) {
    match state(report, node) {
        CheckState::Differs(difference) => {
            assert_eq!((difference.slices.as_slice(), difference.rest), (&[SLICE][..], false));
        }
        other => panic!("{other:?}"),
    }
}

// Goal: replicas that hold the same agree, whatever they applied: rows, sessions, money; and a follower
// that holds something else is found, named with its slice, answers no reads any more, and has the right rows
// again without anybody's help.
#[cfg_attr(madsim, tokio::test)]
#[cfg_attr(not(madsim), tokio::test(flavor = "multi_thread", worker_threads = 2))]
async fn a_follower_that_differs_is_found_and_refilled() {
    let nodes = Nodes::start(Tuning::default());
    for key in 0..20 {
        nodes.put(key).await;
    }
    let report = nodes.check().await;
    assert!(report.has_majority);
    assert!(report.replicas.iter().all(|(_, state)| *state == CheckState::Agrees), "{report:?}");

    let leader = nodes.leader().await;
    let follower = (leader + 1) % 3;
    nodes.spoil(follower, 1);
    let report = nodes.check().await;
    assert!(report.has_majority);
    assert_differs(&report, follower);
    assert_eq!(state(&report, leader), &CheckState::Agrees);

    nodes.refilled(follower).await;
    nodes.put(21).await;
    let report = nodes.check().await;
    assert!(report.replicas.iter().all(|(_, state)| *state == CheckState::Agrees), "{report:?}");
    let counted = nodes.status(nodes.leader().await).await.checks;
    assert_eq!((counted.diverged, counted.no_majority), (1, 0), "{counted:?}");
}

// Goal: rows that differ are shown to nobody from the verdict on: a read at any replica goes elsewhere.
#[cfg_attr(madsim, tokio::test)]
#[cfg_attr(not(madsim), tokio::test(flavor = "multi_thread", worker_threads = 2))]
async fn rows_in_quarantine_are_not_read() {
    // Nobody gives rows fast enough for the quarantine to end.
    let nodes = Nodes::start(Tuning { snapshots_served_max: 0, ..Tuning::default() });
    nodes.put(1).await;
    nodes.check().await;
    let follower = (nodes.leader().await + 1) % 3;
    nodes.spoil(follower, 1);
    nodes.check().await;
    while !nodes.status(follower).await.refill.is_missing {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (send, receive) = oneshot::channel();
    let request = Request { id: None, body: RequestBody::Get(Nodes::address(1)) };
    let elsewhere =
        Elsewhere { at_least: quorate_types::Slot(1), stale_max: None, around_locks: true };
    let answer = move |answer: Answer| drop(send.send(answer));
    let shard = &nodes.contexts[follower].shard;
    shard.read_elsewhere(nodes.group(), request, elsewhere, 100, answer).expect("it runs");
    let refused = receive.await.expect("every request is answered").expect_err("no rows to read");
    assert_eq!(refused.code, Code::NotLeader);
    // It still votes and logs: the group goes on without the third.
    nodes.put(2).await;
}

// Goal: a leader in the minority stops serving by itself, another one leads, and it has the right rows again.
#[cfg_attr(madsim, tokio::test)]
#[cfg_attr(not(madsim), tokio::test(flavor = "multi_thread", worker_threads = 2))]
async fn a_leader_that_differs_steps_down() {
    let nodes = Nodes::start(Tuning::default());
    nodes.put(1).await;
    let leader = nodes.leader().await;
    nodes.spoil(leader, 1);
    let report = nodes.contexts[leader].shard.check(nodes.group(), Duration::from_secs(20)).await;
    if let Ok(report) = report {
        assert_differs(&report, leader);
    }
    nodes.refilled(leader).await;
    nodes.put(2).await;
    let report = nodes.check().await;
    assert!(report.replicas.iter().all(|(_, state)| *state == CheckState::Agrees), "{report:?}");
}

// Goal: where all differ nobody knows who is right: everybody is told, and nobody throws anything away.
#[cfg_attr(madsim, tokio::test)]
#[cfg_attr(not(madsim), tokio::test(flavor = "multi_thread", worker_threads = 2))]
async fn without_a_majority_nobody_does_anything() {
    let nodes = Nodes::start(Tuning::default());
    nodes.put(1).await;
    let leader = nodes.leader().await;
    for node in 0..3 {
        nodes.spoil(node, node as u8);
    }
    let report = nodes.check().await;
    assert!(!report.has_majority);
    assert_differs(&report, (leader + 1) % 3);
    let counted = nodes.status(leader).await.checks;
    assert_eq!((counted.diverged, counted.no_majority, counted.differing), (0, 1, 2));
    for node in 0..3 {
        let status = nodes.status(node).await;
        assert!(!status.refill.is_missing && !status.checks.is_diverged);
    }
    nodes.put(2).await;
}

// Goal: the leader checks by itself when something was written since the last check, and not otherwise.
#[cfg_attr(madsim, tokio::test)]
#[cfg_attr(not(madsim), tokio::test(flavor = "multi_thread", worker_threads = 2))]
async fn checks_come_by_themselves_after_writes() {
    let nodes =
        Nodes::start(Tuning { check_interval: Duration::from_millis(500), ..Tuning::default() });
    nodes.put(1).await;
    let agreed = async |nodes: &Nodes| nodes.status(nodes.leader().await).await.checks.agreed;
    let mut patience = 2000;
    while agreed(&nodes).await == 0 {
        patience -= 1;
        assert!(0 < patience, "no check was made");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let applied = nodes.status(nodes.leader().await).await.core.slot_applied;
    // Another group is written meanwhile, so that time has passed for this one too.
    let before = agreed(&nodes).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let leader = nodes.leader().await;
    if nodes.status(leader).await.core.slot_applied == applied {
        assert_eq!(agreed(&nodes).await, before, "nothing was written");
    }
}
