//! What a shard is told, and the forms of its answers.

use std::time::Duration;

use quorate_log::LogCounters;
use quorate_paxos::{ChangeRequest, Health, History, MemberView, MembershipAt, Status};
use quorate_types::{
    Attempt, AttemptStatus, Ballot, CheckMessage, CheckReport, CrossMessage, Elsewhere, EntryId,
    Error, GroupId, LossEntry, NodeId, PeerFolder, ReplicaId, ReplicaKind, Reply, Request, Slot,
};
use tokio::sync::oneshot;

use crate::budget::Permit;
use crate::force::{ForceOrder, Standing};
use crate::group::GroupOptions;
use crate::hashing::HashJob;
use crate::network::PeerMessage;
use crate::peer_folders::PeerFolders;
use crate::refill::Loaded;
use crate::snapshot::{Refilled, SnapshotSource};

/// The answer to a request.
pub type Answer = Result<Reply, Error>;

/// Where an answer goes. Called once, on the shard task: it must not wait.
pub struct ReplyTo {
    send: Box<dyn FnOnce(Answer) + Send>,
    /// The request's share of the node's budget, given back with the answer.
    _permit: Option<Permit>,
}

impl ReplyTo {
    /// Answers through `send`, then gives back `permit`.
    pub fn new(permit: Option<Permit>, send: impl FnOnce(Answer) + Send + 'static) -> ReplyTo {
        ReplyTo { send: Box::new(send), _permit: permit }
    }

    /// The same, of what `change` makes of the answer.
    pub(crate) fn map(self, change: impl FnOnce(Answer) -> Answer + Send + 'static) -> ReplyTo {
        let ReplyTo { send, _permit } = self;
        ReplyTo { send: Box::new(move |answer| send(change(answer))), _permit }
    }

    /// Answers.
    pub(crate) fn answer(self, answer: Answer) {
        (self.send)(answer);
    }
}

impl std::fmt::Debug for ReplyTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReplyTo")
    }
}

