//! Money on real nodes with real disks: every call, holds that expire, and a sum that stays the same
//! whatever happens to the nodes.
#![cfg(not(madsim))]
#![allow(missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Cluster, within};
use quorate_client::{
    AccountAddress, AccountSettings, Client, Hold, Transfer, TransferId, TransferKind,
    TransferOutcome, Uid, Verdict,
};
use quorate_proto::v1;
use quorate_proto::v1::bank_client::BankClient;
use quorate_types::Code;

/// Users of one group: slices 00, 01 and 02 belong to one unit.
const USERS: [u64; 3] = [100, 101, 102];
/// Users of three units.
const FAR: [u64; 3] = [1, 26, 51];

fn at(uid: u64) -> AccountAddress {
    AccountAddress::new(Uid(uid), 840)
}

fn post(id: u128, debit: u64, credit: u64, amount: u64) -> Transfer {
    Transfer::post(TransferId(id), at(debit), at(credit), amount)
}

/// The first user has no floor; the others begin with 100 each.
async fn fund(client: &Client, users: [u64; 3]) {
    for uid in users {
        let floor = if uid == users[0] { None } else { Some(0) };
        let settings = AccountSettings { floor, history: true, ..AccountSettings::default() };
        client.create_account(at(uid), settings).await.expect("it is new");
    }
    let funds = [post(1, users[0], users[1], 100), post(2, users[0], users[2], 100)];
    let outcomes = client.transfers(&funds).await;
    assert!(outcomes.iter().all(TransferOutcome::stands), "{outcomes:?}");
}

async fn balance(client: &Client, uid: u64) -> i64 {
    client.account(at(uid)).await.expect("a read").expect("it was created").balance
}

/// Goal: money moves through the stream and through unary calls, and a hold expires by itself.
#[tokio::test(flavor = "multi_thread")]
async fn money_moves_through_every_call() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    fund(&client, USERS).await;
    let hold = Transfer::pending(TransferId(3), at(101), at(102), 60, 50);
    assert!(client.transfer(hold).await.stands());
    let refused = client.transfer(post(4, 101, 102, 41)).await;
    assert!(!refused.stands(), "60 of 100 are reserved: {refused:?}");
    within(async || {
        let found = client.find_transfer(Uid(101), TransferId(3)).await.ok()??;
        (found.hold == Some(Hold::Expired)).then_some(())
    })
    .await;
    assert!(client.transfer(post(4, 101, 102, 41)).await.stands(), "the id was free");

    let group = client.topology().group_of_accounts(Uid(101)).expect("it is sharded").id;
    let leader = cluster.leader_of(group).await;
    let address = cluster.topology.node(leader).expect("known").client.clone();
    let mut bank = BankClient::connect(format!("http://{address}")).await.expect("connect");
    let wire = |uid| Some(v1::AccountAddress { uid, ledger: 840, code: 0 });
    let transfer = v1::Transfer {
        id: 5_u128.to_be_bytes().to_vec().into(),
        kind: v1::TransferKind::Post.into(),
        debit: wire(102),
        credit: wire(101),
        amount: 141,
        ..v1::Transfer::default()
    };
    let twice = vec![transfer.clone(), transfer];
    let request = v1::CreateTransfersRequest { context: None, transfers: twice };
    let results = bank.create_transfers(request).await.expect("an answer").into_inner().results;
    let told: Vec<_> = results.iter().map(|result| (result.verdict(), result.amount)).collect();
    use v1::TransferVerdict::{AlreadyApplied, Created};
    assert_eq!(told, [(Created, 141), (AlreadyApplied, 141)]);
    let request = v1::GetAccountRequest { context: None, address: wire(101) };
    let account = bank.get_account(request).await.expect("an answer").into_inner().account;
    assert_eq!(account.expect("it exists").balance, 200);
    let first = transfer_of(&mut bank).await;
    let other = |uid| v1::Transfer { credit: wire(uid), ..first.clone() };
    let request =
        v1::CreateTransfersRequest { context: None, transfers: vec![other(30), other(60)] };
    let status = bank.create_transfers(request).await.expect_err("three units");
    assert!(status.message().contains(Code::SeveralGroups.name()), "{status}");

    let history = client.account_history(at(101)).collect_all().await.expect("a read");
    let told: Vec<_> = history.iter().map(|entry| (entry.delta, entry.balance)).collect();
    assert_eq!(told, [(100, 100), (-41, 59), (141, 200)]);

    // What a node has applied survives its end.
    for name in cluster.names() {
        cluster.stop_node(&name).await.expect("a clean end");
        cluster.start_node(&name);
    }
    assert_eq!(balance(&client, 101).await, 200);
    let again = client.transfer(post(4, 101, 102, 41)).await;
    assert!(matches!(again, TransferOutcome::AlreadyApplied(_)), "{again:?}");
}

