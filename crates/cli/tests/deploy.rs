//! The files below `deploy`: systemd accepts the unit, and the binary accepts the command in it.

use std::fs;
use std::path::Path;
use std::process::Command;

const UNIT: &str = include_str!("../../../deploy/systemd/quorate@.service");
const BINARY: &str = env!("CARGO_BIN_EXE_quorate");
const INSTALLED: &str = "/usr/local/bin/quorate";

/// The value of a key of the unit.
fn value(key: &str) -> &'static str {
    let line = UNIT.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("the unit has no {key}"))
}

#[test]
fn systemd_accepts_the_unit() {
    // Goal: no mistyped key or value in the unit. Skipped where there is no systemd to ask.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("quorate@.service");
    assert!(value("ExecStart").starts_with(INSTALLED));
    fs::write(&path, UNIT.replace(INSTALLED, BINARY)).expect("a file");
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output();
    let output = match verify {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: systemd-analyze does not run here: {error}");
            return;
        }
    };
    // It also looks at the units that this one names, and ends well in spite of unknown keys; what
    // concerns us names our file.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("quorate@")).collect();
    assert!(ours.is_empty(), "{said}");
}

#[test]
fn the_binary_accepts_the_command_of_the_unit() {
    // Goal: a flag that is renamed cannot be forgotten in the unit: exit 2 would be a wrong command line.
    let command = value("ExecStart").replace("%i", "n1");
    let args: Vec<&str> = command.split_whitespace().skip(1).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing").display().to_string();
    let args = args.into_iter().map(|arg| arg.replace("/etc/quorate", &missing));
    let output = Command::new(BINARY).args(args).env_clear().output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(&missing), "{said}");
}

#[test]
fn the_image_builds_what_the_workspace_has() {
    // Goal: paths and versions named in the Containerfile, which nothing builds here, do exist.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = fs::read_to_string(root.join("deploy/Containerfile")).expect("the file");
    assert!(file.contains("NOT TRIED"), "say so, or build it in a test");
    assert!(file.contains(&format!("rust:{}-", env!("CARGO_PKG_RUST_VERSION"))), "{file}");
    for script in ["scripts/rocksdb.sh", "scripts/cargo"] {
        assert!(file.contains(script) && root.join(script).is_file(), "{script}");
    }
}
