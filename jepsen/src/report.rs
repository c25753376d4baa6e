//! What is printed: lines while a fault runs, a table at the end, and the same as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use crate::ledger::Tally;

/// Most wrong things printed at once.
const PRINTED_MAX: usize = 20;

/// What came out of one fault.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The word on the command line.
    pub(crate) fault: &'static str,
    /// Why it was not made at all.
    pub(crate) skipped: Option<String>,
    /// How often it was made.
    pub(crate) rounds: u64,
    /// Writes and adds that were acknowledged.
    pub(crate) done: u64,
    /// Rows and counters compared at the end.
    pub(crate) compared: u64,
    /// Acknowledged writes and adds that were not there.
    pub(crate) missing: u64,
    /// What was wrong, one sentence each.
    pub(crate) wrong: Vec<String>,
    /// What was measured, for the report.
    pub(crate) facts: Value,
}

impl Outcome {
    /// A fault that this machine cannot make.
    pub(crate) fn skipped(fault: &'static str, reason: String) -> Outcome {
        Outcome { skipped: Some(reason), ..Outcome::empty(fault) }
    }

    /// A fault that could not be carried through.
    pub(crate) fn broken(fault: &'static str, reason: String) -> Outcome {
        Outcome { wrong: vec![reason], ..Outcome::empty(fault) }
    }

    fn empty(fault: &'static str) -> Outcome {
        let (rounds, done, compared, missing) = (0, 0, 0, 0);
        let (skipped, wrong, facts) = (None, Vec::new(), Value::Null);
        Outcome { fault, skipped, rounds, done, compared, missing, wrong, facts }
    }

    /// The word for it in the table.
    pub(crate) fn word(&self) -> &'static str {
        match (&self.skipped, self.wrong.is_empty()) {
            (Some(_), _) => "SKIPPED",
            (None, true) => "passed",
            (None, false) => "FAILED",
        }
    }

    fn json(&self) -> Value {
        json!({
            "fault": self.fault,
            "result": self.word().to_lowercase(),
            "skipped": self.skipped,
            "rounds": self.rounds,
            "done": self.done,
            "compared": self.compared,
            "missing": self.missing,
            "wrong": self.wrong,
            "facts": self.facts,
        })
    }
}

/// The table of a run and its sum.
pub(crate) fn summary(outcomes: &[Outcome]) -> String {
    let mut text =
        String::from("fault        result    rounds  acknowledged  compared  missing  wrong\n");
    for outcome in outcomes {
        text += &format!(
            "{:<12} {:<8} {:>7} {:>13} {:>9} {:>8} {:>6}\n",
            outcome.fault,
            outcome.word(),
            outcome.rounds,
            outcome.done,
            outcome.compared,
            outcome.missing,
            outcome.wrong.len()
        );
    }
    let count = |word| outcomes.iter().filter(|outcome| outcome.word() == word).count();
    let (passed, failed, skipped) = (count("passed"), count("FAILED"), count("SKIPPED"));
    text + &format!("{passed} passed, {failed} failed, {skipped} skipped")
}

/// The whole run as JSON.
pub(crate) fn document(seed: u64, outcomes: &[Outcome]) -> Value {
    json!({
        "kind": "crash-run",
        "seed": seed,
        "faults": outcomes.iter().map(Outcome::json).collect::<Vec<_>>(),
    })
}

/// A round of a fault that strikes again and again.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// From 1.
    pub(crate) number: u64,
    /// Which nodes were struck.
    pub(crate) nodes: String,
    /// Calls that ended in it.
    pub(crate) tally: Tally,
    /// Load before the fault.
    pub(crate) load: Duration,
    /// From the fault to the first acknowledged write after it, if there was one.
    pub(crate) back: Option<Duration>,
    /// From the fault until every node was ready and every group had a leader.
    pub(crate) healthy: Duration,
    /// Rows and counters compared.
    pub(crate) compared: u64,
    /// What was wrong.
    pub(crate) wrong: usize,
}

/// The titles above the rounds.
pub(crate) const TITLES: &str =
    "round nodes     load s     done  not done  unknown   back s  healthy s  compared  wrong";

impl Round {
    /// The round as a line under `TITLES`.
    pub(crate) fn line(&self) -> String {
        let back = self.back.map_or_else(|| "-".to_owned(), seconds);
        format!(
            "{:>5} {:<8} {:>7} {:>8} {:>9} {:>8} {:>8} {:>10} {:>9} {:>6}",
            self.number,
            self.nodes,
            seconds(self.load),
            self.tally.done,
            self.tally.not_done,
            self.tally.unknown,
            back,
            seconds(self.healthy),
            self.compared,
            self.wrong
        )
    }

    /// The round as JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "round": self.number,
            "nodes": self.nodes,
            "load_ms": ms(self.load),
            "done": self.tally.done,
            "not_done": self.tally.not_done,
            "unknown": self.tally.unknown,
            "back_ms": self.back.map(ms),
            "healthy_ms": ms(self.healthy),
            "compared": self.compared,
            "wrong": self.wrong,
        })
    }
}

/// Prints what is wrong, but not ten thousand lines of it.
pub(crate) fn print_wrong(wrong: &[String]) {
    for what in wrong.iter().take(PRINTED_MAX) {
        println!("  WRONG: {what}");
    }
    if PRINTED_MAX < wrong.len() {
        println!("  and {} more", wrong.len() - PRINTED_MAX);
    }
}

/// Whole milliseconds.
pub(crate) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds with two decimals.
pub(crate) fn seconds(span: Duration) -> String {
    format!("{:.2}", span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_faults_are_counted_apart() {
        let outcomes = [
            Outcome::empty("kill"),
            Outcome::skipped("power-cut", "needs root".into()),
            Outcome::broken("pause", "a row is lost".into()),
        ];
        let text = summary(&outcomes);
        assert!(text.ends_with("1 passed, 1 failed, 1 skipped"), "{text}");
        assert_eq!(text.lines().count(), 5);
    }
}
