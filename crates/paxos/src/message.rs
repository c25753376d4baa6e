//! What replicas of one group say to each other. One struct per message, ballot first.
//!
//! The sender and the receiver are in the envelope. `docs/PROTOCOL.md` has the table of who sends
//! which message when.

use quorate_types::{Ballot, BootTime, EntryId, Slot};

use crate::batch::Batch;
use crate::membership::MembershipAt;
use crate::priority::Standing;

/// Would you promise `ballot`? Changes nothing at the receiver (Ongaro's thesis, section 9.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreVote {
    /// The ballot the candidate would use.
    pub ballot: Ballot,
    /// How well the candidate would lead.
    pub standing: Standing,
}

/// Answer to a pre-vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreVoteAck {
    /// The ballot asked for.
    pub ballot: Ballot,
    /// True if the sender holds no promise to a living leader and would promise.
    pub granted: bool,
    /// The sender's own promise, so that the candidate can go above it.
    pub promised: Ballot,
    /// How well the sender itself would lead.
    pub standing: Standing,
}

/// Phase 1 over the whole tail of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepare {
    /// The ballot to promise.
    pub ballot: Ballot,
    /// The ballot of the leader that handed over, if this is a planned hand-over.
    pub handover_from: Option<Ballot>,
}

/// Phase 1 answer: sent only after the promise is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The ballot promised.
    pub ballot: Ballot,
    /// The last entry of the sender's log.
    pub last: EntryId,
    /// The greatest slot the sender knows to be chosen.
    pub slot_committed: Slot,
    /// Who takes part, as an arbiter keeps it; `None` from everybody else.
    pub seats: Option<MembershipAt>,
}

/// A higher ballot was promised: the receiver cannot go on under `ballot`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The ballot that is refused.
    pub ballot: Ballot,
    /// What the sender has promised.
    pub promised: Ballot,
}

/// The winner asks the holder of the best log for what follows `prev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The ballot that was won.
    pub ballot: Ballot,
    /// The entry the winner's log and the holder's log are hoped to share.
    pub prev: EntryId,
}

/// A part of the best log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchReply {
    /// The ballot that was won.
    pub ballot: Ballot,
    /// The entry that was named in the question.
    pub prev: EntryId,
    /// Batches that follow `prev`; `None` if the holder's log has another entry there, or none.
    pub batches: Option<Vec<Batch>>,
    /// The last entry that is gone from the holder's log: nothing before it can be asked for.
    pub trimmed: EntryId,
}

/// Phase 2 for one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// The leader's ballot (entries keep the ballot of their first proposal).
    pub ballot: Ballot,
    /// The batch; it names the entry it follows.
    pub batch: Batch,
    /// The leader's commit position.
    pub slot_committed: Slot,
}

/// Phase 2 answer: the sender's log equals the leader's through this slot, on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// Durable and equal to the leader's log through here.
    pub slot_synced: Slot,
}

/// The batch does not follow the sender's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The sender's last entry at or before the one the batch should follow.
    pub last: EntryId,
    /// The sender's commit position: everything through it equals the leader's log.
    pub slot_committed: Slot,
}

/// The leader lives; asks for a lease and confirms its leadership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The leader's clock when it sent this; echoed, never compared with another clock.
    pub sent_at: BootTime,
    /// The leader's commit position.
    pub slot_committed: Slot,
    /// Older log may be recycled: every voter holds it, or who does not gets a snapshot.
    pub slot_releasable: Slot,
    /// More full voters have everything through here on disk than may be lost at once: who keeps the log only
    /// need not keep it for them.
    pub slot_secured: Slot,
}

/// The sender's promise is still `ballot`; with leases on it promises no other until its lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatAck {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The leader's clock from the heartbeat.
    pub sent_at: BootTime,
    /// The sender's log equals the leader's, on disk or not, through here.
    pub slot_verified: Slot,
    /// Durable and equal to the leader's log through here.
    pub slot_synced: Slot,
    /// The sender fetches a snapshot at this slot and will need the log above.
    pub slot_refilling: Option<Slot>,
    /// How well the sender would lead.
    pub standing: Standing,
}

/// Chosen through this slot, said when no `Accept` is on its way to say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The leader's commit position.
    pub slot_committed: Slot,
}

/// The leader has stopped for good under `ballot` and asks the receiver to lead at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeOver {
    /// The ballot that ends.
    pub ballot: Ballot,
}

/// Where do you stand? So that the sender learns how fresh its rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The sender's clock; echoed, never compared with another clock.
    pub asked_at: BootTime,
    /// The sender may have lost log that it had acknowledged: it is durable and equal to the leader's through
    /// here. `None` from all others.
    pub left: Option<Slot>,
}

/// The sender still led after it was asked, and had applied this much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The clock of whoever asked.
    pub asked_at: BootTime,
    /// Everything that anybody was told before is at or below this slot.
    pub slot_applied: Slot,
    /// The end of the sender's log: everything that it was acknowledged under this ballot is at or below.
    pub slot_last: Slot,
}

/// The leader's log begins above what the receiver has of it: it needs a snapshot, unless it holds this
/// entry after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The last entry that is gone from the leader's log.
    pub trimmed: EntryId,
}

/// To an arbiter: keep who takes part, on disk. Sent of every membership that is chosen, and of one that sets
/// voters aside as soon as it is in the leader's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seats {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The membership and its entry.
    pub at: MembershipAt,
}

/// The arbiter's answer: it is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatsKept {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The entry of the membership that is kept.
    pub id: EntryId,
}

/// Any message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the struct of the same name")]
pub enum Message {
    PreVote(PreVote),
    PreVoteAck(PreVoteAck),
    Prepare(Prepare),
    Promise(Promise),
    Reject(Reject),
    Fetch(Fetch),
    FetchReply(FetchReply),
    Accept(Accept),
    Accepted(Accepted),
    Mismatch(Mismatch),
    Heartbeat(Heartbeat),
    HeartbeatAck(HeartbeatAck),
    Commit(Commit),
    TakeOver(TakeOver),
    Ask(Ask),
    Told(Told),
    Behind(Behind),
    Seats(Seats),
    SeatsKept(SeatsKept),
}

impl Message {
    /// Bytes the message holds on to while it waits in a queue, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        const FIXED: usize = 96;
        const SEATS: usize = 512;
        match self {
            Message::Accept(accept) => FIXED + accept.batch.encoded().len(),
            Message::FetchReply(reply) => {
                FIXED + reply.batches.iter().flatten().map(|b| b.encoded().len()).sum::<usize>()
            }
            Message::PreVote(_)
            | Message::PreVoteAck(_)
            | Message::Prepare(_)
            | Message::Reject(_)
            | Message::Fetch(_)
            | Message::Accepted(_)
            | Message::Mismatch(_)
            | Message::Heartbeat(_)
            | Message::HeartbeatAck(_)
            | Message::Commit(_)
            | Message::TakeOver(_)
            | Message::Ask(_)
            | Message::Told(_)
            | Message::SeatsKept(_)
            | Message::Behind(_) => FIXED,
            Message::Promise(_) | Message::Seats(_) => FIXED + SEATS,
        }
    }
}
