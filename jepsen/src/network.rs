//! A network for the nodes: each has a network namespace, all are on one bridge, and clients reach them
//! through it. What one node sends to another can be lost, one way or both; a node can be taken off the
//! bridge.
//!
//! What is lost is lost without a word, as in a switch: a cut gives the receiver a hardware address that
//! nobody has. So connections hang until somebody's patience ends, and go on if the cut is mended before.
//! Needs the command `ip` and root, no filters.

use crate::Failure;
use crate::cluster::Node;
use crate::host::{Lacking, run};

/// The command that everything here is done with.
const IP: &str = "ip";
/// A hardware address that nobody has.
const NOBODY: &str = "02:00:00:00:00:ff";

/// Namespaces and links of one cluster; removed when dropped.
pub(crate) struct Network {
    /// Also the name of the bridge.
    name: String,
    /// The first three numbers of every address.
    subnet: String,
}

impl Network {
    /// Makes the network of a cluster with these ports: names and addresses follow from them.
    pub(crate) fn create(base_port: u16) -> Result<Network, Lacking> {
        let subnet = format!("10.{}.{}", 64 + base_port / 1000, base_port / 10 % 100);
        let network = Network { name: format!("qj{base_port}"), subnet };
        network.remove(); // What a killed run has left behind.
        network.make().map_err(|error| {
            Lacking(format!("needs root and network namespaces, made with `ip`: {error}"))
        })?;
        Ok(network)
    }

    fn make(&self) -> Result<(), Failure> {
        let Network { name, subnet } = self;
        ip(&format!("link add {name} type bridge"))?;
        ip(&format!("addr add {subnet}.254/24 dev {name}"))?;
        ip(&format!("link set {name} up"))?;
        for node in Node::ALL {
            let (space, port, address) = (self.namespace(node), self.port(node), self.ip(node));
            ip(&format!("netns add {space}"))?;
            ip(&format!("link add {port} type veth peer name eth0 netns {space}"))?;
            ip(&format!("link set {port} master {name} up"))?;
            ip(&format!("-n {space} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {space} link set eth0 up"))?;
            ip(&format!("-n {space} link set lo up"))?;
        }
        Ok(())
    }

    /// The address of a node.
    pub(crate) fn ip(&self, node: Node) -> String {
        format!("{}.{}", self.subnet, node.id().0)
    }

    /// What is put before a command so that it runs where a node is. It has the same process number.
    pub(crate) fn launcher(&self, node: Node) -> [String; 4] {
        [IP.to_owned(), "netns".to_owned(), "exec".to_owned(), self.namespace(node)]
    }

    /// From now on what `from` sends to `to` is lost.
    pub(crate) fn cut(&self, from: Node, to: Node) -> Result<(), Failure> {
        let (space, to) = (self.namespace(from), self.ip(to));
        ip(&format!("-n {space} neigh replace {to} lladdr {NOBODY} nud permanent dev eth0"))
    }

    /// It arrives again.
    pub(crate) fn mend(&self, from: Node, to: Node) -> Result<(), Failure> {
        let (space, to) = (self.namespace(from), self.ip(to));
        ip(&format!("-n {space} neigh del {to} dev eth0"))
    }

    /// Nobody reaches a node any more, clients neither.
    pub(crate) fn take_off(&self, node: Node) -> Result<(), Failure> {
        ip(&format!("link set {} nomaster", self.port(node)))
    }

    /// It is on the bridge again.
    pub(crate) fn put_back(&self, node: Node) -> Result<(), Failure> {
        ip(&format!("link set {} master {}", self.port(node), self.name))
    }

    fn namespace(&self, node: Node) -> String {
        format!("{}-{node}", self.name)
    }

    /// The end of the link of a node that is on the bridge.
    fn port(&self, node: Node) -> String {
        format!("{}{node}", self.name)
    }

    fn remove(&self) {
        for node in Node::ALL {
            let _not_there = ip(&format!("link del {}", self.port(node))).is_err();
            let _not_there = ip(&format!("netns del {}", self.namespace(node))).is_err();
        }
        let _not_there = ip(&format!("link del {}", self.name)).is_err();
    }
}

impl Drop for Network {
    /// Leaves nothing behind, however the run ends.
    fn drop(&mut self) {
        self.remove();
    }
}

fn ip(words: &str) -> Result<(), Failure> {
    run(IP, words.split(' ')).map(|_| ())
}
