//! Runs the built binary against a cluster of one node: every command that needs a server, its exit
//! code, and an import that comes back by an export.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::{Cluster, Ports, city};
use serde_json::Value;

fn cluster_text(ports: &[Ports]) -> String {
    let (id, zones) = ("6f1d0c5e9a7b4d3280f1e2d3c4b5a697", ["sh-a"]);
    city("one", id, &zones, &zones, ports)
        + r#"
[[table]]
id = 1
name = "purchases"
class = "unit"

[[table]]
id = 2
name = "rates"
class = "global"

[[unit]]
name = "RZ00"
kind = "rzone"
slices = "00-99"

[[unit]]
name = "GZ"
kind = "gzone"

[[group]]
id = 1
unit = "RZ00"
locality = "F@sh-a"

[[group]]
id = 2
unit = "GZ"
locality = "F@sh-a"
"#
}

/// Starts a node and waits until it is healthy.
fn start() -> Cluster {
    let cluster = Cluster::start(1, cluster_text);
    cluster.check(&["status", "--wait", "30s"], 0, "healthy: 2 of 2 groups");
    cluster
}

/// Imports that were begun and are not complete.
fn states(cluster: &Cluster) -> usize {
    fs::read_dir(cluster.path("state/quorate/imports")).map_or(0, Iterator::count)
}

/// Arguments of a command about the rows of user 42.
fn of_user<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &["--table", "purchases", "--uid", "42"]].concat()
}

#[test]
fn rows_are_written_read_and_guarded() {
    let cluster = start();
    cluster.check(&of_user(&["kv", "put", "name", "Ada"]), 0, "durable on a majority of g1");
    assert_eq!(cluster.check(&of_user(&["kv", "get", "name"]), 0, ""), "Ada\n");
    assert_eq!(cluster.check(&of_user(&["kv", "get", "name", "--raw"]), 0, ""), "Ada");
    assert_eq!(cluster.check(&of_user(&["kv", "get", "name", "--hex"]), 0, ""), "416461\n");
    cluster.check(&of_user(&["kv", "get", "nothing"]), 3, "has no row \"nothing\" of UID 42");

    let both = ["kv", "get-many", "42/name", "77/nothing", "--table", "purchases"];
    let items = cluster.items(&both);
    assert_eq!(items[0]["value"]["text"], "Ada");
    assert!(items[1]["value"].is_null() && items[1]["uid"] == "77");
    cluster.check(&both, 0, "(absent)");

    let cas = of_user(&["kv", "cas", "name", "Bob", "--expect", "Eve"]);
    cluster.check(&cas, 4, "error[CONDITION_FAILED]");
    cluster.check(&of_user(&["kv", "cas", "name", "Bob", "--expect", "Ada"]), 0, "replaced");
    cluster.check(
        &of_user(&["kv", "cas", "n", "-5", "--integer", "--expect-absent"]),
        0,
        "replaced",
    );
    let txn = of_user(&["kv", "txn", "--add", "n=+10", "--floor", "0", "--read", "n"]);
    let items = cluster.items(&txn);
    assert_eq!(items[0]["reads"][0]["value"]["integer"], "-5");
    assert_eq!(items[0]["sums"][0]["value"]["integer"], "5");
    let txn = of_user(&["kv", "txn", "--add", "n=-10", "--floor", "0", "--put", "name=Eve"]);
    cluster.check(&txn, 4, "error[GUARD_FAILED]");
    cluster.write("steps", "require-equals name=Bob\ndelete name\nput last=two words\n");
    cluster.check(&of_user(&["kv", "txn", "steps"]), 0, "committed");

    let scan = cluster.check(&of_user(&["kv", "scan"]), 0, "");
    assert_eq!(scan, "UID\tKEY\tTYPE\tVALUE\n42\tlast\ttext\ttwo words\n42\tn\tinteger\t5\n");
    let scan = of_user(&["kv", "scan", "--limit", "1"]);
    cluster.check(&scan, 0, "1 rows are shown and more exist");
    cluster.check(&of_user(&["kv", "scan", "--prefix", "n"]), 0, "42\tn\tinteger\t5");
    cluster.check(&of_user(&["kv", "del", "n"]), 0, "removed");

    cluster.check(&["kv", "put", "rate", "7.1", "-t", "rates"], 0, "majority of g2");
    assert_eq!(cluster.check(&["kv", "get", "rate", "-t", "rates"], 0, ""), "7.1\n");
    cluster.check(&["kv", "get", "rate", "-t", "rates", "-u", "7"], 2, "belong to no user");
    cluster.check(&["kv", "get", "k", "-t", "purchases"], 2, "say which user with --uid");
    cluster.check(
        &["kv", "get", "k", "-t", "purchase", "-u", "1"],
        3,
        "did you mean \"purchases\"?",
    );
}

