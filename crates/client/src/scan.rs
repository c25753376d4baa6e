//! Scans: the rows of one user, or of a whole table, page by page.

use bytes::Bytes;
use quorate_types::{
    ReplyBody, RequestBody, ScanPage, ScanRange, ScannedRow, SliceId, Uid, limits,
};

use crate::call::{Place, other_answer};
use crate::client::Client;
use crate::error::Error;

/// The rows of one user in one table, in order of their keys.
///
/// ```no_run
/// # async fn example(client: quorate_client::Client) -> Result<(), quorate_client::Error> {
/// use quorate_client::Uid;
///
/// let mut scan = client.scan("purchases", Uid(42)).prefix("2026-").page_size(100);
/// while let Some(rows) = scan.next_page().await? {
///     println!("{} rows", rows.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a scan does nothing until `next_page` or `collect_all`"]
pub struct Scan {
    client: Client,
    table: String,
    uid: Uid,
    prefix: Bytes,
    limit: u32,
    after: Option<(Uid, Bytes)>,
    is_complete: bool,
}

impl Scan {
    pub(crate) fn new(client: Client, table: String, uid: Uid) -> Scan {
        let (prefix, after) = (Bytes::new(), None);
        Scan { client, table, uid, prefix, limit: 0, after, is_complete: false }
    }

    /// Only rows whose keys start with this.
    pub fn prefix(mut self, prefix: impl Into<Bytes>) -> Scan {
        self.prefix = prefix.into();
        self
    }

    /// Only rows after this key: the last one of a scan that is to go on.
    pub fn start_after(mut self, key: impl Into<Bytes>) -> Scan {
        self.after = Some((self.uid, key.into()));
        self
    }

    /// Most rows of a page. Default and maximum 1,000; a page also ends at 1 MiB.
    pub fn page_size(mut self, rows: usize) -> Scan {
        self.limit = page_limit(rows);
        self
    }

    /// The next page; `None` after the last. A page is linearizable by itself. After an error the
    /// same page can be asked for again.
    ///
    /// # Errors
    /// See [`Error`]; a read has no effect.
    pub async fn next_page(&mut self) -> Result<Option<Vec<ScannedRow>>, Error> {
        while !self.is_complete {
            let table = self.client.inner().router.table(&self.table).map_err(Error::local)?;
            let range = ScanRange {
                table,
                uid: Some(self.uid),
                slice: 0,
                prefix: self.prefix.clone(),
                after: self.after.clone(),
                limit: self.limit,
            };
            let page = read_page(&self.client, Place::Rows(vec![(table, self.uid)]), range).await?;
            self.is_complete = page.next.is_none();
            self.after = page.next;
            if !page.rows.is_empty() {
                return Ok(Some(page.rows));
            }
        }
        Ok(None)
    }

    /// All rows. They are kept in memory together.
    ///
    /// # Errors
    /// See [`Error`]; a read has no effect.
    pub async fn collect_all(mut self) -> Result<Vec<ScannedRow>, Error> {
        let mut all = Vec::new();
        while let Some(rows) = self.next_page().await? {
            all.extend(rows);
        }
        Ok(all)
    }
}

/// A whole table, slice after slice, for export: in order of slice, UID and key.
///
/// Each page is linearizable by itself; the table as a whole is not a snapshot.
#[derive(Clone, Debug)]
#[must_use = "a scan does nothing until `next_page` or `collect_all`"]
pub struct TableScan {
    client: Client,
    table: String,
    limit: u32,
    /// The slices of the table, once it was looked up.
    slices: Vec<SliceId>,
    slices_done: usize,
    is_started: bool,
    after: Option<(Uid, Bytes)>,
}

impl TableScan {
    pub(crate) fn new(client: Client, table: String) -> TableScan {
        let (slices, after) = (Vec::new(), None);
        TableScan { client, table, limit: 0, slices, slices_done: 0, is_started: false, after }
    }

    /// Most rows of a page. Default and maximum 1,000; a page also ends at 1 MiB.
    pub fn page_size(mut self, rows: usize) -> TableScan {
        self.limit = page_limit(rows);
        self
    }

    /// How many slices are read completely, and how many there are; 0 before the first page.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        (self.slices_done, self.slices.len())
    }

    /// The next page with rows; `None` after the last. After an error the same page can be asked for
    /// again.
    ///
    /// # Errors
    /// See [`Error`]; a read has no effect.
    pub async fn next_page(&mut self) -> Result<Option<Vec<ScannedRow>>, Error> {
        if !self.is_started {
            let slices = self.client.inner().router.slices(&self.table).map_err(Error::local)?;
            (self.slices, self.is_started) = (slices, true);
        }
        while let Some(slice) = self.slices.get(self.slices_done).copied() {
            let table = self.client.inner().router.table(&self.table).map_err(Error::local)?;
            let range = ScanRange {
                table,
                uid: None,
                slice: slice.0,
                prefix: Bytes::new(),
                after: self.after.clone(),
                limit: self.limit,
            };
            let page = read_page(&self.client, Place::Slice(table, slice), range).await?;
            if page.next.is_none() {
                self.slices_done += 1;
            }
            self.after = page.next;
            if !page.rows.is_empty() {
                return Ok(Some(page.rows));
            }
        }
        Ok(None)
    }

    /// All rows. They are kept in memory together.
    ///
    /// # Errors
    /// See [`Error`]; a read has no effect.
    pub async fn collect_all(mut self) -> Result<Vec<ScannedRow>, Error> {
        let mut all = Vec::new();
        while let Some(rows) = self.next_page().await? {
            all.extend(rows);
        }
        Ok(all)
    }
}

pub(crate) fn page_limit(rows: usize) -> u32 {
    u32::try_from(rows.min(limits::SCAN_ROWS_MAX)).unwrap_or(0)
}

async fn read_page(client: &Client, place: Place, range: ScanRange) -> Result<ScanPage, Error> {
    let answered = client.call().read(&place, RequestBody::Scan(range)).await?;
    match answered.reply.body {
        ReplyBody::Page(page) => Ok(page),
        ReplyBody::Session(_)
        | ReplyBody::SessionClosed
        | ReplyBody::Row(_)
        | ReplyBody::Committed { .. }
        | ReplyBody::Account(_)
        | ReplyBody::Transfers(_)
        | ReplyBody::Transfer(_)
        | ReplyBody::History(_)
        | ReplyBody::Cut(_)
        | ReplyBody::Accounts(_)
        | ReplyBody::FoundTransfers(_)
        | ReplyBody::Records(_)
        | ReplyBody::Rows(_) => Err(Error::local(other_answer("Scan"))),
    }
}
