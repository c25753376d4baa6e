//! The unary calls, for any language. The room after is `edge.rs`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use quorate_proto::convert::error::status_from_error;
use quorate_proto::convert::link::NEAR_METADATA;
use quorate_proto::convert::{Call, ConvertError, many, reply};
use quorate_proto::{REQUEST_TIMEOUT_DEFAULT, v1};
use quorate_types::{Code, Error, GroupId, Reply};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use crate::access::Caller;
use crate::context::NodeContext;
use crate::edge::table_finder;
use crate::far_links::OnLink;
use crate::pipeline;

/// Longest deadline a call may have.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

pub(crate) struct KvService {
    context: Arc<NodeContext>,
}

impl KvService {
    pub(crate) fn new(context: Arc<NodeContext>) -> KvService {
        KvService { context }
    }

    /// Runs a call to its answer or its deadline.
    pub(crate) async fn call(
        &self,
        caller: &Caller,
        call: Result<Call, ConvertError>,
    ) -> Result<(GroupId, Reply), Status> {
        self.answer(caller, call)
            .await
            .map_err(|error| status_from_error(&self.context.with_leader_address(error)))
    }

    async fn answer(
        &self,
        caller: &Caller,
        call: Result<Call, ConvertError>,
    ) -> Result<(GroupId, Reply), Error> {
        let call = call?;
        let group = self.context.place(&call)?;
        let time_left = call.time_left.unwrap_or(REQUEST_TIMEOUT_DEFAULT).min(TIMEOUT_MAX);
        let (send, receive) = oneshot::channel();
        self.context.submit(caller, group, call.request, call.elsewhere, move |answer| {
            let _gone = send.send(answer).is_err(); // The caller left at its deadline.
        })?;
        match tokio::time::timeout(time_left, receive).await {
            Ok(Ok(answer)) => answer.map(|reply| (group, reply)),
            Ok(Err(_dropped)) => Err(Error::new(
                Code::OutcomeUnknown,
                "the node stopped while the request was on its way",
            )),
            Err(_elapsed) => {
                let waited = time_left.as_millis();
                let message = format!("{group} did not decide within {waited} ms on this node");
                Err(Error::new(Code::DeadlineExceeded, message).with("group", group))
            }
        }
    }

    pub(crate) fn respond<T>(response: Result<T, Error>) -> Result<Response<T>, Status> {
        response.map(Response::new).map_err(|error| status_from_error(&error))
    }
}

type PipelineStream = Pin<Box<dyn Stream<Item = Result<v1::PipelineResponse, Status>> + Send>>;

#[tonic::async_trait]
impl v1::kv_server::Kv for KvService {
    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_get(request.into_inner(), &table_finder(&self.context));
        let (group, answer) = self.call(&caller, call).await?;
        Self::respond(reply::get_response(group, answer, None))
    }

    async fn put(
        &self,
        request: Request<v1::PutRequest>,
    ) -> Result<Response<v1::PutResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_put(request.into_inner(), &table_finder(&self.context));
        let (group, answer) = self.call(&caller, call).await?;
        Self::respond(reply::put_response(group, &answer, None))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_delete(request.into_inner(), &table_finder(&self.context));
        let (group, answer) = self.call(&caller, call).await?;
        Self::respond(reply::delete_response(group, &answer, None))
    }

    async fn compare_and_set(
        &self,
        request: Request<v1::CompareAndSetRequest>,
    ) -> Result<Response<v1::CompareAndSetResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_compare_and_set(request.into_inner(), &table_finder(&self.context));
        let (group, answer) = self.call(&caller, call).await?;
        Self::respond(reply::compare_and_set_response(group, &answer, None))
    }

    async fn scan(
        &self,
        request: Request<v1::ScanRequest>,
    ) -> Result<Response<v1::ScanResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_scan(request.into_inner(), &table_finder(&self.context));
        let (group, answer) = self.call(&caller, call).await?;
        Self::respond(reply::scan_response(group, answer, None))
    }

    async fn transact(
        &self,
        request: Request<v1::TransactRequest>,
    ) -> Result<Response<v1::TransactResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_transact(request.into_inner(), &table_finder(&self.context));
        let (group, answer) = self.call(&caller, call).await?;
        Self::respond(reply::transact_response(group, answer, None))
    }

    async fn get_many(
        &self,
        request: Request<v1::GetManyRequest>,
    ) -> Result<Response<v1::GetManyResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_get_many(request.into_inner(), &table_finder(&self.context));
        let (group, answer) = self.call(&caller, call).await?;
        Self::respond(many::get_many_response(group, answer, None))
    }

    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<v1::OpenSessionResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_open_session(request.into_inner(), &table_finder(&self.context));
        let (group, answer) = self.call(&caller, call).await?;
        Self::respond(reply::open_session_response(group, &answer, None))
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_close_session(request.into_inner());
        let (group, answer) = self.call(&caller, call).await?;
        Self::respond(reply::close_session_response(group, &answer, None))
    }

    type PipelineStream = PipelineStream;

    async fn pipeline(
        &self,
        request: Request<Streaming<v1::PipelineRequest>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        let caller = Caller::of(&request);
        let context = Arc::clone(&self.context);
        let Some(links) = context.far_links.clone() else {
            let answers = pipeline::serve(context, caller, request.into_inner());
            return Ok(Response::new(Box::pin(answers)));
        };
        let near = request.metadata().get(NEAR_METADATA).and_then(|near| near.to_str().ok());
        let (client, node) = (links.client(near), links.node(context.node));
        let requests = request.into_inner();
        let requests = OnLink::new(requests, Arc::clone(&links), client.clone(), node.clone());
        let answers = pipeline::serve(context, caller, requests);
        Ok(Response::new(Box::pin(OnLink::new(Box::pin(answers), links, node, client))))
    }
}
