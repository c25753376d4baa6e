//! Random schedules of the pure core: every rule of `invariants/` and of `src/invariants/`, checked on
//! every step.
//!
//! `QUORATE_SEEDS=A..B` chooses other seeds, `QUORATE_STEPS` their length. A seed that fails is replayed,
//! cut down and written as a golden script.

#![allow(unreachable_pub, missing_docs, dead_code)]

mod adversary;
#[path = "../common/mod.rs"]
mod common;
mod invariants;
mod run;
mod world;

use invariants::Scope;
use run::{Rules, Totals, explore};

pub const RULES: Rules = Rules { scope: Scope::All, extra: None };

fn seeds() -> std::ops::Range<u64> {
    let text = std::env::var("QUORATE_SEEDS").unwrap_or_else(|_| "0..600".to_owned());
    let (from, end) = text.split_once("..").expect("QUORATE_SEEDS is A..B");
    from.parse().expect("a number")..end.parse().expect("a number")
}

pub fn steps() -> u64 {
    std::env::var("QUORATE_STEPS").map_or(4000, |text| text.parse().expect("a number"))
}

/// Goal: no schedule breaks a rule, and every one converges once its faults end.
#[test]
fn random_schedules_keep_every_invariant() {
    let mut totals = Totals::default();
    for seed in seeds() {
        if let Some((schedule, failure)) = explore(seed, steps(), RULES, &mut totals) {
            panic!("seed {seed}: {failure:?} after {}", schedule.events.len());
        }
    }
    println!("{totals:?}");
    assert!(
        totals.acknowledged > 0 && totals.reads > 0 && totals.elections > 0,
        "nothing happened"
    );
}
