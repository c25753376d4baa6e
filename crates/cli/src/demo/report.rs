//! The result of the demo: what was asked, what was found, and which promises hold. `show.rs` prints
//! it for people; as JSON it is this struct. Its field names never change their meaning. Times are
//! whole milliseconds, sizes bytes; all are small numbers, so they are written as numbers.

use std::fs;
use std::path::Path;
use std::time::Duration;

use quorate_client::Topology;
use serde::Serialize;

use super::checks::{Check, checks};
use super::dataset::Totals;
use super::events::Event;
use super::leaders::{Move, Seen, moves};
use super::load::WorkerLog;
use super::money::MoneyReport;
use super::plan::Kind;
use super::timeline::{Impact, Request, Window, impact, outage, whole_ms};
use super::verify::Verdict;
use crate::exit::Failure;
use crate::local::resources::Peaks;

/// The version of the JSON.
const VERSION: u32 = 1;
/// The report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Report {
    pub(super) version: u32,
    /// Whether every decisive check holds.
    pub(super) passed: bool,
    /// Cities and IDCs, such as `3c5i`.
    pub(super) preset: String,
    pub(super) nodes: u64,
    pub(super) rounds: u32,
    pub(super) elapsed_ms: u64,
    pub(super) purchases: Purchases,
    pub(super) load: LoadSummary,
    pub(super) money: MoneyReport,
    /// Both tables together.
    pub(super) acknowledged: u64,
    pub(super) acknowledged_missing: u64,
    pub(super) acknowledged_duplicated: u64,
    pub(super) events: Vec<EventReport>,
    /// Groups that were not led where they are wanted at the end, as `RZ00/g1 on n2`.
    pub(super) not_home: Vec<String>,
    pub(super) resources: Peaks,
    pub(super) checks: Vec<Check>,
}

/// The imported data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Purchases {
    /// Computed from the file.
    pub(super) input: Totals,
    /// Computed from a scan after the last event.
    pub(super) found: Totals,
    pub(super) import_ms: u64,
    pub(super) verdict: Verdict,
}

/// The load over the whole demo.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct LoadSummary {
    pub(super) workers: u64,
    /// A worker's pause after each request.
    pub(super) pause_ms: u64,
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) unknown: u64,
    pub(super) replayed: u64,
    pub(super) stale_reads: u64,
    pub(super) verdict: Verdict,
    /// The first stale reads and errors, in words.
    pub(super) examples: Vec<String>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct EventReport {
    pub(super) event: Kind,
    pub(super) target: String,
    /// The units that were led there.
    pub(super) led: Vec<String>,
    pub(super) at_ms: u64,
    /// From the signal or start until every group had a serving leader and no follower lagged; `null`
    /// if not within the limit, or if leaders could not be handed back afterwards.
    pub(super) healthy_after_ms: Option<u64>,
    /// What was missing then.
    pub(super) problem: Option<String>,
    /// Every group had a majority of nodes that ran.
    pub(super) all_can_serve: bool,
    /// What could still be lost after it, in words.
    pub(super) survives: String,
    /// Where leaders went.
    pub(super) leaders: Vec<Move>,
    pub(super) units: Vec<UnitReport>,
}

/// What one unit felt of an event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct UnitReport {
    pub(super) unit: String,
    #[serde(flatten)]
    pub(super) impact: Impact,
    /// What it was to each city; empty if the cluster has one.
    pub(super) cities: Vec<CityReport>,
}

/// What a unit's event was to the clients in one city.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct CityReport {
    pub(super) city: String,
    /// The longest time without a success of any worker there.
    pub(super) outage_ms: u64,
    /// Requests that failed, whatever became of them.
    pub(super) failed: u64,
}

/// What a report is made of.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    pub(super) preset: &'a str,
    pub(super) topology: &'a Topology,
    pub(super) rounds: u32,
    pub(super) elapsed: Duration,
    pub(super) import: Duration,
    pub(super) input: Totals,
    pub(super) found: Totals,
    pub(super) purchases: Verdict,
    pub(super) load: Verdict,
    pub(super) workers: &'a [WorkerLog],
    pub(super) money: &'a MoneyReport,
    pub(super) events: &'a [Event],
    pub(super) seen: &'a [Seen],
    pub(super) not_home: &'a [String],
    pub(super) pause: Duration,
    pub(super) peaks: Peaks,
}

