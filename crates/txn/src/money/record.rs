//! The values of the records of money. Their keys stand in `quorate_store::keys`.
//!
//! Layouts are stable, integers big-endian, each behind a format byte `0x01`:
//!
//! | record | fields |
//! |---|---|
//! | account | slot of the last change u64, balance i64, reserved u64, created u64, flags u8, floor i64 |
//! | transfer | slot u64, created u64, amount u64, credit uid u64, ledger u32, debit code u16, credit code u16, kind u8, flags u8; id of the pending transfer u128 for kinds 3 and 4; time-out u32 for kind 2; user data u128 if its flag says so |
//! | open hold | amount u64, credit uid u64, ledger u32, debit code u16, credit code u16, expires u64 |
//! | closed hold | how u8 (`1` posted, `2` voided, `3` expired), amount u64, id of the transfer u128 |
//! | change of a balance | delta i64, balance afterwards i64, debit uid u64, transfer id u128 |
//!
//! Flags of an account: 1 no debits, 2 no credits, 4 history, 8 it has a floor. Flags of a transfer: 1
//! linked, 2 it was asked for with the amount 0, 4 user data. Kinds are those of the batch layout. A
//! time is log time in ms; a hold that never expires has all bits set.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_store::{Key, StoreError};
use quorate_types::{
    Account, AccountAddress, AccountSettings, Hold, LogTime, Slot, Transfer, TransferId,
    TransferKind, TransferRecord, Uid,
};

use crate::record::damaged;

const FORMAT: u8 = 0x01;
const NEVER: u64 = u64::MAX;

const ACCOUNT_BYTES: usize = 1 + 8 + 8 + 8 + 8 + 1 + 8;
const NO_DEBITS: u8 = 1;
const NO_CREDITS: u8 = 2;
const HISTORY: u8 = 4;
const HAS_FLOOR: u8 = 8;

/// Most bytes of a transfer's record.
pub(super) const TRANSFER_RECORD_MAX: usize = 1 + 8 + 8 + 8 + 8 + 4 + 2 + 2 + 1 + 1 + 16 + 16;
const KIND_POST: u8 = 1;
const KIND_PENDING: u8 = 2;
const KIND_POST_PENDING: u8 = 3;
const KIND_VOID_PENDING: u8 = 4;
const LINKED: u8 = 1;
const ASKED_FOR_ALL: u8 = 2;
const USER_DATA: u8 = 4;

const POSTED: u8 = 1;
const VOIDED: u8 = 2;
const EXPIRED: u8 = 3;

/// What a pending transfer reserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenHold {
    pub(super) debit: AccountAddress,
    pub(super) credit: AccountAddress,
    pub(super) amount: u64,
    pub(super) expiry: Expiry,
}

/// When a hold may be expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    Never,
    At(LogTime),
    /// So many ms after the entry that opens it, whose time is known only when it is applied.
    After(u32),
}

impl Expiry {
    /// The log time, for an entry of this log time; `None` for never.
    pub(super) fn at(self, log_time: LogTime) -> Option<LogTime> {
        match self {
            Expiry::Never => None,
            Expiry::At(at) => Some(at),
            Expiry::After(ms) => Some(LogTime(log_time.0.saturating_add(ms.into()).min(NEVER - 1))),
        }
    }
}

/// How a pending transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClosedHold {
    Posted { amount: u64, by: TransferId },
    Voided { by: TransferId },
    Expired,
}

impl From<ClosedHold> for Hold {
    fn from(closed: ClosedHold) -> Hold {
        match closed {
            ClosedHold::Posted { amount, by } => Hold::Posted { amount, by },
            ClosedHold::Voided { by } => Hold::Voided { by },
            ClosedHold::Expired => Hold::Expired,
        }
    }
}

/// A change of a balance, without its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HistoryRecord {
    pub(super) delta: i64,
    pub(super) balance: i64,
    pub(super) debit: Uid,
    pub(super) transfer: TransferId,
}

