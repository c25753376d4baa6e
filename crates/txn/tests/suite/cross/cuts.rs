//! Cuts in a world: somebody makes one, asks every group for its view, and adds up.

use std::collections::{BTreeMap, BTreeSet};

use quorate_store::{Keyspace, View, state_page};
use quorate_txn::cross::CutEnd;
use quorate_types::{
    CutId, GroupId, ReplyBody, Request, RequestBody, RowAddress, SliceId, Uid, Value,
};
use rand::Rng;

use super::group::{Caller, Told, group_of};
use super::world::{ACCOUNTS, CUTTER, Run, START, USERS, account, mark};

/// The group that numbers the cuts.
const NUMBERING: GroupId = GroupId(1);
/// Rounds in which a cut must succeed once nothing is broken any more; each looks at one group by chance.
const ROUNDS: usize = 500;

/// A cut under way.
pub(super) struct Cutting {
    cut: Option<CutId>,
    /// Transfers that had been acknowledged before it was asked for.
    before: BTreeSet<u64>,
    /// What the views have said: balances by user, and which marks each user has.
    balances: BTreeMap<u64, i64>,
    marks: BTreeMap<u64, BTreeSet<u64>>,
    seen: BTreeSet<GroupId>,
}

impl Run {
    /// Asks for a cut, unless one is under way.
    pub(super) fn cut(&mut self) {
        if self.cutting.is_some() {
            return;
        }
        self.cutting = Some(Cutting {
            cut: None,
            before: self.told_committed.clone(),
            balances: BTreeMap::new(),
            marks: BTreeMap::new(),
            seen: BTreeSet::new(),
        });
        let now = self.now;
        let request = Request { id: None, body: RequestBody::NewCut };
        let group = self.groups.iter_mut().find(|it| it.id == NUMBERING).expect("it exists");
        group.leader().ask(now, Caller { number: CUTTER, request });
    }

    /// What whoever asked for the cut is told.
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

    /// Looks at the view of some group, if it has one that is settled. Whoever is behind asks; a view
    /// that is lost ends the cut.
    pub(super) fn look_at_cut(&mut self) {
        let Some((cut, seen)) =
            self.cutting.as_ref().and_then(|it| Some((it.cut?, it.seen.clone())))
        else {
            return;
        };
        let index = self.rng.random_range(0..self.groups.len());
        let now = self.now;
        let id = self.groups[index].id;
        if seen.contains(&id) {
            return;
        }
        let leader = self.groups[index].leader();
        let passed = leader.cross.table().cut();
        if passed < cut {
            let out = leader.cross.ask_cut(NUMBERING);
            leader.carry_out(now, out);
            return self.collect();
        }
        match leader.cuts.get(&cut) {
            None => self.cutting = None,
            Some((_, view)) if !view.is_settled() => {}
            Some((records, view)) => {
                let end = view.end();
                let view = view.over(records);
                check_end(id, &view, end);
                let (balances, marks) = read(id, &view, self.touched.keys().copied());
                leader.cuts.remove(&cut);
                let cutting = self.cutting.as_mut().expect("it was looked at");
                cutting.balances.extend(balances);
                for (number, users) in marks {
                    cutting.marks.entry(number).or_default().extend(users);
                }
                cutting.seen.insert(id);
                if cutting.seen.len() == self.groups.len() {
                    self.judge_cut();
                }
            }
        }
    }

    /// The views of all groups are one state.
    fn judge_cut(&mut self) {
        let cutting = self.cutting.take().expect("all groups were seen");
        let Cutting { cut, before, balances, marks, .. } = cutting;
        let wanted = START * i64::try_from(USERS).expect("small");
        let sum: i64 = balances.values().sum();
        assert_eq!(sum, wanted, "at cut {cut:?}: {balances:?}");
        assert!(balances.values().all(|balance| 0 <= *balance), "at cut {cut:?}: {balances:?}");
        for (number, users) in &marks {
            assert_eq!(users, &self.touched[number], "transfer {number} is split by {cut:?}");
        }
        let is_missing = |number: &&u64| !marks.contains_key(number);
        let missing: Vec<_> = before.iter().filter(is_missing).collect();
        assert!(missing.is_empty(), "{missing:?} were acknowledged before {cut:?} was asked for");
        self.counts.cuts += 1;
        self.at_cuts.push(marks.into_keys().collect());
    }

    /// Nothing is broken any more: a cut succeeds, and it holds everything.
    pub(super) fn cut_at_the_end(&mut self) {
        self.cutting = None;
        let before = self.counts.cuts;
        for _ in 0..ROUNDS {
            self.cut();
            for index in 0..self.groups.len() {
                let now = self.now;
                self.groups[index].choose(now, usize::MAX);
            }
            self.collect();
            self.deliver_all();
            self.look_at_cut();
            self.hear_callers();
            if before < self.counts.cuts {
                return;
            }
        }
        panic!("no cut succeeds");
    }
}

type Balances = BTreeMap<u64, i64>;
type Marks = BTreeMap<u64, BTreeSet<u64>>;

/// Balances and marks of the users of a group.
fn read(group: GroupId, view: &dyn View, numbers: impl Iterator<Item = u64>) -> (Balances, Marks) {
    let users: Vec<u64> =
        (0..USERS).filter(|uid| group_of(ACCOUNTS, Uid(*uid)) == Some(group)).collect();
    let number = |at: &RowAddress| {
        let slice = SliceId(u16::try_from(at.uid.0 % 100).expect("small"));
        let key = Keyspace::first(group).row(slice, at.table, at.uid, &at.key);
        let bytes = view.get(&key).expect("memory")?;
        match quorate_store::Row::decode(&bytes).expect("a row").value {
            Value::Integer(number) => Some(number),
            Value::Bytes(_) => panic!("{at:?} holds bytes"),
        }
    };
    let balances =
        users.iter().map(|uid| (*uid, number(&account(*uid)).expect("it has one"))).collect();
    let mut marks = Marks::new();
    for transfer in numbers {
        for uid in users.iter().filter(|uid| number(&mark(**uid, transfer)) == Some(1)) {
            marks.entry(transfer).or_default().insert(*uid);
        }
    }
    (balances, marks)
}

/// No record of a view is of an entry behind the one that it says is the last: whoever goes on from these
/// records begins there.
fn check_end(group: GroupId, view: &dyn View, end: CutEnd) {
    let records = state_page(view, Keyspace::first(group), None, usize::MAX).expect("memory");
    for record in records {
        // Rows begin with their slot, records of money with a format and their slot; the end of a hold has
        // none, and a change of a balance has it in its key.
        let (from, bytes) = match record.key[0] {
            0x10 => (0, &record.value),
            0x30 | 0x31 => (1, &record.value),
            0x34 => (record.key.len() - 10, &record.key),
            _ => continue,
        };
        let slot = u64::from_be_bytes(bytes[from..from + 8].try_into().expect("8 bytes"));
        assert!(slot <= end.upto.0, "{group}: a record of slot {slot}, {end:?}");
    }
}