/// Goal: accounts and transfers by hand and by file, with the exit codes that scripts rely on.
#[test]
fn money_is_moved_reserved_and_listed() {
    let cluster = start();
    let floorless = ["account", "create", "1:840", "--no-floor"];
    cluster.check(&floorless, 0, "account 1:840:1 created");
    cluster.check(&floorless, 0, "exists with these settings");
    cluster.check(&["account", "create", "1:840"], 4, "error[ACCOUNT_EXISTS]");
    cluster.check(&["account", "create", "42:840", "--history"], 0, "kept");
    cluster.check(&["account", "create", "7:840", "--floor", "5"], 4, "error[FLOOR_ABOVE_BALANCE]");
    cluster.check(&["account", "show", "9:840"], 3, "error[ACCOUNT_MISSING]");
    cluster.check(&["account", "set", "42:840"], 2, "nothing is to change");

    let create = |debit: &'static str, credit: &'static str, amount: &'static str| {
        let sides = ["transfer", "create", "--debit", debit, "--credit", credit];
        [&sides[..], &["--amount", amount]].concat()
    };
    let fund = [&create("1:840", "42:840", "100")[..], &["--id", "a1"]].concat();
    cluster.check(&fund, 0, "post of 100 created, durable on a majority of g1");
    cluster.check(&fund, 0, "post of 100 already applied");
    cluster.check(&create("42:840", "1:840", "101"), 4, "floor_reached");
    cluster.check(&create("42:840", "9:840", "1"), 4, "credit_account_missing");
    cluster.check(&create("42:840", "42:840", "1"), 4, "debit and credit account are the same");

    let hold = [&create("42:840", "1:840", "60")[..], &["--pending", "--id", "b1"]].concat();
    cluster.check(&hold, 0, "pending of 60 created");
    assert_eq!(cluster.items(&["account", "show", "42:840"])[0]["free"], "40");
    let post = ["transfer", "post", "b1", "--uid", "42", "--amount", "25", "--id", "b2"];
    cluster.check(&post, 0, "post_pending of 25 created");
    cluster.check(&post, 0, "already applied");
    cluster.check(&["transfer", "void", "b1", "--uid", "42"], 4, "pending_posted");
    cluster.check(&["transfer", "show", "b1", "--uid", "42"], 0, "25 posted by");
    let shown = cluster.items(&["transfer", "show", "b1", "--uid", "42"]);
    assert_eq!((&shown[0]["state"], &shown[0]["posted"]), (&"posted".into(), &"25".into()));
    cluster.check(&["transfer", "show", "b9", "--uid", "42"], 3, "took effect");
    let searched = cluster.items(&["transfer", "show", "b1"]);
    assert_eq!(searched, shown, "the same, whether the user is known or not");
    cluster.check(&["transfer", "show", "b9"], 3, "no transfer 000000000000000000000000000000b9");
    cluster.check(&["transfer", "void", "b9", "--uid", "42"], 3, "took effect");
    let voided = [&create("42:840", "1:840", "10")[..], &["--pending", "--id", "c1"]].concat();
    cluster.check(&voided, 0, "pending of 10 created");
    cluster.check(&["transfer", "void", "c1", "--uid", "42"], 0, "void_pending of 10 created");

    let file = "id,debit,credit,amount,linked\n\
                d1,42:840,1:840,5,\nd2,42:840,1:840,6,true\nd3,42:840,1:840,999,\n";
    cluster.write("batch.csv", file);
    let batch = ["transfer", "batch", "batch.csv"];
    let told = cluster.check(&batch, 4, "1 created, 0 had been applied, 2 refused");
    assert!(told.contains("linked_failed") && told.contains("floor_reached"), "{told}");
    let json = cluster.run(&["transfer", "batch", "batch.csv", "-o", "json"]);
    assert_eq!(json.status.code(), Some(4));
    let document: Value = serde_json::from_slice(&json.stdout).expect("a document");
    let verdicts: Vec<_> =
        document["items"].as_array().expect("items").iter().map(|it| &it["verdict"]).collect();
    assert_eq!(verdicts, ["already_applied", "linked_failed", "floor_reached"]);

    let history = cluster.items(&["account", "history", "42:840"]);
    let balances: Vec<_> =
        history.as_array().expect("items").iter().map(|it| &it["balance"]).collect();
    assert_eq!(balances, ["100", "75", "70"]);
    let limited = ["account", "history", "42:840", "--limit", "2"];
    cluster.check(&limited, 0, "2 changes are shown and more exist");
    cluster.check(&["account", "history", "1:840"], 0, "keeps no history");
    let set = ["account", "set", "42:840", "--floor", "71"];
    cluster.check(&set, 4, "has 70 free, less than its new floor");
    cluster.check(&["account", "set", "42:840", "--no-debits", "true"], 0, "debits");
    cluster.check(&create("42:840", "1:840", "1"), 4, "debits_frozen");

    cluster.check(&["audit"], 0, "balance");
    let audit = cluster.items(&["audit", "--ledger", "840"]);
    let ledger = &audit[0]["ledgers"][0];
    assert_eq!((&audit[0]["balances"], &ledger["accounts"]), (&true.into(), &"2".into()));
    assert_eq!((&ledger["sum"], &ledger["sum_of_positive"]), (&"0".into(), &"70".into()));
    cluster.check(&["audit", "--ledger", "841"], 3, "no account is in ledger 841");
}

