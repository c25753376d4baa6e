//! Quorate's turn: `quorate bench` as a child process, which starts a cluster of its own, and the
//! document it prints.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use serde::Deserialize;
use thiserror::Error;

use crate::process::{Ending, Process, last_lines};
use crate::turn::{Figures, Latency, Load};

/// Settings of `quorate` in the environment begin with this.
const VARIABLES: &str = "QUORATE_";

/// Why Quorate's turn gave no figures.
#[derive(Debug, Error)]
pub(crate) enum QuorateError {
    /// It could not be started.
    #[error(
        "cannot start {}: build it with `cargo build --release -p quorate-cli` and name it with --quorate",
        program.display()
    )]
    Start {
        /// What was to be started.
        program: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
    /// Its output could not be written or read, or the system does not say how it ended.
    #[error("cannot follow `quorate bench`")]
    Follow(#[source] io::Error),
    /// It ended badly.
    #[error("`quorate bench` ended with {status}:\n{said}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// Its last words.
        said: String,
    },
    /// It printed something else than its document.
    #[error("`quorate bench` printed a document of another form")]
    Document(#[source] serde_json::Error),
    /// Its document has no report.
    #[error("`quorate bench` printed a document without a report of {0}")]
    NoReport(&'static str),
}

/// The name and version of a `quorate` binary.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn version(program: &Path) -> Result<String, QuorateError> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(|source| QuorateError::Start { program: program.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs one turn. All data lie in `dir` while it runs.
///
/// # Errors
/// If `quorate bench` does not end well or prints something else than expected.
pub(crate) async fn turn(
    program: &Path,
    load: Load,
    port_offset: u16,
    dir: &Path,
) -> Result<Figures, QuorateError> {
    let (stdout, stderr) = (dir.join("quorate.json"), dir.join("quorate.log"));
    let open = |path: &Path| File::create(path).map_err(QuorateError::Follow);
    let mut command = Command::new(program);
    command
        .args(["bench", load.workload.word(), "-o", "json"])
        .args(["--callers", &load.callers.to_string()])
        .args(["--keys", &load.keys.to_string()])
        .args(["--value-bytes", &load.value_bytes.to_string()])
        .args(["--seconds", &load.measured.as_secs().to_string()])
        .args(["--warm-up", &format!("{}s", load.warm_up.as_secs())])
        .args(["--port-offset", &port_offset.to_string()])
        // Outside a checkout its cluster lies in the folder for temporary files.
        .current_dir(dir)
        .env("TMPDIR", dir);
    let outputs = (open(&stdout)?, open(&stderr)?);
    let mut process = Process::start(&mut command, VARIABLES, outputs, Ending::Ask)
        .map_err(|source| QuorateError::Start { program: program.to_owned(), source })?;
    let status = process.end().await.map_err(QuorateError::Follow)?;
    if !status.success() {
        return Err(QuorateError::Ended { status, said: last_lines(&stderr) });
    }
    let document = std::fs::read_to_string(&stdout).map_err(QuorateError::Follow)?;
    figures(&document, load.workload.word())
}

/// What is read of the document.
#[derive(Debug, Deserialize)]
struct Document {
    items: Vec<Report>,
}

#[derive(Debug, Deserialize)]
struct Report {
    workload: String,
    ops_per_second: f64,
    latency_us: Latency,
    errors: u64,
    failed: Vec<Failed>,
}

/// Requests that failed alike.
#[derive(Debug, Deserialize)]
struct Failed {
    code: String,
    count: u64,
    first: String,
}

/// The figures in a document.
fn figures(document: &str, workload: &'static str) -> Result<Figures, QuorateError> {
    let document: Document = serde_json::from_str(document).map_err(QuorateError::Document)?;
    let report = document
        .items
        .into_iter()
        .find(|report| report.workload == workload)
        .ok_or(QuorateError::NoReport(workload))?;
    let remark = |failed: Failed| format!("{} {}: {}", failed.count, failed.code, failed.first);
    Ok(Figures {
        ops_per_second: report.ops_per_second,
        latency_us: report.latency_us,
        errors: report.errors,
        remarks: report.failed.into_iter().map(remark).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `quorate bench put -o json` prints it, without what nobody reads here but `bounds`.
    const DOCUMENT: &str = r#"{
        "api_version": "quorate.v1", "kind": "bench", "errors": [],
        "items": [{
            "workload": "put", "callers": 16, "bounds": [{"what": "syncs a node", "ratio": 3.3}],
            "operations": 20338, "seconds": 2.004402002, "ops_per_second": 10146.5, "rate": null,
            "latency_us": {"max": 14615, "mean": 1576.05, "p50": 1471, "p90": 2059, "p99": 4875, "p999": 10423},
            "errors": 2,
            "failed": [{"code": "OVERLOADED", "count": 2, "first": "too much at once"}]
        }]
    }"#;

    #[test]
    fn the_document_of_quorate_bench_is_understood() {
        let figures = figures(DOCUMENT, "put").unwrap();
        assert_eq!(
            figures,
            Figures {
                ops_per_second: 10146.5,
                latency_us: Latency { p50: 1471, p99: 4875, p999: 10423 },
                errors: 2,
                remarks: vec!["2 OVERLOADED: too much at once".to_owned()],
            }
        );
    }

    #[test]
    fn other_documents_are_refused() {
        assert!(matches!(figures(DOCUMENT, "get"), Err(QuorateError::NoReport("get"))));
        assert!(matches!(figures("", "put"), Err(QuorateError::Document(_))));
        let renamed = DOCUMENT.replace("ops_per_second", "ops");
        assert!(matches!(figures(&renamed, "put"), Err(QuorateError::Document(_))));
    }
}
