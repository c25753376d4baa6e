//! The unary calls about money, for any language. The room after is `edge.rs`, through the calls of
//! `kv_service.rs`.

use quorate_proto::convert::{Call, ConvertError, bank};
use quorate_proto::v1;
use quorate_types::{RequestBody, TransferBatch};
use tonic::{Request, Response, Status};

use crate::access::Caller;
use crate::kv_service::KvService;

pub(crate) struct BankService {
    calls: KvService,
}

impl BankService {
    pub(crate) fn new(calls: KvService) -> BankService {
        BankService { calls }
    }
}

/// The transfers of a call, whose amounts are part of its answer.
fn batch_of(call: &Result<Call, ConvertError>) -> TransferBatch {
    match call.as_ref().map(|call| &call.request.body) {
        Ok(RequestBody::Transfers(batch)) => batch.clone(),
        Ok(_) | Err(_) => TransferBatch::default(),
    }
}

#[tonic::async_trait]
impl v1::bank_server::Bank for BankService {
    async fn create_account(
        &self,
        request: Request<v1::CreateAccountRequest>,
    ) -> Result<Response<v1::CreateAccountResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_create_account(request.into_inner());
        let (group, answer) = self.calls.call(&caller, call).await?;
        KvService::respond(bank::create_account_response(group, &answer, None))
    }

    async fn set_account(
        &self,
        request: Request<v1::SetAccountRequest>,
    ) -> Result<Response<v1::SetAccountResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_set_account(request.into_inner());
        let (group, answer) = self.calls.call(&caller, call).await?;
        KvService::respond(bank::set_account_response(group, &answer, None))
    }

    async fn get_account(
        &self,
        request: Request<v1::GetAccountRequest>,
    ) -> Result<Response<v1::GetAccountResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_get_account(request.into_inner());
        let (group, answer) = self.calls.call(&caller, call).await?;
        KvService::respond(bank::get_account_response(group, &answer, None))
    }

    async fn create_transfers(
        &self,
        request: Request<v1::CreateTransfersRequest>,
    ) -> Result<Response<v1::CreateTransfersResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_create_transfers(request.into_inner());
        let batch = batch_of(&call);
        let (group, answer) = self.calls.call(&caller, call).await?;
        KvService::respond(bank::create_transfers_response(group, &answer, None, &batch))
    }

    async fn get_transfer(
        &self,
        request: Request<v1::GetTransferRequest>,
    ) -> Result<Response<v1::GetTransferResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_get_transfer(request.into_inner());
        let (group, answer) = self.calls.call(&caller, call).await?;
        KvService::respond(bank::get_transfer_response(group, &answer, None))
    }

    async fn account_history(
        &self,
        request: Request<v1::AccountHistoryRequest>,
    ) -> Result<Response<v1::AccountHistoryResponse>, Status> {
        let caller = Caller::of(&request);
        let call = Call::from_account_history(request.into_inner());
        let (group, answer) = self.calls.call(&caller, call).await?;
        KvService::respond(bank::account_history_response(group, answer, None))
    }
}
