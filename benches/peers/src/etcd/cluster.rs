//! Three etcd processes on this machine, with fresh data folders and etcd's defaults: every write is
//! synced before it is acknowledged.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::wire;
use super::wire::v3::maintenance_client::MaintenanceClient;
use super::wire::v3::{DefragmentRequest, StatusRequest};
use crate::process::{Ending, Process, last_lines};

/// Settings of etcd in the environment begin with this.
const VARIABLES: &str = "ETCD_";
const NODES: u16 = 3;
/// Client ports are this and 10 and 20 more, peer ports one more than those. They lie below the ports
/// that the system gives to connections.
const PORT_FIRST: u16 = 22_379;
const PORT_STEP: u16 = 10;
/// How long a new cluster may take to have a leader that all nodes know.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks for it.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a node may take to say how it is.
const STATUS_LIMIT: Duration = Duration::from_secs(2);

/// Why there is no cluster.
#[derive(Debug, Error)]
pub(crate) enum ClusterError {
    /// There is no such program.
    #[error(
        "there is no {}: install Debian's package etcd-server (`apt-get install etcd-server`), or name \
         the binary with --etcd",
        program.display()
    )]
    Missing {
        /// What was to be started.
        program: PathBuf,
    },
    /// The program could not be started.
    #[error("cannot start {}", program.display())]
    Start {
        /// What was to be started.
        program: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
    /// Somebody listens there already.
    #[error("port {port} of etcd cannot be used; choose others with --port-offset")]
    Port {
        /// The port.
        port: u16,
        /// Why it cannot.
        source: io::Error,
    },
    /// The log of a node could not be written, or the system does not say how it ended.
    #[error("cannot follow node {node} of etcd")]
    Follow {
        /// The node.
        node: String,
        /// Why.
        source: io::Error,
    },
    /// A node ended by itself.
    #[error("node {node} of etcd ended by itself:\n{said}")]
    Ended {
        /// The node.
        node: String,
        /// Its last words.
        said: String,
    },
    /// A node does not rewrite its database.
    #[error("node {node} of etcd does not defragment its database: {said}")]
    Settle {
        /// The node.
        node: String,
        /// What it said.
        said: String,
    },
    /// No leader that all nodes know.
    #[error("the nodes of etcd agree on no leader after {} s", START_LIMIT.as_secs())]
    NoLeader,
}

/// The version of an etcd binary.
///
/// # Errors
/// If there is none, or it cannot be started.
pub(crate) fn version(program: &Path) -> Result<String, ClusterError> {
    let output =
        Command::new(program).arg("--version").output().map_err(|it| cannot_start(program, it))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next().unwrap_or("etcd");
    Ok(first.replace("etcd Version:", "etcd"))
}

fn cannot_start(program: &Path, source: io::Error) -> ClusterError {
    let program = program.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => ClusterError::Missing { program },
        _ => ClusterError::Start { program, source },
    }
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leadership {
    /// The leader.
    pub(super) leader: Place,
    /// Grows with every election.
    pub(super) term: u64,
}

/// One of the three nodes, from 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u16);

impl Place {
    fn all() -> impl Iterator<Item = Place> {
        (0..NODES).map(Place)
    }

    fn name(self) -> String {
        format!("n{}", self.0 + 1)
    }
}

/// A running cluster. Dropping it kills its nodes.
#[derive(Debug)]
pub(super) struct Cluster {
    nodes: Vec<Node>,
    port_first: u16,
}

#[derive(Debug)]
struct Node {
    place: Place,
    process: Process,
    log: PathBuf,
}

impl Cluster {
    /// Starts three nodes. It takes a while until they serve.
    ///
    /// # Errors
    /// If the program is missing, a port is taken or a process cannot be started.
    pub(super) fn start(
        program: &Path,
        port_offset: u16,
        dir: &Path,
    ) -> Result<Cluster, ClusterError> {
        let mut cluster = Cluster { nodes: Vec::new(), port_first: PORT_FIRST + port_offset };
        cluster.check_ports()?;
        for place in Place::all() {
            let log = dir.join(format!("{}.log", place.name()));
            let follow = |source| ClusterError::Follow { node: place.name(), source };
            let output = File::create(&log).map_err(follow)?;
            let outputs = (output.try_clone().map_err(follow)?, output);
            let mut command = Command::new(program);
            command.args(cluster.arguments(place)).arg("--data-dir").arg(dir.join(place.name()));
            let process = Process::start(&mut command, VARIABLES, outputs, Ending::Kill)
                .map_err(|source| cannot_start(program, source))?;
            cluster.nodes.push(Node { place, process, log });
        }
        Ok(cluster)
    }

    /// Where a node serves clients.
    pub(super) fn address(&self, place: Place) -> String {
        format!("127.0.0.1:{}", self.client_port(place))
    }

