//! Whether this replica leads, and to whom it hands that over. Called by `shard.rs`.

use quorate_paxos::{Health, Input, NotServing};
use quorate_types::{BootTime, Error, NodeId, ReplicaId};

use crate::group::{Effects, Fatal, GroupDriver};
use crate::refuse;

impl GroupDriver {
    pub(crate) fn leads(&self, now: BootTime) -> bool {
        matches!(
            self.core.serving(now),
            Ok(_) | Err(NotServing::NotReady | NotServing::HandingOver(_))
        )
    }

    pub(crate) fn serving(&self, now: BootTime) -> Result<(), Error> {
        if let Some(error) = self.refuses_outlived() {
            return Err(error);
        }
        self.core.serving(now).map(|_| ()).map_err(|reason| refuse::not_serving(self.group, reason))
    }

    /// Hands leadership to the replica on `to`, or to the best one.
    pub(crate) fn hand_over(
        &mut self,
        now: BootTime,
        to: Option<NodeId>,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let target = to.and_then(|to| self.replica_on(to));
        self.propose(now, fx)?; // Later it would be refused, though the ballot may go on.
        self.step(now, Input::HandOver(target), fx)
    }

    /// Hands leadership to the best replica on a healthier node, if there is one: among equals in
    /// trouble, moving leadership would help nobody.
    pub(crate) fn give_way(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        self.propose(now, fx)?; // Later it would be refused, though the ballot may go on.
        self.step(now, Input::GiveWay, fx)
    }

    /// Hands leadership to a better placed replica if one has settled.
    pub(crate) fn go_home(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        self.propose(now, fx)?; // Later it would be refused, though the ballot may go on.
        self.step(now, Input::GoHome, fx)
    }

    /// The replica on a node that votes, and will when a change is over.
    pub(crate) fn replica_on(&self, node: NodeId) -> Option<ReplicaId> {
        let members = self.core.membership().members();
        let mut voters = members.filter(|(_, member)| member.role.votes_after()).map(|(id, _)| id);
        voters.find(|id| id.node() == node)
    }

    /// How its node is: whether it should lead.
    pub(crate) fn set_health(
        &mut self,
        now: BootTime,
        health: Health,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        self.step(now, Input::Health(health), fx)
    }
}
