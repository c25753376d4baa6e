//! `quorate import`: writes the rows of a CSV file, plain or compressed, with many puts in flight.
//!
//! Importing a file twice writes the same rows twice: keys come from lines or from a column, values
//! from the columns. An interrupted import is resumed by the same command. Every record is either
//! written or reported; by default the first bad one stops the import.

mod checkpoint;
mod pipeline;
mod progress;
mod rows;

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quorate_topology::TableClass;
use quorate_types::Error;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use self::checkpoint::{Checkpoint, Digest};
use self::pipeline::{Parsed, Plan, Watch, Written, write_all};
use self::progress::{Counted, Progress, per_second};
use self::rows::{BadRow, Mapping, Rows};
use crate::args;
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::exit::{Exit, Failure};
use crate::output::{Document, Output, error_json};
use crate::signals::Interrupts;

/// Rows handed over by the parsing thread at once.
const BATCH_ROWS: usize = 256;
/// Batches that wait between the parsing thread and the puts.
const BATCHES_WAITING_MAX: usize = 16;
/// Bad rows in a document; stderr has all of them.
const BAD_ROWS_SHOWN_MAX: usize = 1000;
/// Between two checkpoints.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

const IMPORT_HELP: &str = "\
The first line of the file names its columns. Each row becomes a JSON object of its columns, keyed by
its line (line-0000000002) or by --key-column. The same command resumes an interrupted import.";

/// Writes the rows of a CSV file.
#[derive(Clone, Debug, Args)]
#[command(after_help = IMPORT_HELP)]
pub(crate) struct ImportArgs {
    /// A CSV file, plain or compressed with gzip
    file: PathBuf,
    /// The table to write to
    #[arg(short, long)]
    table: String,
    /// The column with the UID; left out for tables of class home and global
    #[arg(long, value_name = "COLUMN")]
    uid_column: Option<String>,
    /// The column that tells the rows of a user apart; the line does if left out
    #[arg(long, value_name = "COLUMN")]
    key_column: Option<String>,
    /// What stands in front of the line in the key of a row
    ///
    /// Give each file of a table its own: rows of the same user on the same line have the same key.
    #[arg(long, value_name = "TEXT", default_value = "line-", conflicts_with = "key_column")]
    key_prefix: String,
    /// The columns of the value; all if left out
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',')]
    columns: Vec<String>,
    /// Puts in flight
    #[arg(
        long,
        value_name = "PUTS",
        default_value_t = 256,
        value_parser = clap::value_parser!(u16).range(1..=4096)
    )]
    concurrency: u16,
    /// Leave out rows that cannot be imported, and list them
    #[arg(long)]
    skip_bad: bool,
    /// Begin at the first line, even if an earlier import of the file was interrupted
    #[arg(long)]
    restart: bool,
    /// How long to go on trying to write a row while the cluster does not answer
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = args::duration)]
    patience: Duration,
}

/// Runs `quorate import`.
pub(crate) async fn run(args: ImportArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    let mapping = Mapping {
        uid_column: args.uid_column.clone(),
        key_column: args.key_column.clone(),
        key_prefix: args.key_prefix.clone(),
        columns: args.columns.clone(),
    };
    let failed = |error: std::io::Error| Failure::file("read", &args.file, &error);
    let digest = File::open(&args.file).and_then(Digest::of).map_err(failed)?;
    let opened = File::open(&args.file).map_err(failed)?;
    let size = opened.metadata().map_err(failed)?.len();
    let (counted, read) = Counted::new(opened);
    let reader = rows::decompressed(counted).map_err(failed)?;
    let rows = Rows::new(reader, &mapping)?;

    let cluster = Cluster::open(global).await?;
    check_table(&args, &cluster)?;
    let cluster_id = cluster.topology().cluster_id();
    let state = checkpoint::state_folder()?;
    let path = checkpoint::path_of(&state, &digest, cluster_id, &args.table, &mapping);
    let earlier = Checkpoint::load(&path).filter(|_| !args.restart);
    let earlier = earlier.unwrap_or_else(|| Checkpoint::new(&file, &args.table));
    if 0 < earlier.records_done {
        out.note(format_args!(
            "resuming {file} after record {} ({} rows written before); --restart begins anew",
            earlier.records_done, earlier.rows_written
        ));
    }

    let interrupts = Interrupts::listen()?;
    let (sender, parsed) = mpsc::channel(BATCHES_WAITING_MAX);
    let parsing = tokio::task::spawn_blocking(move || parse(rows, &sender));
    let mut keeper = Keeper {
        progress: Progress::new(out, size, read),
        skip_bad: args.skip_bad,
        file: file.clone(),
        path,
        saved: std::time::Instant::now(),
        checkpoint: earlier.clone(),
        bad_before: earlier.rows_bad,
        rows_before: earlier.rows_written,
        bad: Vec::new(),
        bad_count: 0,
    };
    let plan = Plan {
        client: cluster.client().clone(),
        table: args.table.clone(),
        concurrency: usize::from(args.concurrency),
        patience: args.patience,
        records_done: earlier.records_done,
        interrupts,
    };
    let written = Box::pin(write_all(plan, parsed, &mut keeper)).await;
    keeper.progress.finish();
    if written.stopped.is_none() {
        // The channel has ended, so the thread has, too; all that is left is a panic of ours.
        parsing.await.map_err(|error| {
            Failure::new(quorate_types::Code::Internal, format!("parsing ended badly: {error}"))
        })?;
    }
    cluster.close().await;
    let summary = Document::new("import").of_cluster(cluster_id);
    finish(&args, written, keeper, summary, out)
}

