//! Transfers as bytes: the layout in which they travel and stand in the log.
//!
//! 96 bytes each, stable for ever, integers big-endian. What a kind does not use is 0, so that a
//! transfer has exactly one encoding and a retry can be compared byte by byte:
//!
//! | bytes | what |
//! |---|---|
//! | 0-15 | id |
//! | 16-23 | UID of the debit account |
//! | 24-31 | UID of the credit account |
//! | 32-47 | id of the pending transfer, for post and void of one |
//! | 48-63 | user data |
//! | 64-71 | amount |
//! | 72-75 | ledger of the debit account |
//! | 76-79 | ledger of the credit account |
//! | 80-81 | code of the debit account |
//! | 82-83 | code of the credit account |
//! | 84-87 | time-out in ms, for a pending one |
//! | 88 | kind: `1` post, `2` pending, `3` post of a pending one, `4` void of one |
//! | 89 | flags: bit 0 linked |
//! | 90-95 | 0 |

use bytes::{BufMut, Bytes, BytesMut};

use super::account::AccountAddress;
use super::transfer::{Transfer, TransferId, TransferKind};
use crate::ids::Uid;

/// Bytes of one transfer.
pub const TRANSFER_BYTES: usize = 96;

const KIND_POST: u8 = 1;
const KIND_PENDING: u8 = 2;
const KIND_POST_PENDING: u8 = 3;
const KIND_VOID_PENDING: u8 = 4;
const FLAG_LINKED: u8 = 1;

/// Transfers in their layout, shared with the frame or the entry they came in.
///
/// Invariant: whole transfers, each in its one encoding. How many is not limited here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferBatch(Bytes);

/// Why bytes are no transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// The last transfer is cut.
    Cut {
        /// Bytes there are.
        bytes: usize,
    },
    /// A transfer has a kind or a flag this version does not know, or something that its kind does
    /// not use.
    Malformed {
        /// Which, from 0.
        index: usize,
        /// What is wrong.
        what: &'static str,
    },
}

impl std::fmt::Display for BatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BatchError::Cut { bytes } => {
                write!(f, "{bytes} bytes are no multiple of {TRANSFER_BYTES}")
            }
            BatchError::Malformed { index, what } => write!(f, "transfer {index} has {what}"),
        }
    }
}

impl std::error::Error for BatchError {}

impl TransferBatch {
    /// The batch of these transfers.
    #[must_use]
    pub fn new(transfers: &[Transfer]) -> TransferBatch {
        let mut out = BytesMut::with_capacity(transfers.len() * TRANSFER_BYTES);
        for transfer in transfers {
            out.put_slice(&encode(transfer));
        }
        TransferBatch(out.freeze())
    }

    /// The batch in these bytes. Shares their memory.
    ///
    /// # Errors
    /// `BatchError` if they are not whole transfers in their one encoding.
    pub fn from_bytes(bytes: Bytes) -> Result<TransferBatch, BatchError> {
        let (transfers, rest) = bytes.as_chunks::<TRANSFER_BYTES>();
        if !rest.is_empty() {
            return Err(BatchError::Cut { bytes: bytes.len() });
        }
        for (index, transfer) in transfers.iter().enumerate() {
            decode(transfer).map_err(|what| BatchError::Malformed { index, what })?;
        }
        Ok(TransferBatch(bytes))
    }

    /// The layout.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// How many transfers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len() / TRANSFER_BYTES
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Some of them, in order. Shares the memory.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn range(&self, range: std::ops::Range<usize>) -> TransferBatch {
        TransferBatch(self.0.slice(range.start * TRANSFER_BYTES..range.end * TRANSFER_BYTES))
    }

    /// One of the transfers.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Transfer> {
        let (transfers, _) = self.0.as_chunks::<TRANSFER_BYTES>();
        transfers.get(index).map(|transfer| decode(transfer).expect("the batch was checked"))
    }

    /// The transfers in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Transfer> + ExactSizeIterator + '_ {
        let (transfers, _) = self.0.as_chunks::<TRANSFER_BYTES>();
        transfers.iter().map(|transfer| decode(transfer).expect("the batch was checked"))
    }
}

/// Big-endian integers at fixed places.
macro_rules! take {
    ($bytes:expr, $from:literal, $to:literal, $number:ty) => {
        <$number>::from_be_bytes($bytes[$from..$to].try_into().expect("the range has its length"))
    };
}

fn encode(transfer: &Transfer) -> [u8; TRANSFER_BYTES] {
    let mut bytes = [0; TRANSFER_BYTES];
    let (kind, pending, timeout_ms) = match transfer.kind {
        TransferKind::Post => (KIND_POST, 0, 0),
        TransferKind::Pending { timeout_ms } => (KIND_PENDING, 0, timeout_ms),
        TransferKind::PostPending(pending) => (KIND_POST_PENDING, pending.0, 0),
        TransferKind::VoidPending(pending) => (KIND_VOID_PENDING, pending.0, 0),
    };
    let (debit, credit) = (transfer.debit, transfer.credit);
    bytes[0..16].copy_from_slice(&transfer.id.0.to_be_bytes());
    bytes[16..24].copy_from_slice(&debit.uid.0.to_be_bytes());
    bytes[24..32].copy_from_slice(&credit.uid.0.to_be_bytes());
    bytes[32..48].copy_from_slice(&pending.to_be_bytes());
    bytes[48..64].copy_from_slice(&transfer.user_data.to_be_bytes());
    bytes[64..72].copy_from_slice(&transfer.amount.to_be_bytes());
    bytes[72..76].copy_from_slice(&debit.ledger.to_be_bytes());
    bytes[76..80].copy_from_slice(&credit.ledger.to_be_bytes());
    bytes[80..82].copy_from_slice(&debit.code.to_be_bytes());
    bytes[82..84].copy_from_slice(&credit.code.to_be_bytes());
    bytes[84..88].copy_from_slice(&timeout_ms.to_be_bytes());
    bytes[88] = kind;
    bytes[89] = if transfer.linked { FLAG_LINKED } else { 0 };
    bytes
}

