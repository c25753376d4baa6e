//! The report for people: one line per event and unit, input against found, and the promises.

use super::checks::Check;
use super::dataset::Totals;
use super::leaders::Move;
use super::report::Report;
use crate::output::{Cell, Output, Table, Tone, thousands};

/// Prints the report.
pub(super) fn show(report: &Report, out: &Output) {
    let print = |table: &Table| out.say(table.fitted(out.has_color()).trim_end());
    out.say("\nWhat the load felt, by event and unit (times in ms)");
    print(&events(report));
    out.say(format_args!(
        "A stall is the longest time a worker went without a success between this event and the next;\n\
         p50 and p99 are over the workers of the unit. Without a fault it is the slowest request plus\n\
         a pause of {} ms. kill-all includes restart-all; in between all nodes were dead for a second.",
        report.load.pause_ms
    ));
    if !cities(report).is_empty() {
        out.say("OUT is the outage of the unit as a city felt it: the longest time in which none of its workers there\nhad a success.");
    }
    let moves = report.events.iter().any(|event| !event.leaders.is_empty());
    if moves {
        out.say("\nWhere leaders went, and when the unit was led from its first choice again (ms from the event)");
        print(&leaders(report));
    }
    out.say("\nWhat could still be lost at each moment");
    print(&survivals(report));

    out.say("\nWhat was put in, and what was found after the last event");
    print(&totals(report));

    let load = &report.load;
    out.say(format_args!(
        "\nLoad: {} workers sent {} requests; {} failed, {} unknown, {} took effect at an attempt \
         whose\nanswer was lost and were answered by a later one. {} writes were acknowledged; {} of \
         {} unknown\nones took effect. Import: {} rows in {:.1} s.",
        load.workers,
        load.requests,
        load.failed,
        load.unknown,
        load.replayed,
        load.verdict.acknowledged,
        load.verdict.unknown_applied,
        load.verdict.unknown,
        report.purchases.input.rows,
        seconds(report.purchases.import_ms),
    ));
    let money = &report.money;
    out.say(format_args!(
        "Money: {} payments between {} accounts, {} of them across units; {} refused for lack of funds, {} \
         asked\nagain under the same id, {} unknown at the end.",
        money.paid,
        money.accounts,
        money.across,
        money.refused,
        money.asked_again,
        money.unknown,
    ));
    if let Some(steady) = report.events.first() {
        let slowest =
            steady.units.iter().map(|unit| unit.impact.latency_ms).max_by_key(|it| it.p99);
        let latency = slowest.unwrap_or_default();
        let (p50, p99) = (latency.p50, latency.p99);
        out.say(format_args!(
            "Before the first event a request took {p50} ms (p50), {p99} ms (p99)."
        ));
    }
    for example in &load.examples {
        out.say(format_args!("  {example}"));
    }
    for difference in report.purchases.verdict.differences.iter().chain(&load.verdict.differences) {
        out.say(out.paint(Tone::Bad, format_args!("  {difference}")));
    }

    out.say("");
    for check in &report.checks {
        out.say(line(check, out));
    }
    let (tone, words) = if report.passed {
        (Tone::Good, "PASSED: nothing acknowledged is lost, nothing is there twice")
    } else {
        (Tone::Bad, "FAILED: see the lines above")
    };
    let took = seconds(report.elapsed_ms);
    out.say(format_args!("\n{} ({took:.1} s)", out.paint(tone, words)));
}

