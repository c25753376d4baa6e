//! Runs the built binary against a cluster of four nodes whose groups have members on three of them: moves
//! replicas while the cluster serves, kills a node and replaces it, and is refused where it should be.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The IDC of each node; two stand in the first one, so that one can take over from the other.
const IDCS: [&str; 4] = ["sh-a", "sh-b", "sh-c", "sh-a"];

/// Nodes that are stopped at the end of the test.
struct Cluster {
    folder: TempDir,
    endpoints: String,
    nodes: Vec<Option<Child>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.iter_mut().flatten() {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

fn free_ports() -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..3 * IDCS.len())
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    listeners.iter().map(|it| it.local_addr().expect("an address").port()).collect()
}

/// Two groups, each with members on n1, n2 and n3.
fn cluster_text(ports: &[u16]) -> String {
    let mut text = String::from(
        "[cluster]\nname = \"members\"\nid = \"6f1d0c5e9a7b4d3280f1e2d3c4b5a697\"\n\
         [[city]]\nname = \"sh\"\n",
    );
    for idc in &IDCS[..3] {
        text += &format!("[[idc]]\nname = \"{idc}\"\ncity = \"sh\"\n");
    }
    for (index, idc) in IDCS.iter().enumerate() {
        let [client, peer, admin] = [0, 1, 2].map(|port| ports[3 * index + port]);
        text += &format!(
            "[[node]]\nid = {}\nzone = \"{idc}\"\nclient = \"127.0.0.1:{client}\"\n\
             peer = \"127.0.0.1:{peer}\"\nadmin = \"127.0.0.1:{admin}\"\n",
            index + 1
        );
    }
    text += "[[table]]\nid = 1\nname = \"load\"\nclass = \"unit\"\n\
             [[table]]\nid = 2\nname = \"rates\"\nclass = \"global\"\n\
             [[unit]]\nname = \"RZ00\"\nkind = \"rzone\"\nslices = \"00-99\"\n\
             [[unit]]\nname = \"GZ\"\nkind = \"gzone\"\n";
    for (id, unit) in [(1, "RZ00"), (2, "GZ")] {
        text += &format!(
            "[[group]]\nid = {id}\nunit = \"{unit}\"\nlocality = \"F@sh-a,F@sh-b,F@sh-c\"\n\
             leader-order = \"sh-a;sh-b;sh-c\"\nmembers = [\"n1\", \"n2\", \"n3\"]\n"
        );
    }
    text
}

