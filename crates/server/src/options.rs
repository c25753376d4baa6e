//! What a server is started with.

use std::path::PathBuf;
use std::time::Duration;

use quorate_log::LogOptions;
use quorate_paxos::Timing;
use quorate_store::CheckpointPolicy;
use quorate_topology::LeaseProfile;
use quorate_types::{Link, limits};

/// How much memory and disk a node may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// A server with a machine of its own.
    #[default]
    Normal,
    /// A laptop, the demo, a simulation: five nodes stay under 1 GB of memory and of disk.
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
    /// What is wanted otherwise than the profile has it.
    pub tuning: Tuning,
    /// How it tells its callers apart.
    pub security: Security,
    /// Distances and cuts that it begins with; `None`: nobody may ask for any. For demos and tests.
    pub far_links: Option<Vec<Link>>,
}

/// What an operator may want otherwise than the profile has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Most bytes of the log; at the limit writes get `DISK_FULL`.
    pub log_bytes_max: Option<u64>,
    /// Bytes of log kept for members that lag, over all groups of the node; who needs older log gets a
    /// snapshot.
    pub log_keep_max: Option<u64>,
    /// When rows go to the engine, and are flushed there.
    pub checkpoints: Option<CheckpointPolicy>,
    /// Bytes of unanswered requests the node holds; beyond it they get `OVERLOADED`.
    pub request_bytes_max: Option<u64>,
    /// How long a leaving node tries to hand its leaderships over.
    pub leave_timeout: Duration,
    /// The times of the protocol; `None`: those of the lease profile. For a cluster of one node, which need
    /// not wait for others to be silent.
    pub timing: Option<Timing>,
    /// Bytes a second that flushes and compactions of the store write at most.
    pub compaction_bytes_per_second: u64,
    /// Bytes of rows a second that the node sends, all together: to others which refill theirs, and to backups. To
    /// the former usually half of it.
    pub snapshot_bytes_per_second: u64,
    /// Others that it sends rows to at the same time; further ones get `OVERLOADED`.
    pub snapshots_served_max: usize,
    /// How often the leader of a group has its replicas compare their rows; zero: only when it is asked to.
    pub check_interval: Duration,
    /// A start moves damaged rows aside and fetches others, instead of refusing.
    pub repair_rows: bool,
    /// A start with a damaged log gives up what is not certain and fetches it from others, instead of refusing.
    pub repair_log: bool,
}

impl Default for Tuning {
    fn default() -> Tuning {
        let leave_timeout = Duration::from_secs(10);
        Tuning {
            log_bytes_max: None,
            log_keep_max: None,
            checkpoints: None,
            request_bytes_max: None,
            leave_timeout,
            timing: None,
            compaction_bytes_per_second: 256 * 1024 * 1024,
            snapshot_bytes_per_second: 64 * 1024 * 1024,
            snapshots_served_max: 2,
            check_interval: Duration::from_secs(600),
            repair_rows: true,
            repair_log: true,
        }
    }
}

impl Tuning {
    /// Segments and caps of the log.
    #[must_use]
    pub fn log(self, profile: Profile) -> LogOptions {
        let options = profile.log();
        LogOptions { bytes_cap: self.log_bytes_max.unwrap_or(options.bytes_cap), ..options }
    }

    /// Bytes of log kept for members that lag; never so much that the log gets full by it, also while a
    /// member is refilled and four times as much is kept.
    #[must_use]
    pub fn log_keep_max(self, profile: Profile) -> u64 {
        let bytes_cap = self.log(profile).bytes_cap;
        self.log_keep_max.unwrap_or(bytes_cap / 8).min(bytes_cap / 6)
    }

    /// Bytes of requests a node holds.
    #[must_use]
    pub fn request_bytes_max(self, profile: Profile) -> usize {
        let wanted =
            self.request_bytes_max.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        wanted.unwrap_or_else(|| profile.request_bytes_max())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tuned_wins_over_the_profile_and_nothing_else_changes() {
        // Goal: an operator's limit arrives at the log and at the budget of requests.
        let tuning = Tuning {
            log_bytes_max: Some(1 << 30),
            log_keep_max: Some(1 << 26),
            request_bytes_max: Some(1 << 24),
            ..Tuning::default()
        };
        for profile in [Profile::Normal, Profile::Small] {
            let tuned = LogOptions { bytes_cap: 1 << 30, ..profile.log() };
            assert_eq!(tuning.log(profile), tuned);
            assert_eq!(tuning.log(profile).validate().map_err(|error| error.code()), Ok(()));
            assert_eq!(tuning.request_bytes_max(profile), 1 << 24);
            assert_eq!(tuning.log_keep_max(profile), 1 << 26);
            let too_much = Tuning { log_keep_max: Some(u64::MAX), ..tuning };
            assert_eq!(too_much.log_keep_max(profile), (1 << 30) / 6, "a sixth of the cap");
            assert_eq!(Tuning::default().log(profile), profile.log());
        }
    }
}
