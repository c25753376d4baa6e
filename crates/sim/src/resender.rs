//! A client that asks again on purpose: every request goes to several nodes, before and after it was
//! answered, under one id. However often it arrives, it must take effect once and be answered with the
//! first result (trap 29).
//!
//! It speaks the wire protocol itself, because our own client never asks again once it has an answer.

use std::sync::Arc;
use std::time::Duration;

use quorate_proto::convert::error::error_from_status;
use quorate_proto::v1;
use quorate_proto::v1::kv_client::KvClient;
use quorate_topology::Topology;
use quorate_types::Code;
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::time::Instant;
use tonic::transport::Endpoint;

use crate::history::{Action, Answer, Outcome};
use crate::places::Place;
use crate::random::{Draw, pick, random};
use crate::workload::{Ending, Recorder};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_millis(400);
/// How long a request is tried before its outcome is left open.
const PATIENCE: Duration = Duration::from_secs(5);
/// Repetitions after the answer.
const REPEATS_MAX: u32 = 3;
/// Its number in the history.
const PROCESS: u32 = 900;

/// What it saw.
#[derive(Clone, Debug, Default)]
pub struct Resent {
    /// Answers to requests that had been answered before.
    pub repeated: u64,
    /// Everything that is wrong with them.
    pub wrong: Vec<String>,
}

/// The client.
pub struct Resender {
    topology: Arc<Topology>,
    recorder: Recorder,
    ledgers: Vec<Place>,
    rng: SmallRng,
    next_row: u64,
    resent: Resent,
}

/// A session and the number of its last request.
#[derive(Clone, Copy)]
struct Session {
    id: v1::SessionId,
    sequence: u64,
}

impl Resender {
    /// A client for the ledgers among `places`.
    #[must_use]
    pub fn new(
        seed: u64,
        topology: Arc<Topology>,
        recorder: Recorder,
        places: &[Place],
    ) -> Resender {
        let ledgers = places.iter().filter(|place| place.is_ledger).cloned().collect();
        let rng = random(seed, Draw::Worker(PROCESS));
        let next_row = u64::from(PROCESS) * 1_000_000;
        Resender { topology, recorder, ledgers, rng, next_row, resent: Resent::default() }
    }

    /// Asks until told to end.
    pub async fn run(mut self, ending: Ending) -> Resent {
        let place = self.ledgers[self.rng.random_range(0..self.ledgers.len())].clone();
        let mut session = None;
        while !ending.is_set() {
            let pause = self.rng.random_range(10..200);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            session = match session {
                open if self.rng.random_bool(0.2) => {
                    Box::pin(self.one_without_id(&place)).await;
                    open
                }
                None => self.open(&place).await,
                Some(open) => Box::pin(self.one_request(&place, open)).await,
            };
        }
        self.resent
    }

    async fn open(&mut self, place: &Place) -> Option<Session> {
        let context = Some(self.context(None));
        let asked =
            v1::OpenSessionRequest { context, table: place.table.clone(), uid: place.uid.0 };
        let mut client = self.any_node().await?;
        let answer = tokio::time::timeout(ATTEMPT, client.open_session(asked)).await;
        let id = answer.ok()?.ok()?.into_inner().session?;
        Some(Session { id, sequence: 0 })
    }

    /// One request without an id, once: who asks so gives up on asking again, not on the truth.
    async fn one_without_id(&mut self, place: &Place) {
        self.next_row += 1;
        let row = self.next_row;
        let mut asked = self.append(place, None, row);
        if let Some(context) = &mut asked.context {
            context.timeout_ms = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
        }
        let number = self.recorder.begin(PROCESS, place.id, Action::Append(row));
        let node = self.any_node().await;
        let outcome = match send(node, &asked, PATIENCE).await {
            Some(Ok(answer)) => {
                let sum = answer.committed.as_ref().and_then(|it| it.sums.first().copied());
                Outcome::Applied(Answer::Sum(sum.unwrap_or(i64::MIN)))
            }
            Some(Err(_)) | None => Outcome::Unknown,
        };
        self.recorder.end(number, outcome);
    }

