//! The cluster: its folder, its cluster file, its ports and its three nodes.
//!
//! ```text
//!  DIR/cluster.toml   the cluster file
//!  DIR/n1/            data of node n1
//!  DIR/n1.log         output of node n1, all its starts
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate_client::{Client, Topology};
use quorate_topology::presets::{Hosts, Options, one_city_three_idcs};
use quorate_types::{ClusterId, Code, NodeId};
use rustix::process::Signal;

use super::health::{self, Wanted};
use super::process::{NodeProcess, Start};
use crate::exit::Failure;
use crate::node::Profile;

/// How long new nodes may take to serve.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long the client goes on trying to reach the first node.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A node that is stopped in good order hands over and ends within this.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// The last lines of a node's output shown when it ends by itself.
const LOG_LINES_SHOWN: usize = 5;

/// Where everything the nodes write lives.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Made by us for this run, so ours to remove.
    is_temporary: bool,
}

impl Folder {
    /// The user's folder, which must be new or empty, or a fresh one.
    ///
    /// # Errors
    /// If it cannot be made or holds something.
    pub(crate) fn open(purpose: &str, chosen: Option<&Path>) -> Result<Folder, Failure> {
        let path = match chosen {
            Some(path) => path.to_owned(),
            None => fresh_path(purpose),
        };
        fs::create_dir_all(&path).map_err(|error| Failure::file("make", &path, &error))?;
        // Child processes and the user are given the path, so it must not depend on where they are.
        let path = path.canonicalize().map_err(|error| Failure::file("open", &path, &error))?;
        let mut entries =
            fs::read_dir(&path).map_err(|error| Failure::file("read", &path, &error))?;
        if entries.next().is_some() {
            return Err(Failure::usage(
                format!("{} is not empty; the {purpose} starts with a new cluster", path.display()),
                "name a new or an empty folder with --dir, or leave --dir out",
            ));
        }
        Ok(Folder { path, is_temporary: chosen.is_none() })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it if it is ours. Returns the path that stays, if it stays.
    pub(crate) fn remove(self) -> Option<PathBuf> {
        if self.is_temporary && fs::remove_dir_all(&self.path).is_ok() {
            return None;
        }
        Some(self.path)
    }
}

/// Below `target` in a checkout, otherwise in the system's folder for temporary files.
fn fresh_path(purpose: &str) -> PathBuf {
    let name = format!("run-{}", std::process::id());
    match checkout_folder(purpose) {
        Some(folder) => folder.join(name),
        None => std::env::temp_dir().join(format!("quorate-{purpose}-{name}")),
    }
}

/// `target/PURPOSE`, if this is a checkout or has a build folder; it may not exist yet.
pub(crate) fn checkout_folder(purpose: &str) -> Option<PathBuf> {
    let is_checkout = Path::new("Cargo.toml").is_file() || Path::new("target").is_dir();
    is_checkout.then(|| Path::new("target").join(purpose))
}

/// The nodes and what they are started with.
#[derive(Debug)]
pub(crate) struct Cluster {
    topology: Topology,
    folder: PathBuf,
    profile: Profile,
    /// The nodes that were started and not ended by us.
    up: BTreeMap<NodeId, NodeProcess>,
}

impl Cluster {
    /// Writes the cluster file. Starts nothing yet.
    ///
    /// # Errors
    /// If the file cannot be written, or `PORT_IN_USE`.
    pub(crate) fn prepare(
        folder: &Folder,
        port_offset: u16,
        profile: Profile,
        groups_per_unit: u32,
    ) -> Result<Cluster, Failure> {
        let options = Options {
            hosts: Hosts::Loopback { port_offset },
            groups_per_unit,
            ..Options::demo(ClusterId(rand::random()))
        };
        let text = one_city_three_idcs(&options);
        let topology = Topology::parse(&text)?;
        check_ports(&topology)?;
        let folder = folder.path().to_owned();
        let cluster = Cluster { topology, folder, profile, up: BTreeMap::new() };
        let file = cluster.file();
        fs::write(&file, text).map_err(|error| Failure::file("write", &file, &error))?;
        Ok(cluster)
    }

    /// The layout.
    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The path of the cluster file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("cluster.toml")
    }

    /// The addresses for clients, separated by commas.
    pub(crate) fn endpoints(&self) -> String {
        let addresses: Vec<&str> = self.topology.nodes().map(|node| node.client.as_str()).collect();
        addresses.join(",")
    }

    /// The nodes that should be running.
    pub(crate) fn up(&self) -> BTreeSet<NodeId> {
        self.up.keys().copied().collect()
    }

    /// The name of a node.
    pub(crate) fn name(&self, node: NodeId) -> String {
        self.topology.node(node).map_or_else(|| node.to_string(), |node| node.name.clone())
    }

    /// The units that the groups led by a node belong to, when every leader is where it is wanted.
    pub(crate) fn units_led_by(&self, node: NodeId) -> Vec<String> {
        let is_first = |group: &&quorate_topology::Group| {
            group.members.first().is_some_and(|member| member.node == node)
        };
        self.topology.groups().filter(is_first).map(|group| group.unit.clone()).collect()
    }

