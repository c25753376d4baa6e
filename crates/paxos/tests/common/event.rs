//! Everything that can happen to a cluster, as values. An event that makes no sense where it stands,
//! such as the start of a node that runs, does nothing; so any part of a schedule is a schedule.
//!
//! Cut links, sleeping nodes and slow disks are no events: on a cut link messages are lost, to a node
//! that sleeps nothing happens, and a slow disk finishes late. What an event prints as is the command
//! for it in a golden script.

use std::fmt;

use quorate_types::ReplicaId;

use crate::common::links::Pick;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Real time passes; every clock goes on at its own rate.
    Pass {
        ns: u64,
    },
    /// Due timers fire.
    Tick(ReplicaId),
    /// The disk says that it works.
    DiskProgress(ReplicaId),
    /// A message arrives; nobody sees it if the node is down.
    Deliver(Pick),
    Lose(Pick),
    Duplicate(Pick),
    /// The first log writes that wait become durable.
    SyncLog {
        id: ReplicaId,
        count: usize,
    },
    /// The first promise that waits becomes durable.
    SyncPromise(ReplicaId),
    /// A client writes the values `first..first + count`.
    Propose {
        id: ReplicaId,
        first: u64,
        count: u64,
    },
    /// A client reads.
    Read(ReplicaId),
    /// A client wants to read at a replica, whoever leads, and needs it to be fresh.
    AskFresh(ReplicaId),
    /// Power fails. Of what was not durable the first `keep` log writes survive, and the promises or
    /// not.
    Crash {
        id: ReplicaId,
        keep: usize,
        keep_promise: bool,
    },
    Start(ReplicaId),
    HandOver {
        id: ReplicaId,
        to: Option<ReplicaId>,
    },
    /// Its node is less fit to lead than others.
    GiveWay(ReplicaId),
    /// Its driver looks whether a better placed member has settled.
    GoHome(ReplicaId),
    /// The rows reach the disk.
    Checkpoint(ReplicaId),
    /// The log that nobody needs is recycled.
    Trim(ReplicaId),
    Health {
        id: ReplicaId,
        draining: bool,
        serious_faults: u8,
    },
    /// An operator wants other members.
    Change {
        id: ReplicaId,
        voters: Ids,
        learners: Ids,
    },
    /// Its driver looks whether a change is to go on.
    ContinueChange(ReplicaId),
    /// An operator goes on with these alone; he takes the others for lost.
    Force {
        id: ReplicaId,
        keep: Ids,
    },
    /// It is told of the history that another one is in.
    Tell {
        id: ReplicaId,
        from: ReplicaId,
    },
    /// A node is lost: it does not start again. Its disk is lost with it, or may be found.
    LoseNode {
        id: ReplicaId,
        with_disk: bool,
    },
    /// A node that was lost is found, with its disk as it was.
    FindNode(ReplicaId),
    /// An operator asks all where they stand, and plans how to go on without the others,
    Look,
    /// and orders that, however much later.
    Order,
    /// A node that has left is gone for good, and its disk with it.
    Vanish(ReplicaId),
    /// The rows of a node that is down are lost.
    LoseRows(ReplicaId),
    /// The log of a node that is down is lost, but for so many batches; the node notices.
    LoseLog {
        id: ReplicaId,
        keep: usize,
    },
    /// The rows of a node that runs are found to be damaged.
    DamageRows(ReplicaId),
    /// Rows of another replica arrive,
    Snapshot {
        id: ReplicaId,
        from: ReplicaId,
    },
    /// are to become its own,
    Install(ReplicaId),
    /// are so on its disk,
    Switch(ReplicaId),
    /// and it hears of that.
    Installed(ReplicaId),
    /// The oldest log read that waits is answered, with so many batches at most.
    AnswerRead {
        id: ReplicaId,
        count: usize,
    },
}

