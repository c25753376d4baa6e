//! `quorate group check`: has the replicas of groups compare their rows.

use std::time::Duration;

use clap::Args;
use quorate_topology::Topology;
use quorate_types::{CheckReport, CheckState, Code, GroupId, SliceId};
use serde_json::{Value, json};

use crate::args;
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::Failure;
use crate::members::group_named;
use crate::output::{Cell, Document, Output, Table, Tone};

/// The answer of the leader may take so much longer than what it waits for.
const ANSWER: Duration = Duration::from_secs(5);
/// Slices that are named in a table; documents have all.
const SLICES_SHOWN: usize = 8;

#[derive(Clone, Debug, Args)]
pub(super) struct CheckArgs {
    /// The groups, as 2, g2 or RZ01/g2
    #[arg(value_parser = args::group, required_unless_present = "all", conflicts_with = "all")]
    groups: Vec<GroupId>,
    /// Every group of the cluster, one after the other
    #[arg(long)]
    all: bool,
    /// How long to wait for the replicas of one group, which read all its rows
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = args::duration)]
    wait: Duration,
}

/// Runs `quorate group check`. Fails with `REPLICA_DIVERGED` if any replica differs.
pub(super) async fn run(args: CheckArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    let topology = cluster.topology();
    let groups =
        if args.all { topology.groups().map(|group| group.id).collect() } else { args.groups };
    for group in &groups {
        group_named(topology, *group)?;
    }
    let client = cluster.client().with_timeout(args.wait.saturating_add(ANSWER));
    let mut reports = Vec::new();
    for group in groups {
        let report = Box::pin(client.check_group(group, args.wait)).await;
        reports.push(report.map_err(|error| cluster::failure(&error))?);
    }
    if !out.is_json() {
        out.table(&table(topology, &reports));
    }
    let document = Document::new("group-check").of_cluster(topology.cluster_id());
    let items = reports.iter().map(|report| item(topology, report));
    out.document(&items.fold(document, Document::item));
    verdict(topology, &reports)
}

/// A failure that names the groups with replicas that differ.
fn verdict(topology: &Topology, reports: &[CheckReport]) -> Result<(), Failure> {
    let differs = |report: &&CheckReport| {
        report.replicas.iter().any(|(_, state)| matches!(state, CheckState::Differs(_)))
    };
    let bad: Vec<String> =
        reports.iter().filter(differs).map(|report| label(topology, report.group)).collect();
    if bad.is_empty() {
        return Ok(());
    }
    let message = format!("replicas hold different rows: {}", bad.join(", "));
    Err(Failure::new(Code::ReplicaDiverged, message))
}

fn label(topology: &Topology, group: GroupId) -> String {
    topology.group(group).map_or_else(|| group.to_string(), quorate_topology::Group::label)
}

fn table(topology: &Topology, reports: &[CheckReport]) -> Table {
    let mut table = Table::new(&["group", "slot", "node", "rows"]);
    for report in reports {
        for (node, state) in &report.replicas {
            let name = topology.node(*node).map_or_else(|| node.to_string(), |it| it.name.clone());
            table.row([
                label(topology, report.group).into(),
                report.at.slot.to_string().into(),
                name.into(),
                words(report, state),
            ]);
        }
    }
    table
}

/// A slice as the cluster file writes it.
fn named(slice: &SliceId) -> String {
    match *slice {
        SliceId::UNSHARDED => "no users".to_owned(),
        SliceId(number) => format!("{number:02}"),
    }
}

fn words(report: &CheckReport, state: &CheckState) -> Cell {
    match state {
        CheckState::Agrees if report.has_majority => Cell::toned(Tone::Good, "agree"),
        CheckState::Agrees => Cell::toned(Tone::Warn, "as the leader has them; no majority"),
        CheckState::Differs(difference) => {
            let mut parts: Vec<String> = difference.slices.iter().map(named).collect();
            if SLICES_SHOWN < parts.len() {
                parts.truncate(SLICES_SHOWN);
                parts.push(format!("and {} more", difference.slices.len() - SLICES_SHOWN));
            }
            if difference.rest {
                parts.push("sessions and attempts".to_owned());
            }
            Cell::toned(Tone::Bad, format!("DIFFER in {}", parts.join(", ")))
        }
        CheckState::NotChecked => Cell::toned(Tone::Warn, "not checked"),
        CheckState::NotHeard => Cell::toned(Tone::Warn, "not heard"),
    }
}

fn item(topology: &Topology, report: &CheckReport) -> Value {
    let replicas = report.replicas.iter().map(|(node, state)| {
        let (word, slices, rest) = match state {
            CheckState::Agrees => ("agrees", Vec::new(), false),
            CheckState::Differs(difference) => {
                let slices = difference.slices.iter().map(named).collect();
                ("differs", slices, difference.rest)
            }
            CheckState::NotChecked => ("not-checked", Vec::new(), false),
            CheckState::NotHeard => ("not-heard", Vec::new(), false),
        };
        let name = topology.node(*node).map(|it| it.name.clone());
        json!({
            "node": name.unwrap_or_else(|| node.to_string()),
            "state": word,
            "slices": slices,
            "sessions_and_attempts": rest,
        })
    });
    json!({
        "group": report.group.to_string(),
        "label": label(topology, report.group),
        "slot": report.at.slot.to_string(),
        "has_majority": report.has_majority,
        "replicas": replicas.collect::<Vec<Value>>(),
    })
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, one_city_three_idcs};
    use quorate_types::{Ballot, ClusterId, Difference, EntryId, NodeId, Slot};

    use super::*;

    fn report(third: CheckState) -> CheckReport {
        let at = EntryId { slot: Slot(9), ballot: Ballot::ZERO };
        let states = [CheckState::Agrees, CheckState::NotHeard, third];
        let replicas = (1..).map(NodeId).zip(states).collect();
        CheckReport { group: GroupId(1), at, has_majority: true, replicas }
    }

    /// Goal: a replica that differs fails the command and is named with its slices; one that is only silent
    /// does not.
    #[test]
    fn what_differs_is_named_and_fails() {
        let text = one_city_three_idcs(&Options::demo(ClusterId(7)));
        let topology = Topology::parse(&text).unwrap();
        assert_eq!(verdict(&topology, &[report(CheckState::NotChecked)]), Ok(()));
        let slices: Vec<SliceId> = (0..10).map(SliceId).collect();
        let differs = report(CheckState::Differs(Difference { slices, rest: true }));
        let failure = verdict(&topology, std::slice::from_ref(&differs)).unwrap_err();
        assert!(
            failure.to_string().starts_with("error[REPLICA_DIVERGED]: replicas hold different")
        );
        let cell = words(&differs, &differs.replicas[2].1);
        let shown = "DIFFER in 00, 01, 02, 03, 04, 05, 06, 07, and 2 more, sessions and attempts";
        assert_eq!(cell, Cell::toned(Tone::Bad, shown));
        let item = item(&topology, &differs);
        assert_eq!(item["replicas"][2]["slices"].as_array().map(Vec::len), Some(10));
        assert_eq!(item["replicas"][1]["state"], "not-heard");
    }
}
