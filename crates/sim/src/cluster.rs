//! The servers: each a simulated machine that runs the code that ships.
//!
//! What outlives a process (disk, engine, clock) stands outside the simulated node. A kill loses what the
//! process held, which includes what the engine had not flushed; a power cut also loses what the disk had
//! not synced and starts the clock anew.

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use madsim::net::NetSim;
use madsim::runtime::{Handle, NodeHandle};
use quorate_log::SimDisk;
use quorate_replica::{DiskHangs, Stop};
use quorate_server::options::timing;
use quorate_server::{Node, NodeContext, NodeParts, Profile, Repaired, Tuning, is_damage};
use quorate_store::{CheckpointPolicy, Twin};
use quorate_topology::Topology;
use quorate_types::{Code, Error, NodeId};
use rand::rngs::SmallRng;
use rand::{Rng, RngCore};

use crate::clock::SimClock;
use crate::damage::flip_log;
use crate::network::SimNetwork;
use crate::options::Options;
use crate::places::server_ip;
use crate::random::{Draw, random};

/// How often leaders have their replicas compare rows: a few times in each run.
const CHECK_EVERY: Duration = Duration::from_secs(3);
/// How often it is noted what the checks of a server have found.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How often a supervisor looks for processes that ended themselves.
pub const SUPERVISED_EVERY: Duration = Duration::from_millis(100);
/// Between the end of a process and the start of the next: its tasks are dropped meanwhile.
const DROP_TIME: Duration = Duration::from_millis(5);
/// What a clock shows after a boot, at most.
const BOOT_SHOWS_MAX: u64 = 1_000_000_000_000;
/// What other programs hold of a full disk.
const OTHERS_BYTES: u64 = 100 * 1024 * 1024 * 1024;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It is killed; the machine goes on.
    Kill,
    /// The machine loses power.
    PowerCut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Paused,
    Down,
}

/// What a server is made of and what outlives it.
#[derive(Clone)]
struct Seat {
    topology: Arc<Topology>,
    node: NodeId,
    seed: u64,
    disk: SimDisk,
    twin: Twin,
    tuning: Tuning,
    clock: Arc<SimClock>,
    network: SimNetwork,
    starts: Arc<AtomicU64>,
    /// The process ended itself, because its disk hangs or its rows are damaged.
    gave_up: Arc<AtomicBool>,
    damage: Arc<Damage>,
    /// What checks of its processes have found.
    found: Arc<Mutex<Found>>,
}

/// What the checks of one server have found, over all its processes.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// In processes that have ended.
    before: Counts,
    /// In the one that runs, or ran last.
    now: Counts,
}

impl Found {
    /// Another process begins.
    fn begin(&mut self) {
        self.before = self.before.plus(self.now);
        self.now = Counts::default();
    }

    /// What the process has found so far. Rows that differed and were replaced still count.
    fn note(&mut self, now: Counts) {
        self.now = Counts { differed: now.differed.max(self.now.differed), ..now };
    }
}

/// Checks by what they found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All held the same.
    pub agreed: u64,
    /// Somebody held something else.
    pub differed: u64,
}

impl Counts {
    fn plus(self, other: Counts) -> Counts {
        let Counts { agreed, differed } = other;
        Counts { agreed: self.agreed + agreed, differed: self.differed + differed }
    }
}

/// What became of bytes that have changed on the disk of a server.
#[derive(Debug, Default)]
struct Damage {
    /// Some have. Where none have, none may be found.
    is_done: AtomicBool,
    /// A process found it in its rows: the next start does without them.
    is_in_rows: AtomicBool,
    /// Groups whose logs were given up by a start.
    logs_given_up: AtomicU64,
    /// Starts without the rows that there were.
    rows_given_up: AtomicU64,
}

impl Damage {
    /// False if there cannot be any, whoever found some.
    fn is_known(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }
}

struct Member {
    seat: Seat,
    machine: NodeHandle,
    state: State,
}

/// The servers of a cluster.
pub struct Cluster {
    handle: Handle,
    members: Vec<Member>,
    network: SimNetwork,
    sync: Duration,
    rng: SmallRng,
}

