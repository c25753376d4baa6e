//! Accounts and transfers: the messages that unary calls and the stream share.

use bytes::Bytes;
use quorate_types::{
    Account, AccountAddress, AccountChange, AccountSettings, HistoryEntry, HistoryPage,
    HistoryPosition, Hold, LogTime, RequestBody, Slot, Transfer, TransferBatch, TransferDetail,
    TransferId, TransferKind, TransferRecord, TransferResults, Uid, Verdict,
};

use super::ConvertError;
use super::words::{self, required};
use crate::v1;

/// The users whose group a request about money goes to, in order; empty for other requests. Of a
/// transfer that is the user who is debited: the other may be in another group.
pub fn account_users(body: &RequestBody) -> impl Iterator<Item = Uid> + '_ {
    let (one, batch) = match body {
        RequestBody::CreateAccount(at, _)
        | RequestBody::SetAccount(at, _)
        | RequestBody::GetAccount(at)
        | RequestBody::History { account: at, .. } => (Some(at.uid), None),
        RequestBody::GetTransfer(debit, _) => (Some(*debit), None),
        RequestBody::Transfers(batch) => (None, Some(batch)),
        RequestBody::OpenSession
        | RequestBody::CloseSession(_)
        | RequestBody::Get(_)
        | RequestBody::Scan(_)
        | RequestBody::Transact { .. }
        | RequestBody::NewCut
        | RequestBody::PinCut(_)
        | RequestBody::ReadCut(..)
        | RequestBody::UnpinCut(_)
        | RequestBody::GetMany { .. } => (None, None),
    };
    let debits = batch.into_iter().flat_map(|batch| batch.iter().map(|it| it.debit.uid));
    one.into_iter().chain(debits)
}

pub(super) fn address_to_wire(at: AccountAddress) -> v1::AccountAddress {
    v1::AccountAddress { uid: at.uid.0, ledger: at.ledger, code: at.code.into() }
}

/// A code of 0 is the usual one: so says the message.
pub(super) fn address_from_wire(at: v1::AccountAddress) -> Result<AccountAddress, ConvertError> {
    let code = match words::narrow_u16(at.code, "code")? {
        0 => AccountAddress::CODE_USUAL,
        code => code,
    };
    Ok(AccountAddress { uid: Uid(at.uid), ledger: at.ledger, code })
}

pub(super) fn required_address(
    at: Option<v1::AccountAddress>,
    field: &str,
) -> Result<AccountAddress, ConvertError> {
    address_from_wire(required(at, field)?).map_err(|error| error.inside(field))
}

fn settings_to_wire(settings: AccountSettings) -> v1::AccountSettings {
    v1::AccountSettings {
        no_floor: settings.floor.is_none(),
        floor: settings.floor.unwrap_or(0),
        no_debits: settings.no_debits,
        no_credits: settings.no_credits,
        history: settings.history,
    }
}

fn settings_from_wire(settings: v1::AccountSettings) -> AccountSettings {
    AccountSettings {
        floor: (!settings.no_floor).then_some(settings.floor),
        no_debits: settings.no_debits,
        no_credits: settings.no_credits,
        history: settings.history,
    }
}

pub(super) fn new_account_to_wire(at: AccountAddress, settings: AccountSettings) -> v1::NewAccount {
    let (address, settings) = (Some(address_to_wire(at)), Some(settings_to_wire(settings)));
    v1::NewAccount { address, settings }
}

pub(super) fn new_account_from_wire(account: v1::NewAccount) -> Result<RequestBody, ConvertError> {
    let address = required_address(account.address, "address")?;
    let settings = account.settings.map(settings_from_wire).unwrap_or_default();
    Ok(RequestBody::CreateAccount(address, settings))
}

pub(super) fn changed_account_to_wire(
    at: AccountAddress,
    change: AccountChange,
) -> v1::ChangedAccount {
    let change = v1::AccountChange {
        no_floor: change.floor == Some(None),
        floor: change.floor.flatten(),
        no_debits: change.no_debits,
        no_credits: change.no_credits,
        history: change.history,
    };
    v1::ChangedAccount { address: Some(address_to_wire(at)), change: Some(change) }
}

pub(super) fn changed_account_from_wire(
    account: v1::ChangedAccount,
) -> Result<RequestBody, ConvertError> {
    let address = required_address(account.address, "address")?;
    let change = required(account.change, "change")?;
    let floor = if change.no_floor { Some(None) } else { change.floor.map(Some) };
    let v1::AccountChange { no_debits, no_credits, history, .. } = change;
    let change = AccountChange { floor, no_debits, no_credits, history };
    Ok(RequestBody::SetAccount(address, change))
}

pub(super) fn account_to_wire(account: Account) -> v1::Account {
    v1::Account {
        address: Some(address_to_wire(account.address)),
        settings: Some(settings_to_wire(account.settings)),
        balance: account.balance,
        reserved: account.reserved,
        created_ms: account.created.0,
    }
}

pub(super) fn account_from_wire(account: v1::Account) -> Result<Account, ConvertError> {
    Ok(Account {
        address: required_address(account.address, "address")?,
        settings: settings_from_wire(required(account.settings, "settings")?),
        balance: account.balance,
        reserved: account.reserved,
        created: LogTime(account.created_ms),
    })
}

