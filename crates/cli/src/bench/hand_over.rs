//! How long clients wait while a leadership moves as planned: asked for by an operator, or because the
//! leader's process is told to end. Puts and gets in a closed loop, of one caller and of many.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quorate_client::{Client, GroupId};
use quorate_types::{Code, NodeId};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Serialize;
use tokio::task::JoinSet;

use super::keys::Keys;
use super::work::{Worker, Workload};
use crate::exit::Failure;
use crate::local::cluster::Cluster;
use crate::local::health::{self, Wanted};
use crate::output::{Document, Output, Table};

/// Between two moves.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a node that was stopped may take until it leads again.
const HOME_LIMIT: Duration = Duration::from_secs(60);
/// Stops of a process for so many moves that are asked for: each takes the time to come home.
const MOVES_PER_STOP: u64 = 10;
/// But at least so many.
const STOPS_MIN: u64 = 3;

/// What happens to the leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Nothing: what the machine makes of the load by itself.
    Nothing,
    /// `group transfer-leader`, to each member in turn.
    Transfer,
    /// The leader's process gets SIGTERM, is started again and led home to.
    Stop,
}

impl Event {
    fn word(self) -> &'static str {
        match self {
            Event::Nothing => "nothing",
            Event::Transfer => "transfer-leader",
            Event::Stop => "SIGTERM",
        }
    }
}

/// What callers saw of one kind of event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Stalls {
    callers: usize,
    event: &'static str,
    events: usize,
    requests: usize,
    failed: usize,
    /// The longest request of each event.
    stall_us_p50: u64,
    stall_us_p99: u64,
    stall_us_max: u64,
    /// The first failure.
    first_failure: Option<String>,
}

/// When a request began and ended.
#[derive(Clone, Copy, Debug)]
struct Span {
    began: Instant,
    ended: Instant,
}

/// What callers note.
#[derive(Debug, Default)]
struct Notes {
    spans: Vec<Span>,
    failures: Vec<String>,
}

/// Measures every event with one caller and with many.
pub(super) async fn measure(
    callers: usize,
    seconds: u64,
    worker: &Worker,
    keys: &Keys,
    cluster: &mut Cluster,
    out: &Output,
) -> Result<(), Failure> {
    // A client of its own: that of the callers shall not hear of the new leader from it.
    let operator = Box::pin(cluster.connect()).await?;
    let group = group_of(worker, keys)?;
    let mut all = Vec::new();
    for callers in [1, callers] {
        for event in [Event::Nothing, Event::Transfer, Event::Stop] {
            let load = Load::start(callers, worker, keys);
            let begins = match event {
                Event::Stop => {
                    let count = (seconds / MOVES_PER_STOP).max(STOPS_MIN);
                    Box::pin(stop_leaders(&operator, group, count, cluster)).await?
                }
                Event::Nothing | Event::Transfer => {
                    let moves = event == Event::Transfer;
                    Box::pin(move_leader(&operator, group, seconds, moves)).await?
                }
            };
            let notes = load.end().await?;
            all.push(stalls(callers, event, &begins, &notes));
        }
    }
    show(&all, out);
    let item = serde_json::json!({ "workload": "hand-over", "events": all });
    let id = operator.topology().cluster_id();
    out.document(&Document::new("bench").of_cluster(id).item(item));
    operator.close().await;
    Ok(())
}

fn group_of(worker: &Worker, keys: &Keys) -> Result<GroupId, Failure> {
    let topology = worker.client.topology();
    let unknown = || Failure::new(Code::UnknownTable, format!("no table {}", worker.table));
    let table = topology.table_by_name(&worker.table).ok_or_else(unknown)?.id;
    let user = keys.all().next().ok_or_else(unknown)?;
    topology.route(table, user).map(|route| route.group.id).map_err(|_| unknown())
}

/// Moves the leadership every second, or only counts the seconds. Returns when each began.
async fn move_leader(
    operator: &Client,
    group: GroupId,
    count: u64,
    moves: bool,
) -> Result<Vec<Instant>, Failure> {
    let members: Vec<NodeId> = operator
        .topology()
        .group(group)
        .map(|group| group.leaders().map(|member| member.node).collect())
        .unwrap_or_default();
    let mut begins = Vec::new();
    for next in members.iter().cycle().skip(1).take(usize::try_from(count).unwrap_or(usize::MAX)) {
        tokio::time::sleep(PERIOD).await;
        begins.push(Instant::now());
        if moves {
            operator
                .transfer_leader(group, Some(*next))
                .await
                .map_err(|error| crate::cluster::failure(&error))?;
        }
    }
    tokio::time::sleep(PERIOD).await;
    Ok(begins)
}

