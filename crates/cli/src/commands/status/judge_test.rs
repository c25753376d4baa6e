//! Verdicts on clusters in every state: data first, one helper builds the answers.

use quorate_client::{MemberProgress, MemberRole};
use quorate_topology::presets::{Options, one_city_three_idcs};
use quorate_types::{Ballot, ClusterId, EntryId, Incarnation, ReplicaId, Slot};

use super::*;

const GROUPS: u32 = 5;

pub(crate) fn topology() -> Topology {
    Topology::parse(&one_city_three_idcs(&Options::demo(ClusterId(7)))).expect("presets are valid")
}

/// Three nodes that answer, node 1 leading every group at slot 20,000.
pub(crate) fn all_up() -> Answers {
    (1..=3).map(|node| (NodeId(node), Ok(node_status(node)))).collect()
}

pub(crate) fn node_status(node: u32) -> NodeStatus {
    NodeStatus {
        cluster: ClusterId(7),
        node: NodeId(node),
        name: format!("n{node}"),
        incarnation: Incarnation(u64::from(node)),
        version: "0.1.0".to_owned(),
        topology_version: 1,
        uptime: Duration::from_secs(3_700),
        draining: false,
        ready: true,
        disk_free_bytes: 80 << 30,
        disk_total_bytes: 100 << 30,
        log_bytes: 64 << 20,
        groups: (1..=GROUPS).map(|group| status_of_group(group, node)).collect(),
        notices: Vec::new(),
    }
}

fn status_of_group(group: u32, node: u32) -> GroupStatus {
    let is_leader = node == 1;
    let progress = |node| MemberProgress {
        node: NodeId(node),
        slot_synced: Slot(20_000),
        heard_ago: Some(Duration::from_millis(40)),
        in_flight_bytes: 0,
    };
    GroupStatus {
        group: GroupId(group),
        unit: if group == 5 { "GZ".to_owned() } else { format!("RZ0{}", group - 1) },
        role: if is_leader { Role::Leader } else { Role::Follower },
        ballot: Ballot { round: 3, replica: ReplicaId(1) },
        leader: Some(NodeId(1)),
        lease_remaining: if is_leader { Duration::from_millis(900) } else { Duration::ZERO },
        serving: is_leader,
        slot_accepted: Slot(20_000),
        slot_synced: Slot(20_000),
        slot_committed: Slot(20_000),
        slot_applied: Slot(20_000),
        slot_persisted: Slot(19_000),
        sessions: 1,
        members: if is_leader { vec![progress(2), progress(3)] } else { Vec::new() },
    }
}

fn refused() -> Result<NodeStatus, Error> {
    Err(Error::new(Code::Unreachable, "connection refused"))
}

/// Changes what `node` says about group 1.
fn change(answers: &mut Answers, node: u32, change: impl FnOnce(&mut GroupStatus)) {
    let status = answers.get_mut(&NodeId(node)).unwrap().as_mut().unwrap();
    change(&mut status.groups[0]);
}

fn states(verdict: &Verdict, group: usize) -> Vec<&'static str> {
    verdict.groups[group].members.iter().map(|member| member.state.word()).collect()
}

#[test]
fn a_cluster_with_every_node_up_is_healthy_and_survives_one_idc() {
    let verdict = judge(&topology(), &all_up(), &Told::new());
    assert!(verdict.is_healthy());
    assert_eq!(
        verdict.headline(),
        "healthy: 5 of 5 groups have a serving leader and a caught-up majority"
    );
    assert!(verdict.survival.headline().starts_with("survives: 1 node yes; 1 IDC yes; 1 city NO"));
    assert_eq!(states(&verdict, 0), ["leader", "caught-up", "caught-up"]);
    assert_eq!(verdict.groups[0].leader, Some(NodeId(1)));
    assert_eq!(verdict.groups[0].lag_slots_max(), Some(0));
    assert!(verdict.warnings.is_empty());
}

#[test]
fn a_follower_lost_is_healthy_and_nothing_more_may_be_lost() {
    let mut answers = all_up();
    answers.insert(NodeId(3), refused());
    let verdict = judge(&topology(), &answers, &Told::new());
    assert!(verdict.is_healthy());
    assert!(verdict.headline().ends_with("; 1 of 3 nodes does not answer"));
    assert!(verdict.survival.headline().contains("1 node NO"));
    assert_eq!(verdict.survival.groups[0].down, ["n3"]);
}