fn decode(bytes: &[u8; TRANSFER_BYTES]) -> Result<Transfer, &'static str> {
    let pending = TransferId(take!(bytes, 32, 48, u128));
    let timeout_ms = take!(bytes, 84, 88, u32);
    let kind = match bytes[88] {
        KIND_POST => TransferKind::Post,
        KIND_PENDING => TransferKind::Pending { timeout_ms },
        KIND_POST_PENDING => TransferKind::PostPending(pending),
        KIND_VOID_PENDING => TransferKind::VoidPending(pending),
        _ => return Err("an unknown kind"),
    };
    if kind.ends().is_none() && pending.0 != 0 {
        return Err("the id of a pending transfer, which its kind does not use");
    }
    if !matches!(kind, TransferKind::Pending { .. }) && timeout_ms != 0 {
        return Err("a time-out, which its kind does not use");
    }
    if bytes[89] & !FLAG_LINKED != 0 || bytes[90..96] != [0; 6] {
        return Err("flags this version does not know");
    }
    let debit = AccountAddress {
        uid: Uid(take!(bytes, 16, 24, u64)),
        ledger: take!(bytes, 72, 76, u32),
        code: take!(bytes, 80, 82, u16),
    };
    let credit = AccountAddress {
        uid: Uid(take!(bytes, 24, 32, u64)),
        ledger: take!(bytes, 76, 80, u32),
        code: take!(bytes, 82, 84, u16),
    };
    Ok(Transfer {
        id: TransferId(take!(bytes, 0, 16, u128)),
        kind,
        debit,
        credit,
        amount: take!(bytes, 64, 72, u64),
        user_data: take!(bytes, 48, 64, u128),
        linked: bytes[89] & FLAG_LINKED != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Vec<Transfer> {
        let debit = AccountAddress { uid: Uid(u64::MAX - 1), ledger: u32::MAX, code: 0x0102 };
        let credit = AccountAddress { uid: Uid(0x0304), ledger: 0x0506, code: u16::MAX };
        let (id, pending) = (TransferId(u128::MAX), TransferId(u128::MAX >> 1));
        let post = Transfer { user_data: 1 << 100, ..Transfer::post(id, debit, credit, u64::MAX) };
        vec![
            post,
            Transfer { linked: true, ..post },
            Transfer { kind: TransferKind::Pending { timeout_ms: u32::MAX }, ..post },
            Transfer { kind: TransferKind::PostPending(pending), ..post },
            Transfer { kind: TransferKind::VoidPending(pending), ..post },
        ]
    }

    #[test]
    fn transfers_survive_their_bytes() {
        // Goal: every field of every kind comes back, and so do the bytes.
        let batch = TransferBatch::new(&full());
        assert_eq!(batch.len(), 5);
        assert_eq!(batch.iter().collect::<Vec<_>>(), full());
        assert_eq!(TransferBatch::from_bytes(batch.bytes().clone()), Ok(batch));
    }

    #[test]
    fn the_layout_never_changes() {
        // Goal: logs of today are read for ever.
        let debit = AccountAddress { uid: Uid(2), ledger: 3, code: 4 };
        let credit = AccountAddress { uid: Uid(5), ledger: 6, code: 7 };
        let transfer = Transfer {
            user_data: 8,
            linked: true,
            ..Transfer::pending(TransferId(1), debit, credit, 9, 10)
        };
        let mut want = [0; TRANSFER_BYTES];
        let ones = [(15, 1), (23, 2), (31, 5), (63, 8), (71, 9), (75, 3), (79, 6), (81, 4)];
        for (at, byte) in ones.into_iter().chain([(83, 7), (87, 10), (88, 2), (89, 1)]) {
            want[at] = byte;
        }
        assert_eq!(&TransferBatch::new(&[transfer]).bytes()[..], &want);
    }

    #[test]
    fn other_bytes_are_refused() {
        // Goal: bytes that decode encode back to themselves, whatever single byte is changed.
        let good = TransferBatch::new(&full());
        let cut = good.bytes().slice(1..);
        assert_eq!(
            TransferBatch::from_bytes(cut.clone()),
            Err(BatchError::Cut { bytes: cut.len() })
        );
        for at in 0..good.bytes().len() {
            for flip in [1, 2, 4, 0x80] {
                let mut bytes = good.bytes().to_vec();
                bytes[at] ^= flip;
                match TransferBatch::from_bytes(bytes.clone().into()) {
                    Ok(batch) => {
                        let transfers: Vec<_> = batch.iter().collect();
                        assert_eq!(TransferBatch::new(&transfers).bytes()[..], bytes[..]);
                    }
                    Err(BatchError::Malformed { index, .. }) => {
                        assert_eq!(index, at / TRANSFER_BYTES);
                    }
                    Err(error @ BatchError::Cut { .. }) => panic!("{error}"),
                }
            }
        }
    }
}
