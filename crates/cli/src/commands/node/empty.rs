//! `quorate node decommission` and `quorate node replace`: every replica of a node goes elsewhere, one group
//! after the other. Nothing is begun unless there is a way for every group.

use std::collections::BTreeMap;

use clap::Args;
use quorate_topology::change::{MembersNow, Move, Plan, plan_moves};
use quorate_topology::{Node, Topology};
use quorate_types::{Code, GroupId};
use tokio::time::Instant;

use crate::cli::Global;
use crate::cluster::Cluster;
use crate::exit::Failure;
use crate::members::{
    Flags, Hands, Made, carry_out, document, fail, members_now, members_of_all, node_named, show,
    usable,
};
use crate::output::Output;

/// Which node is to be empty.
#[derive(Clone, Debug, Args)]
pub(super) struct DecommissionArgs {
    /// The name of the node
    node: String,
    #[command(flatten)]
    flags: Flags,
}

/// Which node is to be empty, and which one takes everything.
#[derive(Clone, Debug, Args)]
pub(super) struct ReplaceArgs {
    /// The name of the node
    node: String,
    /// The name of the node that takes its replicas
    #[arg(long, value_name = "NODE")]
    by: String,
    #[command(flatten)]
    flags: Flags,
}

/// Runs `quorate node decommission`.
pub(super) async fn decommission(
    args: &DecommissionArgs,
    global: &Global,
    out: &Output,
) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    let node = node_named(cluster.topology(), &args.node)?;
    empty(&cluster, node, Move::Spread, &args.flags, out).await
}

/// Runs `quorate node replace`.
pub(super) async fn replace(
    args: &ReplaceArgs,
    global: &Global,
    out: &Output,
) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    let node = node_named(cluster.topology(), &args.node)?;
    let by = node_named(cluster.topology(), &args.by)?;
    empty(&cluster, node, Move::To(by.id), &args.flags, out).await
}

async fn empty(
    cluster: &Cluster,
    node: &Node,
    to: Move,
    flags: &Flags,
    out: &Output,
) -> Result<(), Failure> {
    let topology = cluster.topology();
    let plans = plans(cluster, node, to, flags).await?;
    for plan in &plans {
        show(topology, plan, out);
    }
    if flags.dry_run {
        if plans.is_empty() {
            say_empty(topology, node, out);
        }
        out.document(&document(topology, &plans, Made::Shown));
        return Ok(());
    }
    if !plans.is_empty() {
        let groups = if plans.len() == 1 { "group" } else { "groups" };
        let question = format!("move the replicas of {} {groups} off {}?", plans.len(), node.name);
        flags.confirm(&question)?;
    }
    let deadline = Instant::now() + flags.wait;
    let hands = Hands { cluster, out, deadline, redundancy: flags.redundancy() };
    for (number, plan) in (1..).zip(&plans) {
        carry_out(&hands, plan).await?;
        out.note(format_args!("{}: done, {number} of {}", plan.label, plans.len()));
    }
    say_empty(topology, node, out);
    out.document(&document(topology, &plans, Made::Done));
    Ok(())
}

/// A plan for each group with a replica on the node.
async fn plans(
    cluster: &Cluster,
    node: &Node,
    to: Move,
    flags: &Flags,
) -> Result<Vec<Plan>, Failure> {
    let topology = cluster.topology();
    let usable = usable(cluster).await;
    if let Move::To(by) = to
        && !usable.contains_key(&by)
    {
        let name = crate::members::node_name(topology, by);
        let message = format!("{name} does not answer, or takes no requests yet");
        return Err(Failure::new(Code::Unreachable, message)
            .with_fix(format!("start {name} and wait until `quorate status` shows it as up")));
    }
    let mut groups: BTreeMap<GroupId, MembersNow> = BTreeMap::new();
    for (group, members) in members_of_all(cluster).await {
        groups.insert(group, members_now(&members?));
    }
    plan_moves(topology, &groups, node.id, to, &usable, flags.redundancy())
        .map_err(|refusal| fail(&refusal))
}

fn say_empty(topology: &Topology, node: &Node, out: &Output) {
    if out.is_json() {
        return;
    }
    let in_file = topology.groups_of_node(node.id).next().is_some();
    let file = if in_file { "; the cluster file still names it as a place of some" } else { "" };
    out.say(format_args!("{} holds no replica that counts, and may be stopped{file}", node.name));
}
