//! The purchases the demo imports: the file in the binary or one of the user's, as rows, and what a
//! correct copy of it must add up to.
//!
//! Keys and values are those of `quorate import`: the line of the file is the key, a JSON object of
//! the columns is the value, so that importing the same file by hand writes the same rows.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use quorate_types::{Code, Uid};
use serde::{Deserialize, Serialize, Serializer};

use crate::exit::Failure;

/// The CDNOW purchase histories; `data/README.md` says where they come from.
const EMBEDDED: &[u8] = include_bytes!("../../../../data/cdnow.csv.gz");
/// The first bytes of a gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The columns a purchase must have.
const COLUMNS: [&str; 3] = ["uid", "quantity", "amount_cents"];

/// One row to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Purchase {
    /// The customer.
    pub(super) uid: Uid,
    /// The line of the file.
    pub(super) key: Bytes,
    /// A JSON object of the columns.
    pub(super) value: Bytes,
}

/// What purchases add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Totals {
    /// Rows.
    pub(super) rows: u64,
    /// Distinct customers.
    pub(super) uids: u64,
    /// Pieces bought.
    pub(super) quantity: i64,
    /// Money paid, in cents.
    pub(super) amount_cents: i64,
}

/// Adds purchases up.
#[derive(Debug, Default)]
pub(super) struct Tally {
    uids: BTreeSet<Uid>,
    totals: Totals,
}

impl Tally {
    /// Adds one purchase.
    pub(super) fn add(&mut self, uid: Uid, quantity: i64, amount_cents: i64) {
        self.uids.insert(uid);
        self.totals.rows += 1;
        self.totals.quantity = self.totals.quantity.saturating_add(quantity);
        self.totals.amount_cents = self.totals.amount_cents.saturating_add(amount_cents);
    }

    /// Adds a row as it stands in the database; false if its value is no purchase.
    pub(super) fn add_value(&mut self, uid: Uid, value: &[u8]) -> bool {
        let parsed = serde_json::from_slice::<StoredPurchase<'_>>(value).ok();
        let numbers = parsed.and_then(|stored| {
            Some((stored.quantity.parse().ok()?, stored.amount_cents.parse().ok()?))
        });
        match numbers {
            Some((quantity, amount_cents)) => {
                self.add(uid, quantity, amount_cents);
                true
            }
            None => {
                self.uids.insert(uid);
                self.totals.rows += 1;
                false
            }
        }
    }

    /// The sums so far.
    pub(super) fn totals(&self) -> Totals {
        Totals { uids: self.uids.len() as u64, ..self.totals }
    }
}

/// The columns of a value that are added up.
#[derive(Deserialize)]
struct StoredPurchase<'a> {
    quantity: &'a str,
    amount_cents: &'a str,
}

/// The purchases.
#[derive(Debug)]
pub(super) struct Dataset {
    /// In the order of the file.
    pub(super) purchases: Vec<Purchase>,
    /// Computed from the columns of the file.
    pub(super) totals: Totals,
}

impl Dataset {
    /// Reads the file, or the embedded purchases if none is named.
    ///
    /// # Errors
    /// If the file cannot be read or holds something that is no purchase.
    pub(super) fn load(file: Option<&Path>) -> Result<Dataset, Failure> {
        let Some(path) = file else { return parse(EMBEDDED, "the embedded data") };
        let opened = File::open(path).map_err(|error| Failure::file("read", path, &error))?;
        parse(opened, &path.display().to_string())
    }

    /// The distinct customers, in ascending order.
    pub(super) fn uids(&self) -> Vec<Uid> {
        let uids: BTreeSet<Uid> = self.purchases.iter().map(|purchase| purchase.uid).collect();
        uids.into_iter().collect()
    }
}

