//! `quorate txn`: transactions over several groups that are under way, and how to hurry them.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use quorate_client::{Attempt, AttemptReport, AttemptState, AttemptStatus};
use quorate_topology::Topology;
use quorate_types::{Code, GroupId};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::{Exit, Failure};
use crate::output::{Cell, Document, Output, Table, Tone};

/// Looks at transactions over several groups.
#[derive(Clone, Debug, Args)]
pub(crate) struct TxnArgs {
    #[command(subcommand)]
    command: TxnCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum TxnCommand {
    /// List what is not decided, with the rows it locks and who waits for them
    List(ListArgs),
    /// Say where one attempt stands in every group, and what it waits for
    #[command(visible_alias = "explain")]
    Show(OneArgs),
    /// Make every group that knows no decision ask for it at once
    Resolve(OneArgs),
}

#[derive(Clone, Debug, Args)]
struct ListArgs {
    /// Decided attempts as well, as long as they are remembered
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Debug, Args)]
struct OneArgs {
    /// The attempt, as `quorate txn list` shows it: g1/5.2/7
    attempt: Attempt,
}

/// Runs `quorate txn`.
pub(crate) async fn run(args: TxnArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    match args.command {
        TxnCommand::List(args) => list(&cluster, args.all, out).await,
        TxnCommand::Show(args) => show(&cluster, args.attempt, out).await,
        TxnCommand::Resolve(args) => resolve(&cluster, args.attempt, out).await,
    }
}

async fn list(cluster: &Cluster, all: bool, out: &Output) -> Result<(), Failure> {
    let found = look(cluster, out).await?;
    let shown: Vec<AttemptStatus> =
        found.into_iter().filter(|status| all || !is_decided(status.state)).collect();
    let topology = cluster.topology();
    if !out.is_json() {
        if shown.is_empty() {
            out.say("no transaction over several groups is undecided");
        } else {
            out.table(&table(topology, &shown));
        }
    }
    document(topology, &shown, out);
    Ok(())
}

async fn show(cluster: &Cluster, attempt: Attempt, out: &Output) -> Result<(), Failure> {
    let found = look(cluster, out).await?;
    let shown: Vec<AttemptStatus> =
        found.into_iter().filter(|status| status.attempt == attempt).collect();
    let topology = cluster.topology();
    if shown.is_empty() {
        let message = format!("no leader knows attempt {attempt}");
        let fix = "it is over and forgotten, was never begun, or its groups have no leader; see `quorate txn list --all`";
        return Err(Failure::new(Code::InvalidRequest, message)
            .with_exit(Exit::NotFound)
            .with_fix(fix.to_owned()));
    }
    if !out.is_json() {
        out.table(&table(topology, &shown));
        out.say(explain(topology, &shown));
    }
    document(topology, &shown, out);
    Ok(())
}

async fn resolve(cluster: &Cluster, attempt: Attempt, out: &Output) -> Result<(), Failure> {
    let asked = cluster.client().resolve_attempt(attempt).await;
    let asked = asked.map_err(|error| cluster::failure(&error))?;
    if !out.is_json() {
        out.say(match asked {
            0 => format!("no leader is in doubt about {attempt}"),
            1 => format!("one group asks about {attempt} now"),
            _ => format!("{asked} groups ask about {attempt} now"),
        });
    }
    let item = json!({ "attempt": attempt.to_string(), "groups_asked": asked });
    let document = Document::new("txn-resolve").of_cluster(cluster.topology().cluster_id());
    out.document(&document.item(item));
    Ok(())
}

/// What every leader knows. Nodes that do not answer are named; that none does is a failure.
async fn look(cluster: &Cluster, out: &Output) -> Result<Vec<AttemptStatus>, Failure> {
    let reports = cluster.client().attempts().await;
    let mut found = Vec::new();
    let mut failure = None;
    let mut has_answer = false;
    for AttemptReport { node, attempts } in reports {
        match attempts {
            Ok(attempts) => {
                has_answer = true;
                found.extend(attempts);
            }
            Err(error) => {
                if !out.is_json() {
                    out.note(format_args!("{node} did not answer: {}", error.message()));
                }
                failure = Some(error);
            }
        }
    }
    match failure {
        Some(error) if !has_answer => Err(cluster::failure(&error)),
        Some(_) | None => {
            found.sort_by_key(|status| (status.attempt, status.group));
            Ok(found)
        }
    }
}

fn is_decided(state: AttemptState) -> bool {
    matches!(state, AttemptState::Refused | AttemptState::Committed | AttemptState::Aborted)
}

fn label(topology: &Topology, group: GroupId) -> String {
    topology.group(group).map_or_else(|| group.to_string(), |group| group.label())
}

