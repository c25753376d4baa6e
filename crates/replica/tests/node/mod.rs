//! A node with one group of one voter, on a simulated disk, run until its writes are answered or its
//! disk stops.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quorate_log::{
    Disk, GroupRecord, Log, LogError, LogMark, LogOptions, LogReader, LogTrust, LogWriter,
    MembershipRecord, NodeRecord, Opened, PromiseFile, Recovered, SimDisk, check_floors,
};
use quorate_paxos::{LeaseMode, Membership, MembershipAt, Options, Timing};
use quorate_replica::force::{Fate, membership_of};
use quorate_replica::log_thread::floors;
use quorate_replica::{
    Answer, Clock, Departed, GroupOptions, LogThread, Network, PeerFolders, PeerMessage, Presence,
    RefillDone, Restore, RestoreError, Shard, ShardHandle, ShardOptions, Stop, Wanted, restore,
};
use quorate_store::{CheckpointPolicy, Store, Twin};
use quorate_types::{
    Ballot, BootTime, CheckMessage, ClusterId, CrossMessage, EntryId, FolderState, GroupId,
    Incarnation, Mutation, NodeId, PeerFolder, ReplicaId, ReplicaKind, ReplyBody, Request,
    RequestBody, RowAddress, SliceId, Slot, TableId, Uid, Value,
};
use tokio::sync::oneshot;

pub const GROUP: GroupId = GroupId(1);
/// A group that nobody writes to. Its last batch must not keep the log of the other.
const RESTS: GroupId = GroupId(2);
const ME: ReplicaId = ReplicaId(1);
/// A few writes fill a segment.
const VALUE_BYTES: usize = 300;
/// A life ends long before; a lost answer must not hang the test.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked whether something has come about.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything asked was answered, and everything found was right.
    AllAnswered,
    /// The disk stopped.
    Stopped,
}

/// What clients asked for and what they were told.
#[derive(Default)]
pub struct Ledger {
    /// By number: true if it was answered.
    writes: BTreeMap<u64, bool>,
}

impl Ledger {
    /// Notes an answer that nobody gave.
    pub fn pretend(&mut self) {
        self.writes.insert(self.writes.len() as u64 + 1, true);
    }

    pub fn answered(&self) -> usize {
        self.writes.values().filter(|answered| **answered).count()
    }
}

/// Shows more time at each look, so that whatever waits for time is due soon.
struct Hurrying(AtomicU64);

impl Clock for Hurrying {
    fn now(&self) -> BootTime {
        BootTime(self.0.fetch_add(20_000_000, Ordering::Relaxed))
    }
}

fn fresh_record() -> GroupRecord {
    let membership = MembershipRecord::default();
    let kind = ReplicaKind::Full;
    GroupRecord {
        replica: ME,
        kind,
        promised: Ballot::ZERO,
        pinned: false,
        log: LogTrust::default(),
        membership,
    }
}

struct Nobody;

impl Network for Nobody {
    fn send(&self, _to: NodeId, _messages: Vec<PeerMessage>) {}

    fn send_cross(&self, _to: NodeId, _messages: Vec<CrossMessage>) {}

    fn membership(&self, _group: GroupId, _at: &MembershipAt) {}

    fn tell_membership(&self, _to: NodeId, _group: GroupId, _at: &MembershipAt) {}

    fn send_checks(&self, _to: NodeId, _messages: Vec<CheckMessage>) {}

    fn withdraw(&self, _group: GroupId) {}

    fn refill(&self, _wanted: Wanted, _store: Arc<Store>, _done: RefillDone) {}
}

/// Starts the node, checks what it holds, writes, and ends without a word.
pub fn live(disk: &SimDisk, twin: &Twin, ledger: &mut Ledger, writes: u64) -> End {
    live_until(disk, twin, ledger, writes, || true)
}

/// The same, and ends only when this has come about.
pub fn live_until(
    disk: &SimDisk,
    twin: &Twin,
    ledger: &mut Ledger,
    writes: u64,
    is_done: impl Fn() -> bool,
) -> End {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let (stopped, mut stop) = tokio::sync::mpsc::unbounded_channel();
        let Some((handle, ends)) = open(disk, twin, stopped) else {
            assert!(disk.is_stopped(), "only the stop makes a start fail");
            return End::Stopped;
        };
        let life = async {
            check(&handle, ledger).await;
            write(&handle, ledger, writes).await;
            while !is_done() {
                get(&handle, "anything").await; // Time goes on with each look at the clock.
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let end = tokio::select! {
            biased;
            error = stop.recv() => {
                assert!(disk.is_stopped(), "only the stop makes a node fail: {error:?}");
                End::Stopped
            }
            () = life => End::AllAnswered,
            () = tokio::time::sleep(PATIENCE) => panic!("no answer"),
        };
        ends.into_iter().for_each(|task| task.abort());
        end
    })
}

