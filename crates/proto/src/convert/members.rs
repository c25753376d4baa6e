//! Members of a group and wishes to change them, to and from the wire.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_paxos::{ChangeRequest, Seat};
use quorate_types::{
    EntryId, GroupId, MemberRole, MemberSeat, NodeId, ReplicaId, ReplicaKind, Slot,
};

use super::ConvertError;
use super::words::{self, required};
use crate::members::{MemberReport, Members};
use crate::v1;

impl Members {
    /// The answer for the wire.
    #[must_use]
    pub fn into_wire(self) -> v1::GetMembersResponse {
        v1::GetMembersResponse {
            since: Some(words::entry_to_wire(self.since)),
            chosen: self.chosen,
            changing: self.changing,
            members: self.members.iter().map(member_to_wire).collect(),
            slot_last: self.slot_last.0,
        }
    }

    /// The answer from the wire.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_wire(answer: v1::GetMembersResponse) -> Result<Members, ConvertError> {
        let since = required(answer.since, "since")?;
        Ok(Members {
            since: words::entry_from_wire(since).map_err(|error| error.inside("since"))?,
            chosen: answer.chosen,
            changing: answer.changing,
            members: words::each(answer.members, "members", member_from_wire)?,
            slot_last: Slot(answer.slot_last),
        })
    }
}

fn member_to_wire(member: &MemberReport) -> v1::Member {
    v1::Member {
        replica: member.replica.0,
        node: member.node.0,
        rank: member.rank.into(),
        role: role_to_wire(member.role).into(),
        leads: member.leads,
        slot_synced: member.slot_synced.0,
        heard_ms_ago: member.heard_ago.map(words::millis),
        lag_bytes: member.lag_bytes,
        refilling: member.refilling,
        fit: member.fit,
        kind: kind_to_wire(member.kind).into(),
    }
}

fn member_from_wire(member: v1::Member) -> Result<MemberReport, ConvertError> {
    Ok(MemberReport {
        replica: ReplicaId(member.replica),
        node: NodeId(member.node),
        rank: rank_from_wire(member.rank)?,
        role: role_from_wire(member.role)?,
        leads: member.leads,
        slot_synced: Slot(member.slot_synced),
        heard_ago: member.heard_ms_ago.map(Duration::from_millis),
        lag_bytes: member.lag_bytes,
        refilling: member.refilling,
        fit: member.fit,
        kind: kind_from_wire(member.kind)?,
    })
}

/// What a replica is to be, for the wire.
#[must_use]
pub fn seat_to_wire(seat: &MemberSeat) -> v1::Seat {
    v1::Seat {
        replica: seat.replica.0,
        node: seat.node.0,
        rank: seat.rank.into(),
        votes: seat.votes,
        kind: kind_to_wire(seat.kind).into(),
    }
}

/// What a replica is to be, from the wire.
///
/// # Errors
/// If it names no replica or no node, or its rank does not fit.
pub fn seat_from_wire(seat: v1::Seat) -> Result<MemberSeat, ConvertError> {
    if seat.replica == 0 {
        return Err(ConvertError::malformed("replica", "0 is no replica"));
    }
    if seat.node == 0 {
        return Err(ConvertError::malformed("node", "0 is no node"));
    }
    Ok(MemberSeat {
        replica: ReplicaId(seat.replica),
        node: NodeId(seat.node),
        rank: rank_from_wire(seat.rank)?,
        kind: kind_from_wire(seat.kind)?,
        votes: seat.votes,
    })
}

/// A wish to change the members of a group, for the wire.
#[must_use]
pub fn change_to_wire(
    group: GroupId,
    expected: EntryId,
    seats: &[MemberSeat],
) -> v1::ChangeMembersRequest {
    v1::ChangeMembersRequest {
        group: group.0,
        expected: Some(words::entry_to_wire(expected)),
        members: seats.iter().map(seat_to_wire).collect(),
    }
}

/// The entry that a change began with, from the wire.
///
/// # Errors
/// If it is missing.
pub fn since_from_wire(answer: v1::ChangeMembersResponse) -> Result<EntryId, ConvertError> {
    let since = required(answer.since, "since")?;
    words::entry_from_wire(since).map_err(|error| error.inside("since"))
}

fn rank_from_wire(rank: u32) -> Result<u16, ConvertError> {
    u16::try_from(rank).map_err(|_| ConvertError::TooLarge {
        field: "rank".to_owned(),
        value: rank.into(),
        max: u16::MAX.into(),
    })
}

/// What a member counts for, for the wire.
#[must_use]
pub fn role_to_wire(role: MemberRole) -> v1::MemberRole {
    match role {
        MemberRole::Learner => v1::MemberRole::Learner,
        MemberRole::Voter => v1::MemberRole::Voter,
        MemberRole::Joining => v1::MemberRole::Joining,
        MemberRole::Leaving => v1::MemberRole::Leaving,
        MemberRole::Demoted => v1::MemberRole::Demoted,
        MemberRole::Suspended => v1::MemberRole::Suspended,
    }
}

/// What a member holds, for the wire.
#[must_use]
pub fn kind_to_wire(kind: ReplicaKind) -> v1::ReplicaKind {
    match kind {
        ReplicaKind::Full => v1::ReplicaKind::Full,
        ReplicaKind::LogOnly => v1::ReplicaKind::LogOnly,
        ReplicaKind::ReadOnly => v1::ReplicaKind::ReadOnly,
        ReplicaKind::Arbiter => v1::ReplicaKind::Arbiter,
    }
}

