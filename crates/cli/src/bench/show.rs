//! The report for people.

use super::report::Report;
use crate::output::{Cell, Output, Table, Tone, thousands};

/// Beyond this the harness itself is in doubt.
const LAW_OFF: f64 = 0.05;

pub(super) fn show(report: &Report, out: &Output) {
    let setting = &report.setting;
    let us = |us: u64| time(us as f64);
    let mut table =
        Table::new(&["WORKLOAD", "CALLERS", "OPS/S", "P50", "P99", "P99.9", "MAX", "ERRORS"]);
    let latency = &report.latency_us;
    let errors = match report.errors {
        0 => Cell::from("0".to_owned()),
        count => Cell::toned(Tone::Bad, count.to_string()),
    };
    table.row([
        Cell::from(setting.workload.to_owned()),
        Cell::from(setting.callers.to_string()),
        Cell::from(thousands(report.ops_per_second.round() as u64)),
        Cell::from(us(latency.p50)),
        Cell::from(us(latency.p99)),
        Cell::from(us(latency.p999)),
        Cell::from(us(latency.max)),
        errors,
    ]);
    out.table(&table);
    for failed in &report.failed {
        out.say(format_args!("{} of {}: {}", failed.count, failed.code, failed.first));
    }
    if let Some(rate) = setting.rate {
        let unsent = report.unsent;
        out.say(format_args!("open loop at {rate}/s; {unsent} were due and could not be sent"));
    }

    let cost = &report.cost;
    let mut table = Table::new(&["ONE OPERATION COSTS", ""]);
    let rows = [
        ("log bytes on each node", format!("{:.0}", cost.log_bytes_per_node)),
        ("syncs of each log", ratio(cost.syncs_per_node)),
        ("frames between nodes", ratio(cost.peer_frames)),
        ("bytes to devices, all nodes", format!("{:.0}", cost.device_bytes)),
        ("CPU of all nodes", time(cost.server_cpu_us)),
        ("CPU of the client", time(cost.client_cpu_us)),
    ];
    for (what, value) in rows {
        table.row([what.to_owned(), value]);
    }
    out.table(&table);

    let mut table = Table::new(&["BOUND", "MEASURED", "AT BEST", "RATIO", "BECAUSE"]);
    for bound in &report.bounds {
        let figure = |value: f64| {
            if bound.what.starts_with("latency") { time(value) } else { ratio(value) }
        };
        table.row([
            bound.what.to_owned(),
            figure(bound.measured),
            figure(bound.bound),
            format!("{:.2}", bound.ratio),
            bound.because.to_owned(),
        ]);
    }
    out.table(&table);

    let mut known = vec![format!("a write of the log takes {}", time(report.log_sync_us))];
    known.extend(report.device_sync_us.map(|us| format!("an idle disk syncs in {}", time(us))));
    known.extend(report.round_trip_us.map(|us| format!("a connection opens in {}", time(us))));
    out.say(known.join(", "));
    if let Some(law) = report.littles_law {
        let percent = law * 100.0;
        if LAW_OFF < (law - 1.0).abs() && report.errors == 0 {
            out.warn(format_args!(
                "calls a second times mean latency is {percent:.1} % of the callers; it should be 100"
            ));
        } else {
            out.say(format_args!(
                "check: calls a second times mean latency is {percent:.1} % of the callers"
            ));
        }
    }
}

/// Microseconds with a unit.
fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} us"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// A share, as one in so many where that says more.
fn ratio(value: f64) -> String {
    match value {
        value if value <= 0.0 => "0".to_owned(),
        value if value < 0.1 => format!("1/{:.0}", 1.0 / value),
        value if value < 100.0 => format!("{value:.2}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(time(87.4), "87 us");
        assert_eq!(time(8_740.0), "8.74 ms");
        assert_eq!(time(1_500_000.0), "1.50 s");
        assert_eq!(ratio(0.004), "1/250");
        assert_eq!(ratio(1.5), "1.50");
    }
}
