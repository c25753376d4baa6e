//! The cluster: replicas with what is physical around them. An event changes it and names the input
//! that a replica gets by it; whoever plays the event steps the replica, looks at the output and lets the
//! cluster take it in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_paxos::{
    ChangeRequest, ForceRequest, Health, History, Input, LeaseMode, Member, Membership,
    MembershipAt, Options, Output, ReadToken, Role, Seat, Timing,
};
use quorate_topology::recovery::Recovery;
use quorate_types::{Ballot, EntryId, GroupId, ReplicaId, ReplicaKind, Slot};

use crate::common::event::{Event, Ids};
use crate::common::links::Links;
use crate::common::members;
use crate::common::node::{Disk, Node, Phase};

const SECOND_NS: u64 = 1_000_000_000;
/// The settling time is doubled twice at most, so that a group is home again soon after its faults end.
const SETTLE_DOUBLED_MAX: u32 = 4;

/// What is fixed for the whole of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    pub mode: LeaseMode,
    pub lease_margin: Duration,
    /// How long a better placed member settles before it is led home to, at first.
    pub settle: Duration,
    /// One per replica, in order.
    pub clocks: Vec<Clock>,
    /// The rank of each in the leader order.
    pub ranks: Vec<u16>,
    /// Clocks differ by more than the margin covers: leases may overlap.
    pub beyond_margin: bool,
    /// Bytes of log that leaders keep for those that lag.
    pub log_budget: u64,
    /// So many replicas, the last ones, begin as nobody's members.
    pub spares: usize,
    /// What each holds.
    pub kinds: Vec<ReplicaKind>,
    /// For how long an unheard voter is waited for.
    pub suspend_after: Duration,
}

/// A clock: what it shows at the start, and by how many parts per million it runs fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    pub start_ns: u64,
    pub ppm: i64,
}

impl Setup {
    /// Replicas `r1..`, ranked in this order, with good clocks.
    pub fn plain(count: u64, mode: LeaseMode) -> Setup {
        Setup {
            mode,
            lease_margin: Timing::lan().lease_margin,
            settle: Timing::lan().settle,
            clocks: (0..count).map(|_| Clock { start_ns: SECOND_NS, ppm: 0 }).collect(),
            ranks: (1..=count).map(|id| id as u16).collect(),
            beyond_margin: false,
            log_budget: u64::MAX,
            spares: 0,
            kinds: vec![ReplicaKind::Full; count as usize],
            suspend_after: Timing::lan().suspend_after,
        }
    }

    /// How the group begins.
    pub fn genesis(&self) -> Membership {
        let count = self.ranks.len() - self.spares;
        let member = |index: usize| {
            let (rank, kind) = (self.ranks[index], self.kinds[index]);
            let role = if kind.votes() { Role::Voter } else { Role::Learner };
            (ReplicaId(index as u64 + 1), Member { rank, role, kind })
        };
        Membership::new((0..count).map(member).collect()).expect("a group")
    }

    fn node(&self, index: usize) -> Node {
        let is_member = index < self.ranks.len() - self.spares;
        let membership = if is_member { self.genesis() } else { Membership::default() };
        let timing = Timing {
            mode: self.mode,
            lease_margin: self.lease_margin,
            settle: self.settle,
            suspend_after: self.suspend_after,
            settle_max: self.settle * SETTLE_DOUBLED_MAX,
            ..Timing::lan()
        };
        Node {
            options: Options {
                group: GroupId(1),
                replica: ReplicaId(index as u64 + 1),
                kind: self.kinds[index],
                timing,
                pinned: false,
                log_budget_bytes: self.log_budget,
            },
            disk: Disk {
                membership: MembershipAt { id: EntryId::ZERO, membership },
                ..Disk::default()
            },
            unsynced_memberships: Vec::new(),
            last_write: 0,
            core: None,
            unsynced: Default::default(),
            unsynced_promises: Default::default(),
            unsynced_kept: Default::default(),
            unsynced_whole: false,
            applied: Vec::new(),
            log_reads: Default::default(),
            clock_ppm: self.clocks[index].ppm,
            clock_base: self.clocks[index].start_ns,
            wants_rows: None,
            arriving: None,
        }
    }
}

