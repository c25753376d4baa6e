//! Golden scripts: transcripts of a small cluster in `tests/scripts/*.txt`. Lines that start with `>`
//! are commands, lines that start with `#` are prose, the rest is what happened and is compared.
//!
//! `QUORATE_BLESS=1` rewrites what happened, for review with `git diff`. The rules of
//! `explorer/invariants/` are checked on every step of every script.

#![allow(unreachable_pub, missing_docs, dead_code)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../explorer/invariants/mod.rs"]
mod invariants;
mod script;

use std::panic::catch_unwind;
use std::path::Path;

/// Runs a script and returns it with what happens now in place of what was recorded.
fn replay(script: &str) -> String {
    let run = script::replay(script);
    assert!(run.panic.is_none(), "{} panicked:\n{}", run.panic.unwrap_or_default(), run.transcript);
    run.transcript
}

/// Goal: every script in `tests/scripts` happens exactly as written, line by line.
#[test]
fn scripts_happen_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let bless = std::env::var_os("QUORATE_BLESS").is_some();
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut failed = Vec::new();
    for path in &paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let written = std::fs::read_to_string(path).unwrap();
        assert!(written.starts_with("# Goal: "), "{name} must open with its goal");
        let happened = match catch_unwind(|| replay(&written)) {
            Ok(happened) => happened,
            Err(_) => {
                failed.push(name);
                continue;
            }
        };
        if happened == written {
            continue;
        }
        if bless {
            std::fs::write(path, happened).unwrap();
            continue;
        }
        println!("{name} happened differently:\n{}", first_difference(&written, &happened));
        failed.push(name);
    }
    assert!(12 <= paths.len(), "scripts are missing from {}", folder.display());
    assert!(failed.is_empty(), "QUORATE_BLESS=1 rewrites, for review: {failed:?}");
}

fn first_difference(written: &str, happened: &str) -> String {
    let same = written.lines().zip(happened.lines()).take_while(|(a, b)| a == b).count();
    let part = |text: &str, mark: &str| {
        let lines = text.lines().skip(same).take(6);
        lines.fold(String::new(), |all, line| format!("{all}{mark} {line}\n"))
    };
    format!("line {}:\n{}{}", same + 1, part(written, "-"), part(happened, "+"))
}
