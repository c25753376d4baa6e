//! Checks that the replicas of a group hold the same rows. Called by `shard.rs` and `carry_out.rs`.
//!
//! ```text
//!   leader: CHECK ---> log of every replica ---> each pins a view there, hashes it (`hashing.rs`)
//!   follower: Report ---> leader compares; a majority of the voters holds the same: Verdict
//!   whoever differs: quarantine ---> core: RowsDamaged ---> rows from one that agrees (`refill.rs`)
//! ```
//!
//! The leader only tells; every replica compares with its own hash and decides for itself, the leader too.
//! Without a majority nobody knows who is right, and nobody does anything but cry. Reports are said again
//! until there is a verdict, to whoever leads then: each replica has hashed for itself, so any can
//! compare.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_paxos::{Input, Member, Membership};
use quorate_txn::Proposal;
use quorate_types::{
    BootTime, CheckBody, CheckMessage, CheckReport, CheckState, Code, Difference, EntryId, Error,
    MemberRole, NodeId, ReplicaId, RowsDigest,
};
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use crate::event::CheckStatus;
use crate::group::{Effects, Fatal, GroupDriver};
use crate::hashing::HashJob;
use crate::refill::Switch;
use crate::refuse;

/// A report without a verdict is said again after this.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Who has not reported by then is not waited for: the longest that hashing may take, and a bit.
const ROUND_MAX: Duration = Duration::from_secs(360);
/// Callers of one group that wait for a check.
const ASKED_MAX: usize = 16;
/// Groups of a node check at different times: so many.
const STAGGER: u32 = 16;

/// Who waits for what a check finds.
pub(crate) type CheckReply = oneshot::Sender<Result<CheckReport, Error>>;

/// What the replica itself holds.
#[derive(Debug)]
enum Own {
    Hashing,
    /// `None`: it could not be hashed.
    Hashed(Option<RowsDigest>),
}

/// What became of a check. Counted once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// All voters hold the same.
    Agreed,
    /// A majority holds the same, and somebody something else.
    Diverged,
    /// There is no majority that holds the same.
    NoMajority,
    /// Nobody was found to differ, and not all were heard.
    Incomplete,
}

/// The latest check that was applied here.
#[derive(Debug)]
struct Round {
    at: EntryId,
    since: BootTime,
    own: Own,
    /// What others have reported.
    heard: BTreeMap<ReplicaId, Option<RowsDigest>>,
    /// Whose verdict there was. The next leader wants to hear from everybody again.
    settled_with: Option<ReplicaId>,
    /// When our report is said next.
    report_at: BootTime,
    /// What was counted, on a leader.
    outcome: Option<Outcome>,
}

/// Somebody who asked for a check.
#[derive(Debug)]
struct Asked {
    at: EntryId,
    until: BootTime,
    reply: CheckReply,
}

/// The part of a group that checks take.
#[derive(Debug)]
pub(crate) struct CheckDriver {
    /// How often a leader checks; zero: never by itself.
    every: Duration,
    /// When the last check was asked for here, or applied.
    last_at: BootTime,
    round: Option<Round>,
    asked: Vec<Asked>,
    status: CheckStatus,
}

impl CheckDriver {
    /// Nothing was checked yet.
    pub(crate) fn new(
        now: BootTime,
        every: Duration,
        group: u32,
        is_diverged: bool,
    ) -> CheckDriver {
        let part = every / (2 * STAGGER) * (group % STAGGER);
        let status = CheckStatus { is_diverged, ..CheckStatus::default() };
        CheckDriver { every, last_at: now - part, round: None, asked: Vec::new(), status }
    }
}

impl Round {
    /// What a replica said; `None` if it was not heard.
    fn said(&self, replica: ReplicaId, here: ReplicaId) -> Option<Option<&RowsDigest>> {
        if replica == here {
            return match &self.own {
                Own::Hashing => None,
                Own::Hashed(digest) => Some(digest.as_ref()),
            };
        }
        self.heard.get(&replica).map(Option::as_ref)
    }

