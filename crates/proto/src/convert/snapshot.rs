//! Snapshots between nodes: what is asked for, and the pieces that come. Records pass as the bytes of their
//! page, checked against its crc; what is in them the store checks. Used by the server only.

use bytes::Bytes;
use quorate_paxos::{Batch, MembershipAt};
use quorate_types::{GroupId, Slot};

use super::peer::{membership_from_wire, membership_to_wire};
use super::words::required;
use super::{ConvertError, Hello};
use crate::v1;

/// Asks for the rows of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotAsk {
    /// Who asks.
    pub hello: Hello,
    /// The group.
    pub group: GroupId,
    /// They must stand here or later.
    pub at_least: Slot,
    /// The snapshot to go on with, and the portable key of the last record that arrived.
    pub resume: Option<(u128, Bytes)>,
    /// Only the header is wanted: who asks keeps no rows.
    pub header_only: bool,
    /// Streams of these rows that have broken off so far.
    pub broken: u32,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotPiece {
    /// What follows.
    Header {
        /// The snapshot.
        id: u128,
        /// The batch that the rows end with.
        last: Batch,
        /// The group, and who took part in it there.
        membership: (GroupId, MembershipAt),
        /// Roughly how many bytes all of it takes.
        estimated_bytes: u64,
    },
    /// A page of records.
    Page(Bytes),
    /// The end of a part.
    PartEnd(SnapshotTally),
    /// The end.
    End(SnapshotTally),
}

/// What has been sent of a snapshot, from its first record on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotTally {
    /// Records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// crc32c of these.
    pub digest: u32,
}

impl SnapshotAsk {
    /// The request for the wire.
    #[must_use]
    pub fn into_wire(self) -> v1::SnapshotRequest {
        v1::SnapshotRequest {
            hello: Some(self.hello.to_wire()),
            group: self.group.0,
            at_least: self.at_least.0,
            resume: self
                .resume
                .map(|(id, after)| v1::SnapshotResume { snapshot_id: id_out(id), after }),
            header_only: self.header_only,
            broken: self.broken,
        }
    }

    /// The request from the wire.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_wire(request: v1::SnapshotRequest) -> Result<SnapshotAsk, ConvertError> {
        let hello = required(request.hello, "hello")?;
        if request.group == 0 {
            return Err(ConvertError::missing("group"));
        }
        let resume = request.resume.map(|resume| {
            let id = id_in(&resume.snapshot_id).map_err(|error| error.inside("resume"))?;
            Ok((id, resume.after))
        });
        Ok(SnapshotAsk {
            hello: Hello::from_wire(&hello).map_err(|error| error.inside("hello"))?,
            group: GroupId(request.group),
            at_least: Slot(request.at_least),
            resume: resume.transpose()?,
            header_only: request.header_only,
            broken: request.broken,
        })
    }
}

impl SnapshotPiece {
    /// The piece for the wire.
    #[must_use]
    pub fn into_wire(self) -> v1::SnapshotChunk {
        use v1::snapshot_chunk::Piece;
        let piece = match self {
            SnapshotPiece::Header { id, last, membership: (group, at), estimated_bytes } => {
                Piece::Header(v1::SnapshotHeader {
                    membership: Some(membership_to_wire(group, &at)),
                    snapshot_id: id_out(id),
                    last: last.encoded().clone(),
                    estimated_bytes,
                })
            }
            SnapshotPiece::Page(records) => {
                let crc = crc32c::crc32c(&records);
                Piece::Page(v1::SnapshotPage { records, crc })
            }
            SnapshotPiece::PartEnd(tally) => Piece::PartEnd(tally.into_wire()),
            SnapshotPiece::End(tally) => Piece::End(tally.into_wire()),
        };
        v1::SnapshotChunk { piece: Some(piece) }
    }

