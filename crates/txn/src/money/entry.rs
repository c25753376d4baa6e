//! The payloads of entries about money. The group is that of the log; kinds are stable for ever.
//!
//! | kind | entry | after the kind |
//! |---|---|---|
//! | `0x20` | create an account (`1`) or change its settings (`2`) | that, slice, uid, ledger, code, flags u8, floor if its flag says so |
//! | `0x21` | transfers | count, the batch as it was received, a verdict u8 for each, then for each that stands the slices u16 of debit and credit account |
//! | `0x22` | expire holds | count, for each slice, debit uid and transfer id u128 |
//!
//! Numbers are varints and a floor is a signed one, but where a width is given: those are big-endian.
//! Flags are those of the account's record.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_types::{
    AccountAddress, AccountSettings, SliceId, TransferBatch, TransferId, Uid, Verdict,
};

use crate::codec::{DecodeError, Reader, VARINT_BYTES_MAX, put_length, put_signed, put_varint};

pub(crate) const KIND_ACCOUNT: u8 = 0x20;
pub(crate) const KIND_TRANSFERS: u8 = 0x21;
pub(crate) const KIND_EXPIRE_HOLDS: u8 = 0x22;

const CREATE: u8 = 1;
const SET: u8 = 2;

const NO_DEBITS: u8 = 1;
const NO_CREDITS: u8 = 2;
const HISTORY: u8 = 4;
const HAS_FLOOR: u8 = 8;

/// Bytes of the two slices of a transfer that stands.
const SLICES_BYTES: usize = 4;

/// An account comes to be, or gets other settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountEntry {
    /// True if the account is created.
    pub is_new: bool,
    /// The slice of the account, as the leader computed it.
    pub slice: SliceId,
    /// The account.
    pub address: AccountAddress,
    /// All its settings.
    pub settings: AccountSettings,
}

/// A batch and what was decided about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransfersEntry {
    /// As it was received.
    pub batch: TransferBatch,
    /// One for each transfer.
    pub verdicts: Vec<Verdict>,
    /// The slices of debit and credit account of each transfer that stands, in order.
    pub slices: Vec<(SliceId, SliceId)>,
}

/// An entry about money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoneyEntry {
    /// Create or change an account.
    Account(AccountEntry),
    /// Carry out transfers.
    Transfers(TransfersEntry),
    /// End holds whose time is over: slice, debit user and id of each pending transfer.
    ExpireHolds(Vec<(SliceId, Uid, TransferId)>),
}

impl MoneyEntry {
    /// Whether a kind of entry is one of these.
    pub(crate) fn has_kind(kind: u8) -> bool {
        matches!(kind, KIND_ACCOUNT | KIND_TRANSFERS | KIND_EXPIRE_HOLDS)
    }

    /// The most bytes that encoding takes.
    pub(crate) fn size_hint(&self) -> usize {
        match self {
            MoneyEntry::Account(_) => 4 + 5 * VARINT_BYTES_MAX,
            MoneyEntry::Transfers(entry) => {
                let each = entry.batch.bytes().len() + entry.verdicts.len();
                1 + VARINT_BYTES_MAX + each + entry.slices.len() * SLICES_BYTES
            }
            MoneyEntry::ExpireHolds(holds) => {
                1 + VARINT_BYTES_MAX + holds.len() * (3 + VARINT_BYTES_MAX + 16)
            }
        }
    }

    /// Appends the entry, kind first.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        match self {
            MoneyEntry::Account(entry) => put_account(out, entry),
            MoneyEntry::Transfers(TransfersEntry { batch, verdicts, slices }) => {
                out.put_u8(KIND_TRANSFERS);
                put_length(out, batch.len());
                out.put_slice(batch.bytes());
                put_verdicts(out, verdicts);
                for (debit, credit) in slices {
                    out.put_u16(debit.0);
                    out.put_u16(credit.0);
                }
            }
            MoneyEntry::ExpireHolds(holds) => {
                out.put_u8(KIND_EXPIRE_HOLDS);
                put_length(out, holds.len());
                for (slice, debit, pending) in holds {
                    put_varint(out, u64::from(slice.0));
                    put_varint(out, debit.0);
                    out.put_u128(pending.0);
                }
            }
        }
    }

    /// Reads what follows a kind of ours.
    pub(crate) fn take(kind: u8, reader: &mut Reader<'_>) -> Result<MoneyEntry, DecodeError> {
        match kind {
            KIND_ACCOUNT => take_account(reader).map(MoneyEntry::Account),
            KIND_TRANSFERS => take_transfers(reader).map(MoneyEntry::Transfers),
            KIND_EXPIRE_HOLDS => {
                let holds = reader.list("holds", |reader| {
                    let slice = SliceId(reader.u16("slice")?);
                    let debit = Uid(reader.varint("uid")?);
                    let id = reader.fixed::<16>("transfer id")?;
                    Ok((slice, debit, TransferId(u128::from_be_bytes(id))))
                })?;
                Ok(MoneyEntry::ExpireHolds(holds))
            }
            tag => Err(DecodeError::UnknownTag { what: "kind", tag }),
        }
    }
}

