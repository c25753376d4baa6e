//! Members that come and go while everything else breaks: operators who ask for changes through a client, as
//! `quorate group` does, and hardly wait for one before they ask for the next.
//!
//! What is asked for follows from the members that a leader tells: learners are taken in, promoted, demoted,
//! dropped, voters replaced, one or all of them. Two operators ask at once, so that the second is refused
//! what the first has changed. Now and then somebody dies just then: `nemesis.rs` kills whom it is told to.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_client::{Client, MemberReport, Members, Topology};
use quorate_types::{GroupId, MemberSeat, NodeId, ReplicaKind};
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use tokio::sync::mpsc;

use crate::cluster::Death;
use crate::options::{Options, Scenario};
use crate::random::{Draw, pick, random};
use crate::trace::Trace;
use crate::workload::Ending;

/// Operators at once.
pub const OPERATORS: u32 = 2;
/// Members of a group, at most, that an operator asks for.
const MEMBERS_MAX: usize = 6;
/// How often a change is drawn until there is one.
const DRAWS_MAX: usize = 8;
/// Nothing changes before this: the first leaders are elected.
const FIRST: Duration = Duration::from_millis(1_500);

/// Somebody who is to die just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interruption {
    /// The node.
    pub node: NodeId,
    /// How.
    pub death: Death,
    /// How long it is down.
    pub down: Duration,
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// A new replica on this node, as a learner.
    TakeIn(NodeId),
    /// These members.
    Seats(Vec<MemberSeat>),
}

/// An operator.
pub struct Churn {
    client: Client,
    groups: Vec<GroupId>,
    nodes: Vec<NodeId>,
    voters_min: usize,
    deaths: &'static [Death],
    interruptions: mpsc::UnboundedSender<Interruption>,
    trace: Trace,
    rng: SmallRng,
    counts: BTreeMap<&'static str, u64>,
}

impl Churn {
    /// Operator `number`, who asks through `client`.
    #[must_use]
    pub fn new(
        number: u32,
        options: &Options,
        client: Client,
        interruptions: mpsc::UnboundedSender<Interruption>,
        trace: Trace,
    ) -> Churn {
        let topology = client.topology();
        Churn {
            groups: topology.groups().map(|group| group.id).collect(),
            nodes: topology.nodes().map(|node| node.id).collect(),
            voters_min: options.voters_min(),
            deaths: deaths(options.scenario),
            client,
            interruptions,
            trace,
            rng: random(options.seed, Draw::Churn(number)),
            counts: BTreeMap::new(),
        }
    }

