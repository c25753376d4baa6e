//! Nodes that lose their disks, over real sockets and simulated disks: who believes them, and how they come back.

use std::collections::BTreeMap;
use std::net::TcpListener;

use futures::future::FutureExt;
use quorate_log::{Disk, GroupRecord, LogTrust, PromiseFile, SimDisk};
use quorate_paxos::{ChangeRequest, Membership, MembershipAt, Seat};
use quorate_replica::force::{Fate, record_of};
use quorate_replica::{Answer, Clock, Departed, MembersStatus, Own, Presence, Stop};
use quorate_store::Twin;
use quorate_topology::{Topology, presets};
use quorate_types::{
    Ballot, BootTime, ClusterId, EntryId, Mutation, ReplicaKind, Request, RequestBody, RowAddress,
    Slot, TableId, Uid, Value,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::node::{Node, NodeParts, fresh_record};
use crate::options::{Profile, Tuning};

struct SinceStart(tokio::time::Instant);

impl Clock for SinceStart {
    fn now(&self) -> BootTime {
        BootTime::ZERO + Duration::from_secs(1) + self.0.elapsed()
    }
}

struct Running {
    context: Arc<NodeContext>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), Error>>,
}

/// A disk, and the node that runs on it.
#[derive(Default)]
struct Machine {
    disk: SimDisk,
    rows: Twin,
    /// Disks before this one.
    lost: u64,
    running: Option<Running>,
}

struct Nodes {
    topology: Arc<Topology>,
    machines: BTreeMap<NodeId, Machine>,
}

static NEXT_PORT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(21_000);

