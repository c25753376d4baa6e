//! Kills all processes of a cluster at once, again and again, and looks for what they acknowledged.
//!
//! `cluster.rs` has the processes, `workload.rs` the load, `ledger.rs` what clients were told,
//! `verify.rs` the comparison, `report.rs` what is printed. The README beside this folder says what
//! a run proves.

mod cluster;
mod ledger;
mod report;
mod verify;
mod workload;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use quorate_client::{Client, Role};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::cluster::Cluster;
use crate::ledger::{Ledger, Tally};
use crate::report::Round;
use crate::verify::{Findings, verify};
use crate::workload::{Load, Running};

/// For how long a restarted cluster may be without a leader of every group.
const HEALTH_PATIENCE: Duration = Duration::from_secs(60);
/// For how long a cluster may take to stop when asked.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// The deadline of a call: longer than a restart, so that most calls outlive it.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Most wrong things printed for a round.
const PRINTED_MAX: usize = 20;

type Failure = Box<dyn Error + Send + Sync>;

/// Starts three servers, writes, kills all of them at a random moment, starts them again and looks
/// for everything that was acknowledged.
#[derive(Debug, Parser)]
#[command(name = "quorate-jepsen", version)]
struct Arguments {
    /// The `quorate` binary.
    #[arg(long)]
    server: PathBuf,
    /// How often to kill.
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Decides the moments; drawn and printed if left out.
    #[arg(long)]
    seed: Option<u64>,
    /// Where data, logs and the list of acknowledged writes go; a new folder of the system's
    /// temporary one if left out, removed after a good run.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Ports from here on: 3 for each node, 10 apart.
    #[arg(long, default_value_t = 17440)]
    base_port: u16,
    /// Shortest load before a kill, in ms.
    #[arg(long, default_value_t = 500)]
    load_ms_min: u64,
    /// Longest load before a kill, in ms.
    #[arg(long, default_value_t = 3000)]
    load_ms_max: u64,
    /// Tasks that write rows of their own.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..))]
    writers: u64,
    /// Tasks that add to counters.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    adders: u64,
    /// Writes the result as JSON into this file.
    #[arg(long)]
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(&arguments)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the kill loop could not go on: {error}");
            ExitCode::FAILURE
        }
    }
}

