//! Three server processes on this machine: started, stopped, killed, paused, started again.
//!
//! Knows the command line of `quorate server`; what it prints is read in `output.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quorate_client::NodeId;
use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::network::Network;
use crate::output::{Arrival, Ending, arrivals, ending, restored, suspect};

/// Ports of a node, for clients, peers and administration.
const PORTS: u16 = 3;
/// From the ports of a node to those of the next.
const PORTS_APART: u16 = 10;

/// The IDCs, by the last letter of their names.
const IDCS: [char; 3] = ['a', 'b', 'c'];

/// A node of the cluster, by its number from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node(u16);

impl Node {
    /// Every node that holds groups at first; in most clusters there are no others.
    pub(crate) const ALL: [Node; 3] = [Node(1), Node(2), Node(3)];
    /// Nodes to spare, each in the place of one of those.
    pub(crate) const SPARES: [Node; 3] = [Node(4), Node(5), Node(6)];

    /// The node with this id.
    pub(crate) fn from_id(id: NodeId) -> Option<Node> {
        Node::ALL.into_iter().chain(Node::SPARES).find(|node| node.id() == id)
    }

    /// Its id in the cluster file.
    pub(crate) fn id(self) -> NodeId {
        NodeId(u32::from(self.0))
    }

    /// Every node but this one.
    pub(crate) fn others(self) -> Vec<Node> {
        Node::ALL.into_iter().filter(|node| *node != self).collect()
    }

    /// The one after it, in a ring.
    pub(crate) fn next(self) -> Node {
        Node::ALL[usize::from(self.0) % Node::ALL.len()]
    }

    fn index(self) -> usize {
        usize::from(self.0) - 1
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

struct Member {
    data: PathBuf,
    child: Option<Child>,
    /// Where in its log the output of the present process begins.
    log_from: u64,
}

/// The processes and where they live.
pub(crate) struct Cluster {
    binary: PathBuf,
    folder: PathBuf,
    base_port: u16,
    nodes: Vec<Node>,
    /// Put before the command of a server.
    launcher: Option<PathBuf>,
    /// How much memory and disk a server may use.
    profile: &'static str,
    /// Put behind it.
    arguments: Vec<String>,
    members: Vec<Member>,
    /// Where the nodes are, if not all in the network of this process. Goes after the processes.
    network: Option<Network>,
}

impl Cluster {
    /// Writes the cluster file. Starts nothing.
    pub(crate) fn new(binary: &Path, folder: &Path, base_port: u16) -> io::Result<Cluster> {
        Cluster::in_network(binary, folder, base_port, None)
    }

    /// The same with every node in a namespace of its own, if a network is given.
    pub(crate) fn in_network(
        binary: &Path,
        folder: &Path,
        base_port: u16,
        network: Option<Network>,
    ) -> io::Result<Cluster> {
        Cluster::of(binary, folder, base_port, network, Node::ALL.to_vec())
    }

    /// The same with nodes to spare.
    pub(crate) fn with_spares(binary: &Path, folder: &Path, base_port: u16) -> io::Result<Cluster> {
        let nodes = Node::ALL.into_iter().chain(Node::SPARES).collect();
        Cluster::of(binary, folder, base_port, None, nodes)
    }

    fn of(
        binary: &Path,
        folder: &Path,
        base_port: u16,
        network: Option<Network>,
        nodes: Vec<Node>,
    ) -> io::Result<Cluster> {
        let text = cluster_file(base_port, &nodes, |node| host(network.as_ref(), node));
        fs::write(folder.join("cluster.toml"), text)?;
        let member =
            |node: &Node| Member { data: folder.join(node.to_string()), child: None, log_from: 0 };
        let members = nodes.iter().map(member).collect();
        let (binary, folder) = (binary.to_owned(), folder.to_owned());
        let (launcher, profile, arguments) = (None, "small", Vec::new());
        Ok(Cluster {
            binary,
            folder,
            base_port,
            nodes,
            launcher,
            profile,
            arguments,
            members,
            network,
        })
    }

    /// Every node of the cluster file.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        self.nodes.clone()
    }

    /// Makes commands of an operator of this cluster, without their words.
    pub(crate) fn operator(&self) -> Box<dyn Fn() -> Command + Send> {
        let (binary, endpoints) = (self.binary.clone(), self.addresses());
        let state = self.folder.join("state");
        Box::new(move || {
            let mut command = Command::new(&binary);
            command.env("QUORATE_ENDPOINTS", &endpoints).env("XDG_STATE_HOME", &state);
            command.stdin(Stdio::null());
            command
        })
    }

    /// The network of the nodes, to be broken.
    pub(crate) fn network(&self) -> Result<&Network, Failure> {
        self.network.as_ref().ok_or_else(|| "the nodes have no network of their own".into())
    }

    /// Moves the data folder of a node that was never started.
    pub(crate) fn set_data(&mut self, node: Node, data: PathBuf) {
        self.members[node.index()].data = data;
    }

    /// Starts servers through this program from now on, or directly.
    pub(crate) fn set_launcher(&mut self, launcher: Option<PathBuf>) {
        self.launcher = launcher;
    }

    /// Starts servers with these arguments, too, from now on.
    pub(crate) fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
    }

