//! Runs the built binary through the life of a backup: made while money moves between units, checked, and
//! restored as a new cluster after the old one is destroyed.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Cluster, Ports};
use quorate_client::{
    AccountAddress, AccountSettings, Client, Hold, Transfer, TransferId, Uid, Value as Stored,
};
use quorate_topology::presets::{Hosts, Options, one_city_three_idcs};
use quorate_types::ClusterId;
use serde_json::Value;

/// The ports of nodes 1, 2 and 3 of a new cluster on one machine, without an offset.
const PORTS: [Ports; 3] = [[6440, 6441, 6480], [6450, 6451, 6490], [6460, 6461, 6500]];
/// Two users of each of the four units.
const USERS: [u64; 8] = [1, 2, 26, 27, 51, 52, 76, 77];
const ROWS: u64 = 40;
const ROW_BYTES: usize = 60_000;
/// A transfer that is pending when the backup is made.
const PENDING: TransferId = TransferId(7);

/// With the tables of the demo.
fn cluster_text(ports: &[Ports]) -> String {
    let id = ClusterId(u128::from(std::process::id()));
    let hosts = Hosts::Loopback { port_offset: 0 };
    let text = one_city_three_idcs(&Options { hosts, ..Options::demo(id) });
    let ports = PORTS.iter().flatten().zip(ports.iter().flatten());
    ports.fold(text, |text, (preset, free)| {
        text.replace(&format!("127.0.0.1:{preset}\""), &format!("127.0.0.1:{free}\""))
    })
}

/// A cluster that comes and goes, whose data folders have the names of their nodes.
struct Home(Cluster);

impl Home {
    /// Nothing runs.
    fn new() -> Home {
        let mut cluster = Cluster::prepare(PORTS.len(), cluster_text);
        // The others are found from the first one.
        cluster.endpoints = cluster.endpoints.split(',').next().expect("it is there").to_owned();
        Home(cluster)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        self.0.command(args)
    }

    fn check(&self, args: &[&str], exit: i32, part: &str) -> String {
        self.0.check(args, exit, part)
    }

    /// The only item of the document of a command that ends well.
    fn item(&self, args: &[&str]) -> Value {
        let mut items = self.0.items(args);
        assert_eq!(items.as_array().expect("items").len(), 1, "{items}");
        items[0].take()
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
    fn start(&mut self, file: &str) {
        file.clone_into(&mut self.0.file);
        for node in 1..=PORTS.len() {
            self.0.start_node(node);
        }
        self.check(&["status", "--wait", "60s"], 0, "healthy: 5 of 5");
    }

    /// Nothing is left but backups.
    fn destroy(&mut self) {
        self.0.kill_all();
        for node in 1..=PORTS.len() {
            fs::remove_dir_all(self.0.data(node)).expect("its data");
        }
    }

    async fn client(&self) -> Client {
        let builder = Client::builder(&self.0.endpoints).request_timeout(Duration::from_secs(20));
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
    let mut home = Home::new();
    home.start("cluster.toml");
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

    home.destroy();
    let restore = ["restore", "--all-nodes", "--data", ".", "--cluster"];
    home.of_backup(id, &[&restore[..], &["cluster.toml"]].concat(), 1, "error[CLUSTER_ID_USED]");
    home.of_backup(id, &["cluster-file", "--output", "new.toml"], 0, "with cluster id");
    fs::create_dir(home.path("n1")).expect("a folder");
    fs::write(home.path("n1/notes.txt"), "mine").expect("a file");
    let restore = [&restore[..], &["new.toml"]].concat();
    home.of_backup(id, &restore, 1, "error[DATA_FOLDER_NOT_EMPTY]");
    fs::remove_file(home.path("n1/notes.txt")).expect("a file");
    home.of_backup(id, &restore, 0, "n3: ");
    home.of_backup(id, &restore, 1, "error[DATA_FOLDER_NOT_EMPTY]");

    home.start("new.toml");
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
    home.destroy();
    home.of_backup(id, &["cluster-file", "--output", "third.toml"], 0, "with cluster id");
    for node in ["n1", "n2"] {
        let restore = ["restore", "--cluster", "third.toml", "--node", node, "--data", node];
        home.of_backup(id, &restore, 0, node);
    }
    home.start("third.toml");
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
    let mut home = Home::new();
    home.start("cluster.toml");
    home.check(&["kv", "put", "-t", "load", "--uid", "1", "k", "v"], 0, "");
    let made = home.back_up();
    home.0.kill_all();
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
