//! The replica: its state, and the dispatch of inputs to the files that handle them.
//!
//! `acceptor.rs` promises and accepts, `election.rs` runs for leadership, `leader.rs` proposes and
//! counts, `catch_up.rs` sends followers what they lack, `refill.rs` gets rows from elsewhere, `lease.rs`
//! keeps the leader's right to answer reads, `freshness.rs` tells how fresh the rows are, `handover.rs`
//! gives leadership away, `change.rs` changes who takes part, `suspend.rs` sets voters aside, `arbiter.rs` keeps
//! who takes part where no log is, `force.rs` begins another history where a majority is lost, `suspect.rs` keeps a
//! damaged log from voting, `learner.rs` commits and applies.

use std::collections::{BTreeSet, VecDeque};

use quorate_types::planted::{Bug, planted};
use quorate_types::{Ballot, BootTime, EntryId, LogTime, ReplicaId, Slot};

use crate::batch::{Batch, Tail};
use crate::election::{Candidacy, PreCandidacy};
use crate::force::Force;
use crate::freshness::Freshness;
use crate::home::Homing;
use crate::input::{Input, Restored};
use crate::leader::Leader;
use crate::log_window::LogWindow;
use crate::membership::{Membership, MembershipAt, Memberships};
use crate::message::Message;
use crate::options::Options;
use crate::output::{Append, NotServing, Output, ReadPurpose, RoleChange};
use crate::priority::{Health, Standing};
use crate::refill::Refill;
use crate::suspect::Suspicion;

/// So many places in the log are remembered for each budget of log, at most one for each batch.
const BUDGET_MARKS: u64 = 16;
/// For snapshots that are being fetched so many budgets of log are kept.
const BUDGETS_FOR_REFILL: u64 = 4;

/// One replica of one group.
///
/// Invariants, checked by [`Replica::check_invariants`]:
/// - `trimmed <= slot_applied <= min(slot_committed, slot_synced)` unless the rows are missing;
///   `slot_synced <= last`;
/// - `slot_committed <= last`;
/// - `promised_synced <= promised`; both only rise;
/// - no entry at or below `slot_committed` is ever replaced;
/// - a leader leads under `promised`, which is its own ballot and durable.
#[derive(Clone, Debug)]
pub struct Replica {
    pub(crate) options: Options,
    /// The highest ballot promised. Nothing below it is accepted from the moment it is set; nothing
    /// tells of it before `promised_synced` has reached it.
    pub(crate) promised: Ballot,
    /// The highest ballot whose promise is on disk.
    pub(crate) promised_synced: Ballot,
    /// Who waits for our promise of `promised` to be durable.
    pub(crate) promise_owed_to: Option<ReplicaId>,
    pub(crate) log: LogWindow,
    /// Who takes part: as it is chosen, and as the log has it above.
    pub(crate) memberships: Memberships,
    /// Writes on their way to disk: their number, and the last slot each makes durable.
    pub(crate) writes: VecDeque<(u64, Slot)>,
    pub(crate) next_write: u64,
    pub(crate) slot_synced: Slot,
    pub(crate) slot_committed: Slot,
    pub(crate) slot_applied: Slot,
    /// Our log equals that of the leader of `promised` through here. Falls back to the commit
    /// position when `promised` changes, because the tail above it may differ.
    pub(crate) slot_verified: Slot,
    /// What the leader was told of where our logs may agree, since its last heartbeat.
    pub(crate) mismatch_told: Option<(Ballot, EntryId)>,
    /// Nobody needs the log through here, as the leader said.
    pub(crate) slot_releasable: Slot,
    /// Enough full voters have the log through here, as the leader said.
    pub(crate) slot_secured: Slot,
    /// A membership on its way to the disk of this arbiter, and the leader that waits for it.
    pub(crate) keeping: Option<MembershipAt>,
    /// The batch applied last, for who takes a snapshot.
    pub(crate) applied_last: Option<Batch>,
    /// There are no rows, or damaged ones: nothing is applied before a snapshot is installed.
    pub(crate) rows_missing: bool,
    pub(crate) refill: Refill,
    /// Rows that come must stand here or later: those on disk did.
    pub(crate) rows_at_least: Slot,
    /// The log may lack what was acknowledged.
    pub(crate) suspicion: Option<Suspicion>,
    /// Through here others have recycled their logs, while ours lacked some of it.
    pub(crate) behind: Option<EntryId>,
    /// No ballot but `promised` gets a promise before this time. Only rises.
    pub(crate) lease_until: BootTime,
    /// No promise, pre-vote or lease before this time: a restarted replica forgot what it granted.
    pub(crate) silent_until: BootTime,
    /// The leader of `promised`, once heard.
    pub(crate) leader: Option<ReplicaId>,
    pub(crate) health: Health,
    /// When the node's log last finished a write or a probe.
    pub(crate) disk_ok_at: BootTime,
    /// The greatest round seen anywhere, so that a candidacy goes above it.
    pub(crate) round_seen: u64,
    /// Number of elections this replica has waited for; feeds its jitter.
    pub(crate) waits: u64,
    /// Gave up a candidacy for a better one since there last was a leader. Not done twice: the better
    /// one may not reach a majority (trap 22).
    pub(crate) has_yielded: bool,
    /// A read for applying is on its way.
    pub(crate) apply_reading: bool,
    /// Batches read back for applying, from the applied position on. May be cut meanwhile.
    pub(crate) read_ahead: VecDeque<Batch>,
    pub(crate) freshness: Freshness,
    pub(crate) homing: Homing,
    /// Histories that begin by force.
    pub(crate) force: Force,
    pub(crate) duty: Duty,
}

