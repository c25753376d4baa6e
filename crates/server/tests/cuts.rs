//! Cuts on real nodes with real disks: what an audit finds while money moves and nodes come and go.
#![cfg(not(madsim))]
#![allow(missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Cluster, within};
use quorate_client::{
    AccountAddress, AccountSettings, Client, Cut, Error, Hold, Transfer, TransferId, Uid, Value,
};
use quorate_proto::v1;
use quorate_proto::v1::cuts_client::CutsClient;

/// Two users of each of the four units.
const USERS: [u64; 8] = [1, 2, 26, 27, 51, 52, 76, 77];
const START: i64 = 1_000;

fn at(uid: u64) -> AccountAddress {
    AccountAddress::new(Uid(uid), 840)
}

/// Rows and accounts: the first user of each unit has no floor and gives the second its money.
async fn open(client: &Client) {
    let mut opening = client.transaction();
    for uid in USERS {
        opening = opening.put("purchases", Uid(uid), "balance", START);
    }
    opening.commit().await.expect("nothing is broken");
    for (index, uid) in USERS.into_iter().enumerate() {
        let floor = if index % 2 == 0 { None } else { Some(0) };
        let settings = AccountSettings { floor, ..AccountSettings::default() };
        client.create_account(at(uid), settings).await.expect("it is new");
    }
}

/// Money between rows of two units, with a mark in each that counts.
async fn pay(client: &Client, from: u64, to: u64) -> Result<(), Error> {
    let paying = client.transaction().add("purchases", Uid(from), "balance", -1).floor(0);
    let paying = paying.add("purchases", Uid(to), "balance", 1);
    let paying = paying.add("purchases", Uid(from), "sent", 1);
    paying.add("purchases", Uid(to), "received", 1).commit().await.map(|_| ())
}

/// Every row at a cut, by name and user.
async fn rows(cut: &Cut) -> Result<BTreeMap<(String, u64), i64>, Error> {
    let mut found = BTreeMap::new();
    let mut scan = cut.scan_table("purchases")?.page_size(3);
    while let Some(page) = scan.next_page().await? {
        for row in page {
            let Value::Integer(number) = row.value else { panic!("{row:?}") };
            let name = String::from_utf8(row.key.to_vec()).expect("our own key");
            found.insert((name, row.uid.0), number);
        }
    }
    Ok(found)
}

fn sum(rows: &BTreeMap<(String, u64), i64>, name: &str) -> i64 {
    rows.iter().filter(|((at, _), _)| at == name).map(|(_, number)| number).sum()
}

/// Goal: a cut stands still while its cluster goes on, holds all that was acknowledged before it, shows
/// every transaction whole, and is gone once it is released.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_stands_still() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    open(&client).await;
    pay(&client, 1, 76).await.expect("there is enough");
    let cut = client.cut().await.expect("nothing is broken");
    let first = rows(&cut).await.expect("it is kept");
    assert_eq!(first[&("balance".to_owned(), 76)], START + 1);
    for _ in 0..20 {
        pay(&client, 1, 51).await.expect("there is enough");
    }
    assert_eq!(rows(&cut).await.expect("it is kept"), first);
    let later = client.cut().await.expect("several are kept");
    assert!(cut.id() < later.id());
    assert_eq!(rows(&later).await.expect("it is kept")[&("balance".to_owned(), 51)], START + 20);
    assert_eq!(rows(&cut).await.expect("it is kept"), first);

    let (id, group) = (cut.id(), cut.groups()[1]);
    cut.release().await;
    let leader = cluster.leader_of(group).await;
    let address = cluster.topology.node(leader).expect("known").client.clone();
    let mut cuts = CutsClient::connect(format!("http://{address}")).await.expect("connect");
    let context = Some(v1::RequestContext { group: group.0, ..Default::default() });
    let lost = cuts.pin_cut(v1::PinCutRequest { context: context.clone(), cut: id.0 }).await;
    assert!(lost.expect_err("it was released").message().starts_with("CUT_LOST"));
    let read = v1::ReadCutAccountsRequest { context, cut: later.id().0, accounts: None };
    let page = cuts.read_cut_accounts(read).await.expect("it is kept").into_inner().page;
    assert_eq!(page.expect("there is one").accounts.len(), 2, "the accounts of one unit");
}

