//! Transactions: conditions, mutations and reads over rows of any users, all or nothing.

use bytes::Bytes;
use quorate_types::{
    Code, Condition, EntryId, GroupId, Mutation, ReplyBody, RequestBody, RowAddress, Uid, Value,
};

use crate::call::{Answered, Place, other_answer};
use crate::client::Client;
use crate::error::{Error, Outcome, Trail};
use crate::token::Token;
use crate::value::IntoValue;

/// A transaction being put together. Nothing is sent before [`Transaction::commit`].
///
/// Strictly serializable, whatever rows it names. Rows of one unit cost one round of consensus. Rows
/// of several cost one round in each, at the same time, and a message there and back; the unit of the
/// first mutation (without mutations: of the first condition or read) coordinates.
///
/// ```no_run
/// # async fn example(client: quorate_client::Client) -> Result<(), quorate_client::Error> {
/// use quorate_client::Uid;
///
/// let user = Uid(42);
/// let committed = client
///     .transaction()
///     .require_exists("profiles", user, "name")
///     .add("load", user, "balance", -30)
///     .floor(0)
///     .put("purchases", user, "2026-11-21/1", "one ticket")
///     .read("profiles", user, "name")
///     .commit()
///     .await?;
/// println!("{} has {} left", committed.reads.len(), committed.sums[0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a transaction does nothing until `commit`"]
pub struct Transaction {
    client: Client,
    conditions: Vec<Condition>,
    mutations: Vec<Mutation>,
    reads: Vec<RowAddress>,
    /// The first mistake; reported by `commit`, so that calls can be chained.
    mistake: Option<Error>,
}

/// A transaction that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// The rows asked for with `read`, in that order, as they were before the mutations.
    pub reads: Vec<Option<Value>>,
    /// The new values of `add`, in order.
    pub sums: Vec<i64>,
    /// The group.
    pub group: GroupId,
    /// The log entry that carried the transaction.
    pub at: EntryId,
    /// True if an earlier attempt had taken effect and only its answer was lost.
    pub replayed: bool,
    token: Token,
}

impl Committed {
    /// For reads by others that must show this transaction: see
    /// [`Reads::AtLeast`](crate::Reads::AtLeast).
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }
}

impl Transaction {
    pub(crate) fn new(client: Client) -> Transaction {
        let (conditions, mutations, reads) = (Vec::new(), Vec::new(), Vec::new());
        Transaction { client, conditions, mutations, reads, mistake: None }
    }

    /// One that only reads.
    pub(crate) fn of_reads(client: Client, reads: Vec<RowAddress>) -> Transaction {
        Transaction { reads, ..Transaction::new(client) }
    }

    /// The same with all its parts given.
    pub(crate) fn with_parts(
        mut self,
        conditions: Vec<Condition>,
        mutations: Vec<Mutation>,
    ) -> Transaction {
        self.conditions.extend(conditions);
        self.mutations.extend(mutations);
        self
    }

    /// The row must exist.
    pub fn require_exists(self, table: &str, uid: Uid, key: impl Into<Bytes>) -> Transaction {
        self.with_row(table, uid, key.into(), |it, at| it.conditions.push(Condition::Exists(at)))
    }

    /// The row must not exist.
    pub fn require_absent(self, table: &str, uid: Uid, key: impl Into<Bytes>) -> Transaction {
        self.with_row(table, uid, key.into(), |it, at| it.conditions.push(Condition::Absent(at)))
    }

    /// The row must exist and have this value.
    pub fn require_equals(
        self,
        table: &str,
        uid: Uid,
        key: impl Into<Bytes>,
        value: impl IntoValue,
    ) -> Transaction {
        let value = value.into_value();
        self.with_row(table, uid, key.into(), |it, at| {
            it.conditions.push(Condition::Equals(at, value));
        })
    }

    /// Writes the row, whether it exists or not.
    pub fn put(
        self,
        table: &str,
        uid: Uid,
        key: impl Into<Bytes>,
        value: impl IntoValue,
    ) -> Transaction {
        let value = value.into_value();
        self.with_row(table, uid, key.into(), |it, at| it.mutations.push(Mutation::Put(at, value)))
    }

    /// Removes the row; nothing happens if it does not exist.
    pub fn delete(self, table: &str, uid: Uid, key: impl Into<Bytes>) -> Transaction {
        self.with_row(table, uid, key.into(), |it, at| it.mutations.push(Mutation::Delete(at)))
    }