impl Cluster {
    /// Starts all nodes and waits until they are healthy.
    fn start() -> Cluster {
        let folder = tempfile::tempdir().expect("a folder");
        let ports = free_ports();
        fs::write(folder.path().join("cluster.toml"), cluster_text(&ports)).expect("a file");
        let endpoint = |index: usize| format!("127.0.0.1:{}", ports[3 * index]);
        let endpoints = (0..IDCS.len()).map(endpoint).collect::<Vec<_>>().join(",");
        let mut cluster = Cluster { folder, endpoints, nodes: Vec::new() };
        for node in 1..=IDCS.len() {
            let name = format!("n{node}");
            let server = Command::new(env!("CARGO_BIN_EXE_quorate"))
                .args(["server", "--insecure", "--profile", "small", "--cluster", "cluster.toml"])
                .args(["--node", &name, "--data", &name])
                .current_dir(cluster.folder.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            cluster.nodes.push(Some(server.expect("the binary runs")));
        }
        cluster.check(&["status", "--wait", "60s"], 0, "healthy: 2 of 2 groups");
        cluster.check(&["cluster", "check", "--wait", "60s"], 0, "n4");
        cluster
    }

    fn kill(&mut self, node: usize) {
        let mut child = self.nodes[node - 1].take().expect("it runs");
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(args)
            .current_dir(self.folder.path())
            .env("QUORATE_ENDPOINTS", &self.endpoints)
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .stdin(Stdio::null())
            .output()
            .expect("the binary runs")
    }

    /// The command ends with this exit code and says this; returns stdout.
    fn check(&self, args: &[&str], exit: i32, part: &str) -> String {
        let output = self.run(args);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{args:?}\n{stdout}\n{stderr}");
        let said = stdout.contains(part) || stderr.contains(part);
        assert!(said, "{args:?} lacks {part:?}\n{stdout}\n{stderr}");
        stdout
    }

    /// The items of the document of a command that ends well.
    fn items(&self, args: &[&str]) -> Value {
        let stdout = self.check(&[args, &["-o", "json"]].concat(), 0, "\"api_version\"");
        let mut document: Value = serde_json::from_str(&stdout).expect("a document");
        document["items"].take()
    }

    /// The members of a group, as `n1 voter`.
    fn members(&self, group: &str) -> Vec<String> {
        let items = self.items(&["group", "members", group]);
        let members = items[0]["members"].as_array().expect("members");
        let word = |member: &Value, key: &str| member[key].as_str().expect("a word").to_owned();
        let mut told: Vec<String> = members
            .iter()
            .map(|member| format!("{} {}", word(member, "node"), word(member, "role")))
            .collect();
        told.sort();
        told
    }

    fn put(&self, key: &str) {
        self.check(&["kv", "put", key, "v", "--table", "load", "--uid", "7"], 0, "");
    }

    fn has(&self, key: &str) {
        self.check(&["kv", "get", key, "--table", "load", "--uid", "7"], 0, "v");
    }
}

const BEFORE: [&str; 3] = ["n1 voter", "n2 voter", "n3 voter"];

#[test]
fn members_come_and_go_while_the_cluster_serves() {
    // Goal: each command does what it says, does it once, and nothing that was written is lost.
    let mut cluster = Cluster::start();
    cluster.put("first");
    assert_eq!(cluster.members("g1"), BEFORE);

    // Looking changes nothing, and neither do refusals.
    let replace = ["group", "replace", "g1", "n1", "--by", "n4"];
    let shown = cluster.check(&[&replace[..], &["--dry-run"]].concat(), 0, "n4 joins, n1 leaves");
    assert!(shown.contains("1. make an empty replica on n4"), "{shown}");
    cluster.check(&replace, 2, "say --yes");
    cluster.check(&["group", "remove", "g1", "n3", "--yes"], 4, "error[LESS_REDUNDANCY]");
    cluster.check(&["group", "replace", "g1", "n1", "--by", "n2", "--yes"], 4, "MEMBER_EXISTS");
    cluster.check(&["group", "promote", "g1", "n4"], 3, "n4 has no replica of RZ00/g1");
    cluster.check(&["group", "add", "g1", "n9"], 3, "no node has the name \"n9\"");
    assert_eq!(cluster.members("g1"), BEFORE);

    // The leader is replaced, and its group serves on. What was interrupted goes on where it stopped.
    let yes = [&replace[..], &["--yes"]].concat();
    cluster.check(&[&yes[..], &["--wait", "1ms"]].concat(), 6, "it goes on where it stopped");
    assert_eq!(cluster.members("g1"), [&BEFORE[..], &["n4 learner"]].concat());
    cluster.check(&yes, 0, "RZ00/g1: done; survives the loss of any one node");
    assert_eq!(cluster.members("g1"), ["n2 voter", "n3 voter", "n4 voter"]);
    cluster.has("first");
    cluster.put("second");
    cluster.check(&yes, 0, "nothing is left to do");
    cluster.check(&["status", "--wait", "30s"], 0, "healthy: 2 of 2 groups");

    // A learner comes, votes, does not vote any more, and goes.
    cluster.check(&["group", "add", "g2", "n4", "--learner"], 0, "GZ/g2: done");
    assert_eq!(cluster.members("g2"), [&BEFORE[..], &["n4 learner"]].concat());
    cluster.check(&["status"], 0, "GZ/g2: learners: n4");
    cluster.check(&["group", "promote", "g2", "n4"], 0, "GZ/g2: done");
    assert_eq!(cluster.members("g2"), [&BEFORE[..], &["n4 voter"]].concat());
    cluster.check(&["group", "demote", "g2", "n4", "--yes"], 0, "GZ/g2: done");
    cluster.check(&["group", "remove", "g2", "n4", "--yes"], 0, "GZ/g2: done");
    assert_eq!(cluster.members("g2"), BEFORE);

    // Who leads is told and obeyed.
    cluster.check(&["group", "pin", "g2", "n3"], 0, "the replica on n3 leads whenever it can");
    cluster.check(&["group", "pin", "g2", "--none"], 0, "the leader order decides");
    cluster.check(&["node", "drain", "n2"], 0, "n2 leads nothing");
    let groups = cluster.items(&["group", "members"]);
    for group in groups.as_array().expect("groups") {
        let members = group["members"].as_array().expect("members");
        assert!(members.iter().all(|it| it["node"] != "n2" || it["leads"] == false), "{group}");
    }
    cluster.check(&["node", "drain", "n2", "--undo"], 0, "n2 may lead again");

    // A dead node is emptied; the only place for its replica of g1 is where none is.
    cluster.kill(4);
    let moves = cluster.items(&["node", "decommission", "n4", "--dry-run"]);
    assert_eq!(moves[0]["wish"], "replace n4 by n1", "{moves}");
    cluster.check(&["node", "decommission", "n4", "--yes"], 0, "n4 holds no replica that counts");
    assert_eq!(cluster.members("g1"), BEFORE);
    cluster.has("first");
    cluster.has("second");
    cluster.put("third");
    cluster.check(&["node", "decommission", "n2", "--yes"], 1, "no node can take the replica of");
    cluster.check(&["node", "replace", "n2", "--by", "n4", "--yes"], 6, "n4 does not answer");
    assert_eq!(cluster.members("g2"), BEFORE);
}
