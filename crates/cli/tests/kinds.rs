//! Runs the built binary against two full replicas and an arbiter, with a node to spare: kills a node, shows who is
//! set aside, gives its place to another, and adds and refuses replicas of other kinds.

mod common;

use std::time::{Duration, Instant};

use common::{Cluster, Ports, city};
use serde_json::Value;

/// The IDC of each node; two stand in the first one, so that one can take over from the other.
const IDCS: [&str; 4] = ["sh-a", "sh-b", "sh-c", "sh-a"];

fn cluster_text(ports: &[Ports]) -> String {
    city("kinds", "6f1d0c5e9a7b4d3280f1e2d3c4b5a698", &IDCS[..3], &IDCS, ports)
        + "[[table]]\nid = 1\nname = \"load\"\nclass = \"unit\"\n\
           [[unit]]\nname = \"RZ00\"\nkind = \"rzone\"\nslices = \"00-99\"\n\
           [[group]]\nid = 1\nunit = \"RZ00\"\nlocality = \"F@sh-a,F@sh-b,A@sh-c\"\n\
           leader-order = \"sh-a;sh-b\"\nmembers = [\"n1\", \"n2\", \"n3\"]\n"
}

/// Starts all nodes and waits until they are healthy.
fn start() -> Cluster {
    let cluster = Cluster::start(IDCS.len(), cluster_text);
    cluster.check(&["status", "--wait", "60s"], 0, "healthy: 1 of 1 groups");
    cluster.check(&["cluster", "check", "--wait", "60s"], 0, "n4");
    cluster
}

impl Cluster {
    /// Node, kind and role of each member, as the leader tells them; none without one.
    fn members(&self) -> Vec<(String, String, String)> {
        let output = self.run(&["group", "members", "1", "-o", "json"]);
        if output.status.code() != Some(0) {
            return Vec::new();
        }
        let document: Value = serde_json::from_slice(&output.stdout).expect("a document");
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
    let mut cluster = start();
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
