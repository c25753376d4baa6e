//! The load of `quorate bench` on etcd and on Quorate, by turns, and the ratios of what came of it.
//!
//! Figures of one machine vary from minute to minute; ratios of runs that alternate vary less. So every
//! round gives each of the two a turn with every workload and number of callers, on a cluster of three
//! processes started afresh, while the other does not run. Every second round the other one begins.
//!
//! ```text
//!  options   the command line          turn      one turn: what is asked, what came of it
//!  rounds    whose turn it is          compare   medians and ratios; pure
//!  etcd/     etcd's cluster, its load  report    JSON and a table
//!  quorate   `quorate bench` as a child process, which starts a cluster of its own
//!  process   a child process that does not outlive us
//! ```
//!
//! What is alike: callers that ask again once answered, uniform keys, fresh random values, synced
//! writes, linearizable reads of rows written beforehand, time to warm up, three nodes, one machine, one
//! folder on one disk, the way latency is measured, the allocator of the client.
//!
//! What is not, because the two differ: a key of etcd is 8 bytes, a row of Quorate has a table, a user
//! and a key of 2 bytes. The client of etcd makes a call for each request, over several connections to
//! the leader; the client of Quorate sends requests together, over one stream to each node. etcd has one
//! group and asks a majority before it reads; `quorate bench` has several groups whose leaders hold
//! leases. etcd runs with its defaults; before reads are measured it defragments its databases, without
//! which version 3.4 reads several times slower. `quorate bench` and its nodes ask for `SCHED_BATCH`, and its
//! nodes share the cores of the machine, as each says of itself; etcd and its client are left as they are.

mod compare;
mod etcd;
mod options;
mod process;
mod quorate;
mod report;
mod rounds;
mod turn;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::options::Options;

/// The allocator of `quorate`, so that neither client has the better one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code after a signal.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run_or_stop(&options)),
        Err(error) => Err(error.into()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("quorate-peers: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs until the end or a signal. Processes and folders go with the values that hold them, which a
/// signal drops.
async fn run_or_stop(options: &Options) -> anyhow::Result<ExitCode> {
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let mut signals = [
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
        listen(SignalKind::hangup())?,
    ];
    tokio::select! {
        result = Box::pin(rounds::run(options)) => result.map(|()| ExitCode::SUCCESS),
        () = any(&mut signals) => {
            eprintln!("interrupted: processes are ended and their data removed");
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
