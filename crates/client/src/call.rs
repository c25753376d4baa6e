//! One call: attempt after attempt until an answer or the deadline.
//!
//! `client`, `scan`, `transaction` and `status` make a [`Call`] and say what they want. The call finds
//! the group, takes a number from the session if it writes, sends, waits, and does what `retry` says
//! about the end of each attempt. Single attempts, and what happens between them, are in
//! `call/attempt.rs`. All knowledge of time and randomness in a call is in these two files.

mod attempt;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use quorate_types::limits::TXN_GROUPS_MAX;
use quorate_types::{Code, GroupId, NodeId, Reply, ReplyBody, RequestBody, SliceId, TableId, Uid};
use tokio::time::{Instant, timeout};
use tracing::{Instrument, Span, debug};

use crate::client::Inner;
use crate::error::{Error, Outcome, Phase, Trail};
use crate::reads::{Moment, ReadState};
use crate::retry::{Attempts, End, Kind};
use crate::router::Router;
use crate::session::Ticket;
use crate::size;
use crate::trace;

/// Where a request belongs; resolved anew whenever the topology changes.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// The groups of these rows; the first one is asked.
    Rows(Vec<(TableId, Uid)>),
    /// The group of a slice.
    Slice(TableId, SliceId),
    /// The group of the accounts of all these users.
    Accounts(Vec<Uid>),
    /// This group.
    Group(GroupId),
    /// The group that makes the cuts.
    Cuts,
}

impl Place {
    /// The groups of the rows and accounts it names, as far as they are known.
    pub(crate) fn groups(&self, router: &Router) -> BTreeSet<GroupId> {
        match self {
            Place::Rows(rows) => {
                rows.iter().filter_map(|(table, uid)| router.group_of(*table, *uid).ok()).collect()
            }
            Place::Accounts(users) => {
                users.iter().filter_map(|uid| router.group_of_accounts(&[*uid]).ok()).collect()
            }
            Place::Group(group) => BTreeSet::from([*group]),
            Place::Slice(..) | Place::Cuts => BTreeSet::new(),
        }
    }
}

/// A positive answer, the group it came from, and the node.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) group: GroupId,
    pub(crate) node: NodeId,
    pub(crate) reply: Reply,
}

/// Why asking one group ended without an answer.
enum Halt {
    /// The topology may be old: find the group again.
    Reroute,
    /// Only a new session helps.
    NewSession,
    /// The call is over.
    Failed(Error),
}

/// A call in progress.
pub(crate) struct Call<'a> {
    inner: &'a Inner,
    started: Instant,
    budget: Duration,
    /// `None`: leaders answer reads.
    reads: Option<&'a ReadState>,
    /// The nodes that keep what is asked for, whoever leads. Nothing: leaders are asked.
    keepers: Option<&'a BTreeMap<GroupId, NodeId>>,
    /// When it began, in the life of the handle.
    began: Option<Moment>,
    /// The group that was asked last.
    group: Option<GroupId>,
    pub(crate) trail: Trail,
}

