//! The proof at the end: everything acknowledged is read back and compared. The comparisons are pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_client::{Client, ScannedRow, Uid, Value};
use serde::Serialize;

use super::dataset::{Dataset, Tally, Totals};
use super::load::{COUNT_KEY, Promised, sequence_of};
use crate::exit::Failure;

/// How long one page of a scan is asked for again.
const PATIENCE: Duration = Duration::from_secs(20);
/// Differences kept to be shown.
const EXAMPLES_MAX: usize = 5;

/// Reads a whole table.
///
/// # Errors
/// If a page cannot be read for [`PATIENCE`].
pub(super) async fn read_table(client: &Client, table: &str) -> Result<Vec<ScannedRow>, Failure> {
    let mut scan = client.scan_table(table);
    let mut rows = Vec::new();
    let mut answered = Instant::now();
    loop {
        match Box::pin(scan.next_page()).await {
            Ok(Some(page)) => {
                rows.extend(page);
                answered = Instant::now();
            }
            Ok(None) => return Ok(rows),
            Err(error) if PATIENCE <= answered.elapsed() => {
                return Err(crate::cluster::failure(&error));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// What became of acknowledged writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// Writes that were acknowledged.
    pub(super) acknowledged: u64,
    /// Of these, writes that are not there, or not as they were written.
    pub(super) acknowledged_missing: u64,
    /// Writes that are there more than once.
    pub(super) acknowledged_duplicated: u64,
    /// Writes whose outcome the client did not know.
    pub(super) unknown: u64,
    /// Of these, writes that took effect.
    pub(super) unknown_applied: u64,
    /// Writes that are there though the client said that they had no effect, or that nobody made.
    pub(super) unexpected: u64,
    /// The first differences, in words.
    pub(super) differences: Vec<String>,
}

impl Verdict {
    /// Both verdicts together.
    pub(super) fn and(mut self, other: &Verdict) -> Verdict {
        self.acknowledged += other.acknowledged;
        self.acknowledged_missing += other.acknowledged_missing;
        self.acknowledged_duplicated += other.acknowledged_duplicated;
        self.unknown += other.unknown;
        self.unknown_applied += other.unknown_applied;
        self.unexpected += other.unexpected;
        for difference in &other.differences {
            self.note(|| difference.clone());
        }
        self
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.differences.len() < EXAMPLES_MAX {
            self.differences.push(text());
        }
    }
}

/// Compares the rows of table `purchases` with what was imported. All of it was acknowledged.
pub(super) fn compare_purchases(dataset: &Dataset, rows: &[ScannedRow]) -> (Verdict, Totals) {
    let mut tally = Tally::default();
    let mut verdict =
        Verdict { acknowledged: dataset.purchases.len() as u64, ..Verdict::default() };
    let mut found: BTreeMap<(Uid, &Bytes), (&Value, u64)> = BTreeMap::new();
    for row in rows {
        let is_purchase = match &row.value {
            Value::Bytes(bytes) => tally.add_value(row.uid, bytes),
            Value::Integer(_) => tally.add_value(row.uid, b""),
        };
        if !is_purchase {
            verdict.note(|| format!("purchase {:?} of UID {} is no purchase", row.key, row.uid));
        }
        found.entry((row.uid, &row.key)).or_insert((&row.value, 0)).1 += 1;
    }
    for purchase in &dataset.purchases {
        let (uid, key) = (purchase.uid, &purchase.key);
        match found.remove(&(uid, key)) {
            Some((Value::Bytes(value), count)) if *value == purchase.value => {
                if 1 < count {
                    verdict.acknowledged_duplicated += count - 1;
                    verdict
                        .note(|| format!("purchase {key:?} of UID {uid} is there {count} times"));
                }
            }
            Some(_) => {
                verdict.acknowledged_missing += 1;
                verdict.note(|| format!("purchase {key:?} of UID {uid} has another value"));
            }
            None => {
                verdict.acknowledged_missing += 1;
                verdict.note(|| format!("purchase {key:?} of UID {uid} is missing"));
            }
        }
    }
    for (uid, key) in found.into_keys() {
        verdict.unexpected += 1;
        verdict.note(|| format!("purchase {key:?} of UID {uid} was never made"));
    }
    (verdict, tally.totals())
}

/// Rows of the GZone's load as if each worker were a customer: its number stands before the keys.
pub(super) fn rows_of_workers(rows: Vec<ScannedRow>) -> Vec<ScannedRow> {
    let of_worker = |row: ScannedRow| {
        let slash = row.key.iter().position(|byte| *byte == b'/');
        let number = |at: usize| std::str::from_utf8(&row.key[..at]).ok()?.parse().ok();
        match slash.and_then(|at| Some((at, number(at)?))) {
            Some((at, worker)) => {
                ScannedRow { uid: Uid(worker), key: row.key.slice(at + 1..), ..row }
            }
            None => ScannedRow { uid: Uid(u64::MAX), ..row },
        }
    };
    rows.into_iter().map(of_worker).collect()
}

/// The rows of one customer in table `load`.
#[derive(Clone, Debug, Default)]
struct Found {
    count: i64,
    /// How often each row is there.
    rows: BTreeMap<u64, u64>,
    /// Rows that no worker writes.
    strange: u64,
}

/// Compares the rows of table `load` with what its workers were promised. A transaction writes one
/// row and adds 1 to the count, so the count must be the number of rows.
pub(super) fn compare_load(promised: &BTreeMap<Uid, Promised>, rows: &[ScannedRow]) -> Verdict {
    let mut found: BTreeMap<Uid, Found> = BTreeMap::new();
    for row in rows {
        let customer = found.entry(row.uid).or_default();
        match (&row.value, sequence_of(&row.key)) {
            (Value::Integer(count), None) if row.key == COUNT_KEY => customer.count += count,
            (Value::Bytes(value), Some(sequence)) if *value == sequence.to_string() => {
                *customer.rows.entry(sequence).or_default() += 1;
            }
            _ => customer.strange += 1,
        }
    }
    let mut verdict = Verdict::default();
    for (uid, promised) in promised {
        let found = found.remove(uid).unwrap_or_default();
        compare_customer(*uid, promised, &found, &mut verdict);
    }
    for (uid, found) in found {
        verdict.unexpected += found.rows.len() as u64 + found.strange;
        verdict.note(|| format!("UID {uid} has rows that nobody wrote"));
    }
    verdict
}

fn compare_customer(uid: Uid, promised: &Promised, found: &Found, verdict: &mut Verdict) {
    let has = |sequence: &&u64| found.rows.contains_key(sequence);
    verdict.acknowledged += promised.acknowledged.len() as u64;
    verdict.unknown += promised.unknown.len() as u64;
    verdict.unknown_applied += promised.unknown.iter().filter(has).count() as u64;
    for sequence in promised.acknowledged.iter().filter(|sequence| !has(sequence)) {
        verdict.acknowledged_missing += 1;
        verdict.note(|| format!("UID {uid}: acknowledged write {sequence} is missing"));
    }
    let is_expected = |sequence: &u64| {
        promised.acknowledged.contains(sequence) || promised.unknown.contains(sequence)
    };
    for (sequence, times) in &found.rows {
        if 1 < *times {
            verdict.acknowledged_duplicated += times - 1;
            verdict.note(|| format!("UID {uid}: write {sequence} is there {times} times"));
        }
        if !is_expected(sequence) {
            let refused = promised.refused.contains(sequence);
            let why = if refused { "was said to have had no effect" } else { "was never made" };
            verdict.unexpected += 1;
            verdict.note(|| format!("UID {uid}: write {sequence} is there and {why}"));
        }
    }
    if 0 < found.strange {
        verdict.unexpected += found.strange;
        verdict.note(|| format!("UID {uid}: {} rows that no worker writes", found.strange));
    }
    let rows = i64::try_from(found.rows.len()).unwrap_or(i64::MAX);
    if rows != found.count {
        let difference = found.count.abs_diff(rows);
        verdict.note(|| format!("UID {uid}: its count is {}, its rows are {rows}", found.count));
        if rows < found.count {
            verdict.acknowledged_duplicated += difference;
        } else {
            verdict.acknowledged_missing += difference;
        }
    }
}

#[cfg(test)]
#[path = "verify_test.rs"]
mod tests;
