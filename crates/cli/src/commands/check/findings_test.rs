//! Findings about clusters in every state: the answers are those of the tests of `quorate status`.

use quorate_types::{Ballot, Code, Error, ReplicaId};

use super::*;
use crate::commands::status::judge::tests::{all_up, topology};
use crate::commands::status::judge::{Told, judge};

const METRICS: &str =
    "quorate_log_has_room 1\nquorate_log_size_bytes 10\nquorate_log_cap_bytes 100\n";

fn found(answers: &Answers, change: impl FnOnce(&mut Seen<'_>)) -> Vec<Finding> {
    let topology = topology();
    let verdict = judge(&topology, answers, &Told::new());
    let metrics = topology.nodes().map(|node| (node.id, Ok(METRICS.to_owned()))).collect();
    let undecided = BTreeMap::new();
    let mut seen = Seen { topology: &topology, answers, verdict: &verdict, metrics, undecided };
    change(&mut seen);
    find(&seen)
}

/// What is worse than a notice.
fn words(found: &[Finding]) -> Vec<(&'static str, &'static str)> {
    let worse = found.iter().filter(|finding| finding.severity != Severity::Notice);
    worse.map(|finding| (finding.severity.word(), finding.check)).collect()
}

#[test]
fn a_cluster_in_order_has_nothing_but_leaders_to_move() {
    // Goal: silence means that nothing is wrong: what is lost by design is no finding. Leaders that
    // stay where they are not wanted most are told, with where they are wanted.
    let found = found(&all_up(), |_| {});
    assert_eq!(words(&found), []);
    let away: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(
        away,
        ["n1 leads RZ01/g2, GZ/g5, and n2 is wanted", "n1 leads RZ02/g3, and n3 is wanted"]
    );
}

#[test]
fn a_lost_node_makes_the_next_loss_critical() {
    // Goal: the operator reads what the next loss stops, before it happens.
    let mut answers = all_up();
    answers.insert(NodeId(3), Err(Error::new(Code::Unreachable, "connection refused")));
    let found = found(&answers, |_| {});
    let silent = found.iter().find(|finding| finding.check == "node").unwrap();
    assert_eq!(silent.what, "n3 does not answer: UNREACHABLE: connection refused");
    assert_eq!(silent.severity, Severity::Warning);
    let first = &found[0];
    assert_eq!((first.severity, first.check), (Severity::Critical, "survival"));
    assert_eq!(
        first.what,
        "the loss of node n1 would stop RZ00/g1, RZ01/g2, RZ02/g3, RZ03/g4, GZ/g5"
    );
    // The city is by design, and an IDC is told by the node in it.
    let losses = found.iter().filter(|finding| finding.check == "survival");
    assert_eq!(losses.count(), 2);

    answers.insert(NodeId(2), Err(Error::new(Code::Unreachable, "connection refused")));
    let found = self::found(&answers, |_| {});
    assert!(found.iter().all(|finding| finding.check != "survival"), "they are stopped already");
    assert_eq!(words(&found)[0], ("critical", "group"));
}

#[test]
fn scopes_leave_out_what_concerns_others() {
    // Goal: `check unit` and `check node` show what concerns them, and only that.
    let mut answers = all_up();
    let status = answers.get_mut(&NodeId(1)).unwrap().as_mut().unwrap();
    status.groups[0].serving = false;
    let found = found(&answers, |_| {});
    assert_eq!(words(&found), [("critical", "group")]);
    let topology = topology();
    let covers = |scope: Scope| scope.covers(&topology, &found[0]);
    assert!(covers(Scope::Unit("RZ00".to_owned())));
    assert!(!covers(Scope::Unit("RZ01".to_owned())));
    assert!(covers(Scope::Node(NodeId(2))));
}

#[test]
fn disks_versions_and_transactions_are_found() {
    // Goal: what stops a cluster later is found while it still serves.
    let mut answers = all_up();
    let status = answers.get_mut(&NodeId(2)).unwrap().as_mut().unwrap();
    status.topology_version = 9;
    status.disk_free_bytes = status.disk_total_bytes / 10;
    let attempt = Attempt {
        group: GroupId(1),
        ballot: Ballot { round: 1, replica: ReplicaId(1) },
        counter: 1,
    };
    let found = found(&answers, |seen| {
        let full = "quorate_log_has_room 0\nquorate_log_size_bytes 95\nquorate_log_cap_bytes 100\n\
                    quorate_log_disk_slow 1\n";
        seen.metrics.insert(NodeId(1), Ok(full.to_owned()));
        seen.metrics.insert(NodeId(3), Err("connection refused".to_owned()));
        seen.undecided.insert(attempt, BTreeSet::from([GroupId(2)]));
    });
    assert_eq!(
        words(&found),
        [
            ("critical", "log-room"),
            ("warning", "cluster-file"),
            ("warning", "disk-free"),
            ("warning", "log-cap"),
            ("warning", "log-disk"),
            ("warning", "metrics"),
            ("warning", "undecided-transaction"),
        ]
    );
}
