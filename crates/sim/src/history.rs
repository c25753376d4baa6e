//! What clients asked and what they were told, with times. The checkers read nothing else.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value as Json, json};

/// A place that is checked by itself: a register, or the ledger of a user.
pub type KeyId = u32;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read a register.
    Read,
    /// Write a register; `None` removes the row.
    Write(Option<u64>),
    /// Write a register if it holds a value.
    Cas {
        /// The value it must hold; `None` for no row.
        expected: Option<u64>,
        /// The value it gets.
        new: Option<u64>,
    },
    /// In one transaction: add 1 to the counter of a ledger and write a row of this number.
    Append(u64),
    /// Read the counter of a ledger.
    Count,
}

/// What is known about an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect, or was answered.
    Applied(Answer),
    /// It had no effect and will have none.
    NotApplied {
        /// The code of the error.
        code: String,
        /// The refusal says something about the state: a condition did not hold.
        is_refusal: bool,
    },
    /// It may take effect at any time, or never. So is an operation without an outcome.
    Unknown,
}

/// What a successful operation was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing but success.
    Done,
    /// The value of a register.
    Value(Option<u64>),
    /// A sum: of the counter after an append, or as read.
    Sum(i64),
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked. An asker does one thing after the other.
    pub process: u32,
    /// Where.
    pub key: KeyId,
    /// What.
    pub action: Action,
    /// When it was asked, in nanoseconds.
    pub invoked: u64,
    /// How old its answer may have been then, in nanoseconds; 0 for all but reads that said so.
    pub stale: u64,
    /// When the outcome came.
    pub returned: u64,
    /// The outcome.
    pub outcome: Outcome,
}

/// All operations of a run, in the order in which they were asked.
#[derive(Clone, Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
}

impl Operation {
    /// The earliest time whose state it may have seen.
    #[must_use]
    pub fn seen_from(&self) -> u64 {
        self.invoked.saturating_sub(self.stale)
    }
}

impl History {
    /// Notes that something is asked now. The number is for [`History::end`].
    pub fn begin(&mut self, process: u32, key: KeyId, action: Action, now: u64) -> usize {
        let outcome = Outcome::Unknown;
        let operation =
            Operation { process, key, action, invoked: now, stale: 0, returned: now, outcome };
        self.operations.push(operation);
        self.operations.len() - 1
    }

    /// Its answer may be this old, in nanoseconds.
    pub fn may_be_stale(&mut self, number: usize, stale: u64) {
        self.operations[number].stale = stale;
    }

    /// Notes the outcome.
    pub fn end(&mut self, number: usize, outcome: Outcome, now: u64) {
        let operation = &mut self.operations[number];
        operation.returned = now;
        operation.outcome = outcome;
    }

    /// All operations.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operations of each key, in order.
    #[must_use]
    pub fn by_key(&self) -> BTreeMap<KeyId, Vec<&Operation>> {
        let mut keys: BTreeMap<KeyId, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            keys.entry(operation.key).or_default().push(operation);
        }
        keys
    }

    /// Writes the history as JSON lines, an invocation and an end for each operation, in order of
    /// time. An operation whose outcome is unknown ends with `info`, or not at all.
    ///
    /// # Errors
    /// Whatever the writer says.
    pub fn write_json_lines(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut lines: Vec<(u64, Json)> = Vec::with_capacity(2 * self.operations.len());
        for operation in &self.operations {
            lines.push((operation.invoked, invocation(operation)));
            lines.push((operation.returned, end(operation)));
        }
        lines.sort_by_key(|(time, _)| *time); // Stable: an invocation stays before its end.
        for (index, (time, mut line)) in lines.into_iter().enumerate() {
            line["index"] = json!(index);
            line["time"] = json!(time);
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

fn words(operation: &Operation) -> (&'static str, Json) {
    match &operation.action {
        Action::Read => ("read", Json::Null),
        Action::Write(value) => ("write", json!(value)),
        Action::Cas { expected, new } => ("cas", json!([expected, new])),
        Action::Append(row) => ("append", json!(row)),
        Action::Count => ("count", Json::Null),
    }
}

fn invocation(operation: &Operation) -> Json {
    let (f, value) = words(operation);
    let Operation { process, key, .. } = operation;
    json!({"process": process, "type": "invoke", "f": f, "key": key, "value": value})
}

fn end(operation: &Operation) -> Json {
    let (f, asked) = words(operation);
    let Operation { process, key, .. } = operation;
    let (kind, value, error) = match &operation.outcome {
        Outcome::Applied(Answer::Done) => ("ok", asked, Json::Null),
        Outcome::Applied(Answer::Value(value)) => ("ok", json!(value), Json::Null),
        Outcome::Applied(Answer::Sum(sum)) => ("ok", json!(sum), Json::Null),
        Outcome::NotApplied { code, .. } => ("fail", asked, json!(code)),
        Outcome::Unknown => ("info", asked, Json::Null),
    };
    json!({"process": process, "type": kind, "f": f, "key": key, "value": value, "err": error})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: other checkers can read a history: one line for each event, in order of time.
    #[test]
    fn a_history_is_written_as_lines_in_order_of_time() {
        let mut history = History::default();
        let write = history.begin(1, 7, Action::Write(Some(5)), 10);
        let read = history.begin(2, 7, Action::Read, 11);
        history.end(read, Outcome::Applied(Answer::Value(Some(5))), 12);
        history.end(write, Outcome::Unknown, 20);
        let mut out = Vec::new();
        history.write_json_lines(&mut out).unwrap();
        let lines: Vec<Json> = String::from_utf8(out)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let seen: Vec<(u64, &str)> = lines
            .iter()
            .map(|line| (line["time"].as_u64().unwrap(), line["type"].as_str().unwrap()))
            .collect();
        assert_eq!(seen, [(10, "invoke"), (11, "invoke"), (12, "ok"), (20, "info")]);
        assert_eq!(lines[2]["value"], json!(5));
    }
}
