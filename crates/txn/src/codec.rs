//! The bytes inside entries and records: varints, values, and a reader that trusts nothing.
//!
//! Used by `entry.rs` and `record.rs`. Every number has exactly one encoding, so bytes that decode
//! encode back to themselves.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_types::Value;
use quorate_types::money::BatchError;

/// Longest encoding of a `u64`.
pub(crate) const VARINT_BYTES_MAX: usize = 10;
/// Most items room is made for before they were read: a count is not trusted with memory.
const RESERVE_MAX: usize = 1024;

const VALUE_NONE: u8 = 0;
const VALUE_BYTES: u8 = 1;
const VALUE_INTEGER: u8 = 2;

/// Why bytes are not an entry or a record of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("{what} ends after {at} bytes")]
    Truncated {
        /// The field.
        what: &'static str,
        /// Where the bytes end.
        at: usize,
    },
    /// A number is longer than 64 bits or has needless bytes.
    #[error("{what} at byte {at} is not a number in its shortest form")]
    BadNumber {
        /// The field.
        what: &'static str,
        /// Where it starts.
        at: usize,
    },
    /// A tag this version does not know.
    #[error("{what} has the unknown tag {tag:#04x}")]
    UnknownTag {
        /// The field.
        what: &'static str,
        /// The tag.
        tag: u8,
    },
    /// A number does not fit its field.
    #[error("{what} does not allow {value}")]
    OutOfRange {
        /// The field.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// Bytes are left after the last field.
    #[error("{count} bytes are left after the last field")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// Transfers that are none.
    #[error("{0}")]
    Batch(BatchError),
    /// An entry does not carry one sum for each add.
    #[error("{adds} adds but {sums} sums")]
    SumsMissing {
        /// Adds among the effects.
        adds: usize,
        /// Sums that came with them.
        sums: usize,
    },
}

