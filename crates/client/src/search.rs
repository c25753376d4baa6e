//! A search for transfers whose debit user nobody knows: through all accounts of all groups, at a cut.

use std::collections::VecDeque;

use futures::{StreamExt, TryStreamExt};
use quorate_types::{
    Code, CutRange, GroupId, ReplyBody, RequestBody, TransferId, TransferRecord, Uid,
};

use crate::call::other_answer;
use crate::client::Client;
use crate::cut::{CUT_READ_ATTEMPTS, Cut, GROUPS_AT_ONCE};
use crate::error::Error;

impl Client {
    /// Looks for the transfers with an id, whomever they debit: ids are unique for each user that is
    /// debited, so several may have it. In order of that user; none if none took effect.
    ///
    /// There is no index by id. Every user of every group is looked at once, at a [cut](Client::cut):
    /// what is found is one moment, and holds every transfer that was acknowledged before this began.
    /// Where the user is known, [`Client::find_transfer`] is one read. Takes memory for what is found
    /// only; groups that are not read within the 60 seconds of a cut end it.
    ///
    /// # Errors
    /// `CUT_LOST` if a view was lost each time it was tried; others see [`Error`]. It changes nothing.
    pub async fn find_transfers(&self, id: TransferId) -> Result<Vec<TransferRecord>, Error> {
        let mut attempts = 1;
        loop {
            let cut = self.cut().await?;
            let found = find_at(&cut, id).await;
            cut.release().await;
            match found {
                Err(error) if error.code() == Code::CutLost && attempts < CUT_READ_ATTEMPTS => {
                    attempts += 1;
                }
                ended => return ended,
            }
        }
    }
}

async fn find_at(cut: &Cut, id: TransferId) -> Result<Vec<TransferRecord>, Error> {
    let mut found: Vec<TransferRecord> = futures::stream::iter(cut.groups().to_vec())
        .map(|group| find_in(cut, group, id))
        .buffer_unordered(GROUPS_AT_ONCE)
        .try_concat()
        .await?;
    found.sort_unstable_by_key(|record| record.transfer.debit.uid);
    Ok(found)
}

async fn find_in(cut: &Cut, group: GroupId, id: TransferId) -> Result<Vec<TransferRecord>, Error> {
    let mut pages = cut.transfers_of(id, &[group]);
    let mut all = Vec::new();
    while let Some(page) = pages.next_page().await? {
        all.extend(page);
    }
    Ok(all)
}

impl Cut {
    /// Starts to look for the transfers with an id, group after group.
    pub fn transfers(&self, id: TransferId) -> CutTransfers<'_> {
        self.transfers_of(id, self.groups())
    }

    fn transfers_of(&self, id: TransferId, groups: &[GroupId]) -> CutTransfers<'_> {
        let groups = groups.iter().copied().collect();
        CutTransfers { cut: self, id, groups, after: None }
    }
}

/// The transfers with an id at a cut, page by page: in order of group, slice and the user they debit.
#[derive(Debug)]
#[must_use = "it does nothing until `next_page`"]
pub struct CutTransfers<'a> {
    cut: &'a Cut,
    id: TransferId,
    groups: VecDeque<GroupId>,
    after: Option<Uid>,
}

impl CutTransfers<'_> {
    /// The next page with transfers; `None` after the last. Pages that found nothing are not returned,
    /// and there are many.
    ///
    /// # Errors
    /// `CUT_LOST` if a view is gone: only a new cut helps. Others see [`Error`]; after those the same
    /// page can be asked for again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<TransferRecord>>, Error> {
        while let Some(group) = self.groups.front().copied() {
            let range = CutRange::Transfers { id: self.id, after: self.after };
            let read = RequestBody::ReadCut(self.cut.id(), range);
            let ReplyBody::FoundTransfers(page) = self.cut.ask(group, read).await? else {
                return Err(Error::local(other_answer("ReadCut")));
            };
            self.after = page.next;
            if page.next.is_none() {
                self.groups.pop_front();
            }
            if !page.transfers.is_empty() {
                return Ok(Some(page.transfers));
            }
        }
        Ok(None)
    }
}
