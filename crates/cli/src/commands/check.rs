//! `quorate check`: looks for what is wrong or about to be; each finding says what it means and what to
//! do. Exit 0 without critical findings, 10 with, 6 if nobody answered. `--strict` counts warnings, too.

mod clock;
mod findings;
mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{Args, Subcommand};
use quorate_client::{Attempt, AttemptState, Client};
use quorate_topology::Topology;
use quorate_types::{Code, GroupId};
use tokio::time::sleep;

use self::findings::{Finding, Scope, Seen, Severity, find};
use crate::args;
use crate::cli::Global;
use crate::commands::status;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::scrape;

/// An attempt that is undecided before and after is worth a finding.
const UNDECIDED_FOR: Duration = Duration::from_secs(3);

/// Looks for what is wrong or about to be.
#[derive(Clone, Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(subcommand)]
    what: What,
    /// End with exit code 10 for warnings as well
    #[arg(long, global = true)]
    strict: bool,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Everything
    Cluster,
    /// What concerns one unit, and the nodes that hold its replicas
    Unit {
        /// The unit, such as RZ00
        name: String,
    },
    /// What concerns one node, and the groups it holds replicas of
    Node {
        /// The node, such as n1
        name: String,
    },
    /// How fast the clocks of the nodes run, and what they show
    Clock(clock::ClockArgs),
}

/// Runs `quorate check`.
pub(crate) async fn run(args: CheckArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let seen = Box::pin(status::look(global)).await?;
    let topology = seen.cluster.topology();
    let is_clock = matches!(args.what, What::Clock(_));
    let found = match &args.what {
        What::Clock(clock) => {
            let (found, clocks) = clock::look(seen.cluster.client(), clock).await;
            show::clocks(out, topology, &clocks, &found);
            found
        }
        What::Cluster => gather(&seen, &Scope::Cluster).await,
        What::Unit { name } => {
            if topology.unit(name).is_none() {
                let known = topology.units().map(|unit| unit.name.as_str());
                return Err(unknown("unit", name, known));
            }
            gather(&seen, &Scope::Unit(name.clone())).await
        }
        What::Node { name } => match topology.node_by_name(name) {
            Some(node) => gather(&seen, &Scope::Node(node.id)).await,
            None => {
                let known = topology.nodes().map(|node| node.name.as_str());
                return Err(unknown("node", name, known));
            }
        },
    };
    show::findings(out, &found);
    if !is_clock {
        out.document(&show::document(topology, &found));
    }
    if seen.verdict.answered == 0 {
        return Err(Failure::new(Code::Unreachable, "no node answered"));
    }
    let fails = |finding: &Finding| match finding.severity {
        Severity::Critical => true,
        Severity::Warning => args.strict,
        Severity::Notice => false,
    };
    if found.iter().any(fails) { Err(Failure::quiet(Exit::Unhealthy)) } else { Ok(()) }
}

fn unknown<'a>(
    what: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Failure {
    let message = format!("no {what} has the name {name:?}; {}", args::did_you_mean(name, known));
    Failure::new(Code::InvalidRequest, message)
        .with_exit(Exit::NotFound)
        .with_fix("`quorate topology show` lists units and nodes")
}

/// What the status does not say: metrics of every node, and transactions that stay undecided.
async fn gather(seen: &status::Seen, scope: &Scope) -> Vec<Finding> {
    let topology = seen.cluster.topology();
    let mut metrics = BTreeMap::new();
    let tls = seen.cluster.client().tls();
    let asked = futures::future::join_all(topology.nodes().map(|node| async {
        let text = scrape::metrics(&node.admin, tls.as_ref()).await;
        (node.id, text.map_err(|error| error.to_string()))
    }));
    metrics.extend(asked.await);
    let undecided = undecided(seen.cluster.client(), topology).await;
    let seen =
        Seen { topology, answers: &seen.answers, verdict: &seen.verdict, metrics, undecided };
    find(&seen).into_iter().filter(|finding| scope.covers(topology, finding)).collect()
}

/// Attempts that nobody decides for `UNDECIDED_FOR`, with the groups that wait. Measured by looking
/// twice, because ages are told by the clocks of other machines.
async fn undecided(client: &Client, topology: &Topology) -> BTreeMap<Attempt, BTreeSet<GroupId>> {
    let before = undecided_now(client).await;
    if before.is_empty() {
        return before;
    }
    sleep(UNDECIDED_FOR).await;
    let mut both = undecided_now(client).await;
    both.retain(|attempt, groups| {
        groups.retain(|group| topology.group(*group).is_some());
        before.contains_key(attempt)
    });
    both
}

async fn undecided_now(client: &Client) -> BTreeMap<Attempt, BTreeSet<GroupId>> {
    let mut found: BTreeMap<Attempt, BTreeSet<GroupId>> = BTreeMap::new();
    let reports = Box::pin(client.attempts()).await;
    for status in reports.into_iter().filter_map(|report| report.attempts.ok()).flatten() {
        if matches!(status.state, AttemptState::Prepared | AttemptState::Waiting) {
            found.entry(status.attempt).or_default().insert(status.group);
        }
    }
    found
}
