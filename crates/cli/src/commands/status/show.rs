//! A verdict as tables for people and as a document for programs.

use std::time::Duration;

use quorate_client::{NodeStatus, Role};
use quorate_topology::{Level, Node, ReplicaKind, Topology};
use quorate_types::{Error, NodeId};
use serde_json::{Value, json};

use super::judge::{Answers, GroupState, GroupVerdict, Verdict};
use crate::output::{Cell, Document, Output, Table, Tone, error_json};

/// Prints everything: the tables, or the document.
pub(super) fn show(out: &Output, topology: &Topology, answers: &Answers, verdict: &Verdict) {
    if out.is_json() {
        out.document(&document(topology, answers, verdict));
        return;
    }
    out.say(format_args!(
        "cluster {} ({}), topology version {}",
        topology.name(),
        topology.cluster_id(),
        topology.version()
    ));
    let tone = if verdict.is_healthy() { Tone::Good } else { Tone::Bad };
    out.say(out.paint(tone, verdict.headline()));
    out.say(verdict.survival.headline());
    out.say("");
    out.table(&nodes_table(topology, answers));
    out.say("");
    out.table(&groups_table(topology, verdict));
    out.say("");
    for group in &verdict.survival.groups {
        out.say(group.words());
    }
    for group in &verdict.groups {
        if let Some(words) = change_words(topology, group) {
            out.say(words);
        }
    }
    for warning in &verdict.warnings {
        out.warn(warning);
    }
}

