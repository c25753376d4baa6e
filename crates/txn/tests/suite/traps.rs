//! The traps of replicated logs that concern requests. `docs/TRAPS.md` lists all of them.

use bytes::Bytes;
use quorate_txn::check_limits;
use quorate_types::limits::{ENTRY_BYTES_MAX, KEY_BYTES_MAX, TXN_OPS_MAX, VALUE_BYTES_MAX};
use quorate_types::{Code, EntryId, Mutation, Request, RequestBody, RowAddress, Value};

use crate::common::{Entry, Leader, Submitted, add, request, row, write};

/// Goal: a request that comes again under its id takes effect once: while the first attempt is on its
/// way, when it is applied, after a restart, and at the next leader.
#[test]
fn trap_29_a_retry_takes_effect_once() {
    let mut leader = Leader::new();
    let session = leader.open();
    let asked = write(Some(request(session, 1, 1)), vec![add("n", 5)]);
    leader.submit(&asked);
    assert!(matches!(leader.submit(&asked), Submitted::Joined(_)), "it is on its way");
    leader.apply_all();
    assert!(matches!(leader.submit(&asked), Submitted::Replayed(_)));
    leader.replica.reload();
    leader.lose_ballot();
    assert!(
        matches!(leader.submit(&asked), Submitted::Replayed(_)),
        "the next leader knows it too"
    );
    assert_eq!(leader.value(&row("n")), Some(Value::Integer(5)));
}

/// Goal: even if two leaders logged the same request, the second entry changes nothing: the table of
/// results is part of the replicated state, not of a leader.
#[test]
fn trap_29_a_request_in_two_entries_counts_once() {
    let mut leader = Leader::new();
    let session = leader.open();
    leader.submit(&write(Some(request(session, 1, 1)), vec![add("n", 5)]));
    let (entry, _) = leader.apply_next();
    let again = Entry { at: EntryId { slot: leader.next, ..entry.at }, ..entry };
    leader.replica.apply(&again);
    assert_eq!(leader.value(&row("n")), Some(Value::Integer(5)));
}

fn put(key: usize, value: usize) -> Mutation {
    let at = RowAddress { key: Bytes::from(vec![7; key]), ..row("") };
    Mutation::Put(at, Value::Bytes(Bytes::from(vec![7; value])))
}

fn transact(mutations: Vec<Mutation>) -> Request {
    let body = RequestBody::Transact { conditions: Vec::new(), mutations, reads: Vec::new() };
    Request { id: None, body }
}

/// Goal: what no log entry could hold is refused before it costs anything, each limit with its code,
/// and the largest request that passes does fit.
#[test]
fn trap_30_oversized_requests_are_refused_at_the_edge() {
    let parts = ENTRY_BYTES_MAX / VALUE_BYTES_MAX;
    let cases = [
        (transact(vec![put(KEY_BYTES_MAX + 1, 1)]), Code::KeyTooLarge),
        (transact(vec![put(1, VALUE_BYTES_MAX + 1)]), Code::ValueTooLarge),
        (transact(vec![put(1, VALUE_BYTES_MAX); parts + 1]), Code::TxnTooLarge),
        (transact(vec![put(1, 1); TXN_OPS_MAX + 1]), Code::TxnTooLarge),
    ];
    for (request, code) in cases {
        assert_eq!(check_limits(&request).expect_err("too large").code, code);
    }

    let largest = transact(vec![put(KEY_BYTES_MAX, VALUE_BYTES_MAX)]);
    check_limits(&largest).expect("within the limits");
    let mut leader = Leader::new();
    let Submitted::Proposed(_) = leader.submit(&largest) else { panic!("it is a write") };
    let (entry, _) = leader.apply_next();
    assert!(entry.payload.len() <= ENTRY_BYTES_MAX);
}
