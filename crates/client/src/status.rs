//! Looking at nodes and moving leaders: unary calls, each to one node.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_proto::convert::check::report_from_wire;
use quorate_proto::convert::cross::{attempt_status_from_wire, attempt_to_wire};
use quorate_proto::status::{NodeStatus, Role};
use quorate_proto::v1;
use quorate_proto::v1::admin_client::AdminClient;
use quorate_types::{Attempt, AttemptStatus, Ballot, CheckReport, GroupId, NodeId};
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
    /// be reached are in it with the error. Who leads a group is asked first from then on.
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
        self.note_leaders(&reports);
        reports
    }

    /// Remembers who leads, which need not be members of the cluster file. A deposed leader that does
    /// not know yet has the lower ballot.
    fn note_leaders(&self, reports: &[NodeReport]) {
        let mut leaders: BTreeMap<GroupId, (Ballot, NodeId)> = BTreeMap::new();
        for report in reports {
            let groups = report.status.iter().flat_map(|status| &status.groups);
            for group in groups.filter(|group| group.role == Role::Leader && group.serving) {
                let best = leaders.entry(group.group).or_insert((group.ballot, report.node));
                *best = (*best).max((group.ballot, report.node));
            }
        }
        for (group, (_, node)) in leaders {
            self.inner().router.note_leader(group, node);
        }
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
        let node = self.call().one_shot("transfer_leader", group, attempt).await?;
        inner.router.note_leader(group, node);
        Ok(node)
    }
}

impl Client {
    /// Has the replicas of a group compare their rows, and says what they found; after `wait` at most, which
    /// should be less than the deadline of the client's calls.
    ///
    /// # Errors
    /// See [`Error`]. `DEADLINE_EXCEEDED` if the group did not even log the check in time.
    pub async fn check_group(&self, group: GroupId, wait: Duration) -> Result<CheckReport, Error> {
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let request = v1::CheckGroupRequest { group: group.0, wait_ms };
        let inner = self.inner();
        let attempt = |address: String| async move {
            let channel = inner.pool.channel(&address).await.map_err(End::NotSent)?;
            let answer = AdminClient::new(channel).check_group(request).await;
            let answer = answer.map_err(|status| end_of_unary(&address, &status))?;
            let report = report_from_wire(answer.into_inner());
            report.map_err(|error| End::Refused(quorate_types::Error::from(error)))
        };
        self.call().one_shot("check_group", group, attempt).await
    }
}

/// What a node knows of transactions over several groups, or why it did not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptReport {
    /// The node.
    pub node: NodeId,
    /// What the groups that it leads know.
    pub attempts: Result<Vec<AttemptStatus>, Error>,
}

impl Client {
    /// What the leaders of all groups know of transactions over several groups, by node. Nodes that
    /// cannot be reached are in it with the error.
    pub async fn attempts(&self) -> Vec<AttemptReport> {
        let topology = self.topology();
        let asking = topology.nodes().map(|node| {
            let (node, address) = (node.id, node.client.clone());
            async move {
                let asking = ask_attempts(self.inner(), &address);
                AttemptReport { node, attempts: self.one_answer(&address, asking).await }
            }
        });
        let asking: FuturesUnordered<_> = asking.collect();
        let mut reports: Vec<AttemptReport> = asking.collect().await;
        reports.sort_by_key(|report| report.node);
        reports
    }

    /// Makes every leader that knows no decision about an attempt ask for it at once. Says how many
    /// groups did.
    ///
    /// # Errors
    /// See [`Error`], if no node answered.
    pub async fn resolve_attempt(&self, attempt: Attempt) -> Result<u32, Error> {
        let topology = self.topology();
        let asking = topology.nodes().map(|node| {
            let address = node.client.clone();
            async move {
                self.one_answer(&address, ask_to_resolve(self.inner(), &address, attempt)).await
            }
        });
        let asking: FuturesUnordered<_> = asking.collect();
        let answers: Vec<Result<u32, Error>> = asking.collect().await;
        let (answered, failed): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        match (answered.is_empty(), failed.into_iter().next()) {
            (true, Some(Err(error))) => Err(error),
            _ => Ok(answered.into_iter().flatten().sum()),
        }
    }

    /// One question to one node, within the client's time.
    pub(crate) async fn one_answer<T>(
        &self,
        address: &str,
        asking: impl Future<Output = Result<T, quorate_types::Error>>,
    ) -> Result<T, Error> {
        let mut trail = Trail { phase: Some(Phase::Wait), ..Trail::default() };
        trail.attempt(address);
        match timeout(self.timeout(), asking).await {
            Ok(answer) => answer.map_err(|error| Error::new(error, Outcome::NotApplied, trail)),
            Err(_) => Err(Error::deadline(self.timeout(), Outcome::NotApplied, trail)),
        }
    }
}

async fn ask_attempts(
    inner: &Inner,
    address: &str,
) -> Result<Vec<AttemptStatus>, quorate_types::Error> {
    let channel = inner.pool.channel(address).await?;
    let answer = AdminClient::new(channel).list_attempts(v1::ListAttemptsRequest {}).await;
    let answer = answer.map_err(|status| refusal(address, &status))?;
    let attempts = answer.into_inner().attempts.into_iter().map(attempt_status_from_wire);
    Ok(attempts.collect::<Result<_, _>>()?)
}

async fn ask_to_resolve(
    inner: &Inner,
    address: &str,
    attempt: Attempt,
) -> Result<u32, quorate_types::Error> {
    let channel = inner.pool.channel(address).await?;
    let request = v1::ResolveAttemptRequest { attempt: Some(attempt_to_wire(attempt)) };
    let answer = AdminClient::new(channel).resolve_attempt(request).await;
    Ok(answer.map_err(|status| refusal(address, &status))?.into_inner().groups_asked)
}

pub(crate) fn refusal(address: &str, status: &tonic::Status) -> quorate_types::Error {
    match end_of_unary(address, status) {
        End::NotSent(error) | End::Lost(error) | End::Refused(error) => error,
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
    let answer = answer.map_err(|status| refusal(address, &status))?;
    Ok(NodeStatus::from_wire(answer.into_inner())?)
}
