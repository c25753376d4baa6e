//! Rows and applied positions: an in-memory row table ahead of RocksDB, and a twin for simulation.
//!
//! Knows records and slots; does not know who wrote them or what they mean. Entries are applied to
//! the row table ([`Store::apply`]) and answered from there; RocksDB receives checkpoints. The log
//! above the persisted position ([`Store::persisted`]) restores everything a crash takes.
//!
//! Rows may also come from another store: a view of one ([`Pinned::page`]) goes, record by record, into
//! a new copy of a group's rows in the other ([`Installer`]), which then takes the place of the old one
//! ([`Store::switch`]).
//!
//! A first reading order: `keys.rs`, `view.rs`, `store.rs`, `row_table.rs`, `engine.rs`, `install.rs`,
//! `installer.rs`, `digest.rs`.

mod applied;
pub mod base;
pub mod checkpoint;
pub mod digest;
pub mod engine;
pub mod error;
pub mod install;
pub mod installer;
pub mod key;
pub mod keys;
pub mod ledger;
mod merge;
pub mod overlay;
pub mod pinned;
pub mod portable;
pub mod row;
mod row_table;
pub mod store;
pub mod view;

pub use base::{Base, Progress};
pub use checkpoint::{Checkpoint, CheckpointPolicy, Due, Durability, Pressure};
pub use digest::RowsHasher;
#[cfg(all(not(madsim), feature = "rocks"))]
pub use engine::rocks::{Rocks, RocksOptions};
pub use engine::twin::Twin;
pub use engine::{CheckpointBatch, Engine, EngineRun, EngineSnapshot, EngineStats, Records};
pub use error::StoreError;
pub use installer::Installer;
pub use key::Key;
pub use keys::Keyspace;
pub use ledger::{decode_loss, encode_loss, open_losses, read_losses, write_loss};
pub use overlay::{Overlay, OverlayView};
pub use pinned::Pinned;
pub use portable::{Portable, Tally, decode_page, encode_page, state_page};
pub use row::{Row, RowError};
pub use store::{Store, StoreStats};
pub use view::{Change, View};
