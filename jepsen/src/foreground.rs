//! A load of small writes and reads at a fixed rate, and how long each took: what callers notice of
//! something else that goes on.
//!
//! Open loop: a request is due whatever the cluster does, and its time counts from when it was due, not from
//! when it could be sent. So a stall is felt by all who would have asked during it. Requests belong to the
//! span of time in which they were due, however late they end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use quorate_client::{Client, Uid, Value};
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::Failure;
use crate::ledger::{End, Ledger};
use crate::report::ms;
use crate::workload::{TABLE, end, group_of};

/// The first user; there are none of other loads behind it.
const FIRST_UID: u64 = 50_000;
/// Users, of all slices alike.
const USERS: u64 = 1_000;
/// The key of the row of each user that is read.
const READ_KEY: &str = "read";
/// Bytes of a value, about.
const VALUE_BYTES: usize = 200;
/// Requests in flight, at most. Those that would be more wait, and their time counts.
const IN_FLIGHT_MAX: usize = 10_000;
/// The longest time told apart, in microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;
/// Three digits of every time are right.
const DIGITS: u8 = 3;
/// The thread that waits for the next request sleeps no longer than this at once, to hear that it is over.
const NAP: Duration = Duration::from_millis(50);

/// What was measured in a span of time.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// What went on meanwhile.
    pub(crate) name: &'static str,
    /// How long it was.
    pub(crate) lasted: Duration,
    /// The longest time in which a group acknowledged no write.
    pub(crate) gap: Duration,
    /// Times of writes that were acknowledged, in microseconds.
    pub(crate) writes: Histogram<u64>,
    /// Times of reads that were answered.
    pub(crate) reads: Histogram<u64>,
    /// Requests that failed, by code.
    pub(crate) errors: BTreeMap<&'static str, u64>,
    began: Instant,
}

impl Measured {
    fn new(name: &'static str) -> Result<Measured, Failure> {
        let times = || Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS);
        let (lasted, gap, errors) = (Duration::ZERO, Duration::ZERO, BTreeMap::new());
        let (writes, reads, began) = (times()?, times()?, Instant::now());
        Ok(Measured { name, lasted, gap, writes, reads, errors, began })
    }

    /// A line for people, under `TITLES`.
    pub(crate) fn line(&self) -> String {
        let of = |times: &Histogram<u64>| {
            let at = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
            format!("{:>8} {:>8.2} {:>8.2} {:>8.2}", times.len(), at(0.5), at(0.99), at(0.999))
        };
        format!(
            "{:<8} {:>7.1} {} {} {:>7} {:>7}",
            self.name,
            self.lasted.as_secs_f64(),
            of(&self.writes),
            of(&self.reads),
            ms(self.gap),
            self.errors.values().sum::<u64>()
        )
    }

    /// The same for the report.
    pub(crate) fn json(&self) -> serde_json::Value {
        let of = |times: &Histogram<u64>| {
            let at = |quantile| times.value_at_quantile(quantile);
            json!({
                "requests": times.len(), "p50_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999),
                "max_us": times.max(),
            })
        };
        json!({
            "lasted_ms": ms(self.lasted), "writes": of(&self.writes), "reads": of(&self.reads),
            "longest_gap_ms": ms(self.gap), "errors": self.errors,
        })
    }
}

/// The titles above the lines of `Measured`; times in ms.
pub(crate) const TITLES: &str = "             s   writes      p50      p99    p99.9    reads      \
                                 p50      p99    p99.9     gap  errors";

/// How many times longer the p99 of `during` is than that of `before`.
pub(crate) fn p99_ratio(before: &Histogram<u64>, during: &Histogram<u64>) -> f64 {
    during.value_at_quantile(0.99) as f64 / before.value_at_quantile(0.99).max(1) as f64
}

type Span = Arc<Mutex<Measured>>;

/// A load under way. Dropping it ends it.
pub(crate) struct Foreground {
    shared: Arc<Shared>,
    asking: JoinHandle<()>,
}

struct Shared {
    client: Client,
    ledger: Arc<Ledger>,
    is_over: Arc<AtomicBool>,
    /// The last one is the present one.
    spans: Mutex<Vec<Span>>,
}

impl Foreground {
    /// Writes the rows that are read, then starts the load, so many requests a second. The first span has this
    /// name.
    pub(crate) async fn start(
        client: &Client,
        ledger: &Arc<Ledger>,
        rate: u64,
        name: &'static str,
    ) -> Result<Foreground, Failure> {
        for uid in uids() {
            let value = value_of(uid, READ_KEY);
            client.put(TABLE, Uid(uid), READ_KEY, value.clone()).await?;
            let group = group_of(client, uid);
            ledger.row(group, (uid, READ_KEY.to_owned()), value, End::Done);
        }
        ledger.reset_pulses();
        let spans = Mutex::new(vec![Arc::new(Mutex::new(Measured::new(name)?))]);
        let (client, ledger) = (client.clone(), Arc::clone(ledger));
        let shared = Arc::new(Shared { client, ledger, is_over: Arc::default(), spans });
        let schedule = Schedule { began: Instant::now(), rate };
        let due = schedule.clock(Arc::clone(&shared.is_over));
        let asking = tokio::spawn(ask_when_due(schedule, due, Arc::clone(&shared)));
        Ok(Foreground { shared, asking })
    }

