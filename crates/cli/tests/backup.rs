//! Runs the built binary through the life of a backup: made while money moves between units, checked, and
//! restored as a new cluster after the old one is destroyed.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use quorate_client::{
    AccountAddress, AccountSettings, Client, Hold, Transfer, TransferId, Uid, Value as Stored,
};
use quorate_topology::presets::{Hosts, Options, one_city_three_idcs};
use quorate_types::ClusterId;
use serde_json::Value;

/// The ports of nodes 1, 2 and 3 of a new cluster on one machine, without an offset.
const PORTS: [u16; 9] = [6440, 6441, 6480, 6450, 6451, 6490, 6460, 6461, 6500];
const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Two users of each of the four units.
const USERS: [u64; 8] = [1, 2, 26, 27, 51, 52, 76, 77];
const ROWS: u64 = 40;
const ROW_BYTES: usize = 60_000;
/// A transfer that is pending when the backup is made.
const PENDING: TransferId = TransferId(7);

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

impl Nodes {
    fn start(folder: &Path, file: &str) -> Nodes {
        let start = |node: &&str| {
            let args = ["server", "--insecure", "--profile", "small", "--cluster", file];
            let output = fs::File::create(folder.join(format!("{node}.log"))).expect("a file");
            let args = [&args[..], &["--node", node, "--data", node]].concat();
            let started = command(folder, &args).stdout(Stdio::null()).stderr(output).spawn();
            started.expect("the binary runs")
        };
        Nodes(NODES.iter().map(start).collect())
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

/// Writes `c.toml` with the tables of the demo. Returns where to reach its first node.
fn write_cluster_file(folder: &Path) -> String {
    let port_offset = free_offset();
    let hosts = Hosts::Loopback { port_offset };
    let options = Options { hosts, ..Options::demo(ClusterId(u128::from(std::process::id()))) };
    fs::write(folder.join("c.toml"), one_city_three_idcs(&options)).expect("a file");
    format!("127.0.0.1:{}", PORTS[0] + port_offset)
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

/// The only item of the document of a command that ends well.
fn item(folder: &Path, args: &[&str]) -> Value {
    let stdout = check(folder, &[args, &["-o", "json"]].concat(), 0, "\"api_version\"");
    let mut document: Value = serde_json::from_str(&stdout).expect("a document");
    assert_eq!(document["items"].as_array().expect("items").len(), 1, "{document}");
    document["items"][0].take()
}

fn at(uid: u64) -> AccountAddress {
    AccountAddress::new(Uid(uid), 840)
}

/// Rows that make several pages, and accounts: every second one of them has no floor and pays the others.
async fn open(client: &Client) {
    for uid in USERS {
        for row in 0..ROWS {
            let value = vec![row as u8; ROW_BYTES];
            let key = format!("row {row}");
            client.put("load", Uid(uid), key, value).await.expect("nothing is broken");
        }
        client.put("purchases", Uid(uid), "balance", 1_000).await.expect("nothing is broken");
    }
    client.put("rates", Uid(0), "usd", "1").await.expect("nothing is broken");
    for (index, uid) in USERS.into_iter().enumerate() {
        let floor = if index % 2 == 0 { None } else { Some(0) };
        let settings = AccountSettings { floor, history: true, ..AccountSettings::default() };
        client.create_account(at(uid), settings).await.expect("it is new");
    }
    // Holds within a unit and between two, which stay open.
    for (id, credit) in [(PENDING, 2), (TransferId(8), 77)] {
        let pending = Transfer::pending(id, at(1), at(credit), 20, 0);
        assert!(client.transfer(pending).await.stands());
    }
}

/// Moves money and counts between units until it is told to stop.
async fn load(client: Client, payer: usize, done: Arc<AtomicBool>, count: Arc<AtomicU64>) {
    let mut turn = 0_usize;
    while !done.load(Ordering::Acquire) {
        turn += 1;
        let (from, to) = (USERS[2 * payer], USERS[(2 * payer + 2 + turn % 5) % USERS.len()]);
        let paying = client.transaction().add("purchases", Uid(from), "balance", -1);
        let paying = paying.add("purchases", Uid(to), "balance", 1);
        if paying.commit().await.is_ok() {
            count.fetch_add(1, Ordering::AcqRel);
        }
        let id = TransferId(((payer + 1) * 1_000_000 + turn) as u128);
        let _outcome = client.transfer(Transfer::post(id, at(from), at(to), 3)).await;
    }
}

async fn client_of(endpoint: &str) -> Client {
    Client::builder(endpoint)
        .request_timeout(Duration::from_secs(20))
        .build()
        .await
        .expect("a node answers")
}

fn sums(found: &Value) -> Vec<&Value> {
    found["groups"].as_array().expect("groups").iter().map(|group| &group["sha256"]).collect()
}

/// Goal: a backup made while transactions between units are under way is a state that balances; a cluster
/// that is restored from it has the same records, bit for bit, and goes on with everything in it. A node
/// that was restored by nobody gets its rows from the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_cluster_comes_back_as_it_was_at_the_cut() {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path();
    let endpoint = write_cluster_file(folder);
    let of = |args: &[&'static str]| -> Vec<String> {
        let all = [&["--endpoints", &endpoint], args].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let asked = |args: &[&'static str], part: &str| {
        let args = of(args);
        check(folder, &args.iter().map(String::as_str).collect::<Vec<_>>(), 0, part)
    };
    let made = || {
        let args = of(&["backup", "create", "--to", "kept"]);
        item(folder, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };

    let nodes = Nodes::start(folder, "c.toml");
    asked(&["status", "--wait", "60s"], "healthy: 5 of 5");
    let client = client_of(&endpoint).await;
    open(&client).await;
    let (done, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let payers: Vec<_> = (0..4)
        .map(|payer| {
            let (client, done, count) = (client.clone(), Arc::clone(&done), Arc::clone(&count));
            tokio::spawn(load(client, payer, done, count))
        })
        .collect();
    while count.load(Ordering::Acquire) < 50 {
        tokio::task::yield_now().await;
    }
    let before = count.load(Ordering::Acquire);
    let first = tokio::task::block_in_place(made);
    let after = count.load(Ordering::Acquire);
    assert!(before < after, "{before} transactions before the backup, {after} after it");
    done.store(true, Ordering::Release);
    for payer in payers {
        payer.await.expect("no payer panics");
    }
    client.close().await;

    let id = first["id"].as_str().expect("an id").to_owned();
    let ledger = &first["ledgers"][0];
    assert_eq!(ledger["balances"], true, "{first}");
    assert_eq!((&ledger["accounts"], &ledger["reserved"]), (&"8".into(), &"40".into()));
    assert_eq!(first["groups"].as_array().expect("groups").len(), 5, "{first}");
    check(folder, &["backup", "list", "--from", "kept"], 0, "complete");
    let source = ["--from", "kept", "--id", &id];
    let with = |args: &[&'static str]| -> Vec<String> {
        [args, &source[..]].concat().into_iter().map(str::to_owned).collect()
    };
    let run = |args: &[&'static str], exit: i32, part: &str| {
        let args = with(args);
        check(folder, &args.iter().map(String::as_str).collect::<Vec<_>>(), exit, part)
    };
    run(&["backup", "verify"], 0, "is as it was written");

    // Nothing is left of the old cluster but its backup.
    drop(nodes);
    for node in NODES {
        fs::remove_dir_all(folder.join(node)).expect("its data");
    }
    let restore = ["backup", "restore", "--cluster"];
    let here = ["--all-nodes", "--data", "."];
    run(&[&restore[..], &["c.toml"], &here].concat(), 1, "error[CLUSTER_ID_USED]");
    run(&["backup", "cluster-file", "--output", "new.toml"], 0, "with cluster id");
    fs::create_dir(folder.join("n1")).expect("a folder");
    fs::write(folder.join("n1/notes.txt"), "mine").expect("a file");
    run(&[&restore[..], &["new.toml"], &here].concat(), 1, "error[DATA_FOLDER_NOT_EMPTY]");
    fs::remove_file(folder.join("n1/notes.txt")).expect("a file");
    run(&[&restore[..], &["new.toml"], &here].concat(), 0, "n3: ");
    run(&[&restore[..], &["new.toml"], &here].concat(), 1, "error[DATA_FOLDER_NOT_EMPTY]");

    let nodes = Nodes::start(folder, "new.toml");
    asked(&["status", "--wait", "60s"], "healthy: 5 of 5");
    let second = tokio::task::block_in_place(made);
    assert_eq!(sums(&second), sums(&first));
    assert_eq!((&second["sha256"], &second["ledgers"]), (&first["sha256"], &first["ledgers"]));
    assert_ne!(second["cluster_id"], first["cluster_id"]);
    asked(&["audit"], "balance");

    // Everything goes on: rows, money, what was pending, and ids that were used before.
    let client = client_of(&endpoint).await;
    let row = client.get("load", Uid(76), "row 3").await.expect("nothing is broken");
    assert_eq!(row, Some(Stored::Bytes(vec![3; ROW_BYTES].into())));
    let again = client.transfer(Transfer::pending(PENDING, at(1), at(2), 20, 0)).await;
    assert!(again.stands(), "the id is known, and so is what it did: {again:?}");
    let posted = client.transfer(Transfer::post_pending(TransferId(9), PENDING, at(1), at(2), 0));
    assert!(posted.await.stands());
    let found =
        client.find_transfer(Uid(1), PENDING).await.expect("it is read").expect("it is there");
    assert_eq!(found.hold, Some(Hold::Posted { amount: 20, by: TransferId(9) }));
    let (done, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let paying = tokio::spawn(load(client.clone(), 1, Arc::clone(&done), Arc::clone(&count)));
    while count.load(Ordering::Acquire) < 20 {
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::Release);
    paying.await.expect("no payer panics");
    client.close().await;
    asked(&["audit"], "balance");
    let third = tokio::task::block_in_place(made);
    assert_ne!(third["sha256"], first["sha256"]);
    drop(nodes);

    // A third cluster, of which one node is restored by nobody.
    for node in NODES {
        fs::remove_dir_all(folder.join(node)).expect("its data");
    }
    run(&["backup", "cluster-file", "--output", "third.toml"], 0, "with cluster id");
    for node in ["n1", "n2"] {
        run(&[&restore[..], &["third.toml", "--node", node, "--data", node]].concat(), 0, node);
    }
    let _nodes = Nodes::start(folder, "third.toml");
    asked(&["status", "--wait", "60s"], "healthy: 5 of 5");
    for group in ["1", "2", "3", "4", "5"] {
        let lead = ["--endpoints", &endpoint, "group", "transfer-leader", group, "--to", "n3"];
        let leads = || {
            let status = item(folder, &["--endpoints", &endpoint, "status"]);
            let groups = status["groups"].as_array().expect("groups").clone();
            let found = groups.iter().find(|it| it["group"].to_string().contains(group));
            found.is_some_and(|it| it["leader"].to_string().contains("n3"))
        };
        let mut tries = 0;
        while !leads() {
            // Refused as long as the node lacks the rows.
            let _asked = command(folder, &lead).output().expect("the binary runs");
            tokio::time::sleep(Duration::from_millis(300)).await;
            tries += 1;
            assert!(tries < 200, "n3 never leads group {group}");
        }
    }
    let fourth = tokio::task::block_in_place(made);
    assert_eq!(sums(&fourth), sums(&first), "n3 has what the others were restored with");
}

/// Goal: a restore that broke off leaves a folder that no node starts on, and damage is named.
#[test]
fn what_is_damaged_or_half_restored_is_not_used() {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path();
    let endpoint = write_cluster_file(folder);
    let nodes = Nodes::start(folder, "c.toml");
    check(folder, &["--endpoints", &endpoint, "status", "--wait", "60s"], 0, "healthy: 5 of 5");
    let put = ["--endpoints", &endpoint, "kv", "put", "-t", "load", "--uid", "1", "k", "v"];
    check(folder, &put, 0, "");
    let made = item(folder, &["--endpoints", &endpoint, "backup", "create", "--to", "kept"]);
    drop(nodes);
    let id = made["id"].as_str().expect("an id");
    let source = ["--from", "kept", "--id", id];
    let file = [&["backup", "cluster-file", "--output", "new.toml"], &source[..]].concat();
    check(folder, &file, 0, "with cluster id");
    let restore = ["backup", "restore", "--cluster", "new.toml", "--node", "n1", "--data", "fresh"];
    let restore = [&restore[..], &source].concat();

    let group = fs::read_dir(folder.join("kept").join(id)).expect("a backup").flatten();
    let group = group.map(|entry| entry.path()).find(|path| path.is_dir()).expect("an object");
    let object = group.join("000001.records");
    let whole = fs::read(&object).expect("an object");
    let mut changed = whole.clone();
    changed[20] ^= 1;
    fs::write(&object, changed).expect("an object");
    let verify = [&["backup", "verify"], &source[..]].concat();
    check(folder, &verify, 1, "000001.records: its bytes are not those that were written");
    check(folder, &restore, 1, "error[BACKUP_DAMAGED]");
    let server =
        ["server", "--insecure", "--cluster", "new.toml", "--node", "n1", "--data", "fresh"];
    check(folder, &server, 1, "error[RESTORE_UNFINISHED]");
    fs::write(&object, whole).expect("an object");
    check(folder, &verify, 0, "is as it was written");
    check(folder, &restore, 1, "error[DATA_FOLDER_NOT_EMPTY]");
    fs::remove_dir_all(folder.join("fresh")).expect("a folder");
    check(folder, &restore, 0, "n1: ");

    let missing = ["backup", "verify", "--from", "kept", "--id", "20260102T030405Z-00000007"];
    check(folder, &missing, 3, "error[BACKUP_MISSING]");
    check(folder, &["backup", "list", "--from", "nothing"], 1, "error[BACKUP_PLACE_FAILED]");
    check(folder, &["backup", "list", "--from", "ftp://x"], 2, "is no place for backups");
}
