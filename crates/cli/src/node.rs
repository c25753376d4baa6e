//! The server as this binary sees it: the only file that knows how a node is started, and what it is
//! started on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_server::Tuning;
use quorate_topology::Topology;
use quorate_types::{Link, NodeId};

pub(crate) use quorate_server::Security;

use crate::exit::Failure;

/// How much memory and disk a node may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// A server with a machine of its own.
    #[default]
    Normal,
    /// A laptop or a demo: less memory, smaller log.
    Small,
}

impl Profile {
    /// As on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Profile::Normal => "normal",
            Profile::Small => "small",
        }
    }
}

/// What a node is started with.
#[derive(Clone, Debug)]
pub(crate) struct NodeOptions {
    /// The cluster file.
    pub(crate) cluster_file: PathBuf,
    /// The name of the node in it.
    pub(crate) node: String,
    /// The data folder.
    pub(crate) data: PathBuf,
    /// How much memory and disk it may use.
    pub(crate) profile: Profile,
    /// Bytes of its log, where the profile's are not wanted.
    pub(crate) log_bytes_max: Option<u64>,
    /// Bytes of log kept for members that lag, where the profile's are not wanted.
    pub(crate) log_keep_max: Option<u64>,
    /// Bytes a second of flushes and compactions, where the usual is not wanted.
    pub(crate) compaction_rate_max: Option<u64>,
    /// Bytes of rows a second for others, where the usual is not wanted.
    pub(crate) snapshot_rate_max: Option<u64>,
    /// How often it has replicas compare their rows, where the usual is not wanted; zero: never.
    pub(crate) check_interval: Option<Duration>,
    /// It moves damaged rows aside instead of refusing to start.
    pub(crate) repair_rows: bool,
    /// It fetches what a damaged log lacks instead of refusing to start.
    pub(crate) repair_log: bool,
    /// Bytes of unanswered requests, where the profile's are not wanted.
    pub(crate) request_bytes_max: Option<u64>,
    /// How long it tries to hand leaderships over when it is stopped, where the usual is not wanted.
    pub(crate) leave_timeout: Option<Duration>,
    /// How it tells its callers apart.
    pub(crate) security: Security,
    /// What it does to its links at first; `None`: faults are not allowed.
    pub(crate) far_links: Option<Vec<Link>>,
}

/// Whether a data folder holds data of this node already. The folder is made if it does not exist.
///
/// # Errors
/// If a process uses it, if it is another node's, or if it cannot be read.
pub(crate) fn holds_data(data: &Path, topology: &Topology, node: NodeId) -> Result<bool, Failure> {
    use quorate_server::folder::{DataFolder, look_into};
    Ok(look_into(data, topology, node)? == DataFolder::OfThisNode)
}

/// Runs a node until `shutdown` ends and the node has stopped.
///
/// # Errors
/// What keeps the node from starting or running, coded by the server.
pub(crate) async fn serve(
    options: NodeOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Failure> {
    let profile = match options.profile {
        Profile::Normal => quorate_server::Profile::Normal,
        Profile::Small => quorate_server::Profile::Small,
    };
    let options = quorate_server::ServerOptions {
        cluster_file: options.cluster_file,
        node: options.node,
        data: options.data,
        profile,
        tuning: Tuning {
            log_bytes_max: options.log_bytes_max,
            log_keep_max: options.log_keep_max,
            compaction_bytes_per_second: options
                .compaction_rate_max
                .unwrap_or_else(|| Tuning::default().compaction_bytes_per_second),
            snapshot_bytes_per_second: options
                .snapshot_rate_max
                .unwrap_or_else(|| Tuning::default().snapshot_bytes_per_second),
            check_interval: options
                .check_interval
                .unwrap_or_else(|| Tuning::default().check_interval),
            repair_rows: options.repair_rows,
            repair_log: options.repair_log,
            request_bytes_max: options.request_bytes_max,
            leave_timeout: options.leave_timeout.unwrap_or_else(|| Tuning::default().leave_timeout),
            ..Tuning::default()
        },
        security: options.security,
        far_links: options.far_links,
    };
    Box::pin(quorate_server::serve(options, shutdown)).await.map_err(Failure::from)
}

#[cfg(test)]
mod tests {
    use quorate_server::Profile as Resources;

    use super::*;
    use crate::config::{Setting, Unset, size};

    #[test]
    fn the_defaults_that_are_told_are_those_of_the_server() {
        // Goal: `quorate config` and the handbook do not promise another default than the node has.
        let words = |key| match Setting::of(key).expect("a setting").unset {
            Unset::Words(words) => words,
            unset => panic!("{key}: {unset:?}"),
        };
        let tuning = Tuning::default();
        let sizes = |bytes: [u64; 2]| {
            let [normal, small] = bytes.map(|bytes| bytes / (1024 * 1024));
            (size(&format!("{normal}MiB")), size(&format!("{small}MiB")))
        };
        let told = |key| {
            let (normal, small) = words(key).split_once(", with profile small ").expect("both");
            (size(normal), size(small))
        };
        let both = [Resources::Normal, Resources::Small];
        assert_eq!(told("storage.log-bytes-max"), sizes(both.map(|of| tuning.log(of).bytes_cap)));
        assert_eq!(told("storage.log-keep-max"), sizes(both.map(|of| tuning.log_keep_max(of))));
        let requests = both.map(|of| tuning.request_bytes_max(of) as u64);
        assert_eq!(told("server.request-bytes-max"), sizes(requests));
        for (key, bytes) in [
            ("storage.snapshot-rate-max", tuning.snapshot_bytes_per_second),
            ("storage.compaction-rate-max", tuning.compaction_bytes_per_second),
        ] {
            let mebibytes = bytes / (1024 * 1024);
            let rate = Setting::of(key).expect("a setting").unset;
            assert!(
                matches!(rate, Unset::Value(text) if text == format!("{mebibytes}MiB")),
                "{key}"
            );
        }
        let checks = Setting::of("storage.check-interval").expect("a setting").unset;
        let minutes = tuning.check_interval.as_secs() / 60;
        assert!(matches!(checks, Unset::Value(text) if text == format!("{minutes}m")));
        let repair = Setting::of("storage.repair-rows").expect("a setting").unset;
        assert!(matches!(repair, Unset::Value(text) if text == tuning.repair_rows.to_string()));
        let repair = Setting::of("storage.repair-log").expect("a setting").unset;
        assert!(matches!(repair, Unset::Value(text) if text == tuning.repair_log.to_string()));
        let leave = Setting::of("server.leave-timeout").expect("a setting").unset;
        let seconds = tuning.leave_timeout.as_secs();
        assert!(matches!(leave, Unset::Value(text) if text == format!("{seconds}s")));
    }
}
