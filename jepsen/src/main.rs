//! Breaks three real servers under load in one way after another, and looks for everything that
//! clients were told is done.
//!
//! `fault/` has a file for each fault. What they share: `trial.rs` is one fault from beginning to end,
//! `cluster.rs` has the processes and `output.rs` what they print, `volume.rs` and `throttle.rs` their disks,
//! `network.rs` their network, `workload.rs` the load, `ledger.rs` what clients were told, `verify.rs` the
//! comparison, `bank/` a load of money with books of its own, `foreground.rs` one whose times are measured,
//! `fill.rs` gigabytes of rows and `room.rs` the disk that they take, `health.rs` waits, `host.rs` is what the
//! machine can do, `report.rs` what is printed. The README beside this folder says what a run proves.

mod bank;
mod cluster;
mod fault;
mod fill;
mod foreground;
mod health;
mod host;
mod ledger;
mod network;
mod options;
mod output;
mod report;
mod room;
mod throttle;
mod trial;
mod verify;
mod volume;
mod workload;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use rand::Rng;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::fault::Order;
use crate::options::Options;
use crate::report::Outcome;

/// The exit code after a signal.
const INTERRUPTED: u8 = 130;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run_or_stop(&options)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("quorate-jepsen: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until the end or a signal. What a fault has started and mounted goes with its values, which a
/// signal drops.
async fn run_or_stop(options: &Options) -> Result<ExitCode, Failure> {
    let mut signals = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    tokio::select! {
        result = Box::pin(run(options)) => result,
        () = any(&mut signals) => {
            eprintln!("interrupted: servers are ended and disks unmounted; the folder is kept");
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

async fn any([interrupt, terminate, hangup]: &mut [Signal; 3]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

async fn run(options: &Options) -> Result<ExitCode, Failure> {
    if options.load_ms_max < options.load_ms_min {
        return Err("--load-ms-max is below --load-ms-min".into());
    }
    let seed = options.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    let folder = make_folder(options.folder.as_deref(), seed)?;
    println!("seed {seed}, data and logs in {}", folder.display());

    let mut outcomes = Vec::new();
    for fault in options.fault.faults() {
        println!("\n{}", fault.word());
        let here = folder.join(fault.word());
        let order = Order { options, folder: &here, seed };
        let outcome = match fault::run(fault, order).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::broken(fault.word(), error.to_string()),
        };
        if let Some(reason) = &outcome.skipped {
            println!("SKIPPED {}: {reason}", outcome.fault);
        }
        outcomes.push(outcome);
    }
    if let Some(path) = &options.report {
        let document = report::document(seed, &outcomes);
        std::fs::write(path, serde_json::to_string_pretty(&document)?)?;
    }
    println!("\n{}", report::summary(&outcomes));
    for outcome in &outcomes {
        if let Some(reason) = &outcome.skipped {
            println!("SKIPPED {}: {reason}", outcome.fault);
        }
        if !outcome.wrong.is_empty() {
            println!("{}:", outcome.fault);
            report::print_wrong(&outcome.wrong);
        }
    }
    if outcomes.iter().any(|outcome| !outcome.wrong.is_empty()) {
        println!("kept: {}", folder.display());
        return Ok(ExitCode::FAILURE);
    }
    if options.folder.is_none() {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn make_folder(given: Option<&Path>, seed: u64) -> std::io::Result<PathBuf> {
    let process = std::process::id();
    let folder = given.map_or_else(
        || std::env::temp_dir().join(format!("quorate-crash-{seed}-{process}")),
        Path::to_owned,
    );
    std::fs::create_dir_all(&folder)?;
    folder.canonicalize()
}
