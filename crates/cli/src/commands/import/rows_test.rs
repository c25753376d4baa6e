//! CSV text in, rows and mistakes out.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::exit::Exit;

const PURCHASES: &str = "user,order,amount,note\n\
                         42,o-1,9.90,first\n\
                         7,o-2,12,\"two\nlines, and \"\"quotes\"\"\"\n\
                         \n\
                         42,o-3,0.5,\n";

fn by_line() -> Mapping {
    Mapping {
        uid_column: Some("user".to_owned()),
        key_column: None,
        key_prefix: "line-".to_owned(),
        columns: Vec::new(),
    }
}

fn by_key() -> Mapping {
    Mapping { key_column: Some("order".to_owned()), ..by_line() }
}

fn read(text: &[u8], mapping: &Mapping) -> Vec<Result<Row, BadRow>> {
    let mut rows = Rows::new(decompressed(text).unwrap(), mapping).unwrap();
    std::iter::from_fn(|| rows.next().unwrap()).collect()
}

fn row(record: u64, line: u64, uid: u64, key: &str, value: &str) -> Result<Row, BadRow> {
    let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
    Ok(Row { record, line, uid: Uid(uid), key, value })
}

fn expected() -> Vec<Result<Row, BadRow>> {
    vec![
        row(
            1,
            2,
            42,
            "line-0000000002",
            r#"{"user":"42","order":"o-1","amount":"9.90","note":"first"}"#,
        ),
        row(
            2,
            3,
            7,
            "line-0000000003",
            r#"{"user":"7","order":"o-2","amount":"12","note":"two\nlines, and \"quotes\""}"#,
        ),
        row(3, 6, 42, "line-0000000006", r#"{"user":"42","order":"o-3","amount":"0.5","note":""}"#),
    ]
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn reasons(rows: &[Result<Row, BadRow>]) -> Vec<(u64, String)> {
    rows.iter()
        .filter_map(|row| row.as_ref().err())
        .map(|bad| (bad.line, bad.error.message.clone()))
        .collect()
}

#[test]
fn rows_are_keyed_by_their_line_and_hold_every_column_in_order() {
    assert_eq!(read(PURCHASES.as_bytes(), &by_line()), expected());
    let returns = PURCHASES.replace('\n', "\r\n").replace("two\r\n", "two\n");
    assert_eq!(read(returns.as_bytes(), &by_line()), expected());
    assert_eq!(read(PURCHASES.trim_end().as_bytes(), &by_line()), expected());
    assert_eq!(read(returns.trim_end().as_bytes(), &by_line()), expected());
    assert_eq!(read(format!("\u{feff}{PURCHASES}").as_bytes(), &by_line()), expected());
}

#[test]
fn compressed_files_give_the_same_rows_even_in_several_parts() {
    assert_eq!(read(&gzip(PURCHASES), &by_line()), expected());
    let (first, second) = PURCHASES.split_at(40);
    assert_eq!(read(&[gzip(first), gzip(second)].concat(), &by_line()), expected());
}

#[test]
fn a_truncated_compressed_file_is_an_error_and_no_end() {
    let whole = gzip(&PURCHASES.repeat(100));
    let reader = decompressed(&whole[..whole.len() - 12]).unwrap();
    let mut rows = Rows::new(reader, &by_line()).unwrap();
    let failure = loop {
        match rows.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the end of a truncated file was taken for its end"),
            Err(failure) => break failure,
        }
    };
    assert_eq!(failure.error().unwrap().code, Code::DiskFailed);
}

#[test]
fn a_key_column_and_chosen_columns() {
    let mapping = Mapping { columns: vec!["note".to_owned(), "amount".to_owned()], ..by_key() };
    let text = "user,order,amount,note\n42,o-1,9.90,first\n";
    assert_eq!(
        read(text.as_bytes(), &mapping),
        [row(1, 2, 42, "o-1", r#"{"note":"first","amount":"9.90"}"#)]
    );
}

#[test]
fn the_same_uid_and_key_twice_is_a_mistake() {
    let text = "user,order\n42,o-1\n7,o-1\n42,o-1\n";
    let rows = read(text.as_bytes(), &by_key());
    assert_eq!(rows.iter().filter(|row| row.is_ok()).count(), 2);
    assert_eq!(
        reasons(&rows),
        [(
            4,
            "UID 42 and key \"o-1\" are those of line 2; a key column tells the rows of a user apart"
                .to_owned()
        )]
    );
    // Keyed by line, equal records are rows of their own.
    let rows = read(b"user,order\n42,o-1\n42,o-1\n", &by_line());
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(Result::is_ok));
}

#[test]
fn every_bad_row_is_reported_with_its_line() {
    let text = b"user,order\nabc,o-1\n17850.0,o-2\n,o-3\n1\n1,o-4,x\n1,\xff\n1,\n18446744073709551615,o-5\n";
    let rows = read(text, &by_key());
    let reasons = reasons(&rows);
    let starts = [
        (2, "column \"user\": \"abc\" is no UID; a UID is a whole number"),
        (3, "column \"user\": \"17850.0\" is no UID"),
        (4, "column \"user\": \"\" is no UID"),
        (5, "the row has 1 columns, the header has 2"),
        (6, "the row has 3 columns, the header has 2"),
        (7, "column \"order\" is no UTF-8 text"),
        (8, "the key is empty"),
    ];
    assert_eq!(reasons.len(), starts.len());
    for ((line, reason), (line_expected, start)) in reasons.iter().zip(starts) {
        assert_eq!(*line, line_expected);
        assert!(reason.starts_with(start), "{reason}");
    }
    assert_eq!(rows.last().unwrap().as_ref().unwrap().uid, Uid(u64::MAX));
}

#[test]
fn a_row_over_the_limit_is_a_bad_row() {
    let text = format!("user,order\n1,{}\n", "x".repeat(limits::VALUE_BYTES_MAX));
    let rows = read(text.as_bytes(), &by_line());
    assert_eq!(rows[0].as_ref().unwrap_err().error.code, Code::ValueTooLarge);
}

#[test]
fn a_header_that_lacks_a_column_names_the_nearest() {
    let failure =
        |text: &str, mapping: &Mapping| Rows::new(text.as_bytes(), mapping).err().unwrap();
    let missing = failure("usr,order\n1,2\n", &by_line());
    assert_eq!(missing.exit(), Exit::Usage);
    assert_eq!(
        missing.error().unwrap().message,
        "the file has no column \"user\"; did you mean \"usr\"?"
    );
    assert!(failure("user,user\n", &by_line()).to_string().contains("twice"));
    assert!(failure("", &by_line()).to_string().contains("no header"));
}

#[test]
fn keys_of_lines_sort_in_the_order_of_the_file() {
    let key = |line| line_key("line-", line);
    assert!(key(9) < key(10) && key(99_999) < key(1_000_000_000));
    let mapping = Mapping { key_prefix: "q1/".to_owned(), ..by_line() };
    let rows = read(b"user\n1\n", &mapping);
    assert_eq!(rows, [row(1, 2, 1, "q1/0000000002", r#"{"user":"1"}"#)]);
}
