//! Records on their way from one store to another: a key without group and incarnation, and a value.
//!
//! Whoever serves a snapshot reads them from a pinned view page by page ([`Pinned::page`]); whoever gets
//! one places them in a keyspace of his own (`install.rs`), after every key was checked: they come from
//! the network. Both count them with a [`Tally`], which tells whether all arrived as they were.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_types::limits;

use crate::error::StoreError;
use crate::key::Key;
use crate::keys::{FRONT_BYTES, Keyspace, STATE_TAGS, TAGS, rest_bytes};
use crate::pinned::Pinned;
use crate::view::View;

/// Rows read at once. Each may have a value of over 1 MiB, so this bounds the memory of a page.
const SCAN_ROWS: usize = 64;
/// Bytes of the lengths before each record.
const LENGTHS_BYTES: usize = 2 + 4;
/// Longest value of a record: an entry with what it was proposed with.
const VALUE_BYTES_MAX: usize = limits::WIRE_FRAME_BYTES_MAX;

/// A record of a group, wherever it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portable {
    /// Tag of the record, and its key behind the incarnation. In order of these bytes.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
}

impl Portable {
    /// What it takes in a page.
    #[must_use]
    pub fn bytes(&self) -> usize {
        LENGTHS_BYTES + self.key.len() + self.value.len()
    }

    /// True for a record of the group's state: a row, or one of money.
    #[must_use]
    pub fn is_state(&self) -> bool {
        self.key.first().is_some_and(|tag| STATE_TAGS.contains(tag))
    }

    pub(crate) fn lengths(&self) -> [u8; LENGTHS_BYTES] {
        let key = u16::try_from(self.key.len()).expect("keys have at most 1,046 bytes");
        let value = u32::try_from(self.value.len()).expect("values fit a frame");
        let mut lengths = [0; LENGTHS_BYTES];
        lengths[..2].copy_from_slice(&key.to_be_bytes());
        lengths[2..].copy_from_slice(&value.to_be_bytes());
        lengths
    }
}

/// How many records went by, and a digest of all of them in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub records: u64,
    /// Their bytes, as pages hold them.
    pub bytes: u64,
    /// crc32c of these bytes, whatever pages they were in.
    pub digest: u32,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, record: &Portable) {
        self.records += 1;
        self.bytes += record.bytes() as u64;
        let digest = crc32c::crc32c_append(self.digest, &record.lengths());
        let digest = crc32c::crc32c_append(digest, &record.key);
        self.digest = crc32c::crc32c_append(digest, &record.value);
    }
}

/// The bytes of a page: for each record the length of its key (2, big-endian) and of its value (4), key
/// and value.
#[must_use]
pub fn encode_page(records: &[Portable]) -> Bytes {
    let mut out = BytesMut::with_capacity(records.iter().map(Portable::bytes).sum());
    for record in records {
        out.put_slice(&record.lengths());
        out.put_slice(&record.key);
        out.put_slice(&record.value);
    }
    out.freeze()
}

/// The records of a page. They share its bytes.
///
/// # Errors
/// `StoreError::Foreign` if it is no page.
pub fn decode_page(mut page: Bytes) -> Result<Vec<Portable>, StoreError> {
    let mut records = Vec::new();
    while !page.is_empty() {
        let cut_short = || foreign(&[], "the page is cut short");
        if page.len() < LENGTHS_BYTES {
            return Err(cut_short());
        }
        let (key, value) = (usize::from(page.get_u16()), page.get_u32() as usize);
        if page.len() < key || page.len() - key < value {
            return Err(cut_short());
        }
        records.push(Portable { key: page.split_to(key), value: page.split_to(value) });
    }
    Ok(records)
}

pub(crate) fn foreign(key: &[u8], reason: &'static str) -> StoreError {
    let key = key.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
    StoreError::Foreign { key, reason }
}

impl Keyspace {
    /// Where a record from elsewhere belongs in this keyspace.
    ///
    /// # Errors
    /// `StoreError::Foreign` if no record of a group has such a key or a value of that length.
    pub fn place(self, record: &Portable) -> Result<Key, StoreError> {
        let Some((tag, rest)) = record.key.split_first() else {
            return Err(foreign(&record.key, "it has no key"));
        };
        match rest_bytes(*tag) {
            None => return Err(foreign(&record.key, "no record of a group has this tag")),
            Some(lengths) if !lengths.contains(&rest.len()) => {
                return Err(foreign(&record.key, "no key of this tag has this length"));
            }
            Some(_) => {}
        }
        if VALUE_BYTES_MAX < record.value.len() {
            return Err(foreign(&record.key, "no value is that long"));
        }
        Ok(Key::of_parts(&[&self.front(*tag), rest]))
    }

    /// The ranges of its keys, in order: one for each tag.
    pub(crate) fn ranges(self) -> impl Iterator<Item = (Key, Key)> {
        TAGS.into_iter().map(move |tag| self.range(tag))
    }

    fn range(self, tag: u8) -> (Key, Key) {
        let from = Key::from_bytes(&self.front(tag));
        let end = from.prefix_end();
        (from, end)
    }

    /// True for the key of one of its records.
    #[cfg(test)]
    pub(crate) fn holds(self, key: &Key) -> bool {
        self.ranges().any(|(from, end)| from <= *key && *key < end)
    }
}

/// The portable form of a key of a group's record.
fn portable(key: &Key) -> Bytes {
    let bytes = key.as_bytes();
    [&bytes[..1], &bytes[FRONT_BYTES..]].concat().into()
}

