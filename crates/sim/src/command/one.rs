//! One seed in this process: one line on stdout, what is wrong below it, exit code 0 or 1.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use madsim::runtime::Runtime;
use quorate_sim::options::Options;
use quorate_sim::places::on_simulated_machines;
use quorate_sim::run::{Report, run};
use quorate_topology::presets::{self, Layout};
use quorate_topology::{LeaseProfile, Topology};
use quorate_types::ClusterId;
use quorate_types::planted;
use tracing_subscriber::EnvFilter;

use super::{Replay, read_cluster_file};

/// A run that takes longer than this in virtual time hangs.
const VIRTUAL_MAX: Duration = Duration::from_secs(600);
/// Futures nest deeply.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Runs the seed.
pub(super) fn replay(asked: &Replay) -> Result<ExitCode, String> {
    if let Some(bug) = asked.what.plant {
        planted::plant(bug);
    }
    match asked.check_determinism {
        true => twice(asked),
        false => once(asked),
    }
}

fn once(asked: &Replay) -> Result<ExitCode, String> {
    let mut options = Options::draw(asked.seed, asked.scenario());
    let text = match &asked.what.cluster {
        Some(path) => read_cluster_file(path)?,
        None => preset(&options),
    };
    let topology = on_simulated_machines(&text)?;
    options.has_leases = topology.lease() != LeaseProfile::Off;
    let _installed_once = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    let drawn = describe(&options, &topology);
    let ran = on_a_thread_of_its_own(options, topology, asked.verbose);
    let report = match ran {
        Ok(report) => report,
        Err(message) => {
            println!("FAILED {drawn}");
            println!("panic: {message}");
            println!("replay: {}", command_line(asked));
            return Ok(ExitCode::FAILURE);
        }
    };
    if let Some(path) = &asked.history {
        write_history(&report, path)?;
    }
    if report.wrong.is_empty() {
        println!("passed {drawn} {report}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("FAILED {drawn} {report}");
    for wrong in &report.wrong {
        println!("violation: {wrong}");
    }
    println!("replay: {}", command_line(asked));
    Ok(ExitCode::FAILURE)
}

/// The simulator seeds what is per thread, so its thread must be fresh.
fn on_a_thread_of_its_own(
    options: Options,
    topology: Arc<Topology>,
    is_shown: bool,
) -> Result<Report, String> {
    let simulate = move || {
        let mut runtime = Runtime::with_seed_and_config(options.seed, options.simulator());
        runtime.set_time_limit(VIRTUAL_MAX);
        runtime.block_on(run(options, topology, is_shown))
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(simulate);
    let thread = thread.map_err(|error| format!("no thread: {error}"))?;
    thread.join().map_err(|panic| match panic.downcast_ref::<String>() {
        Some(message) => message.clone(),
        None => (*panic.downcast_ref::<&str>().unwrap_or(&"a panic without words")).to_owned(),
    })
}

fn preset(options: &Options) -> String {
    let lease = if options.has_leases { LeaseProfile::Lan } else { LeaseProfile::Off };
    // With nodes to spare every group is on half of them.
    let nodes_per_idc = if options.has_churn { 2 } else { 1 };
    let layout = match (options.has_arbiter, options.is_wide, options.has_churn) {
        (true, _, _) => Layout::TwoAndArbiter,
        (false, false, _) => Layout::OneCity,
        (false, true, false) => Layout::ThreeCities,
        (false, true, true) => Layout::TwoCities,
    };
    let preset = presets::Options {
        name: "sim".to_owned(),
        hosts: presets::Hosts::Numbered { prefix: "10.0.0.".to_owned() },
        lease,
        ..presets::Options::demo(ClusterId(0x51e9))
    };
    presets::of_layout(layout, nodes_per_idc, &preset)
}

fn describe(options: &Options, topology: &Topology) -> String {
    let (nodes, groups) = (topology.nodes().len(), topology.groups().len());
    format!("{options} nodes={nodes} groups={groups}")
}

fn write_history(report: &Report, path: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    let file = std::fs::File::create(path).map_err(failed)?;
    let mut out = std::io::BufWriter::new(file);
    report.history.write_json_lines(&mut out).map_err(failed)?;
    let (transactions, names) = &report.lists;
    transactions.write_json_lines(names, &mut out).map_err(failed)
}

fn command_line(asked: &Replay) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "quorate-sim".to_owned());
    let arguments = asked.arguments().join(" ");
    format!("MADSIM_TEST_SEED={} setarch -R {program} {arguments}", asked.seed)
}

/// Runs the seed in two processes: what they print must be equal.
fn twice(asked: &Replay) -> Result<ExitCode, String> {
    let program = std::env::current_exe().map_err(|error| format!("no program: {error}"))?;
    let ask = || {
        let run = Command::new(&program).args(asked.arguments()).output();
        let output = run.map_err(|error| format!("no second process: {error}"))?;
        Ok::<_, String>((
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        ))
    };
    let ((passed, first), (_, second)) = (ask()?, ask()?);
    print!("{first}");
    if first == second {
        return Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    println!("violation: the second run of the seed took another course");
    print!("{second}");
    println!("replay: {} --check-determinism", command_line(asked));
    Ok(ExitCode::FAILURE)
}