pub struct Cluster {
    pub setup: Setup,
    pub nodes: BTreeMap<ReplicaId, Node>,
    pub links: Links,
    /// Time since the start.
    pub real_ns: u64,
    /// The last membership that somebody has applied.
    pub membership: MembershipAt,
    /// Replicas that do not start any more: they had left, or are lost.
    pub gone: BTreeSet<ReplicaId>,
    /// Those that are lost, or were: nobody takes them in again.
    pub lost: BTreeSet<ReplicaId>,
    /// How an operator wants to go on without them.
    pub plan: Option<Recovery>,
    /// Whom he ordered to last.
    pub ordered: Option<ReplicaId>,
    reads: u64,
}

impl Cluster {
    /// Everybody starts on an empty disk.
    pub fn new(setup: Setup) -> Cluster {
        let ids = (0..setup.clocks.len()).map(|index| (ReplicaId(index as u64 + 1), index));
        let mut nodes: BTreeMap<ReplicaId, Node> =
            ids.map(|(id, index)| (id, setup.node(index))).collect();
        nodes.values_mut().for_each(|node| node.start(0));
        let membership = MembershipAt { id: EntryId::ZERO, membership: setup.genesis() };
        let (links, gone, lost) = (Links::default(), BTreeSet::new(), BTreeSet::new());
        let (plan, ordered) = (None, None);
        Cluster { setup, nodes, links, real_ns: 0, membership, gone, lost, plan, ordered, reads: 0 }
    }

    pub fn ids(&self) -> Vec<ReplicaId> {
        self.nodes.keys().copied().collect()
    }

    pub fn node(&mut self, id: ReplicaId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap_or_else(|| panic!("no replica {id}"))
    }

    /// Does what is physical about an event. Returns the input that a replica gets by it.
    pub fn turn(&mut self, event: &Event) -> Option<(ReplicaId, Input)> {
        let target = match event.replicas() {
            (_, Some(to))
                if !matches!(
                    event,
                    Event::HandOver { .. } | Event::Snapshot { .. } | Event::Tell { .. }
                ) =>
            {
                Some(to)
            }
            (id, _) => id,
        };
        if target.is_some_and(|id| !self.nodes.contains_key(&id)) {
            return None; // A schedule cut down to fewer replicas.
        }
        match *event {
            Event::Pass { ns } => {
                self.real_ns += ns;
                None
            }
            Event::Lose(pick) => {
                self.links.take(&pick);
                None
            }
            Event::Duplicate(pick) => {
                self.links.duplicate(&pick);
                None
            }
            Event::Crash { id, keep, keep_promise } => {
                self.node(id).crash(keep, keep_promise);
                None
            }
            Event::Start(id) => {
                let real_ns = self.real_ns;
                let is_gone = self.gone.contains(&id);
                let node = self.node(id);
                if node.core.is_none() && !is_gone {
                    node.start(real_ns);
                }
                None
            }
            Event::LoseRows(_)
            | Event::LoseLog { .. }
            | Event::Vanish(_)
            | Event::LoseNode { .. }
            | Event::FindNode(_) => {
                self.lose_or_find(event);
                None
            }
            Event::Look => {
                self.look();
                None
            }
            Event::Order => self.order(),
            Event::Snapshot { id, from } => {
                let arriving = self.nodes.get(&from)?.snapshot()?;
                let node = self.node(id);
                let is_free = node.core.is_some() && node.arriving.is_none();
                let is_wanted = node.wants_rows.is_none_or(|slot| slot <= arriving.last.last());
                if !is_free || !is_wanted || from == id {
                    return None;
                }
                let slot = arriving.last.last();
                node.arriving = Some(arriving);
                Some((id, Input::Refilling(Some(slot))))
            }
            Event::Tell { id, from } => {
                let told = self.nodes.get(&from)?.core.as_ref()?.told_history()?.clone();
                Some((id, Input::History(told)))
            }
            Event::Deliver(pick) => {
                let sent = self.links.take(&pick)?;
                let core = self.nodes[&pick.to].core.as_ref()?;
                // What comes from another history is dropped.
                let is_heard = sent.history == core.history();
                let message = sent.message;
                is_heard.then_some((pick.to, Input::Message { from: pick.from, message }))
            }
            _ => self.local(target?, event).map(|input| (target.expect("checked"), input)),
        }
    }

