//! The promises a report is held against. Those about data decide whether the demo passes; those about
//! speed and size are told, because a busy machine breaks them without a fault of the database.

use serde::Serialize;

use quorate_topology::presets::Layout;

use super::plan::Kind;
use super::report::{Report, UnitReport};
use crate::local::resources::Peaks;

/// The stall after a `kill -9` that is promised for one city, in ms.
const KILL_STALL_MS_MAX: u64 = 2_000;
/// The same with an arbiter: after the election the silent voter is set aside, which takes 5 s more and a lease.
const ARBITER_STALL_MS_MAX: u64 = 9_000;
/// The stall after the loss of a city that is promised to the units it led, in ms.
const CITY_STALL_MS_MAX: u64 = 5_000;
/// Memory and disk that is promised, in bytes.
const RESOURCE_BYTES_MAX: u64 = 1_000_000_000;
/// The time that is promised for one round, in ms.
const ELAPSED_MS_MAX: u64 = 120_000;

/// A promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) check: &'static str,
    pub(super) passed: bool,
    /// Whether the demo fails without it.
    pub(super) decisive: bool,
    pub(super) detail: String,
}

/// Holds the report against every promise that applies to it. `unexpected` rows were found in both
/// tables together; `in_order` says whether every stopped node ended as it should.
pub(super) fn checks(report: &Report, unexpected: u64, in_order: bool) -> Vec<Check> {
    let mut checks = about_data(report, unexpected);
    checks.extend(about_money(report));
    checks.extend(about_stops(report, in_order));
    checks.extend(about_outages(report));
    checks.extend(about_cost(report));
    checks
}

fn decisive(check: &'static str, passed: bool, detail: String) -> Check {
    Check { check, passed, decisive: true, detail }
}

fn told(check: &'static str, passed: bool, detail: String) -> Check {
    Check { check, passed, decisive: false, detail }
}

fn about_data(report: &Report, unexpected: u64) -> Vec<Check> {
    let (missing, twice) = (report.acknowledged_missing, report.acknowledged_duplicated);
    let (of, stale) = (report.acknowledged, report.load.stale_reads);
    let is_same = report.purchases.input == report.purchases.found;
    let lost = format!("{missing} of {of} acknowledged writes are missing");
    let duplicated = format!("{twice} of {of} acknowledged writes are duplicated");
    let unasked = format!("{unexpected} rows are there that should not be");
    let not_shown = format!("{stale} reads did not show an acknowledged write");
    let sums = "rows, UIDs, quantity and amount after the faults are those of the file";
    vec![
        decisive("nothing-lost", missing == 0, lost),
        decisive("nothing-twice", twice == 0, duplicated),
        decisive("nothing-unasked", unexpected == 0, unasked),
        decisive("no-stale-read", stale == 0, not_shown),
        decisive("purchases-as-imported", is_same, sums.to_owned()),
    ]
}

fn about_money(report: &Report) -> Vec<Check> {
    let money = &report.money;
    let made = money.audits.iter().filter(|audit| audit.problem.is_none()).count();
    let wrong = money.audits.iter().filter(|audit| audit.problem.is_none() && !audit.balances());
    let wrong = wrong.count();
    let sums = format!(
        "{made} audits of {} accounts while money moved, {wrong} do not balance",
        money.accounts
    );
    let there = format!("{} of {} acknowledged payments are missing", money.missing, money.paid);
    let ended = money.audits.last().is_some_and(|last| last.balances());
    let every = money.audits.len();
    let tried = format!("{made} of {every} audits were made, the last one balances: {ended}");
    vec![
        decisive("money-conserved", wrong == 0 && ended, sums),
        decisive("payments-there", money.missing == 0, there),
        told("audits-made", made == every, tried),
    ]
}

