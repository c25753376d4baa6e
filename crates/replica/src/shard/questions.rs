//! What operators and services ask of a shard.

use std::time::Duration;

use quorate_types::{BootTime, CheckReport, Code, Error, GroupId, NodeId};
use tokio::sync::oneshot;
use tracing::info;

use super::Shard;
use crate::event::{Event, ShardStatus};
use crate::group::{Effects, Fatal, GroupDriver};
use crate::log_thread::{LogCommand, Meeting, Newcomer};
use crate::refuse;

impl Shard {
    pub(super) fn handle_question(
        &mut self,
        now: BootTime,
        event: Event,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        match event {
            Event::TransferLeader { group, to, reply } => {
                fx.touched.push(group);
                let answer = self.transfer(now, group, to, fx)?;
                let _gone = reply.send(answer).is_err(); // The caller may have left.
            }
            Event::Check { group, wait, reply } => {
                fx.touched.push(group);
                self.check(now, group, wait, reply);
            }
            Event::Meet { node, folder, told, reply } => {
                let comes = Some(Newcomer { node, folder, reply });
                self.log.send(LogCommand::Meet(Meeting { told, comes }));
            }
            Event::HearFolders(told) => {
                self.log.send(LogCommand::Meet(Meeting { told, comes: None }));
            }
            Event::Snapshot { group, asks, at_least, reply } => {
                let source = self.snapshot(group, asks, at_least)?;
                let _gone = reply.send(source).is_err(); // The caller may have left.
            }
            Event::Drain => {
                info!("draining: handing leaderships over");
                self.draining = true;
                self.tell_health(now, fx)?;
                self.hand_everything_over(now, fx)?;
            }
            Event::Attempts(reply) => {
                let all = self.groups.values().flat_map(GroupDriver::attempts).collect();
                let _gone = reply.send(all).is_err(); // The caller may have left.
            }
            Event::Resolve { attempt, reply } => {
                let mut asked = 0;
                for (group, driver) in &mut self.groups {
                    fx.touched.push(*group);
                    asked += u32::from(driver.resolve(now, attempt, fx)?);
                }
                let _gone = reply.send(asked).is_err(); // The caller may have left.
            }
            Event::Status(reply) => {
                let _gone = reply.send(self.status(now)).is_err(); // The caller may have left.
            }
            _ => unreachable!("no question"),
        }
        Ok(())
    }

    fn check(
        &mut self,
        now: BootTime,
        group: GroupId,
        wait: Duration,
        reply: oneshot::Sender<Result<CheckReport, Error>>,
    ) {
        match self.groups.get_mut(&group) {
            Some(driver) => driver.ask_check(now, wait, self.has_room, reply),
            None => {
                let error = refuse::wrong_node(group);
                let _gone = reply.send(Err(error)).is_err(); // The caller may have left.
            }
        }
    }

    fn transfer(
        &mut self,
        now: BootTime,
        group: GroupId,
        to: Option<NodeId>,
        fx: &mut Effects,
    ) -> Result<Result<(), Error>, Fatal> {
        let Some(driver) = self.groups.get_mut(&group) else {
            return Ok(Err(refuse::wrong_node(group)));
        };
        if let Err(error) = driver.serving(now) {
            return Ok(Err(error));
        }
        if let Some(node) = to
            && driver.replica_on(node).is_none()
        {
            return Ok(Err(Error::new(
                Code::InvalidRequest,
                format!("{node} holds no replica of {group}"),
            )));
        }
        driver.hand_over(now, to, fx)?;
        Ok(Ok(()))
    }

    fn status(&self, now: BootTime) -> ShardStatus {
        ShardStatus {
            draining: self.draining,
            has_room: self.has_room,
            health: self.health,
            log_bytes: self.log_bytes,
            log: self.log_counters,
            log_busy: self.gauge.busy(),
            departed: self.departed().len(),
            compaction_pending_bytes: self.options.store.stats().engine.compaction_pending_bytes,
            groups: self.groups.values().map(|driver| driver.status(now)).collect(),
        }
    }
}
