//! Money, case by case: what each verdict is given for, what chains do, how a pending transfer lives.

use bytes::Bytes;
use quorate_store::View;
use quorate_txn::cross::CrossTable;
use quorate_txn::money::Escrow;
use quorate_txn::{ApplyError, EntryPayload, Evaluation, SessionTable, apply, check_limits};
use quorate_txn::{MoneyEntry, expire_holds};
use quorate_types::limits::{CHAIN_MAX, TRANSFER_AMOUNT_MAX, TRANSFERS_MAX};
use quorate_types::{
    Account, AccountAddress, AccountChange, AccountSettings, Code, HistoryPage, Hold, LogTime,
    ReplyBody, Request, RequestBody, Transfer, TransferBatch, TransferDetail, TransferId,
    TransferRecord, TransferResults, Uid, Verdict,
};

use crate::common::{GROUP, Leader, Records, SPACE, Submitted};

const LEDGER: u32 = 840;

fn at(uid: u64) -> AccountAddress {
    AccountAddress::new(Uid(uid), LEDGER)
}

fn id(number: u128) -> TransferId {
    TransferId(number)
}

fn asked(body: RequestBody) -> Request {
    Request { id: None, body }
}

fn batch(transfers: &[Transfer]) -> Request {
    asked(RequestBody::Transfers(TransferBatch::new(transfers)))
}

fn linked(transfer: Transfer) -> Transfer {
    Transfer { linked: true, ..transfer }
}

/// The bank of the cases: accounts 1 and 6 without a floor, 2 to 4 with floor 0, account 2 with 100.
fn bank() -> Leader {
    let mut leader = Leader::new();
    let open = AccountSettings { floor: None, ..AccountSettings::default() };
    let all = [(1, open), (6, open)].into_iter().chain((2..5).map(|uid| (uid, usual())));
    for (uid, settings) in all {
        let created = leader.run(&asked(RequestBody::CreateAccount(at(uid), settings)));
        assert!(!created.expect("it is new").replayed);
    }
    assert_eq!(
        run(&mut leader, &[Transfer::post(id(1000), at(1), at(2), 100)]),
        [Verdict::Created]
    );
    leader
}

fn usual() -> AccountSettings {
    AccountSettings::default()
}

fn results(leader: &mut Leader, transfers: &[Transfer]) -> TransferResults {
    match leader.run(&batch(transfers)).expect("a batch is answered").body {
        ReplyBody::Transfers(results) => results,
        other => panic!("a batch gave {other:?}"),
    }
}

fn run(leader: &mut Leader, transfers: &[Transfer]) -> Vec<Verdict> {
    results(leader, transfers).verdicts
}

fn account(leader: &Leader, uid: u64) -> Account {
    match leader.evaluate(&asked(RequestBody::GetAccount(at(uid)))) {
        Evaluation::Read(ReplyBody::Account(Some(account))) => account,
        other => panic!("account {uid} gave {other:?}"),
    }
}

/// Balance and what is reserved of it.
fn held(leader: &Leader, uid: u64) -> (i64, u64) {
    let account = account(leader, uid);
    (account.balance, account.reserved)
}

fn transfer(leader: &Leader, debit: u64, number: u128) -> Option<TransferRecord> {
    match leader.evaluate(&asked(RequestBody::GetTransfer(Uid(debit), id(number)))) {
        Evaluation::Read(ReplyBody::Transfer(found)) => found.map(|found| *found),
        other => panic!("transfer {number} gave {other:?}"),
    }
}

fn hold(leader: &Leader, debit: u64, number: u128) -> Option<Hold> {
    transfer(leader, debit, number).expect("it took effect").hold
}

fn set(leader: &mut Leader, uid: u64, change: AccountChange) {
    leader.run(&asked(RequestBody::SetAccount(at(uid), change))).expect("it is allowed");
}

