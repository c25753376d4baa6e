//! What a request about money may look like. Called by `limits.rs` of this crate, at the edge.

use quorate_types::limits::{CHAIN_MAX, TRANSFERS_MAX};
use quorate_types::{AccountSettings, Code, Error, Request, RequestBody, TransferBatch};

/// Refuses a request about money that no group could carry out. Transfers that contradict themselves
/// pass: they get a verdict each.
///
/// # Errors
/// `BATCH_TOO_LARGE`, `FLOOR_ABOVE_BALANCE` or `INVALID_REQUEST`.
pub(crate) fn check_limits(request: &Request) -> Result<(), Error> {
    match &request.body {
        RequestBody::Transfers(batch) => check_batch(batch),
        RequestBody::CreateAccount(at, AccountSettings { floor: Some(floor), .. })
            if 0 < *floor =>
        {
            let message = format!("account {at} begins with 0, below its floor of {floor}");
            Err(Error::new(Code::FloorAboveBalance, message).with("floor", floor))
        }
        _ => Ok(()),
    }
}

fn check_batch(batch: &TransferBatch) -> Result<(), Error> {
    let count = batch.len();
    if count == 0 || TRANSFERS_MAX < count {
        let message = format!("the batch has {count} transfers");
        return Err(Error::new(Code::BatchTooLarge, message).with("transfers", count));
    }
    let mut chain = 1;
    for (index, transfer) in batch.iter().enumerate() {
        chain = if transfer.linked { chain + 1 } else { 1 };
        if CHAIN_MAX < chain {
            let message = format!("the chain at transfer {index} has more than {CHAIN_MAX}");
            return Err(Error::new(Code::InvalidRequest, message).with("index", index));
        }
    }
    Ok(())
}
