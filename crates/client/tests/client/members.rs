//! Members of a group: who is asked, what is sent, and what is made of the answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_client::{
    Code, EntryId, HistoryReport, Loss, LossKind, MemberReport, MemberRole, MemberSeat, Members,
    NodeId, Outcome, RecoveryOrder, ReplicaId, Slot,
};
use quorate_proto::convert::members::seat_from_wire;
use quorate_proto::v1;
use quorate_types::{Ballot, Error, ReplicaKind};

use super::nodes::{ANY_GROUP, Nodes};

/// The members of the group as the scripted nodes have them.
#[derive(Debug)]
pub(crate) struct Circle {
    pub(crate) members: Members,
    /// Replicas that were made and are no members yet.
    pub(crate) created: BTreeMap<NodeId, u64>,
    pub(crate) pinned: Option<NodeId>,
    pub(crate) drained: Option<NodeId>,
    /// Nodes without a replica.
    pub(crate) absent: BTreeSet<u32>,
    /// What the leader refuses its next calls with.
    pub(crate) refusals: VecDeque<Error>,
}

impl Default for Circle {
    fn default() -> Circle {
        let seat = |node| MemberSeat {
            replica: ReplicaId(node),
            node: NodeId(1),
            rank: 0,
            kind: ReplicaKind::Full,
            votes: true,
        };
        let members = (1..=3).map(|node| MemberSeat { node: NodeId(node as u32), ..seat(node) });
        Circle {
            members: Members {
                since: EntryId {
                    ballot: Ballot { round: 1, replica: ReplicaId(1) },
                    slot: Slot(77),
                },
                chosen: true,
                changing: false,
                members: members.map(report).collect(),
                slot_last: Slot(9),
            },
            created: BTreeMap::new(),
            pinned: None,
            drained: None,
            absent: BTreeSet::new(),
            refusals: VecDeque::new(),
        }
    }
}

fn report(seat: MemberSeat) -> MemberReport {
    MemberReport {
        replica: seat.replica,
        node: seat.node,
        rank: seat.rank,
        kind: seat.kind,
        role: if seat.votes { MemberRole::Voter } else { MemberRole::Learner },
        leads: false,
        slot_synced: Slot(9),
        heard_ago: None,
        lag_bytes: 0,
        refilling: false,
        fit: true,
    }
}

impl Circle {
    pub(crate) fn change(&mut self, wish: v1::ChangeMembersRequest, at: u64) -> Result<(), Error> {
        assert_eq!(wish.group, ANY_GROUP.0);
        if wish.expected.expect("the client says").slot != self.members.since.slot.0 {
            return Err(Error::new(Code::MembersChanged, "they are others"));
        }
        let seats = wish.members.into_iter().map(|seat| seat_from_wire(seat).expect("whole"));
        self.members.members = seats.map(report).collect();
        self.members.since.slot = Slot(at);
        Ok(())
    }

    pub(crate) fn create(&mut self, node: NodeId) -> Result<u64, Error> {
        if self.members.on(node).is_some() {
            return Err(Error::new(Code::MemberExists, "there is one"));
        }
        let next = 100 + u64::from(node.0);
        Ok(*self.created.entry(node).or_insert(next))
    }
}

fn seats(members: &Members) -> Vec<MemberSeat> {
    let seat = |member: &MemberReport| MemberSeat {
        replica: member.replica,
        node: member.node,
        rank: member.rank,
        kind: member.kind,
        votes: member.role.votes_after(),
    };
    members.members.iter().map(seat).collect()
}

#[tokio::test]
async fn members_are_asked_of_the_leader_and_changed_there() {
    // Goal: the caller need not know who leads; what it read is what a change is measured against.
    let (nodes, client) = Nodes::with_client().await;
    nodes.world().leader = 2;
    let before = client.members(ANY_GROUP).await.unwrap();
    assert_eq!(before, nodes.world().circle.members);
    nodes.world().leader = 3;
    let wish = seats(&before)[1..].to_vec();
    let since = client.change_members(ANY_GROUP, before.since, &wish).await.unwrap();
    let after = client.members(ANY_GROUP).await.unwrap();
    assert_eq!((after.since.slot, seats(&after)), (since.slot, wish.clone()));
    let error = client.change_members(ANY_GROUP, before.since, &wish).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::MembersChanged, Outcome::NotApplied));
}

