//! Findings and clocks as text for people and as documents for programs.

use quorate_topology::Topology;
use serde_json::{Value, json};

use super::clock::Clock;
use super::findings::{Finding, Severity};
use crate::output::{Document, Output, Table, Tone};

/// Prints the findings for people.
pub(super) fn findings(out: &Output, found: &[Finding]) {
    if out.is_json() {
        return;
    }
    for finding in found {
        let tone = match finding.severity {
            Severity::Critical => Tone::Bad,
            Severity::Warning => Tone::Warn,
            Severity::Notice => Tone::Faint,
        };
        let word = out.paint(tone, finding.severity.word());
        out.say(format_args!("{word}: {}", finding.what));
        out.say(format_args!("  means: {}", finding.meaning));
        out.say(format_args!("  do: {}", finding.action));
    }
    out.say(summary(found));
}

fn summary(found: &[Finding]) -> String {
    let count = |severity| found.iter().filter(|finding| finding.severity == severity).count();
    if found.is_empty() {
        return "nothing found".to_owned();
    }
    format!(
        "{} critical, {} warnings, {} notices",
        count(Severity::Critical),
        count(Severity::Warning),
        count(Severity::Notice)
    )
}

/// The document of everything but the clocks: an item for each finding.
pub(super) fn document(topology: &Topology, found: &[Finding]) -> Document {
    let document = Document::new("check").of_cluster(topology.cluster_id());
    found.iter().fold(document, |document, finding| document.item(item(topology, finding)))
}

fn item(topology: &Topology, finding: &Finding) -> Value {
    let name = |id| topology.node(id).map(|node| node.name.clone());
    let nodes: Vec<String> = finding.nodes.iter().filter_map(|id| name(*id)).collect();
    let groups: Vec<String> = finding.groups.iter().map(ToString::to_string).collect();
    json!({
        "severity": finding.severity.word(),
        "check": finding.check,
        "what": finding.what,
        "meaning": finding.meaning,
        "action": finding.action,
        "nodes": nodes,
        "groups": groups,
    })
}

/// Prints what was measured: a table, or a document with one item that holds clocks and findings.
pub(super) fn clocks(out: &Output, topology: &Topology, clocks: &[Clock], found: &[Finding]) {
    let mut table = Table::new(&["NODE", "RATE", "WALL CLOCK"]);
    for clock in clocks {
        let rate = match &clock.rate_ppm {
            Ok((rate, error)) => format!("{rate:+.0} ppm ± {error:.0}"),
            Err(error) => error.clone(),
        };
        let offset = clock.wall_offset_s.map_or_else(
            || "-".to_owned(),
            |(offset, error)| format!("{:+.0} ms ± {:.0}", offset * 1e3, error * 1e3),
        );
        table.row([clock.node.clone(), rate, offset]);
    }
    out.table(&table);
    let findings: Vec<Value> = found.iter().map(|finding| item(topology, finding)).collect();
    let clocks: Vec<Value> = clocks.iter().map(clock_json).collect();
    let document = Document::new("check-clock").of_cluster(topology.cluster_id());
    out.document(&document.item(json!({ "clocks": clocks, "findings": findings })));
}

fn clock_json(clock: &Clock) -> Value {
    let rate = clock.rate_ppm.as_ref().ok(); // Why there is none stands in `error` below.
    json!({
        "node": clock.node,
        "rate_ppm": rate.map(|(rate, _)| rate),
        "rate_error_ppm": rate.map(|(_, error)| error),
        "wall_offset_ms": clock.wall_offset_s.map(|(offset, _)| offset * 1e3),
        "wall_offset_error_ms": clock.wall_offset_s.map(|(_, error)| error * 1e3),
        "error": clock.rate_ppm.as_ref().err(),
    })
}
