//! The way into a shard, for services and peer streams. What a shard may hold is bounded here: a request
//! that does not fit is refused, a peer's message that does not is dropped and said again.

use std::time::Duration;

use quorate_paxos::{ChangeRequest, History, MembershipAt};
use quorate_types::{
    Attempt, AttemptStatus, CheckMessage, CheckReport, Code, CrossMessage, Elsewhere, EntryId,
    Error, GroupId, LossEntry, NodeId, PeerFolder, ReplicaId, ReplicaKind, Request, RequestBody,
    Slot,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::budget::{ByteBudget, Permit};
use crate::cuts::Ready;
use crate::disk_health::DiskGauge;
use crate::event::{Departed, Event, Leaving, MembersStatus, Own, ReplyTo, ShardStatus};
use crate::force::{ForceOrder, Standing};
use crate::group::GroupOptions;
use crate::log_thread::Stop;
use crate::log_waits::LogWaits;
use crate::network::PeerMessage;
use crate::peer_folders::PeerFolders;
use crate::snapshot::SnapshotSource;

/// The way into a shard. Cheap to clone.
#[derive(Clone)]
pub struct ShardHandle {
    events: mpsc::UnboundedSender<Event>,
    requests: ByteBudget,
    peers: ByteBudget,
    /// Views at cuts, which are read without asking the shard.
    ready: Ready,
    /// The data folders of peers, each durable before it is seen here.
    folders: watch::Receiver<PeerFolders>,
    stop: Stop,
    gauge: DiskGauge,
}

impl ShardHandle {
    /// Over the mailbox of a shard, with the bytes it may hold of requests and of peers' messages.
    pub(crate) fn new(
        events: mpsc::UnboundedSender<Event>,
        [requests, peers]: [ByteBudget; 2],
        ready: Ready,
        folders: watch::Receiver<PeerFolders>,
        stop: Stop,
        gauge: DiskGauge,
    ) -> ShardHandle {
        ShardHandle { events, requests, peers, ready, folders, stop, gauge }
    }

    /// What writes of the log have taken since the start; asks nobody.
    #[must_use]
    pub fn log_waits(&self) -> LogWaits {
        self.gauge.waits()
    }

    /// Puts a request of `bytes` in. Refused here, and nowhere deeper, when the node holds too much.
    ///
    /// # Errors
    /// `OVERLOADED`; `SHUTTING_DOWN` if the shard has ended.
    pub fn request(
        &self,
        group: GroupId,
        request: Request,
        bytes: usize,
        answer: impl FnOnce(crate::event::Answer) + Send + 'static,
    ) -> Result<(), Error> {
        let mut reply = ReplyTo::new(Some(self.permit(bytes)?), answer);
        if let RequestBody::ReadCut(cut, range) = &request.body {
            match self.ready.read(group, *cut, range, reply) {
                Ok(read) => {
                    if let Some(read) = read {
                        read.run_off_task(self.stop.clone());
                    }
                    return Ok(());
                }
                Err(unused) => reply = unused,
            }
        }
        self.send(Event::Request { group, request, elsewhere: None, reply })
    }

    /// Puts a read in that this replica may answer whoever leads. The same limits.
    ///
    /// # Errors
    /// `OVERLOADED`; `SHUTTING_DOWN` if the shard has ended.
    pub fn read_elsewhere(
        &self,
        group: GroupId,
        request: Request,
        elsewhere: Elsewhere,
        bytes: usize,
        answer: impl FnOnce(crate::event::Answer) + Send + 'static,
    ) -> Result<(), Error> {
        let reply = ReplyTo::new(Some(self.permit(bytes)?), answer);
        self.send(Event::Request { group, request, elsewhere: Some(elsewhere), reply })
    }

    /// Room for a request of `bytes`.
    fn permit(&self, bytes: usize) -> Result<Permit, Error> {
        self.requests.take(bytes + REQUEST_OVERHEAD_BYTES).ok_or_else(|| {
            let (used, limit) = (self.requests.used(), self.requests.limit());
            let message = format!("the node holds {used} of at most {limit} bytes of requests");
            Error::new(Code::Overloaded, message).after(Duration::from_millis(20))
        })
    }

    /// Room for peer messages of `bytes`; `None` if the shard is behind, and then they are dropped:
    /// the protocol says them again.
    #[must_use]
    pub fn peer_permit(&self, bytes: usize) -> Option<Permit> {
        self.peers.take(bytes)
    }

    /// Puts messages between groups in that a peer sent.
    ///
    /// # Errors
    /// `SHUTTING_DOWN` if the shard has ended.
    pub fn cross(
        &self,
        from: NodeId,
        messages: Vec<CrossMessage>,
        permit: Permit,
    ) -> Result<(), Error> {
        self.send(Event::Cross { from, messages, permit: Some(permit) })
    }

    /// Puts messages of a peer in.
    ///
    /// # Errors
    /// `SHUTTING_DOWN` if the shard has ended.
    pub fn peer(&self, messages: Vec<PeerMessage>, permit: Permit) -> Result<(), Error> {
        self.send(Event::Peer { messages, permit })
    }

    /// Where everything stands.
    ///
    /// # Errors
    /// `SHUTTING_DOWN` if the shard has ended.
    pub async fn status(&self) -> Result<ShardStatus, Error> {
        let (send, receive) = oneshot::channel();
        self.send(Event::Status(send))?;
        receive.await.map_err(|_| ended())
    }

    /// Puts messages of a peer about checks in.
    ///
    /// # Errors
    /// `SHUTTING_DOWN` if the shard has ended.
    pub fn checks(&self, messages: Vec<CheckMessage>, permit: Permit) -> Result<(), Error> {
        self.send(Event::Checks { messages, permit })
    }

    /// Has the replicas of a group compare their rows; says after `wait` at most what was found.
    ///
    /// # Errors
    /// `NOT_LEADER` if this node does not lead it, `WRONG_NODE`, `OVERLOADED`, `DISK_FULL`,
    /// `DEADLINE_EXCEEDED` if the check was not even applied by then, `SHUTTING_DOWN`.
    pub async fn check(&self, group: GroupId, wait: Duration) -> Result<CheckReport, Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::Check { group, wait, reply })?;
        receive.await.map_err(|_| ended())?
    }

    /// What the groups that this node leads know of cross-unit transactions.
    ///
    /// # Errors
    /// `SHUTTING_DOWN` if the shard has ended.
    pub async fn attempts(&self) -> Result<Vec<AttemptStatus>, Error> {
        let (send, receive) = oneshot::channel();
        self.send(Event::Attempts(send))?;
        receive.await.map_err(|_| ended())
    }

    /// Makes the groups that this node leads ask at once about an attempt that they do not know the
    /// decision of. Says how many did.
    ///
    /// # Errors
    /// `SHUTTING_DOWN` if the shard has ended.
    pub async fn resolve(&self, attempt: Attempt) -> Result<u32, Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::Resolve { attempt, reply })?;
        receive.await.map_err(|_| ended())
    }

    /// Hands leadership of a group over.
    ///
    /// # Errors
    /// `NOT_LEADER` if this node does not lead it, `WRONG_NODE`, `INVALID_REQUEST`.
    pub async fn transfer_leader(&self, group: GroupId, to: Option<NodeId>) -> Result<(), Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::TransferLeader { group, to, reply })?;
        receive.await.map_err(|_| ended())?
    }

    /// The rows of a group as they are applied here, for the node that `asks` and needs them at `at_least` or
    /// later.
    ///
    /// # Errors
    /// `SNAPSHOT_UNAVAILABLE` if this replica cannot give them now, or knows no member on that node;
    /// `WRONG_NODE`, `SHUTTING_DOWN`.
    pub async fn snapshot(
        &self,
        group: GroupId,
        asks: NodeId,
        at_least: Slot,
    ) -> Result<SnapshotSource, Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::Snapshot { group, asks, at_least, reply })?;
        receive.await.map_err(|_| ended())?
    }

    /// Who takes part in a group.
    ///
    /// # Errors
    /// `NOT_LEADER` if this node does not lead it, `WRONG_NODE`, `SHUTTING_DOWN`.
    pub async fn members(&self, group: GroupId) -> Result<MembersStatus, Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::Members { group, reply })?;
        receive.await.map_err(|_| ended())?
    }

    /// Changes who takes part in a group; the entry that began it, once that is chosen.
    ///
    /// # Errors
    /// `NOT_LEADER`, `MEMBERS_CHANGED`, `MEMBER_NOT_READY`, `NO_QUORUM`, `INVALID_REQUEST`, `OVERLOADED`:
    /// nothing happened. `OUTCOME_UNKNOWN` if the leadership ended meanwhile. `SHUTTING_DOWN`.
    pub async fn change_members(
        &self,
        group: GroupId,
        request: ChangeRequest,
    ) -> Result<EntryId, Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::ChangeMembers { group, request, reply })?;
        receive.await.map_err(|_| ended())?
    }

    /// Takes a replica in that comes in the place of another one on the same node.
    ///
    /// # Errors
    /// As [`ShardHandle::change_members`].
    pub async fn join(
        &self,
        group: GroupId,
        replica: ReplicaId,
        kind: ReplicaKind,
    ) -> Result<(), Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::Join { group, replica, kind, reply })?;
        receive.await.map_err(|_| ended())?
    }

    /// Makes an empty replica of a group on this node, or names the one that is there and nobody has taken in yet. One
    /// that has left goes on under the id that is given.
    ///
    /// # Errors
    /// `MEMBER_EXISTS`, `SHUTTING_DOWN`; `INVALID_REQUEST` if the one that is there holds something else.
    pub async fn create(&self, options: GroupOptions) -> Result<ReplicaId, Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::Create { options: Box::new(options), reply })?;
        receive.await.map_err(|_| ended())?
    }

    /// Replaces replicas that have written nothing by others.
    ///
    /// # Errors
    /// `INCARNATION_MISMATCH` if one has written something: none was replaced. `SHUTTING_DOWN`.
    pub async fn rebirth(&self, options: Vec<GroupOptions>) -> Result<(), Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::Rebirth { options, reply })?;
        receive.await.map_err(|_| ended())?
    }

    /// The replicas of this node that have left their groups and are still here.
    ///
    /// # Errors
    /// `SHUTTING_DOWN`.
    pub async fn who_left(&self) -> Result<Vec<Departed>, Error> {
        let (send, receive) = oneshot::channel();
        self.send(Event::Leaving(Leaving::WhoLeft(send)))?;
        receive.await.map_err(|_| ended())
    }

    /// True if the replica of a group on this node is a member by exactly these members and counts by no earlier ones
    /// ever again.
    ///
    /// # Errors
    /// `SHUTTING_DOWN`.
    pub async fn is_sure_of(&self, group: GroupId, at: MembershipAt) -> Result<bool, Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::Leaving(Leaving::IsSureOf { group, at, reply }))?;
        receive.await.map_err(|_| ended())
    }

    /// Gives up a replica that has left: all that take part in its group were asked, and have what it left by. False if
    /// it is not as it was.
    ///
    /// # Errors
    /// `SHUTTING_DOWN`.
    pub async fn leave(&self, departed: Departed) -> Result<bool, Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::Leaving(Leaving::Leave { departed, reply }))?;
        receive.await.map_err(|_| ended())
    }

    /// A node told who takes part in a group.
    ///
    /// # Errors
    /// `SHUTTING_DOWN`.
    pub fn heard(&self, group: GroupId, from: NodeId, at: MembershipAt) -> Result<(), Error> {
        self.send(Event::Heard { group, from, at })
    }

    /// Where the replica of this node stands, and which entry it has at `slot`.
    ///
    /// # Errors
    /// `WRONG_NODE`, `SHUTTING_DOWN`.
    pub async fn standing(&self, group: GroupId, slot: Slot) -> Result<Standing, Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::Standing { group, slot, reply })?;
        receive.await.map_err(|_| ended())?
    }

    /// Begins another history of a group without those that are lost; which one, once it is durable here.
    /// Asked again it says the same again.
    ///
    /// # Errors
    /// `GROUP_NOT_LOST`, `MEMBERS_CHANGED`, `MEMBER_NOT_READY`, `INVALID_REQUEST`, `NOT_READY`, `OUTLIVED`,
    /// `WRONG_NODE`: nothing happened. `SHUTTING_DOWN`.
    pub async fn force(&self, group: GroupId, order: ForceOrder) -> Result<History, Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::Force { group, order: Box::new(order), reply })?;
        receive.await.map_err(|_| ended())?
    }

    /// The loss ledger of a group, in the order in which its entries were opened.
    ///
    /// # Errors
    /// `NOT_LEADER` if this node does not lead it, `WRONG_NODE`, `SHUTTING_DOWN`.
    pub async fn losses(&self, group: GroupId) -> Result<Vec<LossEntry>, Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::Losses { group, reply })?;
        receive.await.map_err(|_| ended())?
    }

    /// Others are members of a group now than before, on these nodes. They are chosen.
    ///
    /// # Errors
    /// `SHUTTING_DOWN`.
    pub fn moved(&self, group: GroupId, nodes: Vec<NodeId>, at: MembershipAt) -> Result<(), Error> {
        self.send(Event::Moved { group, nodes, at })
    }

    /// Notes whether an operator wants the replica of this node to lead.
    ///
    /// # Errors
    /// `WRONG_NODE`, `SHUTTING_DOWN`.
    pub async fn pin_leader(&self, group: GroupId, pinned: bool) -> Result<(), Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::PinLeader { group, pinned, reply })?;
        receive.await.map_err(|_| ended())?
    }

    /// Lets this node lead nothing, or again; how many groups it still leads.
    ///
    /// # Errors
    /// `SHUTTING_DOWN`.
    pub async fn set_drained(&self, drained: bool) -> Result<u32, Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::SetDrained { drained, reply })?;
        receive.await.map_err(|_| ended())
    }

    /// Hands every leadership over, and takes none from now on.
    ///
    /// # Errors
    /// `SHUTTING_DOWN` if the shard has ended.
    pub fn drain(&self) -> Result<(), Error> {
        self.send(Event::Drain)
    }

    /// A peer comes with this data folder and tells of those of others; all that is news is made durable. Says
    /// which one is known under its name: the peer is to be believed only if it is this one.
    ///
    /// # Errors
    /// `SHUTTING_DOWN` if the shard has ended.
    pub async fn meet(
        &self,
        node: NodeId,
        folder: PeerFolder,
        told: PeerFolders,
    ) -> Result<PeerFolder, Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::Meet { node, folder, told, reply })?;
        receive.await.map_err(|_| ended())
    }

    /// A peer tells of data folders that it has met. They are durable before whatever is put in later is acted on.
    ///
    /// # Errors
    /// `SHUTTING_DOWN` if the shard has ended.
    pub fn hear_folders(&self, told: PeerFolders) -> Result<(), Error> {
        self.send(Event::HearFolders(told))
    }

    /// The data folders of peers, now and when more is known.
    #[must_use]
    pub fn folders(&self) -> watch::Receiver<PeerFolders> {
        self.folders.clone()
    }

    /// The replica of a group on this node, what it holds, and whether it is a member as far as it knows that to be chosen.
    ///
    /// # Errors
    /// `SHUTTING_DOWN` if the shard has ended.
    pub async fn own(&self, group: GroupId) -> Result<Option<Own>, Error> {
        let (reply, receive) = oneshot::channel();
        self.send(Event::Own { group, reply })?;
        receive.await.map_err(|_| ended())
    }

    /// Bytes of requests held now.
    #[must_use]
    pub fn request_bytes(&self) -> usize {
        self.requests.used()
    }

    fn send(&self, event: Event) -> Result<(), Error> {
        self.events.send(event).map_err(|_| ended())
    }
}

/// What a request costs beyond its bytes: its waiter, its place in the queue.
const REQUEST_OVERHEAD_BYTES: usize = 256;

fn ended() -> Error {
    Error::new(Code::ShuttingDown, "the node has stopped")
}
