//! Whether the nodes that should run serve every group, judged by what they say about themselves; and
//! sending leaders back to where they are wanted, which an operator does after a node has returned.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use quorate_client::{Client, GroupId, GroupStatus, NodeReport, Role, Topology};
use quorate_types::NodeId;

/// A follower this many slots behind its leader's commit is still catching up.
const LAG_SLOTS_MAX: u64 = 1_000;
/// How long a node may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What to wait for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The nodes that should run.
    pub(crate) up: BTreeSet<NodeId>,
    /// Whether each group must be led by a node of its first choice.
    pub(crate) leaders_at_home: bool,
    /// Whether links are cut, so that some nodes cannot keep up.
    pub(crate) links_cut: bool,
}

impl Wanted {
    /// These nodes run and serve what they can.
    pub(crate) fn of(up: BTreeSet<NodeId>) -> Wanted {
        Wanted { up, leaders_at_home: false, links_cut: false }
    }
}

/// Who serves each group as its leader now, and whether that is a node of its first choice.
pub(crate) async fn leaders(client: &Client) -> Vec<(GroupId, Option<NodeId>, bool)> {
    let (topology, client) = (client.topology(), client.with_timeout(ANSWER_LIMIT));
    let reports = client.cluster_status().await;
    let leader = |group: &quorate_topology::Group| {
        let leader = leader_of(&reports, group.id).map(|(node, _)| node);
        let member = leader.and_then(|node| group.member_on(node));
        (group.id, leader, member.is_some_and(|member| member.rank == 0))
    };
    topology.groups().map(leader).collect()
}

/// Who serves a group as its leader now.
pub(crate) async fn leader(client: &Client, group: GroupId) -> Option<NodeId> {
    let reports = client.with_timeout(ANSWER_LIMIT).cluster_status().await;
    leader_of(&reports, group).map(|(node, _)| node)
}

/// Waits until the cluster is as wanted; returns how long that took.
///
/// # Errors
/// What was still missing at the limit.
pub(crate) async fn wait(
    client: &Client,
    wanted: &Wanted,
    limit: Duration,
) -> Result<Duration, String> {
    let client = client.with_timeout(ANSWER_LIMIT);
    let (started, topology) = (Instant::now(), client.topology());
    loop {
        let reports = client.cluster_status().await;
        match judge(&topology, &reports, wanted) {
            Ok(()) => return Ok(started.elapsed()),
            Err(missing) if limit <= started.elapsed() => return Err(missing),
            Err(_) => tokio::time::sleep(LOOK_INTERVAL).await,
        }
    }
}

/// Hands every leadership over that is not where it is wanted, and waits until all are. Returns the
/// units that moved.
///
/// # Errors
/// What was still missing at the limit.
pub(crate) async fn send_leaders_home(
    client: &Client,
    wanted: &Wanted,
    limit: Duration,
) -> Result<Vec<String>, String> {
    let started = Instant::now();
    let (quick, topology) = (client.with_timeout(ANSWER_LIMIT), client.topology());
    let at_home = Wanted { leaders_at_home: true, ..wanted.clone() };
    let mut moved = Vec::new();
    let mut refused = None;
    loop {
        let reports = quick.cluster_status().await;
        let Err(missing) = judge(&topology, &reports, &at_home) else { return Ok(moved) };
        if limit <= started.elapsed() {
            return Err(refused.unwrap_or(missing));
        }
        // Looked for every time: a leadership may move, and a node may get ready, between two looks.
        for (unit, group, to) in moves_home(&topology, &reports) {
            match quick.transfer_leader(group, Some(to)).await {
                Ok(_) if moved.contains(&unit) => {}
                Ok(_) => moved.push(unit),
                Err(error) => refused = Some(format!("{unit} is not handed over to {to}: {error}")),
            }
        }
        tokio::time::sleep(2 * LOOK_INTERVAL).await;
    }
}

/// The hand-overs that bring each leadership to its first choice: unit, group and node.
fn moves_home(topology: &Topology, reports: &[NodeReport]) -> Vec<(String, GroupId, NodeId)> {
    let is_ready = |node: NodeId| {
        let report = reports.iter().find(|report| report.node == node);
        report.and_then(|report| report.status.as_ref().ok()).is_some_and(|status| status.ready)
    };
    let move_of = |group: &quorate_topology::Group| {
        let (leader, _) = leader_of(reports, group.id)?;
        let rank = group.member_on(leader)?.rank;
        let first = group.leaders().find(|member| is_ready(member.node))?;
        (first.rank < rank).then(|| (group.unit.clone(), group.id, first.node))
    };
    topology.groups().filter_map(move_of).collect()
}

/// The serving leader of a group. If an old one does not know yet that it was replaced, the one with
/// the higher ballot.
fn leader_of(reports: &[NodeReport], group: GroupId) -> Option<(NodeId, &GroupStatus)> {
    statuses(reports, group)
        .filter(|(_, status)| status.role == Role::Leader && status.serving)
        .max_by_key(|(_, status)| status.ballot)
}

fn statuses(
    reports: &[NodeReport],
    group: GroupId,
) -> impl Iterator<Item = (NodeId, &GroupStatus)> {
    let answered =
        reports.iter().filter_map(|report| Some((report.node, report.status.as_ref().ok()?)));
    answered.filter_map(move |(node, status)| {
        let of_group = status.groups.iter().find(|status| status.group == group)?;
        Some((node, of_group))
    })
}

