use proptest::prelude::*;
use prost::Message as _;
use quorate_types::{
    AccountAddress, AccountSettings, Ballot, Code, EntryId, ReplicaId, Transfer, TransferDetail,
    TransferId,
};

use super::*;

fn at(uid: u64) -> AccountAddress {
    AccountAddress::new(Uid(uid), 840)
}

fn reply(body: ReplyBody) -> Reply {
    let ballot = Ballot { round: 1, replica: ReplicaId(1) };
    Reply { at: EntryId { ballot, slot: Slot(9) }, replayed: false, body }
}

proptest! {
    #[test]
    fn calls_from_the_network_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        // Goal: whatever decodes is converted or refused.
        if let Ok(call) = v1::CreateAccountRequest::decode(&bytes[..]) {
            let _no_panic = Call::from_create_account(call);
        }
        if let Ok(call) = v1::SetAccountRequest::decode(&bytes[..]) {
            let _no_panic = Call::from_set_account(call);
        }
        if let Ok(call) = v1::CreateTransfersRequest::decode(&bytes[..]) {
            let _no_panic = Call::from_create_transfers(call);
        }
        if let Ok(call) = v1::GetTransferRequest::decode(&bytes[..]) {
            let _no_panic = Call::from_get_transfer(call);
        }
        if let Ok(call) = v1::AccountHistoryRequest::decode(&bytes[..]) {
            let _no_panic = Call::from_account_history(call);
        }
    }
}

#[test]
fn calls_belong_to_the_group_of_their_accounts() {
    // Goal: the server finds the group by the user, and an absent default is the safe one.
    let address = Some(v1::AccountAddress { uid: 42, ledger: 840, code: 0 });
    let account = Some(v1::NewAccount { address, settings: None });
    let call = Call::from_create_account(v1::CreateAccountRequest { context: None, account });
    let call = call.expect("it is complete");
    assert_eq!(call.place, Place::Accounts(Uid(42)));
    let body = RequestBody::CreateAccount(at(42), AccountSettings::default());
    assert_eq!(call.request.body, body);

    let wrong = v1::CreateTransfersRequest {
        context: None,
        transfers: vec![
            money::transfer_to_wire(&Transfer::post(TransferId(1), at(7), at(8), 1)),
            v1::Transfer::default(),
        ],
    };
    let error = Call::from_create_transfers(wrong.clone()).expect_err("the second is empty");
    assert_eq!(error.field(), "transfers[1].kind");
    let right = v1::CreateTransfersRequest { transfers: wrong.transfers[..1].to_vec(), ..wrong };
    let call = Call::from_create_transfers(right).expect("it is complete");
    assert_eq!(call.place, Place::Accounts(Uid(7)));
}

#[test]
fn every_result_tells_slot_and_amount() {
    // Goal: a caller in another language sees for each transfer what it came to.
    let transfers = [
        Transfer::post(TransferId(1), at(1), at(2), 5),
        Transfer::post(TransferId(2), at(1), at(2), 6),
        Transfer::post(TransferId(3), at(1), at(2), 7),
        Transfer::post_pending(TransferId(4), TransferId(9), at(1), at(2), 0),
    ];
    let verdicts =
        vec![Verdict::Created, Verdict::FloorReached, Verdict::AlreadyApplied, Verdict::Created];
    let details = vec![
        TransferDetail { index: 2, slot: Slot(4), amount: 7 },
        TransferDetail { index: 3, slot: Slot(9), amount: 70 },
    ];
    let reply = reply(ReplyBody::Transfers(TransferResults { verdicts, details }));
    let asked = TransferBatch::new(&transfers);
    let response = create_transfers_response(GroupId(1), &reply, None, &asked);
    let results = response.expect("it answers transfers").results;
    let told: Vec<_> = results.iter().map(|it| (it.verdict, it.slot, it.amount)).collect();
    assert_eq!(told, [(1, 9, 5), (15, 0, 0), (2, 4, 7), (1, 9, 70)]);
    let error = get_account_response(GroupId(1), &reply, None).expect_err("it is no account");
    assert_eq!(error.code, Code::Internal);
}
