//! Quorums by the definition, and bytes that come back.

use proptest::prelude::*;
use quorate_types::{Ballot, EntryId, ReplicaKind, Slot};

use super::*;

fn roles() -> impl Strategy<Value = Vec<Role>> {
    let role = prop_oneof![
        Just(Role::Learner),
        Just(Role::Voter),
        Just(Role::Joining),
        Just(Role::Leaving),
        Just(Role::Demoted)
    ];
    proptest::collection::vec(role, 1..limits::GROUP_MEMBERS_MAX)
}

fn of(roles: &[Role]) -> Result<Membership, MembershipError> {
    let ids = (1_u64..).map(ReplicaId);
    let member = |role: &Role| Member { rank: 3, role: *role, kind: ReplicaKind::Full };
    Membership::new(ids.zip(roles.iter().map(member)).collect())
}

/// Voters of this kind, and how many of them are in the set.
fn count(roles: &[Role], set: u16, votes: fn(Role) -> bool) -> (usize, usize) {
    let of_kind = || (0..roles.len()).filter(|index| votes(roles[*index]));
    (of_kind().count(), of_kind().filter(|index| set >> index & 1 == 1).count())
}

proptest! {
    /// Goal: a quorum is a majority of the old voters and of the new ones, whoever else is in it.
    #[test]
    fn a_quorum_is_a_majority_of_both(roles in roles(), set in any::<u16>()) {
        let (before, yes_before) = count(&roles, set, Role::votes_before);
        let (after, yes_after) = count(&roles, set, Role::votes_after);
        let Ok(membership) = of(&roles) else {
            prop_assert!(before == 0 || after == 0);
            return Ok(());
        };
        let want = before < 2 * yes_before && after < 2 * yes_after;
        prop_assert_eq!(membership.is_quorum(|id| set >> (id.0 - 1) & 1 == 1), want);
    }

    /// Goal: any two quorums of a membership share a member, also across the end of a change.
    #[test]
    fn quorums_meet(roles in roles(), one in any::<u16>(), other in any::<u16>()) {
        let Ok(membership) = of(&roles) else { return Ok(()) };
        let end = membership.in_the_end();
        for end in [&membership, &end] {
            let has = |set: u16| move |id: ReplicaId| set >> (id.0 - 1) & 1 == 1;
            if membership.is_quorum(has(one)) && end.is_quorum(has(other)) {
                prop_assert_ne!(one & other, 0);
            }
        }
        prop_assert!(!end.is_joint());
    }

    /// Goal: what is written is read, and nothing else is.
    #[test]
    fn bytes_come_back(roles in roles(), number in 0_u32..3, at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let Ok(membership) = of(&roles) else { return Ok(()) };
        let ballot = Ballot { round: 7, replica: ReplicaId(2) };
        let since = if number == 0 { EntryId::ZERO } else { EntryId { slot: Slot(9), ballot } };
        let membership = membership.in_history(History { number, since });
        let bytes = membership.encode();
        prop_assert_eq!(Membership::decode(&bytes), Ok(membership.clone()));
        prop_assert_eq!(Membership::decode(&bytes[..bytes.len() - 1]), Err(MembershipError::Length));
        let mut other = bytes.to_vec();
        let at = at.index(other.len());
        other[at] ^= flip;
        prop_assert_ne!(Membership::decode(&other), Ok(membership));
    }
}

fn at(slot: u64, voters: u64) -> MembershipAt {
    let id = EntryId { slot: Slot(slot), ..EntryId::ZERO };
    let voters = (1..=voters).map(|n| (ReplicaId(n), 0));
    MembershipAt { id, membership: Membership::of_voters(voters) }
}

fn member() -> impl Strategy<Value = Member> {
    use ReplicaKind::{Arbiter, Full, LogOnly, ReadOnly};
    use Role::{Demoted, Joining, Learner, Leaving, Suspended, Voter};
    let role = prop::sample::select(vec![
        Voter, Voter, Voter, Joining, Leaving, Demoted, Learner, Suspended,
    ]);
    let kind = prop::sample::select(vec![Full, Full, Full, LogOnly, Arbiter, ReadOnly]);
    (role, kind).prop_map(|(role, kind)| Member { rank: 1, role, kind })
}

fn group() -> impl Strategy<Value = Membership> {
    let members = proptest::collection::vec(member(), 1..8);
    let group = members.prop_map(|them| Membership::new((1..).map(ReplicaId).zip(them).collect()));
    group.prop_filter_map("no group", Result::ok)
}

