//! Forced recovery as a command makes it: where the replicas of a group stand, what that proves, and what would
//! be done, as lines for people and as documents. Plans are made by `quorate_topology::recovery`.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quorate_client::{HistoryReport, Loss, LossKind, NodeStanding, RecoveryOrder, StandingReport};
use quorate_topology::recovery::{NotRecovered, Recovery, Survivor, plan, proven};
use quorate_topology::{Group, Topology};
use quorate_types::{Code, Error, MemberRole, NodeId, ReplicaId, Slot};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cluster::{self, Cluster};
use crate::exit::Failure;
use crate::members::node_name;
use crate::output::thousands;

/// A follower goes on naming a leader that is gone until its lease is over.
const LEASE_MAX: Duration = Duration::from_secs(5);
/// Between two looks meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);

/// What a look at a group has found.
#[derive(Debug)]
pub(crate) struct Look {
    /// Every node that is said to hold a replica, and what it said.
    pub(crate) nodes: Vec<NodeStanding>,
    /// How it could go on, or why not.
    pub(crate) plan: Result<Recovery, NotRecovered>,
}

/// Asks all nodes twice: where they stand, and which entry they have at the greatest slot that anybody knows to be
/// chosen. Who still follows a leader that is gone is given the time to notice.
pub(crate) async fn look(
    cluster: &Cluster,
    group: &Group,
    keep: Option<&BTreeSet<NodeId>>,
) -> Look {
    let give_up = Instant::now() + LEASE_MAX;
    loop {
        let first = Box::pin(cluster.client().standings(group.id, Slot::ZERO)).await;
        let slot = proven(&survivors(&first)).slot;
        let nodes = Box::pin(cluster.client().standings(group.id, slot)).await;
        let survivors = survivors(&nodes);
        let plan = plan(&survivors, keep);
        let waits = matches!(plan, Err(NotRecovered::Led(_))) && Instant::now() < give_up;
        // Somebody learned more in between.
        let is_outdated = proven(&survivors).slot != slot && Instant::now() < give_up;
        if !waits && !is_outdated {
            return Look { nodes: concerned(nodes), plan };
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// The nodes that hold a replica, or should.
fn concerned(nodes: Vec<NodeStanding>) -> Vec<NodeStanding> {
    let members: BTreeSet<NodeId> = nodes
        .iter()
        .filter_map(|node| node.standing.as_ref().ok())
        .flat_map(|standing| standing.members.iter().map(|(id, ..)| id.node()))
        .collect();
    let is_concerned = |node: &NodeStanding| node.standing.is_ok() || members.contains(&node.node);
    nodes.into_iter().filter(is_concerned).collect()
}

fn survivors(nodes: &[NodeStanding]) -> Vec<Survivor> {
    nodes.iter().filter_map(|node| node.standing.as_ref().ok()).map(survivor).collect()
}

fn survivor(standing: &StandingReport) -> Survivor {
    let members = standing.members.iter().map(|(id, role, kind)| (*id, (*role, *kind)));
    Survivor {
        replica: standing.replica,
        history: (standing.history.number, standing.history.since),
        members: members.collect(),
        members_since: standing.since.slot,
        is_outlived: standing.outlived,
        is_crossing: standing.crossing,
        has_rows: standing.has_rows,
        promised: standing.promised,
        last: standing.last,
        committed: standing.committed,
        at_proven: standing.at_slot,
        leader: standing.leader,
    }
}

/// The order that carries a plan out.
pub(crate) fn order(group: &Group, recovery: &Recovery, reason: &str) -> RecoveryOrder {
    let (number, since) = recovery.history;
    let kept = recovery.kept.union(&recovery.learners).copied().collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    RecoveryOrder {
        group: group.id,
        confirm: group.label(),
        history: HistoryReport { number, since },
        promised: recovery.promised,
        proven: recovery.proven,
        loss: Loss {
            kind: LossKind::ForcedRecovery,
            history_before: number,
            history_after: number + 1,
            proven_through: recovery.proven.slot,
            kept_through: recovery.last.slot,
            kept,
            given_up: recovery.given_up.iter().copied().collect(),
            operator: String::new(),
            reason: reason.to_owned(),
            told_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        },
    }
}

/// Why there is no plan, as a failure.
pub(crate) fn fail(topology: &Topology, group: &Group, refusal: &NotRecovered) -> Failure {
    let label = group.label();
    let name = |node: &NodeId| node_name(topology, *node);
    let text = match refusal {
        NotRecovered::Led(node) => format!("{} follows a leader: it is not lost", name(node)),
        NotRecovered::NotKept(node) => {
            format!("{} has no voter of it that answers", name(node))
        }
        NotRecovered::LacksProven { proven, holders } => {
            let holders: Vec<String> = holders.iter().map(name).collect();
            format!(
                "slot {proven} is known to be chosen, and none of those to be kept has it; keep {}",
                holders.join(" or ")
            )
        }
        other => other.to_string(),
    };
    let failure = Failure::from(Error::new(refusal.code(), format!("{label}: {text}")));
    match refusal {
        NotRecovered::Nobody => failure.with_fix(
            "start a node that has its data; where none is left, restore a backup: `quorate backup restore`",
        ),
        NotRecovered::NotKept(_) | NotRecovered::LacksProven { .. } => {
            failure.with_fix("leave --keep out, or name nodes that --dry-run shows to answer")
        }
        _ => failure,
    }
}

/// `slots 8 to 9`, `slot 8`.
fn slots(from: Slot, to: Slot) -> String {
    if from == to {
        format!("slot {}", thousands(from.0))
    } else {
        format!("slots {} to {}", thousands(from.0), thousands(to.0))
    }
}

fn names(topology: &Topology, replicas: &BTreeSet<ReplicaId>) -> String {
    let names: Vec<String> =
        replicas.iter().map(|replica| node_name(topology, replica.node())).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

/// What is there and what would be done.
pub(crate) fn lines(topology: &Topology, group: &Group, look: &Look) -> Vec<String> {
    let mut lines = vec![format!("{}: where its replicas stand", group.label())];
    lines.extend(look.nodes.iter().map(|node| format!("  {}", node_words(topology, node))));
    let Ok(plan) = &look.plan else { return lines };
    let (given_up, kept) = (names(topology, &plan.given_up), names(topology, &plan.kept));
    let taken = node_name(topology, plan.taken.node());
    let proven = match plan.proven.slot {
        Slot::ZERO => "nothing is known to be chosen".to_owned(),
        slot => format!("{}: known to be chosen, and kept", slots(Slot(1), slot)),
    };
    lines.push(format!("  proven: {proven}"));
    lines.push(match plan.at_risk() {
        Some((from, to)) => format!(
            "  at risk: {}: in the log of {taken}, and kept; nobody knows whether they, or others in their place, were acknowledged",
            slots(from, to)
        ),
        None => "  at risk: nothing".to_owned(),
    });
    lines.push(format!(
        "  possibly lost: everything from slot {} on: whatever {given_up} acknowledged there is gone",
        thousands(plan.lost_from().0)
    ));
    lines.push(format!(
        "  taken: the log of {taken}, which ends at {}; of those that hold what is proven it has the greatest end",
        plan.last
    ));
    let learners = match plan.learners.is_empty() {
        true => String::new(),
        false => format!(", learners {}", names(topology, &plan.learners)),
    };
    lines.push(format!(
        "  then: history {}, voters {kept}{learners}; {given_up} given up for ever",
        plan.history.0 + 1
    ));
    lines.push(format!(
        "  make sure that {given_up} are really gone: until they hear of the new history, they could go on in the old one beside it, and what they acknowledge is lost"
    ));
    lines
}

fn node_words(topology: &Topology, node: &NodeStanding) -> String {
    let name = node_name(topology, node.node);
    let standing = match &node.standing {
        Ok(standing) => standing,
        Err(error) if error.code() == Code::WrongNode => return format!("{name}: has no replica"),
        Err(error) => return format!("{name}: does not answer: {}", cluster::coded(error).message),
    };
    let role = standing.members.iter().find(|(id, ..)| *id == standing.replica);
    let role = role.map_or("no member", |(_, role, _)| role.word());
    let mut words = format!(
        "{name}: {role}, promised {}, last {}, committed {}, applied {}",
        standing.promised, standing.last, standing.committed.slot, standing.slot_applied
    );
    if 0 < standing.history.number {
        words += &format!(", history {}", standing.history.number);
    }
    if standing.outlived {
        words += ", outlived: it serves and votes no more";
    } else if !standing.has_rows {
        words += ", without rows";
    }
    words
}

/// A look as an item of a document.
pub(crate) fn item(topology: &Topology, group: &Group, look: &Look, is_done: bool) -> Value {
    let node = |node: &NodeStanding| match &node.standing {
        Ok(standing) => json!({
            "node": node_name(topology, node.node),
            "answers": true,
            "replica": standing.replica.to_string(),
            "role": standing.members.iter().find(|(id, ..)| *id == standing.replica)
                .map(|(_, role, _): &(ReplicaId, MemberRole, _)| role.word()),
            "history": standing.history.number,
            "outlived": standing.outlived,
            "has_rows": standing.has_rows,
            "promised": standing.promised.to_string(),
            "last": standing.last.to_string(),
            "slot_committed": standing.committed.slot.0.to_string(),
            "slot_applied": standing.slot_applied.0.to_string(),
        }),
        Err(error) => json!({
            "node": node_name(topology, node.node),
            "answers": false,
            "error": error.code().name(),
        }),
    };
    let nodes: Vec<Value> = look.nodes.iter().map(node).collect();
    let mut item = json!({
        "group": group.id.to_string(),
        "label": group.label(),
        "nodes": nodes,
        "done": is_done,
    });
    if let Ok(plan) = &look.plan {
        let all = |replicas: &BTreeSet<ReplicaId>| -> Vec<String> {
            replicas.iter().map(|it| node_name(topology, it.node())).collect()
        };
        let at_risk = plan.at_risk();
        item["history_before"] = json!(plan.history.0);
        item["history_after"] = json!(plan.history.0 + 1);
        item["proven_through"] = json!(plan.proven.slot.0.to_string());
        item["at_risk_from"] = json!(at_risk.map(|(from, _)| from.0.to_string()));
        item["at_risk_to"] = json!(at_risk.map(|(_, to)| to.0.to_string()));
        item["lost_from"] = json!(plan.lost_from().0.to_string());
        item["taken"] = json!(node_name(topology, plan.taken.node()));
        item["kept"] = json!(all(&plan.kept));
        item["learners"] = json!(all(&plan.learners));
        item["given_up"] = json!(all(&plan.given_up));
    }
    item
}
