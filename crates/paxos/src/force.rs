//! Forced recovery: a majority is lost for ever, and the group goes on without it. Called by `replica.rs`
//! and `acceptor.rs`; `docs/adr/0020-forced-recovery-raises-the-history.md` says why it is done so.
//!
//! ```text
//!   Input::Force ---> promise of an own ballot above all that survivors told ---> durable
//!   durable --------> an entry above the own log: survivors are the voters, of the next history
//!   that durable ---> told to all nodes (Output::membership); the survivor runs for leadership by it
//!   Input::History -> another survivor counts by it from then on, and takes the log over;
//!                     who is no member of it, or has rows that it lacks, is outlived: silent for ever
//! ```
//!
//! Replicas of different histories never count together: drivers name the history with every message and
//! drop what comes from another one.
//!
//! A survivor whose own log is not yet of its history (it is *crossing*) does not run, and promises as one
//! whose log is empty: what it holds above the common part counts for nothing any more, whatever its ballots
//! are. So whoever leads has the entry that the history began with, and no log without it is ever adopted.
//!
//! Nothing that a replica knows to be chosen is ever cut here either. What may be lost is what nobody among
//! the survivors knows to be chosen.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_types::{Ballot, BootTime, EntryId, ReplicaId, ReplicaKind, Slot};

use crate::batch::{Batch, BatchKind};
use crate::membership::{History, Member, Membership, MembershipAt, Role};
use crate::output::Output;
use crate::replica::{Duty, Replica};

/// So many rounds of pre-votes without an answer are enough to take a voter for lost.
const ROUNDS_SILENT: u32 = 3;

/// Begin another history without those that are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForceRequest {
    /// The history that is given up.
    pub history: History,
    /// The members that stay, in the roles that they have.
    pub kept: BTreeSet<ReplicaId>,
    /// The greatest ballot that any of them has promised.
    pub promised: Ballot,
    /// The greatest entry that any of them knows to be chosen.
    pub proven: EntryId,
    /// What it may cost, for the driver of whoever applies it.
    pub note: Bytes,
}

/// Why no other history was begun. Nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotForced {
    /// The group goes on without what this replica holds.
    Outlived,
    /// It is in this history.
    OtherHistory(History),
    /// Somebody leads.
    Led(Option<ReplicaId>),
    /// A quorum of voters was heard a moment ago: the group is not lost.
    QuorumAnswers,
    /// This replica granted a lease, or started, too short a time ago.
    TooEarly,
    /// This replica would be no voter, or somebody is to stay who is no member.
    Impossible,
    /// It lacks an entry that is known to be chosen.
    LacksProven(EntryId),
    /// It has no rows that go with its log, or its log may lack entries.
    LacksRows,
}

/// What a replica keeps about histories.
#[derive(Clone, Debug)]
pub(crate) struct Force {
    /// The group goes on without what this replica holds, for ever.
    is_outlived: bool,
    /// Since then it listens.
    listens_since: BootTime,
    /// When each voter was heard last; not kept by a leader.
    heard: BTreeMap<ReplicaId, BootTime>,
    /// Another history is about to begin.
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    Idle,
    /// It begins once the promise of this ballot is durable.
    Promising {
        ballot: Ballot,
        members: BTreeMap<ReplicaId, Member>,
        note: Bytes,
    },
    /// It has begun once this entry is durable.
    Logging(EntryId),
}

impl Force {
    pub(crate) fn restored(now: BootTime, is_outlived: bool) -> Force {
        let (listens_since, heard) = (now, BTreeMap::new());
        Force { is_outlived, listens_since, heard, phase: Phase::Idle }
    }
}

impl Replica {
    /// The history that this replica counts in. Only rises.
    #[must_use]
    pub fn history(&self) -> History {
        self.membership().history()
    }

    /// True if the group goes on without what this replica holds, for ever.
    #[must_use]
    pub fn is_outlived(&self) -> bool {
        self.force.is_outlived
    }

    /// The members by which a later history than the first is known here, for whoever counts in an older one.
    /// `None` while the entry that it began with is not durable anywhere. Never members of a change that is not known to
    /// be chosen: whoever is told keeps them, whatever becomes of it.
    #[must_use]
    pub fn told_history(&self) -> Option<&MembershipAt> {
        let at = self.memberships.first_of_history();
        let is_later = History::default() < at.membership.history();
        (is_later && !matches!(self.force.phase, Phase::Logging(_))).then_some(at)
    }

