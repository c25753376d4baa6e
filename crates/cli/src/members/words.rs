//! Plans as lines for people and as documents for programs, and refusals as failures.

use quorate_topology::Topology;
use quorate_topology::change::{MembersNow, Plan, Refusal, Step, Wish};
use quorate_types::{MemberRole, NodeId, ReplicaKind};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};
use crate::output::{Document, Output};

/// Whether a plan is only shown, or was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// It was only shown.
    Shown,
    /// It was carried out.
    Done,
}

/// The name of a node in the cluster file.
pub(crate) fn node_name(topology: &Topology, node: NodeId) -> String {
    topology.node(node).map_or_else(|| node.to_string(), |node| node.name.clone())
}

/// Prints the steps of a plan with what the group survives. Where a step changes nothing of that, it says
/// nothing of it.
pub(crate) fn show(topology: &Topology, plan: &Plan, out: &Output) {
    for line in lines(topology, plan) {
        out.say(line);
    }
}

fn lines(topology: &Topology, plan: &Plan) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", plan.label, wish_words(topology, plan.wish))];
    let now = plan.survives_before.words();
    lines.push(format!("  now: {}: {now}", members_words(topology, &plan.before)));
    if plan.steps.is_empty() {
        lines.push("  nothing is left to do".to_owned());
        return lines;
    }
    let mut told = now;
    for (number, step) in (1..).zip(&plan.steps) {
        lines.push(format!("  {number}. {}", step_words(topology, &step.step)));
        let (during, after) = (step.survives_during.words(), step.survives_after.words());
        if during != told {
            lines.push(format!("     meanwhile: {during}"));
        }
        if after != during {
            lines.push(format!("     then: {after}"));
        }
        told = after;
    }
    let end = plan.survives_end().words();
    lines.push(format!("  at the end: {}: {end}", members_words(topology, plan.end())));
    lines
}

/// `replace n1 by n5`.
pub(crate) fn wish_words(topology: &Topology, wish: Wish) -> String {
    let name = |node| node_name(topology, node);
    match wish {
        Wish::AddVoter(node, kind) => match kind {
            ReplicaKind::Full => format!("add a voter on {}", name(node)),
            ReplicaKind::Arbiter => format!("add an arbiter on {}", name(node)),
            ReplicaKind::LogOnly | ReplicaKind::ReadOnly => {
                format!("add a {kind} voter on {}", name(node))
            }
        },
        Wish::AddLearner(node, kind) => match kind {
            ReplicaKind::Full => format!("add a learner on {}", name(node)),
            ReplicaKind::ReadOnly => format!("add a read-only replica on {}", name(node)),
            ReplicaKind::LogOnly | ReplicaKind::Arbiter => {
                format!("add a learner ({kind}) on {}", name(node))
            }
        },
        Wish::Remove(node) => format!("remove the replica on {}", name(node)),
        Wish::Replace(node, by) => format!("replace {} by {}", name(node), name(by)),
        Wish::Promote(node) => format!("let {} vote", name(node)),
        Wish::Demote(node) => format!("make {} a learner", name(node)),
    }
}

/// `change the voters: n5 joins, n1 leaves`.
pub(super) fn step_words(topology: &Topology, step: &Step) -> String {
    let name = |node: &NodeId| node_name(topology, *node);
    match step {
        Step::AwaitEnd => "wait until the change of voters that is under way is over".to_owned(),
        Step::Create(node, kind) => {
            let kind = if *kind == ReplicaKind::Full { "" } else { kind.word() };
            let gap = if kind.is_empty() { "" } else { " " };
            format!("make an empty{gap}{kind} replica on {}", name(node))
        }
        Step::TakeIn(node, _) => format!("take the replica on {} in as a learner", name(node)),
        Step::AwaitFit(node, kind) => {
            let what = match kind {
                ReplicaKind::Full | ReplicaKind::ReadOnly => {
                    "has the rows and nearly all of the log"
                }
                ReplicaKind::LogOnly => "has nearly all of the log",
                ReplicaKind::Arbiter => "answers",
            };
            format!("wait until {} {what}", name(node))
        }
        Step::Turn(node, kind) => format!("make the learner on {} a {kind} replica", name(node)),
        Step::ChangeVoters { joining, leaving, demoted } => {
            let all = |nodes: &[NodeId], what: &str| {
                nodes.iter().map(|node| format!("{} {what}", name(node))).collect::<Vec<_>>()
            };
            let mut parts = all(joining, "joins");
            parts.extend(all(leaving, "leaves"));
            parts.extend(all(demoted, "becomes a learner"));
            format!("change the voters: {}", parts.join(", "))
        }
        Step::Drop(node) => format!("let the learner on {} go", name(node)),
    }
}