    fn own_digest(&self) -> Option<&RowsDigest> {
        match &self.own {
            Own::Hashed(digest) => digest.as_ref(),
            Own::Hashing => None,
        }
    }
}

impl GroupDriver {
    /// How it is with checks.
    pub(crate) fn check_status(&self, now: BootTime) -> CheckStatus {
        let millis = |since| u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
        let last_ms_ago = self.checks.round.as_ref().map(|round| millis(round.since));
        CheckStatus { last_ms_ago, ..self.checks.status }
    }

    /// Puts a check into the log if this replica leads, one is due and something was written since the last.
    /// True if it did.
    pub(crate) fn check_if_due(&mut self, now: BootTime) -> bool {
        let every = self.checks.every;
        if every.is_zero() || now < self.checks.last_at + every {
            return false;
        }
        let last = self.checks.round.as_ref().map_or(EntryId::ZERO, |round| round.at);
        let is_changed = last.slot < self.core.slot_applied();
        if !is_changed || self.propose_check(now).is_none() {
            return false;
        }
        true
    }

    /// Puts a check into the log, for somebody who waits for what it finds, or for `wait` at most.
    pub(crate) fn ask_check(
        &mut self,
        now: BootTime,
        wait: Duration,
        has_room: bool,
        reply: CheckReply,
    ) {
        let refused = if let Err(error) = self.serving(now) {
            Some(error)
        } else if !has_room {
            Some(refuse::disk_full(self.group))
        } else if ASKED_MAX <= self.checks.asked.len() {
            let message = format!("{ASKED_MAX} wait for a check of {}", self.group);
            let error = Error::new(Code::Overloaded, message).after(REPORT_EVERY);
            Some(refuse::of_group(error, self.group))
        } else {
            None
        };
        if let Some(error) = refused {
            let _gone = reply.send(Err(error)).is_err(); // The caller may have left.
            return;
        }
        let at = self.propose_check(now).expect("it serves, as was looked up just now");
        self.checks.asked.push(Asked { at, until: now + wait, reply });
    }

    fn propose_check(&mut self, now: BootTime) -> Option<EntryId> {
        let serving = self.core.serving(now).ok()?;
        self.begin_round(&serving);
        self.checks.last_at = now;
        Some(self.stage(&Proposal::check()))
    }

    /// A check was applied: pins a view behind it, before the next entry is applied.
    pub(crate) fn begin_check(
        &mut self,
        now: BootTime,
        at: EntryId,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        self.end_check();
        let (sessions, attempts) = (&mut self.sessions, self.cross.rules.table_mut());
        let pinned = self.store.pin_with(|| {
            let mut changes = sessions.take_changes();
            changes.extend(attempts.take_changes());
            changes
        });
        let group = self.group;
        let pinned = pinned.map_err(|source| Fatal::Store { group, source })?;
        let own = match pinned {
            Some(view) => {
                debug!(%group, %at, "hashes the rows for a check");
                fx.hashes.push(HashJob::new(now, self.keyspace, view, at));
                Own::Hashing
            }
            None => {
                warn!(%group, %at, "cannot check the rows: too many views are kept on this node");
                Own::Hashed(None)
            }
        };
        self.checks.last_at = now;
        self.checks.round = Some(Round {
            at,
            since: now,
            own,
            heard: BTreeMap::new(),
            settled_with: None,
            report_at: now,
            outcome: None,
        });
        Ok(())
    }

    /// True if somebody wants to know what the rows were at this entry.
    pub(crate) fn wants_hash(&self, at: EntryId) -> bool {
        let is_it = |round: &Round| round.at == at && matches!(round.own, Own::Hashing);
        self.checks.round.as_ref().is_some_and(is_it)
    }

    /// The rows at an entry are hashed, or could not be.
    pub(crate) fn hashed(
        &mut self,
        now: BootTime,
        at: EntryId,
        digest: Option<RowsDigest>,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        if digest.is_none() {
            warn!(group = %self.group, %at, "cannot check the rows: hashing them took too long");
        }
        if let Some(round) = self.checks.round.as_mut().filter(|round| round.at == at) {
            round.own = Own::Hashed(digest);
            round.report_at = now;
        }
        self.tick_check(now, fx)
    }

