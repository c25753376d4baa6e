use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;
use quorate_types::NodeId;

use super::super::strategies;
use super::*;

fn page() -> impl Strategy<Value = ScanPage> {
    let row = (any::<u64>(), strategies::bytes(), strategies::value())
        .prop_map(|(uid, key, value)| ScannedRow { uid: Uid(uid), key, value });
    (vec(row, 0..5), option::of(strategies::position()))
        .prop_map(|(rows, next)| ScanPage { rows, next })
}

fn reply() -> impl Strategy<Value = Reply> {
    let committed = (vec(option::of(strategies::value()), 0..4), vec(any::<i64>(), 0..4));
    let body = prop_oneof![
        strategies::session().prop_map(ReplyBody::Session),
        Just(ReplyBody::SessionClosed),
        option::of(strategies::value()).prop_map(ReplyBody::Row),
        page().prop_map(ReplyBody::Page),
        committed.prop_map(|(reads, sums)| ReplyBody::Committed { reads, sums }),
        strategies::money_reply(),
        strategies::found_rows().prop_map(ReplyBody::Rows),
    ];
    (strategies::entry(), any::<bool>(), body).prop_map(|(at, replayed, body)| Reply {
        at,
        replayed,
        body,
    })
}

fn answer() -> impl Strategy<Value = Answer> {
    let good = (any::<u32>().prop_map(GroupId), reply()).prop_map(Ok);
    let bad = (0..Code::ALL.len(), "[ -~]{0,30}")
        .prop_map(|(code, message)| Err(Error::new(Code::ALL[code], message).with("a", 1)));
    (any::<u64>(), option::of(strategies::hint()), prop_oneof![good, bad])
        .prop_map(|(id, leader, result)| Answer { id, leader, result })
}

proptest! {
    #[test]
    fn answers_round_trip(answer in answer()) {
        // Goal: what the server says is what the client reads.
        let encoded = answer.clone().into_wire().encode_to_vec();
        let decoded = v1::PipelineReply::decode(&encoded[..]).expect("we encoded it");
        prop_assert_eq!(Answer::from_wire(decoded), Ok(answer));
    }

    #[test]
    fn bytes_from_the_network_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        // Goal: a broken server breaks no client.
        if let Ok(frame) = v1::PipelineResponse::decode(&bytes[..]) {
            for reply in frame.items {
                let _no_panic = Answer::from_wire(reply);
            }
        }
    }

    #[test]
    fn damaged_answers_never_panic(answer in answer(), at in any::<usize>(), flip in 1..=255_u8) {
        // Goal: the same for bytes that look almost right.
        let mut encoded = answer.into_wire().encode_to_vec();
        let at = at % encoded.len();
        encoded[at] ^= flip;
        if let Ok(decoded) = v1::PipelineReply::decode(&encoded[..]) {
            let _no_panic = Answer::from_wire(decoded);
        }
    }
}

#[test]
fn unary_responses_carry_position_and_leader() {
    // Goal: a caller in another language can go to the leader at once and order what it saw.
    let at = EntryId { ballot: Ballot { round: 3, replica: ReplicaId(2) }, slot: Slot(11) };
    let hint = LeaderHint { node: NodeId(2), address: "h2:6440".to_owned() };
    let body = ReplyBody::Committed { reads: vec![None, Some(Value::Integer(5))], sums: vec![7] };
    let reply = Reply { at, replayed: true, body };
    let put = put_response(GroupId(4), &reply, Some(&hint)).expect("it is a transaction");
    let header = put.header.expect("every response has one");
    let position = v1::Position { group: 4, slot: 11, ballot_round: 3, ballot_replica: 2 };
    assert_eq!((header.at, header.replayed), (Some(position), true));
    assert_eq!(header.leader, Some(hint.to_wire()));
    let transact = transact_response(GroupId(4), reply.clone(), None).expect("it is one");
    let committed = transact.committed.expect("it took effect");
    assert_eq!((committed.reads.len(), committed.sums), (2, vec![7]));
    assert_eq!(committed.reads[0].value, None);
    let error = get_response(GroupId(4), reply, None).expect_err("it is no row");
    assert_eq!(error.code, Code::Internal);
}
