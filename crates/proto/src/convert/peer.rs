//! Messages between nodes: greetings and the 19 messages of the Paxos core.
//!
//! Only the peer streams of the server call this. Batches pass as the bytes they were encoded to;
//! going out nothing is copied, coming in they are checked against their chain hash.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_paxos::message::{
    Accept, Accepted, Ask, Behind, Commit, Fetch, FetchReply, Heartbeat, HeartbeatAck, Message,
    Mismatch, PreVote, PreVoteAck, Prepare, Promise, Reject, Seats, SeatsKept, TakeOver, Told,
};
use quorate_paxos::{Batch, Health, History, Membership, MembershipAt, Standing};
use quorate_types::{
    Ballot, BootTime, ClusterId, EntryId, FolderState, GroupId, Incarnation, NodeId, PeerFolder,
    ReplicaId, Slot,
};

use super::ConvertError;
use super::recovery::{history_from_wire, history_to_wire};
use super::words::{self, required};
use crate::v1;

/// The first frame each way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The version of the protocol between nodes.
    pub protocol_version: u32,
    /// The cluster.
    pub cluster: ClusterId,
    /// The sender.
    pub node: NodeId,
    /// The sender's data folder.
    pub incarnation: Incarnation,
    /// The node the sender means to reach.
    pub to_node: NodeId,
    /// The version of the cluster file the sender routes by.
    pub topology_version: u64,
    /// The lease the sender grants, in milliseconds; 0 without leases.
    pub lease_ms: u64,
    /// The sender's data folder is not the first under its name, and its replicas have new ids.
    pub reborn: bool,
    /// The data folders of other nodes that the sender knows.
    pub folders: BTreeMap<NodeId, PeerFolder>,
}

impl Hello {
    /// The greeting for the wire.
    #[must_use]
    pub fn to_wire(&self) -> v1::Hello {
        v1::Hello {
            protocol_version: self.protocol_version,
            cluster_id: self.cluster.to_string(),
            node_id: self.node.0,
            incarnation: self.incarnation.0,
            to_node: self.to_node.0,
            topology_version: self.topology_version,
            lease_ms: self.lease_ms,
            reborn: self.reborn,
            folders: folders_to_wire(&self.folders),
        }
    }

    /// The greeting from the wire. Whether it is acceptable is for the caller to say.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn from_wire(hello: &v1::Hello) -> Result<Hello, ConvertError> {
        if hello.node_id == 0 || hello.to_node == 0 {
            return Err(ConvertError::missing(if hello.node_id == 0 {
                "node_id"
            } else {
                "to_node"
            }));
        }
        Ok(Hello {
            protocol_version: hello.protocol_version,
            cluster: words::cluster_from_wire(&hello.cluster_id, "cluster_id")?,
            node: NodeId(hello.node_id),
            incarnation: Incarnation(hello.incarnation),
            to_node: NodeId(hello.to_node),
            topology_version: hello.topology_version,
            lease_ms: hello.lease_ms,
            reborn: hello.reborn,
            folders: folders_from_wire(&hello.folders)?,
        })
    }
}

/// Data folders of nodes, for the wire.
#[must_use]
pub fn folders_to_wire(folders: &BTreeMap<NodeId, PeerFolder>) -> Vec<v1::PeerFolder> {
    let folder = |(node, folder): (&NodeId, &PeerFolder)| v1::PeerFolder {
        node_id: node.0,
        incarnation: folder.incarnation.0,
        state: i32::from(match folder.state {
            FolderState::First => v1::FolderState::First,
            FolderState::Reborn => v1::FolderState::Reborn,
            FolderState::Disputed => v1::FolderState::Disputed,
        }),
    };
    folders.iter().map(folder).collect()
}

