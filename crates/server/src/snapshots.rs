//! Rows of a group for another node: pages of a view, sent no faster than allowed. The room before is
//! `peer_service.rs`, the view comes from `replica::ShardHandle::snapshot`; at the other end is `refill.rs`.
//!
//! A view is kept for a while after its stream has ended, so that a broken one can be gone on with. It keeps
//! what is overwritten meanwhile on the disk: so views are few, and none lives long.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use quorate_proto::convert::error::status_from_error;
use quorate_proto::convert::{SnapshotAsk, SnapshotPiece, SnapshotTally};
use quorate_proto::v1;
use quorate_replica::{LogWaits, SnapshotSource, blocking};
use quorate_store::{Tally, encode_page};
use quorate_types::{BootTime, Code, Error, GroupId, NodeId, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tonic::Status;
use tracing::{debug, info, warn};

use crate::context::NodeContext;
use crate::pace::{self, Governor};

/// A view that nobody reads any more goes after this.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// A view goes after this, whoever reads it.
const LIFE_MAX: Duration = Duration::from_secs(30 * 60);
/// However much clients notice, a view is sent fast enough to be through after this.
const IN_TIME: Duration = Duration::from_secs(15 * 60);
/// How often that is looked after.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Another node that takes nothing for so long has left.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Pieces made ahead of what the other node takes.
const PIECES_AHEAD: usize = 2;
const PAGE_BYTES: usize = limits::SNAPSHOT_PAGE_BYTES;
/// Tests send little, and want parts too.
const PART_BYTES: u64 =
    if cfg!(test) { 2 * PAGE_BYTES as u64 } else { limits::SNAPSHOT_PART_BYTES };
/// Who finds too many others served tries again after this.
const LATER: Duration = Duration::from_secs(2);

/// What a node may spend on rows for others.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotOptions {
    /// Bytes a second, for all of them together.
    pub bytes_per_second: u64,
    /// How many are served at once.
    pub served_max: usize,
    /// Random bits of this start of the node: ids of snapshots must never come again.
    pub start: u64,
}

/// The views that a node keeps for others.
pub(crate) struct Snapshots {
    node: NodeId,
    options: SnapshotOptions,
    served: Arc<Semaphore>,
    state: Mutex<State>,
    /// What writes of the log have taken on this node.
    log_waits: Box<dyn Fn() -> LogWaits + Send + Sync>,
}

struct State {
    kept: BTreeMap<u128, Kept>,
    /// Ids given out.
    begun: u32,
    /// When the next bytes may go out.
    free_at: Option<Instant>,
    /// How fast they may.
    governor: Governor,
}

struct Kept {
    served: Arc<Served>,
    since: BootTime,
    /// Streams that read it.
    readers: usize,
    /// When the last of them ended.
    idle_since: BootTime,
}

/// A view and what is known of what was sent of it.
struct Served {
    id: u128,
    /// The node that it was made for.
    asked_by: NodeId,
    source: SnapshotSource,
    /// The last key of each part that was counted, and the tally through it, in order.
    parts: Mutex<Vec<(Bytes, Tally)>>,
}

impl Served {
    fn parts(&self) -> MutexGuard<'_, Vec<(Bytes, Tally)>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner) // A single push.
    }

    /// The end of the last part that ends at or before `key`.
    fn part_before(&self, key: &Bytes) -> Option<(Bytes, Tally)> {
        let parts = self.parts();
        let after = parts.partition_point(|(end, _)| end <= key);
        parts.get(after.checked_sub(1)?).cloned()
    }

    fn part_ends(&self, key: &Bytes, tally: Tally) {
        let mut parts = self.parts();
        if parts.last().is_none_or(|(end, _)| end < key) {
            parts.push((key.clone(), tally));
        }
    }
}

impl Snapshots {
    /// Views of a node whose log takes what `log_waits` says.
    pub(crate) fn new(
        node: NodeId,
        options: SnapshotOptions,
        log_waits: impl Fn() -> LogWaits + Send + Sync + 'static,
    ) -> Snapshots {
        let governor = Governor::new(options.bytes_per_second);
        Snapshots {
            node,
            options,
            served: Arc::new(Semaphore::new(options.served_max)),
            state: Mutex::new(State { kept: BTreeMap::new(), begun: 0, free_at: None, governor }),
            log_waits: Box::new(log_waits),
        }
    }

