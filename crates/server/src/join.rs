//! A node that lost its disk comes back: with new replicas, because whatever the old ones promised is
//! forgotten, and each asks to take the place of the old one in its group (trap 16). The other end is
//! `peer_service.rs`; who decides is `replica::members`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_paxos::MembershipAt;
use quorate_proto::convert::error::error_from_status;
use quorate_proto::v1;
use quorate_types::{Code, Error, GroupId, NodeId, ReplicaId};
use tracing::{debug, info, warn};

use crate::context::NodeContext;
use crate::directory::nodes_of;
use crate::peer_network::{dial, unreachable_peer};

/// Between two tries to be taken in.
const AGAIN: Duration = Duration::from_secs(1);
/// The same, where nobody wants this replica.
const UNWANTED: Duration = Duration::from_secs(30);
/// An answer may take this long.
const ANSWER_MAX: Duration = Duration::from_secs(5);

impl NodeContext {
    /// Takes in who takes part in a group, as a peer has it.
    pub(crate) fn hear_members(
        &self,
        from: NodeId,
        group: GroupId,
        at: MembershipAt,
    ) -> Result<(), Error> {
        if self.directory.hear(group, &at) {
            self.shard.moved(group, nodes_of(&at.membership))?;
        }
        // The replica of this node may count in another history than the peer.
        self.shard.heard(group, from, at)
    }

    /// A peer knew another disk of this node: its replicas get new ids, if nothing was written by the ones
    /// that it has.
    pub(crate) async fn be_reborn(self: &Arc<NodeContext>, peer: NodeId) -> Result<(), Error> {
        if self.rebirth_begun.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let groups: Vec<GroupId> =
            self.topology.groups_of_node(self.node).map(|group| group.id).collect();
        let options = groups
            .iter()
            .filter_map(|group| (self.make_options)(*group, self.later_replica(*group)));
        let replaced = self.shard.rebirth(options.collect()).await;
        if let Err(error) = &replaced {
            self.rebirth_begun.store(false, Ordering::Release);
            warn!(%peer, %error, "a peer knew another disk of this node");
            return replaced;
        }
        // Durable by now: only then may peers hear of it, and forget the old disk.
        self.reborn.store(true, Ordering::Release);
        info!(%peer, "a peer knew another disk of this node: its replicas begin anew");
        for group in groups {
            tokio::spawn(keep_joining(Arc::clone(self), group, self.later_replica(group)));
        }
        Ok(())
    }

    /// Goes on asking for replicas that nobody has taken in yet.
    pub(crate) fn join_again(self: &Arc<NodeContext>) {
        if !self.reborn.load(Ordering::Acquire) {
            return;
        }
        for group in self.topology.groups_of_node(self.node) {
            let replica = self.later_replica(group.id);
            tokio::spawn(keep_joining(Arc::clone(self), group.id, replica));
        }
    }

    /// The id of a replica that this data folder makes of a group: the same each time.
    pub(crate) fn later_replica(&self, group: GroupId) -> ReplicaId {
        let seed = self.incarnation.0 ^ u64::from(group.0).rotate_left(32);
        // Spread, because folders of one cluster may have numbers that are near each other.
        let spread = (seed ^ (seed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let number = u32::try_from(spread >> 32).expect("32 bits");
        ReplicaId::later_on(self.node, number)
    }
}

/// Asks until the replica is a member.
pub(crate) async fn keep_joining(context: Arc<NodeContext>, group: GroupId, replica: ReplicaId) {
    let joining = async {
        while !context.directory.has_member(group, replica) {
            let wait = match ask_all(&context, group, replica).await {
                Ok(()) => AGAIN,
                Err(error) if error.code == Code::InvalidRequest => {
                    warn!(%group, %replica, %error, "nobody wants this replica");
                    UNWANTED
                }
                Err(error) => {
                    debug!(%group, %replica, %error, "not taken in yet");
                    AGAIN
                }
            };
            tokio::time::sleep(wait).await;
        }
    };
    tokio::select! {
        biased;
        () = context.stopped() => {}
        () = joining => {}
    }
}

/// Asks the nodes of the group, one after the other, until one has done something about it.
async fn ask_all(context: &NodeContext, group: GroupId, replica: ReplicaId) -> Result<(), Error> {
    let mut last = Error::new(Code::Unreachable, "the group has no other node");
    for node in context.directory.nodes(group) {
        if node == context.node {
            continue;
        }
        match ask(context, node, group, replica).await {
            Ok(()) => return Ok(()),
            Err(error) if error.code == Code::InvalidRequest => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn ask(
    context: &NodeContext,
    node: NodeId,
    group: GroupId,
    replica: ReplicaId,
) -> Result<(), Error> {
    let mut client = v1::peer_client::PeerClient::new(dial(context, node).await?);
    let hello = Some(context.hello(node).to_wire());
    let request = v1::JoinRequest { hello, group: group.0, replica: replica.0 };
    let broken = |error: String| unreachable_peer(context, node, &error);
    let answer = tokio::time::timeout(ANSWER_MAX, client.join(request)).await;
    let answer = answer.map_err(|_elapsed| broken("no answer".to_owned()))?;
    answer.map_err(|status| {
        error_from_status(&status).unwrap_or_else(|| broken(status.to_string()))
    })?;
    Ok(())
}
