//! Adds up the lines that passed seeds print.

use std::collections::BTreeMap;
use std::fmt;

/// Counts that are worth a total, in the order in which they are printed.
const TOTALS: [(&str, &str); 22] = [
    ("asked", "calls"),
    ("applied", "acknowledged"),
    ("unknown", "with unknown outcome"),
    ("repeated", "answers asked for again"),
    ("paid", "payments in rows"),
    ("listed", "transactions over lists"),
    ("moved", "transfers"),
    ("kill", "kills"),
    ("power-cut", "power cuts"),
    ("cut", "cuts"),
    ("hold", "held links"),
    ("pause", "pauses"),
    ("slow-disk", "slow or hanging disks"),
    ("hand-over", "hand-overs"),
    ("taken-in", "learners taken in"),
    ("voters-changed", "changes of voters"),
    ("dropped", "learners dropped"),
    ("interrupted", "changes interrupted"),
    ("wipe", "emptied disks"),
    ("lose-rows", "lost rows"),
    ("single-copy", "windows with a single copy"),
    ("lost-messages", "lost messages"),
];

/// What many seeds did.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    pub(super) passed: u64,
    pub(super) failed: u64,
    totals: BTreeMap<String, u64>,
    /// How long groups took no writes, by fault and layout.
    gaps: BTreeMap<String, Vec<u64>>,
}

impl Summary {
    /// Adds the line of a seed that passed.
    pub(super) fn add(&mut self, line: &str) {
        self.passed += 1;
        let layout = if line.contains(" arbiter=true ") { " (2 and an arbiter)" } else { "" };
        for word in line.split_whitespace() {
            let Some((name, value)) = word.split_once('=') else { continue };
            let Ok(value) = value.parse::<u64>() else { continue };
            if name.ends_with("-gap-ms") || name == "recovery-ms" {
                let gap = format!("{}{layout}", name.trim_end_matches("-ms"));
                self.gaps.entry(gap).or_default().push(value);
            } else {
                *self.totals.entry(name.to_owned()).or_default() += value;
            }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = |name: &str| self.totals.get(name).copied().unwrap_or(0);
        let words: Vec<String> = TOTALS
            .iter()
            .filter(|(name, _)| total(name) > 0)
            .map(|(name, words)| format!("{} {words}", total(name)))
            .collect();
        let hours = total("virtual-ms") as f64 / 3_600_000.0;
        writeln!(f, "{hours:.1} virtual hours: {}", words.join(", "))?;
        if !self.gaps.is_empty() {
            writeln!(f, "{:<34} {:>6} {:>8} {:>8} {:>8}", "ms", "runs", "median", "p99", "max")?;
        }
        for (name, values) in &self.gaps {
            let mut values = values.clone();
            values.sort_unstable();
            let at = |share: f64| values[((values.len() - 1) as f64 * share).ceil() as usize];
            let (median, p99, max) = (at(0.5), at(0.99), at(1.0));
            writeln!(f, "{name:<34} {:>6} {median:>8} {p99:>8} {max:>8}", values.len())?;
        }
        Ok(())
    }
}
