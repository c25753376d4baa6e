//! The way home: a leader whose group has a better placed member hands over to it by itself, once that
//! member has been fit to lead for a settling time. Called by `replica.rs`, `lease.rs` and `leader.rs`.
//!
//! Answers to heartbeats say who is fit; the time is that of the leader's own clock. The hand-over is the
//! one that operators ask for. It begins only when the driver says [`Input::GoHome`], because the driver
//! knows whether anything was evaluated that is not proposed yet.
//!
//! A member that comes and goes would pull the leadership to and fro. So whoever gave a leadership home
//! and has it back soon waits twice as long the next time.
//!
//! [`Input::GoHome`]: crate::Input::GoHome

use std::time::Duration;

use quorate_types::planted::{Bug, planted};
use quorate_types::{BootTime, ReplicaId};

use crate::handover::lives;
use crate::leader::{Leader, Progress};
use crate::message::HeartbeatAck;
use crate::options::Timing;
use crate::output::Output;
use crate::replica::{Duty, Replica};

/// What a replica has learned from giving leaderships home. Kept through leaderships, forgotten by a
/// restart: then the settling time is the shortest again.
#[derive(Clone, Debug)]
pub(crate) struct Homing {
    /// For so long a better placed member must have been fit.
    settle: Duration,
    /// When a leadership was given home, until it is known how that went.
    given_at: Option<BootTime>,
}

impl Homing {
    pub(crate) fn new(timing: &Timing) -> Homing {
        Homing { settle: timing.settle, given_at: None }
    }

    /// This replica leads again. A leadership that was given home and came back soon was given in vain.
    pub(crate) fn leads_again(&mut self, now: BootTime, timing: &Timing) {
        match self.given_at.take() {
            Some(given_at) if now < given_at + timing.settle_max => self.wait_longer(timing),
            Some(_) => self.settle = timing.settle,
            None => {}
        }
    }

    /// The hand-over under way came to nothing. True if it was to lead home.
    pub(crate) fn came_to_nothing(&mut self, timing: &Timing) -> bool {
        let was_homeward = self.given_at.take().is_some();
        if was_homeward {
            self.wait_longer(timing);
        }
        was_homeward
    }

    fn wait_longer(&mut self, timing: &Timing) {
        self.settle = (self.settle * 2).min(timing.settle_max);
    }
}

impl Replica {
    /// Takes note of whether a member is fit to be led home to. Called before its answer is taken in.
    pub(crate) fn note_fitness(&mut self, now: BootTime, from: ReplicaId, msg: &HeartbeatAck) {
        let (own, heard_since) = (self.standing(), self.heard_since(now));
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        let Some(peer) = leader.peers.get_mut(&from).filter(|_| msg.ballot == self.promised) else {
            return;
        };
        let restarted = peer.slot_verified.is_some_and(|before| msg.slot_verified < before);
        let was_away = restarted || !lives(peer, heard_since);
        // A hand-over waits for its disk: one that is slower than a heartbeat would keep clients waiting.
        let keeps_up = leader.chosen_before <= msg.slot_synced;
        let is_fit = keeps_up && peer.may_lead && msg.standing.is_better_placed_than(&own);
        let since = peer.fit_since.filter(|_| !was_away).unwrap_or(now);
        peer.fit_since = is_fit.then_some(since);
    }

    /// True if `Input::GoHome` would begin a hand-over now.
    #[must_use]
    pub fn is_due_home(&self, now: BootTime) -> bool {
        self.home_to(now).is_some()
    }

    /// Hands over to the best placed member if it has been fit for long enough and was sent the whole log.
    pub(crate) fn on_go_home(&mut self, now: BootTime, out: &mut Output) {
        let Some(target) = self.home_to(now) else {
            return;
        };
        self.end_rest(now); // So that a hand-over that comes to nothing is given up in time.
        self.homing.given_at = Some(now);
        self.begin_handover(now, Some(target), out);
    }

    /// Where the leadership should go now. While the best placed member settles, nobody else gets it: that
    /// would be one move more.
    fn home_to(&self, now: BootTime) -> Option<ReplicaId> {
        let Duty::Leader(leader) = &self.duty else {
            return None;
        };
        let is_free = leader.serving && leader.handover.is_none() && leader.stays_until <= now;
        if !is_free || self.health.draining || planted(Bug::StayAway) {
            return None;
        }
        let heard_since = self.heard_since(now);
        let last = self.log.last().slot;
        let (target, peer) = best_placed(leader, heard_since)?;
        let since = peer.fit_since?;
        (self.homing.settle <= now.since(since) && last < peer.next).then_some(target)
    }
}

impl Leader {
    /// Everybody has to settle anew.
    pub(crate) fn forget_fitness(&mut self) {
        for peer in self.peers.values_mut() {
            peer.fit_since = None;
        }
    }
}

/// The best of the members that are fit and live.
fn best_placed(leader: &Leader, heard_since: BootTime) -> Option<(ReplicaId, &Progress)> {
    let fit = leader
        .peers
        .iter()
        .filter(|(_, peer)| peer.fit_since.is_some() && lives(peer, heard_since));
    let placed = fit.filter_map(|(id, peer)| Some((peer.standing?, *id, peer)));
    placed
        .reduce(|best, other| if other.0.is_better_than(&best.0) { other } else { best })
        .map(|(_, id, peer)| (id, peer))
}
