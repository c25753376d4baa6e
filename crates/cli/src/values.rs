//! Keys and values between the command line and the database: what a user types becomes bytes or an
//! integer, what the database holds becomes text, hexadecimal digits or JSON.

use bytes::Bytes;
use quorate_types::{Code, Uid, Value, limits};
use serde_json::json;

use crate::args;
use crate::exit::Failure;

/// How a value on the command line is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The characters themselves.
    Text,
    /// Bytes in hexadecimal digits.
    Hex,
    /// A signed 64-bit integer that transactions may add to.
    Integer,
}

/// The value a user typed.
///
/// # Errors
/// `INVALID_REQUEST` if it is not what it is meant to be, `VALUE_TOO_LARGE`.
pub(crate) fn parse_value(text: &str, meaning: Meaning) -> Result<Value, Failure> {
    match meaning {
        Meaning::Text => checked(Value::Bytes(Bytes::copy_from_slice(text.as_bytes()))),
        Meaning::Hex => {
            let bytes = args::hex(text).map_err(|reason| {
                Failure::usage(reason, "write two hexadecimal digits for each byte, such as 00ff")
            })?;
            checked(Value::Bytes(bytes.into()))
        }
        Meaning::Integer => args::integer(text).map(Value::Integer).map_err(|reason| {
            Failure::usage(reason, "write a whole number, or leave out --integer for text")
        }),
    }
}

/// The value of a step of a transaction: `int:5`, `hex:00ff`, `text:...`, or text as it is.
///
/// # Errors
/// As [`parse_value`].
pub(crate) fn parse_prefixed(text: &str) -> Result<Value, Failure> {
    match text.split_once(':') {
        Some(("int", rest)) => parse_value(rest, Meaning::Integer),
        Some(("hex", rest)) => parse_value(rest, Meaning::Hex),
        Some(("text", rest)) => parse_value(rest, Meaning::Text),
        _ => parse_value(text, Meaning::Text),
    }
}

/// The value, unless it is over the limit.
///
/// # Errors
/// `VALUE_TOO_LARGE`.
pub(crate) fn checked(value: Value) -> Result<Value, Failure> {
    let size = value.size();
    if limits::VALUE_BYTES_MAX < size {
        let most = limits::VALUE_BYTES_MAX;
        let message = format!("the value has {size} bytes, {most} are allowed");
        return Err(Failure::new(Code::ValueTooLarge, message));
    }
    Ok(value)
}

/// The key a user typed.
///
/// # Errors
/// `KEY_TOO_LARGE` if it is empty or too long, `INVALID_REQUEST` if it is no hexadecimal text.
pub(crate) fn parse_key(text: &str, meaning: Meaning) -> Result<Bytes, Failure> {
    let key = match meaning {
        Meaning::Hex => Bytes::from(args::hex(text).map_err(|reason| {
            Failure::usage(reason, "write two hexadecimal digits for each byte of the key")
        })?),
        Meaning::Text | Meaning::Integer => Bytes::copy_from_slice(text.as_bytes()),
    };
    checked_key(key)
}

/// The key, unless it is empty or over the limit.
///
/// # Errors
/// `KEY_TOO_LARGE`.
pub(crate) fn checked_key(key: Bytes) -> Result<Bytes, Failure> {
    match key.len() {
        0 => Err(Failure::new(Code::KeyTooLarge, "the key is empty")),
        size if limits::KEY_BYTES_MAX < size => {
            let message =
                format!("the key has {size} bytes, {} are allowed", limits::KEY_BYTES_MAX);
            Err(Failure::new(Code::KeyTooLarge, message))
        }
        _ => Ok(key),
    }
}

/// Bytes as text if they are text, otherwise `0x` and hexadecimal digits.
pub(crate) fn show_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("0x{}", to_hex(bytes)),
    }
}

/// A value for people.
pub(crate) fn show_value(value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => show_bytes(bytes),
        Value::Integer(number) => number.to_string(),
    }
}

/// The word for what a value is: `integer`, `text` or `hex`.
pub(crate) fn type_word(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "integer",
        Value::Bytes(bytes) if std::str::from_utf8(bytes).is_ok() => "text",
        Value::Bytes(_) => "hex",
    }
}

/// Hexadecimal digits, two for each byte.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Bytes in a document: `{"text": ...}` or `{"hex": ...}`.
pub(crate) fn bytes_json(bytes: &[u8]) -> serde_json::Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "hex": to_hex(bytes) }),
    }
}

/// A value in a document: `{"text": ...}`, `{"hex": ...}` or `{"integer": "5"}`.
pub(crate) fn value_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bytes(bytes) => bytes_json(bytes),
        Value::Integer(number) => json!({ "integer": number.to_string() }),
    }
}

/// A row in a document; an absent row has value `null`.
pub(crate) fn row_json(
    table: &str,
    uid: Uid,
    key: &[u8],
    value: Option<&Value>,
) -> serde_json::Value {
    json!({
        "table": table,
        "uid": uid.to_string(),
        "key": bytes_json(key),
        "value": value.map(value_json),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn values_are_text_hex_or_integer() {
        let text = |text: &'static str| Value::Bytes(Bytes::from_static(text.as_bytes()));
        assert_eq!(parse_value("5", Meaning::Text), Ok(text("5")));
        assert_eq!(parse_value("-5", Meaning::Integer), Ok(Value::Integer(-5)));
        assert_eq!(parse_value("3521", Meaning::Hex), Ok(text("5!")));
        assert_eq!(parse_prefixed("int:+5"), Ok(Value::Integer(5)));
        assert_eq!(parse_prefixed("hex:3521"), Ok(text("5!")));
        assert_eq!(parse_prefixed("text:int:5"), Ok(text("int:5")));
        assert_eq!(parse_prefixed("a:b"), Ok(text("a:b")));
        for (wrong, meaning) in
            [("5.0", Meaning::Integer), ("", Meaning::Integer), ("f", Meaning::Hex)]
        {
            assert_eq!(parse_value(wrong, meaning).unwrap_err().exit(), Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn limits_are_checked_before_anything_is_sent() {
        let code = |failure: Failure| failure.error().unwrap().code;
        let long = "x".repeat(limits::VALUE_BYTES_MAX + 1);
        assert_eq!(code(parse_value(&long, Meaning::Text).unwrap_err()), Code::ValueTooLarge);
        assert!(parse_value(&long[1..], Meaning::Text).is_ok());
        let long = "k".repeat(limits::KEY_BYTES_MAX + 1);
        assert_eq!(code(parse_key(&long, Meaning::Text).unwrap_err()), Code::KeyTooLarge);
        assert_eq!(code(parse_key("", Meaning::Text).unwrap_err()), Code::KeyTooLarge);
        assert!(parse_key(&long[1..], Meaning::Text).is_ok());
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_hex() {
        assert_eq!(show_bytes(b"a\xff"), "0x61ff");
        assert_eq!(value_json(&Value::Bytes(Bytes::from_static(b"a\xff"))), json!({"hex": "61ff"}));
        assert_eq!(
            value_json(&Value::Integer(i64::MIN)),
            json!({"integer": "-9223372036854775808"})
        );
        assert_eq!(
            row_json("t", Uid(u64::MAX), b"k", None),
            json!({"table": "t", "uid": "18446744073709551615", "key": {"text": "k"}, "value": null})
        );
    }
}
