//! Carries out what the core of a group asks for: messages, log writes and reads, chosen batches, changes
//! of duty, verdicts. Called by `group.rs` after every step, in the order of the core's `Output`.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_log::Frame;
use quorate_paxos::{
    Batch, BatchKind, Input, LogRead, Member, NotServing, Output, Proposed, ReadPurpose, ReadToken,
    ReadVerdict, RoleChange,
};
use quorate_store::keys::parse_row;
use quorate_store::{Change, Row};
use quorate_txn::EntryPayload;
use quorate_txn::cross::CrossEvent;
use quorate_types::planted::{Bug, planted};
use quorate_types::{BootTime, EntryId, Slot, Value};
use tracing::{debug, info};

use crate::event::Answer;
use crate::group::{Effects, Fatal, GroupDriver};
use crate::network::PeerMessage;
use crate::refuse;
use crate::restore::{RestoreError, read_batches};

impl GroupDriver {
    pub(crate) fn carry_out(
        &mut self,
        now: BootTime,
        out: Output,
        inputs: &mut VecDeque<Input>,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        match out.proposed {
            Some(Proposed::At { first }) => {
                assert_eq!(first, self.proposals_at, "{}: evaluated for another slot", self.group);
            }
            Some(Proposed::Refused(reason)) => {
                // Handing over may fail, and the ballot go on: what belongs to it must stay.
                let handing_over = matches!(reason, NotServing::HandingOver(_));
                assert!(!handing_over, "{}: proposed while handing over", self.group);
                self.lose_leadership(reason);
            }
            None => {}
        }
        fx.promises.extend(out.promise.map(|ballot| (self.group, ballot)));
        if let Some(at) = out.keep {
            self.note_own(&at);
            fx.kept.push((self.group, at));
        }
        // What an arbiter has in its promise file is what it keeps, and nothing older.
        if let Some(at) = out.membership.filter(|_| self.kind().keeps_log()) {
            self.note_chosen(&at);
            fx.memberships.push((self.group, at));
        }
        if out.log_whole {
            info!(group = %self.group, "the log is whole again");
            fx.whole_logs.push((self.group, self.options.paxos.replica));
        }
        if let Some(changed) = out.changed {
            self.members.changed = Some(changed);
        }
        if let Some(forced) = out.forced {
            self.force.forced = Some(forced);
        }
        let history = self.core.history();
        for (to, message) in out.messages {
            let from = self.options.paxos.replica;
            let message = PeerMessage { group: self.group, from, to, history, message };
            fx.messages.entry(to.node()).or_default().push(message);
        }
        for append in out.appends {
            fx.writes.push((self.group, append.write));
            fx.frames.push(Frame {
                group: self.group,
                first: append.batch.first(),
                last: append.batch.last(),
                body: append.batch.encoded().clone(),
            });
        }
        for wanted in out.log_reads {
            let batches = self.read_log(wanted)?;
            inputs.push_back(Input::LogRead { purpose: wanted.purpose, batches });
        }
        for batch in out.applies {
            self.apply(now, &batch, inputs, fx)?;
        }
        for role in out.roles {
            self.change_role(now, role);
        }
        for (token, verdict) in out.reads {
            self.release(token, verdict);
        }
        if let Some(at_least) = out.refill {
            self.want_rows(now, at_least, inputs, fx);
        }
        if let Some(slot) = out.install {
            self.switch_rows(slot, inputs, fx);
        }
        Ok(())
    }

    fn read_log(&self, wanted: LogRead) -> Result<Vec<Batch>, Fatal> {
        let LogRead { purpose, from, upto, bytes_max } = wanted;
        let batches = read_batches(self.group, from, upto, bytes_max, &self.reader)?;
        if purpose == ReadPurpose::Apply
            && batches.first().is_none_or(|batch| batch.first() != from)
        {
            return Err(RestoreError::Missing { group: self.group, from, upto }.into());
        }
        Ok(batches)
    }

    /// A chosen batch: changes rows and sessions, then settles its waiters.
    fn apply(
        &mut self,
        now: BootTime,
        batch: &Batch,
        inputs: &mut VecDeque<Input>,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        for (entry, payload) in batch.entries() {
            let passed = self.cross.rules.table().cut();
            let (answer, cross) = self.apply_entry(batch, entry, &payload)?;
            if let Some(event) = &cross {
                self.note_cut(now, passed, (entry, batch.log_time()), event)?;
            }
            if batch.kind() == BatchKind::Entries && EntryPayload::is_check(&payload) {
                self.begin_check(now, entry, fx)?;
            }
            self.overlay.settle(entry.slot);
            self.pending.settle(entry.slot);
            self.waiters.settle(entry, &answer, &Err(refuse::replaced(self.group)));
            self.applied_entries += 1;
            if let Some(event) = cross {
                let out = self.cross.rules.applied(now, &event);
                self.carry_out_cross(now, out, fx)?;
                self.wake_cuts(now, fx)?;
            }
        }
        // Refusals computed on these entries may now ask whether leadership still holds.
        while let Some(first) = self.refusals.first_entry() {
            if batch.last() < *first.key() {
                break;
            }
            for held in first.remove() {
                self.next_token += 1;
                let token = ReadToken(self.next_token);
                self.held.insert(token, held);
                inputs.push_back(Input::Read(token));
            }
        }
        Ok(())
    }