    /// The node that made a snapshot.
    pub(crate) fn node_of(id: u128) -> NodeId {
        NodeId((id >> 96) as u32)
    }

    /// The rows of a group must not be given away any more: streams of them end.
    pub(crate) fn withdraw(&self, group: GroupId) {
        let mut state = self.lock();
        let of_group = state.kept.iter().filter(|(_, kept)| kept.served.source.group() == group);
        let ids: Vec<u128> = of_group.map(|(id, _)| *id).collect();
        let kept: Vec<Kept> = ids.iter().filter_map(|id| state.kept.remove(id)).collect();
        drop(state);
        drop(kept); // Without the lock: a view waits for whoever reads it.
    }

    /// The node stops.
    pub(crate) fn clear(&self) {
        let kept = std::mem::take(&mut self.lock().kept);
        drop(kept); // Without the lock: a view waits for whoever reads it.
    }

    /// True if no view is kept.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().kept.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one of a single field, or stands alone in its map.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more reader of a view that is still there, and was made for the same node.
    fn join(&self, ask: &SnapshotAsk) -> Option<Arc<Served>> {
        let (id, _) = ask.resume.as_ref()?;
        let mut state = self.lock();
        let kept = state.kept.get_mut(id)?;
        let source = &kept.served.source;
        let is_meant = source.group() == ask.group && kept.served.asked_by == ask.hello.node;
        if !is_meant || source.last().last() < ask.at_least {
            return None;
        }
        kept.readers += 1;
        Some(Arc::clone(&kept.served))
    }

    /// Keeps a new view, with its first reader.
    fn keep(
        &self,
        now: BootTime,
        asked_by: NodeId,
        source: SnapshotSource,
    ) -> Result<Arc<Served>, Error> {
        let mut state = self.lock();
        let mut oldest = None;
        if limits::SNAPSHOTS_KEPT_MAX <= state.kept.len() {
            let idle = state.kept.iter().filter(|(_, kept)| kept.readers == 0);
            let id = idle.min_by_key(|(_, kept)| kept.idle_since).map(|(id, _)| *id);
            oldest = Some(id.and_then(|id| state.kept.remove(&id)).ok_or_else(overloaded)?);
        }
        state.begun += 1;
        let id = snapshot_id(self.node, self.options.start, state.begun);
        let served = Arc::new(Served { id, asked_by, source, parts: Mutex::default() });
        let kept = Kept { served: Arc::clone(&served), since: now, readers: 1, idle_since: now };
        state.kept.insert(id, kept);
        drop(state);
        drop(oldest); // Without the lock.
        Ok(served)
    }

    fn leave(&self, now: BootTime, id: u128) {
        if let Some(kept) = self.lock().kept.get_mut(&id) {
            kept.readers -= 1;
            kept.idle_since = now;
        }
    }

    /// Lets a view go whose time is over. True if it is gone.
    fn drop_if_over(&self, now: BootTime, id: u128) -> bool {
        let mut state = self.lock();
        let Some(kept) = state.kept.get(&id) else { return true };
        let is_idle = kept.readers == 0 && IDLE_MAX <= now.since(kept.idle_since);
        if !is_idle && now.since(kept.since) < LIFE_MAX {
            return false;
        }
        let kept = state.kept.remove(&id);
        drop(state);
        drop(kept); // Without the lock.
        true
    }

    fn has(&self, id: u128) -> bool {
        self.lock().kept.contains_key(&id)
    }

    /// How long what is ready now would have to wait.
    pub(crate) fn backlog(&self) -> Duration {
        let free_at = self.lock().free_at;
        free_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
    }

    /// When bytes may go out that are ready now. Records for backups count too. So many bytes a second may
    /// go out whatever clients notice, but never more than the full rate.
    pub(crate) fn pace(&self, bytes: usize, least: u64) -> Instant {
        let now = Instant::now();
        let waits = (self.log_waits)();
        let mut state = self.lock();
        let most = self.options.bytes_per_second.max(1);
        let rate = state.governor.rate(now, waits).max(least.min(most) as f64);
        let takes = bytes as f64 / rate;
        let at = state.free_at.map_or(now, |free_at| free_at.max(now));
        state.free_at = Some(at + Duration::from_secs_f64(takes));
        at
    }
}

