//! Runs the built binary where no server is needed: mistakes, cluster files, error codes, and the
//! answer when nobody listens.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// An address of a test network, where nobody answers, and one that refuses at once.
const NOBODY: &str = "127.0.0.1:1";

fn quorate(args: &[&str]) -> Output {
    let state = tempfile::tempdir().expect("a folder");
    Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(args)
        .env_clear()
        .env("XDG_STATE_HOME", state.path())
        .output()
        .expect("the binary runs")
}

/// Exit code, stdout and stderr.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = quorate(args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is text");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

/// Exit code and the one document on stdout.
fn run_json(args: &[&str]) -> (i32, Value) {
    let (exit, stdout, _) = run(&[args, &["-o", "json"]].concat());
    (exit, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}")))
}

/// A command fails with this exit code, code and words, and says what to do.
fn check_failure(args: &[&str], exit: i32, code: &str, part: &str) {
    let (found, stdout, stderr) = run(args);
    assert_eq!(found, exit, "{args:?}: {stderr}");
    assert!(stderr.contains(&format!("error[{code}]: ")), "{args:?}: {stderr}");
    assert!(stderr.contains(part), "{args:?}: {stderr}");
    assert!(stderr.contains("\nfix: "), "{args:?}: {stderr}");
    assert!(stderr.ends_with(&format!("\nquorate error {code} explains\n")), "{args:?}: {stderr}");
    assert_eq!(stdout, "", "{args:?}");
    let (found, document) = run_json(args);
    assert_eq!(found, exit, "{args:?}");
    assert_eq!(document["errors"][0]["code"], code, "{document}");
}

const CLUSTER: &str = r#"[cluster]
name = "pay-demo"
id = "6f1d0c5e9a7b4d3280f1e2d3c4b5a697"

[[city]]
name = "sh"

[[idc]]
name = "sh-a"
city = "sh"

[[node]]
id = 1
zone = "sh-a"
client = "127.0.0.1:6440"
peer = "127.0.0.1:6441"
admin = "127.0.0.1:6480"

[[table]]
id = 1
name = "purchases"
class = "unit"

[[unit]]
name = "RZ00"
kind = "rzone"
slices = "00-99"

[[group]]
id = 1
unit = "RZ00"
locality = "F@sh-a"
"#;

fn cluster_file(folder: &Path, text: &str) -> String {
    let path = folder.join("cluster.toml");
    fs::write(&path, text).expect("a file");
    path.display().to_string()
}

#[test]
fn mistakes_on_the_command_line_are_coded() {
    let invalid = "INVALID_REQUEST";
    check_failure(&["route", "explain", "--uid", "abc"], 2, invalid, "\"abc\" is no UID");
    check_failure(&["kv", "get", "k", "--table", "t", "--uid", "1.5"], 2, invalid, "is no UID");
    check_failure(&["kv", "put", "k", "--table", "t"], 2, invalid, "<VALUE>");
    check_failure(&["kv", "get-many", "k", "--table", "t"], 2, invalid, "has no \"/\"");
    check_failure(&["kv", "cas", "k", "v", "--table", "t"], 2, invalid, "--expect");
    check_failure(&["stauts"], 2, invalid, "'stauts'");
    check_failure(&["status", "--timeout", "soon"], 2, invalid, "\"soon\" is no time span");
    check_failure(&["status", "--endpoints", "http://h:1"], 2, invalid, "http://");
    check_failure(&["export", "--table", "t", "--as-cvs"], 2, invalid, "--as-csv");
    check_failure(&["kv", "txn", "--table", "t"], 2, invalid, "the transaction has no steps");
    check_failure(&["kv", "txn", "--put", "k"], 2, invalid, "has no \"=\"");
}

