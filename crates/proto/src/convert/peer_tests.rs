use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;
use quorate_paxos::{BatchError, BatchKind, Tail};
use quorate_types::LogTime;

use super::super::strategies::{ballot, bytes, entry};
use super::*;

fn standing() -> impl Strategy<Value = Standing> {
    let health = (any::<bool>(), any::<u8>(), any::<u8>()).prop_map(
        |(draining, fatal_faults, serious_faults)| Health {
            draining,
            fatal_faults,
            serious_faults,
        },
    );
    (any::<u64>(), health, entry(), any::<u64>(), any::<bool>(), any::<u16>()).prop_map(
        |(replica, health, last, log_bytes, pinned, rank)| Standing {
            replica: ReplicaId(replica),
            health,
            last,
            log_bytes,
            pinned,
            rank,
        },
    )
}

fn batch() -> impl Strategy<Value = Batch> {
    (1..1000_u64, 1..1000_u64, vec(bytes(), 1..5)).prop_map(|(round, slot, payloads)| {
        let before = Ballot { round, replica: ReplicaId(1) };
        let tail = Tail { id: EntryId { ballot: before, slot: Slot(slot) }, ..Tail::default() };
        let after = Ballot { round: round + 1, replica: ReplicaId(2) };
        Batch::new(BatchKind::Entries, after, tail, LogTime(5), &payloads)
    })
}

fn slot() -> impl Strategy<Value = Slot> {
    any::<u64>().prop_map(Slot)
}

fn time() -> impl Strategy<Value = BootTime> {
    any::<u64>().prop_map(BootTime)
}

fn seats() -> impl Strategy<Value = MembershipAt> {
    let voters = vec((1..1000_u64, any::<u16>()), 1..6);
    (entry(), voters).prop_map(|(id, voters)| {
        let voters = voters.into_iter().map(|(id, rank)| (ReplicaId(id), rank));
        MembershipAt { id, membership: Membership::of_voters(voters) }
    })
}

fn election() -> impl Strategy<Value = Message> {
    prop_oneof![
        (ballot(), standing())
            .prop_map(|(ballot, standing)| Message::PreVote(PreVote { ballot, standing })),
        (ballot(), any::<bool>(), ballot(), standing()).prop_map(
            |(ballot, granted, promised, standing)| Message::PreVoteAck(PreVoteAck {
                ballot,
                granted,
                promised,
                standing
            })
        ),
        (ballot(), option::of(ballot())).prop_map(|(ballot, handover_from)| Message::Prepare(
            Prepare { ballot, handover_from }
        )),
        (ballot(), entry(), slot(), option::of(seats())).prop_map(
            |(ballot, last, slot_committed, seats)| {
                Message::Promise(Promise { ballot, last, slot_committed, seats })
            }
        ),
        (ballot(), ballot())
            .prop_map(|(ballot, promised)| Message::Reject(Reject { ballot, promised })),
        (ballot(), entry()).prop_map(|(ballot, prev)| Message::Fetch(Fetch { ballot, prev })),
        (ballot(), entry(), option::of(vec(batch(), 0..3)), entry()).prop_map(
            |(ballot, prev, batches, trimmed)| {
                Message::FetchReply(FetchReply { ballot, prev, batches, trimmed })
            }
        ),
        ballot().prop_map(|ballot| Message::TakeOver(TakeOver { ballot })),
        (ballot(), time()).prop_map(|(ballot, asked_at)| Message::Ask(Ask { ballot, asked_at })),
        (ballot(), time(), slot()).prop_map(|(ballot, asked_at, slot_applied)| Message::Told(
            Told { ballot, asked_at, slot_applied }
        )),
    ]
}