    /// True while another history is about to begin here.
    #[must_use]
    pub fn is_forcing(&self) -> bool {
        !matches!(self.force.phase, Phase::Idle)
    }

    /// The log is not yet of the history that this replica counts in. Never true of an arbiter, which has none.
    #[must_use]
    pub fn is_crossing(&self) -> bool {
        let History { number, since } = self.history();
        let keeps_log = self.options.kind != ReplicaKind::Arbiter;
        number != 0
            && keeps_log
            && self.log.trimmed() < since.slot
            && self.log.id_at(since.slot) != Some(since)
    }

    /// Somebody of the own history lives.
    pub(crate) fn note_heard(&mut self, now: BootTime, from: ReplicaId) {
        if !matches!(self.duty, Duty::Leader(_)) && self.membership().has_voter(from) {
            self.force.heard.insert(from, now);
        }
    }

    /// Makes the promise with which another history begins, or says why not.
    pub(crate) fn on_force(&mut self, now: BootTime, request: ForceRequest, out: &mut Output) {
        let members = match self.members_to_keep(now, &request) {
            Ok(members) => members,
            Err(why) => {
                out.forced = Some(Err(why));
                return;
            }
        };
        out.forced = Some(Ok(()));
        if self.is_kept_already(&request, &members) {
            return; // Asked again.
        }
        let round = self.promised.round.max(self.round_seen).max(request.promised.round) + 1;
        let ballot = Ballot { round, replica: self.options.replica };
        self.become_follower(now, None, out);
        self.promise(now, ballot, out);
        self.force.phase = Phase::Promising { ballot, members, note: request.note };
    }

    /// True if this is what has begun, or is beginning.
    fn is_kept_already(
        &self,
        request: &ForceRequest,
        members: &BTreeMap<ReplicaId, Member>,
    ) -> bool {
        let present = self.membership();
        let has_begun = self.history().number == request.history.number + 1
            && present.members().map(|(id, _)| id).eq(members.keys().copied());
        let begins =
            matches!(&self.force.phase, Phase::Promising { members: same, .. } if same == members);
        has_begun || begins
    }

    /// The members of the history that is to begin.
    fn members_to_keep(
        &self,
        now: BootTime,
        request: &ForceRequest,
    ) -> Result<BTreeMap<ReplicaId, Member>, NotForced> {
        let own = self.options.replica;
        let present = self.membership();
        if self.is_outlived() {
            return Err(NotForced::Outlived);
        }
        let member = |id: &ReplicaId| {
            let member = present.get(*id)?;
            // Whoever is set aside may be all that is left.
            let may_vote = member.role.votes() || member.role == Role::Suspended;
            let role = if may_vote { Role::Voter } else { Role::Learner };
            Some((*id, Member { role, ..*member }))
        };
        let members: Option<BTreeMap<_, _>> = request.kept.iter().map(member).collect();
        let members = members.ok_or(NotForced::Impossible)?;
        let leads = |it: &Member| it.role == Role::Voter && it.kind.may_lead();
        if !members.get(&own).is_some_and(leads) || Membership::new(members.clone()).is_err() {
            return Err(NotForced::Impossible);
        }
        if self.is_kept_already(request, &members) {
            return Ok(members);
        }
        if self.history() != request.history {
            return Err(NotForced::OtherHistory(self.history()));
        }
        if matches!(self.duty, Duty::Leader(_)) || self.known_leader(now).is_some() {
            return Err(NotForced::Led(self.known_leader(now)));
        }
        let timing = &self.options.timing;
        let silence = (timing.round + timing.jitter) * ROUNDS_SILENT;
        let lives = |id| {
            let heard = self.force.heard.get(&id);
            id == own || heard.is_some_and(|at| now < *at + silence)
        };
        if present.is_quorum(lives) {
            return Err(NotForced::QuorumAnswers);
        }
        let is_early = now < self.force.listens_since + silence;
        if is_early || !self.may_promise(now, false) {
            return Err(NotForced::TooEarly);
        }
        let proven = request.proven;
        if self.slot_committed < proven.slot && !self.log.holds_exactly(proven) {
            return Err(NotForced::LacksProven(proven));
        }
        if self.lacks_rows() || self.is_log_suspect() {
            return Err(NotForced::LacksRows);
        }
        Ok(members)
    }