/// The table exists, and a UID column is named exactly where rows belong to users.
fn check_table(args: &ImportArgs, cluster: &Cluster) -> Result<(), Failure> {
    let table = cluster.table(&args.table)?;
    match (table.class, &args.uid_column) {
        (TableClass::Unit, None) => Err(Failure::usage(
            format!("table {} has class unit: its rows belong to users", table.name),
            "say which column holds the UID with --uid-column",
        )),
        (TableClass::Home | TableClass::Global, Some(_)) => Err(Failure::usage(
            format!("table {} has class {}: its rows belong to no user", table.name, table.class),
            "leave out --uid-column",
        )),
        _ => Ok(()),
    }
}

/// Sends batches until the file or the receiver ends.
fn parse<R: std::io::Read>(mut rows: Rows<R>, sender: &mpsc::Sender<Parsed>) {
    loop {
        let mut batch = Vec::with_capacity(BATCH_ROWS);
        let end = loop {
            match rows.next() {
                Ok(Some(row)) => batch.push(row),
                Ok(None) => break Some(None),
                Err(failure) => break Some(Some(failure)),
            }
            if batch.len() == BATCH_ROWS {
                break None;
            }
        };
        if sender.blocking_send(Ok(batch)).is_err() {
            return;
        }
        match end {
            None => {}
            Some(None) => return,
            Some(Some(failure)) => {
                // Without a receiver the import has stopped for another reason.
                let _ = sender.blocking_send(Err(failure));
                return;
            }
        }
    }
}

/// Shows progress, lists bad rows and keeps the checkpoint.
struct Keeper<'o> {
    progress: Progress<'o>,
    skip_bad: bool,
    file: String,
    path: PathBuf,
    saved: std::time::Instant,
    checkpoint: Checkpoint,
    /// Rows written and left out by earlier runs.
    rows_before: u64,
    bad_before: u64,
    /// The bad rows of this run, the first of them for the document.
    bad: Vec<Value>,
    bad_count: u64,
}

impl Keeper<'_> {
    /// Writes the checkpoint. Bad rows and rows above the mark are counted again by the next run,
    /// so the counts are for people only.
    fn save(&mut self, through: u64, rows: u64) -> Result<(), Failure> {
        self.saved = std::time::Instant::now();
        if through == self.checkpoint.records_done {
            return Ok(());
        }
        self.checkpoint.records_done = through;
        self.checkpoint.rows_bad = self.bad_before + self.bad_count;
        self.checkpoint.rows_written =
            (self.rows_before + rows).min(through.saturating_sub(self.checkpoint.rows_bad));
        self.checkpoint.save(&self.path)
    }
}

impl Watch for Keeper<'_> {
    fn bad_row(&mut self, bad: &BadRow) -> Result<(), Failure> {
        let message = format!("{}:{}: {}", self.file, bad.line, bad.error.message);
        if self.bad.len() < BAD_ROWS_SHOWN_MAX {
            let mut json = error_json(&bad.error, None);
            json["line"] = json!(bad.line);
            self.bad.push(json);
        }
        if !self.skip_bad {
            let fix = "correct the row, or leave out bad rows with --skip-bad";
            let error = Error { message, ..bad.error.clone() };
            return Err(Failure::from(error).with_exit(Exit::Failed).with_fix(fix));
        }
        self.bad_count += 1;
        self.progress.note(&format!("left out: {}: {message}", bad.error.code));
        Ok(())
    }

    fn tick(&mut self, through: u64, written: u64) -> Result<(), Failure> {
        self.progress.rows(written);
        if self.saved.elapsed() < CHECKPOINT_INTERVAL {
            return Ok(());
        }
        self.save(through, written)
    }
}

/// Keeps or removes the checkpoint and says what was done.
fn finish(
    args: &ImportArgs,
    written: Written,
    mut keeper: Keeper<'_>,
    summary: Document,
    out: &Output,
) -> Result<(), Failure> {
    let Written { through, rows, stopped } = written;
    let elapsed = keeper.progress.elapsed();
    let kept = match &stopped {
        None => {
            Checkpoint::remove(&keeper.path);
            Ok(())
        }
        Some(_) => keeper.save(through, rows),
    };
    if let Err(failure) = &kept {
        out.warn(format_args!("the import cannot be resumed where it stopped: {failure}"));
    }
    let (rows_before, bad_count) = (keeper.rows_before, keeper.bad_count);
    if !out.is_json() {
        let rate = per_second(rows, elapsed);
        let seconds = elapsed.as_secs_f64();
        let (file, table) = (&keeper.file, &args.table);
        out.say(format_args!(
            "imported {rows} rows of {file} into {table} in {seconds:.1} s ({rate} rows/s)"
        ));
        if 0 < rows_before {
            out.say(format_args!("{rows_before} rows were imported before"));
        }
        if 0 < bad_count {
            out.say(format_args!("{bad_count} bad rows were left out; they are listed above"));
        }
        if stopped.is_some() {
            out.say(format_args!(
                "stopped before the end; the same command resumes after record {through}"
            ));
        }
    }
    let mut summary = summary.item(json!({
        "file": keeper.file,
        "table": args.table,
        "complete": stopped.is_none(),
        "rows_imported": rows.to_string(),
        "rows_imported_before": rows_before.to_string(),
        "rows_bad": bad_count.to_string(),
        "records_done": through.to_string(),
        "elapsed_ms": elapsed.as_millis().to_string(),
        "rows_per_second": per_second(rows, elapsed).to_string(),
    }));
    summary.errors = keeper.bad;
    let Some(failure) = stopped else {
        out.document(&summary);
        return Ok(());
    };
    // A bad row that stopped the import is among the errors already.
    if let Some(error) = failure.error().filter(|_| summary.errors.is_empty()) {
        summary.errors.push(error_json(error, failure.fix()));
    }
    out.document(&summary);
    Err(failure)
}