/// Appends a number, 7 bits per byte, lowest first.
pub(crate) fn put_varint(out: &mut BytesMut, mut number: u64) {
    while 0x80 <= number {
        out.put_u8(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.put_u8(number.to_le_bytes()[0]);
}

/// Appends a signed number so that small ones of either sign stay short.
pub(crate) fn put_signed(out: &mut BytesMut, number: i64) {
    put_varint(out, (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned());
}

/// Appends a length, or a count.
pub(crate) fn put_length(out: &mut BytesMut, length: usize) {
    put_varint(out, u64::try_from(length).expect("a length in memory fits 64 bits"));
}

/// Appends bytes behind their length.
pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.put_slice(bytes);
}

/// Appends the values a transaction has read and the sums it has made: its reply.
pub(crate) fn put_reply(out: &mut BytesMut, reads: &[Option<Value>], sums: &[i64]) {
    put_length(out, reads.len());
    for read in reads {
        match read {
            None => out.put_u8(VALUE_NONE),
            Some(Value::Bytes(bytes)) => {
                out.put_u8(VALUE_BYTES);
                put_bytes(out, bytes);
            }
            Some(Value::Integer(number)) => {
                out.put_u8(VALUE_INTEGER);
                put_signed(out, *number);
            }
        }
    }
    put_length(out, sums.len());
    for sum in sums {
        put_signed(out, *sum);
    }
}

/// Reads fields one after the other. Every failure is an error, none a panic.
pub(crate) struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub(crate) fn new(bytes: &'a Bytes) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// One byte.
    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        let byte = *self.bytes.get(self.at).ok_or(DecodeError::Truncated { what, at: self.at })?;
        self.at += 1;
        Ok(byte)
    }

    /// A number of up to 64 bits.
    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let start = self.at;
        let bad = DecodeError::BadNumber { what, at: start };
        let mut number = 0_u64;
        for shift in (0..VARINT_BYTES_MAX).map(|index| index * 7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && 1 < bits {
                return Err(bad);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                let padded = byte == 0 && shift != 0;
                return if padded { Err(bad) } else { Ok(number) };
            }
        }
        Err(bad)
    }

    /// A number that must fit 16 bits.
    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        let value = self.varint(what)?;
        u16::try_from(value).map_err(|_| DecodeError::OutOfRange { what, value })
    }

    /// A signed number.
    pub(crate) fn signed(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        let folded = self.varint(what)?;
        Ok((folded >> 1).cast_signed() ^ -(folded & 1).cast_signed())
    }

    /// Bytes behind their length, shared with the input.
    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<Bytes, DecodeError> {
        let length = self.count(what)?;
        let bytes = self.bytes.slice(self.at..self.at + length);
        self.at += length;
        Ok(bytes)
    }

    /// As many bytes as are asked for, shared with the input.
    pub(crate) fn slice(
        &mut self,
        what: &'static str,
        length: usize,
    ) -> Result<Bytes, DecodeError> {
        if self.bytes.len() - self.at < length {
            return Err(DecodeError::Truncated { what, at: self.bytes.len() });
        }
        let bytes = self.bytes.slice(self.at..self.at + length);
        self.at += length;
        Ok(bytes)
    }

    /// A field of fixed width.
    pub(crate) fn fixed<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let found = self.bytes[self.at..].first_chunk::<N>();
        let found = *found.ok_or(DecodeError::Truncated { what, at: self.bytes.len() })?;
        self.at += N;
        Ok(found)
    }

    /// A length or count. Every item has at least one byte, so no more can follow than bytes are left.
    pub(crate) fn count(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        let count = self.varint(what)?;
        let left = self.bytes.len() - self.at;
        match usize::try_from(count) {
            Ok(count) if count <= left => Ok(count),
            _ => Err(DecodeError::Truncated { what, at: self.bytes.len() }),
        }
    }

    /// As many items as a count before them says.
    pub(crate) fn list<T>(
        &mut self,
        what: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(what)?;
        let mut items = Vec::with_capacity(count.min(RESERVE_MAX));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// What `put_reply` wrote.
    pub(crate) fn reply(&mut self) -> Result<(Vec<Option<Value>>, Vec<i64>), DecodeError> {
        let reads = self.list("reads", |reader| match reader.u8("read")? {
            VALUE_NONE => Ok(None),
            VALUE_BYTES => Ok(Some(Value::Bytes(reader.bytes("read")?))),
            VALUE_INTEGER => Ok(Some(Value::Integer(reader.signed("read")?))),
            tag => Err(DecodeError::UnknownTag { what: "read", tag }),
        })?;
        let sums = self.list("sums", |reader| reader.signed("sum"))?;
        Ok((reads, sums))
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            count => Err(DecodeError::Trailing { count }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_come_back() {
        // Goal: both number codecs are exact at every boundary.
        let mut numbers = vec![0_u64, 1, u64::MAX];
        for shift in 0..64 {
            numbers.extend([(1_u64 << shift) - 1, 1 << shift, (1 << shift) + 1]);
        }
        for number in numbers {
            let mut out = BytesMut::new();
            put_varint(&mut out, number);
            put_signed(&mut out, number.cast_signed());
            let bytes = out.freeze();
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint("number"), Ok(number));
            assert_eq!(reader.signed("number"), Ok(number.cast_signed()));
            assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn a_number_has_one_encoding() {
        // Goal: padded and oversized numbers are refused, so decoding loses nothing.
        let cases: [&[u8]; 3] = [&[0x80, 0x00], &[0xff; 10], &[0xff; 11]];
        for case in cases {
            let bytes = Bytes::from_static(case);
            let bad = DecodeError::BadNumber { what: "number", at: 0 };
            assert_eq!(Reader::new(&bytes).varint("number"), Err(bad));
        }
        let cut = Bytes::from_static(&[0x80]);
        let cut_error = DecodeError::Truncated { what: "number", at: 1 };
        assert_eq!(Reader::new(&cut).varint("number"), Err(cut_error));
    }

    #[test]
    fn a_count_is_not_trusted() {
        // Goal: a huge count over few bytes fails before memory is set aside for it.
        let mut out = BytesMut::new();
        put_varint(&mut out, u64::MAX);
        out.put_u8(7);
        let bytes = out.freeze();
        let error = Reader::new(&bytes).list("items", |reader| reader.u8("item"));
        assert_eq!(error, Err(DecodeError::Truncated { what: "items", at: bytes.len() }));
    }
}
