//! Planted losses and duplicates must be found.

use quorate_client::ScannedRow;

use super::*;
use crate::demo::dataset::Purchase;
use crate::demo::load::row_key;

fn row(uid: u64, key: &str, value: impl Into<Value>) -> ScannedRow {
    ScannedRow { uid: Uid(uid), key: Bytes::copy_from_slice(key.as_bytes()), value: value.into() }
}

fn written(uid: u64, sequence: u64) -> ScannedRow {
    row(uid, &row_key(sequence), Value::Bytes(sequence.to_string().into()))
}

fn promised() -> BTreeMap<Uid, Promised> {
    let seven =
        Promised { acknowledged: [1, 3, 5].into(), unknown: [7, 9].into(), refused: [11].into() };
    let eight = Promised { acknowledged: [2].into(), ..Promised::default() };
    [(Uid(7), seven), (Uid(8), eight)].into()
}

/// What must be there; of the unknown writes one took effect.
fn good() -> Vec<ScannedRow> {
    vec![
        row(7, COUNT_KEY, Value::Integer(4)),
        written(7, 1),
        written(7, 3),
        written(7, 5),
        written(7, 9),
        row(8, COUNT_KEY, Value::Integer(1)),
        written(8, 2),
    ]
}

/// Missing, duplicated and unexpected.
fn found_in(rows: &[ScannedRow]) -> (u64, u64, u64) {
    let verdict = compare_load(&promised(), rows);
    let found = (verdict.acknowledged_missing, verdict.acknowledged_duplicated, verdict.unexpected);
    assert_eq!(found == (0, 0, 0), verdict.differences.is_empty(), "{verdict:?}");
    found
}

#[test]
fn what_was_promised_is_found() {
    let verdict = compare_load(&promised(), &good());
    let want = Verdict { acknowledged: 4, unknown: 2, unknown_applied: 1, ..Verdict::default() };
    assert_eq!(verdict, want);
}

#[test]
fn planted_losses_and_duplicates_are_found() {
    // Goal: no way in which a row, a count or both go wrong is taken for right.
    type Change = fn(&mut Vec<ScannedRow>);
    let cases: [(&str, Change, (u64, u64, u64)); 9] = [
        (
            "row and count lost",
            |rows| {
                rows.remove(2);
                rows[0].value = Value::Integer(3);
            },
            (1, 0, 0),
        ),
        (
            "only the row lost",
            |rows| {
                rows.remove(2);
            },
            (1, 1, 0),
        ),
        ("a customer lost", |rows| rows.truncate(5), (1, 0, 0)),
        ("an add applied twice", |rows| rows[0].value = Value::Integer(5), (0, 1, 0)),
        ("an add lost", |rows| rows[5].value = Value::Integer(0), (1, 0, 0)),
        ("a row twice", |rows| rows.push(written(8, 2)), (0, 1, 0)),
        (
            "a refused write there",
            |rows| {
                rows.push(written(7, 11));
                rows[0].value = Value::Integer(5);
            },
            (0, 0, 1),
        ),
        (
            "another's row",
            |rows| {
                rows.push(written(9, 2));
            },
            (0, 0, 1),
        ),
        ("another value", |rows| rows[1].value = Value::Integer(1), (1, 1, 1)),
    ];
    for (what, change, want) in cases {
        let mut rows = good();
        change(&mut rows);
        assert_eq!(found_in(&rows), want, "{what}");
    }
}

#[test]
fn purchases_are_compared_row_by_row() {
    // Goal: a row that is replaced by a copy of another is found even where sums agree.
    let value = |cents: u64| Bytes::from(format!(r#"{{"quantity":"2","amount_cents":"{cents}"}}"#));
    let purchase = |uid: u64, line: u64, cents: u64| Purchase {
        uid: Uid(uid),
        key: Bytes::from(format!("line-{line:010}")),
        value: value(cents),
    };
    let purchases = vec![purchase(1, 2, 300), purchase(1, 3, 400), purchase(2, 4, 500)];
    let totals = Totals { rows: 3, uids: 2, quantity: 6, amount_cents: 1_200 };
    let dataset = Dataset { purchases, totals };
    let as_row = |purchase: &Purchase| ScannedRow {
        uid: purchase.uid,
        key: purchase.key.clone(),
        value: Value::Bytes(purchase.value.clone()),
    };
    let good: Vec<ScannedRow> = dataset.purchases.iter().map(as_row).collect();
    let want = Verdict { acknowledged: 3, ..Verdict::default() };
    assert_eq!(compare_purchases(&dataset, &good), (want, totals));

    let of = |rows: &[ScannedRow]| {
        let (verdict, totals) = compare_purchases(&dataset, rows);
        let Verdict { acknowledged_missing, acknowledged_duplicated, unexpected, .. } = verdict;
        (acknowledged_missing, acknowledged_duplicated, unexpected, totals == dataset.totals)
    };
    assert_eq!(of(&good[1..]), (1, 0, 0, false));
    assert_eq!(of(&[&good[..], &good[..1]].concat()), (0, 1, 0, false));
    let mut moved = good.clone();
    moved[0].key = Bytes::from_static(b"line-0000000009");
    assert_eq!(of(&moved), (1, 0, 1, true));
    let mut swapped = good;
    swapped[0].value = Value::Bytes(value(400));
    swapped[1].value = Value::Bytes(value(300));
    assert_eq!(of(&swapped), (2, 0, 0, true));
}

#[test]
fn rows_of_the_gzone_are_those_of_the_worker_before_the_slash() {
    // Goal: a lost write of the GZone is found like any other, and a row of nobody is one too many.
    let rows = vec![
        row(0, "7/count", Value::Integer(1)),
        row(0, "7/w-00000002", Value::Bytes("2".into())),
    ];
    let of_seven = Promised { acknowledged: [2].into(), ..Promised::default() };
    let promised: BTreeMap<Uid, Promised> = [(Uid(7), of_seven)].into();
    let verdict = compare_load(&promised, &rows_of_workers(rows.clone()));
    assert_eq!(verdict, Verdict { acknowledged: 1, ..Verdict::default() });
    let lost = compare_load(&promised, &rows_of_workers(Vec::new()));
    assert_eq!(lost.acknowledged_missing, 1);
    let strange = [rows, vec![row(0, "x", Value::Integer(1))]].concat();
    assert_eq!(compare_load(&promised, &rows_of_workers(strange)).unexpected, 1);
}
