//! Goal: names and heads of segments survive encoding, and broken heads are never believed.

use proptest::prelude::*;

use super::*;

fn head() -> impl Strategy<Value = SegmentHead> {
    let floors = proptest::collection::btree_map(any::<u32>(), any::<[u64; 2]>(), 0..30);
    (any::<[u64; 4]>(), any::<u32>(), floors).prop_map(|(numbers, more, floors)| SegmentHead {
        id: SegmentId(numbers[0]),
        base: LogOffset(numbers[1]),
        synced_upto: LogOffset(numbers[1].saturating_add(u64::from(more))),
        random: numbers[2],
        file_bytes: numbers[3],
        floors: floors
            .into_iter()
            .map(|(group, [round, replica])| {
                (GroupId(group), Ballot { round, replica: ReplicaId(replica) })
            })
            .collect(),
    })
}

proptest! {
    #[test]
    fn a_head_survives_encoding(head in head()) {
        let bytes = head.encode();
        prop_assert_eq!(bytes.len() as u64, SegmentHead::bytes(head.floors.len()));
        let decoded = SegmentHead::decode(&bytes, head.id).expect("known format");
        prop_assert_eq!(decoded.as_ref(), Some(&head));
        let other = SegmentId(head.id.0 ^ 1);
        prop_assert_eq!(SegmentHead::decode(&bytes, other).expect("known format"), None);
    }

    #[test]
    fn any_bytes_are_no_head(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(matches!(SegmentHead::decode(&bytes, SegmentId(1)), Ok(None)));
        prop_assert!(decode_body(&bytes).is_none_or(|(_, _, floors)| floors.len() <= 20));
    }
}

#[test]
fn names_are_read_as_they_are_written() {
    for name in [Name::Segment(SegmentId(7)), Name::Free(SegmentId(12_345_678_901))] {
        let path = name.path();
        assert_eq!(Name::parse(path.strip_prefix("log/").expect("in the folder")), Some(name));
    }
    for other in [
        "",
        "1.seg",
        "000000000x.seg",
        "0000000001",
        "0000000001.tmp",
        "+000000001.seg",
        "00000000001.seg",
        "18446744073709551615.seg",
    ] {
        assert_eq!(Name::parse(other), None, "{other}");
    }
}
