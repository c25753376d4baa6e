//! The steps from the members of a group to a wish. The way is always the same: learners first, one joint
//! change of voters, learners that leave last.

use std::collections::BTreeMap;

use quorate_types::{GroupId, MemberRole, NodeId, ReplicaKind, limits};

use super::{
    MemberNow, MembersNow, Plan, PlannedStep, Redundancy, Refusal, Standing, Step, Wish,
    in_the_end, is_joint,
};
use crate::model::Group;
use crate::survival::Level;
use crate::topology::Topology;
use crate::voters::check_voters;

/// Who is to be a member at the end.
type Target = BTreeMap<NodeId, Place>;

/// What a member is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    kind: ReplicaKind,
    votes: bool,
}

impl Place {
    fn of(member: &MemberNow) -> Place {
        Place { kind: member.kind, votes: member.role.wants_vote() }
    }
}

/// The steps from these members to a wish; none if it is fulfilled.
///
/// # Errors
/// What the wish contradicts, or what it would cost. See [`Refusal`].
pub fn plan(
    topology: &Topology,
    group: GroupId,
    now: &MembersNow,
    wish: Wish,
    redundancy: Redundancy,
) -> Result<Plan, Refusal> {
    let found = topology.group(group).ok_or(Refusal::UnknownGroup(group.0))?;
    let planner = Planner { topology, group: found };
    let settled = in_the_end(now);
    let target = planner.target(&settled, wish)?;
    if limits::GROUP_MEMBERS_MAX < target.len() {
        return Err(Refusal::TooMany(found.label()));
    }
    let plan = Plan {
        group,
        label: found.label(),
        wish,
        before: now.clone(),
        survives_before: planner.standing(now),
        steps: planner.steps(now, &target, wish),
    };
    planner.check(&plan, redundancy)?;
    Ok(plan)
}

struct Planner<'t> {
    topology: &'t Topology,
    group: &'t Group,
}

impl Planner<'_> {
    fn standing(&self, members: &MembersNow) -> Standing {
        Standing::of(self.topology, self.group, members)
    }

    fn name(&self, node: NodeId) -> String {
        self.topology.node(node).map_or_else(|| node.to_string(), |node| node.name.clone())
    }

    /// Who is to be a member at the end, from who is one once all changes under way are over.
    fn target(&self, settled: &MembersNow, wish: Wish) -> Result<Target, Refusal> {
        let mut target: Target =
            settled.iter().map(|(node, member)| (*node, Place::of(member))).collect();
        let group = || self.group.label();
        let no_member = |node| {
            let members: Vec<String> = settled.keys().map(|node| self.name(*node)).collect();
            let members = members.join(", ");
            Refusal::NoMember { node: self.name(node), group: group(), members }
        };
        // What a node holds already it cannot hold otherwise, but that full and read-only ones hold the same.
        let may_be = |node, kind| match settled.get(&node) {
            Some(member) if !member.kind.holds_as(kind) => {
                let (node, is) = (self.name(node), member.kind);
                Err(Refusal::OtherKind { node, group: group(), is, wanted: kind })
            }
            Some(_) | None => Ok(()),
        };
        let is_suspended =
            |node| settled.get(&node).is_some_and(|member| member.role == MemberRole::Suspended);
        match wish {
            Wish::AddVoter(node, kind) => {
                may_be(node, kind)?;
                target.insert(node, Place { kind, votes: true });
            }
            Wish::AddLearner(node, kind) => {
                may_be(node, kind)?;
                let before = target.insert(node, Place { kind, votes: false });
                if before.is_some_and(|before| before.votes) {
                    return Err(Refusal::Votes { node: self.name(node), group: group() });
                }
            }
            Wish::Remove(node) => {
                target.remove(&node);
            }
            Wish::Replace(node, by) if node == by => {
                return Err(Refusal::SameNode(self.name(node)));
            }
            Wish::Replace(node, by) => match (target.remove(&node), target.get(&by)) {
                // Who took over may have been promoted or demoted since; that is another wish.
                (None, Some(_)) => {}
                (None, None) => return Err(no_member(node)),
                // Who is set aside has given its place to the other one, and is all that is left to go.
                (Some(_), Some(Place { votes: true, .. })) if is_suspended(node) => {}
                (Some(_), Some(Place { votes: true, .. })) => {
                    let (by, node) = (self.name(by), self.name(node));
                    return Err(Refusal::VotesTwice { by, node, group: group() });
                }
                (Some(place), Some(_) | None) => {
                    may_be(by, place.kind)?;
                    target.insert(by, place);
                }
            },
            Wish::Promote(node) => {
                let place = target.get_mut(&node).ok_or_else(|| no_member(node))?;
                place.votes = true;
                if place.kind == ReplicaKind::ReadOnly {
                    place.kind = ReplicaKind::Full;
                }
            }
            Wish::Demote(node) => {
                target.get_mut(&node).ok_or_else(|| no_member(node))?.votes = false;
            }
        }
        if let Wish::Remove(node) | Wish::Demote(node) = wish
            && !target.values().any(|place| place.votes)
        {
            return Err(Refusal::LastVoter { node: self.name(node), group: group() });
        }
        // What was wrong before is none of this wish.
        let voters = |places: &Target| -> Vec<ReplicaKind> {
            places.values().filter(|place| place.votes).map(|place| place.kind).collect()
        };
        let before = settled.iter().map(|(node, member)| (*node, Place::of(member))).collect();
        if voters(&before) != voters(&target) {
            let checked = check_voters(voters(&target));
            checked.map_err(|wrong| Refusal::WrongKinds { group: group(), wrong })?;
        }
        Ok(target)
    }

    fn steps(&self, now: &MembersNow, target: &Target, wish: Wish) -> Vec<PlannedStep> {
        let mut way = Way { planner: self, members: now.clone(), steps: Vec::new() };
        if is_joint(now) {
            way.go(Step::AwaitEnd, now.clone(), in_the_end(now));
        }
        for (node, Place { kind, .. }) in target {
            let member = way.members.get(node).copied();
            if let Some(member) = member.filter(|it| it.kind != *kind) {
                way.step_to(Step::Turn(*node, *kind), |members| {
                    members.insert(*node, MemberNow { kind: *kind, ..member });
                });
            } else if member.is_none() {
                way.stay(Step::Create(*node, *kind));
                let learner = MemberNow { role: MemberRole::Learner, kind: *kind, fit: false };
                way.step_to(Step::TakeIn(*node, *kind), |members| {
                    members.insert(*node, learner);
                });
            }
        }
        let wanted = wanted_fit(wish);
        for (node, place) in target {
            let member = way.members[node];
            let is_new_voter = place.votes && member.role == MemberRole::Learner;
            let is_wanted =
                is_new_voter || (wanted == Some(*node) && member.role == MemberRole::Learner);
            if is_wanted && !member.fit {
                way.step_to(Step::AwaitFit(*node, member.kind), |members| {
                    members.insert(*node, MemberNow { fit: true, ..member });
                });
            }
        }
        way.change_voters(target);
        let gone: Vec<NodeId> =
            way.members.keys().filter(|node| !target.contains_key(node)).copied().collect();
        for node in gone {
            way.step_to(Step::Drop(node), |members| {
                members.remove(&node);
            });
        }
        way.steps
    }

    /// Refuses a way on which the group would stop, or that ends with less than it began.
    fn check(&self, plan: &Plan, redundancy: Redundancy) -> Result<(), Refusal> {
        if plan.steps.is_empty() {
            return Ok(());
        }
        let group = || self.group.label();
        if !plan.survives_before.has_majority() {
            let survives = plan.survives_before.words();
            return Err(Refusal::StoppedNow { group: group(), survives });
        }
        for step in &plan.steps {
            for survives in [&step.survives_during, &step.survives_after] {
                if !survives.has_majority() {
                    return Err(Refusal::WouldStop { group: group(), survives: survives.words() });
                }
            }
        }
        let end = plan.survives_end();
        // On the way, too: a change that is under way may lead to more than there is now.
        let on_the_way = plan.steps.iter().map(|step| &step.survives_after);
        let survives_node = |standing: &Standing| standing.any_one(Level::Node);
        let has_more = [&plan.survives_before].into_iter().chain(on_the_way).any(survives_node);
        let is_less = has_more && !survives_node(end);
        if is_less && redundancy == Redundancy::Keep {
            return Err(Refusal::LessRedundancy { group: group(), survives: end.words() });
        }
        Ok(())
    }
}

