//! The election: waits for a leader, asks whether a candidacy would be welcome, collects promises,
//! adopts the best log. Called by `replica.rs`.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::planted::{Bug, planted};
use quorate_types::{Ballot, BootTime, EntryId, ReplicaId, Slot};

use crate::batch::Batch;
use crate::membership::MembershipAt;
use crate::message::{Fetch, FetchReply, Message, PreVote, PreVoteAck, Prepare, Promise};
use crate::output::{Output, RoleChange};
use crate::replica::{Duty, Replica};

/// Asking for pre-votes.
#[derive(Clone, Debug)]
pub(crate) struct PreCandidacy {
    ballot: Ballot,
    acks: BTreeMap<ReplicaId, PreVoteAck>,
    /// Until then a better replica may run first. Set once a majority has agreed.
    waits_until: Option<BootTime>,
    deadline: BootTime,
}

impl PreCandidacy {
    pub(crate) fn next_deadline(&self) -> BootTime {
        self.waits_until.map_or(self.deadline, |at| at.min(self.deadline))
    }
}

/// Asking for promises under `promised`, which is our own ballot.
#[derive(Clone, Debug)]
pub(crate) struct Candidacy {
    handover_from: Option<Ballot>,
    /// Who was asked for a promise.
    asked: BTreeSet<ReplicaId>,
    promises: BTreeMap<ReplicaId, Promise>,
    fetch: Option<Adoption>,
    /// Whose log begins above ours: the last entry that is gone there.
    begins_above: BTreeMap<ReplicaId, EntryId>,
    pub(crate) deadline: BootTime,
}

impl Candidacy {
    /// The leader gave up for us.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.handover_from.is_some()
    }
}

/// Fetching the best log among the promises.
#[derive(Clone, Debug)]
struct Adoption {
    source: ReplicaId,
    /// The last entry of the log to adopt.
    goal: EntryId,
    /// The entry asked from last.
    asked: EntryId,
}

impl Replica {
    /// Follows, and runs for leadership some time after `quiet_until` unless a leader is heard.
    pub(crate) fn wait_for_leader(&mut self, quiet_until: BootTime) {
        self.waits += 1;
        let jitter_ns =
            u64::try_from(self.options.timing.jitter.as_nanos()).unwrap_or(u64::MAX).max(1);
        let seed = self.options.replica.0 ^ self.promised.round << 20 ^ self.waits << 40;
        let jitter = std::time::Duration::from_nanos(scatter(seed) % jitter_ns);
        self.duty = Duty::Follower { election_at: quiet_until.max(self.silent_until) + jitter };
    }

    pub(crate) fn fire_election_timers(&mut self, now: BootTime, out: &mut Output) {
        match &self.duty {
            Duty::Follower { election_at } => {
                let free = self.is_lease_over(now) && self.silent_until <= now;
                // Where others keep only the log, one of them may have what is gone elsewhere, and cannot lead.
                let needs_rows = self.needs_refill() && !self.membership().has_log_only();
                let cannot = self.lacks_rows() || needs_rows || !self.may_lead();
                let unfit = self.health.draining || cannot;
                if free && *election_at <= now && unfit {
                    // A node that leaves must not lead again; who needs a snapshot, or does not vote, cannot.
                    self.wait_for_leader(now);
                } else if free && *election_at <= now {
                    self.ask_pre_votes(now, out);
                }
            }
            Duty::PreCandidate(round) => {
                if round.waits_until.is_some_and(|at| at <= now) {
                    self.run(now, None, out);
                } else if round.deadline <= now {
                    self.wait_for_leader(now);
                }
            }
            Duty::Candidate(candidacy) => {
                if candidacy.deadline <= now {
                    self.become_follower(now, None, out);
                }
            }
            Duty::Leader(_) => {}
        }
    }

    fn ask_pre_votes(&mut self, now: BootTime, out: &mut Output) {
        let round = self.promised.round.max(self.round_seen) + 1;
        let ballot = Ballot { round, replica: self.options.replica };
        self.duty = Duty::PreCandidate(PreCandidacy {
            ballot,
            acks: BTreeMap::new(),
            waits_until: None,
            deadline: now + self.options.timing.round,
        });
        self.leader = None;
        let standing = self.standing();
        for peer in self.electors() {
            self.send(peer, Message::PreVote(PreVote { ballot, standing }), out);
        }
        self.weigh_pre_votes(now, out);
    }