#[test]
fn values_over_the_limit_never_leave_the_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("value");
    fs::write(&path, vec![b'x'; 512 * 1024 + 1]).expect("a file");
    let path = path.display().to_string();
    let row = ["--table", "t", "--uid", "1"];
    let put = [&["kv", "put", "k", "--file", path.as_str()], row.as_slice()].concat();
    check_failure(&put, 1, "VALUE_TOO_LARGE", "524289 bytes");
    let key = "k".repeat(1025);
    let put = [&["kv", "put", key.as_str(), "v"], row.as_slice()].concat();
    check_failure(&put, 1, "KEY_TOO_LARGE", "1025 bytes");
    let put = [&["kv", "put", "k", "five", "--integer"], row.as_slice()].concat();
    check_failure(&put, 2, "INVALID_REQUEST", "\"five\" is no integer");
    let put = [&["kv", "put", "k", "--file", "/nowhere/at/all"], row.as_slice()].concat();
    check_failure(&put, 3, "DISK_FAILED", "/nowhere/at/all");
}

#[test]
fn nobody_there_is_exit_6_with_the_endpoints() {
    let commands: [&[&str]; 9] = [
        &["status"],
        &["topology", "show"],
        &["route", "explain", "--uid", "7"],
        &["kv", "get", "k", "--table", "t", "--uid", "1"],
        &["kv", "scan", "--table", "t"],
        &["group", "transfer-leader", "1"],
        &["group", "members"],
        &["node", "decommission", "n1"],
        &["export", "--table", "t", "--output", "/dev/null", "--overwrite"],
    ];
    for command in commands {
        let args = [command, &["--endpoints", NOBODY, "--timeout", "2s"]].concat();
        check_failure(&args, 6, "UNREACHABLE", NOBODY);
    }
}

#[test]
fn a_cluster_file_is_validated_with_every_problem_and_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = cluster_file(folder.path(), CLUSTER);
    let (exit, stdout, stderr) = run(&["topology", "validate", &file]);
    assert_eq!(exit, 0, "{stderr}");
    assert!(stdout.contains("is valid: cluster pay-demo, version 1: 1 nodes"), "{stdout}");
    assert!(stdout.contains("RZ00/g1: does not survive the loss of node n1"), "{stdout}");
    assert!(stderr.contains("warning: "), "{stderr}");

    let broken =
        CLUSTER.replace("locality", "localty").replace("class = \"unit\"", "class = \"uint\"");
    let file = cluster_file(folder.path(), &broken);
    let (exit, stdout, stderr) = run(&["topology", "validate", &file]);
    assert_eq!((exit, stdout.as_str()), (1, ""));
    assert!(stderr.contains("cluster.toml:22: "), "{stderr}");
    assert!(stderr.contains("cluster.toml:32: "), "{stderr}");
    assert!(stderr.contains("did you mean \"locality\"?"), "{stderr}");
    assert!(stderr.contains("error[CONFIG_INVALID]: "), "{stderr}");
    let (exit, document) = run_json(&["topology", "validate", &file]);
    assert_eq!(exit, 1);
    assert_eq!(document["kind"], "topology-validation");
    assert_eq!(document["errors"][0]["line"], 22);
}

#[test]
fn a_cluster_file_is_shown_and_routed_by_without_a_cluster() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = cluster_file(folder.path(), CLUSTER);
    let (exit, stdout, _) = run(&["topology", "show", &file]);
    assert_eq!(exit, 0);
    assert!(stdout.contains("\nRZ00/g1\t00-99\tF@sh-a\t"), "{stdout}");
    let (exit, stdout, _) = run(&["topology", "show", &file, "--toml"]);
    assert_eq!((exit, stdout.as_str()), (0, CLUSTER));

    let route = ["route", "explain", "--uid", "12345", "--cluster", &file];
    let (exit, stdout, _) = run(&route);
    assert_eq!(exit, 0);
    assert!(stdout.contains("UID 12345: uid mod 100 gives slice 45"), "{stdout}");
    let (_, document) = run_json(&route);
    assert_eq!(document["api_version"], "quorate.v1");
    assert_eq!(document["cluster_id"], "6f1d0c5e9a7b4d3280f1e2d3c4b5a697");
    assert_eq!(document["items"][0]["uid"], "12345");
    let wrong = [route.as_slice(), &["--table", "purchase"]].concat();
    check_failure(&wrong, 3, "UNKNOWN_TABLE", "did you mean \"purchases\"?");
}

