//! What a shard is asked about who takes part in its groups, and replicas that are made while it runs.

use std::sync::Arc;

use quorate_log::MembershipRecord;
use quorate_paxos::{Input, Membership, MembershipAt, Options, Restored};
use quorate_types::{Ballot, BootTime, Code, EntryId, Error, GroupId, ReplicaId, ReplicaKind};
use tokio::sync::oneshot;
use tracing::info;

use super::Shard;
use super::leave::Gone;
use crate::event::Event;
use crate::force::{Fate, record_of};
use crate::group::{Effects, Fatal, GroupDriver, GroupOptions};
use crate::log_thread::{LogCommand, Made};
use crate::members::leader_nodes_of;
use crate::refuse;

/// A replica that is being made.
#[derive(Debug)]
pub(super) struct Making {
    options: Box<GroupOptions>,
    /// What it takes over from the one before it on this disk.
    promised: Ballot,
    replies: Vec<oneshot::Sender<Result<ReplicaId, Error>>>,
}

impl Shard {
    pub(super) fn handle_members(
        &mut self,
        now: BootTime,
        event: Event,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        match event {
            Event::Members { group, reply } => {
                let members = match self.groups.get(&group) {
                    Some(driver) => driver.members(now),
                    None => Err(refuse::wrong_node(group)),
                };
                let _gone = reply.send(members).is_err(); // The caller may have left.
            }
            Event::ChangeMembers { group, request, reply } => match self.groups.get_mut(&group) {
                Some(driver) => {
                    fx.touched.push(group);
                    driver.change_members(now, request, reply, fx)?;
                }
                None => drop(reply.send(Err(refuse::wrong_node(group)))),
            },
            Event::Join { group, replica, kind, reply } => {
                fx.touched.push(group);
                let joined = match self.groups.get_mut(&group) {
                    Some(driver) => driver.join(now, replica, kind, fx)?,
                    None => Err(refuse::wrong_node(group)),
                };
                let _gone = reply.send(joined).is_err(); // The caller may have left.
            }
            Event::Create { options, reply } => self.create(options, reply),
            Event::Created { group } => self.created(group, fx)?,
            Event::Kept { group, at } => {
                // A replica that was replaced meanwhile kept it for nobody.
                if let Some(driver) = self.groups.get_mut(&group) {
                    fx.touched.push(group);
                    driver.step(now, Input::Kept(at), fx)?;
                }
            }
            Event::Rebirth { options, reply } => {
                self.rebirth(now, options, reply, fx)?;
            }
            Event::Reborn => {
                if let Some(reply) = self.rebirth.take() {
                    let _gone = reply.send(Ok(())).is_err(); // The caller may have left.
                }
            }
            Event::Own { group, reply } => {
                let gone = || self.gone.get(&group).map(Gone::own);
                let own = self.groups.get(&group).map(GroupDriver::own).or_else(gone);
                let _gone = reply.send(own).is_err(); // The caller may have left.
            }
            Event::Moved { group, nodes, at } => {
                self.leaders.moved(group, nodes);
                if let Some(driver) = self.groups.get_mut(&group) {
                    driver.hear_members(at);
                }
            }
            Event::PinLeader { group, pinned, reply } => match self.groups.get_mut(&group) {
                Some(driver) => {
                    fx.touched.push(group);
                    driver.step(now, Input::Pin(pinned), fx)?;
                    self.log.send(LogCommand::PinLeader { group, pinned, reply });
                }
                None => drop(reply.send(Err(refuse::wrong_node(group)))),
            },
            Event::SetDrained { drained, reply } => {
                self.is_told_to_drain = drained;
                self.tell_health(now, fx)?;
                if drained {
                    self.hand_everything_over(now, fx)?;
                }
                let led = self.groups.values().filter(|driver| driver.leads(now)).count();
                let led = u32::try_from(led).unwrap_or(u32::MAX);
                let _gone = reply.send(led).is_err(); // The caller may have left.
            }
            _ => unreachable!("not about members"),
        }
        Ok(())
    }

