//! What the outside tells a replica.

use bytes::Bytes;
use quorate_types::{Ballot, BootTime, EntryId, ReplicaId, Slot};

use crate::batch::{Batch, Tail};
use crate::change::ChangeRequest;
use crate::force::ForceRequest;
use crate::membership::{Membership, MembershipAt};
use crate::message::Message;
use crate::output::{ReadPurpose, ReadToken};
use crate::priority::Health;

/// One event. It always travels with the boot time read after it was dequeued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed; due timers fire.
    Tick,
    /// A message of another replica arrived.
    Message {
        /// Who sent it.
        from: ReplicaId,
        /// What it says.
        message: Message,
    },
    /// Put these payloads into the log, in order.
    Propose(Vec<Bytes>),
    /// The view behind this token was taken before `now`: may its answer go out?
    Read(ReadToken),
    /// Somebody reads at this replica and wants to know how fresh it is: see [`Replica::fresh_at`].
    ///
    /// [`Replica::fresh_at`]: crate::Replica::fresh_at
    AskFresh,
    /// Every append of `Output::appends` through this number is on disk.
    Synced {
        /// The number.
        write: u64,
    },
    /// The promise of `Output::promise` is on disk.
    PromiseSynced {
        /// The ballot promised.
        ballot: Ballot,
    },
    /// The membership of `Output::keep` that came with this entry is on disk.
    Kept(EntryId),
    /// Batches asked for by `Output::log_reads`, read back from the log.
    LogRead {
        /// What they were wanted for.
        purpose: ReadPurpose,
        /// They start with the one that holds the slot asked for.
        batches: Vec<Batch>,
    },
    /// The node's log finished a write or a probe at this time.
    DiskProgress(BootTime),
    /// The node's health changed.
    Health(Health),
    /// Hand leadership to this replica, or to the best one.
    HandOver(Option<ReplicaId>),
    /// Hand leadership to a follower whose node is in better health, if one lives and has the log: the
    /// faults of this node stand in the way of clients.
    GiveWay,
    /// Hand leadership to a better placed member if one has been fit for long enough. Never between an
    /// evaluation and its proposal.
    GoHome,
    /// Change who takes part. Answered with `Output::changed`. Never between an evaluation and its proposal.
    Change(ChangeRequest),
    /// Go on with a change of voters, if [`Replica::is_change_due`]. Never between an evaluation and its
    /// proposal.
    ///
    /// [`Replica::is_change_due`]: crate::Replica::is_change_due
    ContinueChange,
    /// An operator has given up a majority for ever: begin another history without it. Answered with
    /// `Output::forced`.
    Force(ForceRequest),
    /// Somebody told of the members of the group, which are of a later history than those here.
    History(MembershipAt),
    /// An operator wants this replica to lead whenever it can, or no longer.
    Pin(bool),
    /// The log through this slot, the end of a batch, is gone from disk.
    Trimmed(Slot),
    /// The rows were found to differ from those of others: they must not be used any more.
    RowsDamaged,
    /// A snapshot at this slot is being fetched; `None`: no longer.
    Refilling(Option<Slot>),
    /// A snapshot is here, complete, and [`Replica::may_install`] it. From now on nothing is applied.
    /// [`Output::install`] follows.
    ///
    /// [`Replica::may_install`]: crate::Replica::may_install
    /// [`Output::install`]: crate::Output::install
    Install {
        /// The batch that it ends with.
        last: Batch,
        /// The membership that was in force there.
        membership: MembershipAt,
    },
    /// The answer to [`Output::install`].
    ///
    /// [`Output::install`]: crate::Output::install
    Installed {
        /// True if the snapshot has become the rows of this replica, durably; false if it has not, and
        /// never will.
        is_done: bool,
    },
}

/// What a replica finds on its disk when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The promise on disk.
    pub promised: Ballot,
    /// The longest lease this node may ever have granted, in nanoseconds; 0 on a fresh disk. The
    /// replica stays silent that long, because it no longer knows what it granted. The driver makes a
    /// longer `Timing::lease` durable before the first step under it.
    pub lease_ns_max: u64,
    /// The entry before the first one kept; zero if nothing was ever trimmed.
    pub trimmed: EntryId,
    /// Runs of one ballot in the log, in order: the first slot of each and its ballot.
    pub runs: Vec<(Slot, Ballot)>,
    /// The last entry of the log.
    pub tail: Tail,
    /// The applied position of the rows on disk, the end of a batch. Everything through it is chosen.
    pub slot_applied: Slot,
    /// The batch that ends there, if the log still has it.
    pub applied_last: Option<Batch>,
    /// The rows are lost, damaged, or older than the log begins: they must come from another replica.
    pub rows_missing: bool,
    /// The last membership that was made durable because it is chosen. A replica that nobody has taken in
    /// yet has one without members.
    pub membership: MembershipAt,
    /// The memberships in the log, in order.
    pub memberships_in_log: Vec<MembershipAt>,
    /// The group goes on without what this replica holds, for ever.
    pub is_outlived: bool,
}

impl Restored {
    /// The membership that is in force: the last one.
    #[must_use]
    pub fn in_force(&self) -> MembershipAt {
        let last = self.memberships_in_log.last();
        let last = last.filter(|at| at.is_after(&self.membership));
        last.unwrap_or(&self.membership).clone()
    }

    /// An empty disk, in a group that begins with these members.
    #[must_use]
    pub fn fresh(membership: Membership) -> Restored {
        Restored {
            promised: Ballot::ZERO,
            lease_ns_max: 0,
            trimmed: EntryId::ZERO,
            runs: Vec::new(),
            tail: Tail::default(),
            slot_applied: Slot::ZERO,
            applied_last: None,
            rows_missing: false,
            membership: MembershipAt { id: EntryId::ZERO, membership },
            memberships_in_log: Vec::new(),
            is_outlived: false,
        }
    }
}