/// The bytes of an account last changed at `slot`.
pub(super) fn encode_account(account: &Account, slot: Slot) -> Bytes {
    let AccountSettings { floor, no_debits, no_credits, history } = account.settings;
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let flags = flag(no_debits, NO_DEBITS)
        | flag(no_credits, NO_CREDITS)
        | flag(history, HISTORY)
        | flag(floor.is_some(), HAS_FLOOR);
    let mut out = [0; ACCOUNT_BYTES];
    out[0] = FORMAT;
    out[1..9].copy_from_slice(&slot.0.to_be_bytes());
    out[9..17].copy_from_slice(&account.balance.to_be_bytes());
    out[17..25].copy_from_slice(&account.reserved.to_be_bytes());
    out[25..33].copy_from_slice(&account.created.0.to_be_bytes());
    out[33] = flags;
    out[34..42].copy_from_slice(&floor.unwrap_or(0).to_be_bytes());
    Bytes::copy_from_slice(&out)
}

pub(super) fn decode_account(
    key: &Key,
    address: AccountAddress,
    bytes: &Bytes,
) -> Result<Account, StoreError> {
    decode(key, bytes, |fields| {
        let _slot = fields.u64()?;
        let (balance, reserved) = (fields.u64()?.cast_signed(), fields.u64()?);
        let created = LogTime(fields.u64()?);
        let (flags, floor) = (fields.u8()?, fields.u64()?.cast_signed());
        let known = NO_DEBITS | NO_CREDITS | HISTORY | HAS_FLOOR;
        let settings = AccountSettings {
            floor: (flags & HAS_FLOOR != 0).then_some(floor),
            no_debits: flags & NO_DEBITS != 0,
            no_credits: flags & NO_CREDITS != 0,
            history: flags & HISTORY != 0,
        };
        let account = Account { address, settings, balance, reserved, created };
        (flags & !known == 0).then_some(account)
    })
}

/// Appends the bytes of a transfer of the entry at `slot`; `amount` is what it moved, reserved or
/// released.
pub(super) fn put_transfer(
    out: &mut BytesMut,
    transfer: &Transfer,
    amount: u64,
    slot: Slot,
    created: LogTime,
) {
    let kind = match transfer.kind {
        TransferKind::Post => KIND_POST,
        TransferKind::Pending { .. } => KIND_PENDING,
        TransferKind::PostPending(_) => KIND_POST_PENDING,
        TransferKind::VoidPending(_) => KIND_VOID_PENDING,
    };
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let flags = flag(transfer.linked, LINKED)
        | flag(transfer.amount == 0, ASKED_FOR_ALL)
        | flag(transfer.user_data != 0, USER_DATA);
    out.put_u8(FORMAT);
    out.put_u64(slot.0);
    out.put_u64(created.0);
    out.put_u64(amount);
    out.put_u64(transfer.credit.uid.0);
    out.put_u32(transfer.debit.ledger);
    out.put_u16(transfer.debit.code);
    out.put_u16(transfer.credit.code);
    out.put_u8(kind);
    out.put_u8(flags);
    match transfer.kind {
        TransferKind::Post => {}
        TransferKind::Pending { timeout_ms } => out.put_u32(timeout_ms),
        TransferKind::PostPending(pending) | TransferKind::VoidPending(pending) => {
            out.put_u128(pending.0);
        }
    }
    if transfer.user_data != 0 {
        out.put_u128(transfer.user_data);
    }
}

/// A transfer, without the state of its hold.
pub(super) fn decode_transfer(
    key: &Key,
    debit: Uid,
    id: TransferId,
    bytes: &Bytes,
) -> Result<TransferRecord, StoreError> {
    decode(key, bytes, |fields| {
        let (slot, created) = (Slot(fields.u64()?), LogTime(fields.u64()?));
        let (amount, credit) = (fields.u64()?, Uid(fields.u64()?));
        let ledger = fields.u32()?;
        let (debit_code, credit_code) = (fields.u16()?, fields.u16()?);
        let (kind, flags) = (fields.u8()?, fields.u8()?);
        let kind = match kind {
            KIND_POST => TransferKind::Post,
            KIND_PENDING => TransferKind::Pending { timeout_ms: fields.u32()? },
            KIND_POST_PENDING => TransferKind::PostPending(TransferId(fields.u128()?)),
            KIND_VOID_PENDING => TransferKind::VoidPending(TransferId(fields.u128()?)),
            _ => return None,
        };
        let user_data = if flags & USER_DATA != 0 { fields.u128()? } else { 0 };
        let transfer = Transfer {
            id,
            kind,
            debit: AccountAddress { uid: debit, ledger, code: debit_code },
            credit: AccountAddress { uid: credit, ledger, code: credit_code },
            amount: if flags & ASKED_FOR_ALL != 0 { 0 } else { amount },
            user_data,
            linked: flags & LINKED != 0,
        };
        let is_known = flags & !(LINKED | ASKED_FOR_ALL | USER_DATA) == 0;
        is_known.then_some(TransferRecord { transfer, amount, slot, created, hold: None })
    })
}

