//! The cluster: its cluster file, its ports, its nodes and the links between them.
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

use quorate_client::{Client, Link, Topology};
use quorate_topology::presets::{Hosts, Layout, Options, of_layout};
use quorate_types::{ClusterId, Code, NodeId};
use rustix::process::Signal;

use super::folder::{CLUSTER_FILE, Folder};
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

/// The nodes and what they are started with.
#[derive(Debug)]
pub(crate) struct Cluster {
    topology: Topology,
    folder: PathBuf,
    profile: Profile,
    /// What is done to links; `None`: nothing, ever.
    links: Option<Vec<Link>>,
    /// The nodes that were started and not ended by us.
    up: BTreeMap<NodeId, NodeProcess>,
}

/// What a cluster is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Its cities and IDCs.
    pub(crate) layout: Layout,
    /// Nodes in each IDC.
    pub(crate) nodes_per_idc: u32,
    /// Added to every port.
    pub(crate) port_offset: u16,
    /// How much memory and disk a node may take.
    pub(crate) profile: Profile,
    /// Groups of each RZone.
    pub(crate) groups_per_unit: u32,
}

impl Shape {
    /// The text of a cluster file with a new id.
    pub(crate) fn text(&self) -> String {
        let options = Options {
            hosts: Hosts::Loopback { port_offset: self.port_offset },
            groups_per_unit: self.groups_per_unit,
            ..Options::demo(ClusterId(rand::random()))
        };
        of_layout(self.layout, self.nodes_per_idc, &options)
    }
}

impl Cluster {
    /// Writes the cluster file, or takes the one that is there. Starts nothing yet.
    ///
    /// # Errors
    /// If the file cannot be read or written, or `PORT_IN_USE`.
    pub(crate) fn prepare(folder: &Folder, shape: &Shape) -> Result<Cluster, Failure> {
        let file = folder.path().join(CLUSTER_FILE);
        let text = if folder.holds_cluster() {
            fs::read_to_string(&file).map_err(|error| Failure::file("read", &file, &error))?
        } else {
            shape.text()
        };
        let topology = Topology::parse_named(&file.display().to_string(), &text)?;
        check_ports(&topology)?;
        let folder = folder.path().to_owned();
        let cluster =
            Cluster { topology, folder, profile: shape.profile, links: None, up: BTreeMap::new() };
        fs::write(&file, text).map_err(|error| Failure::file("write", &file, &error))?;
        Ok(cluster)
    }

    /// From now on nodes start with what is done to links, and may be told otherwise.
    pub(crate) fn allow_faults(&mut self, links: Vec<Link>) {
        self.links = Some(links);
    }

    /// What is done to links.
    pub(crate) fn links(&self) -> &[Link] {
        self.links.as_deref().unwrap_or_default()
    }

    /// Replaces what is done to links, at every node that runs and for those that start later.
    ///
    /// # Errors
    /// If a node that runs is not told; it is told again with the next change.
    pub(crate) async fn set_links(
        &mut self,
        client: &Client,
        links: Vec<Link>,
    ) -> Result<(), Failure> {
        let running = self.topology.nodes().filter(|node| self.up.contains_key(&node.id));
        let telling = running.map(|node| client.set_links(&node.client, &links));
        let told = futures::future::join_all(telling).await;
        self.links = Some(links);
        match told.into_iter().find_map(Result::err) {
            Some(error) => Err(crate::cluster::failure(&error)),
            None => Ok(()),
        }
    }

    /// The layout.
    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The path of the cluster file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join(CLUSTER_FILE)
    }

    /// The addresses for clients, separated by commas.
    pub(crate) fn endpoints(&self) -> String {
        let addresses: Vec<&str> = self.topology.nodes().map(|node| node.client.as_str()).collect();
        addresses.join(",")
    }

    /// The folder with everything.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A client that says that it is in a city, and is as far from the nodes.
    ///
    /// # Errors
    /// `UNREACHABLE` if no node answers.
    pub(crate) async fn client_in(&self, city: &str) -> Result<Client, Failure> {
        let builder = Client::builder(self.endpoints()).near(city);
        let building = Box::pin(builder.cluster_id(self.topology.cluster_id()).build());
        building.await.map_err(|error| crate::cluster::failure(&error))
    }

    /// The nodes that should be running.
    pub(crate) fn up(&self) -> BTreeSet<NodeId> {
        self.up.keys().copied().collect()
    }

    /// The name of a node.
    pub(crate) fn name(&self, node: NodeId) -> String {
        self.topology.node(node).map_or_else(|| node.to_string(), |node| node.name.clone())
    }

    /// Waits until a node answers.
    ///
    /// # Errors
    /// `UNREACHABLE`, or the end of a node.
    pub(crate) async fn connect_to_any(&mut self) -> Result<Client, Failure> {
        let deadline = Instant::now() + CONNECT_LIMIT;
        loop {
            let builder = Client::builder(self.endpoints());
            match Box::pin(builder.cluster_id(self.topology().cluster_id()).build()).await {
                Ok(client) => return Ok(client),
                Err(error) => {
                    self.check_running()?;
                    if deadline <= Instant::now() {
                        return Err(crate::cluster::failure(&error));
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Waits until the new cluster serves, every group where it is wanted.
    ///
    /// # Errors
    /// `UNREACHABLE`, `NOT_READY`, or the end of a node.
    pub(crate) async fn connect(&mut self) -> Result<Client, Failure> {
        let client = Box::pin(self.connect_to_any()).await?;
        let wanted = Wanted::of(self.up());
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
        let all: BTreeSet<NodeId> = self.topology.nodes().map(|node| node.id).collect();
        self.start(&all)
    }

    /// Starts those of these nodes that do not run.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub(crate) fn start(&mut self, nodes: &BTreeSet<NodeId>) -> Result<(), Failure> {
        let file = self.file();
        // All nodes share this machine; as many threads in each as it has cores would only switch.
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let each = cores / self.topology.nodes().count().max(1);
        let threads = NonZeroUsize::new(each).unwrap_or(NonZeroUsize::MIN);
        for node in self.topology.nodes() {
            if self.up.contains_key(&node.id) || !nodes.contains(&node.id) {
                continue;
            }
            let process = NodeProcess::start(Start {
                cluster_file: &file,
                node: &node.name,
                data: &self.folder.join(&node.name),
                log: &log_of(&self.folder, &node.name),
                profile: self.profile,
                threads,
                links: self.links.as_deref(),
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
        Topology::parse(&of_layout(Layout::OneCity, 1, &options)).unwrap()
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
}
