//! Cuts: all groups read as of one moment.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_types::{
    Account, AccountAddress, Code, CutId, CutRange, GroupId, NodeId, ReplyBody, RequestBody,
    ScanRange, ScannedRow, SliceId, TableId, Uid,
};

use crate::call::{Answered, Place, other_answer};
use crate::client::Client;
use crate::error::Error;
use crate::scan::page_limit;

/// A cut is tried so often before the caller is told that it cannot be had.
const CUT_ATTEMPTS: usize = 5;
/// Whatever reads at a cut of its own begins again when its cut is lost, so often.
pub(crate) const CUT_READ_ATTEMPTS: usize = 5;
/// Groups that are read at the same time.
pub(crate) const GROUPS_AT_ONCE: usize = 8;
/// Between two tries at most; the time is drawn.
const CUT_PAUSE: Duration = Duration::from_millis(200);
/// Letting go of a view may take this long.
const UNPIN_TIMEOUT: Duration = Duration::from_secs(1);

/// All groups as of one moment. The nodes that led the groups when it was made keep their views for at
/// most 60 seconds, whoever leads meanwhile; when this is dropped they let them go.
///
/// What is read is *serializable*: of every transaction it shows all or nothing, and of two of which one
/// saw the other not only the later. It contains everything that was acknowledged before
/// [`Client::cut`] began. It is the past by the time it is read.
///
/// ```no_run
/// # async fn example(client: quorate_client::Client) -> Result<(), quorate_client::Error> {
/// let cut = client.cut().await?;
/// let mut rows = cut.scan_table("purchases")?;
/// while let Some(page) = rows.next_page().await? {
///     println!("{} rows", page.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cut {
    client: Client,
    id: CutId,
    groups: Vec<GroupId>,
    /// The nodes that keep the views: asked first, whoever leads by then.
    keepers: BTreeMap<GroupId, NodeId>,
}

impl Client {
    /// Makes a cut through all groups and waits until each has its view.
    ///
    /// # Errors
    /// `CUT_LOST` if a leader changed each time it was tried; others see [`Error`]. A cut changes nothing
    /// that anybody sees.
    pub async fn cut(&self) -> Result<Cut, Error> {
        let mut attempts = 1;
        loop {
            match self.try_cut().await {
                Err(error) if error.code() == Code::CutLost && attempts < CUT_ATTEMPTS => {
                    attempts += 1;
                    tokio::time::sleep(self.inner().random_up_to(CUT_PAUSE)).await;
                }
                ended => return ended,
            }
        }
    }

    async fn try_cut(&self) -> Result<Cut, Error> {
        let (answered, _) = self.call().repeatable(&Place::Cuts, RequestBody::NewCut).await?;
        let ReplyBody::Cut(id) = answered.reply.body else {
            return Err(Error::local(other_answer("NewCut")));
        };
        let groups: Vec<GroupId> = self.topology().groups().map(|group| group.id).collect();
        // From here on whoever gives up lets go of every view there is.
        let places: Vec<Place> = groups.iter().copied().map(Place::Group).collect();
        let mut cut = Cut { client: self.clone(), id, groups, keepers: BTreeMap::new() };
        let pin = |place| self.call().read(place, RequestBody::PinCut(id));
        let mut pins: FuturesUnordered<_> = places.iter().map(pin).collect();
        let mut failure = None;
        while let Some(pinned) = pins.next().await {
            match pinned {
                Ok(Answered { group, node, .. }) => drop(cut.keepers.insert(group, node)),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(cut),
        }
    }
}

impl Cut {
    /// Its number; later cuts have greater ones.
    #[must_use]
    pub fn id(&self) -> CutId {
        self.id
    }

    /// The groups that have a view at it.
    #[must_use]
    pub fn groups(&self) -> &[GroupId] {
        &self.groups
    }

    /// Starts to read all accounts, group after group.
    pub fn accounts(&self) -> CutAccounts<'_> {
        self.accounts_of(&self.groups)
    }

    /// The accounts of some groups.
    pub(crate) fn accounts_of(&self, groups: &[GroupId]) -> CutAccounts<'_> {
        let groups = groups.iter().copied().collect();
        CutAccounts { cut: self, groups, after: None }
    }

    /// Starts to read a whole table, slice after slice.
    ///
    /// # Errors
    /// `UNKNOWN_TABLE`.
    pub fn scan_table(&self, table: &str) -> Result<CutTable<'_>, Error> {
        let slices = self.client.inner().router.slices(table).map_err(Error::local)?;
        let table = table.to_owned();
        Ok(CutTable { cut: self, table, slices: slices.into(), limit: 0, after: None })
    }

    /// Starts to read the rows of one user in one table, in order of their keys.
    ///
    /// # Errors
    /// `UNKNOWN_TABLE`.
    pub fn scan(&self, table: &str, uid: Uid) -> Result<CutScan<'_>, Error> {
        let table = self.client.inner().router.table(table).map_err(Error::local)?;
        let (prefix, after) = (Bytes::new(), None);
        Ok(CutScan { cut: self, table, uid, prefix, after, is_complete: false })
    }

    /// Lets go of all views and waits for that, a second at most. Dropping does the same without
    /// waiting.
    pub async fn release(mut self) {
        let (groups, keepers) = self.take();
        unpin(self.client.with_timeout(UNPIN_TIMEOUT), self.id, groups, keepers).await;
    }

    pub(crate) async fn ask(&self, group: GroupId, body: RequestBody) -> Result<ReplyBody, Error> {
        self.ask_at(&Place::Group(group), body).await
    }

    async fn ask_at(&self, place: &Place, body: RequestBody) -> Result<ReplyBody, Error> {
        let call = self.client.call().of_keepers(&self.keepers);
        let Answered { reply, .. } = call.read(place, body).await?;
        Ok(reply.body)
    }

    /// Nothing is left to be released.
    fn take(&mut self) -> (Vec<GroupId>, BTreeMap<GroupId, NodeId>) {
        (std::mem::take(&mut self.groups), std::mem::take(&mut self.keepers))
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let (groups, keepers) = self.take();
        if groups.is_empty() {
            return; // Released.
        }
        // Without a runtime nobody can be told; the views go when their time is over.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let client = self.client.with_timeout(UNPIN_TIMEOUT);
            let _released = runtime.spawn(unpin(client, self.id, groups, keepers));
        }
    }
}

