//! `quorate export`: a table as CSV, page by page, so that it never stands in memory as a whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use quorate_client::{Cut, CutTable, ScannedRow, TableScan};
use quorate_types::{Code, Value};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::json;

use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::{Exit, Failure};
use crate::output::{Document, Output};
use crate::signals::Interrupts;
use crate::values;

const EXPORT_HELP: &str = "\
Columns: uid, key, value, key_type and value_type (text, hex or integer). Each page is read
linearizably; the table as a whole is one moment with --at-cut only, which the nodes keep for 60 s.";

/// Writes a table to a CSV file.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXPORT_HELP)]
pub(crate) struct ExportArgs {
    /// The table
    #[arg(short, long)]
    table: String,
    /// The file to write, compressed if its name ends with .gz; stdout if left out
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "output")]
    overwrite: bool,
    /// Read the table as of one moment, the same in all units
    #[arg(long)]
    at_cut: bool,
    /// Restore the columns of an imported CSV file; rows come in order of slice, UID and key
    #[arg(long)]
    as_csv: bool,
    /// With --as-csv, the columns to write; those of the first row if left out
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',', requires = "as_csv")]
    columns: Vec<String>,
}

/// Runs `quorate export`.
pub(crate) async fn run(args: ExportArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    if out.is_json() && args.output.is_none() {
        return Err(Failure::usage(
            "an export is CSV, which stdout cannot hold beside a JSON document",
            "name a file with --output, or leave out -o json",
        ));
    }
    let cluster = Cluster::open(global).await?;
    let table = cluster.table(&args.table)?.name.clone();
    let target = Target::open(&args, out)?;
    let interrupts = Interrupts::listen()?;
    let mut shape = if args.as_csv {
        Shape::Columns { table: table.clone(), header: args.columns.clone() }
    } else {
        Shape::Rows
    };
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(target);
    let cut = match args.at_cut {
        true => Some(Box::pin(cluster.client().cut()).await.map_err(|e| cluster::failure(&e))?),
        false => None,
    };
    let mut pages = Pages::new(&cluster, cut.as_ref(), &table)?;
    let mut count: u64 = 0;
    loop {
        let page = Box::pin(pages.next()).await.map_err(|error| cluster::failure(&error))?;
        let Some(rows) = page else { break };
        for row in &rows {
            let is_first = count == 0;
            for record in shape.records(row, is_first)? {
                writer.write_record(&record).map_err(|error| unwritable(&args, &error.into()))?;
            }
            count += 1;
        }
        if interrupts.is_set() {
            return Err(Failure::quiet(Exit::Interrupted));
        }
        if out.is_broken() {
            break;
        }
    }
    if let Some(header) = shape.empty().filter(|_| count == 0) {
        writer.write_record(&header).map_err(|error| unwritable(&args, &error.into()))?;
    }
    writer
        .into_inner()
        .map_err(csv::IntoInnerError::into_error)
        .and_then(Target::finish)
        .map_err(|error| unwritable(&args, &error))?;
    if let Some(cut) = cut {
        cut.release().await;
    }
    report(&args, &table, count, &cluster, out);
    Ok(())
}

/// The pages of a table: each of its own moment, or all of one.
enum Pages<'a> {
    Each(TableScan),
    AtCut(CutTable<'a>),
}

