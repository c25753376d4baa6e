//! Reads of rows of all groups in two rounds: what a client does, spread over time so that anything may
//! happen between two answers. Every one that ends must have seen one moment.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::{
    CutId, FoundRow, FoundRows, GroupId, ReplyBody, Request, RequestBody, RowAddress, RowVersion,
    Value, WantedRow,
};
use rand::Rng;

use super::group::{Caller, GROUPS, Told, group_of};
use super::world::{Run, START, USERS, account, mark};

/// The number of the first of those that look, in its first group. The others count down from here.
const LOOKER: usize = usize::MAX - 2;
/// So many look at the same time.
const LOOKS: usize = 3;
/// Then a client would take locks.
const ROUNDS_MAX: usize = 8;
/// Transfers that one looks for, of the latest,
const TRANSFERS: usize = 8;
/// and of those that nobody has asked for yet.
const NEXT_ONES: u64 = 2;
/// Rounds in which one must succeed once nothing is broken any more; each asks one group.
const SETTLED_ROUNDS: usize = 500;

/// A read under way.
#[derive(Debug, Default)]
pub(super) struct Look {
    began: u64,
    /// Transfers that had been acknowledged before.
    before: BTreeSet<u64>,
    /// Transfers that it looks for.
    transfers: BTreeSet<u64>,
    /// True if it reads all balances, too.
    adds_up: bool,
    rows: BTreeMap<RowAddress, Seen>,
    /// The greatest cut in the answers of the round before, and so far in those of this one.
    cut: CutId,
    cut_of_round: CutId,
    rounds: usize,
    has_changed: bool,
    unasked: Vec<GroupId>,
    unanswered: usize,
}

type Seen = (Option<RowVersion>, Option<Value>);

/// What a read saw that ended.
#[derive(Debug)]
pub(super) struct Looked {
    began: u64,
    ended: u64,
    /// Transfers it looked for, and those it found.
    transfers: BTreeSet<u64>,
    found: BTreeSet<u64>,
}

/// The look and the group behind a number of a caller.
pub(super) fn looker(number: usize) -> Option<(usize, GroupId)> {
    let groups = usize::try_from(GROUPS).expect("small");
    let below = LOOKER.checked_sub(number).filter(|below| *below < LOOKS * groups)?;
    let group = u32::try_from(below % groups).expect("small") + 1;
    Some((below / groups, GroupId(group)))
}

fn number_of(look: usize, group: GroupId) -> usize {
    let groups = usize::try_from(GROUPS).expect("small");
    LOOKER - (look * groups + group.0 as usize - 1)
}

fn group_of_row(at: &RowAddress) -> GroupId {
    group_of(at.table, at.uid).expect("it has one")
}

impl Run {
    /// One of those that look asks another group, or all others; or one begins.
    pub(super) fn look(&mut self) {
        let index = self.rng.random_range(0..LOOKS);
        if self.looks.len() < LOOKS {
            self.looks.resize_with(LOOKS, || None);
        }
        if self.looks[index].is_none() && !self.is_settling {
            self.looks[index] = Some(self.new_look());
        }
        let Some(look) = &mut self.looks[index] else { return };
        let count = if self.rng.random_bool(0.4) { look.unasked.len() } else { 1 };
        for _ in 0..count.min(look.unasked.len()) {
            let Some(look) = &mut self.looks[index] else { return };
            let group = look.unasked.swap_remove(self.rng.random_range(0..look.unasked.len()));
            self.ask_for_rows(index, group);
        }
    }

    fn new_look(&mut self) -> Look {
        let mut transfers = BTreeSet::new();
        for number in self.touched.keys().rev().take(2 * TRANSFERS) {
            if transfers.len() < TRANSFERS && self.rng.random_bool(0.6) {
                transfers.insert(*number);
            }
        }
        let adds_up = self.rng.random_bool(0.5);
        transfers.extend(self.next_mark..self.next_mark + NEXT_ONES);
        let everybody: BTreeSet<u64> = (0..USERS).collect();
        let users = |number| self.touched.get(number).unwrap_or(&everybody).iter();
        let marks =
            transfers.iter().flat_map(|number| users(number).map(|uid| mark(*uid, *number)));
        let balances = (0..USERS).filter(|_| adds_up).map(account);
        let rows: BTreeMap<_, _> = marks.chain(balances).map(|at| (at, (None, None))).collect();
        let (began, before) = (self.steps, self.told_committed.clone());
        let mut look = Look { began, before, transfers, adds_up, rows, ..Look::default() };
        look.begin_round();
        look
    }

    fn ask_for_rows(&mut self, index: usize, group: GroupId) {
        let now = self.now;
        let look = self.looks[index].as_ref().expect("it looks");
        let of_group = look.rows.iter().filter(|(at, _)| group_of_row(at) == group);
        let wanted =
            |(at, (known, _)): (&RowAddress, &Seen)| WantedRow { at: at.clone(), known: *known };
        let body = RequestBody::GetMany { rows: of_group.map(wanted).collect(), cut: look.cut };
        let caller =
            Caller { number: number_of(index, group), request: Request { id: None, body } };
        let group = self.groups.iter_mut().find(|it| it.id == group).expect("it exists");
        group.leader().ask(now, caller);
    }

