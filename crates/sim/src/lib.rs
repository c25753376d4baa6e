//! Simulated clusters: nodes, faults, workloads and checkers on madsim.
//!
//! ```text
//!   options (drawn from the seed) --> run: safety phase, liveness phase, last reads
//!                                      |-- cluster    servers as they ship, on twins of disk and engine
//!                                      |-- network    what happens to single messages between them
//!                                      |-- faults     what breaks when; nemesis carries it out and mends
//!                                      |              (damage: bytes that change by themselves)
//!                                      |-- failover   or one fault at a time, and how long it hurts
//!                                      |-- churn      members that come and go meanwhile; settle: and at the end
//!                                      |-- workload   clients as they ship; every call in the history
//!                                      |-- beside     bank, money, list_append: transactions, transfers
//!                                      |-- resender   a client that asks again on purpose
//!                                      `-- verdict    linearizability, serializability, acknowledged, sessions
//! ```
//!
//! One seed is one process. Everything a run does follows from its seed: the options, the schedule of
//! faults, what clients ask, which message is late, what a power cut takes. `trace` hashes what happened,
//! so that two runs of a seed can be compared.
//!
//! The checkers know nothing of the simulation and are tested in both builds; the rest exists only under
//! `--cfg madsim`.

pub mod acknowledged;
pub mod history;
pub mod linearizability;
pub mod serializability;
pub mod sessions;

#[cfg(madsim)]
pub mod bank;
#[cfg(madsim)]
pub mod beside;
#[cfg(madsim)]
pub mod churn;
#[cfg(madsim)]
pub mod clock;
#[cfg(madsim)]
pub mod cluster;
#[cfg(madsim)]
pub mod damage;
#[cfg(madsim)]
pub mod failover;
#[cfg(madsim)]
pub mod faults;
#[cfg(madsim)]
pub mod last_reads;
#[cfg(madsim)]
pub mod list_append;
#[cfg(madsim)]
pub mod money;
#[cfg(madsim)]
pub mod nemesis;
#[cfg(madsim)]
pub mod network;
#[cfg(madsim)]
pub mod options;
#[cfg(madsim)]
pub mod places;
#[cfg(madsim)]
pub mod random;
#[cfg(madsim)]
pub mod resender;
#[cfg(madsim)]
pub mod run;
#[cfg(madsim)]
pub mod settle;
#[cfg(madsim)]
pub mod trace;
#[cfg(madsim)]
pub mod verdict;
#[cfg(madsim)]
pub mod windows;
#[cfg(madsim)]
pub mod workload;