#[tokio::test]
async fn survivors_are_asked_themselves_and_the_ledger_is_asked_of_the_leader() {
    // Goal: what a node says of itself is not looked for elsewhere; what a group says comes from its leader.
    let (nodes, client) = Nodes::with_client().await;
    nodes.world().leader = 2;
    let standings = client.standings(ANY_GROUP, Slot::ZERO).await;
    assert!(3 <= standings.len(), "{standings:?}");
    for standing in standings {
        let error = standing.standing.expect_err("it holds none");
        let is_refused = matches!(error.code(), Code::WrongNode | Code::Unreachable);
        assert!(is_refused && error.endpoints().len() == 1, "{error:?}");
    }
    let order = RecoveryOrder {
        group: ANY_GROUP,
        confirm: "RZ00/g1".to_owned(),
        history: HistoryReport::default(),
        promised: Ballot::ZERO,
        proven: EntryId::ZERO,
        loss: Loss {
            kind: LossKind::ForcedRecovery,
            history_before: 0,
            history_after: 1,
            proven_through: Slot::ZERO,
            kept_through: Slot::ZERO,
            kept: vec![ReplicaId(1)],
            given_up: vec![ReplicaId(2)],
            operator: String::new(),
            reason: String::new(),
            told_at_ms: 0,
        },
    };
    let error = client.force_recovery(NodeId(1), &order).await.unwrap_err();
    assert_eq!((error.code(), error.outcome()), (Code::GroupNotLost, Outcome::NotApplied));
    assert_eq!(client.losses(ANY_GROUP).await.unwrap(), []);
}

#[tokio::test]
async fn a_group_is_found_where_the_cluster_file_does_not_have_it() {
    // Goal: a node that lost its replica of a group does not end the search for the leader.
    let (nodes, client) = Nodes::with_client().await;
    nodes.world().leader = 3;
    nodes.world().circle.absent.extend([1, 2]);
    assert_eq!(client.members(ANY_GROUP).await.unwrap().members.len(), 3);
}

#[tokio::test]
async fn a_refusal_that_may_pass_is_asked_again() {
    // Goal: a leader that is not ready yet costs a pause; a replica that is not ready is no lost request.
    let (nodes, client) = Nodes::with_client().await;
    let order = |code| nodes.world().circle.refusals.push_back(Error::new(code, "not yet"));
    order(Code::NotReady);
    let members = client.members(ANY_GROUP).await.unwrap();
    order(Code::MemberNotReady);
    client.change_members(ANY_GROUP, members.since, &seats(&members)).await.unwrap();
}

#[tokio::test]
async fn replicas_are_made_where_they_are_to_be() {
    // Goal: calls about one node go to that node, and asking again makes no second replica.
    let (nodes, client) = Nodes::with_client().await;
    let taken = client.create_replica(NodeId(3), ANY_GROUP, ReplicaKind::Full).await.unwrap_err();
    assert_eq!(taken.code(), Code::MemberExists);
    nodes.world().circle.members.members.pop();
    for _ in 0..2 {
        let made = client.create_replica(NodeId(3), ANY_GROUP, ReplicaKind::Full).await.unwrap();
        assert_eq!(made, ReplicaId(103));
    }
    let unknown = client.create_replica(NodeId(9), ANY_GROUP, ReplicaKind::Full).await.unwrap_err();
    assert_eq!(unknown.code(), Code::WrongNode);
}

#[tokio::test]
async fn pins_and_drains_reach_their_node() {
    // Goal: the node that is named hears of it, and of the opposite.
    let (nodes, client) = Nodes::with_client().await;
    client.pin_leader(NodeId(2), ANY_GROUP, true).await.unwrap();
    assert_eq!(nodes.world().circle.pinned, Some(NodeId(2)));
    client.pin_leader(NodeId(2), ANY_GROUP, false).await.unwrap();
    assert_eq!(nodes.world().circle.pinned, None);
    assert_eq!(client.drain_node(NodeId(1), true).await.unwrap(), 1, "it leads one group");
    assert_eq!(nodes.world().circle.drained, Some(NodeId(1)));
    assert_eq!(client.drain_node(NodeId(3), false).await.unwrap(), 0);
    assert_eq!(nodes.world().circle.drained, None);
}
