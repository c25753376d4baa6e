//! One replica of one Multi-Paxos group as a pure state machine: inputs in, outputs out.
//!
//! ```text
//!            Input + now                                 Output
//!   client ---- Propose --->  +---------------------+  --- messages --> peers
//!   peers  ---- Message --->  |       Replica       |  --- appends ---> log, then Input::Synced
//!   log    ---- Synced ---->  |  acceptor  learner  |  --- promise ---> promise file, then PromiseSynced
//!   timer  ---- Tick ------>  |  election  leader   |  --- applies ---> rows
//!                             +---------------------+  --- reads -----> waiting readers
//! ```
//!
//! Nothing in this crate does I/O, reads a clock, draws a random number or iterates a hash map, so a
//! schedule of inputs always gives the same outputs. The driver (crate `replica`) carries outputs out
//! in the order of the fields of [`Output`] and feeds back what became durable.
//!
//! The protocol: Multi-Paxos over a log without holes. Phase 1 runs once per leadership over the whole
//! tail; the winner of ballot b adopts the log with the greatest last (ballot, slot) among its promise
//! quorum, appends `StartWork(b)`, and commits everything before it by committing that. Entries keep
//! the ballot of their first proposal for life, so no adopted entry is ever counted by itself.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod batch;
pub mod input;
pub mod log_window;
pub mod membership;
pub mod message;
pub mod options;
pub mod output;
pub mod priority;

mod acceptor;
mod arbiter;
mod catch_up;
mod change;
mod election;
mod force;
mod freshness;
mod handover;
mod home;
mod invariants;
mod leader;
mod learner;
mod lease;
mod quorum;
mod refill;
mod replica;
mod suspend;

pub use batch::{Batch, BatchError, BatchKind, Tail};
pub use change::{ChangeRequest, MemberView, Seat};
pub use force::{ForceRequest, NotForced};
pub use input::{Input, Restored};
pub use membership::{History, Member, Membership, MembershipAt, MembershipError, Role};
pub use message::Message;
pub use options::{LeaseMode, Options, Timing};
pub use output::{
    Append, LogRead, NotChanged, NotServing, Output, Proposed, ReadPurpose, ReadToken, ReadVerdict,
    RoleChange,
};
pub use priority::{Health, Standing};
pub use replica::{MemberStatus, Replica, Serving, Status};