/// Goal: whoever makes up the number of a cut is told so, and spoils none that follows.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_that_nobody_made_is_lost() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let group = client.topology().groups().last().expect("there are some").id;
    let leader = cluster.leader_of(group).await;
    let address = cluster.topology.node(leader).expect("known").client.clone();
    let mut cuts = CutsClient::connect(format!("http://{address}")).await.expect("connect");
    let context =
        Some(v1::RequestContext { group: group.0, timeout_ms: 20_000, ..Default::default() });
    let made_up = cuts.pin_cut(v1::PinCutRequest { context, cut: u64::MAX }).await;
    assert!(made_up.expect_err("nobody made it").message().starts_with("CUT_LOST"));
    client.cut().await.expect("cuts go on").release().await;
}

/// Goal: audits under load find books that balance and rows that add up, and every transaction of which
/// somebody was told before, while nodes are stopped and started.
#[tokio::test(flavor = "multi_thread")]
async fn audits_under_load_find_books_that_balance() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client().await;
    open(&client).await;
    let done = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut payers = Vec::new();
    for payer in 0..4_usize {
        let (client, done) = (client.clone(), Arc::clone(&done));
        let acknowledged = Arc::clone(&acknowledged);
        payers.push(tokio::spawn(async move {
            let mut turn = 0_usize;
            while !done.load(Ordering::Acquire) {
                turn += 1;
                let to = USERS[(2 * payer + 2 + turn % 5) % USERS.len()];
                if pay(&client, USERS[2 * payer], to).await.is_ok() {
                    acknowledged.fetch_add(1, Ordering::AcqRel);
                }
                let (debit, credit) = (at(USERS[2 * payer]), at(USERS[2 * payer + 1]));
                let id = TransferId((payer * 1_000_000 + turn) as u128 + 1);
                let _outcome = client.transfer(Transfer::post(id, debit, credit, 3)).await;
            }
        }));
    }
    let auditor = {
        let (client, done, acknowledged) =
            (client.clone(), Arc::clone(&done), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            let mut audits = 0_u32;
            while !done.load(Ordering::Acquire) {
                if let Ok(report) = client.audit().await {
                    assert!(report.balances(), "{report:?}");
                    assert_eq!(report.ledgers[&840].accounts, 8);
                    audits += 1;
                }
                let before = acknowledged.load(Ordering::Acquire);
                let Ok(cut) = client.cut().await else { continue };
                let Ok(found) = rows(&cut).await else { continue };
                assert_eq!(sum(&found, "balance"), START * 8, "{found:?}");
                assert_eq!(sum(&found, "sent"), sum(&found, "received"), "{found:?}");
                assert!(before <= sum(&found, "sent") as u64, "{before} were acknowledged");
                audits += 1;
            }
            audits
        })
    };
    for name in cluster.names() {
        cluster.stop_node(&name).await.expect("it stops as it should");
        cluster.start_node(&name);
        // Until a cut goes through all groups again.
        within(async || client.cut().await.ok()).await;
    }
    done.store(true, Ordering::Release);
    for payer in payers {
        payer.await.expect("no payer panics");
    }
    let audits = auditor.await.expect("every audit found what it should");
    assert!(5 < audits, "only {audits} audits succeeded");
    let report = within(async || client.audit().await.ok()).await;
    let ledger = &report.ledgers[&840];
    assert!(0 < ledger.sum_of_positive && ledger.units.len() == 4, "{report:?}");
}

/// Goal: whoever knows only the id of a transfer finds it, in whichever unit it was debited, as it is read
/// there; also what several users have under one id.
#[tokio::test(flavor = "multi_thread")]
async fn transfers_are_found_by_their_id_alone() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    open(&client).await;
    let (far, shared) = (TransferId(u128::MAX), TransferId(7));
    let all = [
        Transfer::post(far, at(26), at(77), 30),
        Transfer::post(shared, at(1), at(2), 10),
        Transfer::post(shared, at(76), at(27), 40),
        Transfer::pending(shared, at(51), at(52), 20, 0),
        Transfer::post(TransferId(8), at(1), at(2), 1),
    ];
    for outcome in client.transfers(&all).await {
        assert!(outcome.stands(), "{outcome:?}");
    }
    let found = client.find_transfers(far).await.expect("nothing is broken");
    assert_eq!(found.iter().map(|it| it.transfer).collect::<Vec<_>>(), [all[0]]);
    let found = client.find_transfers(shared).await.expect("nothing is broken");
    let transfers: Vec<Transfer> = found.iter().map(|it| it.transfer).collect();
    assert_eq!(transfers, [all[1], all[3], all[2]], "in the order of the users they debit");
    assert_eq!(found[1].hold, Some(Hold::Open { expires: None }));
    for record in found {
        let read = client.find_transfer(record.transfer.debit.uid, shared).await;
        assert_eq!(read.expect("it is read"), Some(record));
    }
    assert_eq!(client.find_transfers(TransferId(9)).await.expect("nothing is broken"), []);
}