    /// Disks and nodes are lost, or found again.
    fn lose_or_find(&mut self, event: &Event) {
        match *event {
            Event::LoseRows(id) => self.lose_rows(id),
            Event::LoseLog { id, keep } => self.lose_log(id, keep),
            Event::LoseNode { id, with_disk } => self.lose_node(id, with_disk),
            Event::FindNode(id) => self.find_node(id),
            Event::Vanish(id) if self.has_left(id) => {
                self.node(id).vanish();
                self.gone.insert(id);
            }
            _ => {}
        }
    }

    /// What an operator asks a replica for who wants these members. He takes in nobody who is gone or a stranger.
    fn change(&self, id: ReplicaId, voters: Ids, learners: Ids) -> Option<Input> {
        let expected = self.nodes[&id].core.as_ref()?.membership_at().id;
        let strangers = self.strangers(id);
        let seat = |id: ReplicaId, votes: bool| {
            let rank = self.setup.ranks[id.0 as usize - 1];
            let kind = self.setup.kinds[id.0 as usize - 1];
            (id, Seat { rank, kind, votes })
        };
        let count = self.setup.ranks.len() as u64;
        let is_known =
            |id: &ReplicaId| id.0 <= count && !self.gone.contains(id) && !strangers.contains(id);
        let known = |ids: Ids| ids.iter().filter(is_known);
        let learners = known(learners).map(|id| seat(id, false));
        let members = learners.chain(known(voters).map(|id| seat(id, true))).collect();
        Some(Input::Change(ChangeRequest { expected, members }))
    }

    /// Events within a node that runs.
    fn local(&mut self, id: ReplicaId, event: &Event) -> Option<Input> {
        let real_ns = self.real_ns;
        let is_spared = matches!(event, Event::DamageRows(_)) && self.is_spared(id);
        let is_one_suspect = self.nodes.values().any(|node| node.disk.is_suspect);
        let node = self.nodes.get_mut(&id)?;
        node.core.as_ref()?;
        match *event {
            Event::Tick(_) => Some(Input::Tick),
            Event::DiskProgress(_) => Some(Input::DiskProgress(node.now(real_ns))),
            Event::SyncLog { count, .. } => node.sync_log(count),
            Event::SyncPromise(_) => node.sync_promise(),
            Event::Propose { first, count, .. } => {
                let values = first..first + count;
                Some(Input::Propose(values.map(|n| Bytes::from(n.to_string())).collect()))
            }
            Event::Read(_) => {
                self.reads += 1;
                Some(Input::Read(ReadToken(self.reads)))
            }
            Event::AskFresh(_) => Some(Input::AskFresh),
            Event::HandOver { to, .. } => Some(Input::HandOver(to)),
            Event::GiveWay(_) => Some(Input::GiveWay),
            Event::GoHome(_) => Some(Input::GoHome),
            Event::Checkpoint(_) => {
                node.checkpoint();
                None
            }
            Event::Trim(_) => node.trim().map(Input::Trimmed),
            // Who is suspect does not vote: others are not to become too few to do without.
            Event::Change { .. } if is_one_suspect => None,
            Event::Change { voters, learners, .. } => self.change(id, voters, learners),
            Event::ContinueChange(_) => Some(Input::ContinueChange),
            Event::Force { keep, .. } => {
                let history = node.core.as_ref().expect("checked").history();
                Some(Input::Force(self.force(history, keep)))
            }
            Event::Health { draining, serious_faults, .. } => {
                Some(Input::Health(Health { draining, serious_faults, ..Health::default() }))
            }
            Event::AnswerRead { count, .. } => node.answer_read(count),
            Event::Install(_) => node.install(),
            Event::DamageRows(_) => is_spared.then(|| node.damage_rows()).flatten(),
            Event::Switch(_) => {
                node.switch();
                None
            }
            Event::Installed(_) => node.installed(),
            Event::Pass { .. }
            | Event::Deliver(_)
            | Event::Lose(_)
            | Event::Duplicate(_)
            | Event::Crash { .. }
            | Event::LoseRows(_)
            | Event::LoseLog { .. }
            | Event::Vanish(_)
            | Event::LoseNode { .. }
            | Event::FindNode(_)
            | Event::Look
            | Event::Order
            | Event::Snapshot { .. }
            | Event::Tell { .. }
            | Event::Start(_) => None,
        }
    }

