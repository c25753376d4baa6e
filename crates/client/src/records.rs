//! The records of groups at a cut, as a backup takes them: all that a group is made of but what belongs to
//! the life of its cluster, in pages that the caller need not understand.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_types::{CutRange, GroupId, RecordsPage, ReplyBody, RequestBody};

use crate::call::other_answer;
use crate::cut::Cut;
use crate::error::Error;

impl Cut {
    /// One page of the records of a group, in order of their keys: the first one, or the one behind the key
    /// `after`, which is `next` of the page before. A page without records is behind the last one.
    ///
    /// Whoever reads records has the view kept for up to two hours, and two minutes longer than the last
    /// page. Takes the rights to read and to administer in the unit.
    ///
    /// # Errors
    /// `CUT_LOST` if the view is gone: only a new cut helps. Others see [`Error`]; after those the same
    /// page can be asked for again.
    pub async fn records(
        &self,
        group: GroupId,
        after: Option<Bytes>,
    ) -> Result<RecordsPage, Error> {
        self.records_of(group, CutRange::Records { after, bytes: 0 }).await
    }

    /// Has the views of all groups kept, for two minutes from now, while their records wait to be read.
    ///
    /// # Errors
    /// As [`Cut::records`].
    pub async fn hold(&self) -> Result<(), Error> {
        let first = |group| self.records_of(group, CutRange::Records { after: None, bytes: 1 });
        let mut asked: FuturesUnordered<_> = self.groups().iter().copied().map(first).collect();
        while let Some(answered) = asked.next().await {
            answered?;
        }
        Ok(())
    }

    async fn records_of(&self, group: GroupId, range: CutRange) -> Result<RecordsPage, Error> {
        match self.ask(group, RequestBody::ReadCut(self.id(), range)).await? {
            ReplyBody::Records(page) => Ok(page),
            _ => Err(Error::local(other_answer("ReadCut"))),
        }
    }
}