impl Report {
    /// Draws the conclusions.
    pub(super) fn new(findings: Findings<'_>) -> Report {
        let all = Window { from: Duration::ZERO, until: Duration::MAX };
        let logs: Vec<&[Request]> =
            findings.workers.iter().map(|log| log.requests.as_slice()).collect();
        let whole = impact(&logs, all);
        let load = LoadSummary {
            workers: findings.workers.len() as u64,
            pause_ms: whole_ms(findings.pause),
            requests: whole.requests,
            failed: whole.failed,
            unknown: whole.unknown,
            replayed: whole.replayed,
            stale_reads: findings.workers.iter().map(|log| log.stale_reads).sum(),
            examples: findings
                .workers
                .iter()
                .flat_map(|log| &log.examples)
                .take(5)
                .cloned()
                .collect(),
            verdict: findings.load.clone(),
        };
        let both = findings.purchases.clone().and(&findings.load);
        let report_of = |event: &Event| event_report(event, &findings);
        let mut report = Report {
            version: VERSION,
            passed: false,
            preset: findings.preset.to_owned(),
            nodes: findings.topology.nodes().len() as u64,
            rounds: findings.rounds,
            elapsed_ms: whole_ms(findings.elapsed),
            purchases: Purchases {
                input: findings.input,
                found: findings.found,
                import_ms: whole_ms(findings.import),
                verdict: findings.purchases.clone(),
            },
            load,
            money: findings.money.clone(),
            acknowledged: both.acknowledged,
            acknowledged_missing: both.acknowledged_missing,
            acknowledged_duplicated: both.acknowledged_duplicated,
            events: findings.events.iter().map(report_of).collect(),
            not_home: findings.not_home.to_vec(),
            resources: findings.peaks,
            checks: Vec::new(),
        };
        let in_order = findings.events.iter().all(|event| event.in_order);
        report.checks = checks(&report, both.unexpected, in_order);
        report.passed = report.checks.iter().all(|check| check.passed || !check.decisive);
        report
    }

    /// Writes the JSON, with the folders above it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(path, text))
            .map_err(|error| Failure::file("write", path, &error))
    }

    /// The events of a kind.
    pub(super) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &EventReport> {
        self.events.iter().filter(move |event| event.event == kind)
    }
}

fn event_report(event: &Event, findings: &Findings<'_>) -> EventReport {
    let mut names: Vec<&str> = findings.workers.iter().map(|log| log.unit.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    EventReport {
        event: event.kind,
        target: event.target.clone(),
        led: event.led.clone(),
        at_ms: whole_ms(event.window.from),
        healthy_after_ms: event.healthy_after.as_ref().ok().map(|after| whole_ms(*after)),
        problem: event.healthy_after.as_ref().err().cloned(),
        all_can_serve: event.all_can_serve,
        survives: event.survives.clone(),
        leaders: moves(findings.topology, findings.seen, event.window),
        units: names.into_iter().map(|unit| unit_report(unit, event, findings)).collect(),
    }
}

fn unit_report(unit: &str, event: &Event, findings: &Findings<'_>) -> UnitReport {
    let of_unit = || findings.workers.iter().filter(|log| log.unit == unit);
    let logs: Vec<&[Request]> = of_unit().map(|log| log.requests.as_slice()).collect();
    let mut cities: Vec<&str> = of_unit().map(|log| log.city.as_str()).collect();
    cities.retain(|city| !city.is_empty());
    cities.dedup();
    let city_report = |city: &str| {
        let there = of_unit().filter(|log| log.city == city);
        let logs: Vec<&[Request]> = there.map(|log| log.requests.as_slice()).collect();
        let felt = impact(&logs, event.window);
        CityReport {
            city: city.to_owned(),
            outage_ms: whole_ms(outage(&logs, event.window)),
            failed: felt.failed + felt.unknown,
        }
    };
    UnitReport {
        unit: unit.to_owned(),
        impact: impact(&logs, event.window),
        cities: cities.into_iter().map(city_report).collect(),
    }
}

#[cfg(test)]
#[path = "report_test.rs"]
mod tests;
