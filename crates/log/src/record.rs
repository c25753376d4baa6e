//! What a node must remember to keep its promises, and its bytes.
//!
//! Stored and read by `promises.rs`.
//!
//! # Storage layout
//!
//! Integers are little-endian.
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 4 | magic, `QPR1` |
//! | 4 | 4 | crc32c of everything from byte 8 to the end |
//! | 8 | 4 | format, 5 |
//! | 12 | 4 | length of what follows |
//! | 16 | 8 | version |
//! | 24 | 16 | cluster |
//! | 40 | 4 | node |
//! | 44 | 8 | incarnation |
//! | 52 | 8 | longest lease ever granted, ns |
//! | 60 | 8 | newest segment of the log, 0 before the first |
//! | 68 | 8 | log offset below which everything was durable |
//! | 76 | 4 | number of peers |
//! | 80 | 4 | number of groups |
//! | 84 | 1 | 1 if the data folder is not the first of its node, else 0 |
//! | 85 | 13 each | peers: node (4), incarnation (8), 1 first, 2 reborn or 3 disputed |
//! | | 58 and more each | groups: group (4), replica (8), its kind (1), promised round (8) and replica (8); 1 if the
//! replica is pinned, else 0; the entry of the membership: slot (8), round (8) and replica (8); its length (4) and
//! bytes |
//!
//! Kinds: 0 full, 1 log-only, 2 read-only, 3 arbiter.

use std::collections::BTreeMap;

use quorate_types::{
    Ballot, ClusterId, EntryId, FolderState, GroupId, Incarnation, NodeId, PeerFolder, ReplicaId,
    ReplicaKind, Slot,
};

use crate::frame::{LogOffset, SegmentId};

const MAGIC: [u8; 4] = *b"QPR1";
/// The format this program writes.
pub(crate) const FORMAT: u32 = 5;
const HEADER_BYTES: usize = 16;
/// More than any membership takes.
const MEMBERSHIP_BYTES_MAX: usize = 1024;

/// What a node remembers of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// The replica this node is.
    pub replica: ReplicaId,
    /// What it was made to hold: the same for life.
    pub kind: ReplicaKind,
    /// The greatest ballot it promised.
    pub promised: Ballot,
    /// An operator wants it to lead.
    pub pinned: bool,
    /// The last membership that it knows to be chosen. The log may hold later ones.
    pub membership: MembershipRecord,
}

/// Who takes part in a group, as bytes that this crate does not read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipRecord {
    /// The entry it came with; zero: how the group began.
    pub at: EntryId,
    /// The members.
    pub bytes: Vec<u8>,
}

/// How far the log reached when the record was stored. A log that ends before it has lost its end.
///
/// A lower bound: always durable before it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogMark {
    /// The newest segment; 0 before the first.
    pub segment: SegmentId,
    /// Everything below was durable.
    pub durable: LogOffset,
}

/// What a node remembers apart from its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Raised by each store. What it is when given to a store does not matter.
    pub version: u64,
    /// The cluster the node belongs to.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Drawn once for this data folder.
    pub incarnation: Incarnation,
    /// The longest lease the node ever granted: it stays silent that long after a start.
    pub lease_ns_max: u64,
    /// How far its log reaches at least.
    pub log: LogMark,
    /// It is not the first data folder of its node: peers knew another one, and the replicas that it had got
    /// new ids.
    pub reborn: bool,
    /// The data folders that its peers have, as far as it met them or was told.
    pub peers: BTreeMap<NodeId, PeerFolder>,
    /// Its replicas.
    pub groups: BTreeMap<GroupId, GroupRecord>,
}

/// What the bytes of a copy are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    Valid(NodeRecord),
    Invalid,
    UnknownFormat(u32),
}

