//! Transactions over several groups: parallel prepares, *all prepared yes = committed*.
//!
//! The group whose session the request came under coordinates. Every participant, the coordinator
//! too, commits to its log either PREPARE yes, with locks on what it read and writes, or PREPARE no.
//! Nobody turns a committed yes into a no, time-outs included; so what became of an attempt is a
//! function of logs alone, and whoever has asked all participants knows it. The reply leaves after
//! one parallel round; the decision is logged afterwards. The idea is that of Parallel Commits
//! (Taft and others, "CockroachDB: The Resilient Geo-Distributed SQL Database", SIGMOD 2020, section
//! 3.1); attempts, tombstones and watermarks are ours. docs/TRANSACTIONS.md has the state machines.
//!
//! | file | what it knows |
//! |---|---|
//! | `part.rs` | how a request is cut up by group, and its replies put together |
//! | `entry.rs` | the log entries |
//! | `table.rs`, `record.rs` | what applied entries say of attempts, and how that is stored |
//! | `locks.rs` | who holds which row |
//! | `core.rs` | one replica of one group: applied entries and messages in, entries and messages out |
//! | `coordinator.rs`, `participant.rs` | its two duties while it leads |
//! | `cut.rs` | cuts: one moment of all groups, and what a view at one still has to learn |
//! | `report.rs` | what operators see |
//! | `vote.rs` | the evaluation of a part against rows and locks |
//!
//! What leaders of groups say to each other stands in `quorate_types::cross`.
//!
//! Called by the driver of a group in `quorate-replica`. Pure: the time is an argument.

pub mod coordinator;
pub mod core;
pub mod cut;
pub mod entry;
pub mod locks;
pub mod part;
pub mod participant;
pub mod record;
mod report;
pub mod table;
pub mod vote;

pub use self::core::{Cross, Out, RequestKey, RequestStanding, Settled};
pub use cut::{CutEnd, CutView};
pub use entry::{CrossEntry, Decide, Prepare};
pub use locks::Locks;
pub use part::{ReplyOrder, Split, credit_group, split};
pub use participant::VoteAsked;
pub use record::State;
pub use table::{CrossEvent, CrossTable};
pub use vote::{Locked, Verdict, Yes, evaluate_part};