/// What there is of the group when a node starts.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The replica, with everything that was answered.
    Whole,
    /// Nothing but that it has left.
    Gone,
    /// Another one after it, which is empty.
    Again,
}

/// Starts the node and sees what it has of the group. Then the group goes on without it, everybody else knows, and it
/// has its replica leave and makes another one. `None` if the disk stopped before it was asked what it has.
pub fn leave(disk: &SimDisk, twin: &Twin, ledger: &mut Ledger) -> (Option<Found>, End) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let (stopped, mut stop) = tokio::sync::mpsc::unbounded_channel();
        let Some((handle, ends)) = open(disk, twin, stopped) else {
            assert!(disk.is_stopped(), "only the stop makes a start fail");
            return (None, End::Stopped);
        };
        let mut found = None;
        let life = async {
            let own = handle.own(GROUP).await.expect("the shard runs").expect("it had one");
            let what = match own.presence {
                Presence::Gone => Found::Gone,
                Presence::Member => Found::Whole,
                Presence::NoMember => Found::Again,
            };
            assert_eq!(what == Found::Again, own.replica != ME);
            found = Some(what);
            if own.presence == Presence::Member {
                check(&handle, ledger).await;
                let voters = Membership::of_voters([(ReplicaId(2), 0)]);
                let ballot = Ballot { round: u64::MAX, replica: ReplicaId(2) };
                let at =
                    MembershipAt { id: EntryId { ballot, slot: Slot(999) }, membership: voters };
                handle.moved(GROUP, vec![NodeId(2)], at.clone()).expect("the shard runs");
                let departed = Departed { group: GROUP, replica: ME, since: at };
                let who_left = handle.who_left().await;
                assert_eq!(who_left.expect("the shard runs"), std::slice::from_ref(&departed));
                let mut other = departed.clone();
                other.since.id.slot = Slot(998);
                assert_eq!(handle.leave(other).await, Ok(false), "it has left by something else");
                assert_eq!(handle.leave(departed).await, Ok(true));
            }
            let again = ReplicaId::later_on(NodeId(1), 7);
            let same = handle.create(group_options(GROUP, ME)).await;
            assert_eq!(same.is_err(), own.replica == ME, "its id is not used again");
            assert_eq!(handle.create(group_options(GROUP, again)).await, Ok(again));
        };
        let end = tokio::select! {
            biased;
            error = stop.recv() => {
                assert!(disk.is_stopped(), "only the stop makes a node fail: {error:?}");
                End::Stopped
            }
            () = life => End::AllAnswered,
            () = tokio::time::sleep(PATIENCE) => panic!("no answer"),
        };
        ends.into_iter().for_each(|task| task.abort());
        (found, end)
    })
}

/// What a start would find of the group: the replica that promised, what it promised, and how many frames of its log
/// count. The node does not run.
pub fn remains(disk: &SimDisk) -> (ReplicaId, Ballot, usize) {
    let mounted = disk.mount();
    let (_promises, opened) = PromiseFile::open(Arc::clone(&mounted)).expect("the disk works");
    let Opened::Valid(record) = opened else { panic!("{opened:?}") };
    let (_, _, recovered) = open_log(&mounted, &record).expect("the disk works");
    disk.kill();
    let frames = recovered.groups.get(&GROUP).map_or(0, |group| group.frames.len());
    (record.groups[&GROUP].replica, record.groups[&GROUP].promised, frames)
}

/// Meets a peer that comes with `incarnation`; the one that the node goes by from now on.
pub fn meet(disk: &SimDisk, twin: &Twin, peer: NodeId, incarnation: Incarnation) -> Incarnation {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let (stopped, _stop) = tokio::sync::mpsc::unbounded_channel();
        let (handle, _tasks) = open(disk, twin, stopped).expect("it starts");
        // Once it serves, no promise of its own is on the way to disk that could take the peer along.
        get(&handle, "anything").await;
        let folder = PeerFolder { incarnation, state: FolderState::First };
        let known = handle.meet(peer, folder, PeerFolders::default()).await;
        known.expect("the shard runs").incarnation
    })
}

