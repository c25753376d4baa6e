//! Histories of a group that begin by force: where replicas stand, and what the driver does with messages of
//! another history. Called by `shard.rs`.
//!
//! The core has the rules. The driver names the history with every message that it sends, drops what comes from
//! another one, and tells whoever is behind.

use quorate_log::MembershipRecord;
use quorate_paxos::{ForceRequest, History, Input, Membership, MembershipAt, Message, NotForced};
use quorate_store::{Change, StoreError, read_losses, write_loss};
use quorate_types::{
    Ballot, BootTime, Code, EntryId, Error, GroupId, LogTime, Loss, LossEntry, NodeId, ReplicaId,
    Slot,
};
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use crate::group::{Effects, Fatal, GroupDriver};
use crate::refuse;

/// Requests that wait at once. Beyond: `OVERLOADED`.
const WAITING_MAX: usize = 64;

type ForceReply = oneshot::Sender<Result<History, Error>>;

/// Begin another history of a group without those that are lost.
#[derive(Clone, Debug)]
pub struct ForceOrder {
    /// The history that is given up.
    pub history: History,
    /// The greatest ballot that any survivor has promised.
    pub promised: Ballot,
    /// The greatest entry that any survivor knows to be chosen.
    pub proven: EntryId,
    /// For the ledger; `kept` are the members that stay.
    pub loss: Loss,
}

/// Where one replica of a group stands, whoever leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The replica.
    pub replica: ReplicaId,
    /// The members that it counts by, and the entry that they came with.
    pub members: MembershipAt,
    /// The group goes on without it, for ever.
    pub is_outlived: bool,
    /// Its log is not yet of the history that it counts in.
    pub is_crossing: bool,
    /// It has rows that go with its log.
    pub has_rows: bool,
    /// What it has promised.
    pub promised: Ballot,
    /// The last entry of its log that is on disk.
    pub last: EntryId,
    /// The greatest entry that it knows to be chosen.
    pub committed: EntryId,
    /// Applied through here.
    pub slot_applied: Slot,
    /// The entry at the slot that was asked about; `None` if its log has none there any more, or not yet.
    pub at_slot: Option<EntryId>,
    /// The leader it knows of.
    pub leader: Option<ReplicaId>,
}

/// The part of a group that histories take.
#[derive(Default)]
pub(crate) struct ForceDriver {
    /// What the core said last.
    pub(crate) forced: Option<Result<(), NotForced>>,
    /// Who waits until another history has begun.
    waiting: Vec<(u32, ForceReply)>,
    /// That this replica is outlived was told.
    is_told: bool,
}

impl GroupDriver {
    /// Where this replica stands.
    pub(crate) fn standing(&self, now: BootTime, slot: Slot) -> Standing {
        let core = &self.core;
        let id_at = |slot: Slot| core.log().id_at(slot).filter(|_| Slot::ZERO < slot);
        let status = core.status(now);
        let last = status.last.slot.min(status.slot_synced);
        Standing {
            replica: self.options.paxos.replica,
            members: core.membership_at().clone(),
            is_outlived: core.is_outlived(),
            is_crossing: core.is_crossing(),
            has_rows: !core.rows_missing(),
            promised: core.promised(),
            last: id_at(last).unwrap_or(EntryId::ZERO),
            committed: id_at(core.slot_committed()).unwrap_or(EntryId::ZERO),
            slot_applied: core.slot_applied(),
            at_slot: id_at(slot),
            leader: status.leader,
        }
    }

    /// Begins another history, or says why not. The answer comes once it is durable here.
    pub(crate) fn force(
        &mut self,
        now: BootTime,
        order: ForceOrder,
        reply: ForceReply,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let group = self.group;
        if WAITING_MAX <= self.force.waiting.len() {
            let error = Error::new(Code::Overloaded, "too many forced recoveries wait");
            answer(reply, Err(refuse::of_group(error, group)));
            return Ok(());
        }
        let ForceOrder { history, promised, proven, loss } = order;
        let kept = loss.kept.iter().copied().collect();
        let note = quorate_store::encode_loss(&loss);
        let request = ForceRequest { history, kept, promised, proven, note };
        self.step(now, Input::Force(request), fx)?;
        match self.force.forced.take().expect("the core answers at once") {
            Ok(()) => {
                warn!(%group, history = history.number + 1, kept = ?loss.kept, reason = loss.reason, "begins another history by force");
                self.force.waiting.push((history.number + 1, reply));
            }
            Err(why) => answer(reply, Err(refused(group, why))),
        }
        Ok(())
    }

