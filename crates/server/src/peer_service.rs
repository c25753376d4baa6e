//! What peers send: checked against the stream it came on, then handed to the shard. The room before is
//! the `peer_network.rs` of the other node, the room after is `replica::Shard`.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use quorate_proto::convert::error::status_from_error;
use quorate_proto::convert::members::kind_from_wire;
use quorate_proto::convert::{
    Envelope, Hello, SnapshotAsk, check_from_wire, cross_from_wire, folders_from_wire,
    membership_from_wire,
};
use quorate_proto::v1;
use quorate_replica::PeerMessage;
use quorate_types::{
    CheckMessage, Code, CrossMessage, Error, GroupId, NodeId, PeerFolder, ReplicaId, Who,
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};

use crate::access::Caller;
use crate::context::NodeContext;
use crate::far_links::OnLink;
use crate::links::OnTheirWay;
use crate::peer_network::{folder_of, not_believed};
use crate::snapshots::{self, Pieces};

pub(crate) struct PeerService {
    context: Arc<NodeContext>,
}

impl PeerService {
    pub(crate) fn new(context: Arc<NodeContext>) -> PeerService {
        PeerService { context }
    }
}

impl PeerService {
    /// Takes a peer in, or refuses it.
    async fn greet(&self, caller: &Caller, hello: &Hello) -> Result<(), Status> {
        let greeted = match self.context.check_caller(caller, hello) {
            Ok(()) => self.context.check_hello(hello, None).await,
            Err(error) => Err(error),
        };
        greeted.map_err(|error| {
            warn!(peer = %hello.node, %error, "peer refused");
            status_from_error(&error)
        })
    }
}

type Frames = Pin<Box<dyn Stream<Item = Result<v1::PeerFrame, Status>> + Send>>;

#[tonic::async_trait]
impl v1::peer_server::Peer for PeerService {
    type StreamStream = Frames;
    type SnapshotStream = Pieces;

