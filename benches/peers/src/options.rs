//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::turn::Workload;

/// Bytes of a value at most: both take them.
const VALUE_BYTES_MAX: u64 = 512 * 1024;
/// The highest offset with which every port is one.
const PORT_OFFSET_MAX: i64 = 43_000;

/// The load of `quorate bench` on etcd and on Quorate by turns, and the ratios.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "quorate-peers",
    version,
    after_help = "Both clusters are three processes on this machine, started afresh for each turn and \
                  removed afterwards. etcd comes from Debian's package etcd-server. Let nothing else \
                  run meanwhile."
)]
pub(crate) struct Options {
    /// Requests in flight, one case for each number
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1, 256, 1000], value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) callers: Vec<u64>,
    /// What to ask
    #[arg(long, value_name = "WORKLOAD,...", value_enum, value_delimiter = ',', default_values_t = [Workload::Put, Workload::Get])]
    pub(crate) workload: Vec<Workload>,
    /// Bytes of each value
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(0..=VALUE_BYTES_MAX))]
    pub(crate) value_bytes: u64,
    /// Keys asked about, all alike
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) keys: u64,
    /// How long to measure in each turn, in seconds
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// How long to run before that, in seconds
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) warm_up_seconds: u64,
    /// Turns of each case and each of the two
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) rounds: u64,
    /// The `quorate` binary
    #[arg(long, value_name = "PATH", default_value = "quorate")]
    pub(crate) quorate: PathBuf,
    /// The `etcd` binary
    #[arg(long, value_name = "PATH", default_value = "etcd")]
    pub(crate) etcd: PathBuf,
    /// HTTP/2 connections to etcd; never more than callers
    #[arg(long, value_name = "N", default_value = "16")]
    pub(crate) connections: NonZeroUsize,
    /// Connects to all nodes of etcd in turn, not only to the leader
    #[arg(long)]
    pub(crate) spread: bool,
    /// Where data of both lie while they run; without it the system's folder for temporary files
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Added to every port
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=PORT_OFFSET_MAX))]
    pub(crate) port_offset: u16,
    /// What stdout holds: a table for people, or one JSON document
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    pub(crate) format: Format,
}

/// What stdout holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// One document, with the figures of every turn
    Json,
}
