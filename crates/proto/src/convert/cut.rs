//! Cuts: the messages that unary calls and the stream share, the unary calls of the service `Cuts` and
//! their responses.

use quorate_types::{
    AccountsPage, CutId, CutRange, Error, FoundTransfers, GroupId, LogTime, RecordsPage, Reply,
    ReplyBody, RequestBody, Slot, Uid,
};

use super::error::LeaderHint;
use super::money;
use super::reply::{header, other_answer, page_to_wire};
use super::request::{Call, Place, scan_from_wire, scan_to_wire};
use super::words::{self, required};
use super::{ConvertError, Tables};
use crate::v1;

pub(super) fn read_to_wire(cut: CutId, range: CutRange) -> v1::ReadCut {
    use v1::read_cut::What;
    let what = match range {
        CutRange::Accounts { after, limit } => {
            let after = after.map(money::address_to_wire);
            What::Accounts(v1::CutAccounts { after, limit })
        }
        CutRange::Rows(range) => What::Rows(scan_to_wire(range)),
        CutRange::Transfers { id, after } => {
            let after_uid = after.map(|uid| uid.0);
            What::Transfers(v1::CutTransfers { id: money::id_to_wire(id), after_uid })
        }
        CutRange::Records { after, bytes } => What::Records(v1::CutRecords { after, bytes }),
    };
    v1::ReadCut { cut: cut.0, what: Some(what) }
}

pub(super) fn read_from_wire(
    read: v1::ReadCut,
    tables: Tables<'_>,
) -> Result<RequestBody, ConvertError> {
    use v1::read_cut::What;
    let range = match required(read.what, "what")? {
        What::Accounts(accounts) => {
            range_of_accounts(accounts).map_err(|error| error.inside("accounts"))?
        }
        What::Rows(range) => {
            CutRange::Rows(scan_from_wire(range, tables).map_err(|error| error.inside("rows"))?)
        }
        What::Transfers(transfers) => {
            range_of_transfers(&transfers).map_err(|error| error.inside("transfers"))?
        }
        What::Records(v1::CutRecords { after, bytes }) => CutRange::Records { after, bytes },
    };
    Ok(RequestBody::ReadCut(CutId(read.cut), range))
}

fn range_of_accounts(accounts: v1::CutAccounts) -> Result<CutRange, ConvertError> {
    let after = accounts.after.map(money::address_from_wire).transpose();
    let after = after.map_err(|error| error.inside("after"))?;
    Ok(CutRange::Accounts { after, limit: accounts.limit })
}

fn range_of_transfers(transfers: &v1::CutTransfers) -> Result<CutRange, ConvertError> {
    let id = money::id_from_wire(&transfers.id, "id")?;
    Ok(CutRange::Transfers { id, after: transfers.after_uid.map(Uid) })
}

pub(super) fn found_to_wire(page: &FoundTransfers) -> v1::FoundTransfers {
    v1::FoundTransfers {
        transfers: page.transfers.iter().map(money::record_to_wire).collect(),
        next_uid: page.next.map(|uid| uid.0),
    }
}

pub(super) fn found_from_wire(page: v1::FoundTransfers) -> Result<FoundTransfers, ConvertError> {
    let transfers = words::each(page.transfers, "transfers", money::record_from_wire)?;
    Ok(FoundTransfers { transfers, next: page.next_uid.map(Uid) })
}

pub(super) fn records_to_wire(page: RecordsPage) -> v1::RecordsPage {
    let RecordsPage { records, next, upto, log_time } = page;
    v1::RecordsPage { records, next, upto: upto.0, log_time_ms: log_time.0 }
}

pub(super) fn records_from_wire(page: v1::RecordsPage) -> RecordsPage {
    let v1::RecordsPage { records, next, upto, log_time_ms } = page;
    RecordsPage { records, next, upto: Slot(upto), log_time: LogTime(log_time_ms) }
}

pub(super) fn accounts_to_wire(page: AccountsPage) -> v1::AccountsPage {
    v1::AccountsPage {
        accounts: page.accounts.into_iter().map(money::account_to_wire).collect(),
        next: page.next.map(money::address_to_wire),
    }
}

pub(super) fn accounts_from_wire(page: v1::AccountsPage) -> Result<AccountsPage, ConvertError> {
    let next = page.next.map(money::address_from_wire).transpose();
    Ok(AccountsPage {
        accounts: words::each(page.accounts, "accounts", money::account_from_wire)?,
        next: next.map_err(|error| error.inside("next"))?,
    })
}

