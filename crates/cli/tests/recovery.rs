//! Runs the built binary against a cluster of three nodes that loses two of them for ever: the third goes on, says
//! what may be lost, and an old node that comes back is kept out.

mod common;

use std::fs;
use std::path::Path;
use std::time::Instant;

use common::{Cluster, LIMIT, Ports, city};

const NODES: usize = 3;
const ZONES: [&str; NODES] = ["sh-1", "sh-2", "sh-3"];

fn cluster_text(ports: &[Ports]) -> String {
    city("recovery", "6f1d0c5e9a7b4d3280f1e2d3c4b5a698", &ZONES, &ZONES, ports)
        + "[[table]]\nid = 1\nname = \"load\"\nclass = \"unit\"\n\
           [[unit]]\nname = \"RZ00\"\nkind = \"rzone\"\nslices = \"00-99\"\n\
           [[group]]\nid = 1\nunit = \"RZ00\"\nlocality = \"F@sh-1,F@sh-2,F@sh-3\"\n\
           leader-order = \"sh-1;sh-2;sh-3\"\nmembers = [\"n1\", \"n2\", \"n3\"]\n"
}

/// Starts all nodes and waits until they are healthy.
fn start() -> Cluster {
    let cluster = Cluster::start(NODES, cluster_text);
    cluster.check(&["status", "--wait", "60s"], 0, "healthy: 1 of 1 groups");
    cluster
}

impl Cluster {
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
    let mut cluster = start();
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
