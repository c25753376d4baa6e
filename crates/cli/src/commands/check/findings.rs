//! What is wrong, from what the nodes say. A pure function: answers in, findings out.

use std::collections::{BTreeMap, BTreeSet};

use quorate_client::Attempt;
use quorate_topology::{Level, Node, Survives, Topology};
use quorate_types::{GroupId, NodeId};

use crate::commands::status::judge::{Answers, GroupState, MemberState, Verdict};
use crate::scrape::sum;

/// A disk with a smaller part of it free is worth a warning.
const DISK_FREE_PERCENT_MIN: u64 = 15;
/// A log that is fuller is near its cap.
const LOG_PERCENT_MAX: f64 = 80.0;
/// Most names in a sentence.
const NAMES_MAX: usize = 5;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Something does not work, or the next loss stops it.
    Critical,
    /// Somebody should look.
    Warning,
    /// Worth knowing.
    Notice,
}

impl Severity {
    pub(super) fn word(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Notice => "notice",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// A stable word for programs.
    pub(super) check: &'static str,
    /// What was found.
    pub(super) what: String,
    /// What it means.
    pub(super) meaning: &'static str,
    /// What to do.
    pub(super) action: String,
    pub(super) nodes: BTreeSet<NodeId>,
    pub(super) groups: BTreeSet<GroupId>,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Cluster,
    Unit(String),
    Node(NodeId),
}

impl Scope {
    /// Whether a finding concerns what is looked at.
    pub(super) fn covers(&self, topology: &Topology, finding: &Finding) -> bool {
        let group_of = |id: &GroupId| topology.group(*id);
        match self {
            Scope::Cluster => true,
            Scope::Unit(name) => {
                let is_of_unit = |id: &GroupId| group_of(id).is_some_and(|g| g.unit == *name);
                let holds = |node: &NodeId| topology.groups_of_node(*node).any(|g| g.unit == *name);
                if finding.groups.is_empty() {
                    finding.nodes.iter().any(holds)
                } else {
                    finding.groups.iter().any(is_of_unit)
                }
            }
            Scope::Node(node) => {
                let is_member = |id: &GroupId| {
                    group_of(id).is_some_and(|group| group.member_on(*node).is_some())
                };
                if finding.nodes.is_empty() {
                    finding.groups.iter().any(is_member)
                } else {
                    finding.nodes.contains(node)
                }
            }
        }
    }
}

/// What is known.
pub(super) struct Seen<'a> {
    pub(super) topology: &'a Topology,
    pub(super) answers: &'a Answers,
    pub(super) verdict: &'a Verdict,
    /// Per node its metrics, or why there are none.
    pub(super) metrics: BTreeMap<NodeId, Result<String, String>>,
    /// Attempts that stay undecided, and the groups that wait.
    pub(super) undecided: BTreeMap<Attempt, BTreeSet<GroupId>>,
}

/// Everything that was found, the worst first.
pub(super) fn find(seen: &Seen<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    groups(seen, &mut found);
    survival(seen, &mut found);
    nodes(seen, &mut found);
    members(seen, &mut found);
    leaders(seen, &mut found);
    for (node, metrics) in &seen.metrics {
        // A silent node has a finding already.
        if matches!(seen.answers.get(node), Some(Ok(_))) {
            disks(&name(seen.topology, *node), *node, metrics, &mut found);
        }
    }
    for (attempt, groups) in &seen.undecided {
        found.push(Finding {
            severity: Severity::Warning,
            check: "undecided-transaction",
            what: format!("{attempt} stays undecided in {}", labels(seen.topology, groups)),
            meaning: "the rows it touches are locked there until it is decided",
            action: format!("`quorate txn show {attempt}` says who is waited for"),
            nodes: BTreeSet::new(),
            groups: groups.clone(),
        });
    }
    found.sort_by_key(|finding| finding.severity);
    found
}

fn groups(seen: &Seen<'_>, found: &mut Vec<Finding>) {
    for group in seen.verdict.groups.iter().filter(|group| group.state != GroupState::Serving) {
        let meaning = match group.state {
            GroupState::NoCaughtUpMajority => "it serves, and cannot commit without more members",
            _ => {
                "nothing is written in it now, and only reads that allow for staleness are answered"
            }
        };
        let missing: Vec<String> = group
            .missing()
            .map(|member| format!("{} {}", name(seen.topology, member.node), member.state.word()))
            .collect();
        found.push(Finding {
            severity: Severity::Critical,
            check: "group",
            what: format!("{} is {} ({})", group.label, group.state.word(), missing.join(", ")),
            meaning,
            action: format!("have {} of its {} voters up", group.majority, group.voter_count),
            nodes: BTreeSet::new(),
            groups: BTreeSet::from([group.group]),
        });
    }
}

