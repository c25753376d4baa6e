//! The value of a row record: the slot of its last change, then the client's value.
//!
//! Used by `quorate-txn`: encoded when an entry's effects become changes, decoded when a request is
//! evaluated or a read answered. The layout, stable for ever, integers big-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | slot of the entry that last changed the row |
//! | 1 | tag: `0x01` bytes, `0x02` integer |
//! | rest | the bytes as they are, or the integer as 8 bytes |
//!
//! The slot is there only so that a read can be validated later. Whether an entry is applied is
//! decided by the group's applied position, never by a row's slot.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_types::{Slot, Value};

use crate::error::StoreError;
use crate::key::Key;

const TAG_BYTES: u8 = 0x01;
const TAG_INTEGER: u8 = 0x02;

/// Bytes of slot and tag.
const HEADER_BYTES: usize = 8 + 1;

/// A row as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The slot, in the log of the group that holds the row, of the entry that last changed it.
    pub slot: Slot,
    /// The client's value.
    pub value: Value,
}

/// Why bytes are not a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// There are fewer bytes than slot and tag take.
    #[error("row has {bytes} bytes, fewer than its header")]
    Short {
        /// How many bytes there are.
        bytes: usize,
    },
    /// The tag is none of ours.
    #[error("row has unknown tag {tag:#04x}")]
    Tag {
        /// The tag found.
        tag: u8,
    },
    /// An integer does not have 8 bytes.
    #[error("integer row has a body of {bytes} bytes, not 8")]
    Integer {
        /// How many bytes there are.
        bytes: usize,
    },
}

impl RowError {
    /// The same as a damaged record of the store.
    #[must_use]
    pub fn at(self, key: &Key) -> StoreError {
        StoreError::Damaged { key: format!("{key:?}"), reason: self.to_string() }
    }
}

impl Row {
    /// The bytes to store. Always a fresh buffer, so that a stored row never keeps the much larger
    /// batch alive that its value arrived in.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_BYTES + self.value.size());
        out.put_u64(self.slot.0);
        match &self.value {
            Value::Bytes(bytes) => {
                out.put_u8(TAG_BYTES);
                out.put_slice(bytes);
            }
            Value::Integer(integer) => {
                out.put_u8(TAG_INTEGER);
                out.put_i64(*integer);
            }
        }
        out.freeze()
    }

    /// The row in `stored`. A bytes value shares the buffer.
    ///
    /// # Errors
    /// `RowError` if the bytes are not a row; never panics, whatever the bytes are.
    pub fn decode(stored: &Bytes) -> Result<Row, RowError> {
        let Some((header, body)) = stored.split_first_chunk::<HEADER_BYTES>() else {
            return Err(RowError::Short { bytes: stored.len() });
        };
        let [slot @ .., tag] = *header;
        let value = match tag {
            TAG_BYTES => Value::Bytes(stored.slice(HEADER_BYTES..)),
            TAG_INTEGER => match <[u8; 8]>::try_from(body) {
                Ok(integer) => Value::Integer(i64::from_be_bytes(integer)),
                Err(_) => return Err(RowError::Integer { bytes: body.len() }),
            },
            tag => return Err(RowError::Tag { tag }),
        };
        Ok(Row { slot: Slot(u64::from_be_bytes(slot)), value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            proptest::collection::vec(any::<u8>(), 0..64).prop_map(|b| Value::Bytes(b.into())),
        ]
    }

    #[test]
    fn the_layout_never_changes() {
        let row = Row { slot: Slot(0x0102), value: Value::Integer(-2) };
        let want: &[u8] = &[0, 0, 0, 0, 0, 0, 1, 2, 0x02, 255, 255, 255, 255, 255, 255, 255, 254];
        assert_eq!(&row.encode()[..], want);
        let row = Row { slot: Slot(7), value: Value::Bytes(Bytes::from_static(b"ab")) };
        assert_eq!(&row.encode()[..], b"\0\0\0\0\0\0\0\x07\x01ab");
    }

    #[test]
    fn bytes_that_are_no_row_are_named() {
        let decode = |bytes: &'static [u8]| Row::decode(&Bytes::from_static(bytes));
        assert_eq!(decode(b""), Err(RowError::Short { bytes: 0 }));
        assert_eq!(decode(b"12345678"), Err(RowError::Short { bytes: 8 }));
        assert_eq!(decode(b"12345678\x03"), Err(RowError::Tag { tag: 3 }));
        assert_eq!(decode(b"12345678\x02123"), Err(RowError::Integer { bytes: 3 }));
    }

    proptest! {
        #[test]
        fn a_row_survives_its_bytes(slot: u64, value in any_value()) {
            let row = Row { slot: Slot(slot), value };
            prop_assert_eq!(Row::decode(&row.encode()), Ok(row));
        }

        #[test]
        fn arbitrary_bytes_decode_to_the_same_bytes_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            tag in 0u8..4,
        ) {
            let mut bytes = bytes;
            if let Some(at) = bytes.get_mut(8) {
                *at = tag;
            }
            let bytes = Bytes::from(bytes);
            if let Ok(row) = Row::decode(&bytes) {
                prop_assert_eq!(row.encode(), bytes);
            }
        }
    }
}
