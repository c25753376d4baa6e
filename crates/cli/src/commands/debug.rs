//! `quorate debug bundle`: what somebody needs who looks into a problem from afar, as files of a folder.
//! No rows and no keys are in it: only what status, metrics and the cluster file say.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::Global;
use crate::commands::status;
use crate::exit::{Exit, Failure};
use crate::output::{Document, Output};
use crate::scrape;

/// Collects what somebody needs who looks into a problem.
#[derive(Clone, Debug, Args)]
pub(crate) struct DebugArgs {
    #[command(subcommand)]
    command: DebugCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum DebugCommand {
    /// Write status, metrics and cluster file into a folder; no rows and no keys
    Bundle(BundleArgs),
}

#[derive(Clone, Debug, Args)]
struct BundleArgs {
    /// The folder; it must not exist
    folder: PathBuf,
}

/// Runs `quorate debug`.
pub(crate) async fn run(args: DebugArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let DebugCommand::Bundle(BundleArgs { folder }) = args.command;
    let seen = Box::pin(status::look(global)).await?;
    let topology = seen.cluster.topology();
    fs::create_dir(&folder).map_err(|error| Failure::file("make", &folder, &error))?;
    let mut files = vec![
        ("status.json".to_owned(), status::document(&seen).to_text(SystemTime::now())),
        ("cluster.toml".to_owned(), topology.to_toml()),
        ("version.txt".to_owned(), format!("quorate {}\n", env!("CARGO_PKG_VERSION"))),
    ];
    let tls = seen.cluster.client().tls();
    for node in topology.nodes() {
        let text = match scrape::metrics(&node.admin, tls.as_ref()).await {
            Ok(text) => text,
            Err(error) => format!("# {} gives no metrics: {error}\n", node.admin),
        };
        files.push((format!("metrics-{}.txt", node.name), text));
    }
    for (name, text) in &files {
        write(&folder.join(name), text)?;
    }
    let names: Vec<&String> = files.iter().map(|(name, _)| name).collect();
    if !out.is_json() {
        out.say(format_args!("{} files in {}", names.len(), folder.display()));
    }
    let item = json!({ "folder": folder.display().to_string(), "files": names });
    out.document(&Document::new("bundle").of_cluster(topology.cluster_id()).item(item));
    if seen.verdict.answered == 0 { Err(Failure::quiet(Exit::Unreachable)) } else { Ok(()) }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure::file("write", path, &error))
}