/// Places whose loss would stop groups that it would not stop with every node up. A group is told of the
/// smallest place: a node, and of its IDC only where no node alone stops it.
fn survival(seen: &Seen<'_>, found: &mut Vec<Finding>) {
    let whole = seen.topology.survival();
    let by_design: BTreeSet<(GroupId, Level, &str)> = whole.groups.iter().flat_map(stops).collect();
    let mut told: BTreeMap<GroupId, BTreeSet<NodeId>> = BTreeMap::new();
    for level in [Level::Node, Level::Idc, Level::City] {
        let mut places: BTreeMap<&str, BTreeSet<GroupId>> = BTreeMap::new();
        // A group without a majority has a finding of its own: nothing stops it any more.
        for group in seen.verdict.survival.groups.iter().filter(|group| group.has_majority()) {
            for loss in group.at(level).filter(|loss| !loss.survived) {
                let is_new = !by_design.contains(&(group.group, level, loss.place.as_str()));
                let inside = nodes_of(seen.topology, level, &loss.place);
                let is_told =
                    told.get(&group.group).is_some_and(|nodes| !nodes.is_disjoint(&inside));
                if is_new && !is_told {
                    places.entry(&loss.place).or_default().insert(group.group);
                }
            }
        }
        for (place, groups) in places {
            for group in &groups {
                told.entry(*group).or_default().extend(nodes_of(seen.topology, level, place));
            }
            let labels = labels(seen.topology, &groups);
            found.push(Finding {
                severity: Severity::Critical,
                check: "survival",
                what: format!("the loss of {level} {place} would stop {labels}"),
                meaning: "with every node up it would not",
                action: "bring back the members that are down or behind".to_owned(),
                nodes: BTreeSet::new(),
                groups,
            });
        }
    }
}

/// The places whose loss stops a group.
fn stops(group: &Survives) -> impl Iterator<Item = (GroupId, Level, &str)> {
    let fatal = group.losses.iter().filter(|loss| !loss.survived);
    fatal.map(|loss| (group.group, loss.level, loss.place.as_str()))
}

fn nodes_of(topology: &Topology, level: Level, place: &str) -> BTreeSet<NodeId> {
    let is_in = |node: &&Node| match level {
        Level::Node => node.name == place,
        Level::Zone => node.zone == place,
        Level::Idc => node.idc == place,
        Level::City => node.city == place,
    };
    topology.nodes().filter(is_in).map(|node| node.id).collect()
}

fn nodes(seen: &Seen<'_>, found: &mut Vec<Finding>) {
    let topology = seen.topology;
    let about = |node: NodeId, severity, check, what, meaning, action: &str| Finding {
        severity,
        check,
        what,
        meaning,
        action: action.to_owned(),
        nodes: BTreeSet::from([node]),
        groups: BTreeSet::new(),
    };
    let mut versions = BTreeSet::new();
    for node in topology.nodes() {
        let (id, name) = (node.id, &node.name);
        let status = match seen.answers.get(&id) {
            Some(Ok(status)) => status,
            silent => {
                let why = match silent {
                    Some(Err(error)) => format!("{}: {}", error.code, error.message),
                    _ => "it was not asked".to_owned(),
                };
                let what = format!("{name} does not answer: {why}");
                let meaning = "its replicas count as lost";
                let action = "look at its log and start it again";
                found.push(about(id, Severity::Warning, "node", what, meaning, action));
                continue;
            }
        };
        versions.insert(status.version.clone());
        if status.topology_version != topology.version() {
            let (theirs, ours) = (status.topology_version, topology.version());
            let what = format!("{name} routes by cluster file version {theirs}, not {ours}");
            let meaning = "requests are sent to and fro until both are the same";
            let action = "give every node the same cluster file and start it again";
            found.push(about(id, Severity::Warning, "cluster-file", what, meaning, action));
        }
        if status.draining {
            let what = format!("{name} is shutting down");
            let meaning = "it hands its leaderships over and takes none";
            let action = "nothing, if that is meant";
            found.push(about(id, Severity::Notice, "draining", what, meaning, action));
        }
        let free = status.disk_free_bytes.saturating_mul(100);
        let percent = free.checked_div(status.disk_total_bytes).unwrap_or(100);
        if percent < DISK_FREE_PERCENT_MIN {
            let what = format!("{name} has {percent} % of its disk free");
            let meaning = "at 10 % it refuses writes and leads nothing any more";
            let action = "make room on the disk";
            found.push(about(id, Severity::Warning, "disk-free", what, meaning, action));
        }
    }
    if 1 < versions.len() {
        let versions: Vec<String> = versions.into_iter().collect();
        found.push(Finding {
            severity: Severity::Notice,
            check: "versions",
            what: format!("nodes run versions {}", versions.join(", ")),
            meaning: "an upgrade is under way, or was left",
            action: "finish it".to_owned(),
            nodes: topology.nodes().map(|node| node.id).collect(),
            groups: BTreeSet::new(),
        });
    }
}

