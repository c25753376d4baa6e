//! The scenarios, each with its bounds.

use quorate_paxos::LeaseMode;

use crate::rules::{Budget, Disks, Rules};
use crate::search::search;
use crate::world::World;

/// `QUORATE_PLANTED` names the bug to plant.
fn plant() {
    #[cfg(madsim)]
    if let Ok(name) = std::env::var("QUORATE_PLANTED") {
        let bug = quorate_types::planted::Bug::from_name(&name);
        quorate_types::planted::plant(bug.unwrap_or_else(|| panic!("no bug is called {name}")));
    }
}

const NO_LEASES: Rules = Rules {
    mode: LeaseMode::ReadIndex,
    disks: Disks::Immediate,
    informed: false,
    heartbeats: &[],
    commit_notices: true,
    cut: &[],
    candidates: &[0, 1, 2],
};

/// r1 and r2 hear only r3, so a majority is one of them and r3.
const LEASES: Rules = Rules {
    mode: LeaseMode::Lease,
    heartbeats: &[0],
    cut: &[(0, 1)],
    candidates: &[1],
    ..NO_LEASES
};

const NOTHING: Budget =
    Budget { campaigns: 0, proposals: 0, crashes: 0, repeats: 0, steps: 0, renewals: 0 };

/// Bounds for an optimised build, and narrower ones for a debug build, which is ten times slower.
fn sized(full: Budget, narrow: Budget) -> Budget {
    if cfg!(debug_assertions) && !cfg!(madsim) { narrow } else { full }
}

/// Goal: whoever runs in whatever order, a ballot has one leader, and all agree on what is chosen.
///
/// Bounds: empty disks that write at once; two candidacies in all, of the same replica or of two;
/// heartbeats are lost, as everywhere below where they are not named.
#[test]
fn elections() {
    let full = Budget { campaigns: 2, ..NOTHING };
    let narrow = Budget { campaigns: 1, repeats: 1, ..NOTHING };
    check("elections", &NO_LEASES, World::new, sized(full, narrow));
}

/// Goal: a message that arrives twice, however late the second time, breaks nothing.
///
/// Bounds: r1 leads and all hold its StartWork; one proposal; r2 runs once; one repetition.
#[test]
fn repetitions() {
    let rules = Rules { candidates: &[1], ..NO_LEASES };
    let full = Budget { campaigns: 1, proposals: 1, repeats: 1, ..NOTHING };
    let narrow = Budget { repeats: 0, ..full };
    check("repetitions", &rules, World::led, sized(full, narrow));
}

/// Goal: what a leader gets accepted while another takes over is chosen for ever or never.
///
/// Bounds: r1 leads and all hold its StartWork; two proposals, of whoever serves; r2 runs once; commit
/// notices are lost, accepts tell of commits.
#[test]
fn proposals_during_a_takeover() {
    let rules = Rules { candidates: &[1], commit_notices: false, ..NO_LEASES };
    let full = Budget { campaigns: 1, proposals: 2, ..NOTHING };
    let narrow = Budget { proposals: 1, ..full };
    check("proposals during a takeover", &rules, World::led, sized(full, narrow));
}

/// Goal: the same with two takeovers, one after the other or at once.
///
/// Bounds: r1 leads and all hold its StartWork; one proposal; one repetition; r2 and r3 run, twice in
/// all, and hear only r1.
#[test]
fn proposals_during_two_takeovers() {
    let rules = Rules { candidates: &[1, 2], cut: &[(1, 2)], ..NO_LEASES };
    let full = Budget { campaigns: 2, proposals: 1, repeats: 1, ..NOTHING };
    let narrow = Budget { repeats: 0, ..full };
    check("proposals during two takeovers", &rules, World::led, sized(full, narrow));
}

/// Goal: an entry of an old ballot that reaches a majority late is not chosen by being counted, in
/// every order of the messages behind figure 8 of the Raft paper.
///
/// Bounds: r1 leads and all hold its StartWork; one proposal; r1 and r2 run three times in all, and
/// hear only r3; a candidate goes above every ballot there is.
#[test]
fn old_entries_that_spread_late() {
    let rules = Rules { informed: true, candidates: &[0, 1], cut: &[(0, 1)], ..NO_LEASES };
    let full = Budget { campaigns: 3, proposals: 1, ..NOTHING };
    let narrow = Budget { campaigns: 2, ..full };
    check("old entries that spread late", &rules, World::led, sized(full, narrow));
}

/// Goal: a heartbeat that overtakes the accepts it tells of commits nothing that differs.
///
/// Bounds: r1 leads and all hold its StartWork; one proposal; r2 runs once and sends one more round of
/// heartbeats, whenever it likes; answers to heartbeats are lost.
#[test]
fn heartbeats_that_overtake() {
    let rules = Rules { candidates: &[1], heartbeats: &[1], ..NO_LEASES };
    let full = Budget { campaigns: 1, proposals: 1, renewals: 1, ..NOTHING };
    let narrow = Budget { proposals: 0, ..full };
    check("heartbeats that overtake", &rules, World::led, sized(full, narrow));
}

/// Goal: a power cut between any two syncs takes nothing that counted.
///
/// Bounds: r1 leads and all hold its StartWork; disks write whenever they like; one proposal; r2 runs
/// once; one crash of any replica, after which any first part of its unsynced writes, and its unsynced
/// promise or not, is on the disk.
#[test]
fn power_cuts() {
    let rules = Rules { disks: Disks::Lazy, candidates: &[1], ..NO_LEASES };
    let full = Budget { campaigns: 1, proposals: 1, crashes: 1, ..NOTHING };
    let narrow = Budget { proposals: 0, ..full };
    check("power cuts", &rules, World::led, sized(full, narrow));
}

/// Goal: a candidate that forgets in a power cut that it ran does not win the same ballot again.
///
/// Bounds: empty disks that write whenever they like; r1 runs twice and hears only r2; one crash of any
/// replica.
#[test]
fn power_cuts_of_candidates() {
    let rules = Rules { disks: Disks::Lazy, candidates: &[0], cut: &[(0, 2)], ..NO_LEASES };
    let full = Budget { campaigns: 2, crashes: 1, ..NOTHING };
    let narrow = Budget { campaigns: 1, ..full };
    check("power cuts of candidates", &rules, World::new, sized(full, narrow));
}

/// Goal: no two leases at once and no stale read, however late messages are and whoever stands still.
///
/// Bounds: r1 leads without a lease; six quarters of a lease pass; r1 sends two rounds of heartbeats;
/// r2 runs once, when its own grant has ended; clocks run alike.
#[test]
fn leases() {
    let full = Budget { campaigns: 1, steps: 6, renewals: 2, ..NOTHING };
    let narrow = Budget { renewals: 1, ..full };
    check("leases", &LEASES, World::led, sized(full, narrow));
}

/// Goal: a replica that restarts does not forget the lease it granted.
///
/// Bounds: as above, with one round of heartbeats and one crash of any replica, which is up again at
/// once.
#[test]
fn leases_and_restarts() {
    let full = Budget { campaigns: 1, steps: 6, renewals: 1, crashes: 1, ..NOTHING };
    let narrow = Budget { steps: 5, ..full };
    check("leases and restarts", &LEASES, World::led, sized(full, narrow));
}

/// Searches from `start` with `budget`, with the bug of `QUORATE_PLANTED` planted.
fn check(name: &str, rules: &Rules, start: fn(&Rules, Budget) -> World, budget: Budget) {
    plant();
    search(name, rules, start(rules, budget));
}
