//! Clients as they ship, asking for registers and ledgers; every call is noted in the history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Client, Error, Outcome as Effect, Reads, Value};
use quorate_types::Code;
use rand::Rng;
use rand::rngs::SmallRng;

use crate::history::{Action, Answer, History, KeyId, Outcome};
use crate::options::Options;
use crate::places::Place;
use crate::random::{Draw, pick, random};
use crate::trace::Trace;

/// Tells who asks that it is time to end. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Ending(Arc<AtomicBool>);

impl Ending {
    /// From now on nobody begins anything.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// True once it was set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Processes from here on are no workers.
const WORKERS_MAX: u32 = 900;
/// Numbers of values are unique: worker, then count.
const VALUES_PER_WORKER: u64 = 1_000_000;

/// The history of a run, shared by everybody who asks.
#[derive(Clone)]
pub struct Recorder {
    history: Arc<Mutex<History>>,
    trace: Trace,
}

impl Recorder {
    /// An empty history.
    #[must_use]
    pub fn new(trace: Trace) -> Recorder {
        Recorder { history: Arc::default(), trace }
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The history so far.
    #[must_use]
    pub fn history(&self) -> History {
        self.lock().clone()
    }

    /// Rows of a ledger whose outcome is not known: they may appear at any time.
    #[must_use]
    pub fn open_rows(&self, key: KeyId) -> BTreeSet<u64> {
        let history = self.lock();
        let operations = history.operations().iter().filter(|it| it.key == key);
        let open = operations.filter(|it| it.outcome == Outcome::Unknown);
        open.filter_map(|it| if let Action::Append(row) = it.action { Some(row) } else { None })
            .collect()
    }

    /// Notes that something is asked now; the number is for [`Recorder::end`].
    #[must_use]
    pub fn begin(&self, process: u32, key: KeyId, action: Action) -> usize {
        self.lock().begin(process, key, action, self.trace.now())
    }

    /// Notes an outcome.
    pub fn end(&self, number: usize, outcome: Outcome) {
        self.trace.event(&format!("{number} {outcome:?}"));
        self.lock().end(number, outcome, self.trace.now());
    }

    /// Notes what is asked, asks, and notes the outcome, which is returned.
    pub async fn call(
        &self,
        process: u32,
        key: KeyId,
        action: Action,
        asking: impl Future<Output = Result<Answer, Error>>,
    ) -> Outcome {
        let number = {
            let mut history = self.lock();
            let number = history.begin(process, key, action.clone(), self.trace.now());
            if let (Action::Read | Action::Count, Reads::BoundedStale(age)) =
                (&action, reads_of(process))
            {
                // Clocks of nodes go wrong by less than this.
                let stale = age + age / 4;
                history.may_be_stale(number, u64::try_from(stale.as_nanos()).unwrap_or(u64::MAX));
            }
            number
        };
        let outcome = match asking.await {
            Ok(answer) => Outcome::Applied(answer),
            Err(error) => failed(&action, &error),
        };
        self.lock().end(number, outcome.clone(), self.trace.now());
        self.trace.event(&format!("{process} {key} {action:?} {outcome:?}"));
        outcome
    }
}

/// How fresh the reads of a worker must be: half of them ask leaders, the others any replica.
#[must_use]
pub fn reads_of(process: u32) -> Reads {
    match process % 4 {
        _ if WORKERS_MAX <= process => Reads::Strong,
        2 => Reads::BoundedStale(Duration::ZERO),
        3 => Reads::BoundedStale(Duration::from_millis(200)),
        _ => Reads::Strong,
    }
}

/// The outcome of a call that failed.
fn failed(action: &Action, error: &Error) -> Outcome {
    match error.outcome() {
        Effect::Unknown => Outcome::Unknown,
        Effect::NotApplied => Outcome::NotApplied {
            code: error.code().name().to_owned(),
            is_refusal: matches!(action, Action::Cas { .. })
                && error.code() == Code::ConditionFailed,
        },
    }
}

/// A caller: asks one thing after the other.
pub struct Worker {
    client: Client,
    recorder: Recorder,
    places: Arc<Vec<Place>>,
    process: u32,
    rng: SmallRng,
    think: Duration,
    value_bytes: usize,
    only_reads: bool,
    next_value: u64,
    /// What was last seen in each register, so that some compare-and-sets succeed.
    seen: BTreeMap<KeyId, Option<u64>>,
}

impl Worker {
    /// Worker number `process`.
    #[must_use]
    pub fn new(
        options: &Options,
        process: u32,
        client: Client,
        recorder: Recorder,
        places: Arc<Vec<Place>>,
    ) -> Worker {
        Worker {
            client: client.with_reads(reads_of(process)),
            recorder,
            places,
            process,
            rng: random(options.seed, Draw::Worker(process)),
            think: options.think,
            value_bytes: options.value_bytes,
            only_reads: process > (options.clients - 1) * options.workers,
            next_value: u64::from(process) * VALUES_PER_WORKER,
            seen: BTreeMap::new(),
        }
    }