    /// Makes a replica, unless there is one that nobody has taken in yet. One that has left goes on under another id.
    pub(super) fn create(
        &mut self,
        options: Box<GroupOptions>,
        reply: oneshot::Sender<Result<ReplicaId, Error>>,
    ) {
        let Some((options, reply)) = self.wait_until_gone((options, reply)) else { return };
        let group = options.paxos.group;
        let (replica, kind) = (options.paxos.replica, options.paxos.kind);
        if let Some(making) = self.making.get_mut(&group) {
            let is = making.options.paxos.kind;
            if is.holds_as(kind) {
                making.replies.push(reply);
            } else {
                // The caller may have left.
                let _gone = reply.send(Err(of_another_kind(group, is, kind))).is_err();
            }
            return;
        }
        if let Some(driver) = self.groups.get(&group) {
            let (own, is) = (driver.options.paxos.replica, driver.options.paxos.kind);
            let outlived = driver.refuses_outlived();
            if outlived.is_none() && driver.has_left() && own != replica && is.holds_as(kind) {
                let promised = driver.core.promised();
                let membership = record_of(&driver.members.stored, Fate::Awaited);
                self.making.insert(group, Making { options, promised, replies: vec![reply] });
                self.log.send(LogCommand::Rename { group, replica, membership });
                return;
            }
            let answer = if let Some(error) = outlived {
                Err(error)
            } else if !driver.has_left() && !driver.was_never_in() {
                let message = format!("this node has member {own} of {group}");
                Err(refuse::of_group(Error::new(Code::MemberExists, message), group))
            } else if is.holds_as(kind) {
                Ok(own)
            } else {
                Err(of_another_kind(group, is, kind))
            };
            let _gone = reply.send(answer).is_err(); // The caller may have left.
            return;
        }
        let gone = self.gone.get(&group);
        if gone.is_some_and(|gone| gone.own().replica == replica) {
            let message = format!("{replica} has left {group} for good: its id is not used again");
            let error = refuse::of_group(Error::new(Code::InvalidRequest, message), group);
            let _gone = reply.send(Err(error)).is_err(); // The caller may have left.
            return;
        }
        let promised = gone.map_or(Ballot::ZERO, |gone| gone.promised);
        self.making.insert(group, Making { options, promised, replies: vec![reply] });
        self.log.send(LogCommand::Create(Made { group, replica, kind, promised }));
    }

    /// Replaces replicas that groups began with here and that have written nothing. Whatever is on its way to the
    /// log thread for them was sent before, and is a promise at most: the new ones take those over. Replicas that
    /// were made later belong to this data folder, and stay.
    fn rebirth(
        &mut self,
        now: BootTime,
        options: Vec<GroupOptions>,
        reply: oneshot::Sender<Result<(), Error>>,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let first = ReplicaId::first_on(self.options.node);
        let is_first = |driver: &GroupDriver| driver.options.paxos.replica == first;
        // An arbiter writes no log: what it keeps is a membership that its leader told it.
        let has_log = |driver: &GroupDriver| {
            let (last, members) = (driver.core.log().last(), driver.core.membership_at().id);
            last != EntryId::ZERO || (!driver.kind().keeps_log() && members != EntryId::ZERO)
        };
        let wrote = |driver: &GroupDriver| is_first(driver) && has_log(driver);
        let writer = self.groups.iter().find(|(_, driver)| wrote(driver)).map(|(group, _)| group);
        // What has left has been a member, of this disk.
        let member = || self.gone.iter().find(|(_, gone)| gone.is_first()).map(|(group, _)| group);
        if let Some(group) = writer.or_else(member) {
            let message =
                format!("this node has written a log of {group} beside the one its peers know");
            let error = Error::new(Code::IncarnationMismatch, message);
            let _gone = reply.send(Err(error)).is_err(); // The caller may have left.
            return Ok(());
        }
        let mut replicas = Vec::new();
        for options in options {
            let Options { group, replica, kind, .. } = options.paxos;
            if !self.groups.get(&group).is_some_and(is_first) {
                continue;
            }
            let Some(driver) = self.groups.remove(&group) else { continue };
            self.deadlines.remove(&(driver.alarm, group));
            let promised = driver.core.promised();
            replicas.push(Made { group, replica, kind, promised });
            info!(%group, %replica, "a replica takes the place of one whose disk is lost");
            let restored = Restored { promised, ..Restored::fresh(Membership::default()) };
            let added = self.add(options, restored);
            added.map_err(|source| Fatal::Store { group, source })?;
            self.tell_health_to(now, group, fx)?;
        }
        // Before that is durable nobody may hear of it: after a crash the old ids would be back. A node of no
        // group has to remember it too.
        self.rebirth = Some(reply);
        self.log.send(LogCommand::Rebirth(replicas));
        Ok(())
    }

