//! Groups that lost a majority for ever: where the replica of this node stands, and the order to go on without
//! the others, checked. Called by `admin_service.rs`; the rules are in the core.

use quorate_paxos::History;
use quorate_proto::convert::recovery::StandingOut;
use quorate_proto::recovery::{HistoryReport, RecoveryOrder, StandingReport};
use quorate_replica::{ForceOrder, Standing};
use quorate_topology::Group;
use quorate_types::{Code, Error, GroupId, Loss, LossKind, ReplicaId};

use crate::access::Caller;
use crate::context::NodeContext;

/// Where a replica stands, for whoever asks.
pub(crate) fn report(standing: Standing) -> StandingOut {
    let History { number, since } = standing.members.membership.history();
    let members = standing.members.membership.members();
    let report = StandingReport {
        replica: standing.replica,
        history: HistoryReport { number, since },
        members: members.map(|(id, member)| (id, member.role, member.kind)).collect(),
        since: standing.members.id,
        outlived: standing.is_outlived,
        crossing: standing.is_crossing,
        has_rows: standing.has_rows,
        promised: standing.promised,
        last: standing.last,
        committed: standing.committed,
        slot_applied: standing.slot_applied,
        at_slot: standing.at_slot,
        leader: standing.leader.map(ReplicaId::node),
    };
    StandingOut { members: standing.members, report }
}

impl NodeContext {
    /// An order of a caller that may give it.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if the name that was typed is not that of the group, or the order is about something
    /// else than one step of its history.
    pub(crate) fn checked_order(
        &self,
        caller: &Caller,
        order: RecoveryOrder,
    ) -> Result<(GroupId, ForceOrder), Error> {
        let RecoveryOrder { group, confirm, history, promised, proven, loss } = order;
        let label = self.topology.group(group).map(Group::label);
        let Some(label) = label else {
            let message = format!("no group has the number {}", group.0);
            return Err(Error::new(Code::UnknownGroup, message));
        };
        if confirm != label {
            let message = format!("the name that was typed is {confirm:?}, the group is {label}");
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let is_one_step = loss.kind == LossKind::ForcedRecovery
            && loss.history_before == history.number
            && Some(loss.history_after) == history.number.checked_add(1);
        if !is_one_step {
            let message = format!("the order does not lead from history {} on", history.number);
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let HistoryReport { number, since } = history;
        let loss = Loss { operator: caller.name(), ..loss };
        let history = History { number, since };
        Ok((group, ForceOrder { history, promised, proven, loss }))
    }
}
