//! From the text of a CSV file to rows of the database, one record at a time. Pure: a reader in, rows
//! and mistakes out.
//!
//! A row is keyed by its line, so that importing the same file again writes the same rows; with a key
//! column by that column, and then no two rows of the file may have the same UID and key, because
//! rows are written concurrently. The value is a JSON object of the columns in the order of the file.

use std::collections::HashMap;
use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use quorate_types::{Code, Error, Uid, limits};
use serde::Serializer;

use crate::args;
use crate::exit::Failure;
use crate::values;

/// The first bytes of a gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Which columns become what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// The column with the UID; `None` for tables whose rows belong to no user.
    pub(crate) uid_column: Option<String>,
    /// The column with the key; `None`: the line is the key.
    pub(crate) key_column: Option<String>,
    /// What stands in front of the line in a key that is a line.
    pub(crate) key_prefix: String,
    /// The columns of the value; empty: all.
    pub(crate) columns: Vec<String>,
}

/// One row to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its place among the records of the file, from 1; bad ones count.
    pub(crate) record: u64,
    /// The line it starts on, from 1.
    pub(crate) line: u64,
    /// The user.
    pub(crate) uid: Uid,
    /// The key.
    pub(crate) key: Bytes,
    /// The value.
    pub(crate) value: Bytes,
}

/// A record that is no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadRow {
    /// Its place among the records of the file, from 1.
    pub(crate) record: u64,
    /// The line it starts on, from 1.
    pub(crate) line: u64,
    /// What is wrong with it.
    pub(crate) error: Error,
}

/// The key of a line. Zero-padded, so that rows sort in the order of the file.
pub(crate) fn line_key(prefix: &str, line: u64) -> String {
    format!("{prefix}{line:010}")
}