    /// Adds to an integer row; an absent row counts as 0. [`floor`](Transaction::floor) and
    /// [`ceiling`](Transaction::ceiling) after it bound the sum.
    pub fn add(self, table: &str, uid: Uid, key: impl Into<Bytes>, delta: i64) -> Transaction {
        self.with_row(table, uid, key.into(), |it, at| {
            it.mutations.push(Mutation::Add { at, delta, floor: None, ceiling: None });
        })
    }

    /// The sum of the `add` just before may not be below this.
    pub fn floor(self, least: i64) -> Transaction {
        self.bound(|floor, _| *floor = Some(least))
    }

    /// The sum of the `add` just before may not be above this.
    pub fn ceiling(self, most: i64) -> Transaction {
        self.bound(|_, ceiling| *ceiling = Some(most))
    }

    /// Returns the row as it was before the mutations.
    pub fn read(self, table: &str, uid: Uid, key: impl Into<Bytes>) -> Transaction {
        self.with_row(table, uid, key.into(), |it, at| it.reads.push(at))
    }

    /// Carries the transaction out.
    ///
    /// # Errors
    /// `CONDITION_FAILED`, `GUARD_FAILED`, `NOT_AN_INTEGER` and `INTEGER_OVERFLOW` if it may not take
    /// effect, `SEVERAL_GROUPS` if its rows are spread over more than 16 groups; others see [`Error`].
    /// [`Error::outcome`] says whether it may have taken effect.
    pub async fn commit(self) -> Result<Committed, Error> {
        let Transaction { client, conditions, mutations, reads, mistake } = self;
        if let Some(mistake) = mistake {
            return Err(mistake);
        }
        // The unit of the first mutation coordinates: put first what may be refused.
        let mutated = mutations.iter().map(Mutation::address);
        let rows = mutated.chain(conditions.iter().map(Condition::address)).chain(&reads);
        let mut rows: Vec<_> = rows.map(|at| (at.table, at.uid)).collect();
        rows.dedup();
        let asked = reads.len();
        let body = RequestBody::Transact { conditions, mutations, reads };
        let place = Place::Rows(rows);
        let Answered { group, reply, .. } = client.call().write(&place, body).await?;
        match reply.body {
            ReplyBody::Committed { reads, sums } if reads.len() == asked => {
                let mut token = Token::new(client.cluster_id());
                token.raise(group, reply.at.slot);
                for other in place.groups(&client.inner().router) {
                    if other != group {
                        token.ask_leader(other); // Where it stands there we were not told.
                    }
                }
                let (at, replayed) = (reply.at, reply.replayed);
                Ok(Committed { reads, sums, group, at, replayed, token })
            }
            ReplyBody::Committed { .. }
            | ReplyBody::Session(_)
            | ReplyBody::SessionClosed
            | ReplyBody::Row(_)
            | ReplyBody::Page(_)
            | ReplyBody::Account(_)
            | ReplyBody::Transfers(_)
            | ReplyBody::Transfer(_)
            | ReplyBody::History(_)
            | ReplyBody::Cut(_)
            | ReplyBody::Accounts(_)
            | ReplyBody::FoundTransfers(_)
            | ReplyBody::Records(_)
            | ReplyBody::Rows(_) => {
                let error = other_answer("Transact");
                Err(Error::new(error, Outcome::Unknown, Trail::default()))
            }
        }
    }

    /// Adds a part that names a row.
    fn with_row(
        mut self,
        table: &str,
        uid: Uid,
        key: Bytes,
        add: impl FnOnce(&mut Transaction, RowAddress),
    ) -> Transaction {
        match self.client.row(table, uid, key) {
            Ok(at) => add(&mut self, at),
            Err(error) => {
                self.mistake.get_or_insert(error);
            }
        }
        self
    }

    fn bound(mut self, set: impl FnOnce(&mut Option<i64>, &mut Option<i64>)) -> Transaction {
        match self.mutations.last_mut() {
            Some(Mutation::Add { floor, ceiling, .. }) => set(floor, ceiling),
            Some(Mutation::Put(..) | Mutation::Delete(_)) | None => {
                let message = "floor and ceiling belong right after an add";
                let error = quorate_types::Error::new(Code::InvalidRequest, message);
                self.mistake.get_or_insert_with(|| Error::local(error));
            }
        }
        self
    }
}
