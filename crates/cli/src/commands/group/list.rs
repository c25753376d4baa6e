//! `quorate group members`: who takes part, as the leaders have it.

use clap::Args;
use quorate_client::{MemberReport, MemberRole, Members};
use quorate_topology::change::Standing;
use quorate_topology::{Group, Topology};
use quorate_types::GroupId;
use serde_json::{Value, json};

use crate::args;
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::exit::Failure;
use crate::members::{group_named, members_now, members_of_all, node_name};
use crate::output::{Cell, Document, Output, Table, Tone, error_json, thousands};

/// Which group.
#[derive(Clone, Debug, Args)]
pub(super) struct ListArgs {
    /// The group, as 2, g2 or RZ01/g2; every group if left out
    #[arg(value_parser = args::group)]
    group: Option<GroupId>,
}

/// Runs `quorate group members`.
pub(super) async fn run(args: &ListArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    let topology = cluster.topology();
    if let Some(group) = args.group {
        group_named(topology, group)?;
    }
    let is_wanted = |group: &&Group| args.group.is_none_or(|wanted| wanted == group.id);
    let wanted: Vec<&Group> = topology.groups().filter(is_wanted).collect();
    let mut told = Vec::new();
    let mut failed = Vec::new();
    let mut answers = match args.group {
        None => members_of_all(&cluster).await,
        Some(group) => {
            [(group, crate::members::members_of(&cluster, group).await)].into_iter().collect()
        }
    };
    for group in wanted {
        match answers.remove(&group.id) {
            Some(Ok(members)) => told.push((group, members)),
            Some(Err(failure)) => failed.push((group, failure)),
            None => {}
        }
    }
    if !told.is_empty() || args.group.is_none() {
        show(topology, &told, &failed, out);
    }
    // The groups that answered are shown all the same; the exit code says that some did not.
    match failed.into_iter().next() {
        Some((_, failure)) if told.is_empty() => Err(failure),
        Some((_, failure)) => Err(Failure::quiet(failure.exit())),
        None => Ok(()),
    }
}

fn show(
    topology: &Topology,
    told: &[(&Group, Members)],
    failed: &[(&Group, Failure)],
    out: &Output,
) {
    if !out.is_json() {
        out.table(&table(topology, told));
        out.say("");
        for (group, members) in told {
            let survives = Standing::of(topology, group, &members_now(members)).words();
            let changing = match (members.changing, members.chosen) {
                (true, _) => "; a change of its voters is under way",
                (false, false) => "; its last change is not chosen yet",
                (false, true) => "",
            };
            out.say(format_args!("{}: {survives}{changing}", group.label()));
        }
        for (group, failure) in failed {
            if let Some(error) = failure.error() {
                out.warn(format_args!("{}: {}: {}", group.label(), error.code, error.message));
            }
        }
    }
    if told.is_empty() {
        return; // The failure has a document of its own.
    }
    let mut document = Document::new("members").of_cluster(topology.cluster_id());
    document.items.extend(told.iter().map(|(group, members)| json_of(topology, group, members)));
    for (group, failure) in failed {
        if let Some(error) = failure.error() {
            let mut json = error_json(error, failure.fix());
            json["label"] = json!(group.label());
            document.errors.push(json);
        }
    }
    out.document(&document);
}

fn table(topology: &Topology, told: &[(&Group, Members)]) -> Table {
    let header =
        ["GROUP", "NODE", "PLACE", "REPLICA", "KIND", "ROLE", "LEADS", "FIT", "LACKS", "HEARD"];
    let mut table = Table::new(&header);
    for (group, members) in told {
        for member in &members.members {
            let place = topology.node(member.node).map_or_else(String::new, |node| {
                format!("{}.{}.{}", node.city, node.idc, node.zone)
            });
            let fit = if member.fit || member.leads {
                Cell::toned(Tone::Good, "yes")
            } else if member.refilling {
                Cell::toned(Tone::Warn, "no: fetches rows")
            } else {
                Cell::toned(Tone::Warn, "no")
            };
            table.row([
                Cell::from(group.label()),
                node_name(topology, member.node).into(),
                place.into(),
                member.replica.to_string().into(),
                member.kind.word().into(),
                role_cell(member.role),
                if member.leads { "yes" } else { "" }.into(),
                fit,
                lacks(member),
                heard(member),
            ]);
        }
    }
    table
}

/// A voter that is set aside is worth a look.
fn role_cell(role: MemberRole) -> Cell {
    match role {
        MemberRole::Suspended => Cell::toned(Tone::Warn, role.word()),
        role => role.word().into(),
    }
}

/// How much of the log it lacks; an arbiter has none.
fn lacks(member: &MemberReport) -> Cell {
    if !member.kind.keeps_log() {
        return Cell::toned(Tone::Faint, "-");
    }
    format!("{} KiB", thousands(member.lag_bytes.div_ceil(1024))).into()
}

fn heard(member: &MemberReport) -> Cell {
    match member.heard_ago {
        _ if member.leads => Cell::toned(Tone::Faint, "-"),
        Some(ago) => format!("{} ms ago", thousands(ago.as_millis() as u64)).into(),
        None => Cell::toned(Tone::Warn, "never"),
    }
}

fn json_of(topology: &Topology, group: &Group, members: &Members) -> Value {
    let member = |member: &MemberReport| {
        json!({
            "replica": member.replica.to_string(),
            "node": node_name(topology, member.node),
            "rank": member.rank,
            "kind": member.kind.word(),
            "role": member.role.word(),
            "leads": member.leads,
            "fit": member.fit,
            "refilling": member.refilling,
            "slot_synced": member.slot_synced.0.to_string(),
            "lag_bytes": member.lag_bytes.to_string(),
            "heard_ms_ago": member.heard_ago.map(|ago| ago.as_millis().to_string()),
        })
    };
    json!({
        "group": group.id.to_string(),
        "label": group.label(),
        "since": members.since.to_string(),
        "chosen": members.chosen,
        "changing": members.changing,
        "slot_last": members.slot_last.0.to_string(),
        "members": members.members.iter().map(member).collect::<Vec<Value>>(),
        "survives": Standing::of(topology, group, &members_now(members)).words(),
    })
}
