//! Replicas of this node that have left their groups, by a removal, a replacement or a drain: once nobody can need them
//! any more, what they had is given up. Begun by `node.rs`; what is given up in which order is in `replica::shard::leave`.
//!
//! That a group has other members is chosen when this node hears of it. But a voter that lags may still count by the
//! members before, and need this replica to find out. So all that take part are asked, and each must be sure of the new
//! members. One that is down keeps what has left here, until it is back or has been replaced itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use quorate_proto::convert::membership_to_wire;
use quorate_proto::v1;
use quorate_replica::Departed;
use quorate_types::{MemberRole, NodeId};
use tracing::debug;

use crate::context::NodeContext;
use crate::peer_network::dial;

/// How often it is looked for replicas that have left.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// An answer may take this long.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Gives up replicas that have left, until the node stops.
pub(crate) async fn keep_leaving(context: Arc<NodeContext>) {
    let looking = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Ok(departed) = context.shard.who_left().await else {
                return; // The node stops.
            };
            for one in departed {
                if are_sure(&context, &one).await {
                    let (group, replica) = (one.group, one.replica);
                    let has_gone = context.shard.leave(one).await;
                    debug!(%group, %replica, ?has_gone, "nobody needs a replica that has left");
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = context.stopped() => {}
        () = looking => {}
    }
}

/// True if everybody who votes, or is about to again, is sure of the members without this replica.
pub(crate) async fn are_sure(context: &NodeContext, departed: &Departed) -> bool {
    let Departed { group, replica, since } = departed;
    let counts = |role: MemberRole| role != MemberRole::Learner;
    let members = since.membership.members().filter(|(_, member)| counts(member.role));
    let nodes: BTreeSet<NodeId> = members.map(|(id, _)| id.node()).collect();
    // The group has another replica on this node, of which this disk knows nothing.
    if nodes.is_empty() || nodes.contains(&context.node) {
        return false;
    }
    for node in nodes {
        if !is_sure(context, node, departed).await {
            debug!(%group, %replica, %node, "a replica that has left stays: a member may need it yet");
            return false;
        }
    }
    true
}

async fn is_sure(context: &NodeContext, node: NodeId, departed: &Departed) -> bool {
    let Ok(channel) = dial(context, node).await else { return false };
    let request = v1::IsSureOfRequest {
        hello: Some(context.hello(node).to_wire()),
        membership: Some(membership_to_wire(departed.group, &departed.since)),
    };
    let mut client = v1::peer_client::PeerClient::new(channel);
    let answer = tokio::time::timeout(ANSWER_MAX, client.is_sure_of(request)).await;
    answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.into_inner().is_sure))
}
