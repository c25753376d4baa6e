//! What a replica asks the outside to do. Fields stand in the order in which they are carried out.

use quorate_types::{Ballot, EntryId, ReplicaId, Slot};

use crate::batch::Batch;
use crate::force::NotForced;
use crate::membership::MembershipAt;
use crate::message::Message;

/// Names a read that waits for its verdict. Chosen by the driver, never reused while pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadToken(pub u64);

/// Why batches are read back from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPurpose {
    /// To apply them here.
    Apply,
    /// To send them to a follower.
    CatchUp(ReplicaId),
    /// To answer the winner of this ballot, which asked for what follows this entry.
    Fetch {
        /// The winner.
        to: ReplicaId,
        /// Its ballot.
        ballot: Ballot,
        /// The entry it named.
        prev: EntryId,
    },
}

/// Write this batch to the log. It replaces everything from its first slot on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Number of the write, answered by `Input::Synced`.
    pub write: u64,
    /// The batch.
    pub batch: Batch,
}

/// Read batches back from the log, at most `bytes_max` but at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRead {
    /// What for; comes back with `Input::LogRead`.
    pub purpose: ReadPurpose,
    /// The first slot wanted.
    pub from: Slot,
    /// The last slot wanted.
    pub upto: Slot,
    /// Stop after this many bytes.
    pub bytes_max: usize,
}

/// What became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// In the log of this leader at these slots; decided when applied or when the ballot ends.
    At {
        /// Id of the first payload; the others follow without a gap.
        first: EntryId,
    },
    /// Not taken; nothing happened.
    Refused(NotServing),
}

/// Why a replica serves neither reads nor writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotServing {
    /// Another replica leads, as far as is known.
    NotLeader(Option<ReplicaId>),
    /// Elected, but `StartWork` is not applied.
    NotReady,
    /// Handing over to this replica.
    HandingOver(ReplicaId),
}

/// Why a change of members was not begun. Nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotChanged {
    /// This replica does not lead, or not yet.
    NotServing(NotServing),
    /// The members are other ones than the caller thinks, since this entry.
    Stale(EntryId),
    /// Another change is under way.
    InProgress,
    /// They are the members already.
    NoChange,
    /// There would be no voter, or more members than a group may have.
    Impossible,
    /// It cannot vote yet: it is no learner, was not heard of lately, or lacks much of the log.
    NotReady(ReplicaId),
    /// Too few of the old or of the new voters live and have their rows: nobody could lead any more.
    NoQuorum,
}

/// The verdict on a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadVerdict {
    /// Leadership held after the view was taken: the answer may go out.
    Confirmed,
    /// It may not; ask elsewhere.
    Refused(NotServing),
}

/// A change of duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleChange {
    /// Follows this leader, or nobody known.
    Follower {
        /// The promise under which it follows.
        ballot: Ballot,
        /// The leader, if one was heard.
        leader: Option<ReplicaId>,
    },
    /// Asks for promises.
    Candidate {
        /// With this ballot.
        ballot: Ballot,
    },
    /// Won, but may not serve yet.
    Elected {
        /// With this ballot.
        ballot: Ballot,
    },
    /// `StartWork` is applied: serves.
    Serving {
        /// Under this ballot.
        ballot: Ballot,
    },
}

/// Everything one step asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// The answer to `Input::Propose`.
    pub proposed: Option<Proposed>,
    /// The answer to `Input::Change`: the entry that begins it, which counts once it is applied.
    pub changed: Option<Result<EntryId, NotChanged>>,
    /// The answer to `Input::Force`: whether another history is about to begin. It has once
    /// `Replica::told_history` says so.
    pub forced: Option<Result<(), NotForced>>,
    /// Make this promise durable, then say `Input::PromiseSynced`.
    pub promise: Option<Ballot>,
    /// This membership is chosen, or was told to be the one of a later history: make it durable before the appends of this step, and before any log is
    /// released that holds it.
    pub membership: Option<MembershipAt>,
    /// An arbiter keeps this membership: make it durable, then say `Input::Kept`.
    pub keep: Option<MembershipAt>,
    /// Messages. None of them tells of anything that is not durable already.
    pub messages: Vec<(ReplicaId, Message)>,
    /// Log writes, in order.
    pub appends: Vec<Append>,
    /// Log reads.
    pub log_reads: Vec<LogRead>,
    /// Chosen batches to apply, in order, before the next step.
    pub applies: Vec<Batch>,
    /// Changes of duty, in order. Waiters of an older ballot are settled by entry id only.
    pub roles: Vec<RoleChange>,
    /// Verdicts on reads.
    pub reads: Vec<(ReadToken, ReadVerdict)>,
    /// Fetch a snapshot at this slot or later from any replica, unless one is on its way. Said again as
    /// long as it is needed.
    pub refill: Option<Slot>,
    /// Make the snapshot that was handed in, which ends with this slot, the rows of this replica in one
    /// durable step, then say `Input::Installed`.
    pub install: Option<Slot>,
}
