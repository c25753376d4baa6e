//! A small exhaustive check of the real core: every order in which a bounded number of things can
//! happen to three replicas, each state visited once.
//!
//! The explorer draws long schedules at random; this visits all short ones. What is bounded stands
//! with each scenario, and the search fails if it does not finish within its bounds, so "passed" means
//! that no interleaving within them breaks a rule. A message that is never delivered stands for one
//! that was lost; any may overtake any other.
//!
//! `QUORATE_PLANTED=name` plants a bug in the simulation build, to see that the search finds it.

#![allow(unreachable_pub, missing_docs)]

#[path = "../common/group.rs"]
mod group;

mod judge;
mod node;
mod rules;
mod scenarios;
mod search;
mod world;
