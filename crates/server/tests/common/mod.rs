//! Three real nodes in one process, on loopback, each with a data folder of its own.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use quorate_client::{Client, Paths, Tls};
use quorate_server::{Profile, Security, ServerOptions, Tuning, serve};
use quorate_tls::{Folder, NodeNames, YEAR};
use quorate_topology::{Topology, presets};
use quorate_types::{ClusterId, Error, GroupId, Link, NodeId};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A running node and the way to stop it.
struct Running {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), Error>>,
}

/// The nodes by name.
pub struct Cluster {
    pub dir: tempfile::TempDir,
    pub topology: Topology,
    running: BTreeMap<String, Running>,
    security: Security,
    /// What nodes that start from now on do to links; `None`: faults are not allowed.
    pub far_links: Option<Vec<Link>>,
}

/// The client that may do everything.
pub const ROOT: &str = "root";

impl Cluster {
    /// Starts three nodes and waits until every group serves.
    pub async fn start() -> Cluster {
        Cluster::start_with(|_, _| Security::Insecure).await
    }

    /// Starts six nodes; each group is on three of them.
    pub async fn start_wide() -> Cluster {
        Cluster::start_nodes(2, |_, _| Security::Insecure).await
    }

    /// Starts three nodes with certificates, and with rights beside those of `root`.
    pub async fn start_secured(rights: &str) -> Cluster {
        Cluster::start_with(|dir, topology| {
            let dir = dir.join("certs");
            write_certificates(&dir, topology, &[ROOT]);
            let root = "[[client]]\nname = \"root\"\nwrite = [\"*\"]\nadmin = [\"*\"]\n";
            std::fs::write(dir.join("rights.toml"), format!("{root}{rights}")).expect("written");
            Security::Tls { dir }
        })
        .await
    }

    async fn start_with(security: impl FnOnce(&Path, &Topology) -> Security) -> Cluster {
        Cluster::start_nodes(1, security).await
    }

    async fn start_nodes(
        nodes_per_idc: u32,
        security: impl FnOnce(&Path, &Topology) -> Security,
    ) -> Cluster {
        let text = presets::of_layout(
            presets::Layout::OneCity,
            nodes_per_idc,
            &preset_options(3 * nodes_per_idc as u16),
        );
        Cluster::start_text(&text, security).await
    }

    /// Starts the nodes of a layout whose cluster file is changed before.
    pub async fn start_layout(
        layout: presets::Layout,
        change: impl FnOnce(String) -> String,
    ) -> Cluster {
        let nodes = u16::try_from(layout.places().len()).expect("a few");
        let text = change(presets::of_layout(layout, 1, &preset_options(nodes)));
        Cluster::start_text(&text, |_, _| Security::Insecure).await
    }

