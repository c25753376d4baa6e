//! Random transactions on a leader with entries in flight, against a plain map.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_types::{
    Code, Condition, EntryId, Mutation, ReplyBody, Request, RequestBody, RowAddress, ScanRange,
    ScannedRow, TableId, Uid, Value,
};

use crate::common::{HOME, Leader, Submitted, slice_of};

/// Rows by slice, table, uid and key: the order of the store.
type Rows = BTreeMap<(u16, TableId, Uid, Bytes), Value>;

/// What a transaction must answer.
type Answer = Result<ReplyBody, Code>;

#[derive(Clone, Debug)]
enum Step {
    Transact { conditions: Vec<Condition>, mutations: Vec<Mutation>, reads: Vec<RowAddress> },
    Get(RowAddress),
    Scan(ScanRange),
    Apply(usize),
    LoseBallot,
}

fn place(at: &RowAddress) -> (u16, TableId, Uid, Bytes) {
    (slice_of(at.table, at.uid).0, at.table, at.uid, at.key.clone())
}

/// A transaction on a copy of the rows, written without any code of the crate.
fn expect(
    rows: &mut Rows,
    conditions: &[Condition],
    mutations: &[Mutation],
    reads: &[RowAddress],
) -> Answer {
    let mut after = rows.clone();
    for condition in conditions {
        let current = after.get(&place(condition.address()));
        let holds = match condition {
            Condition::Exists(_) => current.is_some(),
            Condition::Absent(_) => current.is_none(),
            Condition::Equals(_, value) => current == Some(value),
        };
        if !holds {
            return Err(Code::ConditionFailed);
        }
    }
    let reads = reads.iter().map(|at| after.get(&place(at)).cloned()).collect();
    let mut sums = Vec::new();
    for mutation in mutations {
        let place = place(mutation.address());
        match mutation {
            Mutation::Put(_, value) => drop(after.insert(place, value.clone())),
            Mutation::Delete(_) => drop(after.remove(&place)),
            Mutation::Add { delta, floor, ceiling, .. } => {
                let current = match after.get(&place) {
                    None => 0,
                    Some(Value::Integer(number)) => i128::from(*number),
                    Some(Value::Bytes(_)) => return Err(Code::NotAnInteger),
                };
                let sum = current + i128::from(*delta);
                let Ok(small) = i64::try_from(sum) else { return Err(Code::IntegerOverflow) };
                let above = floor.is_none_or(|floor| i128::from(floor) <= sum);
                let below = ceiling.is_none_or(|ceiling| sum <= i128::from(ceiling));
                if !above || !below {
                    return Err(Code::GuardFailed);
                }
                sums.push(small);
                after.insert(place, Value::Integer(small));
            }
        }
    }
    *rows = after;
    Ok(ReplyBody::Committed { reads, sums })
}

/// The rows a scan must return over all its pages.
fn expect_scan(rows: &Rows, range: &ScanRange) -> Vec<ScannedRow> {
    let slice = range.uid.map_or(range.slice, |uid| slice_of(range.table, uid).0);
    let wanted = |(at, _): &(&(u16, TableId, Uid, Bytes), &Value)| {
        let (row_slice, table, uid, key) = at;
        *row_slice == slice
            && *table == range.table
            && range.uid.is_none_or(|scanned| scanned == *uid)
            && key.starts_with(&range.prefix)
            && range.after.as_ref().is_none_or(|(after, last)| (after, last) < (uid, key))
    };
    let found = |((_, _, uid, key), value): (&(u16, TableId, Uid, Bytes), &Value)| ScannedRow {
        uid: *uid,
        key: key.clone(),
        value: value.clone(),
    };
    rows.iter().filter(wanted).map(found).collect()
}

/// A leader, and what its rows must be: with and without the entries in flight.
struct Checked {
    leader: Leader,
    /// With the entries in flight.
    overlay: Rows,
    applied: Rows,
    /// The rows after each entry in flight, and its reply.
    in_flight: Vec<(EntryId, Rows, ReplyBody)>,
}