    /// Something else goes on from now on.
    pub(crate) fn turn_to(&self, name: &'static str) -> Result<(), Failure> {
        self.shared.end_span();
        let span = Arc::new(Mutex::new(Measured::new(name)?));
        self.shared.spans().push(span);
        Ok(())
    }

    /// Lets every request end, and returns what was measured, in order.
    pub(crate) async fn end(mut self) -> Result<Vec<Measured>, Failure> {
        self.shared.end_span();
        self.shared.is_over.store(true, Ordering::Relaxed);
        (&mut self.asking).await?;
        let spans = self.shared.spans();
        Ok(spans.iter().map(|span| lock(span).clone()).collect())
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn spans(&self) -> MutexGuard<'_, Vec<Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(&self) -> Span {
        let spans = self.spans();
        Arc::clone(spans.last().expect("there is one from the start on"))
    }

    fn end_span(&self) {
        let now = Instant::now();
        let gaps: Vec<Duration> =
            self.ledger.book().pulses.values().map(|pulse| pulse.stall(now)).collect();
        self.ledger.reset_pulses();
        let span = self.present();
        let mut span = lock(&span);
        span.lasted = now.duration_since(span.began);
        span.gap = gaps.into_iter().max().unwrap_or_default();
    }

    /// Makes a request that was due at `since`.
    async fn ask(&self, number: u64, since: Instant, span: &Span) {
        let uid = FIRST_UID + number / 2 % USERS;
        let is_write = number.is_multiple_of(2);
        let failed = if is_write {
            let key = format!("{number:010}");
            let value = value_of(uid, &key);
            let written = self.client.put(TABLE, Uid(uid), key.clone(), value.clone()).await;
            let group = group_of(&self.client, uid);
            self.ledger.row(group, (uid, key), value, end(written.as_ref().err()));
            written.err()
        } else {
            match self.client.get(TABLE, Uid(uid), READ_KEY).await {
                Ok(found) => {
                    if found != Some(Value::Bytes(value_of(uid, READ_KEY).into())) {
                        let text = format!("a read of row {uid}/{READ_KEY} answered {found:?}");
                        self.ledger.book().contradictions.push(text);
                    }
                    None
                }
                Err(error) => Some(error),
            }
        };
        let us = u64::try_from(since.elapsed().as_micros()).unwrap_or(LATENCY_US_MAX).max(1);
        let mut span = lock(span);
        match failed {
            Some(error) => *span.errors.entry(error.code().name()).or_default() += 1,
            None if is_write => span.writes.saturating_record(us),
            None => span.reads.saturating_record(us),
        }
    }
}

/// The users whose rows are written and read.
pub(crate) fn uids() -> std::ops::Range<u64> {
    FIRST_UID..FIRST_UID + USERS
}

fn lock(span: &Span) -> MutexGuard<'_, Measured> {
    span.lock().unwrap_or_else(PoisonError::into_inner) // Every change is one of a single field.
}

fn value_of(uid: u64, key: &str) -> String {
    format!("{uid}/{key}/{}", "x".repeat(VALUE_BYTES))
}

/// Sends what is due.
async fn ask_when_due(schedule: Schedule, mut due: watch::Receiver<u64>, shared: Arc<Shared>) {
    let free = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut asking = JoinSet::new();
    for number in 0_u64.. {
        if due.wait_for(|due| number < *due).await.is_err() {
            break;
        }
        let Ok(turn) = Arc::clone(&free).acquire_owned().await else { break };
        if shared.is_over.load(Ordering::Relaxed) {
            break;
        }
        let (shared, span, since) = (Arc::clone(&shared), shared.present(), schedule.due(number));
        asking.spawn(async move {
            shared.ask(number, since, &span).await;
            drop(turn);
        });
        while asking.try_join_next().is_some() {}
    }
    while asking.join_next().await.is_some() {}
}

/// When requests are due.
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
    fn clock(self, is_over: Arc<AtomicBool>) -> watch::Receiver<u64> {
        let (send, receive) = watch::channel(0);
        std::thread::spawn(move || {
            for number in 0_u64.. {
                let at = self.due(number);
                loop {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() || is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    std::thread::sleep(left.min(NAP));
                }
                if is_over.load(Ordering::Relaxed) || send.send(number + 1).is_err() {
                    return;
                }
            }
        });
        receive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_p99s() {
        // Goal: neither the median nor the slowest request decides.
        let times = |most: u64, some: u64| {
            let mut times = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).unwrap();
            times.record_n(most, 970).unwrap();
            times.record_n(some, 29).unwrap();
            times.record(1_000_000).unwrap();
            times
        };
        assert_eq!(p99_ratio(&times(100, 200), &times(150, 500)), 2.5);
        assert_eq!(p99_ratio(&times(100, 200), &times(200, 200)), 1.0);
    }

    #[test]
    fn requests_are_due_at_the_rate_and_reach_all_slices() {
        // Goal: a tenth of a second has a tenth of the rate; a run of users has every slice.
        let schedule = Schedule { began: Instant::now(), rate: 2_000 };
        assert_eq!(schedule.due(200) - schedule.began, Duration::from_millis(100));
        let slices: std::collections::BTreeSet<u64> = uids().map(|uid| uid % 100).collect();
        assert_eq!(slices.len(), 100);
    }
}
