//! Drives the load and measures it.
//!
//! Closed loop: so many callers, each of which asks again as soon as it was answered. What the cluster
//! cannot take is never asked, so latency says little about overload.
//!
//! Open loop: requests are due at a fixed rate, whatever the cluster does, and the time of each counts
//! from when it was due, not from when it could be sent. So a stall is felt by all who would have asked
//! during it, not by one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use quorate_client::Error;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::keys::Keys;
use super::work::{Worker, Workload};
use crate::exit::Failure;

/// Histograms that callers share, so that few of them meet.
const SHARDS: usize = 16;
/// The longest time told apart, in microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;
/// Three digits of every time are right.
const DIGITS: u8 = 3;
/// A caller whose request failed does not ask again at once: a failure may come without any wait.
const AFTER_ERROR: Duration = Duration::from_millis(10);
/// A thread that waits for a time sleeps no longer than this at once, to hear that it is over.
const NAP: Duration = Duration::from_millis(50);

/// What is driven.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) workload: Workload,
    pub(super) worker: Worker,
    pub(super) keys: Keys,
    /// Requests in flight, at most.
    pub(super) callers: usize,
    /// Requests a second; without it the loop is closed.
    pub(super) rate: Option<u64>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// Between the first and the last look.
    pub(super) elapsed: Duration,
    /// Operations that ended well.
    pub(super) operations: u64,
    /// Requests that ended well.
    pub(super) calls: u64,
    /// Times of those, in microseconds.
    pub(super) latency_us: Histogram<u64>,
    /// Requests that failed, by code, and the first of each.
    pub(super) errors: BTreeMap<&'static str, (u64, String)>,
    /// In an open loop: requests that were due and not even sent when the time was over.
    pub(super) unsent: u64,
}

/// A load under way. Dropping it ends it.
pub(super) struct Drive {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    began: Instant,
}

struct Shared {
    is_counting: AtomicBool,
    is_over: AtomicBool,
    due: AtomicU64,
    sent: AtomicU64,
    shards: Vec<Mutex<Shard>>,
}

struct Shard {
    operations: u64,
    calls: u64,
    latency_us: Histogram<u64>,
    errors: BTreeMap<&'static str, (u64, String)>,
}

impl Shard {
    fn new() -> Result<Shard, Failure> {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS)
            .map_err(|error| Failure::new(quorate_types::Code::Internal, error.to_string()))?;
        Ok(Shard { operations: 0, calls: 0, latency_us, errors: BTreeMap::new() })
    }
}

