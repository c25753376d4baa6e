//! What servers print, as far as a test reads it: why one ended, what its log held, how far rows have come.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitStatus;

use serde_json::Value;

/// How a process ended that nobody had killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// In which way.
    pub(crate) way: Way,
    /// What it said last.
    pub(crate) reason: String,
}

/// In which way a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// With an error of this stable code.
    Coded(String),
    /// It said that it cannot go on without risking what it acknowledged.
    StoppedItself,
    /// Without a word that was meant for people: a panic, a signal.
    Crashed,
}

/// A step of rows that come from another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// They are asked for.
    Begun,
    /// All are here.
    Here {
        /// Bytes of them, as they were sent.
        bytes: u64,
    },
    /// They are the rows of the group.
    Counts,
}

impl Arrival {
    /// Its place among the steps.
    pub(crate) fn number(self) -> u8 {
        match self {
            Arrival::Begun => 0,
            Arrival::Here { .. } => 1,
            Arrival::Counts => 2,
        }
    }
}

/// What the output of an ended process says about its end.
pub(crate) fn ending(status: ExitStatus, output: &str) -> Ending {
    let find = |text: &str| output.lines().rev().find(|line| line.contains(text));
    let refused = output.lines().rev().find_map(|line| line.strip_prefix("error["));
    if let Some((code, reason)) = refused.and_then(|line| line.split_once("]: ")) {
        let reason = format!("{code}: {reason}");
        return Ending { way: Way::Coded(code.to_owned()), reason };
    }
    if let Some(line) = find("the node stops at once") {
        return Ending { way: Way::StoppedItself, reason: line.to_owned() };
    }
    let last = find("panicked at").or_else(|| output.lines().last()).unwrap_or("it said nothing");
    Ending { way: Way::Crashed, reason: format!("{status}: {last}") }
}

/// The last slots from the lines that a node prints about its groups.
pub(crate) fn restored(output: &str) -> BTreeMap<u32, u64> {
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let groups = lines.filter(|line| line["message"] == "group restored").filter_map(|line| {
        let group = line["group"].as_str()?.trim_start_matches('g').parse().ok()?;
        let (slot, _ballot) = line["last"].as_str()?.split_once('@')?;
        Some((group, slot.parse().ok()?))
    });
    groups.collect()
}

/// The steps that a node says the rows from others have made.
pub(crate) fn arrivals(output: &str) -> Vec<(u32, Arrival)> {
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let steps = lines.filter_map(|line| {
        let group = line["group"].as_str()?.trim_start_matches('g').parse().ok()?;
        let step = match line["message"].as_str()? {
            "fetches rows" => Arrival::Begun,
            "rows are here" => {
                Arrival::Here { bytes: number_in(line["tally"].as_str()?, "bytes: ")? }
            }
            "switched to installed rows" => Arrival::Counts,
            _ => return None,
        };
        Some((group, step))
    });
    steps.collect()
}

/// The number behind a word.
fn number_in(text: &str, word: &str) -> Option<u64> {
    let (_, behind) = text.split_once(word)?;
    let digits = behind.find(|it: char| !it.is_ascii_digit()).unwrap_or(behind.len());
    behind[..digits].parse().ok()
}

/// The groups that a node says may lack what it had acknowledged.
pub(crate) fn suspect(output: &str) -> BTreeSet<u32> {
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_suspect = |line: &Value| {
        let message = line["message"].as_str();
        message.is_some_and(|message| message.starts_with("the log may lack what was acknowledged"))
    };
    let groups = lines
        .filter(is_suspect)
        .filter_map(|line| line["group"].as_str()?.trim_start_matches('g').parse().ok());
    groups.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn restored_slots_are_read_from_the_log_of_a_node() {
        let output = "{\"message\":\"group restored\",\"group\":\"g2\",\"last\":\"1300@8.2\"}\n\
                      not json\n{\"message\":\"ready\"}\n";
        assert_eq!(restored(output), [(2, 1300)].into());
        let output =
            "{\"message\":\"the log may lack what was acknowledged: so\",\"group\":\"g2\"}\n{}\n";
        assert_eq!(suspect(output), [2].into());
    }

    #[test]
    fn rows_on_their_way_are_read_from_the_log_of_a_node() {
        // Goal: what was sent, and when it counts, is what the node itself says.
        let output = "{\"message\":\"fetches rows\",\"group\":\"g1\",\"estimated_bytes\":7}\n\
                      {\"message\":\"rows are here\",\"group\":\"g1\",\
                      \"tally\":\"SnapshotTally { records: 3, bytes: 510, digest: 9 }\"}\n\
                      {\"message\":\"switched to installed rows\",\"group\":\"g2\"}\n";
        let steps = [(1, Arrival::Begun), (1, Arrival::Here { bytes: 510 }), (2, Arrival::Counts)];
        assert_eq!(arrivals(output), steps);
    }

    #[test]
    fn the_end_of_a_process_is_read_from_its_output() {
        // Goal: a coded refusal, a node that stops itself and a panic are told apart.
        let status = ExitStatus::from_raw(256);
        let end = |output| ending(status, output);
        let refused =
            end("{\"level\":\"INFO\"}\nerror[LOG_DAMAGED]: the log is damaged\nfix: keep it\n");
        assert_eq!(refused.way, Way::Coded("LOG_DAMAGED".to_owned()));
        assert_eq!(refused.reason, "LOG_DAMAGED: the log is damaged");
        let stopped = end("{\"message\":\"the node stops at once\"}\nlast line\n");
        assert_eq!(stopped.way, Way::StoppedItself);
        let crashed = end("thread panicked at x.rs:1\nnote: backtrace\n");
        assert_eq!(crashed.way, Way::Crashed);
        assert!(crashed.reason.ends_with("thread panicked at x.rs:1"));
        assert!(end("").reason.ends_with("it said nothing"));
    }
}
