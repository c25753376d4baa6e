//! What must hold over all replicas, checked on every step. One file per rule, each naming where the
//! rule comes from. What must hold within one replica stands in `src/invariants/`.
//!
//! | rule | file |
//! |---|---|
//! | a slot has one entry | `agreement.rs` |
//! | what is chosen is on a majority of disks, and stays there | `durability.rs` |
//! | nobody's commit position is beyond that, nor counts older ballots | `commit.rs` |
//! | a ballot has one leader | `ballots.rs` |
//! | one replica at a time holds a lease | `one_lease.rs` |
//! | who granted a lease votes for nobody else, restarted or not | `grants.rs` |
//! | a leader whose disk hangs renews no lease | `lease_disk.rs` |
//! | a read shows everything acknowledged before it | `reads.rs` |
//! | a replica is as fresh as it says | `freshness.rs` |
//! | nothing acknowledged is lost, and who serves knows it | `acknowledged.rs` |
//! | one id, one history | `log_matching.rs` |
//! | what is told is on disk | `told.rs` |
//! | watermarks only rise within a life | `watermarks.rs` |
//! | entries are applied in order, each once | `apply_order.rs` |
//! | what is proven when a history begins by force stays; who is outlived is silent | `histories.rs`, `line.rs` |
//! | without faults everybody agrees soon | `convergence.rs` |

pub mod acknowledged;
pub mod agreement;
pub mod apply_order;
pub mod ballots;
pub mod commit;
pub mod convergence;
pub mod durability;
pub mod freshness;
pub mod grants;
pub mod histories;
pub mod lease_disk;
pub mod line;
pub mod log_matching;
pub mod one_lease;
pub mod reads;
pub mod told;
pub mod watermarks;

use quorate_paxos::{Input, Output, Proposed, RoleChange};
use quorate_types::ReplicaId;

use crate::common::cluster::Cluster;

/// What the judge looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every rule.
    All,
    /// What clients can see, and what replicas assert in production too. Shows how far a schedule goes
    /// when nobody looks into the replicas.
    Outcomes,
}

/// All rules, and what they remember.
pub struct Judge {
    scope: Scope,
    pub histories: histories::Histories,
    pub ballots: ballots::Ballots,
    pub one_lease: one_lease::OneLease,
    pub grants: grants::Grants,
    pub lease_disk: lease_disk::LeaseDisk,
    pub reads: reads::Reads,
    pub log_matching: log_matching::LogMatching,
    pub told: told::Told,
    pub watermarks: watermarks::Watermarks,
    /// Snapshots that became the rows of a replica.
    pub installed: u64,
    /// Changes of voters that came to their end.
    pub changed: u64,
    /// How often voters were set aside.
    pub suspended: u64,
    /// Payloads of the proposal that is being stepped.
    proposed: u64,
}

impl Judge {
    pub fn new(scope: Scope) -> Judge {
        Judge {
            scope,
            histories: Default::default(),
            ballots: Default::default(),
            one_lease: Default::default(),
            grants: Default::default(),
            lease_disk: Default::default(),
            reads: Default::default(),
            log_matching: Default::default(),
            told: Default::default(),
            watermarks: Default::default(),
            installed: 0,
            changed: 0,
            suspended: 0,
            proposed: 0,
        }
    }

    /// An input is about to be stepped.
    pub fn before_step(&mut self, cluster: &Cluster, id: ReplicaId, input: &Input) {
        self.grants.before_step(input);
        self.histories.before_step(input);
        match input {
            Input::Propose(payloads) => self.proposed = payloads.len() as u64,
            Input::Read(token) => {
                let seen = cluster.nodes[&id].core.as_ref().map(|core| core.slot_applied());
                let known = self.histories.of(id).known();
                self.reads.asked(id, *token, known, seen.unwrap_or_default());
            }
            Input::AskFresh => {
                let asked_at = cluster.nodes[&id].now(cluster.real_ns);
                let line = self.histories.of(id);
                line.freshness.asked(id, asked_at, line.known());
            }
            Input::DiskProgress(at) => self.lease_disk.progress(id, *at),
            Input::Tick
            | Input::Message { .. }
            | Input::Synced { .. }
            | Input::PromiseSynced { .. }
            | Input::Kept(_)
            | Input::LogRead { .. }
            | Input::Health(_)
            | Input::HandOver(_)
            | Input::GiveWay
            | Input::GoHome
            | Input::RowsDamaged
            | Input::LogWhole
            | Input::Change(_)
            | Input::ContinueChange
            | Input::Force(_)
            | Input::History(_)
            | Input::Pin(_)
            | Input::Trimmed(_)
            | Input::Refilling(_)
            | Input::Install { .. }
            | Input::Installed { is_done: false } => {}
            Input::Installed { is_done: true } => self.installed += 1,
        }
    }

