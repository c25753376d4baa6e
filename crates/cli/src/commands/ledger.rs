//! `quorate ledger`: where groups cannot, or for a while could not, vouch for what they had acknowledged.

use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_client::{LossEntry, LossKind};
use quorate_topology::{Group, Topology};
use quorate_types::{Code, GroupId, LogTime, ReplicaId, Slot};
use serde_json::{Value, json};

use crate::args;
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::{Exit, Failure};
use crate::members::{group_named, node_name};
use crate::output::{Cell, Document, Output, Table, error_json, rfc3339, thousands};

/// Looks at the loss ledger.
#[derive(Clone, Debug, Args)]
pub(crate) struct LedgerArgs {
    #[command(subcommand)]
    command: LedgerCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum LedgerCommand {
    /// Say what may be lost, in one group or in all
    List(ListArgs),
    /// Say all there is to say of one entry
    Show(ShowArgs),
}

#[derive(Clone, Debug, Args)]
struct ListArgs {
    /// The group, as 2, g2 or RZ01/g2; every group if left out
    #[arg(long, value_parser = args::group)]
    group: Option<GroupId>,
}

#[derive(Clone, Debug, Args)]
struct ShowArgs {
    /// The entry, as g2@1234 or RZ01/g2@1234; `quorate ledger list` shows them
    #[arg(value_parser = entry_name)]
    entry: (GroupId, Slot),
}

/// An entry, as `g2@1234`: its group and the slot that it was opened with.
fn entry_name(text: &str) -> Result<(GroupId, Slot), String> {
    let malformed = || format!("{text:?} is no entry; write it as the list shows it: g2@1234");
    let (group, slot) = text.rsplit_once('@').ok_or_else(malformed)?;
    let slot = slot.parse().map(Slot).map_err(|_| malformed())?;
    Ok((args::group(group)?, slot))
}

/// Runs `quorate ledger`.
pub(crate) async fn run(args: LedgerArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    match args.command {
        LedgerCommand::List(args) => list(&cluster, args.group, out).await,
        LedgerCommand::Show(args) => show(&cluster, args.entry, out).await,
    }
}

type Told<'t> = (&'t Group, Result<Vec<LossEntry>, Failure>);

async fn list(cluster: &Cluster, wanted: Option<GroupId>, out: &Output) -> Result<(), Failure> {
    let topology = cluster.topology();
    if let Some(group) = wanted {
        group_named(topology, group)?;
    }
    let ask = |group| async move { (group, losses_of(cluster, group).await) };
    let is_wanted = |group: &&Group| wanted.is_none_or(|wanted| wanted == group.id);
    let asking: FuturesUnordered<_> = topology.groups().filter(is_wanted).map(ask).collect();
    let mut told: Vec<Told<'_>> = asking.collect().await;
    told.sort_by_key(|(group, _)| group.id);
    if !out.is_json() {
        say_list(topology, &told, out);
    }
    let mut document = Document::new("ledger").of_cluster(topology.cluster_id());
    let mut failed = None;
    for (group, losses) in told {
        match losses {
            Ok(entries) => {
                document.items.extend(entries.iter().map(|entry| item(topology, group, entry)));
            }
            Err(failure) => {
                if let Some(error) = failure.error() {
                    let mut json = error_json(error, failure.fix());
                    json["label"] = json!(group.label());
                    document.errors.push(json);
                }
                failed = failed.or(Some(failure));
            }
        }
    }
    match failed {
        Some(failure) if wanted.is_some() => Err(failure),
        Some(failure) => {
            out.document(&document);
            Err(Failure::quiet(failure.exit()))
        }
        None => {
            out.document(&document);
            Ok(())
        }
    }
}

async fn losses_of(cluster: &Cluster, group: &Group) -> Result<Vec<LossEntry>, Failure> {
    let asked = Box::pin(cluster.client().losses(group.id)).await;
    asked.map_err(|error| cluster::failure(&error))
}

