//! What may happen in a scenario, and how much of it.

use std::time::Duration;

use quorate_paxos::{LeaseMode, Message, Options, Timing};
use quorate_types::{GroupId, ReplicaId, ReplicaKind};

use crate::node::Times;

pub const LEASE: Duration = Duration::from_millis(1000);
/// Time passes in steps of this.
pub const STEP: Duration = Duration::from_millis(250);

/// When log writes and promises become durable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Disks {
    /// At once. Later would be the same as a later delivery of what waits for it, as long as nothing
    /// crashes.
    Immediate,
    /// At any later moment, each write by itself.
    Lazy,
}

/// What may happen in a scenario. Constant.
#[derive(Clone, Copy)]
pub struct Rules {
    pub mode: LeaseMode,
    pub disks: Disks,
    /// A candidate knows the highest ballot there is and goes above it, or knows only its own.
    pub informed: bool,
    /// Whose heartbeats arrive, and the answers to them; those of others are lost.
    pub heartbeats: &'static [usize],
    /// Commit notices arrive, or all are lost; accepts tell of commits too.
    pub commit_notices: bool,
    /// Pairs of replicas that do not hear each other.
    pub cut: &'static [(usize, usize)],
    /// Who may run for leadership.
    pub candidates: &'static [usize],
}

/// What may still happen. Part of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub campaigns: u8,
    pub proposals: u8,
    pub crashes: u8,
    /// Messages that arrive and stay on their way, to arrive again.
    pub repeats: u8,
    /// Steps of time.
    pub steps: u8,
    /// Ticks of leaders, each a round of heartbeats.
    pub renewals: u8,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// The message at this place arrives; `again` if it stays on its way.
    Deliver {
        place: usize,
        again: bool,
    },
    /// A timer fires, a pre-vote is granted by somebody, and it runs.
    Campaign(usize),
    /// A client writes.
    Propose(usize),
    SyncLog(usize),
    SyncPromise(usize),
    /// The power fails and comes back. Of what was not synced so much is there.
    Crash {
        node: usize,
        writes: usize,
        promise: bool,
    },
    /// Time passes for everybody; nobody has looked yet.
    Pass,
    /// A leader looks at its clock.
    Renew(usize),
}

pub fn replica(index: usize) -> ReplicaId {
    ReplicaId(index as u64 + 1)
}

pub fn index(id: ReplicaId) -> usize {
    id.0 as usize - 1
}

impl Rules {
    pub fn times(&self) -> Times {
        match self.mode {
            LeaseMode::Lease => Times::Matter,
            LeaseMode::ReadIndex => Times::AreMerged,
        }
    }

    /// Pre-votes are granted as they are asked for, and who is not answered gives up by itself; the
    /// messages about either would only add states.
    pub fn arrives(&self, from: usize, to: usize, message: &Message) -> bool {
        let is_cut = self.cut.contains(&(from, to)) || self.cut.contains(&(to, from));
        let is_wanted = match message {
            Message::PreVote(_) | Message::PreVoteAck(_) | Message::Reject(_) => false,
            Message::Heartbeat(_) => self.heartbeats.contains(&from),
            // Answers matter to leases; elsewhere they would only make the leader send again.
            Message::HeartbeatAck(_) => {
                self.mode == LeaseMode::Lease && self.heartbeats.contains(&to)
            }
            Message::Commit(_) => self.commit_notices,
            _ => true,
        };
        is_wanted && !is_cut
    }
}

pub fn options(rules: &Rules, index: usize) -> Options {
    let timing = Timing {
        mode: rules.mode,
        lease: LEASE,
        lease_margin: Duration::ZERO,
        renew: STEP,
        renew_at_rest: STEP,
        // Never zero, and less than a step: timers never fire within the step that sets them.
        jitter: STEP,
        better_wait: Duration::ZERO,
        round: STEP,
        disk_stall: Duration::from_secs(3600),
        suspend_after: Duration::from_secs(3600),
        settle: Duration::from_secs(3600),
        settle_max: Duration::from_secs(3600),
    };
    Options {
        group: GroupId(1),
        replica: replica(index),
        kind: ReplicaKind::Full,
        timing,
        pinned: false,
        log_budget_bytes: u64::MAX,
    }
}