    /// The piece from the wire.
    ///
    /// # Errors
    /// Names the field that is wrong, a page that does not match its crc included.
    pub fn from_wire(chunk: v1::SnapshotChunk) -> Result<SnapshotPiece, ConvertError> {
        use v1::snapshot_chunk::Piece;
        Ok(match required(chunk.piece, "piece")? {
            Piece::Header(header) => SnapshotPiece::Header {
                id: id_in(&header.snapshot_id).map_err(|error| error.inside("header"))?,
                last: Batch::decode(header.last).map_err(|source| {
                    let field = "header.last".to_owned();
                    ConvertError::Batch { field, source }
                })?,
                membership: membership_from_wire(required(header.membership, "header.membership")?)
                    .map_err(|error| error.inside("header"))?,
                estimated_bytes: header.estimated_bytes,
            },
            Piece::Page(page) if crc32c::crc32c(&page.records) != page.crc => {
                return Err(ConvertError::malformed("page.records", "they do not match their crc"));
            }
            Piece::Page(page) => SnapshotPiece::Page(page.records),
            Piece::PartEnd(tally) => SnapshotPiece::PartEnd(SnapshotTally::from_wire(&tally)),
            Piece::End(tally) => SnapshotPiece::End(SnapshotTally::from_wire(&tally)),
        })
    }
}

impl SnapshotTally {
    fn into_wire(self) -> v1::SnapshotTally {
        let SnapshotTally { records, bytes, digest } = self;
        v1::SnapshotTally { records, bytes, digest }
    }

    fn from_wire(tally: &v1::SnapshotTally) -> SnapshotTally {
        let v1::SnapshotTally { records, bytes, digest } = *tally;
        SnapshotTally { records, bytes, digest }
    }
}

fn id_out(id: u128) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

fn id_in(id: &[u8]) -> Result<u128, ConvertError> {
    let id = <[u8; 16]>::try_from(id);
    id.map(u128::from_be_bytes)
        .map_err(|_length| ConvertError::malformed("snapshot_id", "it must have 16 bytes"))
}

#[cfg(test)]
mod tests {
    use quorate_paxos::{BatchKind, Membership, Tail};
    use quorate_types::{Ballot, ClusterId, Incarnation, LogTime, NodeId, ReplicaId};

    use super::*;

    #[test]
    fn what_is_asked_for_survives_the_wire() {
        // Goal: a source sees what the receiver meant; a broken id is named.
        let hello = Hello {
            protocol_version: 1,
            cluster: ClusterId(7),
            node: NodeId(1),
            incarnation: Incarnation(3),
            to_node: NodeId(2),
            topology_version: 4,
            lease_ms: 5,
            reborn: false,
            folders: std::collections::BTreeMap::new(),
        };
        for resume in [None, Some((u128::MAX - 1, Bytes::from_static(b"key")))] {
            let ask = SnapshotAsk {
                hello: hello.clone(),
                group: GroupId(9),
                at_least: Slot(8),
                resume,
                header_only: false,
                broken: 3,
            };
            assert_eq!(SnapshotAsk::from_wire(ask.clone().into_wire()), Ok(ask.clone()));
            let mut wire = ask.into_wire();
            if let Some(resume) = &mut wire.resume {
                resume.snapshot_id = Bytes::from_static(b"short");
                let error = SnapshotAsk::from_wire(wire).expect_err("an id has 16 bytes");
                assert_eq!(error.field(), "resume.snapshot_id");
            }
        }
    }

    #[test]
    fn pieces_survive_the_wire_and_a_changed_byte_does_not() {
        // Goal: no page and no last batch is taken that is not what was sent.
        let ballot = Ballot { round: 1, replica: ReplicaId(1) };
        let last =
            Batch::new(BatchKind::StartWork, ballot, Tail::default(), LogTime(1), &[Bytes::new()]);
        let tally = SnapshotTally { records: 1, bytes: 2, digest: 3 };
        let members = Membership::of_voters([(ReplicaId::first_on(NodeId(1)), 0)]);
        let membership = (GroupId(4), MembershipAt { id: last.last_id(), membership: members });
        let pieces = [
            SnapshotPiece::Header { id: 7, last, membership, estimated_bytes: 99 },
            SnapshotPiece::Page(Bytes::from_static(b"records")),
            SnapshotPiece::PartEnd(tally),
            SnapshotPiece::End(tally),
        ];
        for piece in pieces {
            assert_eq!(SnapshotPiece::from_wire(piece.clone().into_wire()), Ok(piece));
        }
        let mut wire = SnapshotPiece::Page(Bytes::from_static(b"records")).into_wire();
        if let Some(v1::snapshot_chunk::Piece::Page(page)) = &mut wire.piece {
            page.records = Bytes::from_static(b"recordz");
        }
        let error = SnapshotPiece::from_wire(wire).expect_err("a byte has changed");
        assert_eq!(error.field(), "page.records");
    }
}
