//! `kv get`, `put`, `del` and `cas`: one row each.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use quorate_client::Written;
use quorate_types::{Code, Uid, Value, limits};
use serde_json::json;

use super::{Place, written_json};
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::{Exit, Failure};
use crate::output::{Document, Output};
use crate::reading::ReadArgs;
use crate::values::{self, Meaning};

/// A row by its key.
#[derive(Clone, Debug, Args)]
struct RowArgs {
    #[command(flatten)]
    place: Place,
    /// The key of the row
    #[arg(allow_negative_numbers = true)]
    key: String,
    /// The key is given in hexadecimal digits
    #[arg(long)]
    hex_key: bool,
}

impl RowArgs {
    fn key(&self) -> Result<Bytes, Failure> {
        values::parse_key(&self.key, if self.hex_key { Meaning::Hex } else { Meaning::Text })
    }
}

/// How the values of the command line are meant.
#[derive(Clone, Debug, Args)]
struct MeaningArgs {
    /// Values are integers, which transactions may add to
    #[arg(long, conflicts_with = "hex")]
    integer: bool,
    /// Values are bytes in hexadecimal digits
    #[arg(long)]
    hex: bool,
}

impl MeaningArgs {
    fn meaning(&self) -> Meaning {
        match (self.integer, self.hex) {
            (true, _) => Meaning::Integer,
            (false, true) => Meaning::Hex,
            (false, false) => Meaning::Text,
        }
    }
}

/// Arguments of `kv get`.
#[derive(Clone, Debug, Args)]
pub(super) struct GetArgs {
    #[command(flatten)]
    row: RowArgs,
    /// Print exactly the bytes of the value, without a line end
    #[arg(long, conflicts_with = "hex")]
    raw: bool,
    /// Print the value in hexadecimal digits
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    reading: ReadArgs,
}

/// Arguments of `kv put`.
#[derive(Clone, Debug, Args)]
pub(super) struct PutArgs {
    #[command(flatten)]
    row: RowArgs,
    /// The value
    #[arg(required_unless_present = "file", allow_negative_numbers = true)]
    value: Option<String>,
    /// The value is the content of this file
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    file: Option<PathBuf>,
    #[command(flatten)]
    meaning: MeaningArgs,
}

/// Arguments of `kv del`.
#[derive(Clone, Debug, Args)]
pub(super) struct DelArgs {
    #[command(flatten)]
    row: RowArgs,
}

/// Arguments of `kv cas`.
#[derive(Clone, Debug, Args)]
pub(super) struct CasArgs {
    #[command(flatten)]
    row: RowArgs,
    /// The new value
    #[arg(required_unless_present_any = ["file", "delete"], allow_negative_numbers = true)]
    value: Option<String>,
    /// The new value is the content of this file
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    file: Option<PathBuf>,
    /// Remove the row instead of writing a new value
    #[arg(long, conflicts_with_all = ["value", "file"])]
    delete: bool,
    /// The value the row must have
    #[arg(
        long,
        value_name = "VALUE",
        required_unless_present = "expect_absent",
        conflicts_with = "expect_absent",
        allow_negative_numbers = true
    )]
    expect: Option<String>,
    /// The row must not exist
    #[arg(long)]
    expect_absent: bool,
    #[command(flatten)]
    meaning: MeaningArgs,
}

/// Runs `quorate kv get`.
pub(super) async fn get(args: GetArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let key = args.row.key()?;
    let cluster = Cluster::open_near(global, args.reading.near()).await?;
    let uid = args.row.place.user(&cluster)?;
    let table = args.row.place.table.as_str();
    let value = args.reading.of(cluster.client()).get(table, uid, key.clone()).await;
    let value = value.map_err(|error| cluster::failure(&error))?;
    let mut document = Document::new("row").of_cluster(cluster.topology().cluster_id());
    if let Some(value) = &value {
        print_value(value, &args, out);
        document = document.item(values::row_json(table, uid, &key, Some(value)));
    }
    out.document(&document);
    if value.is_none() {
        let shown = values::show_bytes(&key);
        out.note(format_args!("table {table} has no row {shown:?} of UID {uid}"));
        return Err(Failure::quiet(Exit::NotFound));
    }
    Ok(())
}

/// Runs `quorate kv put`.
pub(super) async fn put(args: PutArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let key = args.row.key()?;
    let value = given(args.value.as_deref(), args.file.as_deref(), args.meaning.meaning())?;
    let cluster = Cluster::open(global).await?;
    let uid = args.row.place.user(&cluster)?;
    let table = args.row.place.table.as_str();
    let written = cluster.client().put(table, uid, key.clone(), value).await;
    finish(&cluster, "written", (table, uid, &key), written, out).await
}