/// What the replica does at the moment.
#[derive(Clone, Debug)]
pub(crate) enum Duty {
    /// Follows; runs for leadership when no leader was heard until then.
    Follower { election_at: BootTime },
    /// Asks whether a candidacy would be welcome.
    PreCandidate(PreCandidacy),
    /// Collects promises, then the best log.
    Candidate(Candidacy),
    /// Leads.
    Leader(Box<Leader>),
}

/// What a serving leader hands to who evaluates requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// The ballot it serves under.
    pub ballot: Ballot,
    /// The slot the next proposal gets.
    pub next_slot: Slot,
    /// Log time now.
    pub log_time: LogTime,
}

/// A leader's view of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// The member.
    pub replica: ReplicaId,
    /// Durable and equal to the leader's log through here.
    pub slot_synced: Slot,
    /// When the heartbeat was sent that it answered last.
    pub heard_at: Option<BootTime>,
    /// Bytes of batches on their way to it.
    pub in_flight_bytes: usize,
    /// What it said of its health; `None` before it was heard.
    pub health: Option<Health>,
}

/// Where a replica stands, for people and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The highest ballot promised.
    pub promised: Ballot,
    /// The leader it knows.
    pub leader: Option<ReplicaId>,
    /// `follower`, `candidate`, `leader`.
    pub role: &'static str,
    /// True if it serves reads and writes.
    pub serving: bool,
    /// End of the lease it holds as leader.
    pub lease_until: Option<BootTime>,
    /// The last entry of its log.
    pub last: EntryId,
    /// Watermarks; see the glossary.
    pub slot_synced: Slot,
    /// See the glossary.
    pub slot_committed: Slot,
    /// See the glossary.
    pub slot_applied: Slot,
    /// Members as a leader sees them; empty elsewhere.
    pub members: Vec<MemberStatus>,
}

