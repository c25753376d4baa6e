//! `quorate group`: looks after groups.

mod check;

use clap::{Args, Subcommand};
use quorate_topology::Topology;
use quorate_types::{Code, GroupId, NodeId};
use serde_json::json;

use crate::args;
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::Failure;
use crate::output::{Document, Output};
use check::CheckArgs;

/// Looks after groups.
#[derive(Clone, Debug, Args)]
pub(crate) struct GroupArgs {
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum GroupCommand {
    /// Ask the leader of a group to hand over
    TransferLeader(TransferArgs),
    /// Have the replicas of groups compare their rows, and show what they found
    Check(CheckArgs),
}

#[derive(Clone, Debug, Args)]
struct TransferArgs {
    /// The group, as 2, g2 or RZ01/g2
    #[arg(value_parser = args::group)]
    group: GroupId,
    /// The name of the node that should lead; the best of the others if left out
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
}

/// Runs `quorate group`.
pub(crate) async fn run(args: GroupArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    match args.command {
        GroupCommand::TransferLeader(args) => transfer(args, global, out).await,
        GroupCommand::Check(args) => check::run(args, global, out).await,
    }
}

async fn transfer(args: TransferArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    let topology = cluster.topology();
    let to = taker(topology, args.group, args.to.as_deref())?;
    let asked = Box::pin(cluster.client().transfer_leader(args.group, to)).await;
    let asked = asked.map_err(|error| cluster::failure(&error))?;
    let label = topology.group(args.group).map_or_else(|| args.group.to_string(), |g| g.label());
    let node = topology.node(asked).map_or_else(|| asked.to_string(), |node| node.name.clone());
    if !out.is_json() {
        out.say(format_args!("{label}: {node} was asked to lead; it takes over in a moment"));
    }
    out.document(&Document::new("leader-transfer").of_cluster(topology.cluster_id()).item(json!({
        "group": args.group.to_string(),
        "label": label,
        "to_node": node,
    })));
    Ok(())
}

/// The node that should lead, if group and node exist and belong together.
fn taker(topology: &Topology, group: GroupId, to: Option<&str>) -> Result<Option<NodeId>, Failure> {
    let Some(found) = topology.group(group) else {
        let labels: Vec<String> = topology.groups().map(|group| group.label()).collect();
        return Err(Failure::new(
            Code::UnknownGroup,
            format!("no group has the number {}", group.0),
        )
        .with_fix(format!("use a group of the cluster: {}", labels.join(", "))));
    };
    let Some(to) = to else { return Ok(None) };
    let members = || found.members.iter().filter_map(|member| topology.node(member.node));
    let is_meant = |node: &&quorate_topology::Node| node.name == to;
    if let Some(node) = members().find(is_meant) {
        return Ok(Some(node.id));
    }
    let names: Vec<&str> = members().map(|node| node.name.as_str()).collect();
    let message = if topology.node_by_name(to).is_some() {
        format!("node {to} holds no replica of {}", found.label())
    } else {
        let known = topology.nodes().map(|node| node.name.as_str());
        format!("no node has the name {to:?}; {}", args::did_you_mean(to, known))
    };
    Err(Failure::new(Code::WrongNode, message)
        .with_exit(crate::exit::Exit::NotFound)
        .with_fix(format!("use a member of the group: {}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, three_cities_five_idcs};
    use quorate_types::ClusterId;

    use super::*;
    use crate::exit::Exit;

    #[test]
    fn group_and_node_must_exist_and_belong_together() {
        let text = three_cities_five_idcs(&Options::demo(ClusterId(7)));
        let topology = Topology::parse(&text).unwrap();
        assert_eq!(taker(&topology, GroupId(1), None), Ok(None));
        assert_eq!(taker(&topology, GroupId(1), Some("n5")), Ok(Some(NodeId(5))));
        let failure = taker(&topology, GroupId(9), None).unwrap_err();
        assert_eq!(failure.exit(), Exit::NotFound);
        assert_eq!(
            failure.to_string(),
            "error[UNKNOWN_GROUP]: no group has the number 9\nfix: use a group of the cluster: \
             RZ00/g1, RZ01/g2, RZ02/g3, RZ03/g4, GZ/g5"
        );
        let failure = taker(&topology, GroupId(1), Some("n9")).unwrap_err();
        assert_eq!(failure.exit(), Exit::NotFound);
        assert!(failure.to_string().contains("no node has the name \"n9\"; did you mean"));
    }
}
