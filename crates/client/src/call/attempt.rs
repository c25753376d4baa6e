//! One attempt at one node, and what happens between two attempts: the inner loop of a call.
//!
//! Each attempt connects, waits for room on the stream, sends and waits for the answer, and none of
//! these may take longer than an attempt is given. `retry` decides what follows.

use std::future::Future;
use std::time::Duration;

use quorate_proto::convert::{Answer, Item, LeaderHint};
use quorate_types::elsewhere::FACT_BEHIND;
use quorate_types::{ClusterId, Code, GroupId, NodeId, Request, RequestBody};
use rand::Rng;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::{Answered, Call, Halt};
use crate::alone;
use crate::client::Inner;
use crate::error::{Error, Outcome, Phase, show};
use crate::retry::{Attempts, End, Next, Pause, Target};
use crate::session::Ticket;
use crate::trace::Hook;

/// So long reads that need not go to a leader leave a node alone that could not answer one.
const SHUNNED: Duration = Duration::from_secs(1);

/// Why one attempt ended without an answer.
enum Stopped {
    /// The attempt is over.
    Ended(End),
    /// The deadline of the call passed; whether the request was under way then.
    Deadline(UnderWay),
}

enum UnderWay {
    Yes,
    No,
}

impl From<End> for Stopped {
    fn from(end: End) -> Stopped {
        Stopped::Ended(end)
    }
}

