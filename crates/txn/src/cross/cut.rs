//! Cuts: one moment of all groups, so that whoever adds up rows of many of them adds up one state.
//!
//! A cut is made by an entry in the log of the group with the lowest id and is numbered by its slot.
//! Every other log passes it once. Every message between groups names the latest cut that the sender's
//! log has passed, and a receiver that is behind passes it first: so nothing that happened after the
//! cut in one group is known before the cut in another. A yes remembers the latest cut before it, a
//! commit the greatest of all participants; a committed transaction belongs to the cuts above that one.
//! Distributed snapshots work so (Lai and Yang, "On Distributed Snapshots", 1987): a number on every
//! message in the place of markers.
//!
//! Why a cut is a state that a serial order of all transactions has: take a transaction that belongs to
//! it, and one before it that it has met in some group. The earlier one was decided there before the
//! later one's PREPARE, and so before the cut. What told of that decision had heard of every vote; had
//! one of them stood behind the cut in its log, the cut would have come along with it and the decision
//! would stand behind it, too.
//!
//! `core.rs` calls the first half of this file. The second half, [`CutView`], is for whoever keeps a
//! view at a cut: the driver of a group that leads.

use std::collections::{BTreeSet, VecDeque};

use quorate_store::{Change, Keyspace, Overlay, OverlayView, View};
use quorate_types::limits::{CUT_HELD_BYTES_MAX, CUT_HELD_MAX};
use quorate_types::planted::{Bug, planted};
use quorate_types::{
    Attempt, BootTime, CrossBody, CrossMessage, CutId, EntryId, GroupId, LogTime, Slot, Verdict,
};

use super::core::{Cross, Out};
use super::entry::{CrossEntry, Prepare};
use super::record::State;
use super::table::{CrossEvent, CrossTable};
use crate::apply::{ApplyError, rows_after};
use crate::draft::row_changes;
use crate::money;

/// Messages that wait until our log has passed the cut that they come from behind.
#[derive(Debug, Default)]
pub(super) struct Behind {
    messages: VecDeque<CrossMessage>,
    /// What they take. Invariant: the sum of their sizes.
    bytes: usize,
    /// The greatest cut proposed under this ballot.
    proposed: CutId,
}

impl Cross {
    /// Makes the log pass the cut that a message comes from behind. True if the message must wait for
    /// that, and then it is kept, unless too many are.
    pub(super) fn waits_for_cut(&mut self, message: &CrossMessage, out: &mut Out) -> bool {
        let passed = self.table.cut();
        let Some(lead) = &mut self.lead else { return false };
        if message.cut <= passed {
            return false;
        }
        let Behind { messages, bytes, proposed } = &mut lead.behind;
        if *proposed < message.cut {
            *proposed = message.cut;
            out.entries.push(CrossEntry::Cut(message.cut));
        }
        if planted(Bug::CutSplits) {
            return false;
        }
        let size = message.size();
        if messages.len() < CUT_HELD_MAX && *bytes + size <= CUT_HELD_BYTES_MAX {
            *bytes += size;
            messages.push_back(message.clone());
        }
        true
    }

    /// The log has passed a cut: what waited for that is handled, in the order it came.
    pub(super) fn cut_stands(&mut self, now: BootTime, out: &mut Out) {
        let passed = self.table.cut();
        let Some(lead) = &mut self.lead else { return };
        let waited = std::mem::take(&mut lead.behind.messages);
        lead.behind.bytes = 0;
        for message in waited {
            if message.cut <= passed {
                out.extend(self.receive(now, message));
            } else if let Some(lead) = &mut self.lead {
                lead.behind.bytes += message.size();
                lead.behind.messages.push_back(message);
            }
        }
    }

    /// Asks the group that numbers the cuts for its latest one. Only what a group says of itself is
    /// believed: a number that a caller made up would outrun all cuts to come.
    #[must_use]
    pub fn ask_cut(&self, numbering: GroupId) -> Out {
        let mut out = Out::default();
        if self.lead.is_some() && numbering != self.table.group() {
            self.say(numbering, CrossBody::AskCut, &mut out);
        }
        out
    }
}