fn history(leader: &Leader, uid: u64, limit: u32, from: &HistoryPage) -> HistoryPage {
    let body = RequestBody::History { account: at(uid), after: from.next, limit };
    match leader.evaluate(&asked(body)) {
        Evaluation::Read(ReplyBody::History(page)) => page,
        other => panic!("a history gave {other:?}"),
    }
}

#[test]
fn each_refusal_of_a_post_has_its_verdict() {
    // Goal: what is wrong is named, and nothing moves.
    let mut leader = bank();
    set(&mut leader, 3, AccountChange { no_credits: Some(true), ..AccountChange::default() });
    let cases = [
        (Transfer::post(id(1), at(2), at(4), 101), Verdict::FloorReached),
        (Transfer::post(id(1), at(9), at(4), 1), Verdict::DebitAccountMissing),
        (Transfer::post(id(1), at(2), at(9), 1), Verdict::CreditAccountMissing),
        (Transfer::post(id(1), at(2), at(3), 1), Verdict::CreditsFrozen),
        (Transfer::post(id(1), at(6), at(2), TRANSFER_AMOUNT_MAX), Verdict::BalanceOverflow),
        (Transfer::post(id(0), at(2), at(4), 1), Verdict::Invalid),
        (Transfer::post(id(1000), at(1), at(2), 99), Verdict::IdReused),
        (Transfer::post(id(1000), at(1), at(2), 100), Verdict::AlreadyApplied),
        (Transfer::void_pending(id(1), id(7), at(2), at(4)), Verdict::PendingMissing),
        (linked(Transfer::post(id(1), at(2), at(4), 1)), Verdict::ChainOpen),
        (Transfer::post(id(1), at(2), at(4), 100), Verdict::Created),
    ];
    for (asked, verdict) in cases {
        assert_eq!(held(&leader, 2), (100, 0));
        assert_eq!(run(&mut leader, &[asked]), [verdict], "{asked:?}");
    }
    assert_eq!((held(&leader, 2), held(&leader, 4)), ((0, 0), (100, 0)));
    set(&mut leader, 4, AccountChange { no_debits: Some(true), ..AccountChange::default() });
    let frozen =
        [Transfer::post(id(2), at(4), at(2), 1), Transfer::pending(id(3), at(4), at(2), 1, 0)];
    assert_eq!(run(&mut leader, &frozen), [Verdict::DebitsFrozen; 2]);
    // The id is that of the debit user: another user has ids of his own.
    assert_eq!(run(&mut leader, &[Transfer::post(id(1), at(1), at(2), 1)]), [Verdict::Created]);
}

#[test]
fn items_see_those_before_them() {
    // Goal: one batch is many transfers in order, each on what the ones before it left.
    let mut leader = bank();
    let found = results(
        &mut leader,
        &[
            Transfer::post(id(1), at(3), at(4), 10),
            Transfer::post(id(2), at(2), at(3), 60),
            Transfer::post(id(3), at(2), at(3), 60),
            Transfer::post(id(1), at(3), at(4), 10),
            Transfer::post(id(2), at(2), at(3), 60),
            Transfer::post(id(2), at(2), at(3), 61),
        ],
    );
    let slot = leader.next.prev();
    let want = [
        Verdict::FloorReached,
        Verdict::Created,
        Verdict::FloorReached,
        Verdict::Created,
        Verdict::AlreadyApplied,
        Verdict::IdReused,
    ];
    assert_eq!(found.verdicts, want);
    assert_eq!(found.details, [TransferDetail { index: 4, slot, amount: 60 }]);
    assert_eq!([2, 3, 4].map(|uid| held(&leader, uid).0), [40, 50, 10]);
}

