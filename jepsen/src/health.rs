//! Waiting for nodes and leaders.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use quorate_client::{Client, GroupId, Role};

use crate::Failure;
use crate::cluster::{Cluster, Node};
use crate::output::Ending;

/// For how long a restarted cluster may be without a leader of every group.
pub(crate) const HEALTH_PATIENCE: Duration = Duration::from_secs(60);
/// For how long a node may take to be ready or to end.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// For how long a leadership may take to move.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(20);
/// The deadline of a call: longer than a restart, so that most calls outlive it.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a node may take to say how it is.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A new client of the cluster.
pub(crate) async fn connect(cluster: &Cluster) -> Result<Client, Failure> {
    Ok(Client::builder(cluster.endpoints()).request_timeout(CALL_TIMEOUT).build().await?)
}

/// Waits until these nodes are ready and every group has one of them as a leader that serves. An
/// error if a node ends by itself.
pub(crate) async fn wait_healthy(cluster: &mut Cluster, nodes: &[Node]) -> Result<(), Failure> {
    let deadline = Instant::now() + HEALTH_PATIENCE;
    loop {
        if let Some(ended) = cluster.ended()? {
            return Err(ended.into());
        }
        let why = match connect(cluster).await {
            Ok(client) => unhealthy(&client, nodes).await,
            Err(error) => Some(error.to_string()),
        };
        let Some(why) = why else { return Ok(()) };
        if deadline < Instant::now() {
            return Err(format!("no healthy cluster within {HEALTH_PATIENCE:?}: {why}").into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What is missing for the cluster to be healthy.
async fn unhealthy(client: &Client, nodes: &[Node]) -> Option<String> {
    let mut led = BTreeMap::new();
    for report in client.with_timeout(STATUS_TIMEOUT).cluster_status().await {
        if !nodes.iter().any(|node| node.id() == report.node) {
            continue;
        }
        match report.status {
            Err(error) => return Some(format!("{}: {error}", report.name)),
            Ok(status) if !status.ready => return Some(format!("{} is not ready", report.name)),
            Ok(status) => {
                for group in status.groups {
                    let leads = group.role == Role::Leader && group.serving;
                    *led.entry(group.group).or_insert(false) |= leads;
                }
            }
        }
    }
    led.iter().find(|(_, leads)| !**leads).map(|(group, _)| format!("{group} has no leader"))
}

/// The nodes that say they lead and serve, by group.
pub(crate) async fn leaders(client: &Client) -> BTreeMap<GroupId, Node> {
    let mut found = BTreeMap::new();
    for report in client.with_timeout(STATUS_TIMEOUT).cluster_status().await {
        let (Ok(status), Some(node)) = (report.status, Node::from_id(report.node)) else {
            continue;
        };
        for group in status.groups {
            if group.role == Role::Leader && group.serving {
                found.insert(group.group, node);
            }
        }
    }
    found
}

/// What became of a node that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// It is ready.
    Ready,
    /// It ended.
    Ended(Ending),
    /// It was neither in time.
    Neither,
}

/// Waits until a node is ready or has ended.
pub(crate) async fn wait_started(
    cluster: &mut Cluster,
    client: &Client,
    node: Node,
) -> Result<Started, Failure> {
    let (deadline, address) = (Instant::now() + START_PATIENCE, cluster.address(node));
    let client = client.with_timeout(STATUS_TIMEOUT);
    while Instant::now() < deadline {
        if let Some(ending) = cluster.ending(node)? {
            return Ok(Started::Ended(ending));
        }
        if client.node_status(&address).await.is_ok_and(|status| status.ready) {
            return Ok(Started::Ready);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(Started::Neither)
}

/// What became of a node that should lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// It leads every group.
    Leads,
    /// It ended.
    Ended,
    /// Some group did not come to it in time.
    Not,
}

/// Makes a node the leader of every group.
pub(crate) async fn make_leader(
    cluster: &mut Cluster,
    client: &Client,
    node: Node,
) -> Result<Lead, Failure> {
    let deadline = Instant::now() + TRANSFER_PATIENCE;
    while Instant::now() < deadline {
        if cluster.ending(node)?.is_some() {
            return Ok(Lead::Ended);
        }
        let leaders = leaders(client).await;
        let groups: Vec<GroupId> = client.topology().groups().map(|group| group.id).collect();
        let mut led = true;
        for group in groups {
            if leaders.get(&group) != Some(&node) {
                led = false;
                // Refused while the node is behind or another move is under way; asked again below.
                let _refused = client.transfer_leader(group, Some(node.id())).await.is_err();
            }
        }
        if led {
            return Ok(Lead::Leads);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(Lead::Not)
}