    /// One request, again and again. `None` if the session must not be used any more.
    async fn one_request(&mut self, place: &Place, mut session: Session) -> Option<Session> {
        session.sequence += 1;
        self.next_row += 1;
        let row = self.next_row;
        let asked = self.append(place, Some(session), row);
        let number = self.recorder.begin(PROCESS, place.id, Action::Append(row));
        let Some(first) = Box::pin(self.first_answer(&asked)).await else {
            self.recorder.end(number, Outcome::Unknown);
            return None;
        };
        let sum = first.committed.as_ref().and_then(|it| it.sums.first().copied());
        self.recorder.end(number, Outcome::Applied(Answer::Sum(sum.unwrap_or(i64::MIN))));
        for _ in 0..self.rng.random_range(0..=REPEATS_MAX) {
            let pause = self.rng.random_range(0..600);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.repeat(&asked, &first).await;
        }
        Some(session)
    }

    /// Sends to several nodes at once until one has answered.
    async fn first_answer(&mut self, asked: &v1::TransactRequest) -> Option<v1::TransactResponse> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let (one, other) = (self.any_node().await, self.any_node().await);
            let (one, other) = tokio::join!(send(one, asked, ATTEMPT), send(other, asked, ATTEMPT));
            if let Some(answer) = [one, other].into_iter().flatten().flatten().next() {
                return Some(answer);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    /// Sends what was answered once more: an answer must be the first one.
    async fn repeat(&mut self, asked: &v1::TransactRequest, first: &v1::TransactResponse) {
        let id = asked.context.as_ref().and_then(|context| context.request_id);
        let node = self.any_node().await;
        match send(node, asked, ATTEMPT).await {
            None => {}
            Some(Ok(again)) => {
                self.resent.repeated += 1;
                let at =
                    |answer: &v1::TransactResponse| answer.header.as_ref().and_then(|it| it.at);
                let is_replay = again.header.as_ref().is_some_and(|header| header.replayed);
                if at(&again) != at(first) || again.committed != first.committed || !is_replay {
                    let what = format!("{id:?} was answered {first:?}, then {again:?}");
                    self.resent.wrong.push(what);
                }
            }
            Some(Err(status)) => {
                let code = error_from_status(&status).map(|error| error.code);
                if matches!(code, Some(Code::SequenceReused | Code::SessionExpired)) {
                    let what = format!("{id:?} was answered {first:?}, then refused: {code:?}");
                    self.resent.wrong.push(what);
                }
            }
        }
    }

    fn append(&self, place: &Place, session: Option<Session>, row: u64) -> v1::TransactRequest {
        let address = |key: String| {
            let table = place.table.clone();
            Some(v1::RowAddress { table, uid: place.uid.0, key: key.into(), table_id: 0 })
        };
        let add = v1::AddMutation {
            at: address(place.key.clone()),
            delta: 1,
            floor: Some(1),
            ceiling: None,
        };
        let value = v1::Value { kind: Some(v1::value::Kind::Integer(i64::from(PROCESS))) };
        let put = v1::PutMutation { at: address(place.row(row)), value: Some(value) };
        let kinds = [v1::mutation::Kind::Add(add), v1::mutation::Kind::Put(put)];
        let mutations = kinds.map(|kind| v1::Mutation { kind: Some(kind) }).to_vec();
        let transaction = v1::Transaction { mutations, ..v1::Transaction::default() };
        let context = Some(self.context(session));
        v1::TransactRequest { context, transaction: Some(transaction) }
    }

    fn context(&self, session: Option<Session>) -> v1::RequestContext {
        let request_id = session.map(|session| v1::RequestId {
            session: Some(session.id),
            sequence: session.sequence,
            lowest_unanswered: session.sequence,
        });
        v1::RequestContext {
            cluster_id: self.topology.cluster_id().to_string(),
            request_id,
            timeout_ms: u64::try_from(ATTEMPT.as_millis()).unwrap_or(u64::MAX),
            group: 0,
            elsewhere: None,
        }
    }

    /// A connection to some node; `None` if it is not reached.
    async fn any_node(&mut self) -> Option<KvClient<tonic::transport::Channel>> {
        let addresses: Vec<&str> = self.topology.nodes().map(|node| node.client.as_str()).collect();
        let address = pick(&mut self.rng, &addresses);
        let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
        let connected = tokio::time::timeout(ATTEMPT, endpoint.connect()).await;
        Some(KvClient::new(connected.ok()?.ok()?))
    }
}

type Sent = Option<Result<v1::TransactResponse, tonic::Status>>;

/// One attempt; `None` if nothing came back in time.
async fn send(
    client: Option<KvClient<tonic::transport::Channel>>,
    asked: &v1::TransactRequest,
    patience: Duration,
) -> Sent {
    let answer = tokio::time::timeout(patience, client?.transact(asked.clone())).await;
    Some(answer.ok()?.map(tonic::Response::into_inner))
}