#[test]
fn a_chain_stands_or_falls_as_a_whole() {
    // Goal: the transfer that fails is named, the others of its chain fail with it, all else goes on,
    // and the ids of the fallen are free again.
    let mut leader = bank();
    let chain = [
        linked(Transfer::post(id(1), at(2), at(3), 40)),
        linked(Transfer::post(id(2), at(3), at(4), 41)),
        Transfer::post(id(3), at(2), at(4), 5),
    ];
    let last = Transfer::post(id(4), at(2), at(4), 100);
    let verdicts = run(&mut leader, &[chain[0], chain[1], chain[2], last]);
    let (fails, linked_failed) = (Verdict::FloorReached, Verdict::LinkedFailed);
    assert_eq!(verdicts, [linked_failed, fails, linked_failed, Verdict::Created]);
    assert_eq!([2, 3, 4].map(|uid| held(&leader, uid).0), [0, 0, 100]);

    let back = Transfer::post(id(5), at(4), at(2), 50);
    let good = Transfer { amount: 40, ..chain[1] };
    let verdicts = run(&mut leader, &[back, chain[0], good, chain[2]]);
    assert_eq!(verdicts, [Verdict::Created; 4]);
    assert_eq!(run(&mut leader, &[chain[0], good, chain[2]]), [Verdict::AlreadyApplied; 3]);
    // What stands since before the chain is told so, whatever the chain comes to.
    let fallen = [chain[0], linked(Transfer::post(id(6), at(2), at(3), 1)), last, last];
    let verdicts = run(&mut leader, &[fallen[0], Transfer { amount: 999, ..fallen[1] }, fallen[2]]);
    assert_eq!(verdicts, [Verdict::AlreadyApplied, fails, Verdict::AlreadyApplied]);
}

#[test]
fn a_repeat_within_a_fallen_chain_falls_too() {
    // Goal: nobody is told that a transfer stands whose first occurrence was taken back.
    let mut leader = bank();
    let one = linked(Transfer::post(id(1), at(2), at(3), 1));
    let verdicts = run(&mut leader, &[one, one, Transfer::post(id(2), at(4), at(3), 1)]);
    let linked_failed = Verdict::LinkedFailed;
    assert_eq!(verdicts, [linked_failed, linked_failed, Verdict::FloorReached]);
    assert_eq!(transfer(&leader, 2, 1), None);
}

#[test]
fn a_pending_transfer_is_posted_in_part() {
    // Goal: pending reserves on the debit side alone; a post moves its amount and releases the rest.
    let mut leader = bank();
    let pending = Transfer::pending(id(1), at(2), at(9), 70, 0);
    assert_eq!(run(&mut leader, &[pending]), [Verdict::Created]);
    assert_eq!(held(&leader, 2), (100, 70));
    assert_eq!(hold(&leader, 2, 1), Some(Hold::Open { expires: None }));
    let post = Transfer::post_pending(id(2), id(1), at(2), at(9), 30);
    let cases = [
        (Transfer::post(id(3), at(2), at(3), 31), Verdict::FloorReached),
        (post, Verdict::CreditAccountMissing),
        (Transfer { amount: 71, ..post }, Verdict::AmountAbovePending),
        (Transfer { credit: at(3), ..post }, Verdict::PendingDiffers),
    ];
    for (asked, verdict) in cases {
        assert_eq!(run(&mut leader, &[asked]), [verdict], "{asked:?}");
    }
    leader.run(&asked(RequestBody::CreateAccount(at(9), usual()))).expect("it is new");
    let found = results(&mut leader, &[post]);
    let detail = TransferDetail { index: 0, slot: leader.next.prev(), amount: 30 };
    assert_eq!((found.verdicts, found.details), (vec![Verdict::Created], vec![detail]));
    assert_eq!((held(&leader, 2), held(&leader, 9)), ((70, 0), (30, 0)));
    assert_eq!(hold(&leader, 2, 1), Some(Hold::Posted { amount: 30, by: id(2) }));
    let again = Transfer { id: id(4), ..post };
    let void = Transfer::void_pending(id(5), id(1), at(2), at(9));
    assert_eq!(
        run(&mut leader, &[again, void, post]),
        [Verdict::PendingPosted, Verdict::PendingPosted, Verdict::AlreadyApplied]
    );
}

