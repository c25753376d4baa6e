//! Replicas that have left their groups for good: what they had is given up, in steps that a start goes on with.
//!
//! ```text
//!   Leave: nobody needs it   the driver ends; what waits is refused
//!   log thread               the promise file says so, and that no frame of it counts; its log is released
//!   Left: between two checkpoints, off this task, its rows are given up
//!   GivenUp: the group may have a replica here again, under another id
//! ```
//!
//! From the first step on nothing is sent under its id. A crash before the promise file says so leaves it as it was;
//! after that a start finds no replica, and gives up the rows if they are still there.

use std::collections::BTreeMap;

use quorate_paxos::{MembershipAt, NotServing};
use quorate_types::{Ballot, Error, GroupId, ReplicaId, ReplicaKind, Slot};
use tokio::sync::oneshot;
use tracing::info;

use super::Shard;
use crate::event::{Departed, Leaving, Own, Presence};
use crate::force::{Fate, record_of};
use crate::group::{Effects, GroupDriver, GroupOptions};
use crate::log_thread::LogCommand;
use crate::refill::Switch;
use crate::refuse;

/// What is left of a replica that has gone, or is going.
#[derive(Debug)]
pub(super) struct Gone {
    replica: ReplicaId,
    kind: ReplicaKind,
    /// Whoever comes after it on this disk takes this over: the log says that it was promised here.
    pub(super) promised: Ballot,
    /// Whoever wants a replica of the group meanwhile; `None` once nothing of it is here any more.
    waiting: Option<Vec<Wanted>>,
}

/// A replica that is wanted, and who wants it.
type Wanted = (Box<GroupOptions>, oneshot::Sender<Result<ReplicaId, Error>>);

impl Gone {
    pub(super) fn own(&self) -> Own {
        Own { replica: self.replica, kind: self.kind, presence: Presence::Gone }
    }

    /// True if it is one that its group began with.
    pub(super) fn is_first(&self) -> bool {
        self.replica == ReplicaId::first_on(self.replica.node())
    }
}

impl Shard {
    /// Tells of a replica that had left for good before this start, and goes on with what a crash may have left of its
    /// log. To be called before the shard runs.
    pub fn add_gone(&mut self, departed: Departed, kind: ReplicaKind, promised: Ballot) {
        let Departed { group, replica, since } = departed;
        self.tell_membership(group, &since);
        self.gone.insert(group, Gone { replica, kind, promised, waiting: None });
        self.log.send(LogCommand::Release { group, upto: Slot(u64::MAX) });
    }

    /// Nobody had taken in the replica that was added just now under the id that it has. To be called before the shard
    /// runs.
    ///
    /// # Panics
    /// If the group was not added.
    pub fn note_awaited(&mut self, group: GroupId) {
        let driver = self.groups.get_mut(&group);
        driver.expect("it was added just now").begin_awaited();
    }

    /// The replicas that have left and are still here.
    pub(super) fn departed(&self) -> Vec<Departed> {
        self.groups.values().filter_map(GroupDriver::departed).collect()
    }

    /// Everybody who takes part has what this replica left by. From here on it does nothing any more. False if it is not
    /// as it was when they were asked.
    fn leave(&mut self, departed: Departed, fx: &mut Effects) -> bool {
        let group = departed.group;
        // One that is about to go on under another id stays.
        let is_kept = self.making.contains_key(&group);
        if is_kept
            || self.groups.get(&group).and_then(GroupDriver::departed) != Some(departed.clone())
        {
            return false;
        }
        let Some(driver) = self.groups.remove(&group) else { return false };
        self.deadlines.remove(&(driver.alarm, group));
        let Departed { replica, since, .. } = departed;
        info!(%group, %replica, since = %since.id, "a replica has left for good: its rows and its log are given up");
        let (kind, promised) = (driver.kind(), driver.core.promised());
        self.gone.insert(group, Gone { replica, kind, promised, waiting: Some(Vec::new()) });
        driver.end();
        fx.withdrawn.push(group);
        fx.leaves.push((group, since));
        self.share_log_budget();
        true
    }

    pub(super) fn handle_leaving(&mut self, event: Leaving, fx: &mut Effects) {
        match event {
            Leaving::WhoLeft(reply) => {
                let _gone = reply.send(self.departed()).is_err(); // The caller may have left.
            }
            Leaving::Leave { departed, reply } => {
                let _gone = reply.send(self.leave(departed, fx)).is_err(); // The caller may have left.
            }
            Leaving::IsSureOf { group, at, reply } => {
                let is_sure = self.groups.get(&group).is_some_and(|it| it.is_sure_of(&at));
                let _gone = reply.send(is_sure).is_err(); // The caller may have left.
            }
            Leaving::Left { group } => self.left(group),
            Leaving::GivenUp { group } => self.given_up(group),
        }
    }

    /// Behind everything else that the groups of this round send to the log.
    pub(super) fn carry_out_leaves(&mut self, leaves: Vec<(GroupId, MembershipAt)>) {
        for (group, since) in leaves {
            let membership = record_of(&since, Fate::Gone);
            self.log.send(LogCommand::Leave { group, membership });
        }
    }

    /// That it has gone is durable.
    fn left(&mut self, group: GroupId) {
        let replica = self.gone.get(&group).expect("it is going").replica;
        self.switches.push_back(Switch::give_up(group, replica, &self.options.store));
    }

    /// Nothing of it is here any more.
    fn given_up(&mut self, group: GroupId) {
        self.is_switching = false;
        let gone = self.gone.get_mut(&group).expect("it is going");
        info!(%group, replica = %gone.replica, "the rows of a replica that has left are given up");
        for (options, reply) in gone.waiting.take().into_iter().flatten() {
            self.create(options, reply);
        }
    }

    /// Keeps who wants a replica of a group until the one before it has gone. Gives back whoever need not wait.
    pub(super) fn wait_until_gone(&mut self, wanted: Wanted) -> Option<Wanted> {
        let group = wanted.0.paxos.group;
        match self.gone.get_mut(&group).and_then(|gone| gone.waiting.as_mut()) {
            Some(waiting) => {
                waiting.push(wanted);
                None
            }
            None => Some(wanted),
        }
    }
}

/// Those that have gone, by group.
pub(super) type AllGone = BTreeMap<GroupId, Gone>;

impl GroupDriver {
    /// Refuses whoever waits for this replica, which does nothing any more.
    fn end(mut self) {
        let refused = Err(refuse::wrong_node(self.group));
        self.lose_leadership(NotServing::NotLeader(None));
        // Those who could not ask again waited until their slot is decided.
        self.waiters.skip(Slot(u64::MAX), &Err(refuse::outcome_unknown(self.group, None)));
        self.lose_views("its replica has left the group");
        self.refuse_arrivals(&refused);
        self.refuse_elsewhere(&refused);
        for held in std::mem::take(&mut self.held).into_values() {
            held.reply.answer(refused.clone());
        }
    }
}
