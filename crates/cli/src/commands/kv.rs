//! `quorate kv`: reads and writes rows.

mod many;
mod scan;
mod single;
mod steps;
mod txn;

use clap::{Args, Subcommand};
use quorate_client::Written;
use quorate_types::Uid;
use serde_json::{Value, json};

use crate::args;
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::Failure;
use crate::output::Output;

/// Reads and writes rows.
#[derive(Clone, Debug, Args)]
pub(crate) struct KvArgs {
    #[command(subcommand)]
    command: KvCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum KvCommand {
    /// Print the value of a row; exit 3 if it does not exist
    Get(single::GetArgs),
    /// Print rows of any users as they were at one moment
    GetMany(many::GetManyArgs),
    /// Write a row, whether it exists or not
    Put(single::PutArgs),
    /// Remove a row; nothing happens if it does not exist
    Del(single::DelArgs),
    /// Replace a row if it is as expected; exit 4 if it is not
    Cas(single::CasArgs),
    /// List the rows of a user, or of a whole table
    Scan(scan::ScanArgs),
    /// Change rows of one unit under conditions, all or nothing
    Txn(txn::TxnArgs),
}

/// Which table, and whose row.
#[derive(Clone, Debug, Args)]
struct Place {
    /// The table
    #[arg(short, long)]
    table: String,
    /// The user the row belongs to; left out for tables of class home and global
    #[arg(short, long, value_parser = args::uid, allow_negative_numbers = true)]
    uid: Option<Uid>,
}

impl Place {
    /// The user under which rows of the table live.
    fn user(&self, cluster: &Cluster) -> Result<Uid, Failure> {
        cluster::user_of(cluster.table(&self.table)?, self.uid)
    }
}

/// Runs `quorate kv`.
pub(crate) async fn run(args: KvArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    match args.command {
        KvCommand::Get(args) => Box::pin(single::get(args, global, out)).await,
        KvCommand::GetMany(args) => Box::pin(many::run(args, global, out)).await,
        KvCommand::Put(args) => Box::pin(single::put(args, global, out)).await,
        KvCommand::Del(args) => Box::pin(single::del(args, global, out)).await,
        KvCommand::Cas(args) => Box::pin(single::cas(args, global, out)).await,
        KvCommand::Scan(args) => Box::pin(scan::run(args, global, out)).await,
        KvCommand::Txn(args) => Box::pin(txn::run(args, global, out)).await,
    }
}

/// Where a write stands in the log of its group, for a document.
fn written_json(written: &Written) -> Value {
    json!({
        "group": written.group.to_string(),
        "slot": written.at.slot.to_string(),
        "ballot": written.at.ballot.to_string(),
        "replayed": written.replayed,
        "token": written.token().to_string(),
    })
}
