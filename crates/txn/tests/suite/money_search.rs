//! Looking for the transfers with an id through all users of a group.

use quorate_txn::cross::CutEnd;
use quorate_txn::read_at_cut;
use quorate_types::limits::CUT_LOOKS_MAX;
use quorate_types::{
    AccountAddress, AccountSettings, CutRange, FoundTransfers, Hold, ReplyBody, Request,
    RequestBody, Transfer, TransferBatch, TransferId, TransferRecord, Uid, Verdict,
};

use crate::common::{Leader, context};

/// More accounts than a page walks past.
const USERS: u64 = CUT_LOOKS_MAX as u64 + 100;
const ID: TransferId = TransferId(0xfeed);

fn run(leader: &mut Leader, body: RequestBody) -> ReplyBody {
    leader.run(&Request { id: None, body }).expect("it takes effect").body
}

fn create(leader: &mut Leader, at: AccountAddress) {
    let open = AccountSettings { floor: None, ..AccountSettings::default() };
    run(leader, RequestBody::CreateAccount(at, open));
}

fn carry_out(leader: &mut Leader, transfer: Transfer) {
    let body = RequestBody::Transfers(TransferBatch::new(&[transfer]));
    let ReplyBody::Transfers(results) = run(leader, body) else { panic!("no verdict") };
    assert_eq!(results.verdicts, [Verdict::Created]);
}

fn page(leader: &Leader, after: Option<Uid>) -> FoundTransfers {
    let range = CutRange::Transfers { id: ID, after };
    let page = read_at_cut(&range, &context(), &leader.replica.records, CutEnd::default())
        .expect("memory");
    let ReplyBody::FoundTransfers(page) = page else { panic!("{page:?}") };
    page
}

#[test]
fn every_transfer_with_an_id_is_found_once() {
    // Goal: page after page goes past every user of the group, whatever is found on the way, and says of
    // each transfer what a read of it would say.
    let mut leader = Leader::new();
    let at = |uid| AccountAddress::new(Uid(uid), 840);
    for uid in 0..USERS {
        create(&mut leader, at(uid));
    }
    // Whoever has many accounts is looked at once.
    for ledger in 1..600 {
        create(&mut leader, AccountAddress::new(Uid(77), ledger));
    }
    assert_eq!(page_count(&leader), (2, Vec::new()), "nothing has the id");

    // In the order of slices, which are those of the last two digits.
    let debits = [0, 1700, 77, USERS - 1];
    for uid in debits {
        carry_out(&mut leader, Transfer::pending(ID, at(uid), at(5), uid + 1, 0));
    }
    carry_out(&mut leader, Transfer::post(TransferId(1), at(6), at(5), 9));
    carry_out(&mut leader, Transfer::void_pending(TransferId(2), ID, at(1700), at(5)));
    let (pages, found) = page_count(&leader);
    assert_eq!(pages, 2);
    let uids: Vec<u64> = found.iter().map(|record| record.transfer.debit.uid.0).collect();
    assert_eq!(uids, debits);
    assert_eq!(found[0].hold, Some(Hold::Open { expires: None }));
    assert_eq!(found[1].hold, Some(Hold::Voided { by: TransferId(2) }));
    for record in found {
        let read = RequestBody::GetTransfer(record.transfer.debit.uid, ID);
        assert_eq!(run(&mut leader, read), ReplyBody::Transfer(Some(Box::new(record))));
    }
}

/// How many pages there are, and everything on them.
fn page_count(leader: &Leader) -> (usize, Vec<TransferRecord>) {
    let (mut pages, mut all, mut after) = (0, Vec::new(), None);
    loop {
        let FoundTransfers { transfers, next } = page(leader, after);
        pages += 1;
        all.extend(transfers);
        match next {
            Some(uid) => after = Some(uid),
            None => return (pages, all),
        }
    }
}
