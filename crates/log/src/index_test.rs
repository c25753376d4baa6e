//! Goal: the index keeps exactly the frames that count, and counts them per segment.

use quorate_types::{GroupId, Slot};

use super::*;
use crate::disk::sim::SimDisk;
use crate::frame::{Kind, LogOffset};

fn header(segment: u64, first: u64, last: u64) -> Header {
    let offset = LogOffset(0);
    let header = Header::internal(Kind::Batch, SegmentId(segment), offset, offset);
    Header { group: GroupId(1), first: Slot(first), last: Slot(last), body_bytes: 10, ..header }
}

fn index() -> Index {
    let disk = SimDisk::new().mount();
    let mut index = Index::default();
    for id in 1..=3 {
        let file = disk.create("f").expect("created");
        let segment = SegmentState { file, file_bytes: 9, live_frames: 0, is_damaged: false };
        index.segments.insert(SegmentId(id), segment);
    }
    index
}

fn slots(index: &Index) -> Vec<(u64, u64)> {
    let frames = index.groups.get(&GroupId(1)).map(|group| &group.frames);
    frames.into_iter().flatten().map(|frame| (frame.header.first.0, frame.last.0)).collect()
}

#[test]
fn a_frame_cuts_what_it_replaces_and_frees_segments() {
    let mut index = index();
    for (segment, first, last) in [(1, 1, 5), (1, 6, 9), (2, 10, 12), (2, 13, 14)] {
        index.push(header(segment, first, last), 0);
    }
    index.push(header(3, 8, 8), 0);
    assert_eq!(slots(&index), [(1, 5), (6, 7), (8, 8)]);
    assert_eq!(index.segments[&SegmentId(2)].live_frames, 0);
    assert_eq!(index.oldest_released(), None, "an older one is needed");
    index.release(GroupId(1), Slot(6));
    assert_eq!(slots(&index), [(6, 7), (8, 8)], "a frame goes as a whole");
    index.release(GroupId(1), Slot(7));
    assert_eq!(index.oldest_released(), Some((SegmentId(1), 9)));
    assert_eq!(index.groups[&GroupId(1)].live_bytes, 10);
    index.release(GroupId(1), Slot(100));
    assert!(index.groups.is_empty());
    index.release(GroupId(5), Slot(100));
}

#[test]
fn a_frame_below_all_others_replaces_them() {
    let mut index = index();
    index.push(header(1, 5, 9), 0);
    index.push(header(2, 10, 19), 0);
    index.push(header(3, 2, 3), 0);
    assert_eq!(slots(&index), [(2, 3)]);
}

#[test]
fn a_damaged_or_the_newest_segment_is_never_free() {
    let mut index = index();
    index.segments.get_mut(&SegmentId(1)).expect("there").is_damaged = true;
    assert_eq!(index.oldest_released(), None);
    index.segments.remove(&SegmentId(1));
    assert_eq!(index.oldest_released(), Some((SegmentId(2), 9)));
    index.segments.remove(&SegmentId(2));
    assert_eq!(index.oldest_released(), None);
}
