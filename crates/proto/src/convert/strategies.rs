//! Random values of our own types, for the round trips.

use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use quorate_types::{
    Ballot, Condition, EntryId, GroupId, Mutation, Part, ReplicaId, RequestBody, RequestId,
    RowAddress, ScanRange, SessionId, Slot, TableId, Uid, Value,
};

use crate::convert::LeaderHint;

pub(super) fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..24).prop_map(Bytes::from)
}

pub(super) fn value() -> impl Strategy<Value = Value> {
    prop_oneof![bytes().prop_map(Value::Bytes), any::<i64>().prop_map(Value::Integer)]
}

pub(super) fn ballot() -> impl Strategy<Value = Ballot> {
    (any::<u64>(), any::<u64>())
        .prop_map(|(round, replica)| Ballot { round, replica: ReplicaId(replica) })
}

pub(super) fn entry() -> impl Strategy<Value = EntryId> {
    (ballot(), any::<u64>()).prop_map(|(ballot, slot)| EntryId { ballot, slot: Slot(slot) })
}

pub(super) fn group() -> impl Strategy<Value = GroupId> {
    (1..=u32::MAX).prop_map(GroupId)
}

pub(super) fn session() -> impl Strategy<Value = SessionId> {
    (group(), 1..=u64::MAX).prop_map(|(group, slot)| SessionId { group, slot: Slot(slot) })
}

pub(super) fn request_id() -> impl Strategy<Value = RequestId> {
    (session(), 1..=u64::MAX, any::<u64>()).prop_map(|(session, sequence, lowest)| RequestId {
        session,
        sequence,
        lowest_unanswered: lowest % sequence + 1,
    })
}

/// Milliseconds, the precision of the wire.
pub(super) fn millis() -> impl Strategy<Value = Duration> {
    (1..u64::from(u32::MAX)).prop_map(Duration::from_millis)
}

pub(super) fn hint() -> impl Strategy<Value = LeaderHint> {
    (1..=u32::MAX, "[a-z0-9:.]{0,20}")
        .prop_map(|(node, address)| LeaderHint { node: quorate_types::NodeId(node), address })
}

pub(super) fn position() -> impl Strategy<Value = (Uid, Bytes)> {
    (any::<u64>().prop_map(Uid), bytes())
}

fn table() -> impl Strategy<Value = TableId> {
    (1..=u16::MAX).prop_map(TableId)
}

fn address() -> impl Strategy<Value = RowAddress> {
    (table(), any::<u64>(), bytes()).prop_map(|(table, uid, key)| RowAddress {
        table,
        uid: Uid(uid),
        key,
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        address().prop_map(Condition::Exists),
        address().prop_map(Condition::Absent),
        (address(), value()).prop_map(|(at, value)| Condition::Equals(at, value)),
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let bound = || option::of(any::<i64>());
    prop_oneof![
        (address(), value()).prop_map(|(at, value)| Mutation::Put(at, value)),
        address().prop_map(Mutation::Delete),
        (address(), any::<i64>(), bound(), bound())
            .prop_map(|(at, delta, floor, ceiling)| Mutation::Add { at, delta, floor, ceiling }),
    ]
}

fn scan() -> impl Strategy<Value = ScanRange> {
    let uid = option::of(any::<u64>().prop_map(Uid));
    (table(), uid, any::<u16>(), bytes(), option::of(position()), any::<u32>()).prop_map(
        |(table, uid, slice, prefix, after, limit)| ScanRange {
            table,
            uid,
            slice,
            prefix,
            after,
            limit,
        },
    )
}

pub(super) fn part() -> impl Strategy<Value = Part> {
    (vec(condition(), 0..4), vec(mutation(), 0..4), vec(address(), 0..4))
        .prop_map(|(conditions, mutations, reads)| Part { conditions, mutations, reads })
}

pub(super) fn body() -> impl Strategy<Value = RequestBody> {
    prop_oneof![
        Just(RequestBody::OpenSession),
        session().prop_map(RequestBody::CloseSession),
        address().prop_map(RequestBody::Get),
        scan().prop_map(RequestBody::Scan),
        part().prop_map(|Part { conditions, mutations, reads }| RequestBody::Transact {
            conditions,
            mutations,
            reads
        }),
    ]
}