impl Cluster {
    /// Starts a server on every node of the topology.
    #[must_use]
    pub fn start(options: &Options, topology: &Arc<Topology>) -> Cluster {
        let handle = Handle::current();
        let mut rng = random(options.seed, Draw::Crashes);
        let weather = options.links.clone();
        let network = SimNetwork::new(topology, weather, random(options.seed, Draw::Network));
        let mut members = Vec::new();
        for (index, entry) in topology.nodes().enumerate() {
            let error_ppb = 1_000 * options.clock_ppm;
            let rate_error_ppb = rng.random_range(-error_ppb..=error_ppb);
            let shows = rng.random_range(0..BOOT_SHOWS_MAX);
            let seat = Seat {
                topology: Arc::clone(topology),
                node: entry.id,
                seed: options.seed,
                disk: SimDisk::new(),
                twin: Twin::with_write_buffer(options.write_buffer),
                tuning: tuning(options, topology),
                clock: Arc::new(SimClock::new(rate_error_ppb, shows)),
                network: network.clone(),
                starts: Arc::default(),
                gave_up: Arc::default(),
                damage: Arc::default(),
                found: Arc::default(),
            };
            seat.disk.set_sync_latency(options.sync);
            let made_of = seat.clone();
            let machine = handle
                .create_node()
                .name(entry.name.clone())
                .ip(server_ip(index))
                // What is captured here survives kills: only disk, engine, clock and constants.
                .init(move || serve(made_of.clone()))
                .build();
            members.push(Member { seat, machine, state: State::Up });
        }
        Cluster { handle, members, network, sync: options.sync, rng }
    }

    /// How many servers there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// The network between the servers.
    #[must_use]
    pub fn network(&self) -> &SimNetwork {
        &self.network
    }

    /// Ends a process, if one runs, and loses its rows. The log and the promises stay.
    pub fn lose_rows(&mut self, index: usize) -> bool {
        self.stop(index, Death::Kill);
        self.members[index].seat.twin.lose();
        true
    }

    /// Ends a process, if one runs, and loses everything it had: an empty disk takes the place of its own.
    pub fn wipe(&mut self, index: usize) -> bool {
        self.stop(index, Death::PowerCut);
        let seat = &self.members[index].seat;
        seat.twin.lose();
        seat.disk.lose();
        true
    }

    /// Ends a process, if one runs, and changes bytes of its log. False if nothing of that is durable.
    pub fn damage_log(&mut self, index: usize) -> bool {
        self.stop(index, Death::Kill);
        let seat = &self.members[index].seat;
        seat.damage.is_done.store(true, Ordering::Release);
        flip_log(&seat.disk, &mut self.rng)
    }

    /// Changes bytes of the rows on a disk, under a process that may run. False if there are none.
    pub fn damage_rows(&mut self, index: usize) -> bool {
        let seat = &self.members[index].seat;
        seat.damage.is_done.store(true, Ordering::Release);
        seat.twin.damage(self.rng.next_u64())
    }

    /// How many logs of groups, and how often rows, were given up because of damage.
    #[must_use]
    pub fn repaired(&self) -> (u64, u64) {
        let damage = || self.members.iter().map(|member| &member.seat.damage);
        let logs = damage().map(|it| it.logs_given_up.load(Ordering::Relaxed)).sum();
        let rows = damage().map(|it| it.rows_given_up.load(Ordering::Relaxed)).sum();
        (logs, rows)
    }