    /// Where all nodes serve clients.
    pub(super) fn addresses(&self) -> Vec<String> {
        Place::all().map(|place| self.address(place)).collect()
    }

    /// Waits until all nodes know the same leader.
    ///
    /// # Errors
    /// If they do not in time, or a node has ended.
    pub(super) async fn leadership(&mut self) -> Result<Leadership, ClusterError> {
        let began = Instant::now();
        while began.elapsed() < START_LIMIT {
            self.check_running()?;
            if let Some(leadership) = self.agreed().await {
                return Ok(leadership);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Err(ClusterError::NoLeader)
    }

    /// Brings all nodes to rest after many writes, one after the other.
    ///
    /// etcd 3.4 copies its buffer of late writes for every read, at the length it once had, and goes on
    /// doing so as long as nothing else is written. A database rewritten has none.
    ///
    /// # Errors
    /// If a node refuses.
    pub(super) async fn settle(&self) -> Result<(), ClusterError> {
        for place in Place::all() {
            let cannot = |said| ClusterError::Settle { node: place.name(), said };
            let channel = wire::connect(&self.address(place))
                .await
                .map_err(|error| cannot(error.to_string()))?;
            let asked = MaintenanceClient::new(channel).defragment(DefragmentRequest {}).await;
            asked.map_err(|status| cannot(status.to_string()))?;
        }
        Ok(())
    }

    /// The leader that all nodes know, if they do.
    async fn agreed(&self) -> Option<Leadership> {
        let mut seen = Vec::new();
        for place in Place::all() {
            let asking = tokio::time::timeout(STATUS_LIMIT, status(self.address(place)));
            let status = asking.await.ok()??;
            seen.push((place, status));
        }
        let leads = seen.iter().find(|(_, status)| status.member == status.leader)?;
        let (leader, Status { term, .. }) = *leads;
        let is_agreed = seen.iter().all(|(_, it)| it.leader == leads.1.leader && it.term == term);
        is_agreed.then_some(Leadership { leader, term })
    }

    fn check_running(&mut self) -> Result<(), ClusterError> {
        for Node { place, process, log } in &mut self.nodes {
            let node = place.name();
            match process.ended() {
                Ok(None) => {}
                Ok(Some(_)) => return Err(ClusterError::Ended { node, said: last_lines(log) }),
                Err(source) => return Err(ClusterError::Follow { node, source }),
            }
        }
        Ok(())
    }

    /// A port that is taken is found before anything starts.
    fn check_ports(&self) -> Result<(), ClusterError> {
        for port in Place::all().flat_map(|it| [self.client_port(it), self.peer_port(it)]) {
            TcpListener::bind(("127.0.0.1", port))
                .map_err(|source| ClusterError::Port { port, source })?;
        }
        Ok(())
    }

    fn client_port(&self, place: Place) -> u16 {
        self.port_first + place.0 * PORT_STEP
    }

    fn peer_port(&self, place: Place) -> u16 {
        self.client_port(place) + 1
    }

    /// Names and places only: everything else is etcd's default.
    fn arguments(&self, place: Place) -> Vec<String> {
        let client = format!("http://{}", self.address(place));
        let peer = |place| format!("http://127.0.0.1:{}", self.peer_port(place));
        let all: Vec<String> =
            Place::all().map(|place| format!("{}={}", place.name(), peer(place))).collect();
        [
            ("--name", place.name()),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", peer(place)),
            ("--initial-advertise-peer-urls", peer(place)),
            ("--initial-cluster", all.join(",")),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
    }
}

/// How a node sees the cluster.
#[derive(Clone, Copy, Debug)]
struct Status {
    member: u64,
    leader: u64,
    term: u64,
}

/// Asks a node; `None` if it does not answer.
async fn status(address: String) -> Option<Status> {
    let channel = wire::connect(&address).await.ok()?;
    let answer = MaintenanceClient::new(channel).status(StatusRequest {}).await.ok()?.into_inner();
    let member = answer.header?.member_id;
    Some(Status { member, leader: answer.leader, term: answer.raft_term })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_etcd_is_named_with_its_package() {
        let error = version(Path::new("/no/such/etcd")).unwrap_err();
        assert!(error.to_string().contains("Debian's package etcd-server"), "{error}");
    }

    #[test]
    fn nodes_differ_in_names_and_ports_alone() {
        let cluster = Cluster { nodes: Vec::new(), port_first: 100 };
        let arguments = cluster.arguments(Place(1));
        assert_eq!(
            arguments[..4],
            ["--name", "n2", "--listen-client-urls", "http://127.0.0.1:110"]
        );
        let all = "n1=http://127.0.0.1:101,n2=http://127.0.0.1:111,n3=http://127.0.0.1:121";
        assert_eq!(arguments.last().map(String::as_str), Some(all));
    }
}
