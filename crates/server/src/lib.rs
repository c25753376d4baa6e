//! The server process: configuration, services, peer streams, wiring, shutdown.
//!
//! ```text
//!   clients --> kv_, bank_, cut_service --> edge (route, limits) --> replica::ShardHandle
//!   peers ----> peer_service ------------------------------------> replica::ShardHandle
//!   replica --> peer_network --> peers
//!   people ---> topology_service, admin_service, admin_http, health
//!   all of them: listen, secured (certificates) --> access (rights) --> audit
//! ```
//!
//! `node.rs` wires one node from a disk, an engine, a clock and links that are handed in, so that the same
//! node runs in a process (`serve.rs`) and in a simulation. `docs/WRITE_PATH.md` follows one write through.

pub mod access;
pub mod context;
pub mod node;
pub mod options;
pub mod rights;

mod admin_service;
mod audit;
mod bank_service;
mod cut_service;
mod edge;
mod kv_service;
mod links;
mod listen;
mod peer_network;
mod peer_service;
mod pipeline;
mod requests;
mod status;
mod topology_service;

#[cfg(not(madsim))]
mod admin_http;
#[cfg(not(madsim))]
mod boot_clock;
#[cfg(not(madsim))]
pub mod folder;
#[cfg(not(madsim))]
mod health;
#[cfg(not(madsim))]
mod metrics;
#[cfg(not(madsim))]
mod process;
#[cfg(not(madsim))]
mod secured;
#[cfg(not(madsim))]
mod security;
#[cfg(not(madsim))]
mod serve;

#[cfg(not(madsim))]
pub use boot_clock::BootClock;
pub use links::{Fate, Links};
pub use node::{Node, NodeParts};
pub use options::{Profile, Security, ServerOptions, Tuning};
pub use rights::{Right, Rights};
#[cfg(not(madsim))]
pub use security::NodeSecurity;
#[cfg(not(madsim))]
pub use serve::serve;
