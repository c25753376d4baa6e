//! `kv get-many`: rows of any users as they were at one moment.

use bytes::Bytes;
use clap::Args;
use quorate_types::{Uid, limits};

use crate::args;
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::Failure;
use crate::output::{Document, Output, Table};
use crate::values::{self, Meaning};

/// Arguments of `kv get-many`.
#[derive(Clone, Debug, Args)]
pub(super) struct GetManyArgs {
    /// The table
    #[arg(short, long)]
    table: String,
    /// The rows, at most 64: user and key; user 0 for tables of class home and global
    #[arg(value_name = "UID/KEY", required = true, num_args = 1..=limits::READ_ROWS_MAX)]
    rows: Vec<String>,
    /// Keys are given in hexadecimal digits
    #[arg(long)]
    hex_key: bool,
}

/// Runs `quorate kv get-many`.
pub(super) async fn run(args: GetManyArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let meaning = if args.hex_key { Meaning::Hex } else { Meaning::Text };
    let named = args.rows.iter().map(|row| parse(row, meaning));
    let named = named.collect::<Result<Vec<(Uid, Bytes)>, Failure>>()?;
    let cluster = Cluster::open(global).await?;
    let table = cluster.table(&args.table)?;
    for (uid, _) in &named {
        cluster::user_of(table, Some(*uid))?;
    }
    let table = table.name.as_str();
    let rows: Vec<_> = named.iter().map(|(uid, key)| (table, *uid, key.clone())).collect();
    let read = Box::pin(cluster.client().get_many(&rows)).await;
    cluster.close().await;
    let found = read.map_err(|error| cluster::failure(&error))?;

    let mut shown = Table::new(&["UID", "KEY", "VALUE"]);
    let mut document = Document::new("rows").of_cluster(cluster.topology().cluster_id());
    for ((uid, key), value) in named.iter().zip(&found) {
        document = document.item(values::row_json(table, *uid, key, value.as_ref()));
        let value = value.as_ref().map_or_else(|| "(absent)".to_owned(), values::show_value);
        shown.row([uid.to_string(), values::show_bytes(key), value]);
    }
    out.table(&shown);
    out.document(&document);
    Ok(())
}

/// A row as it is named.
fn parse(text: &str, meaning: Meaning) -> Result<(Uid, Bytes), Failure> {
    let fix = "write user and key, such as 42/name";
    let (uid, key) = text
        .split_once('/')
        .ok_or_else(|| Failure::usage(format!("{text:?} has no \"/\" after the UID"), fix))?;
    let uid = args::uid(uid).map_err(|reason| Failure::usage(reason, fix))?;
    Ok((uid, values::parse_key(key, meaning)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_user_and_a_key() {
        // Goal: the first slash ends the user, and the key may have more of them.
        let key = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert_eq!(parse("42/name", Meaning::Text), Ok((Uid(42), key("name"))));
        assert_eq!(parse("0/a/b", Meaning::Text), Ok((Uid(0), key("a/b"))));
        assert_eq!(parse("7/6162", Meaning::Hex), Ok((Uid(7), key("ab"))));
        for wrong in ["name", "42", "x/name", "42/", "/name"] {
            assert!(parse(wrong, Meaning::Text).is_err(), "{wrong}");
        }
    }
}
