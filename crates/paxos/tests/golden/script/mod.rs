//! Runs the commands of a script on a cluster, and says what happens.

pub mod cluster;
mod command;
pub mod print;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cluster::Stage;

/// What became of a script.
pub struct Replayed {
    /// The script with what happened in place of what was recorded, as far as it came.
    pub transcript: String,
    /// The command that panicked.
    pub panic: Option<String>,
}

/// Runs a script from its first command.
pub fn replay(script: &str) -> Replayed {
    let mut stage: Option<Stage> = None;
    let mut transcript = String::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix('>') {
            let command = command.trim();
            let run = catch_unwind(AssertUnwindSafe(|| command::run(&mut stage, command)));
            let _ = writeln!(transcript, "> {command}");
            for event in stage.iter_mut().flat_map(Stage::take_events) {
                let _ = writeln!(transcript, "  {event}");
            }
            if run.is_err() {
                return Replayed { transcript, panic: Some(command.to_owned()) };
            }
        } else if line.is_empty() || line.starts_with('#') {
            let _ = writeln!(transcript, "{line}");
        }
    }
    Replayed { transcript, panic: None }
}