impl Shared {
    fn shard(&self, caller: usize) -> std::sync::MutexGuard<'_, Shard> {
        self.shards[caller % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the end of a request that counts from `since`.
    fn note(&self, caller: usize, since: Instant, ended: Result<u64, Error>) {
        let took = since.elapsed();
        if !self.is_counting.load(Ordering::Relaxed) {
            return;
        }
        let mut shard = self.shard(caller);
        match ended {
            Ok(operations) => {
                shard.operations += operations;
                shard.calls += 1;
                let us = u64::try_from(took.as_micros()).unwrap_or(LATENCY_US_MAX);
                shard.latency_us.saturating_record(us.max(1));
            }
            Err(error) => {
                let first = || (0, error.to_string());
                shard.errors.entry(error.code().name()).or_insert_with(first).0 += 1;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl Drive {
    /// Starts the load. Nothing counts yet.
    ///
    /// # Errors
    /// `INTERNAL` if the histograms cannot be made.
    pub(super) fn start(plan: &Plan) -> Result<Drive, Failure> {
        let shards: Result<Vec<_>, Failure> =
            (0..SHARDS).map(|_| Shard::new().map(Mutex::new)).collect();
        let shared = Arc::new(Shared {
            is_counting: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            due: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            shards: shards?,
        });
        let mut tasks = JoinSet::new();
        match plan.rate {
            None => {
                for caller in 0..plan.callers {
                    tasks.spawn(ask_again(plan.clone(), caller, Arc::clone(&shared)));
                }
            }
            Some(rate) => {
                let schedule = Schedule { began: Instant::now(), rate };
                let due = schedule.clock(Arc::clone(&shared));
                tasks.spawn(ask_when_due(plan.clone(), schedule, due, Arc::clone(&shared)));
            }
        }
        Ok(Drive { shared, tasks, began: Instant::now() })
    }

    /// From now on everything counts.
    pub(super) fn count(&mut self) {
        self.began = Instant::now();
        self.shared.is_counting.store(true, Ordering::Relaxed);
    }

    /// Nothing counts any more; what is under way is let end.
    pub(super) async fn end(mut self) -> Result<Measured, Failure> {
        self.shared.is_counting.store(false, Ordering::Relaxed);
        let elapsed = self.began.elapsed();
        self.shared.is_over.store(true, Ordering::Relaxed);
        let (due, sent) =
            (self.shared.due.load(Ordering::Relaxed), self.shared.sent.load(Ordering::Relaxed));
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|error| {
                let message = format!("a caller ended badly: {error}");
                Failure::new(quorate_types::Code::Internal, message)
            })?;
        }
        let mut all = Shard::new()?;
        for shard in &self.shared.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.operations += shard.operations;
            all.calls += shard.calls;
            if all.latency_us.add(&shard.latency_us).is_err() {
                unreachable!("all histograms have the same bounds");
            }
            for (code, (count, first)) in &shard.errors {
                all.errors.entry(code).or_insert_with(|| (0, first.clone())).0 += count;
            }
        }
        let Shard { operations, calls, latency_us, errors } = all;
        let unsent = due.saturating_sub(sent);
        Ok(Measured { elapsed, operations, calls, latency_us, errors, unsent })
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

/// A caller of a closed loop.
async fn ask_again(plan: Plan, caller: usize, shared: Arc<Shared>) {
    let mut rng = SmallRng::from_rng(&mut rand::rng());
    while !shared.is_over() {
        let uid = plan.keys.draw(&mut rng);
        let since = Instant::now();
        let ended = plan.worker.ask(plan.workload, uid).await;
        let has_failed = ended.is_err();
        shared.note(caller, since, ended);
        if has_failed {
            tokio::time::sleep(AFTER_ERROR).await;
        }
    }
}

/// Sends what is due, as far as callers are free.
async fn ask_when_due(
    plan: Plan,
    schedule: Schedule,
    mut due: watch::Receiver<u64>,
    shared: Arc<Shared>,
) {
    let callers = Arc::new(Semaphore::new(plan.callers));
    let mut rng = SmallRng::from_rng(&mut rand::rng());
    let mut asking = JoinSet::new();
    for caller in 0_usize.. {
        let since = schedule.due(caller as u64);
        if due.wait_for(|due| caller < *due as usize).await.is_err() {
            break;
        }
        let Ok(free) = Arc::clone(&callers).acquire_owned().await else { break };
        if shared.is_over() {
            break;
        }
        shared.sent.fetch_add(1, Ordering::Relaxed);
        let uid = plan.keys.draw(&mut rng);
        let (worker, workload, shared) = (plan.worker.clone(), plan.workload, Arc::clone(&shared));
        asking.spawn(async move {
            let ended = worker.ask(workload, uid).await;
            shared.note(caller, since, ended);
            drop(free);
        });
        while asking.try_join_next().is_some() {}
    }
    while asking.join_next().await.is_some() {}
}

/// When the requests of an open loop are due.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    began: Instant,
    /// Requests a second.
    rate: u64,
}

impl Schedule {
    fn due(self, number: u64) -> Instant {
        self.began + Duration::from_secs_f64(number as f64 / self.rate as f64)
    }

    /// Says how many requests are due by now. A thread of its own: timers of the runtime are too coarse.
    fn clock(self, shared: Arc<Shared>) -> watch::Receiver<u64> {
        let (send, receive) = watch::channel(0);
        std::thread::spawn(move || {
            for number in 0_u64.. {
                let at = self.due(number);
                loop {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() || shared.is_over() {
                        break;
                    }
                    std::thread::sleep(left.min(NAP));
                }
                if shared.is_over() || send.send(number + 1).is_err() {
                    return;
                }
                shared.due.store(number + 1, Ordering::Relaxed);
            }
        });
        receive
    }
}
