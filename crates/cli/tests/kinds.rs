//! Runs the built binary against two full replicas and an arbiter, with a node to spare: kills a node, shows who is
//! set aside, gives its place to another, and adds and refuses replicas of other kinds.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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

fn cluster_text(ports: &[u16]) -> String {
    let mut text = String::from(
        "[cluster]\nname = \"kinds\"\nid = \"6f1d0c5e9a7b4d3280f1e2d3c4b5a698\"\n\
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
             [[unit]]\nname = \"RZ00\"\nkind = \"rzone\"\nslices = \"00-99\"\n\
             [[group]]\nid = 1\nunit = \"RZ00\"\nlocality = \"F@sh-a,F@sh-b,A@sh-c\"\n\
             leader-order = \"sh-a;sh-b\"\nmembers = [\"n1\", \"n2\", \"n3\"]\n";
    text
}

impl Cluster {
    /// Starts all nodes and waits until they are healthy.
    fn start() -> Cluster {
        let folder = tempfile::tempdir().expect("a folder");
        let listeners: Vec<TcpListener> = (0..3 * IDCS.len())
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
            .collect();
        let ports: Vec<u16> =
            listeners.iter().map(|it| it.local_addr().expect("an address").port()).collect();
        drop(listeners);
        fs::write(folder.path().join("cluster.toml"), cluster_text(&ports)).expect("a file");
        let endpoint = |index: usize| format!("127.0.0.1:{}", ports[3 * index]);
        let endpoints = (0..IDCS.len()).map(endpoint).collect::<Vec<_>>().join(",");
        let nodes = IDCS.map(|_| None).into();
        let mut cluster = Cluster { folder, endpoints, nodes };
        for node in 1..=IDCS.len() {
            cluster.start_node(node);
        }
        cluster.check(&["status", "--wait", "60s"], 0, "healthy: 1 of 1 groups");
        cluster.check(&["cluster", "check", "--wait", "60s"], 0, "n4");
        cluster
    }

    fn start_node(&mut self, node: usize) {
        let name = format!("n{node}");
        let server = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(["server", "--insecure", "--profile", "small", "--cluster", "cluster.toml"])
            .args(["--node", &name, "--data", &name])
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.nodes[node - 1] = Some(server.expect("the binary runs"));
    }

    fn kill(&mut self, node: usize) {
        let mut child = self.nodes[node - 1].take().expect("it runs");
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }

    fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(args)
            .current_dir(self.folder.path())
            .env("QUORATE_ENDPOINTS", &self.endpoints)
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .stdin(Stdio::null())
            .output()
            .expect("the binary runs");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// The command ends with this exit code and says this; returns stdout.
    fn check(&self, args: &[&str], exit: i32, part: &str) -> String {
        let (code, stdout, stderr) = self.run(args);
        assert_eq!(code, Some(exit), "{args:?}\n{stdout}\n{stderr}");
        let said = stdout.contains(part) || stderr.contains(part);
        assert!(said, "{args:?} lacks {part:?}\n{stdout}\n{stderr}");
        stdout
    }

    /// Node, kind and role of each member, as the leader tells them; none without one.
    fn members(&self) -> Vec<(String, String, String)> {
        let (code, stdout, _) = self.run(&["group", "members", "1", "-o", "json"]);
        if code != Some(0) {
            return Vec::new();
        }
        let document: Value = serde_json::from_str(&stdout).expect("a document");
        let members = document["items"][0]["members"].as_array().expect("a list").clone();
        let text = |member: &Value, key: &str| member[key].as_str().expect("a text").to_owned();
        let all = members.iter();
        let mut all: Vec<_> =
            all.map(|it| (text(it, "node"), text(it, "kind"), text(it, "role"))).collect();
        all.sort();
        all
    }

    /// Waits until the members are these; fails after a minute.
    fn until(&self, wanted: &[(&str, &str, &str)]) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let members = self.members();
            let found = members.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str()));
            if found.eq(wanted.iter().copied()) {
                return;
            }
            assert!(Instant::now() < until, "{members:?} are not {wanted:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Goal: an operator sees who is set aside, can give its place away, and gets replicas of the kind that is asked for
/// or a refusal that says why not.
#[test]
fn a_place_is_given_away_and_kinds_are_kept() {
    let mut cluster = Cluster::start();
    cluster.until(&[("n1", "full", "voter"), ("n2", "full", "voter"), ("n3", "arbiter", "voter")]);
    cluster.check(&["status"], 0, "FFA");
    cluster.check(&["kv", "put", "-t", "load", "-u", "1", "k", "1"], 0, "");
    cluster.check(&["route", "explain", "-u", "1"], 0, "never leads: n3");

    cluster.kill(1);
    cluster.check(&["kv", "put", "-t", "load", "-u", "1", "k", "2", "--timeout", "60s"], 0, "");
    let set_aside =
        [("n1", "full", "suspended"), ("n2", "full", "voter"), ("n3", "arbiter", "voter")];
    cluster.until(&set_aside);
    cluster.check(&["status"], 0, "suspended: n1");
    let window = cluster.check(&["ledger", "list"], 0, "single-copy");
    assert!(window.contains("on: one copy"), "{window}");
    let plan = cluster.check(&["node", "replace", "n1", "--by", "n4", "--dry-run"], 0, "n4");
    assert!(plan.contains("now: voters n2, n3 (arbiter), suspended n1"), "{plan}");
    cluster.check(&["node", "replace", "n1", "--by", "n4", "--yes", "--wait", "90s"], 0, "n1");
    cluster.until(&[("n2", "full", "voter"), ("n3", "arbiter", "voter"), ("n4", "full", "voter")]);
    cluster.check(&["kv", "get", "-t", "load", "-u", "1", "k"], 0, "2");

    cluster.check(&["ledger", "list"], 0, "had one copy");

    // What its old replica holds will do for reads.
    cluster.start_node(1);
    cluster.check(&["cluster", "check", "--wait", "60s"], 0, "n1");
    cluster.check(&["group", "add", "1", "n1"], 2, "an arbiter beside 3 full replicas");
    cluster.check(&["group", "add", "1", "n1", "--kind", "log-only"], 2, "do not go together");
    let add = ["group", "add", "1", "n1", "--kind", "read-only", "--wait", "90s"];
    cluster.check(&add, 0, "read-only");
    let with_reader = [
        ("n1", "read-only", "learner"),
        ("n2", "full", "voter"),
        ("n3", "arbiter", "voter"),
        ("n4", "full", "voter"),
    ];
    cluster.until(&with_reader);
    let near = ["kv", "get", "-t", "load", "-u", "1", "k", "--city-local", "--near", "sh-a"];
    cluster.check(&near, 0, "2");
    cluster.check(&["group", "promote", "1", "n1"], 2, "an arbiter beside 3 full replicas");
    cluster.check(&["group", "add", "1", "n3", "--kind", "full"], 2, "cannot become full");
}