    /// Too many others are to be hashed. Others hear of it with the next report.
    pub(crate) fn cannot_hash(&mut self, at: EntryId) {
        warn!(group = %self.group, %at, "cannot check the rows: too many groups are being checked");
        if let Some(round) = self.checks.round.as_mut().filter(|round| round.at == at) {
            round.own = Own::Hashed(None);
        }
    }

    /// What another replica says about a check.
    pub(crate) fn receive_check(
        &mut self,
        now: BootTime,
        message: CheckMessage,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let CheckMessage { from, to, at, body, .. } = message;
        let is_ours = to == self.here() && self.check_voters().contains(&from);
        let Some(round) = self.checks.round.as_mut().filter(|round| is_ours && round.at == at)
        else {
            return Ok(()); // Of another check. It will be said again if it still matters.
        };
        match body {
            CheckBody::Report(digest) => {
                round.heard.insert(from, digest);
                self.judge(now, Some(from), fx)
            }
            CheckBody::Verdict { majority, agreeing } => {
                self.obey(now, from, &majority, &agreeing, fx)
            }
        }
    }

    /// A majority of the voters holds this.
    fn obey(
        &mut self,
        now: BootTime,
        leader: ReplicaId,
        majority: &RowsDigest,
        agreeing: &[ReplicaId],
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let membership = self.core.membership();
        let Some(round) = self.checks.round.as_mut() else { return Ok(()) };
        let Some(own) = round.own_digest() else { return Ok(()) };
        let difference = own.difference(majority);
        round.settled_with = Some(leader);
        if difference == Difference::default() || !is_majority_of_rows(membership, agreeing) {
            return Ok(());
        }
        let at = round.at;
        let members = agreeing.iter().filter(|replica| membership.get(**replica).is_some());
        let sources: Vec<NodeId> = members.map(|replica| replica.node()).collect();
        if !self.distrust_rows(sources) {
            info!(group = %self.group, %at, "rows that differ are being replaced already");
            return Ok(());
        }
        error!(
            group = %self.group, %at, slices = ?difference.slices, rest = difference.rest,
            code = Code::ReplicaDiverged.name(),
            "the rows here are not those of the majority: they are in quarantine and will be fetched anew"
        );
        self.checks.status.is_diverged = true;
        self.lose_views("its rows are not those of the majority");
        fx.withdrawn.push(self.group);
        let replica = self.options.paxos.replica;
        fx.switches.push(Switch::quarantine(self.group, replica, &self.store));
        self.step(now, Input::RowsDamaged, fx)
    }

    /// Compares what was reported, on a leader: tells who is heard, counts, and answers who asked.
    fn judge(
        &mut self,
        now: BootTime,
        asker: Option<ReplicaId>,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        if self.core.serving(now).is_err() {
            return Ok(());
        }
        let Some((majority, agreeing)) = self.majority() else {
            self.count_check(now);
            return Ok(());
        };
        let here = self.here();
        let Some(round) = &mut self.checks.round else { return Ok(()) };
        // Whoever has just reported hears it at once, and the others when there first is one.
        let is_new = round.settled_with != Some(here);
        let told = round.heard.keys().filter(|replica| is_new || asker == Some(**replica));
        for to in told.copied().collect::<Vec<_>>() {
            let (majority, agreeing) = (majority.clone(), agreeing.clone());
            let body = CheckBody::Verdict { majority, agreeing };
            let (group, at) = (self.group, round.at);
            fx.checks.push((to.node(), CheckMessage { group, from: here, to, at, body }));
        }
        self.count_check(now);
        self.obey(now, here, &majority, &agreeing, fx)
    }