pub(super) fn id_to_wire(id: TransferId) -> Bytes {
    Bytes::copy_from_slice(&id.0.to_be_bytes())
}

fn u128_from_wire(bytes: &[u8], field: &str) -> Result<u128, ConvertError> {
    let wrong = || {
        let reason = format!("it has {} bytes, 16 are expected", bytes.len());
        ConvertError::malformed(field, reason)
    };
    bytes.try_into().map(u128::from_be_bytes).map_err(|_| wrong())
}

pub(super) fn id_from_wire(bytes: &[u8], field: &str) -> Result<TransferId, ConvertError> {
    u128_from_wire(bytes, field).map(TransferId)
}

pub(super) fn name_to_wire(debit: Uid, id: TransferId) -> v1::TransferName {
    v1::TransferName { debit_uid: debit.0, id: id_to_wire(id) }
}

pub(super) fn name_from_wire(name: &v1::TransferName) -> Result<RequestBody, ConvertError> {
    Ok(RequestBody::GetTransfer(Uid(name.debit_uid), id_from_wire(&name.id, "id")?))
}

pub(super) fn batch_from_wire(bytes: Bytes) -> Result<RequestBody, ConvertError> {
    let batch = TransferBatch::from_bytes(bytes);
    let batch = batch.map_err(|error| ConvertError::malformed("transfers", error.to_string()))?;
    Ok(RequestBody::Transfers(batch))
}

pub(super) fn transfer_to_wire(transfer: &Transfer) -> v1::Transfer {
    let (kind, pending, timeout_ms) = match transfer.kind {
        TransferKind::Post => (v1::TransferKind::Post, None, 0),
        TransferKind::Pending { timeout_ms } => (v1::TransferKind::Pending, None, timeout_ms),
        TransferKind::PostPending(id) => (v1::TransferKind::PostPending, Some(id), 0),
        TransferKind::VoidPending(id) => (v1::TransferKind::VoidPending, Some(id), 0),
    };
    let user_data = match transfer.user_data {
        0 => Bytes::new(),
        data => Bytes::copy_from_slice(&data.to_be_bytes()),
    };
    v1::Transfer {
        id: id_to_wire(transfer.id),
        kind: kind.into(),
        debit: Some(address_to_wire(transfer.debit)),
        credit: Some(address_to_wire(transfer.credit)),
        amount: transfer.amount,
        pending_id: pending.map(id_to_wire).unwrap_or_default(),
        timeout_ms,
        user_data,
        linked: transfer.linked,
    }
}

pub(super) fn transfer_from_wire(transfer: v1::Transfer) -> Result<Transfer, ConvertError> {
    let pending = || id_from_wire(&transfer.pending_id, "pending_id");
    let kind = match v1::TransferKind::try_from(transfer.kind) {
        Ok(v1::TransferKind::Post) => TransferKind::Post,
        Ok(v1::TransferKind::Pending) => TransferKind::Pending { timeout_ms: transfer.timeout_ms },
        Ok(v1::TransferKind::PostPending) => TransferKind::PostPending(pending()?),
        Ok(v1::TransferKind::VoidPending) => TransferKind::VoidPending(pending()?),
        Ok(v1::TransferKind::Unspecified) => return Err(ConvertError::missing("kind")),
        Err(_) => {
            let reason = format!("no kind has the number {}", transfer.kind);
            return Err(ConvertError::malformed("kind", reason));
        }
    };
    let user_data = match &transfer.user_data[..] {
        [] => 0,
        bytes => u128_from_wire(bytes, "user_data")?,
    };
    // What the kind does not use must not be there: the caller means something else.
    if kind.ends().is_none() && !transfer.pending_id.is_empty() {
        return Err(ConvertError::malformed("pending_id", "the kind does not use it"));
    }
    if !matches!(kind, TransferKind::Pending { .. }) && transfer.timeout_ms != 0 {
        return Err(ConvertError::malformed("timeout_ms", "the kind does not use it"));
    }
    Ok(Transfer {
        id: id_from_wire(&transfer.id, "id")?,
        kind,
        debit: required_address(transfer.debit, "debit")?,
        credit: required_address(transfer.credit, "credit")?,
        amount: transfer.amount,
        user_data,
        linked: transfer.linked,
    })
}

pub(super) fn results_to_wire(results: &TransferResults) -> v1::TransferResults {
    let detail = |detail: &TransferDetail| v1::TransferDetail {
        index: detail.index,
        slot: detail.slot.0,
        amount: detail.amount,
    };
    v1::TransferResults {
        verdicts: results.verdicts.iter().map(|verdict| verdict.number()).collect(),
        details: results.details.iter().map(detail).collect(),
    }
}

