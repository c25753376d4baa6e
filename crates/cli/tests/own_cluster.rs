//! Runs the built binary from nothing to a cluster of three nodes on this machine: the cluster file, the
//! data folders, the nodes, and the comparison of what they run with.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// The ports of nodes 1, 2 and 3 of a new cluster on one machine, without an offset.
const PORTS: [u16; 9] = [6440, 6441, 6480, 6450, 6451, 6490, 6460, 6461, 6500];

/// Nodes that are stopped at the end of the test.
#[derive(Default)]
struct Nodes(Vec<Child>);

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.0 {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// An offset at which all ports of the cluster are free.
fn free_offset() -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let offset =
            port.checked_sub(PORTS[0]).filter(|offset| PORTS[8].checked_add(*offset).is_some());
        if let Some(offset) =
            offset.filter(|offset| PORTS.iter().all(|port| is_free(port + offset)))
        {
            return offset;
        }
    }
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(args).current_dir(folder).env_clear();
    command
}

/// The command ends with this exit code and says this; returns stdout.
fn check(folder: &Path, args: &[&str], exit: i32, part: &str) -> String {
    let output = command(folder, args).output().expect("the binary runs");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit), "{args:?}\n{stdout}\n{stderr}");
    let said = stdout.contains(part) || stderr.contains(part);
    assert!(said, "{args:?} lacks {part:?}\n{stdout}\n{stderr}");
    stdout
}

/// The document of a command that ends with this exit code.
fn document(folder: &Path, args: &[&str], exit: i32) -> Value {
    let stdout = check(folder, &[args, &["-o", "json"]].concat(), exit, "\"api_version\"");
    serde_json::from_str(&stdout).expect("a document")
}

fn init<'a>(file: &'a str, node: &'a str, data: &'a str) -> [&'a str; 8] {
    ["cluster", "init", "--cluster", file, "--node", node, "--data", data]
}

#[test]
fn a_new_file_is_written_once_and_complete() {
    // Goal: what `topology new` writes is what was asked for, and it replaces nothing unasked.
    let folder = tempfile::tempdir().expect("a folder");
    let new = ["topology", "new", "--name", "pay", "--layout", "2c3i", "--hosts", "a,b,c"];
    let written = [&new[..], &["--output", "c.toml"]].concat();
    check(folder.path(), &written, 0, "a: quorate cluster init --cluster c.toml --node n1");
    check(folder.path(), &written, 2, "c.toml exists already");
    let shown = document(folder.path(), &["topology", "show", "c.toml"], 0);
    assert_eq!(shown["items"][0]["cluster_name"], "pay");
    assert_eq!(shown["items"][0]["nodes"][2]["client"], "c:6440");
    let first = fs::read_to_string(folder.path().join("c.toml")).expect("the file");
    check(folder.path(), &[&written[..], &["--overwrite"]].concat(), 0, "cluster pay");
    let second = fs::read_to_string(folder.path().join("c.toml")).expect("the file");
    assert_ne!(first, second, "two clusters never share an id");
    let printed = check(folder.path(), &new, 0, "[cluster]");
    assert!(printed.starts_with("# The cluster file. Layout 2c3i: two cities"), "{printed}");
    check(folder.path(), &["topology", "new", "--hosts", "a,b"], 2, "has 3 nodes");
    check(folder.path(), &["topology", "new", "--name", "no name"], 1, "change the flags");
    check(folder.path(), &["topology", "new", "--layout", "9c9i"], 2, "1c3i, 2c3i, 3c5i");
}

#[test]
fn a_cluster_is_made_from_nothing() {
    // Goal: file, folders, nodes, and the same file everywhere; each wrong step is refused with its reason.
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path();
    let offset = free_offset().to_string();
    check(folder, &["topology", "new", "--port-offset", &offset, "--output", "c.toml"], 0, "n3");

    let mut digits = String::new();
    for node in ["n1", "n2", "n3"] {
        let made = document(folder, &init("c.toml", node, node), 0);
        assert_eq!(made["items"][0]["holds_data"], false, "{made}");
        let start =
            format!("quorate server --cluster c.toml --node {node} --data {node} --tls-dir certs");
        assert_eq!(made["items"][0]["start"], start, "{made}");
        digits = made["items"][0]["fingerprint"].as_str().expect("digits").to_owned();
        assert!(folder.join(node).is_dir());
    }
    let expecting =
        |digits: &'static str| [&init("c.toml", "n1", "n1")[..], &["--expect", digits]].concat();
    check(
        folder,
        &expecting("00000000"),
        1,
        &format!("has fingerprint {digits}, expected is 00000000"),
    );
    check(folder, &init("c.toml", "n4", "n4"), 1, "has no node \"n4\"");
    check(folder, &init("c.toml", "n1", "n1"), 0, "there is no certs/node-n1.crt");
    assert!(!folder.join("n4").exists());
    fs::create_dir(folder.join("mine")).expect("a folder");
    fs::write(folder.join("mine/notes.txt"), "mine").expect("a file");
    check(folder, &init("c.toml", "n1", "mine"), 2, "holds notes.txt, and no data of a node");

    let mut nodes = Nodes::default();
    for node in ["n1", "n2", "n3"] {
        let args = ["server", "--insecure", "--cluster", "c.toml", "--node", node, "--data", node];
        let started = command(folder, &[&args[..], &["--profile", "small"]].concat())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        nodes.0.push(started.expect("the binary runs"));
    }
    let text = fs::read_to_string(folder.join("c.toml")).expect("the file");
    let endpoint = format!("127.0.0.1:{}", 6440 + offset.parse::<u16>().expect("a number"));
    check(folder, &["--endpoints", &endpoint, "status", "--wait", "60s"], 0, "healthy: 5 of 5");
    let agreed = document(folder, &["cluster", "check", "--cluster", "c.toml"], 0);
    assert_eq!(agreed["items"][2]["fingerprint"], digits, "{agreed}");
    check(folder, &["--endpoints", &endpoint, "cluster", "check"], 0, "same");
    check(folder, &init("c.toml", "n1", "n1"), 1, "error[PORT_IN_USE]: client of node n1");

    let changed = text.replace("version = 1", "version = 2");
    fs::write(folder.join("newer.toml"), changed).expect("a file");
    let differing = document(folder, &["cluster", "check", "--cluster", "newer.toml"], 10);
    assert_eq!(differing["items"][0]["same_file"], false);
    let reason = differing["items"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("in [cluster] `version = 1` instead of `version = 2`"), "{reason}");

    let mut last = nodes.0.pop().expect("three nodes");
    last.kill().expect("it runs");
    last.wait().expect("it ends");
    let missing = document(folder, &["cluster", "check", "--cluster", "c.toml"], 10);
    assert_eq!(missing["items"][2]["answers"], false, "{missing}");
    drop(nodes);
    check(
        folder,
        &["cluster", "check", "--cluster", "c.toml", "--timeout", "2s"],
        6,
        "no node answered",
    );

    check(folder, &init("c.toml", "n1", "n1"), 0, "holds data of this node");
    check(folder, &init("c.toml", "n1", "n2"), 1, "error[NODE_MISMATCH]");
    let other = text.replacen("id = \"", "id = \"f", 1);
    let at = other.find("id = \"f").expect("the id") + 38;
    fs::write(folder.join("other.toml"), [&other[..at], &other[at + 1..]].concat())
        .expect("a file");
    check(folder, &init("other.toml", "n1", "n1"), 1, "error[CLUSTER_MISMATCH]");
}
