//! Plans for other members: the steps of plain cases, refusals, and what holds for every plan.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate_topology::change::{
    MemberNow, MembersNow, Move, Plan, Redundancy, Refusal, Standing, Step, Usable, Wish,
    in_the_end, is_joint, plan, plan_moves,
};
use quorate_topology::{Level, Topology};
use quorate_types::MemberRole::{Demoted, Joining, Learner, Leaving, Suspended, Voter};
use quorate_types::ReplicaKind::{self, Arbiter, Full, LogOnly, ReadOnly};
use quorate_types::{Code, GroupId, MemberRole, NodeId};

const GROUP: GroupId = GroupId(1);

/// Two cities; sh has two IDCs, one of them with two zones. Nodes 1 to 8.
fn topology() -> Topology {
    let mut text = String::from(
        "[cluster]\nname = \"t\"\nid = \"6f1d0c5e9a7b4d3280f1e2d3c4b5a697\"\n\
         [[city]]\nname = \"sh\"\n[[city]]\nname = \"hz\"\n\
         [[idc]]\nname = \"sh-a\"\ncity = \"sh\"\n[[idc]]\nname = \"sh-b\"\ncity = \"sh\"\n\
         [[idc]]\nname = \"hz-a\"\ncity = \"hz\"\n\
         [[zone]]\nname = \"sh-a1\"\nidc = \"sh-a\"\n[[zone]]\nname = \"sh-a2\"\nidc = \"sh-a\"\n\
         [[zone]]\nname = \"sh-b1\"\nidc = \"sh-b\"\n[[zone]]\nname = \"hz-a1\"\nidc = \"hz-a\"\n",
    );
    let zones = ["sh-a1", "sh-a2", "sh-b1", "hz-a1", "sh-a1", "sh-a2", "sh-b1", "hz-a1"];
    for (index, zone) in zones.iter().enumerate() {
        let port = 6000 + 10 * index;
        text += &format!(
            "[[node]]\nid = {}\nzone = \"{zone}\"\nclient = \"h:{port}\"\npeer = \"h:{}\"\n\
             admin = \"h:{}\"\n",
            index + 1,
            port + 1,
            port + 2,
        );
    }
    text += "[[table]]\nid = 1\nname = \"load\"\nclass = \"unit\"\n\
             [[unit]]\nname = \"RZ00\"\nkind = \"rzone\"\nslices = \"00-99\"\n\
             [[group]]\nid = 1\nunit = \"RZ00\"\nslices = \"00-49\"\n\
             locality = \"F@sh-a1,F@sh-b1,F@hz-a1\"\nmembers = [\"n1\", \"n3\", \"n4\"]\n\
             [[group]]\nid = 2\nunit = \"RZ00\"\nslices = \"50-99\"\n\
             locality = \"F@sh-a1,F@sh-b1,F@hz-a1\"\nmembers = [\"n1\", \"n3\", \"n4\"]\n";
    Topology::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

fn n(number: u32) -> NodeId {
    NodeId(number)
}

/// Members that are all fit but for those named.
fn members(roles: &[(u32, MemberRole)], unfit: &[u32]) -> MembersNow {
    let member = |(node, role): &(u32, MemberRole)| {
        (n(*node), MemberNow { role: *role, kind: Full, fit: !unfit.contains(node) })
    };
    roles.iter().map(member).collect()
}

fn voters(nodes: &[u32], unfit: &[u32]) -> MembersNow {
    members(&nodes.iter().map(|node| (*node, Voter)).collect::<Vec<_>>(), unfit)
}

fn planned(now: &MembersNow, wish: Wish) -> Result<Plan, Refusal> {
    plan(&topology(), GROUP, now, wish, Redundancy::Keep)
}

fn steps(now: &MembersNow, wish: Wish) -> Vec<Step> {
    let plan = planned(now, wish).expect("there is a way");
    plan.steps.into_iter().map(|step| step.step).collect()
}

fn change(joining: &[u32], leaving: &[u32], demoted: &[u32]) -> Step {
    let nodes = |numbers: &[u32]| numbers.iter().copied().map(NodeId).collect();
    let (joining, leaving, demoted) = (nodes(joining), nodes(leaving), nodes(demoted));
    Step::ChangeVoters { joining, leaving, demoted }
}

fn refused(now: &MembersNow, wish: Wish) -> (Code, String) {
    let refusal = planned(now, wish).expect_err("there is no way");
    (refusal.code(), refusal.to_string())
}

#[test]
fn each_wish_has_its_way() {
    // Goal: learners first, then one joint change; what is done already is not done again.
    let three = voters(&[1, 3, 4], &[]);
    let replace = Wish::Replace(n(1), n(5));
    let (create, take_in, await_fit) =
        (Step::Create(n(5), Full), Step::TakeIn(n(5), Full), Step::AwaitFit(n(5), Full));
    let whole = [create.clone(), take_in.clone(), await_fit.clone(), change(&[5], &[1], &[])];
    assert_eq!(steps(&three, replace), whole);
    let add = Wish::AddVoter(n(5), Full);
    assert_eq!(steps(&three, add)[..3], whole[..3]);
    assert_eq!(steps(&three, add)[3], change(&[5], &[], &[]));
    assert_eq!(steps(&three, Wish::AddLearner(n(5), Full)), whole[..3]);

    let mut behind = three.clone();
    behind.insert(n(5), MemberNow { role: Learner, kind: Full, fit: false });
    assert_eq!(steps(&behind, replace), whole[2..]);
    assert_eq!(steps(&behind, Wish::Promote(n(5))), [await_fit, change(&[5], &[], &[])]);
    assert_eq!(steps(&behind, Wish::Remove(n(5))), [Step::Drop(n(5))]);
    let joint = members(&[(1, Leaving), (3, Voter), (4, Voter), (5, Joining)], &[]);
    assert_eq!(steps(&joint, replace), [Step::AwaitEnd]);
    assert_eq!(steps(&voters(&[3, 4, 5], &[]), replace), []);
    assert_eq!(steps(&three, Wish::Remove(n(5))), []);

    let four = voters(&[1, 2, 3, 4], &[]);
    assert_eq!(steps(&four, Wish::Demote(n(4))), [change(&[], &[], &[4])]);
    assert_eq!(steps(&four, Wish::Remove(n(4))), [change(&[], &[4], &[])]);
    let with_learner = members(&[(1, Voter), (3, Voter), (4, Voter), (2, Learner)], &[]);
    let moved = [create, take_in, Step::AwaitFit(n(5), Full), Step::Drop(n(2))];
    assert_eq!(steps(&with_learner, Wish::Replace(n(2), n(5))), moved);
}

#[test]
fn what_is_survived_is_told_for_before_during_and_after() {
    // Goal: whoever reads a plan sees what may be lost at every moment of it, and what is no longer survived.
    let plan = planned(&voters(&[1, 3, 4], &[1]), Wish::Replace(n(1), n(5))).unwrap();
    assert_eq!(
        plan.survives_before.words(),
        "n1 is down; does not survive the loss of any node still up; nor of any zone still up; \
         nor of any IDC still up; nor of any city still up"
    );
    let last = plan.steps.last().unwrap();
    assert!(last.survives_during.is_joint());
    assert_eq!(
        last.survives_during.words(),
        "n1 is down; does not survive the loss of node n3 (it holds 1 of the 2 voters still up) or \
         n4 (it holds 1 of the 2 voters still up); nor of zone sh-b1 (it holds 1 of the 2 voters \
         still up) or hz-a1 (it holds 1 of the 2 voters still up); nor of IDC sh-b (it holds 1 of \
         the 2 voters still up) or hz-a (it holds 1 of the 2 voters still up); nor of any city \
         still up"
    );
    assert_eq!(
        last.survives_after.words(),
        "survives the loss of any one node; of any one zone; of any one IDC; not of city sh (it \
         holds 2 of 3 voters)"
    );
}

#[test]
fn what_would_stop_a_group_or_leave_it_with_less_is_refused() {
    // Goal: a majority is never given away, and less than it survives now only if that is asked for.
    let three = voters(&[1, 3, 4], &[]);
    let (code, words) = refused(&three, Wish::Remove(n(4)));
    assert_eq!(code, Code::LessRedundancy);
    assert!(words.starts_with(
        "RZ00/g1 survives the loss of any one node now; then it does not survive the loss of"
    ));
    for wish in [Wish::Remove(n(4)), Wish::Demote(n(4))] {
        assert!(plan(&topology(), GROUP, &three, wish, Redundancy::AcceptLess).is_ok());
    }
    let one_down = voters(&[1, 3, 4], &[4]);
    assert!(planned(&one_down, Wish::Remove(n(4))).is_ok(), "nothing is lost with it");
    for redundancy in [Redundancy::Keep, Redundancy::AcceptLess] {
        let wish = Wish::Remove(n(1));
        let refusal = plan(&topology(), GROUP, &one_down, wish, redundancy).unwrap_err();
        assert_eq!(refusal.code(), Code::NoQuorum);
        assert!(refusal.to_string().starts_with("the change would stop RZ00/g1: stopped: 1 of 2"));
        let two_down = voters(&[1, 3, 4], &[3, 4]);
        let wish = Wish::AddVoter(n(5), Full);
        let refusal = plan(&topology(), GROUP, &two_down, wish, redundancy).unwrap_err();
        assert_eq!(refusal.code(), Code::NoQuorum);
        assert!(refusal.to_string().contains("cannot change its members now"), "{refusal}");
    }
}

#[test]
fn wishes_that_make_no_sense_are_refused_in_words() {
    // Goal: a mistyped node changes nothing.
    let now = members(&[(1, Voter), (3, Voter), (4, Voter), (2, Learner)], &[]);
    let absent =
        (Code::WrongNode, "n7 has no replica of RZ00/g1; its members are on n1, n2, n3, n4");
    for wish in [Wish::Promote(n(7)), Wish::Demote(n(7)), Wish::Replace(n(7), n(8))] {
        assert_eq!(refused(&now, wish), (absent.0, absent.1.to_owned()));
    }
    assert_eq!(refused(&now, Wish::AddLearner(n(1), Full)).0, Code::MemberExists);
    assert_eq!(refused(&now, Wish::Replace(n(1), n(3))).0, Code::MemberExists);
    assert_eq!(refused(&now, Wish::Replace(n(1), n(1))).0, Code::InvalidRequest);
    let alone = voters(&[1], &[]);
    assert_eq!(refused(&alone, Wish::Remove(n(1))).0, Code::InvalidRequest);
    assert_eq!(refused(&alone, Wish::Demote(n(1))).0, Code::InvalidRequest);
}

fn moved_to(groups: &[MembersNow], from: u32, usable: &[(u32, usize)]) -> Result<Vec<u32>, String> {
    let groups: BTreeMap<GroupId, MembersNow> =
        (1..).map(GroupId).zip(groups.iter().cloned()).collect();
    let usable: Usable = usable.iter().map(|(node, count)| (n(*node), *count)).collect();
    let (to, redundancy) = (Move::Spread, Redundancy::Keep);
    let plans = plan_moves(&topology(), &groups, n(from), to, &usable, redundancy);
    let plans = plans.map_err(|refusal| refusal.to_string())?;
    let by = |plan: &Plan| match plan.wish {
        Wish::Replace(_, by) => by.0,
        _ => 0,
    };
    Ok(plans.iter().map(by).collect())
}

#[test]
fn a_node_is_emptied_to_the_nearest_that_have_room() {
    // Goal: zone before IDC before city, never to another voter of the group, and as evenly as that allows.
    let three = voters(&[1, 3, 4], &[]);
    let one = std::slice::from_ref(&three);
    let all = [(2, 0), (3, 0), (4, 0), (5, 9), (6, 1), (7, 0), (8, 0)];
    assert_eq!(moved_to(one, 1, &all), Ok(vec![5]), "its own zone");
    let without_5 = [(2, 0), (3, 0), (4, 0), (6, 1), (7, 0), (8, 0)];
    let two = [three.clone(), three.clone()];
    assert_eq!(moved_to(&two, 1, &without_5), Ok(vec![2, 2]), "its IDC, by number among equals");
    let two_full = [(2, 5), (6, 4)];
    assert_eq!(moved_to(&two, 1, &two_full), Ok(vec![6, 2]), "its IDC, the one with fewer");
    assert_eq!(moved_to(one, 1, &[(3, 0), (7, 0), (8, 0)]), Ok(vec![7]), "its city");
    let refused = moved_to(&two, 1, &[(3, 0), (8, 0)]).unwrap_err();
    assert_eq!(
        refused,
        "no node can take the replica of RZ00/g1 from n1: in city sh, n2 cannot be used, n3 votes \
         in the group already, n5 cannot be used, n6 cannot be used, n7 cannot be used"
    );
    // A learner that stands there already is that of a move that was interrupted.
    let begun = members(&[(1, Voter), (3, Voter), (4, Voter), (6, Learner)], &[6]);
    assert_eq!(moved_to(&[begun, three.clone()], 1, &without_5), Ok(vec![6, 2]));
    let over = [members(&[(1, Leaving), (3, Voter), (4, Voter), (6, Joining)], &[])];
    assert_eq!(moved_to(&over, 1, &without_5), Ok(vec![0]), "waits for the end");
    assert_eq!(moved_to(&[voters(&[2, 3, 4], &[])], 1, &without_5), Ok(vec![]));
}

/// Fit voters of these kinds, and learners that are read-only.
fn of_kinds(kinds: &[(u32, ReplicaKind)]) -> MembersNow {
    let member = |(node, kind): &(u32, ReplicaKind)| {
        let role = if kind.votes() { Voter } else { Learner };
        (n(*node), MemberNow { role, kind: *kind, fit: true })
    };
    kinds.iter().map(member).collect()
}

#[test]
fn kinds_come_with_their_wishes_and_stay_with_their_places() {
    // Goal: a replica is made of the kind that was asked for; who takes a place over holds what was held there; on
    // the same rows a read-only replica becomes a full one and back.
    let three = voters(&[1, 3, 4], &[]);
    let add = steps(&three, Wish::AddLearner(n(5), ReadOnly));
    assert_eq!(
        add,
        [
            Step::Create(n(5), ReadOnly),
            Step::TakeIn(n(5), ReadOnly),
            Step::AwaitFit(n(5), ReadOnly)
        ],
        "it never votes"
    );
    let five = of_kinds(&[(1, Full), (2, Full), (3, Full), (4, LogOnly), (6, ReadOnly)]);
    let replaced = planned(&five, Wish::Replace(n(4), n(8))).unwrap();
    assert_eq!(replaced.steps[0].step, Step::Create(n(8), LogOnly));
    assert_eq!(replaced.end()[&n(8)], MemberNow { role: Voter, kind: LogOnly, fit: true });
    let promoted = [Step::Turn(n(6), Full), change(&[6], &[], &[])];
    assert_eq!(steps(&five, Wish::Promote(n(6))), promoted);
    assert_eq!(steps(&five, Wish::AddVoter(n(6), Full)), promoted);
    let demoted = members(&[(1, Voter), (3, Voter), (4, Voter), (6, Learner)], &[]);
    assert_eq!(steps(&demoted, Wish::AddLearner(n(6), ReadOnly)), [Step::Turn(n(6), ReadOnly)]);
}

#[test]
fn kinds_that_make_no_group_are_refused() {
    // Goal: a change ends only with voters of whom one can lead whatever minority is lost, and never asks a node
    // for a kind that its data is not.
    let two_full = of_kinds(&[(1, Full), (3, Full), (4, LogOnly), (2, LogOnly)]);
    let (code, words) = refused(&two_full, Wish::AddVoter(n(5), LogOnly));
    assert_eq!(code, Code::InvalidRequest);
    assert_eq!(
        words,
        "RZ00/g1 would have 2 full among 5 replicas that vote; of those, 3 must be full, because 2 may be lost and \
         only a full one can lead"
    );
    assert!(planned(&two_full, Wish::AddVoter(n(5), Full)).is_ok());
    let with_arbiter = of_kinds(&[(1, Full), (3, Full), (4, Arbiter)]);
    assert_eq!(
        refused(&with_arbiter, Wish::AddVoter(n(5), Full)).1,
        "RZ00/g1 would have an arbiter beside 3 full replicas; it goes with 2 or 4 of them: an odd number needs none"
    );
    assert_eq!(
        refused(&with_arbiter, Wish::AddVoter(n(4), Full)).1,
        "n4 has a replica of RZ00/g1 that is arbiter, and it cannot become full"
    );
    assert!(planned(&voters(&[1, 3], &[]), Wish::AddVoter(n(4), Arbiter)).is_ok());
}

#[test]
fn a_suspended_voter_keeps_its_vote_in_every_plan() {
    // Goal: who is set aside for a while is not taken for a learner: its place can be given to another node, and no
    // other wish changes it.
    let mut now = of_kinds(&[(1, Full), (3, Full), (4, Arbiter)]);
    now.insert(n(3), MemberNow { role: Suspended, kind: Full, fit: false });
    assert_eq!(steps(&now, Wish::Promote(n(3))), []);
    let replaced = planned(&now, Wish::Replace(n(3), n(7))).unwrap();
    assert_eq!(replaced.end()[&n(7)].role, Voter);
    assert!(!replaced.end().contains_key(&n(3)));
    for step in &replaced.steps {
        for on_the_way in [&step.during, &step.after] {
            let again = planned(on_the_way, Wish::Replace(n(3), n(7))).expect("it goes on");
            assert_eq!(roles(again.end()), roles(replaced.end()), "{:?}", step.step);
        }
    }
    assert!(planned(&now, Wish::Replace(n(3), n(1))).is_err(), "one full replica would be left");
    assert_eq!(
        Standing::of(&topology(), topology().group(GROUP).unwrap(), &now).words(),
        "does not survive the loss of any node; nor of any zone; nor of any IDC; nor of any city"
    );
}

fn any_members() -> impl Strategy<Value = MembersNow> {
    let role = prop_oneof![
        4 => Just(Voter), 2 => Just(Learner), 1 => Just(Joining), 1 => Just(Leaving),
        1 => Just(Demoted),
    ];
    let member = (role, prop::bool::weighted(0.8));
    prop::collection::btree_map(1_u32..=8, member, 1..=8).prop_map(|members| {
        let member = |(node, (role, fit))| (NodeId(node), MemberNow { role, kind: Full, fit });
        members.into_iter().map(member).collect()
    })
}

fn any_wish() -> impl Strategy<Value = Wish> {
    let node = || (1_u32..=8).prop_map(NodeId);
    prop_oneof![
        node().prop_map(|node| Wish::AddVoter(node, Full)),
        node().prop_map(|node| Wish::AddLearner(node, Full)),
        node().prop_map(Wish::Remove),
        (node(), node()).prop_map(|(node, by)| Wish::Replace(node, by)),
        node().prop_map(Wish::Promote),
        node().prop_map(Wish::Demote),
    ]
}

fn roles(members: &MembersNow) -> BTreeMap<NodeId, MemberRole> {
    members.iter().map(|(node, member)| (*node, member.role)).collect()
}

/// A majority of the fit, by the definition, among those who vote before and among those who vote after.
fn lives(members: &MembersNow) -> bool {
    let has = |votes: fn(MemberRole) -> bool| {
        let all: Vec<bool> =
            members.values().filter(|it| votes(it.role)).map(|it| it.fit).collect();
        all.len() < 2 * all.iter().filter(|fit| **fit).count()
    };
    has(MemberRole::votes_before) && has(MemberRole::votes_after)
}

/// Whether the group lives without any one of the nodes.
fn survives_any_node(members: &MembersNow) -> bool {
    members.keys().all(|lost| {
        let mut without = members.clone();
        without.get_mut(lost).expect("it is one of them").fit = false;
        lives(&without)
    })
}

/// What a wish means for its node at the end.
fn check_end(plan: &Plan) {
    let (wish, end) = (plan.wish, plan.end());
    let settled = in_the_end(&plan.before);
    let role = |node: NodeId| end.get(&node).map(|member| member.role);
    let was = |node: NodeId| settled.get(&node).map(|member| member.role);
    assert!(!is_joint(end));
    let (named, expected): (Vec<NodeId>, _) = match wish {
        Wish::AddVoter(node, _) | Wish::Promote(node) => (vec![node], Some(Voter)),
        Wish::AddLearner(node, _) | Wish::Demote(node) => (vec![node], Some(Learner)),
        Wish::Remove(node) => (vec![node], None),
        Wish::Replace(node, by) => {
            assert_eq!(role(node), None);
            (vec![by, node], was(node).or_else(|| was(by)))
        }
    };
    assert_eq!(role(named[0]), expected, "{plan:?}");
    for node in settled.keys().chain(end.keys()).filter(|node| !named.contains(node)) {
        assert_eq!(role(*node), was(*node), "nobody else changes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_plan_ends_with_its_wish_and_never_without_a_majority(
        now in any_members(), wish in any_wish(), accept in any::<bool>(),
    ) {
        // Goal: the end is the wish; at every moment a majority of both sides lives; what is told about it
        // agrees with counting; and whoever begins again anywhere on the way comes to the same end.
        let redundancy = if accept { Redundancy::AcceptLess } else { Redundancy::Keep };
        let topology = topology();
        let Ok(plan) = plan(&topology, GROUP, &now, wish, redundancy) else { return Ok(()) };
        check_end(&plan);
        if plan.steps.is_empty() {
            prop_assert_eq!(roles(&plan.before), roles(&in_the_end(&plan.before)));
            return Ok(());
        }
        prop_assert!(lives(&now));
        let group = topology.group(GROUP).unwrap();
        for step in &plan.steps {
            for members in [&step.during, &step.after] {
                prop_assert!(lives(members), "{:?} in {:?}", step, plan);
                let told = Standing::of(&topology, group, members);
                prop_assert!(told.has_majority());
                prop_assert_eq!(told.any_one(Level::Node), survives_any_node(members));
                let again = quorate_topology::change::plan(
                    &topology, GROUP, members, wish, redundancy,
                ).unwrap();
                prop_assert_eq!(roles(again.end()), roles(plan.end()));
                prop_assert!(again.steps.len() <= plan.steps.len());
            }
        }
        if !accept && (survives_any_node(&now) || survives_any_node(&in_the_end(&now))) {
            prop_assert!(survives_any_node(plan.end()));
        }
    }
}