#[test]
fn a_pending_transfer_is_posted_whole_or_voided() {
    // Goal: amount 0 posts everything, and the record tells how much that was; void releases it, even
    // of an account that allows no debits any more.
    let mut leader = bank();
    let holds = [1, 2].map(|number| Transfer::pending(id(number), at(2), at(3), 20, 0));
    assert_eq!(run(&mut leader, &holds), [Verdict::Created; 2]);
    let post = Transfer::post_pending(id(3), id(1), at(2), at(3), 0);
    assert_eq!(run(&mut leader, &[post]), [Verdict::Created]);
    let record = transfer(&leader, 2, 3).expect("it took effect");
    assert_eq!((record.transfer, record.amount, record.hold), (post, 20, None));
    set(&mut leader, 2, AccountChange { no_debits: Some(true), ..AccountChange::default() });
    let late = Transfer::post_pending(id(4), id(2), at(2), at(3), 0);
    let void = Transfer::void_pending(id(5), id(2), at(2), at(3));
    assert_eq!(run(&mut leader, &[late, void]), [Verdict::DebitsFrozen, Verdict::Created]);
    assert_eq!((held(&leader, 2), held(&leader, 3)), ((80, 0), (20, 0)));
    assert_eq!(hold(&leader, 2, 2), Some(Hold::Voided { by: id(5) }));
    assert_eq!(run(&mut leader, &[late]), [Verdict::PendingVoided]);
}

#[test]
fn a_hold_lives_within_one_batch() {
    // Goal: pending, post and a second post may follow each other in one batch, and a chain that falls
    // takes a hold back that it opened or ended.
    let mut leader = bank();
    let pending = Transfer::pending(id(1), at(2), at(3), 20, 0);
    let post = Transfer::post_pending(id(2), id(1), at(2), at(3), 5);
    let bad = Transfer::post(id(9), at(4), at(2), 1);
    let fallen = [linked(pending), linked(post), bad];
    let verdicts = [Verdict::LinkedFailed, Verdict::LinkedFailed, Verdict::FloorReached];
    assert_eq!(run(&mut leader, &fallen), verdicts);
    assert_eq!(run(&mut leader, &[post]), [Verdict::PendingMissing]);
    let second = Transfer { id: id(3), ..post };
    assert_eq!(
        run(&mut leader, &[pending, linked(post), bad, second]),
        [Verdict::Created, Verdict::LinkedFailed, Verdict::FloorReached, Verdict::Created]
    );
    assert_eq!(hold(&leader, 2, 1), Some(Hold::Posted { amount: 5, by: id(3) }));
    assert_eq!((held(&leader, 2), held(&leader, 3)), ((95, 0), (5, 0)));
}

fn expire(leader: &Leader) -> Option<quorate_txn::Proposal> {
    let overlay = leader.overlay.over(&leader.replica.records);
    expire_holds(&leader.replica.sessions, &Escrow::default(), &overlay, leader.now)
        .expect("memory does not fail")
}

#[test]
fn a_hold_expires_by_an_entry_in_log_time() {
    // Goal: the time counts from the entry of the pending transfer, and only an entry ends it.
    let mut leader = bank();
    leader.now = LogTime(1000);
    let holds = [(1, 500), (2, 501), (3, 0)]
        .map(|(number, ms)| Transfer::pending(id(number), at(2), at(3), 10, ms));
    assert_eq!(run(&mut leader, &holds), [Verdict::Created; 3]);
    assert_eq!(hold(&leader, 2, 1), Some(Hold::Open { expires: Some(LogTime(1500)) }));
    leader.now = LogTime(1499);
    assert!(expire(&leader).is_none());
    leader.now = LogTime(1500);
    leader.append(&expire(&leader).expect("one is due"));
    assert!(expire(&leader).is_none(), "it is in flight");
    assert_eq!(held(&leader, 2), (100, 30), "it is not applied");
    leader.apply_all();
    assert_eq!((held(&leader, 2), hold(&leader, 2, 1)), ((100, 20), Some(Hold::Expired)));
    let post = Transfer::post_pending(id(4), id(1), at(2), at(3), 0);
    assert_eq!(run(&mut leader, &[post]), [Verdict::PendingExpired]);

    // The first entry wins: a hold whose time is over but that no entry has ended can be posted.
    leader.now = LogTime(9000);
    let late = Transfer::post_pending(id(5), id(2), at(2), at(3), 0);
    leader.submit(&batch(&[late]));
    assert!(expire(&leader).is_none(), "a post is in flight");
    leader.apply_all();
    assert_eq!(hold(&leader, 2, 2), Some(Hold::Posted { amount: 10, by: id(5) }));
    assert!(expire(&leader).is_none());
    leader.replica.reload();
    assert_eq!(hold(&leader, 2, 3), Some(Hold::Open { expires: None }));
}

