//! Runs the built binary against a cluster of three nodes that loses two of them for ever: the third goes on, says
//! what may be lost, and an old node that comes back is kept out.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const NODES: usize = 3;
/// However slow the machine is, what a test waits for happens before.
const LIMIT: Duration = Duration::from_secs(120);

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
        "[cluster]\nname = \"recovery\"\nid = \"6f1d0c5e9a7b4d3280f1e2d3c4b5a698\"\n\
         [[city]]\nname = \"sh\"\n",
    );
    for index in 0..NODES {
        let [client, peer, admin] = [0, 1, 2].map(|port| ports[3 * index + port]);
        let number = index + 1;
        text += &format!(
            "[[idc]]\nname = \"sh-{number}\"\ncity = \"sh\"\n[[node]]\nid = {number}\nzone = \"sh-{number}\"\n\
             client = \"127.0.0.1:{client}\"\npeer = \"127.0.0.1:{peer}\"\nadmin = \"127.0.0.1:{admin}\"\n"
        );
    }
    text + "[[table]]\nid = 1\nname = \"load\"\nclass = \"unit\"\n\
            [[unit]]\nname = \"RZ00\"\nkind = \"rzone\"\nslices = \"00-99\"\n\
            [[group]]\nid = 1\nunit = \"RZ00\"\nlocality = \"F@sh-1,F@sh-2,F@sh-3\"\n\
            leader-order = \"sh-1;sh-2;sh-3\"\nmembers = [\"n1\", \"n2\", \"n3\"]\n"
}

impl Cluster {
    /// Starts all nodes and waits until they are healthy.
    fn start() -> Cluster {
        let folder = tempfile::tempdir().expect("a folder");
        let listeners: Vec<TcpListener> = (0..3 * NODES)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
            .collect();
        let ports: Vec<u16> =
            listeners.iter().map(|it| it.local_addr().expect("an address").port()).collect();
        drop(listeners);
        fs::write(folder.path().join("cluster.toml"), cluster_text(&ports)).expect("a file");
        let endpoint = |index: usize| format!("127.0.0.1:{}", ports[3 * index]);
        let endpoints = (0..NODES).map(endpoint).collect::<Vec<_>>().join(",");
        let nodes = (0..NODES).map(|_| None).collect();
        let mut cluster = Cluster { folder, endpoints, nodes };
        for node in 1..=NODES {
            cluster.start_node(node);
        }
        cluster.check(&["status", "--wait", "60s"], 0, "healthy: 1 of 1 groups");
        cluster
    }

    fn data(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("n{node}"))
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

    /// The same once it ends so: the nodes need time to notice who is gone, or is back.
    fn check_soon(&self, args: &[&str], exit: i32, part: &str) -> String {
        let since = Instant::now();
        loop {
            let output = self.run(args);
            let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
            let said =
                stdout.contains(part) || String::from_utf8_lossy(&output.stderr).contains(part);
            let is_so = output.status.code() == Some(exit) && said;
            if is_so || LIMIT < since.elapsed() {
                return self.check(args, exit, part);
            }
        }
    }

    /// Waits until all three know of all that was written.
    fn agree(&self) {
        let since = Instant::now();
        loop {
            let shown = String::from_utf8_lossy(&self.run(&DRY_RUN).stdout).into_owned();
            // `n1: voter, promised 1.1, last 4@1.1, committed 4, applied 4`
            let knows_all = |line: &&str| {
                let word = |name: &str| {
                    let (_, rest) = line.split_once(name)?;
                    rest.split([',', '@']).next().map(str::to_owned)
                };
                let last = word("last ");
                last.is_some() && last == word("committed ") && last == word("applied ")
            };
            if shown.lines().filter(knows_all).count() == NODES {
                return;
            }
            assert!(since.elapsed() < LIMIT, "{shown}");
        }
    }

    fn items(&self, args: &[&str]) -> Value {
        let stdout = self.check(&[args, &["-o", "json"]].concat(), 0, "\"api_version\"");
        let mut document: Value = serde_json::from_str(&stdout).expect("a document");
        document["items"].take()
    }

    fn put(&self, key: &str) {
        self.check(&["kv", "put", key, "v", "--table", "load", "--uid", "7"], 0, "");
    }