    fn apply_entry(
        &mut self,
        batch: &Batch,
        entry: EntryId,
        payload: &Bytes,
    ) -> Result<(Answer, Option<CrossEvent>), Fatal> {
        let group = self.group;
        if batch.kind() != BatchKind::Entries {
            // Behind the members of another history stands what it may have cost.
            let is_loss = batch.kind() == BatchKind::Membership && batch.first() < entry.slot;
            let opened = EntryId { slot: batch.first(), ..entry };
            let row =
                is_loss.then(|| self.loss_row(opened, batch.log_time(), payload)).transpose()?;
            let mut rows: Vec<Change> = row.into_iter().collect();
            if let Some(at) = batch.membership().filter(|at| at.id == entry) {
                rows.extend(self.single_copy_rows(entry, batch.log_time(), &at.membership)?);
            }
            self.store.apply(group, entry.slot, rows);
            return Ok((Err(refuse::replaced(group)), None)); // Nobody waits for it.
        }
        let applied = quorate_txn::apply(
            payload,
            entry,
            batch.log_time(),
            &mut self.sessions,
            self.cross.rules.table_mut(),
            self.store.as_ref(),
        )
        .map_err(|source| Fatal::Apply { group, source })?;
        self.deletes.note(entry.slot, &applied.changes);
        let mut changes = applied.changes;
        if planted(Bug::Diverge) && self.is_unlucky(entry.slot) {
            changes.retain(|change| !is_text(change));
        }
        self.store.apply(group, entry.slot, changes);
        Ok((applied.reply, applied.cross))
    }

    /// Whether a planted bug strikes here: at one slot in a while, on one member that follows.
    fn is_unlucky(&self, slot: Slot) -> bool {
        let here = self.options.paxos.replica;
        let members = self.core.membership().members();
        let has_rows = |member: &Member| member.role.votes() && member.kind.keeps_rows();
        let last = members.filter(|(_, member)| has_rows(member)).map(|(id, _)| id).last();
        let is_last = last == Some(here);
        let leads = self.core.promised().replica == here;
        is_last && !leads && slot.0.is_multiple_of(16)
    }

    fn change_role(&mut self, now: BootTime, role: RoleChange) {
        match role {
            RoleChange::Follower { ballot, leader } => {
                debug!(group = %self.group, %ballot, leader = ?leader.map(|id| id.0), "follows");
                self.lose_leadership(NotServing::NotLeader(leader));
            }
            RoleChange::Candidate { ballot } => {
                info!(group = %self.group, %ballot, "asks for promises");
                self.lose_leadership(NotServing::NotLeader(None));
            }
            RoleChange::Elected { ballot } => {
                info!(group = %self.group, %ballot, "elected");
                self.leaderships += 1;
                assert!(self.overlay.is_empty(), "{}: an overlay outlived its ballot", self.group);
            }
            RoleChange::Serving { ballot } => {
                info!(group = %self.group, %ballot, applied = %self.core.slot_applied(), "serves");
                self.lead_cross(now, ballot);
            }
        }
    }

    /// Drops what belonged to the ballot that ended, and tells who waits.
    pub(crate) fn lose_leadership(&mut self, reason: NotServing) {
        let refused = Err(refuse::not_serving(self.group, reason));
        let leader = match reason {
            NotServing::NotLeader(leader) => leader,
            NotServing::HandingOver(target) => Some(target),
            NotServing::NotReady => None,
        };
        let unknown = Err(refuse::outcome_unknown(self.group, leader));
        let unproposed = if self.proposals.is_empty() {
            EntryId { slot: Slot(u64::MAX), ..EntryId::ZERO }
        } else {
            self.proposals_at
        };
        self.waiters.lose(unproposed, &refused, &unknown);
        self.proposals.clear();
        self.overlay.clear();
        self.pending.clear();
        self.lose_cross(&refused, &unknown);
        self.refuse_cut_waiters(&refused);
        self.lose_checks(&refuse::not_serving(self.group, reason));
        for held in std::mem::take(&mut self.refusals).into_values().flatten() {
            held.reply.answer(refused.clone());
        }
    }

    /// The verdict on an answer that was held.
    fn release(&mut self, token: ReadToken, verdict: ReadVerdict) {
        let held = self.held.remove(&token).expect("a verdict answers a read that was asked");
        match verdict {
            ReadVerdict::Confirmed => held.reply.answer(held.answer),
            ReadVerdict::Refused(reason) => {
                held.reply.answer(Err(refuse::not_serving(self.group, reason)));
            }
        }
    }
}

/// True for a row that gets bytes. (Of a number that is lost the next sum would tell.)
fn is_text(change: &Change) -> bool {
    let value = change.value.as_ref().and_then(|stored| Row::decode(stored).ok());
    let is_bytes = matches!(value, Some(Row { value: Value::Bytes(_), .. }));
    is_bytes && parse_row(&change.key).is_some()
}
