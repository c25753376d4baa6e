//! One turn of one of the two: what is asked, and what came of it.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// Durable writes of whole rows
    Put,
    /// Linearizable reads of single rows
    Get,
}

impl Workload {
    /// As `quorate bench` calls it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Workload::Put => "put",
            Workload::Get => "get",
        }
    }
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    /// etcd.
    Etcd,
    /// Quorate.
    Quorate,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Peer::Etcd => "etcd",
            Peer::Quorate => "quorate",
        })
    }
}

/// The load of one turn, the same for both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// What is asked.
    pub(crate) workload: Workload,
    /// Requests in flight.
    pub(crate) callers: usize,
    /// Keys asked about, from 0 on.
    pub(crate) keys: u64,
    /// Bytes of each value.
    pub(crate) value_bytes: usize,
    /// How long to run before anything counts.
    pub(crate) warm_up: Duration,
    /// How long to measure.
    pub(crate) measured: Duration,
}

/// What came of a turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Requests that ended well, a second.
    pub(crate) ops_per_second: f64,
    /// How long those took.
    pub(crate) latency_us: Latency,
    /// Requests that failed.
    pub(crate) errors: u64,
    /// What a reader of the figures should know: the first failure, an election.
    pub(crate) remarks: Vec<String>,
}

/// Times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(crate) struct Latency {
    /// The median.
    pub(crate) p50: u64,
    /// One in a hundred took longer.
    pub(crate) p99: u64,
    /// One in a thousand took longer.
    pub(crate) p999: u64,
}
