//! The load: writers that each write rows of their own, adders that add to shared counters.
//!
//! Started and stopped by `trial.rs` once per round. All of them share one client for the whole trial,
//! so its sessions and their retries outlive every fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_client::{Client, Error, Outcome, Uid};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use crate::ledger::{End, Ledger};

/// The table of the cluster file.
pub(crate) const TABLE: &str = "purchases";
/// The key of a counter.
pub(crate) const COUNTER_KEY: &str = "count";
/// Users of the counters; those of writers come after.
const COUNTER_UIDS: u64 = 100_000;
/// From the user of a counter to the next: the counters belong to the groups by turns.
const COUNTERS_APART: u64 = 50;
/// Every so many tasks one is impatient: its calls end while the processes are dead, often without an
/// answer, so that unknown outcomes are checked too.
const IMPATIENT_EVERY: u64 = 4;
/// The deadline of its calls.
const IMPATIENT_TIMEOUT: Duration = Duration::from_millis(400);
/// Longest value, beside its name.
const PADDING_MAX: usize = 200;

/// How much load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Tasks that write rows.
    pub(crate) writers: u64,
    /// Tasks that add.
    pub(crate) adders: u64,
    /// Counters they share.
    pub(crate) counters: u64,
    /// Longest pause of a task between two calls.
    pub(crate) pause_max: Duration,
}

impl Load {
    /// The user whose rows a writer writes in a round. Each round has users of its own.
    pub(crate) fn writer_uid(self, round: u64, writer: u64) -> u64 {
        COUNTER_UIDS + round * self.writers + writer
    }

    /// The users of the counters.
    pub(crate) fn counter_uids(self) -> impl Iterator<Item = u64> {
        (0..self.counters).map(|counter| counter * COUNTERS_APART)
    }

    /// The users of a round.
    pub(crate) fn writer_uids(self, round: u64) -> std::ops::Range<u64> {
        self.writer_uid(round, 0)..self.writer_uid(round + 1, 0)
    }
}

/// Tasks at work. They end with this: what a fault leaves that failed does not write to the cluster of the next one.
pub(crate) struct Running {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Running {
    /// Starts every task of a round.
    pub(crate) fn start(
        load: Load,
        round: u64,
        client: &Client,
        ledger: &Arc<Ledger>,
        random: &mut SmallRng,
    ) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for writer in 0..load.writers {
            let uid = load.writer_uid(round, writer);
            let task = Task::new(load, &patience(client, writer), ledger, &stop, random);
            tasks.spawn(task.write(uid, group_of(client, uid)));
        }
        for adder in 0..load.adders {
            let uid = adder % load.counters * COUNTERS_APART;
            let task = Task::new(load, &patience(client, adder), ledger, &stop, random);
            tasks.spawn(task.add(uid, group_of(client, uid)));
        }
        Running { stop, tasks }
    }

    /// Lets every call end, then returns. False if a task panicked.
    pub(crate) async fn stop(mut self) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        let mut well = true;
        while let Some(ended) = self.tasks.join_next().await {
            well &= ended.is_ok();
        }
        well
    }
}

struct Task {
    load: Load,
    client: Client,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    random: SmallRng,
}

impl Task {
    fn new(
        load: Load,
        client: &Client,
        ledger: &Arc<Ledger>,
        stop: &Arc<AtomicBool>,
        random: &mut SmallRng,
    ) -> Task {
        let (client, ledger, stop) = (client.clone(), Arc::clone(ledger), Arc::clone(stop));
        Task { load, client, ledger, stop, random: SmallRng::seed_from_u64(random.random()) }
    }

    async fn write(mut self, uid: u64, group: u32) {
        for number in 0_u64.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let key = format!("{number:08}");
            let padding = self.random.random_range(0..PADDING_MAX);
            let value = format!("{uid}/{key}/{}", "x".repeat(padding));
            let written = self.client.put(TABLE, Uid(uid), key.clone(), value.clone()).await;
            self.ledger.row(group, (uid, key), value, end(written.as_ref().err()));
            self.pause().await;
        }
    }

    async fn add(mut self, uid: u64, group: u32) {
        while !self.stop.load(Ordering::Relaxed) {
            let floor = self.ledger.certain(uid);
            let adding = self.client.transaction().add(TABLE, Uid(uid), COUNTER_KEY, 1);
            let added = adding.commit().await;
            let sum = added.as_ref().ok().and_then(|committed| committed.sums.first().copied());
            self.ledger.add(group, uid, end(added.as_ref().err()), sum, floor);
            self.pause().await;
        }
    }

    async fn pause(&mut self) {
        let longest = u64::try_from(self.load.pause_max.as_micros()).unwrap_or(u64::MAX);
        let pause = Duration::from_micros(self.random.random_range(0..=longest));
        tokio::time::sleep(pause).await;
    }
}

/// The group that has the rows of a user.
pub(crate) fn group_of(client: &Client, uid: u64) -> u32 {
    // Every slice of the cluster file has a group.
    client.route(TABLE, Uid(uid)).map_or(0, |route| route.group.0)
}

/// The client of a task: the same one, with the deadline that the task has.
pub(crate) fn patience(client: &Client, task: u64) -> Client {
    if task % IMPATIENT_EVERY == IMPATIENT_EVERY - 1 {
        client.with_timeout(IMPATIENT_TIMEOUT)
    } else {
        client.clone()
    }
}

/// What a caller knows of its call.
pub(crate) fn end(error: Option<&Error>) -> End {
    match error.map(Error::outcome) {
        None => End::Done,
        Some(Outcome::NotApplied) => End::NotDone,
        Some(Outcome::Unknown) => End::Unknown,
    }
}
