//! The load on etcd: what `quorate bench` does in a closed loop, in etcd's words.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use thiserror::Error;
use tokio::task::{JoinError, JoinSet};
use tonic::transport::Channel;

use super::wire::ConnectError;
use super::wire::v3::kv_client::KvClient;
use super::wire::v3::{PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request};
use crate::turn::{Figures, Latency, Load, Workload};

/// Histograms that callers share, so that few of them meet.
const SHARDS: usize = 16;
/// The longest time told apart, in microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;
/// Three digits of every time are right.
const DIGITS: u8 = 3;
/// A caller whose request failed does not ask again at once: a failure may come without any wait.
const AFTER_ERROR: Duration = Duration::from_millis(10);
/// How long requests may take to end once the time is over.
const END_LIMIT: Duration = Duration::from_secs(30);
/// Rows written by one transaction beforehand: etcd takes 128 parts and 1.5 MiB.
const FILL_ROWS: u64 = 100;
const FILL_BYTES: u64 = 1024 * 1024;
/// Transactions in flight over each connection meanwhile.
const FILL_CALLERS: usize = 4;

/// Why the load gave no figures.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The rows to be read could not be written.
    #[error("cannot write the rows that etcd is to read: {0}")]
    Fill(String),
    /// A caller ended badly.
    #[error("a caller of etcd ended badly")]
    Caller(#[from] JoinError),
    /// Requests that do not end.
    #[error("requests to etcd have not ended after {} s", END_LIMIT.as_secs())]
    Stuck,
    /// Nothing ended well.
    #[error("no request to etcd ended well: {0}")]
    Nothing(String),
    /// The histograms cannot be made.
    #[error("cannot count latencies")]
    Histogram(#[from] hdrhistogram::CreationError),
}

/// Warms up and measures. Callers share the connections evenly.
///
/// # Errors
/// If no request ends well, or some do not end.
pub(super) async fn run(load: Load, channels: &[Channel]) -> Result<Figures, LoadError> {
    let shards: Result<Vec<_>, LoadError> =
        (0..SHARDS).map(|_| Shard::new().map(Mutex::new)).collect();
    let shared = Arc::new(Shared {
        is_counting: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        shards: shards?,
    });
    let mut tasks = JoinSet::new();
    for (caller, channel) in channels.iter().cycle().take(load.callers).enumerate() {
        let caller = Caller { client: KvClient::new(channel.clone()), load, number: caller };
        tasks.spawn(caller.ask_again(Arc::clone(&shared)));
    }
    tokio::time::sleep(load.warm_up).await;
    let began = Instant::now();
    shared.is_counting.store(true, Ordering::Relaxed);
    tokio::time::sleep(load.measured).await;
    shared.is_counting.store(false, Ordering::Relaxed);
    let elapsed = began.elapsed();
    shared.is_over.store(true, Ordering::Relaxed);
    end(tasks).await?;
    shared.figures(elapsed)
}

/// Waits for all tasks.
async fn end(mut tasks: JoinSet<()>) -> Result<(), LoadError> {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        Ok(())
    };
    tokio::time::timeout(END_LIMIT, all).await.unwrap_or(Err(LoadError::Stuck))
}