    /// Asks until told to end.
    pub async fn run(mut self, ending: Ending) {
        while !ending.is_set() {
            let think = u64::try_from(self.think.as_micros()).unwrap_or(u64::MAX);
            let think = Duration::from_micros(self.rng.random_range(0..=2 * think));
            tokio::time::sleep(think).await;
            self.one_call().await;
        }
    }

    async fn one_call(&mut self) {
        // Half of the calls go to the places of one group: something must be contended.
        let some =
            if self.rng.random_bool(0.5) { self.places.len() } else { self.places.len().min(3) };
        let place = self.places[self.rng.random_range(0..some)].clone();
        if place.is_ledger {
            let number = self.new_value();
            match self.rng.random_range(0..3) {
                _ if self.only_reads => {
                    drop(count(&self.recorder, self.process, &self.client, &place).await);
                }
                0 => drop(count(&self.recorder, self.process, &self.client, &place).await),
                _ => drop(append(&self.recorder, self.process, &self.client, &place, number).await),
            }
            return;
        }
        let seen = self.seen.get(&place.id).copied().flatten();
        let new = Some(self.new_value());
        let action = match self.rng.random_range(0..100) {
            _ if self.only_reads => Action::Read,
            0..40 => Action::Read,
            40..65 => Action::Write(new),
            65..70 => Action::Write(None),
            70..73 => Action::Cas { expected: seen, new: None },
            73..90 => Action::Cas { expected: seen, new },
            _ => Action::Cas { expected: pick(&mut self.rng, &[None, Some(1)]), new },
        };
        let bytes = self.value_bytes;
        let asked =
            register(&self.recorder, self.process, &self.client, &place, action.clone(), bytes);
        let outcome = asked.await;
        let now_holds = match (action, outcome) {
            (Action::Read, Outcome::Applied(Answer::Value(value))) => value,
            (Action::Write(value) | Action::Cas { new: value, .. }, Outcome::Applied(_)) => value,
            _ => return,
        };
        self.seen.insert(place.id, now_holds);
    }

    fn new_value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }
}

/// Asks something of a register.
pub async fn register(
    recorder: &Recorder,
    process: u32,
    client: &Client,
    place: &Place,
    action: Action,
    value_bytes: usize,
) -> Outcome {
    let Place { table, uid, key, .. } = place;
    let (uid, key) = (*uid, Bytes::copy_from_slice(key.as_bytes()));
    let encode = |value: Option<u64>| value.map(|number| encode(number, value_bytes));
    let asking = async {
        match &action {
            Action::Read => {
                let found = client.get(table, uid, key).await?;
                return Ok(Answer::Value(found.as_ref().map(decode)));
            }
            Action::Write(Some(number)) => {
                client.put(table, uid, key, self::encode(*number, value_bytes)).await?
            }
            Action::Write(None) => client.delete(table, uid, key).await?,
            Action::Cas { expected, new } => {
                client.compare_and_set(table, uid, key, encode(*expected), encode(*new)).await?
            }
            Action::Append(_) | Action::Count => unreachable!("asked of a register"),
        };
        Ok(Answer::Done)
    };
    recorder.call(process, place.id, action.clone(), asking).await
}

/// Adds 1 to the counter of a ledger and writes a row, in one transaction.
pub async fn append(
    recorder: &Recorder,
    process: u32,
    client: &Client,
    place: &Place,
    number: u64,
) -> Outcome {
    let Place { table, uid, key, .. } = place;
    let asking = async {
        let transaction = client.transaction().add(table, *uid, key.clone(), 1).floor(1).put(
            table,
            *uid,
            place.row(number),
            i64::from(process),
        );
        let committed = transaction.commit().await?;
        Ok(Answer::Sum(committed.sums.first().copied().unwrap_or(i64::MIN)))
    };
    recorder.call(process, place.id, Action::Append(number), asking).await
}

/// Reads the counter of a ledger.
pub async fn count(recorder: &Recorder, process: u32, client: &Client, place: &Place) -> Outcome {
    let asking = async {
        let found = client.get(&place.table, place.uid, place.key.clone()).await?;
        Ok(Answer::Sum(match found {
            None => 0,
            Some(Value::Integer(count)) => count,
            Some(Value::Bytes(_)) => i64::MIN,
        }))
    };
    recorder.call(process, place.id, Action::Count, asking).await
}

/// A value that carries a number and fills `bytes`.
fn encode(number: u64, bytes: usize) -> Value {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(bytes.max(value.len()), number as u8);
    Value::Bytes(value.into())
}

/// The number of a value; `u64::MAX` for what nobody wrote.
fn decode(value: &Value) -> u64 {
    match value {
        Value::Bytes(bytes) => match bytes.first_chunk::<8>() {
            Some(number) => {
                let number = u64::from_le_bytes(*number);
                let is_whole = bytes[8..].iter().all(|byte| *byte == number as u8);
                if is_whole { number } else { u64::MAX }
            }
            None => u64::MAX,
        },
        Value::Integer(_) => u64::MAX,
    }
}
