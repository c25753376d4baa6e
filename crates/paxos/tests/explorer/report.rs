//! Writes a schedule as a golden script, which anybody may copy to `tests/scripts` and edit.

use std::fmt::Write as _;
use std::path::PathBuf;

use quorate_paxos::LeaseMode;
use quorate_types::ReplicaKind;

use crate::common::cluster::{Clock, Setup};
use crate::common::event::span;
use crate::run::{Ending, Failure, Rules, Schedule, play};
use crate::script;
use crate::shrink::shrink;

/// How many events may be played to cut a failure down: about a minute.
const SHRINK_EVENTS: u64 = 150_000_000;
/// Longer than that is the full length of the calm after a schedule.
const CALM: &str = "+8000ms";
const HANG: &str = "+10000ms";

/// Cuts a failure down and writes it as a script. Returns the way to the file and its text.
pub fn report(
    name: &str,
    seed: u64,
    schedule: Schedule,
    failure: &Failure,
    rules: Rules,
) -> (PathBuf, String) {
    let small = shrink(schedule, SHRINK_EVENTS, |candidate| {
        play(candidate, rules).is_some_and(|other| other.place == failure.place)
    });
    let message = play(&small, rules).map_or_else(String::new, |failure| failure.message);
    let text = script_of(&small, seed, &message);
    let path = folder().join(format!("shrunk_{name}.txt"));
    std::fs::write(&path, &text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (path, text)
}

/// The build folder, else the temporary one.
fn folder() -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    if target.is_dir() { target } else { std::env::temp_dir() }
}

/// The script of a schedule, with what happens.
pub fn script_of(schedule: &Schedule, seed: u64, message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    let mut text =
        format!("# Goal: this no longer happens: {message}\n# Shrunk from seed {seed}.\n\n");
    let _ = writeln!(text, "> {}", start(&schedule.setup));
    let count = schedule.setup.clocks.len() as u64;
    for event in &schedule.events {
        let (first, second) = event.replicas();
        if [first, second].iter().flatten().all(|id| id.0 <= count) {
            let _ = writeln!(text, "> {event}");
        }
    }
    if schedule.ending != Ending::None {
        let _ = writeln!(text, "> calm {CALM}");
    }
    if schedule.ending == Ending::Hang {
        let _ = writeln!(text, "> hang {HANG}");
    }
    let run = script::replay(&text);
    match run.panic {
        None => run.transcript,
        Some(_) => {
            // A rule may notice before what was found happens: the rest shows the way there.
            let is_command = |line: &&str| line.starts_with('>');
            let played = run.transcript.lines().filter(is_command).count();
            let rest: Vec<&str> = text.lines().filter(is_command).skip(played).collect();
            format!("{}# Here it broke.\n{}\n", run.transcript, rest.join("\n"))
        }
    }
}

/// The command that starts such a cluster, short where it is as usual.
fn start(setup: &Setup) -> String {
    let count = setup.clocks.len();
    let plain = Setup::plain(count as u64, setup.mode);
    let mode = match setup.mode {
        LeaseMode::Lease => "lease",
        LeaseMode::ReadIndex => "read-index",
    };
    let mut text = format!("start {count} {mode} by-hand");
    if setup.lease_margin != plain.lease_margin {
        let margin_ns = u64::try_from(setup.lease_margin.as_nanos()).expect("a short span");
        let _ = write!(text, " margin={}", span(margin_ns));
    }
    if setup.settle != plain.settle {
        let settle_ns = u64::try_from(setup.settle.as_nanos()).expect("a short span");
        let _ = write!(text, " settle={}", span(settle_ns));
    }
    if setup.ranks != plain.ranks {
        let ranks: Vec<String> = setup.ranks.iter().map(ToString::to_string).collect();
        let _ = write!(text, " ranks={}", ranks.join(","));
    }
    if setup.clocks != plain.clocks {
        let clocks: Vec<String> = setup.clocks.iter().map(clock).collect();
        let _ = write!(text, " clocks={}", clocks.join(","));
    }
    if setup.beyond_margin {
        text.push_str(" beyond-margin");
    }
    if setup.kinds != plain.kinds {
        let letters: String = setup.kinds.iter().map(|kind| kind.letter()).collect();
        let _ = write!(text, " kinds={letters}");
    }
    if setup.kinds.contains(&ReplicaKind::Arbiter) {
        let _ = write!(text, " suspend={}ms", setup.suspend_after.as_millis());
    }
    if setup.spares != plain.spares {
        let _ = write!(text, " spares={}", setup.spares);
    }
    if setup.log_budget != plain.log_budget {
        let _ = write!(text, " budget={}", setup.log_budget);
    }
    text
}

fn clock(clock: &Clock) -> String {
    let rate = if clock.ppm == 0 { String::new() } else { format!("{:+}ppm", clock.ppm) };
    format!("{}{rate}", span(clock.start_ns))
}