    /// Starts servers with this profile from now on.
    pub(crate) fn set_profile(&mut self, profile: &'static str) {
        self.profile = profile;
    }

    /// The data folders of all nodes.
    pub(crate) fn data_folders(&self) -> Vec<PathBuf> {
        self.members.iter().map(|member| member.data.clone()).collect()
    }

    /// The data folder of a node.
    pub(crate) fn data(&self, node: Node) -> &Path {
        &self.members[node.index()].data
    }

    /// Where clients go.
    pub(crate) fn endpoints(&self) -> String {
        format!("quorate://{}", self.addresses())
    }

    fn addresses(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| self.address(*node)).collect();
        addresses.join(",")
    }

    /// Where clients reach one node.
    pub(crate) fn address(&self, node: Node) -> String {
        let host = host(self.network.as_ref(), node);
        format!("{host}:{}", first_port(self.base_port, node))
    }

    /// Fails if somebody else has one of our ports: killed processes must be ours.
    pub(crate) fn check_ports(&self) -> io::Result<()> {
        for node in self.nodes() {
            for port in (0..PORTS).map(|index| first_port(self.base_port, node) + index) {
                TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
                    let message = format!("port {port}: {error}; choose others with --base-port");
                    io::Error::new(error.kind(), message)
                })?;
            }
        }
        Ok(())
    }

    /// Starts nodes. Their output is appended to one file each.
    pub(crate) fn start(&mut self, nodes: &[Node]) -> io::Result<()> {
        for node in nodes {
            self.start_one(*node)?;
        }
        Ok(())
    }

    fn start_one(&mut self, node: Node) -> io::Result<()> {
        let mut log = OpenOptions::new().create(true).append(true).open(self.log(node))?;
        writeln!(log, "--- started by quorate-jepsen")?;
        let mut words: Vec<OsString> = self.launcher.iter().map(OsString::from).collect();
        if let Some(network) = &self.network {
            words.extend(network.launcher(node).map(OsString::from));
        }
        words.push(self.binary.clone().into());
        let member = &mut self.members[node.index()];
        assert!(member.child.is_none(), "{node} runs already");
        member.log_from = log.metadata()?.len();
        let child = Command::new(&words[0])
            .args(&words[1..])
            .arg("server")
            .arg("--cluster")
            .arg(self.folder.join("cluster.toml"))
            .args(["--node", &node.to_string()])
            .arg("--data")
            .arg(&member.data)
            .args(["--profile", self.profile, "--insecure"])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for this program, which ends its servers itself.
            .process_group(0)
            .spawn()?;
        member.child = Some(child);
        Ok(())
    }

    /// SIGKILL to these, then waits until they are gone. An error if one had ended by itself.
    pub(crate) fn kill(&mut self, nodes: &[Node]) -> io::Result<()> {
        for node in nodes {
            self.expect_running(*node)?;
        }
        self.end(nodes)
    }

    /// SIGKILL to those of these that still run, then waits until they are gone.
    pub(crate) fn end(&mut self, nodes: &[Node]) -> io::Result<()> {
        for node in nodes {
            if let Some(child) = &mut self.members[node.index()].child {
                child.kill()?;
            }
        }
        for node in nodes {
            if let Some(mut child) = self.members[node.index()].child.take() {
                child.wait()?;
            }
        }
        Ok(())
    }

    /// SIGSTOP.
    pub(crate) fn pause(&mut self, node: Node) -> io::Result<()> {
        self.signal(node, Signal::STOP)
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self, node: Node) -> io::Result<()> {
        self.signal(node, Signal::CONT)
    }

    fn signal(&mut self, node: Node, signal: Signal) -> io::Result<()> {
        let pid = self.pid(node)?;
        Ok(kill_process(pid, signal)?)
    }

    /// The number of the process of a node.
    pub(crate) fn pid(&mut self, node: Node) -> io::Result<Pid> {
        self.expect_running(node)?;
        let child = self.members[node.index()].child.as_ref();
        child.map(Pid::from_child).ok_or_else(|| io::Error::other(format!("{node} is not running")))
    }

    /// True if there is a process of this node, ended or not.
    pub(crate) fn is_started(&self, node: Node) -> bool {
        self.members[node.index()].child.is_some()
    }

    /// A node that ended without being asked to.
    pub(crate) fn ended(&mut self) -> io::Result<Option<String>> {
        for node in self.nodes() {
            if let Some(ending) = self.ending(node)? {
                return Ok(Some(format!("{node} ended by itself: {}", ending.reason)));
            }
        }
        Ok(None)
    }

    /// How a node ended, if it ended without being asked to.
    pub(crate) fn ending(&mut self, node: Node) -> io::Result<Option<Ending>> {
        let Some(child) = &mut self.members[node.index()].child else { return Ok(None) };
        let Some(status) = child.try_wait()? else { return Ok(None) };
        Ok(Some(ending(status, &self.output(node)?)))
    }

    /// The last slot of each group that the present process of a node found in its log.
    pub(crate) fn restored(&self, node: Node) -> io::Result<BTreeMap<u32, u64>> {
        Ok(restored(&self.output(node)?))
    }

    /// Groups whose log the present process of a node did not rely on when it started.
    pub(crate) fn suspect(&self, node: Node) -> io::Result<BTreeSet<u32>> {
        Ok(suspect(&self.output(node)?))
    }

    /// How often the present process of a node has switched to rows that came from another one.
    pub(crate) fn switched(&self, node: Node) -> io::Result<usize> {
        let output = self.output(node)?;
        Ok(output.lines().filter(|line| line.contains("switched to installed rows")).count())
    }

    /// How far the rows have come that the present process of a node fetches, by group.
    pub(crate) fn arrivals(&self, node: Node) -> io::Result<Vec<(u32, Arrival)>> {
        Ok(arrivals(&self.output(node)?))
    }

    /// Bytes that the present process of a node has had written to disks.
    pub(crate) fn written_bytes(&mut self, node: Node) -> io::Result<u64> {
        let pid = self.pid(node)?.as_raw_nonzero();
        let text = fs::read_to_string(format!("/proc/{pid}/io"))?;
        let found = text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
        found.ok_or_else(|| io::Error::other(format!("/proc/{pid}/io has no write_bytes")))
    }

    /// What the present process of a node has printed.
    fn output(&self, node: Node) -> io::Result<String> {
        let output = fs::read(self.log(node))?;
        let from = self.members[node.index()].log_from;
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(output.len());
        Ok(String::from_utf8_lossy(&output[from..]).into_owned())
    }

    fn expect_running(&mut self, node: Node) -> io::Result<()> {
        match self.ending(node)? {
            None => Ok(()),
            Some(ending) => {
                Err(io::Error::other(format!("{node} ended by itself: {}", ending.reason)))
            }
        }
    }

    /// Asks every running node to stop, and waits. An error if one does not end well and in time.
    pub(crate) fn stop(&mut self, patience: Duration) -> io::Result<()> {
        let running: Vec<Node> =
            self.nodes().into_iter().filter(|node| self.is_started(*node)).collect();
        for node in &running {
            self.signal(*node, Signal::TERM)?;
        }
        let deadline = Instant::now() + patience;
        for node in running {
            let member = &mut self.members[node.index()];
            let Some(child) = member.child.as_mut() else { continue };
            let status = loop {
                if let Some(status) = child.try_wait()? {
                    break status;
                }
                if deadline < Instant::now() {
                    return Err(io::Error::other(format!("{node} did not stop in {patience:?}")));
                }
                std::thread::sleep(Duration::from_millis(20));
            };
            member.child = None;
            if !status.success() {
                return Err(io::Error::other(format!("{node} was told to stop and {status}")));
            }
        }
        Ok(())
    }

    fn log(&self, node: Node) -> PathBuf {
        self.folder.join(format!("{node}.log"))
    }
}