/// Data folders of nodes, from the wire.
///
/// # Errors
/// Names the field that is wrong.
pub fn folders_from_wire(
    folders: &[v1::PeerFolder],
) -> Result<BTreeMap<NodeId, PeerFolder>, ConvertError> {
    let folder = |folder: &v1::PeerFolder| {
        if folder.node_id == 0 {
            return Err(ConvertError::missing("folders.node_id"));
        }
        let state = match v1::FolderState::try_from(folder.state) {
            Ok(v1::FolderState::First) => FolderState::First,
            Ok(v1::FolderState::Reborn) => FolderState::Reborn,
            Ok(v1::FolderState::Disputed) => FolderState::Disputed,
            Ok(v1::FolderState::Unspecified) | Err(_) => {
                return Err(ConvertError::missing("folders.state"));
            }
        };
        let incarnation = Incarnation(folder.incarnation);
        Ok((NodeId(folder.node_id), PeerFolder { incarnation, state }))
    };
    folders.iter().map(folder).collect()
}

/// Who takes part in a group, for the wire.
#[must_use]
pub fn membership_to_wire(group: GroupId, at: &MembershipAt) -> v1::GroupMembership {
    v1::GroupMembership {
        group: group.0,
        since: since_out(at.id),
        membership: at.membership.encode(),
    }
}

/// Who takes part in a group, from the wire.
///
/// # Errors
/// Names the field that is wrong.
pub fn membership_from_wire(
    wire: v1::GroupMembership,
) -> Result<(GroupId, MembershipAt), ConvertError> {
    if wire.group == 0 {
        return Err(ConvertError::missing("group"));
    }
    let id = since_in(wire.since, "since")?;
    let membership = Membership::decode(&wire.membership)
        .map_err(|error| ConvertError::malformed("membership", error.to_string()))?;
    Ok((GroupId(wire.group), MembershipAt { id, membership }))
}

/// A message with its group, sender and receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The group.
    pub group: GroupId,
    /// The replica that sent it.
    pub from: ReplicaId,
    /// The replica it is for.
    pub to: ReplicaId,
    /// The history that the sender counts in.
    pub history: History,
    /// The message.
    pub message: Message,
}

impl Envelope {
    /// The message for the wire.
    #[must_use]
    pub fn into_wire(self) -> v1::PeerMessage {
        v1::PeerMessage {
            group: self.group.0,
            from: self.from.0,
            to: self.to.0,
            history: (self.history != History::default()).then(|| history_to_wire(self.history)),
            body: Some(message_to_wire(self.message)),
        }
    }

    /// The message from the wire.
    ///
    /// # Errors
    /// Names the field that is wrong; a damaged batch says how.
    pub fn from_wire(message: v1::PeerMessage) -> Result<Envelope, ConvertError> {
        if message.group == 0 {
            return Err(ConvertError::missing("group"));
        }
        Ok(Envelope {
            group: GroupId(message.group),
            from: ReplicaId(message.from),
            to: ReplicaId(message.to),
            history: message.history.map(history_from_wire).transpose()?.unwrap_or_default(),
            message: message_from_wire(required(message.body, "body")?)?,
        })
    }
}

