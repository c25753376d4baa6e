//! Rows that come from another replica: who is too far behind the log of its leader, or has lost its rows,
//! gets a snapshot and goes on from there. Called by `replica.rs`, `acceptor.rs` and `election.rs`.
//!
//! Leaders keep a bounded part of the log. A follower that needs more is told so with [`Behind`], and asks
//! its driver for a snapshot ([`Output::refill`]). What a snapshot holds is chosen, so it may come from
//! any replica at any time. It comes with the batch that it ends with. The log comes first: if it lacks
//! that batch, it starts anew with it, and once that is on disk the rows are switched
//! ([`Output::install`]). Whatever crashes in between leaves a log that says where it begins and rows
//! that are older, and those are asked for again.
//!
//! All the while the replica votes, grants leases and accepts as ever; its promise and what it accepted
//! above the snapshot stay what they are (traps 1 and 7).

use quorate_types::planted::{Bug, planted};
use quorate_types::{BootTime, EntryId, ReplicaId, Slot};

use crate::batch::Batch;
use crate::membership::MembershipAt;
use crate::message::{Behind, Message, Mismatch};
use crate::output::Output;
use crate::replica::{Duty, Replica};

/// A snapshot on its way into this replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Refill {
    #[default]
    None,
    /// It is being fetched: log above this slot will be needed.
    Fetching(Slot),
    /// It is here. The log must reach its last batch, which is this one, on disk.
    Logging(Batch),
    /// It takes the place of the rows.
    Switching(Batch),
}

impl Replica {
    /// The leader's log begins above what it believes us to have.
    pub(crate) fn on_behind(
        &mut self,
        now: BootTime,
        from: ReplicaId,
        msg: &Behind,
        out: &mut Output,
    ) {
        if !self.obeys(now, from, msg.ballot, out) {
            return;
        }
        let trimmed = msg.trimmed;
        if self.log.holds_exactly(trimmed) || trimmed.slot <= self.slot_committed {
            // It stepped back further than it had to: the logs agree there.
            let slot_committed = self.slot_committed;
            let here = Mismatch { ballot: msg.ballot, last: trimmed, slot_committed };
            self.send(from, Message::Mismatch(here), out);
        } else {
            self.fall_behind(trimmed, out);
        }
    }

    /// Everything through this entry is chosen, gone from the log of others, and not in ours.
    pub(crate) fn fall_behind(&mut self, trimmed: EntryId, out: &mut Output) {
        if self.behind.is_none_or(|before| before.slot < trimmed.slot) {
            self.behind = Some(trimmed);
        }
        if !self.is_installing() {
            out.refill = Some(trimmed.slot.max(self.slot_wanted()));
        }
    }

    /// Without rows every sign of a leader is a reason to ask for them.
    pub(crate) fn ask_for_rows(&self, out: &mut Output) {
        if self.rows_missing && !self.is_installing() {
            out.refill = Some(self.slot_wanted());
        }
    }

    /// The rows are not those of the others: nothing is applied to them or given away, and this replica does
    /// not lead, before rows as of at least the same entry have taken their place. It goes on voting and
    /// accepting. (Never back: what was told of this replica's freshness stays true.)
    pub(crate) fn on_rows_damaged(&mut self, now: BootTime, out: &mut Output) {
        if self.rows_missing || self.is_installing() {
            return; // They are about to be replaced.
        }
        self.rows_missing = true;
        self.read_ahead.clear();
        match self.duty {
            Duty::Follower { .. } => {}
            Duty::PreCandidate(_) => self.wait_for_leader(now),
            Duty::Candidate(_) | Duty::Leader(_) => self.become_follower(now, None, out),
        }
        self.ask_for_rows(out);
    }

    /// Rows that stand here or later will do.
    fn slot_wanted(&self) -> Slot {
        self.log.trimmed().max(self.slot_applied).max(self.rows_at_least)
    }

    /// A snapshot at `slot` is being fetched, or none any more.
    pub(crate) fn on_refilling(&mut self, slot: Option<Slot>) {
        if !self.is_installing() {
            self.refill = slot.map_or(Refill::None, Refill::Fetching);
        }
    }

    /// The batch that a snapshot of the rows as they are applied now ends with. `None` if nothing was
    /// known of it, or there are no rows to take it of, or others are about to take their place, or they are of another
    /// history than this replica counts in: ask another replica.
    #[must_use]
    pub fn applied_last(&self) -> Option<&Batch> {
        self.applied_last.as_ref().filter(|_| !self.lacks_rows() && !self.is_crossing())
    }

