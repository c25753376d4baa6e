//! The way to the peers: one queue and one stream per node, on connections of their own. The room before
//! is `replica::Shard`, the room after is the `peer_service.rs` of the other node.
//!
//! A queue is bounded in bytes. Over its bound the oldest messages go: whatever they said, the protocol
//! says again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use quorate_paxos::MembershipAt;
use quorate_proto::convert::error::error_from_status;
use quorate_proto::convert::{
    Envelope, Hello, check_to_wire, cross_to_wire, folders_to_wire, membership_to_wire,
};
use quorate_proto::v1;
use quorate_replica::{Network, PeerFolders, PeerMessage, RefillDone, Wanted};
use quorate_store::Store;
use quorate_types::{
    CheckMessage, Code, CrossMessage, Error, FolderState, GroupId, NodeId, PeerFolder, limits,
};
use tokio::sync::{Notify, mpsc};
use tonic::transport::{Channel, Endpoint};
use tracing::{debug, info, warn};

use crate::context::NodeContext;
use crate::directory::Directory;
use crate::refill;

/// Wait before another try to reach a peer; doubled up to the greatest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// How long reaching a peer may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A peer that answers no ping this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Frames handed to the stream ahead of what the socket takes.
const FRAMES_AHEAD: usize = 4;

/// What a membership takes in a queue, at most.
const MEMBERSHIP_BYTES: usize = 256;

/// The queues to all peers.
pub(crate) struct PeerNetwork {
    directory: Arc<Directory>,
    queues: BTreeMap<NodeId, Arc<Queue>>,
    /// The node, once it runs. It does not keep it.
    context: OnceLock<Weak<NodeContext>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    filled: Notify,
}

#[derive(Default)]
struct QueueState {
    messages: VecDeque<Outgoing>,
    bytes: usize,
    dropped: u64,
    /// Frames sent since the start.
    frames: u64,
    /// Nothing is queued for a peer that no stream leads to.
    connected: bool,
}

/// A message for a peer.
enum Outgoing {
    /// From one replica of a group to another.
    Peer(PeerMessage),
    /// From the leader of one group to that of another.
    Cross(CrossMessage),
    /// About a check of rows.
    Check(CheckMessage),
    /// Who takes part in a group.
    Membership(GroupId, MembershipAt),
}

impl Outgoing {
    fn size(&self) -> usize {
        match self {
            Outgoing::Peer(message) => message.message.size(),
            Outgoing::Cross(message) => message.size(),
            Outgoing::Check(message) => message.size(),
            Outgoing::Membership(..) => MEMBERSHIP_BYTES,
        }
    }
}

/// What was done for a peer since the start.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(madsim, expect(dead_code, reason = "metrics are served by real processes only"))]
pub(crate) struct PeerCounters {
    /// Frames sent.
    pub(crate) frames: u64,
    /// Messages dropped because the queue was full.
    pub(crate) dropped: u64,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_connected(&self, connected: bool) {
        let mut state = self.lock();
        let (dropped, frames) = (state.dropped, state.frames);
        *state = QueueState { connected, dropped, frames, ..QueueState::default() };
    }

    /// Queues messages, if a stream leads to the peer. Over the bound the oldest go.
    fn add(&self, messages: impl Iterator<Item = Outgoing>) {
        let mut state = self.lock();
        if !state.connected {
            return;
        }
        for message in messages {
            state.bytes += message.size();
            state.messages.push_back(message);
        }
        while limits::PEER_QUEUE_BYTES_MAX < state.bytes
            && let Some(oldest) = state.messages.pop_front()
        {
            state.bytes -= oldest.size();
            state.dropped += 1;
        }
        drop(state);
        self.filled.notify_one();
    }

    /// What fits one frame.
    fn drain_frame(&self) -> Vec<Outgoing> {
        let mut state = self.lock();
        let mut frame = Vec::new();
        let mut bytes = 0;
        while let Some(message) = state.messages.front() {
            let size = message.size();
            if !frame.is_empty() && limits::WIRE_FRAME_BYTES_MAX < bytes + size {
                break;
            }
            bytes += size;
            frame.extend(state.messages.pop_front());
        }
        state.bytes -= bytes;
        state.frames += u64::from(!frame.is_empty());
        frame
    }
}

