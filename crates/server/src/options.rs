//! What a server is started with.

use std::path::PathBuf;

use quorate_log::LogOptions;
use quorate_paxos::Timing;
use quorate_store::CheckpointPolicy;
use quorate_topology::LeaseProfile;
use quorate_types::limits;

/// How much memory and disk a node may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// A server with a machine of its own.
    #[default]
    Normal,
    /// A laptop, the demo, a simulation: three nodes stay under 1 GB of memory and of disk.
    Small,
}

impl Profile {
    /// Segments and caps of the log.
    #[must_use]
    pub fn log(self) -> LogOptions {
        match self {
            Profile::Normal => LogOptions::default(),
            Profile::Small => LogOptions::small(),
        }
    }

    /// When rows go to the engine.
    #[must_use]
    pub fn checkpoints(self) -> CheckpointPolicy {
        match self {
            Profile::Normal => CheckpointPolicy::normal(),
            Profile::Small => CheckpointPolicy::small(),
        }
    }

    /// Bytes of requests a node holds.
    #[must_use]
    pub fn request_bytes_max(self) -> usize {
        match self {
            Profile::Normal => limits::NODE_REQUEST_BYTES_MAX,
            Profile::Small => limits::NODE_REQUEST_BYTES_MAX / 8,
        }
    }
}

/// How a node tells its callers apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// Not at all: connections are neither encrypted nor authenticated, and everybody may do everything.
    /// For one machine, or a network that is trusted.
    Insecure,
    /// By certificates and rights.
    Tls {
        /// The folder with `ca.crt`, `node-NAME.crt`, `node-NAME.key` and `rights.toml`.
        dir: PathBuf,
    },
}

/// What a server process is started with.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The cluster file.
    pub cluster_file: PathBuf,
    /// The name of this node in it.
    pub node: String,
    /// The data folder; made if it does not exist.
    pub data: PathBuf,
    /// How much memory and disk it may use.
    pub profile: Profile,
    /// How it tells its callers apart.
    pub security: Security,
}

/// The times of the protocol for a lease profile of the cluster file.
#[must_use]
pub fn timing(lease: LeaseProfile) -> Timing {
    match lease {
        LeaseProfile::Lan => Timing::lan(),
        LeaseProfile::Wan => Timing::wan(),
        LeaseProfile::Off => Timing::lan().read_index(),
    }
}