fn parse(mut file: impl Read, name: &str) -> Result<Dataset, Failure> {
    let bad = |reason: String| {
        Failure::new(Code::InvalidRequest, format!("{name}: {reason}")).with_fix(
            "name a CSV file, plain or compressed with gzip, with the columns uid, quantity and \
             amount_cents",
        )
    };
    let mut head = Vec::with_capacity(GZIP_MAGIC.len());
    let read = (&mut file).take(GZIP_MAGIC.len() as u64).read_to_end(&mut head);
    read.map_err(|error| bad(format!("cannot be read: {error}")))?;
    let is_gzip = head == GZIP_MAGIC;
    let whole = io::Cursor::new(head).chain(file);
    let plain: Box<dyn Read + '_> =
        if is_gzip { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };

    let mut reader = csv::Reader::from_reader(plain);
    let header = reader.headers().map_err(|error| bad(error.to_string()))?.clone();
    let find = |column: &str| {
        let at = header.iter().position(|name| name == column);
        at.ok_or_else(|| bad(format!("has no column {column:?}")))
    };
    let [uid_at, quantity_at, amount_at] =
        [find(COLUMNS[0])?, find(COLUMNS[1])?, find(COLUMNS[2])?];
    let mut purchases = Vec::new();
    let mut tally = Tally::default();
    for record in reader.records() {
        let record = record.map_err(|error| bad(error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let number = |at: usize| {
            let field = record.get(at).unwrap_or_default();
            let parsed: Result<i64, _> = field.parse();
            parsed.map_err(|_| bad(format!("line {line}: {field:?} is no whole number")))
        };
        let uid = crate::args::uid(record.get(uid_at).unwrap_or_default())
            .map_err(|reason| bad(format!("line {line}: {reason}")))?;
        tally.add(uid, number(quantity_at)?, number(amount_at)?);
        let value =
            object(&header, &record).map_err(|error| bad(format!("line {line}: {error}")))?;
        purchases.push(Purchase { uid, key: Bytes::from(format!("line-{line:010}")), value });
    }
    if purchases.is_empty() {
        return Err(bad("has no rows".to_owned()));
    }
    Ok(Dataset { purchases, totals: tally.totals() })
}

fn object(header: &csv::StringRecord, record: &csv::StringRecord) -> serde_json::Result<Bytes> {
    let mut json = Vec::with_capacity(96);
    serde_json::Serializer::new(&mut json).collect_map(header.iter().zip(record))?;
    Ok(Bytes::from(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_data_is_the_published_data() {
        // Goal: what the demo compares with is what data/README.md promises.
        let dataset = Dataset::load(None).unwrap();
        let published =
            Totals { rows: 69_659, uids: 23_570, quantity: 167_881, amount_cents: 250_031_563 };
        assert_eq!(dataset.totals, published);
        assert_eq!(dataset.uids().len() as u64, published.uids);
        let keys: BTreeSet<&Bytes> = dataset.purchases.iter().map(|row| &row.key).collect();
        assert_eq!(keys.len() as u64, published.rows);

        let mut found = Tally::default();
        assert!(dataset.purchases.iter().all(|row| found.add_value(row.uid, &row.value)));
        assert_eq!(found.totals(), published, "values add up to the same as columns");
    }

    #[test]
    fn rows_look_like_those_of_the_import_command() {
        let text = "uid,date,quantity,amount_cents\n7,1997-01-01,2,-300\n";
        let dataset = parse(text.as_bytes(), "a.csv").unwrap();
        let row = Purchase {
            uid: Uid(7),
            key: Bytes::from_static(b"line-0000000002"),
            value: Bytes::from_static(
                br#"{"uid":"7","date":"1997-01-01","quantity":"2","amount_cents":"-300"}"#,
            ),
        };
        assert_eq!(dataset.purchases, [row]);
    }

    #[test]
    fn a_file_without_purchases_is_refused_by_line() {
        let error = |text: &str| parse(text.as_bytes(), "a.csv").unwrap_err().to_string();
        assert!(error("uid,quantity\n1,2\n").contains("a.csv: has no column \"amount_cents\""));
        assert!(error("uid,quantity,amount_cents\n1,x,2\n").contains("line 2: \"x\" is no whole"));
        assert!(error("uid,quantity,amount_cents\n-1,1,2\n").contains("line 2: \"-1\" is no UID"));
        assert!(error("uid,quantity,amount_cents\n").contains("has no rows"));
        assert!(!Tally::default().add_value(Uid(1), b"text"));
    }
}
