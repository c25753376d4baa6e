//! The key layout of the store: every kind of record, its stable tag, its key bytes.
//!
//! Tags are stable for ever. All integers are big-endian, so byte order is number order and a slice
//! of a group is one contiguous range of keys:
//!
//! | tag | record | key after the tag | value |
//! |---|---|---|---|
//! | `0x01` | applied position | group u32 | slot u64, `applied.rs` |
//! | `0x10` | row | group u32, incarnation u32, slice u16, table u16, uid u64, key | `row.rs` |
//! | `0x20` | session | group u32, incarnation u32, opening slot u64 | `quorate-txn`, `session.rs` |
//! | `0x21` | result of a request | group u32, incarnation u32, opening slot u64, sequence u64 | `quorate-txn`, `session.rs` |
//! | `0x22` | attempt at a cross-unit transaction | group u32, incarnation u32, coordinating group u32, ballot round u64, ballot replica u64, counter u64 | `quorate-txn`, `cross/record.rs` |
//! | `0x23` | watermark of a coordinating group | group u32, incarnation u32, coordinating group u32 | `quorate-txn`, `cross/record.rs` |
//!
//! The incarnation of a group's rows is 0 until snapshots install a new one.

use quorate_types::{Attempt, Ballot, GroupId, ReplicaId, SliceId, Slot, TableId, Uid};

use crate::key::Key;

const TAG_APPLIED: u8 = 0x01;
const TAG_ROW: u8 = 0x10;
const TAG_SESSION: u8 = 0x20;
const TAG_RESULT: u8 = 0x21;
const TAG_ATTEMPT: u8 = 0x22;
const TAG_WATERMARK: u8 = 0x23;

/// Bytes of tag, group and incarnation.
const FRONT_BYTES: usize = 1 + 4 + 4;
/// Bytes of a row key before the client's own key.
const ROW_PREFIX_BYTES: usize = FRONT_BYTES + 2 + 2 + 8;

/// What a key says of its record.
impl Key {
    /// True for the key of an applied position, which only the store itself writes.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        self.as_bytes().first() == Some(&TAG_APPLIED)
    }
}

/// Where the rows of a group live: group and incarnation, the front part of every key but `applied`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keyspace {
    /// The group.
    pub group: GroupId,
    /// Which copy of the group's rows; raised when a snapshot is installed.
    pub incarnation: u32,
}

impl Keyspace {
    /// The first copy of a group's rows.
    #[must_use]
    pub fn first(group: GroupId) -> Keyspace {
        Keyspace { group, incarnation: 0 }
    }

    /// What keys of this tag start with.
    fn front(self, tag: u8) -> [u8; FRONT_BYTES] {
        let mut front = [tag; FRONT_BYTES];
        front[1..5].copy_from_slice(&self.group.0.to_be_bytes());
        front[5..].copy_from_slice(&self.incarnation.to_be_bytes());
        front
    }

    /// The key of a row.
    #[must_use]
    pub fn row(self, slice: SliceId, table: TableId, uid: Uid, key: &[u8]) -> Key {
        let (slice, table) = (slice.0.to_be_bytes(), table.0.to_be_bytes());
        Key::of_parts(&[&self.front(TAG_ROW), &slice, &table, &uid.0.to_be_bytes(), key])
    }

    /// What every row of one table in one slice starts with.
    #[must_use]
    pub fn table_prefix(self, slice: SliceId, table: TableId) -> Key {
        Key::of_parts(&[&self.front(TAG_ROW), &slice.0.to_be_bytes(), &table.0.to_be_bytes()])
    }

    /// The record of a session opened at `slot`.
    #[must_use]
    pub fn session(self, slot: Slot) -> Key {
        Key::of_parts(&[&self.front(TAG_SESSION), &slot.0.to_be_bytes()])
    }

    /// What every session record starts with.
    #[must_use]
    pub fn session_prefix(self) -> Key {
        Key::from_bytes(&self.front(TAG_SESSION))
    }

    /// The result of request `sequence` of the session opened at `slot`.
    #[must_use]
    pub fn result(self, slot: Slot, sequence: u64) -> Key {
        let (slot, sequence) = (slot.0.to_be_bytes(), sequence.to_be_bytes());
        Key::of_parts(&[&self.front(TAG_RESULT), &slot, &sequence])
    }

    /// What every result record of the group starts with.
    #[must_use]
    pub fn result_prefix(self) -> Key {
        Key::from_bytes(&self.front(TAG_RESULT))
    }

    /// The record of an attempt.
    #[must_use]
    pub fn attempt(self, attempt: Attempt) -> Key {
        let Attempt { group, ballot, counter } = attempt;
        let (round, replica) = (ballot.round.to_be_bytes(), ballot.replica.0.to_be_bytes());
        let front = self.front(TAG_ATTEMPT);
        Key::of_parts(&[&front, &group.0.to_be_bytes(), &round, &replica, &counter.to_be_bytes()])
    }

