//! `quorate group unsafe-recover`: a majority is lost for ever, and the group goes on with those that are left.

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use quorate_topology::recovery::NotRecovered;
use quorate_topology::{Group, Topology};
use quorate_types::{Code, GroupId, NodeId};
use tokio::time::{Instant, sleep};

use crate::args;
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::{Exit, Failure};
use crate::members::{group_named, members_of, node_named};
use crate::output::{Document, Output};
use crate::recovery::{Look, fail, item, lines, look, order};

/// Between two tries.
const TRY_INTERVAL: Duration = Duration::from_millis(500);

/// What to recover.
#[derive(Clone, Debug, Args)]
pub(super) struct RecoverArgs {
    /// The group, as 2, g2 or RZ01/g2
    #[arg(value_parser = args::group)]
    group: GroupId,
    /// Go on with the replicas on these nodes alone, separated by commas [default: all that answer]
    #[arg(long, value_name = "NODES", value_delimiter = ',')]
    keep: Vec<String>,
    /// Print where the replicas stand and what may be lost, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The name of the group, such as RZ01/g2: that you mean it
    #[arg(long, value_name = "GROUP", conflicts_with = "dry_run")]
    confirm: Option<String>,
    /// What happened, for the loss ledger
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    reason: String,
    /// How long all of it may take; run again, the command goes on where it stopped
    #[arg(long, default_value = "1m", value_name = "TIME", value_parser = args::duration)]
    wait: Duration,
}

/// Runs `quorate group unsafe-recover`.
pub(super) async fn run(args: &RecoverArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    let topology = cluster.topology();
    let group = group_named(topology, args.group)?;
    let keep = nodes_to_keep(topology, &args.keep)?;
    let found = look(&cluster, group, keep.as_ref()).await;
    show(topology, group, &found, out);
    let deadline = Instant::now() + args.wait;
    match &found.plan {
        Ok(_) if args.dry_run => {}
        Ok(_) => {
            confirm(group, args.confirm.as_deref())?;
            carry_out(&cluster, group, (args, keep.as_ref()), found_kept(&found), deadline, out)
                .await?;
            await_serving(&cluster, group, deadline).await?;
            say_done(group, out);
        }
        // It was interrupted behind the point from which on nothing can stop it, or is asked for again.
        Err(NotRecovered::Recovered { number }) => {
            if !out.is_json() {
                let label = group.label();
                out.say(format_args!("{label}: in history {number}: nothing is left to do"));
            }
            if !args.dry_run {
                await_serving(&cluster, group, deadline).await?;
                say_done(group, out);
            }
        }
        Err(refusal) => return Err(fail(topology, group, refusal)),
    }
    let document = Document::new("forced-recovery").of_cluster(topology.cluster_id());
    out.document(&document.item(item(topology, group, &found, !args.dry_run)));
    Ok(())
}

fn nodes_to_keep(
    topology: &Topology,
    names: &[String],
) -> Result<Option<BTreeSet<NodeId>>, Failure> {
    if names.is_empty() {
        return Ok(None);
    }
    let nodes = names.iter().map(|name| Ok(node_named(topology, name.trim())?.id));
    nodes.collect::<Result<_, Failure>>().map(Some)
}

fn show(topology: &Topology, group: &Group, found: &Look, out: &Output) {
    if out.is_json() {
        return;
    }
    for line in lines(topology, group, found) {
        out.say(line);
    }
}

fn say_done(group: &Group, out: &Output) {
    if !out.is_json() {
        let label = group.label();
        out.say(format_args!(
            "{label}: serves; `quorate ledger list --group {label}` shows what may be lost, `quorate group add` brings it back to strength"
        ));
    }
}