/// Node (4 bytes), start of the node (8), number (4).
fn snapshot_id(node: NodeId, start: u64, number: u32) -> u128 {
    u128::from(node.0) << 96 | u128::from(start) << 32 | u128::from(number)
}

/// What a stream of pieces is for tonic.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = Result<v1::SnapshotChunk, Status>> + Send>>;

/// Begins to send a snapshot.
pub(crate) async fn serve(context: &Arc<NodeContext>, ask: SnapshotAsk) -> Result<Pieces, Error> {
    let (peer, group) = (ask.hello.node, ask.group);
    let snapshots = &context.snapshots;
    let turn = Arc::clone(&snapshots.served).try_acquire_owned().map_err(|_none| overloaded())?;
    if ask.header_only {
        let source = context.shard.snapshot(group, peer, ask.at_least).await?;
        info!(%peer, %group, last = ?source.last(), "says where its rows end");
        let header = header(0, &source, 0).into_wire();
        return Ok(Box::pin(futures::stream::iter([Ok(header)])));
    }
    let (served, after) = match snapshots.join(&ask) {
        Some(served) => (served, ask.resume.map(|(_, after)| after)),
        None => {
            let source = context.shard.snapshot(group, peer, ask.at_least).await?;
            let served = snapshots.keep(context.clock.now(), peer, source)?;
            tokio::spawn(look_after(Arc::clone(context), served.id));
            (served, None)
        }
    };
    let (last, resumed) = (served.source.last(), after.is_some());
    info!(%peer, %group, ?last, resumed, broken = ask.broken, "sends rows");
    let (send, receive) = mpsc::channel(PIECES_AHEAD);
    let broken = ask.broken;
    let sending = Sending { context: Arc::clone(context), served, peer, broken, send, _turn: turn };
    tokio::spawn(async move {
        let stopping = Arc::clone(&sending.context);
        tokio::select! {
            biased;
            () = stopping.stopped() => {}
            () = sending.run(after) => {}
        }
    });
    Ok(Box::pin(futures::stream::unfold(receive, |mut receive| async move {
        receive.recv().await.map(|piece| (piece, receive))
    })))
}

fn header(id: u128, source: &SnapshotSource, estimated_bytes: u64) -> SnapshotPiece {
    let (last, membership) = (source.last().clone(), source.membership().clone());
    SnapshotPiece::Header { id, last, membership: (source.group(), membership), estimated_bytes }
}

/// Lets a view go when its time is over.
async fn look_after(context: Arc<NodeContext>, id: u128) {
    let over = async {
        while !context.snapshots.drop_if_over(context.clock.now(), id) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        biased;
        () = context.stopped() => {}
        () = over => debug!(id, "a view for other nodes is gone"),
    }
}

/// A stream to another node.
struct Sending {
    context: Arc<NodeContext>,
    served: Arc<Served>,
    peer: NodeId,
    /// Streams of these rows that broke off before this one.
    broken: u32,
    send: mpsc::Sender<Result<v1::SnapshotChunk, Status>>,
    _turn: OwnedSemaphorePermit,
}

/// The other node has left.
struct Left;

impl Drop for Sending {
    fn drop(&mut self) {
        self.context.snapshots.leave(self.context.clock.now(), self.served.id);
    }
}

impl Sending {
    async fn run(&self, after: Option<Bytes>) {
        match self.pieces(after).await {
            Ok(Ok(tally)) => info!(peer = %self.peer, ?tally, "all rows are sent"),
            Ok(Err(Left)) => debug!(peer = %self.peer, "a stream of rows broke"),
            Err(error) => {
                warn!(peer = %self.peer, %error, "rows cannot be sent");
                let _left = self.send.send(Err(status_from_error(&error))).await.is_err();
            }
        }
    }