    /// A step is done; its output is not carried out yet.
    pub fn after_step(&mut self, cluster: &Cluster, id: ReplicaId, out: &Output) {
        let may_overlap = cluster.setup.beyond_margin;
        self.histories.after_step(cluster, id, out);
        if self.scope == Scope::All {
            if let Some(core) = &cluster.nodes[&id].core {
                core.check_invariants();
                core.check_output(out);
            }
            self.log_matching.observe(&out.appends);
            self.told.observe(cluster, id, &out.messages);
            self.grants.after_step(cluster, id, out);
            self.lease_disk.observe(cluster, id, &out.messages);
            self.watermarks.observe(cluster, id);
            if self.histories.is_home(id) {
                let is_judged = self.is_judged(cluster, id);
                let line = self.histories.of(id);
                let from = is_judged.then_some(line.since.slot);
                line.commit.observe(cluster, id, &out.roles, from);
            }
            self.one_lease.observe(cluster, id, may_overlap);
        }
        if let Some(Proposed::At { first }) = out.proposed {
            self.histories.of(id).acknowledged.proposed(id, first, self.proposed);
        }
        if cluster.nodes[&id].disk.is_damaged {
            assert!(out.applies.is_empty(), "{id} applies to damaged rows");
            assert!(!cluster.serves(id), "{id} serves damaged rows");
        }
        apply_order::check(cluster.nodes[&id].applied.len(), id, &out.applies);
        for batch in &out.applies {
            let at = batch.membership().filter(|at| cluster.membership.id.slot < at.id.slot);
            let before = &cluster.membership.membership;
            if at.as_ref().is_some_and(|at| at.membership.is_degraded()) {
                self.suspended += u64::from(!before.is_degraded());
            }
            if at.is_some_and(|at| !at.membership.is_joint()) {
                self.changed += u64::from(before.is_joint());
            }
            let is_judged = self.scope == Scope::All && self.is_judged(cluster, id);
            let line = self.histories.of_rows(id);
            for (entry, payload) in batch.entries() {
                if line.agreement.observe(entry, &payload) {
                    line.chosen(cluster, entry, is_judged);
                }
                line.acknowledged.applied(id, entry);
            }
        }
        for role in &out.roles {
            match *role {
                RoleChange::Elected { ballot } => self.ballots.elected(ballot, id),
                RoleChange::Serving { ballot } => {
                    let applied = cluster.nodes[&id].core.as_ref().map(|core| core.slot_applied());
                    let line = self.histories.of(id);
                    line.acknowledged.serves(id, ballot, applied.unwrap_or_default());
                }
                RoleChange::Follower { .. } | RoleChange::Candidate { .. } => {
                    self.histories.lines_mut().for_each(|line| line.acknowledged.gives_up(id));
                }
            }
        }
        if let Some(core) = &cluster.nodes[&id].core {
            let fresh_at = core.fresh_at(cluster.nodes[&id].now(cluster.real_ns));
            let (applied, is_home) = (core.slot_applied(), self.histories.is_home(id));
            self.histories.of_rows(id).freshness.show(applied);
            let freshness = &mut self.histories.of(id).freshness;
            if is_home {
                freshness.observe(id, fresh_at, applied, may_overlap);
            } else {
                let is_fresh = freshness.satisfies(id, fresh_at);
                assert!(!is_fresh, "{id} is called fresh, with rows of another history");
            }
        }
        for (token, verdict) in &out.reads {
            self.reads.answered(id, *token, *verdict, may_overlap);
        }
    }

    /// Power failed at a node.
    pub fn crashed(&mut self, cluster: &Cluster, id: ReplicaId) {
        self.reads.forget(id);
        self.watermarks.forget(id);
        for line in self.histories.lines_mut() {
            line.freshness.forget(id);
            line.acknowledged.gives_up(id);
            line.commit.forget(id);
        }
        self.check_disks(cluster);
    }

    /// True if disks can be judged by what this replica does.
    fn is_judged(&mut self, cluster: &Cluster, id: ReplicaId) -> bool {
        let since = self.histories.of_rows(id).since;
        self.histories.is_judged(cluster, since)
    }

    fn check_disks(&self, cluster: &Cluster) {
        let line = self.histories.present(cluster);
        if self.scope == Scope::All && self.histories.is_judged(cluster, line.since) {
            line.durability.check(cluster);
        }
    }

    /// Writes that were acknowledged, slots that were chosen, and replicas that were fresh.
    pub fn counts(&self, cluster: &Cluster) -> (usize, usize, u64, u64) {
        let line = self.histories.present(cluster);
        let fresh = self.histories.lines().map(|line| line.freshness.confirmed).sum();
        let stale = self.histories.lines().map(|line| line.freshness.stale).sum();
        (line.acknowledged.count(), line.agreement.len(), fresh, stale)
    }

    /// A node has started.
    pub fn started(&mut self, cluster: &Cluster, id: ReplicaId) {
        self.histories.started(cluster, id);
        let node = &cluster.nodes[&id];
        self.lease_disk.progress(id, node.now(cluster.real_ns)); // It has read its log.
        if self.scope == Scope::All {
            self.told.started(cluster, id);
        }
    }

    /// Faults are over for a while.
    pub fn converged(&mut self, cluster: &Cluster) {
        if !cluster.lost.is_empty() && cluster.latest_history().is_none() {
            return; // Too few are left, and nobody could go on without the others.
        }
        convergence::check(cluster);
        self.histories.present(cluster).acknowledged.check_all_applied(cluster);
        self.check_disks(cluster);
    }
}