/// A cluster file of one city with three IDCs, on ports that are free.
fn topology(nodes_per_idc: u32) -> Arc<Topology> {
    let options = presets::Options::demo(ClusterId(7));
    let mut text = presets::of_layout(presets::Layout::OneCity, nodes_per_idc, &options);
    let apart = if 4 < 3 * nodes_per_idc { 100 } else { 10 };
    let ports =
        (0..3 * nodes_per_idc).flat_map(|i| [6440, 6441, 6480].map(|port| port + i * apart));
    // Not those that the system gives to connections going out: one could be taken before a node listens there.
    let mut ports_of_tests =
        std::iter::repeat_with(|| NEXT_PORT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let mut free = || {
        let bound = ports_of_tests.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
        bound.expect("a free port")
    };
    let bound: Vec<(u32, TcpListener)> = ports.map(|port| (port, free())).collect();
    for (port, free) in &bound {
        let free = free.local_addr().expect("it is bound").port();
        text = text.replace(&format!(":{port}\""), &format!(":{free}\""));
    }
    Arc::new(Topology::parse(&text).expect("the preset is valid"))
}

impl Nodes {
    fn new(nodes_per_idc: u32) -> Nodes {
        let topology = topology(nodes_per_idc);
        let machines = topology.nodes().map(|node| (node.id, Machine::default())).collect();
        Nodes { topology, machines }
    }

    /// Starts a node; `before` it meets anybody something may be done to it.
    fn start_after(&mut self, node: NodeId, before: impl FnOnce(&NodeContext)) {
        let machine = self.machines.get_mut(&node).expect("it is in the cluster file");
        let parts = NodeParts {
            topology: Arc::clone(&self.topology),
            node,
            profile: Profile::Small,
            tuning: Tuning::default(),
            disk: machine.disk.mount(),
            engine: Arc::new(machine.rows.clone()),
            clock: Arc::new(SinceStart(tokio::time::Instant::now())),
            random: [u64::from(node.0) + 100 * machine.lost, 7],
            links: None,
            far_links: None,
            stop: Stop::new(|_| {}), // The disk of a node that has ended is gone.
            repaired: None,
            security: None,
        };
        let opened = Node::open(parts, |log| drop(tokio::spawn(log))).expect("it opens");
        let context = opened.context();
        before(&context);
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(opened.run(stopped.map(|_| ()).shared()));
        machine.running = Some(Running { context, stop, ended });
    }

    fn start(&mut self, node: NodeId) {
        self.start_after(node, |_| {});
    }

    fn start_all(&mut self) {
        for node in self.machines.keys().copied().collect::<Vec<_>>() {
            self.start(node);
        }
    }

    /// Ends a node without a word to anybody.
    async fn stop(&mut self, node: NodeId) {
        let machine = self.machines.get_mut(&node).expect("it is in the cluster file");
        let Running { stop, ended, context } = machine.running.take().expect("it runs");
        let _ended = stop.send(()).is_err();
        ended.await.expect("no panic").expect("it ends well");
        drop(context);
        machine.disk.kill();
    }

    /// Takes the disk of a node away; it must not run.
    fn wipe(&mut self, node: NodeId) {
        let lost = self.machines[&node].lost + 1;
        self.machines.insert(node, Machine { lost, ..Machine::default() });
    }

    fn context(&self, node: NodeId) -> &Arc<NodeContext> {
        &self.machines[&node].running.as_ref().expect("it runs").context
    }

    fn contexts(&self) -> impl Iterator<Item = &Arc<NodeContext>> {
        self.machines.values().filter_map(|machine| machine.running.as_ref()).map(|it| &it.context)
    }

    fn group(&self) -> GroupId {
        self.topology.route(TableId(1), Uid(1)).expect("a table").group.id
    }

    /// Asks whoever serves.
    async fn ask(&self, body: &RequestBody) -> Answer {
        within(async || {
            for context in self.contexts() {
                let (send, receive) = oneshot::channel();
                let request = Request { id: None, body: body.clone() };
                let answer = move |answer: Answer| drop(send.send(answer));
                let asked = context.shard.request(self.group(), request, 8, answer);
                asked.expect("the shard runs");
                if let Ok(answer) = receive.await.expect("every request is answered") {
                    return Some(Ok(answer));
                }
            }
            None
        })
        .await
    }

    async fn put(&self, key: u64) {
        let mutations = vec![Mutation::Put(row(key), Value::Integer(key as i64))];
        let body = RequestBody::Transact { conditions: Vec::new(), mutations, reads: Vec::new() };
        self.ask(&body).await.expect("it is taken");
    }

    async fn get(&self, key: u64) -> Option<Value> {
        let answer = self.ask(&RequestBody::Get(row(key))).await.expect("it is answered");
        match answer.body {
            quorate_types::ReplyBody::Row(value) => value,
            other => panic!("a row was asked for, not {other:?}"),
        }
    }

    async fn members(&self, group: GroupId) -> (NodeId, MembersStatus) {
        within(async || {
            for context in self.contexts() {
                if let Ok(members) = context.shard.members(group).await {
                    return Some((context.node, members));
                }
            }
            None
        })
        .await
    }

    /// Waits until these nodes have the only members, and all of them vote and could.
    async fn until_voters(&self, group: GroupId, nodes: &[NodeId]) -> Membership {
        self.until_without(group, nodes, None).await
    }

    /// The same, and this replica is none of them.
    async fn until_without(
        &self,
        group: GroupId,
        nodes: &[NodeId],
        gone: Option<ReplicaId>,
    ) -> Membership {
        within(async || {
            let (_, status) = self.members(group).await;
            let fit = status.views.iter().filter(|view| view.is_fit && view.member.role.votes());
            let mut on: Vec<NodeId> = fit.map(|view| view.replica.node()).collect();
            on.sort_unstable();
            let is_over = !status.at.membership.is_joint() && status.is_chosen;
            let is_gone = gone.is_none_or(|gone| status.at.membership.get(gone).is_none());
            let is_so = is_over && is_gone && on == nodes && status.views.len() == nodes.len();
            is_so.then_some(status.at.membership)
        })
        .await
    }

    /// Asks the leader for other members until it begins to make them so.
    async fn change(&self, group: GroupId, change: impl Fn(&mut BTreeMap<ReplicaId, Seat>)) {
        within(async || {
            let (leader, status) = self.members(group).await;
            let seat = |(id, member): (ReplicaId, &quorate_paxos::Member)| {
                (id, Seat { rank: member.rank, kind: member.kind, votes: member.role.votes() })
            };
            let mut members: BTreeMap<_, _> = status.at.membership.members().map(seat).collect();
            change(&mut members);
            let request = ChangeRequest { expected: status.at.id, members };
            self.context(leader).shard.change_members(group, request).await.ok()
        })
        .await;
    }
}

fn row(key: u64) -> RowAddress {
    RowAddress { table: TableId(1), uid: Uid(1), key: key.to_be_bytes().to_vec().into() }
}

/// Asks again until there is an answer; fails after 30 s.
async fn within<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..3000 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come true within 30 s");
}

