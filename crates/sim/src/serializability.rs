//! Are transactions over lists strictly serializable? Each appends to lists and reads lists; an element is
//! appended at most once. So every read says which appends came before it and in which order, and from
//! that follows who must precede whom. The search for cycles is that of the crate `adya`, after Kingsbury
//! and Alvaro, "Elle: Inferring isolation anomalies from experimental observations" (VLDB 2020).
//!
//! Three things are looked at besides, because they say plainer what is wrong: elements that were
//! acknowledged and are gone, elements that nobody appended, and long forks: two reads of the same lists
//! of which each has seen something that the other has not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use adya::history::{Interner, Mop, Op, OpType, ReadValue, Scalar};
use adya::{Opts, Valid, Workload};
use serde_json::{Value as Json, json};

/// Reported of each kind of anomaly.
const SHOWN: usize = 2;

/// A list, by its number.
pub type ListId = usize;

/// A step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Appends an element.
    Append(ListId, u64),
    /// Reads a list; `None` until it is known what was read.
    Read(ListId, Option<Vec<u64>>),
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It took effect.
    Committed,
    /// It had no effect and will have none.
    Aborted,
    /// It may have taken effect, or may still.
    Unknown,
}

/// A transaction that was asked for.
#[derive(Clone, Debug)]
struct Transaction {
    process: u32,
    invoked: u64,
    returned: u64,
    steps: Vec<Step>,
    end: End,
}

/// All transactions of a run, in the order in which they were asked for.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    all: Vec<Transaction>,
    /// Which one began (true) or ended, in the order in which that happened.
    events: Vec<(usize, bool)>,
}

impl Transactions {
    /// Notes that a transaction begins now, in ns. The number is for [`Transactions::end`]. A process has
    /// one at a time, and none after one whose outcome is unknown.
    pub fn begin(&mut self, process: u32, steps: Vec<Step>, now: u64) -> usize {
        let (number, end) = (self.all.len(), End::Unknown);
        self.all.push(Transaction { process, invoked: now, returned: now, steps, end });
        self.events.push((number, true));
        number
    }

    /// Notes how it ended, with what it read.
    pub fn end(&mut self, number: usize, steps: Vec<Step>, end: End, now: u64) {
        let transaction = &mut self.all[number];
        (transaction.returned, transaction.end) = (now, end);
        if end == End::Committed {
            transaction.steps = steps;
        }
        self.events.push((number, false));
    }