/// A transfer as the unary calls tell it.
async fn transfer_of(bank: &mut BankClient<tonic::transport::Channel>) -> v1::Transfer {
    let id = 5_u128.to_be_bytes().to_vec().into();
    let name = Some(v1::TransferName { debit_uid: 102, id });
    let request = v1::GetTransferRequest { context: None, name };
    let found = bank.get_transfer(request).await.expect("an answer").into_inner().transfer;
    found.expect("it took effect").transfer.expect("it says what was asked")
}

/// Goal: money moves between units by every kind of transfer, each side keeps its own rules, and nothing
/// stays behind.
#[tokio::test(flavor = "multi_thread")]
async fn money_moves_between_units() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let [source, payer, payee] = FAR;
    fund(&client, FAR).await;
    assert!(client.transfer(post(10, payer, payee, 30)).await.stands());
    assert_eq!((balance(&client, payer).await, balance(&client, payee).await), (70, 130));
    let again = client.transfer(post(10, payer, payee, 30)).await;
    assert!(matches!(again, TransferOutcome::AlreadyApplied(_)), "{again:?}");

    // A chain falls as a whole, whichever side refuses; the rest of the batch stands.
    let linked = |it| Transfer { linked: true, ..it };
    let batch = [
        linked(post(11, payer, payee, 10)),
        post(12, payer, 9_051, 10), // Nobody of this name has an account.
        post(13, payer, payee, 71),
        post(14, payer, payee, 5),
        post(14, payer, payee, 5),
        post(15, source, payee, 1),
    ];
    let outcomes = client.transfers(&batch).await;
    let refused = |index: usize| match &outcomes[index] {
        TransferOutcome::Refused(refusal) => Some(refusal.verdict),
        _ => None,
    };
    assert_eq!(refused(0), Some(Verdict::LinkedFailed), "{outcomes:?}");
    assert_eq!(refused(1), Some(Verdict::CreditAccountMissing));
    assert_eq!(refused(2), Some(Verdict::FloorReached));
    assert!(matches!(outcomes[3], TransferOutcome::Created(_)));
    assert!(matches!(outcomes[4], TransferOutcome::AlreadyApplied(_)));
    assert!(matches!(outcomes[5], TransferOutcome::Created(_)));
    assert_eq!((balance(&client, payer).await, balance(&client, payee).await), (65, 136));

    // A reservation touches its own side alone; the post of it both.
    let hold = Transfer::pending(TransferId(20), at(payer), at(payee), 40, 0);
    assert!(client.transfer(hold).await.stands());
    assert!(!client.transfer(post(21, payer, payee, 26)).await.stands(), "40 of 65 are reserved");
    let kind = TransferKind::PostPending(TransferId(20));
    let ending = Transfer { kind, amount: 0, ..post(22, payer, payee, 0) };
    let TransferOutcome::Created(effect) = client.transfer(ending).await else {
        panic!("the reservation is open");
    };
    assert_eq!(effect.amount, 40);
    let found = client.find_transfer(Uid(payer), TransferId(20)).await.expect("a read");
    let by = TransferId(22);
    assert_eq!(found.expect("it exists").hold, Some(Hold::Posted { amount: 40, by }));
    assert_eq!((balance(&client, payer).await, balance(&client, payee).await), (25, 176));
    let history = client.account_history(at(payee)).collect_all().await.expect("a read");
    let mut told: Vec<_> = history.iter().map(|entry| entry.delta).collect();
    told.sort_unstable(); // Between different units there is no order.
    assert_eq!(told, [1, 5, 30, 40, 100]);
    within(async || {
        let reports = client.attempts().await;
        let known: Vec<_> = reports.into_iter().flat_map(|it| it.attempts.unwrap()).collect();
        known.is_empty().then_some(())
    })
    .await;
}