fn replication() -> impl Strategy<Value = Message> {
    prop_oneof![
        (ballot(), batch(), slot()).prop_map(|(ballot, batch, slot_committed)| Message::Accept(
            Accept { ballot, batch, slot_committed }
        )),
        (ballot(), slot())
            .prop_map(|(ballot, slot_synced)| Message::Accepted(Accepted { ballot, slot_synced })),
        (ballot(), entry(), slot()).prop_map(|(ballot, last, slot_committed)| Message::Mismatch(
            Mismatch { ballot, last, slot_committed }
        )),
        (ballot(), time(), slot(), slot(), slot()).prop_map(
            |(ballot, sent_at, slot_committed, slot_releasable, slot_secured)| {
                Message::Heartbeat(Heartbeat {
                    ballot,
                    sent_at,
                    slot_committed,
                    slot_releasable,
                    slot_secured,
                })
            }
        ),
        (ballot(), seats()).prop_map(|(ballot, at)| Message::Seats(Seats { ballot, at })),
        (ballot(), entry()).prop_map(|(ballot, id)| Message::SeatsKept(SeatsKept { ballot, id })),
        (ballot(), time(), slot(), slot(), option::of(slot()), standing()).prop_map(
            |(ballot, sent_at, slot_verified, slot_synced, slot_refilling, standing)| {
                Message::HeartbeatAck(HeartbeatAck {
                    ballot,
                    sent_at,
                    slot_verified,
                    slot_synced,
                    slot_refilling,
                    standing,
                })
            }
        ),
        (ballot(), entry())
            .prop_map(|(ballot, trimmed)| Message::Behind(Behind { ballot, trimmed })),
        (ballot(), slot()).prop_map(|(ballot, slot_committed)| Message::Commit(Commit {
            ballot,
            slot_committed
        })),
    ]
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let message = prop_oneof![election(), replication()];
    let history = (1..=u32::MAX, entry()).prop_map(|(number, since)| {
        let since = EntryId { slot: since.slot.max(Slot(1)), ..since };
        History { number, since }
    });
    let history = prop_oneof![Just(History::default()), history];
    (1..=u32::MAX, any::<u64>(), any::<u64>(), history, message).prop_map(
        |(group, from, to, history, message)| {
            let (from, to) = (ReplicaId(from), ReplicaId(to));
            Envelope { group: GroupId(group), from, to, history, message }
        },
    )
}

proptest! {
    #[test]
    fn every_message_round_trips(envelope in envelope()) {
        // Goal: no replica ever reads another message than was sent.
        let encoded = envelope.clone().into_wire().encode_to_vec();
        let decoded = v1::PeerMessage::decode(&encoded[..]).expect("we encoded it");
        prop_assert_eq!(Envelope::from_wire(decoded), Ok(envelope));
    }

    #[test]
    fn bytes_from_the_network_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        // Goal: a stranger on the peer port cannot stop a node.
        if let Ok(frame) = v1::PeerFrame::decode(&bytes[..]) {
            if let Some(hello) = frame.hello {
                let _no_panic = Hello::from_wire(&hello);
            }
            for message in frame.messages {
                let _no_panic = Envelope::from_wire(message);
            }
        }
    }

    #[test]
    fn damaged_messages_never_panic(
        envelope in envelope(),
        at in any::<usize>(),
        flip in 1..=255_u8,
    ) {
        // Goal: the same for bytes that look almost right.
        let mut encoded = envelope.into_wire().encode_to_vec();
        let at = at % encoded.len();
        encoded[at] ^= flip;
        if let Ok(decoded) = v1::PeerMessage::decode(&encoded[..]) {
            let _no_panic = Envelope::from_wire(decoded);
        }
    }

    #[test]
    fn a_damaged_batch_is_refused_with_its_reason(batch in batch(), at in any::<usize>()) {
        // Goal: one flipped byte in a batch never reaches the core.
        let mut encoded = batch.encoded().to_vec();
        let at = at % encoded.len();
        encoded[at] ^= 1;
        let accept = v1::Accept {
            ballot: ballot_out(batch.ballot()),
            batch: encoded.into(),
            slot_committed: 0,
        };
        let body = Some(v1::peer_message::Body::Accept(accept));
        let message = v1::PeerMessage { group: 1, from: 1, to: 2, body, history: None };
        let error = Envelope::from_wire(message).expect_err("a byte is wrong");
        prop_assert!(matches!(error, ConvertError::Batch { .. }), "{}", error);
        prop_assert_eq!(error.field(), "accept.batch");
    }
}