/// Writes all rows, many in one transaction: it is a matter of seconds, and leaves etcd's log short of
/// where it would write a snapshot into the time that is measured.
///
/// # Errors
/// The first transaction that failed.
pub(super) async fn fill(load: Load, channels: &[Channel]) -> Result<(), LoadError> {
    let row_bytes = (size_of::<u64>() + load.value_bytes) as u64;
    let step = (FILL_BYTES / row_bytes).clamp(1, FILL_ROWS);
    let callers = channels.len() * FILL_CALLERS;
    let mut tasks = JoinSet::new();
    for (caller, channel) in channels.iter().cycle().take(callers).enumerate() {
        let mut client = KvClient::new(channel.clone());
        let starts = (0..load.keys).step_by(step as usize).skip(caller).step_by(callers);
        tasks.spawn(async move {
            let mut rng = SmallRng::from_os_rng();
            for start in starts {
                let numbers = start..(start + step).min(load.keys);
                let put = |number| put_request(number, load.value_bytes, &mut rng);
                let success = numbers
                    .map(put)
                    .map(|put| RequestOp { request: Some(Request::RequestPut(put)) })
                    .collect();
                let written = client.txn(TxnRequest { success }).await;
                written.map_err(|status| status.to_string())?;
            }
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended?.map_err(LoadError::Fill)?;
    }
    Ok(())
}

/// A key is the number of a user, as short as it can be.
fn key(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// A write of fresh bytes that do not compress.
fn put_request(number: u64, value_bytes: usize, rng: &mut SmallRng) -> PutRequest {
    let mut value = vec![0; value_bytes];
    rng.fill_bytes(&mut value);
    PutRequest { key: key(number), value: value.into() }
}

struct Caller {
    client: KvClient<Channel>,
    load: Load,
    number: usize,
}

impl Caller {
    /// Asks again as soon as it was answered, until the time is over.
    async fn ask_again(mut self, shared: Arc<Shared>) {
        let mut rng = SmallRng::from_os_rng();
        while !shared.is_over.load(Ordering::Relaxed) {
            let number = rng.random_range(0..self.load.keys);
            let since = Instant::now();
            let ended = self.ask(number, &mut rng).await;
            let has_failed = ended.is_err();
            shared.note(self.number, since, ended);
            if has_failed {
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }

    /// One request.
    async fn ask(&mut self, number: u64, rng: &mut SmallRng) -> Result<(), String> {
        match self.load.workload {
            Workload::Put => {
                let request = put_request(number, self.load.value_bytes, rng);
                self.client.put(request).await.map_err(|status| status.to_string())?;
            }
            Workload::Get => {
                let asked = self.client.range(RangeRequest { key: key(number) }).await;
                let rows = asked.map_err(|status| status.to_string())?.into_inner().kvs;
                let is_found = rows.len() == 1 && rows[0].value.len() == self.load.value_bytes;
                if !is_found {
                    return Err(format!("row {number} is not as it was written"));
                }
            }
        }
        Ok(())
    }
}

/// What all callers see.
struct Shared {
    is_counting: AtomicBool,
    is_over: AtomicBool,
    shards: Vec<Mutex<Shard>>,
}

struct Shard {
    latency_us: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
}

impl Shard {
    fn new() -> Result<Shard, LoadError> {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS)?;
        Ok(Shard { latency_us, errors: 0, first_error: None })
    }
}

impl Shared {
    /// Notes the end of a request that began at `since`.
    fn note(&self, caller: usize, since: Instant, ended: Result<(), String>) {
        let took = since.elapsed();
        if !self.is_counting.load(Ordering::Relaxed) {
            return;
        }
        let mut shard = lock(&self.shards[caller % SHARDS]);
        match ended {
            Ok(()) => {
                let us = u64::try_from(took.as_micros()).unwrap_or(LATENCY_US_MAX);
                shard.latency_us.saturating_record(us.max(1));
            }
            Err(error) => {
                shard.errors += 1;
                shard.first_error.get_or_insert(error);
            }
        }
    }

    /// All shards together.
    fn figures(&self, elapsed: Duration) -> Result<Figures, LoadError> {
        let mut all = Shard::new()?;
        for shard in &self.shards {
            let shard = lock(shard);
            if all.latency_us.add(&shard.latency_us).is_err() {
                unreachable!("all histograms have the same bounds");
            }
            all.errors += shard.errors;
            all.first_error = all.first_error.or_else(|| shard.first_error.clone());
        }
        let Shard { latency_us, errors, first_error } = all;
        if latency_us.is_empty() {
            let first = first_error.unwrap_or_else(|| "nothing was answered".to_owned());
            return Err(LoadError::Nothing(first));
        }
        let remark = first_error.map(|first| format!("{errors} failed, one with: {first}"));
        Ok(Figures {
            ops_per_second: latency_us.len() as f64 / elapsed.as_secs_f64(),
            latency_us: Latency {
                p50: latency_us.value_at_quantile(0.5),
                p99: latency_us.value_at_quantile(0.99),
                p999: latency_us.value_at_quantile(0.999),
            },
            errors,
            remarks: remark.into_iter().collect(),
        })
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_while_counting_counts() {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new().unwrap())).collect();
        let shared =
            Shared { is_counting: AtomicBool::new(false), is_over: AtomicBool::new(false), shards };
        let since = Instant::now().checked_sub(Duration::from_millis(10)).unwrap();
        shared.note(0, since, Ok(()));
        assert!(matches!(shared.figures(Duration::from_secs(1)), Err(LoadError::Nothing(_))));

        shared.is_counting.store(true, Ordering::Relaxed);
        shared.note(0, since, Ok(()));
        shared.note(17, since, Ok(()));
        shared.note(1, since, Err("too much".to_owned()));
        let figures = shared.figures(Duration::from_secs(2)).unwrap();
        assert_eq!((figures.ops_per_second, figures.errors), (1.0, 1));
        assert!((10_000..1_000_000).contains(&figures.latency_us.p50), "{figures:?}");
        assert_eq!(figures.remarks, ["1 failed, one with: too much"]);
    }
}
