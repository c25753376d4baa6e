//! The log thread: the only writer of the log and of the promise file of a node.
//!
//! It drains its queue, writes everything that waited with one vectored write and one sync, and says
//! what became durable. While it syncs, the next batch fills: no timer is needed. In a simulation it is
//! a task on the simulated disk, which makes syncs take time.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use quorate_log::{
    Disk, Frame, GroupRecord, LogError, LogWriter, MembershipRecord, NodeRecord, PromiseFile,
};
use quorate_types::planted::{Bug, planted};
use quorate_types::{Ballot, GroupId, Incarnation, NodeId, ReplicaId, Slot};
use tokio::sync::{mpsc, oneshot};

use crate::disk_health::DiskGauge;
use crate::event::Event;

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
    /// Make durable who takes part in a group, before any frame that is sent later.
    Membership { group: GroupId, membership: MembershipRecord },
    /// Remember replicas that were made just now and have promised this much, in place of those before them if
    /// there were any: all of them in one store, then say so.
    Create(Vec<(GroupId, ReplicaId, Ballot)>),
    /// The group does not need its log through this slot any more.
    Release { group: GroupId, upto: Slot },
    /// Remember the incarnation of a peer's data folder, unless another one is known that still counts.
    Pin(Pin),
}

/// A peer's data folder.
#[derive(Debug)]
pub(crate) struct Pin {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    /// Another one that is known counts no more.
    pub(crate) replaces: bool,
    pub(crate) reply: oneshot::Sender<Incarnation>,
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

type StopFn = dyn Fn(&(dyn Error + 'static)) + Send + Sync;

impl Stop {
    /// Calls `stop` with the error. A server aborts its process.
    pub fn new(stop: impl Fn(&(dyn Error + 'static)) + Send + Sync + 'static) -> Stop {
        Stop(Arc::new(stop))
    }

    pub(crate) fn stop(&self, error: &(dyn Error + 'static)) {
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
        gauge: DiskGauge,
    ) {
        if let Err(error) = self.serve(&mut commands, &events, &gauge).await {
            self.stop.stop(&error);
        }
    }

    async fn serve(
        &mut self,
        commands: &mut mpsc::UnboundedReceiver<LogCommand>,
        events: &mpsc::UnboundedSender<Event>,
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
                    self.handle(std::mem::take(&mut drained), events).await?;
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
            if events.send(progress).is_err() {
                return Ok(()); // The shard is gone.
            }
        }
        Ok(())
    }

    async fn handle(
        &mut self,
        commands: Vec<LogCommand>,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<(), LogError> {
        let mut frames = Vec::new();
        let mut writes = BTreeMap::new();
        let mut promised = BTreeMap::new();
        let mut releases = BTreeMap::new();
        let mut pins = Vec::new();
        let (mut memberships, mut created) = (BTreeMap::new(), Vec::new());
        for command in commands {
            match command {
                LogCommand::Append { frames: more, writes: numbers } => {
                    frames.extend(more);
                    writes.extend(numbers); // The numbers of a group rise: the last one stands.
                }
                LogCommand::Promise { group, ballot } => {
                    promised.insert(group, ballot);
                }
                LogCommand::Membership { group, membership } => {
                    memberships.insert(group, membership);
                }
                LogCommand::Create(replicas) => created.extend(replicas),
                LogCommand::Release { group, upto } => {
                    releases.insert(group, upto);
                }
                LogCommand::Pin(pin) => pins.push(pin),
            }
        }
        for (group, replica, promised) in &created {
            let (replica, promised) = (*replica, *promised);
            let membership = MembershipRecord::default();
            let record = GroupRecord { replica, promised, membership };
            self.record.groups.insert(*group, record);
        }
        let changed = !created.is_empty() || !memberships.is_empty();
        for (group, membership) in memberships {
            self.group_record(group).membership = membership;
        }
        self.store_record(&promised, pins, changed).await?;
        for (group, _, _) in created {
            send(events, Event::Created { group });
        }
        if !promised.is_empty() {
            send(events, Event::PromisesSynced(promised.into_iter().collect()));
        }
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
        Ok(())
    }

    fn group_record(&mut self, group: GroupId) -> &mut GroupRecord {
        let record = self.record.groups.get_mut(&group);
        record.expect("groups are recorded before they are started")
    }

    /// Makes promises, newly met peers and what else changed durable in one store of the promise file.
    async fn store_record(
        &mut self,
        promised: &BTreeMap<GroupId, Ballot>,
        pins: Vec<Pin>,
        mut changed: bool,
    ) -> Result<(), LogError> {
        changed |= !promised.is_empty();
        for (group, ballot) in promised {
            let record = self.group_record(*group);
            // A new replica may have taken a promise over while it was on its way.
            record.promised = record.promised.max(*ballot);
        }
        for Pin { node, incarnation, replaces, .. } in &pins {
            let known = self.record.peers.get(node).copied();
            let is_new = known != Some(*incarnation);
            if is_new && (known.is_none() || *replaces || planted(Bug::OldName)) {
                self.record.peers.insert(*node, *incarnation);
                changed = true;
            }
        }
        if changed {
            self.store().await?;
            self.writer.set_floors(floors(&self.record));
        }
        for Pin { node, reply, .. } in pins {
            let known = self.record.peers.get(&node).copied().expect("inserted above");
            let _gone = reply.send(known).is_err(); // The stream that asked may have ended.
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

/// The promises to stand at the head of each new segment.
#[must_use]
pub fn floors(record: &NodeRecord) -> BTreeMap<GroupId, Ballot> {
    record.groups.iter().map(|(group, record)| (*group, record.promised)).collect()
}

fn send(events: &mpsc::UnboundedSender<Event>, event: Event) {
    // The shard is gone only when the node stops; what was made durable stays so.
    let _stopped = events.send(event).is_err();
}
