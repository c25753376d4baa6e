//! The command line of `quorate-sim`.
//!
//! `one.rs` runs one seed in this process; `many.rs` runs many, each in a process of its own, which is
//! this program with `replay`; `summary.rs` adds up what they print; `planted.rs` hunts planted bugs.

mod many;
mod one;
mod planted;
mod summary;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use quorate_sim::options::Scenario;
use quorate_types::planted::Bug;

/// Simulated clusters: servers and clients as they ship, under faults, in virtual time
#[derive(Parser)]
#[command(name = "quorate-sim", version, arg_required_else_help = true)]
enum Cli {
    /// Run many seeds, each in a process of its own
    Run(many::Run),
    /// Run one seed again and show what happens
    Replay(Replay),
    /// Run every seed that ever failed
    Regressions(many::Machine),
    /// Plant every bug in turn and say how many seeds it takes to catch it
    Planted(planted::Planted),
    /// List the bugs that can be planted: name, scenario that catches it, what it breaks
    Bugs,
}

/// What to simulate.
#[derive(clap::Args, Clone, Debug, Default)]
struct What {
    /// A cluster file to simulate; left out: three nodes in one city, or five in three
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
    /// Plant a bug, which a run should then catch; `bugs` lists them
    #[arg(long, value_name = "BUG", value_parser = bug)]
    plant: Option<Bug>,
}

/// One seed.
#[derive(clap::Args, Clone, Debug)]
struct Replay {
    /// The seed; everything follows from it
    seed: u64,
    /// Which faults there are; left out, they follow from the seed as they do for `run`
    #[arg(long, value_enum)]
    scenario: Option<Scenario>,
    #[command(flatten)]
    what: What,
    /// Run it twice, in two processes, and compare
    #[arg(long)]
    check_determinism: bool,
    /// Print what happens to stderr; RUST_LOG adds the log of servers and clients
    #[arg(long)]
    verbose: bool,
    /// Write what was asked and answered to a file, as JSON lines
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

impl Replay {
    fn scenario(&self) -> Scenario {
        self.scenario.unwrap_or_else(|| Scenario::of_seed(self.seed))
    }

    /// The arguments that run this seed in another process.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["replay".to_owned(), self.seed.to_string()];
        arguments.extend(["--scenario".to_owned(), self.scenario().word().to_owned()]);
        if let Some(path) = &self.what.cluster {
            arguments.extend(["--cluster".to_owned(), path.display().to_string()]);
        }
        if let Some(bug) = self.what.plant {
            arguments.extend(["--plant".to_owned(), bug.name().to_owned()]);
        }
        arguments
    }
}

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let result = match Cli::parse() {
        Cli::Run(asked) => many::run(&asked),
        Cli::Replay(asked) => one::replay(&asked),
        Cli::Regressions(machine) => many::regressions(&machine),
        Cli::Planted(asked) => planted::hunt_all(&asked),
        Cli::Bugs => Ok(planted::list()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

fn read_cluster_file(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("cluster file {} cannot be read: {error}", path.display()))
}

fn bug(name: &str) -> Result<Bug, String> {
    Bug::from_name(name).ok_or_else(|| format!("no bug {name:?}; `quorate-sim bugs` lists them"))
}

/// A scenario by its word; `all` is none, so that each seed has its own.
fn scenario_or_all(word: &str) -> Result<Option<Scenario>, String> {
    if word == "all" {
        return Ok(None);
    }
    Scenario::from_str(word, false).map(Some).map_err(|_unknown| {
        let words: Vec<&str> = Scenario::value_variants().iter().map(|it| it.word()).collect();
        format!("no scenario {word:?}; there are {} and all", words.join(", "))
    })
}
