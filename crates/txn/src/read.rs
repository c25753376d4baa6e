//! Reads of applied rows: one row, or a page of a scan.
//!
//! Called by `evaluate.rs`, and by drivers for reads that any replica may answer. Nothing here makes a read linearizable: the driver takes the view, then
//! reads the clock, then asks for the lease before it releases what was read.

use quorate_store::keys::parse_row;
use quorate_store::{Key, Row, StoreError, View, encode_page, state_page};
use quorate_types::limits::{CUT_PAGE_BYTES, SCAN_BYTES_MAX, SCAN_ROWS_MAX};
use quorate_types::{
    CutRange, RecordsPage, ReplyBody, RequestBody, RowAddress, ScanPage, ScanRange, ScannedRow,
    SliceId, Value,
};

use crate::context::Context;
use crate::cross::CutEnd;
use crate::draft::row_value;
use crate::money;
use crate::record::damaged;

/// Rows fetched at once. A page of large values ends after a few rows, and a seek is paid per fetch.
const FETCH_ROWS: usize = 64;
/// What a row counts for besides key and value.
const ROW_BYTES: usize = 16;

/// What a read finds in a view, whatever is undecided. `None` if it is no read of rows, accounts or
/// transfers.
///
/// # Errors
/// `StoreError` if records could not be read.
pub fn read_applied(
    body: &RequestBody,
    context: &Context<'_>,
    view: &dyn View,
) -> Result<Option<ReplyBody>, StoreError> {
    Ok(Some(match body {
        RequestBody::Get(at) => ReplyBody::Row(read_row(at, context, view)?),
        RequestBody::Scan(range) => ReplyBody::Page(scan_page(range, context, view)?),
        RequestBody::GetAccount(at) => ReplyBody::Account(money::read_account(*at, context, view)?),
        RequestBody::GetTransfer(debit, id) => {
            let found = money::read_transfer(*debit, *id, context, view)?;
            ReplyBody::Transfer(found.map(Box::new))
        }
        RequestBody::History { account, after, limit } => {
            ReplyBody::History(money::read_history(*account, *after, *limit, context, view)?)
        }
        _ => return Ok(None),
    }))
}

/// The value of one row.
///
/// # Errors
/// `StoreError` if it could not be read.
pub fn read_row(
    at: &RowAddress,
    context: &Context<'_>,
    view: &dyn View,
) -> Result<Option<Value>, StoreError> {
    row_value(view, &context.key(at))
}

/// One page of what is read at a cut, from the view that stands there and holds nothing of an entry
/// behind `end`.
///
/// # Errors
/// `StoreError` if records could not be read.
pub fn read_at_cut(
    range: &CutRange,
    context: &Context<'_>,
    view: &dyn View,
    end: CutEnd,
) -> Result<ReplyBody, StoreError> {
    Ok(match range {
        CutRange::Rows(range) => ReplyBody::Page(scan_page(range, context, view)?),
        CutRange::Accounts { after, limit } => {
            ReplyBody::Accounts(money::read_accounts(*after, *limit, context, view)?)
        }
        CutRange::Transfers { id, after } => {
            ReplyBody::FoundTransfers(money::find_transfers(*id, *after, context, view)?)
        }
        CutRange::Records { after, bytes } => {
            let bytes_max = match *bytes as usize {
                bytes @ 1..=CUT_PAGE_BYTES => bytes,
                _ => CUT_PAGE_BYTES,
            };
            let records = state_page(view, context.keyspace, after.as_deref(), bytes_max)?;
            let next = records.last().map(|record| record.key.clone());
            let CutEnd { upto, log_time } = end;
            ReplyBody::Records(RecordsPage { records: encode_page(&records), next, upto, log_time })
        }
    })
}

/// One page of a scan. It ends at the limit of rows, or before its bytes exceed `SCAN_BYTES_MAX`.
///
/// # Errors
/// `StoreError` if rows could not be read.
pub fn scan_page(
    range: &ScanRange,
    context: &Context<'_>,
    view: &dyn View,
) -> Result<ScanPage, StoreError> {
    let (mut from, end) = bounds(range, context);
    let limit = match usize::try_from(range.limit) {
        Ok(limit @ 1..=SCAN_ROWS_MAX) => limit,
        _ => SCAN_ROWS_MAX,
    };
    let mut page = ScanPage::default();
    let mut bytes = 0;
    while from < end {
        // One row more than the page takes tells whether there is a next page.
        let fetch = FETCH_ROWS.min(limit - page.rows.len() + 1);
        let records = view.scan(&from, &end, fetch)?;
        let complete = records.len() < fetch;
        for (key, record) in records {
            let row = scanned_row(&key, &record)?;
            bytes += row.key.len() + row.value.size() + ROW_BYTES;
            let full = page.rows.len() == limit || SCAN_BYTES_MAX < bytes;
            if full && let Some(last) = page.rows.last() {
                page.next = Some((last.uid, last.key.clone()));
                return Ok(page);
            }
            page.rows.push(row);
            from = key.successor();
        }
        if complete {
            break;
        }
    }
    Ok(page)
}

/// First key and end of what is left of the scan.
pub(crate) fn bounds(range: &ScanRange, context: &Context<'_>) -> (Key, Key) {
    let (slice, first) = match range.uid {
        Some(uid) => {
            let slice = (context.slice_of)(range.table, uid);
            (slice, context.keyspace.row(slice, range.table, uid, &range.prefix))
        }
        None => {
            let slice = SliceId(range.slice);
            (slice, context.keyspace.table_prefix(slice, range.table))
        }
    };
    let end = first.prefix_end();
    let from = match &range.after {
        None => first,
        Some((uid, key)) => {
            let next = context.keyspace.row(slice, range.table, *uid, key).successor();
            next.max(first)
        }
    };
    (from, end)
}

fn scanned_row(key: &Key, record: &bytes::Bytes) -> Result<ScannedRow, StoreError> {
    let row = Row::decode(record).map_err(|error| error.at(key))?;
    let (_, _, uid, client_key) =
        parse_row(key).ok_or_else(|| damaged(key, &"it is no row key"))?;
    let key = bytes::Bytes::copy_from_slice(client_key);
    Ok(ScannedRow { uid, key, value: row.value })
}