    async fn snapshot(
        &self,
        request: Request<v1::SnapshotRequest>,
    ) -> Result<Response<Pieces>, Status> {
        let caller = Caller::of(&request);
        let ask = SnapshotAsk::from_wire(request.into_inner())
            .map_err(|error| status_from_error(&Error::from(error)))?;
        self.greet(&caller, &ask.hello).await?;
        let pieces = snapshots::serve(&self.context, ask).await;
        let pieces = pieces.map_err(|error| status_from_error(&error))?;
        Ok(Response::new(pieces))
    }

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::JoinRequest { hello, group, replica, kind } = request.into_inner();
        let hello = hello.ok_or_else(|| Status::invalid_argument("hello is missing"))?;
        let hello =
            Hello::from_wire(&hello).map_err(|error| status_from_error(&Error::from(error)))?;
        self.greet(&caller, &hello).await?;
        let (group, replica) = (GroupId(group), ReplicaId(replica));
        let kind = kind_from_wire(kind).map_err(|error| status_from_error(&Error::from(error)))?;
        let joined = if replica.node() == hello.node {
            self.context.shard.join(group, replica, kind).await
        } else {
            let message = format!("{} asks for {replica}", hello.node);
            Err(Error::new(Code::InvalidRequest, message))
        };
        let joined = joined.map_err(|error| self.context.with_leader_address(error));
        joined.map_err(|error| status_from_error(&error))?;
        Ok(Response::new(v1::JoinResponse {}))
    }

    async fn is_sure_of(
        &self,
        request: Request<v1::IsSureOfRequest>,
    ) -> Result<Response<v1::IsSureOfResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::IsSureOfRequest { hello, membership } = request.into_inner();
        let hello = hello.ok_or_else(|| Status::invalid_argument("hello is missing"))?;
        let hello =
            Hello::from_wire(&hello).map_err(|error| status_from_error(&Error::from(error)))?;
        self.greet(&caller, &hello).await?;
        let membership =
            membership.ok_or_else(|| Status::invalid_argument("membership is missing"))?;
        let (group, at) = membership_from_wire(membership)
            .map_err(|error| status_from_error(&Error::from(error)))?;
        let is_sure = self.context.shard.is_sure_of(group, at).await;
        let is_sure = is_sure.map_err(|error| status_from_error(&error))?;
        Ok(Response::new(v1::IsSureOfResponse { is_sure }))
    }

    async fn stream(
        &self,
        request: Request<Streaming<v1::PeerFrame>>,
    ) -> Result<Response<Frames>, Status> {
        let caller = Caller::of(&request);
        let mut frames = request.into_inner();
        let hello = match frames.message().await? {
            Some(v1::PeerFrame { hello: Some(hello), .. }) => {
                Hello::from_wire(&hello).map_err(Error::from)
            }
            Some(_) | None => {
                Err(Error::new(Code::InvalidRequest, "a peer stream starts with a greeting"))
            }
        }
        .map_err(|error| status_from_error(&error))?;
        let (peer, folder) = (hello.node, folder_of(&hello));
        self.greet(&caller, &hello).await?;
        debug!(%peer, "peer connected");
        let (send, receive) = mpsc::channel(1);
        let greeting =
            v1::PeerFrame { hello: Some(self.context.hello(peer).to_wire()), ..Default::default() };
        let _room = send.try_send(Ok(greeting)).is_ok(); // The channel is empty and has room for one.
        let context = Arc::clone(&self.context);
        let frames: Frames = match &context.far_links {
            None => Box::pin(frames),
            Some(links) => {
                let (from, to) = (links.node(peer), links.node(context.node));
                Box::pin(OnLink::new(frames, Arc::clone(links), from, to))
            }
        };
        tokio::spawn(async move {
            let read = tokio::select! {
                biased;
                () = context.stopped() => Ok(()),
                read = read(&context, peer, folder, frames) => read,
            };
            if let Err(error) = read {
                warn!(%peer, %error, "peer stream closed");
                let _gone = send.send(Err(status_from_error(&error))).await.is_err();
            }
            // Dropping `send` ends the answer stream, which tells the peer.
        });
        let answers = futures::stream::unfold(receive, |mut receive| async move {
            receive.recv().await.map(|frame| (frame, receive))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

impl NodeContext {
    /// Refuses who greets as a node that its certificate is not of.
    fn check_caller(&self, caller: &Caller, hello: &Hello) -> Result<(), Error> {
        let Some(access) = &self.access else { return Ok(()) };
        let claimed = Who::Node(hello.node);
        match &caller.identity {
            Some(identity) if identity.who == claimed => Ok(()),
            Some(_) | None => {
                let message = format!("{} greets as {claimed}", caller.name());
                let error = Error::new(Code::Unauthenticated, message);
                access.audit.refused(self.clock.now(), caller, "greet", &error);
                Err(error)
            }
        }
    }
}

/// Reads frames until the peer leaves. Over the shard's budget frames are dropped: the protocol says
/// again what they said.
async fn read(
    context: &Arc<NodeContext>,
    peer: NodeId,
    folder: PeerFolder,
    mut frames: Frames,
) -> Result<(), Error> {
    let mut late = OnTheirWay::default();
    loop {
        let frame = tokio::select! {
            biased;
            () = late.next() => {
                hand_in(context, peer, late.arrived())?;
                continue;
            }
            frame = frames.next() => frame,
        };
        let frame = match frame {
            Some(Ok(frame)) => frame,
            None => break,
            Some(Err(status)) => {
                debug!(%peer, %status, "peer stream broke");
                break;
            }
        };
        if !frame.folders.is_empty() {
            let told = folders_from_wire(&frame.folders).map_err(Error::from)?;
            context.shard.hear_folders(context.told(&told))?;
        }
        // Somebody may have told of another folder since the peer was believed.
        let known = context.folders.borrow().get(&peer).copied();
        if let Some(known) = known.filter(|known| *known != folder) {
            return Err(not_believed(peer, folder, known));
        }
        let mut messages = Vec::with_capacity(frame.messages.len() + frame.cross.len());
        for message in frame.messages {
            messages.push(Arriving::Peer(checked(context, peer, message)?));
        }
        for membership in frame.memberships {
            let (group, at) = membership_from_wire(membership).map_err(Error::from)?;
            context.hear_members(peer, group, at)?;
        }
        for message in frame.cross {
            messages.extend(checked_cross(context, peer, message).map(Arriving::Cross));
        }
        for message in frame.checks {
            messages.push(Arriving::Check(checked_check(context, peer, message)?));
        }
        if let Some(links) = &context.links {
            for message in messages {
                let fate = match &message {
                    Arriving::Peer(message) => links.peer_message(peer, message),
                    Arriving::Cross(message) => links.cross_message(peer, message),
                    Arriving::Check(message) => links.check_message(peer, message),
                };
                late.send(fate, &message);
            }
            messages = late.arrived();
        }
        hand_in(context, peer, messages)?;
    }
    // What is late outlives the stream, and its sender.
    while !late.is_empty() {
        late.next().await;
        hand_in(context, peer, late.arrived())?;
    }
    Ok(())
}

/// A message that was checked.
#[derive(Clone)]
enum Arriving {
    Peer(PeerMessage),
    Cross(CrossMessage),
    Check(CheckMessage),
}

/// Gives messages to the shard, if it has room for them.
fn hand_in(context: &NodeContext, peer: NodeId, arrived: Vec<Arriving>) -> Result<(), Error> {
    let (mut messages, mut cross) = (Vec::with_capacity(arrived.len()), Vec::new());
    let (mut bytes, mut cross_bytes) = (0, 0);
    let (mut checks, mut check_bytes) = (Vec::new(), 0);
    for message in arrived {
        match message {
            Arriving::Peer(message) => {
                bytes += message.message.size();
                messages.push(message);
            }
            Arriving::Cross(message) => {
                cross_bytes += message.size();
                cross.push(message);
            }
            Arriving::Check(message) => {
                check_bytes += message.size();
                checks.push(message);
            }
        }
    }
    if !checks.is_empty() {
        match context.shard.peer_permit(check_bytes) {
            Some(permit) => context.shard.checks(checks, permit)?,
            None => debug!(%peer, bytes = check_bytes, "messages dropped, the shard is behind"),
        }
    }
    if !messages.is_empty() {
        match context.shard.peer_permit(bytes) {
            Some(permit) => context.shard.peer(messages, permit)?,
            None => debug!(%peer, bytes, "peer frame dropped, the shard is behind"),
        }
    }
    if !cross.is_empty() {
        match context.shard.peer_permit(cross_bytes) {
            Some(permit) => context.shard.cross(peer, cross, permit)?,
            None => debug!(%peer, bytes = cross_bytes, "messages dropped, the shard is behind"),
        }
    }
    Ok(())
}

/// A message between groups that its node may send and that is for us. Another is dropped: nodes may have
/// different cluster files for a while, and the groups they share must go on.
fn checked_cross(
    context: &NodeContext,
    peer: NodeId,
    message: v1::CrossMessage,
) -> Option<CrossMessage> {
    let message = match cross_from_wire(message) {
        Ok(message) => message,
        Err(error) => {
            warn!(%peer, %error, "a message between groups cannot be read");
            return None;
        }
    };
    let directory = &context.directory;
    if !directory.has(message.from, peer) || !directory.has(message.to, context.node) {
        warn!(%peer, from = %message.from, to = %message.to, "a message between groups is not for us");
        return None;
    }
    Some(message)
}

/// A message about a check that its node may send and that is for us.
fn checked_check(
    context: &NodeContext,
    peer: NodeId,
    message: v1::CheckMessage,
) -> Result<CheckMessage, Error> {
    let message = check_from_wire(message).map_err(Error::from)?;
    if message.from.node() != peer || message.to.node() != context.node {
        let message = format!("{peer} sent a message from {} to {}", message.from, message.to);
        return Err(Error::new(Code::InvalidRequest, message));
    }
    Ok(message)
}

/// A message that its node may send and that is for us.
fn checked(
    context: &NodeContext,
    peer: NodeId,
    message: v1::PeerMessage,
) -> Result<PeerMessage, Error> {
    let Envelope { group, from, to, history, message } =
        Envelope::from_wire(message).map_err(Error::from)?;
    if from.node() != peer || to.node() != context.node {
        let message = format!("{peer} sent a message from {from} to {to}");
        return Err(Error::new(Code::InvalidRequest, message));
    }
    Ok(PeerMessage { group, from, to, history, message })
}