#[test]
fn the_cluster_is_described_and_its_mistakes_are_coded() {
    let cluster = start();
    let status = cluster.items(&["status"]);
    assert_eq!(status[0]["healthy"], true);
    assert_eq!(status[0]["nodes"][0]["node"], "n1");
    assert_eq!(status[0]["survives"]["node"]["any_one"], false);
    assert_eq!(status[0]["groups"][0]["leader"], "n1");
    assert_eq!(cluster.items(&["topology", "show"])[0]["cluster_name"], "one");
    assert_eq!(cluster.items(&["route", "explain", "--uid", "142"])[0]["slice"], "42");
    let transfer = ["group", "transfer-leader"];
    cluster.check(&[&transfer[..], &["g9"]].concat(), 3, "error[UNKNOWN_GROUP]");
    cluster.check(&[&transfer[..], &["g1", "--to", "n2"]].concat(), 3, "did you mean \"n1\"?");
}

/// Goal: a bench says how fast the cluster is, in figures that fit together, and refuses what it would
/// spoil or cannot use.
#[test]
fn a_bench_measures_and_says_what_it_cost() {
    let cluster = start();
    let quick = ["--seconds", "1", "--warm-up", "100ms", "--keys", "100", "--callers", "4"];
    for workload in ["put", "get", "scan", "txn"] {
        let args = [&["bench", workload, "--table", "purchases"], &quick[..]].concat();
        let items = cluster.items(&args);
        let figure = |pointer: &str| {
            items[0].pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}"))
        };
        assert!(0.0 < figure("/ops_per_second"), "{items}");
        assert!(figure("/errors") == 0.0, "{items}");
        assert!(figure("/latency_us/p50") <= figure("/latency_us/p99"), "{items}");
        assert!((0.5..1.5).contains(&figure("/littles_law")), "{items}");
        let bounds = items[0]["bounds"].as_array().expect("bounds");
        assert!(bounds.iter().all(|bound| bound["ratio"].is_number()), "{items}");
        let is_write = ["put", "txn"].contains(&workload);
        assert_eq!(is_write, 256.0 < figure("/cost/log_bytes_per_node"), "{items}");
    }
    let short = ["--seconds", "1", "--warm-up", "100ms", "--accounts", "50", "--batch", "100"];
    for hot in [&[][..], &["--hot", "--zipf", "0.99"]] {
        let items = cluster.items(&[&["bench", "transfer"], &short[..], hot].concat());
        assert!(100 <= items[0]["operations"].as_u64().expect("a number"), "{items}");
        assert_eq!(items[0]["errors"], 0, "{items}");
    }
    cluster.check(&["bench", "put", "--table", "purchases", "--batch", "1001"], 2, "at most 1000");
    let open = ["bench", "put", "--table", "purchases", "--rate", "50"];
    let items = cluster.items(&[&open[..], &quick[..]].concat());
    let operations = items[0]["operations"].as_u64().expect("a number");
    assert!((10..=60).contains(&operations), "due were 50: {items}");

    cluster.check(&["bench", "put"], 2, "--table is missing");
    cluster.check(&["bench", "put", "--table", "purchase"], 3, "purchases");
    cluster.check(&["bench", "put", "--table", "rates"], 2, "its rows belong to no user");
    cluster.check(&["bench", "put", "--zipf", "0"], 2, "is no Zipf exponent");
}

