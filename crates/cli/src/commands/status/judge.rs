//! Judges a cluster by what its nodes say about themselves. A pure function: answers in, verdict out.
//!
//! The cluster is healthy only if every group has a serving leader and a caught-up majority. What may
//! still be lost counts members that are unreachable, not ready or lagging as lost already.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_client::{GroupStatus, MemberReport, MemberRole, Members, NodeStatus, Role};
use quorate_topology::{ClusterSurvival, Group, Member, ReplicaKind, Topology, survives};
use quorate_types::{Code, Error, GroupId, NodeId};

/// A voter this many slots behind its leader's commit is lagging. About two full batches.
const LAG_SLOTS_MAX: u64 = 8192;
/// With leases, members answer several times a second; one not heard of for so long is cut off.
const HEARD_AGO_MAX: Duration = Duration::from_secs(10);
/// A disk with a smaller part of it free is worth a warning.
const DISK_FREE_PERCENT_MIN: u64 = 15;

/// The members of groups, as far as their leaders told. The others are as in the cluster file.
pub(crate) type Told = BTreeMap<GroupId, Members>;
/// What each configured node answered.
pub(crate) type Answers = BTreeMap<NodeId, Result<NodeStatus, Error>>;

/// The verdict on a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Every configured group, in order of number.
    pub(crate) groups: Vec<GroupVerdict>,
    /// What may still be lost.
    pub(crate) survival: ClusterSurvival,
    /// Worth a look, but not unhealthy.
    pub(crate) warnings: Vec<String>,
    /// How many nodes answered.
    pub(crate) answered: usize,
    /// How many nodes there are.
    pub(crate) node_count: usize,
}

impl Verdict {
    /// Whether every group serves.
    pub(crate) fn is_healthy(&self) -> bool {
        self.groups.iter().all(|group| group.state == GroupState::Serving)
    }

    /// The verdict in one line.
    pub(crate) fn headline(&self) -> String {
        let bad: Vec<&str> = self
            .groups
            .iter()
            .filter(|group| group.state != GroupState::Serving)
            .map(|group| group.label.as_str())
            .collect();
        let silent = match self.node_count - self.answered {
            0 => String::new(),
            1 => format!("; 1 of {} nodes does not answer", self.node_count),
            count => format!("; {count} of {} nodes do not answer", self.node_count),
        };
        if bad.is_empty() {
            let count = self.groups.len();
            return format!(
                "healthy: {count} of {count} groups have a serving leader and a caught-up \
                 majority{silent}"
            );
        }
        format!(
            "UNHEALTHY: {} of {} groups do not serve: {}{silent}",
            bad.len(),
            self.groups.len(),
            bad.join(", ")
        )
    }
}

/// Whether a group serves, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupState {
    /// A serving leader and a caught-up majority.
    Serving,
    /// No node that answered leads it.
    NoLeader,
    /// It has a leader that does not serve, yet or any more.
    LeaderNotServing,
    /// Its leader serves, but fewer than a majority are caught up.
    NoCaughtUpMajority,
}

impl GroupState {
    /// The word in tables and documents.
    pub(crate) fn word(self) -> &'static str {
        match self {
            GroupState::Serving => "serving",
            GroupState::NoLeader => "no-leader",
            GroupState::LeaderNotServing => "leader-not-serving",
            GroupState::NoCaughtUpMajority => "no-caught-up-majority",
        }
    }
}

/// The verdict on a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupVerdict {
    /// The group.
    pub(crate) group: GroupId,
    /// `RZ00/g1`.
    pub(crate) label: String,
    /// Whether it serves.
    pub(crate) state: GroupState,
    /// The node that leads it, serving or not.
    pub(crate) leader: Option<NodeId>,
    /// The nodes that should lead it while all are well, from the leader order.
    pub(crate) homes: Vec<NodeId>,
    /// The ballot of that leader, `3.1`.
    pub(crate) ballot: Option<String>,
    /// How long its lease still holds.
    pub(crate) lease_remaining: Option<Duration>,
    /// Chosen through here, as far as the leader knows.
    pub(crate) slot_committed: Option<u64>,
    /// Its members, the most wanted leader first.
    pub(crate) members: Vec<MemberVerdict>,
    /// How many of its voters are caught up.
    pub(crate) caught_up: usize,
    /// How many members vote.
    pub(crate) voter_count: usize,
    /// How many votes are a majority.
    pub(crate) majority: usize,
    /// Its members that do not vote, or will not once a change under way is over.
    pub(crate) learners: Vec<NodeId>,
    /// Its voters that are set aside until they are back: see `MemberRole::Suspended`.
    pub(crate) suspended: Vec<NodeId>,
    /// Whether a change of its voters is under way. What is said of voters is about those that stay.
    pub(crate) is_changing: bool,
}

