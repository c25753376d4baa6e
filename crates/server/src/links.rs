//! What the network does to messages that reach this node. A simulation decides it for each message; a
//! process leaves it to its network.
//!
//! The filter stands at the receiver: a message that is late outlives its sender and dies with its
//! receiver, as it does between two sockets.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_proto::v1;
use quorate_replica::PeerMessage;
use quorate_types::{CheckMessage, CrossMessage, Error, NodeId};
use tokio::time::Instant;

/// When the copies of a message arrive, counted from now; empty if it is lost.
pub type Fate = Vec<Duration>;

/// What becomes of a request of a client and of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// It is answered with this, and not looked at.
    pub refusal: Option<Error>,
    /// When the copies of the request arrive.
    pub request: Fate,
    /// When the copies of the answer arrive.
    pub answer: Fate,
}

/// Decides the fate of every message that reaches a node.
pub trait Links: Send + Sync + 'static {
    /// A message of a peer.
    fn peer_message(&self, peer: NodeId, message: &PeerMessage) -> Fate;

    /// A message between groups.
    fn cross_message(&self, peer: NodeId, message: &CrossMessage) -> Fate;

    /// A message about a check of rows.
    fn check_message(&self, peer: NodeId, message: &CheckMessage) -> Fate;

    /// A piece of a snapshot, which comes over a connection: late is late, lost is a broken connection.
    fn snapshot_piece(&self, peer: NodeId) -> Fate;

    /// A request of a client.
    fn client_request(&self) -> Fate;

    /// An answer to a client.
    fn client_answer(&self) -> Fate;

    /// Decides for a request on the stream and its answer together; `None` leaves it to the two above.
    fn client_exchange(&self, _item: &v1::PipelineItem) -> Option<Exchange> {
        None
    }
}

/// Does `arrive` now, or for a copy that is late, then.
pub(crate) fn after(delay: Duration, arrive: impl FnOnce() + Send + 'static) {
    if delay.is_zero() {
        return arrive();
    }
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        arrive();
    });
}

/// Messages of one link on their way, in the order in which they arrive: what has the same distance
/// keeps its order.
pub(crate) struct OnTheirWay<T> {
    messages: BTreeMap<(Instant, u64), T>,
    number: u64,
}

impl<T> Default for OnTheirWay<T> {
    fn default() -> Self {
        OnTheirWay { messages: BTreeMap::new(), number: 0 }
    }
}

impl<T: Clone> OnTheirWay<T> {
    /// Sends a message off. Each copy that is not lost arrives by itself.
    pub(crate) fn send(&mut self, fate: Fate, message: &T) {
        for delay in fate {
            self.number += 1;
            self.messages.insert((Instant::now() + delay, self.number), message.clone());
        }
    }

    /// True if none is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Takes what has arrived by now.
    pub(crate) fn arrived(&mut self) -> Vec<T> {
        let still_on_their_way = self.messages.split_off(&(Instant::now(), u64::MAX));
        std::mem::replace(&mut self.messages, still_on_their_way).into_values().collect()
    }

    /// Resolves when the next one arrives; never if none is on its way.
    pub(crate) async fn next(&self) {
        match self.messages.first_key_value() {
            Some(((at, _), _)) => tokio::time::sleep_until(*at).await,
            None => std::future::pending().await,
        }
    }
}