impl PeerNetwork {
    /// Queues to these nodes.
    pub(crate) fn new(
        directory: Arc<Directory>,
        peers: impl Iterator<Item = NodeId>,
    ) -> PeerNetwork {
        let queues = peers.map(|node| (node, Arc::default())).collect();
        PeerNetwork { directory, queues, context: OnceLock::new() }
    }

    /// Starts to keep a stream to every peer.
    pub(crate) fn connect(&self, context: &Arc<NodeContext>) {
        let _once = self.context.set(Arc::downgrade(context)).is_ok(); // A node runs once.
        for (node, queue) in &self.queues {
            let (context, node, queue) = (Arc::clone(context), *node, Arc::clone(queue));
            tokio::spawn(async move {
                tokio::select! {
                    biased;
                    () = context.stopped() => {}
                    () = keep_stream(&context, node, &queue) => {}
                }
            });
        }
    }

    /// What was done for each peer since the start.
    #[cfg_attr(madsim, expect(dead_code, reason = "metrics are served by real processes only"))]
    pub(crate) fn counters(&self) -> impl Iterator<Item = (NodeId, PeerCounters)> + '_ {
        self.queues.iter().map(|(node, queue)| {
            let state = queue.lock();
            (*node, PeerCounters { frames: state.frames, dropped: state.dropped })
        })
    }
}

impl PeerNetwork {
    fn queue(&self, to: NodeId, messages: impl Iterator<Item = Outgoing>) {
        // Only nodes of the cluster are sent to, and all of them have queues.
        if let Some(queue) = self.queues.get(&to) {
            queue.add(messages);
        }
    }
}

impl Network for PeerNetwork {
    fn send(&self, to: NodeId, messages: Vec<PeerMessage>) {
        self.queue(to, messages.into_iter().map(Outgoing::Peer));
    }

    fn send_cross(&self, to: NodeId, messages: Vec<CrossMessage>) {
        self.queue(to, messages.into_iter().map(Outgoing::Cross));
    }

    fn membership(&self, group: GroupId, at: &MembershipAt) {
        if !self.directory.hear(group, at) {
            return;
        }
        for node in self.queues.keys() {
            self.queue(*node, [Outgoing::Membership(group, at.clone())].into_iter());
        }
    }

    fn tell_membership(&self, to: NodeId, group: GroupId, at: &MembershipAt) {
        self.queue(to, [Outgoing::Membership(group, at.clone())].into_iter());
    }

    fn send_checks(&self, to: NodeId, messages: Vec<CheckMessage>) {
        self.queue(to, messages.into_iter().map(Outgoing::Check));
    }

    fn withdraw(&self, group: GroupId) {
        if let Some(context) = self.context.get().and_then(Weak::upgrade) {
            context.snapshots.withdraw(group);
        }
    }

    fn refill(&self, wanted: Wanted, store: Arc<Store>, done: RefillDone) {
        let Some(context) = self.context.get().and_then(Weak::upgrade) else {
            return; // The node has not begun to run, or has stopped.
        };
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = context.stopped() => {}
                outcome = refill::refill(&context, &store, &wanted) => done(outcome),
            }
        });
    }
}

