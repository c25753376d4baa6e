//! Whose turn it is, from the first to the last.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;

use crate::etcd;
use crate::options::Options;
use crate::quorate;
use crate::report::{Report, Versions};
use crate::turn::{Figures, Load, Peer, Workload};

/// One turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The round, from 1 on.
    pub(crate) round: u64,
    /// What is asked.
    pub(crate) workload: Workload,
    /// Requests in flight.
    pub(crate) callers: u64,
    /// Who is asked.
    pub(crate) peer: Peer,
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Turn { round, workload, callers, peer } = self;
        write!(f, "round {round}  {}  {callers:>5} callers  {peer:<7}", workload.word())
    }
}

/// All turns in order: a round has every case, a case has both. Who begins alternates between rounds.
fn turns(rounds: u64, workloads: &[Workload], callers: &[u64]) -> Vec<Turn> {
    let mut turns = Vec::new();
    for round in 1..=rounds {
        let order =
            if round % 2 == 1 { [Peer::Etcd, Peer::Quorate] } else { [Peer::Quorate, Peer::Etcd] };
        for &workload in workloads {
            for &callers in callers {
                turns.extend(order.map(|peer| Turn { round, workload, callers, peer }));
            }
        }
    }
    turns
}

/// Runs all turns and prints the report. A turn that gives no figures is the last one.
///
/// # Errors
/// That turn, and why.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let host = Host::new(options)?;
    let versions = Versions {
        etcd: etcd::version(&host.etcd.program)?,
        quorate: quorate::version(&host.quorate)?,
    };
    let turns = turns(options.rounds, &options.workload, &options.callers);
    eprintln!("{} and {}, {} turns", versions.etcd, versions.quorate, turns.len());
    let mut ended = Vec::with_capacity(turns.len());
    let mut failure = None;
    for turn in turns {
        match Box::pin(host.run(turn, load(options, turn))).await {
            Ok(figures) => {
                eprintln!("{}", progress(turn, &figures));
                ended.push((turn, figures));
            }
            Err(error) => {
                failure = Some(error.context(turn.to_string()));
                break;
            }
        }
    }
    if !ended.is_empty() {
        let text = Report::new(options, versions, ended).text(options.format)?;
        std::io::stdout().write_all(text.as_bytes()).context("cannot write the report")?;
    }
    failure.map_or(Ok(()), Err)
}

/// What a turn asks.
fn load(options: &Options, turn: Turn) -> Load {
    Load {
        workload: turn.workload,
        callers: usize::try_from(turn.callers).unwrap_or(usize::MAX),
        keys: options.keys,
        value_bytes: usize::try_from(options.value_bytes).unwrap_or(usize::MAX),
        warm_up: Duration::from_secs(options.warm_up_seconds),
        measured: Duration::from_secs(options.seconds),
    }
}

/// A line while it runs.
fn progress(turn: Turn, figures: &Figures) -> String {
    let mut line = format!(
        "{turn}  {:>8.0} ops/s  p50 {} us  p99 {} us",
        figures.ops_per_second, figures.latency_us.p50, figures.latency_us.p99,
    );
    for remark in &figures.remarks {
        line.push_str("\n  ");
        line.push_str(remark);
    }
    line
}

/// This machine: the binaries and the folder for data, which is removed in the end.
struct Host {
    etcd: etcd::Setting,
    quorate: PathBuf,
    port_offset: u16,
    folder: TempDir,
}

impl Host {
    fn new(options: &Options) -> anyhow::Result<Host> {
        let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
        // Child processes are started in other folders, so no path may depend on where they are.
        let folder = parent
            .canonicalize()
            .and_then(|parent| tempfile::Builder::new().prefix("quorate-peers-").tempdir_in(parent))
            .with_context(|| format!("cannot make a folder in {}", parent.display()))?;
        let etcd = etcd::Setting {
            program: absolute(&options.etcd)?,
            port_offset: options.port_offset,
            connections: options.connections,
            is_spread: options.spread,
        };
        let quorate = absolute(&options.quorate)?;
        Ok(Host { etcd, quorate, port_offset: options.port_offset, folder })
    }

    /// One turn. On a busy machine a new cluster may fail to begin in time, so there is a second try.
    async fn run(&self, turn: Turn, load: Load) -> anyhow::Result<Figures> {
        let error = match self.attempt(turn, load).await {
            Ok(figures) => return Ok(figures),
            Err(error) => error,
        };
        eprintln!("{turn}  once more: {error:#}");
        let mut figures = self.attempt(turn, load).await?;
        figures.remarks.push(format!("no figures at first: {error:#}"));
        Ok(figures)
    }

    /// One try, in a folder of its own.
    async fn attempt(&self, turn: Turn, load: Load) -> anyhow::Result<Figures> {
        let folder =
            TempDir::new_in(self.folder.path()).context("cannot make a folder for a turn")?;
        // What others left to be written shall not be written in this turn.
        rustix::fs::sync();
        let figures = match turn.peer {
            Peer::Etcd => Box::pin(etcd::turn(&self.etcd, load, folder.path())).await?,
            Peer::Quorate => {
                let offset = self.port_offset;
                Box::pin(quorate::turn(&self.quorate, load, offset, folder.path())).await?
            }
        };
        folder.close().context("cannot remove the data of a turn")?;
        Ok(figures)
    }
}

/// A program that is named by a path, wherever it is called from; others are looked up by the system.
fn absolute(program: &Path) -> anyhow::Result<PathBuf> {
    if program.components().count() < 2 {
        return Ok(program.to_owned());
    }
    std::path::absolute(program).with_context(|| format!("no such path: {}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_take_turns_and_who_begins_alternates() {
        let turns = turns(2, &[Workload::Put, Workload::Get], &[1, 256]);
        assert_eq!(turns.len(), 16);
        let who = |round: u64| -> Vec<Peer> {
            turns.iter().filter(|turn| turn.round == round).map(|turn| turn.peer).collect()
        };
        assert_eq!(who(1), [Peer::Etcd, Peer::Quorate].repeat(4));
        assert_eq!(who(2), [Peer::Quorate, Peer::Etcd].repeat(4));
        for pair in turns.chunks(2) {
            let case = |turn: Turn| (turn.round, turn.workload.word(), turn.callers);
            assert_eq!(case(pair[0]), case(pair[1]));
        }
    }

    #[test]
    fn programs_without_a_folder_are_looked_up() {
        assert_eq!(absolute(Path::new("etcd")).unwrap(), Path::new("etcd"));
        assert!(absolute(Path::new("target/quorate")).unwrap().is_absolute());
    }
}