    /// The members that go with a snapshot of the rows as they are applied now: those that were in force there, or with
    /// which the history began whose log these rows are a part of, where its first entry is not applied yet. (Rows
    /// are taken over only within one history, and that entry may wait for who needs them.)
    #[must_use]
    pub fn snapshot_membership(&self) -> &MembershipAt {
        let (applied, first) = (self.applied_membership(), self.memberships.first_of_history());
        let is_of_it = applied.membership.history() == first.membership.history();
        if is_of_it { applied } else { first }
    }

    /// True if there are no rows that go with the log, or only damaged ones: they must come from another
    /// replica.
    #[must_use]
    pub fn rows_missing(&self) -> bool {
        self.rows_missing
    }

    /// True if rows as of this entry are of use here, and may take the place of ours now. Not while less
    /// is promised than what the log may begin with: an older leader could be obeyed.
    #[must_use]
    pub fn may_install(&self, id: EntryId) -> bool {
        let is_ahead = if self.rows_missing {
            self.slot_wanted() <= id.slot
        } else {
            self.slot_applied < id.slot
        };
        let is_promised = id.ballot <= self.promised_synced || planted(Bug::InstallUnpromised);
        let follows = matches!(self.duty, Duty::Follower { .. } | Duty::PreCandidate(_));
        // What the group goes on without may be the last copy of what was lost.
        let takes_part = self.options.kind.keeps_log() && !self.is_outlived();
        is_ahead && is_promised && follows && takes_part && !self.is_installing()
    }

    /// A snapshot is here, complete: from now on nothing is applied. A log that has its last entry keeps
    /// what follows, which may be acknowledged. Any other log ended differently than what was chosen,
    /// or before it, and begins anew with the last batch of the snapshot.
    pub(crate) fn on_install(
        &mut self,
        now: BootTime,
        last: Batch,
        membership: MembershipAt,
        out: &mut Output,
    ) {
        let id = last.last_id();
        assert!(self.may_install(id), "a snapshot at {id} is of no use here");

        if let Duty::PreCandidate(_) = self.duty {
            self.wait_for_leader(now);
        }
        self.refill = Refill::Logging(last.clone());
        if !self.log.holds_exactly(id) || planted(Bug::InstallOverLog) {
            self.rows_missing = true;
            self.read_ahead.clear();
            self.log.begin_after(last.prev());
            out.membership = Some(membership.clone());
            self.memberships.begin_with(membership);
            self.append(last, out);
        }
        self.slot_committed = self.slot_committed.max(id.slot);
        self.slot_verified = self.slot_verified.max(id.slot);
    }

    /// Switches the rows once the log is durable through the end of the snapshot.
    pub(crate) fn continue_install(&mut self, out: &mut Output) {
        if let Refill::Logging(last) = &self.refill
            && last.last() <= self.slot_synced
        {
            out.install = Some(last.last());
            self.refill = Refill::Switching(last.clone());
        }
    }

    /// The snapshot has become the rows on disk; or it has not, and never will.
    pub(crate) fn on_installed(&mut self, is_done: bool, out: &mut Output) {
        let Refill::Switching(last) = std::mem::take(&mut self.refill) else {
            panic!("installed out of turn");
        };
        assert!(matches!(self.duty, Duty::Follower { .. }), "leads or runs without rows");

        if is_done {
            self.slot_applied = last.last();
            self.applied_last = self.options.kind.keeps_rows().then_some(last);
            self.rows_missing = false;
            // Memberships in the part that is never applied here count from now on too.
            self.memberships.settle(self.slot_applied);
            out.membership = Some(self.applied_membership().clone());
        }
    }

    /// True if nothing can be applied here before a snapshot is installed.
    pub(crate) fn lacks_rows(&self) -> bool {
        self.rows_missing || self.is_installing()
    }

    /// True if this replica cannot lead before a snapshot is installed: it could not evaluate anything,
    /// or no log that it may have to adopt reaches back to its own; or its own log is of an older history.
    pub(crate) fn needs_refill(&self) -> bool {
        // It may have got that log from another leader after all.
        let is_behind = |id: EntryId| self.slot_committed < id.slot && !self.log.holds_exactly(id);
        let crosses = self.is_crossing() && !planted(Bug::LeadAcross);
        self.lacks_rows() || self.behind.is_some_and(is_behind) || crosses
    }

    fn is_installing(&self) -> bool {
        matches!(self.refill, Refill::Logging(_) | Refill::Switching(_))
    }

    /// Where the snapshot stands that is being fetched, for the leader to keep the log above.
    pub(crate) fn slot_refilling(&self) -> Option<Slot> {
        match &self.refill {
            Refill::Fetching(slot) => Some(*slot),
            Refill::None | Refill::Logging(_) | Refill::Switching(_) => None,
        }
    }
}