impl Event {
    /// The replicas it concerns.
    pub fn replicas(&self) -> (Option<ReplicaId>, Option<ReplicaId>) {
        match *self {
            Event::Pass { .. } | Event::Look | Event::Order => (None, None),
            Event::Deliver(pick) | Event::Lose(pick) | Event::Duplicate(pick) => {
                (Some(pick.from), Some(pick.to))
            }
            Event::HandOver { id, to } => (Some(id), to),
            Event::Snapshot { id, from } | Event::Tell { id, from } => (Some(id), Some(from)),
            Event::Tick(id)
            | Event::DiskProgress(id)
            | Event::SyncLog { id, .. }
            | Event::SyncPromise(id)
            | Event::Propose { id, .. }
            | Event::Read(id)
            | Event::AskFresh(id)
            | Event::Crash { id, .. }
            | Event::Start(id)
            | Event::GiveWay(id)
            | Event::GoHome(id)
            | Event::Checkpoint(id)
            | Event::Trim(id)
            | Event::LoseRows(id)
            | Event::LoseLog { id, .. }
            | Event::DamageRows(id)
            | Event::Change { id, .. }
            | Event::Force { id, .. }
            | Event::ContinueChange(id)
            | Event::Vanish(id)
            | Event::LoseNode { id, .. }
            | Event::FindNode(id)
            | Event::Install(id)
            | Event::Switch(id)
            | Event::Installed(id)
            | Event::Health { id, .. }
            | Event::AnswerRead { id, .. } => (Some(id), None),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Event::Pass { ns } => write!(f, "pass +{}", span(ns)),
            Event::Tick(id) => write!(f, "tick {id}"),
            Event::DiskProgress(id) => write!(f, "disk-progress {id}"),
            Event::Deliver(pick) => write!(f, "deliver {pick}"),
            Event::Lose(pick) => write!(f, "lose {pick}"),
            Event::Duplicate(pick) => write!(f, "double {pick}"),
            Event::SyncLog { id, count: usize::MAX } => write!(f, "sync {id}"),
            Event::SyncLog { id, count } => write!(f, "sync {id} {count}"),
            Event::SyncPromise(id) => write!(f, "sync-promise {id}"),
            Event::Propose { id, first, count } => {
                write!(f, "propose {id}")?;
                (first..first + count).try_for_each(|value| write!(f, " {value}"))
            }
            Event::Read(id) => write!(f, "read {id}"),
            Event::AskFresh(id) => write!(f, "ask {id}"),
            Event::Crash { id, keep, keep_promise } => {
                write!(f, "crash {id}")?;
                if keep > 0 || keep_promise {
                    write!(f, " keep {keep}")?;
                }
                if keep_promise { write!(f, " promise") } else { Ok(()) }
            }
            Event::Start(id) => write!(f, "start {id}"),
            Event::HandOver { id, to: None } => write!(f, "hand-over {id}"),
            Event::HandOver { id, to: Some(to) } => write!(f, "hand-over {id} {to}"),
            Event::GiveWay(id) => write!(f, "give-way {id}"),
            Event::GoHome(id) => write!(f, "go-home {id}"),
            Event::Checkpoint(id) => write!(f, "checkpoint {id}"),
            Event::Trim(id) => write!(f, "trim {id}"),
            Event::LoseRows(id) => write!(f, "lose-rows {id}"),
            Event::LoseLog { id, keep } => write!(f, "lose-log {id} keep {keep}"),
            Event::DamageRows(id) => write!(f, "damage-rows {id}"),
            Event::Change { id, voters, learners } => {
                write!(f, "change {id} voters={voters} learners={learners}")
            }
            Event::Force { id, keep } => write!(f, "force {id} keep={keep}"),
            Event::Tell { id, from } => write!(f, "tell {id} {from}"),
            Event::ContinueChange(id) => write!(f, "continue {id}"),
            Event::LoseNode { id, with_disk: true } => write!(f, "lose-node {id} disk"),
            Event::LoseNode { id, with_disk: false } => write!(f, "lose-node {id}"),
            Event::FindNode(id) => write!(f, "find-node {id}"),
            Event::Look => write!(f, "look"),
            Event::Order => write!(f, "order"),
            Event::Vanish(id) => write!(f, "vanish {id}"),
            Event::Snapshot { id, from } => write!(f, "snapshot {id} {from}"),
            Event::Install(id) => write!(f, "install {id}"),
            Event::Switch(id) => write!(f, "switch {id}"),
            Event::Installed(id) => write!(f, "installed {id}"),
            Event::Health { id, draining: true, .. } => write!(f, "drain {id}"),
            Event::Health { id, serious_faults, .. } => write!(f, "faults {id} {serious_faults}"),
            Event::AnswerRead { id, count: usize::MAX } => write!(f, "answer {id}"),
            Event::AnswerRead { id, count } => write!(f, "answer {id} {count}"),
        }
    }
}

/// A set of replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids(u32);

impl Ids {
    pub fn of(ids: impl IntoIterator<Item = ReplicaId>) -> Ids {
        Ids(ids.into_iter().fold(0, |bits, id| bits | 1 << id.0))
    }

    pub fn iter(self) -> impl Iterator<Item = ReplicaId> {
        (0..32).filter(move |n| self.0 >> n & 1 == 1).map(ReplicaId)
    }

    pub fn has(self, id: ReplicaId) -> bool {
        self.0 >> id.0 & 1 == 1
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self.iter().map(|id| id.to_string()).collect();
        write!(f, "{}", ids.join(","))
    }
}

/// A span of time in the greatest unit that shows it whole.
pub fn span(ns: u64) -> String {
    match ns {
        _ if ns.is_multiple_of(1_000_000) => format!("{}ms", ns / 1_000_000),
        _ if ns.is_multiple_of(1_000) => format!("{}us", ns / 1_000),
        _ => format!("{ns}ns"),
    }
}
