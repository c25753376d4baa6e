//! Writes rows with many puts in flight: rows in from the thread that parses, settled records out.
//!
//! A put of an import may be repeated whatever became of it, as it writes the same row again and no
//! other put of the file writes that row. So it goes on through elections and lost answers until its
//! patience ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_client::{Client, Outcome};
use quorate_types::{Error, RetryClass};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::checkpoint::Watermark;
use super::rows::{BadRow, Row};
use crate::cluster;
use crate::exit::{Exit, Failure};
use crate::signals::Interrupts;

/// The first pause before a put is repeated; it doubles each time.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Between two calls of [`Watch::tick`].
const TICK_INTERVAL: Duration = Duration::from_millis(200);

/// What the parsing thread sends: rows and mistakes in the order of the file, or why it cannot go on.
pub(crate) type Parsed = Result<Vec<Result<Row, BadRow>>, Failure>;

/// What is left to the caller while rows are written.
pub(crate) trait Watch {
    /// A bad row; an error stops the import there.
    fn bad_row(&mut self, bad: &BadRow) -> Result<(), Failure>;
    /// Now and then: records settled without a gap, rows written by this run.
    fn tick(&mut self, through: u64, written: u64) -> Result<(), Failure>;
}

/// How rows are written.
pub(crate) struct Plan {
    pub(crate) client: Client,
    pub(crate) table: String,
    /// Puts in flight.
    pub(crate) concurrency: usize,
    /// How long one put may be repeated.
    pub(crate) patience: Duration,
    /// Records settled by earlier runs.
    pub(crate) records_done: u64,
    pub(crate) interrupts: Interrupts,
}

/// What became of the rows.
#[derive(Debug)]
pub(crate) struct Written {
    /// Records settled without a gap.
    pub(crate) through: u64,
    /// Rows written by this run.
    pub(crate) rows: u64,
    /// Why it stopped before the end, if it did.
    pub(crate) stopped: Option<Failure>,
}

struct Settled {
    record: u64,
    line: u64,
    result: Result<(), quorate_client::Error>,
}

/// Writes all rows that come. Once it has to stop it waits for the puts in flight and sends no more.
pub(crate) async fn write_all(
    plan: Plan,
    mut parsed: mpsc::Receiver<Parsed>,
    watch: &mut impl Watch,
) -> Written {
    let give_up = Arc::new(AtomicBool::new(false));
    let mut watermark = Watermark::at(plan.records_done);
    let mut rows = 0;
    let mut stopped: Option<Failure> = None;
    let mut pending: VecDeque<Result<Row, BadRow>> = VecDeque::new();
    let mut in_flight = FuturesUnordered::new();
    let mut is_parsed = false;
    let mut ticks = tokio::time::interval(TICK_INTERVAL);
    loop {
        while stopped.is_none() && in_flight.len() < plan.concurrency {
            match pending.pop_front() {
                None => break,
                Some(Ok(row)) if row.record <= plan.records_done => {}
                Some(Err(bad)) if bad.record <= plan.records_done => {}
                Some(Ok(row)) => {
                    let (client, table) = (plan.client.clone(), plan.table.as_str());
                    let (patience, give_up) = (plan.patience, Arc::clone(&give_up));
                    in_flight.push(Box::pin(put(client, table, row, patience, give_up)));
                }
                Some(Err(bad)) => match watch.bad_row(&bad) {
                    Ok(()) => watermark.settle(bad.record),
                    Err(failure) => stopped = Some(failure),
                },
            }
        }
        let has_input = stopped.is_none() && (!is_parsed || !pending.is_empty());
        if !has_input && in_flight.is_empty() {
            break;
        }
        tokio::select! {
            Some(settled) = in_flight.next(), if !in_flight.is_empty() => {
                let Settled { record, line, result } = settled;
                match result {
                    Ok(()) => {
                        watermark.settle(record);
                        rows += 1;
                    }
                    Err(error) => {
                        give_up.store(true, Ordering::Relaxed);
                        stopped.get_or_insert_with(|| at_line(line, &error));
                    }
                }
            }
            batch = parsed.recv(), if stopped.is_none() && !is_parsed && pending.is_empty() => {
                match batch {
                    Some(Ok(batch)) => pending.extend(batch),
                    Some(Err(failure)) => stopped = Some(failure),
                    None => is_parsed = true,
                }
            }
            () = plan.interrupts.first(), if stopped.is_none() => {
                give_up.store(true, Ordering::Relaxed);
                stopped = Some(Failure::quiet(Exit::Interrupted));
            }
            _ = ticks.tick() => {
                if let Err(failure) = watch.tick(watermark.through(), rows) {
                    stopped.get_or_insert(failure);
                }
            }
        }
    }
    Written { through: watermark.through(), rows, stopped }
}

async fn put(
    client: Client,
    table: &str,
    row: Row,
    patience: Duration,
    give_up: Arc<AtomicBool>,
) -> Settled {
    let Row { record, line, uid, key, value } = row;
    let deadline = Instant::now() + patience;
    let mut pause = PAUSE_FIRST;
    loop {
        let result = client.put(table, uid, key.clone(), value.clone()).await.map(|_| ());
        let may_repeat = !give_up.load(Ordering::Relaxed) && Instant::now() < deadline;
        match &result {
            Err(error) if may_repeat && is_passing(error) => {
                sleep(pause.max(error.retry_after().unwrap_or_default()).min(PAUSE_MAX)).await;
                pause = (2 * pause).min(PAUSE_MAX);
            }
            Ok(()) | Err(_) => return Settled { record, line, result },
        }
    }
}

/// Whether the same put may succeed a moment later.
fn is_passing(error: &quorate_client::Error) -> bool {
    error.code().retry() != RetryClass::No || error.outcome() == Outcome::Unknown
}

fn at_line(line: u64, error: &quorate_client::Error) -> Failure {
    let failure = cluster::failure(error);
    let mut coded = cluster::coded(error);
    coded.message = format!("line {line}: {}", coded.message);
    // The row may or may not be written; the import is resumed either way and writes it again.
    let exit =
        if failure.exit() == Exit::OutcomeUnknown { Exit::of(coded.code) } else { failure.exit() };
    let fix = failure.fix().map(str::to_owned).unwrap_or_default();
    let failure = Failure::from(Error { ..coded }).with_exit(exit);
    match error.outcome() {
        Outcome::Unknown => failure.with_fix("run the same command again; it resumes here"),
        Outcome::NotApplied => failure.with_fix(format!("{fix}; the same command resumes here")),
    }
}
