//! The attempts of other groups: votes once, asks when nobody says what came of it.

use std::collections::BTreeMap;

use quorate_types::limits::{
    GROUP_ATTEMPTS_MAX, GROUP_ESCROW_MAX, GROUP_PARKED_MAX, TRANSFERS_MAX,
};
use quorate_types::planted::{Bug, planted};
use quorate_types::{
    Age, Attempt, BootTime, CrossBody, CutId, GroupId, Part, PartReply, Refusal, Vote,
};

use super::core::{ASK_AGAIN, Cross, Out};
use super::entry::{CrossEntry, Decide, Prepare};
use super::part::ReplyOrder;
use super::vote::{Locked, Verdict, locked_keys};

/// Most transfers whose votes wait until an account is read; the others will be asked for again.
const DEFERRED_MAX: usize = 8 * TRANSFERS_MAX;

/// A coordinator's question for a vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteAsked {
    /// The attempt.
    pub attempt: Attempt,
    /// How old the transaction is.
    pub age: Age,
    /// Every group that votes.
    pub participants: Vec<GroupId>,
    /// What this group is to do.
    pub part: Part,
}

/// An attempt we said yes to and whose decision nobody has told us.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// Others whose yes is known, with the latest cut before it.
    yes: BTreeMap<GroupId, CutId>,
}

impl Asking {
    pub(super) fn has_answered(&self, group: GroupId) -> bool {
        self.yes.contains_key(&group)
    }
}

impl Cross {
    /// A coordinator wants our vote.
    pub(super) fn asked_to_vote(&mut self, asked: VoteAsked, out: &mut Out) {
        let attempt = asked.attempt;
        let group = self.table.group();
        let Some(lead) = &self.lead else { return };
        let is_over = self.table.is_below_watermark(attempt)
            || lead.heard.get(&attempt.group).is_some_and(|heard| heard.covers(attempt));
        if is_over || !asked.participants.contains(&group) {
            return; // Nobody waits for the vote any more.
        }
        if let Some((vote, cut)) = self.vote_of(attempt) {
            return self.say(attempt.group, CrossBody::Voted { attempt, vote, cut }, out);
        }
        let waits = lead.waiting.contains_key(&attempt) || lead.deferred.contains_key(&attempt);
        if lead.voting.contains(&attempt) || waits {
            return; // The vote is on its way.
        }
        let has_room = self.escrow.len() + asked.part.credits.len() <= GROUP_ESCROW_MAX;
        if GROUP_ATTEMPTS_MAX <= self.table.len() || !has_room {
            return; // It will be asked for again.
        }
        let is_fenced = asked.part.credits.iter().any(|it| self.escrow.is_fenced(it.credit));
        if is_fenced && let Some(lead) = &mut self.lead {
            let held: usize = lead.deferred.values().map(|it| it.part.credits.len()).sum();
            if held + asked.part.credits.len() <= DEFERRED_MAX {
                lead.deferred.insert(attempt, asked);
            }
            return;
        }
        out.evaluate.push(asked);
    }