/// `voters n1, n2, n3, learner n5`.
fn members_words(topology: &Topology, members: &MembersNow) -> String {
    let with = |role: MemberRole, one: &str, many: &str| {
        let of_role = members.iter().filter(|(_, member)| member.role == role);
        let names = of_role.map(|(node, member)| match member.kind {
            ReplicaKind::Full => node_name(topology, *node),
            kind => format!("{} ({kind})", node_name(topology, *node)),
        });
        let names: Vec<String> = names.collect();
        let word = if names.len() == 1 { one } else { many };
        (!names.is_empty()).then(|| format!("{word} {}", names.join(", ")))
    };
    let roles = [
        with(MemberRole::Voter, "voter", "voters"),
        with(MemberRole::Suspended, "suspended", "suspended"),
        with(MemberRole::Joining, "joining", "joining"),
        with(MemberRole::Leaving, "leaving", "leaving"),
        with(MemberRole::Demoted, "becoming a learner:", "becoming learners:"),
        with(MemberRole::Learner, "learner", "learners"),
    ];
    roles.into_iter().flatten().collect::<Vec<String>>().join(", ")
}

/// The document of plans.
pub(crate) fn document(topology: &Topology, plans: &[Plan], made: Made) -> Document {
    let mut document = Document::new("member-change").of_cluster(topology.cluster_id());
    document.items.extend(plans.iter().map(|plan| plan_json(topology, plan, made)));
    document
}

fn plan_json(topology: &Topology, plan: &Plan, made: Made) -> Value {
    let steps: Vec<Value> = plan
        .steps
        .iter()
        .map(|step| {
            json!({
                "step": step_words(topology, &step.step),
                "members_during": members_json(topology, &step.during),
                "members_after": members_json(topology, &step.after),
                "survives_during": step.survives_during.words(),
                "survives_after": step.survives_after.words(),
            })
        })
        .collect();
    json!({
        "group": plan.group.to_string(),
        "label": plan.label,
        "wish": wish_words(topology, plan.wish),
        "done": made == Made::Done,
        "members_before": members_json(topology, &plan.before),
        "survives_before": plan.survives_before.words(),
        "steps": steps,
        "members_after": members_json(topology, plan.end()),
        "survives_after": plan.survives_end().words(),
    })
}

fn members_json(topology: &Topology, members: &MembersNow) -> Value {
    let member = |(node, member): (&NodeId, &quorate_topology::change::MemberNow)| {
        let name = node_name(topology, *node);
        json!({ "node": name, "kind": member.kind.word(), "role": member.role.word(), "fit": member.fit })
    };
    members.iter().map(member).collect()
}

/// Why there is no plan, as a failure.
pub(crate) fn fail(refusal: &Refusal) -> Failure {
    let failure = Failure::from(quorate_types::Error::from(refusal));
    match refusal {
        Refusal::NoMember { .. } => failure
            .with_exit(Exit::NotFound)
            .with_fix("name a node that has a replica; `quorate group members` shows them"),
        Refusal::NoSuccessor { place, node, .. } => failure.with_exit(Exit::Failed).with_fix(format!(
            "start a node in {place}, one that all nodes have in their cluster file, or name one \
             with `quorate node replace {node} --by NODE`"
        )),
        Refusal::LastVoter { .. } => failure.with_fix("add another voter first"),
        Refusal::SameNode(_) => failure.with_fix("name another node"),
        Refusal::TooMany(_) => failure.with_fix("remove a member first"),
        Refusal::OtherKind { .. } => failure.with_fix(
            "name another node, or remove the replica and empty the data folder of its node first",
        ),
        Refusal::WrongKinds { .. } => failure.with_fix(
            "choose kinds that go together: docs/TOPOLOGY.md lists them. `quorate group add --kind` says which one a \
             replica is",
        ),
        Refusal::WouldStop { .. } => {
            failure.with_fix("start the voters that are down, or replace them first")
        }
        Refusal::UnknownGroup(_)
        | Refusal::Votes { .. }
        | Refusal::VotesTwice { .. }
        | Refusal::StoppedNow { .. }
        | Refusal::LessRedundancy { .. } => failure,
    }
}

#[cfg(test)]
mod tests {
    use quorate_topology::change::{MemberNow, Redundancy, plan};
    use quorate_topology::presets::{Options, three_cities_five_idcs};
    use quorate_types::{ClusterId, GroupId};

    use super::*;

    fn topology() -> Topology {
        let text = three_cities_five_idcs(&Options::demo(ClusterId(7)));
        Topology::parse(&text).expect("presets are valid")
    }

