//! `quorate group pin`: which replica leads whenever it can, whatever the leader order says.

use clap::Args;
use quorate_types::{GroupId, NodeId};
use serde_json::json;

use crate::args;
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::Failure;
use crate::members::{fail, group_named, members_of, node_name, node_named};
use crate::output::{Document, Output};

/// What to pin.
#[derive(Clone, Debug, Args)]
pub(super) struct PinArgs {
    /// The group, as 2, g2 or RZ01/g2
    #[arg(value_parser = args::group)]
    group: GroupId,
    /// The name of the node whose replica is to lead
    #[arg(required_unless_present = "none", conflicts_with = "none")]
    node: Option<String>,
    /// None is: the leader order counts again
    #[arg(long)]
    none: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs `quorate group pin`.
pub(super) async fn run(args: &PinArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    let topology = cluster.topology();
    let group = group_named(topology, args.group)?;
    let members = members_of(&cluster, group.id).await?;
    let voters: Vec<NodeId> = members
        .members
        .iter()
        .filter(|member| member.role.votes_after())
        .map(|member| member.node)
        .collect();
    let pinned = match &args.node {
        None => None,
        Some(name) => {
            let node = node_named(topology, name)?.id;
            if !voters.contains(&node) {
                let names: Vec<String> =
                    voters.iter().map(|voter| node_name(topology, *voter)).collect();
                return Err(fail(&quorate_topology::change::Refusal::NoMember {
                    node: name.clone(),
                    group: group.label(),
                    members: names.join(", "),
                }));
            }
            Some(node)
        }
    };
    let (label, name) = (group.label(), pinned.map(|node| node_name(topology, node)));
    let what = match &name {
        Some(name) => format!("the replica on {name} leads whenever it can"),
        None => "the leader order decides".to_owned(),
    };
    if !args.dry_run {
        pin(&cluster, group.id, pinned, &voters).await?;
    }
    if !out.is_json() {
        let then = if args.dry_run { "then " } else { "" };
        out.say(format_args!("{label}: {then}{what}"));
    }
    out.document(&Document::new("pin").of_cluster(topology.cluster_id()).item(json!({
        "group": group.id.to_string(),
        "label": label,
        "node": name,
        "done": !args.dry_run,
    })));
    Ok(())
}

/// Tells every voter, the pinned one first. Who cannot be told does not keep the others from it.
async fn pin(
    cluster: &Cluster,
    group: GroupId,
    pinned: Option<NodeId>,
    voters: &[NodeId],
) -> Result<(), Failure> {
    let others = voters.iter().copied().filter(|voter| Some(*voter) != pinned);
    let mut failed = None;
    for node in pinned.into_iter().chain(others) {
        let is_pinned = Some(node) == pinned;
        let told = Box::pin(cluster.client().pin_leader(node, group, is_pinned)).await;
        if let Err(error) = told {
            let failure = cluster::failure(&error);
            if is_pinned {
                return Err(failure);
            }
            let name = node_name(cluster.topology(), node);
            let fix = format!(
                "run the command again once {name} answers: if its replica was pinned, it still is"
            );
            failed = failed.or_else(|| Some(failure.with_fix(fix)));
        }
    }
    failed.map_or(Ok(()), Err)
}
