//! A server in memory, for tests of programs that use the client.
//!
//! It is the server that ships, behind a port of the loopback: the same routes, sessions, transactions,
//! transfers, cuts and errors. Only what lies below is in memory, a disk and an engine, and one node is
//! the whole cluster. It starts in a few milliseconds and needs neither files nor RocksDB.
//!
//! ```
//! use quorate_client::{Outcome, RetryPolicy, Uid};
//! use quorate_testing::Server;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder().table("purchases").start().await?;
//! let client = server.client().await?;
//!
//! // The answer of the next write is lost: the client asks again, and it took effect once.
//! server.faults().lose_answers(1);
//! let committed = client.transaction().add("purchases", Uid(42), "count", 1).commit().await?;
//! assert!(committed.replayed);
//! assert_eq!(committed.sums, [1]);
//!
//! // A client that never asks again is told what is known.
//! let once = server.client_builder().retry(RetryPolicy::never()).build().await?;
//! once.put("purchases", Uid(42), "1998-01-01/1", "1 disc").await?;
//! server.faults().lose_answers(1);
//! let lost = once.put("purchases", Uid(42), "1998-01-01/2", "1 disc").await;
//! assert_eq!(lost.unwrap_err().outcome(), Outcome::Unknown);
//! # Ok(())
//! # }
//! ```
//!
//! What it cannot show: changes of leader between nodes, losses of a majority, distances. `quorate demo` and
//! `quorate sim` have clusters for that.
#![cfg(not(madsim))]
#![deny(missing_docs)]

mod cluster_file;
mod faults;
mod server;

pub use faults::Faults;
pub use server::{Builder, Server};