    /// The server of a node.
    #[must_use]
    pub fn index_of(&self, node: NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.seat.node == node)
    }

    /// Starts processes again that ended themselves, as a supervisor would. Says how many there were.
    pub async fn restart_those_that_gave_up(&mut self) -> u64 {
        let mut count = 0;
        for index in 0..self.members.len() {
            if self.members[index].seat.gave_up.swap(false, Ordering::AcqRel) {
                count += 1;
                self.stop(index, Death::Kill);
                self.restart(index).await;
            }
        }
        count
    }

    /// Starts processes again that end themselves, until `what` is done.
    pub async fn supervise<T>(&mut self, what: impl Future<Output = T>) -> T {
        tokio::pin!(what);
        loop {
            tokio::select! {
                biased;
                done = &mut what => return done,
                () = tokio::time::sleep(SUPERVISED_EVERY) => {}
            }
            self.restart_those_that_gave_up().await;
        }
    }

    /// How many processes were started.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.members.iter().map(|member| member.seat.starts.load(Ordering::Relaxed)).sum()
    }

    /// What the checks of all servers have found.
    #[must_use]
    pub fn checks(&self) -> Counts {
        let of = |member: &Member| {
            let found = *lock(&member.seat.found);
            found.before.plus(found.now)
        };
        self.members.iter().map(of).fold(Counts::default(), Counts::plus)
    }

    /// Ends a process. False if there is none.
    pub fn stop(&mut self, index: usize, death: Death) -> bool {
        self.resume(index); // What is paused could not be dropped.
        let member = &mut self.members[index];
        if member.state == State::Down {
            return false;
        }
        member.state = State::Down;
        self.handle.kill(member.machine.id());
        // RocksDB runs without a log of its own: its memory dies with the process.
        member.seat.twin.crash(self.rng.next_u64());
        match death {
            Death::Kill => member.seat.disk.kill(),
            Death::PowerCut => {
                member.seat.disk.crash(self.rng.next_u64());
                member.seat.clock.reboot(self.rng.random_range(0..BOOT_SHOWS_MAX));
            }
        }
        true
    }

    /// Starts a process where there is none. False if there is one.
    pub async fn restart(&mut self, index: usize) -> bool {
        if self.members[index].state != State::Down {
            return false;
        }
        tokio::time::sleep(DROP_TIME).await;
        self.handle.restart(self.members[index].machine.id());
        self.members[index].state = State::Up;
        true
    }

    /// Freezes a process. False if none runs.
    pub fn pause(&mut self, index: usize) -> bool {
        let member = &mut self.members[index];
        let runs = member.state == State::Up;
        if runs {
            member.state = State::Paused;
            self.handle.pause(member.machine.id());
        }
        runs
    }

    /// Lets a frozen process go on. False if none is frozen.
    pub fn resume(&mut self, index: usize) -> bool {
        let member = &mut self.members[index];
        let is_paused = member.state == State::Paused;
        if is_paused {
            member.state = State::Up;
            self.handle.resume(member.machine.id());
        }
        is_paused
    }

    /// Makes syncs of a node slower, or normal again with 1.
    pub fn slow_disk(&mut self, index: usize, times: u32) {
        self.members[index].seat.disk.set_sync_latency(self.sync * times);
    }

    /// Leaves a disk less room than the node keeps in reserve, or makes it endless again.
    pub fn fill_disk(&self, index: usize, is_full: bool) {
        let disk = &self.members[index].seat.disk;
        // Others hold the rest, so that segments ready for use are no way out of the reserve.
        disk.set_others_bytes(OTHERS_BYTES);
        disk.set_capacity(is_full.then(|| disk.used_bytes() + disk.used_bytes() / 20));
    }

    /// Cuts one direction of a link between servers, or mends it: what it is given is lost.
    pub fn cut(&self, from: usize, to: usize, is_cut: bool) {
        let (from, to) = (self.node(from), self.node(to));
        match is_cut {
            true => self.network.cut(from, to),
            false => self.network.mend(from, to),
        }
    }

    /// Makes one direction of a link hold back what it is given, or lets it go on.
    pub fn hold(&self, from: usize, to: usize, is_cut: bool) {
        let (from, to) = (self.members[from].machine.id(), self.members[to].machine.id());
        match is_cut {
            true => NetSim::current().clog_link(from, to),
            false => NetSim::current().unclog_link(from, to),
        }
    }

    /// Cuts a server off from one machine that is no server, or mends it.
    pub fn cut_client(&self, index: usize, client: &NodeHandle, is_cut: bool) {
        let (server, client) = (self.members[index].machine.id(), client.id());
        for (from, to) in [(server, client), (client, server)] {
            match is_cut {
                true => NetSim::current().clog_link(from, to),
                false => NetSim::current().unclog_link(from, to),
            }
        }
    }

    /// The number of a node.
    #[must_use]
    pub fn node(&self, index: usize) -> NodeId {
        self.members[index].seat.node
    }

    /// Ends everything, so that nothing outlives the run.
    pub async fn end(mut self) {
        for index in 0..self.members.len() {
            self.stop(index, Death::Kill);
        }
        tokio::time::sleep(DROP_TIME).await;
    }
}

/// Who keeps little log flushes often, too: log is recycled only below what is flushed.
fn tuning(options: &Options, topology: &Topology) -> Tuning {
    let often = CheckpointPolicy {
        checkpoint_age: Duration::from_millis(300),
        flush_age: Duration::from_millis(600),
        ..CheckpointPolicy::small()
    };
    let mut timing = timing(topology.lease());
    timing.suspend_after = options.suspend_after;
    Tuning {
        log_keep_max: options.log_keep,
        checkpoints: options.log_keep.map(|_| often),
        check_interval: CHECK_EVERY,
        timing: Some(timing),
        ..Tuning::default()
    }
}

