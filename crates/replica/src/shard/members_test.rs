//! Replicas that are made and that begin anew, on a shard that is stepped by hand.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quorate_log::{
    Disk, GroupRecord, Log, LogMark, LogOptions, LogTrust, MembershipRecord, NodeRecord, Opened,
    PromiseFile, SimDisk,
};
use quorate_paxos::message::{Accept, Behind, Heartbeat, Prepare};
use quorate_paxos::{Batch, BatchKind, History, Message, Options, Timing};
use quorate_store::{CheckpointPolicy, Store, Twin};
use quorate_types::{
    Attempt, Ballot, CheckMessage, ClusterId, CrossBody, CrossMessage, CutId, Incarnation, LogTime,
    NodeId, ReplicaKind, SliceId, Slot,
};

use super::*;
use crate::clock::Clock;
use crate::event::{Own, Presence};
use crate::force::{Fate, membership_of};
use crate::log_thread::{LogThread, Stop};
use crate::network::{Network, PeerMessage};
use crate::refill::Wanted;
use crate::shard::ShardOptions;
use crate::snapshot::RefillDone;

const HERE: NodeId = NodeId(1);
const GROUPS: [GroupId; 2] = [GroupId(1), GroupId(2)];
const KEPT: u64 = 1200;

/// What the shard asks of the network.
#[derive(Default)]
struct Recorder {
    told: Mutex<Vec<(GroupId, MembershipAt)>>,
    refills: Mutex<Vec<RefillDone>>,
}

impl Network for Recorder {
    fn send(&self, _to: NodeId, _messages: Vec<PeerMessage>) {}

    fn send_cross(&self, _to: NodeId, _messages: Vec<CrossMessage>) {}

    fn membership(&self, group: GroupId, at: &MembershipAt) {
        self.told.lock().unwrap().push((group, at.clone()));
    }

    fn tell_membership(&self, _to: NodeId, _group: GroupId, _at: &MembershipAt) {}

    fn send_checks(&self, _to: NodeId, _messages: Vec<CheckMessage>) {}

    fn withdraw(&self, _group: GroupId) {}

    fn refill(&self, _wanted: Wanted, _store: Arc<Store>, done: RefillDone) {
        self.refills.lock().unwrap().push(done);
    }
}

/// Time goes on when it is looked at, but so slowly that nobody runs for leadership.
struct Slow(AtomicU64);

impl Clock for Slow {
    fn now(&self) -> BootTime {
        BootTime(1_000_000_000 + self.0.fetch_add(1, Ordering::Relaxed))
    }
}

struct Bench {
    shard: Shard,
    network: Arc<Recorder>,
    log: tokio::task::JoinHandle<()>,
}

fn options(group: GroupId, replica: ReplicaId) -> GroupOptions {
    let (timing, log_budget_bytes) = (Timing::lan(), u64::MAX);
    GroupOptions {
        paxos: Options {
            group,
            replica,
            kind: ReplicaKind::Full,
            timing,
            pinned: false,
            log_budget_bytes,
        },
        slice_of: Arc::new(|_, _| SliceId(0)),
        group_of: Arc::new(move |_, _| Some(group)),
        numbering: group,
        check_every: std::time::Duration::ZERO,
    }
}

fn voters(nodes: &[u32]) -> Membership {
    Membership::of_voters(nodes.iter().map(|node| (ReplicaId::first_on(NodeId(*node)), 0)))
}

fn at(round: u64, slot: u64, nodes: &[u32]) -> MembershipAt {
    let ballot = Ballot { round, replica: ReplicaId::first_on(NodeId(2)) };
    MembershipAt { id: EntryId { ballot, slot: Slot(slot) }, membership: voters(nodes) }
}

