//! Pause: a leader is stopped for longer than its lease and then goes on, with requests waiting at it
//! that were sent after others had taken over. It must not answer them from what it remembers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate_client::{Client, GroupId, Uid, Value};
use rand::Rng;
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use super::Order;
use crate::Failure;
use crate::cluster::{Cluster, Node};
use crate::health::{leaders, wait_healthy};
use crate::ledger::Ledger;
use crate::report::{Outcome, ms, seconds};
use crate::trial::{Setup, Trial};
use crate::workload::{COUNTER_KEY, TABLE};

const FAULT: &str = "pause";
/// Writes of the paused leader's group that others acknowledge before it goes on.
const BEHIND: u64 = 200;
/// How long that may take.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(30);
/// How long a reader waits for one node: longer than any pause.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two reads.
const READ_EVERY: Duration = Duration::from_millis(5);
/// How long the reader goes on asking afterwards.
const READ_AFTER: Duration = Duration::from_secs(1);
/// The lease of the cluster file, `lan`, and what clocks may differ in it.
const LEASE: Duration = Duration::from_millis(1100);

/// Runs the rounds.
pub(crate) async fn run(order: Order<'_>) -> Result<Outcome, Failure> {
    let Order { options, folder, seed } = order;
    let setup = Setup::new(options, folder)?;
    let mut trial = Trial::start(setup, options.full_load(), seed).await?;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        rounds.push(round(&mut trial).await?);
    }
    trial.finish(FAULT, options.rounds, json!({ "rounds": rounds })).await
}

async fn round(trial: &mut Trial) -> Result<Json, Failure> {
    let number = trial.begin_round();
    trial.wait_done(BEHIND).await?;
    // By turns, so that a short run has both groups.
    let counters = trial.counter_of_each_group();
    let index = usize::try_from(number).unwrap_or(0) % counters.len();
    let (group, counter) = counters[index];
    let led = leaders(&trial.client).await;
    let node = *led.get(&GroupId(group)).ok_or_else(|| format!("g{group} has no leader"))?;
    let reader = Reader::start(&trial.cluster, &trial.ledger, counter).await?;

    trial.cluster.pause(node)?;
    trial.struck(false);
    trial.ledger.reset_pulses();
    let paused = Instant::now();
    let drawn = LEASE + Duration::from_millis(trial.random.random_range(0..2000));
    wait_taken_over(trial, group, node).await?;
    tokio::time::sleep(drawn.saturating_sub(paused.elapsed())).await;
    let (span, waiting) = (paused.elapsed(), reader.waiting());
    trial.cluster.resume(node)?;
    tokio::time::sleep(READ_AFTER).await;
    let (answered, failed) = reader.stop().await;
    wait_healthy(&mut trial.cluster, &Node::ALL).await?;
    let tally = trial.end_load().await?;
    let stall = trial.ledger.pulse(group).stall(Instant::now());
    let findings = trial.check_recent().await?;
    println!(
        "  {number}: {node}, leader of g{group}, stood for {} s; clients waited at most {} s; \
         {waiting} reads waited at it; {answered} reads answered, {failed} not; {} acknowledged; {} wrong",
        seconds(span),
        seconds(stall),
        tally.done,
        findings.wrong.len()
    );
    if waiting == 0 {
        trial.note_wrong("no read waited at the paused leader, so nothing was proven".to_owned());
    }
    Ok(json!({
        "node": node.to_string(), "group": group, "paused_ms": ms(span), "stall_ms": ms(stall),
        "reads_waiting": waiting, "reads": answered, "reads_failed": failed, "done": tally.done,
        "wrong": findings.wrong.len(),
    }))
}

/// Waits until another node leads the group and has acknowledged writes that the paused one cannot
/// know.
async fn wait_taken_over(trial: &Trial, group: u32, from: Node) -> Result<(), Failure> {
    let deadline = Instant::now() + TAKEOVER_PATIENCE;
    while Instant::now() < deadline {
        if leaders(&trial.client).await.get(&GroupId(group)).is_some_and(|leader| *leader != from) {
            trial.wait_done_in(group, BEHIND, deadline).await?;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(format!("nobody took g{group} over from {from} within {TAKEOVER_PATIENCE:?}").into())
}

/// Asks for one counter again and again. It has a client of its own that has met the leader, does not
/// hear of another one and waits for it, so its requests lie at the node while that stands still.
struct Reader {
    asking: tokio::task::JoinHandle<JoinSet<bool>>,
    stop: Arc<tokio::sync::Notify>,
    waiting: Arc<AtomicU64>,
}

impl Reader {
    async fn start(
        cluster: &Cluster,
        ledger: &Arc<Ledger>,
        counter: u64,
    ) -> Result<Reader, Failure> {
        let client = Client::builder(cluster.endpoints())
            .attempt_timeout(READ_TIMEOUT)
            .request_timeout(READ_TIMEOUT)
            .build()
            .await?;
        client.get(TABLE, Uid(counter), COUNTER_KEY).await?;
        let (stop, waiting) = (Arc::new(tokio::sync::Notify::new()), Arc::new(AtomicU64::new(0)));
        let (ledger, stopped, count) =
            (Arc::clone(ledger), Arc::clone(&stop), Arc::clone(&waiting));
        let asking = tokio::spawn(async move {
            let mut reads = JoinSet::new();
            let mut every = tokio::time::interval(READ_EVERY);
            loop {
                tokio::select! {
                    biased;
                    () = stopped.notified() => return reads,
                    _ = every.tick() => {}
                }
                let (client, ledger, count) =
                    (client.clone(), Arc::clone(&ledger), Arc::clone(&count));
                reads.spawn(async move {
                    count.fetch_add(1, Ordering::Relaxed);
                    let floor = ledger.certain(counter);
                    let read = client.get(TABLE, Uid(counter), COUNTER_KEY).await;
                    count.fetch_sub(1, Ordering::Relaxed);
                    match read {
                        Ok(Some(Value::Integer(sum))) => ledger.read(counter, sum, floor),
                        Ok(_) => ledger.read(counter, 0, floor),
                        Err(_) => return false,
                    }
                    true
                });
            }
        });
        Ok(Reader { asking, stop, waiting })
    }

    /// Reads without an answer right now.
    fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Lets every read end. How many were answered, and how many not.
    async fn stop(self) -> (u64, u64) {
        self.stop.notify_one();
        let (mut answered, mut failed) = (0, 0);
        if let Ok(mut reads) = self.asking.await {
            while let Some(read) = reads.join_next().await {
                if read.unwrap_or(false) { answered += 1 } else { failed += 1 }
            }
        }
        (answered, failed)
    }
}