/// The name of the group must have been typed.
fn confirm(group: &Group, typed: Option<&str>) -> Result<(), Failure> {
    let label = group.label();
    let is_asked = io::stdin().is_terminal() && io::stderr().is_terminal();
    match typed {
        Some(typed) => check_name(&label, typed),
        None if is_asked => ask(&label, &mut io::stdin().lock(), &mut io::stderr().lock()),
        None => Err(Failure::usage(
            format!("nobody can be asked whether to give up what {label} may have acknowledged"),
            format!("say --confirm {label} to go on, or --dry-run to see what may be lost first"),
        )),
    }
}

fn ask(label: &str, answers: &mut impl BufRead, screen: &mut impl Write) -> Result<(), Failure> {
    let question = "acknowledged writes may be lost for ever. Type the name of the group to go on";
    // Harmless if nobody sees it: without the name nothing happens.
    let _ = write!(screen, "{question} ({label}): ").and_then(|()| screen.flush());
    let mut line = String::new();
    let _ = answers.read_line(&mut line);
    check_name(label, line.trim())
}

fn check_name(label: &str, typed: &str) -> Result<(), Failure> {
    if typed == label {
        return Ok(());
    }
    Err(Failure::usage(
        format!("the name that was typed is {typed:?}, the group is {label}; nothing was changed"),
        format!("say --confirm {label} if that is the group you mean"),
    ))
}

fn found_kept(found: &Look) -> BTreeSet<NodeId> {
    let kept = found.plan.iter().flat_map(|plan| &plan.kept);
    kept.map(|replica| replica.node()).collect()
}

/// Orders the survivor to begin, until it has.
async fn carry_out(
    cluster: &Cluster,
    group: &Group,
    (args, keep): (&RecoverArgs, Option<&BTreeSet<NodeId>>),
    confirmed: BTreeSet<NodeId>,
    deadline: Instant,
    out: &Output,
) -> Result<(), Failure> {
    let topology = cluster.topology();
    loop {
        let found = look(cluster, group, keep).await;
        let plan = match &found.plan {
            Ok(plan) => plan,
            Err(NotRecovered::Recovered { .. }) => return Ok(()),
            Err(refusal) => return Err(fail(topology, group, refusal)),
        };
        if found_kept(&found) != confirmed {
            let message = format!("other replicas of {} answer now than before", group.label());
            return Err(Failure::new(Code::MembersChanged, message)
                .with_fix("run the command again, and look at what it prints"));
        }
        let order = order(group, plan, &args.reason);
        let asked = Box::pin(cluster.client().force_recovery(plan.taken.node(), &order)).await;
        let Err(error) = asked else { return Ok(()) };
        let failure = cluster::failure(&error);
        let is_over = failure.exit() != Exit::Unreachable && failure.exit() != Exit::OutcomeUnknown;
        if is_over || deadline <= Instant::now() {
            return Err(failure);
        }
        out.note(format_args!("{}: ... {}", group.label(), error.message()));
        sleep(TRY_INTERVAL).await;
    }
}

/// Waits until the group has a leader whose members are chosen.
async fn await_serving(cluster: &Cluster, group: &Group, deadline: Instant) -> Result<(), Failure> {
    loop {
        let failure = match members_of(cluster, group.id).await {
            Ok(members) if members.chosen => return Ok(()),
            Ok(_) => Failure::new(
                Code::DeadlineExceeded,
                format!("{} has a leader, but its new members are not chosen yet", group.label()),
            ),
            Err(failure) => failure,
        };
        if deadline <= Instant::now() {
            return Err(failure);
        }
        sleep(TRY_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_goes_on() {
        // Goal: neither Enter nor a yes nor the name of another group gives anything up.
        for (answer, goes_on) in
            [("RZ00/g1\n", true), ("y\n", false), ("\n", false), ("", false), ("RZ00/g2\n", false)]
        {
            let mut screen = Vec::new();
            let asked = ask("RZ00/g1", &mut answer.as_bytes(), &mut screen);
            assert_eq!(asked.is_ok(), goes_on, "{answer:?}");
            assert!(String::from_utf8(screen).expect("text").contains("(RZ00/g1)"));
        }
    }
}