/// An event for a shard.
#[derive(Debug)]
pub enum Event {
    /// A client's request, checked at the edge.
    Request {
        /// The group it was routed to.
        group: GroupId,
        /// What is asked.
        request: Request,
        /// Of a read that this replica may answer whoever leads: what must be applied here for it.
        elsewhere: Option<Elsewhere>,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// Messages of a peer node. Senders were checked against the stream they came on.
    Peer {
        /// The messages.
        messages: Vec<PeerMessage>,
        /// Their share of the budget for what peers send.
        permit: Permit,
    },
    /// Messages between groups, for the leaders among ours. Senders were checked against the stream
    /// they came on.
    Cross {
        /// The node that sent them; our own, too.
        from: NodeId,
        /// The messages.
        messages: Vec<CrossMessage>,
        /// Their share of the budget for what peers send.
        permit: Option<Permit>,
    },
    /// The log is on disk: for each group, the number of the last write that is.
    Synced(Vec<(GroupId, u64)>),
    /// That the log of this replica is whole again is on disk.
    LogWhole {
        /// The group.
        group: GroupId,
        /// The replica.
        replica: ReplicaId,
    },
    /// So many memberships are on disk.
    MembershipsStored(u64),
    /// Promises are on disk.
    PromisesSynced(Vec<(GroupId, Ballot)>),
    /// The log finished a write or a probe.
    LogProgress {
        /// There is room above the reserve.
        has_room: bool,
        /// Bytes of all segments, measured now and then.
        log_bytes: u64,
        /// What the log has done since the start.
        counters: LogCounters,
    },
    /// Segments were released; the first slots may have moved.
    Released,
    /// A checkpoint is written.
    Checkpointed {
        /// It was flushed to disk, too.
        flushed: bool,
    },
    /// Messages of a peer node about checks. Senders were checked against the stream they came on.
    Checks {
        /// The messages.
        messages: Vec<CheckMessage>,
        /// Their share of the budget for what peers send.
        permit: Permit,
    },
    /// A piece of the rows of a group is hashed.
    Hashed(Box<HashJob>),
    /// Rows that came from another node count, or it is remembered that those that are there do not.
    Switched {
        /// The group.
        group: GroupId,
        /// The replica that had them switched.
        replica: ReplicaId,
        /// What is kept of them in memory.
        loaded: Option<Box<Loaded>>,
    },
    /// Have the replicas of a group compare their rows.
    Check {
        /// The group.
        group: GroupId,
        /// Answer after so long with what was found by then.
        wait: Duration,
        /// Told what was found, or why nothing was.
        reply: oneshot::Sender<Result<CheckReport, Error>>,
    },
    /// Hand leadership of a group to a node, or to the best one.
    TransferLeader {
        /// The group.
        group: GroupId,
        /// The node.
        to: Option<NodeId>,
        /// Told whether the hand-over was begun.
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Who takes part in a group, as its leader has it.
    Members {
        /// The group.
        group: GroupId,
        /// Told the members, or who leads.
        reply: oneshot::Sender<Result<MembersStatus, Error>>,
    },
    /// Change who takes part in a group.
    ChangeMembers {
        /// The group.
        group: GroupId,
        /// Who is to.
        request: ChangeRequest,
        /// Told the entry that began it once it is chosen, or why not.
        reply: oneshot::Sender<Result<EntryId, Error>>,
    },
    /// A replica that lost its disk, or was made for this, asks to take the place of the one that was on its
    /// node before.
    Join {
        /// The group.
        group: GroupId,
        /// The new replica.
        replica: ReplicaId,
        /// What it holds.
        kind: ReplicaKind,
        /// Told whether it is a member now.
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Make an empty replica of a group on this node.
    Create {
        /// Its options, with the id it gets if there is none.
        options: Box<GroupOptions>,
        /// Told which one there is now.
        reply: oneshot::Sender<Result<ReplicaId, Error>>,
    },
    /// Replace replicas that have written nothing by others: this is another disk than the one that their ids
    /// were given for.
    Rebirth {
        /// The new ones.
        options: Vec<GroupOptions>,
        /// Told whether it was done, to all of them or to none.
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// The replica that was made is durable.
    Created {
        /// The group.
        group: GroupId,
    },
    /// About replicas that have left their groups.
    Leaving(Leaving),
    /// A node told who takes part in a group.
    Heard {
        /// The group.
        group: GroupId,
        /// Who told.
        from: NodeId,
        /// The members.
        at: MembershipAt,
    },
    /// Where does the replica of this node stand, whoever leads?
    Standing {
        /// The group.
        group: GroupId,
        /// Which entry has it at this slot?
        slot: Slot,
        /// Told.
        reply: oneshot::Sender<Result<Standing, Error>>,
    },
    /// Begin another history of a group, without a majority of its members.
    Force {
        /// The group.
        group: GroupId,
        /// How.
        order: Box<ForceOrder>,
        /// Told the history once it is durable here, or why not.
        reply: oneshot::Sender<Result<History, Error>>,
    },
    /// What stands in the loss ledger of a group?
    Losses {
        /// The group.
        group: GroupId,
        /// Told, if this node leads it.
        reply: oneshot::Sender<Result<Vec<LossEntry>, Error>>,
    },
    /// The membership of this entry is durable where an arbiter keeps it.
    Kept {
        /// The group.
        group: GroupId,
        /// The entry.
        at: EntryId,
    },
    /// The replicas that began anew are durable.
    Reborn,
    /// Others are members of a group now than before.
    Moved {
        /// The group.
        group: GroupId,
        /// Their nodes, those that may lead first.
        nodes: Vec<NodeId>,
        /// They, and since when. They are chosen.
        at: MembershipAt,
    },
    /// An operator wants the replica of this node to lead, or no longer.
    PinLeader {
        /// The group.
        group: GroupId,
        /// Whether it is to.
        pinned: bool,
        /// Told that it was noted.
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Lead nothing, or lead again.
    SetDrained {
        /// Which.
        drained: bool,
        /// Told how many groups are still led.
        reply: oneshot::Sender<u32>,
    },
    /// A peer comes with this data folder and tells of those of others: remember them, and say which one is known
    /// under its name.
    Meet {
        /// The peer.
        node: NodeId,
        /// What it comes with.
        folder: PeerFolder,
        /// The folders that it knows.
        told: PeerFolders,
        /// Told the one that is known, durably. The peer is to be believed only if it is this one.
        reply: oneshot::Sender<PeerFolder>,
    },
    /// A peer tells of data folders that it has met since.
    HearFolders(PeerFolders),
    /// Which replica of a group this node has, and whether it is a member as far as it knows that to be chosen.
    Own {
        /// The group.
        group: GroupId,
        /// Told; `None`: none.
        reply: oneshot::Sender<Option<Own>>,
    },
    /// The rows of a group are wanted by another node.
    Snapshot {
        /// The group.
        group: GroupId,
        /// That node.
        asks: NodeId,
        /// They must stand here or later.
        at_least: Slot,
        /// Told them, or why not.
        reply: oneshot::Sender<Result<SnapshotSource, Error>>,
    },
    /// `Network::refill` has ended.
    Refilled {
        /// The group.
        group: GroupId,
        /// The replica that wanted them: another one may have taken its place.
        replica: ReplicaId,
        /// The rows, not yet switched to, or why there are none.
        outcome: Result<Refilled, Error>,
    },
    /// The node is shutting down: hand every leadership over and take none.
    Drain,
    /// Say what the groups that are led here know of cross-unit transactions.
    Attempts(oneshot::Sender<Vec<AttemptStatus>>),
    /// Ask at once about an attempt that nobody has decided for us.
    Resolve {
        /// The attempt.
        attempt: Attempt,
        /// Told how many groups that are led here asked.
        reply: oneshot::Sender<u32>,
    },
    /// Say where everything stands.
    Status(oneshot::Sender<ShardStatus>),
}

/// An event about replicas that have left their groups.
#[derive(Debug)]
pub enum Leaving {
    /// Which replicas of this node have left their groups and are still here?
    WhoLeft(oneshot::Sender<Vec<Departed>>),
    /// Does the replica of a group on this node count by exactly these members, and by no earlier ones ever again?
    IsSureOf {
        /// The group.
        group: GroupId,
        /// The members.
        at: MembershipAt,
        /// Told.
        reply: oneshot::Sender<bool>,
    },
    /// All that take part in a group have what a replica of this node left by: nobody needs it any more.
    Leave {
        /// The group, the replica and what it left by.
        departed: Departed,
        /// Told whether it has gone; not if it is another replica by now, or has left by something else.
        reply: oneshot::Sender<bool>,
    },
    /// It is durable that the replica of a group has left for good, and its log is given up.
    Left {
        /// The group.
        group: GroupId,
    },
    /// Its rows are given up, too.
    GivenUp {
        /// The group.
        group: GroupId,
    },
}

/// The replica of a group on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its id.
    pub replica: ReplicaId,
    /// What it holds.
    pub kind: ReplicaKind,
    /// Whether it takes part.
    pub presence: Presence,
}

/// Whether a replica takes part, as far as it knows that to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is a member.
    Member,
    /// It is none: nobody has taken it in yet, or it has left.
    NoMember,
    /// It has left for good, and nothing of it is here but its id.
    Gone,
}

/// A replica that has left its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departed {
    /// The group.
    pub group: GroupId,
    /// The replica.
    pub replica: ReplicaId,
    /// The last members that this node knows to be chosen, without it.
    pub since: MembershipAt,
}

/// Where a shard stands.
#[derive(Clone, Debug)]
pub struct ShardStatus {
    /// The node is leaving.
    pub draining: bool,
    /// There is room on the disk.
    pub has_room: bool,
    /// What the node thinks of itself: draining, a slow disk, a disk that hangs.
    pub health: Health,
    /// Bytes of the log's segments.
    pub log_bytes: u64,
    /// What the log has done since the start.
    pub log: LogCounters,
    /// For how long the log thread has been busy with the disk, since the start.
    pub log_busy: Duration,
    /// Replicas that have left their groups and whose rows and log are still here.
    pub departed: usize,
    /// Bytes of rows that compactions will have to rewrite.
    pub compaction_pending_bytes: u64,
    /// Every group, in order.
    pub groups: Vec<GroupStatus>,
}

/// The views at cuts that the leader of a group keeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct CutStatus {
    /// How many.
    pub views: usize,
    /// How long the oldest has been kept, in milliseconds; 0 if there is none.
    pub oldest_ms: u64,
    /// Requests that wait for a cut, or for what was in doubt at one.
    pub waiting: usize,
}

/// How it is with the checks of a group. Counted since the start of the node, by whoever leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckStatus {
    /// Checks in which all voters held the same.
    pub agreed: u64,
    /// Checks in which somebody differed from a majority.
    pub diverged: u64,
    /// Checks in which voters differed and no majority held the same.
    pub no_majority: u64,
    /// Checks in which nobody was found to differ, but not all were heard.
    pub incomplete: u64,
    /// Replicas that differed in the check that was counted last.
    pub differing: usize,
    /// Milliseconds since the last check was applied here; `None`: none since the start, or since other rows
    /// were installed.
    pub last_ms_ago: Option<u64>,
    /// The rows of this replica were found to be wrong, and others have not taken their place yet.
    pub is_diverged: bool,
}

