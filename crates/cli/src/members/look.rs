//! What there is: groups and nodes by the names a user gives, their members, and who could take a replica.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_client::{MemberReport, Members};
use quorate_topology::change::{MemberNow, MembersNow, Usable};
use quorate_topology::{Group, Node, Topology};
use quorate_types::{Code, GroupId};

use crate::args;
use crate::cluster::{self, Cluster};
use crate::exit::{Exit, Failure};

/// A voter that was heard so short ago lives, even if it is behind for the moment.
const HEARD_AGO_MAX: Duration = Duration::from_secs(5);

/// The group a user named.
///
/// # Errors
/// `UNKNOWN_GROUP` with those there are.
pub(crate) fn group_named(topology: &Topology, group: GroupId) -> Result<&Group, Failure> {
    topology.group(group).ok_or_else(|| {
        let labels: Vec<String> = topology.groups().map(|group| group.label()).collect();
        Failure::new(Code::UnknownGroup, format!("no group has the number {}", group.0))
            .with_fix(format!("use a group of the cluster: {}", labels.join(", ")))
    })
}

/// The node a user named.
///
/// # Errors
/// `WRONG_NODE`, exit 3, with the nearest name.
pub(crate) fn node_named<'t>(topology: &'t Topology, name: &str) -> Result<&'t Node, Failure> {
    topology.node_by_name(name).ok_or_else(|| {
        let known = topology.nodes().map(|node| node.name.as_str());
        let message = format!("no node has the name {name:?}; {}", args::did_you_mean(name, known));
        Failure::new(Code::WrongNode, message)
            .with_exit(Exit::NotFound)
            .with_fix("use a node of the cluster file; `quorate topology show` lists them")
    })
}

/// The members of a group, as its leader has them.
///
/// # Errors
/// What the client says; `NO_QUORUM` and its like if there is no leader.
pub(crate) async fn members_of(cluster: &Cluster, group: GroupId) -> Result<Members, Failure> {
    let asked = Box::pin(cluster.client().members(group)).await;
    asked.map_err(|error| cluster::failure(&error))
}

/// The members of every group.
pub(crate) async fn members_of_all(
    cluster: &Cluster,
) -> BTreeMap<GroupId, Result<Members, Failure>> {
    let ask = |group: GroupId| async move { (group, members_of(cluster, group).await) };
    let asking: FuturesUnordered<_> =
        cluster.topology().groups().map(|group| ask(group.id)).collect();
    let answers: Vec<(GroupId, Result<Members, Failure>)> = asking.collect().await;
    answers.into_iter().collect()
}

/// The members as a plan needs them.
pub(crate) fn members_now(members: &Members) -> MembersNow {
    let now = |member: &MemberReport| MemberNow {
        role: member.role,
        kind: member.kind,
        fit: is_fit(member),
    };
    let nodes = members.members.iter().filter_map(|member| members.on(member.node));
    nodes.map(|member| (member.node, now(member))).collect()
}

/// Whether the vote of a member can be relied on. A voter need not be as near as a learner that is to
/// become one.
fn is_fit(member: &MemberReport) -> bool {
    let is_heard = member.heard_ago.is_some_and(|ago| ago <= HEARD_AGO_MAX);
    member.leads || member.fit || (member.role.votes_before() && is_heard && !member.refilling)
}

/// The nodes that answer and take requests, each with how many replicas it holds.
pub(crate) async fn usable(cluster: &Cluster) -> Usable {
    let reports = Box::pin(cluster.client().cluster_status()).await;
    let is_ready = |report: quorate_client::NodeReport| {
        let status = report.status.ok()?;
        let is_usable = status.ready && !status.draining && status.node == report.node;
        is_usable.then_some((report.node, status.groups.len()))
    };
    reports.into_iter().filter_map(is_ready).collect()
}
