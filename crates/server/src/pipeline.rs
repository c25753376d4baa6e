//! The pipelined stream of our own client: many requests and answers in each frame, in any order.
//! The room after is `edge.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use quorate_proto::convert::error::status_from_error;
use quorate_proto::convert::{Answer, Item};
use quorate_proto::v1;
use quorate_types::{Code, Error, GroupId, Reply, limits};
use tokio::sync::mpsc;
use tonic::Status;
use tracing::debug;

use crate::access::Caller;
use crate::context::NodeContext;
use crate::edge::table_finder;
use crate::links::{self, Exchange, Fate};

/// Most answers of one frame. Values of scans and gets are bounded by their own limits; the frame is
/// closed early when it grows.
const FRAME_ANSWERS_MAX: usize = 256;
/// A frame is closed once it holds this much; one more answer may still be a page of a scan.
const FRAME_BYTES: usize = limits::WIRE_FRAME_BYTES_MAX - limits::SCAN_BYTES_MAX;

/// Reads requests in a task and yields frames of answers until the client leaves.
pub(crate) fn serve(
    context: Arc<NodeContext>,
    caller: Caller,
    requests: impl Stream<Item = Result<v1::PipelineRequest, Status>> + Send + Unpin + 'static,
) -> impl Stream<Item = Result<v1::PipelineResponse, Status>> + Send {
    // Bounded by `in_flight`: an answer counts until it is written.
    let (send, receive) = mpsc::unbounded_channel();
    let in_flight = Arc::new(AtomicUsize::new(0));
    let caller = Arc::new(caller);
    let (answers, counted) = (send, Arc::clone(&in_flight));
    let reader = Reader { context, caller, answers, in_flight: counted, fate: None };
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = reader.context.stopped() => {}
            () = reader.run(requests) => {}
        }
    });
    futures::stream::unfold((receive, in_flight), |(mut receive, in_flight)| async move {
        let frame = next_frame(&mut receive, &in_flight).await?;
        Some((frame, (receive, in_flight)))
    })
}

type Answers = Result<v1::PipelineReply, Status>;

/// Everything that is ready, as one frame: no timer, no added delay.
async fn next_frame(
    answers: &mut mpsc::UnboundedReceiver<Answers>,
    in_flight: &AtomicUsize,
) -> Option<Result<v1::PipelineResponse, Status>> {
    let mut items = Vec::new();
    let mut bytes = 0;
    let mut next = answers.recv().await?;
    loop {
        match next {
            Ok(reply) => {
                bytes += prost::Message::encoded_len(&reply);
                items.push(reply);
                in_flight.fetch_sub(1, Ordering::AcqRel);
            }
            Err(status) => return Some(Err(status)),
        }
        if items.len() >= FRAME_ANSWERS_MAX || bytes >= FRAME_BYTES {
            break;
        }
        match answers.try_recv() {
            Ok(more) => next = more,
            Err(_empty) => break,
        }
    }
    Some(Ok(v1::PipelineResponse { items }))
}

struct Reader {
    context: Arc<NodeContext>,
    caller: Arc<Caller>,
    answers: mpsc::UnboundedSender<Answers>,
    in_flight: Arc<AtomicUsize>,
    /// Of the answer to one request, if it is decided; `None`: the links decide when there is one.
    fate: Option<Fate>,
}

impl Reader {
    async fn run(
        &self,
        mut requests: impl Stream<Item = Result<v1::PipelineRequest, Status>> + Send + Unpin,
    ) {
        loop {
            match requests.next().await {
                Some(Ok(frame)) => {
                    if let Err(error) = self.frame(frame) {
                        let _gone = self.answers.send(Err(status_from_error(&error))).is_err();
                        return;
                    }
                }
                None => return,
                Some(Err(status)) => {
                    debug!(%status, "a client's stream broke");
                    return;
                }
            }
        }
    }

    fn frame(&self, frame: v1::PipelineRequest) -> Result<(), Error> {
        let ours = self.context.topology.cluster_id();
        if !frame.cluster_id.is_empty() && frame.cluster_id != ours.to_string() {
            return Err(self.context.wrong_cluster(&frame.cluster_id));
        }
        for item in frame.items {
            match &self.context.links {
                None => self.item(item),
                Some(links) => match links.client_exchange(&item) {
                    Some(exchange) => self.exchange(&exchange, &item),
                    None => self.arrive(links.client_request(), &item),
                },
            }
        }
        Ok(())
    }

    /// A request whose answer has its fate already.
    fn exchange(&self, exchange: &Exchange, item: &v1::PipelineItem) {
        let reader = Reader { fate: Some(exchange.answer.clone()), ..self.clone_for_answer() };
        match &exchange.refusal {
            None => reader.arrive(exchange.request.clone(), item),
            Some(refusal) => {
                reader.in_flight.fetch_add(1, Ordering::AcqRel);
                reader.reply(item.id, GroupId(item.group), Err(refusal.clone()));
            }
        }
    }

    fn arrive(&self, fate: Fate, item: &v1::PipelineItem) {
        for delay in fate {
            let (reader, item) = (self.clone_for_answer(), item.clone());
            links::after(delay, move || reader.item(item));
        }
    }

    fn item(&self, item: v1::PipelineItem) {
        let id = item.id;
        let group = GroupId(item.group);
        if self.in_flight.fetch_add(1, Ordering::AcqRel) >= limits::STREAM_IN_FLIGHT_MAX {
            let message =
                format!("the stream has {} requests in flight", limits::STREAM_IN_FLIGHT_MAX);
            let error = Error::new(Code::Overloaded, message).after(Duration::from_millis(20));
            self.reply(id, group, Err(error));
            return;
        }
        let submitted = Item::from_wire(item, &table_finder(&self.context))
            .map_err(Error::from)
            .and_then(|item| {
                let reader = self.clone_for_answer();
                let (id, group) = (item.id, item.group);
                let (caller, elsewhere) = (&self.caller, item.elsewhere);
                self.context.submit(caller, group, item.request, elsewhere, move |answer| {
                    reader.reply(id, group, answer);
                })
            });
        if let Err(error) = submitted {
            self.reply(id, group, Err(error));
        }
    }

    fn clone_for_answer(&self) -> Reader {
        Reader {
            context: Arc::clone(&self.context),
            caller: Arc::clone(&self.caller),
            answers: self.answers.clone(),
            in_flight: Arc::clone(&self.in_flight),
            fate: self.fate.clone(),
        }
    }

    fn reply(&self, id: u64, group: GroupId, answer: Result<Reply, Error>) {
        let result = answer
            .map(|reply| (group, reply))
            .map_err(|error| self.context.with_leader_address(error));
        let wire = Answer { id, leader: None, result }.into_wire();
        match &self.context.links {
            None => self.send(wire),
            Some(links) => {
                let fate = self.fate.clone().unwrap_or_else(|| links.client_answer());
                // Each answer that is written counts itself off.
                self.in_flight.fetch_add(fate.len(), Ordering::AcqRel);
                self.in_flight.fetch_sub(1, Ordering::AcqRel);
                for delay in fate {
                    let (reader, wire) = (self.clone_for_answer(), wire.clone());
                    links::after(delay, move || reader.send(wire));
                }
            }
        }
    }

    fn send(&self, wire: v1::PipelineReply) {
        let _gone = self.answers.send(Ok(wire)).is_err(); // The client left; nobody waits any more.
    }
}
