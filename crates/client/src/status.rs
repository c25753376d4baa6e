//! Looking at nodes and moving leaders: unary calls, each to one node.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_proto::status::NodeStatus;
use quorate_proto::v1;
use quorate_proto::v1::admin_client::AdminClient;
use quorate_types::{GroupId, NodeId};
use tokio::time::timeout;

use crate::client::{Client, Inner};
use crate::connection::end_of_unary;
use crate::error::{Error, Outcome, Phase, Trail};
use crate::retry::End;

/// A node of the cluster file and what it said about itself, or why it did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its address for clients.
    pub address: String,
    /// What it said.
    pub status: Result<NodeStatus, Error>,
}

impl Client {
    /// What the node at an address says about itself and its groups.
    ///
    /// # Errors
    /// `UNREACHABLE` if it cannot be reached, `DEADLINE_EXCEEDED` if it does not answer.
    pub async fn node_status(&self, address: &str) -> Result<NodeStatus, Error> {
        let mut trail = Trail { phase: Some(Phase::Connect), ..Trail::default() };
        trail.attempt(address);
        let asking = ask_status(self.inner(), address, &mut trail);
        match timeout(self.timeout(), asking).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(error)) => Err(Error::new(error, Outcome::NotApplied, trail)),
            Err(_) => Err(Error::deadline(self.timeout(), Outcome::NotApplied, trail)),
        }
    }

    /// What every node of the cluster file says about itself, in order of number. Nodes that cannot
    /// be reached are in it with the error.
    pub async fn cluster_status(&self) -> Vec<NodeReport> {
        let topology = self.topology();
        let ask = |node: &quorate_topology::Node| {
            let (node, name, address) = (node.id, node.name.clone(), node.client.clone());
            async move {
                let status = self.node_status(&address).await;
                NodeReport { node, name, address, status }
            }
        };
        let mut asking: FuturesUnordered<_> = topology.nodes().map(ask).collect();
        let mut reports = Vec::with_capacity(asking.len());
        while let Some(report) = asking.next().await {
            reports.push(report);
        }
        reports.sort_by_key(|report| report.node);
        reports
    }

    /// Asks the leader of a group to hand over, to this node or to the best of the others. Returns
    /// the node that was asked to lead; it leads a moment later.
    ///
    /// # Errors
    /// See [`Error`]. If the outcome is unknown, look at the status before asking again.
    pub async fn transfer_leader(
        &self,
        group: GroupId,
        to: Option<NodeId>,
    ) -> Result<NodeId, Error> {
        let request = v1::TransferLeaderRequest { group: group.0, to_node: to.map(|node| node.0) };
        let inner = self.inner();
        let attempt = |address: String| async move {
            let channel = inner.pool.channel(&address).await.map_err(End::NotSent)?;
            let answer = AdminClient::new(channel).transfer_leader(request).await;
            let answer = answer.map_err(|status| end_of_unary(&address, &status))?;
            Ok(NodeId(answer.into_inner().to_node))
        };
        let node = self.call().one_shot(group, attempt).await?;
        inner.router.note_leader(group, node);
        Ok(node)
    }
}

async fn ask_status(
    inner: &Inner,
    address: &str,
    trail: &mut Trail,
) -> Result<NodeStatus, quorate_types::Error> {
    let channel = inner.pool.channel(address).await?;
    trail.phase = Some(Phase::Wait);
    let request = v1::GetNodeStatusRequest {};
    let answer = AdminClient::new(channel).get_node_status(request).await;
    let answer = answer.map_err(|status| match end_of_unary(address, &status) {
        End::NotSent(error) | End::Lost(error) | End::Refused(error) => error,
    })?;
    Ok(NodeStatus::from_wire(answer.into_inner())?)
}