#[test]
fn an_import_stops_resumes_and_comes_back_by_an_export() {
    let cluster = start();
    let rows = |bad: &str| {
        let mut text = "user,order,note\n".to_owned();
        for row in 0..2000 {
            let user = if row == 700 { bad.to_owned() } else { (row % 37).to_string() };
            text.push_str(&format!("{user},o-{row},\"a, {row}\"\n"));
        }
        text
    };
    cluster.write("bad.csv", &rows("7.0"));
    let import = |file, more: &[&'static str]| {
        let args = ["import", file, "--table", "purchases", "--uid-column", "user"];
        [&args[..], more].concat()
    };
    let stdout = cluster.check(&import("bad.csv", &[]), 1, "bad.csv:702: column \"user\": \"7.0\"");
    assert!(stdout.contains("imported 700 rows"), "{stdout}");
    assert_eq!(states(&cluster), 1);
    let stdout =
        cluster.check(&import("bad.csv", &["--skip-bad"]), 0, "resuming bad.csv after record 700");
    assert!(stdout.contains("imported 1299 rows"), "{stdout}");
    assert!(stdout.contains("1 bad rows were left out"), "{stdout}");
    assert_eq!(states(&cluster), 0);

    // The same rows again change nothing; the mended row is the only new one.
    cluster.write("good.csv", &rows("7"));
    let item = cluster.items(&import("good.csv", &["--concurrency", "1000"]));
    assert_eq!(item[0]["rows_imported"], "2000");
    assert_eq!(item[0]["complete"], true);
    let export = ["export", "--table", "purchases", "--as-csv", "--output", "back.csv"];
    cluster.check(&export, 0, "exported 2000 rows");
    cluster.check(&export, 2, "exists already");
    let sorted = |name: &str| {
        let text = fs::read_to_string(cluster.path(name)).expect("a file");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines[1..].sort();
        lines
    };
    assert_eq!(sorted("back.csv"), sorted("good.csv"));
    assert!(!Path::new("back.csv.partial").exists());
    let stdout = cluster.check(&["export", "--table", "purchases"], 0, "");
    assert_eq!(stdout.lines().next(), Some("uid,key,value,key_type,value_type"));
    assert_eq!(stdout.lines().count(), 2001);
    let lines = |text: &str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
    let at_cut = cluster.check(&["export", "--table", "purchases", "--at-cut"], 0, "");
    assert_eq!(lines(&at_cut), lines(&stdout));
    cluster.check(&["export", "--table", "purchases", "-o", "json"], 2, "--output");
    cluster.check(&["import", "good.csv", "--table", "purchases"], 2, "--uid-column");
}

/// Goal: a healthy node has no critical findings, its clock runs like ours, and what is unknown is said.
#[test]
fn checks_and_bundles_of_a_healthy_cluster() {
    let cluster = start();
    // A machine that is nearly full is a warning, and rightly so.
    for args in [&["check", "cluster"][..], &["check", "unit", "RZ00"], &["check", "node", "n1"]] {
        for finding in cluster.items(args).as_array().expect("findings") {
            assert_eq!(finding["check"], "disk-free", "{args:?}: {finding}");
        }
    }
    cluster.check(&["check", "unit", "RZ0O"], 3, "did you mean \"RZ00\"");
    cluster.check(&["check", "node", "n9"], 3, "no node has the name");
    let clocks = cluster.items(&["check", "clock", "--for", "200ms"]);
    let rate = clocks[0]["clocks"][0]["rate_ppm"].as_f64().expect("a rate");
    let error = clocks[0]["clocks"][0]["rate_error_ppm"].as_f64().expect("an error");
    assert!(rate.abs() <= error + 1_000.0, "{clocks}");

    cluster.check(&["debug", "bundle", "bundle"], 0, "4 files in bundle");
    let read = |name: &str| fs::read_to_string(cluster.path("bundle").join(name)).expect("a file");
    let status: Value = serde_json::from_str(&read("status.json")).expect("a document");
    assert_eq!(status["items"][0]["healthy"], true);
    assert!(read("metrics-n1.txt").contains("quorate_build_info"));
    assert!(read("cluster.toml").contains("[cluster]"));
    assert!(read("version.txt").starts_with("quorate "));
    cluster.check(&["debug", "bundle", "bundle"], 1, "File exists");
}
