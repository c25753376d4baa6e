//! What transfers do once it is settled that they do it: the same steps where they are decided, where
//! they are applied, and where those between groups are committed.

use quorate_types::{Slot, Transfer, TransferDetail, TransferKind};

use super::books::{Books, Broken, HoldKey, Item};
use super::record::{ClosedHold, Expiry, OpenHold};

/// What ends a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Posted(u64),
    Voided,
}

impl Ending {
    /// What the transfer moves or releases.
    pub(super) fn amount(self, hold: &OpenHold) -> u64 {
        match self {
            Ending::Posted(amount) => amount,
            Ending::Voided => hold.amount,
        }
    }
}

/// How a transfer ends a hold.
pub(super) fn ending(transfer: &Transfer, hold: &OpenHold) -> Ending {
    match transfer.kind {
        TransferKind::PostPending(_) if transfer.amount == 0 => Ending::Posted(hold.amount),
        TransferKind::PostPending(_) => Ending::Posted(transfer.amount),
        TransferKind::VoidPending(_) | TransferKind::Post | TransferKind::Pending { .. } => {
            Ending::Voided
        }
    }
}

/// Takes the steps of a post or void of a pending transfer.
pub(super) fn end_hold(
    books: &mut Books<'_>,
    item: Item,
    transfer: &Transfer,
    key: HoldKey,
    hold: &OpenHold,
) -> Result<(), Broken> {
    let by = transfer.id;
    match ending(transfer, hold) {
        Ending::Voided => books.release(item.debit()?, key, hold, ClosedHold::Voided { by }),
        Ending::Posted(amount) => {
            books.release(item.debit()?, key, hold, ClosedHold::Posted { amount, by })?;
            books.post(item, transfer, amount)
        }
    }
}

/// The expiry of a hold that is being opened.
pub(super) fn expiry(timeout_ms: u32) -> Expiry {
    if timeout_ms == 0 { Expiry::Never } else { Expiry::After(timeout_ms) }
}

/// More about the transfer at `index`.
pub(super) fn detail(index: usize, slot: Slot, amount: u64) -> TransferDetail {
    let index = u32::try_from(index).expect("a batch has at most 8,190 transfers");
    TransferDetail { index, slot, amount }
}