/// Reaches the peer again and again, with growing waits.
async fn keep_stream(context: &Arc<NodeContext>, node: NodeId, queue: &Queue) {
    let mut wait = RETRY_FIRST;
    loop {
        match stream(context, node, queue).await {
            Ok(()) => wait = RETRY_FIRST,
            Err(error) if error.code == Code::Unreachable => {
                debug!(peer = %node, %error, "peer not reached");
            }
            Err(error) => warn!(peer = %node, %error, "peer refused"),
        }
        queue.set_connected(false);
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

/// One stream, from greeting to end. `Ok` if the peer was reached.
async fn stream(context: &Arc<NodeContext>, node: NodeId, queue: &Queue) -> Result<(), Error> {
    let unreachable = |error: String| unreachable_peer(context, node, &error);
    let channel = dial(context, node).await?;

    let (send, receive) = mpsc::channel(FRAMES_AHEAD);
    let mut folders = context.shard.folders();
    folders.mark_unchanged(); // The greeting has them.
    let hello =
        v1::PeerFrame { hello: Some(context.hello(node).to_wire()), ..v1::PeerFrame::default() };
    send.send(hello).await.map_err(|_closed| unreachable("the stream closed".to_owned()))?;
    let frames = futures::stream::unfold(receive, |mut receive| async move {
        receive.recv().await.map(|frame| (frame, receive))
    });
    let mut client = v1::peer_client::PeerClient::new(channel);
    let opened = tokio::time::timeout(CONNECT_TIMEOUT, client.stream(frames))
        .await
        .map_err(|_elapsed| unreachable("no greeting".to_owned()))?;
    let opened = opened.map_err(|status| refused(&status, &unreachable));
    if let Err(error) = &opened
        && error.code == Code::IncarnationMismatch
    {
        context.be_reborn(node).await?; // The peer knew an older disk of ours.
    }
    let mut answers = opened?.into_inner();
    greet(context, node, answers.next().await, &unreachable).await?;
    info!(peer = %node, "peer reached");
    queue.set_connected(true);
    queue.add(
        context.directory.all().into_iter().map(|(group, at)| Outgoing::Membership(group, at)),
    );
    loop {
        tokio::select! {
            biased;
            ended = answers.next() => {
                match ended {
                    Some(Err(status)) => debug!(peer = %node, %status, "peer stream ended"),
                    Some(Ok(_)) | None => debug!(peer = %node, "peer stream ended"),
                }
                return Ok(());
            }
            changed = folders.changed() => match changed {
                Ok(()) => folders.mark_changed(),
                Err(_ended) => return Ok(()), // The node stops.
            },
            () = queue.filled.notified() => {}
        }
        loop {
            let messages = queue.drain_frame();
            // Looked at after the messages were taken: they may have come about with a peer that is known since.
            let has_news = folders.has_changed().unwrap_or(false);
            if messages.is_empty() && !has_news {
                break;
            }
            let mut frame = v1::PeerFrame::default();
            if has_news {
                frame.folders = folders_to_wire(&folders.borrow_and_update());
            }
            for message in messages {
                match message {
                    Outgoing::Peer(message) => frame.messages.push(envelope(message).into_wire()),
                    Outgoing::Cross(message) => frame.cross.push(cross_to_wire(message)),
                    Outgoing::Check(message) => frame.checks.push(check_to_wire(message)),
                    Outgoing::Membership(group, at) => {
                        frame.memberships.push(membership_to_wire(group, &at));
                    }
                }
            }
            if send.send(frame).await.is_err() {
                return Ok(()); // The stream ended.
            }
        }
    }
}

/// A connection to a peer.
pub(crate) async fn dial(context: &NodeContext, node: NodeId) -> Result<Channel, Error> {
    let unreachable = |error: String| unreachable_peer(context, node, &error);
    let entry = context.topology.node(node);
    let peer = entry.ok_or_else(|| unreachable("no such node".to_owned()))?.peer.clone();
    let endpoint = Endpoint::from_shared(format!("http://{peer}"))
        .map_err(|error| unreachable(error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(4 * 1024 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024)
        .http2_keep_alive_interval(KEEP_ALIVE / 2)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    tokio::time::timeout(CONNECT_TIMEOUT, connect(context, node, &endpoint))
        .await
        .map_err(|_elapsed| unreachable("no answer".to_owned()))?
        .map_err(|error| coded(&error).unwrap_or_else(|| unreachable(error.to_string())))
}

/// The error of a peer that was not reached, or not any more.
pub(crate) fn unreachable_peer(context: &NodeContext, node: NodeId, error: &str) -> Error {
    let at = context.topology.node(node).map_or("no address", |entry| &entry.peer);
    Error::new(Code::Unreachable, format!("{node} at {at}: {error}"))
}

/// Reaches the peer, which must have the certificate of that node if we have one.
#[cfg(not(madsim))]
async fn connect(
    context: &NodeContext,
    node: NodeId,
    endpoint: &Endpoint,
) -> Result<Channel, tonic::transport::Error> {
    match &context.tls {
        Some(tls) => {
            let expected = quorate_tls::Expected::Node(node);
            let dial = quorate_tls::Dial::new(tls.clone(), expected);
            endpoint.connect_with_connector(dial).await
        }
        None => endpoint.connect().await,
    }
}

#[cfg(madsim)]
async fn connect(
    _context: &NodeContext,
    _node: NodeId,
    endpoint: &Endpoint,
) -> Result<Channel, tonic::transport::Error> {
    endpoint.connect().await
}

/// The error of ours that a transport carries, if it does.
fn coded(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(coded) = error.downcast_ref::<Error>() {
            return Some(coded.clone());
        }
        at = error.source();
    }
    None
}

fn refused(status: &tonic::Status, unreachable: &impl Fn(String) -> Error) -> Error {
    error_from_status(status).unwrap_or_else(|| unreachable(status.to_string()))
}

/// Checks the peer's own greeting: it must be the node we meant, with the data folder we know.
async fn greet(
    context: &NodeContext,
    node: NodeId,
    answer: Option<Result<v1::PeerFrame, tonic::Status>>,
    unreachable: &impl Fn(String) -> Error,
) -> Result<(), Error> {
    let frame = match answer {
        Some(Ok(frame)) => frame,
        Some(Err(status)) => return Err(refused(&status, unreachable)),
        None => return Err(unreachable("the stream closed before the greeting".to_owned())),
    };
    let hello = frame.hello.ok_or_else(|| unreachable("no greeting".to_owned()))?;
    let hello = Hello::from_wire(&hello).map_err(Error::from)?;
    context.check_hello(&hello, Some(node)).await
}

fn envelope(message: PeerMessage) -> Envelope {
    let PeerMessage { group, from, to, history, message } = message;
    Envelope { group, from, to, history, message }
}

/// The data folder that a peer greets with.
pub(crate) fn folder_of(hello: &Hello) -> PeerFolder {
    let state = if hello.reborn { FolderState::Reborn } else { FolderState::First };
    PeerFolder { incarnation: hello.incarnation, state }
}

/// The refusal of a peer with another data folder than the one that counts under its name.
pub(crate) fn not_believed(node: NodeId, comes: PeerFolder, known: PeerFolder) -> Error {
    let (theirs, ours) = (comes.incarnation, known.incarnation);
    let message = match known.state {
        FolderState::Disputed => {
            format!("{node} comes with data folder {theirs}, and was met with another one before")
        }
        FolderState::First | FolderState::Reborn => {
            format!("{node} comes with data folder {theirs}, known is {ours}")
        }
    };
    Error::new(Code::IncarnationMismatch, message)
}

impl NodeContext {
    /// What a peer tells of data folders, of nodes of this cluster only.
    pub(crate) fn told(&self, folders: &BTreeMap<NodeId, PeerFolder>) -> PeerFolders {
        let known = folders.iter().filter(|(node, _)| self.topology.node(**node).is_some());
        PeerFolders::new(known.map(|(node, folder)| (*node, *folder)).collect())
    }

    /// Refuses a peer of another cluster, another version, or with another data folder than the one
    /// first met under its name, here or by anybody who told us: an emptied node must not vote under its old
    /// name (trap 16).
    pub(crate) async fn check_hello(
        &self,
        hello: &Hello,
        expected: Option<NodeId>,
    ) -> Result<(), Error> {
        let ours = self.hello(hello.node);
        if hello.cluster != ours.cluster {
            let message = format!(
                "{} belongs to cluster {}, this node to {}",
                hello.node, hello.cluster, ours.cluster
            );
            return Err(Error::new(Code::ClusterMismatch, message));
        }
        if hello.protocol_version != ours.protocol_version {
            let (theirs, ours) = (hello.protocol_version, ours.protocol_version);
            let message = format!("{} speaks peer protocol {theirs}, this node {ours}", hello.node);
            return Err(Error::new(Code::VersionMismatch, message));
        }
        let known = self.topology.node(hello.node).is_some() && hello.node != self.node;
        if !known || hello.to_node != self.node || expected.is_some_and(|node| node != hello.node) {
            let message =
                format!("{} greets {}, this node is {}", hello.node, hello.to_node, self.node);
            return Err(Error::new(Code::NodeMismatch, message));
        }
        if hello.lease_ms != ours.lease_ms {
            let (theirs, ours) = (hello.lease_ms, ours.lease_ms);
            let message = format!(
                "{} counts with a lease of {theirs} ms, this node of {ours} ms: their cluster files differ",
                hello.node
            );
            return Err(Error::new(Code::ConfigInvalid, message));
        }
        let comes = folder_of(hello);
        let known = self.shard.meet(hello.node, comes, self.told(&hello.folders)).await?;
        if known != comes {
            return Err(not_believed(hello.node, comes, known));
        }
        if hello.topology_version != ours.topology_version {
            let (theirs, ours) = (hello.topology_version, ours.topology_version);
            warn!(peer = %hello.node, theirs, ours, "peer routes by another version of the cluster file");
        }
        Ok(())
    }
}
