//! Cuts in the world of `payments.rs`: the accounts of all groups add up to nothing at each, no floor is
//! broken, and what was known before it was asked for is there.

use std::collections::{BTreeMap, BTreeSet};

use quorate_store::{Keyspace, View};
use quorate_txn::Context;
use quorate_txn::cross::CutEnd;
use quorate_txn::read::read_at_cut;
use quorate_types::{AccountAddress, CutId, CutRange, GroupId, ReplyBody, Request, RequestBody};
use rand::Rng;

use super::group::{Caller, Told, slice_of};
use super::payments::{Known, RELAY, Run, SINK, SOURCE, START};

/// The number of whoever makes cuts.
pub(super) const CUTTER: usize = usize::MAX;
/// The group that numbers them.
const NUMBERING: GroupId = GroupId(1);

/// A cut under way.
pub(super) struct Cutting {
    cut: Option<CutId>,
    known: Known,
    balances: BTreeMap<AccountAddress, i64>,
    seen: BTreeSet<GroupId>,
}

impl Run {
    /// Asks for a cut, unless one is under way.
    pub(super) fn cut(&mut self) {
        if self.cutting.is_some() {
            return;
        }
        let (balances, seen) = (BTreeMap::new(), BTreeSet::new());
        self.cutting = Some(Cutting { cut: None, known: self.known.clone(), balances, seen });
        let request = Request { id: None, body: RequestBody::NewCut };
        let now = self.now;
        let group = self.groups.iter_mut().find(|it| it.id == NUMBERING).expect("it exists");
        group.leader().ask(now, Caller { number: CUTTER, request });
    }

    pub(super) fn hear_cut(&mut self, told: Told) {
        let Some(cutting) = &mut self.cutting else { return };
        match told {
            Some(Ok(reply)) => match reply.body {
                ReplyBody::Cut(cut) => cutting.cut = Some(cut),
                other => panic!("{other:?}"),
            },
            Some(Err(_)) | None => self.cutting = None,
        }
    }

    /// Looks at the view of some group, if it has one that is settled. One that is lost ends the cut.
    pub(super) fn look_at_cut(&mut self) {
        let Some(cut) = self.cutting.as_ref().and_then(|cutting| cutting.cut) else { return };
        let (index, now) = (self.rng.random_range(0..self.groups.len()), self.now);
        let id = self.groups[index].id;
        let leader = self.groups[index].leader();
        if leader.cross.table().cut() < cut {
            let out = leader.cross.ask_cut(NUMBERING);
            leader.carry_out(now, out);
            return self.collect();
        }
        let cutting = self.cutting.as_mut().expect("it has a number");
        if cutting.seen.contains(&id) {
            return;
        }
        match leader.cuts.get(&cut) {
            None => self.cutting = None,
            Some((_, view)) if !view.is_settled() => {}
            Some((records, view)) => {
                cutting.balances.extend(read(id, &view.over(records)));
                cutting.seen.insert(id);
                leader.cuts.remove(&cut);
                if cutting.seen.len() == self.groups.len() {
                    self.judge_cut();
                }
            }
        }
    }

    /// The views of all groups are one state.
    fn judge_cut(&mut self) {
        let Some(Cutting { cut, known, balances, .. }) = self.cutting.take() else { return };
        let sum: i64 = balances.values().sum();
        assert_eq!(sum, 0, "at cut {cut:?}: {balances:?}");
        for (account, balance) in &balances {
            let is_source = (SOURCE..RELAY).contains(&account.uid.0);
            assert!(is_source || 0 <= *balance, "{account} has {balance} at cut {cut:?}");
            let opened = if is_source { i64::try_from(2 * START).expect("small") } else { 0 };
            let shown = if is_source { -balance - opened } else { *balance };
            if is_source || SINK <= account.uid.0 {
                let known = known.get(account).copied().unwrap_or_default();
                let missing = known & !u64::try_from(shown).expect("it moves one way");
                assert_eq!(missing, 0, "{account} shows {shown:b} at cut {cut:?}");
            }
        }
        self.counts.cuts += 1;
    }
}

/// The balances of a group in a view of it.
fn read(group: GroupId, view: &dyn View) -> BTreeMap<AccountAddress, i64> {
    let context = Context { keyspace: Keyspace::first(group), slice_of: &slice_of };
    let range = CutRange::Accounts { after: None, limit: 0 };
    let page = read_at_cut(&range, &context, view, CutEnd::default()).expect("memory");
    let ReplyBody::Accounts(page) = page else { panic!("{page:?}") };
    assert_eq!(page.next, None, "there are few");
    page.accounts.into_iter().map(|account| (account.address, account.balance)).collect()
}
