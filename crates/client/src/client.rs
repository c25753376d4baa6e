//! The client: what a caller holds. Cheap to clone; all clones share connections and sessions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_topology::Topology;
use quorate_types::{
    ClusterId, Condition, EntryId, GroupId, Mutation, ReplyBody, RequestBody, RowAddress, Uid,
    Value,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::budget::Budget;
use crate::builder::{Builder, Options};
use crate::call::{Answered, Call, Place, other_answer};
use crate::connection::{self, Pool};
use crate::error::{Error, Outcome, Trail};
use crate::reads::ReadState;
use crate::router::{RouteInfo, Router};
use crate::scan::{Scan, TableScan};
use crate::session::Sessions;
use crate::token::Token;
use crate::transaction::Transaction;
use crate::value::IntoValue;

/// The time that closing all sessions may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Most nodes asked for a newer topology.
const REFRESH_NODES_MAX: usize = 16;

/// A client of one cluster.
///
/// ```no_run
/// # async fn example() -> Result<(), quorate_client::Error> {
/// use std::time::Duration;
/// use quorate_client::{Client, Uid, Value};
///
/// let client = Client::builder("h1:6440,h2:6440").build().await?;
/// client.put("load", Uid(7), "visits", 1_i64).await?;
/// let hurried = client.with_timeout(Duration::from_millis(200));
/// assert_eq!(hurried.get("load", Uid(7), "visits").await?, Some(Value::Integer(1)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
    timeout: Duration,
    /// `None`: leaders answer reads.
    reads: Option<Arc<ReadState>>,
}

/// What all clones of a client share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) router: Router,
    pub(crate) pool: Pool,
    pub(crate) sessions: Sessions,
    /// What all calls together may repeat.
    pub(crate) budget: Budget,
    /// The endpoints the client was made with, for when no node of the topology answers.
    endpoints: Vec<String>,
    /// Held by the call that refreshes, so that the others take its result.
    refreshing: tokio::sync::Mutex<()>,
    random: Mutex<SmallRng>,
}

/// A write that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// The log entry that carried the write.
    pub at: EntryId,
    /// True if an earlier attempt had taken effect and only its answer was lost.
    pub replayed: bool,
}

impl Written {
    /// For reads by others that must show this write: see [`Reads::AtLeast`](crate::Reads::AtLeast).
    #[must_use]
    pub fn token(&self) -> Token {
        let mut token = Token::new(self.cluster);
        token.raise(self.group, self.at.slot);
        token
    }
}

impl Client {
    /// Starts to make a client. The endpoints are hosts with ports, separated by commas:
    /// `quorate://h1:6440,h2:6440`, with or without `quorate://`; the default port is 6440. Any node
    /// of the cluster will do; the others are found from there.
    pub fn builder(endpoints: impl Into<String>) -> Builder {
        Builder::new(endpoints.into())
    }

    pub(crate) fn new(inner: Inner) -> Client {
        let timeout = inner.options.request_timeout;
        Client { inner: Arc::new(inner), timeout, reads: None }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(crate) fn call(&self) -> Call<'_> {
        Call::new(&self.inner, self.timeout, self.reads.as_deref())
    }

