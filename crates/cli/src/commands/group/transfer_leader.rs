//! `quorate group transfer-leader`: asks the leader of a group to hand over.

use clap::Args;
use quorate_client::MemberReport;
use quorate_topology::{Group, Topology};
use quorate_types::{Code, GroupId, NodeId};
use serde_json::json;

use crate::args;
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::{Exit, Failure};
use crate::members::{group_named, node_name};
use crate::output::{Document, Output};

/// What to hand over, and to whom.
#[derive(Clone, Debug, Args)]
pub(super) struct TransferArgs {
    /// The group, as 2, g2 or RZ01/g2
    #[arg(value_parser = args::group)]
    group: GroupId,
    /// The name of the node that should lead; the best of the others if left out
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
}

/// Runs `quorate group transfer-leader`.
pub(super) async fn run(args: TransferArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let cluster = Cluster::open(global).await?;
    let topology = cluster.topology();
    let group = group_named(topology, args.group)?;
    let to = match args.to.as_deref() {
        None => None,
        Some(name) => Some(to_node(topology, group, &voters(&cluster, group).await, name)?),
    };
    let asked = Box::pin(cluster.client().transfer_leader(args.group, to)).await;
    let asked = asked.map_err(|error| cluster::failure(&error))?;
    let (label, node) = (group.label(), node_name(topology, asked));
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

/// Who can lead the group: as its leader tells, or as the cluster file has it if no leader does.
async fn voters(cluster: &Cluster, group: &Group) -> Vec<NodeId> {
    match Box::pin(cluster.client().members(group.id)).await {
        Ok(members) => {
            let can_lead =
                |member: &&MemberReport| member.role.votes_after() && member.kind.may_lead();
            let voters = members.members.iter().filter(can_lead);
            voters.map(|member| member.node).collect()
        }
        Err(_) => group.leaders().map(|member| member.node).collect(),
    }
}

/// The node that should lead, if it exists and votes in the group.
fn to_node(
    topology: &Topology,
    group: &Group,
    voters: &[NodeId],
    to: &str,
) -> Result<NodeId, Failure> {
    let found = topology.node_by_name(to);
    if let Some(node) = found.filter(|node| voters.contains(&node.id)) {
        return Ok(node.id);
    }
    let message = if found.is_some() {
        format!("node {to} holds no replica of {} that can lead", group.label())
    } else {
        let known = topology.nodes().map(|node| node.name.as_str());
        format!("no node has the name {to:?}; {}", args::did_you_mean(to, known))
    };
    let names: Vec<String> = voters.iter().map(|node| node_name(topology, *node)).collect();
    Err(Failure::new(Code::WrongNode, message)
        .with_exit(Exit::NotFound)
        .with_fix(format!("use one of the group that can: {}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, three_cities_five_idcs};
    use quorate_types::ClusterId;

    use super::*;

    #[test]
    fn group_and_node_must_exist_and_belong_together() {
        let text = three_cities_five_idcs(&Options::demo(ClusterId(7)));
        let topology = Topology::parse(&text).unwrap();
        let group = group_named(&topology, GroupId(1)).unwrap();
        let voters: Vec<NodeId> = (1..=4).map(NodeId).collect();
        let check = |to| to_node(&topology, group, &voters, to);
        assert_eq!(check("n4"), Ok(NodeId(4)));
        let failure = check("n5").unwrap_err();
        assert!(failure.to_string().contains("node n5 holds no replica of RZ00/g1 that can lead"));
        assert!(failure.to_string().contains("use one of the group that can: n1, n2, n3, n4"));
        let failure = check("n9").unwrap_err();
        assert_eq!(failure.exit(), Exit::NotFound);
        assert!(failure.to_string().contains("no node has the name \"n9\"; did you mean"));
        let failure = group_named(&topology, GroupId(9)).unwrap_err();
        assert_eq!(failure.exit(), Exit::NotFound);
        assert_eq!(
            failure.to_string(),
            "error[UNKNOWN_GROUP]: no group has the number 9\nfix: use a group of the cluster: \
             RZ00/g1, RZ01/g2, RZ02/g3, RZ03/g4, GZ/g5"
        );
    }
}
