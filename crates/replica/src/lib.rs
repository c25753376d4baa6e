//! Drives the groups of a node: events in, outputs carried out in order, waiters answered.
//!
//! ```text
//!   services --Request--> [ byte budget ] --+
//!   peers ----Peer------> [ byte budget ] --+--> Shard ---> GroupDriver (paxos core, evaluation,
//!   log thread --Synced, PromiseSynced -----+      |          overlay, sessions, waiters)
//!   timers ----------------------------------+     |
//!                                                  +--> log thread: frames, promises, releases
//!                                                  +--> peers: messages
//!                                                  +--> store: applied entries; checkpoints
//! ```
//!
//! One shard task owns many groups, so no group needs a lock. It drains its mailbox fully, then
//! proposes: a batch is whatever arrived during the last write. `shard.rs` is the task, `group.rs` one
//! group, `log_thread.rs` the only place that writes the log and the promise file, `disk_health.rs` the
//! judge of how well it can. Most other files are parts of a group or, in `shard/`, of the shard, by what they are
//! about.
//!
//! Knows nothing of gRPC, sockets or files' names; a clock, a peer network and a disk are handed in.

pub mod budget;
pub mod clock;
pub mod event;
pub mod force;
pub mod log_thread;
pub mod members;
pub mod network;
pub mod restore;
pub mod shard;
pub mod snapshot;

mod arrivals;
mod carry_out;
mod checkpoints;
mod checks;
mod cross;
mod cuts;
mod damaged_log;
mod disk_health;
mod elsewhere;
mod group;
mod group_status;
mod handle;
mod hashing;
mod leaders;
mod leadership;
mod ledger;
mod log_waits;
mod peer_folders;
mod refill;
mod refuse;
mod transfers;
mod turns;
mod waiters;

pub use budget::{ByteBudget, Permit};
pub use clock::Clock;
pub use damaged_log::is_whole;
pub use disk_health::DiskHangs;
pub use event::{
    Answer, CheckStatus, CutStatus, Departed, Event, GroupStatus, Leaving, MembersStatus, Own,
    Presence, RefillStatus, ReplyTo, ShardStatus,
};
pub use force::{ForceOrder, Standing};
pub use group::{GroupOptions, GroupRule, SliceRule};
pub use handle::ShardHandle;
pub use hashing::HashJob;
pub use log_thread::{LogThread, Stop};
pub use log_waits::{LogWaits, WaitStep};
pub use network::{Network, PeerMessage};
pub use peer_folders::PeerFolders;
pub use refill::{Loaded, Wanted};
pub use restore::{Restore, RestoreError, restore};
pub use shard::{Shard, ShardOptions};
pub use snapshot::{RefillDone, Refilled, SnapshotSource, blocking};