fn message_to_wire(message: Message) -> v1::peer_message::Body {
    use v1::peer_message::Body;
    match message {
        Message::PreVote(PreVote { ballot, standing }) => Body::PreVote(v1::PreVote {
            ballot: ballot_out(ballot),
            standing: standing_out(standing),
        }),
        Message::PreVoteAck(PreVoteAck { ballot, granted, promised, standing }) => {
            Body::PreVoteAck(v1::PreVoteAck {
                ballot: ballot_out(ballot),
                granted,
                promised: ballot_out(promised),
                standing: standing_out(standing),
            })
        }
        Message::Prepare(Prepare { ballot, handover_from }) => Body::Prepare(v1::Prepare {
            ballot: ballot_out(ballot),
            handover_from: handover_from.map(words::ballot_to_wire),
        }),
        Message::Promise(Promise { ballot, last, slot_committed, seats }) => {
            Body::Promise(v1::Promise {
                ballot: ballot_out(ballot),
                last: entry_out(last),
                slot_committed: slot_committed.0,
                seats: seats.as_ref().map(seating_out),
            })
        }
        Message::Reject(Reject { ballot, promised }) => {
            Body::Reject(v1::Reject { ballot: ballot_out(ballot), promised: ballot_out(promised) })
        }
        Message::Fetch(Fetch { ballot, prev }) => {
            Body::Fetch(v1::Fetch { ballot: ballot_out(ballot), prev: entry_out(prev) })
        }
        Message::FetchReply(FetchReply { ballot, prev, batches, trimmed }) => {
            let matches = batches.is_some();
            let batches = batches.unwrap_or_default();
            let batches = batches.iter().map(|batch| batch.encoded().clone()).collect();
            let (ballot, prev) = (ballot_out(ballot), entry_out(prev));
            let trimmed = entry_out(trimmed);
            Body::FetchReply(v1::FetchReply { ballot, prev, matches, batches, trimmed })
        }
        Message::Accept(Accept { ballot, batch, slot_committed }) => Body::Accept(v1::Accept {
            ballot: ballot_out(ballot),
            batch: batch.encoded().clone(),
            slot_committed: slot_committed.0,
        }),
        Message::Accepted(Accepted { ballot, slot_synced }) => {
            Body::Accepted(v1::Accepted { ballot: ballot_out(ballot), slot_synced: slot_synced.0 })
        }
        Message::Mismatch(Mismatch { ballot, last, slot_committed }) => {
            Body::Mismatch(v1::Mismatch {
                ballot: ballot_out(ballot),
                last: entry_out(last),
                slot_committed: slot_committed.0,
            })
        }
        Message::Heartbeat(heartbeat) => Body::Heartbeat(heartbeat_out(&heartbeat)),
        Message::HeartbeatAck(ack) => Body::HeartbeatAck(heartbeat_ack_out(ack)),
        Message::Commit(Commit { ballot, slot_committed }) => Body::Commit(v1::Commit {
            ballot: ballot_out(ballot),
            slot_committed: slot_committed.0,
        }),
        Message::TakeOver(TakeOver { ballot }) => {
            Body::TakeOver(v1::TakeOver { ballot: ballot_out(ballot) })
        }
        Message::Ask(msg) => Body::Ask(ask_out(msg)),
        Message::Told(msg) => Body::Told(told_out(msg)),
        Message::Behind(Behind { ballot, trimmed }) => {
            Body::Behind(v1::Behind { ballot: ballot_out(ballot), trimmed: entry_out(trimmed) })
        }
        Message::Seats(Seats { ballot, at }) => {
            Body::Seats(v1::Seats { ballot: ballot_out(ballot), at: Some(seating_out(&at)) })
        }
        Message::SeatsKept(SeatsKept { ballot, id }) => {
            Body::SeatsKept(v1::SeatsKept { ballot: ballot_out(ballot), id: since_out(id) })
        }
    }
}

