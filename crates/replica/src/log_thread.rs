//! The log thread: the only writer of the log and of the promise file of a node.
//!
//! It drains its queue, writes everything that waited with one vectored write and one sync, and says
//! what became durable. While it syncs, the next batch fills: no timer is needed. In a simulation it is
//! a task on the simulated disk, which makes syncs take time.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use quorate_log::{
    Disk, Frame, GroupRecord, LogError, LogTrust, LogWriter, MembershipRecord, NodeRecord,
    PromiseFile,
};
use quorate_types::planted::{Bug, planted};
use quorate_types::{Ballot, Error, GroupId, NodeId, PeerFolder, ReplicaId, ReplicaKind, Slot};
use tokio::sync::{mpsc, oneshot, watch};

use crate::disk_health::DiskGauge;
use crate::event::{Event, Leaving};
use crate::peer_folders::{self, PeerFolders};

/// After this long without work a small frame seals the last sync.
const SEAL_AFTER: Duration = Duration::from_millis(10);
/// An idle log is probed this often, so that a disk that hangs is noticed.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// The log's size is measured at idle times and every so many rounds.
const MEASURE_EVERY: u64 = 64;
/// Most commands drained at once.
const DRAIN_MAX: usize = 4096;

/// Work for the log thread.
#[derive(Debug)]
pub(crate) enum LogCommand {
    /// Write frames; `writes` are the numbers to report once they are on disk.
    Append { frames: Vec<Frame>, writes: Vec<(GroupId, u64)> },
    /// Make a promise durable.
    Promise { group: GroupId, ballot: Ballot },
    /// The suspect log of a replica is whole again: remember it, then say so.
    LogWhole { group: GroupId, replica: ReplicaId },
    /// Make durable who takes part in a group, before any frame that is sent later, then say so.
    Membership { group: GroupId, membership: MembershipRecord },
    /// The same at an arbiter, which waits until it is.
    Keep { group: GroupId, membership: MembershipRecord },
    /// Remember a replica that was made just now, then say so.
    Create(Made),
    /// Remember that the replica of a group has left for good, after all frames that were sent before, then give up its
    /// log, and say so. No more is sent for it before that is said.
    Leave { group: GroupId, membership: MembershipRecord },
    /// Remember that a replica that has left goes on under this id, then say so.
    Rename { group: GroupId, replica: ReplicaId, membership: MembershipRecord },
    /// Remember that this is not the first data folder of the node, and the replicas that take the places of those
    /// before them: all in one store, then say so.
    Rebirth(Vec<Made>),
    /// Remember whether an operator wants the replica to lead, then answer.
    PinLeader { group: GroupId, pinned: bool, reply: oneshot::Sender<Result<(), Error>> },
    /// The group does not need its log through this slot any more.
    Release { group: GroupId, upto: Slot },
    /// Remember what is said of data folders.
    Meet(Meeting),
}

/// A replica that was made just now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) group: GroupId,
    pub(crate) replica: ReplicaId,
    pub(crate) kind: ReplicaKind,
    /// What it takes over from the one before it.
    pub(crate) promised: Ballot,
}

/// What a peer says of data folders.
#[derive(Debug)]
pub(crate) struct Meeting {
    /// Those of others.
    pub(crate) told: PeerFolders,
    /// Its own, if it comes for the first time or again.
    pub(crate) comes: Option<Newcomer>,
}

/// A peer that wants to be believed.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) node: NodeId,
    pub(crate) folder: PeerFolder,
    /// Told the one that is known, durably.
    pub(crate) reply: oneshot::Sender<PeerFolder>,
}

/// The queue to the log thread. Bounded by what the protocol keeps in flight: uncommitted bytes per
/// group on a leader, the window of the leader on a follower.
#[derive(Clone, Debug)]
pub(crate) struct LogQueue(mpsc::UnboundedSender<LogCommand>);

