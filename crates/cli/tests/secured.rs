//! Runs the built binary with certificates that it made itself: a cluster of one node, its clients, and
//! those who are none.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};

use quorate_topology::presets::{Hosts, Options, one_node};
use quorate_types::ClusterId;
use serde_json::Value;
use tempfile::TempDir;

/// A node that is stopped at the end of the test, and the folder where everything is.
struct Cluster {
    folder: TempDir,
    endpoint: String,
    server: Option<Child>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Ports that nobody listens on at the moment.
fn free_offset() -> u16 {
    let first = 1_000 + (std::process::id() % 5_000) as u16;
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let fits = |offset: &u16| [6440, 6441, 6480].iter().all(|port| is_free(port + offset));
    (0..100).map(|turn| first + turn * 50).find(fits).expect("free ports")
}

impl Cluster {
    /// A cluster file. Nothing runs yet.
    fn prepare() -> Cluster {
        let folder = tempfile::tempdir().expect("a folder");
        let port_offset = free_offset();
        let hosts = Hosts::Loopback { port_offset };
        let text = one_node(&Options { hosts, ..Options::demo(ClusterId(7)) });
        fs::write(folder.path().join("cluster.toml"), text).expect("written");
        let endpoint = format!("127.0.0.1:{}", 6440 + port_offset);
        Cluster { folder, endpoint, server: None }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.args(args).current_dir(self.folder.path()).env_clear();
        command.env("QUORATE_ENDPOINTS", &self.endpoint);
        command
    }

    fn start(&mut self, args: &[&str]) {
        let common = ["server", "--cluster", "cluster.toml", "--node", "n1", "--profile", "small"];
        let mut command = self.command(&[&common[..], &["--data", "data"], args].concat());
        let log = fs::File::create(self.folder.path().join("log")).expect("a file");
        command.stdout(Stdio::null()).stderr(log);
        self.server = Some(command.spawn().expect("the binary runs"));
    }

    /// The command ends with this exit code and says this; returns stdout.
    fn check(&self, args: &[&str], exit: i32, part: &str) -> String {
        let output: Output = self.command(args).output().expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(exit), "{args:?}\n{stdout}\n{stderr}");
        let said = stdout.contains(part) || stderr.contains(part);
        assert!(said, "{args:?} lacks {part:?}\n{stdout}\n{stderr}");
        stdout
    }
}