/// Whether somebody serves the group.
async fn is_served(context: &NodeContext, group: GroupId) -> bool {
    let status = context.shard.status().await.expect("the shard runs");
    status.groups.iter().any(|it| it.group == group && it.core.serving)
}

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

/// Goal: a node that never met the lost disk of another does not vote with the empty one, because somebody who knew
/// it has told; and what that somebody knows alone is not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_met_the_lost_disk_is_told_of_it() {
    let mut nodes = Nodes::new(1);
    let group = nodes.group();
    nodes.start(ONE);
    nodes.start(THREE);
    nodes.put(1).await;
    nodes.stop(ONE).await;
    nodes.start(TWO);
    nodes.put(2).await; // The second has the log, and what the third knows.
    nodes.stop(THREE).await;
    nodes.wipe(ONE);
    nodes.start(ONE);
    let (first, second) = (nodes.context(ONE), nodes.context(TWO));
    within(async || {
        for context in [first, second] {
            assert!(!is_served(context, group).await, "{} forgot what it promised", context.node);
        }
        first.reborn.load(Ordering::Acquire).then_some(())
    })
    .await;
    nodes.start(THREE);
    let gone = Some(ReplicaId::first_on(ONE));
    let members = nodes.until_without(group, &[ONE, TWO, THREE], gone).await;
    assert_eq!(nodes.get(2).await, Some(Value::Integer(2)));

    // It remembers that it began anew, and nobody refuses it.
    nodes.stop(ONE).await;
    nodes.start(ONE);
    assert!(nodes.context(ONE).reborn.load(Ordering::Acquire));
    assert_eq!(nodes.until_voters(group, &[ONE, TWO, THREE]).await, members);
}

/// Goal: a replica goes on asking for its place until it knows by its own log that it has one, whatever somebody told of
/// the members.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_only_said_to_be_a_member_goes_on_asking() {
    let mut nodes = Nodes::new(1);
    let group = nodes.group();
    nodes.start_all();
    nodes.put(1).await;
    nodes.stop(ONE).await;
    nodes.wipe(ONE);
    nodes.start_after(ONE, |context| {
        // Somebody told of members that nobody chose.
        let ids =
            [context.later_replica(group), ReplicaId::first_on(TWO), ReplicaId::first_on(THREE)];
        let ballot = Ballot { round: 1, replica: ids[1] };
        let membership = Membership::of_voters(ids.map(|id| (id, 0)));
        let id = EntryId { ballot, slot: Slot(1 << 40) };
        assert!(context.directory.hear(group, &MembershipAt { id, membership }));
    });
    let gone = Some(ReplicaId::first_on(ONE));
    nodes.until_without(group, &[ONE, TWO, THREE], gone).await;
    nodes.put(2).await;
}