    /// What an operator finds out of those that he keeps.
    fn force(&self, history: History, keep: Ids) -> ForceRequest {
        let mut request = ForceRequest {
            history,
            kept: keep.iter().collect(),
            promised: Ballot::ZERO,
            proven: EntryId::ZERO,
            note: Bytes::from_static(b"lost"),
        };
        for core in keep.iter().filter_map(|id| self.nodes.get(&id)?.core.as_ref()) {
            request.promised = request.promised.max(core.promised());
            let committed = core.slot_committed();
            if request.proven.slot < committed {
                request.proven = core.log().id_at(committed).expect("it is in its log");
            }
        }
        request
    }

    /// Steps one replica. `None` if it is down.
    pub fn step(&mut self, id: ReplicaId, input: Input) -> Option<Output> {
        let real_ns = self.real_ns;
        let node = self.node(id);
        let now = node.now(real_ns);
        let core = node.core.as_mut()?;
        Some(core.step(now, input))
    }

    /// Takes in what a replica asks for.
    pub fn absorb(&mut self, id: ReplicaId, out: Output) {
        let history = self.nodes[&id].core.as_ref().map(quorate_paxos::Replica::history);
        for (to, message) in out.messages {
            self.links.send((id, to), history.unwrap_or_default(), message);
        }
        for batch in &out.applies {
            if let Some(at) = batch.membership().filter(|at| at.is_after(&self.membership)) {
                self.membership = at;
            }
        }
        let node = self.node(id);
        node.unsynced_promises.extend(out.promise);
        node.unsynced_kept.extend(out.keep);
        node.keep_membership(out.membership, &out.appends);
        node.unsynced.extend(out.appends);
        for batch in out.applies {
            node.applied.extend(batch.entries());
        }
        node.log_reads.extend(out.log_reads);
        node.wants_rows = out.refill.or(node.wants_rows);
        node.unsynced_whole |= out.log_whole;
        if let Some(slot) = out.install {
            let arriving = node.arriving.as_mut().expect("it was handed in");
            assert_eq!((arriving.phase, arriving.last.last()), (Phase::Logging, slot));
            arriving.phase = Phase::Installing;
        }
        assert!(node.log_reads.len() < 50, "{id} reads its log without end");
    }

    /// The rows of a node that is down are lost, if the others can spare them.
    fn lose_rows(&mut self, id: ReplicaId) {
        if self.is_spared(id) && self.node(id).core.is_none() {
            self.node(id).lose_rows();
        }
    }

    /// The log of a node that is down is lost but for so many batches, if the others can spare it.
    fn lose_log(&mut self, id: ReplicaId, keep: usize) {
        if self.is_spared(id) && self.node(id).core.is_none() {
            self.node(id).lose_log(keep);
        }
    }

    /// No rows or logs are lost or damaged, and the others have a quorum without this node, by whatever membership
    /// counts: one disk may fail.
    fn is_spared(&self, id: ReplicaId) -> bool {
        let others = |other| other != id && !self.gone.contains(&other);
        self.setup.kinds[id.0 as usize - 1].keeps_rows()
            && self.is_every_disk_whole()
            && !self.is_unrecovered()
            && self.all_memberships().all(|at| at.membership.is_quorum(others))
    }

