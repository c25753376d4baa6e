//! Status and planned hand-over, for operators and their tools.

use std::sync::Arc;

use quorate_proto::convert::cross::{attempt_from_wire, attempt_status_to_wire};
use quorate_proto::convert::error::status_from_error;
use quorate_proto::v1;
use quorate_types::{Error, GroupId, NodeId};
use tonic::{Request, Response, Status};

use crate::context::NodeContext;

pub(crate) struct AdminService {
    context: Arc<NodeContext>,
}

impl AdminService {
    pub(crate) fn new(context: Arc<NodeContext>) -> AdminService {
        AdminService { context }
    }
}

#[tonic::async_trait]
impl v1::admin_server::Admin for AdminService {
    async fn get_node_status(
        &self,
        _request: Request<v1::GetNodeStatusRequest>,
    ) -> Result<Response<v1::NodeStatus>, Status> {
        let status = self.context.status().await.map_err(|error| status_from_error(&error))?;
        Ok(Response::new(status.into_wire()))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let request = request.into_inner();
        let to = request.to_node.map(NodeId);
        let begun = self.context.shard.transfer_leader(GroupId(request.group), to).await;
        begun.map_err(|error| status_from_error(&self.context.with_leader_address(error)))?;
        Ok(Response::new(v1::TransferLeaderResponse { to_node: to.map_or(0, |node| node.0) }))
    }

    async fn list_attempts(
        &self,
        _request: Request<v1::ListAttemptsRequest>,
    ) -> Result<Response<v1::ListAttemptsResponse>, Status> {
        let attempts = self.context.shard.attempts().await;
        let attempts = attempts.map_err(|error| status_from_error(&error))?;
        let attempts = attempts.into_iter().map(attempt_status_to_wire).collect();
        Ok(Response::new(v1::ListAttemptsResponse { attempts }))
    }

    async fn resolve_attempt(
        &self,
        request: Request<v1::ResolveAttemptRequest>,
    ) -> Result<Response<v1::ResolveAttemptResponse>, Status> {
        let attempt = attempt_from_wire(request.into_inner().attempt, "attempt");
        let attempt = attempt.map_err(|error| status_from_error(&Error::from(error)))?;
        let asked = self.context.shard.resolve(attempt).await;
        let groups_asked = asked.map_err(|error| status_from_error(&error))?;
        Ok(Response::new(v1::ResolveAttemptResponse { groups_asked }))
    }
}