impl GroupVerdict {
    /// Whether the leader is where it should be; `None` without one.
    pub(crate) fn is_home(&self) -> Option<bool> {
        self.leader.map(|leader| self.homes.contains(&leader))
    }

    /// How far the voter furthest behind is, among those whose lag is known.
    pub(crate) fn lag_slots_max(&self) -> Option<u64> {
        self.members.iter().filter_map(|member| member.lag_slots).max()
    }

    /// The members that are not caught up, each with its state.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &MemberVerdict> {
        self.members.iter().filter(|member| !member.state.is_caught_up())
    }
}

/// What a member of a group is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// Leads.
    Leader,
    /// Follows the leader and has what is chosen, or nearly.
    CaughtUp,
    /// Follows, too far behind to count.
    Lagging,
    /// Answers us, but does not follow the leader.
    Astray,
    /// Answers us, but its leader has not heard of it for long.
    Unheard,
    /// Answers us, but there is no leader to compare it with.
    Waiting,
    /// Its node recovers and takes no requests yet.
    Starting,
    /// Its node answers and does not know the group.
    Missing,
    /// Its node does not answer.
    Unreachable,
}

impl MemberState {
    /// The word in tables and documents.
    pub(crate) fn word(self) -> &'static str {
        match self {
            MemberState::Leader => "leader",
            MemberState::CaughtUp => "caught-up",
            MemberState::Lagging => "lagging",
            MemberState::Astray => "not-following",
            MemberState::Unheard => "not-heard",
            MemberState::Waiting => "waiting",
            MemberState::Starting => "starting",
            MemberState::Missing => "missing",
            MemberState::Unreachable => "unreachable",
        }
    }

    fn is_caught_up(self) -> bool {
        matches!(self, MemberState::Leader | MemberState::CaughtUp)
    }

    /// Whether the member cannot be relied on when something else is lost. A member that waits for a
    /// leader can still vote for one.
    fn is_lost(self) -> bool {
        !self.is_caught_up() && self != MemberState::Waiting
    }
}

/// The verdict on a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberVerdict {
    /// Its node.
    pub(crate) node: NodeId,
    /// What it holds.
    pub(crate) kind: ReplicaKind,
    /// What it is good for.
    pub(crate) state: MemberState,
    /// Slots behind the leader's commit, if both are known.
    pub(crate) lag_slots: Option<u64>,
}

/// Judges the cluster.
pub(crate) fn judge(topology: &Topology, answers: &Answers, told: &Told) -> Verdict {
    let with_members = |group: &Group| as_told(topology, group, told.get(&group.id));
    let groups: Vec<Group> = topology.groups().map(with_members).collect();
    let judged = |group: &Group| {
        let told = told.get(&group.id);
        let is_changing = told.is_some_and(|members| members.changing);
        let mut verdict = judge_group(topology, group, answers);
        if let Some(told) = told {
            note_roles(&mut verdict, told);
        }
        GroupVerdict { is_changing, ..verdict }
    };
    let verdicts: Vec<GroupVerdict> = groups.iter().map(judged).collect();
    let survives = groups.iter().zip(&verdicts).map(|(group, verdict)| {
        let is_voter = |member: &&MemberVerdict| {
            group.member_on(member.node).is_some_and(|member| member.kind.votes())
        };
        let lost = verdict.members.iter().filter(is_voter).filter(|member| member.state.is_lost());
        let down: BTreeSet<NodeId> = lost.map(|member| member.node).collect();
        survives(topology, group, &down)
    });
    let survival = ClusterSurvival { groups: survives.collect() };
    Verdict {
        groups: verdicts,
        survival,
        warnings: warnings(topology, answers),
        answered: answers.values().filter(|answer| answer.is_ok()).count(),
        node_count: topology.nodes().len(),
    }
}

