use quorate_store::Keyspace;
use quorate_types::{GroupId, SliceId};

use super::*;

const SPACE: Keyspace = Keyspace { group: GroupId(1), incarnation: 0 };

fn address(uid: u64, code: u16) -> AccountAddress {
    AccountAddress { uid: Uid(uid), ledger: 840, code }
}

fn key() -> Key {
    SPACE.account(SliceId(1), address(1, 1))
}

/// The record comes back from its bytes, and every other length of them is damage.
fn check<T: PartialEq + std::fmt::Debug>(
    record: &T,
    bytes: &Bytes,
    decode: impl Fn(&Bytes) -> Result<T, StoreError>,
) {
    assert_eq!(decode(bytes).expect("we encoded it"), *record);
    for end in 0..bytes.len() {
        let cut = decode(&bytes.slice(..end));
        assert!(matches!(cut, Err(StoreError::Damaged { .. })), "cut at {end}: {cut:?}");
    }
    let longer: Bytes = [&bytes[..], &[0]].concat().into();
    assert!(matches!(decode(&longer), Err(StoreError::Damaged { .. })));
}

#[test]
fn accounts_come_back() {
    // Goal: every setting and number of an account survives the store.
    for floor in [None, Some(i64::MIN), Some(0), Some(7)] {
        for flags in 0..8 {
            let settings = AccountSettings {
                floor,
                no_debits: flags & 1 != 0,
                no_credits: flags & 2 != 0,
                history: flags & 4 != 0,
            };
            let (balance, reserved, created) = (i64::MIN, u64::MAX, LogTime(9));
            let address = address(u64::MAX, 3);
            let account = Account { address, settings, balance, reserved, created };
            let bytes = encode_account(&account, Slot(5));
            check(&account, &bytes, |bytes| decode_account(&key(), address, bytes));
        }
    }
}

#[test]
fn transfers_come_back() {
    // Goal: a stored transfer equals the one that was asked for, so that a retry is recognised.
    let (id, pending) = (TransferId(u128::MAX), TransferId(3));
    let post = Transfer::post(id, address(1, 1), address(2, 9), 5);
    let kinds = [
        (post, 5),
        (Transfer { user_data: 1 << 127, linked: true, ..post }, 5),
        (Transfer { kind: TransferKind::Pending { timeout_ms: 7 }, ..post }, 5),
        (Transfer { kind: TransferKind::PostPending(pending), ..post }, 5),
        (Transfer { kind: TransferKind::PostPending(pending), amount: 0, ..post }, 4),
        (Transfer { kind: TransferKind::VoidPending(pending), amount: 0, user_data: 1, ..post }, 4),
    ];
    for (transfer, amount) in kinds {
        let mut out = BytesMut::new();
        put_transfer(&mut out, &transfer, amount, Slot(8), LogTime(6));
        assert!(out.len() <= TRANSFER_RECORD_MAX);
        let (slot, created, hold) = (Slot(8), LogTime(6), None);
        let record = TransferRecord { transfer, amount, slot, created, hold };
        check(&record, &out.freeze(), |bytes| decode_transfer(&key(), Uid(1), id, bytes));
    }
}

#[test]
fn holds_and_changes_of_balances_come_back() {
    // Goal: the same for the small records, with a time-out counted from the entry.
    let (debit, credit, amount) = (address(1, 1), address(2, 9), 5);
    for (asked, stored) in [
        (Expiry::Never, Expiry::Never),
        (Expiry::At(LogTime(4)), Expiry::At(LogTime(4))),
        (Expiry::After(30), Expiry::At(LogTime(130))),
    ] {
        let bytes =
            encode_open_hold(&OpenHold { debit, credit, amount, expiry: asked }, LogTime(100));
        let hold = OpenHold { debit, credit, amount, expiry: stored };
        check(&hold, &bytes, |bytes| decode_open_hold(&key(), Uid(1), bytes));
    }
    let by = TransferId(u128::MAX);
    let ends = [ClosedHold::Posted { amount, by }, ClosedHold::Voided { by }, ClosedHold::Expired];
    for closed in ends {
        let bytes = encode_closed_hold(&closed);
        check(&closed, &bytes, |bytes| decode_closed_hold(&key(), bytes));
    }
    let change = HistoryRecord { delta: -5, balance: i64::MIN, debit: Uid(1), transfer: by };
    check(&change, &encode_history(&change), |bytes| decode_history(&key(), bytes));
}

#[test]
fn an_unlimited_time_stays_below_never() {
    // Goal: no time-out overflows into a hold that never ends.
    assert_eq!(Expiry::After(u32::MAX).at(LogTime(u64::MAX)), Some(LogTime(u64::MAX - 1)));
}
