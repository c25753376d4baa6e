//! The traps of replicated logs that concern a node's groups. `docs/TRAPS.md` lists all of them.
#![cfg(not(madsim))]

mod node;

use node::{End, GROUP, Ledger, live, live_until, meet};
use quorate_log::{CrashMode, SimDisk};
use quorate_replica::ByteBudget;
use quorate_store::{Engine, Twin};
use quorate_types::{Incarnation, NodeId, limits};

/// Goal: the log goes only when the rows it made are on disk, whatever was applied. A power cut that
/// takes every row since the last flush loses no write, because the log above it is still there.
#[test]
fn trap_08_the_log_outlives_rows_that_are_not_persisted() {
    let mut replayed = 0;
    for seed in 0..20 {
        let (disk, twin, mut ledger) = (SimDisk::new(), Twin::new(), Ledger::default());
        assert_eq!(live(&disk, &twin, &mut ledger, 40), End::AllAnswered);
        disk.crash_as(CrashMode::DropAll, seed);
        let before = twin.applied(GROUP).expect("readable");
        twin.crash(seed);
        replayed += u64::from(twin.applied(GROUP).expect("readable") < before);
        assert_eq!(live(&disk, &twin, &mut ledger, 0), End::AllAnswered, "seed {seed}");
    }
    assert!(0 < replayed, "no crash took a row");
}

/// Goal: a group that rests does not keep the log that another one has written and released since.
#[test]
fn trap_08_a_group_that_rests_does_not_keep_the_log_of_others() {
    let (disk, twin, mut ledger) = (SimDisk::new(), Twin::new(), Ledger::default());
    let segments = || {
        let names = disk.mount().list("log").expect("a folder");
        names.iter().filter(|name| name.ends_with(".seg")).count()
    };
    // They fill many more; how soon those are free is up to the threads of this machine.
    let end = live_until(&disk, &twin, &mut ledger, 200, || segments() < 12);
    assert_eq!(end, End::AllAnswered);
}

/// Goal: a peer that comes back with another data folder is recognised, also after a restart of the
/// node that knows it: whoever lost its disk has lost its promises too.
#[test]
fn trap_16_the_first_incarnation_of_a_peer_is_remembered() {
    let (disk, twin) = (SimDisk::new(), Twin::new());
    let (first, second) = (Incarnation(11), Incarnation(22));
    assert_eq!(meet(&disk, &twin, NodeId(2), first), first);
    disk.crash_as(CrashMode::DropAll, 9);
    assert_eq!(meet(&disk, &twin, NodeId(3), second), second, "each peer has its own");
    for seed in 0..5 {
        disk.crash_as(CrashMode::DropAll, seed);
        assert_eq!(meet(&disk, &twin, NodeId(2), second), first, "it would vote again");
    }
}

/// Goal: a request larger than the whole budget is taken alone instead of waiting for room that can
/// never be, and gives everything back.
#[test]
fn trap_30_a_request_above_the_budget_does_not_wedge_it() {
    let budget = ByteBudget::new(100);
    let large = budget.take(1000).expect("it counts as the whole budget");
    assert!(budget.take(1).is_none());
    drop(large);
    assert!(budget.take(100).is_some());
    const { assert!(limits::ENTRY_BYTES_MAX < limits::NODE_REQUEST_BYTES_MAX) };
}