/// Why a start with this disk refuses its log, if it does.
pub fn refusal(disk: &SimDisk) -> Option<String> {
    let (_promises, opened) = PromiseFile::open(disk.mount()).expect("the disk works");
    let mark = match opened {
        Opened::Valid(record) => record.log,
        Opened::Fresh => LogMark::default(),
        Opened::Unreadable { reason } => return Some(reason),
    };
    let reason = match Log::open_from(disk.mount(), log_options(), 7, mark) {
        Err(error) => Some(error.to_string()),
        Ok((_, _, recovered)) => recovered.damage.first().map(|damage| format!("{damage:?}")),
    };
    disk.kill();
    reason
}

fn log_options() -> LogOptions {
    LogOptions { segment_bytes: 4096, ..LogOptions::small() }
}

type Tasks = [tokio::task::JoinHandle<()>; 2];

fn open(
    disk: &SimDisk,
    twin: &Twin,
    stopped: tokio::sync::mpsc::UnboundedSender<String>,
) -> Option<(ShardHandle, Tasks)> {
    let disk: Arc<dyn Disk> = disk.mount();
    let (mut promises, opened) = PromiseFile::open(Arc::clone(&disk)).ok()?;
    let mut record = match opened {
        Opened::Valid(record) => record,
        Opened::Fresh => {
            let record = fresh();
            promises.store(&record).ok()?;
            record
        }
        Opened::Unreadable { reason } => panic!("a power cut lost the promises: {reason}"),
    };
    let opened = open_log(&disk, &record);
    if let Err(error @ LogError::EndMissing { .. }) = &opened {
        panic!("a power cut takes no end of the log away: {error}");
    }
    let (mut writer, reader, recovered) = opened.ok()?;
    assert_eq!(recovered.damage, [], "a power cut is no damage: {:?}", recovered.decisions);
    check_floors(&record, &recovered.floors).expect("promises are durable before floors");
    writer.set_floors(floors(&record));
    record.log = writer.mark();
    promises.store(&record).ok()?;
    let store =
        Arc::new(Store::open(Arc::new(twin.clone()), [GROUP, RESTS]).expect("the twin opens"));
    let stop = Stop::new(move |error| drop(stopped.send(error.to_string())));
    let options = ShardOptions {
        node: NodeId(1),
        members: [GROUP, RESTS].map(|group| (group, vec![NodeId(1)])).into(),
        clock: Arc::new(Hurrying(AtomicU64::new(1_000_000_000))),
        network: Arc::new(Nobody),
        store: Arc::clone(&store),
        reader: reader.clone(),
        checkpoints: eager(),
        request_bytes_max: 1 << 20,
        peer_bytes_max: 1 << 20,
        log_keep_max: u64::MAX,
        stop: stop.clone(),
    };
    let groups = record.groups.clone();
    let thread = LogThread { writer, promises, record, disk, stop };
    let (mut shard, log_loop) = Shard::new(options, thread);
    for (group, GroupRecord { replica, promised, membership, .. }) in groups {
        let found = recovered.groups.get(&group);
        let (since, fate) = membership_of(&membership).expect("it is what was stored");
        if fate == Fate::Gone {
            assert!(found.is_none(), "frames of {group} are back");
            store.give_up(group).and_then(|()| store.purge()).expect("the twin works");
            shard.add_gone(Departed { group, replica, since }, ReplicaKind::Full, promised);
            continue;
        }
        let began =
            MembershipAt { id: EntryId::ZERO, membership: Membership::of_voters([(ME, 0)]) };
        // What comes after it nobody takes in here.
        let membership = if replica == ME { began } else { since };
        let (is_outlived, lease_ns_max, kind) = (false, 0, ReplicaKind::Full);
        let from = Restore {
            group,
            promised,
            membership,
            is_outlived,
            lease_ns_max,
            kind,
            log_suspect: false,
            found,
        };
        let restored = match restore(from, &reader, &store) {
            Err(RestoreError::Log { .. }) => return None, // A stopped disk answers no read either.
            other => other.expect("log and rows fit together"),
        };
        shard.add(group_options(group, replica), restored).expect("its sessions are readable");
    }
    let handle = shard.handle();
    let tasks = [tokio::spawn(log_loop), tokio::spawn(shard.run(std::future::pending()))];
    Some((handle, tasks))
}

fn fresh() -> NodeRecord {
    NodeRecord {
        version: 0,
        cluster: ClusterId(1),
        node: NodeId(1),
        incarnation: Incarnation(1),
        lease_ns_max: 0,
        log: LogMark::default(),
        reborn: false,
        peers: BTreeMap::new(),
        groups: [GROUP, RESTS].map(|group| (group, fresh_record())).into(),
    }
}

/// A checkpoint whenever the shard looks, a flush every few of them.
fn eager() -> CheckpointPolicy {
    let hour = Duration::from_secs(3600);
    CheckpointPolicy { changed_bytes: 1, checkpoint_age: hour, log_bytes: 1500, flush_age: hour }
}

