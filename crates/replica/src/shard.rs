//! The shard: one task that owns the groups of a node.
//!
//! A round drains the mailbox, handles what peers and disk say before what clients ask, group by group in
//! turns, proposes, and only then sends: so a batch is whatever a group was asked during the last round,
//! and appends go to the peers before they go to our own log.

mod histories;
mod housekeeping;
mod leave;
mod members;
mod questions;
mod rows;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use quorate_log::{LogCounters, LogReader};
use quorate_paxos::{Health, Input, Restored};
use quorate_store::{CheckpointPolicy, Store, StoreError};
use quorate_types::{BootTime, Elsewhere, Error, GroupId, NodeId, ReplicaId, Request, limits};
use tokio::sync::{mpsc, oneshot, watch};

use crate::budget::ByteBudget;
use crate::checkpoints::Checkpoints;
use crate::clock::Clock;
use crate::cross::Asked;
use crate::cuts::Ready;
use crate::disk_health::{DiskGauge, DiskHealth};
use crate::event::{Event, ReplyTo};
use crate::group::{Effects, Fatal, GroupDriver, GroupOptions};
use crate::handle::ShardHandle;
use crate::hashing::Hashing;
use crate::leaders::Leaders;
use crate::log_thread::{LogCommand, LogQueue, LogThread, Stop};
use crate::network::{Network, PeerMessage};
use crate::peer_folders::PeerFolders;
use crate::refill::Switch;
use crate::refuse;
use crate::turns::Turns;

/// Most events of one round.
const ROUND_EVENTS_MAX: usize = 4096;
/// Most requests of one group in a round. What is left takes its turn after those of other groups.
const ROUND_REQUESTS_EACH: usize = 512;
/// How often checkpoints, the disk, hand-overs of a draining node and ways home are looked after.
const HOUSEKEEPING_EVERY: Duration = Duration::from_millis(250);
/// What a shard needs from outside.
pub struct ShardOptions {
    /// This node.
    pub node: NodeId,
    /// The nodes of every group of the cluster, those of others too.
    pub members: BTreeMap<GroupId, Vec<NodeId>>,
    /// The node's clock.
    pub clock: Arc<dyn Clock>,
    /// The way to the peers.
    pub network: Arc<dyn Network>,
    /// The rows.
    pub store: Arc<Store>,
    /// The log, for reading back.
    pub reader: LogReader,
    /// When rows go to the engine.
    pub checkpoints: CheckpointPolicy,
    /// Bytes of requests held at once.
    pub request_bytes_max: usize,
    /// Bytes of peer messages held at once.
    pub peer_bytes_max: usize,
    /// Bytes of log kept for members that lag, over all groups of the node.
    pub log_keep_max: u64,
    /// What to do when the node cannot go on.
    pub stop: Stop,
}

/// A shard and its groups.
pub struct Shard {
    options: ShardOptions,
    groups: BTreeMap<GroupId, GroupDriver>,
    /// Groups by their alarm, which goes off no later than their core wants to be ticked.
    deadlines: BTreeSet<(BootTime, GroupId)>,
    events: mpsc::UnboundedReceiver<Event>,
    /// Requests that wait for a round.
    turns: Turns<(Request, Option<Elsewhere>, ReplyTo)>,
    sender: mpsc::UnboundedSender<Event>,
    log: LogQueue,
    checkpoints: Checkpoints,
    /// Memberships on their way to the promise file. Rows wait for them: what rows hold may be lost from the log.
    memberships_unstored: u64,
    /// Rows to switch to between two checkpoints.
    switches: VecDeque<Switch>,
    /// A switch is under way, off this task.
    is_switching: bool,
    /// Rows to be hashed for checks.
    hashing: Hashing,
    /// Where the leaders of other groups were heard.
    leaders: Leaders,
    /// When the log last finished a write or a probe.
    disk_ok_at: BootTime,
    gauge: DiskGauge,
    disk: DiskHealth,
    /// What the cores were told last.
    health: Health,
    has_room: bool,
    log_bytes: u64,
    log_counters: LogCounters,
    draining: bool,
    /// An operator wants nothing led here.
    is_told_to_drain: bool,
    /// Replicas that are not durable yet.
    making: BTreeMap<GroupId, members::Making>,
    /// Replicas that have left for good.
    gone: leave::AllGone,
    /// Who waits until the replicas that began anew are durable.
    rebirth: Option<oneshot::Sender<Result<(), Error>>>,
    housekeeping_at: BootTime,
    /// The part of the groups that was looked after last.
    housekeeping_part: u32,
    /// Views at cuts that the handle reads.
    ready: Ready,
    handle: ShardHandle,
}