/// The group with the members that its leader told. Who does not vote, or will not once a change under
/// way is over, is a read-only member here.
fn as_told(topology: &Topology, group: &Group, told: Option<&Members>) -> Group {
    let mut group = group.clone();
    let Some(told) = told else { return group };
    let member = |member: &MemberReport| Member {
        node: member.node,
        replica: member.replica,
        kind: if member.role.votes_after() { member.kind } else { ReplicaKind::ReadOnly },
        zone: topology.node(member.node).map_or_else(String::new, |node| node.zone.clone()),
        rank: member.rank.into(),
    };
    let nodes = told.members.iter().filter_map(|member| told.on(member.node));
    group.members = nodes.map(member).collect();
    group.members.sort_by_key(|member| (member.rank, member.node));
    group.members.dedup_by_key(|member| member.node);
    group
}

/// Says of the members of a group what their leader told: what they hold, and who is set aside.
fn note_roles(verdict: &mut GroupVerdict, told: &Members) {
    for member in &mut verdict.members {
        if let Some(report) = told.on(member.node) {
            member.kind = report.kind;
        }
    }
    let is_suspended =
        |node: &NodeId| told.on(*node).is_some_and(|report| report.role == MemberRole::Suspended);
    let (suspended, learners) =
        std::mem::take(&mut verdict.learners).into_iter().partition(is_suspended);
    verdict.suspended = suspended;
    verdict.learners = learners;
}

/// Turns the answers of nodes of other clusters, or of other nodes than asked, into errors.
pub(crate) fn without_strangers(topology: &Topology, answers: Answers) -> Answers {
    let checked = |node: NodeId, status: NodeStatus| {
        if status.cluster != topology.cluster_id() {
            let message = format!(
                "the node belongs to cluster {}, this is {}",
                status.cluster,
                topology.cluster_id()
            );
            return Err(Error::new(Code::ClusterMismatch, message));
        }
        if status.node != node {
            let message = format!("{} answers at the address of {node}", status.node);
            return Err(Error::new(Code::NodeMismatch, message));
        }
        Ok(status)
    };
    answers
        .into_iter()
        .map(|(node, answer)| (node, answer.and_then(|status| checked(node, status))))
        .collect()
}

fn judge_group(topology: &Topology, group: &Group, answers: &Answers) -> GroupVerdict {
    let leader = leader_of(group, answers);
    let has_leases = topology.lease().length().is_some();
    let judged = |member| {
        let verdict = judge_member(group, member, leader, answers);
        let heard_ago = leader.and_then(|(_, status)| heard_ago(status, verdict.node));
        let is_unheard = heard_ago.is_some_and(|ago| HEARD_AGO_MAX < ago);
        if has_leases && is_unheard && verdict.state == MemberState::CaughtUp {
            return MemberVerdict { state: MemberState::Unheard, ..verdict };
        }
        verdict
    };
    let members: Vec<MemberVerdict> = group.members.iter().map(judged).collect();
    let votes = |member: &&MemberVerdict| {
        group.member_on(member.node).is_some_and(|member| member.kind.votes())
    };
    let caught_up =
        members.iter().filter(votes).filter(|member| member.state.is_caught_up()).count();
    let state = match leader {
        None => GroupState::NoLeader,
        Some((_, status)) if !status.serving => GroupState::LeaderNotServing,
        Some(_) if caught_up < group.majority() => GroupState::NoCaughtUpMajority,
        Some(_) => GroupState::Serving,
    };
    GroupVerdict {
        group: group.id,
        label: group.label(),
        state,
        leader: leader.map(|(node, _)| node),
        homes: group.homes().map(|member| member.node).collect(),
        ballot: leader.map(|(_, status)| status.ballot.to_string()),
        lease_remaining: leader.map(|(_, status)| status.lease_remaining),
        slot_committed: leader.map(|(_, status)| status.slot_committed.0),
        members,
        caught_up,
        voter_count: group.voter_count(),
        majority: group.majority(),
        learners: group
            .members
            .iter()
            .filter(|member| !member.kind.votes())
            .map(|member| member.node)
            .collect(),
        suspended: Vec::new(),
        is_changing: false,
    }
}

