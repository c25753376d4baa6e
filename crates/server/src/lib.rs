//! The server process: configuration, services, peer streams, wiring, shutdown.
//!
//! ```text
//!   clients --> kv_, bank_, cut_service --> edge (route, limits) --> replica::ShardHandle
//!   peers ----> peer_service ------------------------------------> replica::ShardHandle
//!   replica --> peer_network --> peers
//!   replica --> peer_network --> refill ====rows of a group==== snapshots <-- peer_service of a peer
//!   people ---> topology_service, admin_service, admin_http, health
//!   all of them: listen, secured (certificates) --> access (rights) --> audit
//!   streams of clients and peers, in demos and tests: far_links (distances and cuts)
//! ```
//!
//! `node.rs` wires one node from a disk, an engine, a clock and links that are handed in, so that the same
//! node runs in a process (`serve.rs`) and in a simulation. `docs/WRITE_PATH.md` follows one write through.
#![cfg_attr(
    all(not(madsim), not(feature = "process")),
    expect(dead_code, reason = "metrics, health and the watch over certificates are of a process")
)]

pub mod access;
pub mod context;
mod damaged_log;
pub mod node;
pub mod options;
pub mod rights;

mod admin_service;
mod audit;
mod bank_service;
mod cut_service;
mod directory;
mod edge;
mod far_links;
mod join;
mod kv_service;
mod leave;
mod links;
mod listen;
mod pace;
mod peer_network;
mod peer_service;
mod pipeline;
mod recovery;
mod refill;
mod repair;
mod requests;
mod snapshots;
mod status;
mod topology_service;
mod trace;

#[cfg(all(not(madsim), feature = "process"))]
mod admin_http;
#[cfg(not(madsim))]
mod boot_clock;
#[cfg(all(not(madsim), feature = "process"))]
mod damaged_rows;
#[cfg(all(not(madsim), feature = "process"))]
pub mod fill;
#[cfg(not(madsim))]
pub mod folder;
#[cfg(not(madsim))]
mod health;
#[cfg(all(not(madsim), feature = "process"))]
mod metrics;
#[cfg(all(not(madsim), feature = "process"))]
mod mount;
#[cfg(all(not(madsim), feature = "process"))]
mod process;
#[cfg(not(madsim))]
mod secured;
#[cfg(not(madsim))]
mod security;
#[cfg(all(not(madsim), feature = "process"))]
mod serve;

#[cfg(not(madsim))]
pub use boot_clock::BootClock;
pub use context::NodeContext;
pub use far_links::FarLinks;
pub use links::{Exchange, Fate, Links};
pub use node::{Node, NodeParts};
pub use options::{Profile, Security, ServerOptions, Tuning};
pub use repair::{Repaired, is_damage};
pub use rights::{Right, Rights};
#[cfg(not(madsim))]
pub use security::NodeSecurity;
#[cfg(all(not(madsim), feature = "process"))]
pub use serve::serve;
