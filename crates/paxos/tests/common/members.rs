//! What memberships ask of the disks, and how they are shown.

use quorate_paxos::{Member, Membership, Role};
use quorate_types::{ReplicaId, ReplicaKind};

/// True if those for whom it holds are as many as an entry is chosen by: a majority of the old voters that keep
/// the log, or of the new ones.
pub fn has_chosen(membership: &Membership, has: impl Fn(ReplicaId) -> bool) -> bool {
    let majority = |votes: fn(Role) -> bool| {
        let counts = |member: &Member| votes(member.role) && member.kind.keeps_log();
        let voters = || membership.members().filter(|(_, member)| counts(member));
        voters().count() < 2 * voters().filter(|(id, _)| has(*id)).count()
    };
    majority(Role::votes_before) || majority(Role::votes_after)
}

/// True if those for whom it holds meet every quorum that may elect a leader later.
pub fn meets_quorums(membership: &Membership, has: impl Fn(ReplicaId) -> bool) -> bool {
    !membership.is_quorum(|id| !has(id))
}

/// What each replica holds, by its letter.
pub fn kinds(letters: &str) -> Vec<ReplicaKind> {
    let kind = |letter: char| ReplicaKind::of_letter(&letter.to_string()).expect("a kind");
    letters.chars().map(kind).collect()
}

/// `r1 r2 +r4 -r3 (r5)`: voters, those that join and leave (`~` those that become learners, `!` those set aside), and learners;
/// a letter before it names the kind of who is not full.
pub fn show(membership: &Membership) -> String {
    let member = |(id, role): (ReplicaId, Role)| match role {
        Role::Voter => id.to_string(),
        Role::Learner => format!("({id})"),
        Role::Joining => format!("+{id}"),
        Role::Leaving => format!("-{id}"),
        Role::Demoted => format!("~{id}"),
        Role::Suspended => format!("!{id}"),
    };
    let kind = |it: &Member| match it.kind {
        ReplicaKind::Full => String::new(),
        other => other.letter().to_string(),
    };
    let members =
        membership.members().map(|(id, it)| format!("{}{}", kind(it), member((id, it.role))));
    members.collect::<Vec<_>>().join(" ")
}