    /// Answers who waits for another history. Called after everything else of a round.
    pub(crate) fn tick_force(&mut self) {
        let group = self.group;
        if self.core.is_outlived() && !std::mem::replace(&mut self.force.is_told, true) {
            let history = self.core.history().number;
            error!(%group, history, "this replica was given up and is outlived: it serves and votes no more; empty the node's data folder and add it anew");
        }
        if self.force.waiting.is_empty() {
            return;
        }
        let told = self.core.told_history().map(|at| at.membership.history());
        let is_forcing = self.core.is_forcing();
        self.force.waiting = std::mem::take(&mut self.force.waiting)
            .into_iter()
            .filter_map(|(number, reply)| {
                if let Some(history) = told.filter(|it| number <= it.number) {
                    answer(reply, Ok(history));
                    None
                } else if is_forcing {
                    Some((number, reply))
                } else {
                    let message =
                        format!("another ballot was promised before the recovery of {group} began");
                    let error = Error::new(Code::MembersChanged, message);
                    answer(reply, Err(refuse::of_group(error, group)));
                    None
                }
            })
            .collect();
    }

    /// A message of another replica: heard if it is of our history. Whoever is of another one is told, or tells.
    pub(crate) fn peer(
        &mut self,
        now: BootTime,
        (from, history): (ReplicaId, History),
        message: Message,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let ours = self.core.history();
        if history == ours {
            if self.core.is_absurd(now, from, &message) {
                warn!(group = %self.group, %from, ?message, "a replica that is no member says what cannot be");
            }
            return self.step(now, Input::Message { from, message }, fx);
        }
        debug!(group = %self.group, %from, theirs = history.number, ours = ours.number, "a message of another history");
        // Whichever of us is behind learns of it by this.
        self.tell_history(from.node(), fx);
        Ok(())
    }

    /// Somebody told of the members of the group.
    pub(crate) fn heard_members(
        &mut self,
        now: BootTime,
        from: NodeId,
        at: MembershipAt,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let (theirs, ours) = (at.membership.history(), self.core.history());
        if ours < theirs {
            info!(group = %self.group, history = theirs.number, since = %theirs.since, "another history has begun");
            self.step(now, Input::History(at), fx)?;
        } else if theirs < ours {
            self.tell_history(from, fx);
        }
        Ok(())
    }

    /// Tells a node of the history that this replica counts in, unless nobody may know of it yet.
    fn tell_history(&self, to: NodeId, fx: &mut Effects) {
        let first = History::default();
        let at = match self.core.told_history() {
            Some(at) => at,
            None if self.core.history() == first => self.core.membership_at(),
            None => return,
        };
        fx.told.push((to, self.group, at.clone()));
    }

    /// The row of the ledger that the entry of a forced recovery brings.
    pub(crate) fn loss_row(
        &self,
        opened: EntryId,
        opened_at: LogTime,
        note: &[u8],
    ) -> Result<Change, Fatal> {
        let loss = quorate_store::decode_loss(note).map_err(|reason| Fatal::Store {
            group: self.group,
            source: StoreError::Damaged {
                key: format!("loss at {opened}"),
                reason: reason.to_owned(),
            },
        })?;
        let entry = LossEntry { opened, opened_at, closed: None, loss };
        Ok(write_loss(self.keyspace, &entry))
    }

    /// The ledger of the group, if this replica leads.
    pub(crate) fn losses(&self, now: BootTime) -> Result<Result<Vec<LossEntry>, Error>, Fatal> {
        if let Err(error) = self.serving(now) {
            return Ok(Err(error));
        }
        let group = self.group;
        let entries = read_losses(self.store.as_ref(), self.keyspace);
        entries.map(Ok).map_err(|source| Fatal::Store { group, source })
    }

    /// Why this replica serves nobody any more, if that is so.
    pub(crate) fn refuses_outlived(&self) -> Option<Error> {
        self.core.is_outlived().then(|| refuse::outlived(self.group, self.core.history().number))
    }
}

/// What became of a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It takes part, or may.
    #[default]
    Present,
    /// The group goes on without what it holds, for ever.
    Outlived,
    /// It has left for good: its rows and its log are given up, and it never speaks again.
    Gone,
    /// Nobody has taken it in under the id that it has: it was made, or had left and goes on under another id.
    Awaited,
}