/// Goal: nodes that leave and die at any moment neither make money nor lose it, and nobody is paid twice.
#[tokio::test(flavor = "multi_thread")]
async fn the_sum_stays_whoever_dies() {
    sum_stays(USERS).await;
}

/// Goal: the same between units.
#[tokio::test(flavor = "multi_thread")]
async fn the_sum_stays_between_units() {
    sum_stays(FAR).await;
}

async fn sum_stays(users: [u64; 3]) {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    fund(&client, users).await;
    let (done, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut payers = Vec::new();
    for payer in 0..4_u128 {
        let (client, done, sent) = (client.clone(), Arc::clone(&done), Arc::clone(&sent));
        payers.push(tokio::spawn(async move {
            let mut paid = 0_u64;
            let mut number = (payer + 1) << 64;
            while !done.load(Ordering::Acquire) {
                number += 10;
                // The first debits the user without a floor, so it always stands; the chain may not.
                let batch = [
                    post(number, users[0], users[1], 3),
                    Transfer { linked: true, ..post(number + 1, users[1], users[2], 150) },
                    post(number + 2, users[2], users[0], 2),
                ];
                let mut outcomes = client.transfers(&batch).await;
                while let TransferOutcome::Failed(_) = &outcomes[0] {
                    outcomes = client.transfers(&batch).await; // Whatever became of it: under its id.
                }
                assert!(outcomes[0].stands(), "{:?}", outcomes[0]);
                paid += 3;
                sent.fetch_add(1, Ordering::AcqRel);
            }
            paid
        }));
    }
    for name in cluster.names() {
        let before = sent.load(Ordering::Acquire);
        within(async || (before + 20 < sent.load(Ordering::Acquire)).then_some(())).await;
        cluster.stop_node(&name).await.expect("a clean end");
        cluster.start_node(&name);
    }
    // And one without a word, for good.
    let leader =
        cluster.leader_of(client.topology().group_of_accounts(Uid(users[0])).expect("it is").id);
    let leader = leader.await;
    let name = cluster.topology.node(leader).expect("known").name.clone();
    cluster.abort_node(&name).await;
    let before = sent.load(Ordering::Acquire);
    within(async || (before + 20 < sent.load(Ordering::Acquire)).then_some(())).await;
    done.store(true, Ordering::Release);
    let mut paid = 0;
    for payer in payers {
        paid += payer.await.expect("no panic");
    }
    let mut sum = 0;
    for uid in users {
        sum += balance(&client, uid).await;
        let history = client.account_history(at(uid)).collect_all().await.expect("a read");
        let moved: i64 = history.iter().map(|entry| entry.delta).sum();
        assert_eq!(moved, balance(&client, uid).await, "the history of {uid} adds up");
    }
    assert_eq!(sum, 0);
    let received = client.account_history(at(users[1])).collect_all().await.expect("a read");
    let posts = received.iter().filter(|entry| entry.delta == 3).count();
    assert_eq!(posts as u64 * 3, paid, "each payment once");
}