/// How it is with rows that come from other nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefillStatus {
    /// There are no rows that go with the log: nothing is applied before others have come.
    pub is_missing: bool,
    /// Some are being fetched or installed.
    pub is_under_way: bool,
    /// How often some were installed since the start.
    pub installed: u64,
}

/// Where the replica of one group stands.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// The core's own account.
    pub core: Status,
    /// Milliseconds until the lease ends that it holds as leader.
    pub lease_remaining_ms: u64,
    /// Milliseconds since each member was heard, as the leader counts.
    pub heard_ms_ago: Vec<(quorate_types::ReplicaId, Option<u64>)>,
    /// What this replica holds.
    pub kind: ReplicaKind,
    /// Voters that are set aside until they are back, as far as is known here.
    pub suspended: usize,
    /// Rows on disk stand here.
    pub slot_persisted: Slot,
    /// Open sessions.
    pub sessions: usize,
    /// Attempts at cross-unit transactions that the group knows of.
    pub attempts: usize,
    /// Rows they lock.
    pub locked_rows: usize,
    /// Requests that wait for those locks, or for transfers in escrow.
    pub parked: usize,
    /// Pending transfers that reserve something.
    pub open_holds: usize,
    /// Transfers with other groups that are undecided or not applied.
    pub escrow_transfers: usize,
    /// Accounts that nothing new may touch for a moment, because a read waits for them.
    pub fences: usize,
    /// Views at cuts.
    pub cuts: CutStatus,
    /// Its log may lack what it had acknowledged: it does not vote before it has it again.
    pub log_suspect: bool,
    /// Rows from other nodes.
    pub refill: RefillStatus,
    /// Comparing rows.
    pub checks: CheckStatus,
    /// The number of the history that it counts in: raised by each forced recovery.
    pub history: u32,
    /// A forced recovery gave this replica up.
    pub is_outlived: bool,
    /// Entries applied since the start.
    pub applied_entries: u64,
    /// Elections won since the start.
    pub leaderships: u64,
}

/// Who takes part in a group, as its leader has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersStatus {
    /// The entry it came with, and the members.
    pub at: MembershipAt,
    /// True once that entry is chosen.
    pub is_chosen: bool,
    /// This replica, which leads.
    pub leader: ReplicaId,
    /// How each member is.
    pub views: Vec<MemberView>,
    /// How long ago each was heard.
    pub heard_ago: Vec<Option<Duration>>,
    /// The last slot of the log.
    pub slot_last: Slot,
}