fn message_from_wire(body: v1::peer_message::Body) -> Result<Message, ConvertError> {
    use v1::peer_message::Body;
    let (name, message) = match body {
        Body::PreVote(body) => ("pre_vote", pre_vote_in(body).map(Message::PreVote)),
        Body::PreVoteAck(body) => ("pre_vote_ack", pre_vote_ack_in(body).map(Message::PreVoteAck)),
        Body::Prepare(body) => ("prepare", prepare_in(&body).map(Message::Prepare)),
        Body::Promise(body) => ("promise", promise_in(body).map(Message::Promise)),
        Body::Reject(body) => ("reject", reject_in(&body).map(Message::Reject)),
        Body::Fetch(body) => ("fetch", fetch_in(&body).map(Message::Fetch)),
        Body::FetchReply(body) => ("fetch_reply", fetch_reply_in(body).map(Message::FetchReply)),
        Body::Accept(body) => ("accept", accept_in(body).map(Message::Accept)),
        Body::Accepted(body) => ("accepted", accepted_in(&body).map(Message::Accepted)),
        Body::Mismatch(body) => ("mismatch", mismatch_in(&body).map(Message::Mismatch)),
        Body::Heartbeat(body) => ("heartbeat", heartbeat_in(&body).map(Message::Heartbeat)),
        Body::HeartbeatAck(body) => {
            ("heartbeat_ack", heartbeat_ack_in(&body).map(Message::HeartbeatAck))
        }
        Body::Commit(body) => ("commit", commit_in(&body).map(Message::Commit)),
        Body::TakeOver(body) => {
            let ballot = ballot_in(body.ballot, "ballot");
            ("take_over", ballot.map(|ballot| Message::TakeOver(TakeOver { ballot })))
        }
        Body::Ask(body) => ("ask", ask_in(&body).map(Message::Ask)),
        Body::Told(body) => ("told", told_in(&body).map(Message::Told)),
        Body::Behind(body) => ("behind", behind_in(&body).map(Message::Behind)),
        Body::Seats(body) => ("seats", seats_in(body).map(Message::Seats)),
        Body::SeatsKept(body) => ("seats_kept", seats_kept_in(&body).map(Message::SeatsKept)),
    };
    message.map_err(|error| error.inside(name))
}

fn ask_out(Ask { ballot, asked_at, left }: Ask) -> v1::Ask {
    let left = left.map(|slot| slot.0);
    v1::Ask { ballot: ballot_out(ballot), asked_at: asked_at.0, left }
}

fn told_out(Told { ballot, asked_at, slot_applied, slot_last }: Told) -> v1::Told {
    v1::Told {
        ballot: ballot_out(ballot),
        asked_at: asked_at.0,
        slot_applied: slot_applied.0,
        slot_last: slot_last.0,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "message fields are optional in generated code")]
fn ballot_out(ballot: Ballot) -> Option<v1::Ballot> {
    Some(words::ballot_to_wire(ballot))
}

fn ballot_in(ballot: Option<v1::Ballot>, field: &str) -> Result<Ballot, ConvertError> {
    required(ballot, field).map(words::ballot_from_wire)
}

#[expect(clippy::unnecessary_wraps, reason = "message fields are optional in generated code")]
fn entry_out(id: EntryId) -> Option<v1::EntryId> {
    Some(words::entry_to_wire(id))
}

fn entry_in(id: Option<v1::EntryId>, field: &str) -> Result<EntryId, ConvertError> {
    words::entry_from_wire(required(id, field)?).map_err(|error| error.inside(field))
}

#[expect(clippy::unnecessary_wraps, reason = "message fields are optional in generated code")]
fn standing_out(standing: Standing) -> Option<v1::Standing> {
    Some(v1::Standing {
        replica: standing.replica.0,
        draining: standing.health.draining,
        fatal_faults: standing.health.fatal_faults.into(),
        serious_faults: standing.health.serious_faults.into(),
        last: entry_out(standing.last),
        log_bytes: standing.log_bytes,
        pinned: standing.pinned,
        rank: standing.rank.into(),
    })
}

fn standing_in(standing: Option<v1::Standing>) -> Result<Standing, ConvertError> {
    let checked = |standing: v1::Standing| {
        let health = Health {
            draining: standing.draining,
            fatal_faults: words::narrow_u8(standing.fatal_faults, "fatal_faults")?,
            serious_faults: words::narrow_u8(standing.serious_faults, "serious_faults")?,
        };
        Ok(Standing {
            replica: ReplicaId(standing.replica),
            health,
            last: entry_in(standing.last, "last")?,
            log_bytes: standing.log_bytes,
            pinned: standing.pinned,
            rank: words::narrow_u16(standing.rank, "rank")?,
        })
    };
    let inside = |error: ConvertError| error.inside("standing");
    checked(required(standing, "standing")?).map_err(inside)
}

