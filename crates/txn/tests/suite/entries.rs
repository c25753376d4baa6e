//! Entries as bytes: any entry survives, no bytes break a replica, sizes stay in their bounds.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_txn::cross::CrossTable;
use quorate_txn::{
    ApplyError, Effect, EntryPayload, RowKey, SessionTable, Write, apply, check_limits,
};
use quorate_types::limits::{ENTRY_BYTES_MAX, KEY_BYTES_MAX, TXN_OPS_MAX, VALUE_BYTES_MAX};
use quorate_types::{
    Code, EntryId, LogTime, Mutation, RowAddress, SliceId, Slot, TableId, Uid, Value,
};

use crate::common::{BALLOT, GROUP, Leader, Records, SPACE, Submitted, add, put, request, write};

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::Integer),
        vec(any::<u8>(), 0..300).prop_map(|bytes| Value::Bytes(bytes.into())),
    ]
}

fn any_effect() -> impl Strategy<Value = Effect> {
    let key = vec(any::<u8>(), 0..200);
    let at =
        (any::<u16>(), any::<u16>(), any::<u64>(), key).prop_map(|(slice, table, uid, key)| {
            RowKey { slice: SliceId(slice), table: TableId(table), uid: Uid(uid), key: key.into() }
        });
    (at, any_value(), any::<i64>(), 0..3).prop_map(|(at, value, delta, kind)| match kind {
        0 => Effect::Put(at, value),
        1 => Effect::Delete(at),
        _ => Effect::Add { at, delta },
    })
}

fn any_write() -> impl Strategy<Value = Write> {
    let session = quorate_types::SessionId { group: GROUP, slot: Slot(0) };
    let id = (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(move |(slot, one, other)| {
        let session = quorate_types::SessionId { slot: Slot(slot), ..session };
        request(session, one.max(other), one.min(other))
    });
    let reads = vec(proptest::option::of(any_value()), 0..4);
    (proptest::option::of(id), vec(any_effect(), 0..5), reads, any::<i64>()).prop_map(
        |(id, effects, reads, sum)| {
            let is_add = |effect: &&Effect| matches!(effect, Effect::Add { .. });
            let sums = vec![sum; effects.iter().filter(is_add).count()];
            Write { id, effects, reads, sums }
        },
    )
}

fn any_payload() -> impl Strategy<Value = EntryPayload> {
    prop_oneof![
        1 => Just(EntryPayload::OpenSession),
        1 => any::<u64>().prop_map(|slot| {
            EntryPayload::CloseSession(quorate_types::SessionId { group: GROUP, slot: Slot(slot) })
        }),
        1 => vec(any::<u64>().prop_map(Slot), 0..9).prop_map(EntryPayload::ExpireSessions),
        8 => any_write().prop_map(EntryPayload::Write),
    ]
}

/// Bytes that are an entry, or nearly one: a part of it is overwritten.
fn damaged_entry() -> impl Strategy<Value = Bytes> {
    let damage = (any::<prop::sample::Index>(), vec(any::<u8>(), 0..4), any::<bool>());
    (any_payload(), damage).prop_map(|(payload, (at, damage, cut))| {
        let mut bytes = payload.encode().to_vec();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        }
        for (byte, damaged) in bytes.iter_mut().skip(at).zip(damage) {
            *byte = damaged;
        }
        bytes.into()
    })
}