/// The bytes of a hold opened, or found open, at this log time.
pub(super) fn encode_open_hold(hold: &OpenHold, log_time: LogTime) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + 8 + 8 + 4 + 2 + 2 + 8);
    out.put_u8(FORMAT);
    out.put_u64(hold.amount);
    out.put_u64(hold.credit.uid.0);
    out.put_u32(hold.debit.ledger);
    out.put_u16(hold.debit.code);
    out.put_u16(hold.credit.code);
    out.put_u64(hold.expiry.at(log_time).map_or(NEVER, |at| at.0));
    out.freeze()
}

pub(super) fn decode_open_hold(
    key: &Key,
    debit: Uid,
    bytes: &Bytes,
) -> Result<OpenHold, StoreError> {
    decode(key, bytes, |fields| {
        let (amount, credit) = (fields.u64()?, Uid(fields.u64()?));
        let ledger = fields.u32()?;
        let (debit_code, credit_code) = (fields.u16()?, fields.u16()?);
        let expiry = match fields.u64()? {
            NEVER => Expiry::Never,
            at => Expiry::At(LogTime(at)),
        };
        let debit = AccountAddress { uid: debit, ledger, code: debit_code };
        let credit = AccountAddress { uid: credit, ledger, code: credit_code };
        Some(OpenHold { debit, credit, amount, expiry })
    })
}

pub(super) fn encode_closed_hold(closed: &ClosedHold) -> Bytes {
    let (how, amount, by) = match *closed {
        ClosedHold::Posted { amount, by } => (POSTED, amount, by.0),
        ClosedHold::Voided { by } => (VOIDED, 0, by.0),
        ClosedHold::Expired => (EXPIRED, 0, 0),
    };
    let mut out = BytesMut::with_capacity(1 + 1 + 8 + 16);
    out.put_u8(FORMAT);
    out.put_u8(how);
    out.put_u64(amount);
    out.put_u128(by);
    out.freeze()
}

pub(super) fn decode_closed_hold(key: &Key, bytes: &Bytes) -> Result<ClosedHold, StoreError> {
    decode(key, bytes, |fields| {
        let (how, amount, by) = (fields.u8()?, fields.u64()?, TransferId(fields.u128()?));
        match how {
            POSTED => Some(ClosedHold::Posted { amount, by }),
            VOIDED => Some(ClosedHold::Voided { by }),
            EXPIRED => Some(ClosedHold::Expired),
            _ => None,
        }
    })
}

pub(super) fn encode_history(record: &HistoryRecord) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + 8 + 8 + 8 + 16);
    out.put_u8(FORMAT);
    out.put_i64(record.delta);
    out.put_i64(record.balance);
    out.put_u64(record.debit.0);
    out.put_u128(record.transfer.0);
    out.freeze()
}

pub(super) fn decode_history(key: &Key, bytes: &Bytes) -> Result<HistoryRecord, StoreError> {
    decode(key, bytes, |fields| {
        let (delta, balance) = (fields.u64()?.cast_signed(), fields.u64()?.cast_signed());
        let (debit, transfer) = (Uid(fields.u64()?), TransferId(fields.u128()?));
        Some(HistoryRecord { delta, balance, debit, transfer })
    })
}

/// Reads the fields behind the format byte; nothing may be left, and `None` means that they make no
/// sense.
fn decode<T>(
    key: &Key,
    bytes: &Bytes,
    read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Result<T, StoreError> {
    let mut fields = Fields(bytes);
    let is_ours = fields.u8() == Some(FORMAT);
    let found = if is_ours { read(&mut fields) } else { None };
    match found {
        Some(record) if fields.0.is_empty() => Ok(record),
        Some(_) => Err(damaged(key, &"bytes are left after its last field")),
        None => Err(damaged(key, &"it is no record of money this version knows")),
    }
}

/// Integers one after the other; `None` at the end of the bytes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_be_bytes)
    }
}

#[cfg(test)]
#[path = "record_test.rs"]
mod tests;