/// What a view that stands exactly where a log passes a cut still has to learn: attempts that were
/// open there may belong to the cut, and their effects come later in the log.
///
/// Made right after the entry of the cut was applied, told of every [`CrossEvent`] after it.
#[derive(Debug)]
pub struct CutView {
    cut: CutId,
    /// Prepared at the cut and undecided here since.
    open: BTreeSet<Attempt>,
    /// The records that those which belong to the cut have changed.
    effects: Overlay,
    /// How many have.
    belong: u64,
    end: CutEnd,
}

/// The last entry that anything in a view at a cut is of. It lies behind the entry of the cut if
/// transactions that belong to the cut were decided after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutEnd {
    /// Its slot.
    pub upto: Slot,
    /// Its log time.
    pub log_time: LogTime,
}

impl CutView {
    /// For a view of what is applied now; the log has just passed `cut`, by the entry `end`.
    #[must_use]
    pub fn new(cut: CutId, table: &CrossTable, end: CutEnd) -> CutView {
        let is_open = |(attempt, record): (Attempt, &super::record::Record)| {
            matches!(record.state, State::Prepared(_)).then_some(attempt)
        };
        let open = table.records().filter_map(is_open).collect();
        CutView { cut, open, effects: Overlay::new(), belong: 0, end }
    }

    /// The cut.
    #[must_use]
    pub fn cut(&self) -> CutId {
        self.cut
    }

    /// The last entry that anything in it is of.
    #[must_use]
    pub fn end(&self) -> CutEnd {
        self.end
    }

    /// True once nothing is open any more: only then may anybody look.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    /// Bytes of the effects kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.effects.bytes()
    }

    /// The entry `at`, of this log time, did this. `base` is the view that stands at the cut.
    ///
    /// # Errors
    /// `ApplyError` if rows cannot be read, or are not those that the transaction was decided on.
    pub fn learn(
        &mut self,
        event: &CrossEvent,
        (at, log_time): (EntryId, LogTime),
        base: &dyn View,
        keyspace: Keyspace,
    ) -> Result<(), ApplyError> {
        match event {
            CrossEvent::Decided { attempt, commit, cut, prepare, voted, credits } => {
                let was_open = self.open.remove(attempt);
                if was_open && *commit && *cut < self.cut {
                    let view = self.effects.over(base);
                    self.end = CutEnd { upto: at.slot, log_time };
                    let at = (at, voted.slot, log_time);
                    let changes = effects_at_cut(prepare, credits, at, &view, keyspace)?;
                    self.belong += 1;
                    self.effects.push(Slot(self.belong), changes);
                }
            }
            // Undecided here and over everywhere: they had been aborted elsewhere.
            CrossEvent::Cleared(dropped) => self.open.retain(|it| !dropped.contains(it)),
            CrossEvent::Prepared(_)
            | CrossEvent::Refused(_)
            | CrossEvent::Nothing(_)
            | CrossEvent::Cut(_) => {}
        }
        Ok(())
    }

    /// The state at the cut, once nothing is open.
    #[must_use]
    pub fn over<'a>(&'a self, base: &'a dyn View) -> OverlayView<'a> {
        self.effects.over(base)
    }
}

/// What a transaction that was open at a cut changes in the records of a view at it. Its locks kept the
/// rows as they were until it was decided, so its sums are those of the view. Transfers lock nothing, but
/// what they may do was held in escrow from before the cut, so every account of the view can bear it.
fn effects_at_cut(
    prepare: &Prepare,
    credits: &[Verdict],
    (at, voted_at, log_time): (EntryId, Slot, LogTime),
    view: &dyn View,
    keyspace: Keyspace,
) -> Result<Vec<Change>, ApplyError> {
    if let Some(leg) = &prepare.leg {
        let draft = money::settle(leg, credits, (at, voted_at), keyspace, view)?;
        return Ok(draft.changes(at.slot, log_time));
    }
    let rows = rows_after(&prepare.write, at, keyspace, view)?;
    Ok(row_changes(&rows, at.slot))
}
