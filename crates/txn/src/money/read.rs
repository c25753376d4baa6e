//! Reads of applied accounts, transfers and histories. The driver makes them linearizable, see
//! `read.rs` of the crate.

use bytes::Bytes;
use quorate_store::keys::{parse_account, parse_history};
use quorate_store::{Key, StoreError, View};
use quorate_types::limits::{CUT_LOOKS_MAX, HISTORY_ENTRIES_MAX, SCAN_ROWS_MAX};
use quorate_types::{
    Account, AccountAddress, AccountsPage, FoundTransfers, HistoryEntry, HistoryPage,
    HistoryPosition, Hold, TransferId, TransferKind, TransferRecord, Uid,
};

use super::books::{HoldKey, HoldNow, stored_hold};
use super::record::{HistoryRecord, decode_account, decode_history, decode_transfer};
use crate::context::Context;
use crate::record::damaged;

/// The account that a record holds; `None` if the key is of another kind of record.
///
/// # Errors
/// `StoreError` if the bytes are no account.
pub fn account_of(key: &Key, bytes: &Bytes) -> Result<Option<Account>, StoreError> {
    let Some(address) = parse_account(key) else { return Ok(None) };
    decode_account(key, address, bytes).map(Some)
}

/// Accounts that a search for transfers walks past at once.
const ACCOUNTS_AT_ONCE: usize = 256;

/// An account, if it exists.
pub(crate) fn read_account(
    at: AccountAddress,
    context: &Context<'_>,
    view: &dyn View,
) -> Result<Option<Account>, StoreError> {
    let key = context.keyspace.account(context.account_slice(at.uid), at);
    let stored = view.get(&key)?;
    stored.map(|bytes| decode_account(&key, at, &bytes)).transpose()
}

/// One page of all accounts of the group, in order of slice, user, ledger and code.
pub(crate) fn read_accounts(
    after: Option<AccountAddress>,
    limit: u32,
    context: &Context<'_>,
    view: &dyn View,
) -> Result<AccountsPage, StoreError> {
    let prefix = context.keyspace.account_prefix();
    let end = prefix.prefix_end();
    let from = match after {
        None => prefix,
        Some(at) => context.keyspace.account(context.account_slice(at.uid), at).successor(),
    };
    let limit = match usize::try_from(limit) {
        Ok(limit @ 1..=SCAN_ROWS_MAX) => limit,
        _ => SCAN_ROWS_MAX,
    };
    let mut page = AccountsPage::default();
    // One record more than the page takes tells whether there is a next page.
    for (key, bytes) in view.scan(&from, &end, limit + 1)? {
        if page.accounts.len() == limit {
            page.next = page.accounts.last().map(|account| account.address);
            break;
        }
        let at = parse_account(&key).ok_or_else(|| damaged(&key, &"it is no account key"))?;
        page.accounts.push(decode_account(&key, at, &bytes)?);
    }
    Ok(page)
}

/// A transfer, if it took effect, and how it stands if it is a pending one.
pub(crate) fn read_transfer(
    debit: Uid,
    id: TransferId,
    context: &Context<'_>,
    view: &dyn View,
) -> Result<Option<TransferRecord>, StoreError> {
    let slice = context.account_slice(debit);
    let key = context.keyspace.transfer(slice, debit, id);
    let Some(bytes) = view.get(&key)? else { return Ok(None) };
    let mut record = decode_transfer(&key, debit, id, &bytes)?;
    if let TransferKind::Pending { .. } = record.transfer.kind {
        let of = HoldKey { slice, debit, pending: id };
        record.hold = Some(match stored_hold(view, context.keyspace, of)? {
            HoldNow::Open(hold) => Hold::Open { expires: hold.expiry.at(record.created) },
            HoldNow::Closed(closed) => closed.into(),
            HoldNow::Missing => return Err(damaged(&key, &"its hold is missing")),
        });
    }
    Ok(Some(record))
}

/// One page of a search for the transfers with an id. Transfers lie by the user they debit, and nobody is
/// debited without an account: so each user of the group is looked at once.
pub(crate) fn find_transfers(
    id: TransferId,
    after: Option<Uid>,
    context: &Context<'_>,
    view: &dyn View,
) -> Result<FoundTransfers, StoreError> {
    let prefix = context.keyspace.account_prefix();
    let end = prefix.prefix_end();
    let mut from = after.map_or(prefix, |uid| past_user(uid, context));
    let (mut page, mut looks) = (FoundTransfers::default(), 0);
    loop {
        let accounts = view.scan(&from, &end, ACCOUNTS_AT_ONCE)?;
        let mut users: Vec<Uid> = Vec::with_capacity(accounts.len());
        for (key, _) in &accounts {
            let at = parse_account(key).ok_or_else(|| damaged(key, &"it is no account key"))?;
            if users.last() != Some(&at.uid) {
                users.push(at.uid);
            }
        }
        let key = |uid: &Uid| context.keyspace.transfer(context.account_slice(*uid), *uid, id);
        let keys: Vec<Key> = users.iter().map(key).collect();
        for (uid, found) in users.iter().zip(view.get_many(&keys)?) {
            if found.is_some() {
                page.transfers.extend(read_transfer(*uid, id, context, view)?);
            }
        }
        looks += accounts.len();
        let last = users.last().copied().filter(|_| accounts.len() == ACCOUNTS_AT_ONCE);
        let Some(last) = last else { return Ok(page) };
        if CUT_LOOKS_MAX <= looks || SCAN_ROWS_MAX <= page.transfers.len() {
            page.next = Some(last);
            return Ok(page);
        }
        from = past_user(last, context);
    }
}

/// Where the accounts of the users after this one begin.
fn past_user(uid: Uid, context: &Context<'_>) -> Key {
    let last = AccountAddress { uid, ledger: u32::MAX, code: u16::MAX };
    context.keyspace.account(context.account_slice(uid), last).successor()
}

/// One page of a history, oldest first.
pub(crate) fn read_history(
    account: AccountAddress,
    after: Option<HistoryPosition>,
    limit: u32,
    context: &Context<'_>,
    view: &dyn View,
) -> Result<HistoryPage, StoreError> {
    let slice = context.account_slice(account.uid);
    let prefix = context.keyspace.history_prefix(slice, account);
    let end = prefix.prefix_end();
    let from = match after {
        None => prefix,
        Some(after) => context.keyspace.history(slice, account, after).successor(),
    };
    let limit = match usize::try_from(limit) {
        Ok(limit @ 1..=HISTORY_ENTRIES_MAX) => limit,
        _ => HISTORY_ENTRIES_MAX,
    };
    let mut page = HistoryPage::default();
    if end <= from {
        return Ok(page);
    }
    // One more than the page takes tells whether there is a next page.
    for (key, bytes) in view.scan(&from, &end, limit + 1)? {
        if page.entries.len() == limit {
            page.next = page.entries.last().map(|last| last.at);
            break;
        }
        let at = parse_history(&key).ok_or_else(|| damaged(&key, &"it is no key of a history"))?;
        let HistoryRecord { delta, balance, debit, transfer } = decode_history(&key, &bytes)?;
        page.entries.push(HistoryEntry { at, delta, balance, transfer, debit });
    }
    Ok(page)
}
