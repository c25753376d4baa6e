//! Runs the built binary through the life of a backup: made while money moves between units, checked, and
//! restored as a new cluster after the old one is destroyed.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
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

/// A folder with the cluster file `c.toml`, where data folders have the names of their nodes.
struct Home {
    dir: tempfile::TempDir,
    /// The first node.
    endpoint: String,
}

impl Home {
    /// With the tables of the demo.
    fn new() -> Home {
        let dir = tempfile::tempdir().expect("a folder");
        let port_offset = free_offset();
        let hosts = Hosts::Loopback { port_offset };
        let id = ClusterId(u128::from(std::process::id()));
        let text = one_city_three_idcs(&Options { hosts, ..Options::demo(id) });
        fs::write(dir.path().join("c.toml"), text).expect("a file");
        Home { dir, endpoint: format!("127.0.0.1:{}", PORTS[0] + port_offset) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.args(args).current_dir(self.dir.path()).env_clear();
        command.env("QUORATE_ENDPOINTS", &self.endpoint);
        command
    }

    /// The command ends with this exit code and says this; returns stdout.
    fn check(&self, args: &[&str], exit: i32, part: &str) -> String {
        let output = self.command(args).output().expect("the binary runs");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{args:?}\n{stdout}\n{stderr}");
        let said = stdout.contains(part) || stderr.contains(part);
        assert!(said, "{args:?} lacks {part:?}\n{stdout}\n{stderr}");
        stdout
    }

    /// The only item of the document of a command that ends well.
    fn item(&self, args: &[&str]) -> Value {
        let stdout = self.check(&[args, &["-o", "json"]].concat(), 0, "\"api_version\"");
        let mut document: Value = serde_json::from_str(&stdout).expect("a document");
        assert_eq!(document["items"].as_array().expect("items").len(), 1, "{document}");
        document["items"][0].take()
    }

    /// A new backup, as it is described.
    fn back_up(&self) -> Value {
        tokio::task::block_in_place(|| self.item(&["backup", "create", "--to", "kept"]))
    }

    /// A command about a backup; as [`Home::check`].
    fn of_backup(&self, id: &str, args: &[&str], exit: i32, part: &str) {
        self.check(&[&["backup"], args, &["--from", "kept", "--id", id]].concat(), exit, part);
    }

    /// Starts all nodes and waits until they serve.
    fn start(&self, file: &str) -> Nodes {
        let start = |node: &&str| {
            let args = ["server", "--insecure", "--profile", "small", "--cluster", file];
            let args = [&args[..], &["--node", node, "--data", node]].concat();
            let mut starting = self.command(&args);
            starting.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs")
        };
        let nodes = Nodes(NODES.iter().map(start).collect());
        self.check(&["status", "--wait", "60s"], 0, "healthy: 5 of 5");
        nodes
    }

    /// Nothing is left but backups.
    fn destroy(&self, nodes: Nodes) {
        drop(nodes);
        for node in NODES {
            fs::remove_dir_all(self.path(node)).expect("its data");
        }
    }

    async fn client(&self) -> Client {
        let builder = Client::builder(&self.endpoint).request_timeout(Duration::from_secs(20));
        builder.build().await.expect("a node answers")
    }

    /// True if the node leads the group.
    fn leads(&self, node: &str, group: &str) -> bool {
        let status = self.item(&["status"]);
        let groups = status["groups"].as_array().expect("groups").iter();
        let mut leaders = groups.filter(|it| it["group"] == group).map(|it| &it["leader"]);
        leaders.next().expect("the group exists").to_string().contains(node)
    }
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

/// Load from some users that was stopped again.
struct Load {
    done: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    payers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// Starts and waits until some transactions are committed.
    async fn start(client: &Client, payers: usize) -> Load {
        let (done, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let spawn = |payer| {
            let (client, done, count) = (client.clone(), Arc::clone(&done), Arc::clone(&count));
            tokio::spawn(load(client, payer, done, count))
        };
        let payers = (0..payers).map(spawn).collect();
        while count.load(Ordering::Acquire) < 50 {
            tokio::task::yield_now().await;
        }
        Load { done, count, payers }
    }

    fn committed(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    async fn stop(self) {
        self.done.store(true, Ordering::Release);
        for payer in self.payers {
            payer.await.expect("no payer panics");
        }
    }
}

fn sums(found: &Value) -> Vec<&Value> {
    found["groups"].as_array().expect("groups").iter().map(|group| &group["sha256"]).collect()
}

/// Everything goes on in a restored cluster: rows, money, what was pending, and ids that were used before.
async fn go_on(client: &Client) {
    let row = client.get("load", Uid(76), "row 3").await.expect("nothing is broken");
    assert_eq!(row, Some(Stored::Bytes(vec![3; ROW_BYTES].into())));
    let again = client.transfer(Transfer::pending(PENDING, at(1), at(2), 20, 0)).await;
    assert!(again.stands(), "the id is known, and so is what it did: {again:?}");
    let post = Transfer::post_pending(TransferId(9), PENDING, at(1), at(2), 0);
    assert!(client.transfer(post).await.stands());
    let found = client.find_transfer(Uid(1), PENDING).await.expect("it is read").expect("there");
    assert_eq!(found.hold, Some(Hold::Posted { amount: 20, by: TransferId(9) }));
    Load::start(client, 2).await.stop().await;
}

/// Goal: a backup made while transactions between units are under way is a state that balances; a cluster
/// that is restored from it has the same records, bit for bit, and goes on with everything in it. A node
/// that was restored by nobody gets its rows from the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_cluster_comes_back_as_it_was_at_the_cut() {
    let home = Home::new();
    let nodes = home.start("c.toml");
    let client = home.client().await;
    open(&client).await;
    let load = Load::start(&client, 4).await;
    let before = load.committed();
    let first = home.back_up();
    let after = load.committed();
    assert!(before < after, "{before} transactions before the backup, {after} after it");
    load.stop().await;
    client.close().await;

    let id = first["id"].as_str().expect("an id");
    let ledger = &first["ledgers"][0];
    assert_eq!(ledger["balances"], true, "{first}");
    assert_eq!((&ledger["accounts"], &ledger["reserved"]), (&"8".into(), &"40".into()));
    home.check(&["backup", "list", "--from", "kept"], 0, "complete");
    home.of_backup(id, &["verify"], 0, "is as it was written");

    home.destroy(nodes);
    let restore = ["restore", "--all-nodes", "--data", ".", "--cluster"];
    home.of_backup(id, &[&restore[..], &["c.toml"]].concat(), 1, "error[CLUSTER_ID_USED]");
    home.of_backup(id, &["cluster-file", "--output", "new.toml"], 0, "with cluster id");
    fs::create_dir(home.path("n1")).expect("a folder");
    fs::write(home.path("n1/notes.txt"), "mine").expect("a file");
    let restore = [&restore[..], &["new.toml"]].concat();
    home.of_backup(id, &restore, 1, "error[DATA_FOLDER_NOT_EMPTY]");
    fs::remove_file(home.path("n1/notes.txt")).expect("a file");
    home.of_backup(id, &restore, 0, "n3: ");
    home.of_backup(id, &restore, 1, "error[DATA_FOLDER_NOT_EMPTY]");

    let nodes = home.start("new.toml");
    let second = home.back_up();
    assert_eq!(sums(&second), sums(&first));
    assert_eq!((&second["sha256"], &second["ledgers"]), (&first["sha256"], &first["ledgers"]));
    assert_ne!(second["cluster_id"], first["cluster_id"]);
    home.check(&["audit"], 0, "balance");
    let client = home.client().await;
    go_on(&client).await;
    client.close().await;
    home.check(&["audit"], 0, "balance");
    assert_ne!(home.back_up()["sha256"], first["sha256"]);

    // A third cluster, of which one node is restored by nobody.
    home.destroy(nodes);
    home.of_backup(id, &["cluster-file", "--output", "third.toml"], 0, "with cluster id");
    for node in ["n1", "n2"] {
        let restore = ["restore", "--cluster", "third.toml", "--node", node, "--data", node];
        home.of_backup(id, &restore, 0, node);
    }
    let _nodes = home.start("third.toml");
    for group in ["g1", "g2", "g3", "g4", "g5"] {
        let mut tries = 0;
        while !home.leads("n3", group) {
            // Refused as long as the node lacks the rows.
            let lead = ["group", "transfer-leader", group, "--to", "n3"];
            let _asked = home.command(&lead).output().expect("the binary runs");
            tokio::time::sleep(Duration::from_millis(300)).await;
            tries += 1;
            assert!(tries < 200, "n3 never leads group {group}");
        }
    }
    assert_eq!(sums(&home.back_up()), sums(&first), "n3 has what the others were restored with");
}

/// Goal: a restore that broke off leaves a folder that no node starts on, and damage is named.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_or_half_restored_is_not_used() {
    let home = Home::new();
    let nodes = home.start("c.toml");
    home.check(&["kv", "put", "-t", "load", "--uid", "1", "k", "v"], 0, "");
    let made = home.back_up();
    drop(nodes);
    let id = made["id"].as_str().expect("an id");
    home.of_backup(id, &["cluster-file", "--output", "new.toml"], 0, "with cluster id");
    let restore = ["restore", "--cluster", "new.toml", "--node", "n1", "--data", "fresh"];

    let group = fs::read_dir(home.path("kept").join(id)).expect("a backup").flatten();
    let group = group.map(|entry| entry.path()).find(|path| path.is_dir()).expect("an object");
    let object = group.join("000001.records");
    let whole = fs::read(&object).expect("an object");
    let mut changed = whole.clone();
    changed[20] ^= 1;
    fs::write(&object, changed).expect("an object");
    let changed = "000001.records: its bytes are not those that were written";
    home.of_backup(id, &["verify"], 1, changed);
    home.of_backup(id, &restore, 1, "error[BACKUP_DAMAGED]");
    let server = ["server", "--insecure", "--cluster", "new.toml", "--node", "n1"];
    let server = [&server[..], &["--data", "fresh"]].concat();
    home.check(&server, 1, "error[RESTORE_UNFINISHED]");
    fs::write(&object, whole).expect("an object");
    home.of_backup(id, &["verify"], 0, "is as it was written");
    home.of_backup(id, &restore, 1, "error[DATA_FOLDER_NOT_EMPTY]");
    fs::remove_dir_all(home.path("fresh")).expect("a folder");
    home.of_backup(id, &restore, 0, "n1: ");

    home.of_backup("20260102T030405Z-00000007", &["verify"], 3, "error[BACKUP_MISSING]");
    let list = |place| ["backup", "list", "--from", place];
    home.check(&list("nothing"), 1, "error[BACKUP_PLACE_FAILED]");
    home.check(&list("ftp://x"), 2, "is no place for backups");
}
