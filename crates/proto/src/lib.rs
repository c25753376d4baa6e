//! The wire: code generated from `proto/` and its checked conversions to our own types.
//!
//! ```text
//!  proto/quorate/v1/*.proto --build.rs--> v1 (messages, service traits, clients)
//!                                          |
//!         v1 from the network --convert--> typed values, or a ConvertError that names the field
//!         typed values       --convert--> v1 for the network
//! ```
//!
//! The server calls [`convert`] at its edge and speaks only types of `types` and `paxos` inside; the
//! client does the same. Bytes from the network are never trusted: no conversion panics, and none
//! lets a value through that its type does not allow. Limits of size are not checked here but by the
//! evaluation of requests (crate `txn`), so that one place knows them.

pub mod convert;
pub mod members;
pub mod recovery;
pub mod status;

/// What the build script generated from `proto/quorate/v1`: messages, service traits, clients.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::or_fun_call,
    clippy::redundant_clone,
    clippy::large_futures,
    clippy::uninlined_format_args
)]
pub mod v1 {
    tonic::include_proto!("quorate.v1");
}

/// The compiled `.proto` files, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The version of the protocol between nodes, in every greeting.
pub const PEER_PROTOCOL_VERSION: u32 = 1;

/// The deadline of a request that names none.
pub const REQUEST_TIMEOUT_DEFAULT: std::time::Duration = std::time::Duration::from_secs(5);