fn batch_in(encoded: Bytes, field: &str) -> Result<Batch, ConvertError> {
    Batch::decode(encoded).map_err(|source| ConvertError::Batch { field: field.to_owned(), source })
}

fn pre_vote_in(body: v1::PreVote) -> Result<PreVote, ConvertError> {
    let ballot = ballot_in(body.ballot, "ballot")?;
    Ok(PreVote { ballot, standing: standing_in(body.standing)? })
}

fn pre_vote_ack_in(body: v1::PreVoteAck) -> Result<PreVoteAck, ConvertError> {
    Ok(PreVoteAck {
        ballot: ballot_in(body.ballot, "ballot")?,
        granted: body.granted,
        promised: ballot_in(body.promised, "promised")?,
        standing: standing_in(body.standing)?,
    })
}

fn prepare_in(body: &v1::Prepare) -> Result<Prepare, ConvertError> {
    let ballot = ballot_in(body.ballot, "ballot")?;
    Ok(Prepare { ballot, handover_from: body.handover_from.map(words::ballot_from_wire) })
}

fn promise_in(body: v1::Promise) -> Result<Promise, ConvertError> {
    let seats = body.seats.map(seating_in).transpose();
    Ok(Promise {
        ballot: ballot_in(body.ballot, "ballot")?,
        last: entry_in(body.last, "last")?,
        slot_committed: Slot(body.slot_committed),
        seats: seats.map_err(|error| error.inside("seats"))?,
    })
}

/// How a group began has no entry.
fn since_out(id: EntryId) -> Option<v1::EntryId> {
    (id != EntryId::ZERO).then(|| words::entry_to_wire(id))
}

fn since_in(since: Option<v1::EntryId>, field: &'static str) -> Result<EntryId, ConvertError> {
    let since = since.map(words::entry_from_wire).transpose();
    Ok(since.map_err(|error| error.inside(field))?.unwrap_or(EntryId::ZERO))
}

fn seating_out(at: &MembershipAt) -> v1::Seating {
    v1::Seating { since: since_out(at.id), membership: at.membership.encode() }
}

fn seating_in(wire: v1::Seating) -> Result<MembershipAt, ConvertError> {
    let id = since_in(wire.since, "since")?;
    let membership = Membership::decode(&wire.membership)
        .map_err(|error| ConvertError::malformed("membership", error.to_string()))?;
    Ok(MembershipAt { id, membership })
}

fn seats_in(body: v1::Seats) -> Result<Seats, ConvertError> {
    let at = seating_in(required(body.at, "at")?).map_err(|error| error.inside("at"))?;
    Ok(Seats { ballot: ballot_in(body.ballot, "ballot")?, at })
}

fn seats_kept_in(body: &v1::SeatsKept) -> Result<SeatsKept, ConvertError> {
    Ok(SeatsKept { ballot: ballot_in(body.ballot, "ballot")?, id: since_in(body.id, "id")? })
}

fn reject_in(body: &v1::Reject) -> Result<Reject, ConvertError> {
    let ballot = ballot_in(body.ballot, "ballot")?;
    Ok(Reject { ballot, promised: ballot_in(body.promised, "promised")? })
}

fn fetch_in(body: &v1::Fetch) -> Result<Fetch, ConvertError> {
    let ballot = ballot_in(body.ballot, "ballot")?;
    Ok(Fetch { ballot, prev: entry_in(body.prev, "prev")? })
}

fn fetch_reply_in(body: v1::FetchReply) -> Result<FetchReply, ConvertError> {
    let ballot = ballot_in(body.ballot, "ballot")?;
    let prev = entry_in(body.prev, "prev")?;
    if !body.matches && !body.batches.is_empty() {
        let reason = "there are batches although the logs do not match";
        return Err(ConvertError::malformed("matches", reason));
    }
    let batches = words::each(body.batches, "batches", |encoded| batch_in(encoded, "encoded"))?;
    let trimmed = entry_in(body.trimmed, "trimmed")?;
    Ok(FetchReply { ballot, prev, batches: body.matches.then_some(batches), trimmed })
}