impl<'a> Pages<'a> {
    fn new(cluster: &Cluster, cut: Option<&'a Cut>, table: &str) -> Result<Pages<'a>, Failure> {
        Ok(match cut {
            Some(cut) => {
                Pages::AtCut(cut.scan_table(table).map_err(|error| cluster::failure(&error))?)
            }
            None => Pages::Each(cluster.client().scan_table(table)),
        })
    }

    async fn next(&mut self) -> Result<Option<Vec<ScannedRow>>, quorate_client::Error> {
        match self {
            Pages::Each(scan) => scan.next_page().await,
            Pages::AtCut(scan) => scan.next_page().await,
        }
    }
}

fn report(args: &ExportArgs, table: &str, count: u64, cluster: &Cluster, out: &Output) {
    let Some(path) = &args.output else {
        if out.is_terminal() {
            out.note(format_args!("{count} rows"));
        }
        return;
    };
    let file = path.display().to_string();
    if !out.is_json() {
        out.say(format_args!("exported {count} rows of {table} to {file}"));
    }
    let document = Document::new("export").of_cluster(cluster.topology().cluster_id());
    out.document(&document.item(json!({
        "table": table,
        "file": file,
        "rows": count.to_string(),
    })));
}

fn unwritable(args: &ExportArgs, error: &io::Error) -> Failure {
    let path = args.output.as_deref().unwrap_or_else(|| Path::new("stdout"));
    Failure::file("write", path, error)
}

/// Where the CSV goes. A file appears under its name only once it is complete.
enum Target<'o> {
    Stdout(&'o Output),
    File(Partial, Sink),
}

enum Sink {
    Plain(io::BufWriter<File>),
    Gzip(GzEncoder<io::BufWriter<File>>),
}

/// A file that is removed unless it was completed.
struct Partial {
    path: PathBuf,
    partial: PathBuf,
    is_complete: bool,
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_complete {
            // An export that failed has said so already.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

impl<'o> Target<'o> {
    fn open(args: &ExportArgs, out: &'o Output) -> Result<Target<'o>, Failure> {
        let Some(path) = &args.output else { return Ok(Target::Stdout(out)) };
        if path.exists() && !args.overwrite {
            return Err(Failure::usage(
                format!("{} exists already", path.display()),
                "name another file, or replace it with --overwrite",
            ));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let file = File::create(&partial).map_err(|error| Failure::file("write", path, &error))?;
        let plain = io::BufWriter::with_capacity(1 << 20, file);
        let sink = if path.extension().is_some_and(|extension| extension == "gz") {
            Sink::Gzip(GzEncoder::new(plain, Compression::default()))
        } else {
            Sink::Plain(plain)
        };
        Ok(Target::File(Partial { path: path.clone(), partial, is_complete: false }, sink))
    }

    fn finish(self) -> io::Result<()> {
        let Target::File(mut partial, sink) = self else { return Ok(()) };
        let plain = match sink {
            Sink::Plain(plain) => plain,
            Sink::Gzip(encoder) => encoder.finish()?,
        };
        plain.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&partial.partial, &partial.path)?;
        partial.is_complete = true;
        Ok(())
    }
}

impl Write for Target<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::Stdout(out) => {
                out.raw(bytes);
                Ok(bytes.len())
            }
            Target::File(_, Sink::Plain(plain)) => plain.write(bytes),
            Target::File(_, Sink::Gzip(encoder)) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Target::Stdout(_) => Ok(()),
            Target::File(_, Sink::Plain(plain)) => plain.flush(),
            Target::File(_, Sink::Gzip(encoder)) => encoder.flush(),
        }
    }
}

/// What a row looks like in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// UID, key and value with their types.
    Rows,
    /// The columns of an imported file; an empty header is filled in from the first row.
    Columns { table: String, header: Vec<String> },
}

const ROWS_HEADER: [&str; 5] = ["uid", "key", "value", "key_type", "value_type"];

impl Shape {
    /// The records of a row, with the header in front of the first.
    fn records(&mut self, row: &ScannedRow, is_first: bool) -> Result<Vec<Vec<String>>, Failure> {
        let mut records = Vec::with_capacity(2);
        let record = match self {
            Shape::Rows => row_record(row),
            Shape::Columns { table, header } => {
                let object = columns_of(row).map_err(|reason| not_imported(table, row, &reason))?;
                if is_first && header.is_empty() {
                    *header = object.iter().map(|(name, _)| name.clone()).collect();
                }
                if let Some((name, _)) = object.iter().find(|(name, _)| !header.contains(name)) {
                    let reason = format!("it has a column {name:?} that the header lacks");
                    return Err(not_imported(table, row, &reason)
                        .with_fix("name every column to write with --columns a,b,c"));
                }
                let text_of = |name: &String| {
                    let found = object.iter().find(|(column, _)| column == name);
                    found.map(|(_, text)| text.clone()).unwrap_or_default()
                };
                header.iter().map(text_of).collect()
            }
        };
        if is_first {
            records.extend(self.empty());
        }
        records.push(record);
        Ok(records)
    }

    /// The header, if it is known.
    fn empty(&self) -> Option<Vec<String>> {
        match self {
            Shape::Rows => Some(ROWS_HEADER.map(str::to_owned).to_vec()),
            Shape::Columns { header, .. } => (!header.is_empty()).then(|| header.clone()),
        }
    }
}

fn row_record(row: &ScannedRow) -> Vec<String> {
    let bytes = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), "text"),
        Err(_) => (values::to_hex(bytes), "hex"),
    };
    let (key, key_type) = bytes(&row.key);
    let (value, value_type) = match &row.value {
        Value::Integer(number) => (number.to_string(), "integer"),
        Value::Bytes(value) => bytes(value),
    };
    vec![row.uid.to_string(), key, value, key_type.to_owned(), value_type.to_owned()]
}

fn not_imported(table: &str, row: &ScannedRow, reason: &str) -> Failure {
    let key = values::show_bytes(&row.key);
    let message =
        format!("row {key:?} of UID {} in {table} is no row of an import: {reason}", row.uid);
    Failure::new(Code::InvalidRequest, message)
        .with_exit(Exit::Failed)
        .with_fix("leave out --as-csv to export keys and values as they are")
}

/// The columns of an imported row in their order.
fn columns_of(row: &ScannedRow) -> Result<Vec<(String, String)>, String> {
    let Value::Bytes(bytes) = &row.value else {
        return Err("its value is an integer".to_owned());
    };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let columns = reader.deserialize_map(Columns).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(columns)
}

struct Columns;

impl<'de> Visitor<'de> for Columns {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut columns = Vec::new();
        while let Some(column) = map.next_entry()? {
            columns.push(column);
        }
        Ok(columns)
    }
}

#[cfg(test)]
#[path = "export_test.rs"]
mod tests;
