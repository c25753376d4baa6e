//! Transactions that append to lists and read lists, over keys of all groups. `serializability.rs` judges
//! what they saw.
//!
//! A list is one row. An append reads the row and writes it back if it has not changed, so each
//! transaction is a closure of the client; those that only read are sent as they are, too, and take
//! shared locks, or are reads of many rows in two rounds. Lists are given up when they have grown, so that conflicts stay many and rows small.
//! Besides, each group has a list that is only ever appended to alone and read with the lists of all
//! others: for long forks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_client::{Client, Error, Outcome, Txn, Value};
use quorate_types::Uid;
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use crate::options::Options;
use crate::places::Place;
use crate::random::{Draw, pick, random};
use crate::serializability::{End, ListId, Step, Transactions};
use crate::trace::Trace;
use crate::workload::Ending;

/// Lists of each group that are in use at a time.
const LISTS_EACH: usize = 2;
/// After so many appends another list takes the place of one.
const APPENDS_MAX: u32 = 30;
/// Most steps of a transaction.
const STEPS_MAX: usize = 4;
/// Longest pause between two transactions, in pauses of other workers.
const PAUSES: u32 = 3;
/// Workers have numbers from here on; after an unknown outcome one goes on under another.
const PROCESS: u32 = 2_000;
/// Between the numbers that a worker has.
const PROCESSES_APART: u32 = 100;
/// Between the elements of two tries of one transaction at the end; above the number of lists.
const ELEMENTS_APART: u64 = 1_000;
/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The deadline of calls at the end.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// A row that holds a list.
#[derive(Clone, Debug)]
struct Row {
    table: String,
    uid: Uid,
    key: String,
    appends: u32,
}

#[derive(Debug, Default)]
struct State {
    /// Every list there ever was.
    rows: Vec<Row>,
    /// Those in use.
    hot: Vec<ListId>,
    /// Those for long forks, one of each group.
    apart: Vec<ListId>,
    transactions: Transactions,
}

impl State {
    fn new_row(&mut self, place: &Place, word: &str) -> ListId {
        let number = self.rows.len();
        let (table, uid, key) = (place.table.clone(), place.uid, format!("{word}/{number}"));
        self.rows.push(Row { table, uid, key, appends: 0 });
        number
    }

    /// Counts an append; a list that is long enough is given up.
    fn count_append(&mut self, list: ListId) {
        let row = &mut self.rows[list];
        row.appends += 1;
        if APPENDS_MAX <= row.appends
            && let Some(place) = self.hot.iter().position(|hot| *hot == list)
        {
            let (number, mut next) = (self.rows.len(), self.rows[list].clone());
            (next.appends, next.key) = (0, format!("list/{number}"));
            self.rows.push(next);
            self.hot[place] = number;
        }
    }

    fn names(&self) -> Vec<String> {
        self.rows.iter().map(|row| format!("{}/{}", row.uid.0, row.key)).collect()
    }
}

/// What the lists say at the end.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Everything that is wrong.
    pub wrong: Vec<String>,
    /// Every transaction.
    pub transactions: Transactions,
    /// The names of the lists.
    pub names: Vec<String>,
}

/// The lists of a run. Clones share them.
#[derive(Clone)]
pub struct Lists {
    state: Arc<Mutex<State>>,
    trace: Trace,
}

