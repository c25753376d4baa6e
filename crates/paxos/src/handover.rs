//! Planned hand-over: the leader stops, lets the target catch up, gives up its lease for good, and
//! sends a token with which the target may be promised at once. Called by `replica.rs`.

use std::cmp::Ordering;

use quorate_types::{BootTime, ReplicaId};

use crate::leader::{Leader, Progress};
use crate::message::{Message, TakeOver};
use crate::output::Output;
use crate::priority::{Health, Standing};
use crate::replica::{Duty, Replica};

/// A target that answered none of so many heartbeats is taken for dead, also in a group at rest.
const RENEWALS_MISSED_MAX: u32 = 3;

/// A hand-over on its way. From its start on nothing is proposed and no read is answered.
#[derive(Clone, Debug)]
pub(crate) struct Handover {
    pub(crate) target: ReplicaId,
    /// The token is out: this leadership is over and only waits to hear of the next one.
    pub(crate) token_sent: bool,
    /// When to give up and run for leadership again.
    pub(crate) deadline: BootTime,
}

impl Replica {
    /// Starts a hand-over to `target`, or to the best follower.
    pub(crate) fn on_hand_over(
        &mut self,
        now: BootTime,
        target: Option<ReplicaId>,
        out: &mut Output,
    ) {
        // Whoever is not heard of now is asked at once: the hand-over may be asked for again.
        self.end_rest(now);
        let heard_since = self.heard_since(now);
        let Duty::Leader(leader) = &self.duty else {
            return;
        };
        let target = match target {
            Some(id) => leader
                .peers
                .get(&id)
                .filter(|peer| lives(peer, heard_since) && can_lead(peer))
                .map(|_| id),
            None => best_peer(leader, heard_since, |_, _| true),
        };
        self.begin_handover(now, target, out);
    }

    /// Starts a hand-over to the best follower in better health than this node that was sent the whole
    /// log. Two nodes never give way to each other, and one that lags would only keep clients waiting.
    pub(crate) fn on_give_way(&mut self, now: BootTime, out: &mut Output) {
        self.end_rest(now);
        let heard_since = self.heard_since(now);
        let (health, last) = (self.health, self.log.last().slot);
        let Duty::Leader(leader) = &self.duty else {
            return;
        };
        if now < leader.stays_until {
            return;
        }
        let target = best_peer(leader, heard_since, |peer, standing| {
            standing.health < health && last < peer.next
        });
        self.begin_handover(now, target, out);
    }

    pub(crate) fn begin_handover(
        &mut self,
        now: BootTime,
        target: Option<ReplicaId>,
        out: &mut Output,
    ) {
        let deadline = now + self.options.timing.round;
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        let Some(target) = target else {
            return; // Nobody to hand over to.
        };
        if leader.handover.is_some() || !leader.serving {
            return;
        }
        leader.handover = Some(Handover { target, token_sent: false, deadline });
        self.refuse_waiting_reads(Some(target), out);
    }

    /// True if this replica serves within a moment, as things look: it is elected, or the leader has handed
    /// over to it, or it hands over and may yet go on because the token is not out.
    #[must_use]
    pub fn is_about_to_serve(&self) -> bool {
        match &self.duty {
            Duty::Leader(leader) => match &leader.handover {
                Some(handover) => !handover.token_sent,
                None => !leader.serving,
            },
            Duty::Candidate(candidacy) => candidacy.is_handed_over(),
            Duty::Follower { .. } | Duty::PreCandidate(_) => false,
        }
    }

    /// Who answered no heartbeat sent since then is taken for dead.
    pub(crate) fn heard_since(&self, now: BootTime) -> BootTime {
        now - self.options.timing.renew_at_rest * RENEWALS_MISSED_MAX
    }

    /// Sends the token once everything proposed is committed and the target, which lives, has it on
    /// disk.
    pub(crate) fn continue_handover(&mut self, now: BootTime, out: &mut Output) {
        let last = self.log.last().slot;
        let committed = self.slot_committed;
        let heard_since = self.heard_since(now);
        let deadline = now + self.options.timing.round;
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        let Some(handover) = leader.handover.as_mut().filter(|handover| !handover.token_sent)
        else {
            return;
        };
        let target = handover.target;
        let ready = leader
            .peers
            .get(&target)
            .is_some_and(|peer| peer.slot_synced == last && lives(peer, heard_since));
        if !ready || committed != last {
            return;
        }
        handover.token_sent = true;
        handover.deadline = deadline;
        // The token is good for the next round: should we have to lead again, then above it.
        self.round_seen = self.round_seen.max(self.promised.round + 1);
        self.send(target, Message::TakeOver(TakeOver { ballot: self.promised }), out);
    }

    /// A hand-over that did not come about in time. Before the token was sent the leadership simply
    /// goes on; after it, this replica leads again only by winning a higher ballot.
    pub(crate) fn expire_handover(&mut self, now: BootTime, out: &mut Output) {
        let stays_until = now + self.options.timing.lease;
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        match &leader.handover {
            Some(handover) if handover.deadline <= now && handover.token_sent => {
                self.become_follower(now, None, out);
            }
            Some(handover) if handover.deadline <= now => {
                leader.handover = None;
                leader.stays_until = stays_until; // Clients are served meanwhile.
                if self.homing.came_to_nothing(&self.options.timing) {
                    leader.forget_fitness();
                }
            }
            Some(_) | None => {}
        }
    }

    /// The leader gave up for us: runs at once, with its ballot as the token.
    pub(crate) fn on_take_over(
        &mut self,
        now: BootTime,
        from: ReplicaId,
        msg: &TakeOver,
        out: &mut Output,
    ) {
        let follows = matches!(self.duty, Duty::Follower { .. } | Duty::PreCandidate(_));
        if msg.ballot != self.promised
            || self.promised_synced != self.promised
            || msg.ballot.replica != from
            || !follows
            || self.health.draining
            || self.needs_refill()
            || self.is_log_suspect()
            || !self.may_lead()
            || !self.membership().keeps_voter(self.options.replica)
            || now < self.silent_until
        {
            return;
        }
        self.run(now, Some(msg.ballot), out);
    }
}

/// False if it does not vote, or said that it needs rows: it would ignore the token, and nobody would lead.
fn can_lead(peer: &Progress) -> bool {
    peer.may_lead
        && peer.standing.is_none_or(|standing| standing.health.fatal_faults != Health::CANNOT_LEAD)
}

pub(crate) fn lives(peer: &Progress, heard_since: BootTime) -> bool {
    peer.heard_at.is_some_and(|at| heard_since <= at)
}

/// The follower that should lead, among those that live and may.
fn best_peer(
    leader: &Leader,
    heard_since: BootTime,
    may_lead: impl Fn(&Progress, &Standing) -> bool,
) -> Option<ReplicaId> {
    let living = leader.peers.values().filter(|peer| lives(peer, heard_since));
    let heard = living.filter_map(|peer| {
        let standing: Standing = peer.standing?;
        let may = !standing.health.draining && can_lead(peer) && may_lead(peer, &standing);
        may.then_some(standing)
    });
    heard
        .reduce(|best, other| match other.compare(&best) {
            Ordering::Less => other,
            Ordering::Equal | Ordering::Greater => best,
        })
        .map(|standing| standing.replica)
}
