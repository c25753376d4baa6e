//! `quorate status`: asks every configured node about itself, judges the answers and says what may
//! still be lost. Exit 0 if healthy, 10 if not, 6 if nobody answered.

pub(crate) mod judge;
mod show;

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_client::Role;
use quorate_types::{Code, Error, GroupId};
use tokio::time::{Instant, sleep};

use self::judge::{Answers, Told, Verdict, judge, without_strangers};
use crate::args;
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::{Exit, Failure};
use crate::output::{Document, Output};

/// Between two looks of `--wait`.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);
/// How long a leader may take to tell the members of its group.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(2);

/// Says whether the cluster is healthy and what may still be lost.
#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArgs {
    /// Looks again until the cluster is healthy, at most this long
    #[arg(long, value_name = "TIME", value_parser = args::duration)]
    wait: Option<Duration>,
}

/// Runs `quorate status`.
pub(crate) async fn run(args: StatusArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let deadline = args.wait.map(|wait| Instant::now() + wait);
    let may_wait = || deadline.is_some_and(|deadline| Instant::now() < deadline);
    loop {
        match look(global).await {
            Ok(seen) if seen.verdict.is_healthy() || !may_wait() => return report(&seen, out),
            Err(failure) if !may_wait() || failure.exit() != Exit::Unreachable => {
                return Err(failure);
            }
            Ok(_) | Err(_) => sleep(LOOK_INTERVAL).await,
        }
    }
}

/// What a look at the cluster found.
pub(crate) struct Seen {
    pub(crate) cluster: Cluster,
    pub(crate) answers: Answers,
    pub(crate) verdict: Verdict,
}

/// Asks every node, and judges the answers.
///
/// # Errors
/// `UNREACHABLE` if no endpoint answered.
pub(crate) async fn look(global: &Global) -> Result<Seen, Failure> {
    let cluster = Cluster::open(global).await?;
    let reports = Box::pin(cluster.client().cluster_status()).await;
    let answers = reports
        .into_iter()
        .map(|report| (report.node, report.status.map_err(|error| reason(&error))))
        .collect();
    let answers = without_strangers(cluster.topology(), answers);
    let told = told_members(&cluster, &answers).await;
    let verdict = judge(cluster.topology(), &answers, &told);
    Ok(Seen { cluster, answers, verdict })
}

/// The members of the groups that have a leader which could tell. Where it does not, the cluster file has
/// to do.
async fn told_members(cluster: &Cluster, answers: &Answers) -> Told {
    let statuses = answers.values().filter_map(|answer| answer.as_ref().ok());
    let led = statuses.flat_map(|status| &status.groups).filter(|group| group.role == Role::Leader);
    let groups: BTreeSet<GroupId> = led.map(|group| group.group).collect();
    let client = cluster.client().with_timeout(cluster.client().timeout().min(MEMBERS_TIMEOUT));
    let ask = |group: GroupId| {
        let client = client.clone();
        async move { Some((group, client.members(group).await.ok()?)) }
    };
    let asking: FuturesUnordered<_> = groups.into_iter().map(ask).collect();
    asking.filter_map(std::future::ready).collect().await
}

/// Why a node did not answer. Which node it is stands beside it already.
fn reason(error: &quorate_client::Error) -> Error {
    match error.code() {
        Code::DeadlineExceeded => cluster::coded(error),
        _ => error.as_error().clone(),
    }
}

/// The document of a look.
pub(crate) fn document(seen: &Seen) -> Document {
    show::document(seen.cluster.topology(), &seen.answers, &seen.verdict)
}

fn report(seen: &Seen, out: &Output) -> Result<(), Failure> {
    let Seen { cluster, answers, verdict } = seen;
    show::show(out, cluster.topology(), answers, verdict);
    if verdict.answered == 0 {
        let reasons: Vec<String> = answers
            .iter()
            .filter_map(|(node, answer)| {
                Some(format!("{node}: {}", answer.as_ref().err()?.message))
            })
            .collect();
        let message = format!("no node answered: {}", reasons.join("; "));
        return Err(Failure::from(Error::new(Code::Unreachable, message)));
    }
    if verdict.is_healthy() { Ok(()) } else { Err(Failure::quiet(Exit::Unhealthy)) }
}