    /// A candidate asks whether it would be welcome. A replica that would lead better and is as free
    /// to run does so at once.
    pub(crate) fn on_pre_vote(
        &mut self,
        now: BootTime,
        from: ReplicaId,
        msg: &PreVote,
        out: &mut Output,
    ) {
        if msg.ballot.replica != from || msg.standing.replica != from {
            return;
        }
        let free = self.is_lease_over(now)
            && self.silent_until <= now
            && !matches!(self.duty, Duty::Leader(_));
        let standing = self.standing();
        let granted =
            free && self.promised < msg.ballot && self.may_arbitrate_for(from, msg.standing.last);
        let ack = PreVoteAck { ballot: msg.ballot, granted, promised: self.promised, standing };
        self.send(from, Message::PreVoteAck(ack), out);
        self.note_stranger(from);
        if !free {
            return;
        }
        let needs_refill = self.needs_refill() || !self.may_lead();
        let candidate_is_better = msg.standing.is_better_than(&standing);
        match &mut self.duty {
            // Who was promised more than that is about to show itself.
            Duty::Follower { election_at } if granted && !candidate_is_better && !needs_refill => {
                *election_at = now;
            }
            Duty::PreCandidate(_) if candidate_is_better && !self.has_yielded => {
                self.has_yielded = true;
                self.wait_for_leader(now + self.options.timing.round);
            }
            Duty::Follower { .. }
            | Duty::PreCandidate(_)
            | Duty::Candidate(_)
            | Duty::Leader(_) => {}
        }
    }

    pub(crate) fn on_pre_vote_ack(
        &mut self,
        now: BootTime,
        from: ReplicaId,
        msg: PreVoteAck,
        out: &mut Output,
    ) {
        self.round_seen = self.round_seen.max(msg.promised.round);
        let Duty::PreCandidate(round) = &mut self.duty else {
            return;
        };
        if msg.ballot != round.ballot || msg.standing.replica != from {
            return;
        }
        if !msg.granted {
            if round.ballot < msg.promised {
                self.ask_pre_votes(now, out); // We were away: asks again, above that promise.
            }
            return;
        }
        round.acks.insert(from, msg);
        self.weigh_pre_votes(now, out);
    }

    /// Runs once a majority has agreed and nobody better among it is about to.
    fn weigh_pre_votes(&mut self, now: BootTime, out: &mut Output) {
        let standing = self.standing();
        let better_wait = self.options.timing.better_wait;
        let own = self.options.replica;
        let Duty::PreCandidate(round) = &self.duty else {
            return;
        };
        if !self.is_voted(|id| id == own || round.acks.contains_key(&id)) {
            return;
        }
        let Duty::PreCandidate(round) = &mut self.duty else {
            return;
        };
        if round.acks.values().any(|ack| ack.standing.is_better_than(&standing)) {
            round.waits_until.get_or_insert(now + better_wait);
            return;
        }
        self.run(now, None, out);
    }

    /// Runs for leadership with a new ballot. Our own vote obeys our own promise.
    pub(crate) fn run(&mut self, now: BootTime, handover_from: Option<Ballot>, out: &mut Output) {
        if !self.may_promise(now, handover_from == Some(self.promised)) {
            self.wait_for_leader(self.lease_until);
            return;
        }
        let round = match handover_from {
            Some(old) => old.round + 1,
            None => self.promised.round.max(self.round_seen) + 1,
        };
        let ballot = Ballot { round, replica: self.options.replica };
        self.promise(now, ballot, out);
        self.promise_owed_to = Some(self.options.replica);
        self.leader = None;
        self.duty = Duty::Candidate(Candidacy {
            handover_from,
            asked: BTreeSet::new(),
            promises: BTreeMap::new(),
            fetch: None,
            begins_above: BTreeMap::new(),
            // Our own disk comes first; the answers have their time from when the others are asked.
            deadline: now + self.options.timing.round.max(self.options.timing.disk_stall),
        });
        out.roles.push(RoleChange::Candidate { ballot });
        if planted(Bug::BallotReuse) {
            out.promise = None;
            self.on_promise_synced(now, ballot, out);
        }
    }

