//! Transactions as code: a closure reads and writes rows of any users; what it did takes effect at once,
//! or the closure runs again.
//!
//! Optimistic: reads ask the leaders and are remembered, writes are kept here, and one
//! [`Transaction`](crate::Transaction) at the end changes the rows if everything that was read is still
//! as it was. That makes the whole of it strictly serializable, and holds no lock while the closure runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_types::{Code, Condition, EntryId, GroupId, Mutation, RowAddress, Uid, Value};
use rand::Rng;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{Error, Outcome};
use crate::value::IntoValue;

/// The longest pause before the closure runs again; the first is a hundredth of it.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// What a closure of [`Client::transact`] reads and writes through. Clones are the same transaction; one
/// that outlives its closure only gives errors.
#[derive(Clone, Debug)]
pub struct Txn {
    client: Client,
    /// `None` once the closure has returned.
    rows: Arc<Mutex<Option<Rows>>>,
    attempt: u32,
    may_have_committed: bool,
}

type Rows = BTreeMap<RowAddress, Plan>;

/// What a transaction knows and wants of a row.
#[derive(Clone, Debug, Default)]
struct Plan {
    /// The row as it was read; the inner `None` is a row that does not exist.
    read: Option<Option<Value>>,
    write: Option<Write>,
}

#[derive(Clone, Debug)]
enum Write {
    /// Write or remove.
    Set(Option<Value>),
    /// Add to a row that was not read.
    Add { delta: i64, floor: Option<i64> },
}

/// What came of [`Client::transact`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transacted<T> {
    /// What the closure returned when it ran last.
    pub value: T,
    /// How often it ran.
    pub attempts: u32,
    /// Where the log of the coordinating group says so; `None` if nothing was written and at most one
    /// row read.
    pub at: Option<(GroupId, EntryId)>,
}

impl Txn {
    /// Reads a row, as this transaction leaves it. The transaction takes effect only if the row is
    /// still the same then.
    ///
    /// # Errors
    /// See [`Error`]; hand it on, nothing has happened.
    pub async fn get(
        &self,
        table: &str,
        uid: Uid,
        key: impl Into<Bytes>,
    ) -> Result<Option<Value>, Error> {
        let key = key.into();
        let at = self.client.row(table, uid, key.clone())?;
        let known = self.with(at.clone(), |plan| Ok(plan.known()))?;
        let read = match known {
            Some(value) => return Ok(value),
            None => self.client.get(table, uid, key).await?,
        };
        self.with(at, |plan| plan.note(read))
    }

    /// Writes a row, whether it exists or not.
    ///
    /// # Errors
    /// `UNKNOWN_TABLE`.
    pub fn put(
        &self,
        table: &str,
        uid: Uid,
        key: impl Into<Bytes>,
        value: impl IntoValue,
    ) -> Result<(), Error> {
        let at = self.client.row(table, uid, key.into())?;
        let value = Some(value.into_value());
        self.with(at, |plan| {
            plan.write = Some(Write::Set(value));
            Ok(())
        })
    }

    /// Removes a row; nothing happens if it does not exist.
    ///
    /// # Errors
    /// `UNKNOWN_TABLE`.
    pub fn delete(&self, table: &str, uid: Uid, key: impl Into<Bytes>) -> Result<(), Error> {
        let at = self.client.row(table, uid, key.into())?;
        self.with(at, |plan| {
            plan.write = Some(Write::Set(None));
            Ok(())
        })
    }

    /// Adds to an integer row, an absent one counts as 0. The sum may not be below `floor`. A row that
    /// was not read before is not read for it: transactions that only add to a row do not make each
    /// other run again.
    ///
    /// # Errors
    /// `UNKNOWN_TABLE`; `GUARD_FAILED`, `NOT_AN_INTEGER`, `INTEGER_OVERFLOW` where the row is known,
    /// else when the transaction is to take effect.
    pub fn add(
        &self,
        table: &str,
        uid: Uid,
        key: impl Into<Bytes>,
        delta: i64,
        floor: Option<i64>,
    ) -> Result<(), Error> {
        let at = self.client.row(table, uid, key.into())?;
        self.with(at, |plan| plan.add(delta, floor))
    }

    /// Does something to the plan for a row.
    fn with<T>(
        &self,
        at: RowAddress,
        change: impl FnOnce(&mut Plan) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        match rows.as_mut() {
            Some(rows) => change(rows.entry(at).or_default()),
            None => {
                let message = "the closure of this transaction has returned";
                Err(Error::local(quorate_types::Error::new(Code::InvalidRequest, message)))
            }
        }
    }

