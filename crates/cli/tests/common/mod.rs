//! A cluster of the built binary, in a folder of its own, and commands to it. Every test keeps its own cluster file and
//! its own story.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// However slow the machine is, what a test waits for happens before.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Ports of a node: for clients, for peers, for its own page.
pub type Ports = [u16; 3];

/// Nodes n1, n2 and so on, which are stopped at the end of the test, and the folder that they and all commands run in.
/// The data folder of each has its name.
pub struct Cluster {
    pub folder: TempDir,
    /// What commands ask.
    pub endpoints: String,
    /// The cluster file that nodes are started with from now on.
    pub file: String,
    running: BTreeMap<usize, Child>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.running.values_mut() {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// Ports that nobody listens on at the moment, for so many nodes.
fn free_ports(nodes: usize) -> Vec<Ports> {
    let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listeners: Vec<[TcpListener; 3]> =
        (0..nodes).map(|_| [listen(), listen(), listen()]).collect();
    let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    listeners.iter().map(|of_node| [0, 1, 2].map(|index| port(&of_node[index]))).collect()
}

/// A node for a cluster file.
pub fn node(number: usize, zone: &str, [client, peer, admin]: Ports) -> String {
    format!(
        "[[node]]\nid = {number}\nzone = \"{zone}\"\nclient = \"127.0.0.1:{client}\"\n\
         peer = \"127.0.0.1:{peer}\"\nadmin = \"127.0.0.1:{admin}\"\n"
    )
}

/// The begin of a cluster file of one city: its IDCs, and the nodes in them, from n1 on.
pub fn city(name: &str, id: &str, idcs: &[&str], zones: &[&str], ports: &[Ports]) -> String {
    let mut text =
        format!("[cluster]\nname = \"{name}\"\nid = \"{id}\"\n[[city]]\nname = \"sh\"\n");
    for idc in idcs {
        text += &format!("[[idc]]\nname = \"{idc}\"\ncity = \"sh\"\n");
    }
    for (index, (zone, ports)) in zones.iter().zip(ports).enumerate() {
        text += &node(index + 1, zone, *ports);
    }
    text
}

impl Cluster {
    /// The folder with the cluster file that `text` makes for so many nodes; none of them runs.
    pub fn prepare(nodes: usize, text: impl FnOnce(&[Ports]) -> String) -> Cluster {
        let folder = tempfile::tempdir().expect("a folder");
        let ports = free_ports(nodes);
        fs::write(folder.path().join("cluster.toml"), text(&ports)).expect("a file");
        let endpoints: Vec<String> =
            ports.iter().map(|[client, ..]| format!("127.0.0.1:{client}")).collect();
        let file = "cluster.toml".to_owned();
        Cluster { folder, endpoints: endpoints.join(","), file, running: BTreeMap::new() }
    }

    /// The same, and all nodes are started.
    pub fn start(nodes: usize, text: impl FnOnce(&[Ports]) -> String) -> Cluster {
        let mut cluster = Cluster::prepare(nodes, text);
        for node in 1..=nodes {
            cluster.start_node(node);
        }
        cluster
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The data folder of a node.
    pub fn data(&self, node: usize) -> PathBuf {
        self.path(&format!("n{node}"))
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a file");
        path
    }

    pub fn start_node(&mut self, node: usize) {
        let name = format!("n{node}");
        let server = self
            .command(&["server", "--insecure", "--profile", "small", "--cluster", &self.file])
            .args(["--node", &name, "--data", &name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let before = self.running.insert(node, server.expect("the binary runs"));
        assert!(before.is_none(), "{name} was not stopped before it was started");
    }

    /// Stops a node without a word.
    pub fn kill(&mut self, node: usize) {
        let mut child = self.running.remove(&node).expect("it runs");
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }

    pub fn kill_all(&mut self) {
        for node in self.running.keys().copied().collect::<Vec<usize>>() {
            self.kill(node);
        }
    }

    /// A command in the folder, without the settings of whoever runs the tests.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.args(args).current_dir(self.folder.path()).env_clear();
        command.env("QUORATE_ENDPOINTS", &self.endpoints);
        command.env("XDG_STATE_HOME", self.path("state")).stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the binary runs")
    }

    /// The command ends with this exit code and says this; returns stdout.
    pub fn check(&self, args: &[&str], exit: i32, part: &str) -> String {
        let output = self.run(args);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{args:?}\n{stdout}\n{stderr}");
        let said = stdout.contains(part) || stderr.contains(part);
        assert!(said, "{args:?} lacks {part:?}\n{stdout}\n{stderr}");
        stdout
    }

    /// The same once it ends so: the nodes need time to notice who is gone, or is back.
    pub fn check_soon(&self, args: &[&str], exit: i32, part: &str) -> String {
        let since = Instant::now();
        loop {
            let output = self.run(args);
            let said = [&output.stdout, &output.stderr]
                .into_iter()
                .any(|said| String::from_utf8_lossy(said).contains(part));
            let is_so = output.status.code() == Some(exit) && said;
            if is_so || LIMIT < since.elapsed() {
                return self.check(args, exit, part);
            }
        }
    }

    /// The items of the document of a command that ends well.
    pub fn items(&self, args: &[&str]) -> Value {
        let stdout = self.check(&[args, &["-o", "json"]].concat(), 0, "\"api_version\"");
        let mut document: Value = serde_json::from_str(&stdout).expect("a document");
        document["items"].take()
    }
}