/// Runs `quorate kv del`.
pub(super) async fn del(args: DelArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let key = args.row.key()?;
    let cluster = Cluster::open(global).await?;
    let uid = args.row.place.user(&cluster)?;
    let table = args.row.place.table.as_str();
    let written = cluster.client().delete(table, uid, key.clone()).await;
    finish(&cluster, "removed", (table, uid, &key), written, out).await
}

/// Runs `quorate kv cas`.
pub(super) async fn cas(args: CasArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let key = args.row.key()?;
    let meaning = args.meaning.meaning();
    let expected =
        args.expect.as_deref().map(|text| values::parse_value(text, meaning)).transpose()?;
    let new = if args.delete {
        None
    } else {
        Some(given(args.value.as_deref(), args.file.as_deref(), meaning)?)
    };
    let cluster = Cluster::open(global).await?;
    let uid = args.row.place.user(&cluster)?;
    let table = args.row.place.table.as_str();
    let client = cluster.client();
    let written = client.compare_and_set(table, uid, key.clone(), expected, new).await;
    finish(&cluster, "replaced", (table, uid, &key), written, out).await
}

/// Prints the value of a row for people.
fn print_value(value: &Value, args: &GetArgs, out: &Output) {
    if out.is_json() {
        return;
    }
    match value {
        Value::Integer(number) if args.raw => out.raw(number.to_string().as_bytes()),
        Value::Integer(number) => out.say(number),
        Value::Bytes(bytes) if args.raw => out.raw(bytes),
        Value::Bytes(bytes) if args.hex => out.say(values::to_hex(bytes)),
        Value::Bytes(bytes) => out.say(values::show_bytes(bytes)),
    }
}

/// The value given on the command line or in a file.
fn given(text: Option<&str>, file: Option<&Path>, meaning: Meaning) -> Result<Value, Failure> {
    match (text, file) {
        (_, Some(path)) => match meaning {
            Meaning::Text => values::checked(Value::Bytes(read_value(path)?.into())),
            Meaning::Hex | Meaning::Integer => {
                let bytes = read_value(path)?;
                let text = String::from_utf8(bytes).map_err(|_| {
                    let message = format!("{} is no text", path.display());
                    Failure::usage(message, "leave out --hex or --integer to write its bytes")
                })?;
                values::parse_value(text.trim(), meaning)
            }
        },
        (Some(text), None) => values::parse_value(text, meaning),
        (None, None) => Err(Failure::usage("a value is missing", "give a value or --file")),
    }
}

/// The content of a file, unless it is too large in any case.
fn read_value(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::file("read", path, &error);
    let size = fs::metadata(path).map_err(failed)?.len();
    let most = 2 * limits::VALUE_BYTES_MAX as u64 + 2; // Hexadecimal digits take two bytes each.
    if most < size {
        let message = format!("{} has {size} bytes", path.display());
        return Err(Failure::new(Code::ValueTooLarge, message));
    }
    fs::read(path).map_err(failed)
}

/// Says what became of a write and closes the session it used.
async fn finish(
    cluster: &Cluster,
    verb: &str,
    (table, uid, key): (&str, Uid, &Bytes),
    written: Result<Written, quorate_client::Error>,
    out: &Output,
) -> Result<(), Failure> {
    cluster.close().await;
    let written = written.map_err(|error| cluster::failure(&error))?;
    if !out.is_json() {
        let (group, slot) = (written.group, written.at.slot);
        out.say(format_args!("{verb}, durable on a majority of {group} at slot {slot}"));
    }
    let document = Document::new("write").of_cluster(cluster.topology().cluster_id());
    out.document(&document.item(json!({
        "table": table,
        "uid": uid.to_string(),
        "key": values::bytes_json(key),
        "done": verb,
        "at": written_json(&written),
    })));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_from_the_command_line_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        fs::write(&path, "12\n").unwrap();
        let bytes = |text: &'static [u8]| Value::Bytes(Bytes::from_static(text));
        assert_eq!(given(Some("12"), None, Meaning::Text), Ok(bytes(b"12")));
        assert_eq!(given(None, Some(&path), Meaning::Text), Ok(bytes(b"12\n")));
        assert_eq!(given(None, Some(&path), Meaning::Integer), Ok(Value::Integer(12)));
        assert_eq!(given(None, Some(&path), Meaning::Hex), Ok(bytes(b"\x12")));
        let missing = given(None, Some(Path::new("/nowhere/at/all")), Meaning::Text).unwrap_err();
        assert_eq!(missing.exit(), Exit::NotFound);
        fs::write(&path, vec![0; limits::VALUE_BYTES_MAX + 1]).unwrap();
        let large = given(None, Some(&path), Meaning::Text).unwrap_err();
        assert_eq!(large.error().unwrap().code, Code::ValueTooLarge);
    }
}