    /// How often the closure has run before.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// True if an earlier run may have taken effect: the closure must then find out from the rows,
    /// say by a row that it writes under an id of its own. Only in [`Client::transact_idempotent`].
    #[must_use]
    pub fn may_have_committed(&self) -> bool {
        self.may_have_committed
    }

    /// Carries out what the closure did. `None`: a single read, or nothing, is good as it is.
    async fn commit(self) -> Result<Option<(GroupId, EntryId)>, Error> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).take();
        let rows = rows.unwrap_or_default();
        let wrote = rows.values().any(|plan| plan.write.is_some());
        if !wrote && rows.len() <= 1 {
            return Ok(None);
        }
        let (mut conditions, mut mutations) = (Vec::new(), Vec::new());
        for (at, plan) in rows {
            match plan.read {
                Some(Some(value)) => conditions.push(Condition::Equals(at.clone(), value)),
                Some(None) => conditions.push(Condition::Absent(at.clone())),
                None => {}
            }
            mutations.extend(plan.write.map(|write| match write {
                Write::Set(Some(value)) => Mutation::Put(at, value),
                Write::Set(None) => Mutation::Delete(at),
                Write::Add { delta, floor } => Mutation::Add { at, delta, floor, ceiling: None },
            }));
        }
        let transaction = self.client.transaction().with_parts(conditions, mutations);
        let committed = transaction.commit().await?;
        Ok(Some((committed.group, committed.at)))
    }
}

impl Plan {
    /// The row as the transaction leaves it, if that is known.
    fn known(&self) -> Option<Option<Value>> {
        match (&self.write, &self.read) {
            (Some(Write::Set(value)), _) => Some(value.clone()),
            (Some(Write::Add { .. }), _) => None,
            (None, read) => read.clone(),
        }
    }

    /// Notes what was read; says what the transaction makes of it.
    fn note(&mut self, read: Option<Value>) -> Result<Option<Value>, Error> {
        if let Some(Write::Add { delta, floor }) = self.write {
            let sum = Some(Value::Integer(added(read.as_ref(), delta, floor)?));
            self.write = Some(Write::Set(sum));
        }
        self.read = Some(read);
        Ok(self.known().flatten())
    }

    fn add(&mut self, delta: i64, floor: Option<i64>) -> Result<(), Error> {
        let sum = |value: Option<&Value>| {
            added(value, delta, floor).map(|sum| Write::Set(Some(Value::Integer(sum))))
        };
        self.write = Some(match (&self.write, &self.read) {
            (Some(Write::Set(value)), _) => sum(value.as_ref())?,
            (None, Some(read)) => sum(read.as_ref())?,
            (Some(Write::Add { delta: before, floor: other }), _) => {
                let delta = before.checked_add(delta).ok_or_else(overflow)?;
                Write::Add { delta, floor: floor.max(*other) }
            }
            (None, None) => Write::Add { delta, floor },
        });
        Ok(())
    }
}

impl Client {
    /// Runs a closure until what it read and wrote took effect at one moment, or until the client's
    /// time for a call has passed.
    ///
    /// The closure may run several times, so it must have no effect but through the [`Txn`]. An error
    /// that it returns ends the transaction without effect. After an outcome that is not known the
    /// closure does *not* run again: the error says so, see [`Error::outcome`].
    ///
    /// ```no_run
    /// # async fn example(client: quorate_client::Client) -> Result<(), quorate_client::Error> {
    /// use quorate_client::{Error, Uid, Value};
    ///
    /// // Half of what Ada has goes to Bob, wherever the two of them live.
    /// let (ada, bob) = (Uid(42), Uid(77));
    /// let paid = client
    ///     .transact(|txn| async move {
    ///         let Some(Value::Integer(balance)) = txn.get("load", ada, "balance").await? else {
    ///             return Ok(0);
    ///         };
    ///         txn.add("load", ada, "balance", -balance / 2, Some(0))?;
    ///         txn.add("load", bob, "balance", balance / 2, None)?;
    ///         Ok::<_, Error>(balance / 2)
    ///     })
    ///     .await?;
    /// println!("{} paid after {} attempts", paid.value, paid.attempts);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Whatever the closure returns; `TXN_ABORTED` if rows kept changing between reading and writing;
    /// `GUARD_FAILED` and others as for [`Transaction`](crate::Transaction).
    pub async fn transact<T, E, F, R>(&self, body: F) -> Result<Transacted<T>, E>
    where
        E: From<Error>,
        F: FnMut(Txn) -> R,
        R: Future<Output = Result<T, E>>,
    {
        self.run_transaction(body, false).await
    }