/// Goal: a peer that is met while others are connected already is known to them too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_met_later_is_told_to_those_who_are_there() {
    let mut nodes = Nodes::new(1);
    nodes.start(TWO);
    nodes.start(THREE);
    nodes.put(1).await;
    let (second, third) = (nodes.context(TWO), nodes.context(THREE));
    let hello = |number, to_node| {
        let incarnation = quorate_types::Incarnation(number);
        let folders = BTreeMap::new();
        let greeting = second.hello(to_node);
        quorate_proto::convert::Hello { node: ONE, incarnation, folders, ..greeting }
    };
    second.check_hello(&hello(11, TWO), None).await.expect("nobody knows it yet");
    within(async || third.folders.borrow().contains_key(&ONE).then_some(())).await;
    let refused = third.check_hello(&hello(22, THREE), None).await.expect_err("it is another one");
    assert_eq!(refused.code, Code::IncarnationMismatch);
}

/// Goal: a node that lost its disk gets a new replica of a group that had moved to it, which the cluster file does
/// not know, and asks for none of a group that had moved away; also after it has started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_moved_are_healed_where_they_are() {
    let mut nodes = Nodes::new(2);
    nodes.start_all();
    nodes.put(1).await;
    let group = nodes.group();
    let entry = nodes.topology.group(group).expect("it is there");
    let held: Vec<NodeId> = entry.voters().map(|member| member.node).collect();
    let all: Vec<NodeId> = nodes.machines.keys().copied().collect();
    let (old, new) = (held[2], *all.iter().find(|node| !held.contains(node)).expect("half"));

    let options = (nodes.context(new).make_options)(
        group,
        nodes.context(new).later_replica(group),
        quorate_types::ReplicaKind::Full,
    );
    let made =
        nodes.context(new).shard.create(options.expect("a group")).await.expect("it is made");
    nodes
        .change(group, |members| {
            members.insert(made, Seat { rank: 9, kind: ReplicaKind::Full, votes: false });
        })
        .await;
    nodes
        .change(group, |members| {
            members.remove(&ReplicaId::first_on(old));
            members.insert(made, Seat { rank: 9, kind: ReplicaKind::Full, votes: true });
        })
        .await;
    let mut now = vec![held[0], held[1], new];
    now.sort_unstable();
    nodes.until_voters(group, &now).await;
    nodes.put(2).await;

    for node in [new, old] {
        nodes.stop(node).await;
        nodes.wipe(node);
        nodes.start(node);
    }
    // What that replica promised is forgotten.
    let healed = nodes.until_without(group, &now, Some(made)).await;
    // What is still of the old node is healed there, and nothing else is asked for.
    let context = Arc::clone(nodes.context(old));
    for other in nodes.topology.groups_of_node(old).filter(|it| it.id != group) {
        let voters: Vec<NodeId> = {
            let mut nodes: Vec<_> = other.voters().map(|member| member.node).collect();
            nodes.sort_unstable();
            nodes
        };
        nodes.until_without(other.id, &voters, Some(ReplicaId::first_on(old))).await;
    }
    let asks = |context: &NodeContext| context.joining.lock().expect("no panic").contains(&group);
    within(async || (!asks(&context)).then_some(())).await;
    drop(context);
    nodes.stop(old).await;
    nodes.start(old);
    within(async || (!asks(nodes.context(old))).then_some(())).await;
    assert_eq!(nodes.until_voters(group, &now).await, healed);
    nodes.put(3).await;
}

