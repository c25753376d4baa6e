//! The part of the shard that is about whole copies of rows: given to others, fetched from them, switched to,
//! hashed and compared. Called by `shard.rs`.

use std::sync::Arc;

use quorate_types::{BootTime, CheckMessage, Code, Error, GroupId, NodeId, ReplicaId, Slot};
use tracing::debug;

use super::{Shard, off_task};
use crate::event::{Event, Leaving};
use crate::group::{Effects, Fatal, GroupDriver};
use crate::hashing::HashJob;
use crate::refill::{self, Wanted};
use crate::refuse;
use crate::snapshot::SnapshotSource;

impl Shard {
    pub(super) fn handle_rows(
        &mut self,
        now: BootTime,
        event: Event,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        match event {
            Event::Refilled { group, replica, outcome } => {
                fx.touched.push(group);
                match self.same_driver(group, replica) {
                    Some(driver) => driver.on_refilled(now, outcome, fx)?,
                    None => debug!(%group, %replica, "rows came for a replica that is gone"),
                }
            }
            Event::Switched { group, replica, loaded } => {
                self.is_switching = false;
                fx.touched.push(group);
                match (self.same_driver(group, replica), loaded) {
                    (Some(driver), Some(loaded)) => driver.switched(now, *loaded, fx)?,
                    (Some(_), None) => {}
                    (None, _) => debug!(%group, %replica, "rows of a replica that is gone count"),
                }
            }
            Event::Checks { messages, permit } => {
                for message in messages {
                    if let Some(driver) = self.groups.get_mut(&message.group) {
                        fx.touched.push(message.group);
                        driver.receive_check(now, message, fx)?;
                    }
                }
                drop(permit);
            }
            Event::Hashed(job) => {
                let (group, at) = (job.group, job.at);
                let driver = self.groups.get_mut(&group);
                let is_wanted = driver.as_ref().is_some_and(|driver| driver.wants_hash(at));
                let hashed = self.hashing.hashed(now, *job, is_wanted);
                if let (Some(driver), Some(digest)) = (driver, hashed) {
                    fx.touched.push(group);
                    driver.hashed(now, at, digest, fx)?;
                }
            }
            _ => unreachable!("not about rows"),
        }
        Ok(())
    }

    /// The driver of a group, if it is still that of this replica: another one may have taken its place while
    /// work was done for it elsewhere.
    fn same_driver(&mut self, group: GroupId, replica: ReplicaId) -> Option<&mut GroupDriver> {
        self.groups.get_mut(&group).filter(|driver| driver.is_or_was(replica))
    }

    /// Sends off what the groups of this round want with rows.
    pub(super) fn carry_out_rows(
        &mut self,
        refills: Vec<Wanted>,
        withdrawn: Vec<GroupId>,
        checks: Vec<(NodeId, CheckMessage)>,
        hashes: Vec<HashJob>,
    ) {
        for wanted in refills {
            let done = refill::report(wanted.group, wanted.replica, self.sender.clone());
            let store = Arc::clone(&self.options.store);
            self.options.network.refill(wanted, store, done);
        }
        for group in withdrawn {
            self.options.network.withdraw(group);
        }
        for (node, message) in checks {
            self.options.network.send_checks(node, vec![message]);
        }
        for job in hashes {
            if let Some((group, at)) = self.hashing.push(job)
                && let Some(driver) = self.groups.get_mut(&group)
            {
                driver.cannot_hash(at);
            }
        }
    }

    /// Switches rows off this task, one group after the other and never beside a checkpoint, which could
    /// bring back where the old rows stood.
    pub(super) fn switch_next(&mut self) {
        if self.is_switching || self.checkpoints.is_running() {
            return;
        }
        let Some(switch) = self.switches.pop_front() else { return };
        self.is_switching = true;
        let (sender, stop) = (self.sender.clone(), self.options.stop.clone());
        let (group, replica) = (switch.group(), switch.replica());
        let gives_up = switch.gives_up();
        off_task(move || match switch.run() {
            // The shard is gone only when the node stops.
            Ok(_) if gives_up => {
                drop(sender.send(Event::Leaving(Leaving::GivenUp { group })));
            }
            Ok(loaded) => {
                let loaded = loaded.map(Box::new);
                drop(sender.send(Event::Switched { group, replica, loaded }));
            }
            Err(error) => stop.stop(&error),
        });
    }

    /// Hashes a piece of some rows off this task.
    pub(super) fn hash_next(&mut self) {
        let Some(mut job) = self.hashing.next(self.options.clock.now()) else { return };
        let (sender, stop) = (self.sender.clone(), self.options.stop.clone());
        off_task(move || match job.run() {
            // The shard is gone only when the node stops.
            Ok(()) => drop(sender.send(Event::Hashed(Box::new(job)))),
            Err(error) => stop.stop(&error),
        });
    }

    /// The rows of a group, for another node. One that is leaving or in trouble has no time for others.
    pub(super) fn snapshot(
        &mut self,
        group: GroupId,
        asks: NodeId,
        at_least: Slot,
    ) -> Result<Result<SnapshotSource, Error>, Fatal> {
        if self.health.draining || 0 < self.health.fatal_faults {
            let error = Error::new(Code::SnapshotUnavailable, "this node is leaving or in trouble");
            return Ok(Err(refuse::of_group(error, group)));
        }
        match self.groups.get_mut(&group) {
            Some(driver) => match driver.refuses_outlived() {
                Some(error) => Ok(Err(error)),
                None => driver.snapshot(asks, at_least),
            },
            None => Ok(Err(refuse::wrong_node(group))),
        }
    }
}