fn say_list(topology: &Topology, told: &[Told<'_>], out: &Output) {
    let mut table =
        Table::new(&["ENTRY", "KIND", "WHEN", "PROVEN", "AT RISK", "LOST FROM", "KEPT"]);
    let mut is_empty = true;
    for (group, losses) in told {
        for entry in losses.iter().flatten() {
            is_empty = false;
            let loss = &entry.loss;
            table.row([
                Cell::from(name_of(group, entry)),
                loss.kind.word().into(),
                when_words(entry).into(),
                thousands(loss.proven_through.0).into(),
                at_risk_words(entry).into(),
                lost_words(entry).into(),
                nodes(topology, &loss.kept).join(", ").into(),
            ]);
        }
    }
    let answered = told.iter().filter(|(_, losses)| losses.is_ok()).count();
    if !is_empty {
        out.table(&table);
    } else if 0 < answered {
        let groups = if answered == 1 { "group that answered" } else { "groups that answered" };
        out.say(format_args!(
            "no entries: nothing that was acknowledged is known to be at risk in the {answered} {groups}"
        ));
    }
    for (group, losses) in told {
        if let Err(failure) = losses
            && let Some(error) = failure.error()
        {
            out.warn(format_args!("{}: {}: {}", group.label(), error.code, error.message));
        }
    }
}

async fn show(
    cluster: &Cluster,
    (group, slot): (GroupId, Slot),
    out: &Output,
) -> Result<(), Failure> {
    let topology = cluster.topology();
    let group = group_named(topology, group)?;
    let entries = losses_of(cluster, group).await?;
    let Some(entry) = entries.iter().find(|entry| entry.opened.slot == slot) else {
        let message = format!("the loss ledger of {} has no entry at slot {slot}", group.label());
        return Err(Failure::new(Code::InvalidRequest, message)
            .with_exit(Exit::NotFound)
            .with_fix("`quorate ledger list` shows the entries there are"));
    };
    if !out.is_json() {
        for line in lines(topology, group, entry) {
            out.say(line);
        }
    }
    let document = Document::new("ledger").of_cluster(topology.cluster_id());
    out.document(&document.item(item(topology, group, entry)));
    Ok(())
}

fn name_of(group: &Group, entry: &LossEntry) -> String {
    format!("{}@{}", group.label(), entry.opened.slot)
}

fn nodes(topology: &Topology, replicas: &[ReplicaId]) -> Vec<String> {
    replicas.iter().map(|replica| node_name(topology, replica.node())).collect()
}

/// Log time is no clock: it counts from the beginning of the group, while somebody leads.
fn log_time(at: LogTime) -> String {
    let seconds = at.0 / 1000;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn when_words(entry: &LossEntry) -> String {
    match entry.loss.told_at_ms {
        0 => format!("log time {}", log_time(entry.opened_at)),
        told => rfc3339(UNIX_EPOCH + Duration::from_millis(told)),
    }
}

/// What the loss of one more disk would take, or takes.
fn at_risk_words(entry: &LossEntry) -> String {
    if entry.loss.kind == LossKind::SingleCopy {
        let from = thousands(entry.opened.slot.0);
        return match &entry.closed {
            Some((closed, _)) => {
                format!("no more: {from} to {} had one copy", thousands(closed.slot.0))
            }
            None => format!("{from} on: one copy"),
        };
    }
    match entry.loss.at_risk() {
        Some((from, to)) if from == to => thousands(from.0),
        Some((from, to)) => format!("{} to {}", thousands(from.0), thousands(to.0)),
        None => "nothing".to_owned(),
    }
}

/// A single copy is no loss as long as it lasts.
fn lost_words(entry: &LossEntry) -> String {
    match entry.loss.kind {
        LossKind::ForcedRecovery => thousands(entry.loss.lost_from().0),
        LossKind::SingleCopy => "nothing".to_owned(),
    }
}

fn lines(topology: &Topology, group: &Group, entry: &LossEntry) -> Vec<String> {
    let loss = &entry.loss;
    let or = |text: &str, nothing: &str| {
        if text.is_empty() { nothing.to_owned() } else { text.to_owned() }
    };
    let all = |replicas: &[ReplicaId]| or(&nodes(topology, replicas).join(", "), "nobody");
    let closed = match (&entry.closed, loss.kind) {
        (Some((closed, at)), _) => format!("by entry {closed} at log time {}", log_time(*at)),
        (None, LossKind::ForcedRecovery) => "it is for ever".to_owned(),
        (None, LossKind::SingleCopy) => "not yet".to_owned(),
    };
    let mut lines = vec![
        name_of(group, entry),
        format!("  kind: {}", loss.kind.word()),
        format!("  opened: by entry {} at log time {}", entry.opened, log_time(entry.opened_at)),
        format!("  closed: {closed}"),
        format!("  history: {} before, {} after", loss.history_before, loss.history_after),
        format!(
            "  proven through slot {}: known to be chosen, and kept",
            thousands(loss.proven_through.0)
        ),
        format!("  at risk: {}", at_risk_words(entry)),
    ];
    if loss.kind == LossKind::ForcedRecovery {
        let from = thousands(loss.lost_from().0);
        lines.push(format!("  possibly lost: whatever was acknowledged from slot {from} on"));
    }
    lines.push(format!("  kept: {}", all(&loss.kept)));
    lines.push(format!("  given up: {}", all(&loss.given_up)));
    lines.push(format!("  reason: {}", or(&loss.reason, "none was given")));
    lines.push(format!("  operator: {}", or(&loss.operator, "nobody")));
    if 0 < loss.told_at_ms {
        lines.push(format!("  asked for at {}, by the clock of the operator", when_words(entry)));
    }
    lines
}

fn item(topology: &Topology, group: &Group, entry: &LossEntry) -> Value {
    let loss = &entry.loss;
    let at_risk = loss.at_risk();
    let is_forced = loss.kind == LossKind::ForcedRecovery;
    json!({
        "entry": name_of(group, entry),
        "group": group.id.to_string(),
        "label": group.label(),
        "kind": loss.kind.word(),
        "opened": entry.opened.to_string(),
        "opened_at_ms": entry.opened_at.0.to_string(),
        "closed": entry.closed.map(|(closed, _)| closed.to_string()),
        "closed_at_ms": entry.closed.map(|(_, at)| at.0.to_string()),
        "history_before": loss.history_before,
        "history_after": loss.history_after,
        "proven_through": loss.proven_through.0.to_string(),
        "at_risk_from": at_risk.map(|(from, _)| from.0.to_string()),
        "at_risk_to": at_risk.map(|(_, to)| to.0.to_string()),
        "lost_from": is_forced.then(|| loss.lost_from().0.to_string()),
        "kept": nodes(topology, &loss.kept),
        "given_up": nodes(topology, &loss.given_up),
        "reason": loss.reason,
        "operator": loss.operator,
        "told_at_ms": loss.told_at_ms.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, one_city_three_idcs};
    use quorate_types::{Ballot, ClusterId, EntryId, NodeId};

    use super::*;

    #[test]
    fn an_entry_is_named_as_the_list_shows_it() {
        // Goal: what is copied from the list is found, and what is no entry is said to be none.
        assert_eq!(entry_name("RZ01/g2@12"), Ok((GroupId(2), Slot(12))));
        assert_eq!(entry_name("g2@12"), Ok((GroupId(2), Slot(12))));
        for text in ["g2", "12", "g2@x", "x@12"] {
            assert!(entry_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_entry_says_what_is_proven_at_risk_and_lost() {
        // Goal: whoever reads it a year later knows which slots to look at, and who decided it.
        let text = one_city_three_idcs(&Options::demo(ClusterId(7)));
        let topology = Topology::parse(&text).expect("presets are valid");
        let group = topology.groups().next().expect("there is one");
        let replica = |node| ReplicaId::first_on(NodeId(node));
        let loss = quorate_client::Loss {
            kind: LossKind::ForcedRecovery,
            history_before: 0,
            history_after: 1,
            proven_through: Slot(1_041),
            kept_through: Slot(1_043),
            kept: vec![replica(3)],
            given_up: vec![replica(1), replica(2)],
            operator: "client ops".to_owned(),
            reason: "two disks burnt".to_owned(),
            told_at_ms: 1_000,
        };
        let ballot = Ballot { round: 3, replica: replica(3) };
        let opened = EntryId { slot: Slot(1_044), ballot };
        let entry = LossEntry { opened, opened_at: LogTime(0), closed: None, loss };
        let said = lines(&topology, group, &entry).join("\n");
        for part in [
            "@1044",
            "proven through slot 1,041",
            "at risk: 1,042 to 1,043",
            "from slot 1,044 on",
            "kept: n3",
            "given up: n1, n2",
            "reason: two disks burnt",
            "operator: client ops",
            "1970-01-01T00:00:01",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let json = item(&topology, group, &entry);
        assert_eq!((&json["at_risk_from"], &json["lost_from"]), (&json!("1042"), &json!("1044")));

        let single =
            quorate_client::Loss { kind: LossKind::SingleCopy, told_at_ms: 0, ..entry.loss };
        let open = LossEntry { opened_at: LogTime(3_661_000), loss: single, ..entry };
        assert_eq!(when_words(&open), "log time 1:01:01");
        assert_eq!(at_risk_words(&open), "1,044 on: one copy");
        let closed = EntryId { slot: Slot(1_100), ballot };
        let over = LossEntry { closed: Some((closed, LogTime(3_700_000))), ..open };
        assert_eq!(at_risk_words(&over), "no more: 1,044 to 1,100 had one copy");
        let said = lines(&topology, group, &over).join("\n");
        assert!(said.contains("closed: by entry") && said.contains("log time 1:01:40"), "{said}");
    }
}
