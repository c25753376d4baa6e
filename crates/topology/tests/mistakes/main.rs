//! Every kind of mistake in a cluster file gives its own message, with line and hint.
//!
//! The tests change one thing in a good file and compare the whole report.

mod form;
mod groups;

use quorate_topology::{Topology, TopologyError};
use quorate_types::{Code, Error};

/// Line numbers in the expected texts refer to this file.
const GOOD: &str = r#"[cluster]
name = "pay"
id = "000102030405060708090a0b0c0d0e0f"
version = 3

[[city]]
name = "sh"

[[idc]]
name = "sh-a"
city = "sh"

[[idc]]
name = "sh-b"
city = "sh"

[[idc]]
name = "sh-c"
city = "sh"

[[node]]
id = 1
zone = "sh-a"
client = "127.0.0.1:6440"
peer = "127.0.0.1:6441"
admin = "127.0.0.1:6480"

[[node]]
id = 2
zone = "sh-b"
client = "127.0.0.1:6450"
peer = "127.0.0.1:6451"
admin = "127.0.0.1:6490"

[[node]]
id = 3
zone = "sh-c"
client = "127.0.0.1:6460"
peer = "127.0.0.1:6461"
admin = "127.0.0.1:6500"

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
slices = "00-49"

[[unit]]
name = "RZ01"
kind = "rzone"
slices = "50-99"

[[unit]]
name = "GZ"
kind = "gzone"

[[group]]
id = 1
unit = "RZ00"
locality = "F@sh-a,F@sh-b,F@sh-c"
leader-order = "sh-a,sh-b;sh-c"

[[group]]
id = 2
unit = "RZ01"
locality = "F@sh-a,F@sh-b,F@sh-c"
leader-order = "sh-b"
members = ["n1", "n2", "n3"]

[[group]]
id = 3
unit = "GZ"
locality = "F@sh-a,F@sh-b,F@sh-c"
"#;

fn refuse(text: &str) -> TopologyError {
    let error = Topology::parse(text).expect_err("the file has a mistake");
    assert_eq!(error.code, Code::ConfigInvalid);
    error
}

/// Parses `text` and compares the report, or the warnings, with `expected`.
fn check(text: &str, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let report = refuse(text).to_string();
    assert_eq!(report.lines().collect::<Vec<&str>>(), expected, "\n{report}");
}

/// Replaces the first occurrence of `from` in the good file and checks the report.
fn check_change(from: &str, to: &str, expected: &str) {
    assert!(GOOD.contains(from), "{from:?} is not in the good file");
    check(&GOOD.replacen(from, to, 1), expected);
}

fn check_warnings(text: &str, expected: &[&str]) {
    let topology = Topology::parse(text).expect("the file is only doubtful");
    let warnings: Vec<String> = topology
        .warnings()
        .iter()
        .map(|warning| format!("{}: {warning}", warning.line.unwrap_or(0)))
        .collect();
    assert_eq!(warnings, expected);
}

#[test]
fn the_good_file_is_good() {
    let topology = Topology::parse(GOOD).unwrap();
    assert_eq!(topology.warnings(), []);
    assert_eq!(topology.version(), 3);
}

#[test]
fn all_mistakes_are_reported_at_once_in_order_of_lines() {
    let text = GOOD
        .replacen("version = 3", "versoin = 3", 1)
        .replacen("class = \"unit\"", "class = \"units\"", 1)
        .replacen("leader-order = \"sh-b\"", "leader-order = \"sh-z\"", 1);
    check(
        &text,
        "cluster.toml:4: unknown key \"versoin\" in [cluster]; did you mean \"version\"?
         cluster.toml:45: class in [[table]] is \"units\"; did you mean \"unit\"?
         cluster.toml:76: leader-order names zone \"sh-z\", where group 2 has no replica; did you \
         mean \"sh-a\"?",
    );
}

#[test]
fn doubtful_files_are_accepted_with_warnings() {
    check_warnings(
        &GOOD.replacen("F@sh-a,F@sh-b,F@sh-c\"\nleader", "F@sh-a,F@sh-b\"\n#", 1),
        &["69: group 1 has 2 voters: it survives the loss of no more of them than with 1"],
    );
    check_warnings(
        &GOOD.replacen("F@sh-a,F@sh-b,F@sh-c\"\nleader", "F@sh-a\"\n#", 1),
        &["69: group 1 has one voter: it stops with its node"],
    );
    for without in ["F@sh-a,F@sh-b,A@sh-c", "F@sh-a,F@sh-b,L@sh-c", "F@sh-a,R@sh-b,R@sh-c"] {
        let line = format!("{without}\"\n#");
        let topology = GOOD.replacen("F@sh-a,F@sh-b,F@sh-c\"\nleader", &line, 1);
        let voters = without.matches(['F', 'L', 'A']).count();
        let warned = ["69: group 1 has one voter: it stops with its node"];
        check_warnings(&topology, if voters == 1 { &warned } else { &[] });
    }
    let spare = "\n[[node]]\nid = 4\nzone = \"sh-a\"\nclient = \"h:1\"\npeer = \"h:2\"\nadmin = \
                 \"h:3\"\n";
    let all_named = GOOD.replace(
        "locality = \"F@sh-a,F@sh-b,F@sh-c\"\n",
        "locality = \"F@sh-a,F@sh-b,F@sh-c\"\nmembers = [\"n1\", \"n2\", \"n3\"]\n",
    );
    let all_named =
        all_named.replacen("leader-order = \"sh-b\"\nmembers", "leader-order = \"sh-b\"\n#", 1);
    check_warnings(
        &format!("{all_named}{spare}"),
        &["88: node \"n4\" holds no replica of any group"],
    );
}

#[test]
fn the_report_is_bounded_and_carries_the_file_name() {
    let mut text = GOOD.to_owned();
    for index in 0..150 {
        text.push_str(&format!("\n[[idc]]\nname = \"x{index}\"\ncity = \"nowhere\"\n"));
    }
    let error = Topology::parse_named("prod.toml", &text).unwrap_err();
    assert_eq!((error.problems.len(), error.left_out), (100, 50));
    let report = error.to_string();
    assert!(report.starts_with("prod.toml:86: idc \"x0\" is in city \"nowhere\""), "{report}");
    assert!(report.ends_with("prod.toml: 50 more problems are not shown"), "{report}");

    let coded = Error::from(error);
    assert_eq!(coded.code, Code::ConfigInvalid);
    assert_eq!(coded.facts["file"], "prod.toml");
}

#[test]
fn a_file_that_is_too_long_is_refused_unread() {
    check(
        &"#".repeat(1024 * 1024 + 1),
        "cluster.toml: the file has 1048577 bytes; a cluster file has at most 1048576",
    );
}