/// Goal: whoever left and is added again on the same disk is somebody else: ids are never used again, also after a
/// restart; and it keeps what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_gets_another_id() {
    let mut nodes = Nodes::new(1);
    let group = nodes.group();
    nodes.start_all();
    nodes.put(1).await;
    let mut used = vec![ReplicaId::first_on(ONE)];
    for round in 2..4 {
        let before = used[used.len() - 1];
        nodes
            .change(group, |members| {
                members.remove(&before);
            })
            .await;
        nodes.until_without(group, &[TWO, THREE], Some(before)).await;
        nodes.put(round).await;
        let context = Arc::clone(nodes.context(ONE));
        let create = async || {
            let next = context.next_replica(group).await.expect("the shard runs");
            let options = (context.make_options)(group, next, ReplicaKind::Full).expect("a group");
            context.shard.create(options).await.ok()
        };
        // Until it knows that it has left, it is a member.
        let made = within(create).await;
        assert!(!used.contains(&made), "{made} again");
        assert_eq!(create().await, Some(made), "the same until it is a member");
        used.push(made);
        drop(context);
        nodes.stop(ONE).await;
        nodes.start(ONE);
        assert_eq!(
            nodes.context(ONE).shard.own(group).await,
            Ok(Some(Own { replica: made, kind: ReplicaKind::Full, presence: Presence::NoMember }))
        );
        for votes in [false, true] {
            nodes
                .change(group, |members| {
                    let rank = 0;
                    members.insert(made, Seat { rank, votes, kind: ReplicaKind::Full });
                })
                .await;
        }
        nodes.until_without(group, &[ONE, TWO, THREE], Some(before)).await;
    }
    assert_eq!(nodes.get(3).await, Some(Value::Integer(3)));
}

/// Goal: as long as a member is down, which may still count by the members before, who has left stays; when it is back
/// and knows, what has left goes, and a start finds nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_left_stays_while_a_member_is_down() {
    let mut nodes = Nodes::new(2);
    let group = nodes.group();
    nodes.start_all();
    nodes.put(1).await;
    let (leader, before) = nodes.members(group).await;
    let on: Vec<NodeId> = before.at.membership.members().map(|(id, _)| id.node()).collect();
    let followers: Vec<NodeId> = on.iter().copied().filter(|node| *node != leader).collect();
    let (leaves, down) = (followers[0], followers[1]);
    let mut all = nodes.machines.keys().copied();
    let new = all.find(|node| !on.contains(node)).expect("each group is on half of the nodes");

    nodes.stop(down).await;
    let context = Arc::clone(nodes.context(new));
    let made = context.later_replica(group);
    let options = (context.make_options)(group, made, ReplicaKind::Full).expect("a group");
    assert_eq!(context.shard.create(options).await, Ok(made));
    let seat = |votes| Seat { rank: 0, votes, kind: ReplicaKind::Full };
    nodes
        .change(group, |members| {
            members.insert(made, seat(false));
        })
        .await;
    let old = ReplicaId::first_on(leaves);
    nodes
        .change(group, |members| {
            members.remove(&old);
            members.insert(made, seat(true));
        })
        .await;
    let departed = within(async || {
        let who_left = nodes.context(leaves).shard.who_left().await.expect("the shard runs");
        who_left.into_iter().find(|departed| !departed.since.membership.is_joint())
    })
    .await;
    assert_eq!((departed.group, departed.replica), (group, old));
    nodes.put(2).await;
    for context in nodes.contexts().filter(|context| [leader, new].contains(&context.node)) {
        let at = departed.since.clone();
        let is_sure = async || context.shard.is_sure_of(group, at.clone()).await.ok();
        within(async || is_sure().await.filter(|is_sure| *is_sure)).await;
    }
    assert!(!crate::leave::are_sure(nodes.context(leaves), &departed).await, "one is down");
    let own = async |nodes: &Nodes| {
        nodes
            .context(leaves)
            .shard
            .own(group)
            .await
            .expect("the shard runs")
            .map(|own| own.presence)
    };
    assert_eq!(own(&nodes).await, Some(Presence::NoMember));

    nodes.start(down);
    within(async || (own(&nodes).await == Some(Presence::Gone)).then_some(())).await;
    nodes.stop(leaves).await;
    nodes.start(leaves);
    assert_eq!(own(&nodes).await, Some(Presence::Gone));
    let rows = &nodes.machines[&leaves].rows;
    assert_eq!(quorate_store::Engine::applied(rows, group).expect("readable"), Slot::ZERO);
    // Nobody there gives rows away, or asks for a place.
    let asked = nodes.context(leaves).shard.snapshot(group, new, Slot::ZERO).await;
    assert_eq!(asked.expect_err("there are none").code, Code::WrongNode);
    assert_eq!(nodes.get(2).await, Some(Value::Integer(2)));
}

