//! Groups that lost a majority for ever: where the replicas stand, the order to go on without the lost ones, and
//! the loss ledger.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_proto::convert::recovery::{
    begun_from_wire, loss_entry_from_wire, order_to_wire, standing_from_wire,
};
use quorate_proto::recovery::{HistoryReport, RecoveryOrder, StandingReport};
use quorate_proto::v1;
use quorate_proto::v1::admin_client::AdminClient;
use quorate_types::{GroupId, LossEntry, NodeId, Slot};

use crate::client::Client;
use crate::connection::end_of_unary;
use crate::error::Error;
use crate::retry::End;
use crate::status::refusal;

/// A node of the cluster file and where its replica of a group stands, or why it did not say so.
#[derive(Clone, Debug)]
pub struct NodeStanding {
    /// The node.
    pub node: NodeId,
    /// What it said; `WRONG_NODE` if it holds no replica of the group.
    pub standing: Result<StandingReport, Error>,
}

impl Client {
    /// Where the replica of a group on a node stands, whoever leads, and which entry it has at `slot`.
    ///
    /// # Errors
    /// `WRONG_NODE` if the node holds none; otherwise see [`Error`].
    pub async fn standing(
        &self,
        node: NodeId,
        group: GroupId,
        slot: Slot,
    ) -> Result<StandingReport, Error> {
        let address = self.address_of(node)?;
        let asking = async {
            let channel = self.inner().pool.channel(&address).await?;
            let request = v1::GetStandingRequest { group: group.0, slot: slot.0 };
            let answer = AdminClient::new(channel).get_standing(request).await;
            let answer = answer.map_err(|status| refusal(&address, &status))?;
            Ok(standing_from_wire(answer.into_inner())?)
        };
        self.one_answer(&address, asking).await
    }

    /// The same of every node of the cluster file, in order of number.
    pub async fn standings(&self, group: GroupId, slot: Slot) -> Vec<NodeStanding> {
        let topology = self.topology();
        let ask = |node: NodeId| async move {
            NodeStanding { node, standing: self.standing(node, group, slot).await }
        };
        let asking: FuturesUnordered<_> = topology.nodes().map(|node| ask(node.id)).collect();
        let mut standings: Vec<NodeStanding> = asking.collect().await;
        standings.sort_by_key(|standing| standing.node);
        standings
    }

    /// Orders a node to begin another history of a group without those that are lost. Returns it once it is
    /// durable there. Asked again it says the same again.
    ///
    /// # Errors
    /// `GROUP_NOT_LOST`, `NOT_READY`, `MEMBERS_CHANGED`, `MEMBER_NOT_READY`, `OUTLIVED`, `INVALID_REQUEST`:
    /// nothing happened. Otherwise see [`Error`].
    pub async fn force_recovery(
        &self,
        node: NodeId,
        order: &RecoveryOrder,
    ) -> Result<HistoryReport, Error> {
        let address = self.address_of(node)?;
        let asking = async {
            let channel = self.inner().pool.channel(&address).await?;
            let answer = AdminClient::new(channel).force_recovery(order_to_wire(order)).await;
            let answer = answer.map_err(|status| refusal(&address, &status))?;
            Ok(begun_from_wire(answer.into_inner())?)
        };
        self.one_answer(&address, asking).await
    }

    /// The loss ledger of a group, in the order in which its entries were opened.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn losses(&self, group: GroupId) -> Result<Vec<LossEntry>, Error> {
        let inner = self.inner();
        let attempt = |address: String| async move {
            let channel = inner.pool.channel(&address).await.map_err(End::NotSent)?;
            let request = v1::ListLossesRequest { group: group.0 };
            let answer = AdminClient::new(channel).list_losses(request).await;
            let answer = answer.map_err(|status| end_of_unary(&address, &status))?;
            let entries = answer.into_inner().entries.into_iter().map(loss_entry_from_wire);
            let entries: Result<Vec<LossEntry>, _> = entries.collect();
            entries.map_err(|error| End::Refused(error.into()))
        };
        self.call().one_read("losses", group, attempt).await
    }
}