/// `RZ00/g1: suspended: n2; learners: n4; a change of its voters is under way`, if there is anything to say.
fn change_words(topology: &Topology, group: &GroupVerdict) -> Option<String> {
    let read_only = |node: &NodeId| {
        let mut members = group.members.iter();
        members.any(|it| it.node == *node && it.kind == ReplicaKind::ReadOnly)
    };
    let learners = group.learners.iter().filter(|node| !read_only(node)).copied();
    let named = |what: &str, nodes: &[NodeId]| {
        let names: Vec<String> = nodes.iter().map(|node| name_of(topology, *node)).collect();
        (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")))
    };
    let change = group.is_changing.then(|| "a change of its voters is under way".to_owned());
    let parts = [
        named("suspended", &group.suspended),
        named("learners", &learners.collect::<Vec<NodeId>>()),
        change,
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("{}: {}", group.label, parts.join("; ")))
}

/// Every configured node, the silent ones with the reason.
pub(super) fn nodes_table(topology: &Topology, answers: &Answers) -> Table {
    let header =
        ["NODE", "PLACE", "ADDRESS", "STATE", "LEADS", "GROUPS", "UPTIME", "DISK FREE", "VERSION"];
    let mut table = Table::new(&header);
    for node in topology.nodes() {
        let place = format!("{}.{}.{}", node.city, node.idc, node.zone);
        let front =
            [Cell::from(node.name.as_str()), Cell::from(place), node.client.as_str().into()];
        let back: [Cell; 6] = match answer_of(answers, node) {
            Ok(status) => [
                state_cell(status),
                leads(status).to_string().into(),
                status.groups.len().to_string().into(),
                short_duration(status.uptime).into(),
                disk_free(status).into(),
                status.version.as_str().into(),
            ],
            Err(error) => [
                Cell::toned(Tone::Bad, format!("{}: {}", error.code, error.message)),
                dash(),
                topology.groups_of_node(node.id).count().to_string().into(),
                dash(),
                dash(),
                dash(),
            ],
        };
        table.row(front.into_iter().chain(back));
    }
    table
}

/// Every configured group.
pub(super) fn groups_table(topology: &Topology, verdict: &Verdict) -> Table {
    let header = [
        "GROUP",
        "STATE",
        "KINDS",
        "LEADER",
        "HOME",
        "LEASE",
        "BALLOT",
        "COMMITTED",
        "CAUGHT UP",
        "LAG",
        "NOT CAUGHT UP",
    ];
    let mut table = Table::new(&header);
    for group in &verdict.groups {
        let tone = if group.state == GroupState::Serving { Tone::Good } else { Tone::Bad };
        let missing: Vec<String> = group
            .missing()
            .map(|member| format!("{} {}", name_of(topology, member.node), member.state.word()))
            .collect();
        let or_dash = |text: Option<String>| text.map_or_else(dash, Cell::from);
        table.row([
            Cell::from(group.label.as_str()),
            Cell::toned(tone, group.state.word()),
            group.members.iter().map(|member| member.kind.letter()).collect::<String>().into(),
            or_dash(group.leader.map(|node| name_of(topology, node))),
            home_cell(topology, group),
            or_dash(group.lease_remaining.map(|left| format!("{} ms", left.as_millis()))),
            or_dash(group.ballot.clone()),
            or_dash(group.slot_committed.map(|slot| slot.to_string())),
            format!("{}/{}", group.caught_up, group.voter_count).into(),
            or_dash(group.lag_slots_max().map(|lag| lag.to_string())),
            Cell::toned(Tone::Warn, missing.join(", ")),
        ]);
    }
    table
}

/// The document of `quorate status -o json`.
pub(super) fn document(topology: &Topology, answers: &Answers, verdict: &Verdict) -> Document {
    let nodes: Vec<Value> =
        topology.nodes().map(|node| node_json(node, answer_of(answers, node))).collect();
    let groups: Vec<Value> =
        verdict.groups.iter().map(|group| group_json(topology, verdict, group)).collect();
    let silent = topology.nodes().filter_map(|node| {
        let error = answer_of(answers, node).err()?;
        let mut json = error_json(&error, None);
        json["node"] = json!(node.name);
        Some(json)
    });
    let mut document = Document::new("status").of_cluster(topology.cluster_id()).item(json!({
        "healthy": verdict.is_healthy(),
        "headline": verdict.headline(),
        "cluster_name": topology.name(),
        "topology_version": topology.version().to_string(),
        "nodes_answered": verdict.answered,
        "nodes_configured": verdict.node_count,
        "survives": survives_json(verdict),
        "nodes": nodes,
        "groups": groups,
        "warnings": verdict.warnings,
    }));
    document.errors.extend(silent);
    document
}

fn survives_json(verdict: &Verdict) -> Value {
    let survival = &verdict.survival;
    let level = |level: Level| {
        let critical: Vec<Value> = survival
            .critical(level)
            .into_iter()
            .map(|(place, groups)| json!({ "place": place, "stops_groups": groups }))
            .collect();
        json!({ "any_one": survival.any_one(level), "critical": critical })
    };
    json!({
        "headline": survival.headline(),
        "node": level(Level::Node),
        "zone": level(Level::Zone),
        "idc": level(Level::Idc),
        "city": level(Level::City),
    })
}

fn node_json(node: &Node, answer: Result<&NodeStatus, Error>) -> Value {
    let mut json = json!({
        "node": node.name,
        "node_id": node.id.0,
        "city": node.city,
        "idc": node.idc,
        "zone": node.zone,
        "client": node.client,
        "answered": answer.is_ok(),
        "error": answer.as_ref().err().map(|error| error_json(error, None)),
    });
    if let Ok(status) = answer {
        json["ready"] = json!(status.ready);
        json["draining"] = json!(status.draining);
        json["version"] = json!(status.version);
        json["incarnation"] = json!(status.incarnation.to_string());
        json["topology_version"] = json!(status.topology_version.to_string());
        json["uptime_ms"] = json!(status.uptime.as_millis().to_string());
        json["disk_free_bytes"] = json!(status.disk_free_bytes.to_string());
        json["disk_total_bytes"] = json!(status.disk_total_bytes.to_string());
        json["log_bytes"] = json!(status.log_bytes.to_string());
        json["leads"] = json!(leads(status));
    }
    json
}

fn group_json(topology: &Topology, verdict: &Verdict, group: &GroupVerdict) -> Value {
    let members: Vec<Value> = group
        .members
        .iter()
        .map(|member| {
            json!({
                "node": name_of(topology, member.node),
                "kind": member.kind.word(),
                "state": member.state.word(),
                "lag_slots": member.lag_slots.map(|lag| lag.to_string()),
            })
        })
        .collect();
    let survives = verdict.survival.groups.iter().find(|survives| survives.group == group.group);
    json!({
        "group": group.group.to_string(),
        "label": group.label,
        "state": group.state.word(),
        "leader": group.leader.map(|node| name_of(topology, node)),
        "homes": group.homes.iter().map(|node| name_of(topology, *node)).collect::<Vec<_>>(),
        "leader_is_home": group.is_home(),
        "ballot": group.ballot,
        "lease_remaining_ms": group.lease_remaining.map(|left| left.as_millis().to_string()),
        "slot_committed": group.slot_committed.map(|slot| slot.to_string()),
        "voters": group.voter_count,
        "majority": group.majority,
        "caught_up": group.caught_up,
        "learners": group.learners.iter().map(|node| name_of(topology, *node)).collect::<Vec<_>>(),
        "suspended": group.suspended.iter().map(|node| name_of(topology, *node)).collect::<Vec<_>>(),
        "changing": group.is_changing,
        "members": members,
        "survives": survives.map(quorate_topology::Survives::words),
    })
}

fn answer_of<'a>(answers: &'a Answers, node: &Node) -> Result<&'a NodeStatus, Error> {
    match answers.get(&node.id) {
        Some(answer) => answer.as_ref().map_err(Clone::clone),
        None => Err(Error::new(quorate_types::Code::Unreachable, "the node was not asked")),
    }
}