/// Ends the leader's process in good order and starts it again, as often as asked. Returns when each
/// was told to end.
async fn stop_leaders(
    operator: &Client,
    group: GroupId,
    count: u64,
    cluster: &mut Cluster,
) -> Result<Vec<Instant>, Failure> {
    let mut begins = Vec::new();
    for _ in 0..count {
        tokio::time::sleep(PERIOD).await;
        let Some(leader) = health::leader(operator, group).await else {
            return Err(Failure::new(Code::NotReady, format!("{group} has no leader")));
        };
        begins.push(Instant::now());
        if !cluster.stop(leader).await {
            let message = format!("{} did not end in good order", cluster.name(leader));
            return Err(Failure::new(Code::Internal, message));
        }
        cluster.start_missing()?;
        let wanted = Wanted::of(cluster.up());
        health::wait(operator, &wanted, HOME_LIMIT)
            .await
            .map_err(|missing| Failure::new(Code::NotReady, missing))?;
    }
    tokio::time::sleep(PERIOD).await;
    Ok(begins)
}

/// Callers that ask again as soon as they were answered. Dropping it ends them.
struct Load {
    is_over: Arc<AtomicBool>,
    notes: Arc<Mutex<Notes>>,
    tasks: JoinSet<()>,
}

impl Load {
    fn start(callers: usize, worker: &Worker, keys: &Keys) -> Load {
        let (is_over, notes) = (Arc::default(), Arc::default());
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let (worker, keys) = (worker.clone(), keys.clone());
            tasks.spawn(ask(caller, worker, keys, Arc::clone(&is_over), Arc::clone(&notes)));
        }
        Load { is_over, notes, tasks }
    }

    async fn end(mut self) -> Result<Notes, Failure> {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|error| Failure::new(Code::Internal, format!("a caller: {error}")))?;
        }
        Ok(std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// One caller: a put and a get by turns.
async fn ask(
    caller: usize,
    worker: Worker,
    keys: Keys,
    is_over: Arc<AtomicBool>,
    notes: Arc<Mutex<Notes>>,
) {
    let mut rng = SmallRng::from_rng(&mut rand::rng());
    for turn in caller.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let workload = if turn % 2 == 0 { Workload::Put } else { Workload::Get };
        let began = Instant::now();
        let ended = worker.ask(workload, keys.draw(&mut rng)).await;
        let span = Span { began, ended: Instant::now() };
        let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.spans.push(span);
        if let Err(error) = ended {
            notes.failures.push(error.to_string());
        }
    }
}

/// The longest request that was under way at some time from an event to the next, or to a period later.
fn stalls(callers: usize, event: Event, begins: &[Instant], notes: &Notes) -> Stalls {
    let mut longest: Vec<u64> = begins
        .iter()
        .map(|begin| {
            let end = *begin + PERIOD;
            let meets = |span: &&Span| *begin <= span.ended && span.began < end;
            let took = notes.spans.iter().filter(meets).map(|span| span.ended - span.began);
            u64::try_from(took.max().unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
        })
        .collect();
    longest.sort_unstable();
    let at = |percent: usize| {
        let rank = (longest.len() * percent).div_ceil(100).max(1);
        longest.get(rank - 1).copied().unwrap_or(0)
    };
    Stalls {
        callers,
        event: event.word(),
        events: begins.len(),
        requests: notes.spans.len(),
        failed: notes.failures.len(),
        stall_us_p50: at(50),
        stall_us_p99: at(99),
        stall_us_max: at(100),
        first_failure: notes.failures.first().cloned(),
    }
}

fn show(all: &[Stalls], out: &Output) {
    let header =
        ["CALLERS", "EVENT", "EVENTS", "REQUESTS", "FAILED", "STALL P50", "STALL P99", "STALL MAX"];
    let mut table = Table::new(&header);
    let millis = |us: u64| format!("{:.1} ms", us as f64 / 1000.0);
    for stalls in all {
        table.row([
            stalls.callers.to_string(),
            stalls.event.to_owned(),
            stalls.events.to_string(),
            stalls.requests.to_string(),
            stalls.failed.to_string(),
            millis(stalls.stall_us_p50),
            millis(stalls.stall_us_p99),
            millis(stalls.stall_us_max),
        ]);
    }
    out.table(&table);
    for failure in all.iter().filter_map(|stalls| stalls.first_failure.as_ref()) {
        out.warn(failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_the_longest_request_that_met_the_event() {
        // Goal: requests before and long after an event say nothing about it; one that was under way
        // when it began, and one that began soon after, do.
        let start = Instant::now();
        let ms = Duration::from_millis;
        let span = |began: u64, took: u64| Span {
            began: start + ms(began),
            ended: start + ms(began + took),
        };
        let spans =
            vec![span(0, 500), span(990, 30), span(1100, 40), span(2500, 900), span(9000, 1)];
        let notes = Notes { spans, failures: vec!["NO_QUORUM".to_owned()] };
        let begins = [start + ms(1000), start + ms(9000)];
        let stalls = stalls(1, Event::Transfer, &begins, &notes);
        assert_eq!((stalls.stall_us_p50, stalls.stall_us_max), (1_000, 40_000));
        assert_eq!((stalls.requests, stalls.failed, stalls.events), (5, 1, 2));
    }
}