impl Checked {
    fn new() -> Checked {
        let (overlay, applied) = (Rows::new(), Rows::new());
        Checked { leader: Leader::new(), overlay, applied, in_flight: Vec::new() }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Transact { conditions, mutations, reads } => {
                self.transact(conditions, mutations, reads);
            }
            Step::Get(at) => {
                assert_eq!(self.leader.value(&at), self.applied.get(&place(&at)).cloned());
            }
            Step::Scan(range) => self.scan(range),
            Step::Apply(count) => {
                for _ in 0..count.min(self.in_flight.len()) {
                    self.apply();
                }
            }
            Step::LoseBallot => {
                self.leader.lose_ballot();
                self.in_flight.clear();
                self.overlay = self.applied.clone();
            }
        }
    }

    fn transact(
        &mut self,
        conditions: Vec<Condition>,
        mutations: Vec<Mutation>,
        reads: Vec<RowAddress>,
    ) {
        // A transaction that changes nothing is a read, and reads see applied rows.
        let only_reads = mutations.is_empty();
        let rows = if only_reads { &mut self.applied } else { &mut self.overlay };
        let want = expect(rows, &conditions, &mutations, &reads);
        let body = RequestBody::Transact { conditions, mutations, reads };
        match (self.leader.submit(&Request { id: None, body }), want) {
            (Submitted::Proposed(at), Ok(body)) if !only_reads => {
                self.in_flight.push((at, self.overlay.clone(), body));
            }
            (Submitted::Read(found), Ok(body)) if only_reads => assert_eq!(found, body),
            (Submitted::Refused(error), Err(code)) => assert_eq!(error.code, code),
            (found, want) => panic!("found {found:?}, want {want:?}"),
        }
    }

    fn scan(&mut self, mut range: ScanRange) {
        let want = expect_scan(&self.applied, &range);
        let mut found = Vec::new();
        loop {
            let body = RequestBody::Scan(range.clone());
            let page = match self.leader.submit(&Request { id: None, body }) {
                Submitted::Read(ReplyBody::Page(page)) => page,
                other => panic!("a scan gave {other:?}"),
            };
            let limit = usize::try_from(range.limit).expect("it is small");
            assert!(limit == 0 || page.rows.len() <= limit);
            found.extend(page.rows);
            assert!(found.len() <= want.len(), "the scan of {range:?} returns too much");
            match page.next {
                None => break,
                next => range.after = next,
            }
        }
        assert_eq!(found, want);
    }

    fn apply(&mut self) {
        let (entry, applied) = self.leader.apply_next();
        let (at, rows, body) = self.in_flight.remove(0);
        let reply = applied.reply.expect("what was proposed takes effect");
        assert_eq!((entry.at, reply.at, reply.body), (at, at, body));
        self.applied = rows;
    }
}

fn any_address() -> impl Strategy<Value = RowAddress> {
    let tables = prop_oneof![3 => Just(TableId(1)), 1 => Just(TableId(2)), 1 => Just(HOME)];
    let uids = prop_oneof![3 => Just(42_u64), 1 => Just(142), 1 => Just(7)];
    let keys = prop_oneof!["a", "b", "a[ab]", Just("\u{ff}".to_owned())];
    (tables, uids, keys).prop_map(|(table, uid, key)| {
        let uid = if table == HOME { Uid(0) } else { Uid(uid) };
        RowAddress { table, uid, key: key.into() }
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (-3_i64..4).prop_map(Value::Integer),
        1 => Just(Value::Integer(i64::MAX)),
        2 => "[xy]?".prop_map(|text| Value::Bytes(text.into())),
    ]
}

fn any_condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        any_address().prop_map(Condition::Exists),
        any_address().prop_map(Condition::Absent),
        (any_address(), any_value()).prop_map(|(at, value)| Condition::Equals(at, value)),
    ]
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    let bound = || proptest::option::weighted(0.3, -4_i64..5);
    let add = (any_address(), -3_i64..4, bound(), bound());
    prop_oneof![
        2 => (any_address(), any_value()).prop_map(|(at, value)| Mutation::Put(at, value)),
        1 => any_address().prop_map(Mutation::Delete),
        4 => add.prop_map(|(at, delta, floor, ceiling)| Mutation::Add { at, delta, floor, ceiling }),
    ]
}

fn any_scan() -> impl Strategy<Value = ScanRange> {
    let after = proptest::option::of(any_address());
    (any_address(), any::<bool>(), "a?", after, 0_u32..4).prop_map(
        |(at, whole_slice, prefix, after, limit)| {
            let slice = slice_of(at.table, at.uid).0;
            let (uid, prefix) = if whole_slice { (None, "") } else { (Some(at.uid), &prefix[..]) };
            let after = after.map(|after| (uid.unwrap_or(after.uid), after.key));
            ScanRange {
                table: at.table,
                uid,
                slice,
                prefix: prefix.to_owned().into(),
                after,
                limit,
            }
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let conditions = vec(any_condition(), 0..2);
    let transaction = (conditions, vec(any_mutation(), 0..5), vec(any_address(), 0..3));
    prop_oneof![
        10 => transaction.prop_map(|(conditions, mutations, reads)| {
            Step::Transact { conditions, mutations, reads }
        }),
        2 => any_address().prop_map(Step::Get),
        2 => any_scan().prop_map(Step::Scan),
        4 => (1_usize..6).prop_map(Step::Apply),
        1 => Just(Step::LoseBallot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Goal: whatever runs before it in the pipeline, a transaction answers and changes what the same
    /// transactions one after the other would; no entry is proposed that then applies differently;
    /// reads and scans show exactly the applied rows.
    #[test]
    fn pipelined_transactions_equal_a_map(steps in vec(any_step(), 1..60)) {
        let mut checked = Checked::new();
        for step in steps {
            checked.step(step);
        }
        checked.step(Step::Apply(usize::MAX));
        prop_assert_eq!(&checked.applied, &checked.overlay);
        for (table, uid) in [(TableId(1), 42), (TableId(2), 7), (HOME, 0)] {
            let slice = slice_of(table, Uid(uid)).0;
            let (prefix, after) = (Bytes::new(), None);
            checked.scan(ScanRange { table, uid: None, slice, prefix, after, limit: 2 });
        }
    }
}
