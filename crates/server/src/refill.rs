//! Rows of a group from another node, into our store. Begun by the shard through `Network::refill`; the other
//! end is `snapshots.rs` of a node that has them.
//!
//! Every page is checked against its crc, every record for being one, every part and the whole against what
//! the source has counted; what does not fit is thrown away. What has arrived stays when a stream breaks
//! or the node restarts, and the source that has the rest is asked first.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use quorate_paxos::{Batch, MembershipAt};
use quorate_proto::convert::error::error_from_status;
use quorate_proto::convert::{SnapshotAsk, SnapshotPiece, SnapshotTally};
use quorate_proto::v1;
use quorate_replica::{Refilled, Wanted, blocking};
use quorate_store::{Base, Installer, Store, StoreError, decode_page};
use quorate_types::{Code, Error, GroupId, NodeId, ReplicaId};
use tracing::{debug, info, warn};

use crate::context::NodeContext;
use crate::peer_network::{dial, unreachable_peer};
use crate::snapshots::{Snapshots, counted};

/// How often every node is asked before the driver is told that there are no rows.
const ROUNDS: u32 = 3;
/// A stream that breaks but has brought something is gone on with so often, one after the other.
const RESUMES: u32 = 16;
/// Wait before the next try.
const PAUSE: Duration = Duration::from_millis(500);
/// The source begins within this.
const BEGIN_LIMIT: Duration = Duration::from_secs(10);
/// Between two pieces no more time goes by: one page takes a slow source a second.
const PIECE_LIMIT: Duration = Duration::from_secs(30);

