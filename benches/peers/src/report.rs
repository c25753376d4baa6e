//! What is printed at the end.

use anyhow::Context;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::compare::{Compared, Comparison};
use crate::options::{Format, Options};
use crate::rounds::Turn;
use crate::turn::{Figures, Peer, Workload};

/// The columns that hold figures.
const FIGURES: std::ops::Range<usize> = 3..9;

/// What was compared.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Versions {
    /// Name and version of etcd.
    pub(crate) etcd: String,
    /// Name and version of Quorate.
    pub(crate) quorate: String,
}

/// The report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    versions: Versions,
    setting: Setting,
    compared: Vec<Case>,
    rounds: Vec<Ended>,
}

/// What all turns had in common.
#[derive(Clone, Debug, Serialize)]
struct Setting {
    value_bytes: u64,
    keys: u64,
    seconds: u64,
    warm_up_seconds: u64,
    rounds: u64,
    /// Workloads times numbers of callers.
    cases: usize,
    etcd_connections_max: usize,
    etcd_is_spread: bool,
    /// Processors of this machine.
    processors: usize,
}

/// One workload with one number of callers.
#[derive(Clone, Debug, Serialize)]
struct Case {
    workload: Workload,
    callers: u64,
    #[serde(flatten)]
    comparison: Comparison,
}

/// One turn and what came of it.
#[derive(Clone, Debug, Serialize)]
struct Ended {
    round: u64,
    workload: Workload,
    callers: u64,
    peer: Peer,
    #[serde(flatten)]
    figures: Figures,
}

impl Report {
    /// The report of the turns that ended.
    pub(crate) fn new(
        options: &Options,
        versions: Versions,
        ended: Vec<(Turn, Figures)>,
    ) -> Report {
        let mut compared = Vec::new();
        for &workload in &options.workload {
            for &callers in &options.callers {
                let of = |peer| -> Vec<&Figures> {
                    let is_it = |turn: &Turn| {
                        turn.workload == workload && turn.callers == callers && turn.peer == peer
                    };
                    ended.iter().filter(|(turn, _)| is_it(turn)).map(|(_, it)| it).collect()
                };
                let comparison = Comparison::of(&of(Peer::Quorate), &of(Peer::Etcd));
                compared.extend(comparison.map(|comparison| Case {
                    workload,
                    callers,
                    comparison,
                }));
            }
        }
        let setting = Setting {
            value_bytes: options.value_bytes,
            keys: options.keys,
            seconds: options.seconds,
            warm_up_seconds: options.warm_up_seconds,
            rounds: options.rounds,
            cases: options.workload.len() * options.callers.len(),
            etcd_connections_max: options.connections.get(),
            etcd_is_spread: options.spread,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
        };
        let rounds = ended
            .into_iter()
            .map(|(Turn { round, workload, callers, peer }, figures)| Ended {
                round,
                workload,
                callers,
                peer,
                figures,
            })
            .collect();
        Report { versions, setting, compared, rounds }
    }

    /// As it is printed.
    ///
    /// # Errors
    /// If it cannot be put into JSON.
    pub(crate) fn text(&self, format: Format) -> anyhow::Result<String> {
        match format {
            Format::Json => {
                let text = serde_json::to_string_pretty(self).context("cannot write JSON")?;
                Ok(text + "\n")
            }
            Format::Table => Ok(self.table()),
        }
    }

    /// Whether every case had all its rounds.
    fn is_complete(&self) -> bool {
        let had_all = |case: &Case| case.comparison.rounds as u64 == self.setting.rounds;
        self.compared.len() == self.setting.cases && self.compared.iter().all(had_all)
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header([
            "WORKLOAD",
            "CALLERS",
            "",
            "QUORATE",
            "MIN..MAX",
            "ETCD",
            "MIN..MAX",
            "RATIO",
            "OF ROUNDS",
            "ERRORS",
        ]);
        for case in &self.compared {
            let comparison = &case.comparison;
            let errors = format!("{} / {}", comparison.errors_quorate, comparison.errors_etcd);
            let callers = case.callers.to_string();
            let word = case.workload.word();
            table.add_row(row(
                [word, &callers, "ops/s"],
                &comparison.ops_per_second,
                count,
                &errors,
            ));
            table.add_row(row(["", "", "p50"], &comparison.p50_us, time, ""));
            table.add_row(row(["", "", "p99"], &comparison.p99_us, time, ""));
            table.add_row(row(["", "", "p99.9"], &comparison.p999_us, time, ""));
        }
        for column in FIGURES {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let table = table.trim_fmt();
        let rounds = self.setting.rounds;
        let of = if self.is_complete() {
            format!("{rounds} rounds")
        } else {
            format!("the rounds that ended; not all {rounds} of every case did")
        };
        format!(
            "{table}\n\nMedians of {of}. A ratio is Quorate over etcd: of ops/s more is better, of \
             times less.\nErrors are those of Quorate / those of etcd.\n"
        )
    }
}

fn row(
    [workload, callers, figure]: [&str; 3],
    compared: &Compared,
    show: fn(f64) -> String,
    errors: &str,
) -> [String; 10] {
    let range = |min, max| format!("{min}..{max}");
    let (quorate, etcd, rounds) = (compared.quorate, compared.etcd, compared.ratio_of_rounds);
    [
        workload.to_owned(),
        callers.to_owned(),
        figure.to_owned(),
        show(quorate.median),
        range(show(quorate.min), show(quorate.max)),
        show(etcd.median),
        range(show(etcd.min), show(etcd.max)),
        ratio(compared.ratio),
        range(ratio(rounds.min), ratio(rounds.max)),
        errors.to_owned(),
    ]
}

fn count(value: f64) -> String {
    format!("{value:.0}")
}

fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

/// Microseconds with a unit.
fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} us"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}