fn put_account(out: &mut BytesMut, entry: &AccountEntry) {
    let AccountEntry { is_new, slice, address, settings } = entry;
    let AccountSettings { floor, no_debits, no_credits, history } = *settings;
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    out.put_u8(KIND_ACCOUNT);
    out.put_u8(if *is_new { CREATE } else { SET });
    put_varint(out, u64::from(slice.0));
    put_varint(out, address.uid.0);
    put_varint(out, u64::from(address.ledger));
    put_varint(out, u64::from(address.code));
    out.put_u8(
        flag(no_debits, NO_DEBITS)
            | flag(no_credits, NO_CREDITS)
            | flag(history, HISTORY)
            | flag(floor.is_some(), HAS_FLOOR),
    );
    if let Some(floor) = floor {
        put_signed(out, floor);
    }
}

fn take_account(reader: &mut Reader<'_>) -> Result<AccountEntry, DecodeError> {
    let is_new = match reader.u8("account change")? {
        CREATE => true,
        SET => false,
        tag => return Err(DecodeError::UnknownTag { what: "account change", tag }),
    };
    let slice = SliceId(reader.u16("slice")?);
    let uid = Uid(reader.varint("uid")?);
    let ledger = reader.varint("ledger")?;
    let ledger = u32::try_from(ledger)
        .map_err(|_| DecodeError::OutOfRange { what: "ledger", value: ledger })?;
    let address = AccountAddress { uid, ledger, code: reader.u16("code")? };
    let flags = reader.u8("flags")?;
    if flags & !(NO_DEBITS | NO_CREDITS | HISTORY | HAS_FLOOR) != 0 {
        return Err(DecodeError::UnknownTag { what: "flags", tag: flags });
    }
    let floor = if flags & HAS_FLOOR != 0 { Some(reader.signed("floor")?) } else { None };
    let settings = AccountSettings {
        floor,
        no_debits: flags & NO_DEBITS != 0,
        no_credits: flags & NO_CREDITS != 0,
        history: flags & HISTORY != 0,
    };
    Ok(AccountEntry { is_new, slice, address, settings })
}

/// So many transfers in their layout.
pub(super) fn take_batch(
    reader: &mut Reader<'_>,
    count: usize,
) -> Result<TransferBatch, DecodeError> {
    let bytes =
        reader.slice("transfers", count.saturating_mul(quorate_types::money::TRANSFER_BYTES))?;
    TransferBatch::from_bytes(bytes).map_err(DecodeError::Batch)
}

/// A byte for each verdict.
pub(crate) fn put_verdicts(out: &mut BytesMut, verdicts: &[Verdict]) {
    for verdict in verdicts {
        out.put_u8(verdict.number());
    }
}

/// So many verdicts.
pub(crate) fn take_verdicts(
    reader: &mut Reader<'_>,
    count: usize,
) -> Result<Vec<Verdict>, DecodeError> {
    let numbers: Bytes = reader.slice("verdicts", count)?;
    let verdict = |number: &u8| {
        let unknown = DecodeError::UnknownTag { what: "verdict", tag: *number };
        Verdict::from_number(*number).ok_or(unknown)
    };
    numbers.iter().map(verdict).collect()
}

fn take_transfers(reader: &mut Reader<'_>) -> Result<TransfersEntry, DecodeError> {
    let count = reader.count("transfers")?;
    let batch = take_batch(reader, count)?;
    let verdicts = take_verdicts(reader, count)?;
    let standing = verdicts.iter().filter(|verdict| verdict.stands()).count();
    let bytes = reader.slice("slices", standing * SLICES_BYTES)?;
    let (pairs, _) = bytes.as_chunks::<SLICES_BYTES>();
    let pair = |[a, b, c, d]: &[u8; SLICES_BYTES]| {
        (SliceId(u16::from_be_bytes([*a, *b])), SliceId(u16::from_be_bytes([*c, *d])))
    };
    Ok(TransfersEntry { batch, verdicts, slices: pairs.iter().map(pair).collect() })
}
