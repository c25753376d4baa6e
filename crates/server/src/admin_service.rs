//! Status and planned hand-over, for operators and their tools.

use std::sync::Arc;
use std::time::Duration;

use quorate_proto::convert::check::report_to_wire;
use quorate_proto::convert::cross::{attempt_from_wire, attempt_status_to_wire};
use quorate_proto::convert::error::status_from_error;
use quorate_proto::convert::link::{links_from_wire, links_to_wire};
use quorate_proto::convert::members::{change_from_wire, entry_to_wire, kind_from_wire};
use quorate_proto::convert::recovery::{
    history_to_wire, loss_entry_to_wire, order_from_wire, standing_to_wire,
};
use quorate_proto::members::{MemberReport, Members};
use quorate_proto::v1;
use quorate_replica::MembersStatus;
use quorate_types::{Code, Error, GroupId, NodeId, Slot};
use tonic::{Request, Response, Status};

use crate::access::Caller;
use crate::context::NodeContext;
use crate::far_links::FarLinks;
use crate::recovery;
use crate::rights::Right;

/// How long a caller waits for what a check finds who does not say how long,
const CHECK_WAIT: Duration = Duration::from_secs(60);
/// and whoever does, at most: as long as hashing may take, and more.
const CHECK_WAIT_MAX: Duration = Duration::from_secs(600);

pub(crate) struct AdminService {
    context: Arc<NodeContext>,
}

impl AdminService {
    pub(crate) fn new(context: Arc<NodeContext>) -> AdminService {
        AdminService { context }
    }

    fn far_links(&self) -> Result<&FarLinks, Status> {
        self.context.far_links.as_deref().ok_or_else(|| {
            let message = "this node was not started to have its links broken";
            status_from_error(&Error::new(Code::FaultsNotAllowed, message))
        })
    }

    /// A refusal of a group, with where its leader or its members are.
    fn refuse(&self, group: GroupId, error: Error) -> Status {
        let error = self.context.with_leader_address(error);
        if error.code != Code::WrongNode {
            return status_from_error(&error);
        }
        status_from_error(&self.context.with_member_address(group, error))
    }

