//! What a shard looks after now and then: what its groups can do later, checkpoints, the disk, hand-overs of a node that
//! leaves, ways home.

use quorate_paxos::Health;
use quorate_types::BootTime;
use quorate_types::planted::{Bug, planted};
use tracing::{debug, info};

use super::{Shard, off_task};
use crate::checkpoints::HeldBack;
use crate::disk_health::DiskVerdict;
use crate::event::Event;
use crate::group::{Effects, Fatal};
use crate::log_thread::LogCommand;

/// Releases and idle sessions can wait: each time those of a part of the groups are looked after.
const HOUSEKEEPING_PARTS: u32 = 4;

/// So many leaderships go home each time: each is a moment in which its clients wait, and work for all
/// members.
const HOME_EACH_MAX: usize = 16;

impl Shard {
    pub(super) fn hand_everything_over(
        &mut self,
        now: BootTime,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        for (group, driver) in &mut self.groups {
            fx.touched.push(*group);
            if driver.leads(now) {
                driver.hand_over(now, None, fx)?;
            }
        }
        Ok(())
    }

    /// Does what the state of the log's disk asks for.
    fn look_at_disk(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        let verdict = self.disk.look(now, &self.gauge);
        self.tell_health(now, fx)?;
        let should_leave = match verdict {
            DiskVerdict::Dead(hangs) => return Err(hangs.into()),
            DiskVerdict::HandOver => true,
            // The edge refuses writes from here on: who has room should lead.
            DiskVerdict::Lives => !self.has_room && !planted(Bug::LeadWithoutRoom),
        };
        if should_leave {
            for (group, driver) in &mut self.groups {
                if driver.leads(now) {
                    fx.touched.push(*group);
                    driver.give_way(now, fx)?;
                }
            }
        }
        Ok(())
    }

    /// Hands the leaderships over that belong to a better placed member and have settled, some at a time.
    fn send_home(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        let due = self.groups.iter_mut().filter(|(_, driver)| driver.core.is_due_home(now));
        for (group, driver) in due.take(HOME_EACH_MAX) {
            fx.touched.push(*group);
            driver.go_home(now, fx)?;
        }
        Ok(())
    }

    /// Tells the cores of the node's health when it has changed.
    pub(super) fn tell_health(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        let faults = self.disk.faults();
        let health = Health {
            draining: self.draining || self.is_told_to_drain,
            fatal_faults: faults.fatal_faults + u8::from(!self.has_room),
            ..faults
        };
        if health == self.health {
            return Ok(());
        }
        info!(before = ?self.health, now = ?health, "health of the node");
        self.health = health;
        for (group, driver) in &mut self.groups {
            fx.touched.push(*group);
            driver.set_health(now, health, fx)?;
        }
        Ok(())
    }

    pub(super) fn keep_house(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        self.housekeeping_part = (self.housekeeping_part + 1) % HOUSEKEEPING_PARTS;
        let part = self.housekeeping_part;
        let mut may_check = self.hashing.is_idle() && self.has_room;
        for (group, driver) in &mut self.groups {
            if group.0 % HOUSEKEEPING_PARTS != part {
                continue;
            }
            driver.expire(now)?;
            driver.clean_cross(now, fx)?;
            driver.clean_cuts(now, fx)?;
            driver.try_install(now, fx)?;
            driver.heal_members(now, fx)?;
            driver.tick_check(now, fx)?;
            if may_check && driver.check_if_due(now) {
                may_check = false; // One at a time: each reads all rows, on every member.
            }
            // Before log is released that holds it, also if it was applied before a start.
            if let Some(at) = driver.unstored_membership() {
                fx.memberships.push((*group, at));
            }
            let is_told = fx.memberships.iter().all(|(told, _)| told != group);
            if is_told && let Some(upto) = driver.release_upto()? {
                debug!(%group, %upto, "log released");
                self.log.send(LogCommand::Release { group: *group, upto });
            }
            fx.touched.push(*group);
        }
        if self.draining || self.is_told_to_drain {
            self.hand_everything_over(now, fx)?;
        }
        self.look_at_disk(now, fx)?;
        self.send_home(now, fx)?;
        if self.is_switching || !self.switches.is_empty() || 0 < self.memberships_unstored {
            return Ok(()); // Then come the checkpoints.
        }
        let held_back = self.groups.values_mut().map(|driver| HeldBack {
            sessions: &mut driver.sessions,
            attempts: driver.cross.rules.table_mut(),
        });
        if let Some(job) = self.checkpoints.poll(now, &self.options.store, held_back) {
            let (sender, stop) = (self.sender.clone(), self.options.stop.clone());
            off_task(move || match job.run() {
                // The shard is gone only when the node stops.
                Ok(flushed) => drop(sender.send(Event::Checkpointed { flushed })),
                Err(error) => stop.stop(&error),
            });
        }
        Ok(())
    }
}