impl Bench {
    /// A node with these groups on an empty disk.
    fn open(disk: &SimDisk, groups: &[(GroupId, Restored)]) -> Bench {
        let replica = ReplicaId::first_on(HERE);
        let membership = MembershipRecord::default();
        let (kind, promised) = (ReplicaKind::Full, Ballot::ZERO);
        let began = GroupRecord {
            replica,
            kind,
            promised,
            pinned: false,
            log: LogTrust::default(),
            membership,
        };
        let mut record = NodeRecord {
            version: 0,
            cluster: ClusterId(1),
            node: HERE,
            incarnation: Incarnation(1),
            lease_ns_max: 0,
            log: LogMark::default(),
            reborn: false,
            peers: BTreeMap::new(),
            groups: groups.iter().map(|(group, _)| (*group, began.clone())).collect(),
        };
        let disk: Arc<dyn Disk> = disk.mount();
        let (mut promises, _) = PromiseFile::open(Arc::clone(&disk)).expect("it works");
        promises.store(&record).expect("it works");
        let (writer, reader, _) =
            Log::open(Arc::clone(&disk), LogOptions::small(), 1).expect("a fresh disk");
        record.log = writer.mark();
        promises.store(&record).expect("it works");
        let all = groups.iter().map(|(group, _)| *group);
        let store = Arc::new(Store::open(Arc::new(Twin::new()), all).expect("a fresh engine"));
        let network = Arc::new(Recorder::default());
        let stop = Stop::new(|_| {});
        let options_of_shard = ShardOptions {
            node: HERE,
            members: groups.iter().map(|(group, _)| (*group, vec![NodeId(2)])).collect(),
            clock: Arc::new(Slow(AtomicU64::new(0))),
            network: Arc::clone(&network) as Arc<dyn Network>,
            store,
            reader,
            checkpoints: CheckpointPolicy::small(),
            request_bytes_max: 1 << 20,
            peer_bytes_max: 1 << 20,
            log_keep_max: KEPT,
            stop: stop.clone(),
        };
        let thread = LogThread { writer, promises, record, disk, stop };
        let (mut shard, log) = Shard::new(options_of_shard, thread);
        for (group, restored) in groups {
            shard.add(options(*group, replica), restored.clone()).expect("a fresh engine");
        }
        Bench { shard, network, log: tokio::spawn(log) }
    }

    fn fresh(disk: &SimDisk) -> Bench {
        Bench::open(disk, &GROUPS.map(|group| (group, Restored::fresh(voters(&[1, 2, 3])))))
    }

    fn round(&mut self, event: Event) {
        self.shard.round(vec![event]).expect("nothing is wrong");
    }

