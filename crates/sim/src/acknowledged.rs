//! Is everything there that was acknowledged, once, and nothing else?
//!
//! A ledger is a counter and a set of rows of one user. Each append adds 1 to the counter and writes a
//! row of its own in one transaction. So at the end the counter equals the number of rows, every
//! acknowledged row is there, no refused one is, and the sums that appends were told are all different:
//! a write that took effect twice shows in each of these.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Action, Answer, Operation, Outcome};

/// What is found in a ledger at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The counter; 0 without a row.
    pub count: i64,
    /// The numbers of the rows.
    pub rows: BTreeSet<u64>,
}

/// Everything that is wrong with a ledger, given all operations on it and what is in it at the end.
pub fn check(operations: &[&Operation], found: &Ledger) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut outcomes: BTreeMap<u64, &Outcome> = BTreeMap::new();
    for operation in operations {
        if let Action::Append(row) = operation.action {
            outcomes.insert(row, &operation.outcome);
        }
    }
    for (row, outcome) in &outcomes {
        match outcome {
            Outcome::Applied(_) if !found.rows.contains(row) => {
                wrong.push(format!("row {row} was acknowledged and is missing"));
            }
            Outcome::NotApplied { code, .. } if found.rows.contains(row) => {
                wrong.push(format!("row {row} is there although it was refused with {code}"));
            }
            Outcome::Applied(_) | Outcome::NotApplied { .. } | Outcome::Unknown => {}
        }
    }
    for row in found.rows.iter().filter(|row| !outcomes.contains_key(row)) {
        wrong.push(format!("row {row} is there and nobody wrote it"));
    }
    if found.count != found.rows.len() as i64 {
        wrong.push(format!(
            "the counter is {}, but there are {} rows",
            found.count,
            found.rows.len()
        ));
    }
    let applied = outcomes.values().filter(|it| matches!(it, Outcome::Applied(_))).count() as i64;
    let unknown = outcomes.values().filter(|it| matches!(it, Outcome::Unknown)).count() as i64;
    if found.count < applied || applied + unknown < found.count {
        wrong.push(format!(
            "the counter is {}, not between {applied} (acknowledged) and {} (with unknown ones)",
            found.count,
            applied + unknown
        ));
    }
    wrong.extend(doubled_sums(operations));
    wrong.extend(impossible_counts(operations));
    wrong
}

/// Two appends that were told the same sum: one of them did not count.
fn doubled_sums(operations: &[&Operation]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut sums: BTreeMap<i64, u64> = BTreeMap::new();
    for operation in operations {
        if let (Action::Append(row), Outcome::Applied(Answer::Sum(sum))) =
            (&operation.action, &operation.outcome)
            && let Some(other) = sums.insert(*sum, *row)
        {
            wrong.push(format!("appends of row {other} and of row {row} both made the sum {sum}"));
        }
    }
    wrong
}

/// A counter read below what was acknowledged before the read was asked, or above what was asked before
/// it was answered.
fn impossible_counts(operations: &[&Operation]) -> Vec<String> {
    let appends = || operations.iter().filter(|it| matches!(it.action, Action::Append(_)));
    let mut acknowledged: Vec<u64> = appends()
        .filter(|it| matches!(it.outcome, Outcome::Applied(_)))
        .map(|it| it.returned)
        .collect();
    let mut possible: Vec<u64> = appends()
        .filter(|it| !matches!(it.outcome, Outcome::NotApplied { .. }))
        .map(|it| it.invoked)
        .collect();
    acknowledged.sort_unstable();
    possible.sort_unstable();
    let mut wrong = Vec::new();
    for operation in operations {
        let (Action::Count, Outcome::Applied(Answer::Sum(count))) =
            (&operation.action, &operation.outcome)
        else {
            continue;
        };
        let least =
            acknowledged.partition_point(|returned| *returned < operation.seen_from()) as i64;
        let most = possible.partition_point(|invoked| *invoked <= operation.returned) as i64;
        if *count < least || most < *count {
            let at = operation.invoked as f64 / 1e9;
            wrong.push(format!(
                "the counter was read as {count} at {at:.6} s, possible were {least} to {most}"
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(row: u64, outcome: Outcome) -> Operation {
        let (invoked, returned) = (10 * row, 10 * row + 5);
        Operation {
            process: 1,
            key: 1,
            action: Action::Append(row),
            invoked,
            stale: 0,
            returned,
            outcome,
        }
    }

    fn applied(sum: i64) -> Outcome {
        Outcome::Applied(Answer::Sum(sum))
    }

    fn refused() -> Outcome {
        Outcome::NotApplied { code: "OVERLOADED".to_owned(), is_refusal: false }
    }

    fn ledger(count: i64, rows: &[u64]) -> Ledger {
        Ledger { count, rows: rows.iter().copied().collect() }
    }

    fn problems(operations: &[Operation], found: &Ledger) -> Vec<String> {
        check(&operations.iter().collect::<Vec<_>>(), found)
    }

    /// Goal: what is acknowledged must be there, what is unknown may be.
    #[test]
    fn unknown_rows_may_be_there_and_acknowledged_ones_must() {
        let operations = [append(1, applied(1)), append(2, Outcome::Unknown), append(3, refused())];
        assert_eq!(problems(&operations, &ledger(1, &[1])), [""; 0]);
        assert_eq!(problems(&operations, &ledger(2, &[1, 2])), [""; 0]);
        let lost = problems(&operations, &ledger(0, &[]));
        assert!(lost[0].contains("row 1 was acknowledged and is missing"), "{lost:?}");
        let refused = problems(&operations, &ledger(2, &[1, 3]));
        assert!(refused[0].contains("refused with OVERLOADED"), "{refused:?}");
        let phantom = problems(&operations, &ledger(2, &[1, 9]));
        assert!(phantom[0].contains("nobody wrote it"), "{phantom:?}");
    }

    /// Goal: a write that took effect twice is seen although its row is there only once.
    #[test]
    fn an_effect_that_doubles_is_found() {
        let operations = [append(1, applied(1)), append(2, applied(3))];
        let twice = problems(&operations, &ledger(3, &[1, 2]));
        assert!(twice[0].contains("the counter is 3, but there are 2 rows"), "{twice:?}");
        let same = [append(1, applied(1)), append(2, applied(1))];
        let same = problems(&same, &ledger(2, &[1, 2]));
        assert!(same[0].contains("both made the sum 1"), "{same:?}");
    }

    /// Goal: a stale read of the counter is found.
    #[test]
    fn a_counter_read_must_be_possible_at_its_time() {
        let count = |read: i64| Operation {
            process: 2,
            key: 1,
            action: Action::Count,
            invoked: 16,
            stale: 0,
            returned: 21,
            outcome: applied(read),
        };
        let operations = |read| [append(1, applied(1)), append(2, applied(2)), count(read)];
        let found = ledger(2, &[1, 2]);
        assert_eq!(problems(&operations(1), &found), [""; 0]);
        assert_eq!(problems(&operations(2), &found), [""; 0]);
        assert!(problems(&operations(0), &found)[0].contains("possible were 1 to 2"));
        assert!(problems(&operations(3), &found)[0].contains("possible were 1 to 2"));
    }
}