fn labels(topology: &Topology, groups: &[GroupId]) -> String {
    let labels: Vec<String> = groups.iter().map(|group| label(topology, *group)).collect();
    if labels.is_empty() { "-".to_owned() } else { labels.join(", ") }
}

fn table(topology: &Topology, shown: &[AttemptStatus]) -> Table {
    let header = ["attempt", "group", "state", "locks", "waiting", "participants", "waits for"];
    let mut table = Table::new(&header);
    for status in shown {
        let tone = match status.state {
            AttemptState::Prepared | AttemptState::Waiting => Tone::Warn,
            AttemptState::Voting => Tone::Plain,
            AttemptState::Committed => Tone::Good,
            AttemptState::Refused | AttemptState::Aborted => Tone::Faint,
        };
        table.row([
            status.attempt.to_string().into(),
            label(topology, status.group).into(),
            Cell::toned(tone, status.state.word()),
            status.locked_rows.to_string().into(),
            status.waiting.to_string().into(),
            labels(topology, &status.participants).into(),
            labels(topology, &status.waits_for).into(),
        ]);
    }
    table
}

/// What an attempt waits for, in a sentence.
fn explain(topology: &Topology, shown: &[AttemptStatus]) -> String {
    let said: BTreeMap<GroupId, AttemptState> =
        shown.iter().map(|status| (status.group, status.state)).collect();
    let has = |state| said.values().any(|it| *it == state);
    if has(AttemptState::Committed) {
        return "committed: every group said yes; those that have not applied it yet will"
            .to_owned();
    }
    if has(AttemptState::Refused) || has(AttemptState::Aborted) {
        return "aborted: a group said no; the locks of the others go as they learn of it"
            .to_owned();
    }
    let everybody = shown.iter().flat_map(|status| status.participants.iter().copied());
    let silent: Vec<GroupId> =
        everybody.filter(|group| said.get(group) != Some(&AttemptState::Prepared)).collect();
    let silent: std::collections::BTreeSet<GroupId> = silent.into_iter().collect();
    let silent: Vec<GroupId> = silent.into_iter().collect();
    if silent.is_empty() {
        return "committed: every group said yes, the decision is on its way".to_owned();
    }
    format!(
        "undecided: {} has not voted. It will be asked, and says no for ever if it knows nothing; \
         without a majority of its replicas it cannot answer",
        labels(topology, &silent)
    )
}

fn document(topology: &Topology, shown: &[AttemptStatus], out: &Output) {
    let item = |status: &AttemptStatus| -> Value {
        let groups = |groups: &[GroupId]| {
            groups.iter().map(|group| group.to_string()).collect::<Vec<String>>()
        };
        json!({
            "attempt": status.attempt.to_string(),
            "group": status.group.to_string(),
            "state": status.state.word(),
            "first_ms": status.age.map(|age| age.first_ms),
            "session": status.age.map(|age| age.session.to_string()),
            "sequence": status.age.map(|age| age.sequence),
            "participants": groups(&status.participants),
            "waits_for": groups(&status.waits_for),
            "locked_rows": status.locked_rows,
            "waiting": status.waiting,
        })
    };
    let document = Document::new("txn").of_cluster(topology.cluster_id());
    out.document(&shown.iter().fold(document, |document, status| document.item(item(status))));
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, one_city_three_idcs};
    use quorate_types::{Ballot, ClusterId, ReplicaId};

    use super::*;

    fn status(group: u32, state: AttemptState) -> AttemptStatus {
        let ballot = Ballot { round: 1, replica: ReplicaId(1) };
        AttemptStatus {
            group: GroupId(group),
            attempt: Attempt { group: GroupId(1), ballot, counter: 1 },
            state,
            age: None,
            participants: vec![GroupId(1), GroupId(2)],
            waits_for: Vec::new(),
            locked_rows: 1,
            waiting: 0,
        }
    }

    #[test]
    fn an_attempt_is_explained_by_what_its_groups_say() {
        // Goal: an operator reads what is decided, and who keeps the rest.
        let topology = Topology::parse(&one_city_three_idcs(&Options::demo(ClusterId(7)))).unwrap();
        let said = |states: &[(u32, AttemptState)]| {
            let all: Vec<_> = states.iter().map(|(group, state)| status(*group, *state)).collect();
            explain(&topology, &all)
        };
        let (prepared, voting) = (AttemptState::Prepared, AttemptState::Voting);
        assert!(
            said(&[(1, prepared), (2, voting)]).starts_with("undecided: RZ01/g2 has not voted")
        );
        assert!(said(&[(1, prepared)]).starts_with("undecided: RZ01/g2 has not voted"));
        assert!(said(&[(1, prepared), (2, prepared)]).starts_with("committed"));
        assert!(said(&[(1, prepared), (2, AttemptState::Refused)]).starts_with("aborted"));
        assert!(said(&[(1, AttemptState::Committed), (2, prepared)]).starts_with("committed"));
    }
}