/// True if nothing was wrong.
async fn run(arguments: &Arguments) -> Result<bool, Failure> {
    if arguments.load_ms_max < arguments.load_ms_min {
        return Err("--load-ms-max is below --load-ms-min".into());
    }
    let seed = arguments.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    let folder = make_folder(arguments.folder.as_deref(), seed)?;
    println!("seed {seed}, data and logs in {}", folder.display());
    println!("{}", report::TITLES);

    let result = rounds(arguments, seed, &folder).await;
    let (rounds, last) = match result {
        Ok(done) => done,
        Err(error) => {
            println!("kept: {}", folder.display());
            return Err(error);
        }
    };
    if let Some(path) = &arguments.report {
        let document = report::document(seed, &rounds, &last);
        std::fs::write(path, serde_json::to_string_pretty(&document)?)?;
    }
    let good = rounds.iter().filter(|round| round.wrong.is_empty()).count();
    let bad = rounds.len() - good + usize::from(!last.wrong.is_empty());
    let done: u64 = rounds.iter().map(|round| round.tally.done).sum();
    println!(
        "all rounds again at the end: {} compared, {} wrong; {done} writes were acknowledged",
        last.compared,
        last.wrong.len()
    );
    println!("kill: {good} passed, {bad} failed");
    if 0 < bad {
        println!("kept: {}", folder.display());
    } else if arguments.folder.is_none() {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(bad == 0)
}

/// Every round, then a check of everything and an orderly stop.
async fn rounds(
    arguments: &Arguments,
    seed: u64,
    folder: &Path,
) -> Result<(Vec<Round>, Round), Failure> {
    let mut random = SmallRng::seed_from_u64(seed);
    let load = Load {
        writers: arguments.writers,
        adders: arguments.adders,
        counters: arguments.adders.div_ceil(4),
        pause_max: Duration::from_millis(4),
    };
    let mut ledger = Arc::new(Ledger::create(&folder.join("acknowledged.log"))?);
    let mut cluster = Cluster::new(&arguments.server, folder, arguments.base_port)?;
    cluster.check_ports()?;
    cluster.start()?;
    wait_healthy(&mut cluster).await?;
    let client = connect(&cluster).await?;

    let mut rounds = Vec::new();
    let mut before = Tally::default();
    for number in 1..=arguments.rounds {
        let running = Running::start(load, number, &client, &ledger, &mut random);
        let span = random.random_range(arguments.load_ms_min..=arguments.load_ms_max);
        let span = Duration::from_millis(span);
        tokio::time::sleep(span).await;
        cluster.kill_all()?;
        let killed_at = Instant::now();
        ledger.killed();
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        cluster.start()?;
        wait_healthy(&mut cluster).await?;
        let healthy = killed_at.elapsed();
        tokio::time::sleep(Duration::from_millis(random.random_range(300..800))).await;
        if !running.stop().await {
            return Err("a task of the load panicked".into());
        }
        let back = ledger.book().back_at.map(|at| at.duration_since(killed_at));
        let first = load.writer_uids(number.saturating_sub(1).max(1)).start;
        let uids = first..load.writer_uids(number).end;
        let checker = connect(&cluster).await?;
        let Findings { compared, mut wrong } =
            verify(&checker, &ledger, uids, load.counters, &mut random).await?;
        checker.close().await;
        let now = ledger.book().tally;
        let tally = difference(now, before);
        before = now;
        if tally.done == 0 {
            wrong.push("nothing was acknowledged, so nothing was proven".to_owned());
        }
        let round = Round { number, tally, load: span, back, healthy, compared, wrong };
        println!("{}", round.line());
        print_wrong(&round.wrong);
        rounds.push(round);
    }

    let uids = load.writer_uids(1).start..load.writer_uids(arguments.rounds).end;
    let checker = connect(&cluster).await?;
    let mut last = verify(&checker, &ledger, uids, load.counters, &mut random).await?;
    print_wrong(&last.wrong);
    checker.close().await;
    client.close().await;
    if let Err(error) = cluster.stop(STOP_PATIENCE) {
        println!("  {error}");
        last.wrong.push(error.to_string());
    }
    let ledger = Arc::get_mut(&mut ledger).expect("every task of the load has ended");
    ledger.close()?;
    let (number, tally) = (arguments.rounds, before);
    let Findings { compared, wrong } = last;
    let (load, back, healthy) = (Duration::ZERO, None, Duration::ZERO);
    Ok((rounds, Round { number, tally, load, back, healthy, compared, wrong }))
}

fn print_wrong(wrong: &[String]) {
    for what in wrong.iter().take(PRINTED_MAX) {
        println!("  {what}");
    }
    if PRINTED_MAX < wrong.len() {
        println!("  and {} more", wrong.len() - PRINTED_MAX);
    }
}

fn difference(now: Tally, before: Tally) -> Tally {
    Tally {
        done: now.done - before.done,
        not_done: now.not_done - before.not_done,
        unknown: now.unknown - before.unknown,
    }
}

fn make_folder(given: Option<&Path>, seed: u64) -> std::io::Result<PathBuf> {
    let process = std::process::id();
    let folder = given.map_or_else(
        || std::env::temp_dir().join(format!("quorate-kill-{seed}-{process}")),
        Path::to_owned,
    );
    std::fs::create_dir_all(&folder)?;
    folder.canonicalize()
}

async fn connect(cluster: &Cluster) -> Result<Client, Failure> {
    Ok(Client::builder(cluster.endpoints()).request_timeout(CALL_TIMEOUT).build().await?)
}

/// Waits until every node is ready and every group has a leader that serves.
async fn wait_healthy(cluster: &mut Cluster) -> Result<(), Failure> {
    let deadline = Instant::now() + HEALTH_PATIENCE;
    loop {
        if let Some(ended) = cluster.ended()? {
            return Err(ended.into());
        }
        let why = match connect(cluster).await {
            Ok(client) => unhealthy(&client).await,
            Err(error) => Some(error.to_string()),
        };
        let Some(why) = why else { return Ok(()) };
        if deadline < Instant::now() {
            return Err(format!("no healthy cluster within {HEALTH_PATIENCE:?}: {why}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What is missing for the cluster to be healthy.
async fn unhealthy(client: &Client) -> Option<String> {
    let mut led = BTreeMap::new();
    for report in client.with_timeout(Duration::from_secs(1)).cluster_status().await {
        match report.status {
            Err(error) => return Some(format!("{}: {error}", report.name)),
            Ok(status) if !status.ready => return Some(format!("{} is not ready", report.name)),
            Ok(status) => {
                for group in status.groups {
                    let leads = group.role == Role::Leader && group.serving;
                    *led.entry(group.group).or_insert(false) |= leads;
                }
            }
        }
    }
    led.iter().find(|(_, leads)| !**leads).map(|(group, _)| format!("{group} has no leader"))
}