    /// How many took effect.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.all.iter().filter(|it| it.end == End::Committed).count() as u64
    }

    /// Everything that is wrong. The last transaction has read every list.
    #[must_use]
    pub fn check(&self, names: &[String]) -> Vec<String> {
        let mut wrong = self.lost_and_found(names);
        let report = adya::check(&self.history(names), Workload::ListAppend, &Opts::default());
        for (kind, anomalies) in &report.anomalies {
            for anomaly in anomalies.iter().take(SHOWN) {
                wrong.push(format!("lists, {kind}: {}", anomaly.explanation.trim_end()));
            }
        }
        if report.valid != Valid::True && report.anomalies.is_empty() {
            wrong.push("the transactions over lists could not be judged".to_owned());
        }
        wrong
    }

    /// Pairs of reads of all these lists that disagree on the order of appends.
    #[must_use]
    pub fn long_forks(&self, lists: &[ListId], names: &[String]) -> Vec<String> {
        let reads: Vec<(u64, Vec<usize>)> = self
            .committed_ones()
            .filter_map(|it| {
                let lengths = lists.iter().map(|list| Some(read_of(it, *list)?.len()));
                Some((it.invoked, lengths.collect::<Option<_>>()?))
            })
            .collect();
        let mut wrong = Vec::new();
        for (index, (at, one)) in reads.iter().enumerate() {
            for (other_at, other) in &reads[index + 1..] {
                let pairs = || lists.iter().zip(one.iter().zip(other));
                let behind = pairs().find(|(_, (one, other))| one < other);
                let ahead = pairs().find(|(_, (one, other))| other < one);
                if let (Some((x, (x1, x2))), Some((y, (y1, y2)))) = (behind, ahead) {
                    let (x, y) = (&names[*x], &names[*y]);
                    let (at, other_at) = (*at as f64 / 1e9, *other_at as f64 / 1e9);
                    wrong.push(format!(
                        "lists, long fork: read at {at:.6} s: {x1} elements of {x}, {y1} of {y}; \
                         read at {other_at:.6} s: {x2} of {x}, {y2} of {y}"
                    ));
                }
            }
        }
        wrong.truncate(SHOWN);
        wrong
    }

    fn committed_ones(&self) -> impl DoubleEndedIterator<Item = &Transaction> {
        self.all.iter().filter(|it| it.end == End::Committed)
    }

    /// Acknowledged elements that are missing at the end, and elements from nowhere.
    fn lost_and_found(&self, names: &[String]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut asked: BTreeMap<ListId, BTreeSet<u64>> = BTreeMap::new();
        for step in self.all.iter().flat_map(|it| &it.steps) {
            if let Step::Append(list, element) = step {
                asked.entry(*list).or_default().insert(*element);
            }
        }
        for transaction in self.committed_ones() {
            for (list, elements) in transaction.steps.iter().filter_map(as_read) {
                let asked = asked.get(&list);
                let is_stranger = |it: &&u64| !asked.is_some_and(|asked| asked.contains(it));
                if let Some(stranger) = elements.iter().find(is_stranger) {
                    let name = &names[list];
                    wrong.push(format!("list {name}: {stranger} was read, nobody appended it"));
                }
            }
        }
        let Some(last) = self.committed_ones().next_back() else { return wrong };
        for step in self.committed_ones().flat_map(|it| &it.steps) {
            if let Step::Append(list, element) = step
                && read_of(last, *list).is_some_and(|found| !found.contains(element))
            {
                let name = &names[*list];
                wrong.push(format!("list {name}: {element} was acknowledged and is missing"));
            }
        }
        wrong.truncate(SHOWN);
        wrong
    }

    /// What happened, in order: each transaction, as what, when. Those that never ended end last.
    fn events(&self) -> impl Iterator<Item = (&Transaction, OpType, u64)> {
        let ended: BTreeSet<usize> =
            self.events.iter().filter(|(_, begins)| !begins).map(|(number, _)| *number).collect();
        let open = (0..self.all.len()).filter(move |number| !ended.contains(number));
        let events = self.events.iter().copied().chain(open.map(|number| (number, false)));
        events.map(|(number, begins)| {
            let transaction = &self.all[number];
            let (kind, at) = match (begins, transaction.end) {
                (true, _) => (OpType::Invoke, transaction.invoked),
                (false, End::Committed) => (OpType::Ok, transaction.returned),
                (false, End::Aborted) => (OpType::Fail, transaction.returned),
                (false, End::Unknown) => (OpType::Info, transaction.returned),
            };
            (transaction, kind, at)
        })
    }

    /// Writes the history as JSON lines, in the form that `adya check` and Elle read.
    ///
    /// # Errors
    /// Whatever the writer says.
    pub fn write_json_lines(&self, names: &[String], out: &mut dyn Write) -> io::Result<()> {
        for (index, (transaction, kind, time)) in self.events().enumerate() {
            let value: Vec<Json> = transaction
                .steps
                .iter()
                .map(|step| match step {
                    Step::Append(list, element) => json!(["append", names[*list], element]),
                    Step::Read(list, found) if kind == OpType::Ok => {
                        json!(["r", names[*list], found])
                    }
                    Step::Read(list, _) => json!(["r", names[*list], null]),
                })
                .collect();
            let kind = match kind {
                OpType::Invoke => "invoke",
                OpType::Ok => "ok",
                OpType::Fail => "fail",
                OpType::Info => "info",
            };
            let process = transaction.process;
            let line = json!({"index": index, "time": time, "process": process, "type": kind,
                "f": "txn", "value": value});
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    /// The history as the checker takes it.
    fn history(&self, names: &[String]) -> adya::History {
        let mut interner = Interner::default();
        let mut ops = Vec::with_capacity(2 * self.all.len());
        for (transaction, kind, at) in self.events() {
            let shows_reads = kind == OpType::Ok;
            let steps = transaction.steps.iter();
            let value = steps.map(|step| mop(step, shows_reads, names, &mut interner)).collect();
            let (index, process) = (ops.len() as u64, Some(i64::from(transaction.process)));
            ops.push(Op { index, kind, process, value, time: i64::try_from(at).ok() });
        }
        adya::History::from_ops(ops, interner)
    }
}

fn mop(step: &Step, shows_reads: bool, names: &[String], interner: &mut Interner) -> Mop {
    let mut number = |element: u64| {
        let number = i64::try_from(element).unwrap_or(i64::MAX);
        interner.intern(Scalar::Int(number))
    };
    match step {
        Step::Append(list, element) => {
            let value = number(*element);
            Mop::Append { key: interner.intern(Scalar::Str(names[*list].clone())), value }
        }
        Step::Read(list, found) => {
            let value = match found {
                Some(elements) if shows_reads => {
                    ReadValue::List(elements.iter().map(|it| number(*it)).collect())
                }
                Some(_) | None => ReadValue::Nil,
            };
            Mop::Read { key: interner.intern(Scalar::Str(names[*list].clone())), value }
        }
    }
}

fn as_read(step: &Step) -> Option<(ListId, &[u64])> {
    match step {
        Step::Read(list, Some(elements)) => Some((*list, elements)),
        Step::Read(_, None) | Step::Append(..) => None,
    }
}

/// What a transaction read of a list.
fn read_of(transaction: &Transaction, list: ListId) -> Option<&[u64]> {
    let mut reads = transaction.steps.iter().filter_map(as_read);
    reads.find(|(read, _)| *read == list).map(|(_, elements)| elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: ListId = 0;
    const Y: ListId = 1;

    fn read(list: ListId, elements: &[u64]) -> Step {
        Step::Read(list, Some(elements.to_vec()))
    }

    /// Transactions one after the other; those of one group at the same time.
    fn all(groups: &[&[(Vec<Step>, End)]]) -> Transactions {
        let (mut all, mut now, mut process) = (Transactions::default(), 0, 0);
        for group in groups {
            let numbers: Vec<usize> = group
                .iter()
                .map(|(steps, _)| {
                    (process, now) = (process + 1, now + 1);
                    all.begin(process, steps.clone(), now)
                })
                .collect();
            for (number, (steps, end)) in numbers.into_iter().zip(*group) {
                now += 1;
                all.end(number, steps.clone(), *end, now);
            }
        }
        all
    }

    fn names() -> [String; 2] {
        ["x".to_owned(), "y".to_owned()]
    }

    fn problems(groups: &[&[(Vec<Step>, End)]]) -> Vec<String> {
        let (all, names) = (all(groups), names());
        let mut wrong = all.check(&names);
        wrong.extend(all.long_forks(&[X, Y], &names));
        wrong
    }

    fn done(steps: &[Step]) -> (Vec<Step>, End) {
        (steps.to_vec(), End::Committed)
    }

    fn complains(groups: &[&[(Vec<Step>, End)]], of: &str) {
        let wrong = problems(groups);
        assert!(wrong.iter().any(|what| what.contains(of)), "{of:?} is not in {wrong:?}");
    }

    /// Goal: a history that has an order passes, with an outcome that is unknown either way.
    #[test]
    fn an_order_is_found_where_there_is_one() {
        let unknown = |element| (vec![Step::Append(X, element)], End::Unknown);
        let history: [&[_]; 4] = [
            &[done(&[Step::Append(X, 1), Step::Append(Y, 1)]), unknown(2)],
            &[unknown(3), (vec![Step::Append(Y, 4)], End::Aborted)],
            &[done(&[read(X, &[1, 2]), read(Y, &[1])])],
            &[done(&[read(X, &[1, 2]), read(Y, &[1])])],
        ];
        assert_eq!(problems(&history), [""; 0]);
    }

    /// Goal: write skew, which snapshots allow, is found, and told as a cycle in words.
    #[test]
    fn write_skew_is_a_cycle() {
        let one = done(&[read(X, &[]), read(Y, &[]), Step::Append(X, 1)]);
        let other = done(&[read(X, &[]), read(Y, &[]), Step::Append(Y, 1)]);
        let last = done(&[read(X, &[1]), read(Y, &[1])]);
        let history = [&[one, other][..], std::slice::from_ref(&last)];
        complains(&history, "G2-item");
        complains(&history, "a contradiction");
    }

    /// Goal: a read that misses what was acknowledged before it began is found.
    #[test]
    fn a_stale_read_is_a_cycle_with_time() {
        let history: [&[_]; 3] =
            [&[done(&[Step::Append(X, 1)])], &[done(&[read(X, &[])])], &[done(&[read(X, &[1])])]];
        complains(&history, "realtime");
    }

    /// Goal: what is lost, what comes from nowhere, and what was refused and is there are found.
    #[test]
    fn elements_are_neither_lost_nor_made() {
        let append = |element, end| (vec![Step::Append(X, element)], end);
        let last = |elements: &[u64]| done(&[read(X, elements), read(Y, &[])]);
        let lost = [append(1, End::Committed)];
        complains(&[&lost, &[last(&[])]], "acknowledged and is missing");
        complains(&[&lost, &[last(&[1, 9])]], "nobody appended it");
        complains(&[&lost, &[append(2, End::Aborted)], &[last(&[1, 2])]], "aborted read");
        complains(&[&lost, &[last(&[1, 1])]], "duplicate");
    }

    /// Goal: two reads that each miss what the other has are found.
    #[test]
    fn a_long_fork_is_found() {
        let writes = [done(&[Step::Append(X, 1)]), done(&[Step::Append(Y, 1)])];
        let reads = [done(&[read(X, &[1]), read(Y, &[])]), done(&[read(X, &[]), read(Y, &[1])])];
        let group: Vec<_> = writes.into_iter().chain(reads).collect();
        complains(&[&group, &[done(&[read(X, &[1]), read(Y, &[1])])]], "long fork");
    }

    /// Goal: the lines are what another checker reads, and say the same.
    #[test]
    fn a_history_is_written_for_other_checkers() {
        let history: [&[_]; 2] = [
            &[done(&[Step::Append(X, 1)]), (vec![Step::Append(Y, 2)], End::Unknown)],
            &[done(&[read(X, &[1]), read(Y, &[])])],
        ];
        let (all, mut out) = (all(&history), Vec::new());
        all.write_json_lines(&names(), &mut out).unwrap();
        let read = adya::History::from_json(&String::from_utf8(out).unwrap()).unwrap();
        assert_eq!(read.ops.len(), 6);
        let ours = all.history(&names());
        assert!(read.ops.iter().zip(&ours.ops).all(|(read, ours)| read.kind == ours.kind));
        let report = adya::check(&read, Workload::ListAppend, &Opts::default());
        assert_eq!(report.valid, Valid::True);
    }
}
