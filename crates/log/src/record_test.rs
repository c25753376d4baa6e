//! Goal: a record survives encoding, whatever follows it, and broken bytes are never one.

use proptest::prelude::*;

use super::*;

fn record() -> impl Strategy<Value = NodeRecord> {
    let state = prop_oneof![
        Just(FolderState::First),
        Just(FolderState::Reborn),
        Just(FolderState::Disputed),
    ];
    let folder = (any::<u64>(), state)
        .prop_map(|(number, state)| PeerFolder { incarnation: Incarnation(number), state });
    let peers = proptest::collection::btree_map(any::<u32>(), folder, 0..20);
    let members = proptest::collection::vec(any::<u8>(), 0..60);
    let group = (any::<[u64; 6]>(), (0..4_u8, any::<bool>()), members);
    let groups = proptest::collection::btree_map(any::<u32>(), group, 0..40);
    (any::<[u64; 5]>(), any::<bool>(), any::<u128>(), any::<u32>(), peers, groups).prop_map(
        |(numbers, reborn, cluster, node, peers, groups)| NodeRecord {
            version: numbers[0],
            cluster: ClusterId(cluster),
            node: NodeId(node),
            incarnation: Incarnation(numbers[1]),
            lease_ns_max: numbers[2],
            log: LogMark { segment: SegmentId(numbers[3]), durable: LogOffset(numbers[4]) },
            reborn,
            peers: peers.into_iter().map(|(id, folder)| (NodeId(id), folder)).collect(),
            groups: groups
                .into_iter()
                .map(
                    |(
                        group,
                        ([replica, round, owner, slot, at_round, at], (kind, pinned), bytes),
                    )| {
                        let promised = Ballot { round, replica: ReplicaId(owner) };
                        let ballot = Ballot { round: at_round, replica: ReplicaId(at) };
                        let at = EntryId { ballot, slot: Slot(slot) };
                        let membership = MembershipRecord { at, bytes };
                        let replica = ReplicaId(replica);
                        let kind = ReplicaKind::of_number(kind).expect("one of four");
                        let record = GroupRecord { replica, kind, promised, pinned, membership };
                        (GroupId(group), record)
                    },
                )
                .collect(),
        },
    )
}

proptest! {
    #[test]
    fn a_record_survives_encoding(
        record in record(),
        behind in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let mut bytes = record.encode(record.version);
        bytes.extend_from_slice(&behind);
        prop_assert_eq!(NodeRecord::decode(&bytes), Decoded::Valid(record));
    }

    #[test]
    fn a_flipped_bit_is_noticed(record in record(), place: prop::sample::Index, bit in 0..8_u8) {
        let mut bytes = record.encode(1);
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        prop_assert_eq!(NodeRecord::decode(&bytes), Decoded::Invalid);
    }

    #[test]
    fn any_bytes_are_decoded_without_a_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        with_magic: bool,
    ) {
        if with_magic && bytes.len() > 4 {
            bytes[..4].copy_from_slice(&MAGIC);
        }
        prop_assert_eq!(NodeRecord::decode(&bytes), Decoded::Invalid);
        let _ = decode_body(Input(&bytes));
    }
}