#[test]
fn a_group_without_a_leader_is_unhealthy() {
    let mut answers = all_up();
    answers.insert(NodeId(1), refused());
    let verdict = judge(&topology(), &answers, &Told::new());
    assert!(!verdict.is_healthy());
    assert_eq!(verdict.groups[0].state, GroupState::NoLeader);
    assert!(states(&verdict, 0).contains(&"waiting"));
    assert!(verdict.headline().starts_with("UNHEALTHY: 5 of 5 groups do not serve: RZ00/g1, "));
    // A majority is up, so an election can still help.
    assert!(verdict.survival.all_have_majority());
}

#[test]
fn a_leader_that_does_not_serve_is_unhealthy() {
    let mut answers = all_up();
    change(&mut answers, 1, |group| group.serving = false);
    let verdict = judge(&topology(), &answers, &Told::new());
    assert_eq!(verdict.groups[0].state, GroupState::LeaderNotServing);
    assert_eq!(verdict.groups[1].state, GroupState::Serving);
    assert!(!verdict.is_healthy());
    assert!(verdict.headline().starts_with("UNHEALTHY: 1 of 5 groups do not serve: RZ00/g1"));
}

#[test]
fn a_leader_alone_is_unhealthy_although_it_says_it_serves() {
    let mut answers = all_up();
    answers.insert(NodeId(2), refused());
    answers.insert(NodeId(3), refused());
    let verdict = judge(&topology(), &answers, &Told::new());
    assert_eq!(verdict.groups[0].state, GroupState::NoCaughtUpMajority);
    assert!(verdict.survival.headline().starts_with("without a majority: RZ00/g1"));
    assert!(verdict.headline().ends_with("; 2 of 3 nodes do not answer"));
}

#[test]
fn a_lagging_follower_counts_as_lost() {
    let mut answers = all_up();
    change(&mut answers, 2, |group| group.slot_synced = Slot(20_000 - LAG_SLOTS_MAX - 1));
    let verdict = judge(&topology(), &answers, &Told::new());
    assert!(verdict.is_healthy());
    assert_eq!(verdict.groups[0].caught_up, 2);
    assert_eq!(verdict.groups[0].lag_slots_max(), Some(LAG_SLOTS_MAX + 1));
    assert_eq!(verdict.survival.groups[0].down, ["n2"]);
    assert!(verdict.survival.groups[1].down.is_empty());

    change(&mut answers, 2, |group| group.slot_synced = Slot(20_000 - LAG_SLOTS_MAX));
    assert_eq!(judge(&topology(), &answers, &Told::new()).groups[0].caught_up, 3);
}

#[test]
fn what_the_leader_has_not_heard_of_does_not_count() {
    let mut answers = all_up();
    change(&mut answers, 1, |group| {
        for progress in &mut group.members {
            progress.slot_synced = Slot(0);
        }
    });
    let verdict = judge(&topology(), &answers, &Told::new());
    assert_eq!(states(&verdict, 0), ["leader", "lagging", "lagging"]);
    assert_eq!(verdict.groups[0].state, GroupState::NoCaughtUpMajority);
}

#[test]
fn a_member_that_follows_somebody_else_counts_as_lost() {
    let mut answers = all_up();
    change(&mut answers, 3, |group| group.leader = None);
    let verdict = judge(&topology(), &answers, &Told::new());
    assert!(states(&verdict, 0).contains(&"not-following"));
    assert_eq!(verdict.groups[0].caught_up, 2);
    assert!(verdict.is_healthy());
}

#[test]
fn a_member_that_the_leader_no_longer_hears_counts_as_lost() {
    let mut answers = all_up();
    change(&mut answers, 1, |group| {
        group.members[0].heard_ago = Some(HEARD_AGO_MAX + Duration::from_millis(1));
        group.members[1].heard_ago = Some(HEARD_AGO_MAX);
    });
    let verdict = judge(&topology(), &answers, &Told::new());
    assert_eq!(states(&verdict, 0), ["leader", "not-heard", "caught-up"]);
    assert!(verdict.is_healthy());
    assert_eq!(verdict.survival.groups[0].down, ["n2"]);
}

#[test]
fn of_two_leaders_the_one_with_the_higher_ballot_counts() {
    let mut answers = all_up();
    for node in [2, 3] {
        change(&mut answers, node, |group| {
            group.leader = Some(NodeId(2));
            group.ballot = Ballot { round: 4, replica: ReplicaId(2) };
        });
    }
    change(&mut answers, 2, |group| {
        group.role = Role::Leader;
        group.serving = true;
    });
    let verdict = judge(&topology(), &answers, &Told::new());
    assert_eq!(verdict.groups[0].leader, Some(NodeId(2)));
    assert_eq!(verdict.groups[0].ballot.as_deref(), Some("4.2"));
    assert_eq!(states(&verdict, 0), ["not-following", "leader", "caught-up"]);
    assert!(verdict.is_healthy());
}