impl Lists {
    /// Lists in every group that the workload knows.
    #[must_use]
    pub fn new(places: &[Place], trace: Trace) -> Lists {
        let mut state = State::default();
        for place in places.iter().filter(|place| place.is_ledger) {
            for _ in 0..LISTS_EACH {
                let list = state.new_row(place, "list");
                state.hot.push(list);
            }
            let list = state.new_row(place, "apart");
            state.apart.push(list);
        }
        Lists { state: Arc::new(Mutex::new(state)), trace }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn row(&self, list: ListId) -> Row {
        self.lock().rows[list].clone()
    }

    /// Appends and reads until told to end.
    pub async fn run(self, options: Options, number: u32, client: Client, ending: Ending) {
        let mut process = PROCESS + number;
        let mut rng = random(options.seed, Draw::Worker(process));
        let mut next = u64::from(process) * 1_000_000;
        let think = u64::try_from((PAUSES * options.think).as_micros()).unwrap_or(u64::MAX);
        while !ending.is_set() {
            tokio::time::sleep(Duration::from_micros(rng.random_range(0..=2 * think))).await;
            let steps = self.draw(&mut rng, &mut next);
            let only_reads = steps.iter().all(|step| matches!(step, Step::Read(..)));
            let way = match rng.random_range(0..10) {
                0..4 if only_reads => Way::Rounds,
                4..7 if only_reads => Way::Locks,
                _ => Way::Closure,
            };
            if self.ask(process, &client, steps, way).await == End::Unknown {
                process += PROCESSES_APART;
            }
        }
    }

    /// The next transaction.
    fn draw(&self, rng: &mut SmallRng, next: &mut u64) -> Vec<Step> {
        let mut state = self.lock();
        let mut append = |state: &mut State, list: ListId| {
            *next += 1;
            state.count_append(list);
            Step::Append(list, *next)
        };
        match rng.random_range(0..100) {
            0..20 => {
                let list = pick(rng, &state.apart);
                vec![append(&mut state, list)]
            }
            20..35 => state.apart.iter().map(|list| Step::Read(*list, None)).collect(),
            _ => {
                let count = rng.random_range(1..=STEPS_MAX);
                let mut steps = Vec::new();
                for _ in 0..count {
                    let list = pick(rng, &state.hot);
                    steps.push(match rng.random_bool(0.5) {
                        true => append(&mut state, list),
                        false => Step::Read(list, None),
                    });
                }
                steps
            }
        }
    }

    /// Carries out a transaction, and notes what came of it.
    async fn ask(&self, process: u32, client: &Client, steps: Vec<Step>, way: Way) -> End {
        let number = self.lock().transactions.begin(process, steps.clone(), self.trace.now());
        let result = match way {
            Way::Closure => self.in_a_closure(client, &steps).await,
            Way::Locks => self.with_locks(client, &steps).await,
            Way::Rounds => self.in_rounds(client, &steps).await,
        };
        let (end, code, steps) = match result {
            Ok(steps) => (End::Committed, None, steps),
            Err(error) => {
                let is_unknown = error.outcome() == Outcome::Unknown;
                let end = if is_unknown { End::Unknown } else { End::Aborted };
                (end, Some(error.code()), steps)
            }
        };
        self.trace.event(&format!("{process} lists {steps:?} {end:?} {code:?}"));
        self.lock().transactions.end(number, steps, end, self.trace.now());
        end
    }

    /// Reads and appends as code.
    async fn in_a_closure(&self, client: &Client, steps: &[Step]) -> Result<Vec<Step>, Error> {
        let rows: Vec<Row> = steps.iter().map(|step| self.row(list_of(step))).collect();
        let body = |txn: Txn| carry_out(txn, rows.clone(), steps.to_vec());
        client.transact(body).await.map(|done| done.value)
    }

    /// Reads in one request.
    async fn with_locks(&self, client: &Client, steps: &[Step]) -> Result<Vec<Step>, Error> {
        let mut transaction = client.transaction();
        for step in steps {
            let Row { table, uid, key, .. } = self.row(list_of(step));
            transaction = transaction.read(&table, uid, key);
        }
        let committed = transaction.commit().await?;
        let found = steps.iter().zip(&committed.reads);
        Ok(found.map(|(step, found)| Step::Read(list_of(step), Some(decode(found)))).collect())
    }

    /// Reads without locks, mostly.
    async fn in_rounds(&self, client: &Client, steps: &[Step]) -> Result<Vec<Step>, Error> {
        let rows: Vec<Row> = steps.iter().map(|step| self.row(list_of(step))).collect();
        let named: Vec<_> =
            rows.iter().map(|row| (row.table.as_str(), row.uid, row.key.clone())).collect();
        let found = client.get_many(&named).await?;
        let found = steps.iter().zip(&found);
        Ok(found.map(|(step, found)| Step::Read(list_of(step), Some(decode(found)))).collect())
    }

    /// After the faults: every list takes an append again, and there was an order of everything.
    pub async fn close(&self, client: &Client, patience: Duration) -> Judged {
        let client = client.with_timeout(CALL_TIMEOUT);
        let until = Instant::now() + patience;
        let (in_use, all) = {
            let state = self.lock();
            let in_use: Vec<ListId> = state.hot.iter().chain(&state.apart).copied().collect();
            (in_use, 0..state.rows.len())
        };
        let first = u64::from(PROCESS - 1) * 1_000_000;
        let numbered = in_use.into_iter().zip(first..);
        let appends = numbered.map(|(list, element)| Step::Append(list, element)).collect();
        let reads = all.map(|list| Step::Read(list, None)).collect();
        let mut wrong = Vec::new();
        wrong.extend(self.settle(&client, until, appends, Way::Closure).await);
        wrong.extend(self.settle(&client, until + patience, reads, Way::Locks).await);
        let state = self.lock();
        let names = state.names();
        if wrong.is_empty() {
            wrong.extend(state.transactions.check(&names));
            wrong.extend(state.transactions.long_forks(&state.apart, &names));
        }
        Judged { wrong, transactions: state.transactions.clone(), names }
    }

    /// Tries a transaction until it has taken effect. Each try appends elements of its own.
    async fn settle(
        &self,
        client: &Client,
        until: Instant,
        mut steps: Vec<Step>,
        way: Way,
    ) -> Option<String> {
        let mut process = if way == Way::Locks { PROCESS - 2 } else { PROCESS - 1 };
        loop {
            process += PROCESSES_APART;
            let end = self.ask(process, client, steps.clone(), way).await;
            if end == End::Committed {
                return None;
            }
            if until < Instant::now() {
                return Some(format!("lists cannot be used at the end, {way:?}: {end:?}"));
            }
            for step in &mut steps {
                if let Step::Append(_, element) = step {
                    *element += ELEMENTS_APART;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// How a transaction is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As code: what it read is checked when it takes effect.
    Closure,
    /// As one request that only reads.
    Locks,
    /// As a read of many rows: two rounds of questions.
    Rounds,
}

/// One run of a transaction. Gives back the steps with what was read.
async fn carry_out(txn: Txn, rows: Vec<Row>, steps: Vec<Step>) -> Result<Vec<Step>, Error> {
    let mut done = Vec::with_capacity(steps.len());
    for (step, Row { table, uid, key, .. }) in steps.into_iter().zip(rows) {
        let mut list = decode(&txn.get(&table, uid, key.clone()).await?);
        done.push(match step {
            Step::Read(id, _) => Step::Read(id, Some(list)),
            Step::Append(id, element) => {
                list.push(element);
                txn.put(&table, uid, key, encode(&list))?;
                Step::Append(id, element)
            }
        });
    }
    Ok(done)
}

fn list_of(step: &Step) -> ListId {
    match step {
        Step::Append(list, _) | Step::Read(list, _) => *list,
    }
}

fn encode(list: &[u64]) -> Vec<u8> {
    list.iter().flat_map(|element| element.to_le_bytes()).collect()
}

/// The list in a row; what is no list has an element that nobody appended.
fn decode(value: &Option<Value>) -> Vec<u64> {
    match value {
        None => Vec::new(),
        Some(Value::Integer(_)) => vec![u64::MAX],
        Some(Value::Bytes(bytes)) => {
            let (elements, rest) = bytes.as_chunks::<8>();
            let whole = elements.iter().map(|bytes| u64::from_le_bytes(*bytes));
            whole.chain((!rest.is_empty()).then_some(u64::MAX)).collect()
        }
    }
}
