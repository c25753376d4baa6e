//! Puts the checkers to a history.

use std::collections::BTreeMap;

use crate::acknowledged::{self, Ledger};
use crate::history::{History, KeyId, Operation, Outcome};
use crate::linearizability::{self, Verdict};
use crate::places::Place;
use crate::sessions;

/// Steps of the search for one register; real histories take fewer than 10,000.
const STEPS_MAX: u64 = 1_000_000;
/// Operations shown around the one that cannot be explained.
const SHOWN: usize = 12;

/// What the checkers say.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Everything that is wrong, and everything that could not be judged.
    pub wrong: Vec<String>,
}

/// Judges every place.
#[must_use]
pub fn judge(history: &History, places: &[Place], ledgers: &BTreeMap<KeyId, Ledger>) -> Judged {
    let mut judged = Judged::default();
    let keys = history.by_key();
    for place in places {
        let operations = keys.get(&place.id).map(Vec::as_slice).unwrap_or_default();
        if place.is_ledger {
            judged.wrong.extend(sessions::check(place.id, operations));
            // A ledger that could not be read is reported by who tried to read it.
            if let Some(found) = ledgers.get(&place.id) {
                let wrong = acknowledged::check(operations, found);
                judged.wrong.extend(wrong.into_iter().map(|what| format!("{place:?}: {what}")));
            }
            continue;
        }
        let events = linearizability::events(operations.iter().copied());
        match linearizability::check(&events, STEPS_MAX) {
            Verdict::Linearizable => {}
            Verdict::Undecided => {
                let asked = events.len();
                judged.wrong.push(format!("{place:?}: {asked} operations are too hard to judge"));
            }
            Verdict::Violation { stuck, fitted } => {
                let at = events[stuck].invoked;
                let around = around(operations, at);
                judged.wrong.push(format!(
                    "{place:?} is not linearizable: {fitted} of {} operations fit, then this one \
                     does not: {:?}\n{around}",
                    events.len(),
                    events[stuck]
                ));
            }
        }
    }
    judged
}

/// Operations shortly before and after a moment, one a line.
fn around(operations: &[&Operation], at: u64) -> String {
    let position = operations.partition_point(|operation| operation.invoked < at);
    let from = position.saturating_sub(SHOWN);
    let upto = (position + SHOWN / 2).min(operations.len());
    let unknown = operations[..from].iter().filter(|it| matches!(it.outcome, Outcome::Unknown));
    let lines = unknown.chain(&operations[from..upto]).map(|operation| {
        let (invoked, returned) = (operation.invoked as f64 / 1e9, operation.returned as f64 / 1e9);
        let Operation { process, action, outcome, .. } = operation;
        format!("  {invoked:.6}..{returned:.6} {process} {action:?} {outcome:?}")
    });
    lines.collect::<Vec<String>>().join("\n")
}
