//! The cluster of the demo: its folder, its cluster file, its ports and its three nodes.
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
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_client::Topology;
use quorate_topology::presets::{Hosts, Options, one_city_three_idcs};
use quorate_types::{ClusterId, Code, NodeId};
use rustix::process::Signal;

use super::process::{NodeProcess, Start};
use crate::exit::Failure;

/// A node that is stopped in good order hands over and ends within this.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// The last lines of a node's output shown when it ends by itself.
const LOG_LINES_SHOWN: usize = 5;

/// Where everything the demo writes lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Made by us for this run, so ours to remove.
    is_temporary: bool,
}

impl Folder {
    /// The user's folder, which must be new or empty, or a fresh one.
    ///
    /// # Errors
    /// If it cannot be made or holds something.
    pub(super) fn open(chosen: Option<&Path>) -> Result<Folder, Failure> {
        let path = match chosen {
            Some(path) => path.to_owned(),
            None => fresh_path(),
        };
        fs::create_dir_all(&path).map_err(|error| Failure::file("make", &path, &error))?;
        // Child processes and the user are given the path, so it must not depend on where they are.
        let path = path.canonicalize().map_err(|error| Failure::file("open", &path, &error))?;
        let mut entries =
            fs::read_dir(&path).map_err(|error| Failure::file("read", &path, &error))?;
        if entries.next().is_some() {
            return Err(Failure::usage(
                format!("{} is not empty; the demo starts with a new cluster", path.display()),
                "name a new or an empty folder with --dir, or leave --dir out",
            ));
        }
        Ok(Folder { path, is_temporary: chosen.is_none() })
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it if it is ours. Returns the path that stays, if it stays.
    pub(super) fn remove(self) -> Option<PathBuf> {
        if self.is_temporary && fs::remove_dir_all(&self.path).is_ok() {
            return None;
        }
        Some(self.path)
    }
}

/// Below `target/demo` in a checkout, otherwise in the system's folder for temporary files.
fn fresh_path() -> PathBuf {
    let name = format!("run-{}", std::process::id());
    match checkout_folder() {
        Some(folder) => folder.join(name),
        None => std::env::temp_dir().join(format!("quorate-demo-{name}")),
    }
}

/// `target/demo`, if this is a checkout or has a build folder; it may not exist yet.
pub(super) fn checkout_folder() -> Option<PathBuf> {
    let is_checkout = Path::new("Cargo.toml").is_file() || Path::new("target").is_dir();
    is_checkout.then(|| Path::new("target").join("demo"))
}

/// The nodes and what they are started with.
#[derive(Debug)]
pub(super) struct Cluster {
    topology: Topology,
    folder: PathBuf,
    /// The nodes that were started and not ended by us.
    up: BTreeMap<NodeId, NodeProcess>,
}

impl Cluster {
    /// Writes the cluster file. Starts nothing yet.
    ///
    /// # Errors
    /// If the file cannot be written, or `PORT_IN_USE`.
    pub(super) fn prepare(folder: &Folder, port_offset: u16) -> Result<Cluster, Failure> {
        let options = Options {
            hosts: Hosts::Loopback { port_offset },
            ..Options::demo(ClusterId(rand::random()))
        };
        let text = one_city_three_idcs(&options);
        let topology = Topology::parse(&text)?;
        check_ports(&topology)?;
        let folder = folder.path().to_owned();
        let cluster = Cluster { topology, folder, up: BTreeMap::new() };
        let file = cluster.file();
        fs::write(&file, text).map_err(|error| Failure::file("write", &file, &error))?;
        Ok(cluster)
    }

    /// The layout.
    pub(super) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The path of the cluster file.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.join("cluster.toml")
    }

    /// The addresses for clients, separated by commas.
    pub(super) fn endpoints(&self) -> String {
        let addresses: Vec<&str> = self.topology.nodes().map(|node| node.client.as_str()).collect();
        addresses.join(",")
    }

    /// The nodes that should be running.
    pub(super) fn up(&self) -> BTreeSet<NodeId> {
        self.up.keys().copied().collect()
    }

    /// The name of a node.
    pub(super) fn name(&self, node: NodeId) -> String {
        self.topology.node(node).map_or_else(|| node.to_string(), |node| node.name.clone())
    }

    /// The units that the groups led by a node belong to, when every leader is where it is wanted.
    pub(super) fn units_led_by(&self, node: NodeId) -> Vec<String> {
        let is_first = |group: &&quorate_topology::Group| {
            group.members.first().is_some_and(|member| member.node == node)
        };
        self.topology.groups().filter(is_first).map(|group| group.unit.clone()).collect()
    }

    /// Starts the nodes that do not run.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub(super) fn start_missing(&mut self) -> Result<(), Failure> {
        let file = self.file();
        for node in self.topology.nodes() {
            if self.up.contains_key(&node.id) {
                continue;
            }
            let process = NodeProcess::start(Start {
                cluster_file: &file,
                node: &node.name,
                data: &self.folder.join(&node.name),
                log: &log_of(&self.folder, &node.name),
            })?;
            self.up.insert(node.id, process);
        }
        Ok(())
    }

    /// Kills nodes with SIGKILL, all before waiting for any.
    pub(super) async fn kill(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
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
    pub(super) async fn stop(&mut self, node: NodeId) -> bool {
        match self.up.remove(&node) {
            Some(process) => process.stop(STOP_LIMIT).await,
            None => false,
        }
    }

    /// Stops every node with SIGTERM, one after the other, so that those that stop first have somebody
    /// to hand their leaderships over to.
    pub(super) async fn stop_all(&mut self) {
        for node in self.up() {
            self.stop(node).await;
        }
    }

    /// Kills every node with SIGKILL.
    pub(super) async fn kill_all(&mut self) {
        self.kill(self.up()).await;
    }

    /// Nodes that should run and have ended, with the end of their output.
    ///
    /// # Errors
    /// Names the first such node.
    pub(super) fn check_running(&mut self) -> Result<(), Failure> {
        let Cluster { topology, folder, up } = self;
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
                    "stop the process that holds it, or move the demo to other ports with \
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
        let folder = Folder::open(Some(&chosen)).unwrap();
        fs::write(folder.path().join("x"), "x").unwrap();
        assert!(folder.remove().is_some());
        let failure = Folder::open(Some(&chosen)).unwrap_err();
        assert!(failure.to_string().contains("is not empty"), "{failure}");
    }
}