impl Replica {
    /// A replica that starts at `now` from what is on its disk.
    #[must_use]
    pub fn new(now: BootTime, options: Options, restored: Restored) -> Replica {
        let lease_ns_max = if planted(Bug::NoSilence) { 0 } else { restored.lease_ns_max };
        let silent_until = now + std::time::Duration::from_nanos(lease_ns_max);
        let last = restored.tail.id.slot;
        // What is trimmed was applied once, so it is chosen.
        let chosen = restored.slot_applied.max(restored.trimmed.slot);
        let mark_every = (options.log_budget_bytes / BUDGET_MARKS).max(1);
        let mut replica = Replica {
            promised: restored.promised,
            promised_synced: restored.promised,
            promise_owed_to: None,
            log: LogWindow::restored(restored.trimmed, restored.runs, restored.tail, mark_every),
            memberships: Memberships::restored(restored.membership, restored.memberships_in_log),
            writes: VecDeque::new(),
            next_write: 1,
            slot_synced: last,
            slot_committed: chosen,
            slot_applied: restored.slot_applied,
            slot_verified: chosen,
            mismatch_told: None,
            slot_releasable: Slot::ZERO,
            slot_secured: Slot::ZERO,
            keeping: None,
            applied_last: restored.applied_last,
            rows_missing: restored.rows_missing,
            refill: Refill::None,
            rows_at_least: restored.rows_at_least,
            suspicion: Replica::suspicion_of(restored.log_suspect),
            behind: None,
            lease_until: BootTime::ZERO,
            silent_until,
            leader: None,
            health: Health::default(),
            disk_ok_at: now,
            round_seen: restored.promised.round.max(restored.tail.id.ballot.round),
            waits: 0,
            has_yielded: false,
            apply_reading: false,
            read_ahead: VecDeque::new(),
            freshness: Freshness::unknown(now),
            homing: Homing::new(&options.timing),
            force: Force::restored(now, restored.is_outlived),
            duty: Duty::Follower { election_at: silent_until },
            options,
        };
        replica.wait_for_leader(silent_until);
        replica
    }

    /// Handles one input and says what to do about it. `now` is read after the input was dequeued.
    #[must_use]
    pub fn step(&mut self, now: BootTime, input: Input) -> Output {
        let mut out = Output::default();
        match input {
            Input::Tick => {}
            Input::Message { from, message } => self.on_message(now, from, message, &mut out),
            Input::Propose(payloads) => self.on_propose(now, &payloads, &mut out),
            Input::Read(token) => self.on_read(now, token, &mut out),
            Input::AskFresh => self.on_ask_fresh(now, &mut out),
            Input::Synced { write } => self.on_synced(now, write, &mut out),
            Input::PromiseSynced { ballot } => self.on_promise_synced(now, ballot, &mut out),
            Input::Kept(id) => self.on_kept(id, &mut out),
            Input::LogRead { purpose, batches } => self.on_log_read(purpose, batches, &mut out),
            Input::DiskProgress(at) => self.disk_ok_at = self.disk_ok_at.max(at),
            Input::Health(health) => self.health = health,
            Input::HandOver(target) => self.on_hand_over(now, target, &mut out),
            Input::GiveWay => self.on_give_way(now, &mut out),
            Input::GoHome => self.on_go_home(now, &mut out),
            Input::Change(request) => self.on_change(now, &request, &mut out),
            Input::ContinueChange => self.on_continue_change(now, &mut out),
            Input::Force(request) => self.on_force(now, request, &mut out),
            Input::History(at) => self.on_history(now, at, &mut out),
            Input::Pin(pinned) => self.options.pinned = pinned,
            Input::Trimmed(slot) => self.log.trim(slot.min(self.slot_applied)),
            Input::RowsDamaged => self.on_rows_damaged(now, &mut out),
            Input::Refilling(slot) => self.on_refilling(slot),
            Input::Install { last, membership } => {
                self.on_install(now, last, membership, &mut out);
            }
            Input::Installed { is_done } => self.on_installed(is_done, &mut out),
            Input::LogWhole => self.on_log_whole(now),
        }
        self.fire_timers(now, &mut out);
        self.continue_install(&mut out);
        self.advance_apply(&mut out);
        self.settle_freshness();
        self.settle_suspicion(&mut out);
        self.announce_serving(&mut out);
        self.announce_commit(&mut out);
        self.continue_handover(now, &mut out);
        self.continue_force(now, &mut out);
        // Without rows nothing is applied for long: what is on disk is read back when it is wanted.
        let idle = if self.rows_missing { self.slot_synced } else { self.slot_applied };
        self.log.evict(idle);
        out
    }