#[test]
fn a_server_is_not_started_on_a_mistake() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = cluster_file(folder.path(), CLUSTER);
    let data = folder.path().join("data").display().to_string();
    let server = |cluster: &str, node: &str| -> Vec<String> {
        let args = ["server", "--insecure", "--cluster", cluster, "--node", node, "--data", &data];
        args.iter().map(|arg| (*arg).to_owned()).collect()
    };
    let check = |args: Vec<String>, exit, code, part| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        check_failure(&args, exit, code, part);
    };
    check(server(&file, "n2"), 1, "CONFIG_INVALID", "has no node \"n2\"; did you mean \"n1\"?");
    check(server("/nowhere/c.toml", "n1"), 3, "DISK_FAILED", "/nowhere/c.toml");
    let broken = cluster_file(folder.path(), &CLUSTER.replace("[[city]]", "[[ciyt]]"));
    check(server(&broken, "n1"), 1, "CONFIG_INVALID", "did you mean \"city\"?");
    assert!(!Path::new(&data).exists());
}

#[test]
fn a_configuration_is_checked_shown_and_used() {
    // Goal: a mistake in a file is an error with its line, a good file is what the server takes.
    let folder = tempfile::tempdir().expect("a folder");
    let file = |text: &str| {
        let path = folder.path().join("server.toml");
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let path = file("[server]\nnode = \"n9\"\ndtaa = \"x\"\nthreads = 0\n");
    check_failure(
        &["config", "check", &path],
        1,
        "CONFIG_INVALID",
        "server.toml:3: unknown key \"dtaa\"",
    );
    let (_, document) = run_json(&["config", "check", &path]);
    assert_eq!(
        (&document["kind"], &document["errors"][1]["line"]),
        (&"config-check".into(), &4.into())
    );
    check_failure(&["server", "--config", &path], 1, "CONFIG_INVALID", "did you mean \"data\"?");
    check_failure(&["config", "check", "/nowhere.toml"], 3, "DISK_FAILED", "/nowhere.toml");

    let cluster = cluster_file(folder.path(), CLUSTER);
    let path = file("[server]\ncluster = \"cluster.toml\"\nnode = \"n9\"\ntls-dir = \"certs\"\n");
    let certs = folder.path().join("certs").display().to_string();
    let (exit, stdout, stderr) = run(&["config", "check", &path]);
    assert_eq!((exit, stderr.as_str()), (0, ""));
    assert!(stdout.contains("to be given elsewhere: --data"), "{stdout}");
    let show = ["config", "show", "--origin", "--config", &path, "--data", "d", "--threads", "2"];
    let show = [&show[..], &["--insecure=false"]].concat();
    let (exit, stdout, _) = run(&show);
    assert_eq!(exit, 0);
    let lines = [
        format!("server.cluster\t{cluster}\tfile {path}:2"),
        format!("server.node\tn9\tfile {path}:3"),
        "server.data\td\tflag --data".to_owned(),
        "server.threads\t2\tflag --threads".to_owned(),
        "server.profile\tnormal\tdefault".to_owned(),
        format!("server.tls-dir\t{certs}\tfile {path}:4"),
        "server.insecure\tfalse\tflag --insecure".to_owned(),
    ];
    for line in lines {
        assert!(stdout.contains(&line), "{line}\n{stdout}");
    }
    check_failure(
        &["server", "--config", &path, "--data", "d"],
        1,
        "CONFIG_INVALID",
        "no node \"n9\"",
    );
    check_failure(&["server", "--config", &path], 2, "INVALID_REQUEST", "server.data is missing");
    check_failure(
        &["server", "--threads", "0"],
        2,
        "INVALID_REQUEST",
        "0 is not between 1 and 1024",
    );

    let variables = [("QUORATE__SERVER__NODE", "n1"), ("QUORATE_TLS_DIR", "elsewhere")];
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["config", "show", "--origin"])
        .env_clear()
        .env("QUORATE__CONFIG", &path)
        .envs(variables)
        .output()
        .expect("the binary runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("server.node\tn1\tvariable QUORATE__SERVER__NODE"), "{stdout}");
    let line = "server.tls-dir\telsewhere\tvariable QUORATE_TLS_DIR";
    assert!(stdout.contains(line), "{stdout}");

    let made = folder.path().join("made.toml").display().to_string();
    assert_eq!(run(&["config", "init", "--output", &made]).0, 0);
    assert_eq!(run(&["config", "check", &made]).0, 0);
    check_failure(&["config", "init", "--output", &made], 2, "INVALID_REQUEST", "exists already");
}

#[test]
fn an_import_checks_the_file_before_it_connects() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.csv");
    fs::write(&path, "user,amount\n1,2\n").expect("a file");
    let path = path.display().to_string();
    let import = |column| ["import", &path, "--table", "t", "--uid-column", column];
    check_failure(&import("usr"), 2, "INVALID_REQUEST", "did you mean \"user\"?");
    let args = [import("user").as_slice(), &["--endpoints", NOBODY]].concat();
    check_failure(&args, 6, "UNREACHABLE", NOBODY);
    let missing = ["import", "/nowhere.csv", "--table", "t", "--uid-column", "u"];
    check_failure(&missing, 3, "DISK_FAILED", "/nowhere.csv");
}

