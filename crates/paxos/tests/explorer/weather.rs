//! How hostile a schedule is to the replicas.

use std::time::Duration;

use quorate_paxos::{LeaseMode, Timing};

use crate::rng::Rng;

/// How wild a schedule is. Drawn per seed and printed with a failure.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub voters: u64,
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
    /// Clock rate errors up to this; the lease margin covers them and no more.
    pub drift_ppm: u64,
}

impl Weather {
    pub fn draw(rng: &mut Rng) -> Weather {
        Weather {
            voters: [1, 2, 3, 3, 3, 3, 4, 5, 5, 7][rng.index(10)],
            mode: if rng.chance(75) { LeaseMode::Lease } else { LeaseMode::ReadIndex },
            loss_percent: [0, 0, 0, 3, 15][rng.index(5)],
            duplicate_percent: [0, 2, 10][rng.index(3)],
            crash_permille: [0, 0, 0, 1, 2, 6][rng.index(6)],
            cut_permille: [0, 0, 0, 1, 4][rng.index(5)],
            pause_permille: [0, 0, 0, 1, 4][rng.index(5)],
            sleep_permille: [0, 1, 3][rng.index(3)],
            sync_percent: [20, 50, 80][rng.index(3)],
            burst: [3, 6, 12][rng.index(3)],
            tick_ms: [10, 40, 100][rng.index(3)],
            handover_permille: [0, 3, 10][rng.index(3)],
            trim_permille: [0, 5, 20][rng.index(3)],
            drift_ppm: [0, 1_000, 20_000][rng.index(3)],
        }
    }

    /// What a leader subtracts from its lease: twice the drift over a lease.
    pub fn lease_margin(&self) -> Duration {
        let lease_us = u64::try_from(Timing::lan().lease.as_micros()).expect("seconds");
        Duration::from_micros(2 * lease_us * self.drift_ppm / 1_000_000 + 1000)
    }
}
