//! The `quorate` binary: the server, the demo and everything a person or a script asks a cluster.
//!
//! ```text
//!  args --cli--> Cli --commands/*--> Result<(), Failure> --exit--> exit code
//!                        |-- cluster   the client, with the global flags applied
//!                        |-- node      the server
//!                        `-- output    all printing: tables, documents, errors
//! ```
//!
//! Start reading at `cli.rs`, the tree of commands. A command is a function of its arguments and an
//! [`Output`]; what it decides stands in pure functions beside it.

mod args;
mod bench;
mod certificates;
mod cli;
mod cluster;
mod commands;
mod config;
mod demo;
mod exit;
mod local;
mod logging;
mod members;
mod monitoring;
mod node;
mod output;
mod pages;
mod reading;
mod recovery;
mod scheduling;
mod scrape;
mod signals;
mod values;

use std::process::ExitCode;
use std::time::Duration;

use quorate_types::Code;

use crate::cli::{Cli, Command, Parsed};
use crate::commands::server::ServerConfig;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// A request is a dozen small allocations over several threads, and the end of a checkpoint gives back a
/// hundred thousand at once. Against the system's allocator, puts at 256 callers take 15 % less CPU and
/// the slowest in a thousand a quarter of the time (`quorate bench put`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long tasks left behind may take to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let (out, result) = match cli::parse(std::env::args_os()) {
        Parsed::Run(cli) => {
            let out = Output::new(cli.global.format, cli.global.no_color);
            let result = start(*cli, &out);
            (out, result)
        }
        Parsed::Text(text) => {
            let out = Output::new(output::Format::Table, true);
            out.raw(text.as_bytes());
            (out, Ok(()))
        }
        Parsed::Mistake(failure, format) => (Output::new(format, true), Err(failure)),
    };
    let result = result.and_then(|()| out.finish());
    match result {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            out.failure(&failure);
            failure.exit().into()
        }
    }
}

fn start(cli: Cli, out: &Output) -> Result<(), Failure> {
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    // A load that shares the machine with its nodes would wake in between and break their batches up.
    if matches!(cli.command, Command::Server(_) | Command::Bench(_)) {
        // Before there are threads. Refused in some containers: then it runs as everything does.
        let _refused = scheduling::prefer_batches();
    }
    // It says how many threads there are to be.
    let server = match &cli.command {
        Command::Server(args) => {
            let settings = args.settings(cli.global.tls.dir(), std::env::vars_os())?;
            Some(ServerConfig::of(&settings)?)
        }
        _ => None,
    };
    if let Some(count) = server.as_ref().and_then(|config| config.threads) {
        threads.worker_threads(count.get());
    }
    let runtime = threads.enable_all().build().map_err(|error| {
        Failure::new(Code::Internal, format!("cannot start the threads: {error}"))
    })?;
    let result = match server {
        Some(config) => runtime.block_on(Box::pin(commands::server::run(config))),
        None => runtime.block_on(run(cli, out)),
    };
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    result
}

async fn run(cli: Cli, out: &Output) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    // Boxed, so that the future of one command does not make those of all others large.
    match command {
        Command::Server(_) => unreachable!("`start` runs the server"),
        Command::Config(args) => commands::config::run(args, &global, out),
        Command::Demo(args) => Box::pin(demo::run(args, out)).await,
        Command::Topology(args) => Box::pin(commands::topology::run(args, &global, out)).await,
        Command::Cluster(args) => Box::pin(commands::cluster::run(args, &global, out)).await,
        Command::Status(args) => Box::pin(commands::status::run(args, &global, out)).await,
        Command::Check(args) => Box::pin(commands::check::run(args, &global, out)).await,
        Command::Debug(args) => Box::pin(commands::debug::run(args, &global, out)).await,
        Command::Route(args) => Box::pin(commands::route::run(args, &global, out)).await,
        Command::Kv(args) => Box::pin(commands::kv::run(args, &global, out)).await,
        Command::Account(args) => Box::pin(commands::account::run(args, &global, out)).await,
        Command::Audit(args) => Box::pin(commands::audit::run(args, &global, out)).await,
        Command::Transfer(args) => Box::pin(commands::transfer::run(args, &global, out)).await,
        Command::Import(args) => Box::pin(commands::import::run(args, &global, out)).await,
        Command::Export(args) => Box::pin(commands::export::run(args, &global, out)).await,
        Command::Backup(args) => Box::pin(commands::backup::run(args, &global, out)).await,
        Command::Bench(args) => Box::pin(bench::run(args, &global, out)).await,
        Command::Txn(args) => Box::pin(commands::txn::run(args, &global, out)).await,
        Command::Ledger(args) => Box::pin(commands::ledger::run(args, &global, out)).await,
        Command::Group(args) => Box::pin(commands::group::run(args, &global, out)).await,
        Command::Node(args) => Box::pin(commands::node::run(args, &global, out)).await,
        Command::Cert(args) => commands::cert::run(args, &global, out),
        Command::Error(args) => commands::error::run(&args, out),
        Command::Generate(args) => {
            commands::generate::run(&args, out);
            Ok(())
        }
        Command::Sim(args) => commands::sim::run(args),
        Command::Version => {
            commands::version::run(out);
            Ok(())
        }
    }
}