    /// True if no rows or logs are lost or damaged, but for those of nodes that are lost with them.
    pub fn is_every_disk_whole(&self) -> bool {
        let is_whole = |node: &Node| {
            node.disk.lost.is_empty() && !node.disk.is_damaged && !node.disk.is_suspect
        };
        self.nodes.values().all(is_whole)
    }

    /// True if no membership has it that anybody may yet count by: its disk may go.
    fn has_left(&self, id: ReplicaId) -> bool {
        !self.all_memberships().any(|at| at.membership.get(id).is_some())
    }

    /// The last membership that is chosen, and those above it in some log that may count: one that sets voters
    /// aside does not before an arbiter knows of it.
    fn memberships(&self) -> Vec<Membership> {
        let is_kept = |at: &MembershipAt, id| {
            self.nodes.get(&id).is_some_and(|node| at.id <= node.disk.membership.id)
        };
        let may_count = |at: &MembershipAt| {
            let membership = &at.membership;
            !membership.is_degraded() || membership.arbiters().all(|id| is_kept(at, id))
        };
        let chosen = self.membership.id;
        let count = self.all_memberships().filter(|at| at.id == chosen || may_count(at));
        count.map(|at| at.membership).collect()
    }

    /// The last membership that is chosen, and all those above it that anybody has.
    fn all_memberships(&self) -> impl Iterator<Item = MembershipAt> {
        let held = self.nodes.values().flat_map(Node::memberships);
        let later = held.filter(|at| at.is_after(&self.membership));
        later.chain([self.membership.clone()])
    }

    /// True if these replicas are enough for what they have to be chosen, by the last chosen membership or by one
    /// that follows.
    pub fn is_enough(&self, has: impl Fn(ReplicaId) -> bool) -> bool {
        self.memberships().iter().any(|membership| members::has_chosen(membership, &has))
    }

    /// The same for the disks that hold this entry. Who keeps only the log may have dropped it.
    pub fn is_chosen(&self, entry: EntryId) -> bool {
        let may_drop = self.setup.kinds.contains(&ReplicaKind::LogOnly);
        self.is_enough(|id| self.holds(id, entry)) || (may_drop && self.is_kept(entry))
    }

    /// True if whoever leads later finds this entry.
    pub fn is_kept(&self, entry: EntryId) -> bool {
        let holds = |id| self.holds(id, entry);
        self.memberships().iter().any(|membership| members::meets_quorums(membership, holds))
    }

    fn holds(&self, id: ReplicaId, entry: EntryId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.disk.has(entry))
    }

    /// Replicas that are members as it is chosen, but for those that are gone: who calls a learner back
    /// that has left may find it so.
    pub fn members(&self) -> impl Iterator<Item = (&ReplicaId, &Node)> {
        let membership = &self.membership.membership;
        let is_member = |id: &ReplicaId| membership.get(*id).is_some() && !self.gone.contains(id);
        self.nodes.iter().filter(move |(id, _)| is_member(id))
    }

    /// True if `id` believes it leads, serving or not.
    pub fn leads(&self, id: ReplicaId) -> bool {
        let node = &self.nodes[&id];
        let core = node.core.as_ref();
        core.is_some_and(|core| core.known_leader(node.now(self.real_ns)) == Some(id))
    }

    /// True if `id` believes it serves.
    pub fn serves(&self, id: ReplicaId) -> bool {
        let node = &self.nodes[&id];
        let core = node.core.as_ref();
        core.is_some_and(|core| core.serving(node.now(self.real_ns)).is_ok())
    }

    /// True if `id` serves, and nobody is ranked before it.
    pub fn is_home(&self, id: ReplicaId) -> bool {
        let rank = self.setup.ranks[id.0 as usize - 1];
        let members = self.membership.membership.members();
        let may_lead = members.filter(|(_, it)| it.role.votes_after() && it.kind.may_lead());
        let ranks = may_lead.map(|(_, it)| it.rank);
        self.serves(id) && ranks.min().is_some_and(|best| rank <= best)
    }

    pub fn slot_committed(&self, id: ReplicaId) -> Slot {
        self.nodes[&id].core.as_ref().map_or(Slot::ZERO, quorate_paxos::Replica::slot_committed)
    }
}
