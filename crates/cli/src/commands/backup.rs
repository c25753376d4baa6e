//! `quorate backup`: makes, lists and checks backups, and fills data folders from them. What a backup is
//! stands in `quorate_backup`.

mod create;
mod restore;
mod show;

use clap::{Args, Subcommand};
use quorate_backup::{BackupError, BackupId, Place};
use quorate_types::{Code, Error};
use serde_json::json;

use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{Document, Output, thousands};

const BACKUP_HELP: &str = "\
PLACE is a folder, file://PATH, or s3://BUCKET/PREFIX with keys, region and endpoint from the variables
AWS_*. A backup holds rows, accounts, transfers and holds of all units as of one cut; sessions and what is
undecided stay behind. It is neither encrypted nor signed.";

/// Makes, lists, checks and restores backups.
#[derive(Clone, Debug, Args)]
#[command(after_help = BACKUP_HELP)]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    command: BackupCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum BackupCommand {
    /// Copy all groups as of one cut while the cluster goes on
    Create(create::CreateArgs),
    /// Show the backups at a place, the newest first
    List(ListArgs),
    /// Read every object of a backup again and compare it with its manifest; needs no cluster
    Verify(VerifyArgs),
    /// Write the cluster file of a backup with a new cluster id
    ClusterFile(restore::ClusterFileArgs),
    /// Fill the empty data folder of a node that is not started yet; every node of a new cluster needs it
    Restore(restore::RestoreArgs),
}

/// A backup at a place.
#[derive(Clone, Debug, Args)]
struct Source {
    /// Where backups are kept
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// The backup, as `quorate backup list` shows it
    #[arg(long, value_name = "ID", value_parser = backup_id)]
    id: BackupId,
}

#[derive(Clone, Debug, Args)]
struct ListArgs {
    /// Where backups are kept
    #[arg(long, value_name = "PLACE")]
    from: String,
}

#[derive(Clone, Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    source: Source,
}

fn backup_id(text: &str) -> Result<BackupId, String> {
    text.parse().map_err(|error: BackupError| error.to_string())
}

/// Runs `quorate backup`.
pub(crate) async fn run(args: BackupArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    match args.command {
        BackupCommand::Create(args) => Box::pin(create::run(&args, global, out)).await,
        BackupCommand::List(args) => list(&args, out).await,
        BackupCommand::Verify(args) => verify(&args.source, out).await,
        BackupCommand::ClusterFile(args) => restore::write_cluster_file(&args, out).await,
        BackupCommand::Restore(args) => Box::pin(restore::run(&args, out)).await,
    }
}

/// A backup's error as a failure of the command.
fn failure(error: BackupError) -> Failure {
    Failure::from(Error::from(error))
}

async fn list(args: &ListArgs, out: &Output) -> Result<(), Failure> {
    let place = Place::open(&args.from).map_err(failure)?;
    let found = quorate_backup::list(&place).await.map_err(failure)?;
    show::list(&place, &found, out);
    Ok(())
}

async fn verify(source: &Source, out: &Output) -> Result<(), Failure> {
    let place = Place::open(&source.from).map_err(failure)?;
    let mut lines = show::Lines::new(out);
    let checked = quorate_backup::verify(&place, &source.id, |so_far| {
        lines.tell(|| format!("{} MiB are read", thousands(so_far.bytes >> 20)));
    });
    let (verified, damages) = checked.await.map_err(failure)?;
    let id = &source.id;
    for damage in &damages {
        out.warn(damage);
    }
    if !damages.is_empty() {
        let count = damages.len();
        let parts = if count == 1 { "part" } else { "parts" };
        let message = format!("backup {id} at {place} is damaged in {count} {parts}");
        let mut error = Error::new(Code::BackupDamaged, message);
        for damage in damages {
            if let BackupError::Damaged { object, reason, .. } = damage {
                error.message.push_str(&format!("; {object}: {reason}"));
                error.facts.entry("object".to_owned()).or_insert(object);
            }
        }
        return Err(Failure::from(error));
    }
    if !out.is_json() {
        out.say(format_args!(
            "backup {id} is as it was written: {} objects, {} records, {} bytes",
            verified.objects,
            thousands(verified.records),
            thousands(verified.bytes)
        ));
    }
    out.document(&Document::new("backup-check").item(json!({
        "id": id.to_string(),
        "place": place.to_string(),
        "objects": verified.objects.to_string(),
        "records": verified.records.to_string(),
        "bytes": verified.bytes.to_string(),
    })));
    Ok(())
}
