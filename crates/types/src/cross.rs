//! What leaders of groups say to each other about attempts. Any message may be lost, doubled or late;
//! each is a question that is asked again or the answer to one.

use crate::attempt::{Age, Attempt, Watermark};
use crate::code::Error;
use crate::command::{Condition, Mutation, RowAddress, Value};
use crate::cut::CutId;
use crate::ids::GroupId;
use crate::money::{TransferBatch, Verdict};

/// What a transaction asks of one group. Each list keeps the order of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// Run in order.
    pub mutations: Vec<Mutation>,
    /// Rows to return.
    pub reads: Vec<RowAddress>,
    /// Transfers from another group: to give their credit accounts the amounts that stand in them. A
    /// part with these has nothing else.
    pub credits: TransferBatch,
}

/// What one group brings to the reply: the rows read, and the sums made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartReply {
    /// Of each row asked for, as it was before.
    pub reads: Vec<Option<Value>>,
    /// Of each add.
    pub sums: Vec<i64>,
    /// Of each credit.
    pub verdicts: Vec<Verdict>,
}

/// A message from the leader of one group to that of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrossMessage {
    /// The sender's group.
    pub from: GroupId,
    /// The receiver's group.
    pub to: GroupId,
    /// The latest cut that the sender's log had when it said this. A receiver that is behind commits
    /// the cut before it looks at the rest.
    pub cut: CutId,
    /// What is said.
    pub body: CrossBody,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrossBody {
    /// The coordinator asks for a vote.
    Prepare {
        /// The attempt.
        attempt: Attempt,
        /// How old the transaction is.
        age: Age,
        /// Attempts of the coordinator below this one are over.
        watermark: Attempt,
        /// Every group that votes.
        participants: Vec<GroupId>,
        /// What this group is to do.
        part: Part,
    },
    /// Somebody who has no decision asks what the receiver knows. A receiver that knows nothing
    /// commits a no first (trap 28).
    Ask {
        /// The attempt.
        attempt: Attempt,
    },
    /// What the sender's log says of the attempt: the answer to `Prepare` and `Ask`.
    Voted {
        /// The attempt.
        attempt: Attempt,
        /// The vote.
        vote: Vote,
        /// Of a yes, the latest cut before PREPARE in the sender's log; of a committed one, the
        /// greatest such cut of all participants; of a no, none.
        cut: CutId,
    },
    /// What became of the attempt.
    Decide {
        /// The attempt.
        attempt: Attempt,
        /// True: committed.
        commit: bool,
        /// Of a committed one, the greatest cut before any of its PREPAREs: it belongs to all later
        /// cuts and to no other.
        cut: CutId,
    },
    /// The sender has applied the COMMIT.
    Decided {
        /// The attempt.
        attempt: Attempt,
    },
    /// Attempts of the sender below this one are over.
    Clear {
        /// The watermark.
        watermark: Watermark,
    },
    /// Asks for the receiver's latest cut.
    AskCut,
    /// The answer: the head of the message says it all.
    TellCut,
}

/// What a log says of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vote {
    /// PREPARE yes is committed. Whether the attempt is, is not known here.
    Yes(PartReply),
    /// It is known to be committed.
    Committed(PartReply),
    /// PREPARE no is committed, or ABORT is, or the attempt is over and nothing of it was committed.
    No(Refusal),
}

/// Why a group said no. Not logged: after a change of leader it is `Unknown`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An older transaction holds a lock: the same request may be tried again.
    Conflict,
    /// A condition or a guard does not hold, or the part cannot be carried out.
    Refused(Box<Error>),
    /// The reason is gone: a tombstone, or another leader gave it.
    Unknown,
}

impl CrossMessage {
    /// Bytes it takes in a queue, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        const HEAD: usize = 96;
        match &self.body {
            CrossBody::Prepare { part, participants, .. } => {
                HEAD + participants.len() * 4 + part.size()
            }
            CrossBody::Voted { vote: Vote::Yes(reply) | Vote::Committed(reply), .. } => {
                HEAD + reply.size()
            }
            CrossBody::Clear { watermark } => HEAD + 32 * watermark.except.len(),
            CrossBody::Voted { vote: Vote::No(_), .. }
            | CrossBody::Ask { .. }
            | CrossBody::Decide { .. }
            | CrossBody::Decided { .. }
            | CrossBody::AskCut
            | CrossBody::TellCut => HEAD,
        }
    }
}

impl Vote {
    /// True for a vote from which an abort may be concluded.
    #[must_use]
    pub fn is_no(&self) -> bool {
        matches!(self, Vote::No(_))
    }
}

impl Part {
    /// Bytes of its keys and values.
    #[must_use]
    pub fn size(&self) -> usize {
        let row = |at: &RowAddress| at.key.len() + 16;
        let conditions = self.conditions.iter().map(|condition| match condition {
            Condition::Equals(at, value) => row(at) + value.size(),
            Condition::Exists(at) | Condition::Absent(at) => row(at),
        });
        let mutations = self.mutations.iter().map(|mutation| match mutation {
            Mutation::Put(at, value) => row(at) + value.size(),
            Mutation::Delete(at) | Mutation::Add { at, .. } => row(at) + 24,
        });
        let rows: usize = conditions.chain(mutations).chain(self.reads.iter().map(row)).sum();
        rows + self.credits.bytes().len()
    }
}

impl PartReply {
    /// Bytes of its values in an entry, at most.
    #[must_use]
    pub fn size(&self) -> usize {
        let read = |read: &Option<Value>| 4 + read.as_ref().map_or(0, Value::size);
        self.reads.iter().map(read).sum::<usize>() + 10 * self.sums.len() + self.verdicts.len()
    }
}

/// An attempt as the leader of one group sees it, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptStatus {
    /// The group that says this.
    pub group: GroupId,
    /// The attempt.
    pub attempt: Attempt,
    /// Where it stands here.
    pub state: AttemptState,
    /// How old the transaction is; `None` once it is decided.
    pub age: Option<Age>,
    /// Every group that votes; empty if the group does not know.
    pub participants: Vec<GroupId>,
    /// Groups whose answer is missing, as far as this one has asked.
    pub waits_for: Vec<GroupId>,
    /// Rows it locks here, or transfers it has in escrow.
    pub locked_rows: u64,
    /// Requests and parts of other transactions that wait for those here.
    pub waiting: u64,
}

/// Where an attempt stands in one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptState {
    /// Its part waits for a lock.
    Waiting,
    /// A vote is on its way into the log.
    Voting,
    /// PREPARE yes is in the log, the decision is not.
    Prepared,
    /// PREPARE no is in the log.
    Refused,
    /// COMMIT is in the log.
    Committed,
    /// ABORT is in the log.
    Aborted,
}

impl AttemptState {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            AttemptState::Waiting => "waiting",
            AttemptState::Voting => "voting",
            AttemptState::Prepared => "prepared",
            AttemptState::Refused => "refused",
            AttemptState::Committed => "committed",
            AttemptState::Aborted => "aborted",
        }
    }
}