#[test]
fn decisions_rest_on_what_is_in_flight() {
    // Goal: money is not spent twice by requests that overtake the log, and answers without an entry
    // tell of entries in flight.
    let mut leader = bank();
    let first = Transfer::post(id(1), at(2), at(3), 80);
    assert!(matches!(leader.submit(&batch(&[first])), Submitted::Proposed(_)));
    let slot = leader.next.prev();
    let second = batch(&[Transfer::post(id(2), at(2), at(3), 80), first]);
    let Submitted::Answered(ReplyBody::Transfers(found), false) = leader.submit(&second) else {
        panic!("nothing of it takes effect");
    };
    assert_eq!(found.verdicts, [Verdict::FloorReached, Verdict::AlreadyApplied]);
    assert_eq!(found.details, [TransferDetail { index: 1, slot, amount: 80 }]);
    // Were the first never chosen, the second may take effect.
    leader.lose_ballot();
    leader.next = slot;
    assert_eq!(run(&mut leader, &[Transfer::post(id(2), at(2), at(3), 80)]), [Verdict::Created]);
}

#[test]
fn accounts_are_created_once_and_set_again_and_again() {
    // Goal: repeating a creation or a change is harmless, contradictions have their codes.
    let mut leader = bank();
    let create = |uid, settings| asked(RequestBody::CreateAccount(at(uid), settings));
    let again = leader.run(&create(2, usual())).expect("it has these settings");
    assert!(again.replayed);
    let other = AccountSettings { history: true, ..usual() };
    let refused = leader.run(&create(2, other)).expect_err("it has others");
    assert_eq!(refused.code, Code::AccountExists);
    let set = |uid, floor| {
        let change = AccountChange { floor: Some(floor), ..AccountChange::default() };
        asked(RequestBody::SetAccount(at(uid), change))
    };
    assert_eq!(
        run(&mut leader, &[Transfer::pending(id(1), at(2), at(3), 30, 0)]),
        [Verdict::Created]
    );
    let refused = leader.run(&set(2, Some(71))).expect_err("70 are free");
    assert_eq!(refused.code, Code::FloorAboveBalance);
    assert_eq!(refused.facts["free"], "70");
    for replayed in [false, true] {
        assert_eq!(leader.run(&set(2, Some(70))).expect("70 are free").replayed, replayed);
    }
    assert_eq!(
        run(&mut leader, &[Transfer::post(id(2), at(2), at(3), 1)]),
        [Verdict::FloorReached]
    );
    assert_eq!(leader.run(&set(77, None)).expect_err("no account").code, Code::AccountMissing);
    let floor = AccountSettings { floor: Some(1), ..usual() };
    let refused = check_limits(&create(78, floor)).expect_err("it begins with 0");
    assert_eq!(refused.code, Code::FloorAboveBalance);
}

