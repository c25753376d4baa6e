//! The bytes of a store key, held in place.
//!
//! Every write walks the row table several times, and each step of a walk compares two keys. Keys
//! behind a pointer cost a cache miss at each of them; keys in the nodes of the tree cost one a node.
//! Used by everything that holds records; what the bytes say stands in `keys.rs`.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

/// Bytes of a key that are held in place. Enough for a row whose own key has 25, and for every other
/// record; together with length and tag they are 48.
const SHORT_BYTES: usize = 46;

/// A key of the store. Ordered by its bytes.
#[derive(Clone)]
pub struct Key(Repr);

/// Invariant: a key is `Short` iff it has at most `SHORT_BYTES` bytes.
#[derive(Clone)]
enum Repr {
    /// Bytes from `length` on are zero.
    Short {
        length: u8,
        bytes: [u8; SHORT_BYTES],
    },
    Long(Bytes),
}

impl Key {
    /// The key with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Key {
        Key::of_parts(&[bytes])
    }

    /// The key that consists of `parts`, one after the other.
    pub(crate) fn of_parts(parts: &[&[u8]]) -> Key {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        match u8::try_from(length) {
            Ok(length) if usize::from(length) <= SHORT_BYTES => {
                let mut bytes = [0; SHORT_BYTES];
                let mut at = 0;
                for part in parts {
                    bytes[at..at + part.len()].copy_from_slice(part);
                    at += part.len();
                }
                Key(Repr::Short { length, bytes })
            }
            _ => Key(Repr::Long(parts.concat().into())),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { length, bytes } => &bytes[..usize::from(*length)],
            Repr::Long(bytes) => bytes,
        }
    }

    /// Bytes that are not held in place.
    pub(crate) fn bytes_outside(&self) -> usize {
        match &self.0 {
            Repr::Short { .. } => 0,
            Repr::Long(bytes) => bytes.len(),
        }
    }

    /// The smallest key greater than every key that starts with this one.
    #[must_use]
    pub fn prefix_end(&self) -> Key {
        let mut end = self.as_bytes().to_vec();
        while let Some(last) = end.last_mut() {
            if *last < u8::MAX {
                *last += 1;
                break;
            }
            end.pop();
        }
        Key::from_bytes(&end)
    }

    /// The smallest key greater than this one.
    #[must_use]
    pub fn successor(&self) -> Key {
        Key::of_parts(&[self.as_bytes(), &[0]])
    }
}

/// The bytes from `at` on as a number: comparing two of them compares eight bytes at once.
fn word(bytes: &[u8; SHORT_BYTES], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(word)
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        let (Repr::Short { length, bytes }, Repr::Short { length: other_length, bytes: other }) =
            (&self.0, &other.0)
        else {
            return self.as_bytes().cmp(other.as_bytes());
        };
        // Nearly every pair differs in slice, table or user, which lie in the second and third word.
        // The zeros behind a shorter key order it before every longer one that it begins; where
        // those go on with zeros themselves, the lengths decide.
        for at in [0, 8, 16] {
            match word(bytes, at).cmp(&word(other, at)) {
                Ordering::Equal => {}
                order => return order,
            }
        }
        bytes[24..].cmp(&other[24..]).then(length.cmp(other_length))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys that share fronts, differ in their lengths, and end in zeros, on both sides of the length
    /// where a key leaves its place.
    fn key_bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![4 => Just(0u8), 1 => Just(7u8), 1 => any::<u8>()];
        proptest::collection::vec(byte, 0..SHORT_BYTES + 4)
    }

    proptest! {
        #[test]
        fn keys_are_ordered_and_equal_as_their_bytes(a in key_bytes(), b in key_bytes()) {
            let (left, right) = (Key::from_bytes(&a), Key::from_bytes(&b));
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert_eq!(left == right, a == b);
            prop_assert_eq!(left.as_bytes(), &a[..]);
        }

        #[test]
        fn nothing_lies_between_a_key_and_its_successor(a in key_bytes(), b in key_bytes()) {
            let (key, other) = (Key::from_bytes(&a), Key::from_bytes(&b));
            prop_assert_eq!(other < key.successor(), other <= key);
        }

        #[test]
        fn parts_make_the_key_of_their_bytes(a in key_bytes(), b in key_bytes()) {
            prop_assert_eq!(Key::of_parts(&[&a, &b]), Key::from_bytes(&[a, b].concat()));
        }
    }

    #[test]
    fn a_key_in_a_node_takes_48_bytes() {
        assert_eq!(std::mem::size_of::<Key>(), 48);
    }
}
