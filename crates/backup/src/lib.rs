//! What a backup is: the records of all groups as of one cut, in checked objects, and a manifest of them.
//!
//! ```text
//!  a page of records --> GroupWriter --> objects of up to 32 MiB --.
//!                                                                 Place: a folder or a bucket
//!  Manifest, written last: without it there is no backup ---------'
//!
//!  Place --> manifest --> GroupReader --> records, each checked --> verify, or a fresh data folder
//! ```
//!
//! Knows no cluster: who makes backups brings the records, who restores takes them away. Nothing that is
//! read is believed: the manifest is checked against its digest, objects against the manifest, records
//! against what a group may hold. None of it is signed: who may write to the place may write anything.
//!
//! The simulation has no backups: nothing that is built for it depends on this crate.

pub mod books;
mod digest;
pub mod error;
pub mod layout;
pub mod manifest;
pub mod place;
pub mod read;
pub mod write;

pub use books::{Books, LedgerTotal};
pub use error::BackupError;
pub use layout::check_layout;
pub use manifest::{Cluster, GroupPart, Manifest, Object};
pub use place::{BackupId, Place};
pub use read::{Found, GroupReader, Verified, list, open, verify};
pub use write::{GroupWriter, publish};