    /// The same client with another deadline for its calls, retries included.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Client { timeout, ..self.clone() }
    }

    pub(crate) fn of_reads(&self, reads: Option<Arc<ReadState>>) -> Client {
        Client { reads, ..self.clone() }
    }

    pub(crate) fn reads(&self) -> Option<&ReadState> {
        self.reads.as_deref()
    }

    /// The deadline of calls.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The topology the client routes by.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        self.inner.router.topology()
    }

    /// The certificates that the client shows; `None` if it speaks plain text.
    #[cfg(not(madsim))]
    #[must_use]
    pub fn tls(&self) -> Option<quorate_tls::Tls> {
        self.inner.options.tls.clone()
    }

    /// The cluster.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.topology().cluster_id()
    }

    /// Asks the cluster for a newer topology and returns the one in use afterwards.
    ///
    /// # Errors
    /// `UNREACHABLE` if no node answers.
    pub async fn refresh(&self) -> Result<Arc<Topology>, Error> {
        let refreshing = tokio::time::timeout(self.timeout, self.inner.refresh());
        match refreshing.await {
            Ok(Ok(topology)) => Ok(topology),
            Ok(Err(error)) => Err(Error::local(error)),
            Err(_) => Err(Error::deadline(self.timeout, Outcome::NotApplied, Trail::default())),
        }
    }

    /// Where the rows of a user live: unit, group and the nodes to ask. Asks nobody.
    ///
    /// # Errors
    /// `UNKNOWN_TABLE`.
    pub fn route(&self, table: &str, uid: Uid) -> Result<RouteInfo, Error> {
        self.inner.router.describe(table, uid).map_err(Error::local)
    }

    /// Reads a row, linearizable unless [`Client::with_reads`] says otherwise. Rows of `home` and
    /// `global` tables have UID 0.
    ///
    /// # Errors
    /// See [`Error`]; a read has no effect.
    pub async fn get(
        &self,
        table: &str,
        uid: Uid,
        key: impl Into<Bytes>,
    ) -> Result<Option<Value>, Error> {
        let at = self.row(table, uid, key.into())?;
        let place = Place::Rows(vec![(at.table, at.uid)]);
        let answered = self.call().read(&place, RequestBody::Get(at)).await?;
        match answered.reply.body {
            ReplyBody::Row(value) => Ok(value),
            ReplyBody::Session(_)
            | ReplyBody::SessionClosed
            | ReplyBody::Page(_)
            | ReplyBody::Committed { .. }
            | ReplyBody::Account(_)
            | ReplyBody::Transfers(_)
            | ReplyBody::Transfer(_)
            | ReplyBody::History(_)
            | ReplyBody::Cut(_)
            | ReplyBody::Accounts(_)
            | ReplyBody::FoundTransfers(_)
            | ReplyBody::Records(_)
            | ReplyBody::Rows(_) => Err(Error::local(other_answer("Get"))),
        }
    }

    /// Writes a row, whether it exists or not.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::outcome`] says whether the write may have taken effect.
    pub async fn put(
        &self,
        table: &str,
        uid: Uid,
        key: impl Into<Bytes>,
        value: impl IntoValue,
    ) -> Result<Written, Error> {
        let at = self.row(table, uid, key.into())?;
        self.mutate(Vec::new(), Mutation::Put(at, value.into_value())).await
    }

    /// Removes a row; nothing happens if it does not exist.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::outcome`] says whether the write may have taken effect.
    pub async fn delete(
        &self,
        table: &str,
        uid: Uid,
        key: impl Into<Bytes>,
    ) -> Result<Written, Error> {
        let at = self.row(table, uid, key.into())?;
        self.mutate(Vec::new(), Mutation::Delete(at)).await
    }

    /// Replaces a row if it is as expected. `expected` `None` means that the row must not exist,
    /// `new` `None` removes it.
    ///
    /// # Errors
    /// `CONDITION_FAILED` if the row is not as expected; others see [`Error`].
    pub async fn compare_and_set(
        &self,
        table: &str,
        uid: Uid,
        key: impl Into<Bytes>,
        expected: Option<Value>,
        new: Option<Value>,
    ) -> Result<Written, Error> {
        let at = self.row(table, uid, key.into())?;
        let condition = match expected {
            Some(value) => Condition::Equals(at.clone(), value),
            None => Condition::Absent(at.clone()),
        };
        let mutation = match new {
            Some(value) => Mutation::Put(at, value),
            None => Mutation::Delete(at),
        };
        self.mutate(vec![condition], mutation).await
    }

    /// Starts a transaction over rows of any users.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.clone())
    }

    /// Starts to read the rows of one user in one table, in order of their keys.
    pub fn scan(&self, table: &str, uid: Uid) -> Scan {
        Scan::new(self.clone(), table.to_owned(), uid)
    }

    /// Starts to read a whole table, slice after slice, for export. Each page is linearizable by
    /// itself; the table as a whole is not a snapshot.
    pub fn scan_table(&self, table: &str) -> TableScan {
        TableScan::new(self.clone(), table.to_owned())
    }

    /// Closes the client's sessions, so that the cluster need not keep their results. Best effort,
    /// at most a second. The client stays usable; a write opens a new session.
    pub async fn close(&self) {
        let mut closing: FuturesUnordered<_> = self
            .inner
            .sessions
            .take_all()
            .into_iter()
            .map(|(group, session)| async move {
                let body = RequestBody::CloseSession(session.id());
                Call::new(&self.inner, CLOSE_TIMEOUT, None).close_session(group, &body).await;
            })
            .collect();
        while closing.next().await.is_some() {}
    }

    /// The address of a row.
    pub(crate) fn row(&self, table: &str, uid: Uid, key: Bytes) -> Result<RowAddress, Error> {
        let table = self.inner.router.table(table).map_err(Error::local)?;
        Ok(RowAddress { table, uid, key })
    }

    async fn mutate(
        &self,
        conditions: Vec<Condition>,
        mutation: Mutation,
    ) -> Result<Written, Error> {
        let at = mutation.address();
        let place = Place::Rows(vec![(at.table, at.uid)]);
        let mutations = vec![mutation];
        let body = RequestBody::Transact { conditions, mutations, reads: Vec::new() };
        let Answered { group, reply, .. } = self.call().write(&place, body).await?;
        let cluster = self.cluster_id();
        Ok(Written { cluster, group, at: reply.at, replayed: reply.replayed })
    }
}