pub(super) fn results_from_wire(
    results: v1::TransferResults,
) -> Result<TransferResults, ConvertError> {
    let verdict = |number: &u8| {
        let unknown = || ConvertError::malformed("verdicts", format!("no verdict is {number}"));
        Verdict::from_number(*number).ok_or_else(unknown)
    };
    let verdicts: Vec<Verdict> = results.verdicts.iter().map(verdict).collect::<Result<_, _>>()?;
    let count = verdicts.len();
    let detail = |detail: v1::TransferDetail| {
        if count <= detail.index as usize {
            return Err(ConvertError::malformed("index", "there is no such transfer"));
        }
        Ok(TransferDetail { index: detail.index, slot: Slot(detail.slot), amount: detail.amount })
    };
    Ok(TransferResults { details: words::each(results.details, "details", detail)?, verdicts })
}

pub(super) fn record_to_wire(record: &TransferRecord) -> v1::TransferRecord {
    v1::TransferRecord {
        transfer: Some(transfer_to_wire(&record.transfer)),
        amount: record.amount,
        slot: record.slot.0,
        created_ms: record.created.0,
        hold: record.hold.map(hold_to_wire),
    }
}

pub(super) fn record_from_wire(record: v1::TransferRecord) -> Result<TransferRecord, ConvertError> {
    let transfer = transfer_from_wire(required(record.transfer, "transfer")?)
        .map_err(|error| error.inside("transfer"))?;
    let hold = record.hold.map(hold_from_wire).transpose();
    Ok(TransferRecord {
        transfer,
        amount: record.amount,
        slot: Slot(record.slot),
        created: LogTime(record.created_ms),
        hold: hold.map_err(|error| error.inside("hold"))?,
    })
}

fn hold_to_wire(hold: Hold) -> v1::Hold {
    use v1::hold::State;
    let state = match hold {
        Hold::Open { expires } => {
            State::Open(v1::OpenHold { expires_ms: expires.map(|time| time.0) })
        }
        Hold::Posted { amount, by } => State::Posted(v1::PostedHold { amount, by: id_to_wire(by) }),
        Hold::Voided { by } => State::VoidedBy(id_to_wire(by)),
        Hold::Expired => State::Expired(v1::ExpiredHold {}),
    };
    v1::Hold { state: Some(state) }
}

fn hold_from_wire(hold: v1::Hold) -> Result<Hold, ConvertError> {
    use v1::hold::State;
    Ok(match required(hold.state, "state")? {
        State::Open(v1::OpenHold { expires_ms }) => Hold::Open { expires: expires_ms.map(LogTime) },
        State::Posted(v1::PostedHold { amount, by }) => {
            Hold::Posted { amount, by: id_from_wire(&by, "posted.by")? }
        }
        State::VoidedBy(by) => Hold::Voided { by: id_from_wire(&by, "voided_by")? },
        State::Expired(v1::ExpiredHold {}) => Hold::Expired,
    })
}

fn position_to_wire(at: HistoryPosition) -> v1::HistoryPosition {
    v1::HistoryPosition { slot: at.slot.0, index: at.index.into() }
}

fn position_from_wire(at: v1::HistoryPosition) -> Result<HistoryPosition, ConvertError> {
    let index = words::narrow_u16(at.index, "index")?;
    Ok(HistoryPosition { slot: Slot(at.slot), index })
}

fn optional_position(
    at: Option<v1::HistoryPosition>,
    field: &str,
) -> Result<Option<HistoryPosition>, ConvertError> {
    at.map(position_from_wire).transpose().map_err(|error| error.inside(field))
}

pub(super) fn range_to_wire(
    account: AccountAddress,
    after: Option<HistoryPosition>,
    limit: u32,
) -> v1::HistoryRange {
    let after = after.map(position_to_wire);
    v1::HistoryRange { account: Some(address_to_wire(account)), after, limit }
}

pub(super) fn range_from_wire(range: v1::HistoryRange) -> Result<RequestBody, ConvertError> {
    let account = required_address(range.account, "account")?;
    let after = optional_position(range.after, "after")?;
    Ok(RequestBody::History { account, after, limit: range.limit })
}

pub(super) fn page_to_wire(page: HistoryPage) -> v1::HistoryPage {
    let entry = |entry: HistoryEntry| v1::HistoryEntry {
        at: Some(position_to_wire(entry.at)),
        delta: entry.delta,
        balance: entry.balance,
        transfer_id: id_to_wire(entry.transfer),
        debit_uid: entry.debit.0,
    };
    v1::HistoryPage {
        entries: page.entries.into_iter().map(entry).collect(),
        next: page.next.map(position_to_wire),
    }
}

pub(super) fn page_from_wire(page: v1::HistoryPage) -> Result<HistoryPage, ConvertError> {
    let entry = |entry: v1::HistoryEntry| {
        let at = position_from_wire(required(entry.at, "at")?).map_err(|it| it.inside("at"))?;
        let transfer = id_from_wire(&entry.transfer_id, "transfer_id")?;
        let v1::HistoryEntry { delta, balance, debit_uid, .. } = entry;
        Ok(HistoryEntry { at, delta, balance, transfer, debit: Uid(debit_uid) })
    };
    let entries = words::each(page.entries, "entries", entry)?;
    Ok(HistoryPage { entries, next: optional_position(page.next, "next")? })
}

#[cfg(test)]
#[path = "money_tests.rs"]
mod tests;
