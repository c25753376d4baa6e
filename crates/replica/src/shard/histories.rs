//! What a shard is asked about histories of its groups: where replicas stand, forced recovery, the loss ledger.

use quorate_types::BootTime;

use super::Shard;
use crate::event::Event;
use crate::group::{Effects, Fatal};
use crate::refuse;

impl Shard {
    pub(super) fn handle_histories(
        &mut self,
        now: BootTime,
        event: Event,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        match event {
            Event::Heard { group, from, at } => {
                if let Some(driver) = self.groups.get_mut(&group) {
                    fx.touched.push(group);
                    driver.heard_members(now, from, at, fx)?;
                }
            }
            Event::Standing { group, slot, reply } => {
                let driver = self.groups.get(&group).ok_or_else(|| refuse::wrong_node(group));
                let _gone = reply.send(driver.map(|it| it.standing(now, slot))).is_err(); // The caller may have left.
            }
            Event::Force { group, order, reply } => match self.groups.get_mut(&group) {
                Some(driver) => {
                    fx.touched.push(group);
                    driver.force(now, *order, reply, fx)?;
                }
                None => drop(reply.send(Err(refuse::wrong_node(group)))),
            },
            Event::Losses { group, reply } => {
                let losses = match self.groups.get(&group) {
                    Some(driver) => driver.losses(now)?,
                    None => Err(refuse::wrong_node(group)),
                };
                let _gone = reply.send(losses).is_err(); // The caller may have left.
            }
            _ => unreachable!("not about histories"),
        }
        Ok(())
    }
}