fn name_of(topology: &Topology, node: NodeId) -> String {
    topology.node(node).map_or_else(|| node.to_string(), |node| node.name.clone())
}

/// Whether the leader is where the leader order wants it, else where that is.
fn home_cell(topology: &Topology, group: &GroupVerdict) -> Cell {
    match group.is_home() {
        None => dash(),
        Some(true) => "yes".into(),
        Some(false) => {
            let homes: Vec<String> =
                group.homes.iter().map(|node| name_of(topology, *node)).collect();
            Cell::toned(Tone::Warn, format!("no: {}", homes.join(",")))
        }
    }
}

fn state_cell(status: &NodeStatus) -> Cell {
    if status.draining {
        Cell::toned(Tone::Warn, "shutting down")
    } else if status.ready {
        Cell::toned(Tone::Good, "up")
    } else {
        Cell::toned(Tone::Warn, "starting")
    }
}

/// What a silent node would have told.
fn dash() -> Cell {
    Cell::toned(Tone::Faint, "-")
}

fn leads(status: &NodeStatus) -> usize {
    status.groups.iter().filter(|group| group.role == Role::Leader).count()
}

fn disk_free(status: &NodeStatus) -> String {
    if status.disk_total_bytes == 0 {
        return "unknown".to_owned();
    }
    let percent = u128::from(status.disk_free_bytes) * 100 / u128::from(status.disk_total_bytes);
    format!("{} GiB ({percent} %)", status.disk_free_bytes >> 30)
}

