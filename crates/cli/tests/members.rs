//! Runs the built binary against a cluster of four nodes whose groups have members on three of them: moves
//! replicas while the cluster serves, kills a node and replaces it, and is refused where it should be.

mod common;

use common::{Cluster, Ports, city};
use serde_json::Value;

/// The IDC of each node; two stand in the first one, so that one can take over from the other.
const IDCS: [&str; 4] = ["sh-a", "sh-b", "sh-c", "sh-a"];

/// Two groups, each with members on n1, n2 and n3.
fn cluster_text(ports: &[Ports]) -> String {
    let mut text = city("members", "6f1d0c5e9a7b4d3280f1e2d3c4b5a697", &IDCS[..3], &IDCS, ports);
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

/// Starts all nodes and waits until they are healthy.
fn start() -> Cluster {
    let cluster = Cluster::start(IDCS.len(), cluster_text);
    cluster.check(&["status", "--wait", "60s"], 0, "healthy: 2 of 2 groups");
    cluster.check(&["cluster", "check", "--wait", "60s"], 0, "n4");
    cluster
}

impl Cluster {
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
    let mut cluster = start();
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