    /// As [`Client::transact`], but runs the closure again after an outcome that is not known.
    /// [`Txn::may_have_committed`] is true from then on, and the closure must look before it writes.
    ///
    /// ```no_run
    /// # async fn example(client: quorate_client::Client) -> Result<(), quorate_client::Error> {
    /// use quorate_client::{Error, Uid};
    ///
    /// let (ada, bob, order) = (Uid(42), Uid(77), "order/4711");
    /// client
    ///     .transact_idempotent(|txn| async move {
    ///         if txn.get("purchases", ada, order).await?.is_some() {
    ///             return Ok(()); // An earlier run has done it.
    ///         }
    ///         txn.put("purchases", ada, order, 30)?;
    ///         txn.add("load", ada, "balance", -30, Some(0))?;
    ///         txn.add("load", bob, "balance", 30, None)?;
    ///         Ok::<_, Error>(())
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Client::transact`]; an unknown outcome only if the time was up.
    pub async fn transact_idempotent<T, E, F, R>(&self, body: F) -> Result<Transacted<T>, E>
    where
        E: From<Error>,
        F: FnMut(Txn) -> R,
        R: Future<Output = Result<T, E>>,
    {
        self.run_transaction(body, true).await
    }

    async fn run_transaction<T, E, F, R>(
        &self,
        mut body: F,
        again: bool,
    ) -> Result<Transacted<T>, E>
    where
        E: From<Error>,
        F: FnMut(Txn) -> R,
        R: Future<Output = Result<T, E>>,
    {
        let started = Instant::now();
        let mut may_have_committed = false;
        for attempt in 0.. {
            let left = self.timeout().saturating_sub(started.elapsed());
            let client = self.with_timeout(left);
            let rows = Arc::new(Mutex::new(Some(Rows::new())));
            let txn = Txn { client, rows, attempt, may_have_committed };
            let value = body(txn.clone()).await?;
            let error = match txn.commit().await {
                Ok(at) => return Ok(Transacted { value, attempts: attempt + 1, at }),
                Err(error) => error,
            };
            let is_unknown = error.outcome() == Outcome::Unknown;
            may_have_committed |= is_unknown;
            let is_conflict = error.code() == Code::ConditionFailed && !is_unknown;
            let runs_again = is_conflict || (is_unknown && again);
            let pause = self.pause_before(attempt);
            if !runs_again || self.timeout() <= started.elapsed() + pause {
                return Err(E::from(last_error(error, attempt, may_have_committed)));
            }
            tokio::time::sleep(pause).await;
        }
        unreachable!("attempts do not run out before the time does")
    }

    /// A random time that grows with the attempts.
    fn pause_before(&self, attempt: u32) -> Duration {
        let ceiling = PAUSE_MAX.min(PAUSE_MAX / 100 * 2_u32.saturating_pow(attempt.min(10)));
        let most = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random_below(most))
    }

    fn random_below(&self, most: u64) -> u64 {
        self.inner().random().random_range(0..=most)
    }
}

/// The error that ends a transaction.
fn last_error(error: Error, attempt: u32, may_have_committed: bool) -> Error {
    if error.outcome() == Outcome::Unknown || error.code() != Code::ConditionFailed {
        return error;
    }
    let message = format!("rows changed {} times between reading and writing", attempt + 1);
    let outcome = if may_have_committed { Outcome::Unknown } else { Outcome::NotApplied };
    Error::ended(quorate_types::Error::new(Code::TxnAborted, message), outcome)
}

/// What a row holds after an add.
fn added(value: Option<&Value>, delta: i64, floor: Option<i64>) -> Result<i64, Error> {
    let before = match value {
        None => 0,
        Some(Value::Integer(before)) => *before,
        Some(Value::Bytes(_)) => {
            let message = "the row holds bytes and cannot be added to";
            return Err(Error::local(quorate_types::Error::new(Code::NotAnInteger, message)));
        }
    };
    let sum = before.checked_add(delta).ok_or_else(overflow)?;
    match floor {
        Some(floor) if sum < floor => {
            let message =
                format!("the row holds {before}; adding {delta} breaks its floor of {floor}");
            Err(Error::local(quorate_types::Error::new(Code::GuardFailed, message)))
        }
        Some(_) | None => Ok(sum),
    }
}

fn overflow() -> Error {
    let message = "the sum leaves 64 bits";
    Error::local(quorate_types::Error::new(Code::IntegerOverflow, message))
}
