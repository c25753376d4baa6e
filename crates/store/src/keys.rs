//! The key layout of the store: every kind of record, its stable tag, its key bytes.
//!
//! Tags are stable for ever. All integers are big-endian, so byte order is number order and a slice
//! of a group is one contiguous range of keys:
//!
//! | tag | record | key after the tag | value |
//! |---|---|---|---|
//! | `0x01` | applied position | group u32 | slot u64, `applied.rs` |
//! | `0x02` | base: where installed rows stand | group u32 | `base.rs` |
//! | `0x03` | how far an installation has come | group u32 | `base.rs` |
//! | `0x04` | quarantine: the rows must not be used, others are to be installed | group u32 | format u8, `0x01` |
//! | `0x10` | row | group u32, incarnation u32, slice u16, table u16, uid u64, key | `row.rs` |
//! | `0x20` | session | group u32, incarnation u32, opening slot u64 | `quorate-txn`, `session.rs` |
//! | `0x21` | result of a request | group u32, incarnation u32, opening slot u64, sequence u64 | `quorate-txn`, `session.rs` |
//! | `0x22` | attempt at a cross-unit transaction | group u32, incarnation u32, coordinating group u32, ballot round u64, ballot replica u64, counter u64 | `quorate-txn`, `cross/record.rs` |
//! | `0x23` | watermark of a coordinating group | group u32, incarnation u32, coordinating group u32 | `quorate-txn`, `cross/record.rs` |
//! | `0x24` | latest cut | group u32, incarnation u32 | `quorate-txn`, `cross/record.rs` |
//! | `0x25` | entry of the loss ledger | group u32, incarnation u32, opening slot u64 | `ledger.rs` |
//! | `0x30` | account | front, uid u64, ledger u32, code u16 | `quorate-txn`, `money/record.rs` |
//! | `0x31` | transfer | front, debit uid u64, transfer id u128 | `quorate-txn`, `money/record.rs` |
//! | `0x32` | open hold of a pending transfer | front, debit uid u64, transfer id u128 | `quorate-txn`, `money/record.rs` |
//! | `0x33` | how a pending transfer ended | front, debit uid u64, transfer id u128 | `quorate-txn`, `money/record.rs` |
//! | `0x34` | change of a balance | front, uid u64, ledger u32, code u16, slot u64, index u16 | `quorate-txn`, `money/record.rs` |
//!
//! The front of a record of money is group u32, incarnation u32, slice u16.
//!
//! The incarnation of a group's rows is 0 until a snapshot installs a new one. The first four records
//! are the store's own; the others are the group's, and `portable.rs` takes them from store to store.

use std::ops::RangeInclusive;

use quorate_types::{
    AccountAddress, Attempt, Ballot, GroupId, HistoryPosition, ReplicaId, SliceId, Slot, TableId,
    TransferId, Uid, limits,
};

use crate::key::Key;

const TAG_APPLIED: u8 = 0x01;
const TAG_BASE: u8 = 0x02;
const TAG_PROGRESS: u8 = 0x03;
const TAG_QUARANTINE: u8 = 0x04;
const TAG_ROW: u8 = 0x10;
const TAG_SESSION: u8 = 0x20;
const TAG_RESULT: u8 = 0x21;
const TAG_ATTEMPT: u8 = 0x22;
const TAG_WATERMARK: u8 = 0x23;
const TAG_CUT: u8 = 0x24;
const TAG_LOSS: u8 = 0x25;
const TAG_ACCOUNT: u8 = 0x30;
const TAG_TRANSFER: u8 = 0x31;
const TAG_OPEN_HOLD: u8 = 0x32;
const TAG_CLOSED_HOLD: u8 = 0x33;
const TAG_HISTORY: u8 = 0x34;

