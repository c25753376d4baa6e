//! Faults that a test orders: of the next requests, or of all until further notice.
//!
//! They meet what the Rust client sends on its streams, but not the opening and closing of sessions: a test
//! means its own request. The unary calls of other clients are not touched.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_proto::v1::PipelineItem;
use quorate_proto::v1::pipeline_item::Body;
use quorate_replica::PeerMessage;
use quorate_server::{Exchange, Fate, Links};
use quorate_types::{CheckMessage, Code, CrossMessage, Error, NodeId};

/// The faults of a [`Server`](crate::Server). Clones are the same.
///
/// Orders are carried out one after the other, a request each; requests after the last one go well.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    ordered: VecDeque<Order>,
    delay: Duration,
    requests: u64,
}

#[derive(Clone, Debug)]
enum Order {
    LoseRequest,
    LoseAnswer,
    Refuse(Error),
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, count: usize, order: &Order) {
        self.lock().ordered.extend(std::iter::repeat_n(order.clone(), count));
    }

    /// The next requests take effect, and their answers are lost.
    pub fn lose_answers(&self, count: usize) {
        self.order(count, &Order::LoseAnswer);
    }

    /// The next requests are lost before anybody looks at them. A caller cannot tell this from a lost
    /// answer.
    pub fn lose_requests(&self, count: usize) {
        self.order(count, &Order::LoseRequest);
    }

    /// The next requests are refused with this code, and not looked at.
    pub fn refuse(&self, count: usize, code: Code) {
        self.refuse_with(count, Error::new(code, "ordered by the test"));
    }

    /// The next requests are refused with this error.
    pub fn refuse_with(&self, count: usize, error: Error) {
        self.order(count, &Order::Refuse(error));
    }

    /// The next requests are refused with `NOT_LEADER`, as by a node whose group is just electing.
    pub fn no_leader(&self, count: usize) {
        self.refuse(count, Code::NotLeader);
    }

    /// From now on every request takes this much longer; [`Duration::ZERO`] ends it.
    pub fn slow(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Forgets every order, and is not slow any more.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.ordered.clear();
        state.delay = Duration::ZERO;
    }

    /// Orders that no request has met yet.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.lock().ordered.len()
    }

    /// How many requests arrived since the start, those that met a fault included.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }
}

const AT_ONCE: Duration = Duration::ZERO;

impl Links for Faults {
    fn peer_message(&self, _peer: NodeId, _message: &PeerMessage) -> Fate {
        vec![AT_ONCE]
    }

    fn cross_message(&self, _peer: NodeId, _message: &CrossMessage) -> Fate {
        vec![AT_ONCE]
    }

    fn check_message(&self, _peer: NodeId, _message: &CheckMessage) -> Fate {
        vec![AT_ONCE]
    }

    fn snapshot_piece(&self, _peer: NodeId) -> Fate {
        vec![AT_ONCE]
    }

    fn client_request(&self) -> Fate {
        vec![AT_ONCE]
    }

    fn client_answer(&self) -> Fate {
        vec![AT_ONCE]
    }

    fn client_exchange(&self, item: &PipelineItem) -> Option<Exchange> {
        if let Some(Body::OpenSession(_) | Body::CloseSession(_)) = item.body {
            return None;
        }
        let mut state = self.lock();
        state.requests += 1;
        let (order, delay) = (state.ordered.pop_front(), state.delay);
        let mut exchange = Exchange { refusal: None, request: vec![delay], answer: vec![AT_ONCE] };
        match order {
            None => {}
            Some(Order::LoseRequest) => exchange.request = Vec::new(),
            Some(Order::LoseAnswer) => exchange.answer = Vec::new(),
            Some(Order::Refuse(error)) => exchange.refusal = Some(error),
        }
        Some(exchange)
    }
}