    /// The replica is durable: from here on it promises and accepts, and waits for somebody to take it in.
    fn created(&mut self, group: GroupId, fx: &mut Effects) -> Result<(), Fatal> {
        let making = self.making.remove(&group);
        let Making { options, promised, replies } =
            making.expect("only what is being made is reported");
        let (now, replica) = (self.options.clock.now(), options.paxos.replica);
        if let Some(driver) = self.groups.get_mut(&group) {
            info!(%group, %replica, "a replica that has left goes on under another id");
            driver.rename(now, replica, fx)?;
        } else {
            let store = Arc::clone(&self.options.store);
            let added = store.add_group(group);
            added.map_err(|source| Fatal::Store { group, source })?;
            self.gone.remove(&group);
            let restored = Restored { promised, ..Restored::fresh(Membership::default()) };
            self.add(*options, restored).map_err(|source| Fatal::Store { group, source })?;
            self.tell_health_to(now, group, fx)?;
            info!(%group, %replica, "made a replica");
        }
        fx.touched.push(group);
        for reply in replies {
            let _gone = reply.send(Ok(replica)).is_err(); // The caller may have left.
        }
        Ok(())
    }

    /// What is kept of the log for members that lag is shared by the groups that the node has now.
    pub(super) fn share_log_budget(&mut self) {
        let each = self.options.log_keep_max / self.groups.len().max(1) as u64;
        for driver in self.groups.values_mut() {
            driver.core.set_log_budget(each);
        }
    }

    /// Other members of a group are chosen: its own groups and other nodes find it there.
    pub(super) fn tell_membership(&mut self, group: GroupId, at: &MembershipAt) {
        if at.id == EntryId::ZERO {
            return; // As in the cluster file.
        }
        self.leaders.moved(group, leader_nodes_of(&at.membership));
        self.options.network.membership(group, at);
    }

    /// Members for the promise file, and what became of the replica here.
    pub(super) fn record_of(&self, group: GroupId, at: &MembershipAt) -> MembershipRecord {
        let fate = self.groups.get(&group).map(GroupDriver::fate).unwrap_or_default();
        record_of(at, fate)
    }

    /// Tells a replica that was made just now how its node is.
    fn tell_health_to(
        &mut self,
        now: BootTime,
        group: GroupId,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let health = self.health;
        match self.groups.get_mut(&group) {
            Some(driver) => driver.set_health(now, health, fx),
            None => Ok(()),
        }
    }
}

/// A replica that holds something else than what is wanted.
fn of_another_kind(group: GroupId, is: ReplicaKind, wanted: ReplicaKind) -> Error {
    let message = format!(
        "this node has a replica of {group} that is {is}, and cannot make one that is {wanted}: use another node"
    );
    refuse::of_group(Error::new(Code::InvalidRequest, message), group)
}

#[cfg(test)]
#[path = "members_test.rs"]
mod tests;
