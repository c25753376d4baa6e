//! Distances and cuts between the places of a cluster of real processes, for demos and tests. Without
//! `--allow-faults` nothing of it exists in a node.
//!
//! The filter stands at the receiver, as that of the simulation does (`links.rs`), but takes the frames of
//! a stream in their order, as a network does: nothing is doubled or overtaken, a frame that is late
//! outlives its sender, and one that a cut link is given is lost. Connections are not filtered: a node
//! that is cut off still looks connected. Requests of clients and their answers pass it in the node that is
//! asked, under the place that the client says it is in.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use quorate_topology::Topology;
use quorate_types::{Code, Error, Link, NodeId};
use tokio::time::{Instant, Sleep};
use tonic::Status;

/// Bytes of one stream that are on their way; beyond it nothing is taken from the connection, so that the
/// sender is slowed down.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What is done to the links of a node, as long as it runs.
#[derive(Debug)]
pub struct FarLinks {
    topology: Arc<Topology>,
    links: RwLock<Arc<[Link]>>,
}

/// The names that a link may call an end by: a node, its IDC and its city, or what a client is near to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct End(Vec<String>);

/// What is done to the frames of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Way {
    delay: Duration,
    is_cut: bool,
}

impl FarLinks {
    /// Links of the places of a cluster file.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if a link names a place that is not in it.
    pub fn new(topology: Arc<Topology>, links: Vec<Link>) -> Result<FarLinks, Error> {
        let far = FarLinks { topology, links: RwLock::new(Arc::from([])) };
        far.set(links)?;
        Ok(far)
    }

    /// Replaces all links, for streams that are open too. What is on its way arrives as it would have.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if one names a place that is not in the cluster file.
    pub fn set(&self, links: Vec<Link>) -> Result<(), Error> {
        for place in links.iter().flat_map(|link| [&link.from, &link.to]) {
            if !self.has_place(place) {
                let message = format!("the cluster file has no city, IDC or node {place:?}");
                return Err(Error::new(Code::InvalidRequest, message).with("place", place));
            }
        }
        *self.links.write().unwrap_or_else(PoisonError::into_inner) = links.into();
        Ok(())
    }

    /// All links, in the order in which they were set.
    #[must_use]
    pub fn links(&self) -> Arc<[Link]> {
        Arc::clone(&self.links.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn has_place(&self, name: &str) -> bool {
        self.topology.cities().iter().any(|city| city.name == name)
            || self.topology.idcs().iter().any(|idc| idc.name == name)
            || self.topology.node_by_name(name).is_some()
    }

    /// The end of a link that is a node.
    pub(crate) fn node(&self, node: NodeId) -> End {
        let Some(node) = self.topology.node(node) else { return End::default() };
        End(vec![node.name.clone(), node.idc.clone(), node.city.clone()])
    }

    /// The end of a link that is a client near a place; no link is that of one that says nothing.
    pub(crate) fn client(&self, near: Option<&str>) -> End {
        let Some(near) = near else { return End::default() };
        let idc = self.topology.idcs().iter().find(|idc| idc.name == near);
        let city = idc.map(|idc| idc.city.clone());
        End([near.to_owned()].into_iter().chain(city).collect())
    }

    fn way(&self, from: &End, to: &End) -> Way {
        let mut way = Way::default();
        for link in self.links().iter() {
            if from.0.contains(&link.from) && to.0.contains(&link.to) {
                way.delay = way.delay.max(link.delay);
                way.is_cut |= link.cut;
            }
        }
        way
    }
}

/// Frames of one stream, each as late as its link has it, in their order.
pub(crate) struct OnLink<S, T> {
    inner: S,
    links: Arc<FarLinks>,
    from: End,
    to: End,
    /// With the moment at which each arrives, and its size. Moments ascend.
    held: VecDeque<(Instant, usize, Result<T, Status>)>,
    held_bytes: usize,
    latest: Instant,
    has_ended: bool,
    wake: Pin<Box<Sleep>>,
}

impl<S, T> OnLink<S, T> {
    /// What comes out of `inner` takes the way from one end to the other.
    pub(crate) fn new(inner: S, links: Arc<FarLinks>, from: End, to: End) -> OnLink<S, T> {
        OnLink {
            inner,
            links,
            from,
            to,
            held: VecDeque::new(),
            held_bytes: 0,
            latest: Instant::now(),
            has_ended: false,
            wake: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }
}

impl<S, T> OnLink<S, T>
where
    S: Stream<Item = Result<T, Status>> + Unpin,
    T: prost::Message,
{
    /// Takes what the connection has, as far as there is room.
    fn take_in(&mut self, context: &mut Context<'_>) {
        while !self.has_ended && self.held_bytes < HELD_BYTES_MAX {
            match Pin::new(&mut self.inner).poll_next(context) {
                Poll::Pending => return,
                Poll::Ready(None) => self.has_ended = true,
                Poll::Ready(Some(frame)) => {
                    let way = self.links.way(&self.from, &self.to);
                    // The end of a connection is no frame: both sides learn of it.
                    if way.is_cut && frame.is_ok() {
                        continue;
                    }
                    let size = frame.as_ref().map_or(0, prost::Message::encoded_len);
                    self.latest = self.latest.max(Instant::now() + way.delay);
                    self.held_bytes += size;
                    self.held.push_back((self.latest, size, frame));
                }
            }
        }
    }
}

impl<S, T> Stream for OnLink<S, T>
where
    S: Stream<Item = Result<T, Status>> + Unpin,
    T: prost::Message + Unpin,
{
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            this.take_in(context);
            let Some((at, ..)) = this.held.front() else {
                return if this.has_ended { Poll::Ready(None) } else { Poll::Pending };
            };
            if *at <= Instant::now() {
                let Some((_, size, frame)) = this.held.pop_front() else { return Poll::Pending };
                this.held_bytes -= size;
                return Poll::Ready(Some(frame));
            }
            this.wake.as_mut().reset(*at);
            if this.wake.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
#[path = "far_links_test.rs"]
mod tests;