/// What is missing first, or nothing.
fn judge(topology: &Topology, reports: &[NodeReport], wanted: &Wanted) -> Result<(), String> {
    for node in &wanted.up {
        let report = reports.iter().find(|report| report.node == *node);
        let status = report.and_then(|report| report.status.as_ref().ok());
        if !status.is_some_and(|status| status.ready) {
            return Err(format!("node {node} is not ready"));
        }
    }
    let down = topology.nodes().map(|node| node.id).filter(|node| !wanted.up.contains(node));
    let stopped = topology.groups_stopped_by(&down.collect());
    for group in topology.groups().filter(|group| !stopped.contains(&group.id)) {
        let label = group.label();
        let Some((leader, status)) = leader_of(reports, group.id) else {
            return Err(format!("{label} has no serving leader"));
        };
        let rank = group.member_on(leader).map_or(u32::MAX, |member| member.rank);
        if wanted.leaders_at_home && rank != 0 {
            return Err(format!("{label} is led by {leader}, which is not its first choice"));
        }
        for (node, follower) in statuses(reports, group.id) {
            let reached = follower.slot_applied.0.saturating_add(LAG_SLOTS_MAX);
            if !wanted.links_cut && wanted.up.contains(&node) && reached < status.slot_committed.0 {
                return Err(format!("{label} on {node} is still catching up"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_client::NodeStatus;
    use quorate_topology::presets::{Options, one_city_three_idcs};
    use quorate_types::{Ballot, ClusterId, Incarnation, ReplicaId, Slot};

    use super::*;

    fn topology() -> Topology {
        Topology::parse(&one_city_three_idcs(&Options::demo(ClusterId(7)))).unwrap()
    }

    /// All nodes up, each group led by its first choice.
    fn reports(topology: &Topology) -> Vec<NodeReport> {
        let status_of = |node: NodeId, group: &quorate_topology::Group| GroupStatus {
            group: group.id,
            unit: group.unit.clone(),
            role: if group.members[0].node == node { Role::Leader } else { Role::Follower },
            ballot: Ballot { round: 3, replica: ReplicaId(1) },
            leader: Some(group.members[0].node),
            lease_remaining: Duration::ZERO,
            serving: group.members[0].node == node,
            slot_accepted: Slot(5_000),
            slot_synced: Slot(5_000),
            slot_committed: Slot(5_000),
            slot_applied: Slot(5_000),
            slot_persisted: Slot(4_000),
            sessions: 1,
            members: Vec::new(),
        };
        let report = |node: &quorate_topology::Node| NodeReport {
            node: node.id,
            name: node.name.clone(),
            address: node.client.clone(),
            status: Ok(NodeStatus {
                cluster: topology.cluster_id(),
                node: node.id,
                name: node.name.clone(),
                incarnation: Incarnation(1),
                version: "0.1.0".to_owned(),
                topology_version: 1,
                uptime: Duration::from_secs(1),
                draining: false,
                ready: true,
                disk_free_bytes: 1,
                disk_total_bytes: 1,
                log_bytes: 1,
                groups: topology.groups().map(|group| status_of(node.id, group)).collect(),
                notices: Vec::new(),
            }),
        };
        topology.nodes().map(report).collect()
    }

    fn wanted(nodes: &[u32], leaders_at_home: bool) -> Wanted {
        let up = nodes.iter().map(|node| NodeId(*node)).collect();
        Wanted { up, leaders_at_home, links_cut: false }
    }

    #[test]
    fn health_names_what_is_missing() {
        let topology = topology();
        let all = wanted(&[1, 2, 3], true);
        let healthy = reports(&topology);
        assert_eq!(judge(&topology, &healthy, &all), Ok(()));

        let mut reports = healthy.clone();
        reports[2].status.as_mut().unwrap().ready = false;
        assert_eq!(judge(&topology, &reports, &all), Err("node n3 is not ready".to_owned()));
        assert_eq!(judge(&topology, &reports, &wanted(&[1, 2], true)), Ok(()));

        let mut reports = healthy.clone();
        reports[0].status.as_mut().unwrap().groups[0].serving = false;
        let missing = judge(&topology, &reports, &all).unwrap_err();
        assert_eq!(missing, "RZ00/g1 has no serving leader");

        let mut reports = healthy.clone();
        reports[1].status.as_mut().unwrap().groups[0].slot_applied = Slot(3_999);
        let missing = judge(&topology, &reports, &all).unwrap_err();
        assert_eq!(missing, "RZ00/g1 on n2 is still catching up");

        let mut reports = healthy;
        let moved = &mut reports[0].status.as_mut().unwrap().groups[0];
        (moved.role, moved.serving) = (Role::Follower, false);
        let moved = &mut reports[1].status.as_mut().unwrap().groups[0];
        (moved.role, moved.serving) = (Role::Leader, true);
        let missing = judge(&topology, &reports, &all).unwrap_err();
        assert_eq!(missing, "RZ00/g1 is led by n2, which is not its first choice");
        let moves = vec![("RZ00".to_owned(), GroupId(1), NodeId(1))];
        assert_eq!(moves_home(&topology, &reports), moves);
        reports[0].status.as_mut().unwrap().ready = false;
        assert_eq!(moves_home(&topology, &reports), []);
        reports[0].status.as_mut().unwrap().ready = true;
        assert_eq!(judge(&topology, &reports, &wanted(&[1, 2, 3], false)), Ok(()));
    }
}