    /// What one that looks is told by a group. Without a leader it asks again.
    pub(super) fn hear_look(&mut self, (index, group): (usize, GroupId), told: Told) {
        let look = self.looks[index].as_mut().expect("only who waits is told");
        let Some(told) = told else {
            look.unasked.push(group);
            return;
        };
        let ReplyBody::Rows(found) = told.expect("nothing refuses it").body else {
            panic!("{group} answers something else")
        };
        look.learn(group, found);
        if 0 < look.unanswered {
            return;
        }
        if 1 < look.rounds && !look.has_changed {
            let look = self.looks[index].take().expect("it looks");
            return self.judge_look(look);
        }
        if look.rounds == ROUNDS_MAX {
            self.looks[index] = None;
            return;
        }
        look.begin_round();
    }

    /// A look saw transfers whole, all that was acknowledged before it, and all of the money.
    fn judge_look(&mut self, look: Look) {
        let number = |at: &RowAddress| match &look.rows[at].1 {
            None => None,
            Some(Value::Integer(number)) => Some(*number),
            Some(Value::Bytes(_)) => panic!("{at:?} holds bytes"),
        };
        if look.adds_up {
            let balances: Vec<_> =
                (0..USERS).map(|uid| number(&account(uid)).expect("all have one")).collect();
            let wanted = START * i64::try_from(USERS).expect("small");
            assert_eq!(balances.iter().sum::<i64>(), wanted, "at one moment: {balances:?}");
        }
        let mut found = BTreeSet::new();
        for transfer in &look.transfers {
            let Some(users) = self.touched.get(transfer) else { continue };
            let marks: BTreeSet<Option<i64>> =
                users.iter().map(|uid| number(&mark(*uid, *transfer))).collect();
            assert_eq!(marks.len(), 1, "half of transfer {transfer} was seen: {look:?}");
            if marks.contains(&Some(1)) {
                found.insert(*transfer);
            }
        }
        let mut expected = look.before.intersection(&look.transfers);
        let missing = expected.find(|transfer| !found.contains(transfer));
        assert_eq!(missing, None, "it was acknowledged before: {look:?}");
        let Look { began, transfers, .. } = look;
        self.counts.looks += 1;
        self.looked.push(Looked { began, ended: self.steps, transfers, found });
    }

    /// There is one order of all looks, in which none misses what an earlier one saw; and each cut has
    /// a place among them.
    pub(super) fn judge_looks(&self) {
        for (index, one) in self.looked.iter().enumerate() {
            for other in &self.looked[index + 1..] {
                let (first, second) = (one.only(&other.transfers), other.only(&one.transfers));
                let is_before = first.is_subset(&second);
                assert!(is_before || second.is_subset(&first), "{one:?} and {other:?}");
                assert!(is_before || other.began <= one.ended, "{one:?}, then {other:?}");
                let is_after = second.is_subset(&first);
                assert!(is_after || one.began <= other.ended, "{other:?}, then {one:?}");
            }
            for cut in &self.at_cuts {
                let of_cut: BTreeSet<u64> = cut.intersection(&one.transfers).copied().collect();
                let is_ordered = of_cut.is_subset(&one.found) || one.found.is_subset(&of_cut);
                assert!(is_ordered, "{one:?}, and a cut that holds {of_cut:?} of it");
            }
        }
    }

    /// Nothing is broken any more: whoever looks sees everything in two rounds.
    pub(super) fn look_at_the_end(&mut self) {
        let before = self.counts.looks;
        self.looks = vec![Some(self.new_look())];
        for _ in 0..SETTLED_ROUNDS {
            self.look();
            self.hear_callers();
            if before < self.counts.looks {
                return;
            }
        }
        panic!("nobody can look: {:?}", self.looks);
    }
}

impl Look {
    fn begin_round(&mut self) {
        self.rounds += 1;
        self.has_changed = false;
        self.cut = std::mem::take(&mut self.cut_of_round);
        let groups: BTreeSet<GroupId> = self.rows.keys().map(group_of_row).collect();
        self.unanswered = groups.len();
        self.unasked = groups.into_iter().collect();
    }

    fn learn(&mut self, group: GroupId, found: FoundRows) {
        self.unanswered -= 1;
        self.cut_of_round = self.cut_of_round.max(found.cut);
        let of_group = self.rows.iter_mut().filter(|(at, _)| group_of_row(at) == group);
        for ((_, seen), found) in of_group.zip(found.rows) {
            if let FoundRow::Is(version, value) = found {
                self.has_changed = true;
                *seen = (Some(version), value);
            }
        }
    }
}

impl Looked {
    /// What it found among these.
    fn only(&self, transfers: &BTreeSet<u64>) -> BTreeSet<u64> {
        self.found.intersection(transfers).copied().collect()
    }
}
