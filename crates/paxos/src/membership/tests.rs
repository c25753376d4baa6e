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
