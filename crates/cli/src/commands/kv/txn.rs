//! `kv txn`: a transaction over rows of one unit.

use std::path::PathBuf;

use clap::Args;
use quorate_client::{Committed, Transaction};
use quorate_types::Uid;
use serde_json::{Value as Json, json};

use super::steps::{self, At, FlagSteps, Step};
use crate::args;
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::Failure;
use crate::output::{Document, Output, Table};
use crate::values;

/// Arguments of `kv txn`.
#[derive(Clone, Debug, Args)]
#[command(after_help = TXN_HELP)]
pub(super) struct TxnArgs {
    /// The table of rows whose step names none
    #[arg(short, long)]
    table: Option<String>,
    /// The user of rows whose step names none
    #[arg(short, long, value_parser = args::uid, allow_negative_numbers = true)]
    uid: Option<Uid>,
    /// A file with the steps, as text or JSON; `-` reads stdin
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    flags: FlagSteps,
}

const TXN_HELP: &str = "\
Steps may be flags, in order, or a file. A text file has one step per line:
  # sell one
  table load
  uid 42
  require-absent order-7
  add stock=-1 floor=0
  put order-7=one ticket
  read stock
A JSON file has the same steps, each row with table and uid of its own if need be:
  {\"table\": \"load\", \"uid\": \"42\", \"steps\": [
    {\"require-absent\": {\"key\": \"order-7\"}},
    {\"add\": {\"key\": \"stock\", \"delta\": \"-1\", \"floor\": \"0\"}},
    {\"put\": {\"key\": \"order-7\", \"value\": {\"text\": \"one ticket\"}}},
    {\"read\": {\"key\": \"stock\"}}]}
All rows must belong to one unit. Nothing happens unless every condition holds (exit 4).";

/// A row of the transaction, found.
struct Row {
    table: String,
    uid: Uid,
    at: At,
}

/// Runs `quorate kv txn`.
pub(super) async fn run(args: TxnArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let steps = all_steps(&args)?;
    let cluster = Cluster::open(global).await?;
    let mut transaction = cluster.client().transaction();
    let (mut reads, mut sums) = (Vec::new(), Vec::new());
    for step in steps {
        transaction = add(transaction, step, &args, &cluster, &mut reads, &mut sums)?;
    }
    let committed = Box::pin(transaction.commit()).await;
    cluster.close().await;
    let committed = committed.map_err(|error| cluster::failure(&error))?;
    show(&cluster, &committed, &reads, &sums, out);
    Ok(())
}

fn all_steps(args: &TxnArgs) -> Result<Vec<Step>, Failure> {
    let mut steps = match &args.file {
        Some(path) if path.as_os_str() == "-" => {
            let text = std::io::read_to_string(std::io::stdin())
                .map_err(|error| Failure::file("read", path, &error))?;
            steps::parse_file(&text)?
        }
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::file("read", path, &error))?;
            steps::parse_file(&text)?
        }
        None => Vec::new(),
    };
    if !args.flags.is_empty() {
        steps.extend(args.flags.parse()?);
    }
    if steps.is_empty() {
        return Err(Failure::usage(
            "the transaction has no steps",
            "give steps as flags or in a file; `quorate kv txn --help` shows both",
        ));
    }
    Ok(steps)
}

/// The transaction with one step more.
fn add(
    transaction: Transaction,
    step: Step,
    args: &TxnArgs,
    cluster: &Cluster,
    reads: &mut Vec<Row>,
    sums: &mut Vec<Row>,
) -> Result<Transaction, Failure> {
    let found = |at: At| find(at, args, cluster);
    Ok(match step {
        Step::RequireExists(at) => {
            let row = found(at)?;
            transaction.require_exists(&row.table, row.uid, row.at.key)
        }
        Step::RequireAbsent(at) => {
            let row = found(at)?;
            transaction.require_absent(&row.table, row.uid, row.at.key)
        }
        Step::RequireEquals(at, value) => {
            let row = found(at)?;
            transaction.require_equals(&row.table, row.uid, row.at.key, value)
        }
        Step::Put(at, value) => {
            let row = found(at)?;
            transaction.put(&row.table, row.uid, row.at.key, value)
        }
        Step::Delete(at) => {
            let row = found(at)?;
            transaction.delete(&row.table, row.uid, row.at.key)
        }
        Step::Add { at, delta, floor, ceiling } => {
            let row = found(at)?;
            let mut longer = transaction.add(&row.table, row.uid, row.at.key.clone(), delta);
            if let Some(floor) = floor {
                longer = longer.floor(floor);
            }
            if let Some(ceiling) = ceiling {
                longer = longer.ceiling(ceiling);
            }
            sums.push(row);
            longer
        }
        Step::Read(at) => {
            let row = found(at)?;
            let longer = transaction.read(&row.table, row.uid, row.at.key.clone());
            reads.push(row);
            longer
        }
    })
}

fn find(at: At, args: &TxnArgs, cluster: &Cluster) -> Result<Row, Failure> {
    let shown = values::show_bytes(&at.key);
    let name = at.table.as_deref().or(args.table.as_deref()).ok_or_else(|| {
        Failure::usage(format!("row {shown:?} names no table"), "say which table with --table")
    })?;
    let table = cluster.table(name)?;
    // A UID from the flags is a default, so it does not count against tables without users.
    let is_sharded = table.class == quorate_topology::TableClass::Unit;
    let uid = if is_sharded { at.uid.or(args.uid) } else { at.uid };
    let uid = cluster::user_of(table, uid)?;
    Ok(Row { table: table.name.clone(), uid, at })
}

fn show(cluster: &Cluster, committed: &Committed, reads: &[Row], sums: &[Row], out: &Output) {
    if out.is_json() {
        let read = |(row, value): (&Row, &Option<_>)| {
            values::row_json(&row.table, row.uid, &row.at.key, value.as_ref())
        };
        let sum = |(row, sum): (&Row, &i64)| {
            let sum = quorate_types::Value::Integer(*sum);
            values::row_json(&row.table, row.uid, &row.at.key, Some(&sum))
        };
        let reads: Vec<Json> = reads.iter().zip(&committed.reads).map(read).collect();
        let sums: Vec<Json> = sums.iter().zip(&committed.sums).map(sum).collect();
        let document = Document::new("transaction").of_cluster(cluster.topology().cluster_id());
        out.document(&document.item(json!({
            "reads": reads,
            "sums": sums,
            "at": {
                "group": committed.group.to_string(),
                "slot": committed.at.slot.to_string(),
                "ballot": committed.at.ballot.to_string(),
                "replayed": committed.replayed,
            },
            "token": committed.token().to_string(),
        })));
        return;
    }
    let (group, slot) = (committed.group, committed.at.slot);
    out.say(format_args!("committed, durable on a majority of {group} at slot {slot}"));
    let mut table = Table::new(&["STEP", "TABLE", "UID", "KEY", "VALUE"]);
    let mut line = |step: &str, row: &Row, value: String| {
        let key = values::show_bytes(&row.at.key);
        table.row([step.to_owned(), row.table.clone(), row.uid.to_string(), key, value]);
    };
    for (row, value) in reads.iter().zip(&committed.reads) {
        let value = value.as_ref().map_or_else(|| "(absent)".to_owned(), values::show_value);
        line("read before", row, value);
    }
    for (row, sum) in sums.iter().zip(&committed.sums) {
        line("sum", row, sum.to_string());
    }
    if !reads.is_empty() || !sums.is_empty() {
        out.table(&table);
    }
}