    /// Waits until the new cluster serves, every group where it is wanted.
    ///
    /// # Errors
    /// `UNREACHABLE`, `NOT_READY`, or the end of a node.
    pub(crate) async fn connect(&mut self) -> Result<Client, Failure> {
        let deadline = Instant::now() + CONNECT_LIMIT;
        let client = loop {
            let builder = Client::builder(self.endpoints());
            match Box::pin(builder.cluster_id(self.topology().cluster_id()).build()).await {
                Ok(client) => break client,
                Err(error) => {
                    self.check_running()?;
                    if deadline <= Instant::now() {
                        return Err(crate::cluster::failure(&error));
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        let wanted = Wanted { up: self.up(), leaders_at_home: false };
        let served = match health::wait(&client, &wanted, START_LIMIT).await {
            Ok(_) => health::send_leaders_home(&client, &wanted, START_LIMIT).await.map(|_| ()),
            Err(missing) => Err(missing),
        };
        if let Err(missing) = served {
            self.check_running()?;
            let message = format!(
                "the new cluster does not serve after {} s: {missing}",
                START_LIMIT.as_secs()
            );
            return Err(Failure::new(Code::NotReady, message)
                .with_fix("look into the logs of the nodes, named below"));
        }
        Ok(client)
    }

    /// Starts the nodes that do not run.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub(crate) fn start_missing(&mut self) -> Result<(), Failure> {
        let file = self.file();
        // All nodes share this machine; as many threads in each as it has cores would only switch.
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let each = cores / self.topology.nodes().count().max(1);
        let threads = NonZeroUsize::new(each).unwrap_or(NonZeroUsize::MIN);
        for node in self.topology.nodes() {
            if self.up.contains_key(&node.id) {
                continue;
            }
            let process = NodeProcess::start(Start {
                cluster_file: &file,
                node: &node.name,
                data: &self.folder.join(&node.name),
                log: &log_of(&self.folder, &node.name),
                profile: self.profile,
                threads,
            })?;
            self.up.insert(node.id, process);
        }
        Ok(())
    }

    /// Kills nodes with SIGKILL, all before waiting for any.
    pub(crate) async fn kill(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        let killed: Vec<NodeProcess> =
            nodes.into_iter().filter_map(|node| self.up.remove(&node)).collect();
        for process in &killed {
            process.signal(Signal::KILL);
        }
        for process in killed {
            process.kill().await;
        }
    }

    /// Stops a node with SIGTERM. True if it ended in good order.
    pub(crate) async fn stop(&mut self, node: NodeId) -> bool {
        match self.up.remove(&node) {
            Some(process) => process.stop(STOP_LIMIT).await,
            None => false,
        }
    }

    /// Stops every node with SIGTERM, one after the other, so that those that stop first have somebody
    /// to hand their leaderships over to.
    pub(crate) async fn stop_all(&mut self) {
        for node in self.up() {
            self.stop(node).await;
        }
    }

    /// Kills every node with SIGKILL.
    pub(crate) async fn kill_all(&mut self) {
        self.kill(self.up()).await;
    }

    /// Nodes that should run and have ended, with the end of their output.
    ///
    /// # Errors
    /// Names the first such node.
    pub(crate) fn check_running(&mut self) -> Result<(), Failure> {
        let Cluster { topology, folder, up, .. } = self;
        for (id, process) in up.iter_mut() {
            let Some(status) = process.ended() else { continue };
            let name = topology.node(*id).map_or_else(|| id.to_string(), |node| node.name.clone());
            let log = log_of(folder, &name);
            let text = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(LOG_LINES_SHOWN).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            let message = format!("node {name} ended by itself ({status})\n{}", lines.join("\n"));
            let fix = format!("{} has the rest of what it said", log.display());
            return Err(Failure::new(Code::Internal, message).with_fix(fix));
        }
        Ok(())
    }
}

fn log_of(folder: &Path, node: &str) -> PathBuf {
    folder.join(format!("{node}.log"))
}

/// A port that is taken is found before anything starts.
fn check_ports(topology: &Topology) -> Result<(), Failure> {
    for node in topology.nodes() {
        let uses = [("client", &node.client), ("peer", &node.peer), ("admin", &node.admin)];
        for (purpose, address) in uses {
            let error = match TcpListener::bind(address) {
                Ok(_listener) => continue,
                Err(error) => error,
            };
            let port = address.rsplit(':').next().unwrap_or(address);
            if error.kind() == ErrorKind::AddrInUse {
                let message =
                    format!("port {port} ({purpose} port of node {}) is in use", node.name);
                return Err(Failure::new(Code::PortInUse, message).with_fix(
                    "stop the process that holds it, or choose other ports with \
                     --port-offset 1000",
                ));
            }
            let message = format!("{address} cannot be bound: {error}");
            return Err(Failure::new(Code::ConfigInvalid, message)
                .with_fix("choose ports this user may listen on with --port-offset"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A topology whose ports the tests of other crates do not use.
    fn topology(port_offset: u16) -> Topology {
        let options =
            Options { hosts: Hosts::Loopback { port_offset }, ..Options::demo(ClusterId(7)) };
        Topology::parse(&one_city_three_idcs(&options)).unwrap()
    }

    #[test]
    fn a_port_in_use_is_named_with_the_flag_that_helps() {
        let topology = topology(23_000);
        let _taken = TcpListener::bind("127.0.0.1:29451").unwrap(); // 6441 + 10 + 23,000
        let failure = check_ports(&topology).unwrap_err();
        assert_eq!(failure.error().unwrap().code, Code::PortInUse);
        let text = failure.to_string();
        assert!(text.contains("port 29451 (peer port of node n2) is in use"), "{text}");
        assert!(text.contains("--port-offset"), "{text}");
    }

    #[test]
    fn a_folder_of_the_user_is_empty_and_stays() {
        let parent = tempfile::tempdir().unwrap();
        let chosen = parent.path().join("a/b");
        let folder = Folder::open("demo", Some(&chosen)).unwrap();
        fs::write(folder.path().join("x"), "x").unwrap();
        assert!(folder.remove().is_some());
        let failure = Folder::open("demo", Some(&chosen)).unwrap_err();
        assert!(failure.to_string().contains("is not empty"), "{failure}");
    }
}