/// Every tag of a group's records, in order. A new one belongs in here and in `rest_bytes`.
pub(crate) const TAGS: [u8; 12] = [
    TAG_ROW,
    TAG_SESSION,
    TAG_RESULT,
    TAG_ATTEMPT,
    TAG_WATERMARK,
    TAG_CUT,
    TAG_LOSS,
    TAG_ACCOUNT,
    TAG_TRANSFER,
    TAG_OPEN_HOLD,
    TAG_CLOSED_HOLD,
    TAG_HISTORY,
];

/// The tags of a group's state, in order: what a backup holds. The other records belong to the life of
/// one cluster: who has asked for what, and what groups have promised each other.
pub(crate) const STATE_TAGS: [u8; 6] =
    [TAG_ROW, TAG_ACCOUNT, TAG_TRANSFER, TAG_OPEN_HOLD, TAG_CLOSED_HOLD, TAG_HISTORY];

/// Bytes of tag, group and incarnation.
pub(crate) const FRONT_BYTES: usize = 1 + 4 + 4;
/// Bytes of a row key before the client's own key.
const ROW_PREFIX_BYTES: usize = FRONT_BYTES + 2 + 2 + 8;
/// Bytes of the key of a transfer or of its hold.
const TRANSFER_KEY_BYTES: usize = FRONT_BYTES + 2 + 8 + 16;
/// Bytes of the key of an account.
const ACCOUNT_KEY_BYTES: usize = FRONT_BYTES + 2 + 8 + 4 + 2;
/// Bytes of the key of a change of a balance.
const HISTORY_KEY_BYTES: usize = FRONT_BYTES + 2 + 8 + 4 + 2 + 8 + 2;

