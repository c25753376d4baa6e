//! Cuts and audits: what the client asks, what it makes of views that are lost, and that it lets go.

use std::collections::BTreeMap;

use quorate_client::{AccountAddress, Client, Code, Transfer, TransferId, Uid, Value};
use quorate_types::{
    AccountsPage, CutId, CutRange, EntryId, Error, FoundTransfers, GroupId, Reply, ReplyBody,
    RequestBody,
};

use super::bank::{Bank, open};
use super::nodes::Nodes;

/// The views that the scripted nodes keep of their groups. They show what is there now.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    /// Each with the node that keeps it.
    pub(crate) views: BTreeMap<(CutId, GroupId), u32>,
    /// So many requests to keep or to read a view find it lost.
    pub(crate) lose: u32,
    pub(crate) made: u32,
}

impl Cuts {
    /// Whether this is about a view that the node keeps.
    pub(crate) fn keeps(&self, node: u32, group: GroupId, body: &RequestBody) -> bool {
        match body {
            RequestBody::PinCut(cut)
            | RequestBody::ReadCut(cut, _)
            | RequestBody::UnpinCut(cut) => self.views.get(&(*cut, group)) == Some(&node),
            _ => false,
        }
    }

    /// The answer to a request about a cut; `None` for others, and for rows at one.
    pub(crate) fn answer(
        &mut self,
        (node, group): (u32, GroupId),
        body: &RequestBody,
        at: EntryId,
        look: &dyn Fn(GroupId, &CutRange) -> Option<ReplyBody>,
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
                self.views.entry((*cut, group)).or_insert(node);
                told(ReplyBody::Cut(*cut))
            }
            RequestBody::ReadCut(cut, range) => {
                assert!(self.keeps(node, group, body), "{cut} is read without a view");
                look(group, range).and_then(told)
            }
            RequestBody::UnpinCut(cut) => {
                self.views.remove(&(*cut, group));
                told(ReplyBody::Cut(*cut))
            }
            _ => None,
        }
    }
}

/// What a group that holds some users finds of a bank at a cut; `None` for rows. Accounts come in one
/// page; a search for transfers finds nothing on its first page.
pub(crate) fn look(
    bank: &Bank,
    range: &CutRange,
    is_held: impl Fn(Uid) -> bool,
) -> Option<ReplyBody> {
    match range {
        CutRange::Accounts { .. } => {
            let held = bank.accounts.values().filter(|account| is_held(account.address.uid));
            let accounts = held.copied().collect();
            Some(ReplyBody::Accounts(AccountsPage { accounts, next: None }))
        }
        CutRange::Transfers { after: None, .. } => {
            let (transfers, next) = (Vec::new(), Some(Uid(0)));
            Some(ReplyBody::FoundTransfers(FoundTransfers { transfers, next }))
        }
        CutRange::Transfers { id, after: Some(after) } => {
            assert_eq!(*after, Uid(0), "the next page begins where the last one ended");
            let has_id = bank.transfers.iter().filter(|((uid, of), _)| of == id && is_held(*uid));
            let transfers = has_id.map(|(_, record)| *record).collect();
            Some(ReplyBody::FoundTransfers(FoundTransfers { transfers, next: None }))
        }
        CutRange::Rows(_) | CutRange::Records { .. } => None,
    }
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
async fn views_are_read_where_they_are_kept() {
    // Goal: leaders that change while a cut is read disturb nobody: the nodes that made the views are asked,
    // and are not taken for leaders because they answer.
    let (nodes, client) = with_money().await;
    client.put("profiles", Uid(1), "name", "Ada").await.expect("it is written");
    let cut = client.cut().await.expect("nothing is wrong");
    nodes.world().leader = 2;
    client.get("profiles", Uid(1), "name").await.expect("the new leader is found");
    nodes.world().seen.clear();
    let mut accounts = cut.accounts();
    while accounts.next_page().await.expect("it is kept").is_some() {}
    let page = cut.scan("profiles", Uid(1)).expect("it exists").collect_all().await;
    assert_eq!(page.expect("it is kept")[0].value, Value::Bytes("Ada".into()));
    assert!(nodes.world().seen.iter().all(|seen| seen.node == 1), "{:?}", nodes.world().seen);
    nodes.world().seen.clear();
    client.get("profiles", Uid(1), "name").await.expect("it is read");
    assert!(nodes.world().seen.iter().all(|seen| seen.node == 2), "{:?}", nodes.world().seen);
    cut.release().await;
    assert!(nodes.world().cuts.views.is_empty(), "{:?}", nodes.world().cuts.views);
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

#[tokio::test]
async fn a_search_finds_every_transfer_with_an_id() {
    // Goal: several users may have used an id; all are told, once each, whatever is lost on the way.
    let (nodes, client) = with_money().await;
    let at = |uid| AccountAddress::new(Uid(uid), 840);
    assert!(client.transfer(Transfer::post(TransferId(1), at(30), at(101), 5)).await.stands());
    assert!(client.transfer(Transfer::post(TransferId(2), at(1), at(101), 9)).await.stands());
    for lose in 0..=2 {
        nodes.world().cuts.lose = lose;
        let found = client.find_transfers(TransferId(1)).await.expect("the next cut is kept");
        let told = found.iter().map(|it| (it.transfer.debit.uid.0, it.amount)).collect::<Vec<_>>();
        assert_eq!(told, [(1, 70), (30, 5)]);
    }
    assert_eq!(client.find_transfers(TransferId(3)).await.expect("it is read"), []);
    assert!(nodes.world().cuts.views.is_empty(), "every view was let go");
    nodes.world().cuts.lose = u32::MAX;
    let lost = client.find_transfers(TransferId(1)).await.expect_err("all are lost");
    assert_eq!(lost.code(), Code::CutLost);
}