fn group_status(group: GroupId, node: &NodeStatus) -> Option<&GroupStatus> {
    node.groups.iter().find(|status| status.group == group)
}

fn heard_ago(leader: &GroupStatus, node: NodeId) -> Option<Duration> {
    leader.members.iter().find(|progress| progress.node == node)?.heard_ago
}

/// The leader with the highest ballot: a deposed one may not know yet.
fn leader_of<'a>(group: &Group, answers: &'a Answers) -> Option<(NodeId, &'a GroupStatus)> {
    // Among all members: one that is leaving leads until the others have agreed.
    group
        .members
        .iter()
        .filter_map(|member| {
            let node = answers.get(&member.node)?.as_ref().ok()?;
            Some((member.node, group_status(group.id, node)?))
        })
        .filter(|(_, status)| status.role == Role::Leader)
        .max_by_key(|(_, status)| status.ballot)
}

fn judge_member(
    group: &Group,
    member: &Member,
    leader: Option<(NodeId, &GroupStatus)>,
    answers: &Answers,
) -> MemberVerdict {
    let Member { node, kind, .. } = *member;
    let without_lag = |state| MemberVerdict { node, kind, state, lag_slots: None };
    let Some(Ok(answer)) = answers.get(&node) else {
        return without_lag(MemberState::Unreachable);
    };
    let Some(own) = group_status(group.id, answer) else {
        let state = if answer.ready { MemberState::Missing } else { MemberState::Starting };
        return without_lag(state);
    };
    let Some((leader_node, leader)) = leader else {
        let state = if answer.ready { MemberState::Waiting } else { MemberState::Starting };
        return without_lag(state);
    };
    if leader_node == node {
        return MemberVerdict { node, kind, state: MemberState::Leader, lag_slots: Some(0) };
    }
    if !kind.keeps_log() {
        let follows = own.leader == Some(leader_node);
        return without_lag(match (answer.ready, follows) {
            (false, _) => MemberState::Starting,
            (true, false) => MemberState::Astray,
            (true, true) => MemberState::CaughtUp,
        });
    }
    // The leader counts what it has heard of, the member what it has: the smaller one is what a
    // commit or an election can rely on.
    let progress = leader.members.iter().find(|progress| progress.node == node);
    let known = progress.map_or(own.slot_synced, |progress| progress.slot_synced);
    let lag = leader.slot_committed.0.saturating_sub(known.min(own.slot_synced).0);
    let state = if !answer.ready {
        MemberState::Starting
    } else if own.leader != Some(leader_node) {
        MemberState::Astray
    } else if LAG_SLOTS_MAX < lag {
        MemberState::Lagging
    } else {
        MemberState::CaughtUp
    };
    MemberVerdict { node, kind, state, lag_slots: Some(lag) }
}

fn warnings(topology: &Topology, answers: &Answers) -> Vec<String> {
    let mut warnings = Vec::new();
    for status in answers.values().filter_map(|answer| answer.as_ref().ok()) {
        let name = &status.name;
        if status.draining {
            warnings.push(format!("{name} is shutting down"));
        }
        if status.topology_version != topology.version() {
            warnings.push(format!(
                "{name} routes by topology version {}, the version shown is {}",
                status.topology_version,
                topology.version()
            ));
        }
        let percent = (status.disk_free_bytes.saturating_mul(100))
            .checked_div(status.disk_total_bytes)
            .unwrap_or(100);
        if percent < DISK_FREE_PERCENT_MIN {
            warnings.push(format!("{name} has {percent} % of its disk free"));
        }
        warnings.extend(status.notices.iter().map(|notice| format!("{name}: {notice}")));
    }
    warnings
}

#[cfg(test)]
#[path = "judge_test.rs"]
pub(crate) mod tests;