    fn on_message(&mut self, now: BootTime, from: ReplicaId, message: Message, out: &mut Output) {
        if from == self.options.replica {
            return; // An envelope that went astray.
        }
        if self.is_outlived() {
            return;
        }
        if self.is_absurd(now, from, &message) {
            return; // Its driver has told.
        }
        self.note_heard(now, from);
        // Who is no member for us may be one for whoever has more of the log, so everybody is heard; what
        // counts is decided where it is counted.
        match message {
            Message::PreVote(msg) => self.on_pre_vote(now, from, &msg, out),
            Message::PreVoteAck(msg) => self.on_pre_vote_ack(now, from, msg, out),
            Message::Prepare(msg) => self.on_prepare(now, from, &msg, out),
            Message::Promise(msg) => self.on_promise(now, from, msg, out),
            Message::Reject(msg) => self.on_reject(now, &msg, out),
            Message::Fetch(msg) => self.on_fetch(from, &msg, out),
            Message::FetchReply(msg) => self.on_fetch_reply(now, from, msg, out),
            Message::Accept(msg) => self.on_accept(now, from, msg, out),
            Message::Accepted(msg) => self.on_accepted(from, &msg, out),
            Message::Mismatch(msg) => self.on_mismatch(from, &msg, out),
            Message::Heartbeat(msg) => self.on_heartbeat(now, from, &msg, out),
            Message::HeartbeatAck(msg) => self.on_heartbeat_ack(now, from, &msg, out),
            Message::Commit(msg) => self.on_commit(now, from, &msg, out),
            Message::TakeOver(msg) => self.on_take_over(now, from, &msg, out),
            Message::Ask(msg) => self.on_ask(now, from, msg, out),
            Message::Told(msg) => self.on_told(now, msg),
            Message::Behind(msg) => self.on_behind(now, from, &msg, out),
            Message::Seats(msg) => self.on_seats(now, from, msg, out),
            Message::SeatsKept(msg) => self.on_seats_kept(from, msg, out),
        }
    }

    fn on_log_read(&mut self, purpose: ReadPurpose, batches: Vec<Batch>, out: &mut Output) {
        match purpose {
            ReadPurpose::Apply => self.on_apply_read(batches),
            ReadPurpose::CatchUp(peer) => self.on_catch_up_read(peer, batches, out),
            ReadPurpose::Fetch { to, ballot, prev } => {
                self.on_fetch_read(to, ballot, prev, batches, out);
            }
        }
    }

    fn fire_timers(&mut self, now: BootTime, out: &mut Output) {
        match &self.duty {
            Duty::Follower { .. } | Duty::PreCandidate(_) | Duty::Candidate(_) => {
                self.fire_election_timers(now, out);
            }
            Duty::Leader(_) => self.fire_leader_timers(now, out),
        }
    }

    /// When a tick is next due.
    #[must_use]
    pub fn next_deadline(&self) -> BootTime {
        match &self.duty {
            Duty::Follower { election_at } => {
                (*election_at).max(self.lease_until).max(self.silent_until)
            }
            Duty::PreCandidate(round) => round.next_deadline(),
            Duty::Candidate(candidacy) => candidacy.deadline,
            Duty::Leader(leader) => leader.renew_at,
        }
    }

    /// Whether proposals are taken now, and where they would go.
    ///
    /// # Errors
    /// `NotServing` says why not.
    pub fn serving(&self, now: BootTime) -> Result<Serving, NotServing> {
        let Duty::Leader(leader) = &self.duty else {
            return Err(NotServing::NotLeader(self.known_leader(now).or_else(|| self.heir(now))));
        };
        if let Some(handover) = &leader.handover {
            return Err(NotServing::HandingOver(handover.target));
        }
        if !leader.serving {
            return Err(NotServing::NotReady);
        }
        Ok(Serving {
            ballot: self.promised,
            next_slot: self.log.last().slot.next(),
            log_time: leader.log_time(now),
        })
    }

    /// The leader this replica would name to a client.
    #[must_use]
    pub fn known_leader(&self, now: BootTime) -> Option<ReplicaId> {
        match &self.duty {
            Duty::Leader(_) => Some(self.options.replica),
            Duty::Follower { .. } => self.leader.filter(|_| now < self.lease_until),
            Duty::PreCandidate(_) | Duty::Candidate(_) => None,
        }
    }