    async fn start_text(
        text: &str,
        security: impl FnOnce(&Path, &Topology) -> Security,
    ) -> Cluster {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("cluster.toml"), text).expect("the folder is writable");
        let topology = Topology::parse(text).expect("the preset is valid");
        let security = security(dir.path(), &topology);
        let mut cluster =
            Cluster { dir, topology, running: BTreeMap::new(), security, far_links: None };
        for name in cluster.names() {
            cluster.start_node(&name);
        }
        cluster.wait_until_serving().await;
        cluster
    }

    pub fn names(&self) -> Vec<String> {
        self.topology.nodes().map(|node| node.name.clone()).collect()
    }

    pub fn cluster_file(&self) -> PathBuf {
        self.dir.path().join("cluster.toml")
    }

    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn options(&self, name: &str) -> ServerOptions {
        ServerOptions {
            cluster_file: self.cluster_file(),
            node: name.to_owned(),
            data: self.data(name),
            profile: Profile::Small,
            tuning: Tuning::default(),
            security: self.security.clone(),
            far_links: self.far_links.clone(),
        }
    }

    pub fn start_node(&mut self, name: &str) {
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _dropped = stopped.await.is_err();
        };
        let ended = tokio::spawn(serve(self.options(name), shutdown));
        self.running.insert(name.to_owned(), Running { stop, ended });
    }

    /// Stops a node gracefully and waits for its end.
    pub async fn stop_node(&mut self, name: &str) -> Result<(), Error> {
        let running = self.running.remove(name).expect("it runs");
        let _ended = running.stop.send(()).is_err();
        running.ended.await.expect("no panic")
    }

    /// Stops a node without a word to anybody.
    pub async fn abort_node(&mut self, name: &str) {
        let running = self.running.remove(name).expect("it runs");
        running.ended.abort();
        let _aborted = running.ended.await.is_err();
    }

    pub fn endpoints(&self) -> String {
        self.topology.nodes().map(|node| node.client.clone()).collect::<Vec<_>>().join(",")
    }

    pub async fn client(&self) -> Client {
        match &self.security {
            Security::Insecure => {
                within(async || Client::builder(self.endpoints()).build().await.ok()).await
            }
            Security::Tls { .. } => self.client_of(self.tls(ROOT)).await,
        }
    }

    pub async fn client_of(&self, tls: Tls) -> Client {
        let builder = || Client::builder(self.endpoints()).tls(tls.clone());
        within(async || builder().build().await.ok()).await
    }

    pub fn certs(&self) -> PathBuf {
        self.dir.path().join("certs")
    }

    /// The certificate of a client, made if there is none.
    pub fn tls(&self, name: &str) -> Tls {
        let name = name.parse().expect("a name");
        let paths = Paths::of_client(&self.certs(), &name);
        if !paths.certificate.exists() {
            Folder::new(&self.certs()).create_client(&name, YEAR).expect("made");
        }
        Tls::open(paths).expect("a client")
    }

    /// The node that serves as leader of a group.
    pub async fn leader_of(&self, group: GroupId) -> NodeId {
        let client = self.client().await;
        within(async || {
            let reports = client.cluster_status().await;
            reports.into_iter().find_map(|report| {
                let status = report.status.ok()?;
                let serves = status.groups.iter().any(|g| g.group == group && g.serving);
                serves.then_some(status.node)
            })
        })
        .await
    }

    pub async fn wait_until_serving(&self) {
        for group in self.topology.groups() {
            self.leader_of(group.id).await;
        }
    }
}

/// A cluster of its own, on ports that are free.
fn preset_options(nodes: u16) -> presets::Options {
    presets::Options {
        name: "test".to_owned(),
        cluster_id: ClusterId(u128::from(std::process::id())),
        hosts: presets::Hosts::Loopback { port_offset: free_offset(nodes) },
        ..presets::Options::demo(ClusterId(7))
    }
}

/// An authority, every node, and clients.
pub fn write_certificates(dir: &Path, topology: &Topology, clients: &[&str]) {
    let folder = Folder::new(dir);
    folder.create_authority(topology.cluster_id(), YEAR).expect("made");
    let hosts = ["127.0.0.1".to_owned()];
    for node in topology.nodes() {
        let names = NodeNames { id: node.id, name: &node.name, hosts: &hosts };
        folder.create_node(&names, YEAR).expect("made");
    }
    for client in clients {
        folder.create_client(&client.parse().expect("a name"), YEAR).expect("made");
    }
    std::fs::write(dir.join("rights.toml"), "").expect("written");
}

/// Asks again until there is an answer; fails after 30 s.
pub async fn within<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the condition did not come true within 30 s");
}

/// Ports that nobody listens on at the moment, other ones for every cluster of this process.
fn free_offset(nodes: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 80) as u16 * 300;
    for _ in 0..200 {
        // The nodes of a large cluster are a hundred ports apart, those of a small one ten.
        let hundreds = if 4 < nodes { nodes } else { 1 };
        let offset = first + NEXT.fetch_add(hundreds, Ordering::Relaxed) * 100;
        let apart = if 4 < nodes { 100 } else { 10 };
        let ports: Vec<u16> =
            (0..nodes).flat_map(|n| [6440, 6441, 6480].map(|port| port + n * apart)).collect();
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", port + offset)).is_ok();
        if ports.iter().all(free) {
            return offset;
        }
    }
    panic!("no free ports");
}