#[test]
fn a_batch_is_not_copied_on_its_way_out() {
    // Goal: the same bytes go to the log, to the peers and to their logs.
    let ballot = Ballot { round: 1, replica: ReplicaId(1) };
    let payload = Bytes::from_static(b"entry");
    let batch = Batch::new(BatchKind::Entries, ballot, Tail::default(), LogTime(0), &[payload]);
    let address = batch.encoded().as_ptr();
    let accept = Accept { ballot, batch, slot_committed: Slot(0) };
    let envelope = Envelope {
        group: GroupId(1),
        from: ReplicaId(1),
        to: ReplicaId(2),
        history: History::default(),
        message: Message::Accept(accept),
    };
    match envelope.into_wire().body {
        Some(v1::peer_message::Body::Accept(accept)) => {
            assert_eq!(accept.batch.as_ptr(), address);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn fields_out_of_range_are_named() {
    // Goal: no number is cut to fit.
    let standing = |rank, fatal_faults| {
        let (last, ballot) = (entry_out(EntryId::ZERO), ballot_out(Ballot::ZERO));
        let standing = Some(v1::Standing { last, rank, fatal_faults, ..v1::Standing::default() });
        let body = Some(v1::peer_message::Body::PreVote(v1::PreVote { ballot, standing }));
        let message = v1::PeerMessage { group: 1, from: 1, to: 2, body, history: None };
        Envelope::from_wire(message).map_err(|error| error.field().to_owned())
    };
    assert!(standing(65_535, 255).is_ok());
    assert_eq!(standing(65_536, 0).unwrap_err(), "pre_vote.standing.rank");
    assert_eq!(standing(0, 256).unwrap_err(), "pre_vote.standing.fatal_faults");
    let missing = v1::PeerMessage { group: 1, from: 1, to: 2, body: None, history: None };
    assert_eq!(Envelope::from_wire(missing), Err(ConvertError::missing("body")));
    let short = Envelope::from_wire(v1::PeerMessage {
        group: 1,
        from: 1,
        to: 2,
        body: Some(v1::peer_message::Body::FetchReply(v1::FetchReply {
            ballot: ballot_out(Ballot::ZERO),
            prev: entry_out(EntryId::ZERO),
            matches: true,
            batches: vec![Bytes::new()],
            trimmed: entry_out(EntryId::ZERO),
        })),
        history: None,
    });
    let field = "fetch_reply.batches[0].encoded".to_owned();
    assert_eq!(short, Err(ConvertError::Batch { field, source: BatchError::Short }));
}

#[test]
fn greetings_round_trip() {
    // Goal: both sides know who speaks, for which cluster, from which data folder.
    let hello = Hello {
        protocol_version: crate::PEER_PROTOCOL_VERSION,
        cluster: ClusterId(0xfeed),
        node: NodeId(1),
        incarnation: Incarnation(u64::MAX),
        to_node: NodeId(2),
        topology_version: 3,
        lease_ms: 1000,
        reborn: true,
        folders: [FolderState::First, FolderState::Reborn, FolderState::Disputed]
            .into_iter()
            .zip(2..)
            .map(|(state, node)| {
                (NodeId(node), PeerFolder { incarnation: Incarnation(u64::from(node)), state })
            })
            .collect(),
    };
    let encoded = hello.to_wire().encode_to_vec();
    let decoded = v1::Hello::decode(&encoded[..]).expect("we encoded it");
    assert_eq!(Hello::from_wire(&decoded), Ok(hello.clone()));
    let nameless = v1::Hello { node_id: 0, ..hello.to_wire() };
    assert_eq!(Hello::from_wire(&nameless), Err(ConvertError::missing("node_id")));
    let unsaid = v1::PeerFolder { node_id: 2, incarnation: 1, state: 0 };
    let vague = v1::Hello { folders: vec![unsaid], ..hello.to_wire() };
    assert_eq!(Hello::from_wire(&vague), Err(ConvertError::missing("folders.state")));
    let stray = v1::Hello { cluster_id: "cluster one".into(), ..hello.to_wire() };
    assert_eq!(Hello::from_wire(&stray).expect_err("it is no id").field(), "cluster_id");
}
