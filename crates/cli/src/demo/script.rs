//! Scripts: lines of verbs with the time between them. The stories of the demo are such scripts.
//!
//! ```text
//!  # a comment
//!  +4s kill idc-of:RZ00     # 4 s after the line before, or later: when the cluster is well again
//! ```

use std::time::Duration;

use quorate_client::Topology;
use quorate_topology::presets::Layout;
use quorate_types::Code;

use super::verbs::{Target, Verb};
use crate::args;
use crate::exit::Failure;

/// Most lines that do something.
const STEPS_MAX: usize = 10_000;
/// Mistakes told at once.
const PROBLEMS_MAX: usize = 20;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// How long after the line before.
    pub(super) after: Duration,
    pub(super) verb: Verb,
}

/// Reads a script; `name` is for messages.
///
/// # Errors
/// `CONFIG_INVALID` with every mistake and its line.
pub(super) fn read(name: &str, text: &str, topology: &Topology) -> Result<Vec<Step>, Failure> {
    let mut steps = Vec::new();
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        match step(&words, topology) {
            Ok(step) => steps.push(step),
            Err(problem) => problems.push(format!("{name}:{number}: {problem}")),
        }
    }
    if STEPS_MAX < steps.len() {
        problems.push(format!("{name}: {} lines do something, at most {STEPS_MAX}", steps.len()));
    }
    if problems.is_empty() {
        return Ok(steps);
    }
    let left_out = problems.len().saturating_sub(PROBLEMS_MAX);
    problems.truncate(PROBLEMS_MAX);
    if 0 < left_out {
        problems.push(format!("and {left_out} more"));
    }
    Err(Failure::new(Code::ConfigInvalid, problems.join("\n"))
        .with_fix("correct the lines; `quorate demo --print-script` shows one that is right"))
}

fn step(words: &[&str], topology: &Topology) -> Result<Step, String> {
    let Some((time, words)) = words.split_first() else { return Err("it is empty".to_owned()) };
    let Some(time) = time.strip_prefix('+') else {
        return Err(format!("{time:?} is no time; a line is +TIME VERB, such as +4s kill n3"));
    };
    let after = if time == "0s" { Duration::ZERO } else { args::duration(time)? };
    Ok(Step { after, verb: Verb::parse(words, topology)? })
}

/// What the demo plays by itself, `rounds` times; the units take turns. Between two lines pass `seconds`.
pub(super) fn story(layout: Layout, topology: &Topology, rounds: u32, seconds: u64) -> String {
    let sharded = topology.groups().filter(|group| !group.slices.is_empty());
    let mut units: Vec<&str> = sharded.map(|group| group.unit.as_str()).collect();
    units.dedup();
    let mut text = String::from(
        "# +TIME VERB: so long after the line before, or later, when all that can serve serves again\n",
    );
    for round in 0..rounds as usize {
        let unit = |turn: usize| units[(round + turn) % units.len().max(1)];
        let mut line = |after: u64, verb: &str| text.push_str(&format!("+{after}s {verb}\n"));
        let leader = |unit: &str| Target::LeaderOf(unit.to_owned());
        match layout {
            Layout::OneCity | Layout::TwoCities | Layout::TwoAndArbiter => {
                line(seconds, &format!("kill {}", leader(unit(0))));
                line(seconds, "restart");
                line(seconds, &format!("stop {}", leader(unit(1))));
                line(seconds, "restart");
            }
            Layout::ThreeCities => {
                line(seconds, &format!("kill {}", leader(unit(1))));
                line(seconds, "restart");
                line(seconds, &format!("kill {}", Target::IdcOf(unit(0).to_owned())));
                line(seconds, "restart");
                line(seconds, "partition sh hz --one-way");
                line(seconds, "heal");
                line(seconds, &format!("kill {}", Target::CityOf(unit(0).to_owned())));
                line(seconds, "restart");
                line(seconds, &format!("stop {}", leader(unit(3))));
                line(seconds, "restart");
            }
        }
        line(seconds, "kill all");
        line(1, "restart");
    }
    text
}

/// How far the cities of a layout are from each other, one way.
pub(super) fn distances(layout: Layout) -> &'static [(&'static str, &'static str, Duration)] {
    const NEAR: Duration = Duration::from_millis(3);
    const FAR: Duration = Duration::from_millis(15);
    match layout {
        Layout::OneCity | Layout::TwoAndArbiter => &[],
        Layout::TwoCities => &[("sh", "hz", NEAR)],
        Layout::ThreeCities => &[("sh", "hz", NEAR), ("sh", "sz", FAR), ("hz", "sz", FAR)],
    }
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, of_layout};
    use quorate_types::ClusterId;

    use super::*;

    fn topology(layout: Layout) -> Topology {
        Topology::parse(&of_layout(layout, 1, &Options::demo(ClusterId(7)))).unwrap()
    }

    #[test]
    fn every_story_can_be_read_and_leaves_nothing_broken() {
        // Goal: what is printed is what is played, and can be changed and played again.
        for layout in Layout::ALL {
            let topology = topology(layout);
            for rounds in 0..5 {
                let text = story(layout, &topology, rounds, 4);
                let steps = read("story", &text, &topology).unwrap_or_else(|e| panic!("{e}"));
                assert_eq!(steps.len() % 6, 0, "{text}");
                let last = steps.last().map(|step| step.verb.clone());
                assert!(matches!(last, None | Some(Verb::Restart(None))), "{text}");
            }
            for (from, to, _) in distances(layout) {
                assert!(topology.cities().iter().any(|city| city.name == *from), "{from}");
                assert!(topology.cities().iter().any(|city| city.name == *to), "{to}");
            }
        }
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        // Goal: nothing starts with a script that would stop half way.
        let text = "# fine\n+4s kill n3\n4s kill n3\n\n+4 kill n3\n+0s explode n3\n+4s kill n77\n";
        let failure = read("s.txt", text, &topology(Layout::OneCity)).expect_err("it is wrong");
        assert_eq!(failure.error().map(|error| error.code), Some(Code::ConfigInvalid));
        let text = failure.to_string();
        for part in [
            "s.txt:3: \"4s\" is no time",
            "s.txt:5: \"4\" is no time span",
            "s.txt:6: \"explode\" is no verb",
            "s.txt:7: \"n77\" is no node",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("s.txt:2"), "{text}");
    }
}