#[test]
fn a_node_that_recovers_or_lacks_a_group_counts_as_lost() {
    let mut answers = all_up();
    answers.get_mut(&NodeId(2)).unwrap().as_mut().unwrap().ready = false;
    answers.get_mut(&NodeId(3)).unwrap().as_mut().unwrap().groups.remove(0);
    let verdict = judge(&topology(), &answers, &Told::new());
    let mut found = states(&verdict, 0);
    found.sort_unstable();
    assert_eq!(found, ["leader", "missing", "starting"]);
    assert_eq!(verdict.groups[0].state, GroupState::NoCaughtUpMajority);
    assert_eq!(verdict.groups[1].state, GroupState::Serving);
}

#[test]
fn nobody_answers() {
    let answers: Answers = (1..=3).map(|node| (NodeId(node), refused())).collect();
    let verdict = judge(&topology(), &answers, &Told::new());
    assert_eq!(verdict.answered, 0);
    assert!(!verdict.is_healthy());
}

#[test]
fn a_stranger_at_a_known_address_is_no_answer() {
    let mut answers = all_up();
    answers.get_mut(&NodeId(2)).unwrap().as_mut().unwrap().cluster = ClusterId(8);
    answers.insert(NodeId(3), Ok(node_status(2)));
    let checked = without_strangers(&topology(), answers);
    let code = |node| checked[&NodeId(node)].as_ref().map_err(|error| error.code).err();
    assert_eq!(code(1), None);
    assert_eq!(code(2), Some(Code::ClusterMismatch));
    assert_eq!(code(3), Some(Code::NodeMismatch));
}

#[test]
fn full_disks_old_maps_and_shut_downs_are_warned_of() {
    let mut answers = all_up();
    let status = answers.get_mut(&NodeId(2)).unwrap().as_mut().unwrap();
    status.disk_free_bytes = 14 << 30;
    status.topology_version = 2;
    status.draining = true;
    assert_eq!(
        judge(&topology(), &answers, &Told::new()).warnings,
        [
            "n2 is shutting down",
            "n2 routes by topology version 2, the version shown is 1",
            "n2 has 14 % of its disk free",
        ]
    );
}

/// The members of group 1 as a leader tells them: node, rank, role.
fn told(members: &[(u32, u16, MemberRole)], changing: bool) -> Told {
    let report = |(node, rank, role): &(u32, u16, MemberRole)| MemberReport {
        replica: ReplicaId(u64::from(100 + node)),
        node: NodeId(*node),
        rank: *rank,
        role: *role,
        leads: *node == 1,
        slot_synced: Slot(20_000),
        heard_ago: Some(Duration::ZERO),
        lag_bytes: 0,
        refilling: false,
        fit: true,
        kind: ReplicaKind::Full,
    };
    let since = EntryId { ballot: Ballot { round: 3, replica: ReplicaId(1) }, slot: Slot(9) };
    let members = members.iter().map(report).collect();
    let members = Members { since, chosen: true, changing, members, slot_last: Slot(20_000) };
    BTreeMap::from([(GroupId(1), members)])
}

#[test]
fn members_are_those_that_the_leader_tells() {
    // Goal: a node that left a group is not missed, and a learner counts in no majority.
    use MemberRole::{Learner, Leaving, Voter};
    let mut answers = all_up();
    answers.insert(NodeId(3), refused());
    let left = told(&[(1, 0, Voter), (2, 1, Learner)], false);
    let verdict = judge(&topology(), &answers, &left);
    assert_eq!(states(&verdict, 0), ["leader", "caught-up"]);
    let group = &verdict.groups[0];
    assert_eq!((group.state, group.voter_count, group.majority), (GroupState::Serving, 1, 1));
    assert_eq!((group.learners.as_slice(), group.is_changing), (&[NodeId(2)][..], false));
    assert!(!verdict.survival.groups[0].any_one(quorate_topology::Level::Node));
    assert_eq!(states(&verdict, 1), ["caught-up", "leader", "unreachable"], "as in the file");

    let leaves = told(&[(1, 0, Leaving), (2, 1, Voter), (3, 2, Voter)], true);
    let group = &judge(&topology(), &all_up(), &leaves).groups[0];
    assert_eq!((group.state, group.leader), (GroupState::Serving, Some(NodeId(1))));
    assert_eq!((group.voter_count, group.is_changing), (2, true));
}