#[test]
fn an_account_without_a_floor_has_that_of_64_bits() {
    // Goal: what is reserved can always be posted, so balances never overflow downwards either.
    let mut leader = Leader::new();
    let open = AccountSettings { floor: None, ..usual() };
    for uid in 1..5 {
        leader.run(&asked(RequestBody::CreateAccount(at(uid), open))).expect("it is new");
    }
    let most = TRANSFER_AMOUNT_MAX;
    let verdicts = run(
        &mut leader,
        &[
            Transfer::pending(id(1), at(1), at(2), most, 0),
            Transfer::post(id(2), at(1), at(3), 2),
            Transfer::post(id(3), at(1), at(3), 1),
            Transfer::post_pending(id(4), id(1), at(1), at(2), 0),
        ],
    );
    let (created, floor) = (Verdict::Created, Verdict::FloorReached);
    assert_eq!(verdicts, [created, floor, created, created]);
    assert_eq!((held(&leader, 1), held(&leader, 2)), ((i64::MIN, 0), (i64::MAX, 0)));
}

#[test]
fn a_history_lists_every_change_of_a_balance() {
    // Goal: balances before and after fit together, page by page, and only accounts that keep a
    // history pay for it.
    let mut leader = bank();
    let keep = AccountChange { history: Some(true), ..AccountChange::default() };
    set(&mut leader, 2, keep);
    let transfers = [
        Transfer::post(id(1), at(2), at(3), 10),
        Transfer::post(id(2), at(1), at(2), 4),
        Transfer::pending(id(3), at(2), at(4), 20, 0),
        Transfer::post_pending(id(4), id(3), at(2), at(4), 15),
    ];
    assert_eq!(run(&mut leader, &transfers), [Verdict::Created; 4]);
    assert_eq!(run(&mut leader, &[Transfer::post(id(5), at(2), at(3), 1)]), [Verdict::Created]);
    let first = history(&leader, 2, 3, &HistoryPage::default());
    let second = history(&leader, 2, 3, &first);
    assert_eq!((first.entries.len(), second.entries.len(), second.next), (3, 1, None));
    let all: Vec<_> = first.entries.iter().chain(&second.entries).collect();
    let told: Vec<_> = all.iter().map(|entry| (entry.delta, entry.balance)).collect();
    assert_eq!(told, [(-10, 90), (4, 94), (-15, 79), (-1, 78)]);
    let named: Vec<_> = all.iter().map(|entry| (entry.debit.0, entry.transfer.0)).collect();
    assert_eq!(named, [(2, 1), (1, 2), (2, 4), (2, 5)]);
    assert!(all.is_sorted_by_key(|entry| entry.at));
    assert_eq!(history(&leader, 3, 0, &HistoryPage::default()), HistoryPage::default());
}

#[test]
fn a_largest_batch_fits_an_entry_and_the_limits() {
    // Goal: what the edge lets pass, the log takes; one more of anything is refused by its code.
    let mut leader = bank();
    let post = |number: usize| Transfer {
        user_data: u128::MAX,
        ..Transfer::post(id(number as u128 + 5000), at(1), at(2 + number as u64 % 3), 1)
    };
    let most: Vec<_> = (0..TRANSFERS_MAX).map(post).collect();
    assert_eq!(check_limits(&batch(&most)), Ok(()));
    let Submitted::Proposed(_) = leader.submit(&batch(&most)) else { panic!("it takes effect") };
    let payload = &leader.in_flight[0].0.payload;
    assert!(payload.len() <= quorate_types::limits::ENTRY_BYTES_MAX, "{}", payload.len());
    assert_eq!(
        EntryPayload::decode(payload, GROUP).map(|entry| entry.encode()).as_ref(),
        Ok(payload)
    );
    leader.apply_all();
    assert_eq!(held(&leader, 1).0, -100 - TRANSFERS_MAX as i64);

    let code = |transfers: &[Transfer]| check_limits(&batch(transfers)).map_err(|error| error.code);
    let more: Vec<_> = (0..=TRANSFERS_MAX).map(post).collect();
    assert_eq!(code(&more), Err(Code::BatchTooLarge));
    assert_eq!(code(&[]), Err(Code::BatchTooLarge));
    let chain = |length: usize| -> Vec<Transfer> {
        (0..length).map(|number| Transfer { linked: number + 1 < length, ..post(number) }).collect()
    };
    assert_eq!(code(&chain(CHAIN_MAX)), Ok(()));
    assert_eq!(code(&chain(CHAIN_MAX + 1)), Err(Code::InvalidRequest));
}

