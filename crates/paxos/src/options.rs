//! Options of a replica: which it is, how long leases last, when to ask for votes.

use std::time::Duration;

use quorate_types::{GroupId, ReplicaId, ReplicaKind};

/// Whether a leader may serve reads without asking, and how long it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseMode {
    /// Reads under a lease that followers granted; needs a bounded clock drift rate.
    Lease,
    /// Every read asks a majority first (read-index); no assumption about clocks.
    ReadIndex,
}

/// Times of the protocol. All are spans of one node's boot clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Leases, or read-index only.
    pub mode: LeaseMode,
    /// For how long a follower promises no other ballot after a heartbeat.
    pub lease: Duration,
    /// What the leader subtracts: twice the drift over a lease, and slack for the scheduler.
    pub lease_margin: Duration,
    /// Time between heartbeats while there is anything to say.
    pub renew: Duration,
    /// Time between heartbeats of a group at rest: longer, because most groups of a node rest, and short
    /// enough that a follower at rest is not taken for dead and a lease outlives a lost heartbeat.
    pub renew_at_rest: Duration,
    /// Random part of the wait after a lease ended, so that votes do not split.
    pub jitter: Duration,
    /// How long a candidate waits for a better replica it has heard of.
    pub better_wait: Duration,
    /// How long a pre-vote, a candidacy, a fetch or a hand-over may take before it is given up.
    pub round: Duration,
    /// A leader whose log made no progress for this long renews no lease.
    pub disk_stall: Duration,
    /// In a group with an arbiter, voters that were not heard for this long are set aside if nothing can be
    /// chosen without them.
    pub suspend_after: Duration,
    /// For how long a better placed member must have been fit before the leader hands over to it by
    /// itself. Doubled each time that this came to nothing or did not last,
    pub settle: Duration,
    /// up to this. A leadership that was given home and lasts so long has lasted.
    pub settle_max: Duration,
}

/// Longer than an election takes, so that who was only slow to be led is not set aside.
const SUSPEND_AFTER: Duration = Duration::from_secs(5);
/// However often a leadership was given home in vain, it is tried again after so long.
const SETTLE_MAX: Duration = Duration::from_mins(10);

impl Timing {
    /// One city: a lease of 1 s, renewed every 100 ms, at rest every 250 ms.
    #[must_use]
    pub fn lan() -> Timing {
        Timing {
            mode: LeaseMode::Lease,
            lease: Duration::from_millis(1000),
            lease_margin: Duration::from_millis(100),
            renew: Duration::from_millis(100),
            renew_at_rest: Duration::from_millis(250),
            jitter: Duration::from_millis(150),
            better_wait: Duration::from_millis(50),
            round: Duration::from_millis(500),
            disk_stall: Duration::from_secs(1),
            suspend_after: SUSPEND_AFTER,
            settle: Duration::from_secs(5),
            settle_max: SETTLE_MAX,
        }
    }

    /// Several cities: a lease of 3 s, renewed every 250 ms, at rest every 600 ms.
    #[must_use]
    pub fn wan() -> Timing {
        Timing {
            mode: LeaseMode::Lease,
            lease: Duration::from_millis(3000),
            lease_margin: Duration::from_millis(100),
            renew: Duration::from_millis(250),
            renew_at_rest: Duration::from_millis(600),
            jitter: Duration::from_millis(300),
            better_wait: Duration::from_millis(300),
            round: Duration::from_millis(1500),
            disk_stall: Duration::from_secs(1),
            suspend_after: SUSPEND_AFTER,
            settle: Duration::from_secs(15),
            settle_max: SETTLE_MAX,
        }
    }

    /// The same times without leases.
    #[must_use]
    pub fn read_index(self) -> Timing {
        Timing { mode: LeaseMode::ReadIndex, ..self }
    }
}

/// What a replica is told when it starts. Constant for its life; who else takes part is in its log.
#[derive(Clone, Debug)]
pub struct Options {
    /// The group.
    pub group: GroupId,
    /// This replica.
    pub replica: ReplicaId,
    /// What it holds.
    pub kind: ReplicaKind,
    /// Times.
    pub timing: Timing,
    /// An operator wants this replica to lead.
    pub pinned: bool,
    /// Bytes of log that a leader keeps for followers that lag, when they lag more than that and others
    /// need the room. Who needs older log gets a snapshot.
    pub log_budget_bytes: u64,
}
