//! The JSON of a report, and which findings fail it.

use std::collections::BTreeMap;

use quorate_client::{GroupId, NodeId};
use quorate_topology::presets::{Options, one_city_three_idcs};
use quorate_types::ClusterId;

use super::*;
use crate::demo::money::Audited;
use crate::demo::timeline::End;

/// Leaders that stayed away.
static NOT_HOME: std::sync::LazyLock<Vec<String>> =
    std::sync::LazyLock::new(|| vec!["RZ00/g1 on n2".to_owned()]);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Two units with one worker each, and one graceful stop that nobody noticed.
fn workers() -> Vec<WorkerLog> {
    let request = |ended: u64| Request { started: ms(ended - 4), ended: ms(ended), end: End::Done };
    let worker = |unit: &str| WorkerLog {
        unit: unit.to_owned(),
        city: "sh".to_owned(),
        is_global: false,
        requests: vec![request(1_004), request(1_016), request(2_010)],
        promised: BTreeMap::new(),
        stale_reads: 0,
        examples: Vec::new(),
    };
    vec![worker("RZ00"), worker("RZ01")]
}

fn report(change: impl FnOnce(&mut Findings<'_>, &mut Vec<WorkerLog>)) -> Report {
    report_with(|money| money, change)
}

fn report_with(
    change_money: impl FnOnce(MoneyReport) -> MoneyReport,
    change: impl FnOnce(&mut Findings<'_>, &mut Vec<WorkerLog>),
) -> Report {
    let events = [Event {
        kind: Kind::GracefulStop,
        target: "n2 (leads RZ01)".to_owned(),
        led: vec!["RZ01".to_owned()],
        window: Window { from: ms(1_000), until: ms(2_000) },
        healthy_after: Ok(ms(300)),
        in_order: true,
        all_can_serve: true,
        survives: "survives: 1 node NO".to_owned(),
    }];
    let text = one_city_three_idcs(&Options::demo(ClusterId(7)));
    let topology = Topology::parse(&text).unwrap();
    let led =
        |at, node| Seen { at: ms(at), group: GroupId(2), node: NodeId(node), is_home: node == 2 };
    let seen = [led(500, 2), led(1_200, 1)];
    let totals = Totals { rows: 3, uids: 2, quantity: 6, amount_cents: 1_200 };
    let mut workers = workers();
    let audited = Audited {
        after: "graceful-stop".to_owned(),
        problem: None,
        accounts: 36,
        sum: 0,
        below_floor: 0,
        took_ms: 12,
    };
    let audits = vec![audited];
    let money =
        MoneyReport { accounts: 36, paid: 100, across: 70, audits, ..MoneyReport::default() };
    let money = change_money(money);
    let mut findings = Findings {
        preset: "1c3i",
        topology: &topology,
        rounds: 1,
        elapsed: ms(2_500),
        import: ms(400),
        input: totals,
        found: totals,
        purchases: Verdict { acknowledged: 3, ..Verdict::default() },
        load: Verdict { acknowledged: 4, ..Verdict::default() },
        workers: &[],
        money: &money,
        events: &events,
        seen: &seen,
        not_home: &[],
        pause: ms(8),
        peaks: Peaks { memory_bytes: 300_000_000, disk_bytes: 200_000_000 },
    };
    change(&mut findings, &mut workers);
    Report::new(Findings { workers: &workers, ..findings })
}

#[test]
fn the_json_is_stable() {
    // Goal: scripts that read the report go on working.
    let text = serde_json::to_string_pretty(&report(|_, _| {})).unwrap();
    let golden = include_str!("report_golden.json").trim_end();
    assert!(text == golden, "the report is now:\n{text}");
}

#[test]
fn only_broken_promises_about_data_fail_the_demo() {
    type Change = fn(&mut Findings<'_>, &mut Vec<WorkerLog>);
    let fail_in_stop: Change = |_, workers| workers[1].requests[1].end = End::NotApplied;
    let decisive: [(&str, Change); 6] = [
        ("nothing-lost", |findings, _| findings.purchases.acknowledged_missing = 1),
        ("nothing-twice", |findings, _| findings.load.acknowledged_duplicated = 1),
        ("nothing-unasked", |findings, _| findings.load.unexpected = 1),
        ("no-stale-read", |_, workers| workers[0].stale_reads = 1),
        ("purchases-as-imported", |findings, _| findings.found.amount_cents -= 1),
        ("graceful-stop-unnoticed", fail_in_stop),
    ];
    for (check, change) in decisive {
        let report = report(change);
        let failed: Vec<&str> =
            report.checks.iter().filter(|check| !check.passed).map(|check| check.check).collect();
        assert_eq!((report.passed, failed), (false, vec![check]));
    }
    let others: [(&str, Change); 4] = [
        ("leaders-home", |findings, _| findings.not_home = &NOT_HOME),
        ("small", |findings, _| findings.peaks.disk_bytes = 1_000_000_000),
        ("quick", |findings, _| findings.elapsed = ms(120_000)),
        ("small", |findings, _| findings.peaks.memory_bytes = 2_000_000_000),
    ];
    for (check, change) in others {
        let report = report(change);
        let failed = report.checks.iter().find(|check| !check.passed).map(|check| check.check);
        assert_eq!((report.passed, failed), (true, Some(check)));
    }
}

#[test]
fn a_stop_that_takes_the_majority_is_not_held_against_the_database() {
    // Goal: a script may stop everything; only a stop that need not be felt must not be.
    let mut events = [Event {
        kind: Kind::GracefulStop,
        target: "all nodes".to_owned(),
        led: Vec::new(),
        window: Window { from: ms(1_000), until: ms(2_000) },
        healthy_after: Ok(ms(300)),
        in_order: true,
        all_can_serve: false,
        survives: String::new(),
    }];
    for (all_can_serve, passed) in [(false, true), (true, false)] {
        events[0].all_can_serve = all_can_serve;
        let events: &'static [Event] = Box::leak(Box::new(events.clone()));
        let report = report(move |findings, workers| {
            findings.events = events;
            workers[0].requests[1].end = End::NotApplied;
        });
        assert_eq!(report.passed, passed, "{all_can_serve}");
    }
}

/// A city is lost that leads RZ01; nothing of RZ01 succeeds any more, or RZ00 has the failure given.
fn city_lost(end: End) -> Report {
    let events = [Event {
        kind: Kind::KillCity,
        target: "sh (leads RZ01)".to_owned(),
        led: vec!["RZ01".to_owned()],
        window: Window { from: ms(1_000), until: ms(9_000) },
        healthy_after: Ok(ms(300)),
        in_order: true,
        all_can_serve: true,
        survives: String::new(),
    }];
    report(move |findings, workers| {
        findings.events = Box::leak(Box::new(events));
        workers[0].requests[1].end = end;
        workers[1].requests.clear();
    })
}

#[test]
fn the_loss_of_a_city_may_not_be_felt_elsewhere() {
    // Goal: a unit that was led elsewhere and failed a request fails the demo, one that was led there and is
    // slow to come back is told.
    let failed = |report: &Report| -> Vec<&str> {
        report.checks.iter().filter(|check| !check.passed).map(|check| check.check).collect()
    };
    let slow = city_lost(End::Done);
    assert_eq!((slow.passed, failed(&slow)), (true, vec!["city-loss-served"]));
    let felt = city_lost(End::NotApplied);
    assert_eq!(
        (felt.passed, failed(&felt)),
        (false, vec!["city-loss-served", "city-loss-elsewhere"])
    );
}

#[test]
fn money_that_is_made_or_lost_fails_the_demo() {
    // Goal: an audit that does not balance and a payment that is gone are told by name.
    type Change = fn(&mut MoneyReport);
    let cases: [(&str, bool, Change); 4] = [
        ("money-conserved", false, |money| money.audits[0].sum = 1),
        ("money-conserved", false, |money| money.audits[0].below_floor = 1),
        ("payments-there", false, |money| money.missing = 1),
        ("audits-made", true, |money| {
            let lost = Audited { problem: Some("lost".to_owned()), ..money.audits[0].clone() };
            money.audits.insert(0, lost);
        }),
    ];
    for (check, passed, change) in cases {
        let changed = |mut money: MoneyReport| {
            change(&mut money);
            money
        };
        let report = report_with(changed, |_, _| {});
        let failed: Vec<&str> =
            report.checks.iter().filter(|check| !check.passed).map(|check| check.check).collect();
        assert_eq!((report.passed, failed), (passed, vec![check]));
    }
}