    fn has(&self, key: &str) {
        self.check(&["kv", "get", key, "--table", "load", "--uid", "7"], 0, "v");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

const RECOVER: [&str; 3] = ["group", "unsafe-recover", "g1"];
const DRY_RUN: [&str; 4] = ["group", "unsafe-recover", "g1", "--dry-run"];

#[test]
fn one_of_three_goes_on() {
    // Goal: what is lost is given up only where nothing else helps, and in so many words; then the group
    // serves again, its ledger says what may be lost, and who was given up is kept out for good.
    let mut cluster = Cluster::start();
    cluster.put("first");
    let forced = [&RECOVER[..], &["--confirm", "RZ00/g1", "--reason", "two disks burnt"]].concat();

    // Nothing is lost yet.
    cluster.check(&DRY_RUN, 4, "error[GROUP_NOT_LOST]");
    cluster.check(&forced, 4, "error[GROUP_NOT_LOST]");
    cluster.check(&["ledger", "list"], 0, "no entries");
    cluster.kill(3);
    cluster.check(&forced, 4, "error[GROUP_NOT_LOST]");
    cluster.put("second");
    cluster.start_node(3);
    cluster.check(&["status", "--wait", "60s"], 0, "healthy: 1 of 1 groups");
    cluster.put("third");
    cluster.agree();

    // Two are lost; of one of them a copy will come back.
    cluster.kill(1);
    cluster.kill(2);
    copy(&cluster.data(2), &cluster.folder.path().join("kept"));
    for node in [1, 2] {
        fs::remove_dir_all(cluster.data(node)).expect("its folder goes");
    }
    let shown = cluster.check_soon(&DRY_RUN, 0, "possibly lost: everything from slot");
    for part in [
        "n1: does not answer",
        "proven: slots 1 to",
        "taken: the log of n3",
        "history 1, voters n3",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let plan = cluster.items(&DRY_RUN)[0].take();
    assert_eq!((&plan["taken"], &plan["done"]), (&"n3".into(), &false.into()), "{plan}");
    let number = |key: &str| plan[key].as_str().and_then(|it| it.parse::<u64>().ok());
    let proven = number("proven_through").expect("a slot");
    assert!(0 < proven && proven < number("lost_from").expect("a slot"), "{plan}");
    cluster.check(&["ledger", "list", "--group", "g1"], 6, "");

    // It takes the name of the group, and nothing else.
    cluster.check(&RECOVER, 2, "say --confirm RZ00/g1");
    cluster.check(&[&RECOVER[..], &["--confirm", "RZ00/g2"]].concat(), 2, "nothing was changed");
    cluster.check(&[&DRY_RUN[..], &["--keep", "n1"]].concat(), 2, "n1 has no voter of it");
    cluster.check(&forced, 0, "RZ00/g1: serves");
    for key in ["first", "second", "third"] {
        cluster.has(key);
    }
    cluster.put("fourth");
    cluster.has("fourth");

    // What may be lost stands in the ledger. Asked again, nothing happens again.
    let entries = cluster.items(&["ledger", "list"]);
    assert_eq!(entries.as_array().map(Vec::len), Some(1), "{entries}");
    let entry = &entries[0];
    assert_eq!(entry["kind"], "forced-recovery");
    assert_eq!(entry["proven_through"], proven.to_string());
    assert_eq!(entry["lost_from"], plan["lost_from"]);
    assert_eq!((&entry["history_before"], &entry["history_after"]), (&0.into(), &1.into()));
    assert_eq!(entry["given_up"], serde_json::json!(["n1", "n2"]));
    let name = entry["entry"].as_str().expect("a name");
    let shown = cluster.check(&["ledger", "show", name], 0, "reason: two disks burnt");
    assert!(shown.contains("operator: nobody"), "{shown}");
    cluster.check(&["ledger", "show", "g1@999999"], 3, "has no entry");
    cluster.check(&forced, 0, "in history 1: nothing is left to do");

    // An old node comes back with what it had: it hears of the new history, and is silent for ever.
    fs::rename(cluster.folder.path().join("kept"), cluster.data(2)).expect("it is back");
    cluster.start_node(2);
    cluster.check_soon(&["status"], 0, "goes on in history 1 without the replica of this node");
    cluster.kill(3);
    cluster.start_node(3);
    cluster.check(&["status", "--wait", "60s"], 0, "");
    cluster.has("fourth");
    let members = cluster.items(&["group", "members", "g1"]);
    assert_eq!(members[0]["members"].as_array().map(Vec::len), Some(1), "{members}");
    cluster.kill(2);
    cluster.start_node(2);
    cluster.check_soon(&["status"], 0, "goes on in history 1 without the replica of this node");

    // Emptied, it may take part again; so may the first one.
    cluster.kill(2);
    fs::remove_dir_all(cluster.data(2)).expect("its folder goes");
    cluster.start_node(2);
    cluster.start_node(1);
    for node in ["n1", "n2"] {
        cluster.check_soon(&["group", "add", "g1", node], 0, "RZ00/g1");
    }
    cluster.put("fifth");
    cluster.kill(3);
    let get = ["kv", "get", "fifth", "--table", "load", "--uid", "7"];
    cluster.check_soon(&get, 0, "v");
    let entries = cluster.items(&["ledger", "list"]);
    assert_eq!(entries[0]["lost_from"], plan["lost_from"], "the ledger came with the rows");
}