impl Call {
    /// A call of `NewCut`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_new_cut(call: v1::NewCutRequest) -> Result<Call, ConvertError> {
        Call::new(call.context, Place::Cuts, RequestBody::NewCut)
    }

    /// A call of `PinCut`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_pin_cut(call: v1::PinCutRequest) -> Result<Call, ConvertError> {
        Call::of_named_group(call.context, RequestBody::PinCut(CutId(call.cut)))
    }

    /// A call of `ReadCutAccounts`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_read_cut_accounts(call: v1::ReadCutAccountsRequest) -> Result<Call, ConvertError> {
        let range = range_of_accounts(call.accounts.unwrap_or_default());
        let range = range.map_err(|error| error.inside("accounts"))?;
        Call::of_named_group(call.context, RequestBody::ReadCut(CutId(call.cut), range))
    }

    /// A call of `ReadCutRows`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_read_cut_rows(
        call: v1::ReadCutRowsRequest,
        tables: Tables<'_>,
    ) -> Result<Call, ConvertError> {
        let range = scan_from_wire(required(call.range, "range")?, tables);
        let range = CutRange::Rows(range.map_err(|error| error.inside("range"))?);
        Call::of_named_group(call.context, RequestBody::ReadCut(CutId(call.cut), range))
    }

    /// A call of `ReadCutTransfers`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_read_cut_transfers(
        call: v1::ReadCutTransfersRequest,
    ) -> Result<Call, ConvertError> {
        let range = range_of_transfers(&required(call.transfers, "transfers")?);
        let range = range.map_err(|error| error.inside("transfers"))?;
        Call::of_named_group(call.context, RequestBody::ReadCut(CutId(call.cut), range))
    }

    /// A call of `UnpinCut`.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_unpin_cut(call: v1::UnpinCutRequest) -> Result<Call, ConvertError> {
        Call::of_named_group(call.context, RequestBody::UnpinCut(CutId(call.cut)))
    }

    fn of_named_group(
        context: Option<v1::RequestContext>,
        body: RequestBody,
    ) -> Result<Call, ConvertError> {
        match context.as_ref().map_or(0, |context| context.group) {
            0 => Err(ConvertError::missing("context.group")),
            group => Call::new(context, Place::Group(GroupId(group)), body),
        }
    }
}

/// The response of `NewCut`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn new_cut_response(
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::NewCutResponse, Error> {
    let (header, cut) = cut_of("NewCut", group, reply, leader)?;
    Ok(v1::NewCutResponse { header, cut: cut.0 })
}

/// The response of `PinCut`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn pin_cut_response(
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::PinCutResponse, Error> {
    let (header, _) = cut_of("PinCut", group, reply, leader)?;
    Ok(v1::PinCutResponse { header })
}

/// The response of `UnpinCut`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn unpin_cut_response(
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::UnpinCutResponse, Error> {
    let (header, _) = cut_of("UnpinCut", group, reply, leader)?;
    Ok(v1::UnpinCutResponse { header })
}

/// The response of `ReadCutAccounts`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn read_cut_accounts_response(
    group: GroupId,
    reply: Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::ReadCutAccountsResponse, Error> {
    let header = header(group, &reply, leader);
    let ReplyBody::Accounts(page) = reply.body else {
        return Err(other_answer("ReadCutAccounts", &reply.body));
    };
    Ok(v1::ReadCutAccountsResponse { header, page: Some(accounts_to_wire(page)) })
}

/// The response of `ReadCutRows`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn read_cut_rows_response(
    group: GroupId,
    reply: Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::ReadCutRowsResponse, Error> {
    let header = header(group, &reply, leader);
    let ReplyBody::Page(page) = reply.body else {
        return Err(other_answer("ReadCutRows", &reply.body));
    };
    Ok(v1::ReadCutRowsResponse { header, page: Some(page_to_wire(page)) })
}

/// The response of `ReadCutTransfers`.
///
/// # Errors
/// `INTERNAL` if the reply answers something else.
pub fn read_cut_transfers_response(
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<v1::ReadCutTransfersResponse, Error> {
    let ReplyBody::FoundTransfers(page) = &reply.body else {
        return Err(other_answer("ReadCutTransfers", &reply.body));
    };
    let page = Some(found_to_wire(page));
    Ok(v1::ReadCutTransfersResponse { header: header(group, reply, leader), page })
}

fn cut_of(
    call: &str,
    group: GroupId,
    reply: &Reply,
    leader: Option<&LeaderHint>,
) -> Result<(Option<v1::ResponseHeader>, CutId), Error> {
    let ReplyBody::Cut(cut) = reply.body else { return Err(other_answer(call, &reply.body)) };
    Ok((header(group, reply, leader), cut))
}

#[cfg(test)]
#[path = "cut_tests.rs"]
mod tests;