/// Tells every group that the view is needed no more. Best effort.
async fn unpin(
    client: Client,
    cut: CutId,
    groups: Vec<GroupId>,
    keepers: BTreeMap<GroupId, NodeId>,
) {
    let places: Vec<Place> = groups.into_iter().map(Place::Group).collect();
    let unpin = |place| client.call().of_keepers(&keepers).read(place, RequestBody::UnpinCut(cut));
    let mut unpinned: FuturesUnordered<_> = places.iter().map(unpin).collect();
    while unpinned.next().await.is_some() {}
}

/// All accounts at a cut, page by page: in order of group, slice, user, ledger and code.
#[derive(Debug)]
#[must_use = "it does nothing until `next_page`"]
pub struct CutAccounts<'a> {
    cut: &'a Cut,
    groups: VecDeque<GroupId>,
    after: Option<AccountAddress>,
}

impl CutAccounts<'_> {
    /// The next page with accounts; `None` after the last.
    ///
    /// # Errors
    /// `CUT_LOST` if a view is gone: only a new cut helps. Others see [`Error`]; after those the same
    /// page can be asked for again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Account>>, Error> {
        while let Some(group) = self.groups.front().copied() {
            let range = CutRange::Accounts { after: self.after, limit: 0 };
            let read = RequestBody::ReadCut(self.cut.id, range);
            let ReplyBody::Accounts(page) = self.cut.ask(group, read).await? else {
                return Err(Error::local(other_answer("ReadCut")));
            };
            self.after = page.next;
            if page.next.is_none() {
                self.groups.pop_front();
            }
            if !page.accounts.is_empty() {
                return Ok(Some(page.accounts));
            }
        }
        Ok(None)
    }
}

/// A whole table at a cut, page by page: in order of slice, user and key.
#[derive(Debug)]
#[must_use = "it does nothing until `next_page`"]
pub struct CutTable<'a> {
    cut: &'a Cut,
    table: String,
    slices: VecDeque<SliceId>,
    limit: u32,
    after: Option<(Uid, Bytes)>,
}

impl CutTable<'_> {
    /// Most rows of a page. Default and maximum 1,000; a page also ends at 1 MiB.
    pub fn page_size(mut self, rows: usize) -> Self {
        self.limit = page_limit(rows);
        self
    }

    /// The next page with rows; `None` after the last.
    ///
    /// # Errors
    /// `CUT_LOST` if a view is gone: only a new cut helps. Others see [`Error`]; after those the same
    /// page can be asked for again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<ScannedRow>>, Error> {
        while let Some(slice) = self.slices.front().copied() {
            let router = &self.cut.client.inner().router;
            let table = router.table(&self.table).map_err(Error::local)?;
            let range = ScanRange {
                table,
                uid: None,
                slice: slice.0,
                prefix: Bytes::new(),
                after: self.after.clone(),
                limit: self.limit,
            };
            let read = RequestBody::ReadCut(self.cut.id, CutRange::Rows(range));
            let place = Place::Slice(table, slice);
            let ReplyBody::Page(page) = self.cut.ask_at(&place, read).await? else {
                return Err(Error::local(other_answer("ReadCut")));
            };
            if page.next.is_none() {
                self.slices.pop_front();
            }
            self.after = page.next;
            if !page.rows.is_empty() {
                return Ok(Some(page.rows));
            }
        }
        Ok(None)
    }
}

/// The rows of one user in one table at a cut, page by page, in order of their keys.
#[derive(Debug)]
#[must_use = "it does nothing until `next_page` or `collect_all`"]
pub struct CutScan<'a> {
    cut: &'a Cut,
    table: TableId,
    uid: Uid,
    prefix: Bytes,
    after: Option<(Uid, Bytes)>,
    is_complete: bool,
}

impl CutScan<'_> {
    /// Only rows whose keys start with this.
    pub fn prefix(mut self, prefix: impl Into<Bytes>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// `CUT_LOST` if a view is gone: only a new cut helps. Others see [`Error`]; after those the same
    /// page can be asked for again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<ScannedRow>>, Error> {
        if self.is_complete {
            return Ok(None);
        }
        let range = ScanRange {
            table: self.table,
            uid: Some(self.uid),
            slice: 0,
            prefix: self.prefix.clone(),
            after: self.after.clone(),
            limit: 0,
        };
        let read = RequestBody::ReadCut(self.cut.id, CutRange::Rows(range));
        let place = Place::Rows(vec![(self.table, self.uid)]);
        let ReplyBody::Page(page) = self.cut.ask_at(&place, read).await? else {
            return Err(Error::local(other_answer("ReadCut")));
        };
        self.is_complete = page.next.is_none();
        self.after = page.next;
        Ok((!page.rows.is_empty()).then_some(page.rows))
    }

    /// All rows. They are kept in memory together.
    ///
    /// # Errors
    /// As [`CutScan::next_page`].
    pub async fn collect_all(mut self) -> Result<Vec<ScannedRow>, Error> {
        let mut all = Vec::new();
        while let Some(rows) = self.next_page().await? {
            all.extend(rows);
        }
        Ok(all)
    }
}