#[test]
fn a_cluster_is_secured_with_the_certificates_that_the_binary_makes() {
    // Goal: the steps of the manual work as written, and who is not meant to get in does not.
    let mut cluster = Cluster::prepare();
    let server = ["server", "--cluster", "cluster.toml", "--node", "n1", "--data", "data"];
    cluster.check(&server, 1, "neither --tls-dir nor --insecure is given");
    cluster.check(&["cert", "create-ca", "--cluster", "cluster.toml"], 0, "/authority");
    cluster.check(&["cert", "create-ca", "--cluster", "cluster.toml"], 1, "ca.crt exists already");
    let node = ["cert", "create-node", "--all", "--cluster", "cluster.toml"];
    cluster.check(&node, 0, "/node/1");
    let shop = ["cert", "create-client", "shop", "--read", "*", "--write", "RZ00"];
    cluster.check(&shop, 0, "/client/shop");
    cluster.check(&shop, 1, "names client shop already");
    let mode = |name: &str| {
        let path = cluster.folder.path().join("certs").join(name);
        fs::metadata(path).expect("a file").permissions().mode() & 0o777
    };
    assert_eq!(["ca.key", "node-n1.key", "client-shop.key"].map(mode), [0o600; 3]);

    cluster.start(&["--tls-dir", "certs"]);
    let tls = ["--tls-dir", "certs"];
    cluster.check(&[&["status", "--wait", "30s"][..], &tls].concat(), 0, "healthy: 5 of 5 groups");
    let row = |verb: &'static [&'static str], uid: &'static str| {
        [&["kv"], verb, &["--table", "purchases", "--uid", uid], &tls[..]].concat()
    };
    cluster.check(&row(&["put", "k", "v"], "1"), 0, "durable");
    assert_eq!(cluster.check(&row(&["get", "k"], "1"), 0, ""), "v\n");
    let denied =
        cluster.check(&row(&["put", "k", "v"], "26"), 7, "lacks the right write in unit RZ01");
    assert_eq!(denied, "");
    cluster.check(&row(&["get", "k"], "26"), 3, "has no row");
    let audited = fs::read_to_string(cluster.folder.path().join("log")).expect("a log");
    let line = audited.lines().find(|line| line.contains("\"audit\"")).expect("it is told of");
    let event: Value = serde_json::from_str(line).expect("one event a line");
    assert_eq!(
        (event["who"].as_str(), event["unit"].as_str()),
        (Some("client shop"), Some("RZ01"))
    );

    // What reads the admin ports shows the same certificate.
    cluster.check(&[&["check", "cluster"][..], &tls].concat(), 0, "");
    cluster.check(&[&["debug", "bundle", "bundle"][..], &tls].concat(), 0, "bundle");
    let metrics = fs::read_to_string(cluster.folder.path().join("bundle/metrics-n1.txt"));
    assert!(metrics.expect("a file").contains("quorate_requests_refused_total 1"));

    // Plain text, the key of somebody else, and a second client that must be named.
    cluster.check(&["status", "--timeout", "2s"], 7, "error[TLS_MISMATCH]");
    cluster.check(&["cert", "create-client", "audit"], 0, "/client/audit");
    cluster.check(&[&["status"][..], &tls].concat(), 7, "holds several clients, audit, shop");
    let named = [&["status", "--identity", "shop"][..], &tls].concat();
    cluster.check(&named, 0, "healthy");
    let mixed = ["status", "--ca", "certs/ca.crt", "--cert", "certs/client-shop.crt"];
    let mixed = [&mixed[..], &["--key", "certs/client-audit.key"]].concat();
    cluster.check(&mixed, 7, "does not belong to");
}

#[test]
fn certificates_are_renewed_and_shown() {
    // Goal: what is shown is what the files say, and a rotation leaves both authorities until told.
    let cluster = Cluster::prepare();
    cluster.check(&["cert", "create-ca", "--cluster", "cluster.toml"], 0, "");
    cluster.check(&["cert", "create-node", "n1", "--cluster", "cluster.toml"], 0, "127.0.0.1");
    cluster.check(&["cert", "create-node", "n9", "--cluster", "cluster.toml"], 1, "has no node");
    let read =
        |name: &str| fs::read(cluster.folder.path().join("certs").join(name)).expect("a file");
    let before = ["node-n1.crt", "node-n1.key"].map(read);
    cluster.check(&["cert", "rotate", "--new-ca"], 0, "");
    cluster.check(&["cert", "rotate", "--all"], 0, "/node/1");
    let after = ["node-n1.crt", "node-n1.key"].map(read);
    assert!(before[0] != after[0] && before[1] != after[1]);
    let shown = |files: usize| {
        let text = cluster.check(&["cert", "show", "-o", "json"], 0, "\"certificates\"");
        let document: Value = serde_json::from_str(&text).expect("a document");
        let items = document["items"].as_array().expect("items").clone();
        assert_eq!(items.len(), files, "{items:?}");
        items
    };
    let items = shown(3);
    assert_eq!(items[2]["identity"], format!("quorate://{}/node/1", ClusterId(7)));
    assert_eq!((&items[2]["state"], &items[2]["hosts"][0]), (&"valid".into(), &"127.0.0.1".into()));
    cluster.check(&["cert", "rotate", "--forget-old-ca"], 0, "");
    shown(2);
    cluster.check(&["cert", "rotate"], 2, "required");
}