    /// Handles what comes until this holds, or the log thread has ended.
    async fn until(&mut self, mut is_so: impl FnMut(&mut Bench) -> bool) {
        while !is_so(self) && !self.log.is_finished() {
            // The log thread tells of itself again and again.
            match self.shard.events.try_recv() {
                Ok(event) => self.round(event),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    fn hear(&mut self, from: ReplicaId, message: Message) {
        self.hear_as(ReplicaId::first_on(HERE), from, message);
    }

    fn hear_as(&mut self, to: ReplicaId, from: ReplicaId, message: Message) {
        let permit = self.shard.handle().peer_permit(1).expect("there is room");
        let message =
            PeerMessage { group: GROUPS[0], from, to, history: History::default(), message };
        self.round(Event::Peer { messages: vec![message], permit });
    }

    fn begin_rebirth(&mut self) -> oneshot::Receiver<Result<(), Error>> {
        let (reply, told) = oneshot::channel();
        let options = GROUPS.map(|group| options(group, later(group))).into();
        self.round(Event::Rebirth { options, reply });
        told
    }

    fn budgets(&self) -> u64 {
        self.shard.groups.values().map(|it| it.core.log_budget()).sum()
    }
}

fn later(group: GroupId) -> ReplicaId {
    ReplicaId::later_on(HERE, 70 + group.0)
}

/// What a start would find.
fn found(disk: &SimDisk) -> NodeRecord {
    match PromiseFile::open(disk.mount()).expect("it works") {
        (_, Opened::Valid(record)) => record,
        (_, other) => panic!("{other:?}"),
    }
}

/// Goal: a node that begins anew does so with all its groups or with none, whenever the power goes; and by the time
/// that anybody may be told, it is on the disk.
#[tokio::test]
async fn rebirth_is_durable_for_all_groups_before_it_is_told() {
    let mut told_after = None;
    for steps in 0..24 {
        let disk = SimDisk::new();
        let mut bench = Bench::fresh(&disk);
        disk.stop_after(steps);
        let mut told = bench.begin_rebirth();
        assert!(told.try_recv().is_err(), "nothing was stored yet");
        let mut is_told = false;
        bench
            .until(|_| {
                is_told |= matches!(told.try_recv(), Ok(Ok(())));
                is_told
            })
            .await;
        bench.log.abort();
        disk.crash(steps);
        let record = found(&disk);
        let replicas = GROUPS.map(|group| record.groups[&group].replica);
        if record.reborn {
            assert_eq!(replicas, GROUPS.map(later));
        } else {
            assert!(!is_told, "peers forget the old folder, and it would be back");
            assert_eq!(replicas, [ReplicaId::first_on(HERE); 2]);
        }
        told_after = told_after.or_else(|| is_told.then_some(steps));
    }
    assert!(told_after.is_some_and(|steps| 0 < steps), "{told_after:?}");
}

/// Goal: a node of no group remembers that it began anew: its next group would not be safe otherwise.
#[tokio::test]
async fn a_node_of_no_group_remembers_its_rebirth() {
    let disk = SimDisk::new();
    let mut bench = Bench::open(&disk, &[]);
    let mut told = bench.begin_rebirth();
    bench.until(|_| told.try_recv().is_ok()).await;
    disk.crash(1);
    assert!(found(&disk).reborn);
}

/// Goal: the replica whose rows were being fetched may be gone when they come: then they are nobody's, and the node
/// lives.
#[tokio::test]
async fn rows_that_come_for_a_replica_that_is_gone_are_ignored() {
    let disk = SimDisk::new();
    let mut bench = Bench::fresh(&disk);
    let leader = ReplicaId::first_on(NodeId(2));
    let ballot = Ballot { round: 1, replica: leader };
    bench.hear(leader, Message::Prepare(Prepare { ballot, handover_from: None }));
    let is_promised = |bench: &mut Bench| {
        // Until its promise is durable it does not obey.
        let (slot_committed, slot_releasable) = (Slot(8), Slot::ZERO);
        let sent_at = BootTime(1);
        let slot_secured = Slot::ZERO;
        let beat = Heartbeat { ballot, sent_at, slot_committed, slot_releasable, slot_secured };
        bench.hear(leader, Message::Heartbeat(beat));
        let trimmed = EntryId { ballot, slot: Slot(5) };
        bench.hear(leader, Message::Behind(Behind { ballot, trimmed }));
        !bench.network.refills.lock().unwrap().is_empty()
    };
    bench.until(is_promised).await;
    let fetching = bench.network.refills.lock().unwrap().pop().expect("it asks for rows");
    let mut told = bench.begin_rebirth();
    fetching(Err(Error::new(Code::SnapshotUnavailable, "nobody has them")));
    bench.until(|_| told.try_recv().is_ok()).await;
    assert_eq!(bench.shard.groups[&GROUPS[0]].options.paxos.replica, later(GROUPS[0]));
    let old = ReplicaId::first_on(HERE);
    bench.round(Event::Switched { group: GROUPS[0], replica: old, loaded: None });
    bench.round(Event::Switched { group: GroupId(77), replica: old, loaded: None });
}

/// Goal: what is kept for members that lag stays within the limit of the node, however many groups come to it
/// later.
#[tokio::test]
async fn groups_that_come_later_share_the_log_that_is_kept() {
    let disk = SimDisk::new();
    let mut bench = Bench::fresh(&disk);
    assert_eq!(bench.budgets(), KEPT);
    for group in 3..=6 {
        let (reply, mut made) = oneshot::channel();
        let group = GroupId(group);
        let options = Box::new(options(group, later(group)));
        bench.round(Event::Create { options, reply });
        bench.until(|_| made.try_recv().is_ok()).await;
        assert_eq!(bench.shard.groups.len(), group.0 as usize);
        assert_eq!(bench.budgets(), KEPT, "with {group}");
    }
}

/// A replica with members that are chosen, and later ones in slot 9 of its log that are not known to be.
fn not_sure_of(chosen: &MembershipAt, later: &MembershipAt) -> Restored {
    let ballot = later.id.ballot;
    Restored {
        promised: ballot,
        trimmed: EntryId { ballot, slot: Slot(8) },
        slot_applied: Slot(8),
        runs: vec![(Slot(9), ballot)],
        tail: quorate_paxos::Tail { id: later.id, ..quorate_paxos::Tail::default() },
        membership: chosen.clone(),
        memberships_in_log: vec![later.clone()],
        ..Restored::fresh(Membership::default())
    }
}

/// Goal: what a replica has in its log and does not know to be chosen is told to nobody after a start; what it
/// knows is, and messages to the group go where it is.
#[tokio::test]
async fn after_a_start_only_chosen_members_are_told() {
    let disk = SimDisk::new();
    let (chosen, later) = (at(1, 4, &[1, 2]), at(1, 9, &[1, 3]));
    let restored = not_sure_of(&chosen, &later);
    let groups = [(GROUPS[0], restored), (GROUPS[1], Restored::fresh(voters(&[1, 2, 3])))];
    let mut bench = Bench::open(&disk, &groups);
    let told = |bench: &Bench| bench.network.told.lock().unwrap().clone();
    assert_eq!(
        told(&bench),
        [(GROUPS[0], chosen)],
        "nothing of a group as the cluster file has it"
    );

    let goes_to = |bench: &Bench| {
        let attempt = Attempt { group: GROUPS[1], ballot: Ballot::ZERO, counter: 1 };
        let (from, to) = (GROUPS[1], GROUPS[0]);
        let body = CrossBody::Ask { attempt };
        let message = CrossMessage { from, to, cut: CutId::NONE, body };
        let now = BootTime(9_000_000_000);
        bench.shard.leaders.route(now, vec![message]).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(goes_to(&bench), [NodeId(1), NodeId(2)]);
    bench.shard.tell_membership(GROUPS[0], &later);
    assert_eq!(goes_to(&bench), [NodeId(1), NodeId(3)]);
    assert_eq!(told(&bench).last(), Some(&(GROUPS[0], later)));
}

/// Goal: a learner that left while it was away is sent nothing any more, so it never reads in its log that it left. It
/// hears of that from other nodes, and then it can be taken in again.
#[tokio::test]
async fn a_replica_hears_that_it_has_left() {
    let mut bench = Bench::fresh(&SimDisk::new());
    let create = |bench: &mut Bench| {
        let (reply, made) = oneshot::channel();
        let options = Box::new(options(GROUPS[0], later(GROUPS[0])));
        bench.round(Event::Create { options, reply });
        made
    };
    let own = |bench: &mut Bench| {
        let (reply, mut told) = oneshot::channel();
        bench.round(Event::Own { group: GROUPS[0], reply });
        let own: Option<Own> = told.try_recv().expect("answered at once");
        own.map(|own| (own.replica, own.presence == Presence::Member))
    };
    let hears = |bench: &mut Bench, at: MembershipAt| {
        let nodes = crate::members::leader_nodes_of(&at.membership);
        bench.round(Event::Moved { group: GROUPS[0], nodes, at });
    };
    let first = ReplicaId::first_on(HERE);
    let refused = create(&mut bench).try_recv().expect("answered at once");
    assert_eq!(refused.map_err(|error| error.code), Err(Code::MemberExists));
    hears(&mut bench, at(1, 7, &[1, 2]));
    assert_eq!(own(&mut bench), Some((first, true)));
    hears(&mut bench, at(1, 9, &[2, 3]));
    assert_eq!(own(&mut bench), Some((first, false)));
    // What is told later and is older changes nothing.
    hears(&mut bench, at(1, 8, &[1, 3]));
    assert_eq!(own(&mut bench), Some((first, false)));
    // It comes back under an id that nobody has used.
    let mut made = create(&mut bench);
    let mut answer = None;
    bench
        .until(|_| {
            answer = made.try_recv().ok();
            answer.is_some()
        })
        .await;
    assert_eq!(answer.expect("it is made").map_err(|error| error.code), Ok(later(GROUPS[0])));
    assert_eq!(own(&mut bench), Some((later(GROUPS[0]), false)));
}

/// Goal: a voter that was killed before it heard that the entry it left by is chosen is sent nothing any more: it has
/// left once other nodes tell of that entry, and not before, whatever its log says.
#[tokio::test]
async fn a_replica_that_never_hears_that_its_leave_is_chosen_has_left() {
    let (chosen, left) = (at(1, 4, &[1, 2, 3]), at(1, 9, &[2, 3, 4]));
    let restored = not_sure_of(&chosen, &left);
    let hears = |bench: &mut Bench, at: MembershipAt| {
        let nodes = crate::members::leader_nodes_of(&at.membership);
        bench.round(Event::Moved { group: GROUPS[0], nodes, at });
    };
    let departed = |bench: &Bench| -> Vec<EntryId> {
        bench.shard.departed().into_iter().map(|departed| departed.since.id).collect()
    };
    let open = || Bench::open(&SimDisk::new(), &[(GROUPS[0], restored.clone())]);

    let mut bench = open();
    assert_eq!(departed(&bench), []);
    hears(&mut bench, chosen);
    assert_eq!(departed(&bench), [], "its leave may never be chosen");
    hears(&mut bench, left.clone());
    assert_eq!(departed(&bench), [left.id]);
    let later = at(2, 12, &[3, 4, 5]);
    hears(&mut bench, later.clone());
    assert_eq!(departed(&bench), [later.id]);

    // What it was to leave by gave way to something else.
    let mut bench = open();
    hears(&mut bench, at(2, 9, &[1, 3, 4]));
    assert_eq!(departed(&bench), []);
    let elsewhere = at(2, 9, &[3, 4, 5]);
    let mut bench = open();
    hears(&mut bench, elsewhere.clone());
    assert_eq!(departed(&bench), [elsewhere.id], "the one that is chosen counts");
}

/// Goal: a replica that was made reads in its log who took part before it. It is none of those, and has not left: it
/// gets no other id, also after a restart in the middle of that. Once it was taken in, it leaves like everybody else.
#[tokio::test]
async fn a_replica_that_reads_who_took_part_before_it_has_not_left() {
    let disk = SimDisk::new();
    let mut bench = Bench::open(&disk, &[]);
    let (group, own, leader) = (GROUPS[0], later(GROUPS[0]), ReplicaId::first_on(NodeId(2)));
    let create = |bench: &mut Bench, replica: ReplicaId| {
        let (reply, made) = oneshot::channel();
        let options = Box::new(options(group, replica));
        bench.round(Event::Create { options, reply });
        made
    };
    let mut made = create(&mut bench, own);
    bench.until(|_| made.try_recv().is_ok()).await;

    let ballot = Ballot { round: 1, replica: leader };
    let beat = |committed: u64| {
        let (slot_committed, slot_releasable) = (Slot(committed), Slot::ZERO);
        let (sent_at, slot_secured) = (BootTime(1), Slot::ZERO);
        Message::Heartbeat(Heartbeat {
            ballot,
            sent_at,
            slot_committed,
            slot_releasable,
            slot_secured,
        })
    };
    let mut tail = quorate_paxos::Tail::default();
    let mut accept = |kind: BatchKind, payload: Bytes| {
        let batch = Batch::new(kind, ballot, tail, LogTime(1), &[payload]);
        tail = batch.tail();
        Message::Accept(Accept { ballot, batch, slot_committed: Slot::ZERO })
    };
    let start = accept(BatchKind::StartWork, Bytes::new());
    let before = accept(BatchKind::Membership, voters(&[2, 3]).encode());
    let follow = async |bench: &mut Bench, batches: &[Message], committed: u64| {
        let is_applied = |bench: &mut Bench| {
            // Until its promise and its log are durable it applies nothing.
            for message in batches.iter().chain([&beat(committed)]) {
                bench.hear_as(own, leader, message.clone());
            }
            bench.shard.groups[&group].core.slot_applied() == Slot(committed)
        };
        bench.until(is_applied).await;
        // Behind what was to be stored, the log thread answers this.
        let (reply, mut noted) = oneshot::channel();
        bench.round(Event::PinLeader { group, pinned: false, reply });
        bench.until(|_| noted.try_recv().is_ok()).await;
    };
    follow(&mut bench, &[start, before], 2).await;
    let driver = &bench.shard.groups[&group];
    assert_eq!(driver.core.applied_membership().membership, voters(&[2, 3]));
    assert!(driver.was_never_in() && !driver.has_left());
    assert_eq!(bench.shard.departed(), []);

    // A restart finds it as it is.
    let (stored, fate) = membership_of(&found(&disk).groups[&group].membership).expect("valid");
    assert_eq!((stored.id.slot, fate), (Slot(2), Fate::Awaited));
    let after = GroupId(9);
    bench.shard.options.store.add_group(after).expect("a fresh engine");
    let restored = Restored { membership: stored, ..Restored::fresh(Membership::default()) };
    bench.shard.add(options(after, own), restored).expect("a fresh engine");
    bench.shard.note_awaited(after);
    assert!(!bench.shard.groups[&after].has_left());
    assert_eq!(bench.shard.departed(), []);
    let mut again = create(&mut bench, ReplicaId::later_on(HERE, 99));
    assert_eq!(again.try_recv().expect("answered at once").map_err(|it| it.code), Ok(own));
    assert_eq!(bench.shard.groups[&group].options.paxos.replica, own, "it keeps its id");

    let joined = [(leader, 0), (own, 1)];
    let joined = accept(BatchKind::Membership, Membership::of_voters(joined).encode());
    follow(&mut bench, &[joined], 3).await;
    let driver = &bench.shard.groups[&group];
    assert!(!driver.was_never_in() && !driver.has_left());
    let gone = accept(BatchKind::Membership, voters(&[2, 3]).encode());
    follow(&mut bench, &[gone], 4).await;
    assert!(bench.shard.groups[&group].has_left());
    let departed: Vec<Slot> = bench.shard.departed().iter().map(|it| it.since.id.slot).collect();
    assert_eq!(departed, [Slot(4)]);
}

/// Goal: an arbiter that was made keeps members that it is told and is none of. It has not left by that, and what it
/// keeps says so.
#[tokio::test]
async fn an_arbiter_that_keeps_members_before_it_is_one_has_not_left() {
    let disk = SimDisk::new();
    let mut bench = Bench::open(&disk, &[]);
    let (group, own) = (GROUPS[0], later(GROUPS[0]));
    let mut options = options(group, own);
    options.paxos.kind = ReplicaKind::Arbiter;
    let (reply, mut made) = oneshot::channel();
    bench.round(Event::Create { options: Box::new(options), reply });
    bench.until(|_| made.try_recv().is_ok()).await;

    let at = at(2, 9, &[2, 3]);
    let membership = at.membership.in_history(History { number: 1, since: at.id });
    let at = MembershipAt { membership, ..at };
    bench.round(Event::Heard { group, from: NodeId(2), at: at.clone() });
    bench.until(|bench| bench.shard.groups[&group].core.membership_at() == &at).await;
    assert!(!bench.shard.groups[&group].has_left());
    let kept = membership_of(&found(&disk).groups[&group].membership).expect("valid");
    assert_eq!(kept, (at, Fate::Awaited));
}

/// Goal: an operator's wish who leads outlives a restart.
#[tokio::test]
async fn a_pinned_leader_is_remembered() {
    let disk = SimDisk::new();
    let mut bench = Bench::fresh(&disk);
    for pinned in [true, false, true] {
        let (reply, mut noted) = oneshot::channel();
        bench.round(Event::PinLeader { group: GROUPS[0], pinned, reply });
        bench.until(|_| noted.try_recv().is_ok()).await;
    }
    disk.crash(1);
    let record = found(&disk);
    assert_eq!(GROUPS.map(|group| record.groups[&group].pinned), [true, false]);
}
