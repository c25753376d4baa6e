//! Compares what the database holds with what clients were told, and settles what they were not.
//!
//! Called by `trial.rs` after a fault, while no load runs. The comparison itself is pure.

use std::collections::BTreeMap;
use std::ops::Range;

use futures::StreamExt;
use futures::stream;
use quorate_client::{Client, Error, Uid, Value};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use crate::ledger::{Book, Ledger, RowName, Said};
use crate::workload::{COUNTER_KEY, TABLE};

/// Scans and reads at once.
const CONCURRENCY: usize = 16;
/// Rows of a check that are also read one by one.
const SAMPLE: usize = 200;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Rows and counters compared.
    pub(crate) compared: u64,
    /// Acknowledged writes and adds that are not there.
    pub(crate) missing: u64,
    /// What contradicts what was said, one sentence each.
    pub(crate) wrong: Vec<String>,
}

/// Reads the rows of these users and the counters, compares, settles.
pub(crate) async fn verify(
    client: &Client,
    ledger: &Ledger,
    uids: Range<u64>,
    counters: impl Iterator<Item = u64>,
    random: &mut SmallRng,
) -> Result<Findings, Error> {
    let mut scans = stream::iter(uids.clone())
        .map(|uid| async move { (uid, client.scan(TABLE, Uid(uid)).collect_all().await) })
        .buffered(CONCURRENCY);
    let mut found = BTreeMap::new();
    while let Some((uid, rows)) = scans.next().await {
        for row in rows? {
            let key = String::from_utf8_lossy(&row.key).into_owned();
            found.insert((uid, key), text(&row.value));
        }
    }
    let mut sums = BTreeMap::new();
    for uid in counters {
        sums.insert(uid, client.get(TABLE, Uid(uid), COUNTER_KEY).await?);
    }
    let names: Vec<RowName> = expected_names(&ledger.book(), &uids);
    let sample: Vec<RowName> = names.choose_multiple(random, SAMPLE).cloned().collect();
    let mut reads = stream::iter(sample)
        .map(|(uid, key)| async move {
            let value = client.get(TABLE, Uid(uid), key.clone()).await;
            ((uid, key), value)
        })
        .buffered(CONCURRENCY);
    let mut sampled = Vec::new();
    while let Some((name, value)) = reads.next().await {
        sampled.push((name, value?.as_ref().map(text)));
    }

    let mut book = ledger.book();
    let mut findings = Findings::default();
    compare_rows(&mut book, &uids, &found, &mut findings);
    compare_counters(&mut book, &sums, &mut findings);
    for ((uid, key), value) in sampled {
        if value.as_ref() != found.get(&(uid, key.clone())) {
            findings.wrong.push(format!("row {uid}/{key}: a read and a scan differ"));
        }
    }
    findings.wrong.append(&mut book.contradictions);
    Ok(findings)
}

fn expected_names(book: &Book, uids: &Range<u64>) -> Vec<RowName> {
    let rows = book.rows.range((uids.start, String::new())..(uids.end, String::new()));
    rows.map(|(name, _)| name.clone()).collect()
}

