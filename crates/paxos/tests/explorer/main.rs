//! Random schedules of the pure core: every rule of `invariants/` and of `src/invariants/`, checked on
//! every step.
//!
//! `QUORATE_SEEDS=A..B` chooses other seeds, `QUORATE_STEPS` their length. A seed that fails is replayed,
//! cut down and written as a golden script. `QUORATE_JUDGE=outcomes` checks only what clients can see and
//! what replicas assert themselves.
//!
//! `QUORATE_PLANTED=NAME`, in the simulation build only, plants a bug and says how many seeds it takes to
//! catch it; `QUORATE_TRIALS=K` does so K times and prints the median, `QUORATE_SHRINK=1` writes a script too.

#![allow(unreachable_pub, missing_docs, dead_code)]

mod adversary;
mod checkers;
#[path = "../common/mod.rs"]
mod common;
mod invariants;
#[cfg(madsim)]
mod planted;
mod report;
mod run;
#[path = "../golden/script/mod.rs"]
mod script;
mod shrink;
mod shrink_tests;
mod world;

use invariants::Scope;
use run::{Rules, Totals, explore};

fn seeds(default: &str) -> std::ops::Range<u64> {
    let text = std::env::var("QUORATE_SEEDS").unwrap_or_else(|_| default.to_owned());
    let (from, end) = text.split_once("..").expect("QUORATE_SEEDS is A..B");
    from.parse().expect("a number")..end.parse().expect("a number")
}

fn steps() -> u64 {
    std::env::var("QUORATE_STEPS").map_or(4000, |text| text.parse().expect("a number"))
}

fn rules() -> Rules {
    let scope = match std::env::var("QUORATE_JUDGE").as_deref() {
        Ok("outcomes") => Scope::Outcomes,
        Ok("all") | Err(_) => Scope::All,
        Ok(other) => panic!("QUORATE_JUDGE is all or outcomes, not {other}"),
    };
    Rules { scope, extra: None }
}

/// The bug that this run plants.
fn planted() -> Option<String> {
    std::env::var("QUORATE_PLANTED").ok()
}

/// Goal: no schedule breaks a rule, and every one converges once its faults end.
#[test]
fn random_schedules_keep_every_invariant() {
    if planted().is_some() {
        return; // They would not.
    }
    let mut totals = Totals::default();
    for seed in seeds("0..600") {
        if let Some((schedule, failure)) = explore(seed, steps(), rules(), &mut totals) {
            let events = schedule.events.len();
            let (path, script) =
                report::report(&seed.to_string(), seed, schedule, &failure, rules());
            eprintln!(
                "replay: QUORATE_SEEDS={seed}..{} QUORATE_STEPS={} scripts/cargo test --release -p quorate-paxos --test explorer",
                seed + 1,
                steps()
            );
            eprintln!("{script}\nscript, for crates/paxos/tests/scripts/: {}", path.display());
            panic!("seed {seed}, event {events}: {}: {}", failure.place, failure.message);
        }
    }
    println!("{totals}");
    assert!(
        totals.acknowledged > 0 && totals.reads > 0 && totals.elections > 0,
        "nothing happened"
    );
}

/// Goal: the bug named by `QUORATE_PLANTED` is caught, within the seeds of `QUORATE_SEEDS`.
#[test]
fn planted_bug_is_caught() {
    let Some(name) = planted() else { return };
    #[cfg(madsim)]
    planted::hunt(&name, seeds("0..4000"), steps(), rules());
    #[cfg(not(madsim))]
    panic!("{name}: bugs are planted in the simulation build only: scripts/cargo --sim test");
}