/// Goal: a node gets the rows of groups that it has members of, and of no other, whatever the cluster file says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_go_to_members_only() {
    let mut nodes = Nodes::new(2);
    nodes.start_all();
    nodes.put(1).await;
    let group = nodes.group();
    let entry = nodes.topology.group(group).expect("it is there");
    let held: Vec<NodeId> = entry.voters().map(|member| member.node).collect();
    let stranger = *nodes.machines.keys().find(|node| !held.contains(node)).expect("half");
    let (leader, _) = nodes.members(group).await;
    let source = nodes.context(leader);
    let ask = |asks: NodeId| {
        let hello = nodes.context(asks).hello(leader);
        quorate_proto::convert::SnapshotAsk {
            hello,
            group,
            at_least: Slot(1),
            resume: None,
            header_only: false,
            broken: 0,
        }
    };
    let member = *held.iter().find(|node| **node != leader).expect("three");
    crate::snapshots::serve(source, ask(member)).await.map(drop).expect("it is a member");
    let refused = crate::snapshots::serve(source, ask(stranger)).await.map(drop);
    let refused = refused.expect_err("it is none");
    assert_eq!(refused.code, Code::SnapshotUnavailable, "{refused}");

    // Once the leader has it for a learner it gets them.
    let options = (nodes.context(stranger).make_options)(
        group,
        ReplicaId::later_on(stranger, 5),
        quorate_types::ReplicaKind::Full,
    );
    let made = nodes.context(stranger).shard.create(options.expect("a group")).await;
    let learner = made.expect("it is made");
    nodes
        .change(group, |members| {
            members.insert(learner, Seat { rank: 9, kind: ReplicaKind::Full, votes: false });
        })
        .await;
    let served = crate::snapshots::serve(nodes.context(leader), ask(stranger)).await.map(drop);
    served.expect("it is a learner");
}

/// Goal: a start knows from the promise file who was never taken in and who has left, though both know of members that
/// they are none of.
#[tokio::test]
async fn a_start_knows_who_was_never_taken_in() {
    let mut nodes = Nodes::new(1);
    let (node, own) = (NodeId(1), ReplicaId::later_on(NodeId(1), 5));
    let groups: Vec<GroupId> = nodes.topology.groups().map(|group| group.id).collect();
    let disk: Arc<dyn Disk> = nodes.machines[&node].disk.mount();
    let (mut promises, _) = PromiseFile::open(disk).expect("it works");
    let promised = Ballot { round: 4, replica: ReplicaId::first_on(NodeId(2)) };
    let others = [NodeId(2), NodeId(3)].map(|node| (ReplicaId::first_on(node), 0));
    let id = EntryId { ballot: promised, slot: Slot(9) };
    let at = MembershipAt { id, membership: Membership::of_voters(others) };
    let mut record = fresh_record(&nodes.topology, node, 8);
    record.groups = [(groups[0], Fate::Awaited), (groups[1], Fate::Present)]
        .map(|(group, fate)| {
            let (kind, log) = (ReplicaKind::Full, LogTrust::default());
            let membership = record_of(&at, fate);
            (group, GroupRecord { replica: own, kind, promised, pinned: false, log, membership })
        })
        .into();
    promises.store(&record).expect("it works");

    nodes.start(node);
    let running = nodes.machines[&node].running.as_ref().expect("it was started");
    let left = running.context.shard.who_left().await.expect("it runs");
    assert_eq!(left, [Departed { group: groups[1], replica: own, since: at }]);
}