impl Call<'_> {
    /// Asks one group, wherever its leader is.
    pub(super) async fn ask(
        &mut self,
        attempts: &mut Attempts,
        group: GroupId,
        ticket: Option<&Ticket>,
        body: &RequestBody,
        bytes: usize,
    ) -> Result<Answered, Halt> {
        let elsewhere = match self.reads {
            Some(reads) if body.is_readable_elsewhere() => reads.of_group(group),
            Some(_) | None => None,
        };
        let keeper = self.keepers.and_then(|keepers| keepers.get(&group)).copied();
        let first = match (keeper, elsewhere) {
            (Some(keeper), _) => Ok(keeper),
            (None, Some(_)) => self.nearest(group),
            (None, None) => self.inner.router.first(group),
        };
        let mut node = match first {
            Ok(node) => node,
            Err(error) => return Err(Halt::Failed(self.fail(error, attempts.outcome()))),
        };
        self.group = Some(group);
        let traceparent = self.inner.options.trace.as_ref().and_then(Hook::sampled);
        loop {
            let address = self.address(node, attempts).await.map_err(Halt::Failed)?;
            let item = Item {
                id: 0, // The mux numbers its requests.
                group,
                time_left: None,
                topology_version: self.inner.router.topology_version(),
                elsewhere,
                request: Request { id: ticket.map(Ticket::request_id), body: body.clone() },
            };
            let end = match self.attempt(node, &address, item, bytes, traceparent.as_deref()).await
            {
                Ok((answered, hint)) => {
                    let slot = answered.reply.at.slot;
                    match (self.reads, self.began, elsewhere) {
                        (Some(reads), _, Some(_)) => reads.saw_elsewhere(group, slot),
                        (Some(reads), Some(began), None) => reads.saw(group, slot, began),
                        _ => {}
                    }
                    self.inner.budget.succeeded();
                    let may_follow = elsewhere.is_some() || keeper.is_some();
                    let leads = (!may_follow).then_some(node);
                    if let Some(leader) = hint.map(|hint| hint.node).or(leads) {
                        self.inner.router.note_leader(group, leader);
                    }
                    return Ok(answered);
                }
                Err(Stopped::Ended(end)) => end,
                Err(Stopped::Deadline(under_way)) => {
                    let outcome = match under_way {
                        UnderWay::Yes => attempts.outcome_under_way(),
                        UnderWay::No => attempts.outcome(),
                    };
                    return Err(Halt::Failed(self.deadline(outcome)));
                }
            };
            node = self.next_node(attempts, group, node, end).await?;
        }
    }

    fn cluster(&self) -> Option<ClusterId> {
        self.inner.options.cluster
    }

    /// The replica to ask for a read that need not go to the leader.
    fn nearest(&self, group: GroupId) -> Result<NodeId, quorate_types::Error> {
        let near = self.inner.options.near.as_deref();
        self.inner.router.nearest(group, near, Instant::now())
    }

    /// Sends a request to one node once and waits for the answer.
    async fn attempt(
        &mut self,
        node: NodeId,
        address: &str,
        mut item: Item,
        bytes: usize,
        traceparent: Option<&str>,
    ) -> Result<(Answered, Option<LeaderHint>), Stopped> {
        self.trail.attempt(address);
        self.trail.phase = Some(Phase::Connect);
        let dialling = self.inner.pool.connection(address);
        let dialled = self.for_one_attempt(dialling).await;
        let connection = match dialled {
            Ok(dialled) => dialled.map_err(End::NotSent)?,
            Err(waited) => {
                let message = format!("not connected to {address} after {}", show(waited));
                return Err(self.too_slow(message, UnderWay::No));
            }
        };
        self.trail.phase = Some(Phase::Send);
        let room = match self.for_one_attempt(connection.mux.reserve(bytes)).await {
            Ok(room) => room?,
            Err(waited) => {
                let message = format!(
                    "{} passed before there was room on the stream to {address}",
                    show(waited)
                );
                return Err(self.too_slow(message, UnderWay::No));
            }
        };
        let left = self.left();
        if left.is_zero() {
            return Err(Stopped::Deadline(UnderWay::No)); // Nobody waits for its answer any more.
        }
        self.trail.phase = Some(Phase::Wait);
        item.time_left = Some(left);
        let answering = async {
            match traceparent {
                None => connection.mux.send(item.into_wire(), room).answer().await,
                Some(context) => {
                    let (channel, cluster) = (connection.channel.clone(), self.cluster());
                    let item = item.into_wire();
                    // Boxed: it is rare, and every call would carry its room.
                    Box::pin(alone::ask(channel, address, cluster, item, context, room)).await
                }
            }
        };
        let reply = match self.for_one_attempt(answering).await {
            Ok(settled) => settled?,
            Err(waited) => {
                let message = format!("{address} did not answer within {}", show(waited));
                return Err(self.too_slow(message, UnderWay::Yes));
            }
        };
        let answer = Answer::from_wire(reply).map_err(|error| {
            let message = format!("the answer of {address} is malformed: {error}");
            End::Lost(quorate_types::Error::new(Code::Internal, message))
        })?;
        let (group, reply) = answer.result.map_err(|error| {
            // The hint of the answer counts like one among the facts.
            End::Refused(match &answer.leader {
                Some(hint) if LeaderHint::from_facts(&error).is_none() => hint.add_to(error),
                Some(_) | None => error,
            })
        })?;
        Ok((Answered { group, node, reply }, answer.leader))
    }

    /// Decides what follows an attempt, pauses, and names the node to try next.
    pub(super) async fn next_node(
        &mut self,
        attempts: &mut Attempts,
        group: GroupId,
        node: NodeId,
        end: End,
    ) -> Result<NodeId, Halt> {
        let error = match &end {
            End::NotSent(error) | End::Lost(error) => {
                self.inner.router.forget_leader(group, node);
                self.inner.router.shun(node, Instant::now() + SHUNNED);
                error
            }
            End::Refused(error) => {
                if matches!(error.code, Code::NotLeader | Code::WrongNode) {
                    self.inner.router.forget_leader(group, node);
                }
                if error.facts.contains_key(FACT_BEHIND) {
                    self.inner.router.shun(node, Instant::now() + SHUNNED);
                }
                error
            }
        };
        debug!(%group, %node, %error, attempts = self.trail.attempts, "attempt ended");
        self.trail.last_error = Some(error.clone());
        let (target, pause) = match attempts.after(end) {
            Next::Stop { error, outcome } => return Err(Halt::Failed(self.fail(error, outcome))),
            Next::NewSession => return Err(Halt::NewSession),
            Next::Again { target, pause } => (target, pause),
        };
        self.pause(pause, attempts).await.map_err(Halt::Failed)?;
        let next = match target {
            Target::Same => Ok(node),
            Target::NextMember => self.inner.router.next(group, node),
            Target::FreshRoute => return Err(Halt::Reroute),
            Target::Leader(leader) => {
                if self.inner.router.address(leader).is_none() {
                    self.refresh().await; // The cluster file of the server knows more nodes.
                }
                match self.inner.router.address(leader) {
                    Some(_) => {
                        self.inner.router.note_leader(group, leader);
                        Ok(leader)
                    }
                    None => self.inner.router.next(group, node),
                }
            }
        };
        next.map_err(|error| Halt::Failed(self.fail(error, attempts.outcome())))
    }

    async fn pause(&mut self, pause: Pause, attempts: &Attempts) -> Result<(), Error> {
        self.trail.phase = Some(Phase::Pause);
        let wait = match pause {
            Pause::None => Duration::ZERO,
            Pause::UpTo(ceiling) => self.inner.random_up_to(ceiling),
            Pause::Exactly(wait) => wait,
        };
        let left = self.left();
        if wait < left {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            return self.pay(pause, attempts).await;
        }
        let outcome = attempts.outcome();
        match (&pause, self.trail.last_error.clone()) {
            // The server wants more time than there is: its own answer helps the caller most.
            (Pause::Exactly(_), Some(error)) if outcome == Outcome::NotApplied => {
                Err(self.fail(error, outcome))
            }
            _ => {
                tokio::time::sleep(left).await;
                Err(self.deadline(outcome))
            }
        }
    }

    /// Pays for a repetition out of what all calls together may repeat.
    async fn pay(&mut self, pause: Pause, attempts: &Attempts) -> Result<(), Error> {
        if pause == Pause::None {
            return Ok(()); // It only goes elsewhere.
        }
        self.trail.phase = Some(Phase::Budget);
        let taken = timeout(self.left(), self.inner.budget.take()).await;
        taken.map_err(|_| self.deadline(attempts.outcome()))
    }

    /// Waits no longer than one attempt may take; otherwise says how long it waited.
    async fn for_one_attempt<T>(&self, future: impl Future<Output = T>) -> Result<T, Duration> {
        let limit = self.left().min(self.inner.options.attempt_timeout);
        timeout(limit, future).await.map_err(|_| limit)
    }

    /// A part of an attempt took too long: for the attempt, or for the whole call.
    fn too_slow(&self, message: String, under_way: UnderWay) -> Stopped {
        if self.left().is_zero() {
            return Stopped::Deadline(under_way);
        }
        let error = quorate_types::Error::new(Code::Unreachable, message);
        Stopped::Ended(match under_way {
            UnderWay::Yes => End::Lost(error),
            UnderWay::No => End::NotSent(error),
        })
    }
}

impl Inner {
    /// A random time up to a ceiling: full jitter.
    pub(crate) fn random_up_to(&self, ceiling: Duration) -> Duration {
        let most = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random().random_range(0..=most))
    }
}