impl Pinned {
    /// Records of a keyspace in order, from the one behind the portable key `after` on, or from the first
    /// one: until they have `bytes_max` bytes, but at least one. Empty only at the end.
    ///
    /// # Errors
    /// `StoreError` if the engine cannot read them.
    pub fn page(
        &self,
        space: Keyspace,
        after: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<Vec<Portable>, StoreError> {
        page_of(self, space.ranges(), after, bytes_max)
    }
}

/// Records of a group's state in a view, and no others; as [`Pinned::page`].
///
/// # Errors
/// `StoreError` if the view cannot be read.
pub fn state_page(
    view: &dyn View,
    space: Keyspace,
    after: Option<&[u8]>,
    bytes_max: usize,
) -> Result<Vec<Portable>, StoreError> {
    page_of(view, STATE_TAGS.into_iter().map(|tag| space.range(tag)), after, bytes_max)
}

/// Records of some ranges of tags, which are in order.
fn page_of(
    view: &dyn View,
    ranges: impl Iterator<Item = (Key, Key)>,
    after: Option<&[u8]>,
    bytes_max: usize,
) -> Result<Vec<Portable>, StoreError> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    let passed = after.and_then(|after| after.split_first());
    for (from, end) in ranges {
        let tag = from.as_bytes()[0];
        let mut from = match passed {
            Some((last, _)) if tag < *last => continue,
            Some((last, rest)) if tag == *last => {
                Key::of_parts(&[from.as_bytes(), rest]).successor()
            }
            Some(_) | None => from,
        };
        loop {
            let rows = view.scan(&from, &end, SCAN_ROWS)?;
            let is_all = rows.len() < SCAN_ROWS;
            for (key, value) in rows {
                let record = Portable { key: portable(&key), value };
                if !found.is_empty() && bytes_max < bytes + record.bytes() {
                    return Ok(found);
                }
                bytes += record.bytes();
                found.push(record);
                from = key.successor();
            }
            if is_all {
                break;
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_types::{GroupId, SliceId, Slot, TableId, Uid};

    use super::*;

    const HERE: Keyspace = Keyspace { group: GroupId(7), incarnation: 3 };

    fn any_record() -> impl Strategy<Value = Portable> {
        let bytes = |max| proptest::collection::vec(any::<u8>(), 0..max);
        (bytes(40), bytes(200))
            .prop_map(|(key, value)| Portable { key: key.into(), value: value.into() })
    }

    proptest! {
        #[test]
        fn a_page_survives_its_bytes(records in proptest::collection::vec(any_record(), 0..20)) {
            let page = encode_page(&records);
            prop_assert_eq!(page.len(), records.iter().map(Portable::bytes).sum::<usize>());
            prop_assert_eq!(decode_page(page).unwrap(), records);
        }

        #[test]
        fn no_bytes_make_a_page_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(records) = decode_page(bytes.clone().into()) {
                prop_assert_eq!(&encode_page(&records)[..], &bytes[..]);
            }
        }

        #[test]
        fn a_tally_does_not_see_where_pages_end(
            records in proptest::collection::vec(any_record(), 0..20),
        ) {
            let mut tally = Tally::default();
            records.iter().for_each(|record| tally.add(record));
            let page = encode_page(&records);
            prop_assert_eq!(tally.digest, crc32c::crc32c(&page));
            prop_assert_eq!((tally.records, tally.bytes), (records.len() as u64, page.len() as u64));
        }

        #[test]
        fn only_keys_of_a_groups_records_are_placed(record in any_record()) {
            // Goal: what the network says never lands outside the keyspace, nor on a record of the store.
            if let Ok(key) = HERE.place(&record) {
                prop_assert!(HERE.holds(&key) && !key.is_of_store());
                prop_assert_eq!(portable(&key), record.key);
            }
        }
    }

    #[test]
    fn every_key_moves_to_another_keyspace_and_back() {
        // Goal: each kind of key that the store has can be taken elsewhere, and is the same there.
        let there = Keyspace { group: GroupId(9), incarnation: 0 };
        let keys = |space: Keyspace| {
            let account = quorate_types::AccountAddress { uid: Uid(5), ledger: 1, code: 2 };
            let ballot = quorate_types::Ballot::ZERO;
            let attempt = quorate_types::Attempt { group: GroupId(1), ballot, counter: 4 };
            let at = quorate_types::HistoryPosition { slot: Slot(4), index: 1 };
            let (slice, id) = (SliceId(6), quorate_types::TransferId(8));
            [
                space.row(slice, TableId(1), Uid(2), b"key"),
                space.row(slice, TableId(1), Uid(2), &[7; limits::KEY_BYTES_MAX]),
                space.session(Slot(1)),
                space.result(Slot(1), 2),
                space.attempt(attempt),
                space.watermark(GroupId(3)),
                space.cut(),
                space.account(slice, account),
                space.transfer(slice, Uid(5), id),
                space.open_hold(slice, Uid(5), id),
                space.closed_hold(slice, Uid(5), id),
                space.history(slice, account, at),
            ]
        };
        for (here, there_key) in keys(HERE).into_iter().zip(keys(there)) {
            let record = Portable { key: portable(&here), value: Bytes::new() };
            assert_eq!(there.place(&record).unwrap(), there_key);
        }
        let of_life = keys(HERE)
            .iter()
            .filter(|key| !(Portable { key: portable(key), value: Bytes::new() }).is_state())
            .count();
        assert_eq!(of_life, 5, "sessions, results, attempts, watermarks and cuts stay behind");
        let of_store = Portable { key: Bytes::from_static(&[1]), value: Bytes::new() };
        assert!(HERE.place(&of_store).is_err());
    }
}
