//! One stream to one node, shared by all calls: many requests in flight, answers in any order.
//!
//! ```text
//!  calls --reserve, send--> queue --writer task--> frames --> stream --> node
//!    ^                                  |
//!    |                               pending
//!    |                                  |
//!    `----------- settled by <--reader task <--- stream <-------------- node
//! ```
//!
//! The writer takes whatever is queued and puts it into one frame: batching costs no time, because
//! nothing waits for more. When the stream breaks, every request that a frame may have carried ends
//! as lost, every other one as not sent, and the stream is never used again; `connection` opens a
//! new one when somebody asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_proto::convert::error::error_from_status;
use quorate_proto::convert::link::NEAR_METADATA;
use quorate_proto::v1;
use quorate_proto::v1::kv_client::KvClient;
use quorate_types::{ClusterId, Code, Error, limits};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::debug;

use crate::connection::of_status;
use crate::retry::End;

/// Most requests in one frame. Beyond 16 a larger frame gains nothing.
const FRAME_ITEMS_MAX: usize = 256;
/// Frames between the writer and the transport.
const FRAMES_QUEUED_MAX: usize = 4;

pub(crate) type Settled = Result<v1::PipelineReply, End>;

/// A stream to a node.
#[derive(Debug)]
pub(crate) struct Mux {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Queued>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Shared {
    address: String,
    next_id: AtomicU64,
    pending: Mutex<Pending>,
    has_broken: Notify,
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// Requests that a frame may have carried.
#[derive(Debug)]
enum Pending {
    Open(BTreeMap<u64, Entry>),
    Broken(Error),
}

#[derive(Debug)]
struct Entry {
    done: oneshot::Sender<Settled>,
    _room: Room,
}

#[derive(Debug)]
struct Queued {
    item: v1::PipelineItem,
    entry: Entry,
    bytes: usize,
}

/// Room for one request among those in flight. Given back when the request is settled or given up.
#[derive(Debug)]
pub(crate) struct Room {
    _request: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
    size: usize,
}

impl Mux {
    /// Opens the stream. Gives up only if the transport does; the caller sets the time.
    pub(crate) async fn open(
        channel: Channel,
        address: &str,
        cluster: Option<ClusterId>,
        in_flight: (usize, usize),
        near: Option<&str>,
    ) -> Result<Mux, Error> {
        let (frames, outgoing) = mpsc::channel(FRAMES_QUEUED_MAX);
        let mut client =
            KvClient::new(channel).max_decoding_message_size(limits::WIRE_DECODE_BYTES_MAX);
        let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
        // A name of a place that no header can hold is none of the cluster file either.
        if let Some(near) = near.and_then(|near| near.parse().ok()) {
            request.metadata_mut().insert(NEAR_METADATA, near);
        }
        let answers =
            client.pipeline(request).await.map_err(|status| broken(address, &status))?.into_inner();
        let (requests_max, bytes_max) = in_flight;
        let shared = Arc::new(Shared {
            address: address.to_owned(),
            next_id: AtomicU64::new(1),
            pending: Mutex::new(Pending::Open(BTreeMap::new())),
            has_broken: Notify::new(),
            requests: Arc::new(Semaphore::new(requests_max)),
            bytes: Arc::new(Semaphore::new(bytes_max)),
        });
        // Every request in the queue holds room, so the queue never fills up.
        let (queue, queued) = mpsc::channel(requests_max);
        let cluster_id = cluster.map(|cluster| cluster.to_string()).unwrap_or_default();
        let writer = tokio::spawn(write(queued, frames, Arc::clone(&shared), cluster_id));
        let reader = tokio::spawn(read(answers, Arc::clone(&shared)));
        Ok(Mux { shared, queue, tasks: [writer, reader] })
    }

    /// True if no request can be sent any more.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(&*self.shared.lock(), Pending::Broken(_))
    }

    /// Waits for room for a request of this many bytes.
    pub(crate) async fn reserve(&self, size: usize) -> Result<Room, End> {
        let closed = |_| End::NotSent(self.shared.reason());
        let permits = u32::try_from(size).unwrap_or(u32::MAX);
        let requests = Arc::clone(&self.shared.requests);
        let request = requests.acquire_owned().await.map_err(closed)?;
        let bytes = Arc::clone(&self.shared.bytes);
        let bytes = bytes.acquire_many_owned(permits).await.map_err(closed)?;
        Ok(Room { _request: request, _bytes: bytes, size })
    }

