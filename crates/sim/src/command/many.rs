//! Many seeds: each is a process of its own, because the simulator, hash orders and planted bugs are per
//! process. Without address randomisation, or pointer values would reach hash orders and a failure could
//! not be replayed.

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate_sim::options::Scenario;
use quorate_sim::places::on_simulated_machines;

use super::summary::Summary;
use super::{Replay, What, read_cluster_file, scenario_or_all};

/// Every seed of this remainder runs twice, and both runs must print the same.
const TWICE_EVERY: u64 = 20;
/// Lines of the log of a process that died without a word.
const LOG_LINES: usize = 20;
/// Seeds that failed once: `scenario seed`, a line each.
const REGRESSIONS: &str = include_str!("../../regressions.txt");

/// `run`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Run {
    /// Seeds: A..B with both ends, or one
    #[arg(long, value_parser = seeds, conflicts_with = "fresh", default_value = "1..100")]
    seeds: Seeds,
    /// So many seeds that were hardly ever run: from a start that follows from the clock
    #[arg(long, value_name = "N")]
    fresh: Option<u64>,
    /// Which faults there are; `all` gives each seed its own
    #[arg(long, default_value = "all", value_parser = scenario_or_all)]
    scenario: std::option::Option<Scenario>,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    machine: Machine,
}

/// How the machine is used.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Machine {
    /// Processes at once; left out: one for each core
    #[arg(long)]
    jobs: Option<usize>,
    /// Seconds until a seed counts as failed
    #[arg(long, default_value_t = 180)]
    timeout: u64,
}

/// First and last seed.
#[derive(Clone, Copy, Debug)]
struct Seeds(u64, u64);

fn seeds(text: &str) -> Result<Seeds, String> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no seed"));
    let seeds = Seeds(number(first)?, number(last)?);
    if seeds.1 < seeds.0 { Err(format!("{text} has no seed in it")) } else { Ok(seeds) }
}

/// Runs the seeds asked for.
pub(super) fn run(asked: &Run) -> Result<ExitCode, String> {
    if let Some(path) = &asked.what.cluster {
        // One complaint now, not one for each seed.
        on_simulated_machines(&read_cluster_file(path)?)?;
    }
    let Seeds(first, last) = match asked.fresh {
        Some(count) => fresh(count)?,
        None => asked.seeds,
    };
    let jobs = (first..=last).map(|seed| job(seed, asked.scenario, &asked.what)).collect();
    println!("seeds {first} to {last}");
    run_all(jobs, &asked.machine)
}

fn fresh(count: u64) -> Result<Seeds, String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let first = since.as_millis() as u64 / 10 * 10 + 1;
    Ok(Seeds(first, first + count.max(1) - 1))
}

/// Runs every seed that ever failed.
pub(super) fn regressions(machine: &Machine) -> Result<ExitCode, String> {
    let lines = REGRESSIONS.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let mut jobs = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (word, seed) = line.split_once(' ').ok_or_else(|| format!("regression {line:?}"))?;
        let seed = seed.trim().parse().map_err(|_| format!("regression {line:?}"))?;
        jobs.push(job(seed, scenario_or_all(word)?, &What::default()));
    }
    println!("{} seeds that failed once", jobs.len());
    run_all(jobs, machine)
}

pub(super) fn job(seed: u64, scenario: Option<Scenario>, what: &What) -> Replay {
    Replay {
        seed,
        scenario,
        what: what.clone(),
        check_determinism: seed.is_multiple_of(TWICE_EVERY),
        verbose: false,
        history: None,
    }
}

fn run_all(jobs: Vec<Replay>, machine: &Machine) -> Result<ExitCode, String> {
    let mut summary = Summary::default();
    let started = Instant::now();
    each(&jobs, machine, |job, ran| {
        if ran.is_ok {
            summary.add(&ran.printed);
        } else {
            println!("seed {} failed ({}):", job.seed, ran.ended);
            for line in ran.printed.lines() {
                println!("  {line}");
            }
            println!("replay: {}", command_line(job));
            summary.failed += 1;
        }
        true
    })?;
    print!("{summary}");
    println!("{} seeds in {:.0} s", jobs.len(), started.elapsed().as_secs_f64());
    println!("sim: {} passed, {} failed", summary.passed, summary.failed);
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came of a process.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    pub(super) is_ok: bool,
    /// How it ended, in words.
    pub(super) ended: String,
    pub(super) printed: String,
}

/// Runs jobs in parallel and hands what came of each to `done`, in any order; ends early once `done`
/// says false.
pub(super) fn each(
    jobs: &[Replay],
    machine: &Machine,
    done: impl FnMut(&Replay, &Ran) -> bool + Send,
) -> Result<(), String> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done = Mutex::new(done);
    let failed = Mutex::new(None);
    let work = || {
        while !is_over.load(Ordering::Acquire)
            && let Some(job) = jobs.get(next.fetch_add(1, Ordering::AcqRel))
        {
            match process(job, Duration::from_secs(machine.timeout)) {
                Ok(ran) => {
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    if !done(job, &ran) {
                        is_over.store(true, Ordering::Release);
                    }
                }
                Err(error) => {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    is_over.store(true, Ordering::Release);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..machine.jobs.unwrap_or(cores).max(1) {
            scope.spawn(work);
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn process(job: &Replay, timeout: Duration) -> Result<Ran, String> {
    let mut arguments = job.arguments();
    if job.check_determinism {
        arguments.push("--check-determinism".to_owned());
    }
    let program = std::env::current_exe().map_err(|error| format!("no program: {error}"))?;
    let output = Command::new("timeout")
        .arg(timeout.as_secs().to_string())
        .args(["setarch", "-R"])
        .arg(program)
        .args(arguments)
        .env("MADSIM_TEST_SEED", job.seed.to_string())
        .output()
        .map_err(|error| format!("no process for seed {}: {error}", job.seed))?;
    let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() && !printed.contains("FAILED") {
        // It died before it could say anything: what it wrote to its log is all there is.
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let skipped = log.lines().count().saturating_sub(LOG_LINES);
        printed.extend(log.lines().skip(skipped).map(|line| format!("{line}\n")));
    }
    let ended = match output.status.code() {
        Some(124) => format!("no end within {} s", timeout.as_secs()),
        Some(code) => format!("exit code {code}"),
        None => "killed".to_owned(),
    };
    Ok(Ran { is_ok: output.status.success(), ended, printed })
}

fn command_line(job: &Replay) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "quorate-sim".to_owned());
    format!("MADSIM_TEST_SEED={} setarch -R {program} {}", job.seed, job.arguments().join(" "))
}
