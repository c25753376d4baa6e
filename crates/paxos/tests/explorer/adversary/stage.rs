//! A stage of a plot: for a while some links, kinds of messages, disks and nodes stand still.

use quorate_types::ReplicaId;

use crate::common::links::{Kind, Link};

/// A set of replicas 1 to 7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nodes(u8);

impl Nodes {
    pub const NONE: Nodes = Nodes(0);

    pub fn of(ids: &[ReplicaId]) -> Nodes {
        Nodes(ids.iter().fold(0, |bits, id| bits | 1 << id.0))
    }

    pub fn has(self, id: ReplicaId) -> bool {
        self.0 & 1 << id.0 != 0
    }

    pub fn and(self, other: Nodes) -> Nodes {
        Nodes(self.0 | other.0)
    }
}

/// A set of links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways(u64);

impl Ways {
    pub const NONE: Ways = Ways(0);
    pub const ALL: Ways = Ways(u64::MAX);

    pub fn has(self, (from, to): Link) -> bool {
        self.0 & 1 << (from.0 * 8 + to.0) != 0
    }

    pub fn way((from, to): Link) -> Ways {
        Ways(1 << (from.0 * 8 + to.0))
    }

    pub fn from(from: ReplicaId) -> Ways {
        Ways(0xff << (from.0 * 8))
    }

    pub fn to(to: ReplicaId) -> Ways {
        Ways(0x0101_0101_0101_0101 << to.0)
    }

    /// Both ways between two.
    pub fn between(left: ReplicaId, right: ReplicaId) -> Ways {
        Ways::way((left, right)).and(Ways::way((right, left)))
    }

    pub fn and(self, other: Ways) -> Ways {
        Ways(self.0 | other.0)
    }

    pub fn without(self, other: Ways) -> Ways {
        Ways(self.0 & !other.0)
    }
}

/// A set of kinds of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u32);

impl Kinds {
    pub const NONE: Kinds = Kinds(0);

    pub fn of(kinds: &[Kind]) -> Kinds {
        Kinds(kinds.iter().fold(0, |bits, kind| bits | 1 << *kind as u16))
    }

    pub fn has(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u16 != 0
    }
}

/// What a stage opens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Whatever is on its way is lost.
    Clear,
    /// Whatever waits for this node arrives at once.
    Flush(ReplicaId),
    /// It is asked, before it sees anything else.
    Read(ReplicaId),
    HandOver(ReplicaId, Option<ReplicaId>),
    /// It loses what is not durable and starts at once.
    Restart(ReplicaId),
    /// It loses all of what is not durable and starts at once.
    Forget(ReplicaId),
    /// It is about to leave, so it will not lead; or it stays after all.
    Drain(ReplicaId),
    Stay(ReplicaId),
}

#[derive(Clone, Debug)]
pub struct Stage {
    pub span_ns: u64,
    /// Messages on these links wait.
    pub held: Ways,
    /// Messages on these links are lost.
    pub lost: Ways,
    /// Messages of these kinds wait, but for so many.
    pub held_kinds: Kinds,
    pub passes: u64,
    /// Whoever leads when the stage begins is not heard from then on, and hears nothing.
    pub deposes: bool,
    /// The logs of these nodes become durable later.
    pub slow_logs: Nodes,
    /// Their promises do.
    pub slow_promises: Nodes,
    /// Theirs become durable soon, also if the disks of arbiters hardly move.
    pub brisk: Nodes,
    /// Nothing happens to these nodes.
    pub asleep: Nodes,
    /// Where clients go, often.
    pub clients: Option<ReplicaId>,
    /// The stage is over soon after this replica has begun to lead.
    pub until_leads: Option<ReplicaId>,
    /// Time passes in steps up to this.
    pub step_ms: u64,
    pub opening: Vec<Opening>,
}

impl Default for Stage {
    fn default() -> Stage {
        Stage {
            span_ns: 0,
            held: Ways::NONE,
            lost: Ways::NONE,
            held_kinds: Kinds::NONE,
            passes: 0,
            deposes: false,
            slow_logs: Nodes::NONE,
            slow_promises: Nodes::NONE,
            brisk: Nodes::NONE,
            asleep: Nodes::NONE,
            clients: None,
            until_leads: None,
            step_ms: 80,
            opening: Vec::new(),
        }
    }
}