impl<'a> Call<'a> {
    /// A call that starts now and may take this long.
    pub(crate) fn new(
        inner: &'a Inner,
        budget: Duration,
        reads: Option<&'a ReadState>,
    ) -> Call<'a> {
        let began = reads.map(ReadState::now);
        let (started, trail) = (Instant::now(), Trail::default());
        Call { inner, started, budget, reads, keepers: None, began, group: None, trail }
    }

    /// The call asks these nodes first.
    pub(crate) fn of_keepers(self, keepers: &'a BTreeMap<GroupId, NodeId>) -> Call<'a> {
        Call { keepers: Some(keepers), ..self }
    }

    fn attempts(&self, kind: Kind) -> Attempts {
        Attempts::new(kind, self.inner.options.retry)
    }

    /// Asks for something that has no effect, or whose repetition is harmless.
    pub(crate) async fn read(
        mut self,
        place: &Place,
        body: RequestBody,
    ) -> Result<Answered, Error> {
        let span = trace::begin(trace::operation(&body), place);
        let ended = self.do_read(place, body).instrument(span.clone()).await;
        self.note(&span, ended.as_ref().err(), "read");
        ended
    }

    async fn do_read(&mut self, place: &Place, body: RequestBody) -> Result<Answered, Error> {
        let bytes = size::checked(&body).map_err(Error::local)?;
        let mut attempts = self.attempts(Kind::Read);
        loop {
            let group = self.resolve(place, &attempts)?;
            match self.ask(&mut attempts, group, None, &body, bytes).await {
                Ok(answered) => return Ok(answered),
                Err(Halt::Failed(error)) => return Err(error),
                Err(Halt::NewSession) => {}
                Err(Halt::Reroute) => self.refresh().await,
            }
        }
    }

    /// Asks for something that may be repeated without a session, and says what is known of the
    /// attempts before the one that was answered: [`Outcome::Unknown`] if any of them may still take
    /// effect.
    pub(crate) async fn repeatable(
        mut self,
        place: &Place,
        body: RequestBody,
    ) -> Result<(Answered, Outcome), Error> {
        let span = trace::begin(trace::operation(&body), place);
        let ended = self.do_repeatable(place, body).instrument(span.clone()).await;
        self.note(&span, ended.as_ref().err(), "applied");
        ended
    }

    async fn do_repeatable(
        &mut self,
        place: &Place,
        body: RequestBody,
    ) -> Result<(Answered, Outcome), Error> {
        let bytes = size::checked(&body).map_err(Error::local)?;
        let mut attempts = self.attempts(Kind::Write);
        loop {
            let group = self.resolve(place, &attempts)?;
            match self.ask(&mut attempts, group, None, &body, bytes).await {
                Ok(answered) => {
                    self.note_written(place, &answered);
                    return Ok((answered, attempts.outcome()));
                }
                Err(Halt::Failed(error)) => {
                    self.note_failed(place);
                    return Err(error);
                }
                Err(Halt::NewSession) => {}
                Err(Halt::Reroute) => self.refresh().await,
            }
        }
    }

    /// Asks for something that must take effect once.
    pub(crate) async fn write(
        mut self,
        place: &Place,
        body: RequestBody,
    ) -> Result<Answered, Error> {
        let span = trace::begin(trace::operation(&body), place);
        let ended = self.do_write(place, body).instrument(span.clone()).await;
        self.note(&span, ended.as_ref().err(), "applied");
        ended
    }

    async fn do_write(&mut self, place: &Place, body: RequestBody) -> Result<Answered, Error> {
        let bytes = size::checked(&body).map_err(Error::local)?;
        let mut attempts = self.attempts(Kind::Write);
        let mut opening = self.attempts(Kind::Read);
        let mut held: Option<Ticket> = None;
        loop {
            let group = self.resolve(place, &attempts)?;
            let ticket = match held.take().filter(|ticket| ticket.session().group == group) {
                Some(ticket) => ticket,
                None if attempts.outcome() == Outcome::Unknown => {
                    // Its number means nothing in another group, and a new one could write twice.
                    let message =
                        format!("the rows moved to {group} before an attempt was answered");
                    let error = quorate_types::Error::new(Code::OutcomeUnknown, message);
                    return Err(self.fail(error, Outcome::Unknown));
                }
                None => match self.ticket(group, &mut opening).await {
                    Ok(ticket) => ticket,
                    Err(Halt::Failed(error)) => return Err(error),
                    Err(Halt::NewSession) => continue,
                    Err(Halt::Reroute) => {
                        self.refresh().await;
                        continue;
                    }
                },
            };
            match self.ask(&mut attempts, group, Some(&ticket), &body, bytes).await {
                Ok(answered) => {
                    self.note_written(place, &answered);
                    return Ok(answered);
                }
                Err(Halt::Failed(error)) => {
                    let last = error.last_answer().unwrap_or(error.as_error()).code;
                    if last == Code::SessionExpired {
                        self.inner.sessions.forget(group, ticket.session());
                    }
                    self.note_failed(place);
                    return Err(error);
                }
                Err(Halt::NewSession) => self.inner.sessions.forget(group, ticket.session()),
                Err(Halt::Reroute) => {
                    held = Some(ticket);
                    self.refresh().await;
                }
            }
        }
    }

    /// Notes in the span of the call how it ended.
    fn note(&self, span: &Span, error: Option<&Error>, done: &'static str) {
        let end = trace::End { group: self.group, attempts: self.trail.attempts, error, done };
        trace::end(span, self.inner, &end);
    }

    /// Remembers where a write stands, for reads that replicas answer. Of a transaction over several
    /// groups only the place in the log of the first is told, and it is decided there a little later:
    /// nothing to see for those who do not wait for locks.
    fn note_written(&self, place: &Place, Answered { group, .. }: &Answered) {
        let Some(reads) = self.reads else { return };
        let mut groups = place.groups(&self.inner.router);
        if groups.len() < 2 {
            return; // The attempt that was answered has noted its place.
        }
        if !reads.is_around_locks() {
            groups.remove(group);
        }
        reads.saw_unplaced(groups);
    }

    /// A write failed: what it was refused for, or what it may still do, has no place that we know.
    fn note_failed(&self, place: &Place) {
        if let Some(reads) = self.reads {
            reads.saw_unplaced(place.groups(&self.inner.router));
        }
    }

    /// Closes the session of a group, if that can be done in time.
    pub(crate) async fn close_session(mut self, group: GroupId, body: &RequestBody) {
        let mut attempts = self.attempts(Kind::Read);
        if let Err(Halt::Failed(error)) = self.ask(&mut attempts, group, None, body, 0).await {
            debug!(%group, %error, "session not closed, it will expire");
        }
    }

    /// Repeats a unary call on the leader of a group until it is answered. The closure makes one
    /// call; it must not have an effect that matters twice if nothing is known to have happened.
    pub(crate) async fn one_shot<T, F>(
        mut self,
        operation: &'static str,
        group: GroupId,
        attempt: impl Fn(String) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, End>>,
    {
        self.group = Some(group);
        let span = trace::begin(operation, &Place::Group(group));
        let ended = self.do_one_shot(group, attempt).instrument(span.clone()).await;
        self.note(&span, ended.as_ref().err(), "applied");
        ended
    }

    async fn do_one_shot<T, F>(
        &mut self,
        group: GroupId,
        attempt: impl Fn(String) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, End>>,
    {
        let mut attempts = self.attempts(Kind::OneShot);
        let mut node = self.inner.router.first(group).map_err(Error::local)?;
        loop {
            let address = self.address(node, &attempts).await?;
            self.trail.attempt(&address);
            self.trail.phase = Some(Phase::Wait);
            let end = match timeout(self.left(), attempt(address)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(end)) => end,
                Err(_) => return Err(self.deadline(attempts.outcome_under_way())),
            };
            match self.next_node(&mut attempts, group, node, end).await {
                Ok(next) => node = next,
                Err(Halt::Failed(error)) => return Err(error),
                Err(Halt::NewSession | Halt::Reroute) => {
                    self.refresh().await;
                    node = self.inner.router.first(group).map_err(Error::local)?;
                }
            }
        }
    }

    /// A number in a session with the group; opens the session if there is none.
    async fn ticket(&mut self, group: GroupId, opening: &mut Attempts) -> Result<Ticket, Halt> {
        let inner = self.inner;
        loop {
            self.trail.phase = Some(Phase::Session);
            if let Some(session) = inner.sessions.open_one(group) {
                let begun = timeout(self.left(), session.begin()).await;
                return begun.map_err(|_| Halt::Failed(self.deadline(Outcome::NotApplied)));
            }
            let gate = inner.sessions.gate(group);
            let Ok(_others_wait) = timeout(self.left(), gate.lock()).await else {
                return Err(Halt::Failed(self.deadline(Outcome::NotApplied)));
            };
            if inner.sessions.open_one(group).is_some() {
                continue; // Another call opened it meanwhile.
            }
            let answered = self.ask(opening, group, None, &RequestBody::OpenSession, 0).await?;
            let ReplyBody::Session(session) = answered.reply.body else {
                return Err(Halt::Failed(
                    self.fail(other_answer("OpenSession"), Outcome::NotApplied),
                ));
            };
            inner.sessions.opened(group, session);
        }
    }

    /// The group that is asked: that of the first row, which coordinates where there are several.
    fn resolve(&mut self, place: &Place, attempts: &Attempts) -> Result<GroupId, Error> {
        let router = &self.inner.router;
        let found = match place {
            Place::Accounts(users) => router.group_of_accounts(users),
            Place::Group(group) => Ok(*group),
            Place::Cuts => router.group_of_cuts(),
            Place::Slice(table, slice) => router.group_of_slice(*table, *slice),
            Place::Rows(rows) => {
                let groups: Result<Vec<GroupId>, _> =
                    rows.iter().map(|(table, uid)| router.group_of(*table, *uid)).collect();
                groups.and_then(|groups| {
                    let first = groups.first().copied().ok_or_else(empty_transaction)?;
                    let count = groups.into_iter().collect::<BTreeSet<_>>().len();
                    if TXN_GROUPS_MAX < count { Err(several_groups(count)) } else { Ok(first) }
                })
            }
        };
        found.map_err(|error| self.fail(error, attempts.outcome()))
    }

    /// The address of a node, after a refresh if the topology does not have it.
    async fn address(&mut self, node: NodeId, attempts: &Attempts) -> Result<String, Error> {
        if let Some(address) = self.inner.router.address(node) {
            return Ok(address);
        }
        self.refresh().await;
        self.inner.router.address(node).ok_or_else(|| {
            let message = format!("the cluster file has no node {node}");
            self.fail(quorate_types::Error::new(Code::WrongNode, message), attempts.outcome())
        })
    }

    /// Asks for a newer topology. Failure shows in what follows, so it is only noted.
    async fn refresh(&mut self) {
        match timeout(self.left(), self.inner.refresh()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => debug!(%error, "topology not refreshed"),
            Err(_) => debug!("topology not refreshed before the deadline"),
        }
    }

    /// Time left until the deadline.
    fn left(&self) -> Duration {
        self.budget.saturating_sub(self.started.elapsed())
    }

    /// The error that ends the call.
    pub(crate) fn fail(&mut self, error: quorate_types::Error, outcome: Outcome) -> Error {
        Error::new(error, outcome, std::mem::take(&mut self.trail))
    }

    fn deadline(&mut self, outcome: Outcome) -> Error {
        Error::deadline(self.budget, outcome, std::mem::take(&mut self.trail))
    }
}

/// An answer of the wrong kind: a bug of the server.
pub(crate) fn other_answer(asked: &str) -> quorate_types::Error {
    quorate_types::Error::new(Code::Internal, format!("{asked} was answered with something else"))
}

fn empty_transaction() -> quorate_types::Error {
    quorate_types::Error::new(Code::InvalidRequest, "the transaction is empty")
}

fn several_groups(count: usize) -> quorate_types::Error {
    let message =
        format!("the transaction names rows of {count} groups, more than {TXN_GROUPS_MAX}");
    quorate_types::Error::new(Code::SeveralGroups, message)
}