    /// Queues a request. From now on it counts as sent unless the mux says otherwise.
    pub(crate) fn send(&self, mut item: v1::PipelineItem, room: Room) -> Waiting {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        item.id = id;
        let (done, answer) = oneshot::channel();
        let bytes = room.size;
        let queued = Queued { item, entry: Entry { done, _room: room }, bytes };
        if let Err(refused) = self.queue.try_send(queued) {
            let queued = match refused {
                mpsc::error::TrySendError::Full(queued)
                | mpsc::error::TrySendError::Closed(queued) => queued,
            };
            settle(queued.entry.done, Err(End::NotSent(self.shared.reason())));
        }
        Waiting { shared: Arc::clone(&self.shared), id, answer }
    }
}

impl Drop for Mux {
    fn drop(&mut self) {
        // Nobody waits: every waiting call holds the connection that holds this.
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A request on its way. Dropping it gives up on the answer and frees its room.
#[derive(Debug)]
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    id: u64,
    answer: oneshot::Receiver<Settled>,
}

impl Waiting {
    /// The answer, or how the request ended without one.
    pub(crate) async fn answer(mut self) -> Settled {
        let settled = (&mut self.answer).await;
        settled.unwrap_or_else(|_| Err(End::Lost(self.shared.reason())))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // First close, then remove: the writer looks for closed ones under the same lock before it
        // inserts, so the request is either never sent or removed here.
        self.answer.close();
        if let Pending::Open(entries) = &mut *self.shared.lock() {
            entries.remove(&self.id);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the stream is of no use.
    fn reason(&self) -> Error {
        match &*self.lock() {
            Pending::Broken(reason) => reason.clone(),
            Pending::Open(_) => {
                let message = format!("the stream to {} was closed", self.address);
                Error::new(Code::Unreachable, message)
            }
        }
    }

    /// Ends the stream: everything that a frame may have carried is lost.
    fn end(&self, reason: Error) {
        let pending = std::mem::replace(&mut *self.lock(), Pending::Broken(reason.clone()));
        self.has_broken.notify_one();
        self.requests.close();
        self.bytes.close();
        let Pending::Open(entries) = pending else { return };
        debug!(address = self.address, lost = entries.len(), %reason, "stream ended");
        for entry in entries.into_values() {
            // A node of another cluster looks at no request before it has said so.
            let end = if reason.code == Code::ClusterMismatch {
                End::Refused(reason.clone())
            } else {
                End::Lost(reason.clone())
            };
            settle(entry.done, Err(end));
        }
    }
}

fn settle(done: oneshot::Sender<Settled>, settled: Settled) {
    let _caller_has_given_up = done.send(settled).is_err();
}

/// Why a stream could not be opened or broke.
fn broken(address: &str, status: &Status) -> Error {
    error_from_status(status).unwrap_or_else(|| {
        of_status(status, |said| format!("the stream to {address} broke: {said}"))
    })
}

/// Writer task: queue to frames.
async fn write(
    mut queue: mpsc::Receiver<Queued>,
    frames: mpsc::Sender<v1::PipelineRequest>,
    shared: Arc<Shared>,
    mut cluster_id: String,
) {
    let mut buffer = Vec::with_capacity(FRAME_ITEMS_MAX);
    'stream: loop {
        tokio::select! {
            biased;
            () = shared.has_broken.notified() => break 'stream,
            taken = queue.recv_many(&mut buffer, FRAME_ITEMS_MAX) => if taken == 0 { break 'stream },
        }
        for items in register(&mut buffer, &shared) {
            let frame = v1::PipelineRequest { cluster_id: std::mem::take(&mut cluster_id), items };
            tokio::select! {
                biased;
                () = shared.has_broken.notified() => break 'stream,
                sent = frames.send(frame) => if sent.is_err() { break 'stream },
            }
        }
    }
    queue.close();
    while let Some(queued) = queue.recv().await {
        settle(queued.entry.done, Err(End::NotSent(shared.reason())));
    }
}

/// Makes requests pending and cuts them into frames. Those nobody waits for any more are left out.
fn register(buffer: &mut Vec<Queued>, shared: &Shared) -> Vec<Vec<v1::PipelineItem>> {
    let mut pending = shared.lock();
    let entries = match &mut *pending {
        Pending::Open(entries) => entries,
        Pending::Broken(reason) => {
            for queued in buffer.drain(..) {
                settle(queued.entry.done, Err(End::NotSent(reason.clone())));
            }
            return Vec::new();
        }
    };
    let mut frames = Vec::with_capacity(1);
    let mut items = Vec::with_capacity(buffer.len());
    let mut bytes = 0;
    for queued in buffer.drain(..) {
        if queued.entry.done.is_closed() {
            continue;
        }
        if limits::WIRE_FRAME_BYTES_MAX < bytes + queued.bytes && !items.is_empty() {
            frames.push(std::mem::take(&mut items));
            bytes = 0;
        }
        bytes += queued.bytes;
        entries.insert(queued.item.id, queued.entry);
        items.push(queued.item);
    }
    if !items.is_empty() {
        frames.push(items);
    }
    frames
}

/// Reader task: answers to the calls that wait for them.
async fn read(mut answers: Streaming<v1::PipelineResponse>, shared: Arc<Shared>) {
    let reason = loop {
        let frame = match answers.message().await {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                let message = format!("{} ended the stream", shared.address);
                break Error::new(Code::Unreachable, message);
            }
            Err(status) => break broken(&shared.address, &status),
        };
        let mut settled = Vec::with_capacity(frame.items.len());
        if let Pending::Open(entries) = &mut *shared.lock() {
            for reply in frame.items {
                // An answer that nobody waits for belongs to a call that has given up.
                if let Some(entry) = entries.remove(&reply.id) {
                    settled.push((entry, reply));
                }
            }
        }
        for (entry, reply) in settled {
            settle(entry.done, Ok(reply));
        }
    };
    shared.end(reason);
}
