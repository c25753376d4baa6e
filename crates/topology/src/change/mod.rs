//! Changes of who takes part in a group, as steps: what an operator wishes, and the way there.
//!
//! ```text
//!  members now, a wish --plan--> steps, each with what the group survives before, during and after
//!  members of many groups, a node to empty --moves--> a plan for each group
//! ```
//!
//! The leader decides every change again and by itself (crate `paxos`); a plan says what to ask it for, in
//! which order, and refuses early what would be refused later. Plans are made from what is, not from what
//! was planned before: whoever is interrupted makes a new plan with the same wish, and goes on.

mod moves;
mod plan;
mod refusal;
mod standing;

use std::collections::BTreeMap;

use quorate_types::{GroupId, MemberRole, NodeId, ReplicaKind};

pub use moves::{Move, Usable, plan_moves};
pub use plan::plan;
pub use refusal::Refusal;
pub use standing::Standing;

/// A member of a group now, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberNow {
    /// What it counts for.
    pub role: MemberRole,
    /// What it holds.
    pub kind: ReplicaKind,
    /// True if its vote can be relied on: it was heard a moment ago and has its rows.
    pub fit: bool,
}

/// The members of a group by node: a node holds at most one replica of a group.
pub type MembersNow = BTreeMap<NodeId, MemberNow>;

/// What an operator wishes for one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A voter of this kind on this node.
    AddVoter(NodeId, ReplicaKind),
    /// A replica of this kind on this node that does not vote: a read-only one, or one that does not vote yet.
    AddLearner(NodeId, ReplicaKind),
    /// No replica on this node.
    Remove(NodeId),
    /// A replica on the second node that holds and counts for what the one on the first did, and none on the first.
    Replace(NodeId, NodeId),
    /// The learner on this node is to vote; one that is read-only as a full replica.
    Promote(NodeId),
    /// The voter on this node is to be a learner.
    Demote(NodeId),
}

/// Whether a group may be left that does not survive the loss of any one node, if it does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redundancy {
    /// No: that is refused.
    Keep,
    /// Yes, as long as it has a majority.
    AcceptLess,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A change of voters that is under way already comes to its end.
    AwaitEnd,
    /// The node gets an empty replica of this kind, which is no member yet.
    Create(NodeId, ReplicaKind),
    /// The replica of this kind on the node becomes a learner.
    TakeIn(NodeId, ReplicaKind),
    /// The learner of the node, which keeps rows, becomes one of the other kind that does: full or read-only.
    Turn(NodeId, ReplicaKind),
    /// The learner of this kind on the node catches up until it could vote.
    AwaitFit(NodeId, ReplicaKind),
    /// The voters change: old and new ones must agree until that is over.
    ChangeVoters {
        /// Learners that will vote.
        joining: Vec<NodeId>,
        /// Voters that will be no members.
        leaving: Vec<NodeId>,
        /// Voters that will be learners.
        demoted: Vec<NodeId>,
    },
    /// The learner of the node is no member any more.
    Drop(NodeId),
}

/// A step in its plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// What is done.
    pub step: Step,
    /// The members while it is done.
    pub during: MembersNow,
    /// The members once it is done.
    pub after: MembersNow,
    /// What the group survives while it is done.
    pub survives_during: Standing,
    /// What it survives then.
    pub survives_after: Standing,
}

/// The way to a wish for one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The group.
    pub group: GroupId,
    /// `RZ00/g1`.
    pub label: String,
    /// What is wished.
    pub wish: Wish,
    /// The members now.
    pub before: MembersNow,
    /// What the group survives now.
    pub survives_before: Standing,
    /// In order; none if nothing is left to do.
    pub steps: Vec<PlannedStep>,
}

impl Plan {
    /// The members at the end.
    #[must_use]
    pub fn end(&self) -> &MembersNow {
        self.steps.last().map_or(&self.before, |step| &step.after)
    }

    /// What the group survives at the end.
    #[must_use]
    pub fn survives_end(&self) -> &Standing {
        self.steps.last().map_or(&self.survives_before, |step| &step.survives_after)
    }
}

/// The members once the change that is under way is over.
#[must_use]
pub fn in_the_end(members: &MembersNow) -> MembersNow {
    let stays = |(node, member): (&NodeId, &MemberNow)| {
        member.role.in_the_end().map(|role| (*node, MemberNow { role, ..*member }))
    };
    members.iter().filter_map(stays).collect()
}

/// True while a change of voters is under way.
#[must_use]
pub fn is_joint(members: &MembersNow) -> bool {
    members.values().any(|member| member.role.votes_before() != member.role.votes_after())
}