fn events(report: &Report) -> Table {
    let cities = cities(report);
    let outages: Vec<String> = cities.iter().map(|city| format!("OUT {city}")).collect();
    let mut titles = vec![
        "EVENT",
        "UNIT",
        "REQUESTS",
        "STALL p50",
        "p99",
        "max",
        "FAILED",
        "UNKNOWN",
        "REPLAYED",
    ];
    titles.extend(outages.iter().map(String::as_str));
    let mut table = Table::new(&titles);
    for event in &report.events {
        for (index, unit) in event.units.iter().enumerate() {
            let impact = &unit.impact;
            let name = if index == 0 { event.event.word() } else { "" };
            let counted = |count: u64| {
                let tone = if count == 0 { Tone::Faint } else { Tone::Warn };
                Cell::toned(tone, count.to_string())
            };
            let mut row = vec![
                Cell::from(name),
                Cell::from(unit.unit.as_str()),
                Cell::from(impact.requests.to_string()),
                Cell::from(impact.stall_ms.p50.to_string()),
                Cell::from(impact.stall_ms.p99.to_string()),
                Cell::from(impact.stall_ms.max.to_string()),
                counted(impact.failed),
                counted(impact.unknown),
                counted(impact.replayed),
            ];
            row.extend(cities.iter().map(|city| {
                let of_city = unit.cities.iter().find(|it| it.city == *city);
                Cell::from(of_city.map(|it| it.outage_ms.to_string()).unwrap_or_default())
            }));
            table.row(row);
        }
    }
    table
}

/// The cities with clients, in order.
fn cities(report: &Report) -> Vec<String> {
    let units = report.events.iter().flat_map(|event| &event.units);
    let mut names: Vec<String> = Vec::new();
    for city in units.flat_map(|unit| &unit.cities) {
        if !names.contains(&city.city) {
            names.push(city.city.clone());
        }
    }
    names
}

fn leaders(report: &Report) -> Table {
    let mut table = Table::new(&["EVENT", "UNIT", "FROM", "TO", "SEEN AFTER", "HOME AFTER"]);
    for event in &report.events {
        for (index, went) in event.leaders.iter().enumerate() {
            let Move { unit, from, to, after_ms, home_after_ms } = went;
            let name = if index == 0 { event.event.word() } else { "" };
            let home = match home_after_ms {
                Some(after) => Cell::from(after.to_string()),
                None => Cell::toned(Tone::Warn, "not home"),
            };
            table.row([
                Cell::from(name),
                Cell::from(unit.as_str()),
                Cell::from(from.as_str()),
                Cell::from(to.as_str()),
                Cell::from(after_ms.to_string()),
                home,
            ]);
        }
    }
    table
}

fn survivals(report: &Report) -> Table {
    let mut table = Table::new(&["EVENT", "WHAT", "AFTER IT"]);
    for event in &report.events {
        table.row([
            Cell::from(event.event.word()),
            Cell::from(event.target.as_str()),
            Cell::from(event.survives.as_str()),
        ]);
    }
    table
}

fn totals(report: &Report) -> Table {
    let Totals { rows, uids, quantity, amount_cents } = report.purchases.input;
    let found = report.purchases.found;
    let mut table = Table::new(&["PURCHASES", "INPUT", "FOUND", ""]);
    let pairs = [
        ("rows", thousands(rows), thousands(found.rows)),
        ("distinct UIDs", thousands(uids), thousands(found.uids)),
        ("quantity, pieces", signed(quantity), signed(found.quantity)),
        ("amount, cents", signed(amount_cents), signed(found.amount_cents)),
    ];
    for (what, input, found) in pairs {
        let same = if input == found {
            Cell::toned(Tone::Good, "same")
        } else {
            Cell::toned(Tone::Bad, "DIFFERENT")
        };
        table.row([Cell::from(what), Cell::from(input), Cell::from(found), same]);
    }
    table
}

fn line(check: &Check, out: &Output) -> String {
    let (tone, word) = match (check.passed, check.decisive) {
        (true, _) => (Tone::Good, "PASS"),
        (false, true) => (Tone::Bad, "FAIL"),
        (false, false) => (Tone::Warn, "FAIL (does not decide)"),
    };
    format!("{}  {}: {}", out.paint(tone, word), check.check, check.detail)
}

fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}

fn signed(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", thousands(number.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_for_people() {
        assert_eq!(signed(1_234_567), "1,234,567");
        assert_eq!(signed(-1_234), "-1,234");
    }
}
