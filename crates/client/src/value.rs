//! What may be given where a value is wanted.

use bytes::Bytes;
use quorate_types::Value;

/// Anything that can be written to a row: bytes and text become [`Value::Bytes`], integers that fit
/// an `i64` become [`Value::Integer`].
///
/// ```
/// use quorate_client::{IntoValue, Value};
///
/// assert_eq!("Ada".into_value(), Value::Bytes("Ada".into()));
/// assert_eq!(100.into_value(), Value::Integer(100));
/// ```
pub trait IntoValue {
    /// The value.
    fn into_value(self) -> Value;
}

impl IntoValue for Value {
    fn into_value(self) -> Value {
        self
    }
}

impl IntoValue for i64 {
    fn into_value(self) -> Value {
        Value::Integer(self)
    }
}

impl IntoValue for i32 {
    fn into_value(self) -> Value {
        Value::Integer(self.into())
    }
}

impl IntoValue for u32 {
    fn into_value(self) -> Value {
        Value::Integer(self.into())
    }
}

impl IntoValue for Bytes {
    fn into_value(self) -> Value {
        Value::Bytes(self)
    }
}

impl IntoValue for Vec<u8> {
    fn into_value(self) -> Value {
        Value::Bytes(self.into())
    }
}

impl IntoValue for &[u8] {
    fn into_value(self) -> Value {
        Value::Bytes(Bytes::copy_from_slice(self))
    }
}

impl IntoValue for String {
    fn into_value(self) -> Value {
        Value::Bytes(self.into())
    }
}

impl IntoValue for &str {
    fn into_value(self) -> Value {
        Value::Bytes(Bytes::copy_from_slice(self.as_bytes()))
    }
}

impl IntoValue for &String {
    fn into_value(self) -> Value {
        self.as_str().into_value()
    }
}

impl<const N: usize> IntoValue for &[u8; N] {
    fn into_value(self) -> Value {
        self.as_slice().into_value()
    }
}
