//! The one shared segmented log of a node, its promise file, and the disk under both.
//!
//! For the log thread of a node, which appends and syncs, and for every thread that reads entries
//! back. Knows frames, segments, checksums and what a disk does in a power cut; knows nothing of
//! Paxos: the body of a frame is opaque, and a promise is a number to keep.
//!
//! ```text
//!   append, sync, seal, release          read                 store
//!            |                             |                    |
//!        LogWriter ---- Index ------- LogReader            PromiseFile
//!            |        (in memory)          |                    |
//!        segments  <- recovery             |                    |
//!            |                             |                    |
//!            +-------------- Disk, DiskFile --------------------+
//!                        (real, or simulated)
//! ```
//!
//! Order of a start: [`PromiseFile::open`], then, in a fresh folder, [`PromiseFile::store`], then
//! [`Log::open`]. The other way round a fresh folder would look like one whose promises were lost.

pub mod disk;
mod error;
mod found_segment;
mod frame;
mod index;
mod new_segment;
mod options;
mod promises;
mod reader;
mod record;
mod recovered;
mod recovery;
mod scan;
mod segment;
mod writer;

#[cfg(not(madsim))]
pub use disk::real::RealDisk;
pub use disk::sim::{CrashMode, SimCounters, SimDisk};
pub use disk::{Disk, DiskFile};
pub use error::LogError;
pub use frame::{Frame, HEADER_BYTES, LogOffset, SegmentId};
pub use options::LogOptions;
pub use promises::{Opened, PromiseFile, check_floors};
pub use reader::LogReader;
pub use record::{GroupRecord, LogMark, LogTrust, MembershipRecord, NodeRecord};
pub use recovered::{Cut, Damage, DamageKind, FrameInfo, Recovered, RecoveredGroup};
pub use recovery::Log;
pub use writer::{LogCounters, LogStats, LogWriter};