    /// What a majority of the voters holds, and which of them do.
    fn majority(&self) -> Option<(RowsDigest, Vec<ReplicaId>)> {
        let round = self.checks.round.as_ref()?;
        let voters = self.check_voters();
        let mut holders: BTreeMap<&RowsDigest, Vec<ReplicaId>> = BTreeMap::new();
        for replica in &voters {
            if let Some(Some(digest)) = round.said(*replica, self.here()) {
                holders.entry(digest).or_default().push(*replica);
            }
        }
        let membership = self.core.membership();
        let mut held = holders.into_iter();
        let found = held.find(|(_, who)| is_majority_of_rows(membership, who));
        found.map(|(digest, who)| (digest.clone(), who))
    }

    /// Looks what the check has found so far: counts it once that is sure, and answers who asked.
    fn count_check(&mut self, now: BootTime) {
        let Some(report) = self.report() else { return };
        let states = || report.replicas.iter().map(|(_, state)| state);
        let differing = states().filter(|state| matches!(state, CheckState::Differs(_))).count();
        let is_heard = states().all(|state| *state != CheckState::NotHeard);
        let is_complete = is_heard && states().all(|state| *state != CheckState::NotChecked);
        let outcome = match (report.has_majority, differing) {
            (true, 0) if is_complete => Outcome::Agreed,
            (true, 1..) => Outcome::Diverged,
            (false, 1..) => Outcome::NoMajority,
            (_, _) => Outcome::Incomplete,
        };
        let Some(round) = &mut self.checks.round else { return };
        let is_over = is_heard || round.since + ROUND_MAX < now;
        if round.outcome.is_none() && (is_over || outcome == Outcome::Diverged) {
            round.outcome = Some(outcome);
            self.checks.status.differing = differing;
            let (group, at) = (self.group, round.at);
            let status = &mut self.checks.status;
            match outcome {
                Outcome::Agreed => {
                    debug!(%group, %at, "all replicas hold the same rows");
                    status.agreed += 1;
                }
                Outcome::Incomplete => status.incomplete += 1,
                Outcome::Diverged => {
                    error!(%group, %at, ?report, code = Code::ReplicaDiverged.name(), "a replica does not hold the rows of the majority");
                    status.diverged += 1;
                }
                Outcome::NoMajority => {
                    error!(%group, %at, ?report, code = Code::ReplicaDiverged.name(), "replicas hold different rows, and no majority holds the same");
                    status.no_majority += 1;
                }
            }
        }
        if is_heard {
            self.answer_checks(|asked| asked.at.slot <= report.at.slot, &Ok(report.clone()));
        }
    }

    /// What the latest check has found so far.
    fn report(&self) -> Option<CheckReport> {
        let round = self.checks.round.as_ref()?;
        let majority = self.majority().map(|(digest, _)| digest);
        let own = round.own_digest();
        let state = |replica: ReplicaId| match (round.said(replica, self.here()), &majority) {
            (None, _) => CheckState::NotHeard,
            (Some(None), _) => CheckState::NotChecked,
            (Some(Some(digest)), Some(majority)) if digest == majority => CheckState::Agrees,
            (Some(Some(digest)), Some(majority)) => {
                CheckState::Differs(digest.difference(majority))
            }
            // Without a majority all that can be said is who holds what the leader holds.
            (Some(Some(digest)), None) if own.is_none_or(|own| own == digest) => CheckState::Agrees,
            (Some(Some(digest)), None) => {
                CheckState::Differs(own.map(|own| digest.difference(own)).unwrap_or_default())
            }
        };
        let voters = self.check_voters().into_iter();
        let mut replicas: Vec<(NodeId, CheckState)> =
            voters.map(|replica| (replica.node(), state(replica))).collect();
        replicas.sort_by_key(|(node, _)| *node);
        Some(CheckReport {
            group: self.group,
            at: round.at,
            has_majority: majority.is_some(),
            replicas,
        })
    }