    /// Our own promise is durable: only now are the others asked.
    pub(crate) fn on_own_promise(&mut self, now: BootTime, promise: Promise, out: &mut Output) {
        let ballot = promise.ballot;
        let Duty::Candidate(candidacy) = &mut self.duty else {
            return;
        };
        assert_eq!(ballot, self.promised, "a promise of our own that is overtaken");
        candidacy.promises.insert(self.options.replica, promise);
        candidacy.deadline = now + self.options.timing.round;
        self.ask_electors(out);
        self.weigh_promises(now, out);
    }

    /// Asks everybody for a promise whose vote counts by our log, once.
    fn ask_electors(&mut self, out: &mut Output) {
        let own = self.options.replica;
        let mut electors = self.electors();
        if let Some(told) = self.seats_told() {
            let voters = told.membership.members().filter(|(_, member)| member.role.votes());
            electors.extend(voters.map(|(id, _)| id).filter(|id| *id != own));
        }
        let ballot = self.promised;
        let Duty::Candidate(candidacy) = &mut self.duty else {
            return;
        };
        let handover_from = candidacy.handover_from;
        let new: Vec<ReplicaId> = electors.difference(&candidacy.asked).copied().collect();
        candidacy.asked.extend(new.iter().copied());
        for elector in new {
            self.send(elector, Message::Prepare(Prepare { ballot, handover_from }), out);
        }
    }

    pub(crate) fn on_promise(
        &mut self,
        now: BootTime,
        from: ReplicaId,
        msg: Promise,
        out: &mut Output,
    ) {
        if msg.ballot != self.promised {
            return; // An answer to an older candidacy.
        }
        let Duty::Candidate(candidacy) = &mut self.duty else {
            return;
        };
        candidacy.promises.insert(from, msg);
        self.weigh_promises(now, out);
    }

    /// With a quorum of promises, adopts the log with the greatest (ballot, slot) among them. That log may
    /// carry other members than the promises were counted by: then they are counted again, and asked for
    /// where they are missing, until the log changes no more.
    fn weigh_promises(&mut self, now: BootTime, out: &mut Output) {
        let own = self.options.replica;
        let own_last = self.log.last();
        let Duty::Candidate(candidacy) = &self.duty else {
            return;
        };
        let promises = &candidacy.promises;
        let complete =
            promises.contains_key(&own) && self.is_voted(|id| promises.contains_key(&id));
        if !complete || candidacy.fetch.is_some() {
            return;
        }
        let Duty::Candidate(candidacy) = &mut self.duty else {
            return;
        };
        let slot_committed = candidacy
            .promises
            .values()
            .map(|promise| promise.slot_committed)
            .fold(Slot::ZERO, Slot::max);
        let better = |(id, promise): (&ReplicaId, &Promise)| {
            (own_last < promise.last).then_some((promise.last, *id))
        };
        // After an adoption our log is ahead of what we promised with.
        if candidacy.promises.iter().find_map(better).is_none() || planted(Bug::AdoptOwnLog) {
            self.heed_arbiter(now, slot_committed, out);
            return;
        }
        // The best log that reaches back to ours. Where that of the best is shorter, another one may lead there: who
        // keeps only the log has more of it.
        let reaches = |(_, id): &(EntryId, ReplicaId)| !candidacy.begins_above.contains_key(id);
        let Some((goal, source)) =
            candidacy.promises.iter().filter_map(better).filter(reaches).max()
        else {
            if let Some(trimmed) = candidacy.begins_above.values().max().copied() {
                self.fall_behind(trimmed, out);
            }
            self.become_follower(now, None, out);
            return;
        };
        let adoption = Adoption { source, goal, asked: own_last };
        candidacy.fetch = Some(adoption);
        self.send(source, Message::Fetch(Fetch { ballot: self.promised, prev: own_last }), out);
    }