#[test]
fn other_rows_than_the_leaders_stop_a_replica() {
    // Goal: an entry that is not possible on our rows is never applied in part or differently.
    let mut leader = bank();
    let before = leader.replica.records.clone();
    let request = batch(&[Transfer::post(id(1), at(2), at(3), 100)]);
    let Submitted::Proposed(entry) = leader.submit(&request) else { panic!("it takes effect") };
    let payload = leader.in_flight[0].0.payload.clone();
    let stopped = |records: &Records, payload: &Bytes| {
        let mut sessions = SessionTable::new(SPACE);
        let mut attempts = CrossTable::new(SPACE);
        let error = apply(payload, entry, LogTime(0), &mut sessions, &mut attempts, records);
        let error = error.expect_err("it is not possible");
        assert!(matches!(error, ApplyError::Money { .. }), "{error}");
        assert_eq!(error.code(), Code::StoreDamaged);
    };
    stopped(&Records::default(), &payload);
    // The same entry twice in the log, as no leader of ours would let it.
    leader.apply_all();
    stopped(&leader.replica.records, &payload);
    // Less money than the leader saw.
    let mut poorer = before.clone();
    let key = SPACE.account(crate::common::slice_of(quorate_types::TableId(0), Uid(2)), at(2));
    let mut bytes = poorer.get(&key).expect("memory").expect("it exists").to_vec();
    bytes[16] -= 1;
    poorer.0.insert(key, bytes.into());
    stopped(&poorer, &payload);
    let unknown = quorate_types::SliceId(1);
    let expiry = MoneyEntry::ExpireHolds(vec![(unknown, Uid(1), id(5))]);
    stopped(&before, &EntryPayload::Money(expiry).encode());
}

#[test]
fn entries_about_money_survive_their_bytes() {
    // Goal: every kind comes back, and no prefix or change of a byte is taken for another entry.
    let settings = AccountSettings { floor: Some(-5), history: true, ..usual() };
    let slice = quorate_types::SliceId(42);
    let account = |is_new| {
        let address = AccountAddress { uid: Uid(u64::MAX), ledger: u32::MAX, code: u16::MAX };
        MoneyEntry::Account(quorate_txn::AccountEntry { is_new, slice, address, settings })
    };
    let transfers = [
        Transfer::post(id(1), at(2), at(3), 1),
        Transfer::post(id(0), at(2), at(3), 1),
        Transfer::post(id(1), at(2), at(3), 1),
    ];
    let verdicts = vec![Verdict::Created, Verdict::Invalid, Verdict::AlreadyApplied];
    let slices = vec![(slice, quorate_types::SliceId(2)); 2];
    let batch = TransferBatch::new(&transfers);
    let transfers = quorate_txn::TransfersEntry { batch, verdicts, slices };
    let entries = [
        account(true),
        account(false),
        MoneyEntry::Transfers(transfers),
        MoneyEntry::ExpireHolds(vec![(slice, Uid(7), id(u128::MAX)), (slice, Uid(8), id(1))]),
    ];
    for entry in entries {
        let payload = EntryPayload::Money(entry);
        let bytes = payload.encode();
        assert_eq!(EntryPayload::decode(&bytes, GROUP), Ok(payload));
        for end in 0..bytes.len() {
            assert!(EntryPayload::decode(&bytes.slice(..end), GROUP).is_err(), "cut at {end}");
        }
        for at in 1..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x81;
            let changed = Bytes::from(changed);
            if let Ok(other) = EntryPayload::decode(&changed, GROUP) {
                assert_eq!(other.encode(), changed, "byte {at}");
            }
        }
    }
}