impl Drop for Cluster {
    /// Leaves no process behind, however the run ends.
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|member| member.child.as_mut()) {
            let _gone = child.kill().and_then(|()| child.wait());
        }
    }
}

fn first_port(base_port: u16, node: Node) -> u16 {
    base_port + PORTS_APART * (node.0 - 1)
}

/// The address of a node.
fn host(network: Option<&Network>, node: Node) -> String {
    network.map_or_else(|| Ipv4Addr::LOCALHOST.to_string(), |network| network.ip(node))
}

/// Three IDCs with a node each, and a second one where there are nodes to spare.
fn cluster_file(base_port: u16, nodes: &[Node], host: impl Fn(Node) -> String) -> String {
    let mut text = String::from(
        "[cluster]\nname = \"kill-loop\"\nid = \"0c5d7e1f2a3b4c5d6e7f8091a2b3c4d5\"\nlease = \"lan\"\n\n\
         [[city]]\nname = \"sh\"\n",
    );
    for letter in IDCS {
        text += &format!("\n[[idc]]\nname = \"sh-{letter}\"\ncity = \"sh\"\n");
    }
    let has_spares = Node::ALL.len() < nodes.len();
    for (index, node) in nodes.iter().enumerate() {
        let letter = IDCS[index % IDCS.len()];
        let zone = zone(letter, has_spares, 1 + index / IDCS.len());
        if has_spares {
            text += &format!("\n[[zone]]\nname = \"{zone}\"\nidc = \"sh-{letter}\"\n");
        }
        let (client, host) = (first_port(base_port, *node), host(*node));
        text += &format!(
            "\n[[node]]\nid = {}\nzone = \"{zone}\"\nclient = \"{host}:{client}\"\n\
             peer = \"{host}:{}\"\nadmin = \"{host}:{}\"\n",
            node.0,
            client + 1,
            client + 2,
        );
    }
    text += "\n[[table]]\nid = 1\nname = \"purchases\"\nclass = \"unit\"\n";
    let [a, b, c] = IDCS.map(|letter| zone(letter, has_spares, 1));
    for (group, slices, first, then) in [(1, "00-49", &a, &b), (2, "50-99", &b, &a)] {
        text += &format!(
            "\n[[unit]]\nname = \"RZ0{0}\"\nkind = \"rzone\"\nslices = \"{slices}\"\n\n\
             [[group]]\nid = {group}\nunit = \"RZ0{0}\"\nlocality = \"F@{a},F@{b},F@{c}\"\n\
             leader-order = \"{first};{then},{c}\"\n",
            group - 1,
        );
    }
    text
}

/// The zone of a node: its IDC, where that has no other node.
fn zone(letter: char, has_spares: bool, number: usize) -> String {
    if has_spares { format!("sh-{letter}-{number}") } else { format!("sh-{letter}") }
}