impl Shard {
    /// A shard with its log thread's loop: run the future on the thread that may write to the disk.
    pub fn new(options: ShardOptions, log: LogThread) -> (Shard, impl Future<Output = ()> + Send) {
        let (sender, events) = mpsc::unbounded_channel();
        let (queue, commands) = LogThread::queue();
        let now = options.clock.now();
        let requests = ByteBudget::new(options.request_bytes_max);
        let peers = ByteBudget::new(options.peer_bytes_max);
        let ready = Ready::default();
        let stop = options.stop.clone();
        let (folders, known) = watch::channel(PeerFolders::new(log.record.peers.clone()));
        let gauge = DiskGauge::new(Arc::clone(&options.clock));
        let handle = ShardHandle::new(
            sender.clone(),
            [requests, peers],
            ready.clone(),
            known,
            stop,
            gauge.clone(),
        );
        let log_loop = log.run(commands, sender.clone(), folders, gauge.clone());
        let shard = Shard {
            checkpoints: Checkpoints::new(options.checkpoints, now),
            memberships_unstored: 0,
            switches: VecDeque::new(),
            is_switching: false,
            hashing: Hashing::default(),
            leaders: Leaders::new(options.members.clone()),
            options,
            groups: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            events,
            turns: Turns::new(),
            sender,
            log: queue,
            disk_ok_at: now,
            gauge,
            disk: DiskHealth::new(now),
            health: Health::default(),
            has_room: true,
            log_bytes: 0,
            log_counters: LogCounters::default(),
            draining: false,
            is_told_to_drain: false,
            making: BTreeMap::new(),
            gone: BTreeMap::new(),
            rebirth: None,
            housekeeping_at: now + HOUSEKEEPING_EVERY,
            housekeeping_part: 0,
            ready,
            handle,
        };
        (shard, log_loop)
    }

    /// The way in.
    #[must_use]
    pub fn handle(&self) -> ShardHandle {
        self.handle.clone()
    }

    /// Adds a group, before the shard runs.
    ///
    /// # Errors
    /// `StoreError` if its sessions cannot be read.
    pub fn add(&mut self, mut options: GroupOptions, restored: Restored) -> Result<(), StoreError> {
        let now = self.options.clock.now();
        let share = self.options.log_keep_max / (self.groups.len() as u64 + 1);
        options.paxos.log_budget_bytes = options.paxos.log_budget_bytes.min(share);
        let group = options.paxos.group;
        let store = Arc::clone(&self.options.store);
        let reader = self.options.reader.clone();
        let (chosen, kind) = (restored.membership.clone(), options.paxos.kind);
        let mut driver = GroupDriver::new(now, options, restored, store, reader)?;
        driver.begin_with_members(chosen.clone());
        // What an arbiter keeps need not be chosen.
        if kind.keeps_log() {
            self.tell_membership(group, &chosen);
        }
        driver.cuts.ready = self.ready.clone();
        self.deadlines.insert((driver.alarm, group));
        self.groups.insert(group, driver);
        self.share_log_budget();
        Ok(())
    }

