//! Goal: a batch survives its own encoding, and bytes that are no batch are refused, never a panic.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_types::{Ballot, EntryId, LogTime, ReplicaId, Slot};

use super::{Batch, BatchError, BatchKind, CHAIN_OFFSET, HEADER_BYTES, Tail, chain_hash};

fn ballot(round: u64, replica: u64) -> Ballot {
    Ballot { round, replica: ReplicaId(replica) }
}

fn payloads() -> impl Strategy<Value = Vec<Bytes>> {
    vec(vec(any::<u8>(), 0..300).prop_map(Bytes::from), 1..20)
}

/// Either the start of a log, or somewhere in it.
fn tails() -> impl Strategy<Value = Tail> {
    let within = (1u64..1 << 40, 1u64..100, 1u64..9, any::<u32>(), 0u64..1 << 40).prop_map(
        |(slot, round, replica, chain, log_bytes)| Tail {
            id: EntryId { slot: Slot(slot), ballot: ballot(round, replica) },
            chain,
            log_bytes,
            log_time: LogTime(slot),
        },
    );
    prop_oneof![Just(Tail::default()), within]
}

fn batches() -> impl Strategy<Value = (Batch, Vec<Bytes>)> {
    (tails(), payloads(), 0u64..5, any::<bool>()).prop_map(|(tail, payloads, rounds, start)| {
        let (kind, payloads) = match start {
            true => (BatchKind::StartWork, vec![Bytes::new()]),
            false => (BatchKind::Entries, payloads),
        };
        let ballot = ballot(tail.id.ballot.round + rounds, tail.id.ballot.replica.0.max(1));
        (Batch::new(kind, ballot, tail, tail.log_time, &payloads), payloads)
    })
}

/// Puts the right hash into bytes that were changed, as a wrong encoder would.
fn rehash(bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let seed = u32::from_be_bytes(bytes[CHAIN_OFFSET - 4..CHAIN_OFFSET].try_into().unwrap());
    let chain = chain_hash(seed, bytes);
    bytes[CHAIN_OFFSET..CHAIN_OFFSET + 4].copy_from_slice(&chain.to_be_bytes());
}

/// What decode takes must be usable to the end.
fn walk(batch: &Batch) {
    assert_eq!(batch.entries().count() as u64, batch.last().0 - batch.first().0 + 1);
    assert_eq!(batch.tail().id, batch.last_id());
    assert!(batch.prev().slot < batch.first());
}

proptest! {
    #[test]
    fn decode_gives_back_what_new_encoded((batch, payloads) in batches()) {
        let decoded = Batch::decode(batch.encoded().clone()).unwrap();
        prop_assert_eq!(&decoded, &batch);
        let read: Vec<Bytes> = decoded.entries().map(|(_, payload)| payload).collect();
        prop_assert_eq!(read, payloads);
        let slots: Vec<u64> = decoded.entries().map(|(id, _)| id.slot.0).collect();
        let expected: Vec<u64> = (batch.first().0..=batch.last().0).collect();
        prop_assert_eq!(slots, expected);
        walk(&decoded);
    }

    #[test]
    fn decode_refuses_noise(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(Batch::decode(Bytes::from(bytes)).is_err());
    }

    #[test]
    fn decode_refuses_one_changed_bit((batch, _) in batches(), at in any::<prop::sample::Index>()) {
        let mut bytes = batch.encoded().to_vec();
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Batch::decode(Bytes::from(bytes)).is_err());
    }

    #[test]
    fn decode_refuses_a_part((batch, _) in batches(), at in any::<prop::sample::Index>()) {
        let part = batch.encoded().slice(..at.index(batch.encoded().len()));
        prop_assert!(Batch::decode(part).is_err());
    }

    #[test]
    fn decode_of_a_wrong_encoder_never_panics(
        (batch, _) in batches(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = batch.encoded().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        rehash(&mut bytes);
        if let Ok(batch) = Batch::decode(Bytes::from(bytes)) {
            walk(&batch);
        }
    }
}

/// Goal: each way in which bytes are no batch has its own error.
#[test]
fn errors_say_what_is_wrong() {
    let batch = Batch::new(
        BatchKind::Entries,
        ballot(1, 1),
        Tail { log_bytes: 100, ..Tail::default() },
        LogTime(0),
        &[Bytes::from_static(b"a")],
    );
    let check = |edit: &dyn Fn(&mut Vec<u8>), error: BatchError| {
        let mut bytes = batch.encoded().to_vec();
        edit(&mut bytes);
        rehash(&mut bytes);
        assert_eq!(Batch::decode(Bytes::from(bytes)), Err(error));
    };
    check(&|bytes| bytes.truncate(HEADER_BYTES - 1), BatchError::Short);
    check(&|bytes| bytes.truncate(HEADER_BYTES + 1), BatchError::Short);
    check(&|bytes| bytes.push(0), BatchError::Trailing);
    check(&|bytes| bytes[0] = 2, BatchError::Format(2));
    check(&|bytes| bytes[1] = 9, BatchError::Kind(9));
    check(&|bytes| bytes[18..26].fill(0), BatchError::Shape);
    check(&|bytes| bytes[26..30].fill(0), BatchError::Shape);
    check(&|bytes| bytes[18..26].fill(0xff), BatchError::Shape);
    let mut bytes = batch.encoded().to_vec();
    bytes[CHAIN_OFFSET] ^= 1;
    assert_eq!(Batch::decode(Bytes::from(bytes)), Err(BatchError::Chain));
}

/// Goal: two logs that differ anywhere differ in the hash of the next batch.
#[test]
fn the_chain_tells_histories_apart() {
    let word = |tail, word: &'static str| {
        let payload = [Bytes::from_static(word.as_bytes())];
        Batch::new(BatchKind::Entries, ballot(1, 1), tail, LogTime(0), &payload)
    };
    let (left, right) = (word(Tail::default(), "a"), word(Tail::default(), "b"));
    assert_eq!(left.tail().id, right.tail().id);
    assert_ne!(word(left.tail(), "c").tail().chain, word(right.tail(), "c").tail().chain);
}
