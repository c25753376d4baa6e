//! Evaluates a request into effects against a view, keeps sessions, applies effects.
//!
//! The leader of a group calls [`evaluate()`] once per request. What comes out is either an answer or
//! a [`Proposal`]: the payload of a log entry that holds everything decided, guards and replies
//! included. Every replica, the leader too, calls [`apply()`] on each committed entry in log order and
//! gets the same changes and the same reply. [`SessionTable`] is what applied entries say about
//! sessions, [`Pending`] is what the leader's entries in flight will add to it.
//!
//! Accounts and transfers are decided and applied in [`money`].
//!
//! A first reading order: `entry.rs`, `evaluate.rs`, `transact.rs`, `apply.rs`, `session.rs`.
//!
//! Called by `quorate-replica` (evaluate, apply) and by the service edge ([`check_limits`]). Calls
//! `quorate-store` for the key layout, the row codec and the [`View`](quorate_store::View) it reads
//! through. Knows no network, no Paxos and no clock; everything here is synchronous.

mod codec;
mod context;
mod draft;
mod record;
mod transact;

pub mod apply;
pub mod cross;
pub mod entry;
pub mod evaluate;
pub mod limits;
pub mod many;
pub mod money;
pub mod pending;
pub mod read;
pub mod session;

pub use apply::{Applied, ApplyError, apply};
pub use codec::DecodeError;
pub use context::Context;
pub use entry::{Effect, EntryPayload, RowKey, Write};
pub use evaluate::{Evaluation, Proposal, State, evaluate, expire_idle, recognise};
pub use limits::check_limits;
pub use many::Deletes;
pub use money::{AccountEntry, MoneyEntry, TransfersEntry, expire_holds};
pub use pending::Pending;
pub use read::{read_applied, read_at_cut};
pub use session::SessionTable;
