//! A node that lost its disk comes back: with new replicas, because whatever the old ones promised is
//! forgotten, and each asks to take the place of the old one in its group (trap 16). The other end is
//! `peer_service.rs`; who decides is `replica::members`.
//!
//! Which groups those are is heard from others: groups move, and the cluster file only says where they began.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use quorate_paxos::MembershipAt;
use quorate_proto::convert::error::error_from_status;
use quorate_proto::convert::members::kind_to_wire;
use quorate_proto::v1;
use quorate_replica::{Own, Presence};
use quorate_types::{Code, Error, GroupId, NodeId, ReplicaId, ReplicaKind};
use tracing::{debug, info, warn};

use crate::context::NodeContext;
use crate::peer_network::{dial, unreachable_peer};

/// Between two tries to be taken in.
const AGAIN: Duration = Duration::from_secs(1);
/// So many times as long where nobody wants this replica, unless it is heard that the group has moved away.
const UNWANTED_LOOKS: u32 = 30;
/// An answer may take this long.
const ANSWER_MAX: Duration = Duration::from_secs(5);

impl NodeContext {
    /// Takes in who takes part in a group, as a peer tells.
    pub(crate) fn hear_members(
        self: &Arc<NodeContext>,
        peer: NodeId,
        group: GroupId,
        at: MembershipAt,
    ) -> Result<(), Error> {
        if !self.directory.is_possible(&at.membership) {
            warn!(%peer, %group, since = %at.id, "told of members on nodes that do not exist");
            return Ok(());
        }
        if self.directory.hear(group, &at) {
            self.shard.moved(group, self.directory.leaders(group), at.clone())?;
            self.look_for_place(peer, group);
        }
        // The replica of this node may count in another history than the peer.
        self.shard.heard(group, peer, at)
    }

    /// A peer knew another disk of this node, or members that are not on this one: the replicas that its groups
    /// began with get new ids, if nothing was written by those that it has.
    pub(crate) async fn be_reborn(self: &Arc<NodeContext>, peer: NodeId) -> Result<(), Error> {
        if self.rebirth_begun.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let groups = self.topology.groups_of_node(self.node).map(|group| group.id);
        let options = groups.filter_map(|group| {
            let kind = self.directory.kind_on(group, self.node);
            (self.make_options)(group, self.later_replica(group), kind)
        });
        let replaced = self.shard.rebirth(options.collect()).await;
        if let Err(error) = &replaced {
            self.rebirth_begun.store(false, Ordering::Release);
            warn!(%peer, %error, "a peer knew another disk of this node");
            return replaced;
        }
        // Durable by now: only then may peers hear of it, and forget the old disk.
        self.reborn.store(true, Ordering::Release);
        info!(%peer, "a peer knew another disk of this node: its replicas begin anew");
        self.look_for_places();
        Ok(())
    }

    /// Asks for the places of replicas that were on this node and are not on this disk, in all groups.
    pub(crate) fn look_for_places(self: &Arc<NodeContext>) {
        for group in self.topology.groups() {
            self.look_for_place(self.node, group.id);
        }
    }

    /// The same in one group, after `peer` has told of it.
    fn look_for_place(self: &Arc<NodeContext>, peer: NodeId, group: GroupId) {
        if self.directory.members_on(group, self.node).is_empty() || !self.begin_joining(group) {
            return;
        }
        let context = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = context.stopped() => {}
                () = keep_joining(&context, peer, group) => {}
            }
        });
    }

    /// False if this node asks for a place in the group already.
    fn begin_joining(&self, group: GroupId) -> bool {
        self.joining.lock().unwrap_or_else(PoisonError::into_inner).insert(group)
    }

    fn end_joining(&self, group: GroupId) {
        self.joining.lock().unwrap_or_else(PoisonError::into_inner).remove(&group);
    }

    /// What this node lacks in a group, by its own replica and what was heard of the members.
    async fn place_in(&self, group: GroupId) -> Place {
        let Ok(own) = self.shard.own(group).await else {
            return Place::None; // The node stops.
        };
        let seats = self.directory.members_on(group, self.node);
        let first = ReplicaId::first_on(self.node);
        match own {
            None if seats.is_empty() => Place::None,
            Some(Own { presence: Presence::Gone, .. }) if seats.is_empty() => Place::None,
            None | Some(Own { presence: Presence::Gone, .. }) => {
                Place::New(self.after(group, own), self.directory.kind_on(group, self.node))
            }
            Some(own) if own.replica == first && !seats.is_empty() && !seats.contains(&first) => {
                // What the group began with here has a successor, which is not on this disk.
                if self.reborn.load(Ordering::Acquire) { Place::None } else { Place::Reborn }
            }
            Some(Own { presence: Presence::Member, .. }) => Place::None,
            Some(Own { replica, kind, presence: Presence::NoMember }) => Place::Of(replica, kind),
        }
    }

    /// The id of the first replica that this data folder makes of a group: the same each time.
    pub(crate) fn later_replica(&self, group: GroupId) -> ReplicaId {
        let seed = self.incarnation.0 ^ u64::from(group.0).rotate_left(32);
        // Spread, because folders of one cluster may have numbers that are near each other.
        let spread = (seed ^ (seed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let number = u32::try_from(spread >> 32).expect("32 bits");
        ReplicaId::later_on(self.node, number)
    }

    /// The id of the replica that this data folder makes of a group after the one that it has: those before it are
    /// not used again.
    pub(crate) async fn next_replica(&self, group: GroupId) -> Result<ReplicaId, Error> {
        Ok(self.after(group, self.shard.own(group).await?))
    }

    fn after(&self, group: GroupId, own: Option<Own>) -> ReplicaId {
        match own {
            Some(own) if own.replica != ReplicaId::first_on(self.node) => own.replica.next_later(),
            Some(_) | None => self.later_replica(group),
        }
    }
}

/// What a node lacks in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing.
    None,
    /// A place for the replica that it has.
    Of(ReplicaId, ReplicaKind),
    /// A replica: others know one here that is not on this disk.
    New(ReplicaId, ReplicaKind),
    /// New ids: others know a replica here that came after the one that this disk has.
    Reborn,
}