/// What a member holds, from the wire. Who does not say means a full replica.
///
/// # Errors
/// If this version does not know it.
pub fn kind_from_wire(kind: i32) -> Result<ReplicaKind, ConvertError> {
    match v1::ReplicaKind::try_from(kind) {
        Ok(v1::ReplicaKind::Unspecified | v1::ReplicaKind::Full) => Ok(ReplicaKind::Full),
        Ok(v1::ReplicaKind::LogOnly) => Ok(ReplicaKind::LogOnly),
        Ok(v1::ReplicaKind::ReadOnly) => Ok(ReplicaKind::ReadOnly),
        Ok(v1::ReplicaKind::Arbiter) => Ok(ReplicaKind::Arbiter),
        Err(_) => Err(ConvertError::malformed("kind", "it is no kind of replica")),
    }
}

fn role_from_wire(role: i32) -> Result<MemberRole, ConvertError> {
    match v1::MemberRole::try_from(role) {
        Ok(v1::MemberRole::Learner) => Ok(MemberRole::Learner),
        Ok(v1::MemberRole::Voter) => Ok(MemberRole::Voter),
        Ok(v1::MemberRole::Joining) => Ok(MemberRole::Joining),
        Ok(v1::MemberRole::Leaving) => Ok(MemberRole::Leaving),
        Ok(v1::MemberRole::Demoted) => Ok(MemberRole::Demoted),
        Ok(v1::MemberRole::Suspended) => Ok(MemberRole::Suspended),
        Ok(v1::MemberRole::Unspecified) | Err(_) => {
            Err(ConvertError::malformed("role", "it is no role of a member"))
        }
    }
}

/// A wish to change the members of a group, from the wire.
///
/// # Errors
/// Names the field that is wrong: a seat twice, or of another node than its replica is on, included.
pub fn change_from_wire(
    request: v1::ChangeMembersRequest,
) -> Result<(GroupId, ChangeRequest), ConvertError> {
    if request.group == 0 {
        return Err(ConvertError::missing("group"));
    }
    let expected = required(request.expected, "expected")?;
    let expected = words::entry_from_wire(expected).map_err(|error| error.inside("expected"))?;
    let mut members = BTreeMap::new();
    for MemberSeat { replica, node, rank, kind, votes } in
        words::each(request.members, "members", seat_from_wire)?
    {
        if replica.node() != node {
            let reason = format!("{replica} is not on {node}");
            return Err(ConvertError::malformed("members", reason));
        }
        if members.insert(replica, Seat { rank, kind, votes }).is_some() {
            return Err(ConvertError::malformed("members", format!("{replica} is there twice")));
        }
    }
    Ok((GroupId(request.group), ChangeRequest { expected, members }))
}

/// An entry, for the wire.
#[must_use]
pub fn entry_to_wire(entry: EntryId) -> v1::EntryId {
    words::entry_to_wire(entry)
}

#[cfg(test)]
mod tests {
    use quorate_types::Ballot;

    use super::*;

    #[test]
    fn members_and_seats_come_back_as_they_were() {
        // Goal: the leader and whoever asks it speak of the same members.
        let report = |(index, role): (u64, MemberRole)| MemberReport {
            replica: ReplicaId(u64::MAX - index),
            node: NodeId(3),
            rank: u16::MAX,
            role,
            leads: index == 0,
            slot_synced: Slot(7),
            heard_ago: (index != 1).then_some(Duration::from_millis(12)),
            lag_bytes: 5,
            refilling: index == 2,
            fit: index != 2,
            kind: ReplicaKind::LogOnly,
        };
        use MemberRole::{Demoted, Joining, Learner, Leaving, Suspended, Voter};
        let roles = [Learner, Voter, Joining, Leaving, Demoted, Suspended];
        let ballot = Ballot { round: 3, replica: ReplicaId(2) };
        let members = Members {
            since: EntryId { ballot, slot: Slot(11) },
            chosen: true,
            changing: true,
            members: (0..).zip(roles).map(report).collect(),
            slot_last: Slot(12),
        };
        assert_eq!(Members::from_wire(members.clone().into_wire()), Ok(members));
        let kind = ReplicaKind::Arbiter;
        let seat =
            MemberSeat { replica: ReplicaId(9), node: NodeId(4), rank: 1, kind, votes: true };
        assert_eq!(seat_from_wire(seat_to_wire(&seat)), Ok(seat));
    }

    #[test]
    fn what_is_no_member_is_refused_by_its_path() {
        // Goal: no node works with a member whose role or rank it does not know.
        let ballot = Some(v1::Ballot { round: 1, replica: 1 });
        let whole = |member| v1::GetMembersResponse {
            since: Some(v1::EntryId { ballot, slot: 1 }),
            members: vec![member],
            ..v1::GetMembersResponse::default()
        };
        let refused = |answer| Members::from_wire(answer).unwrap_err().to_string();
        let role = refused(whole(v1::Member::default()));
        assert!(role.contains("members[0].role"), "{role}");
        let rank = refused(whole(v1::Member { rank: 70_000, role: 2, ..v1::Member::default() }));
        assert!(rank.contains("members[0].rank"), "{rank}");
        assert!(refused(v1::GetMembersResponse::default()).contains("since"));
        for seat in [(0, 1), (1, 0)] {
            let (replica, node) = seat;
            let seat = v1::Seat { replica, node, votes: true, ..v1::Seat::default() };
            assert!(seat_from_wire(seat).is_err());
        }
    }
}