    /// What every attempt record of the group starts with.
    #[must_use]
    pub fn attempt_prefix(self) -> Key {
        Key::from_bytes(&self.front(TAG_ATTEMPT))
    }

    /// The watermark of a coordinating group.
    #[must_use]
    pub fn watermark(self, coordinator: GroupId) -> Key {
        Key::of_parts(&[&self.front(TAG_WATERMARK), &coordinator.0.to_be_bytes()])
    }

    /// What every watermark of the group starts with.
    #[must_use]
    pub fn watermark_prefix(self) -> Key {
        Key::from_bytes(&self.front(TAG_WATERMARK))
    }
}

/// The key of a group's applied position.
#[must_use]
pub fn applied(group: GroupId) -> Key {
    Key::of_parts(&[&[TAG_APPLIED], &group.0.to_be_bytes()])
}

/// The parts of a row key that follow the keyspace. `None` if the key is not a row key.
#[must_use]
pub fn parse_row(key: &Key) -> Option<(SliceId, TableId, Uid, &[u8])> {
    let bytes = key.as_bytes();
    if bytes.len() < ROW_PREFIX_BYTES || bytes.first() != Some(&TAG_ROW) {
        return None;
    }
    let slice = u16::from_be_bytes(bytes[9..11].try_into().ok()?);
    let table = u16::from_be_bytes(bytes[11..13].try_into().ok()?);
    let uid = u64::from_be_bytes(bytes[13..21].try_into().ok()?);
    Some((SliceId(slice), TableId(table), Uid(uid), &bytes[ROW_PREFIX_BYTES..]))
}

/// The opening slot in a session key, or the opening slot and sequence in a result key.
#[must_use]
pub fn parse_session(key: &Key) -> Option<(Slot, Option<u64>)> {
    let bytes = key.as_bytes();
    let slot = || Some(Slot(u64::from_be_bytes(bytes.get(9..17)?.try_into().ok()?)));
    match (bytes.first(), bytes.len()) {
        (Some(&TAG_SESSION), 17) => Some((slot()?, None)),
        (Some(&TAG_RESULT), 25) => {
            Some((slot()?, Some(u64::from_be_bytes(bytes[17..25].try_into().ok()?))))
        }
        _ => None,
    }
}

/// The attempt in the key of its record.
#[must_use]
pub fn parse_attempt(key: &Key) -> Option<Attempt> {
    let bytes = key.as_bytes();
    if bytes.first() != Some(&TAG_ATTEMPT) || bytes.len() != FRONT_BYTES + 28 {
        return None;
    }
    let number = |at: usize| Some(u64::from_be_bytes(bytes[at..at + 8].try_into().ok()?));
    Some(Attempt {
        group: GroupId(u32::from_be_bytes(bytes[9..13].try_into().ok()?)),
        ballot: Ballot { round: number(13)?, replica: ReplicaId(number(21)?) },
        counter: number(29)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: Keyspace = Keyspace { group: GroupId(7), incarnation: 0 };

    #[test]
    fn row_keys_sort_by_slice_table_uid_key_and_parse_back() {
        let low = SPACE.row(SliceId(1), TableId(2), Uid(9), b"b");
        let high = SPACE.row(SliceId(1), TableId(2), Uid(256), b"a");
        assert!(low < high);
        assert_eq!(parse_row(&high), Some((SliceId(1), TableId(2), Uid(256), &b"a"[..])));
        assert_eq!(parse_row(&SPACE.session(Slot(3))), None);
    }

    #[test]
    fn session_keys_parse_back() {
        assert_eq!(parse_session(&SPACE.session(Slot(3))), Some((Slot(3), None)));
        assert_eq!(parse_session(&SPACE.result(Slot(3), 5)), Some((Slot(3), Some(5))));
        assert_eq!(parse_session(&applied(GroupId(1))), None);
    }

    #[test]
    fn attempt_keys_parse_back_in_the_order_of_attempts() {
        // Goal: the attempts of a coordinator stand together, in the order of its ballots and counters.
        let attempt = |round, counter| {
            let ballot = Ballot { round, replica: ReplicaId(3) };
            Attempt { group: GroupId(9), ballot, counter }
        };
        let (first, second) = (attempt(1, u64::MAX), attempt(2, 1));
        assert!(SPACE.attempt(first) < SPACE.attempt(second));
        assert_eq!(parse_attempt(&SPACE.attempt(second)), Some(second));
        assert_eq!(parse_attempt(&SPACE.watermark(GroupId(9))), None);
        assert!(SPACE.attempt(first).as_bytes().starts_with(SPACE.attempt_prefix().as_bytes()));
    }

    #[test]
    fn a_prefix_ends_after_its_last_key() {
        let prefix = SPACE.table_prefix(SliceId(u16::MAX), TableId(u16::MAX));
        assert!(
            SPACE.row(SliceId(u16::MAX), TableId(u16::MAX), Uid(u64::MAX), &[255; 9])
                < prefix.prefix_end()
        );
    }
}