/// What a key says of its record.
impl Key {
    /// True for the key of an applied position, or of another record that only the store itself writes.
    #[must_use]
    pub fn is_of_store(&self) -> bool {
        self.as_bytes().first().is_some_and(|tag| *tag < TAG_ROW)
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
    pub(crate) fn front(self, tag: u8) -> [u8; FRONT_BYTES] {
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

    /// The latest cut in the group's log.
    #[must_use]
    pub fn cut(self) -> Key {
        Key::from_bytes(&self.front(TAG_CUT))
    }

    /// The entry of the loss ledger that was opened at `slot`.
    #[must_use]
    pub fn loss(self, slot: Slot) -> Key {
        Key::of_parts(&[&self.front(TAG_LOSS), &slot.0.to_be_bytes()])
    }

    /// What every entry of the loss ledger starts with.
    #[must_use]
    pub fn loss_prefix(self) -> Key {
        Key::from_bytes(&self.front(TAG_LOSS))
    }

    /// The record of an account.
    #[must_use]
    pub fn account(self, slice: SliceId, at: AccountAddress) -> Key {
        let (uid, code) = (at.uid.0.to_be_bytes(), at.code.to_be_bytes());
        let slice = slice.0.to_be_bytes();
        Key::of_parts(&[&self.front(TAG_ACCOUNT), &slice, &uid, &at.ledger.to_be_bytes(), &code])
    }

    /// What every account of the group starts with.
    #[must_use]
    pub fn account_prefix(self) -> Key {
        Key::from_bytes(&self.front(TAG_ACCOUNT))
    }

    /// The record of a transfer, by the user it debits.
    #[must_use]
    pub fn transfer(self, slice: SliceId, debit: Uid, id: TransferId) -> Key {
        self.of_transfer(TAG_TRANSFER, slice, debit, id)
    }

    /// What a pending transfer reserves, as long as it does.
    #[must_use]
    pub fn open_hold(self, slice: SliceId, debit: Uid, pending: TransferId) -> Key {
        self.of_transfer(TAG_OPEN_HOLD, slice, debit, pending)
    }

    /// What every open hold of the group starts with.
    #[must_use]
    pub fn open_hold_prefix(self) -> Key {
        Key::from_bytes(&self.front(TAG_OPEN_HOLD))
    }

    /// How a pending transfer ended.
    #[must_use]
    pub fn closed_hold(self, slice: SliceId, debit: Uid, pending: TransferId) -> Key {
        self.of_transfer(TAG_CLOSED_HOLD, slice, debit, pending)
    }

    /// The record of a change of an account's balance.
    #[must_use]
    pub fn history(self, slice: SliceId, account: AccountAddress, at: HistoryPosition) -> Key {
        let prefix = self.history_prefix(slice, account);
        Key::of_parts(&[prefix.as_bytes(), &at.slot.0.to_be_bytes(), &at.index.to_be_bytes()])
    }

    /// What every change of an account's balance starts with.
    #[must_use]
    pub fn history_prefix(self, slice: SliceId, account: AccountAddress) -> Key {
        let AccountAddress { uid, ledger, code } = account;
        let (slice, uid) = (slice.0.to_be_bytes(), uid.0.to_be_bytes());
        let front = self.front(TAG_HISTORY);
        Key::of_parts(&[&front, &slice, &uid, &ledger.to_be_bytes(), &code.to_be_bytes()])
    }

    fn of_transfer(self, tag: u8, slice: SliceId, debit: Uid, id: TransferId) -> Key {
        let (uid, id) = (debit.0.to_be_bytes(), id.0.to_be_bytes());
        Key::of_parts(&[&self.front(tag), &slice.0.to_be_bytes(), &uid, &id])
    }
}

/// The key of a group's applied position.
#[must_use]
pub fn applied(group: GroupId) -> Key {
    Key::of_parts(&[&[TAG_APPLIED], &group.0.to_be_bytes()])
}

/// The key of where the installed rows of a group stand.
#[must_use]
pub(crate) fn base(group: GroupId) -> Key {
    Key::of_parts(&[&[TAG_BASE], &group.0.to_be_bytes()])
}

/// The key of how far an installation of a group's rows has come.
#[must_use]
pub(crate) fn progress(group: GroupId) -> Key {
    Key::of_parts(&[&[TAG_PROGRESS], &group.0.to_be_bytes()])
}

/// The key of what says that the rows of a group must not be used.
#[must_use]
pub(crate) fn quarantine(group: GroupId) -> Key {
    Key::of_parts(&[&[TAG_QUARANTINE], &group.0.to_be_bytes()])
}

/// The slice of a record, by its portable key; `None` if it belongs to none.
pub(crate) fn slice_of(portable: &[u8]) -> Option<SliceId> {
    match *portable {
        [
            TAG_ROW | TAG_ACCOUNT | TAG_TRANSFER | TAG_OPEN_HOLD | TAG_CLOSED_HOLD | TAG_HISTORY,
            high,
            low,
            ..,
        ] => Some(SliceId(u16::from_be_bytes([high, low]))),
        _ => None,
    }
}

/// How many bytes may follow the keyspace in a key of this tag; `None` if there is no such tag.
pub(crate) fn rest_bytes(tag: u8) -> Option<RangeInclusive<usize>> {
    let fixed = |key_bytes: usize| Some(key_bytes - FRONT_BYTES..=key_bytes - FRONT_BYTES);
    match tag {
        TAG_ROW => {
            let before = ROW_PREFIX_BYTES - FRONT_BYTES;
            Some(before..=before + limits::KEY_BYTES_MAX)
        }
        TAG_SESSION | TAG_LOSS => Some(8..=8),
        TAG_RESULT => Some(16..=16),
        TAG_ATTEMPT => Some(28..=28),
        TAG_WATERMARK => Some(4..=4),
        TAG_CUT => Some(0..=0),
        TAG_ACCOUNT => fixed(ACCOUNT_KEY_BYTES),
        TAG_TRANSFER | TAG_OPEN_HOLD | TAG_CLOSED_HOLD => fixed(TRANSFER_KEY_BYTES),
        TAG_HISTORY => fixed(HISTORY_KEY_BYTES),
        _ => None,
    }
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

/// The account in the key of its record. `None` if it is no such key.
#[must_use]
pub fn parse_account(key: &Key) -> Option<AccountAddress> {
    let bytes = key.as_bytes();
    if bytes.len() != ACCOUNT_KEY_BYTES || bytes.first() != Some(&TAG_ACCOUNT) {
        return None;
    }
    Some(AccountAddress {
        uid: Uid(u64::from_be_bytes(bytes[11..19].try_into().ok()?)),
        ledger: u32::from_be_bytes(bytes[19..23].try_into().ok()?),
        code: u16::from_be_bytes(bytes[23..25].try_into().ok()?),
    })
}

/// Slice, debit user and id in the key of an open hold. `None` if it is no such key.
#[must_use]
pub fn parse_open_hold(key: &Key) -> Option<(SliceId, Uid, TransferId)> {
    let bytes = key.as_bytes();
    if bytes.len() != TRANSFER_KEY_BYTES || bytes.first() != Some(&TAG_OPEN_HOLD) {
        return None;
    }
    let slice = u16::from_be_bytes(bytes[9..11].try_into().ok()?);
    let uid = u64::from_be_bytes(bytes[11..19].try_into().ok()?);
    let id = u128::from_be_bytes(bytes[19..35].try_into().ok()?);
    Some((SliceId(slice), Uid(uid), TransferId(id)))
}

/// Slot and index in the key of a change of a balance. `None` if it is no such key.
#[must_use]
pub fn parse_history(key: &Key) -> Option<HistoryPosition> {
    let bytes = key.as_bytes();
    if bytes.len() != HISTORY_KEY_BYTES || bytes.first() != Some(&TAG_HISTORY) {
        return None;
    }
    let slot = Slot(u64::from_be_bytes(bytes[25..33].try_into().ok()?));
    Some(HistoryPosition { slot, index: u16::from_be_bytes(bytes[33..35].try_into().ok()?) })
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

    #[test]
    fn keys_of_money_parse_back_and_lie_within_their_prefix() {
        let id = TransferId(u128::MAX - 1);
        let hold = SPACE.open_hold(SliceId(3), Uid(u64::MAX), id);
        assert_eq!(parse_open_hold(&hold), Some((SliceId(3), Uid(u64::MAX), id)));
        let prefix = SPACE.open_hold_prefix();
        assert!(prefix < hold && hold < prefix.prefix_end());
        assert_eq!(parse_open_hold(&SPACE.closed_hold(SliceId(3), Uid(1), id)), None);

        let account = AccountAddress { uid: Uid(9), ledger: 840, code: 2 };
        let key = SPACE.account(SliceId(3), account);
        assert_eq!(parse_account(&key), Some(account));
        assert_eq!(parse_account(&hold), None);
        let prefix = SPACE.account_prefix();
        assert!(prefix < key && key < prefix.prefix_end());
        let at = HistoryPosition { slot: Slot(1 << 40), index: 8189 };
        let key = SPACE.history(SliceId(3), account, at);
        assert_eq!(parse_history(&key), Some(at));
        assert_eq!(parse_history(&hold), None);
        let prefix = SPACE.history_prefix(SliceId(3), account);
        assert!(prefix < key && key < prefix.prefix_end());
        let later = HistoryPosition { slot: Slot((1 << 40) + 1), index: 0 };
        assert!(key < SPACE.history(SliceId(3), account, later));
    }

    #[test]
    fn keys_of_money_are_held_in_place() {
        // Goal: a batch of thousands of transfers compares and copies keys without allocations.
        let account = AccountAddress { uid: Uid(1), ledger: 840, code: 1 };
        let at = HistoryPosition { slot: Slot(1), index: 1 };
        let keys = [
            SPACE.account(SliceId(1), account),
            SPACE.transfer(SliceId(1), Uid(1), TransferId(1)),
            SPACE.open_hold(SliceId(1), Uid(1), TransferId(1)),
            SPACE.history(SliceId(1), account, at),
        ];
        assert!(keys.iter().all(|key| key.bytes_outside() == 0));
    }
}