fn accept_in(body: v1::Accept) -> Result<Accept, ConvertError> {
    Ok(Accept {
        ballot: ballot_in(body.ballot, "ballot")?,
        batch: batch_in(body.batch, "batch")?,
        slot_committed: Slot(body.slot_committed),
    })
}

fn accepted_in(body: &v1::Accepted) -> Result<Accepted, ConvertError> {
    let ballot = ballot_in(body.ballot, "ballot")?;
    Ok(Accepted { ballot, slot_synced: Slot(body.slot_synced) })
}

fn mismatch_in(body: &v1::Mismatch) -> Result<Mismatch, ConvertError> {
    Ok(Mismatch {
        ballot: ballot_in(body.ballot, "ballot")?,
        last: entry_in(body.last, "last")?,
        slot_committed: Slot(body.slot_committed),
    })
}

fn heartbeat_out(heartbeat: &Heartbeat) -> v1::Heartbeat {
    v1::Heartbeat {
        ballot: ballot_out(heartbeat.ballot),
        sent_at_ns: heartbeat.sent_at.0,
        slot_committed: heartbeat.slot_committed.0,
        slot_releasable: heartbeat.slot_releasable.0,
        slot_secured: heartbeat.slot_secured.0,
    }
}

fn heartbeat_in(body: &v1::Heartbeat) -> Result<Heartbeat, ConvertError> {
    Ok(Heartbeat {
        ballot: ballot_in(body.ballot, "ballot")?,
        sent_at: BootTime(body.sent_at_ns),
        slot_committed: Slot(body.slot_committed),
        slot_releasable: Slot(body.slot_releasable),
        slot_secured: Slot(body.slot_secured),
    })
}

fn heartbeat_ack_out(ack: HeartbeatAck) -> v1::HeartbeatAck {
    v1::HeartbeatAck {
        ballot: ballot_out(ack.ballot),
        sent_at_ns: ack.sent_at.0,
        slot_verified: ack.slot_verified.0,
        slot_synced: ack.slot_synced.0,
        slot_refilling: ack.slot_refilling.map(|slot| slot.0),
        standing: standing_out(ack.standing),
    }
}

fn heartbeat_ack_in(body: &v1::HeartbeatAck) -> Result<HeartbeatAck, ConvertError> {
    Ok(HeartbeatAck {
        ballot: ballot_in(body.ballot, "ballot")?,
        sent_at: BootTime(body.sent_at_ns),
        slot_verified: Slot(body.slot_verified),
        slot_synced: Slot(body.slot_synced),
        slot_refilling: body.slot_refilling.map(Slot),
        standing: standing_in(body.standing)?,
    })
}

fn commit_in(body: &v1::Commit) -> Result<Commit, ConvertError> {
    let ballot = ballot_in(body.ballot, "ballot")?;
    Ok(Commit { ballot, slot_committed: Slot(body.slot_committed) })
}

fn ask_in(body: &v1::Ask) -> Result<Ask, ConvertError> {
    let ballot = ballot_in(body.ballot, "ballot")?;
    Ok(Ask { ballot, asked_at: BootTime(body.asked_at), left: body.left.map(Slot) })
}

fn told_in(body: &v1::Told) -> Result<Told, ConvertError> {
    Ok(Told {
        ballot: ballot_in(body.ballot, "ballot")?,
        asked_at: BootTime(body.asked_at),
        slot_applied: Slot(body.slot_applied),
        slot_last: Slot(body.slot_last),
    })
}

fn behind_in(body: &v1::Behind) -> Result<Behind, ConvertError> {
    Ok(Behind {
        ballot: ballot_in(body.ballot, "ballot")?,
        trimmed: entry_in(body.trimmed, "trimmed")?,
    })
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