    /// A part of the best log: makes ours identical, cutting only at the first entry that differs.
    pub(crate) fn on_fetch_reply(
        &mut self,
        now: BootTime,
        from: ReplicaId,
        msg: FetchReply,
        out: &mut Output,
    ) {
        let ballot = self.promised;
        let Duty::Candidate(Candidacy { fetch: Some(adoption), .. }) = &mut self.duty else {
            return;
        };
        if msg.ballot != ballot || from != adoption.source || msg.prev != adoption.asked {
            return;
        }
        let goal = adoption.goal;
        let next = match msg.batches {
            // The logs differ there: step back by a whole ballot. They agree at the commit position.
            None if self.slot_committed < adoption.asked.slot => {
                let slot = self.log.before_run_of(adoption.asked.slot).max(self.slot_committed);
                if msg.trimmed.slot <= slot {
                    self.log.id_at(slot)
                } else {
                    // Further back there is nothing to fetch. Do we share where that log begins?
                    let is_new = msg.trimmed.slot < adoption.asked.slot;
                    let begin = Some(msg.trimmed);
                    begin.filter(|id| is_new && self.log.holds_exactly(*id))
                }
            }
            None => None,
            Some(batches) => self.adopt(batches, out),
        };
        if self.log.last() == goal {
            if planted(Bug::AdoptUncounted) {
                self.finish_adoption(now, self.slot_committed, None, out);
                return;
            }
            if let Duty::Candidate(candidacy) = &mut self.duty {
                candidacy.fetch = None;
                candidacy.begins_above.clear();
                candidacy.deadline = now + self.options.timing.round;
            }
            if !self.may_lead() {
                self.become_follower(now, None, out); // We had left, and know it now.
                return;
            }
            self.ask_electors(out);
            self.weigh_promises(now, out);
            return;
        }
        let Some(prev) = next else {
            let is_short = !self.log.holds(msg.trimmed);
            if let Duty::Candidate(candidacy) = &mut self.duty
                && is_short
            {
                candidacy.fetch = None;
                candidacy.begins_above.insert(from, msg.trimmed);
                self.weigh_promises(now, out);
            } else {
                self.become_follower(now, None, out); // It has lost what it promised: we try anew.
            }
            return;
        };
        if let Duty::Candidate(Candidacy { fetch: Some(adoption), deadline, .. }) = &mut self.duty {
            adoption.asked = prev;
            *deadline = now + self.options.timing.round; // It makes progress.
        }
        self.send(from, Message::Fetch(Fetch { ballot, prev }), out);
    }

    /// Appends what our log lacks. Returns the last entry that is now shared, or `None` if the batches
    /// bring nothing new.
    fn adopt(&mut self, batches: Vec<Batch>, out: &mut Output) -> Option<EntryId> {
        let mut shared = None;
        for batch in batches {
            if !self.log.holds(batch.prev()) {
                break;
            }
            shared = Some(batch.last_id());
            if !self.log.holds(batch.last_id()) {
                self.append(batch, out);
            }
        }
        shared
    }

    /// Our log is the best one. An arbiter may know of a later membership all the same, which sets voters aside:
    /// we lead only if we are a voter in it, and it is counted by too.
    fn heed_arbiter(&mut self, now: BootTime, slot_committed: Slot, out: &mut Output) {
        let own = self.options.replica;
        let told = self.seats_told();
        if let (Some(told), Duty::Candidate(candidacy)) = (&told, &self.duty) {
            if !told.membership.has_voter(own) {
                // We were set aside, and are taken back in time. Whoever has promised us waits a round as well, and goes
                // first.
                self.become_follower(now, None, out);
                self.wait_for_leader(now + self.options.timing.round * 2);
                return;
            }
            if !told.membership.is_quorum(|id| candidacy.promises.contains_key(&id)) {
                self.ask_electors(out);
                return;
            }
        }
        self.finish_adoption(now, slot_committed, told, out);
    }

    /// What an arbiter told of who takes part, if our log does not know of it.
    fn seats_told(&self) -> Option<MembershipAt> {
        let Duty::Candidate(candidacy) = &self.duty else {
            return None;
        };
        let told = candidacy.promises.values().filter_map(|promise| promise.seats.as_ref());
        let told = told.max_by_key(|at| at.id)?;
        let is_news = self.memberships.last().id < told.id && !planted(Bug::DeafToArbiter);
        is_news.then(|| told.clone())
    }

    /// Everything the promises called chosen is in our log.
    fn finish_adoption(
        &mut self,
        now: BootTime,
        slot_committed: Slot,
        told: Option<MembershipAt>,
        out: &mut Output,
    ) {
        assert!(
            slot_committed <= self.log.last().slot,
            "adopted a log that lacks chosen slot {slot_committed}"
        );
        self.slot_committed = self.slot_committed.max(slot_committed);
        self.become_leader(now, told, out);
    }
}

/// Spreads a seed over 64 bits (the finaliser of SplitMix64).
fn scatter(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
