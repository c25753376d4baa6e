//! gRPC health (`grpc.health.v1`): can the node be used, and can a unit be used through it?
//!
//! Every answer is computed when asked, from the same account as the status; nothing is kept that could
//! grow old. `docs/OPERATIONS.md` says what each service name means.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use quorate_proto::convert::error::status_from_error;
use quorate_replica::ShardStatus;
use quorate_topology::{Topology, Unit};
use quorate_types::{GroupId, NodeId, ReplicaId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::access::Caller;
use crate::context::NodeContext;

/// Before the name of a unit.
const UNIT_PREFIX: &str = "quorate.unit.";
/// A shard that does not answer this long is stuck.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks of a watch.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// Most watches of a node at once: each asks the shard at every look.
const WATCHES_MAX: usize = 64;

/// The health service of a node.
pub(crate) fn service(context: Arc<NodeContext>) -> HealthServer<HealthService> {
    HealthServer::new(HealthService { context, watches: Arc::new(Semaphore::new(WATCHES_MAX)) })
}

pub(crate) struct HealthService {
    context: Arc<NodeContext>,
    watches: Arc<Semaphore>,
}

impl HealthService {
    /// As for the status: every client with rights may ask, and nodes.
    fn admit(&self, request: &Request<HealthCheckRequest>) -> Result<(), Status> {
        let admitted = self.context.admit(&Caller::of(request), "health");
        admitted.map_err(|error| status_from_error(&error))
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.admit(&request)?;
        let name = request.into_inner().service;
        match look(&self.context, &name).await {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found(format!("no service has the name {name:?}")))
            }
            status => Ok(Response::new(HealthCheckResponse { status: status.into() })),
        }
    }

    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.admit(&request)?;
        let permit = Arc::clone(&self.watches).try_acquire_owned().map_err(|_taken| {
            Status::resource_exhausted(format!("the node has {WATCHES_MAX} watches of its health"))
        })?;
        let mut ticks = interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watch = Watch {
            context: Arc::clone(&self.context),
            name: request.into_inner().service,
            ticks,
            last: None,
            _permit: permit,
        };
        let changes = futures::stream::unfold(watch, |mut watch| async move {
            let status = watch.next().await?;
            Some((Ok(HealthCheckResponse { status: status.into() }), watch))
        });
        Ok(Response::new(Box::pin(changes)))
    }
}

/// One caller that wants to hear of changes.
struct Watch {
    context: Arc<NodeContext>,
    name: String,
    ticks: tokio::time::Interval,
    last: Option<ServingStatus>,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    /// The first status, then each that differs from the one before; `None` once the node has stopped.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            tokio::select! {
                biased;
                () = self.context.stopped() => return None,
                _ = self.ticks.tick() => {}
            }
            let status = look(&self.context, &self.name).await;
            if self.last.replace(status) != Some(status) {
                return Some(status);
            }
        }
    }
}

/// The status of a service name now.
async fn look(context: &NodeContext, name: &str) -> ServingStatus {
    let unit = match name.strip_prefix(UNIT_PREFIX) {
        None if name.is_empty() => None,
        None => return ServingStatus::ServiceUnknown,
        Some(unit) => match context.topology.unit(unit) {
            None => return ServingStatus::ServiceUnknown,
            found => found,
        },
    };
    let Ok(Ok(shard)) = timeout(ALIVE_WITHIN, context.shard.status()).await else {
        return ServingStatus::NotServing;
    };
    match unit {
        None => serving_if(!shard.draining && shard.has_room),
        Some(unit) => unit_health(&context.topology, context.node, unit, &shard),
    }
}

/// Whether a unit can be used, as far as this node can see: through the groups of the unit that it holds
/// a replica of. Each must lead and serve here, or follow a leader that it has heard lately.
fn unit_health(
    topology: &Topology,
    node: NodeId,
    unit: &Unit,
    shard: &ShardStatus,
) -> ServingStatus {
    let is_here =
        |id: &&GroupId| topology.group(**id).is_some_and(|group| group.member_on(node).is_some());
    let here: BTreeSet<GroupId> = unit.groups.iter().filter(is_here).copied().collect();
    if here.is_empty() {
        return ServingStatus::Unknown;
    }
    let is_led = |id: &GroupId| {
        let group = shard.groups.iter().find(|group| group.group == *id);
        group.is_some_and(|group| match group.core.leader.map(ReplicaId::node) {
            Some(leader) if leader == node => group.core.serving,
            Some(_other) => true,
            None => false,
        })
    };
    serving_if(!shard.draining && here.iter().all(is_led))
}

fn serving_if(is_serving: bool) -> ServingStatus {
    if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}