/// Compares every row tried or found, and settles unknown ones: what is there stays; what is not may
/// still come, unless every node has died since.
fn compare_rows(
    book: &mut Book,
    uids: &Range<u64>,
    found: &BTreeMap<RowName, String>,
    findings: &mut Findings,
) {
    let kills = book.kills;
    let tried = book.rows.range_mut((uids.start, String::new())..(uids.end, String::new()));
    for ((uid, key), (value, said)) in tried {
        findings.compared += 1;
        let there = found.get(&(*uid, key.clone()));
        findings.missing += u64::from(*said == Said::Done && there.is_none());
        let wrong = match (*said, there) {
            (Said::Done, None) => Some("was acknowledged and is lost"),
            (Said::NotDone, Some(_)) => Some("was said not to be done and is there"),
            (_, Some(other)) if other != value => Some("has a value that nobody wrote to it"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            findings.wrong.push(format!("row {uid}/{key} {wrong}"));
        }
        if let Said::Unknown { kills: then } = *said {
            if there.is_some() {
                *said = Said::Done;
            } else if then < kills {
                *said = Said::NotDone;
            }
        }
    }
    for (uid, key) in found.keys() {
        if !book.rows.contains_key(&(*uid, key.clone())) {
            findings.wrong.push(format!("row {uid}/{key} is there and was never written"));
        }
    }
}

/// Compares every counter, and takes what it shows for certain from now on.
fn compare_counters(book: &mut Book, sums: &BTreeMap<u64, Option<Value>>, findings: &mut Findings) {
    let kills = book.kills;
    for (uid, value) in sums {
        findings.compared += 1;
        let sum = match value {
            None => 0,
            Some(Value::Integer(sum)) => *sum,
            Some(Value::Bytes(_)) => {
                findings.wrong.push(format!("counter {uid} holds bytes"));
                continue;
            }
        };
        let counter = book.counters.entry(*uid).or_default();
        let most = counter.certain + counter.possible.values().sum::<u64>();
        let seen = u64::try_from(sum).unwrap_or(0);
        if sum < 0 || seen < counter.certain {
            let certain = counter.certain;
            findings.missing += certain.saturating_sub(seen);
            findings
                .wrong
                .push(format!("counter {uid} is {sum}, {certain} adds were acknowledged"));
        } else if most < seen {
            findings.wrong.push(format!("counter {uid} is {sum}, at most {most} adds were made"));
        }
        counter.certain = seen;
        counter.possible.retain(|then, _| kills <= *then);
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Integer(number) => format!("integer {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Counter;

    fn name(key: &str) -> RowName {
        (7, key.to_owned())
    }

    /// What is found when `key` was tried with value `v` and this was said.
    fn check(said: Said, there: Option<&str>) -> (Vec<String>, Said) {
        let mut book = Book { kills: 1, ..Book::default() };
        book.rows.insert(name("k"), ("v".to_owned(), said));
        let found = there.map(|value| (name("k"), value.to_owned())).into_iter().collect();
        let mut findings = Findings::default();
        compare_rows(&mut book, &(7..8), &found, &mut findings);
        (findings.wrong, book.rows[&name("k")].1)
    }

    #[test]
    fn rows_are_held_to_what_was_said() {
        // Goal: a loss, a late effect and a wrong value are each found; unknown may be either.
        let before = Said::Unknown { kills: 0 };
        let after = Said::Unknown { kills: 1 };
        assert_eq!(check(Said::Done, Some("v")), (vec![], Said::Done));
        assert_eq!(check(Said::NotDone, None), (vec![], Said::NotDone));
        assert_eq!(check(before, Some("v")), (vec![], Said::Done));
        assert_eq!(check(before, None), (vec![], Said::NotDone));
        assert_eq!(check(after, None), (vec![], after));
        assert_eq!(check(after, Some("v")), (vec![], Said::Done));
        assert_eq!(check(Said::Done, None).0, ["row 7/k was acknowledged and is lost"]);
        assert_eq!(
            check(Said::NotDone, Some("v")).0,
            ["row 7/k was said not to be done and is there"]
        );
        assert_eq!(check(before, Some("w")).0, ["row 7/k has a value that nobody wrote to it"]);
    }

    #[test]
    fn a_row_that_nobody_wrote_is_found() {
        let mut findings = Findings::default();
        let found = [(name("k"), "v".to_owned())].into();
        compare_rows(&mut Book::default(), &(7..8), &found, &mut findings);
        assert_eq!(findings.wrong, ["row 7/k is there and was never written"]);
    }

    #[test]
    fn counters_lie_between_certain_and_possible() {
        // Goal: a lost add and a doubled add are found; an unknown one settles either way.
        let check = |sum: i64| {
            let counter = Counter { certain: 5, possible: [(0, 2), (1, 1)].into() };
            let mut book = Book { kills: 1, ..Book::default() };
            book.counters.insert(3, counter);
            let mut findings = Findings::default();
            compare_counters(&mut book, &[(3, Some(Value::Integer(sum)))].into(), &mut findings);
            (findings.wrong, book.counters.remove(&3).unwrap())
        };
        for sum in 5..=8 {
            let settled = Counter { certain: sum, possible: [(1, 1)].into() };
            assert_eq!(check(i64::try_from(sum).unwrap()), (vec![], settled));
        }
        assert_eq!(check(4).0, ["counter 3 is 4, 5 adds were acknowledged"]);
        assert_eq!(check(9).0, ["counter 3 is 9, at most 8 adds were made"]);
    }
}
