//! Rows and applied positions: an in-memory row table ahead of RocksDB, and a twin for simulation.

pub mod error;
pub mod keys;
pub mod view;

pub use error::StoreError;
pub use keys::{Key, Keyspace};
pub use view::{Change, View};
