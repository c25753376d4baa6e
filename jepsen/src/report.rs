//! What is printed: a line per round and the sum, for people and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use crate::ledger::Tally;

/// What happened in a round.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// From 1.
    pub(crate) number: u64,
    /// Calls that ended in it.
    pub(crate) tally: Tally,
    /// Load before the kill.
    pub(crate) load: Duration,
    /// From the kill to the first acknowledged write after it, if there was one.
    pub(crate) back: Option<Duration>,
    /// From the kill until every node was ready and every group had a leader.
    pub(crate) healthy: Duration,
    /// Rows and counters compared.
    pub(crate) compared: u64,
    /// What was wrong.
    pub(crate) wrong: Vec<String>,
}

/// The titles above the lines.
pub(crate) const TITLES: &str =
    "round     load s     done  not done  unknown   back s  healthy s  compared  wrong";

impl Round {
    /// The round as a line under `TITLES`.
    pub(crate) fn line(&self) -> String {
        let back = self.back.map_or_else(|| "-".to_owned(), seconds);
        format!(
            "{:>5} {:>10} {:>8} {:>9} {:>8} {:>8} {:>10} {:>9} {:>6}",
            self.number,
            seconds(self.load),
            self.tally.done,
            self.tally.not_done,
            self.tally.unknown,
            back,
            seconds(self.healthy),
            self.compared,
            self.wrong.len()
        )
    }

    fn json(&self) -> Value {
        json!({
            "round": self.number,
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

/// The whole run as JSON.
pub(crate) fn document(seed: u64, rounds: &[Round], last: &Round) -> Value {
    let done: u64 = rounds.iter().map(|round| round.tally.done).sum();
    let wrong: usize = rounds.iter().chain([last]).map(|round| round.wrong.len()).sum();
    json!({
        "kind": "kill-loop",
        "seed": seed,
        "rounds": rounds.iter().map(Round::json).collect::<Vec<_>>(),
        "last_check": { "compared": last.compared, "wrong": last.wrong },
        "done": done,
        "wrong": wrong,
    })
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn seconds(span: Duration) -> String {
    format!("{:.2}", span.as_secs_f64())
}
