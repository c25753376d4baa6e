//! Standings of replicas, orders of forced recovery and the loss ledger, to and from the wire.

use quorate_paxos::{History, Membership, MembershipAt};
use quorate_types::{
    Ballot, EntryId, GroupId, LogTime, Loss, LossEntry, LossKind, NodeId, ReplicaId, Slot, limits,
};

use super::ConvertError;
use super::words::{self, required};
use crate::recovery::{HistoryReport, RecoveryOrder, StandingReport};
use crate::v1;

/// Where a replica stands, as its node knows it.
#[derive(Clone, Debug)]
pub struct StandingOut {
    /// The members that it counts by.
    pub members: MembershipAt,
    /// All but the members and the history.
    pub report: StandingReport,
}

/// A history, for the wire.
#[must_use]
pub fn history_to_wire(history: History) -> v1::History {
    v1::History { number: history.number, since: entry_out(history.since) }
}

/// A history, from the wire.
///
/// # Errors
/// Names the field that is wrong.
pub fn history_from_wire(wire: v1::History) -> Result<History, ConvertError> {
    let since = entry_in(wire.since, "history.since")?;
    if (wire.number == 0) != (since == EntryId::ZERO) {
        let reason = "the first history began with no entry, and every later one with one";
        return Err(ConvertError::malformed("history.since", reason));
    }
    Ok(History { number: wire.number, since })
}

/// Where a replica stands, for the wire.
#[must_use]
pub fn standing_to_wire(standing: StandingOut) -> v1::GetStandingResponse {
    let StandingOut { members, report } = standing;
    v1::GetStandingResponse {
        replica: report.replica.0,
        history: Some(history_to_wire(members.membership.history())),
        membership: members.membership.encode(),
        since: entry_out(members.id),
        outlived: report.outlived,
        crossing: report.crossing,
        has_rows: report.has_rows,
        promised: Some(words::ballot_to_wire(report.promised)),
        last: entry_out(report.last),
        committed: entry_out(report.committed),
        slot_applied: report.slot_applied.0,
        at_slot: report.at_slot.map(words::entry_to_wire),
        leader_node: report.leader.map_or(0, |node| node.0),
    }
}

/// Where a replica stands, from the wire.
///
/// # Errors
/// Names the field that is wrong.
pub fn standing_from_wire(wire: v1::GetStandingResponse) -> Result<StandingReport, ConvertError> {
    let membership = Membership::decode(&wire.membership)
        .map_err(|error| ConvertError::malformed("membership", error.to_string()))?;
    let History { number, since } = membership.history();
    Ok(StandingReport {
        replica: replica_in(wire.replica, "replica")?,
        history: HistoryReport { number, since },
        members: membership.members().map(|(id, member)| (id, member.role, member.kind)).collect(),
        since: entry_in(wire.since, "since")?,
        outlived: wire.outlived,
        crossing: wire.crossing,
        has_rows: wire.has_rows,
        promised: words::ballot_from_wire(required(wire.promised, "promised")?),
        last: entry_in(wire.last, "last")?,
        committed: entry_in(wire.committed, "committed")?,
        slot_applied: Slot(wire.slot_applied),
        at_slot: match wire.at_slot {
            Some(entry) => Some(entry_in(Some(entry), "at_slot")?),
            None => None,
        },
        leader: (wire.leader_node != 0).then_some(NodeId(wire.leader_node)),
    })
}

/// An order, for the wire.
#[must_use]
pub fn order_to_wire(order: &RecoveryOrder) -> v1::ForceRecoveryRequest {
    let HistoryReport { number, since } = order.history;
    v1::ForceRecoveryRequest {
        group: order.group.0,
        confirm: order.confirm.clone(),
        history: Some(history_to_wire(History { number, since })),
        promised: Some(words::ballot_to_wire(order.promised)),
        proven: entry_out(order.proven),
        loss: Some(loss_to_wire(&order.loss)),
    }
}