    /// Runs until `shutdown` resolves, or until the node cannot go on.
    pub async fn run(mut self, shutdown: impl Future<Output = ()> + Send) {
        let stop = self.options.stop.clone();
        tokio::pin!(shutdown);
        let mut round = Vec::new();
        loop {
            let wait = self.next_deadline().since(self.options.clock.now());
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                _ = self.events.recv_many(&mut round, ROUND_EVENTS_MAX) => {}
                () = tokio::task::yield_now(), if !self.turns.is_empty() => {}
                () = tokio::time::sleep(wait) => {}
            }
            if let Err(error) = self.round(std::mem::take(&mut round)) {
                stop.stop(&error);
                return;
            }
        }
    }

    fn next_deadline(&self) -> BootTime {
        let first = self.deadlines.first().map_or(self.housekeeping_at, |(at, _)| *at);
        let first = first.min(self.housekeeping_at);
        self.hashing.next_deadline().map_or(first, |at| first.min(at))
    }

    /// One round: peers and disk, then clients, then timers; then everything goes out.
    fn round(&mut self, events: Vec<Event>) -> Result<(), Fatal> {
        let mut fx = Effects { disk_ok_at: self.disk_ok_at, ..Effects::default() };
        for event in events {
            match event {
                Event::Request { group, request, elsewhere, reply } => {
                    self.turns.push(group, (request, elsewhere, reply));
                }
                other => self.handle_event(other, &mut fx)?,
            }
        }
        for (group, (request, elsewhere, reply)) in self.turns.take(ROUND_REQUESTS_EACH) {
            fx.touched.push(group);
            let (clock, has_room) = (self.options.clock.as_ref(), self.has_room);
            match (self.groups.get_mut(&group), elsewhere) {
                (Some(driver), None) => {
                    let asked = Asked { request, reply, parked_at: None };
                    driver.request(clock, asked, has_room, &mut fx)?;
                }
                (Some(driver), Some(elsewhere)) => {
                    let asked = (request, reply);
                    driver.read_elsewhere(clock, asked, elsewhere, has_room, &mut fx)?;
                }
                (None, _) => reply.answer(Err(refuse::wrong_node(group))),
            }
        }
        let now = self.options.clock.now();
        if self.housekeeping_at <= now {
            self.housekeeping_at = now + HOUSEKEEPING_EVERY;
            self.keep_house(now, &mut fx)?;
        }
        fx.touched.extend(self.due_at(now));
        let mut touched = std::mem::take(&mut fx.touched);
        touched.sort_unstable();
        touched.dedup();
        for group in touched {
            self.end_round_of(group, now, &mut fx)?;
        }
        self.carry_out(fx);
        self.switch_next();
        self.hash_next();
        Ok(())
    }

    /// Groups whose alarm has gone off.
    fn due_at(&self, now: BootTime) -> impl Iterator<Item = GroupId> + '_ {
        self.deadlines.range(..=(now, GroupId(u32::MAX))).map(|(_, group)| *group)
    }

    /// Proposes what a group evaluated in this round, fires its timers and sets its alarm.
    fn end_round_of(
        &mut self,
        group: GroupId,
        now: BootTime,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let Some(driver) = self.groups.get_mut(&group) else { return Ok(()) };
        driver.tick_arrivals(self.options.clock.as_ref(), self.has_room, fx)?;
        driver.tick_elsewhere(self.options.clock.as_ref(), self.has_room, fx)?;
        driver.tick_cross(self.options.clock.as_ref(), self.has_room, fx)?;
        driver.propose(now, fx)?;
        driver.tick_members(now, fx)?;
        driver.tick_force();
        if driver.core.next_deadline() <= now {
            driver.step(now, Input::Tick, fx)?;
        }
        // Most deadlines only move away: then the alarm stays, and the group is looked at once in vain.
        let (next, alarm) = (driver.next_deadline(), driver.alarm);
        if next < alarm || alarm <= now {
            self.deadlines.remove(&(alarm, group));
            self.deadlines.insert((next, group));
            driver.alarm = next;
        }
        Ok(())
    }

    fn handle_event(&mut self, event: Event, fx: &mut Effects) -> Result<(), Fatal> {
        let now = self.options.clock.now();
        match event {
            Event::Request { .. } => unreachable!("requests are handled after everything else"),
            Event::Peer { messages, permit } => {
                for PeerMessage { group, from, to, history, message } in messages {
                    // What was meant for a replica that was here before is for nobody.
                    let driver = self.groups.get_mut(&group);
                    if let Some(driver) = driver.filter(|it| it.options.paxos.replica == to) {
                        fx.touched.push(group);
                        driver.peer(self.options.clock.now(), (from, history), message, fx)?;
                    }
                }
                drop(permit);
            }
            Event::Cross { from, messages, permit } => {
                for message in messages {
                    let group = message.to;
                    self.leaders.heard(now, message.from, from);
                    if let Some(driver) = self.groups.get_mut(&group) {
                        fx.touched.push(group);
                        driver.receive_cross(now, message, self.has_room, fx)?;
                    }
                }
                drop(permit);
            }
            Event::Synced(writes) => {
                for (group, write) in writes {
                    // Its replica may have left for good meanwhile; another one comes only after this.
                    let Some(driver) = self.groups.get_mut(&group) else { continue };
                    fx.touched.push(group);
                    driver.step(now, Input::Synced { write }, fx)?;
                }
            }
            Event::PromisesSynced(promises) => {
                for (group, ballot) in promises {
                    let Some(driver) = self.groups.get_mut(&group) else { continue };
                    fx.touched.push(group);
                    driver.step(now, Input::PromiseSynced { ballot }, fx)?;
                }
            }
            Event::LogWhole { group, replica } => self.log_is_whole(now, group, replica, fx)?,
            Event::MembershipsStored(count) => self.memberships_unstored -= count,
            Event::LogProgress { has_room, log_bytes, counters } => {
                fx.disk_ok_at = now;
                self.progressed(now, has_room, counters, log_bytes);
            }
            Event::Released => self.released(now, fx)?,
            Event::Checkpointed { flushed } => self.checkpoints.finished(now, flushed),
            Event::Refilled { .. }
            | Event::Switched { .. }
            | Event::Checks { .. }
            | Event::Hashed(_) => self.handle_rows(now, event, fx)?,
            Event::TransferLeader { .. }
            | Event::Check { .. }
            | Event::Meet { .. }
            | Event::HearFolders(_)
            | Event::Snapshot { .. }
            | Event::Drain
            | Event::Attempts(_)
            | Event::Resolve { .. }
            | Event::Status(_) => self.handle_question(now, event, fx)?,
            Event::Leaving(event) => self.handle_leaving(event, fx),
            Event::Members { .. }
            | Event::ChangeMembers { .. }
            | Event::Join { .. }
            | Event::Create { .. }
            | Event::Created { .. }
            | Event::Kept { .. }
            | Event::Rebirth { .. }
            | Event::Reborn
            | Event::Own { .. }
            | Event::Moved { .. }
            | Event::PinLeader { .. }
            | Event::SetDrained { .. } => self.handle_members(now, event, fx)?,
            Event::Heard { .. }
            | Event::Standing { .. }
            | Event::Force { .. }
            | Event::Losses { .. } => self.handle_histories(now, event, fx)?,
        }
        Ok(())
    }

    /// That the log of a replica is whole again is on disk. Another one may have taken its place.
    fn log_is_whole(
        &mut self,
        now: BootTime,
        group: GroupId,
        replica: ReplicaId,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        fx.touched.push(group);
        let driver = self.groups.get_mut(&group);
        match driver.filter(|driver| driver.options.paxos.replica == replica) {
            Some(driver) => driver.step(now, Input::LogWhole, fx),
            None => Ok(()),
        }
    }

    fn released(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        for (group, driver) in &mut self.groups {
            fx.touched.push(*group);
            driver.trimmed(now, fx)?;
        }
        Ok(())
    }

    fn progressed(&mut self, now: BootTime, has_room: bool, counters: LogCounters, bytes: u64) {
        self.disk_ok_at = now;
        self.log_counters = counters;
        self.has_room = has_room;
        self.log_bytes = bytes;
    }

    /// Sends what the round asked for: to the peers first, then to our own log.
    fn carry_out(&mut self, fx: Effects) {
        for (node, messages) in fx.messages {
            self.options.network.send(node, messages);
        }
        for (node, messages) in self.leaders.route(self.options.clock.now(), fx.cross) {
            if node == self.options.node {
                // The shard is its own peer where it leads both groups.
                let event = Event::Cross { from: node, messages, permit: None };
                let _ended = self.sender.send(event).is_err(); // We are the receiver.
            } else {
                self.options.network.send_cross(node, messages);
            }
        }
        self.carry_out_rows(fx.refills, fx.withdrawn, fx.checks, fx.hashes);
        self.switches.extend(fx.switches);
        for read in fx.cut_reads {
            read.run_off_task(self.options.stop.clone());
        }
        for (group, at) in fx.memberships {
            self.tell_membership(group, &at);
            let membership = self.record_of(group, &at);
            self.memberships_unstored += 1;
            self.log.send(LogCommand::Membership { group, membership });
        }
        for (to, group, at) in fx.told {
            self.options.network.tell_membership(to, group, &at);
        }
        for (group, at) in fx.kept {
            let membership = self.record_of(group, &at);
            self.log.send(LogCommand::Keep { group, membership });
        }
        for (group, replica) in fx.whole_logs {
            self.log.send(LogCommand::LogWhole { group, replica });
        }
        for (group, ballot) in fx.promises {
            self.log.send(LogCommand::Promise { group, ballot });
        }
        if !fx.frames.is_empty() {
            let bytes: usize = fx.frames.iter().map(|frame| frame.body.len()).sum();
            self.checkpoints.appended(bytes as u64);
            self.log.send(LogCommand::Append { frames: fx.frames, writes: fx.writes });
        }
        self.carry_out_leaves(fx.leaves);
    }
}

impl Drop for Shard {
    /// Whoever still has a handle must not keep the files of the store open.
    fn drop(&mut self) {
        self.ready.clear();
    }
}

/// Does work that may wait for the disk where it keeps nobody.
pub(crate) fn off_task(work: impl FnOnce() + Send + 'static) {
    #[allow(deprecated)]
    // The simulator marks it so: there it runs at once, which is right.
    let _job = tokio::task::spawn_blocking(work);
}

const _: () = assert!(limits::PEER_IN_FLIGHT_BYTES_MAX < limits::NODE_REQUEST_BYTES_MAX);