/// The node whose replica is waited for even if it is not to vote.
fn wanted_fit(wish: Wish) -> Option<NodeId> {
    match wish {
        Wish::AddVoter(node, _) | Wish::AddLearner(node, _) | Wish::Promote(node) => Some(node),
        Wish::Replace(_, by) => Some(by),
        Wish::Remove(_) | Wish::Demote(_) => None,
    }
}

/// The steps so far and where they lead.
struct Way<'p> {
    planner: &'p Planner<'p>,
    members: MembersNow,
    steps: Vec<PlannedStep>,
}

impl Way<'_> {
    fn go(&mut self, step: Step, during: MembersNow, after: MembersNow) {
        self.steps.push(PlannedStep {
            step,
            survives_during: self.planner.standing(&during),
            survives_after: self.planner.standing(&after),
            during,
            after: after.clone(),
        });
        self.members = after;
    }

    /// A step that changes no member.
    fn stay(&mut self, step: Step) {
        let members = self.members.clone();
        self.go(step, members.clone(), members);
    }

    /// A step that changes no voter: from before to after at once.
    fn step_to(&mut self, step: Step, change: impl FnOnce(&mut MembersNow)) {
        let mut after = self.members.clone();
        change(&mut after);
        self.go(step, self.members.clone(), after);
    }

    /// The one joint change, if voters differ.
    fn change_voters(&mut self, target: &Target) {
        let (mut joining, mut leaving, mut demoted) = (Vec::new(), Vec::new(), Vec::new());
        let mut during = self.members.clone();
        for (node, member) in &mut during {
            let votes = target.get(node).map(|place| place.votes);
            let role = match (member.role, votes) {
                (MemberRole::Learner, Some(true)) => {
                    joining.push(*node);
                    MemberRole::Joining
                }
                (MemberRole::Voter, Some(false)) => {
                    demoted.push(*node);
                    MemberRole::Demoted
                }
                (MemberRole::Voter, None) => {
                    leaving.push(*node);
                    MemberRole::Leaving
                }
                (role, _) => role,
            };
            member.role = role;
        }
        if is_joint(&during) {
            let after = in_the_end(&during);
            self.go(Step::ChangeVoters { joining, leaving, demoted }, during, after);
        }
    }
}