proptest! {
    /// Goal: what a leader writes is what every replica reads.
    #[test]
    fn any_entry_survives_its_bytes(payload in any_payload()) {
        prop_assert_eq!(EntryPayload::decode(&payload.encode(), GROUP), Ok(payload));
    }

    /// Goal: bytes either are an entry, the only one with these bytes, or an error; never a panic.
    #[test]
    fn bytes_decode_to_themselves_or_an_error(
        bytes in prop_oneof![vec(any::<u8>(), 0..80).prop_map(Bytes::from), damaged_entry()],
    ) {
        if let Ok(payload) = EntryPayload::decode(&bytes, GROUP) {
            prop_assert_eq!(payload.encode(), bytes);
        }
    }

    /// Goal: a replica survives applying any bytes: an error, or the answer to a strange entry.
    #[test]
    fn applying_any_bytes_does_not_panic(bytes in damaged_entry()) {
        let at = EntryId { ballot: BALLOT, slot: Slot(9) };
        let mut sessions = SessionTable::new(SPACE);
        let mut attempts = CrossTable::new(SPACE);
        let _ =
            apply(&bytes, at, LogTime(0), &mut sessions, &mut attempts, &Records::default());
    }

    /// Goal: the edge and the leader agree: what passes the limits fits an entry.
    #[test]
    fn a_request_within_the_limits_fits_an_entry(
        keys in 1..=KEY_BYTES_MAX,
        values in prop_oneof![0..2048_usize, 0..=VALUE_BYTES_MAX],
        parts in 1..=TXN_OPS_MAX,
        uid: u64,
    ) {
        let at = RowAddress { table: TableId(u16::MAX), uid: Uid(uid), key: vec![0; keys].into() };
        let puts = Mutation::Put(at.clone(), Value::Bytes(vec![0; values].into()));
        let adds = Mutation::Add { at, delta: i64::MIN, floor: None, ceiling: None };
        let mut leader = Leader::new();
        let session = leader.open();
        for mutation in [puts, adds] {
            let id = Some(request(session, u64::MAX, 0));
            // Every second add brings the row back to 0.
            let back = Mutation::Put(mutation.address().clone(), Value::Integer(0));
            let mutations: Vec<_> = (0..parts)
                .map(|part| if part % 2 == 0 { mutation.clone() } else { back.clone() })
                .collect();
            let asked = write(id, mutations);
            if check_limits(&asked).is_ok() {
                leader.lose_ballot();
                let submitted = leader.submit(&asked);
                prop_assert!(matches!(submitted, Submitted::Proposed(_)), "{:?}", submitted.code());
                let size = leader.in_flight[0].0.payload.len();
                prop_assert!(size <= ENTRY_BYTES_MAX, "{size} bytes");
            }
        }
    }
}

#[test]
fn a_put_under_a_session_stays_small() {
    // Goal: key + value + 40 B for what evaluation really proposes, with the numbers of a group that
    // has been written to for years.
    let mut leader = Leader::new();
    leader.next = Slot(1 << 34);
    let session = leader.open();
    let key = vec![b'k'; 16].into();
    let at = RowAddress { table: TableId(300), uid: Uid(u64::MAX), key };
    let id = request(session, 1 << 34, (1 << 34) - 1000);
    leader.submit(&write(Some(id), vec![Mutation::Put(at, Value::Bytes(vec![1; 256].into()))]));
    let size = leader.in_flight[0].0.payload.len();
    assert!(size <= 256 + 16 + 40, "{size} bytes");
}

#[test]
fn a_replica_with_other_rows_notices() {
    // Goal: a sum that differs from the leader's stops the replica and changes nothing.
    let mut leader = Leader::new();
    let session = leader.open();
    leader.submit(&write(
        Some(request(session, 1, 1)),
        vec![put("x", Value::Integer(1)), add("n", 1)],
    ));
    let (entry, _) = leader.in_flight.remove(0);
    for value in [Value::Integer(5), Value::Integer(i64::MAX), Value::Bytes(Bytes::new())] {
        let mut replica = leader.replica.clone();
        let mut other = Leader::new();
        other.run(&write(None, vec![put("n", value)])).expect("puts need nothing");
        replica.records.0.extend(other.replica.records.0);
        let before = replica.clone();
        let Records(records) = &replica.records;
        let view = Records(records.clone());
        let mut attempts = CrossTable::new(SPACE);
        let result = apply(
            &entry.payload,
            entry.at,
            entry.log_time,
            &mut replica.sessions,
            &mut attempts,
            &view,
        );
        let error = result.expect_err("the rows differ");
        assert!(matches!(error, ApplyError::Diverged { expected: 1, .. }), "{error}");
        assert_eq!(error.code(), Code::StoreDamaged);
        assert_eq!(replica, before);
    }
}
