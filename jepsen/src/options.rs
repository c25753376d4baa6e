//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::workload::Load;

/// Breaks three real servers under load in one way after another, and looks for everything that
/// clients were told is done.
#[derive(Clone, Debug, Parser)]
#[command(name = "quorate-jepsen", version)]
pub(crate) struct Options {
    /// What to break.
    #[arg(value_enum, default_value = "all")]
    pub(crate) fault: Choice,
    /// The `quorate` binary.
    #[arg(long)]
    pub(crate) server: PathBuf,
    /// How often to kill, to cut the power, to pause, to replace everything under kills.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rounds: u64,
    /// Damages every kind of file at every offset in every way, not only a few.
    #[arg(long)]
    pub(crate) thorough: bool,
    /// Decides moments and nodes; drawn and printed if left out.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Where data, logs and the list of acknowledged writes go; a new folder of the system's
    /// temporary one if left out, removed after a good run.
    #[arg(long)]
    pub(crate) folder: Option<PathBuf>,
    /// Ports from here on: 3 for each node, 10 apart.
    #[arg(long, default_value_t = 17440, value_parser = clap::value_parser!(u16).range(1024..65000))]
    pub(crate) base_port: u16,
    /// Shortest load before a fault, in ms.
    #[arg(long, default_value_t = 500)]
    pub(crate) load_ms_min: u64,
    /// Longest load before a fault, in ms.
    #[arg(long, default_value_t = 3000)]
    pub(crate) load_ms_max: u64,
    /// Tasks that write rows of their own.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) writers: u64,
    /// Tasks that add to counters.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) adders: u64,
    /// So many payments and transfers of `bank` are acknowledged before it ends.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) transactions: u64,
    /// `refill` fills a group with so many gigabytes, empties the folder of a node, and measures what callers
    /// notice while the node fetches them again. Three times as much room and more is needed.
    #[arg(long, value_parser = gigabytes)]
    pub(crate) gigabytes: Option<f64>,
    /// Small requests a second meanwhile, half of them writes.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(10..=100_000))]
    pub(crate) rate: u64,
    /// For how long they are measured before the node is killed, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) measure_s: u64,
    /// Leaves the data folders of `refill --gigabytes` where they are.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Writes the result as JSON into this file.
    #[arg(long)]
    pub(crate) report: Option<PathBuf>,
}

/// What to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// Every fault below, one after another.
    All,
    /// SIGKILL of all nodes, of one, of two.
    Kill,
    /// The power of all nodes or of one: what was not on the device is gone. As root.
    PowerCut,
    /// Bytes of one file of one node.
    Damage,
    /// The disk of one node runs full. As root.
    DiskFull,
    /// The disk of one node becomes slow. As root, with control groups.
    SlowDisk,
    /// A leader is stopped for longer than its lease, then goes on.
    Pause,
    /// A node is away for long, or loses its rows, and fetches those of others.
    Refill,
    /// Every replica of every group is replaced and comes back, then again while nodes are killed.
    Replace,
    /// Payments between units and transfers, under kills, pauses and cuts of the network. As root.
    Bank,
}

impl Choice {
    /// The faults of this choice, in the order in which they run.
    pub(crate) fn faults(self) -> Vec<Choice> {
        if self != Choice::All {
            return vec![self];
        }
        Choice::value_variants().iter().copied().filter(|fault| *fault != Choice::All).collect()
    }

    /// The word on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Choice::All => "all",
            Choice::Kill => "kill",
            Choice::PowerCut => "power-cut",
            Choice::Damage => "damage",
            Choice::DiskFull => "disk-full",
            Choice::SlowDisk => "slow-disk",
            Choice::Pause => "pause",
            Choice::Refill => "refill",
            Choice::Replace => "replace",
            Choice::Bank => "bank",
        }
    }
}

impl Options {
    /// As many writes as the machine takes.
    pub(crate) fn full_load(&self) -> Load {
        Load {
            writers: self.writers,
            adders: self.adders,
            counters: self.adders.div_ceil(4),
            pause_max: Duration::from_millis(4),
        }
    }
}

/// Gigabytes of 10^9 bytes: enough to take a moment, and what a disk may have.
fn gigabytes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.01..=10_000.0).contains(&number) => Ok(number),
        _ => Err("a number of gigabytes from 0.01 to 10000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_every_fault_once() {
        let words: Vec<&str> = Choice::All.faults().into_iter().map(Choice::word).collect();
        let all = [
            "kill",
            "power-cut",
            "damage",
            "disk-full",
            "slow-disk",
            "pause",
            "refill",
            "replace",
            "bank",
        ];
        assert_eq!(words, all);
        assert_eq!(Choice::Pause.faults(), [Choice::Pause]);
    }
}
