use proptest::prelude::*;
use prost::Message as _;
use quorate_types::{AccountAddress, TableId, Uid};

use super::*;

fn context(group: u32) -> Option<v1::RequestContext> {
    Some(v1::RequestContext { group, ..v1::RequestContext::default() })
}

proptest! {
    #[test]
    fn calls_from_the_network_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        // Goal: whatever decodes is converted or refused.
        let tables = |name: &str| (name == "t").then_some(TableId(1));
        if let Ok(call) = v1::PinCutRequest::decode(&bytes[..]) {
            let _no_panic = Call::from_pin_cut(call);
        }
        if let Ok(call) = v1::ReadCutAccountsRequest::decode(&bytes[..]) {
            let _no_panic = Call::from_read_cut_accounts(call);
        }
        if let Ok(call) = v1::ReadCutRowsRequest::decode(&bytes[..]) {
            let _no_panic = Call::from_read_cut_rows(call, &tables);
        }
        if let Ok(call) = v1::ReadCutTransfersRequest::decode(&bytes[..]) {
            let _no_panic = Call::from_read_cut_transfers(call);
        }
        if let Ok(read) = v1::ReadCut::decode(&bytes[..]) {
            let _no_panic = read_from_wire(read, &tables);
        }
        if let Ok(page) = v1::AccountsPage::decode(&bytes[..]) {
            let _no_panic = accounts_from_wire(page);
        }
        if let Ok(page) = v1::FoundTransfers::decode(&bytes[..]) {
            let _no_panic = found_from_wire(page);
        }
    }
}

#[test]
fn a_view_belongs_to_the_group_that_is_named() {
    // Goal: nobody reads the view of another group than he means; a new cut needs no group.
    let call = Call::from_new_cut(v1::NewCutRequest { context: None }).expect("it is complete");
    assert_eq!((call.place, call.request.body), (Place::Cuts, RequestBody::NewCut));
    let call = Call::from_pin_cut(v1::PinCutRequest { context: context(3), cut: 9 });
    let call = call.expect("it is complete");
    assert_eq!(call.place, Place::Group(GroupId(3)));
    assert_eq!(call.request.body, RequestBody::PinCut(CutId(9)));
    let error = Call::from_unpin_cut(v1::UnpinCutRequest { context: context(0), cut: 9 });
    assert_eq!(error.expect_err("no group").field(), "context.group");

    let after = Some(v1::AccountAddress { uid: 7, ledger: 840, code: 0 });
    let accounts = Some(v1::CutAccounts { after, limit: 5 });
    let call = v1::ReadCutAccountsRequest { context: context(2), cut: 9, accounts };
    let call = Call::from_read_cut_accounts(call).expect("it is complete");
    let after = Some(AccountAddress::new(Uid(7), 840));
    let range = CutRange::Accounts { after, limit: 5 };
    assert_eq!(call.request.body, RequestBody::ReadCut(CutId(9), range));
    let wrong = v1::CutAccounts {
        after: Some(v1::AccountAddress { uid: 7, ledger: 840, code: 1 << 16 }),
        limit: 0,
    };
    let call = v1::ReadCutAccountsRequest { context: context(2), cut: 9, accounts: Some(wrong) };
    let error = Call::from_read_cut_accounts(call).expect_err("16 bits");
    assert_eq!(error.field(), "accounts.after.code");
}

#[test]
fn a_search_for_transfers_names_a_whole_id() {
    // Goal: half an id finds nothing that somebody could take for an answer.
    let id = quorate_types::TransferId(0xab << 120 | 7);
    let call = |id: &[u8]| {
        let transfers = v1::CutTransfers { id: id.to_vec().into(), after_uid: Some(0) };
        let transfers = Some(transfers);
        v1::ReadCutTransfersRequest { context: context(2), cut: 9, transfers }
    };
    let read = Call::from_read_cut_transfers(call(&id.0.to_be_bytes())).expect("it is complete");
    let range = CutRange::Transfers { id, after: Some(Uid(0)) };
    assert_eq!(read.place, Place::Group(GroupId(2)));
    assert_eq!(read.request.body, RequestBody::ReadCut(CutId(9), range));
    let error = Call::from_read_cut_transfers(call(&[7])).expect_err("one byte");
    assert_eq!(error.field(), "transfers.id");
}
