//! The unary calls about cuts, for any language. The room after is `edge.rs`, through the calls of
//! `kv_service.rs`.

use std::sync::Arc;

use quorate_proto::convert::{Call, cut};
use quorate_proto::v1;
use tonic::{Request, Response, Status};

use crate::access::Caller;
use crate::context::NodeContext;
use crate::edge::table_finder;
use crate::kv_service::KvService;

pub(crate) struct CutService {
    calls: KvService,
    context: Arc<NodeContext>,
}

impl CutService {
    pub(crate) fn new(context: Arc<NodeContext>) -> CutService {
        CutService { calls: KvService::new(Arc::clone(&context)), context }
    }
}

#[tonic::async_trait]
impl v1::cuts_server::Cuts for CutService {
    async fn new_cut(
        &self,
        request: Request<v1::NewCutRequest>,
    ) -> Result<Response<v1::NewCutResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_new_cut(request.into_inner());
        let (group, answer) = self.calls.call(&caller, call).await?;
        KvService::respond(cut::new_cut_response(group, &answer, None))
    }

    async fn pin_cut(
        &self,
        request: Request<v1::PinCutRequest>,
    ) -> Result<Response<v1::PinCutResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_pin_cut(request.into_inner());
        let (group, answer) = self.calls.call(&caller, call).await?;
        KvService::respond(cut::pin_cut_response(group, &answer, None))
    }

    async fn read_cut_accounts(
        &self,
        request: Request<v1::ReadCutAccountsRequest>,
    ) -> Result<Response<v1::ReadCutAccountsResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_read_cut_accounts(request.into_inner());
        let (group, answer) = self.calls.call(&caller, call).await?;
        KvService::respond(cut::read_cut_accounts_response(group, answer, None))
    }

    async fn read_cut_rows(
        &self,
        request: Request<v1::ReadCutRowsRequest>,
    ) -> Result<Response<v1::ReadCutRowsResponse>, Status> {
        let caller = Caller::of(&request);
        let tables = table_finder(&self.context);
        let call = Call::from_read_cut_rows(request.into_inner(), &tables);
        let (group, answer) = self.calls.call(&caller, call).await?;
        KvService::respond(cut::read_cut_rows_response(group, answer, None))
    }

    async fn read_cut_transfers(
        &self,
        request: Request<v1::ReadCutTransfersRequest>,
    ) -> Result<Response<v1::ReadCutTransfersResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_read_cut_transfers(request.into_inner());
        let (group, answer) = self.calls.call(&caller, call).await?;
        KvService::respond(cut::read_cut_transfers_response(group, &answer, None))
    }

    async fn unpin_cut(
        &self,
        request: Request<v1::UnpinCutRequest>,
    ) -> Result<Response<v1::UnpinCutResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_unpin_cut(request.into_inner());
        let (group, answer) = self.calls.call(&caller, call).await?;
        KvService::respond(cut::unpin_cut_response(group, &answer, None))
    }
}