/// Members that answer and cannot be relied on, by node and state.
fn members(seen: &Seen<'_>, found: &mut Vec<Finding>) {
    let mut behind: BTreeMap<(NodeId, &'static str), BTreeSet<GroupId>> = BTreeMap::new();
    for group in &seen.verdict.groups {
        for member in group.missing() {
            if !matches!(member.state, MemberState::Unreachable | MemberState::Waiting) {
                behind.entry((member.node, member.state.word())).or_default().insert(group.group);
            }
        }
    }
    for ((node, state), groups) in behind {
        let (name, labels) = (name(seen.topology, node), labels(seen.topology, &groups));
        found.push(Finding {
            severity: Severity::Warning,
            check: "member",
            what: format!("{name} is {state} in {labels}"),
            meaning: "these replicas cannot be relied on when something else is lost",
            action: format!("give it time to catch up; then `quorate check node {name}`"),
            nodes: BTreeSet::from([node]),
            groups,
        });
    }
}

/// Leaders that stand where they are less wanted than at a member that is caught up.
fn leaders(seen: &Seen<'_>, found: &mut Vec<Finding>) {
    let mut away: BTreeMap<(NodeId, NodeId), BTreeSet<GroupId>> = BTreeMap::new();
    for verdict in &seen.verdict.groups {
        let (Some(group), Some(leader)) = (seen.topology.group(verdict.group), verdict.leader)
        else {
            continue;
        };
        let rank_of = |node| group.member_on(node).map(|member| member.rank);
        let caught_up =
            verdict.members.iter().filter(|member| member.state == MemberState::CaughtUp);
        let wanted = caught_up.min_by_key(|member| rank_of(member.node));
        if let Some(wanted) = wanted
            && rank_of(wanted.node) < rank_of(leader)
        {
            away.entry((wanted.node, leader)).or_default().insert(verdict.group);
        }
    }
    for ((wanted, leader), groups) in away {
        let (to, from) = (name(seen.topology, wanted), name(seen.topology, leader));
        found.push(Finding {
            severity: Severity::Notice,
            check: "leader-place",
            what: format!("{from} leads {}, and {to} is wanted", labels(seen.topology, &groups)),
            meaning: "leaders stay where they went when a node was lost",
            action: format!("`quorate group transfer-leader GROUP --to {to}`"),
            nodes: BTreeSet::from([wanted, leader]),
            groups,
        });
    }
}

fn disks(name: &str, node: NodeId, metrics: &Result<String, String>, found: &mut Vec<Finding>) {
    let mut add = |severity, check, what, meaning, action: &str| {
        let (nodes, groups) = (BTreeSet::from([node]), BTreeSet::new());
        let action = action.to_owned();
        found.push(Finding { severity, check, what, meaning, action, nodes, groups });
    };
    let text = match metrics {
        Ok(text) => text,
        Err(error) => {
            let what = format!("the admin port of {name} gives no metrics: {error}");
            let meaning = "its log and disk were not checked";
            let action = "make the port reachable from here";
            return add(Severity::Warning, "metrics", what, meaning, action);
        }
    };
    if sum(text, "quorate_log_has_room") < 1.0 {
        let what = format!("log or disk of {name} has reached its reserve");
        let meaning = "it refuses writes";
        let action = "make room, or bring back the members that its log waits for";
        add(Severity::Critical, "log-room", what, meaning, action);
    }
    let percent =
        100.0 * sum(text, "quorate_log_size_bytes") / sum(text, "quorate_log_cap_bytes").max(1.0);
    if LOG_PERCENT_MAX < percent {
        let what = format!("the log of {name} is at {percent:.0} % of its cap");
        let meaning = "it keeps what members have not got yet; at 90 % writes are refused";
        let action = "bring back the members that are away";
        add(Severity::Warning, "log-cap", what, meaning, action);
    }
    for (metric, what) in [
        ("quorate_log_disk_slow", "syncs of the log take over 100 ms"),
        ("quorate_log_disk_hangs", "a write of the log has run for over 5 s"),
    ] {
        if 0.0 < sum(text, metric) {
            let what = format!("{what} at {name}");
            let meaning = "it leads only where no other node can";
            add(Severity::Warning, "log-disk", what, meaning, "look at the disk, or replace it");
        }
    }
}

fn name(topology: &Topology, node: NodeId) -> String {
    topology.node(node).map_or_else(|| node.to_string(), |node| node.name.clone())
}

fn labels(topology: &Topology, groups: &BTreeSet<GroupId>) -> String {
    let labels: Vec<String> = groups
        .iter()
        .map(|id| topology.group(*id).map_or_else(|| id.to_string(), |group| group.label()))
        .collect();
    short(&labels)
}

/// The first names, and how many more there are.
fn short(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).cloned().collect::<Vec<String>>().join(", ");
    match names.len().checked_sub(NAMES_MAX) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
#[path = "findings_test.rs"]
mod tests;