    /// Refuses who may not look after a group, and tells of who does.
    fn may_admin(&self, caller: &Caller, what: &str, group: GroupId) -> Result<(), Status> {
        let allowed = self.context.allow(caller, what, Right::Admin, group);
        allowed.map_err(|error| status_from_error(&error))?;
        if let Some(access) = &self.context.access {
            access.audit.done(caller, what, &group.to_string());
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl v1::admin_server::Admin for AdminService {
    async fn get_node_status(
        &self,
        request: Request<v1::GetNodeStatusRequest>,
    ) -> Result<Response<v1::NodeStatus>, Status> {
        let admitted = self.context.admit(&Caller::of(&request), "status");
        admitted.map_err(|error| status_from_error(&error))?;
        let status = self.context.status().await.map_err(|error| status_from_error(&error))?;
        Ok(Response::new(status.into_wire()))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let (group, to) = (GroupId(request.group), request.to_node.map(NodeId));
        self.may_admin(&caller, "transfer leader", group)?;
        if self.context.topology.group(group).is_none() {
            let message = format!("no group has the number {}", group.0);
            return Err(status_from_error(&Error::new(Code::UnknownGroup, message)));
        }
        let begun = self.context.shard.transfer_leader(group, to).await;
        begun.map_err(|error| self.refuse(group, error))?;
        Ok(Response::new(v1::TransferLeaderResponse { to_node: to.map_or(0, |node| node.0) }))
    }

    async fn get_members(
        &self,
        request: Request<v1::GetMembersRequest>,
    ) -> Result<Response<v1::GetMembersResponse>, Status> {
        let caller = Caller::of(&request);
        let admitted = self.context.admit(&caller, "get members");
        admitted.map_err(|error| status_from_error(&error))?;
        let group = GroupId(request.into_inner().group);
        let members = self.context.shard.members(group).await;
        let members = members.map_err(|error| self.refuse(group, error))?;
        Ok(Response::new(report(members).into_wire()))
    }

    async fn change_members(
        &self,
        request: Request<v1::ChangeMembersRequest>,
    ) -> Result<Response<v1::ChangeMembersResponse>, Status> {
        let caller = Caller::of(&request);
        let (group, request) = change_from_wire(request.into_inner())
            .map_err(|error| status_from_error(&Error::from(error)))?;
        self.may_admin(&caller, "change members", group)?;
        for seat in request.members.keys() {
            if self.context.topology.node(seat.node()).is_none() {
                let message = format!("the cluster file has no node {}", seat.node());
                return Err(status_from_error(&Error::new(Code::InvalidRequest, message)));
            }
        }
        let begun = self.context.shard.change_members(group, request).await;
        let since = begun.map_err(|error| self.refuse(group, error))?;
        Ok(Response::new(v1::ChangeMembersResponse { since: Some(entry_to_wire(since)) }))
    }

    async fn create_replica(
        &self,
        request: Request<v1::CreateReplicaRequest>,
    ) -> Result<Response<v1::CreateReplicaResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::CreateReplicaRequest { group, kind } = request.into_inner();
        let group = GroupId(group);
        let kind = kind_from_wire(kind).map_err(|error| status_from_error(&Error::from(error)))?;
        self.may_admin(&caller, "create replica", group)?;
        let next = self.context.next_replica(group).await;
        let replica = next.map_err(|error| status_from_error(&error))?;
        let options = (self.context.make_options)(group, replica, kind).ok_or_else(|| {
            let message = format!("no group has the number {}", group.0);
            status_from_error(&Error::new(Code::UnknownGroup, message))
        })?;
        let created = self.context.shard.create(options).await;
        let replica = created.map_err(|error| status_from_error(&error))?;
        Ok(Response::new(v1::CreateReplicaResponse { replica: replica.0 }))
    }

    async fn pin_leader(
        &self,
        request: Request<v1::PinLeaderRequest>,
    ) -> Result<Response<v1::PinLeaderResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::PinLeaderRequest { group, pinned } = request.into_inner();
        let group = GroupId(group);
        self.may_admin(&caller, "pin leader", group)?;
        let pinned = self.context.shard.pin_leader(group, pinned).await;
        pinned.map_err(|error| self.refuse(group, error))?;
        Ok(Response::new(v1::PinLeaderResponse {}))
    }

    async fn drain_node(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        let caller = Caller::of(&request);
        // Leaderships of every unit may go.
        for group in self.context.topology.groups() {
            self.may_admin(&caller, "drain node", group.id)?;
        }
        let led = self.context.shard.set_drained(request.into_inner().drained).await;
        let groups_led = led.map_err(|error| status_from_error(&error))?;
        Ok(Response::new(v1::DrainNodeResponse { groups_led }))
    }

    async fn get_standing(
        &self,
        request: Request<v1::GetStandingRequest>,
    ) -> Result<Response<v1::GetStandingResponse>, Status> {
        let caller = Caller::of(&request);
        let admitted = self.context.admit(&caller, "get standing");
        admitted.map_err(|error| status_from_error(&error))?;
        let v1::GetStandingRequest { group, slot } = request.into_inner();
        let standing = self.context.shard.standing(GroupId(group), Slot(slot)).await;
        let standing = standing.map_err(|error| status_from_error(&error))?;
        Ok(Response::new(standing_to_wire(recovery::report(standing))))
    }

    async fn force_recovery(
        &self,
        request: Request<v1::ForceRecoveryRequest>,
    ) -> Result<Response<v1::ForceRecoveryResponse>, Status> {
        let caller = Caller::of(&request);
        let order = order_from_wire(request.into_inner())
            .map_err(|error| status_from_error(&Error::from(error)))?;
        self.may_admin(&caller, "force recovery", order.group)?;
        let (group, order) = self
            .context
            .checked_order(&caller, order)
            .map_err(|error| status_from_error(&error))?;
        let begun = self.context.shard.force(group, order).await;
        let history = begun.map_err(|error| status_from_error(&error))?;
        Ok(Response::new(v1::ForceRecoveryResponse { history: Some(history_to_wire(history)) }))
    }

    async fn list_losses(
        &self,
        request: Request<v1::ListLossesRequest>,
    ) -> Result<Response<v1::ListLossesResponse>, Status> {
        let caller = Caller::of(&request);
        let admitted = self.context.admit(&caller, "list losses");
        admitted.map_err(|error| status_from_error(&error))?;
        let group = GroupId(request.into_inner().group);
        let losses = self.context.shard.losses(group).await;
        let losses = losses.map_err(|error| self.refuse(group, error))?;
        let entries = losses.iter().map(loss_entry_to_wire).collect();
        Ok(Response::new(v1::ListLossesResponse { entries }))
    }

    async fn list_attempts(
        &self,
        request: Request<v1::ListAttemptsRequest>,
    ) -> Result<Response<v1::ListAttemptsResponse>, Status> {
        let caller = Caller::of(&request);
        let admitted = self.context.admit(&caller, "list attempts");
        admitted.map_err(|error| status_from_error(&error))?;
        let attempts = self.context.shard.attempts().await;
        let attempts = attempts.map_err(|error| status_from_error(&error))?;
        // Each is shown to those who look after the group that says it.
        let may_see = |group| self.context.is_allowed(&caller, Right::Admin, group);
        let attempts = attempts.into_iter().filter(|status| may_see(status.group));
        let attempts = attempts.map(attempt_status_to_wire).collect();
        Ok(Response::new(v1::ListAttemptsResponse { attempts }))
    }

    async fn resolve_attempt(
        &self,
        request: Request<v1::ResolveAttemptRequest>,
    ) -> Result<Response<v1::ResolveAttemptResponse>, Status> {
        let caller = Caller::of(&request);
        let attempt = attempt_from_wire(request.into_inner().attempt, "attempt");
        let attempt = attempt.map_err(|error| status_from_error(&Error::from(error)))?;
        self.may_admin(&caller, "resolve attempt", attempt.group)?;
        let asked = self.context.shard.resolve(attempt).await;
        let groups_asked = asked.map_err(|error| status_from_error(&error))?;
        Ok(Response::new(v1::ResolveAttemptResponse { groups_asked }))
    }

    async fn check_group(
        &self,
        request: Request<v1::CheckGroupRequest>,
    ) -> Result<Response<v1::CheckGroupResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::CheckGroupRequest { group, wait_ms } = request.into_inner();
        let group = GroupId(group);
        self.may_admin(&caller, "check group", group)?;
        let wait = match wait_ms {
            0 => CHECK_WAIT,
            wait_ms => Duration::from_millis(u64::from(wait_ms)).min(CHECK_WAIT_MAX),
        };
        let report = self.context.shard.check(group, wait).await;
        let report = report.map_err(|error| self.refuse(group, error))?;
        Ok(Response::new(report_to_wire(report)))
    }