    /// Asks for one change after the other until it is time to end. Says how many of each kind began.
    pub async fn run(mut self, ending: Ending) -> BTreeMap<&'static str, u64> {
        tokio::time::sleep(FIRST).await;
        while !ending.is_set() {
            let group = pick(&mut self.rng, &self.groups);
            // Several in a row in one group, before the first is over.
            for _ in 0..self.rng.random_range(1..5) {
                if !self.change(group).await || ending.is_set() {
                    break;
                }
                let pause = self.rng.random_range(0..150);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            let pause = self.rng.random_range(50..600);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        self.counts
    }

    /// Asks for one change. False if nobody told who the members are.
    async fn change(&mut self, group: GroupId) -> bool {
        let Ok(members) = self.client.members(group).await else { return false };
        let drawn = draw(&mut self.rng, &members, &self.nodes, self.voters_min);
        let (seats, word) = match drawn {
            None => return true,
            Some(Change::Seats(seats)) => {
                let word = match voters(&seats) == voters(&seats_of(&members)) {
                    true => "dropped",
                    false => "voters-changed",
                };
                (seats, word)
            }
            Some(Change::TakeIn(node)) => match self.take_in(group, &members, node).await {
                Some(seats) => (seats, "taken-in"),
                None => return true,
            },
        };
        self.interrupt(&members);
        let asked = self.client.change_members(group, members.since, &seats).await;
        let told = match &asked {
            Ok(since) => format!("since {since}"),
            Err(error) => format!("{:?}", error.code()),
        };
        let seats: Vec<String> = seats
            .iter()
            .map(|seat| format!("{}{}", seat.replica, if seat.votes { "" } else { " learns" }))
            .collect();
        self.trace.event(&format!("members of {group} are to be {seats:?}: {told}"));
        *self.counts.entry(if asked.is_ok() { word } else { "change-refused" }).or_default() += 1;
        true
    }

    /// Makes a replica. `None` if that fails, or it is a member already.
    async fn take_in(
        &mut self,
        group: GroupId,
        members: &Members,
        node: NodeId,
    ) -> Option<Vec<MemberSeat>> {
        let kind = self.draw_kind(group, node, members);
        let replica = self.client.create_replica(node, group, kind).await.ok()?;
        let mut seats = seats_of(members);
        if seats.iter().any(|seat| seat.replica == replica) {
            return None;
        }
        let rank = rank_of(&self.client.topology(), group, node);
        seats.push(MemberSeat { replica, node, rank, kind, votes: false });
        Some(seats)
    }

    /// An arbiter where the cluster file has arbiters, if there is none; otherwise mostly a full one.
    fn draw_kind(&mut self, group: GroupId, node: NodeId, members: &Members) -> ReplicaKind {
        let is_arbiter = |kind: ReplicaKind| kind == ReplicaKind::Arbiter;
        let has_arbiter = members.members.iter().any(|member| is_arbiter(member.kind));
        let topology = self.client.topology();
        let idc = topology.node(node).map(|node| &node.idc);
        let of_group = topology.group(group).into_iter().flat_map(|group| &group.members);
        let is_for_arbiters = of_group
            .filter(|member| is_arbiter(member.kind))
            .any(|member| topology.node(member.node).map(|node| &node.idc) == idc);
        match self.rng.random_range(0..10) {
            0..9 if is_for_arbiters && !has_arbiter => ReplicaKind::Arbiter,
            0 => ReplicaKind::LogOnly,
            1 => ReplicaKind::ReadOnly,
            _ => ReplicaKind::Full,
        }
    }

    /// Sometimes has the leader killed while it is asked, or another member.
    fn interrupt(&mut self, members: &Members) {
        if self.deaths.is_empty() || !self.rng.random_bool(0.2) {
            return;
        }
        let others: Vec<NodeId> = members.members.iter().map(|member| member.node).collect();
        let node = match members.leader() {
            Some(leader) if self.rng.random_bool(0.7) => leader,
            _ => pick(&mut self.rng, &others),
        };
        let down = Duration::from_millis(self.rng.random_range(5..2_000));
        let interruption = Interruption { node, death: pick(&mut self.rng, self.deaths), down };
        let (send, wait) = (self.interruptions.clone(), self.rng.random_range(0..30));
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let _nothing_breaks_any_more = send.send(interruption).is_err();
        });
    }
}

/// How processes die in a scenario while members change.
fn deaths(scenario: Scenario) -> &'static [Death] {
    match scenario {
        Scenario::Mixed => &[Death::Kill, Death::PowerCut],
        Scenario::Kill => &[Death::Kill],
        Scenario::PowerCut | Scenario::AllPowerCut => &[Death::PowerCut],
        Scenario::Partition | Scenario::Handover | Scenario::Failover => &[],
    }
}

/// The next change; `None` if nothing sensible was drawn.
fn draw(
    rng: &mut SmallRng,
    members: &Members,
    nodes: &[NodeId],
    voters_min: usize,
) -> Option<Change> {
    let present = seats_of(members);
    let is_member = |node: &NodeId| present.iter().any(|seat| seat.node == *node);
    let free: Vec<NodeId> = nodes.iter().copied().filter(|node| !is_member(node)).collect();
    (0..DRAWS_MAX).find_map(|_| {
        let few = present.len() <= voters_min.max(3);
        if rng.random_bool(if few { 0.6 } else { 0.2 }) {
            // Now and then one that has a member: it may be a node that has lost it.
            let from = if free.is_empty() || rng.random_bool(0.1) { nodes } else { &free };
            let node = from.choose(rng).copied().filter(|_| present.len() < MEMBERS_MAX);
            return node.map(Change::TakeIn);
        }
        let seats = draw_seats(rng, &present, members.leader());
        let is_sensible = voters_min.max(1) <= voters(&seats).len() && seats != present;
        is_sensible.then_some(Change::Seats(seats))
    })
}

