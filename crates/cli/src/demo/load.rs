//! The load: workers that write and read rows of real customers all the time, and remember what they
//! were promised. Each unit has workers in each city, so that what a unit's failure means to a city is seen.
//!
//! Each worker has customers of its own, so it knows what it must find: it adds 1 to the customer's
//! `count` and writes a row `w-N` in one transaction, then reads `count` back. The count must be at
//! least the number of acknowledged transactions and at most that plus the unknown ones. Rows of the GZone
//! belong to nobody; there each worker is a customer of its own, whose number stands before its keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use quorate_client::{Client, Error, Outcome, Uid, Value};
use tokio::task::JoinHandle;

use super::timeline::{End, Request};
use super::verify;
use crate::exit::Failure;

/// The table of the load on RZones.
pub(super) const TABLE: &str = "load";
/// The table of the load on the GZone.
pub(super) const GLOBAL_TABLE: &str = "rates";
/// The key of a customer's count.
pub(super) const COUNT_KEY: &str = "count";
/// A worker's pause after each request, in one city and over several: five nodes on one small machine have
/// more to do for a request than three.
const PAUSES: [Duration; 2] = [Duration::from_millis(8), Duration::from_millis(25)];
/// How long a request may take, the client's own retries included.
const DEADLINE: Duration = Duration::from_secs(10);
/// Workers of each unit, spread over the cities.
const WORKERS_PER_UNIT: usize = 6;
/// Rows of an earlier run removed at once.
const REMOVED_AT_ONCE: usize = 128;
/// Customers of each worker.
const CUSTOMERS_PER_WORKER: usize = 100;
/// Violations and errors kept to be shown.
const EXAMPLES_MAX: usize = 5;

/// A worker's pause after each request, over this many cities.
pub(super) fn pause(cities: usize) -> Duration {
    PAUSES[usize::from(1 < cities)]
}

/// The key of a worker's row number `sequence`.
pub(super) fn row_key(sequence: u64) -> String {
    format!("w-{sequence:08}")
}

/// The sequence number in a key, if it is that of a worker's row.
pub(super) fn sequence_of(key: &[u8]) -> Option<u64> {
    std::str::from_utf8(key).ok()?.strip_prefix("w-")?.parse().ok()
}

/// What a customer's rows must show in the end, by sequence number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Promised {
    /// Must be there.
    pub(super) acknowledged: BTreeSet<u64>,
    /// May be there.
    pub(super) unknown: BTreeSet<u64>,
    /// Must not be there: the client said that it had no effect.
    pub(super) refused: BTreeSet<u64>,
}

/// What a worker saw.
#[derive(Clone, Debug)]
pub(super) struct WorkerLog {
    /// The unit of its customers.
    pub(super) unit: String,
    /// Where it is; empty if the cluster has one city.
    pub(super) city: String,
    /// Whether its rows are those of the GZone; then its customer is its own number.
    pub(super) is_global: bool,
    /// Its requests in order.
    pub(super) requests: Vec<Request>,
    /// By customer.
    pub(super) promised: BTreeMap<Uid, Promised>,
    /// How many reads did not show what was acknowledged before.
    pub(super) stale_reads: u64,
    /// The first of them, and the first errors.
    pub(super) examples: Vec<String>,
}

/// The load while it runs.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    workers: Vec<(Live, JoinHandle<WorkerLog>)>,
    epoch: Instant,
}

/// What can be seen of a worker while it works.
#[derive(Clone, Debug, Default)]
struct Live {
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Live {
    fn push(&self, request: Request) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }

    fn copy(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A client and the city it is in; the name is empty if the cluster has one city.
pub(super) type Caller = (String, Client);

impl Load {
    /// Starts the workers, each with the client of its city. Times of requests count from `epoch`.
    ///
    /// # Errors
    /// If the cluster has no tables for the load.
    pub(super) fn start(
        callers: &[Caller],
        customers: &[Uid],
        epoch: Instant,
    ) -> Result<Load, Failure> {
        let mut load = Load { stop: Arc::default(), workers: Vec::new(), epoch };
        let Some((_, client)) = callers.first() else { return Ok(load) };
        let failure = |error: Error| crate::cluster::failure(&error);
        let mut by_unit: BTreeMap<String, Vec<Uid>> = BTreeMap::new();
        for uid in customers {
            let route = client.route(TABLE, *uid).map_err(failure)?;
            by_unit.entry(route.unit).or_default().push(*uid);
        }
        let each = (WORKERS_PER_UNIT / callers.len()).max(1);
        let all = callers.len() * each;
        for (unit, customers) in by_unit {
            for index in 0..all {
                let own = customers.iter().skip(index).step_by(all);
                let own: Vec<Uid> = own.take(CUSTOMERS_PER_WORKER).copied().collect();
                if !own.is_empty() {
                    // A file of the user's may have hardly any customers.
                    load.add(&unit, &callers[index / each], callers.len(), own, false);
                }
            }
        }
        let global = client.route(GLOBAL_TABLE, Uid(0)).map_err(failure)?.unit;
        for index in 0..all {
            let own = vec![Uid(index as u64)];
            load.add(&global, &callers[index / each], callers.len(), own, true);
        }
        Ok(load)
    }

    fn add(
        &mut self,
        unit: &str,
        (city, client): &Caller,
        cities: usize,
        customers: Vec<Uid>,
        is_global: bool,
    ) {
        let live = Live::default();
        let worker = Worker {
            client: client.with_timeout(DEADLINE),
            unit: unit.to_owned(),
            city: city.clone(),
            is_global,
            pause: pause(cities),
            customers,
            live: live.clone(),
            stop: Arc::clone(&self.stop),
            epoch: self.epoch,
            promised: BTreeMap::new(),
            stale_reads: 0,
            examples: Vec::new(),
        };
        self.workers.push((live, tokio::spawn(Box::pin(worker.work()))));
    }

    /// The time since the start of the demo.
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// The requests so far of each worker.
    pub(super) fn requests(&self) -> Vec<Vec<Request>> {
        self.workers.iter().map(|(live, _)| live.copy()).collect()
    }

    /// Lets every worker end its request and returns what they saw.
    pub(super) async fn stop(self) -> Result<Vec<WorkerLog>, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut logs = Vec::with_capacity(self.workers.len());
        for (_, worker) in self.workers {
            let log = worker.await.map_err(|error| {
                let message = format!("a worker of the load ended badly: {error}");
                Failure::new(quorate_types::Code::Internal, message)
            })?;
            logs.push(log);
        }
        Ok(logs)
    }
}

/// Removes what the load of an earlier run left in its tables.
///
/// # Errors
/// If rows cannot be read or removed.
pub(super) async fn clear(client: &Client) -> Result<usize, Failure> {
    let mut removed = 0;
    for table in [TABLE, GLOBAL_TABLE] {
        let rows = Box::pin(verify::read_table(client, table)).await?;
        removed += rows.len();
        let delete = |row: quorate_client::ScannedRow| client.delete(table, row.uid, row.key);
        let mut deleting =
            stream::iter(rows.into_iter().map(delete)).buffer_unordered(REMOVED_AT_ONCE);
        while let Some(deleted) = deleting.next().await {
            deleted.map_err(|error| crate::cluster::failure(&error))?;
        }
    }
    Ok(removed)
}

struct Worker {
    client: Client,
    unit: String,
    city: String,
    is_global: bool,
    pause: Duration,
    customers: Vec<Uid>,
    live: Live,
    stop: Arc<AtomicBool>,
    epoch: Instant,
    promised: BTreeMap<Uid, Promised>,
    stale_reads: u64,
    examples: Vec<String>,
}

impl Worker {
    async fn work(mut self) -> WorkerLog {
        let customers = std::mem::take(&mut self.customers);
        for (sequence, uid) in (1_u64..).zip(customers.iter().cycle()) {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            self.write(*uid, sequence).await;
            tokio::time::sleep(self.pause).await;
            self.read(*uid).await;
            tokio::time::sleep(self.pause).await;
        }
        WorkerLog {
            unit: self.unit,
            city: self.city,
            is_global: self.is_global,
            requests: self.live.copy(),
            promised: self.promised,
            stale_reads: self.stale_reads,
            examples: self.examples,
        }
    }

    /// Table, owner and key of a row of a customer.
    fn row(&self, customer: Uid, key: &str) -> (&'static str, Uid, String) {
        if self.is_global {
            (GLOBAL_TABLE, Uid(0), format!("{customer}/{key}"))
        } else {
            (TABLE, customer, key.to_owned())
        }
    }

    async fn write(&mut self, uid: Uid, sequence: u64) {
        let started = self.epoch.elapsed();
        let (table, owner, count) = self.row(uid, COUNT_KEY);
        let (_, _, key) = self.row(uid, &row_key(sequence));
        let transaction = self.client.transaction().add(table, owner, count, 1).floor(1);
        let result = transaction.put(table, owner, key, sequence.to_string()).commit().await;
        let promised = self.promised.entry(uid).or_default();
        let end = match &result {
            Ok(committed) => {
                promised.acknowledged.insert(sequence);
                if committed.replayed { End::Replayed } else { End::Done }
            }
            Err(error) if error.outcome() == Outcome::Unknown => {
                promised.unknown.insert(sequence);
                End::Unknown
            }
            Err(_) => {
                promised.refused.insert(sequence);
                End::NotApplied
            }
        };
        self.ended(started, end);
        if let Err(error) = result {
            self.note_error("transaction", uid, &error);
        }
    }

    async fn read(&mut self, uid: Uid) {
        let started = self.epoch.elapsed();
        let (table, owner, count) = self.row(uid, COUNT_KEY);
        let result = self.client.get(table, owner, count).await;
        self.ended(started, if result.is_ok() { End::Done } else { End::NotApplied });
        let found = match result {
            Ok(found) => found,
            Err(error) => return self.note_error("get", uid, &error),
        };
        let count = match found {
            None => Some(0),
            Some(Value::Integer(count)) => u64::try_from(count).ok(),
            Some(Value::Bytes(_)) => None,
        };
        let promised = self.promised.entry(uid).or_default();
        let least = promised.acknowledged.len() as u64;
        let most = least + promised.unknown.len() as u64;
        if !count.is_some_and(|count| least <= count && count <= most) {
            self.stale_reads += 1;
            let shown = count.map_or_else(|| "no count".to_owned(), |count| count.to_string());
            self.example(format!("UID {uid}: a get returned {shown}, right is {least} to {most}"));
        }
    }

    fn ended(&self, started: Duration, end: End) {
        self.live.push(Request { started, ended: self.epoch.elapsed(), end });
    }

    fn note_error(&mut self, what: &str, uid: Uid, error: &Error) {
        let at = self.epoch.elapsed().as_secs_f64();
        self.example(format!("at {at:.1} s, {what} of UID {uid}: {error}"));
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_rows_are_read_back() {
        for sequence in [0, 1, 99_999_999, 100_000_000, u64::MAX] {
            assert_eq!(sequence_of(row_key(sequence).as_bytes()), Some(sequence));
        }
        assert!(row_key(9) < row_key(10));
        assert_eq!(sequence_of(COUNT_KEY.as_bytes()), None);
    }
}