    async fn get_links(
        &self,
        request: Request<v1::GetLinksRequest>,
    ) -> Result<Response<v1::GetLinksResponse>, Status> {
        let admitted = self.context.admit(&Caller::of(&request), "get links");
        admitted.map_err(|error| status_from_error(&error))?;
        let links = self.far_links()?.links();
        Ok(Response::new(v1::GetLinksResponse { links: links_to_wire(&links) }))
    }

    async fn set_links(
        &self,
        request: Request<v1::SetLinksRequest>,
    ) -> Result<Response<v1::SetLinksResponse>, Status> {
        let caller = Caller::of(&request);
        let far_links = self.far_links()?;
        // Links are those of every unit.
        for group in self.context.topology.groups() {
            self.may_admin(&caller, "set links", group.id)?;
        }
        let links = links_from_wire(request.into_inner().links).map_err(Error::from);
        let set = links.and_then(|links| far_links.set(links));
        set.map_err(|error| status_from_error(&error))?;
        Ok(Response::new(v1::SetLinksResponse {}))
    }
}

/// What a leader knows of its members, for whoever asks.
fn report(status: MembersStatus) -> Members {
    let MembersStatus { at, is_chosen, leader, views, heard_ago, slot_last } = status;
    let members = views.iter().zip(heard_ago).map(|(view, heard_ago)| MemberReport {
        replica: view.replica,
        node: view.replica.node(),
        rank: view.member.rank,
        role: view.member.role,
        kind: view.member.kind,
        leads: view.replica == leader,
        slot_synced: view.slot_synced,
        heard_ago,
        lag_bytes: view.lag_bytes,
        refilling: view.is_refilling,
        fit: view.is_fit,
    });
    Members {
        since: at.id,
        chosen: is_chosen,
        changing: at.membership.is_joint(),
        members: members.collect(),
        slot_last,
    }
}
