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
        if let Ok(read) = v1::ReadCut::decode(&bytes[..]) {
            let _no_panic = read_from_wire(read, &tables);
        }
        if let Ok(page) = v1::AccountsPage::decode(&bytes[..]) {
            let _no_panic = accounts_from_wire(page);
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