    /// Sends everything behind `after`. What was sent before it is counted again from the part on that it
    /// is in, so that the receiver's count is compared with what was read here, not with its own.
    async fn pieces(&self, after: Option<Bytes>) -> Result<Result<Tally, Left>, Error> {
        let served = Arc::clone(&self.served);
        let estimated = blocking(move || served.source.estimated_bytes()).await.unwrap_or(0);
        let full = self.context.snapshots.options.bytes_per_second;
        let least = (estimated / IN_TIME.as_secs()).max(pace::least(full, self.broken));
        let header = header(self.served.id, &self.served.source, estimated);
        if self.put(header).await.is_err() {
            return Ok(Err(Left));
        }
        let begin = after.as_ref().and_then(|after| self.served.part_before(after));
        let (mut at, mut tally) =
            begin.map_or((None, Tally::default()), |(at, tally)| (Some(at), tally));
        let mut part_began = tally.bytes;
        loop {
            let mut page = self.page(at.clone()).await?;
            let Some(last) = page.last().map(|record| record.key.clone()) else { break };
            page.iter().for_each(|record| tally.add(record));
            at = Some(last.clone());
            if let Some(after) = &after {
                let sent = page.partition_point(|record| record.key <= *after);
                page.drain(..sent);
            }
            if !page.is_empty() {
                let records = encode_page(&page);
                tokio::time::sleep_until(self.context.snapshots.pace(records.len(), least)).await;
                if !self.context.snapshots.has(self.served.id) {
                    return Err(Error::new(
                        Code::SnapshotUnavailable,
                        "the view was kept too long",
                    ));
                }
                if self.put(SnapshotPiece::Page(records)).await.is_err() {
                    return Ok(Err(Left));
                }
            }
            if PART_BYTES <= tally.bytes - part_began + PAGE_BYTES as u64 {
                part_began = tally.bytes;
                self.served.part_ends(&last, tally);
                let is_sent = after.as_ref().is_none_or(|after| *after <= last);
                if is_sent && self.put(SnapshotPiece::PartEnd(counted(tally))).await.is_err() {
                    return Ok(Err(Left));
                }
            }
        }
        if self.put(SnapshotPiece::End(counted(tally))).await.is_err() {
            return Ok(Err(Left));
        }
        Ok(Ok(tally))
    }

    async fn page(&self, after: Option<Bytes>) -> Result<Vec<quorate_store::Portable>, Error> {
        let served = Arc::clone(&self.served);
        let page = blocking(move || served.source.page(after.as_deref(), PAGE_BYTES)).await;
        match page {
            Some(Ok(page)) => Ok(page),
            Some(Err(error)) => Err(Error::new(error.code(), error.to_string())),
            None => Err(Error::new(Code::Internal, "reading rows panicked")),
        }
    }

    async fn put(&self, piece: SnapshotPiece) -> Result<(), Left> {
        let sent = self.send.send(Ok(piece.into_wire()));
        match tokio::time::timeout(STALL_MAX, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_closed)) => Err(Left),
            Err(_elapsed) => Err(Left), // It would keep the view and the turn of others for ever.
        }
    }
}

/// A tally for the wire.
pub(crate) fn counted(tally: Tally) -> SnapshotTally {
    let Tally { records, bytes, digest } = tally;
    SnapshotTally { records, bytes, digest }
}

fn overloaded() -> Error {
    Error::new(Code::Overloaded, "this node sends rows to as many others as it may").after(LATER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_go_out_no_faster_than_allowed() {
        // Goal: what goes out waits for all that went out before, of any snapshot; a rest is not saved up. At
        // first it is 1/32 of the full rate.
        let options = SnapshotOptions { bytes_per_second: 32_000, served_max: 1, start: 7 };
        let snapshots = Snapshots::new(NodeId(1), options, LogWaits::default);
        let pace = |bytes| snapshots.pace(bytes, 0);
        let (first, second, third) = (pace(2000), pace(500), pace(1));
        assert_eq!(second - first, Duration::from_secs(2));
        assert_eq!(third - second, Duration::from_millis(500));
        // What has to be through in time goes faster, but no faster than the full rate.
        let (fourth, fifth) = (snapshots.pace(32_000, 1 << 40), pace(1));
        assert_eq!(fifth - fourth, Duration::from_secs(1));
    }

    #[test]
    fn an_id_names_the_node_that_made_it() {
        // Goal: who goes on with a snapshot after a restart still knows whom to ask.
        let id = snapshot_id(NodeId(u32::MAX - 1), u64::MAX, 3);
        assert_eq!(Snapshots::node_of(id), NodeId(u32::MAX - 1));
        assert_ne!(snapshot_id(NodeId(1), 7, 1), snapshot_id(NodeId(1), 7, 2));
    }
}