/// The two largest parts of a time span: `1h 2m`, `45s`.
fn short_duration(span: Duration) -> String {
    let seconds = span.as_secs();
    let parts = [(seconds / 86_400, 'd'), (seconds / 3_600 % 24, 'h'), (seconds / 60 % 60, 'm')];
    match parts.iter().position(|(count, _)| 0 < *count) {
        Some(first) => {
            let second = parts.get(first + 1).copied().unwrap_or((seconds % 60, 's'));
            let (count, unit) = parts[first];
            format!("{count}{unit} {}{}", second.0, second.1)
        }
        None => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::{all_up, topology};
    use super::super::judge::{Told, judge};
    use super::*;

    fn one_down() -> Answers {
        let mut answers = all_up();
        let error = Error::new(quorate_types::Code::Unreachable, "connection refused");
        answers.insert(NodeId(3), Err(error));
        answers
    }

    #[test]
    fn tables_show_every_node_and_group() {
        let (topology, answers) = (topology(), one_down());
        assert_eq!(
            nodes_table(&topology, &answers).tabbed(),
            "NODE\tPLACE\tADDRESS\tSTATE\tLEADS\tGROUPS\tUPTIME\tDISK FREE\tVERSION\n\
             n1\tsh.sh-a.sh-a\t127.0.0.1:6440\tup\t5\t5\t1h 1m\t80 GiB (80 %)\t0.1.0\n\
             n2\tsh.sh-b.sh-b\t127.0.0.1:6450\tup\t0\t5\t1h 1m\t80 GiB (80 %)\t0.1.0\n\
             n3\tsh.sh-c.sh-c\t127.0.0.1:6460\tUNREACHABLE: connection refused\t-\t5\t-\t-\t-\n"
        );
        let verdict = judge(&topology, &answers, &Told::new());
        let groups = groups_table(&topology, &verdict).tabbed();
        assert_eq!(
            groups.lines().take(2).collect::<Vec<&str>>(),
            [
                "GROUP\tSTATE\tKINDS\tLEADER\tHOME\tLEASE\tBALLOT\tCOMMITTED\tCAUGHT UP\tLAG\tNOT CAUGHT UP",
                "RZ00/g1\tserving\tFFF\tn1\tyes\t900 ms\t3.1\t20000\t2/3\t0\tn3 unreachable",
            ]
        );
        assert_eq!(groups.lines().count(), 6);
        // Goal: who reads the table sees which leader is not where it should be, and where that is.
        assert!(groups.contains("\nRZ01/g2\tserving\tFFF\tn1\tno: n2\t"), "{groups}");
    }

    #[test]
    fn the_document_lists_every_node_and_the_errors() {
        let (topology, answers) = (topology(), one_down());
        let document = document(&topology, &answers, &judge(&topology, &answers, &Told::new()));
        let item = &document.items[0];
        assert_eq!(item["healthy"], json!(true));
        assert_eq!(item["survives"]["node"]["any_one"], json!(false));
        assert_eq!(item["nodes"].as_array().map(Vec::len), Some(3));
        assert_eq!(item["nodes"][2]["answered"], json!(false));
        assert_eq!(item["nodes"][2]["error"]["code"], json!("UNREACHABLE"));
        assert_eq!(document.errors[0]["node"], json!("n3"));
        assert_eq!(
            item["groups"][0],
            json!({
                "group": "g1",
                "label": "RZ00/g1",
                "state": "serving",
                "leader": "n1",
                "homes": ["n1"],
                "leader_is_home": true,
                "ballot": "3.1",
                "lease_remaining_ms": "900",
                "slot_committed": "20000",
                "voters": 3,
                "majority": 2,
                "caught_up": 2,
                "learners": [],
                "suspended": [],
                "changing": false,
                "members": [
                    {"node": "n1", "kind": "full", "state": "leader", "lag_slots": "0"},
                    {"node": "n2", "kind": "full", "state": "caught-up", "lag_slots": "0"},
                    {"node": "n3", "kind": "full", "state": "unreachable", "lag_slots": null},
                ],
                "survives": "RZ00/g1: n3 is down; does not survive the loss of any node still up; \
                             nor of any IDC still up; nor of city sh (it holds 2 of the 2 voters \
                             still up)",
            })
        );
    }

    #[test]
    fn learners_and_changes_have_a_line() {
        // Goal: who looks while members change sees that they do.
        let (topology, answers) = (topology(), one_down());
        let mut group = judge(&topology, &answers, &Told::new()).groups.remove(0);
        assert_eq!(change_words(&topology, &group), None);
        group.learners = vec![NodeId(2), NodeId(3)];
        let told = change_words(&topology, &group);
        assert_eq!(told.as_deref(), Some("RZ00/g1: learners: n2, n3"));
        group.members[2].kind = ReplicaKind::ReadOnly;
        group.suspended = vec![NodeId(1)];
        group.is_changing = true;
        let told = change_words(&topology, &group).unwrap();
        assert_eq!(
            told,
            "RZ00/g1: suspended: n1; learners: n2; a change of its voters is under way"
        );
    }

    #[test]
    fn time_spans_are_short() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3_660, "1h 1m"), (90_000, "1d 1h")]
        {
            assert_eq!(short_duration(Duration::from_secs(seconds)), text);
        }
    }
}