impl Inner {
    pub(crate) fn new(options: Options, topology: Arc<Topology>, endpoints: Vec<String>) -> Inner {
        Inner {
            router: Router::new(topology),
            pool: Pool::new(&options),
            sessions: Sessions::default(),
            budget: Budget::new(options.retry.budget_of_all()),
            endpoints,
            refreshing: tokio::sync::Mutex::new(()),
            random: Mutex::new(match options.retry.seed_of_pauses() {
                Some(seed) => SmallRng::seed_from_u64(seed),
                None => SmallRng::from_os_rng(),
            }),
            options,
        }
    }

    /// The source of jitter.
    pub(crate) fn random(&self) -> MutexGuard<'_, SmallRng> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks nodes for a newer topology until one has it or all have answered.
    pub(crate) async fn refresh(&self) -> Result<Arc<Topology>, quorate_types::Error> {
        let before = self.router.topology();
        let _only_one = self.refreshing.lock().await;
        let known = self.router.topology();
        if before.version() < known.version() {
            return Ok(known); // Another call did it meanwhile.
        }
        let cluster = Some(known.cluster_id());
        let mut addresses: Vec<String> = known.nodes().map(|node| node.client.clone()).collect();
        let extra = self.endpoints.iter().filter(|endpoint| !addresses.contains(endpoint));
        let extra: Vec<String> = extra.cloned().collect();
        addresses.extend(extra);
        addresses.truncate(REFRESH_NODES_MAX);
        let version = known.version();
        let ask = |address| connection::fetch_topology(&self.pool, address, version, cluster);
        let addresses = addresses.iter().map(String::as_str);
        let mut answers: FuturesUnordered<_> = addresses.map(ask).collect();
        let mut failure = None;
        let mut has_answer = false;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(Some(topology)) if version < topology.version() => {
                    self.router.replace(topology);
                    return Ok(self.router.topology());
                }
                Ok(_) => has_answer = true,
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if !has_answer => Err(error),
            Some(_) | None => Ok(self.router.topology()),
        }
    }
}
