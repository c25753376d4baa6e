//! Sentences for people: survival as `quorate status` prints it. The data is in `survival.rs`.

use std::collections::BTreeSet;

use crate::survival::{ClusterSurvival, Level, Loss, Survives};

/// Groups named in one sentence; further ones are counted.
const LABELS_MAX: usize = 4;

/// What one group survives, in one line.
pub(crate) fn group_survives(group: &Survives) -> String {
    format!("{}: {}", group.label, sentence(&[group]))
}

/// What a group survives in which each of these counts of votes must have a majority: one, or that of the
/// voters that stay and that of those from before a change.
pub(crate) fn sentence(counts: &[&Survives]) -> String {
    if let Some(stopped) = counts.iter().find(|count| !count.has_majority()) {
        if stopped.majority <= stopped.up_count() {
            return format!(
                "stopped: no full replica is up, which could lead ({})",
                are_down(&stopped.down)
            );
        }
        return format!(
            "stopped: {} of {} voters are up, {} are needed ({})",
            stopped.up_count(),
            stopped.voter_count,
            stopped.majority,
            are_down(&stopped.down)
        );
    }
    let mut sentence = String::new();
    let mut down: Vec<String> = Vec::new();
    for name in counts.iter().flat_map(|count| &count.down) {
        if !down.contains(name) {
            down.push(name.clone());
        }
    }
    if !down.is_empty() {
        sentence.push_str(&format!("{}; ", are_down(&down)));
    }
    let mut levels: Vec<Level> = counts.iter().flat_map(|count| count.levels_in_words()).collect();
    levels.sort_unstable();
    levels.dedup();
    let mut survived_before = None;
    for level in levels {
        let clause = level_clause(counts, level);
        sentence.push_str(match (survived_before, clause.survived) {
            (None, true) => "survives the loss of ",
            (None, false) => "does not survive the loss of ",
            (Some(true), true) => "; of ",
            (Some(true), false) => "; not of ",
            (Some(false), _) => "; nor of ",
        });
        sentence.push_str(&clause.words);
        survived_before = Some(clause.survived);
    }
    sentence
}

struct Clause {
    survived: bool,
    words: String,
}

/// One level: all of its places, none, or those that must not be lost.
fn level_clause(counts: &[&Survives], level: Level) -> Clause {
    if counts.iter().all(|count| count.any_one(level)) {
        return Clause { survived: true, words: format!("any one {level}") };
    }
    let mut all: BTreeSet<&str> = BTreeSet::new();
    let mut fatal: Vec<(&Survives, &Loss)> = Vec::new();
    for count in counts {
        for loss in count.at(level).filter(|loss| 0 < loss.voters_up) {
            all.insert(&loss.place);
            if !loss.survived && fatal.iter().all(|(_, known)| known.place != loss.place) {
                fatal.push((count, loss));
            }
        }
    }
    if 1 < fatal.len() && fatal.len() == all.len() {
        let is_whole = counts.iter().all(|count| count.down.is_empty());
        let still_up = if is_whole { "" } else { " still up" };
        return Clause { survived: false, words: format!("any {level}{still_up}") };
    }
    let named: Vec<String> = fatal.iter().map(|(count, loss)| place_words(count, loss)).collect();
    Clause { survived: false, words: format!("{level} {}", named.join(" or ")) }
}

fn place_words(group: &Survives, loss: &Loss) -> String {
    if group.majority <= group.up_count() - loss.voters_up {
        return format!("{} (only there a replica could lead)", loss.place);
    }
    if group.down.is_empty() {
        format!("{} (it holds {} of {} voters)", loss.place, loss.voters_held, group.voter_count)
    } else {
        let (held, up) = (loss.voters_up, group.up_count());
        format!("{} (it holds {held} of the {up} voters still up)", loss.place)
    }
}

fn are_down(names: &[String]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb} down", names.join(", "))
}

/// What the whole cluster survives, in one line.
pub(crate) fn headline(cluster: &ClusterSurvival) -> String {
    let stopped: Vec<String> = cluster
        .groups
        .iter()
        .filter(|group| !group.has_majority())
        .map(|group| group.label.clone())
        .collect();
    if !stopped.is_empty() {
        return format!("without a majority: {}", labels(&stopped));
    }
    let mut levels: Vec<Level> =
        cluster.groups.iter().flat_map(Survives::levels_in_words).collect();
    levels.sort_unstable();
    levels.dedup();
    let verdicts: Vec<String> = levels.into_iter().map(|level| verdict(cluster, level)).collect();
    format!("survives: {}", verdicts.join("; "))
}

fn verdict(cluster: &ClusterSurvival, level: Level) -> String {
    let critical = cluster.critical(level);
    match critical.as_slice() {
        [] => format!("1 {level} yes"),
        [(place, groups)] => format!("1 {level} NO ({place} stops {})", labels(groups)),
        [(place, groups), more @ ..] => {
            format!("1 {level} NO ({place} stops {}; {} more)", labels(groups), more.len())
        }
    }
}

fn labels(labels: &[String]) -> String {
    if labels.len() <= LABELS_MAX {
        return labels.join(", ");
    }
    format!("{} and {} more", labels[..LABELS_MAX].join(", "), labels.len() - LABELS_MAX)
}

/// The headline, then each group.
pub(crate) fn cluster_survives(cluster: &ClusterSurvival) -> Vec<String> {
    let mut lines = vec![headline(cluster)];
    lines.extend(cluster.groups.iter().map(group_survives));
    lines
}
