//! What memberships ask of the disks, and how they are shown.

use quorate_paxos::{Membership, Role};
use quorate_types::ReplicaId;

/// True if those for whom it holds meet every quorum that may decide something later: a majority of the old
/// voters or of the new ones, because a quorum takes in both.
pub fn meets_quorums(membership: &Membership, has: impl Fn(ReplicaId) -> bool) -> bool {
    let before = |role| matches!(role, Role::Voter | Role::Leaving | Role::Demoted);
    let majority = |votes: &dyn Fn(Role) -> bool| {
        let voters = || membership.members().filter(|(_, member)| votes(member.role));
        voters().count() < 2 * voters().filter(|(id, _)| has(*id)).count()
    };
    majority(&before) || majority(&Role::votes_after)
}

/// `r1 r2 +r4 -r3 (r5)`: voters, those that join and leave (`~` those that become learners), and learners.
pub fn show(membership: &Membership) -> String {
    let member = |(id, role): (ReplicaId, Role)| match role {
        Role::Voter => id.to_string(),
        Role::Learner => format!("({id})"),
        Role::Joining => format!("+{id}"),
        Role::Leaving => format!("-{id}"),
        Role::Demoted => format!("~{id}"),
        Role::Suspended => format!("!{id}"),
    };
    let members = membership.members().map(|(id, it)| member((id, it.role)));
    members.collect::<Vec<_>>().join(" ")
}