/// Plain bytes of a file that may be compressed; its content decides, not its name.
///
/// # Errors
/// If the first bytes cannot be read.
pub(crate) fn decompressed<'a>(
    mut file: impl Read + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut head = Vec::with_capacity(2);
    (&mut file).take(2).read_to_end(&mut head)?;
    let is_gzip = head == GZIP_MAGIC;
    let whole = io::Cursor::new(head).chain(file);
    Ok(if is_gzip { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}

/// Reads rows off a CSV file with a header.
pub(crate) struct Rows<R> {
    reader: csv::Reader<io::Chain<R, &'static [u8]>>,
    record: csv::ByteRecord,
    header: Vec<String>,
    uid_at: Option<usize>,
    key_at: Option<usize>,
    key_prefix: String,
    /// The places of the columns of the value.
    value_at: Vec<usize>,
    count: u64,
    /// The line of each UID and key so far, where keys come from a column.
    seen: HashMap<(Uid, Bytes), u64>,
}

impl<R: Read> Rows<R> {
    /// Reads the header and finds the columns.
    ///
    /// # Errors
    /// If the header cannot be read, names a column twice, or lacks one that is asked for.
    pub(crate) fn new(reader: R, mapping: &Mapping) -> Result<Rows<R>, Failure> {
        // Every record ends with a line feed, the last one too, so that lines can be counted from
        // the ends of records; a carriage return before it is removed in `fields`. Records of other
        // lengths are looked at one by one, so that each is reported with its line.
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .terminator(csv::Terminator::Any(b'\n'))
            .from_reader(reader.chain(&b"\n"[..]));
        let header = reader.byte_headers().map_err(|error| unreadable(&error))?.clone();
        let header = header_names(&header)?;
        let find = |column: &String| find_column(&header, column);
        let uid_at = mapping.uid_column.as_ref().map(find).transpose()?;
        let key_at = mapping.key_column.as_ref().map(find).transpose()?;
        let value_at = if mapping.columns.is_empty() {
            (0..header.len()).collect()
        } else {
            mapping.columns.iter().map(find).collect::<Result<Vec<usize>, Failure>>()?
        };
        let record = csv::ByteRecord::new();
        let seen = HashMap::new();
        let key_prefix = mapping.key_prefix.clone();
        Ok(Rows { reader, record, header, uid_at, key_at, key_prefix, value_at, count: 0, seen })
    }

    /// The next row, or what is wrong with the next record; `None` at the end of the file.
    ///
    /// # Errors
    /// If the file cannot be read any further.
    pub(crate) fn next(&mut self) -> Result<Option<Result<Row, BadRow>>, Failure> {
        loop {
            let read = self.reader.read_byte_record(&mut self.record);
            if !read.map_err(|error| unreadable(&error))? {
                return Ok(None);
            }
            if self.record.as_slice() != b"\r" {
                break; // Else an empty line of a file with carriage returns.
            }
        }
        self.count += 1;
        let feeds = |field: &[u8]| field.iter().filter(|byte| **byte == b'\n').count() as u64;
        let feeds_inside: u64 = self.record.iter().map(feeds).sum();
        let line = self.reader.position().line().saturating_sub(1 + feeds_inside);
        let record = self.count;
        let row = self.row(record, line).map_err(|error| BadRow { record, line, error });
        Ok(Some(row))
    }

    fn row(&mut self, record: u64, line: u64) -> Result<Row, Error> {
        let fields = self.fields()?;
        let uid = match self.uid_at {
            None => Uid(0),
            Some(at) => args::uid(fields[at]).map_err(|reason| {
                invalid(format!("column {:?}: {reason}", self.header[at]))
                    .with("column", &self.header[at])
            })?,
        };
        let key = match self.key_at {
            None => Bytes::from(line_key(&self.key_prefix, line)),
            Some(at) => Bytes::copy_from_slice(fields[at].as_bytes()),
        };
        let value = self.object(&fields)?;
        let key = values::checked_key(key).map_err(as_error)?;
        if limits::VALUE_BYTES_MAX < value.len() {
            let (size, most) = (value.len(), limits::VALUE_BYTES_MAX);
            let message = format!("the row has {size} bytes as JSON, {most} are allowed");
            return Err(Error::new(Code::ValueTooLarge, message));
        }
        if self.key_at.is_some() {
            if let Some(first) = self.seen.get(&(uid, key.clone())) {
                let shown = values::show_bytes(&key);
                return Err(invalid(format!(
                    "UID {uid} and key {shown:?} are those of line {first}; a key column tells the \
                     rows of a user apart"
                )));
            }
            self.seen.insert((uid, key.clone()), line);
        }
        Ok(Row { record, line, uid, key, value })
    }

    /// The fields as text, as many as the header has.
    fn fields(&self) -> Result<Vec<&str>, Error> {
        let (found, want) = (self.record.len(), self.header.len());
        if found != want {
            return Err(invalid(format!("the row has {found} columns, the header has {want}")));
        }
        let mut fields = Vec::with_capacity(want);
        for (at, (field, column)) in self.record.iter().zip(&self.header).enumerate() {
            let field = if at + 1 == want { without_return(field) } else { field };
            let text = std::str::from_utf8(field).map_err(|_| {
                invalid(format!(
                    "column {column:?} is no UTF-8 text; convert the file to UTF-8 first"
                ))
            })?;
            fields.push(text);
        }
        Ok(fields)
    }

    fn object(&self, fields: &[&str]) -> Result<Bytes, Error> {
        let mut json = Vec::with_capacity(256);
        let pairs = self.value_at.iter().map(|at| (&self.header[*at], fields[*at]));
        serde_json::Serializer::new(&mut json)
            .collect_map(pairs)
            .map_err(|error| Error::new(Code::Internal, format!("cannot write JSON: {error}")))?;
        Ok(Bytes::from(json))
    }
}

/// The last field of a line without the carriage return that belongs to the end of the line.
fn without_return(field: &[u8]) -> &[u8] {
    field.strip_suffix(b"\r").unwrap_or(field)
}

fn header_names(header: &csv::ByteRecord) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = Vec::with_capacity(header.len());
    for (at, field) in header.iter().enumerate() {
        let field = if at + 1 == header.len() { without_return(field) } else { field };
        let name = std::str::from_utf8(field).map_err(|_| {
            Failure::usage("the header is no UTF-8 text", "convert the file to UTF-8")
        })?;
        // Spreadsheets put a mark in front of the first name.
        let name = if at == 0 { name.trim_start_matches('\u{feff}') } else { name };
        if names.iter().any(|other| other == name) {
            return Err(Failure::usage(
                format!("the header names column {name:?} twice"),
                "give each column its own name",
            ));
        }
        names.push(name.to_owned());
    }
    if names.iter().all(String::is_empty) {
        return Err(Failure::usage(
            "the file has no header",
            "put the names of the columns into its first line",
        ));
    }
    Ok(names)
}

fn find_column(header: &[String], column: &String) -> Result<usize, Failure> {
    header.iter().position(|name| name == column).ok_or_else(|| {
        let known = header.iter().map(String::as_str);
        Failure::usage(
            format!("the file has no column {column:?}; {}", args::did_you_mean(column, known)),
            "use a name of the first line of the file",
        )
    })
}

fn invalid(message: String) -> Error {
    Error::new(Code::InvalidRequest, message)
}

/// The error of a check that is shared with the command line.
fn as_error(failure: Failure) -> Error {
    let unsaid = || Error::new(Code::Internal, "a check failed without a reason");
    failure.error().cloned().unwrap_or_else(unsaid)
}

fn unreadable(error: &csv::Error) -> Failure {
    let at = error.position().map(|at| format!(" at line {}", at.line())).unwrap_or_default();
    Failure::new(Code::DiskFailed, format!("cannot read the file{at}: {error}"))
        .with_fix("check that the file is complete and is CSV, plain or compressed with gzip")
}

#[cfg(test)]
#[path = "rows_test.rs"]
mod tests;