/// Members that are what they are now, or something else.
fn draw_seats(
    rng: &mut SmallRng,
    present: &[MemberSeat],
    leader: Option<NodeId>,
) -> Vec<MemberSeat> {
    let mut seats = present.to_vec();
    let may_vote = |seat: &MemberSeat| seat.kind.votes();
    match rng.random_range(0..8) {
        // Learners are to vote, and nobody else changes.
        0 => seats.iter_mut().for_each(|seat| seat.votes |= may_vote(seat) && rng.random_bool(0.7)),
        // One is replaced: the leader, or anybody.
        1..4 => {
            let voting: Vec<NodeId> = voters(present).iter().map(|seat| seat.node).collect();
            let any = voting.choose(rng).copied();
            let old = if rng.random_bool(0.5) { leader } else { any };
            let learns = |seat: &MemberSeat| !seat.votes && may_vote(seat);
            let new: Vec<NodeId> = seats.iter().filter(|it| learns(it)).map(|it| it.node).collect();
            let new = new.choose(rng).copied();
            let stays = rng.random_bool(0.3);
            seats.retain(|seat| stays || Some(seat.node) != old);
            for seat in &mut seats {
                seat.votes = (seat.votes && Some(seat.node) != old) || Some(seat.node) == new;
            }
        }
        // All voters go, all learners vote.
        4 => {
            seats.retain(|seat| !seat.votes);
            seats.iter_mut().for_each(|seat| seat.votes = may_vote(seat));
        }
        // One goes, or votes no more.
        5 | 6 => {
            let at = rng.random_range(0..seats.len().max(1));
            if rng.random_bool(0.5) {
                seats.drain(at..(at + 1).min(seats.len()));
            } else if let Some(seat) = seats.get_mut(at) {
                seat.votes = false;
            }
        }
        // Anything.
        _ => {
            seats.retain(|_| rng.random_bool(0.8));
            for seat in &mut seats {
                let votes = rng.random_bool(if seat.votes { 0.8 } else { 0.5 });
                seat.votes = may_vote(seat) && votes;
            }
        }
    }
    seats
}

fn voters(seats: &[MemberSeat]) -> Vec<MemberSeat> {
    seats.iter().copied().filter(|seat| seat.votes).collect()
}

/// Everybody who is a member once the change under way is over.
#[must_use]
pub fn seats_of(members: &Members) -> Vec<MemberSeat> {
    let seats = members.members.iter().filter_map(|member| {
        let votes = member.role.in_the_end()?.wants_vote();
        let MemberReport { replica, node, rank, kind, .. } = *member;
        Some(MemberSeat { replica, node, rank, kind, votes })
    });
    seats.collect()
}

/// The place of a node in the leader order of a group.
#[must_use]
pub fn rank_of(topology: &Topology, group: GroupId, node: NodeId) -> u16 {
    let zone = topology.node(node).map(|node| node.zone.as_str());
    let rank = zone.zip(topology.group(group)).map(|(zone, it)| it.leader_order.rank_of(zone));
    rank.and_then(|rank| u16::try_from(rank).ok()).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use quorate_types::{Ballot, EntryId, MemberRole, ReplicaId, Slot};

    use super::*;

    fn members(count: u32) -> Members {
        let report = |node: u32| MemberReport {
            replica: ReplicaId::first_on(NodeId(node)),
            node: NodeId(node),
            rank: 0,
            kind: ReplicaKind::Full,
            role: if node <= 3 { MemberRole::Voter } else { MemberRole::Learner },
            leads: node == 1,
            slot_synced: Slot(9),
            heard_ago: None,
            lag_bytes: 0,
            refilling: false,
            fit: true,
        };
        let since = EntryId { ballot: Ballot::ZERO, slot: Slot(1) };
        let members = (1..=count).map(report).collect();
        Members { since, chosen: true, changing: false, members, slot_last: Slot(9) }
    }

    /// Goal: over many draws every kind of change is asked for, the leader leaves too, and a group keeps as many
    /// voters as it must.
    #[test]
    fn every_kind_of_change_is_drawn() {
        let nodes: Vec<NodeId> = (1..=6).map(NodeId).collect();
        let (mut taken, mut promoted, mut demoted, mut left, mut all) = (0, 0, 0, 0, 0);
        for seed in 0..500 {
            let members = members(6);
            let mut rng = random(seed, Draw::Churn(1));
            match draw(&mut rng, &members, &nodes, 3) {
                Some(Change::TakeIn(_)) => panic!("there are as many members as there may be"),
                Some(Change::Seats(seats)) => {
                    assert!(3 <= voters(&seats).len());
                    let is = |node: u32, votes: bool| {
                        seats.iter().any(|seat| seat.node == NodeId(node) && seat.votes == votes)
                    };
                    promoted += u32::from(is(5, true));
                    demoted += u32::from(is(1, false));
                    left += u32::from(!is(1, true) && !is(1, false));
                    all += u32::from((1..=3).all(|node| !is(node, true)));
                }
                None => {}
            }
            let few = super::tests::members(3);
            taken += u32::from(matches!(draw(&mut rng, &few, &nodes, 3), Some(Change::TakeIn(_))));
        }
        for count in [taken, promoted, demoted, left, all] {
            assert!(10 < count, "{taken} {promoted} {demoted} {left} {all}");
        }
    }
}
