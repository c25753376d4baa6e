//! Plants a bug and counts the seeds until it is caught: what the schedules and the rules are worth.

use std::io::Write as _;
use std::ops::Range;

use quorate_types::planted::{Bug, plant};

use crate::report;
use crate::run::{Rules, Totals, explore};

/// Prints a line that is seen without `--nocapture` too.
macro_rules! say {
    ($($text:tt)*) => {
        writeln!(std::io::stdout(), $($text)*).expect("stdout is open")
    };
}

/// Hunts a bug in as many disjoint ranges of seeds as `QUORATE_TRIALS` says, and prints one line for each.
pub fn hunt(name: &str, seeds: Range<u64>, steps: u64, rules: Rules) {
    let bug = Bug::from_name(name).unwrap_or_else(|| panic!("no bug is named {name}"));
    plant(bug);
    let trials: u64 =
        std::env::var("QUORATE_TRIALS").map_or(1, |text| text.parse().expect("a number")).max(1);
    let each = (seeds.end - seeds.start) / trials;
    let mut needed: Vec<u64> = Vec::new();
    for trial in 0..trials {
        let first = seeds.start + trial * each;
        match catch(name, first..first + each, steps, rules) {
            Some((seed, message)) => {
                let count = seed - first + 1;
                say!("planted {name} caught by seed {seed} ({count} seeds) : {message}");
                needed.push(count);
            }
            None => say!("planted {name} not caught in {each} seeds"),
        }
    }
    if trials > 1 {
        needed.sort_unstable();
        // A trial without success counts as longer than any other.
        match needed.get(trials as usize / 2) {
            Some(median) => say!("planted {name} median {median} seeds of {trials} trials"),
            None => say!("planted {name} median over {each} seeds of {trials} trials"),
        }
    }
    assert_eq!(needed.len() as u64, trials, "{name} was not caught in every trial");
}

/// The first seed that fails, and the first line of what it says.
fn catch(name: &str, seeds: Range<u64>, steps: u64, rules: Rules) -> Option<(u64, String)> {
    seeds.into_iter().find_map(|seed| {
        let (schedule, failure) = explore(seed, steps, rules, &mut Totals::default())?;
        if std::env::var_os("QUORATE_SHRINK").is_some() {
            let (path, _) = report::report(name, seed, schedule, &failure, rules);
            say!("script: {}", path.display());
        }
        Some((seed, failure.message.lines().next().unwrap_or_default().to_owned()))
    })
}