    /// Who was promised to and has a round to show itself as the leader.
    fn heir(&self, now: BootTime) -> Option<ReplicaId> {
        let Duty::Follower { election_at } = self.duty else {
            return None;
        };
        let candidate = self.promised.replica;
        let is_other = self.membership().has_voter(candidate) && candidate != self.options.replica;
        (is_other && self.leader.is_none() && now < election_at).then_some(candidate)
    }

    /// Through this slot nobody needs the log and this replica has applied it; the batch at the tail is
    /// always kept, so that the log's last id is never lost.
    #[must_use]
    pub fn slot_trimmable(&self) -> Slot {
        let releasable = match &self.duty {
            Duty::Leader(leader) => {
                leader.slot_held_by_all(self.slot_synced).max(self.slot_over_budget(leader))
            }
            Duty::Follower { .. } | Duty::PreCandidate(_) | Duty::Candidate(_) => {
                self.slot_releasable
            }
        };
        let releasable = if self.options.kind.keeps_rows() || planted(Bug::LogOnlyDrops) {
            releasable
        } else {
            releasable.min(self.slot_secured) // Its log may be the only other copy (trap 25).
        };
        let releasable = releasable.max(self.log.trimmed());
        releasable.min(self.slot_applied).min(self.log.last().slot.prev())
    }

    /// So many bytes of log are kept for followers that lag.
    #[must_use]
    pub fn log_budget(&self) -> u64 {
        self.options.log_budget_bytes
    }

    /// From now on so many are.
    pub fn set_log_budget(&mut self, bytes: u64) {
        self.options.log_budget_bytes = bytes;
    }

    /// Through this slot the log is more than what is kept for followers that lag. Whoever is fetching a
    /// snapshot finds the log above it for longer, or it would come too late again and again.
    fn slot_over_budget(&self, leader: &Leader) -> Slot {
        let budget = self.options.log_budget_bytes;
        let over = |bytes| self.log.end_before_last(bytes).unwrap_or(Slot::ZERO);
        match leader.slot_refilling(self.options.timing.lease) {
            Some(slot) => {
                slot.min(over(budget)).max(over(budget.saturating_mul(BUDGETS_FOR_REFILL)))
            }
            None => over(budget),
        }
    }

    /// Bytes proposed but not yet committed.
    #[must_use]
    pub fn uncommitted_bytes(&self) -> u64 {
        match &self.duty {
            Duty::Leader(leader) => {
                self.log.tail().log_bytes.saturating_sub(leader.committed_log_bytes)
            }
            Duty::Follower { .. } | Duty::PreCandidate(_) | Duty::Candidate(_) => 0,
        }
    }

    /// The highest ballot promised, durable or on its way.
    #[must_use]
    pub fn promised(&self) -> Ballot {
        self.promised
    }

    /// What the replica knows of its log.
    #[must_use]
    pub fn log(&self) -> &LogWindow {
        &self.log
    }

    /// Chosen through here.
    #[must_use]
    pub fn slot_committed(&self) -> Slot {
        self.slot_committed
    }

    /// Applied through here.
    #[must_use]
    pub fn slot_applied(&self) -> Slot {
        self.slot_applied
    }

    /// Where the replica stands.
    #[must_use]
    pub fn status(&self, now: BootTime) -> Status {
        let (role, serving, lease_until, members) = match &self.duty {
            Duty::Follower { .. } => ("follower", false, None, Vec::new()),
            Duty::PreCandidate(_) | Duty::Candidate(_) => ("candidate", false, None, Vec::new()),
            Duty::Leader(leader) => {
                ("leader", leader.serving, self.lease_end(leader), leader.member_status())
            }
        };
        Status {
            promised: self.promised,
            leader: self.known_leader(now),
            role,
            serving,
            lease_until,
            last: self.log.last(),
            slot_synced: self.slot_synced,
            slot_committed: self.slot_committed,
            slot_applied: self.slot_applied,
            members,
        }
    }

