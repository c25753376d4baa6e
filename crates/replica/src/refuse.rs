//! The errors with which a group turns requests away.

use std::time::Duration;

use quorate_paxos::NotServing;
use quorate_types::{Code, Error, GroupId, ReplicaId};

/// A leader that was just elected serves within a round trip and a sync.
const SOON: Duration = Duration::from_millis(5);

/// Static membership: the replica of a group on node n has id n.
fn name_leader(error: Error, leader: Option<ReplicaId>) -> Error {
    match leader {
        Some(leader) => error.with("leader_node", leader.node().0),
        None => error,
    }
}

/// The replica does not serve: nothing happened.
pub(crate) fn not_serving(group: GroupId, reason: NotServing) -> Error {
    match reason {
        NotServing::NotLeader(Some(leader)) => name_leader(
            Error::new(Code::NotLeader, format!("{group} is led by another node")),
            Some(leader),
        ),
        NotServing::NotLeader(None) => {
            Error::new(Code::NotLeader, format!("this node knows no leader of {group}"))
        }
        NotServing::NotReady => {
            Error::new(Code::NotReady, format!("{group} has just elected this node")).after(SOON)
        }
        NotServing::HandingOver(target) => {
            let error = Error::new(Code::NotLeader, format!("{group} is being handed over"));
            name_leader(error, Some(target)).after(SOON)
        }
    }
    .with("group", group)
}

/// This replica cannot answer a read that need not go to the leader.
pub(crate) fn not_here(group: GroupId, leader: Option<ReplicaId>, message: &str) -> Error {
    name_leader(Error::new(Code::NotLeader, message), leader).with("group", group)
}

/// The write was proposed, and then leadership was lost.
pub(crate) fn outcome_unknown(group: GroupId, leader: Option<ReplicaId>) -> Error {
    let message = format!("{group} changed its leader before the write was decided");
    name_leader(Error::new(Code::OutcomeUnknown, message), leader).with("group", group)
}

/// Another entry was chosen at the slot of the write.
pub(crate) fn replaced(group: GroupId) -> Error {
    let message = format!("{group} changed its leader and the write was not taken over");
    Error::new(Code::NotLeader, message).with("group", group)
}

/// Too much is on its way.
pub(crate) fn overloaded(group: GroupId, bytes: u64, limit: usize) -> Error {
    let message = format!("{group} has {bytes} bytes uncommitted, its limit is {limit}");
    Error::new(Code::Overloaded, message).after(SOON).with("group", group)
}

/// The engine writes rows more slowly than they change.
pub(crate) fn rows_unwritten(group: GroupId, bytes: u64, limit: u64) -> Error {
    let message =
        format!("the leader has {bytes} bytes of rows to write to its disk, its limit is {limit}");
    Error::new(Code::Overloaded, message).after(SOON).with("group", group)
}

/// The disk reserve is reached.
pub(crate) fn disk_full(group: GroupId) -> Error {
    Error::new(Code::DiskFull, "the disk reserve of the leader is reached").with("group", group)
}

/// No such group here.
pub(crate) fn wrong_node(group: GroupId) -> Error {
    Error::new(Code::WrongNode, format!("this node holds no replica of {group}"))
        .with("group", group)
}

/// A forced recovery gave this replica up.
pub(crate) fn outlived(group: GroupId, history: u32) -> Error {
    let message = format!("{group} goes on in history {history} without this replica");
    Error::new(Code::Outlived, message).with("group", group)
}

/// Names the group of an error.
pub(crate) fn of_group(error: Error, group: GroupId) -> Error {
    error.with("group", group)
}