    /// Goes on with what was begun as far as the disk has come. Called after every step.
    pub(crate) fn continue_force(&mut self, now: BootTime, out: &mut Output) {
        match &self.force.phase {
            Phase::Idle => {}
            Phase::Promising { ballot, .. } if *ballot != self.promised => {
                self.force.phase = Phase::Idle; // Another ballot was promised: somebody lives.
            }
            Phase::Promising { .. } => {
                let is_durable = self.promised_synced == self.promised;
                if is_durable && self.slot_synced == self.log.last().slot {
                    self.begin_history(out);
                }
            }
            Phase::Logging(since) if since.slot <= self.slot_synced => {
                self.force.phase = Phase::Idle;
                out.membership = Some(self.memberships.last().clone());
                if let Duty::Follower { election_at } = &mut self.duty {
                    *election_at = now;
                }
            }
            Phase::Logging(_) => {}
        }
    }

    /// The entry with which another history begins, above everything in the own log.
    fn begin_history(&mut self, out: &mut Output) {
        let Phase::Promising { ballot, members, note } =
            std::mem::replace(&mut self.force.phase, Phase::Idle)
        else {
            return;
        };
        let tail = self.tail();
        let since = EntryId { slot: tail.id.slot.next(), ballot };
        let history = History { number: self.history().number + 1, since };
        let Ok(membership) = Membership::new(members) else {
            return; // Checked when it was asked for: this replica votes.
        };
        self.behind = None; // What others had recycled is lost with them: nobody waits for it.
        let payloads = [membership.in_history(history).encode(), note];
        let batch = Batch::new(BatchKind::Membership, ballot, tail, tail.log_time, &payloads);
        self.append(batch, out);
        self.force.phase = Phase::Logging(since);
    }

    /// Somebody told of the members in a later history.
    pub(crate) fn on_history(&mut self, now: BootTime, at: MembershipAt, out: &mut Output) {
        let history = at.membership.history();
        if history <= self.history() {
            return;
        }
        if self.options.kind == ReplicaKind::Arbiter {
            // It counts by what it keeps, and has nothing that could be outlived.
            let on_its_way = self.keeping.as_ref().map(|at| at.membership.history());
            if Some(history) <= on_its_way {
                return; // Told twice, perhaps by somebody who knows older members.
            }
            out.keep = Some(at.clone());
            self.keeping = Some(at);
            return;
        }
        self.force.phase = Phase::Idle;
        self.force.heard.clear();
        self.promise_owed_to = None;
        self.behind = None;
        self.become_follower(now, None, out);
        let is_empty = self.log.last() == EntryId::ZERO;
        let is_member = at.membership.get(self.options.replica).is_some();
        let is_ahead = history.since.slot <= self.slot_committed;
        out.membership = Some(at.clone());
        self.memberships.begin_with(at);
        // Whoever has nothing yet may still be taken in.
        if !is_empty && (!is_member || is_ahead) {
            self.outlive(out);
        }
    }

    /// The group goes on without what this replica holds: it neither serves nor votes again.
    pub(crate) fn outlive(&mut self, out: &mut Output) {
        self.force.is_outlived = true;
        self.leader = None; // It asks nobody any more.
        self.force.phase = Phase::Idle;
        out.membership = Some(self.memberships.last().clone());
    }

    /// True if a batch of the leader's log takes the place of what is known to be chosen here. Only where the
    /// history has changed can that be.
    pub(crate) fn parts_ways(&self, batch: &Batch) -> bool {
        let is_chosen = |slot: Slot| slot <= self.slot_committed;
        self.is_crossing()
            && (is_chosen(batch.prev().slot) && !self.log.holds(batch.prev())
                || is_chosen(batch.first()) && !self.log.holds(batch.last_id()))
    }

    /// The last entry that counts when promises are weighed: of a log that is not of this history, none does.
    pub(crate) fn last_to_promise(&self) -> EntryId {
        if self.is_crossing() { EntryId::ZERO } else { self.log.last() }
    }
}

#[cfg(test)]
mod tests;