    /// Reports or compares, and answers who has waited long enough. Called now and then.
    pub(crate) fn tick_check(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        let is_counted = self.checks.round.as_ref().is_none_or(|round| round.outcome.is_some());
        if self.core.serving(now).is_ok() {
            if !is_counted || !self.checks.asked.is_empty() {
                self.judge(now, None, fx)?;
            }
        } else {
            self.report_to_leader(now, fx);
        }
        if self.checks.asked.iter().all(|asked| now < asked.until) {
            return Ok(());
        }
        let late = || {
            let message = format!("{} has not applied the check in time", self.group);
            Err(refuse::of_group(Error::new(Code::DeadlineExceeded, message), self.group))
        };
        let (report, late) = (self.report(), late());
        for asked in std::mem::take(&mut self.checks.asked) {
            if now < asked.until {
                self.checks.asked.push(asked);
                continue;
            }
            let found = report.clone().filter(|report| asked.at.slot <= report.at.slot);
            let _gone = asked.reply.send(found.map_or_else(|| late.clone(), Ok)).is_err();
        }
        Ok(())
    }

    fn report_to_leader(&mut self, now: BootTime, fx: &mut Effects) {
        let here = self.here();
        if !self.core.membership().has_voter(here) {
            return; // Nobody compares the rows of a learner.
        }
        let leader = self.core.known_leader(now).filter(|leader| *leader != here);
        let Some(round) = &mut self.checks.round else { return };
        let Own::Hashed(digest) = &round.own else { return };
        let is_over = round.since + ROUND_MAX < now;
        let (Some(to), false) = (leader, is_over || now < round.report_at) else { return };
        if round.settled_with == Some(to) {
            return;
        }
        round.report_at = now + REPORT_EVERY;
        let body = CheckBody::Report(digest.clone());
        let (group, at) = (self.group, round.at);
        fx.checks.push((to.node(), CheckMessage { group, from: here, to, at, body }));
    }

    /// Nobody compares any more what was found at the last check.
    fn end_check(&mut self) {
        let Some(report) = self.report() else { return };
        self.answer_checks(|asked| asked.at.slot <= report.at.slot, &Ok(report.clone()));
        let Some(round) = self.checks.round.take() else { return };
        if round.outcome.is_none() && !round.heard.is_empty() {
            self.checks.status.incomplete += 1;
        }
    }

    /// Other rows have taken the place of those that were hashed.
    pub(crate) fn forget_check(&mut self) {
        self.checks.round = None;
        self.checks.status.is_diverged = false;
    }

    /// Leadership is lost: who waits must ask the next leader.
    pub(crate) fn lose_checks(&mut self, refused: &Error) {
        self.answer_checks(|_| true, &Err(refused.clone()));
    }

    fn answer_checks(
        &mut self,
        is_due: impl Fn(&Asked) -> bool,
        answer: &Result<CheckReport, Error>,
    ) {
        for asked in std::mem::take(&mut self.checks.asked) {
            if is_due(&asked) {
                let _gone = asked.reply.send(answer.clone()).is_err(); // The caller may have left.
            } else {
                self.checks.asked.push(asked);
            }
        }
    }

    fn here(&self) -> ReplicaId {
        self.options.paxos.replica
    }

    /// Whose rows are compared: those that have some and count in some quorum.
    fn check_voters(&self) -> Vec<ReplicaId> {
        let members = self.core.membership().members();
        let compares = |member: &Member| member.role.votes() && member.kind.keeps_rows();
        members.filter(|(_, member)| compares(member)).map(|(id, _)| id).collect()
    }
}

/// True if these are a majority of the voters that have rows; of the old and of the new ones while voters
/// change. Who has none says nothing about what the rows should be.
fn is_majority_of_rows(membership: &Membership, these: &[ReplicaId]) -> bool {
    [MemberRole::votes_before, MemberRole::votes_after].into_iter().all(|votes| {
        let voters = membership.members().filter(|(_, it)| votes(it.role) && it.kind.keeps_rows());
        let (count, agreeing) = voters.fold((0, 0), |(count, agreeing), (id, _)| {
            (count + 1, agreeing + usize::from(these.contains(&id)))
        });
        count < 2 * agreeing
    })
}
