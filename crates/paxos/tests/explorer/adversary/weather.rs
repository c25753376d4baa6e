//! How hostile a schedule is to the replicas.

use std::time::Duration;

use quorate_paxos::{LeaseMode, Timing};
use quorate_types::ReplicaKind;

use super::rng::Rng;
use crate::common::cluster::{Clock, Setup};
use crate::common::members;

/// Short, so that leaderships go home in the middle of other things.
const SETTLE: Duration = Duration::from_millis(400);

/// No more replicas than sets of links have bits for.
const REPLICAS_MAX: u64 = 7;

/// Some are shorter than a lease: nothing but patience may depend on it.
const SUSPEND_AFTER: [Duration; 3] =
    [Duration::from_millis(400), Duration::from_millis(1_100), Duration::from_millis(1_800)];

/// How wild a schedule is. Drawn per seed and printed with a failure.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Who votes at the beginning.
    pub voters: u64,
    /// Replicas beside them that may become members.
    pub spares: u64,
    /// How often members change.
    pub change_permille: u64,
    pub mode: LeaseMode,
    pub loss_percent: u64,
    pub duplicate_percent: u64,
    pub crash_permille: u64,
    pub cut_permille: u64,
    pub pause_permille: u64,
    /// One node sleeps: its inputs wait, the others go on.
    pub sleep_permille: u64,
    /// How many of the disks finish something at once: how fast they are.
    pub sync_percent: u64,
    /// Messages that arrive at once, at most: how fast the network is.
    pub burst: u64,
    /// Time passes in steps up to this.
    pub tick_ms: u64,
    pub handover_permille: u64,
    pub trim_permille: u64,
    /// Bytes of log that leaders keep for those that lag.
    pub log_budget: u64,
    /// How often rows come from another replica, asked for or not.
    pub snapshot_permille: u64,
    /// How often the rows of a node are lost.
    pub lose_rows_permille: u64,
    pub lose_log_permille: u64,
    /// How often a plot begins; see `plots.rs`.
    pub plot_permille: u64,
    /// When all is over, the leader's disk hangs.
    pub hangs_disk: bool,
    /// Clock rate errors up to this.
    pub drift_ppm: u64,
    /// The lease margin covers rate errors up to this.
    pub covered_ppm: u64,
    /// Some members hold less than others.
    pub has_kinds: bool,
    /// The disks of arbiters hardly move: what they are to keep comes late.
    pub slow_arbiters: bool,
}

impl Weather {
    pub fn draw(rng: &mut Rng) -> Weather {
        let drift_ppm = *rng.one_of(&[0, 1_000, 20_000]);
        let mode = if rng.chance(75) { LeaseMode::Lease } else { LeaseMode::ReadIndex };
        let mut weather = Weather {
            voters: *rng.one_of(&[1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 5, 6, 7]),
            spares: 0,
            change_permille: 0,
            mode,
            loss_percent: *rng.one_of(&[0, 0, 0, 3, 15]),
            duplicate_percent: *rng.one_of(&[0, 2, 10]),
            crash_permille: *rng.one_of(&[0, 0, 0, 1, 2, 6]),
            cut_permille: *rng.one_of(&[0, 0, 0, 1, 4]),
            pause_permille: *rng.one_of(&[0, 0, 0, 1, 4]),
            sleep_permille: *rng.one_of(&[0, 1, 3]),
            sync_percent: *rng.one_of(&[20, 50, 80]),
            burst: *rng.one_of(&[3, 6, 12]),
            tick_ms: *rng.one_of(&[10, 40, 100]),
            handover_permille: *rng.one_of(&[0, 3, 10]),
            trim_permille: *rng.one_of(&[0, 5, 20]),
            log_budget: *rng.one_of(&[u64::MAX, 200, 1000]),
            snapshot_permille: *rng.one_of(&[0, 3, 15]),
            lose_rows_permille: *rng.one_of(&[0, 0, 2]),
            lose_log_permille: 0,
            plot_permille: *rng.one_of(&[0, 3, 10, 30]),
            hangs_disk: rng.chance(25),
            drift_ppm,
            covered_ppm: drift_ppm,
            has_kinds: rng.chance(40),
            slow_arbiters: rng.chance(30),
        };
        if mode == LeaseMode::Lease && rng.chance(10) {
            // Nobody promised to survive that: leases overlap, and reads may be stale.
            weather.drift_ppm = *rng.one_of(&[200_000, 300_000]);
            weather.plot_permille = 60;
        }
        if rng.chance(40) {
            weather.spares = rng.below(4).min(REPLICAS_MAX - weather.voters);
            weather.change_permille = *rng.one_of(&[10, 30, 60]);
        }
        weather.lose_log_permille = *rng.one_of(&[0, 0, 3, 10]);
        weather
    }

    /// All replicas there ever are.
    pub fn replicas(&self) -> u64 {
        self.voters + self.spares
    }

    /// True if the clocks may differ by more than the margin covers.
    pub fn is_beyond_margin(&self) -> bool {
        self.covered_ppm < self.drift_ppm
    }

    /// What a leader subtracts from its lease: twice the drift over a lease.
    fn lease_margin(&self) -> Duration {
        let lease_us = u64::try_from(Timing::lan().lease.as_micros()).expect("seconds");
        Duration::from_micros(2 * lease_us * self.covered_ppm / 1_000_000 + 1000)
    }

    /// What each replica holds. The first one is full.
    fn kinds(&self, rng: &mut Rng) -> Vec<ReplicaKind> {
        let layouts: &[&str] = match self.voters {
            _ if !self.has_kinds => &["FFFFFFF"],
            2 => &["FFR", "FR"],
            3 => &["FFA", "FFA", "FFA", "FFA", "FFL", "FFL", "FFR"],
            4 => &["FFAR", "FFLL", "FFFA", "FFRA"],
            5 => &["FFFFA", "FFFFA", "FFFFL", "FFFLL", "FFALR"],
            6 => &["FFFLLR"],
            _ => &["FFFFFFF"],
        };
        let layout = rng.one_of::<&str>(layouts);
        let layout = members::kinds(layout);
        let others = members::kinds(if self.has_kinds { "FFFLRA" } else { "F" });
        let voters = usize::try_from(self.voters).expect("a few");
        let spares = usize::try_from(self.spares).expect("a few");
        let mut kinds: Vec<ReplicaKind> = layout.into_iter().take(voters).collect();
        kinds.resize(voters, ReplicaKind::Full);
        kinds.extend((0..spares).map(|_| *rng.one_of(&others)));
        kinds
    }

    pub fn setup(&self, rng: &mut Rng) -> Setup {
        let drift = self.drift_ppm as i64;
        let clocks = (0..self.replicas()).map(|_| Clock {
            start_ns: 1_000_000_000 + rng.below(1 << 40),
            ppm: match self.is_beyond_margin() {
                true => *rng.one_of(&[-drift, drift]),
                false => rng.below(2 * self.drift_ppm + 1) as i64 - drift,
            },
        });
        Setup {
            mode: self.mode,
            lease_margin: self.lease_margin(),
            settle: SETTLE,
            clocks: clocks.collect(),
            ranks: (1..=self.replicas()).map(|id| id as u16 / 2).collect(),
            spares: self.spares as usize,
            kinds: self.kinds(rng),
            suspend_after: *rng.one_of(&SUSPEND_AFTER),
            beyond_margin: self.is_beyond_margin(),
            log_budget: self.log_budget,
        }
    }
}
