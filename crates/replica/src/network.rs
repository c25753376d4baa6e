//! The way to the peers. Implemented by the server's peer streams and by the simulation's filter.

use std::sync::Arc;

use quorate_paxos::{History, MembershipAt, Message};
use quorate_store::Store;
use quorate_types::{CheckMessage, CrossMessage, GroupId, NodeId, ReplicaId};

use crate::refill::Wanted;
use crate::snapshot::RefillDone;

/// A message of one group to a replica on another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMessage {
    /// The group.
    pub group: GroupId,
    /// The sender.
    pub from: ReplicaId,
    /// The receiver.
    pub to: ReplicaId,
    /// The history that the sender counts in.
    pub history: History,
    /// What is said.
    pub message: Message,
}

/// Sends messages, in order per peer where it can. May lose them: the protocol says them again.
pub trait Network: Send + Sync + 'static {
    /// Queues messages to a node. Never waits; over its limit it drops.
    fn send(&self, to: NodeId, messages: Vec<PeerMessage>);

    /// Queues messages between groups to a node, in the same way.
    fn send_cross(&self, to: NodeId, messages: Vec<CrossMessage>);

    /// Other members of a group are chosen now, or known from the start. Never waits.
    fn membership(&self, group: GroupId, at: &MembershipAt);

    /// Tells one node of the members of a group: it was heard to count in another history. Never waits.
    fn tell_membership(&self, to: NodeId, group: GroupId, at: &MembershipAt);

    /// Queues messages about checks to a node, in the same way.
    fn send_checks(&self, to: NodeId, messages: Vec<CheckMessage>);

    /// Breaks off what is being given away of the rows of a group.
    fn withdraw(&self, group: GroupId);

    /// Begins to fetch the rows of a group from another of its replicas into the store, as the next incarnation,
    /// without switching to them; or only what a snapshot of them would end with. Never waits. `done` is told of
    /// the end; it is dropped if the node stops. Begun again for the same group, the later one counts.
    fn refill(&self, wanted: Wanted, store: Arc<Store>, done: RefillDone);
}