/// Fetches the rows of a group, or only what they end with.
pub(crate) async fn refill(
    context: &NodeContext,
    store: &Arc<Store>,
    wanted: &Wanted,
) -> Result<Refilled, Error> {
    let group = wanted.group;
    let mut failed = Error::new(Code::SnapshotUnavailable, format!("{group} has no other replica"));
    // Rows that are half there after a start came in a stream that broke with the process.
    let known = Arc::clone(store);
    let progress = off_task(move || known.install_progress(group)).await?;
    let mut broken = progress.map_or(0, |progress| progress.broken.saturating_add(1));
    for round in 0..ROUNDS {
        if 0 < round {
            tokio::time::sleep(PAUSE * round).await;
        }
        for node in candidates(context, store, group, &wanted.sources).await {
            let mut resumes = 0;
            loop {
                let mut fetch = Fetch { context, store, wanted, node, broken, has_come: false };
                failed = match fetch.run().await {
                    Ok(refilled) => return Ok(refilled),
                    Err(error) => error,
                };
                if matches!(failed.code, Code::DiskFailed | Code::StoreDamaged | Code::Internal) {
                    return Err(failed); // Ours: another source would not help.
                }
                resumes += 1;
                broken += u32::from(fetch.has_come);
                debug!(%group, source = %node, error = %failed, "rows did not come");
                if !fetch.has_come || RESUMES < resumes {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Err(failed)
}

/// The nodes to ask, the best first: the one that has the rest of what has come, then the near ones, and
/// among these followers before the leader, who has other things to do.
async fn candidates(
    context: &NodeContext,
    store: &Arc<Store>,
    group: GroupId,
    sources: &[NodeId],
) -> Vec<NodeId> {
    let known = Arc::clone(store);
    let progress = blocking(move || known.install_progress(group)).await.and_then(Result::ok);
    let begun_at = progress.flatten().map(|progress| Snapshots::node_of(progress.snapshot));
    // Without it only the leader is not known for one, and is asked in its turn.
    let status = context.shard.status().await.ok();
    let leader = status.and_then(|status| {
        let of_group = status.groups.into_iter().find(|it| it.group == group)?;
        of_group.core.leader.map(ReplicaId::node)
    });
    let here = context.entry();
    let distance = |node: NodeId| {
        let there = context.topology.node(node);
        let is_same_idc = there.is_some_and(|there| there.idc == here.idc);
        let is_same_city = there.is_some_and(|there| there.city == here.city);
        2 - u32::from(is_same_idc) - u32::from(is_same_city)
    };
    let mut others = context.directory.nodes(group);
    let has_rows = |node| context.directory.kind_on(group, node).keeps_rows();
    others.retain(|node| *node != context.node && has_rows(*node));
    others.retain(|node| sources.is_empty() || sources.contains(node));
    others.sort_by_key(|node| {
        (begun_at != Some(*node), distance(*node), leader == Some(*node), *node)
    });
    others
}

/// What the rows that come end with.
struct Ending {
    last: Batch,
    membership: MembershipAt,
}

/// One stream from one source.
struct Fetch<'a> {
    context: &'a NodeContext,
    store: &'a Arc<Store>,
    wanted: &'a Wanted,
    node: NodeId,
    /// Streams that broke off before.
    broken: u32,
    /// At least one page was written.
    has_come: bool,
}

impl Fetch<'_> {
    /// What has come when a stream breaks stays.
    async fn run(&mut self) -> Result<Refilled, Error> {
        let mut arriving = None;
        let outcome = self.receive(&mut arriving).await;
        if let Some((installer, _)) = arriving
            && let Err(error) = off_task(move || installer.end()).await
        {
            warn!(group = %self.wanted.group, %error, "rows that came before a break are lost");
        }
        outcome
    }

    async fn receive(
        &mut self,
        arriving: &mut Option<(Installer, Ending)>,
    ) -> Result<Refilled, Error> {
        let Fetch { context, store, wanted, node, broken: streams, .. } = *self;
        let Wanted { group, at_least, rows, .. } = *wanted;
        let resume = if rows {
            let known = Arc::clone(store);
            let progress = off_task(move || known.install_progress(group)).await?;
            progress.and_then(|progress| Some((progress.snapshot, progress.after?)))
        } else {
            None
        };
        let hello = context.hello(node);
        let ask =
            SnapshotAsk { hello, group, at_least, resume, header_only: !rows, broken: streams };
        let mut client = v1::peer_client::PeerClient::new(dial(context, node).await?);
        let broken = |error: String| unreachable_peer(context, node, &error);
        let refused = |status: tonic::Status| {
            error_from_status(&status).unwrap_or_else(|| broken(status.to_string()))
        };
        let opened = tokio::time::timeout(BEGIN_LIMIT, client.snapshot(ask.into_wire())).await;
        let opened = opened.map_err(|_elapsed| broken("no answer".to_owned()))?;
        let mut pieces = opened.map_err(refused)?.into_inner();

        loop {
            let piece = tokio::time::timeout(PIECE_LIMIT, pieces.next()).await;
            let piece = piece.map_err(|_elapsed| broken("rows stopped to come".to_owned()))?;
            let piece = piece.ok_or_else(|| broken("the stream ended early".to_owned()))?;
            let piece = piece.map_err(refused)?;
            self.arrive().await?;
            let piece = SnapshotPiece::from_wire(piece).map_err(|error| damaged(error.to_string()));
            *arriving = match (piece, arriving.take()) {
                (Ok(SnapshotPiece::Header { id, last, membership, estimated_bytes }), None) => {
                    if last.last() < at_least {
                        let message = format!("{node} sends rows as of slot {}", last.last());
                        return Err(Error::new(Code::SnapshotUnavailable, message));
                    }
                    if membership.0 != group {
                        return Err(damaged("it has the members of another group"));
                    }
                    let membership = membership.1;
                    if !rows {
                        info!(%group, source = %node, ?last, "the log can go on from here");
                        return Ok(Refilled { group, last, membership, incarnation: 0 });
                    }
                    info!(%group, source = %node, ?last, estimated_bytes, "fetches rows");
                    let store = Arc::clone(store);
                    let installer =
                        off_task(move || store.begin_install(group, id, streams)).await?;
                    Some((installer, Ending { last, membership }))
                }
                (Ok(SnapshotPiece::Page(page)), Some((installer, end))) => {
                    Some((self.write(installer, page).await?, end))
                }
                (Ok(SnapshotPiece::PartEnd(tally)), Some((installer, end))) => {
                    Some((compare(installer, tally).await?, end))
                }
                (Ok(SnapshotPiece::End(tally)), Some((installer, Ending { last, membership }))) => {
                    let installer = compare(installer, tally).await?;
                    info!(%group, source = %node, ?tally, "rows are here");
                    let Base { incarnation } = off_task(move || installer.end()).await?;
                    return Ok(Refilled { group, last, membership, incarnation });
                }
                // What has come before was right: it stays, and the rest is asked for once more.
                (Err(error), come) => {
                    *arriving = come;
                    return Err(error);
                }
                (Ok(_), None) => return Err(damaged("it does not begin with a header")),
                (Ok(SnapshotPiece::Header { .. }), Some(_)) => {
                    return Err(damaged("it has a second header"));
                }
            };
        }
    }

    async fn write(
        &mut self,
        mut installer: Installer,
        page: bytes::Bytes,
    ) -> Result<Installer, Error> {
        let (written, installer) = off_task(move || {
            let written = decode_page(page).and_then(|records| installer.write(records));
            Ok((written, installer))
        })
        .await?;
        match written {
            Ok(()) => {
                self.has_come = true;
                Ok(installer)
            }
            Err(error @ StoreError::Foreign { .. }) => {
                Err(discard(installer, error.to_string()).await)
            }
            Err(error) => Err(coded(&error)),
        }
    }

    /// What the simulated network does to a piece.
    async fn arrive(&self) -> Result<(), Error> {
        let Some(links) = &self.context.links else { return Ok(()) };
        match links.snapshot_piece(self.node).first() {
            Some(delay) => {
                tokio::time::sleep(*delay).await;
                Ok(())
            }
            None => Err(unreachable_peer(self.context, self.node, "a piece was lost")),
        }
    }
}

/// The source must have counted what has arrived here.
async fn compare(installer: Installer, theirs: SnapshotTally) -> Result<Installer, Error> {
    let ours = counted(installer.tally());
    if ours == theirs {
        return Ok(installer);
    }
    Err(discard(installer, format!("{theirs:?} were sent, {ours:?} arrived")).await)
}

/// Throws away what has arrived.
async fn discard(installer: Installer, reason: String) -> Error {
    warn!(?installer, reason, "rows that came are thrown away");
    match off_task(move || installer.discard()).await {
        Ok(()) => damaged(reason),
        Err(error) => error,
    }
}

/// Work on the store where it keeps nobody.
async fn off_task<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Error> {
    match blocking(work).await {
        Some(done) => done.map_err(|error| coded(&error)),
        None => Err(Error::new(Code::Internal, "work on the store panicked")),
    }
}

fn coded(error: &StoreError) -> Error {
    Error::new(error.code(), error.to_string())
}

fn damaged(reason: impl Into<String>) -> Error {
    Error::new(Code::SnapshotDamaged, reason)
}

#[cfg(test)]
#[path = "refill_test.rs"]
mod tests;