    /// What evaluating a part came to. Older transactions wait for locks, younger ones give way: so
    /// nobody waits in a circle (wait-die).
    pub fn voted(&mut self, asked: VoteAsked, verdict: Verdict) -> Out {
        let mut out = Out::default();
        let attempt = asked.attempt;
        let Some(lead) = &mut self.lead else { return out };
        // Something may have happened since it was asked: a tombstone, another vote.
        if self.table.get(attempt).is_some()
            || self.table.is_below_watermark(attempt)
            || lead.voting.contains(&attempt)
        {
            self.wait_no_longer(attempt, &mut out);
            return out;
        }
        let refusal = match verdict {
            Verdict::Yes(yes) => {
                if self.locks.unwant(attempt) {
                    out.released.push(attempt);
                }
                let (exclusive, shared) = locked_keys(&yes.write, &yes.shared, self.keyspace);
                self.locks.take(attempt, asked.age, exclusive, shared);
                if let Some(leg) = &yes.leg {
                    self.escrow.take(attempt, leg);
                }
                lead.voting.insert(attempt);
                if planted(Bug::VoteBeforeLog) {
                    let (vote, cut) = (Vote::Yes(yes.reply()), self.table.cut());
                    let body = CrossBody::Voted { attempt, vote, cut };
                    self.say(attempt.group, body, &mut out);
                }
                out.entries.push(CrossEntry::Prepare(Box::new(Prepare {
                    attempt,
                    age: asked.age,
                    lowest_unanswered: 0,
                    participants: asked.participants,
                    order: ReplyOrder::default(),
                    write: yes.write,
                    shared: yes.shared,
                    leg: yes.leg,
                })));
                return out;
            }
            Verdict::No(error) => Refusal::Refused(Box::new(error)),
            Verdict::Locked(locked) => {
                let mut is_older = true;
                for holder in &locked.ahead {
                    let age = self.locks.age_of(*holder);
                    if age.is_some_and(|age| is_earlier_attempt((*holder, age), &asked)) {
                        // It is aborted: the next one at a request begins only then.
                        let aborted = (*holder, CutId::NONE);
                        self.told_decision(attempt.group, aborted, false, &mut out);
                    } else {
                        is_older &= age.is_none_or(|age| asked.age < age);
                    }
                }
                let Some(lead) = &mut self.lead else { return out };
                let has_room = lead.waiting.len() < GROUP_PARKED_MAX;
                let still_ahead = |it: &&Attempt| self.locks.age_of(**it).is_some();
                if has_room && is_older {
                    let Some(holder) = locked.ahead.iter().find(still_ahead).copied() else {
                        out.evaluate.push(asked);
                        return out;
                    };
                    let Locked { exclusive, shared, .. } = locked;
                    self.locks.want(attempt, asked.age, exclusive, shared);
                    lead.waiting.insert(attempt, (holder, asked));
                    return out;
                }
                Refusal::Conflict
            }
        };
        self.refuse(attempt, refusal, &mut out);
        out
    }

    /// Says no, by an entry.
    fn refuse(&mut self, attempt: Attempt, refusal: Refusal, out: &mut Out) {
        self.wait_no_longer(attempt, out);
        let Some(lead) = &mut self.lead else { return };
        lead.voting.insert(attempt);
        lead.refusals.insert(attempt, refusal);
        out.entries.push(CrossEntry::Refuse(attempt));
    }

    /// Somebody asks what we know of an attempt.
    pub(super) fn asked(&mut self, from: GroupId, attempt: Attempt, out: &mut Out) {
        let Some(lead) = &self.lead else { return };
        let is_ours = attempt.group == self.table.group();
        if is_ours && let Some(watermark) = self.own_watermark() {
            self.say(from, CrossBody::Clear { watermark }, out);
        }
        let no = (Vote::No(Refusal::Unknown), CutId::NONE);
        let (vote, cut) = match self.vote_of(attempt) {
            Some(vote) => vote,
            None if lead.voting.contains(&attempt) => return, // Asked again, we shall know.
            // Who asks has no decision: had it been committed, it would have applied that before
            // anybody forgot it.
            None if self.table.is_below_watermark(attempt) => no,
            // Our StartWork is a no to every older attempt that has no PREPARE before it.
            None if is_ours && attempt.ballot < lead.ballot => no,
            None if planted(Bug::NoTombstone) => no,
            None if is_ours => return, // Of a ballot after ours, or over: the watermark says so.
            None => return self.refuse(attempt, Refusal::Unknown, out),
        };
        self.say(from, CrossBody::Voted { attempt, vote, cut }, out);
    }

