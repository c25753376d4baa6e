//! Does a client ever see time go back? What one client is told of a counter must never fall, and each
//! of its appends must find the counter above everything it was told before: monotonic reads and
//! read-your-writes (Terry and others, "Session guarantees for weakly consistent replicated data").
//!
//! Linearizability implies both. This check needs no clock and no search, so it also judges histories
//! that are too hard for the other one, and says plainly what a client would complain about.

use std::collections::BTreeMap;

use crate::history::{Action, Answer, KeyId, Operation, Outcome};

/// Everything that is wrong with what clients were told of the ledger `key`, in the order in which they
/// asked. A client asks one thing after the other.
#[must_use]
pub fn check(key: KeyId, operations: &[&Operation]) -> Vec<String> {
    let mut told: BTreeMap<u32, i64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for operation in operations {
        let Outcome::Applied(Answer::Sum(sum)) = operation.outcome else {
            continue;
        };
        let before = told.insert(operation.process, sum);
        let is_append = matches!(operation.action, Action::Append(_));
        let fell = before.is_some_and(|before| sum < before || (is_append && sum == before));
        if fell {
            let (process, before) = (operation.process, before.unwrap_or_default());
            let at = operation.invoked as f64 / 1e9;
            wrong.push(format!(
                "client {process} was told {before} of ledger {key}, then at {at:.6} s {sum} by {:?}",
                operation.action
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(process: u32, action: Action, sum: i64) -> Operation {
        let outcome = Outcome::Applied(Answer::Sum(sum));
        Operation { process, key: 7, action, invoked: 0, stale: 0, returned: 0, outcome }
    }

    fn problems(operations: &[Operation]) -> usize {
        check(7, &operations.iter().collect::<Vec<_>>()).len()
    }

    /// Goal: one client's counter may stand still between reads and must rise with its own appends;
    /// another client may still see an older one.
    #[test]
    fn a_client_never_sees_time_go_back() {
        let (read, append) = (Action::Count, Action::Append(1));
        let fine = [
            told(1, append.clone(), 5),
            told(2, read.clone(), 4),
            told(1, read.clone(), 5),
            told(1, read.clone(), 5),
            told(1, append.clone(), 6),
        ];
        assert_eq!(problems(&fine), 0);
        assert_eq!(problems(&[told(1, append.clone(), 5), told(1, read.clone(), 4)]), 1);
        assert_eq!(problems(&[told(1, read.clone(), 5), told(1, read, 4)]), 1);
        assert_eq!(problems(&[told(1, append.clone(), 5), told(1, append, 5)]), 1);
    }
}