proptest! {
    /// Goal: whoever is elected has met a log with everything that is chosen: what votes and what accepts share a
    /// member that keeps the log, whatever kinds there are, and across the end of a change.
    #[test]
    fn votes_meet_what_is_accepted(group in group(), set in any::<u8>()) {
        let has = |id: ReplicaId| set >> (id.0 - 1) & 1 == 1;
        let end = group.in_the_end();
        for (votes, accepts) in [(&group, &group), (&group, &end), (&end, &group)] {
            prop_assert!(!(votes.is_quorum(has) && accepts.accepts_with(|id| !has(id))));
        }
        prop_assert!(end.follows(&group) && group.follows(&group));
    }

    /// Goal: bytes tell kinds, and who is set aside.
    #[test]
    fn bytes_of_kinds_come_back(group in group()) {
        prop_assert_eq!(Membership::decode(&group.encode()), Ok(group));
    }

    /// Goal: whoever keeps only the log drops it when as many full voters have it as may be lost, and one more.
    #[test]
    fn what_is_secured_outlives_a_loss(group in group(), set in any::<u8>(), lost in any::<u8>()) {
        let in_set = |set: u8, id: ReplicaId| set >> (id.0 - 1) & 1 == 1;
        if group.secured(|id| in_set(set, id)) != Some(true) {
            return Ok(());
        }
        let voters = || group.members().filter(|(_, it)| it.role.votes_after());
        let may_be_lost = (voters().count() - 1) / 2;
        if voters().filter(|(id, _)| in_set(lost, *id)).count() <= may_be_lost {
            let is_left = |id| in_set(set, id) && !in_set(lost, id);
            prop_assert!(voters().any(|(id, it)| it.kind.may_lead() && is_left(id)));
        }
    }
}

/// Goal: two steps that each look like a group may still not follow each other.
#[test]
fn a_step_too_far_is_noticed() {
    let of = |voters: &[u64]| Membership::of_voters(voters.iter().map(|id| (ReplicaId(*id), 0)));
    assert!(!of(&[3, 4, 5]).follows(&of(&[1, 2, 3])));
    assert!(of(&[1, 2]).follows(&of(&[1, 2, 3])));
}

/// Goal: what no group can be is refused: two arbiters, none to lead, reads that vote, and so few full voters that the
/// loss of one leaves only the log.
#[test]
fn kinds_that_make_no_group_are_refused() {
    use MembershipError::{Arbiters, NoVoter, ReadOnlyVoter, TooFewFull};
    use ReplicaKind::{Arbiter, Full, LogOnly, ReadOnly};
    let of = |kinds: &[ReplicaKind]| {
        let member = |kind: &ReplicaKind| Member { rank: 0, role: Role::Voter, kind: *kind };
        Membership::new((1..).map(ReplicaId).zip(kinds.iter().map(member)).collect())
    };
    assert_eq!(of(&[Full, Full, Arbiter, Arbiter]), Err(Arbiters));
    assert_eq!(of(&[LogOnly, Arbiter]), Err(NoVoter));
    assert_eq!(of(&[Full, ReadOnly]), Err(ReadOnlyVoter));
    assert_eq!(of(&[Full, LogOnly, LogOnly]), Err(TooFewFull));
    assert_eq!(of(&[Full, LogOnly, Arbiter]), Err(TooFewFull));
    assert!(of(&[Full, Full, Full, Full, LogOnly]).is_ok() && of(&[Full, Full, Arbiter]).is_ok());
}

/// Goal: a cut takes memberships back, but never one that is chosen, also where the log does not reach it
/// yet; what was in force at an entry is known from the last chosen one on.
#[test]
fn a_history_follows_the_log() {
    let mut history = Memberships::restored(at(5, 1), vec![at(3, 9), at(7, 2), at(9, 3)]);
    assert_eq!(history.last(), &at(9, 3));
    assert_eq!(history.at(Slot(8)), &at(7, 2));
    assert_eq!(history.at(Slot(6)), &at(5, 1));
    history.cut_from(Slot(8));
    assert_eq!(history.last(), &at(7, 2));
    history.push(at(8, 4));
    history.settle(Slot(7));
    assert_eq!(history.at(Slot::ZERO), &at(7, 2));
    assert!(!history.is_settled());
    history.cut_from(Slot(1));
    assert!(history.is_settled());
    assert_eq!(history.last(), &at(7, 2), "what is chosen is never cut");
    history.begin_with(at(20, 5));
    history.push(at(12, 1));
    assert_eq!(history.last(), &at(20, 5));
    history.check();
}

/// Goal: a group needs voters before and after a change, and no more members than there is room for.
#[test]
fn a_group_needs_voters() {
    assert_eq!(of(&[Role::Learner]), Err(MembershipError::NoVoter));
    assert_eq!(of(&[Role::Leaving, Role::Learner]), Err(MembershipError::NoVoter));
    assert_eq!(of(&[Role::Joining]), Err(MembershipError::NoVoter));
    assert!(of(&[Role::Leaving, Role::Joining]).is_ok_and(|it| it.is_joint()));
    assert_eq!(of(&[Role::Voter; 17]), Err(MembershipError::TooMany(17)));
    assert!(!Membership::default().is_quorum(|_| true), "nobody is no quorum");
}