    /// What another group knows of an attempt that we asked about.
    pub(super) fn told(
        &mut self,
        from: GroupId,
        (attempt, cut): (Attempt, CutId),
        vote: &Vote,
        out: &mut Out,
    ) {
        let group = self.table.group();
        let own = self.table.get(attempt).map_or(CutId::NONE, |record| record.cut);
        let Some(prepare) = self.table.prepared(attempt) else { return };
        let Some(lead) = &mut self.lead else { return };
        let Some(asking) = lead.asking.get_mut(&attempt) else { return };
        if !prepare.participants.contains(&from) {
            return;
        }
        let (commit, cut) = match vote {
            Vote::Committed(_) => (true, cut),
            Vote::No(_) => (false, CutId::NONE),
            Vote::Yes(_) => {
                asking.yes.insert(from, cut);
                let is_known = |it: &GroupId| *it == group || asking.yes.contains_key(it);
                if !prepare.participants.iter().all(is_known) {
                    return;
                }
                (true, asking.yes.values().copied().fold(own, CutId::max))
            }
        };
        self.decide((attempt, cut), commit, out);
    }

    /// Somebody tells us the decision.
    pub(super) fn told_decision(
        &mut self,
        from: GroupId,
        (attempt, cut): (Attempt, CutId),
        commit: bool,
        out: &mut Out,
    ) {
        if attempt.group == self.table.group() {
            return; // Ours to decide.
        }
        if self.table.prepared(attempt).is_some() {
            return self.decide((attempt, cut), commit, out);
        }
        let is_applied = self.table.get(attempt).is_some_and(|record| record.state.is_committed())
            || self.table.is_below_watermark(attempt);
        if commit && is_applied {
            self.say(from, CrossBody::Decided { attempt }, out);
        }
        if !commit {
            self.wait_no_longer(attempt, out);
        }
    }

    /// The part of an attempt waits for no lock any more; whoever let it go first may try.
    fn wait_no_longer(&mut self, attempt: Attempt, out: &mut Out) {
        if let Some(lead) = &mut self.lead {
            lead.waiting.remove(&attempt);
        }
        if self.locks.unwant(attempt) {
            out.released.push(attempt);
        }
    }

    /// Proposes the decision, once.
    fn decide(&mut self, (attempt, cut): (Attempt, CutId), commit: bool, out: &mut Out) {
        let Some(lead) = &mut self.lead else { return };
        if !lead.deciding.insert(attempt) {
            return;
        }
        out.entries.push(CrossEntry::Decide(match commit {
            true => Decide::Commit(attempt, PartReply::default(), cut),
            false => Decide::Abort(attempt),
        }));
    }

    /// The decision is applied here.
    pub(super) fn decision_stands(&mut self, attempt: Attempt, commit: bool, out: &mut Out) {
        let Some(lead) = &mut self.lead else { return };
        lead.deciding.remove(&attempt);
        if attempt.group == self.table.group() {
            return self.own_decision_stands(attempt, commit, out);
        }
        lead.asking.remove(&attempt);
        lead.disarm(attempt);
        if commit {
            self.say(attempt.group, CrossBody::Decided { attempt }, out);
        }
    }

    /// Asks everybody what they know of an attempt that nobody has decided for us.
    pub(super) fn ask_all(&mut self, now: BootTime, attempt: Attempt, out: &mut Out) {
        let group = self.table.group();
        let Some(prepare) = self.table.prepared(attempt) else { return };
        let participants = prepare.participants.clone();
        let Some(lead) = &mut self.lead else { return };
        let Some(asking) = lead.asking.get(&attempt) else { return };
        let unknown: Vec<GroupId> = participants
            .into_iter()
            .filter(|it| *it != group && !asking.yes.contains_key(it))
            .collect();
        lead.arm(attempt, now + ASK_AGAIN);
        if planted(Bug::UnprepareAlone) {
            return self.decide((attempt, CutId::NONE), false, out);
        }
        for to in unknown {
            self.say(to, CrossBody::Ask { attempt }, out);
        }
    }
}

/// True if a holder is an attempt at the same request that was begun before.
fn is_earlier_attempt((holder, age): (Attempt, Age), asked: &VoteAsked) -> bool {
    let request = |age: Age| (age.session, age.sequence);
    holder.group == asked.attempt.group
        && holder < asked.attempt
        && request(age) == request(asked.age)
}