impl LogQueue {
    pub(crate) fn send(&self, command: LogCommand) {
        // The log thread ends only with the process or after the shard: nobody is left to tell.
        let _ended = self.0.send(command).is_err();
    }
}

/// What to do when the node cannot go on: a failed log must not return to a working state (trap 3),
/// and a replica that cannot apply what was chosen must not go on without it.
#[derive(Clone)]
pub struct Stop(Arc<StopFn>);

type StopFn = dyn Fn(&(dyn StdError + 'static)) + Send + Sync;

impl Stop {
    /// Calls `stop` with the error. A server aborts its process.
    pub fn new(stop: impl Fn(&(dyn StdError + 'static)) + Send + Sync + 'static) -> Stop {
        Stop(Arc::new(stop))
    }

    pub(crate) fn stop(&self, error: &(dyn StdError + 'static)) {
        (self.0)(error);
    }
}

/// The writer side of a node's disk.
pub struct LogThread {
    /// The log.
    pub writer: LogWriter,
    /// The promise file.
    pub promises: PromiseFile,
    /// What the promise file holds.
    pub record: NodeRecord,
    /// The disk, for the time a sync takes in a simulation.
    pub disk: Arc<dyn Disk>,
    /// What to do when the disk fails.
    pub stop: Stop,
}

impl LogThread {
    /// A queue and the loop that serves it.
    pub(crate) fn queue() -> (LogQueue, mpsc::UnboundedReceiver<LogCommand>) {
        let (send, receive) = mpsc::unbounded_channel();
        (LogQueue(send), receive)
    }

    /// Serves the queue until it closes or the disk fails.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<LogCommand>,
        events: mpsc::UnboundedSender<Event>,
        folders: watch::Sender<PeerFolders>,
        gauge: DiskGauge,
    ) {
        let tell = Tell { events, folders };
        if let Err(error) = self.serve(&mut commands, &tell, &gauge).await {
            self.stop.stop(&error);
        }
    }

    async fn serve(
        &mut self,
        commands: &mut mpsc::UnboundedReceiver<LogCommand>,
        tell: &Tell,
        gauge: &DiskGauge,
    ) -> Result<(), LogError> {
        let mut drained = Vec::new();
        let mut sealed = false;
        let mut log_bytes = self.writer.stats().log_bytes;
        for round in 0_u64.. {
            let idle = if sealed { PROBE_EVERY } else { SEAL_AFTER };
            tokio::select! {
                biased;
                count = commands.recv_many(&mut drained, DRAIN_MAX) => {
                    if count == 0 {
                        return Ok(()); // The shard is gone.
                    }
                    sealed = false;
                    gauge.begin();
                    self.handle(std::mem::take(&mut drained), tell).await?;
                }
                () = tokio::time::sleep(idle) => {
                    gauge.begin();
                    self.writer.seal()?;
                    self.sync_time().await;
                    self.record_segment().await?;
                    sealed = true;
                }
            }
            gauge.end();
            if sealed || round % MEASURE_EVERY == 0 {
                log_bytes = self.writer.stats().log_bytes;
            }
            let (has_room, counters) = (self.writer.has_room(), self.writer.counters());
            let progress = Event::LogProgress { has_room, log_bytes, counters };
            if tell.events.send(progress).is_err() {
                return Ok(()); // The shard is gone.
            }
        }
        Ok(())
    }

    async fn handle(&mut self, commands: Vec<LogCommand>, tell: &Tell) -> Result<(), LogError> {
        let events = &tell.events;
        let mut frames = Vec::new();
        let mut writes = BTreeMap::new();
        let mut releases = BTreeMap::new();
        let mut leaves = BTreeMap::new();
        let mut news = News::default();
        for command in commands {
            match command {
                LogCommand::Append { frames: more, writes: numbers } => {
                    frames.extend(more);
                    writes.extend(numbers); // The numbers of a group rise: the last one stands.
                }
                LogCommand::Release { group, upto } => {
                    releases.insert(group, upto);
                }
                LogCommand::Leave { group, membership } => {
                    leaves.insert(group, membership);
                }
                other => self.note(other, &mut news),
            }
        }
        self.tell_news(news, tell).await?;
        if !frames.is_empty() {
            self.writer.append(&frames)?;
            if planted(Bug::AckBeforeSync) {
                send(events, Event::Synced(std::mem::take(&mut writes).into_iter().collect()));
            }
            self.sync_time().await;
            self.writer.sync()?;
            self.record_segment().await?;
            send(events, Event::Synced(writes.into_iter().collect()));
        }
        if !releases.is_empty() {
            for (group, upto) in releases {
                self.writer.release(group, upto)?;
            }
            self.writer.free_oldest()?;
            send(events, Event::Released);
        }
        if !leaves.is_empty() {
            self.leave(leaves, events).await?;
        }
        Ok(())
    }

    /// Forgets the logs of replicas that have left for good. First it is durable that nothing of them counts any more:
    /// whatever a crash leaves of the frames is no log.
    async fn leave(
        &mut self,
        leaves: BTreeMap<GroupId, MembershipRecord>,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<(), LogError> {
        // Frames that count later must not begin below what is said here, even if what is not synced is lost.
        self.sync_time().await;
        let counts_from = self.writer.sync()?;
        for (group, membership) in &leaves {
            let record = self.group_record(*group);
            record.membership.clone_from(membership);
            record.pinned = false;
            record.log = LogTrust { suspect: false, counts_from };
        }
        self.store().await?;
        if self.record.groups.values().all(|group| !group.log.suspect) {
            self.writer.clear_damage()?;
        }
        for group in leaves.into_keys() {
            self.writer.release(group, Slot(u64::MAX))?;
            send(events, Event::Leaving(Leaving::Left { group }));
        }
        self.writer.free_oldest()?;
        send(events, Event::Released);
        Ok(())
    }

    /// Notes in the record what is for the promise file, and what is to be said once that is stored.
    fn note(&mut self, command: LogCommand, news: &mut News) {
        let mut is_news = true;
        match command {
            LogCommand::Append { .. } | LogCommand::Release { .. } | LogCommand::Leave { .. } => {
                unreachable!("for the log")
            }
            LogCommand::Promise { group, ballot } => {
                let record = self.group_record(group);
                // A new replica may have taken a promise over while it was on its way.
                record.promised = record.promised.max(ballot);
                news.promised.insert(group, ballot);
            }
            LogCommand::Membership { group, membership } => {
                self.group_record(group).membership = membership;
                news.memberships += 1;
            }
            LogCommand::Keep { group, membership } => {
                let at = membership.at;
                self.group_record(group).membership = membership;
                news.events.push(Event::Kept { group, at });
            }
            LogCommand::LogWhole { group, replica } => {
                let record = self.group_record(group);
                record.log.suspect &= record.replica != replica;
                news.has_whole = true;
                news.events.push(Event::LogWhole { group, replica });
            }
            LogCommand::Create(made) => {
                self.put_replica(made);
                news.events.push(Event::Created { group: made.group });
            }
            LogCommand::Rename { group, replica, membership } => {
                let record = self.group_record(group);
                record.replica = replica;
                record.membership = membership;
                record.pinned = false;
                news.events.push(Event::Created { group });
            }
            LogCommand::Rebirth(replicas) => {
                self.record.reborn = true;
                replicas.into_iter().for_each(|made| self.put_replica(made));
                news.events.push(Event::Reborn);
            }
            LogCommand::PinLeader { group, pinned, reply } => {
                self.group_record(group).pinned = pinned;
                news.pinned.push(reply);
            }
            LogCommand::Meet(Meeting { told, comes }) => {
                let own = self.record.node;
                is_news = peer_folders::hear(&mut self.record.peers, own, &told);
                if let Some(Newcomer { node, folder, reply }) = comes {
                    let (_, is_other) = peer_folders::meet(&mut self.record.peers, node, folder);
                    is_news |= is_other;
                    news.met.push((node, reply));
                }
                news.has_folders |= is_news;
            }
        }
        news.is_any |= is_news;
    }

    fn put_replica(&mut self, made: Made) {
        let Made { group, replica, kind, promised } = made;
        let membership = MembershipRecord::default();
        // It has told of nothing. What was given up of the log before stays so.
        let before = self.record.groups.get(&group).map(|record| record.log).unwrap_or_default();
        let log = LogTrust { suspect: false, ..before };
        let record = GroupRecord { replica, kind, promised, pinned: false, log, membership };
        self.record.groups.insert(group, record);
    }

    fn group_record(&mut self, group: GroupId) -> &mut GroupRecord {
        let record = self.record.groups.get_mut(&group);
        record.expect("groups are recorded before they are started")
    }

    /// Stores the record if anything was noted in it, and says so.
    async fn tell_news(&mut self, news: News, tell: &Tell) -> Result<(), LogError> {
        let News { is_any, promised, memberships, has_whole, events, pinned, met, has_folders } =
            news;
        if is_any {
            self.store().await?;
            self.writer.set_floors(floors(&self.record));
        }
        if has_whole && self.record.groups.values().all(|group| !group.log.suspect) {
            self.writer.clear_damage()?;
        }
        if 0 < memberships {
            send(&tell.events, Event::MembershipsStored(memberships));
        }
        if has_folders {
            tell.folders.send_replace(PeerFolders::new(self.record.peers.clone()));
        }
        for (node, reply) in met {
            let known = self.record.peers.get(&node).copied().expect("met just now");
            let _gone = reply.send(known).is_err(); // The stream that asked may have ended.
        }
        for reply in pinned {
            let _gone = reply.send(Ok(())).is_err(); // The caller may have left.
        }
        events.into_iter().for_each(|event| send(&tell.events, event));
        if !promised.is_empty() {
            let promised = promised.into_iter().collect();
            send(&tell.events, Event::PromisesSynced(promised));
        }
        Ok(())
    }

    /// Tells the promise file of a segment begun since its last store, which is durable under its name
    /// by then. Before this nothing in the segment may be reported: if the file went away, the next
    /// start would not miss it.
    async fn record_segment(&mut self) -> Result<(), LogError> {
        if self.writer.mark().segment == self.record.log.segment {
            return Ok(());
        }
        self.store().await
    }

    async fn store(&mut self) -> Result<(), LogError> {
        self.record.log = self.writer.mark();
        self.sync_time().await;
        if !planted(Bug::LostPromise) {
            self.promises.store(&self.record)?;
        }
        Ok(())
    }

    /// Simulated disks take virtual time to sync; real ones take theirs in the call itself.
    async fn sync_time(&self) {
        let latency = self.disk.sync_latency();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }
}

/// Whom the log thread tells.
struct Tell {
    events: mpsc::UnboundedSender<Event>,
    folders: watch::Sender<PeerFolders>,
}

/// What was noted in the record and is told once it is stored.
#[derive(Default)]
struct News {
    is_any: bool,
    promised: BTreeMap<GroupId, Ballot>,
    events: Vec<Event>,
    pinned: Vec<oneshot::Sender<Result<(), Error>>>,
    met: Vec<(NodeId, oneshot::Sender<PeerFolder>)>,
    /// So many memberships.
    memberships: u64,
    /// A log that was suspect is whole again.
    has_whole: bool,
    /// More is known of the folders of peers.
    has_folders: bool,
}

/// The promises to stand at the head of each new segment.
#[must_use]
pub fn floors(record: &NodeRecord) -> BTreeMap<GroupId, Ballot> {
    record.groups.iter().map(|(group, record)| (*group, record.promised)).collect()
}

fn send(events: &mpsc::UnboundedSender<Event>, event: Event) {
    // The shard is gone only when the node stops; what was made durable stays so.
    let _stopped = events.send(event).is_err();
}
