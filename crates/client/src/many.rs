//! Reads of rows of any users at one moment: two rounds of questions, and no lock as long as rows do not
//! keep changing.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_types::limits::{READ_ROWS_MAX, TXN_GROUPS_MAX};
use quorate_types::{
    Code, CutId, FoundRow, FoundRows, GroupId, ReplyBody, RequestBody, RetryClass, RowAddress,
    RowVersion, Uid, Value, WantedRow,
};
use tokio::time::Instant;

use crate::call::{Answered, Place, other_answer};
use crate::client::Client;
use crate::error::Error;
use crate::transaction::Transaction;

/// So many rounds may find something changed before locks are taken.
const CHANGED_MAX: u32 = 3;

/// The longest pause before rows that keep changing are asked for again without locks.
const CHANGED_PAUSE: Duration = Duration::from_millis(20);

/// Rows that are being read.
struct Many {
    rows: Vec<Row>,
    /// The greatest cut in the answers of the last round.
    cut: CutId,
}

struct Row {
    at: RowAddress,
    /// The version in the last answer; `None` before the first.
    known: Option<RowVersion>,
    value: Option<Value>,
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// All rows had their values at one moment.
    Whole,
    /// Something was new: ask again.
    Changed,
}

impl Client {
    /// Reads up to 64 rows of any users as they were at one moment, in the order given. Strictly
    /// serializable: no transaction is seen in part, and nothing is missed that was acknowledged
    /// before.
    ///
    /// Takes one round of questions if one group has all rows, otherwise two, and one more each time
    /// that a row has changed in between. When that has happened three times, or the second round takes
    /// more than half of the time that is left for the call, the rows are read under locks by a
    /// transaction; that needs at most 16 groups, and room for the values of all of them in one. No lock
    /// is taken before every group has answered once.
    ///
    /// ```no_run
    /// # async fn example(client: quorate_client::Client) -> Result<(), quorate_client::Error> {
    /// use quorate_client::Uid;
    ///
    /// let rows = [("load", Uid(42), "balance"), ("load", Uid(77), "balance")];
    /// let balances = client.get_many(&rows).await?;
    /// println!("{:?} and {:?} at the same moment", balances[0], balances[1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `TXN_TOO_LARGE` for more than 64 rows, or if the values that one group returns exceed 1 MiB, or
    /// under locks its share of 1 MiB; others see [`Error`]. A read has no effect.
    pub async fn get_many<K>(&self, rows: &[(&str, Uid, K)]) -> Result<Vec<Option<Value>>, Error>
    where
        K: Clone + Into<Bytes>,
    {
        let started = Instant::now();
        let row = |(table, uid, key): &(&str, Uid, K)| self.row(table, *uid, key.clone().into());
        let rows = rows.iter().map(row).collect::<Result<Vec<RowAddress>, Error>>()?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        if READ_ROWS_MAX < rows.len() {
            let message = format!("{} rows are asked for, at most {READ_ROWS_MAX}", rows.len());
            return Err(Error::local(quorate_types::Error::new(Code::TxnTooLarge, message)));
        }
        let mut many = Many::new(rows);
        let mut changed = 0;
        loop {
            // Not before every group has answered once: the transaction would lock rows of those that
            // live for as long as another one is away.
            let can_lock = many.is_answered() && many.by_group(self)?.len() <= TXN_GROUPS_MAX;
            let left = self.timeout().saturating_sub(started.elapsed());
            if CHANGED_MAX < changed {
                if can_lock {
                    return many.read_under_locks(self.with_timeout(left)).await;
                }
                tokio::time::sleep(self.inner().random_up_to(CHANGED_PAUSE.min(left))).await;
            }
            let budget = if can_lock { left / 2 } else { left };
            match many.ask_all(&self.with_timeout(budget)).await {
                Ok(Round::Whole) => return Ok(many.values()),
                Ok(Round::Changed) => changed += 1,
                Err(error) if can_lock && may_help(error.code()) => changed = CHANGED_MAX + 1,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Many {
    fn new(rows: Vec<RowAddress>) -> Many {
        let row = |at| Row { at, known: None, value: None };
        Many { rows: rows.into_iter().map(row).collect(), cut: CutId::NONE }
    }

    fn values(self) -> Vec<Option<Value>> {
        self.rows.into_iter().map(|row| row.value).collect()
    }

    /// True once every group has told of its rows.
    fn is_answered(&self) -> bool {
        self.rows.iter().all(|row| row.known.is_some())
    }

    /// The places of the rows of each group.
    fn by_group(&self, client: &Client) -> Result<BTreeMap<GroupId, Vec<usize>>, Error> {
        let mut places = BTreeMap::<GroupId, Vec<usize>>::new();
        for (place, Row { at, .. }) in self.rows.iter().enumerate() {
            let group = client.inner().router.group_of(at.table, at.uid).map_err(Error::local)?;
            places.entry(group).or_default().push(place);
        }
        Ok(places)
    }

    /// Asks every group, and waits for all answers: the next round may begin only then.
    async fn ask_all(&mut self, client: &Client) -> Result<Round, Error> {
        let groups = self.by_group(client)?;
        let is_one = groups.len() == 1;
        let mut asked: FuturesUnordered<_> =
            groups.into_values().map(|places| self.question(client, places)).collect();
        let mut answers = Vec::new();
        while let Some(answer) = asked.next().await {
            answers.push(answer?);
        }
        drop(asked);
        self.cut = CutId::NONE;
        let mut round = Round::Whole;
        for (places, found) in answers {
            self.cut = self.cut.max(found.cut);
            for (place, found) in places.into_iter().zip(found.rows) {
                if let FoundRow::Is(version, value) = found {
                    let row = &mut self.rows[place];
                    (row.known, row.value) = (Some(version), value);
                    round = Round::Changed;
                }
            }
        }
        Ok(if is_one { Round::Whole } else { round })
    }

    /// Asks one group for its rows; gives their places back with what was found.
    fn question<'a>(
        &self,
        client: &'a Client,
        places: Vec<usize>,
    ) -> impl Future<Output = Result<(Vec<usize>, FoundRows), Error>> + use<'a> {
        let asked = || places.iter().map(|place| &self.rows[*place]);
        let place = Place::Rows(asked().map(|row| (row.at.table, row.at.uid)).collect());
        let wanted = |row: &Row| WantedRow { at: row.at.clone(), known: row.known };
        let rows: Vec<WantedRow> = asked().map(wanted).collect();
        let known: Vec<bool> = rows.iter().map(|row| row.known.is_some()).collect();
        let body = RequestBody::GetMany { rows, cut: self.cut };
        async move {
            let Answered { reply, .. } = client.call().read(&place, body).await?;
            let wrong = || Error::local(other_answer("GetMany"));
            let ReplyBody::Rows(found) = reply.body else { return Err(wrong()) };
            if answers(&found, &known) { Ok((places, found)) } else { Err(wrong()) }
        }
    }

    /// Reads the rows by a transaction, which keeps them from changing.
    async fn read_under_locks(self, client: Client) -> Result<Vec<Option<Value>>, Error> {
        let rows = self.rows.into_iter().map(|row| row.at).collect();
        let read = Transaction::of_reads(client, rows).commit().await;
        read.map(|committed| committed.reads).map_err(Error::without_effect)
    }
}

/// Whether locks may help after a round that ended like this: it took too long, or nothing is wrong with it.
fn may_help(code: Code) -> bool {
    code == Code::DeadlineExceeded || code.retry() == RetryClass::Safe
}

/// Whether an answer has every row, and takes none for known that is not.
fn answers(found: &FoundRows, known: &[bool]) -> bool {
    let fits = |(found, is_known): (&FoundRow, &bool)| *is_known || *found != FoundRow::AsKnown;
    found.rows.len() == known.len() && found.rows.iter().zip(known).all(fits)
}
