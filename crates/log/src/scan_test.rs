//! Goal: a scan finds every valid frame whatever lies between them, and nothing else.

use proptest::prelude::*;

use super::*;
use crate::frame::padding;
use quorate_types::GroupId;

const ID: SegmentId = SegmentId(4);
const BASE: LogOffset = LogOffset(1000);

fn put(bytes: &mut Vec<u8>, body: &[u8]) {
    let offset = BASE.plus(bytes.len() as u64);
    let mut header = Header::internal(Kind::Batch, ID, offset, BASE);
    header.group = GroupId(1);
    bytes.extend_from_slice(&header.encode(77, body));
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(padding(body.len()));
}

proptest! {
    #[test]
    fn frames_are_found_between_garbage(
        pieces in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..120)),
            0..20,
        ),
        base_is_known: bool,
    ) {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for (is_frame, piece) in pieces {
            if is_frame {
                places.push(bytes.len() as u64);
                put(&mut bytes, &piece);
            } else {
                bytes.extend_from_slice(&piece);
                bytes.resize(bytes.len().next_multiple_of(8), 0);
            }
        }
        let scan = scan(&bytes, 0, ID, base_is_known.then_some(BASE), 77);
        prop_assert_eq!(scan.found.iter().map(|found| found.at).collect::<Vec<_>>(), places);
        let found: u64 = scan.found.iter().map(|found| found.end() - found.at).sum();
        let holes: u64 = scan.holes.iter().map(|hole| hole.end - hole.start).sum();
        prop_assert_eq!(found + holes, bytes.len() as u64);
    }
}

#[test]
fn frames_of_another_place_segment_or_log_are_not_found() {
    let mut bytes = Vec::new();
    put(&mut bytes, b"body");
    assert_eq!(scan(&bytes, 0, ID, Some(BASE), 77).found.len(), 1);
    assert_eq!(scan(&bytes, 0, ID, Some(BASE), 78).found.len(), 0);
    assert_eq!(scan(&bytes, 0, SegmentId(5), Some(BASE), 77).found.len(), 0);
    assert_eq!(scan(&bytes, 0, ID, Some(LogOffset(1008)), 77).found.len(), 0);
    bytes.splice(0..0, [0; 8]);
    assert_eq!(scan(&bytes, 0, ID, Some(BASE), 77).found.len(), 0);
}