fn about_stops(report: &Report, in_order: bool) -> Vec<Check> {
    let stops = report.of_kind(Kind::GracefulStop).filter(|event| event.all_can_serve);
    let units: Vec<&UnitReport> = stops.flat_map(|event| &event.units).collect();
    if units.is_empty() {
        return Vec::new();
    }
    let failed: u64 = units.iter().map(|unit| unit.impact.failed + unit.impact.unknown).sum();
    let unnoticed = format!("{failed} requests failed while a node was stopped in good order");
    let ended = "a node that is told to stop ends by itself, with exit code 0".to_owned();
    vec![
        decisive("graceful-stop-unnoticed", failed == 0, unnoticed),
        told("graceful-stop-in-order", in_order, ended),
    ]
}

fn about_outages(report: &Report) -> Vec<Check> {
    let mut checks = Vec::new();
    let killed = report.of_kind(Kind::KillLeader).flat_map(|event| &event.units);
    if let Some(worst) = killed.map(|unit| unit.impact.stall_ms.p99).max() {
        let has_arbiter = report.preset == Layout::TwoAndArbiter.word();
        let most = if has_arbiter { ARBITER_STALL_MS_MAX } else { KILL_STALL_MS_MAX };
        let detail = format!(
            "p99 of the stall after kill -9 of a leader is {worst} ms in the worst unit; promised \
             are {most} ms"
        );
        checks.push(told("kill-stall", worst <= most, detail));
    }
    checks.extend(about_cities(report));
    let home = match report.not_home.as_slice() {
        [] => "at the end every unit was led from its first choice".to_owned(),
        away => format!("at the end not where they are wanted: {}", away.join(", ")),
    };
    checks.push(told("leaders-home", report.not_home.is_empty(), home));
    let problems: Vec<&str> =
        report.events.iter().filter_map(|event| event.problem.as_deref()).collect();
    let detail = match problems.first() {
        None => "after every event all groups served again and all nodes caught up".to_owned(),
        Some(first) => {
            format!("{} events left something undone, the first: {first}", problems.len())
        }
    };
    checks.push(told("healthy-again", problems.is_empty(), detail));
    checks
}

fn about_cities(report: &Report) -> Vec<Check> {
    // Without a majority nothing is promised but that nothing is lost.
    let lost = report.of_kind(Kind::KillCity).filter(|event| event.all_can_serve);
    let lost: Vec<_> = lost.collect();
    if lost.is_empty() {
        return Vec::new();
    }
    let all = lost.iter().flat_map(|event| event.units.iter().map(|unit| (*event, unit)));
    let (there, elsewhere): (Vec<_>, Vec<_>) =
        all.partition(|(event, unit)| event.led.contains(&unit.unit));
    let worst = there.iter().map(|(_, unit)| unit.impact.stall_ms.p99).max().unwrap_or_default();
    let served = format!(
        "p99 of the stall after the loss of a city is {worst} ms in the worst unit that it led; \
         promised are {CITY_STALL_MS_MAX} ms"
    );
    let failed: u64 =
        elsewhere.iter().map(|(_, unit)| unit.impact.failed + unit.impact.unknown).sum();
    let unfelt = format!("{failed} requests failed in units that were led in other cities");
    vec![
        told("city-loss-served", worst <= CITY_STALL_MS_MAX, served),
        decisive("city-loss-elsewhere", failed == 0, unfelt),
    ]
}

fn about_cost(report: &Report) -> Vec<Check> {
    let Peaks { memory_bytes, disk_bytes } = report.resources;
    let mb = |bytes: u64| bytes / 1_000_000;
    let (memory, disk, most) = (mb(memory_bytes), mb(disk_bytes), mb(RESOURCE_BYTES_MAX));
    let is_small = memory_bytes.max(disk_bytes) < RESOURCE_BYTES_MAX;
    let size = format!(
        "{memory} MB of memory and {disk} MB of disk at most, all processes together; promised are \
         {most} MB each"
    );
    let mut checks = vec![told("small", is_small, size)];
    if report.rounds <= 1 {
        let is_quick = report.elapsed_ms < ELAPSED_MS_MAX;
        let (took, most) = (report.elapsed_ms / 1000, ELAPSED_MS_MAX / 1000);
        checks.push(told("quick", is_quick, format!("{took} s in all; promised are {most} s")));
    }
    checks
}
