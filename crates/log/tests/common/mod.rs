//! Goal: the few words that the tests of this crate share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use quorate_log::{
    Disk, Frame, GroupRecord, Log, LogError, LogMark, LogOptions, LogReader, LogWriter,
    MembershipRecord, NodeRecord, Recovered,
};
use quorate_types::{
    Ballot, ClusterId, FolderState, GroupId, Incarnation, NodeId, PeerFolder, ReplicaId,
    ReplicaKind, Slot,
};

/// Tiny segments, so that logs roll often.
pub(crate) fn options() -> LogOptions {
    LogOptions { segment_bytes: 4096, bytes_cap: 1024 * 1024, ..LogOptions::small() }
}

pub(crate) fn open(disk: &Arc<dyn Disk>) -> (LogWriter, LogReader, Recovered) {
    Log::open(Arc::clone(disk), options(), 0x5eed).expect("the log opens")
}

/// A frame whose body tells which one it is.
pub(crate) fn frame(group: u32, first: u64, last: u64, mark: u64, bytes: usize) -> Frame {
    let text = format!("<{group}:{first}-{last}#{mark}>");
    let body: Vec<u8> = text.bytes().cycle().take(bytes.max(text.len())).collect();
    Frame { group: GroupId(group), first: Slot(first), last: Slot(last), body: Bytes::from(body) }
}

/// What a log holds: for each slot of each group the body of the frame that has it.
pub(crate) type Contents = BTreeMap<(GroupId, Slot), Bytes>;

/// What a log of these frames must hold, by the rule that a frame cuts what is at or above it.
pub(crate) fn contents_of(frames: &[Frame]) -> Contents {
    let mut contents = Contents::new();
    for frame in frames {
        contents.retain(|(group, slot), _| *group != frame.group || *slot < frame.first);
        for slot in frame.first.0..=frame.last.0 {
            contents.insert((frame.group, Slot(slot)), frame.body.clone());
        }
    }
    contents
}

/// What the log holds, as a reader sees it.
pub(crate) fn contents_read(reader: &LogReader) -> Result<Contents, LogError> {
    let mut contents = Contents::new();
    for group in reader.groups() {
        for frame in reader.read(group, Slot::ZERO, usize::MAX)? {
            for slot in frame.first.0..=frame.last.0 {
                let old = contents.insert((group, Slot(slot)), frame.body.clone());
                assert_eq!(old, None, "frames overlap");
            }
        }
    }
    Ok(contents)
}

pub(crate) fn record(promised: u64) -> NodeRecord {
    let ballot = |round| Ballot { round, replica: ReplicaId(7) };
    let group = |round| GroupRecord {
        replica: ReplicaId(3),
        kind: ReplicaKind::Full,
        promised: ballot(round),
        pinned: round % 2 == 0,
        membership: MembershipRecord::default(),
    };
    let folder =
        |number| PeerFolder { incarnation: Incarnation(number), state: FolderState::First };
    NodeRecord {
        version: 0,
        cluster: ClusterId(0xc1),
        node: NodeId(2),
        incarnation: Incarnation(99),
        lease_ns_max: 1_000_000_000,
        log: LogMark::default(),
        reborn: true,
        peers: BTreeMap::from([(NodeId(1), folder(5)), (NodeId(3), folder(6))]),
        groups: BTreeMap::from([(GroupId(1), group(promised)), (GroupId(2), group(promised + 1))]),
    }
}

pub(crate) fn floors(record: &NodeRecord) -> BTreeMap<GroupId, Ballot> {
    record.groups.iter().map(|(group, record)| (*group, record.promised)).collect()
}
