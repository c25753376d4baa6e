//! Rows in, records of a CSV file out.

use bytes::Bytes;
use quorate_types::Uid;

use super::*;

fn row(uid: u64, key: &'static [u8], value: Value) -> ScannedRow {
    ScannedRow { uid: Uid(uid), key: Bytes::from_static(key), value }
}

fn text(text: &'static str) -> Value {
    Value::Bytes(Bytes::from_static(text.as_bytes()))
}

fn columns(header: &[&str]) -> Shape {
    let header = header.iter().map(|name| (*name).to_owned()).collect();
    Shape::Columns { table: "load".to_owned(), header }
}

#[test]
fn rows_keep_the_types_of_key_and_value() {
    let mut shape = Shape::Rows;
    assert_eq!(
        shape.records(&row(42, b"k", text("a,b")), true).unwrap(),
        [ROWS_HEADER.to_vec(), vec!["42", "k", "a,b", "text", "text"]]
    );
    let binary = row(7, b"\xff", Value::Bytes(Bytes::from_static(b"\x00\xff")));
    assert_eq!(shape.records(&binary, false).unwrap(), [["7", "ff", "00ff", "hex", "hex"]]);
    let integer = row(u64::MAX, b"n", Value::Integer(-5));
    assert_eq!(
        shape.records(&integer, false).unwrap(),
        [["18446744073709551615", "n", "-5", "text", "integer"]]
    );
    assert_eq!(shape.empty().unwrap(), ROWS_HEADER);
}

#[test]
fn the_columns_of_an_import_come_back_in_their_order() {
    let mut shape = columns(&[]);
    let first = row(42, b"line-0000000002", text(r#"{"user":"42","amount":"9.90","a":"x\ny"}"#));
    assert_eq!(
        shape.records(&first, true).unwrap(),
        [vec!["user", "amount", "a"], vec!["42", "9.90", "x\ny"]]
    );
    let shorter = row(7, b"line-0000000003", text(r#"{"amount":"1"}"#));
    assert_eq!(shape.records(&shorter, false).unwrap(), [["", "1", ""]]);
}

#[test]
fn rows_that_do_not_fit_are_named() {
    let mut shape = columns(&["a"]);
    let cases = [
        (text(r#"{"a":"1","b":"2"}"#), "it has a column \"b\" that the header lacks"),
        (text("plain"), "is no row of an import"),
        (text("[1]"), "a JSON object of texts"),
        (text(r#"{"a":1}"#), "is no row of an import"),
        (text(r#"{"a":"1"} x"#), "is no row of an import"),
        (Value::Integer(5), "its value is an integer"),
    ];
    for (value, part) in cases {
        let failure = shape.records(&row(42, b"k", value), false).unwrap_err();
        assert_eq!(failure.exit(), Exit::Failed);
        let message = failure.to_string();
        assert!(message.contains(part) && message.contains("row \"k\" of UID 42"), "{message}");
    }
}