impl Fate {
    /// What stands behind the members.
    fn mark(self) -> Option<u8> {
        match self {
            Fate::Present => None,
            Fate::Outlived => Some(0x01),
            Fate::Gone => Some(0x02),
            Fate::Awaited => Some(0x03),
        }
    }

    fn of_mark(mark: u8) -> Option<Fate> {
        [Fate::Outlived, Fate::Gone, Fate::Awaited].into_iter().find(|it| it.mark() == Some(mark))
    }
}

/// A membership for the promise file, and what became of the replica.
#[must_use]
pub fn record_of(at: &MembershipAt, fate: Fate) -> MembershipRecord {
    let mut bytes = at.membership.encode().to_vec();
    bytes.extend(fate.mark());
    MembershipRecord { at: at.id, bytes }
}

/// The same from the promise file. One that was never stored has no members.
///
/// # Errors
/// `PROMISES_UNREADABLE` if the bytes are none.
pub fn membership_of(record: &MembershipRecord) -> Result<(MembershipAt, Fate), Error> {
    if record.bytes.is_empty() {
        return Ok((MembershipAt::default(), Fate::Present));
    }
    let decoded = match Membership::decode(&record.bytes) {
        Ok(membership) => Ok((membership, Fate::Present)),
        Err(error) => {
            let marked = record.bytes.split_last();
            match marked.and_then(|(mark, bytes)| Some((Fate::of_mark(*mark)?, bytes))) {
                Some((fate, bytes)) => Membership::decode(bytes).map(|it| (it, fate)),
                None => Err(error),
            }
        }
    };
    let (membership, fate) = decoded.map_err(|error| {
        Error::new(Code::PromisesUnreadable, format!("the members in the promise file: {error}"))
    })?;
    Ok((MembershipAt { id: record.at, membership }, fate))
}

fn answer(reply: ForceReply, answer: Result<History, Error>) {
    let _gone = reply.send(answer).is_err(); // The caller may have left.
}

/// Why no history begins, for whoever asked.
fn refused(group: GroupId, why: NotForced) -> Error {
    let error = match why {
        NotForced::Outlived => {
            Error::new(Code::Outlived, format!("{group} goes on without this replica"))
        }
        NotForced::OtherHistory(History { number, since }) => Error::new(
            Code::MembersChanged,
            format!("{group} is in history {number} already, since {since}"),
        ),
        NotForced::Led(Some(leader)) => {
            Error::new(Code::GroupNotLost, format!("{group} is led by {leader}"))
        }
        NotForced::Led(None) => Error::new(Code::GroupNotLost, format!("{group} is led")),
        NotForced::QuorumAnswers => {
            Error::new(Code::GroupNotLost, format!("a majority of {group} was heard a moment ago"))
        }
        NotForced::TooEarly => {
            let message =
                format!("this replica of {group} granted a lease, or started, a moment ago");
            Error::new(Code::NotReady, message)
        }
        NotForced::Impossible => {
            let message =
                format!("this replica, or one that is to be kept, is no voter of {group}");
            Error::new(Code::InvalidRequest, message)
        }
        NotForced::LacksProven(id) => {
            let message = format!("the log of this replica of {group} lacks {id}, which is chosen");
            Error::new(Code::InvalidRequest, message)
        }
        NotForced::LacksRows => {
            let message = format!("this replica of {group} has no rows that go with its log");
            Error::new(Code::MemberNotReady, message)
        }
    };
    refuse::of_group(error, group)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: that a replica is outlived, has left for good, or was not taken in yet, is remembered
    /// beside its members, and nothing else is.
    #[test]
    fn the_promise_file_remembers() {
        let membership = Membership::of_voters([(ReplicaId(1), 0)]);
        let ballot = Ballot { round: 1, replica: ReplicaId(1) };
        let at = MembershipAt { id: EntryId { slot: Slot(4), ballot }, membership };
        for fate in [Fate::Present, Fate::Outlived, Fate::Gone, Fate::Awaited] {
            let record = record_of(&at, fate);
            assert_eq!(membership_of(&record), Ok((at.clone(), fate)));
        }
        let mut record = record_of(&at, Fate::Present);
        record.bytes.push(7);
        assert_eq!(membership_of(&record).unwrap_err().code, Code::PromisesUnreadable);
        let never = MembershipRecord::default();
        assert_eq!(membership_of(&never), Ok((MembershipAt::default(), Fate::Present)));
    }
}