/// An order, from the wire.
///
/// # Errors
/// Names the field that is wrong.
pub fn order_from_wire(wire: v1::ForceRecoveryRequest) -> Result<RecoveryOrder, ConvertError> {
    if wire.group == 0 {
        return Err(ConvertError::missing("group"));
    }
    let History { number, since } = history_from_wire(required(wire.history, "history")?)?;
    let loss =
        loss_from_wire(required(wire.loss, "loss")?).map_err(|error| error.inside("loss"))?;
    Ok(RecoveryOrder {
        group: GroupId(wire.group),
        confirm: wire.confirm,
        history: HistoryReport { number, since },
        promised: wire.promised.map_or(Ballot::ZERO, words::ballot_from_wire),
        proven: entry_in(wire.proven, "proven")?,
        loss,
    })
}

/// The history that has begun, from the wire.
///
/// # Errors
/// Names the field that is wrong.
pub fn begun_from_wire(wire: v1::ForceRecoveryResponse) -> Result<HistoryReport, ConvertError> {
    let History { number, since } = history_from_wire(required(wire.history, "history")?)?;
    Ok(HistoryReport { number, since })
}

/// An entry of the ledger, for the wire.
#[must_use]
pub fn loss_entry_to_wire(entry: &LossEntry) -> v1::LossEntry {
    v1::LossEntry {
        opened: entry_out(entry.opened),
        opened_at_ms: entry.opened_at.0,
        closed: entry.closed.map(|(closed, _)| words::entry_to_wire(closed)),
        closed_at_ms: entry.closed.map_or(0, |(_, at)| at.0),
        loss: Some(loss_to_wire(&entry.loss)),
    }
}

/// An entry of the ledger, from the wire.
///
/// # Errors
/// Names the field that is wrong.
pub fn loss_entry_from_wire(wire: v1::LossEntry) -> Result<LossEntry, ConvertError> {
    let closed = match wire.closed {
        Some(closed) => {
            let closed = words::entry_from_wire(closed).map_err(|error| error.inside("closed"))?;
            Some((closed, LogTime(wire.closed_at_ms)))
        }
        None => None,
    };
    let opened = required(wire.opened, "opened")?;
    Ok(LossEntry {
        opened: words::entry_from_wire(opened).map_err(|error| error.inside("opened"))?,
        opened_at: LogTime(wire.opened_at_ms),
        closed,
        loss: loss_from_wire(required(wire.loss, "loss")?).map_err(|error| error.inside("loss"))?,
    })
}

fn loss_to_wire(loss: &Loss) -> v1::Loss {
    let kind = match loss.kind {
        LossKind::ForcedRecovery => v1::LossKind::ForcedRecovery,
        LossKind::SingleCopy => v1::LossKind::SingleCopy,
    };
    v1::Loss {
        kind: kind.into(),
        history_before: loss.history_before,
        history_after: loss.history_after,
        proven_through: loss.proven_through.0,
        kept_through: loss.kept_through.0,
        kept: loss.kept.iter().map(|replica| replica.0).collect(),
        given_up: loss.given_up.iter().map(|replica| replica.0).collect(),
        operator: loss.operator.clone(),
        reason: loss.reason.clone(),
        told_at_ms: loss.told_at_ms,
    }
}

fn loss_from_wire(wire: v1::Loss) -> Result<Loss, ConvertError> {
    let kind = match v1::LossKind::try_from(wire.kind) {
        Ok(v1::LossKind::ForcedRecovery) => LossKind::ForcedRecovery,
        Ok(v1::LossKind::SingleCopy) => LossKind::SingleCopy,
        Ok(v1::LossKind::Unspecified) | Err(_) => {
            return Err(ConvertError::malformed("kind", "it is no kind of a loss"));
        }
    };
    if wire.kept_through < wire.proven_through {
        return Err(ConvertError::malformed("kept_through", "less is kept than is proven"));
    }
    let replicas = |ids: Vec<u64>, field: &str| {
        if limits::GROUP_MEMBERS_MAX < ids.len() {
            return Err(ConvertError::malformed(field, "a group has not that many members"));
        }
        words::each(ids, field, |id| replica_in(id, "replica"))
    };
    Ok(Loss {
        kind,
        history_before: wire.history_before,
        history_after: wire.history_after,
        proven_through: Slot(wire.proven_through),
        kept_through: Slot(wire.kept_through),
        kept: replicas(wire.kept, "kept")?,
        given_up: replicas(wire.given_up, "given_up")?,
        operator: wire.operator,
        reason: wire.reason,
        told_at_ms: wire.told_at_ms,
    })
}