impl NodeRecord {
    /// The bytes of the record under another version.
    pub(crate) fn encode(&self, version: u64) -> Vec<u8> {
        let peers = u32::try_from(self.peers.len()).expect("node ids are 32-bit");
        let groups = u32::try_from(self.groups.len()).expect("group ids are 32-bit");
        let mut body = Vec::new();
        body.extend_from_slice(&version.to_le_bytes());
        body.extend_from_slice(&self.cluster.0.to_le_bytes());
        body.extend_from_slice(&self.node.0.to_le_bytes());
        body.extend_from_slice(&self.incarnation.0.to_le_bytes());
        body.extend_from_slice(&self.lease_ns_max.to_le_bytes());
        body.extend_from_slice(&self.log.segment.0.to_le_bytes());
        body.extend_from_slice(&self.log.durable.0.to_le_bytes());
        body.extend_from_slice(&peers.to_le_bytes());
        body.extend_from_slice(&groups.to_le_bytes());
        body.push(u8::from(self.reborn));
        for (node, PeerFolder { incarnation, state }) in &self.peers {
            body.extend_from_slice(&node.0.to_le_bytes());
            body.extend_from_slice(&incarnation.0.to_le_bytes());
            body.push(match state {
                FolderState::First => 1,
                FolderState::Reborn => 2,
                FolderState::Disputed => 3,
            });
        }
        for (group, record) in &self.groups {
            body.extend_from_slice(&group.0.to_le_bytes());
            body.extend_from_slice(&record.replica.0.to_le_bytes());
            body.push(record.kind.number());
            body.extend_from_slice(&record.promised.round.to_le_bytes());
            body.extend_from_slice(&record.promised.replica.0.to_le_bytes());
            body.push(u8::from(record.pinned));
            let MembershipRecord { at, bytes } = &record.membership;
            assert!(bytes.len() <= MEMBERSHIP_BYTES_MAX, "a membership of {} bytes", bytes.len());
            body.extend_from_slice(&at.slot.0.to_le_bytes());
            body.extend_from_slice(&at.ballot.round.to_le_bytes());
            body.extend_from_slice(&at.ballot.replica.0.to_le_bytes());
            let length = u32::try_from(bytes.len()).expect("checked just now");
            body.extend_from_slice(&length.to_le_bytes());
            body.extend_from_slice(bytes);
        }
        let body_bytes = u32::try_from(body.len()).expect("far fewer groups than bytes in 4 GiB");
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..16].copy_from_slice(&body_bytes.to_le_bytes());
        bytes.extend_from_slice(&body);
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes a copy. Bytes behind the record, left by a longer one, are ignored.
    pub(crate) fn decode(bytes: &[u8]) -> Decoded {
        checked(bytes).unwrap_or(Decoded::Invalid)
    }
}

fn checked(bytes: &[u8]) -> Option<Decoded> {
    let mut head = Input(bytes);
    if head.take::<4>()? != MAGIC {
        return None;
    }
    let crc = head.u32()?;
    let format = head.u32()?;
    let body_bytes = head.u32()? as usize;
    let end = HEADER_BYTES.checked_add(body_bytes)?;
    if crc32c::crc32c(bytes.get(8..end)?) != crc {
        return None;
    }
    if format != FORMAT {
        return Some(Decoded::UnknownFormat(format));
    }
    decode_body(Input(&bytes[HEADER_BYTES..end])).map(Decoded::Valid)
}

fn decode_body(mut body: Input<'_>) -> Option<NodeRecord> {
    let mut record = NodeRecord {
        version: body.u64()?,
        cluster: ClusterId(u128::from_le_bytes(body.take()?)),
        node: NodeId(body.u32()?),
        incarnation: Incarnation(body.u64()?),
        lease_ns_max: body.u64()?,
        log: LogMark { segment: SegmentId(body.u64()?), durable: LogOffset(body.u64()?) },
        reborn: false,
        peers: BTreeMap::new(),
        groups: BTreeMap::new(),
    };
    let (peers, groups) = (body.u32()? as usize, body.u32()? as usize);
    record.reborn = body.flag()?;
    for _ in 0..peers {
        let (node, incarnation) = (NodeId(body.u32()?), Incarnation(body.u64()?));
        let state = match body.take()? {
            [1] => FolderState::First,
            [2] => FolderState::Reborn,
            [3] => FolderState::Disputed,
            _ => return None,
        };
        record.peers.insert(node, PeerFolder { incarnation, state });
    }
    for _ in 0..groups {
        let group = GroupId(body.u32()?);
        let replica = ReplicaId(body.u64()?);
        let kind = ReplicaKind::of_number(body.take::<1>()?[0])?;
        let promised = Ballot { round: body.u64()?, replica: ReplicaId(body.u64()?) };
        let pinned = body.flag()?;
        let slot = Slot(body.u64()?);
        let ballot = Ballot { round: body.u64()?, replica: ReplicaId(body.u64()?) };
        let length = body.u32()? as usize;
        let bytes = body.slice(length.min(MEMBERSHIP_BYTES_MAX + 1))?.to_vec();
        let membership = MembershipRecord { at: EntryId { ballot, slot }, bytes };
        let replica = GroupRecord { replica, kind, promised, pinned, membership };
        record.groups.insert(group, replica);
    }
    body.0.is_empty().then_some(record)
}

/// Bytes not decoded yet.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn slice(&mut self, length: usize) -> Option<&[u8]> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.take()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
#[path = "record_test.rs"]
mod tests;
