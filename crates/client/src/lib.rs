//! The Rust client: routes by UID, pipelines, retries what is safe, hides leader moves.
//!
//! ```no_run
//! # async fn example() -> Result<(), quorate_client::Error> {
//! use quorate_client::{Client, Uid, Value};
//!
//! let client = Client::builder("quorate://h1:6440,h2:6440,h3:6440").build().await?;
//! client.put("profiles", Uid(42), "name", "Ada").await?;
//! assert_eq!(client.get("profiles", Uid(42), "name").await?, Some(Value::Bytes("Ada".into())));
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # How a request travels
//!
//! ```text
//!  client  put(table, uid, ..) --> router   which group, which node leads it
//!                              --> session  a number, so that retries take effect once
//!                              --> call     attempt after attempt until an answer or the deadline
//!                                    |-- retry       what an end of an attempt means (pure)
//!                                    `-- connection  one channel for each node
//!                                          `-- mux   one stream, many requests in flight
//! ```
//!
//! # What a caller may rely on
//!
//! - A write takes effect at most once, however often it was sent.
//! - An error says whether the write took effect: [`Outcome::NotApplied`] only if every attempt that
//!   left this process is known to have had no effect, otherwise [`Outcome::Unknown`].
//! - Every call ends by its deadline. The error then names the endpoints tried, the phase, the number
//!   of attempts, the time spent and the last answer of a server.
//! - Reads are linearizable, unless [`Client::with_reads`] lets replicas answer them.
//!
//! Dropping the future of a call stops the call; a write may then still take effect.
//!
//! `docs/CLIENT.md` is the guide: examples, what is repeated, spans and traces, and how to test a program
//! with `quorate-testing`.
#![deny(missing_docs)]

mod alone;
mod audit;
mod bank;
mod budget;
mod builder;
mod call;
mod client;
mod connection;
mod cut;
mod endpoints;
mod error;
mod links;
mod many;
mod members;
mod mux;
mod policy;
mod reads;
mod records;
mod recovery;
mod retry;
mod router;
mod scan;
mod search;
mod session;
mod size;
mod status;
mod token;
mod trace;
mod transact;
mod transaction;
mod value;

pub use audit::{AuditReport, LedgerAudit, UnitAudit};
pub use bank::{AccountHistory, AccountState, Refusal, TransferEffect, TransferOutcome};
pub use builder::Builder;
pub use client::{Client, Written};
pub use cut::{Cut, CutAccounts, CutScan, CutTable};
pub use error::{Error, Outcome, Phase};
pub use policy::{RetryBudget, RetryPolicy};
pub use reads::Reads;
pub use recovery::NodeStanding;
pub use router::RouteInfo;
pub use scan::{Scan, TableScan};
pub use search::CutTransfers;
pub use status::{AttemptReport, NodeReport};
pub use token::{NoToken, Token};
pub use trace::{SPAN_FIELDS, TraceContext};
pub use transact::{Transacted, Txn};
pub use transaction::{Committed, Transaction};
pub use value::IntoValue;

#[cfg(not(madsim))]
pub use quorate_tls::{Paths, Tls};

pub use bytes::Bytes;
pub use quorate_proto::members::{MemberReport, Members};
pub use quorate_proto::recovery::{HistoryReport, RecoveryOrder, StandingReport};
pub use quorate_proto::status::{GroupStatus, MemberProgress, NodeStatus, Role};
pub use quorate_topology::Topology;
pub use quorate_types::Error as ServerError;
pub use quorate_types::{
    Account, AccountAddress, AccountChange, AccountSettings, Attempt, AttemptState, AttemptStatus,
    ClusterId, Code, CutId, EntryId, GroupId, HistoryEntry, HistoryPosition, Hold, Invalid, Link,
    LogTime, Loss, LossEntry, LossKind, MemberRole, MemberSeat, NodeId, RecordsPage, ReplicaId,
    ScannedRow, SliceId, Slot, TableId, Transfer, TransferId, TransferKind, TransferRecord, Uid,
    Value, Verdict,
};
