//! The traps of replicated logs that concern the core, each as the smallest situation that springs
//! it. `docs/TRAPS.md` lists all of them, with the guard and the test of each.
//!
//! A trap's test drives one replica by hand and asserts the one fact that matters; the scripts in
//! `tests/scripts` tell the long stories.

#[path = "../common/group.rs"]
mod group;

mod ballots;
mod bench;
mod durability;
mod freshness;
mod kinds;
mod leases;
mod members;
mod refills;
