//! Rows from other nodes: one node is away for longer than the others keep their log, or loses its rows
//! while it is down. Started again it must fetch them, under load, and lead with them.
//!
//! With `--gigabytes` another one: `refill/emptied.rs`.

mod emptied;

use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use serde_json::json;

use super::Order;
use crate::Failure;
use crate::cluster::Node;
use crate::health::wait_healthy;
use crate::report::Outcome;
use crate::trial::{Setup, Trial};

const FAULT: &str = "refill";
/// The log that nodes keep for others.
const KEEPS: [&str; 2] = ["--log-keep-max", "1MiB"];
/// Writes while a node is away: more than what is flushed at once, and many times what is kept.
const AWAY: u64 = 250_000;
/// Writes that show that the others go on.
const PROGRESS: u64 = 200;
/// Longest pause of a writer while a node is refilled.
const PAUSE_MAX: Duration = Duration::from_millis(40);
/// Rows may take so long: they go out slower while clients notice.
const ROWS_PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a node comes to need rows.
#[derive(Clone, Copy, Debug)]
enum Need {
    /// Away for long.
    Away,
    /// Its rows are removed.
    Lost,
}

/// Runs the rounds.
pub(crate) async fn run(order: Order<'_>) -> Result<Outcome, Failure> {
    let Order { options, folder, seed } = order;
    if let Some(gigabytes) = options.gigabytes {
        return Box::pin(emptied::run(order, gigabytes)).await;
    }
    let mut setup = Setup::new(options, folder)?;
    setup.cluster.set_arguments(&KEEPS);
    let mut trial = Trial::start(setup, options.full_load(), seed).await?;
    let mut lines = Vec::new();
    for number in 0..options.rounds {
        let need = if number % 2 == 0 { Need::Away } else { Need::Lost };
        let node = Node::ALL.choose(&mut trial.random).copied().ok_or("no node")?;
        let installed = refill(&mut trial, node, need).await?;
        println!("  {node} {need:?}: {installed} groups refilled");
        if installed == 0 {
            trial.note_wrong(format!("{node} was started again and fetched no rows"));
        }
        lines.push(
            json!({ "node": node.to_string(), "need": format!("{need:?}"), "groups": installed }),
        );
    }
    trial.finish(FAULT, options.rounds, json!({ "rounds": lines })).await
}

/// One round. Returns how many times the node switched to rows that it had fetched.
async fn refill(trial: &mut Trial, node: Node, need: Need) -> Result<usize, Failure> {
    trial.begin_round();
    trial.wait_done(PROGRESS).await?;
    trial.cluster.kill(&[node])?;
    trial.struck(false);
    trial.wait_done(AWAY).await?;
    trial.end_load().await?;
    if let Need::Lost = need {
        std::fs::remove_dir_all(trial.cluster.data(node).join("rows"))?;
    }

    let pause_max = trial.set_pause_max(PAUSE_MAX);
    trial.begin_round();
    trial.cluster.start(&[node])?;
    wait_healthy(&mut trial.cluster, &Node::ALL).await?;
    trial.wait_done(PROGRESS).await?;
    wait_rows(trial, node).await?;
    // It leads once it has everything, and then whatever is read comes from its rows.
    trial.lead(node).await?;
    trial.wait_done(PROGRESS).await?;
    trial.end_load().await?;
    trial.set_pause_max(pause_max);
    trial.check_recent().await?;
    Ok(trial.cluster.switched(node)?)
}

/// Waits until a node has the rows of all groups.
async fn wait_rows(trial: &mut Trial, node: Node) -> Result<(), Failure> {
    let deadline = Instant::now() + ROWS_PATIENCE;
    while let Err(why) = emptied::voting(trial, node).await {
        if let Some(ended) = trial.cluster.ended()? {
            return Err(ended.into());
        }
        if deadline < Instant::now() {
            return Err(format!("{node} lacks rows after {ROWS_PATIENCE:?}: {why}").into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