#[test]
fn codes_are_explained() {
    let (exit, stdout, _) = run(&["error", "not_leader"]);
    assert_eq!(exit, 0);
    assert!(stdout.starts_with("NOT_LEADER (1001), about routing\n"), "{stdout}");
    assert!(stdout.contains("\nwhy it happens:\n- the leadership moved"), "{stdout}");
    let (_, document) = run_json(&["error", "1001"]);
    assert_eq!(document["items"][0]["code"], "NOT_LEADER");
    assert!(document["items"][0]["causes"].as_array().is_some_and(|causes| !causes.is_empty()));
    for list in [&["error"][..], &["error", "--list"]] {
        let (exit, stdout, _) = run(list);
        assert_eq!(exit, 0);
        assert!(stdout.starts_with("NUMBER\tCODE\tRETRY\tEXIT\tWHAT TO DO\n1001\tNOT_LEADER\t"));
    }
    check_failure(&["error", "NOT_A_LEADER"], 3, "INVALID_REQUEST", "did you mean \"NOT_LEADER\"?");
}

#[test]
fn the_version_and_help_end_well() {
    let (exit, stdout, _) = run(&["version"]);
    assert_eq!(exit, 0);
    assert!(stdout.starts_with(concat!("quorate ", env!("CARGO_PKG_VERSION"))), "{stdout}");
    for help in [&["--help"][..], &["kv", "txn", "--help"], &["import", "--help"]] {
        let (exit, stdout, stderr) = run(help);
        assert_eq!((exit, stderr.as_str()), (0, ""));
        assert!(stdout.contains("Usage: quorate"), "{stdout}");
    }
}

#[test]
fn a_script_of_the_demo_is_checked_before_anything_starts() {
    // Goal: what is printed as the story can be played, a mistake is told with its line, and orders to a demo
    // that does not run reach nobody.
    let (exit, story, _) = run(&["demo", "--print-script", "--rounds", "2", "--seconds", "7"]);
    assert_eq!(exit, 0);
    assert!(story.contains("+7s kill idc-of:RZ01\n"), "{story}");
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("script");
    fs::write(&script, story.replace("kill all", "kill al")).expect("written");
    let (script, data) = (script.display().to_string(), folder.path().join("data"));
    let data = data.display().to_string();
    let offset = ["--port-offset", "31000"];
    let args = [&["demo", "--script", &script, "--dir", &data][..], &offset].concat();
    check_failure(&args, 1, "CONFIG_INVALID", ":12: \"al\" is no node, IDC or city");
    assert!(!Path::new(&data).join("cluster.toml").exists());
    // Everything after the first word of an order belongs to it, so there is no `-o json` behind it.
    let (exit, _, stderr) = run(&["demo", "exec", "--dir", &data, "status"]);
    assert!(exit == 6 && stderr.contains("no demo answers"), "{exit}: {stderr}");
    let (exit, _, stderr) = run(&["demo", "exec"]);
    assert!(exit == 2 && stderr.contains("VERB"), "{exit}: {stderr}");
    check_failure(&["demo", "--preset", "9c9i"], 2, "INVALID_REQUEST", "3c5i");
    check_failure(&["demo", "--tag", "a/b"], 2, "INVALID_REQUEST", "letters, digits");
}
