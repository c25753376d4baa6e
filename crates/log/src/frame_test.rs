//! Goal: a frame comes back as it was written, and nothing else passes for one.

use proptest::prelude::*;

use super::*;

fn header() -> impl Strategy<Value = Header> {
    (1..=4_u8, any::<u32>(), any::<[u64; 5]>()).prop_map(|(kind, group, numbers)| Header {
        kind: [Kind::SegmentHead, Kind::Batch, Kind::Seal, Kind::Cut][usize::from(kind) - 1],
        group: GroupId(group),
        first: Slot(numbers[0]),
        last: Slot(numbers[1]),
        offset: LogOffset(numbers[2]),
        segment: SegmentId(numbers[3]),
        synced_upto: LogOffset(numbers[4]),
        body_bytes: 0,
    })
}

proptest! {
    #[test]
    fn a_frame_survives_encoding(
        mut header in header(),
        random: u64,
        body in proptest::collection::vec(any::<u8>(), 0..500),
        behind in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut bytes = header.encode(random, &body).to_vec();
        bytes.extend_from_slice(&body);
        let whole = bytes.len();
        bytes.extend_from_slice(&behind);
        prop_assert_eq!(Header::decode(&bytes, random, |_| true), Some((header, &body[..])));
        prop_assert_eq!(Header::decode(&bytes, random ^ 1, |_| true), None);
        prop_assert_eq!(Header::decode(&bytes[..whole - 1], random, |_| true), None);
        prop_assert_eq!(header.frame_bytes() % ALIGN, 0);
        prop_assert_eq!(header.frame_bytes() as usize, whole + padding(body.len()).len());
    }

    #[test]
    fn a_flipped_bit_is_noticed(
        mut header in header(),
        body in proptest::collection::vec(any::<u8>(), 0..100),
        place: prop::sample::Index,
        bit in 0..8_u8,
    ) {
        let mut bytes = header.encode(7, &body).to_vec();
        bytes.extend_from_slice(&body);
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        prop_assert_eq!(Header::decode(&bytes, 7, |_| true), None);
    }

    #[test]
    fn any_bytes_are_decoded_without_a_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        random: u64,
        with_magic: bool,
    ) {
        if with_magic && bytes.len() > 4 {
            bytes[..4].copy_from_slice(&MAGIC);
        }
        prop_assert_eq!(Header::decode(&bytes, random, |_| true), None);
    }
}

#[test]
fn the_header_is_where_the_table_says() {
    let mut header = Header {
        kind: Kind::Batch,
        group: GroupId(0x0102_0304),
        first: Slot(5),
        last: Slot(6),
        offset: LogOffset(7),
        segment: SegmentId(8),
        synced_upto: LogOffset(9),
        body_bytes: 0,
    };
    let bytes = header.encode(1, b"abc");
    const { assert!(HEADER_BYTES <= 96) };
    assert_eq!(&bytes[..4], b"QLF1");
    assert_eq!((bytes[8], bytes[12]), (3, 2));
    assert_eq!(bytes[16..20], [4, 3, 2, 1]);
    let at = |place: usize| (bytes[place], bytes[place + 1]);
    assert_eq!([at(24), at(32), at(40), at(48), at(56)], [(5, 0), (6, 0), (7, 0), (8, 0), (9, 0)]);
}
