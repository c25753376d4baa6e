//! The client against three scripted nodes: what it sends, where, how often, and what it reports.
//!
//! Runs in the real and in the simulated build.

mod bank;
mod calls;
mod cuts;
mod many;
mod members;
mod money;
mod nodes;
mod policy;
mod retries;
mod spans;
mod transact;