    fn planned(wish: Wish) -> Result<Plan, Refusal> {
        let voter = MemberNow { role: MemberRole::Voter, kind: ReplicaKind::Full, fit: true };
        let now = [1, 3, 5].map(|node| (NodeId(node), voter)).into_iter().collect();
        plan(&topology(), GroupId(1), &now, wish, Redundancy::Keep)
    }

    #[test]
    fn a_plan_reads_as_steps_with_what_is_survived() {
        // Goal: before anything is done, an operator sees what is done and what it costs.
        let plan = planned(Wish::Replace(NodeId(1), NodeId(2))).unwrap();
        let survives = "survives the loss of any one node; of any one IDC; of any one city";
        assert_eq!(
            lines(&topology(), &plan),
            [
                "RZ00/g1: replace n1 by n2".to_owned(),
                format!("  now: voters n1, n3, n5: {survives}"),
                "  1. make an empty replica on n2".to_owned(),
                "  2. take the replica on n2 in as a learner".to_owned(),
                "  3. wait until n2 has the rows and nearly all of the log".to_owned(),
                "  4. change the voters: n2 joins, n1 leaves".to_owned(),
                format!("  at the end: voters n2, n3, n5: {survives}"),
            ]
        );
        let document = document(&topology(), &[plan], Made::Shown);
        let item = &document.items[0];
        assert_eq!(item["done"], json!(false));
        let roles: Vec<&str> = (0..4)
            .filter_map(|index| item["steps"][3]["members_during"][index]["role"].as_str())
            .collect();
        assert_eq!(roles, ["leaving", "joining", "voter", "voter"]);
        let plan = planned(Wish::Remove(NodeId(2))).unwrap();
        assert_eq!(lines(&topology(), &plan)[2], "  nothing is left to do");
    }

    #[test]
    fn what_changes_on_the_way_is_told_at_its_step() {
        // Goal: a step that costs something says so.
        let plan = planned(Wish::Replace(NodeId(5), NodeId(2))).unwrap();
        let lines = lines(&topology(), &plan);
        assert_eq!(
            lines[5..],
            [
                "  4. change the voters: n2 joins, n5 leaves",
                "     meanwhile: survives the loss of any one node; of any one IDC; not of city sh \
                 (it holds 2 of 3 voters)",
                "  at the end: voters n1, n2, n3: survives the loss of any one node; of any one IDC; \
                 not of city sh (it holds 2 of 3 voters)",
            ]
        );
    }

    #[test]
    fn kinds_are_said_where_they_are_not_full() {
        // Goal: who adds or sees a replica that is not full reads so.
        let wish = Wish::AddVoter(NodeId(2), ReplicaKind::LogOnly);
        let plan = planned(wish).unwrap();
        let lines = lines(&topology(), &plan);
        assert_eq!(lines[0], "RZ00/g1: add a log-only voter on n2");
        assert_eq!(lines[2], "  1. make an empty log-only replica on n2");
        assert_eq!(lines[4], "  3. wait until n2 has nearly all of the log");
        let end = lines.last().unwrap();
        assert!(end.starts_with("  at the end: voters n1, n2 (log-only), n3, n5: "), "{end}");
        assert_eq!(
            document(&topology(), &[plan], Made::Shown).items[0]["members_after"][1]["kind"],
            json!("log-only")
        );
        let failure = fail(&planned(Wish::AddVoter(NodeId(2), ReplicaKind::Arbiter)).unwrap_err());
        assert!(
            failure.to_string().contains("would have an arbiter beside 3 full replicas"),
            "{failure}"
        );
    }

    #[test]
    fn refusals_say_what_to_do() {
        // Goal: code, exit code and way out fit the reason.
        let failure = fail(&planned(Wish::Promote(NodeId(2))).unwrap_err());
        assert_eq!(failure.exit(), Exit::NotFound);
        let failure = fail(&planned(Wish::Remove(NodeId(1))).unwrap_err());
        assert_eq!(failure.exit(), Exit::Conflict);
        assert!(failure.to_string().contains("--accept-less-redundancy"), "{failure}");
        let failure = fail(&Refusal::NoSuccessor {
            group: "RZ00/g1".to_owned(),
            node: "n1".to_owned(),
            why: "it is the only node of city sh".to_owned(),
            place: "zone sh-a, IDC sh-a or city sh".to_owned(),
        });
        assert_eq!(failure.exit(), Exit::Failed);
        assert!(failure.to_string().contains("start a node in zone sh-a, IDC sh-a or city sh"));
    }
}
