//! Planted bugs that random schedules must notice. Only the simulation build has them, and one process
//! has one bug: so the schedules run again in a process of their own.

use std::process::Command;

use quorate_types::planted::{Bug, plant};

/// Names the bug to plant.
const PLANTED: &str = "QUORATE_PLANTED";
/// Schedules that are given to notice it.
const SEEDS: &str = "0..2000";

/// Plants the bug that the environment names.
pub(super) fn plant_what_is_asked_for() {
    if let Ok(name) = std::env::var(PLANTED) {
        plant(Bug::from_name(&name).expect("QUORATE_PLANTED is the name of a bug"));
    }
}

#[test]
fn schedules_notice_planted_bugs() {
    // Goal: the schedules are hard enough to show what each of these rules is for.
    let program = std::env::current_exe().expect("this test runs from a file");
    let rules = [Bug::CutSplits, Bug::NoTombstone, Bug::UnprepareAlone, Bug::VoteBeforeLog];
    let reads = [Bug::ValidateNothing, Bug::ValidateAroundLocks];
    for bug in rules.into_iter().chain(reads) {
        let ran = Command::new(&program)
            .args(["--exact", "cross::money_is_neither_lost_nor_doubled_whatever_happens"])
            .env(PLANTED, bug.name())
            .env("QUORATE_SEEDS", SEEDS)
            .output()
            .expect("this program starts");
        let printed = String::from_utf8_lossy(&ran.stdout);
        let is_noticed = !ran.status.success() && printed.contains("replay:");
        assert!(is_noticed, "{} is not noticed: {printed}", bug.name());
    }
}