/// Asks until the replica knows that it is a member, or the leader says that there is no place for it.
async fn keep_joining(context: &Arc<NodeContext>, peer: NodeId, group: GroupId) {
    loop {
        let (replica, kind, is_new) = match context.place_in(group).await {
            Place::Of(replica, kind) => (replica, kind, false),
            Place::New(replica, kind) => (replica, kind, true),
            Place::Reborn => {
                context.end_joining(group);
                // What goes wrong is told, and the next peer that tells of the group begins it again.
                let _told = context.be_reborn(peer).await.is_err();
                return;
            }
            Place::None => {
                context.end_joining(group);
                // What was heard meanwhile found somebody asking.
                if context.place_in(group).await == Place::None || !context.begin_joining(group) {
                    return;
                }
                continue;
            }
        };
        let wait = match ask_all(context, group, (replica, kind)).await {
            Ok(()) => {
                if is_new {
                    create(context, group, (replica, kind)).await;
                }
                AGAIN
            }
            Err(error) if error.code == Code::InvalidRequest => {
                let has_moved = || context.directory.members_on(group, context.node).is_empty();
                if has_moved() {
                    info!(%group, %replica, "the group has moved away from this node");
                    context.end_joining(group);
                    return;
                }
                warn!(%group, %replica, %error, "nobody wants this replica");
                // What was heard of the members may be older than what the leader knows.
                for _ in 0..UNWANTED_LOOKS {
                    if has_moved() {
                        break;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                continue;
            }
            Err(error) => {
                debug!(%group, %replica, %error, "not taken in yet");
                AGAIN
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Makes the replica that the leader has taken in. (Not before: what is told of members may be old.)
async fn create(context: &NodeContext, group: GroupId, (replica, kind): (ReplicaId, ReplicaKind)) {
    let Some(options) = (context.make_options)(group, replica, kind) else { return };
    match context.shard.create(options).await {
        Ok(made) => {
            info!(%group, replica = %made, "a replica takes the place of one that was lost");
        }
        Err(error) => warn!(%group, %replica, %error, "a replica cannot be made"),
    }
}

/// Asks the nodes of the group, one after the other, until one has done something about it.
async fn ask_all(
    context: &NodeContext,
    group: GroupId,
    replica: (ReplicaId, ReplicaKind),
) -> Result<(), Error> {
    let mut last = Error::new(Code::Unreachable, "the group has no other node");
    for node in context.directory.leaders(group) {
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
    (replica, kind): (ReplicaId, ReplicaKind),
) -> Result<(), Error> {
    let mut client = v1::peer_client::PeerClient::new(dial(context, node).await?);
    let hello = Some(context.hello(node).to_wire());
    let request = v1::JoinRequest {
        hello,
        group: group.0,
        replica: replica.0,
        kind: kind_to_wire(kind).into(),
    };
    let broken = |error: String| unreachable_peer(context, node, &error);
    let answer = tokio::time::timeout(ANSWER_MAX, client.join(request)).await;
    let answer = answer.map_err(|_elapsed| broken("no answer".to_owned()))?;
    answer.map_err(|status| {
        error_from_status(&status).unwrap_or_else(|| broken(status.to_string()))
    })?;
    Ok(())
}

#[cfg(all(test, not(madsim)))]
#[path = "join_test.rs"]
mod tests;