/// One life of a server process.
async fn serve(seat: Seat) {
    let start = seat.starts.fetch_add(1, Ordering::Relaxed);
    let mut rng = random(seat.seed, Draw::Node(seat.node.0, start));
    let node = seat.node;
    let random = [rng.next_u64(), rng.next_u64()];
    // As `serve.rs` of the server: a start that finds its rows damaged begins once more without them.
    let opened = match seat.damage.is_in_rows.swap(false, Ordering::AcqRel) {
        true => open_without_rows(&seat, random),
        false => match open(&seat, random, None) {
            Err(error) if error.code == Code::StoreDamaged && seat.damage.is_known() => {
                open_without_rows(&seat, random)
            }
            opened => opened,
        },
    };
    let running = opened.unwrap_or_else(|error| panic!("{node} did not start: {error}"));
    tokio::spawn(look_at_logs(running.context(), Arc::clone(&seat.damage)));
    tokio::spawn(look_at_checks(running.context(), Arc::clone(&seat.found)));
    let ended = running.run(pending()).await;
    if seat.gave_up.load(Ordering::Acquire) {
        return; // The cluster ends what is left of the process.
    }
    match ended {
        Ok(()) => panic!("{node} ended by itself"),
        Err(error) => panic!("{node} ended: {error}"),
    }
}

fn open(seat: &Seat, random: [u64; 2], repaired: Option<Repaired>) -> Result<Node, Error> {
    let parts = NodeParts {
        topology: Arc::clone(&seat.topology),
        node: seat.node,
        profile: Profile::Small,
        tuning: seat.tuning,
        disk: seat.disk.mount(),
        engine: Arc::new(seat.twin.clone()),
        clock: seat.clock.clone(),
        random,
        links: Some(seat.network.links_of(seat.node)),
        far_links: None,
        stop: stop(seat),
        repaired,
    };
    Node::open(parts, |log_loop| {
        // The task ends with the node.
        let _log = tokio::spawn(log_loop);
    })
}

fn open_without_rows(seat: &Seat, random: [u64; 2]) -> Result<Node, Error> {
    seat.twin.lose();
    seat.damage.rows_given_up.fetch_add(1, Ordering::Relaxed);
    let (folder, reason) = ("rows.damaged-1".to_owned(), "a checksum is wrong".to_owned());
    open(seat, random, Some(Repaired { folder, reason }))
}

/// Notes how many logs a start gave up.
async fn look_at_logs(context: Arc<NodeContext>, damage: Arc<Damage>) {
    if let Ok(status) = context.shard.status().await {
        let suspect = status.groups.iter().filter(|group| group.log_suspect).count();
        assert!(suspect == 0 || damage.is_known(), "a start missed log that nobody took");
        damage.logs_given_up.fetch_add(suspect as u64, Ordering::Relaxed);
    }
}

/// Notes what the checks of a process find, for as long as it lives.
async fn look_at_checks(context: Arc<NodeContext>, found: Arc<Mutex<Found>>) {
    lock(&found).begin();
    while let Ok(status) = context.shard.status().await {
        let checks = status.groups.iter().map(|group| group.checks);
        let now = checks.fold(Counts::default(), |sum, it| {
            // Who is told to be wrong may hear it from a leader that is gone by now.
            let differed = it.diverged + it.no_majority + u64::from(it.is_diverged);
            sum.plus(Counts { agreed: it.agreed, differed })
        });
        lock(&found).note(now);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn lock(found: &Mutex<Found>) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner) // Every change is whole.
}

/// What a process does that cannot go on: a disk that hangs may end it, and rows that are damaged, nothing else.
fn stop(seat: &Seat) -> Stop {
    let Seat { node, gave_up, damage, .. } = seat.clone();
    Stop::new(move |error| {
        let hangs = error.source().is_some_and(|source| source.is::<DiskHangs>());
        let is_damaged = is_damage(error) && damage.is_known();
        assert!(hangs || is_damaged, "{node} stopped itself: {}", chain(error));
        damage.is_in_rows.fetch_or(is_damaged, Ordering::AcqRel);
        gave_up.store(true, Ordering::Release);
    })
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