    /// Who takes part, as the log of this replica has it.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.memberships.current()
    }

    /// The same with the entry that it came with.
    #[must_use]
    pub fn membership_at(&self) -> &MembershipAt {
        self.memberships.last()
    }

    /// The membership that was in force at the last entry that is applied.
    #[must_use]
    pub fn applied_membership(&self) -> &MembershipAt {
        self.memberships.at(self.slot_applied)
    }

    /// All memberships that a vote has to be counted by.
    pub(crate) fn counting(&self) -> impl Iterator<Item = &MembershipAt> {
        self.memberships.counting(self.slot_committed)
    }

    /// True if those for whom this holds are enough to lead, or to go on to.
    pub(crate) fn is_voted(&self, has: impl Fn(ReplicaId) -> bool) -> bool {
        self.counting().all(|at| at.membership.is_quorum(&has))
    }

    /// True if it is a full voter, as far as it knows.
    pub(crate) fn may_lead(&self) -> bool {
        let member = self.membership().get(self.options.replica);
        let is_full = member.is_some_and(|it| it.kind.may_lead() && it.role.votes());
        is_full && self.options.kind.keeps_rows() && !self.is_outlived()
    }

    /// Those whose votes a candidate needs by its log, but itself.
    pub(crate) fn electors(&self) -> BTreeSet<ReplicaId> {
        let members = self.counting().flat_map(|at| at.membership.members());
        let voters = members.filter(|(_, member)| member.role.votes()).map(|(id, _)| id);
        voters.filter(|id| *id != self.options.replica).collect()
    }

    /// How well this replica would lead.
    pub(crate) fn standing(&self) -> Standing {
        let cannot_lead =
            self.needs_refill() || self.is_log_suspect() || !self.options.kind.keeps_rows();
        let fatal_faults = if cannot_lead { Health::CANNOT_LEAD } else { self.health.fatal_faults };
        Standing {
            replica: self.options.replica,
            health: Health { fatal_faults, ..self.health },
            last: self.log.last(),
            log_bytes: self.log.tail().log_bytes,
            pinned: self.options.pinned,
            rank: self.membership().get(self.options.replica).map_or(u16::MAX, |it| it.rank),
        }
    }

    /// Appends to the log and asks for the write. Everything from the batch's first slot on is replaced.
    pub(crate) fn append(&mut self, batch: Batch, out: &mut Output) {
        let kept = batch.first().prev();
        assert!(
            self.slot_committed <= kept,
            "{batch:?} would replace a chosen entry, committed {}",
            self.slot_committed
        );
        self.slot_synced = self.slot_synced.min(kept);
        for (_, last) in &mut self.writes {
            *last = (*last).min(kept);
        }
        let write = self.next_write;
        self.next_write += 1;
        self.writes.push_back((write, batch.last()));
        self.log.append(batch.clone());
        self.memberships.cut_from(batch.first());
        if let Some(at) = batch.membership() {
            self.memberships.push(at);
            self.seat_peers();
        }
        out.appends.push(Append { write, batch });
    }

    /// A write of the log is durable: counts it, and releases what waited for it.
    fn on_synced(&mut self, now: BootTime, write: u64, out: &mut Output) {
        while self.writes.front().is_some_and(|(number, _)| *number <= write) {
            let (_, last) = self.writes.pop_front().expect("looked at just now");
            self.slot_synced = self.slot_synced.max(last);
        }
        match &self.duty {
            Duty::Leader(_) => self.advance_commit(out),
            Duty::Follower { .. } | Duty::PreCandidate(_) => self.send_accepted(out),
            Duty::Candidate(_) => {}
        }
        self.give_owed_promise(now, out);
    }

    /// Steps back to following, with a fresh wait before running for leadership.
    pub(crate) fn become_follower(
        &mut self,
        now: BootTime,
        leader: Option<ReplicaId>,
        out: &mut Output,
    ) {
        self.note_led(now);
        self.refuse_waiting_reads(leader, out);
        self.leader = leader;
        out.roles.push(RoleChange::Follower { ballot: self.promised, leader });
        self.wait_for_leader(now);
    }

    /// Where the log stands.
    pub(crate) fn tail(&self) -> Tail {
        self.log.tail()
    }

    pub(crate) fn send(&self, to: ReplicaId, message: Message, out: &mut Output) {
        out.messages.push((to, message));
    }
}
