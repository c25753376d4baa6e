//! Cuts and audits: what the client asks, what it makes of views that are lost, and that it lets go.

use std::collections::BTreeSet;

use quorate_client::{AccountAddress, Client, Code, Transfer, TransferId, Uid, Value};
use quorate_types::{
    AccountsPage, CutId, CutRange, EntryId, Error, GroupId, Reply, ReplyBody, RequestBody,
};

use super::bank::{Bank, open};
use super::nodes::Nodes;

/// The views that the groups behind the scripted nodes keep. They show what is there now, a page each.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    pub(crate) views: BTreeSet<(CutId, GroupId)>,
    /// So many requests to keep or to read a view find it lost.
    pub(crate) lose: u32,
    pub(crate) made: u32,
}

impl Cuts {
    /// The answer to a request about a cut; `None` for others, and for rows at one.
    pub(crate) fn answer(
        &mut self,
        group: GroupId,
        body: &RequestBody,
        at: EntryId,
        accounts: &dyn Fn(GroupId) -> AccountsPage,
    ) -> Option<Result<Reply, Error>> {
        let told = |body| Some(Ok(Reply { at, replayed: false, body }));
        match body {
            RequestBody::NewCut => {
                assert_eq!(group, GroupId(1), "the group with the lowest id makes the cuts");
                self.made += 1;
                told(ReplyBody::Cut(CutId::at(at.slot)))
            }
            RequestBody::PinCut(_) | RequestBody::ReadCut(..) if 0 < self.lose => {
                self.lose -= 1;
                Some(Err(Error::new(Code::CutLost, "another one leads")))
            }
            RequestBody::PinCut(cut) => {
                self.views.insert((*cut, group));
                told(ReplyBody::Cut(*cut))
            }
            RequestBody::ReadCut(cut, range) => {
                assert!(self.views.contains(&(*cut, group)), "{cut} is read without a view");
                match range {
                    CutRange::Accounts { .. } => told(ReplyBody::Accounts(accounts(group))),
                    CutRange::Rows(_) => None,
                }
            }
            RequestBody::UnpinCut(cut) => {
                self.views.remove(&(*cut, group));
                told(ReplyBody::Cut(*cut))
            }
            _ => None,
        }
    }
}

/// The accounts of a bank that a group holds, in one page.
pub(crate) fn accounts_of(bank: &Bank, is_held: impl Fn(Uid) -> bool) -> AccountsPage {
    let held = bank.accounts.values().filter(|account| is_held(account.address.uid));
    AccountsPage { accounts: held.copied().collect(), next: None }
}

async fn with_money() -> (Nodes, Client) {
    let (nodes, client) = Nodes::with_client().await;
    let at = |uid| AccountAddress::new(Uid(uid), 840);
    for uid in [1, 101, 30] {
        client.create_account(at(uid), open()).await.expect("it is new");
    }
    assert!(client.transfer(Transfer::post(TransferId(1), at(1), at(101), 70)).await.stands());
    (nodes, client)
}

#[tokio::test]
async fn an_audit_reads_every_group_once_and_lets_go() {
    // Goal: each account is counted once, in its unit, and no view stays behind.
    let (nodes, client) = with_money().await;
    let report = client.audit().await.expect("nothing is wrong");
    assert!(report.balances(), "{report:?}");
    assert_eq!(report.groups, client.topology().groups().len());
    let ledger = &report.ledgers[&840];
    assert_eq!((ledger.accounts, ledger.sum, ledger.sum_of_positive), (3, 0, 70));
    assert_eq!(ledger.units.len(), 2);
    let world = nodes.world();
    assert!(world.cuts.views.is_empty(), "{:?}", world.cuts.views);
    assert_eq!(world.cuts.made, 1);
}

#[tokio::test]
async fn a_lost_view_means_a_new_cut() {
    // Goal: whichever view is lost, all groups are read again at a new cut; who loses every one is told.
    let (nodes, client) = with_money().await;
    for lose in 1..=3 {
        nodes.world().cuts.lose = lose;
        assert!(client.audit().await.expect("the next cut is kept").balances());
    }
    assert!(3 < nodes.world().cuts.made);
    nodes.world().cuts.lose = u32::MAX;
    assert_eq!(client.audit().await.expect_err("all are lost").code(), Code::CutLost);
    assert!(nodes.world().cuts.made < 20, "it gives up");
}

#[tokio::test]
async fn a_dropped_cut_lets_its_views_go() {
    // Goal: whoever forgets to release a cut keeps no room on anybody's disk.
    let (nodes, client) = with_money().await;
    client.put("profiles", Uid(1), "name", "Ada").await.expect("it is written");
    let cut = client.cut().await.expect("nothing is wrong");
    assert!(!nodes.world().cuts.views.is_empty());
    let mut rows = cut.scan_table("profiles").expect("it exists");
    let page = rows.next_page().await.expect("it is kept").expect("one row");
    assert_eq!(page[0].value, Value::Bytes("Ada".into()));
    let of_user = cut.scan("profiles", Uid(1)).expect("it exists").prefix("na");
    assert_eq!(of_user.collect_all().await.expect("it is kept"), page);
    assert_eq!(cut.scan_table("no such table").expect_err("unknown").code(), Code::UnknownTable);
    drop(rows);
    drop(cut);
    for _ in 0..500 {
        if nodes.world().cuts.views.is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the views stay");
}
