//! Hunts planted bugs: how many seeds until each is caught?
//!
//! A bug of the protocol that clusters hardly ever meet is hunted by the explorer of the Paxos core
//! instead, a test program of its own: it plants bugs by the same names.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use quorate_sim::options::Scenario;
use quorate_types::planted::Bug;

use super::many::{Machine, each, job};
use super::{What, bug};

/// Trials of a bug start so many seeds apart.
const APART: u64 = 10_000;

/// `planted`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Planted {
    /// Only this bug
    #[arg(long, value_name = "BUG", value_parser = bug)]
    bug: Option<Bug>,
    /// How often each is hunted, from seeds far apart
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    trials: u64,
    /// Seeds of a trial, at most
    #[arg(long, default_value_t = 400)]
    seeds_max: u64,
    /// The test program `explorer` of quorate-paxos, built with `--cfg madsim`
    #[arg(long, value_name = "PROGRAM")]
    explorer: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
}

/// Where a bug is hunted: a scenario of clusters, or the explorer.
fn hunting_ground(bug: Bug) -> Option<Scenario> {
    match bug {
        Bug::CountOldBallots
        | Bug::VoteInLease
        | Bug::LeaseFromReceipt
        | Bug::StaleNow
        | Bug::PromiseBeforeSync
        | Bug::TokenAnyPromise
        | Bug::TellUnapplied
        | Bug::InstallOverLog
        | Bug::InstallUnpromised
        | Bug::StayAway
        | Bug::SingleStep
        | Bug::JointUnchosen
        | Bug::AdoptUncounted
        | Bug::SuspendOnAppend
        | Bug::DeafToArbiter
        | Bug::KeptBeforeSync
        | Bug::LogOnlyDrops
        | Bug::LeadAcross
        | Bug::TrustDamagedLog
        | Bug::FreshFromReceipt => None,
        Bug::RenewWithoutDisk | Bug::LeadWithoutRoom => Some(Scenario::Failover),
        Bug::ReadUnconfirmed => Some(Scenario::Kill),
        Bug::SettleBySlot => Some(Scenario::Partition),
        Bug::NoDirSync => Some(Scenario::PowerCut),
        _ => Some(Scenario::Mixed),
    }
}

/// Prints every bug.
pub(super) fn list() -> ExitCode {
    for bug in Bug::ALL {
        let ground = hunting_ground(*bug).map_or("explorer", Scenario::word);
        println!("{:<20} {ground:<10} {}", bug.name(), bug.breaks());
    }
    ExitCode::SUCCESS
}

/// What came of hunting one bug: seeds needed by each trial, `None` if it was not caught, and how the
/// first catch looked.
struct Hunt {
    needed: Vec<Option<u64>>,
    catch: String,
}

impl Hunt {
    /// The median, if every trial caught it.
    fn median(&self) -> Option<u64> {
        let mut needed: Vec<u64> = self.needed.iter().copied().collect::<Option<_>>()?;
        needed.sort_unstable();
        needed.get(needed.len() / 2).copied()
    }
}

/// Hunts all bugs, prints a table and the verdict.
pub(super) fn hunt_all(asked: &Planted) -> Result<ExitCode, String> {
    let bugs: Vec<Bug> = match asked.bug {
        Some(bug) => vec![bug],
        None => Bug::ALL.to_vec(),
    };
    println!("{:<20} {:<10} {:>6}  caught by", "bug", "hunted in", "median");
    let mut caught = 0;
    for bug in &bugs {
        let (ground, hunt) = match (hunting_ground(*bug), &asked.explorer) {
            (Some(scenario), _) => (scenario.word(), in_clusters(*bug, scenario, asked)?),
            (None, Some(explorer)) => ("explorer", in_the_core(*bug, explorer, asked)?),
            (None, None) => {
                return Err(format!("{} needs --explorer; `make planted` gives it", bug.name()));
            }
        };
        let median = hunt.median();
        caught += u64::from(median.is_some());
        let seeds = median.map_or_else(|| "-".to_owned(), |median| median.to_string());
        let catch = if median.is_some() { &hunt.catch } else { "NOT CAUGHT" };
        println!("{:<20} {ground:<10} {seeds:>6}  {catch}", bug.name());
    }
    let trials = asked.trials;
    println!("median: seeds until the first violation, over {trials} trials");
    println!("planted bugs: {caught} of {} caught", bugs.len());
    let all = caught == bugs.len() as u64;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn in_clusters(bug: Bug, scenario: Scenario, asked: &Planted) -> Result<Hunt, String> {
    let what = What { plant: Some(bug), ..What::default() };
    let mut hunt = Hunt { needed: Vec::new(), catch: String::new() };
    for trial in 0..asked.trials {
        let first = 1 + trial * APART;
        let mut jobs: Vec<_> =
            (first..first + asked.seeds_max).map(|seed| job(seed, Some(scenario), &what)).collect();
        jobs.iter_mut().for_each(|job| job.check_determinism = false);
        let mut earliest: Option<u64> = None;
        let (earliest_seen, catch) = (&mut earliest, &mut hunt.catch);
        each(&jobs, &asked.machine, |job, ran| {
            if !ran.is_ok && ran.printed.contains("FAILED") {
                // Those that began before this one may still end before it in order of seeds.
                *earliest_seen = Some(earliest_seen.map_or(job.seed, |seed| seed.min(job.seed)));
                if catch.is_empty() {
                    *catch = first_complaint(&ran.printed);
                }
                return false;
            }
            true
        })?;
        hunt.needed.push(earliest.map(|seed| seed - first + 1));
    }
    Ok(hunt)
}

/// The explorer prints `planted NAME median N seeds of K trials` and, before that, each catch.
fn in_the_core(bug: Bug, explorer: &Path, asked: &Planted) -> Result<Hunt, String> {
    let output = Command::new(explorer)
        .args(["--exact", "planted_bug_is_caught", "--nocapture"])
        .env("QUORATE_PLANTED", bug.name())
        .env("QUORATE_TRIALS", asked.trials.to_string())
        .output()
        .map_err(|error| format!("{} does not run: {error}", explorer.display()))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let after = |line: &str, mark: &str| line.split_once(mark).map(|(_, rest)| rest.to_owned());
    let mut hunt = Hunt { needed: Vec::new(), catch: String::new() };
    let name = bug.name();
    for line in printed.lines().filter(|line| line.contains(&format!("planted {name} "))) {
        if let Some(rest) = after(line, " caught by seed ") {
            let count = rest.split_once('(').and_then(|(_, it)| it.split(' ').next()?.parse().ok());
            hunt.needed.push(count);
            if hunt.catch.is_empty() {
                hunt.catch = shorten(&after(&rest, ": ").unwrap_or_default());
            }
        } else if line.contains(" not caught ") {
            hunt.needed.push(None);
        }
    }
    if hunt.needed.is_empty() {
        let log = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the explorer said nothing of {name}:\n{printed}{log}"));
    }
    Ok(hunt)
}

/// The first thing a failed run complains of.
fn first_complaint(printed: &str) -> String {
    let complaint = printed
        .lines()
        .find_map(|line| line.strip_prefix("violation: ").or_else(|| line.strip_prefix("panic: ")));
    shorten(complaint.unwrap_or("a violation without words"))
}

fn shorten(text: &str) -> String {
    // Which place of the workload it was says nothing.
    let text = match text.split_once("} is not linearizable") {
        Some(_) => "a register is not linearizable",
        None => text.split_once("}: ").map_or(text, |(_, rest)| rest),
    };
    text.chars().take(90).collect()
}