fn replica_in(id: u64, field: &str) -> Result<ReplicaId, ConvertError> {
    if id == 0 {
        return Err(ConvertError::malformed(field, "0 is no replica"));
    }
    Ok(ReplicaId(id))
}

fn entry_out(id: EntryId) -> Option<v1::EntryId> {
    (id != EntryId::ZERO).then(|| words::entry_to_wire(id))
}

fn entry_in(id: Option<v1::EntryId>, field: &str) -> Result<EntryId, ConvertError> {
    let entry = id.map(words::entry_from_wire).transpose();
    Ok(entry.map_err(|error| error.inside(field))?.unwrap_or(EntryId::ZERO))
}

#[cfg(test)]
mod tests {
    use quorate_types::{MemberRole, ReplicaKind};

    use super::*;

    fn loss() -> Loss {
        Loss {
            kind: LossKind::ForcedRecovery,
            history_before: 1,
            history_after: 2,
            proven_through: Slot(5),
            kept_through: Slot(8),
            kept: vec![ReplicaId(1)],
            given_up: vec![ReplicaId(2), ReplicaId(3)],
            operator: "client ops".to_owned(),
            reason: "fire".to_owned(),
            told_at_ms: 12,
        }
    }

    fn entry(slot: u64) -> EntryId {
        EntryId { slot: Slot(slot), ballot: Ballot { round: 3, replica: ReplicaId(1) } }
    }

    #[test]
    fn standings_orders_and_entries_come_back_as_they_were() {
        // Goal: the operator, the survivor and the ledger speak of the same slots.
        let history = History { number: 1, since: entry(4) };
        let membership = Membership::of_voters([(ReplicaId(1), 0)]).in_history(history);
        let report = StandingReport {
            replica: ReplicaId(1),
            history: HistoryReport { number: 1, since: entry(4) },
            members: vec![(ReplicaId(1), MemberRole::Voter, ReplicaKind::Full)],
            since: entry(4),
            outlived: true,
            crossing: false,
            has_rows: true,
            promised: entry(1).ballot,
            last: entry(8),
            committed: EntryId::ZERO,
            slot_applied: Slot(5),
            at_slot: Some(entry(6)),
            leader: Some(NodeId(3)),
        };
        let members = MembershipAt { id: entry(4), membership };
        let out = StandingOut { members, report: report.clone() };
        assert_eq!(standing_from_wire(standing_to_wire(out)), Ok(report));
        let order = RecoveryOrder {
            group: GroupId(4),
            confirm: "RZ00/g4".to_owned(),
            history: HistoryReport { number: 1, since: entry(4) },
            promised: entry(1).ballot,
            proven: entry(5),
            loss: loss(),
        };
        assert_eq!(order_from_wire(order_to_wire(&order)), Ok(order));
        for closed in [None, Some((entry(20), LogTime(9)))] {
            let entry = LossEntry { opened: entry(9), opened_at: LogTime(7), closed, loss: loss() };
            assert_eq!(loss_entry_from_wire(loss_entry_to_wire(&entry)), Ok(entry));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_path() {
        // Goal: nothing enters the ledger that nobody could read.
        let refused = |loss: v1::Loss| loss_from_wire(loss).unwrap_err().to_string();
        let wire = loss_to_wire(&loss());
        assert!(refused(v1::Loss { kind: 0, ..wire.clone() }).contains("kind"));
        assert!(refused(v1::Loss { kept_through: 4, ..wire.clone() }).contains("kept_through"));
        assert!(refused(v1::Loss { kept: vec![0], ..wire.clone() }).contains("kept[0]"));
        assert!(refused(v1::Loss { given_up: vec![1; 99], ..wire }).contains("given_up"));
        let first = v1::History { number: 0, since: entry_out(entry(1)) };
        assert!(history_from_wire(first).is_err());
        assert!(history_from_wire(v1::History { number: 2, since: None }).is_err());
    }
}
