//! The unary calls of the service `Bank` and their responses.

use quorate_types::{
    Error, GroupId, Reply, ReplyBody, RequestBody, Slot, TransferBatch, TransferResults, Uid,
    Verdict,
};

use super::ConvertError;
use super::error::LeaderHint;
use super::money;
use super::reply::{header, other_answer};
use super::request::{Call, Place};
use super::words::{self, required};
use crate::v1;

impl Call {
    /// A call of `CreateAccount`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_create_account(call: v1::CreateAccountRequest) -> Result<Call, ConvertError> {
        let account = required(call.account, "account")?;
        let body = money::new_account_from_wire(account);
        Call::about_money(call.context, body.map_err(|error| error.inside("account"))?)
    }

    /// A call of `SetAccount`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_set_account(call: v1::SetAccountRequest) -> Result<Call, ConvertError> {
        let account = required(call.account, "account")?;
        let body = money::changed_account_from_wire(account);
        Call::about_money(call.context, body.map_err(|error| error.inside("account"))?)
    }

    /// A call of `GetAccount`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_get_account(call: v1::GetAccountRequest) -> Result<Call, ConvertError> {
        let address = money::required_address(call.address, "address")?;
        Call::about_money(call.context, RequestBody::GetAccount(address))
    }

    /// A call of `CreateTransfers`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_create_transfers(call: v1::CreateTransfersRequest) -> Result<Call, ConvertError> {
        let transfers = words::each(call.transfers, "transfers", money::transfer_from_wire)?;
        let batch = TransferBatch::new(&transfers);
        Call::about_money(call.context, RequestBody::Transfers(batch))
    }

    /// A call of `GetTransfer`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_get_transfer(call: v1::GetTransferRequest) -> Result<Call, ConvertError> {
        let name = required(call.name, "name")?;
        let body = money::name_from_wire(&name).map_err(|error| error.inside("name"))?;
        Call::about_money(call.context, body)
    }

    /// A call of `AccountHistory`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_account_history(call: v1::AccountHistoryRequest) -> Result<Call, ConvertError> {
        let range = required(call.range, "range")?;
        let body = money::range_from_wire(range).map_err(|error| error.inside("range"))?;
        Call::about_money(call.context, body)
    }

    fn about_money(
        context: Option<v1::RequestContext>,
        body: RequestBody,
    ) -> Result<Call, ConvertError> {
        // A batch without transfers has no place; whoever takes it refuses it for that.
        let user = money::account_users(&body).next().unwrap_or(Uid(0));
        Call::new(context, Place::Accounts(user), body)
    }
}

/// The response of `CreateAccount`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn create_account_response(
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::CreateAccountResponse, Error> {
    let (header, account) = account_of("CreateAccount", group, reply, leader)?;
    Ok(v1::CreateAccountResponse { header, account })
}

/// The response of `SetAccount`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn set_account_response(
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::SetAccountResponse, Error> {
    let (header, account) = account_of("SetAccount", group, reply, leader)?;
    Ok(v1::SetAccountResponse { header, account })
}

/// The response of `GetAccount`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn get_account_response(
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::GetAccountResponse, Error> {
    let (header, account) = account_of("GetAccount", group, reply, leader)?;
    Ok(v1::GetAccountResponse { header, account })
}

/// The response of `CreateTransfers` to these transfers.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn create_transfers_response(
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
    asked: &TransferBatch,
) -> Result<v1::CreateTransfersResponse, Error> {
    let ReplyBody::Transfers(results) = &reply.body else {
        return Err(other_answer("CreateTransfers", &reply.body));
    };
    let results = results_to_wire(results, reply.at.slot, asked);
    Ok(v1::CreateTransfersResponse { header: header(group, reply, leader), results })
}

/// The response of `GetTransfer`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn get_transfer_response(
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::GetTransferResponse, Error> {
    let ReplyBody::Transfer(found) = &reply.body else {
        return Err(other_answer("GetTransfer", &reply.body));
    };
    let transfer = found.as_ref().map(|record| money::record_to_wire(record));
    Ok(v1::GetTransferResponse { header: header(group, reply, leader), transfer })
}

/// The response of `AccountHistory`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn account_history_response(
    group: GroupId,
    reply: Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::AccountHistoryResponse, Error> {
    let header = header(group, &reply, leader);
    let ReplyBody::History(page) = reply.body else {
        return Err(other_answer("AccountHistory", &reply.body));
    };
    Ok(v1::AccountHistoryResponse { header, page: Some(money::page_to_wire(page)) })
}

fn account_of(
    call: &str,
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<(Option<v1::ResponseHeader>, Option<v1::Account>), Error> {
    let ReplyBody::Account(account) = reply.body else {
        return Err(other_answer(call, &reply.body));
    };
    Ok((header(group, reply, leader), account.map(money::account_to_wire)))
}

/// Every transfer with slot and amount, so that a caller need not put details beside verdicts.
fn results_to_wire(
    results: &TransferResults,
    slot: Slot,
    asked: &TransferBatch,
) -> Vec<v1::TransferResult> {
    let mut details = results.details.iter().peekable();
    let result = |(index, verdict): (usize, &Verdict)| {
        let known = details.next_if(|detail| detail.index as usize == index);
        let (slot, amount) = match (known, verdict) {
            (Some(detail), _) => (detail.slot, detail.amount),
            (None, Verdict::Created) => {
                (slot, asked.get(index).map_or(0, |transfer| transfer.amount))
            }
            (None, _) => (Slot::ZERO, 0),
        };
        let verdict = i32::from(verdict.number());
        v1::TransferResult { verdict, slot: slot.0, amount }
    };
    results.verdicts.iter().enumerate().map(result).collect()
}

#[cfg(test)]
#[path = "bank_tests.rs"]
mod tests;