fn open_log(
    disk: &Arc<dyn Disk>,
    record: &NodeRecord,
) -> Result<(LogWriter, LogReader, Recovered), LogError> {
    let counts_from = record.groups.iter().map(|(group, it)| (*group, it.log.counts_from));
    let (disk, mark) = (Arc::clone(disk), record.log);
    Log::open_judged(disk, log_options(), 7, mark, counts_from.collect(), |_, _, _| {
        Ok(BTreeSet::new())
    })
}

fn group_options(group: GroupId, replica: ReplicaId) -> GroupOptions {
    let hour = Duration::from_secs(3600);
    let timing = Timing {
        mode: LeaseMode::ReadIndex,
        lease: hour,
        disk_stall: hour,
        jitter: Duration::ZERO,
        ..Timing::lan()
    };
    GroupOptions {
        paxos: Options {
            group,
            replica,
            kind: ReplicaKind::Full,
            timing,
            pinned: false,
            log_budget_bytes: u64::MAX,
        },
        slice_of: Arc::new(|_, _| SliceId(0)),
        group_of: Arc::new(move |_, _| Some(group)),
        numbering: group,
        check_every: Duration::ZERO,
    }
}

fn row(name: &str) -> RowAddress {
    RowAddress { table: TableId(1), uid: Uid(1), key: Bytes::copy_from_slice(name.as_bytes()) }
}

fn value(number: u64) -> Value {
    let text = format!("<{number}>");
    let bytes: Vec<u8> = text.bytes().cycle().take(VALUE_BYTES).collect();
    Value::Bytes(Bytes::from(bytes))
}

/// Asks until the node serves.
async fn ask(handle: &ShardHandle, body: RequestBody) -> Answer {
    loop {
        let (send, receive) = oneshot::channel();
        let request = Request { id: None, body: body.clone() };
        let answer = move |answer| drop(send.send(answer));
        handle.request(GROUP, request, VALUE_BYTES, answer).expect("the shard runs");
        match receive.await.expect("every request is answered") {
            Err(error)
                if error.code == quorate_types::Code::NotLeader
                    || error.code == quorate_types::Code::NotReady =>
            {
                tokio::task::yield_now().await;
            }
            answer => return answer,
        }
    }
}

async fn get(handle: &ShardHandle, name: &str) -> Option<Value> {
    match ask(handle, RequestBody::Get(row(name))).await.expect("a read is answered").body {
        ReplyBody::Row(value) => value,
        other => panic!("a row was asked for, not {other:?}"),
    }
}

/// Every answered write is there, whole; the counter counts each that is there once.
async fn check(handle: &ShardHandle, ledger: &mut Ledger) {
    let mut present = 0;
    for (number, answered) in &mut ledger.writes {
        let found = get(handle, &number.to_string()).await;
        assert!(found.is_some() || !*answered, "write {number} was answered and is gone");
        assert!(found.is_none() || found == Some(value(*number)), "write {number} is garbage");
        present += i64::from(found.is_some());
        // What was read must stay.
        *answered |= found.is_some();
    }
    let counted = get(handle, "count").await;
    let expected = (present > 0).then_some(Value::Integer(present));
    assert_eq!(counted, expected, "the counter and its rows differ");
}

/// Writes in pairs: each a row of its own and one more on the counter.
async fn write(handle: &ShardHandle, ledger: &mut Ledger, writes: u64) {
    let first = ledger.writes.len() as u64 + 1;
    for number in (first..first + writes).step_by(2) {
        let pair: Vec<u64> = (number..(number + 2).min(first + writes)).collect();
        ledger.writes.extend(pair.iter().map(|number| (*number, false)));
        let asked = pair.iter().map(|number| {
            let (send, receive) = oneshot::channel();
            let mutations = vec![
                Mutation::Put(row(&number.to_string()), value(*number)),
                Mutation::Add { at: row("count"), delta: 1, floor: None, ceiling: None },
            ];
            let body =
                RequestBody::Transact { conditions: Vec::new(), mutations, reads: Vec::new() };
            let answer = move |answer: Answer| drop(send.send(answer));
            let request = Request { id: None, body };
            handle.request(GROUP, request, VALUE_BYTES, answer).expect("the shard runs");
            receive
        });
        let asked: Vec<_> = asked.collect();
        for (number, answer) in pair.iter().zip(asked) {
            answer.await.expect("every request is answered").expect("a write is taken");
            ledger.writes.insert(*number, true);
        }
    }
}
