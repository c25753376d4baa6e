use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;
use quorate_types::{Code, Error};

use super::super::strategies;
use super::*;

fn attempt() -> impl Strategy<Value = Attempt> {
    (strategies::group(), strategies::ballot(), any::<u64>())
        .prop_map(|(group, ballot, counter)| Attempt { group, ballot, counter })
}

fn age() -> impl Strategy<Value = Age> {
    let session = (strategies::group(), any::<u64>());
    let session = session.prop_map(|(group, slot)| SessionId { group, slot: Slot(slot) });
    // That of transfers has slot 0.
    let session = prop_oneof![
        session,
        strategies::group().prop_map(|group| SessionId { group, slot: Slot::ZERO })
    ];
    (any::<u64>(), session, any::<u64>()).prop_map(|(first_ms, session, sequence)| Age {
        first_ms,
        session,
        sequence,
    })
}

fn part_reply() -> impl Strategy<Value = PartReply> {
    let verdict = proptest::sample::select(Verdict::ALL.to_vec());
    (vec(option::of(strategies::value()), 0..4), vec(any::<i64>(), 0..4), vec(verdict, 0..4))
        .prop_map(|(reads, sums, verdicts)| PartReply { reads, sums, verdicts })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let error = |message: String| {
        let error = Error::new(Code::GuardFailed, message).with("floor", 3);
        Refusal::Refused(Box::new(error.after(Duration::from_millis(7))))
    };
    prop_oneof![Just(Refusal::Conflict), Just(Refusal::Unknown), "[a-z ]{0,20}".prop_map(error),]
}

fn vote() -> impl Strategy<Value = Vote> {
    prop_oneof![
        part_reply().prop_map(Vote::Yes),
        part_reply().prop_map(Vote::Committed),
        refusal().prop_map(Vote::No),
    ]
}

fn watermark() -> impl Strategy<Value = Watermark> {
    (attempt(), vec(any::<u64>(), 0..4)).prop_map(|(upto, counters)| {
        let mut below: Vec<u64> = counters.into_iter().filter(|it| *it < upto.counter).collect();
        below.sort_unstable();
        below.dedup();
        let except = below.into_iter().map(|counter| Attempt { counter, ..upto }).collect();
        Watermark { upto, except }
    })
}

fn part() -> impl Strategy<Value = Part> {
    (strategies::part(), strategies::batch()).prop_map(|(part, credits)| Part { credits, ..part })
}

fn body() -> impl Strategy<Value = CrossBody> {
    let participants = vec(strategies::group(), 0..4);
    prop_oneof![
        (attempt(), age(), attempt(), participants, part()).prop_map(
            |(attempt, age, watermark, participants, part)| CrossBody::Prepare {
                attempt,
                age,
                watermark,
                participants,
                part
            }
        ),
        attempt().prop_map(|attempt| CrossBody::Ask { attempt }),
        (attempt(), vote(), cut()).prop_map(|(attempt, vote, cut)| CrossBody::Voted {
            attempt,
            vote,
            cut
        }),
        (attempt(), any::<bool>(), cut()).prop_map(|(attempt, commit, cut)| CrossBody::Decide {
            attempt,
            commit,
            cut
        }),
        Just(CrossBody::AskCut),
        Just(CrossBody::TellCut),
        attempt().prop_map(|attempt| CrossBody::Decided { attempt }),
        watermark().prop_map(|watermark| CrossBody::Clear { watermark }),
    ]
}

fn message() -> impl Strategy<Value = CrossMessage> {
    let ends = (strategies::group(), strategies::group());
    (ends, cut(), body()).prop_map(|((from, to), cut, body)| CrossMessage { from, to, cut, body })
}

fn cut() -> impl Strategy<Value = CutId> {
    any::<u64>().prop_map(CutId)
}

fn status() -> impl Strategy<Value = AttemptStatus> {
    let states = [
        AttemptState::Waiting,
        AttemptState::Voting,
        AttemptState::Prepared,
        AttemptState::Refused,
        AttemptState::Committed,
        AttemptState::Aborted,
    ];
    let groups = || vec(strategies::group(), 0..3);
    let who = (strategies::group(), attempt(), proptest::sample::select(states.to_vec()));
    (who, option::of(age()), groups(), groups(), any::<u64>(), any::<u64>()).prop_map(
        |((group, attempt, state), age, participants, waits_for, locked_rows, waiting)| {
            AttemptStatus {
                group,
                attempt,
                state,
                age,
                participants,
                waits_for,
                locked_rows,
                waiting,
            }
        },
    )
}

proptest! {
    #[test]
    fn what_operators_see_round_trips(status in status()) {
        // Goal: the list shows what the leader knows.
        let wire = attempt_status_to_wire(status.clone());
        prop_assert_eq!(attempt_status_from_wire(wire), Ok(status));
    }

    #[test]
    fn messages_round_trip(message in message()) {
        // Goal: what one leader says is what the other hears.
        let encoded = cross_to_wire(message.clone()).encode_to_vec();
        let decoded = v1::CrossMessage::decode(&encoded[..]).expect("we encoded it");
        prop_assert_eq!(cross_from_wire(decoded), Ok(message));
    }

    #[test]
    fn damaged_messages_never_panic(
        message in message(), at in any::<usize>(), flip in 1..=255_u8,
    ) {
        // Goal: whatever decodes is converted or refused.
        let mut bytes = cross_to_wire(message).encode_to_vec();
        let index = at % bytes.len();
        bytes[index] ^= flip;
        if let Ok(decoded) = v1::CrossMessage::decode(&bytes[..]) {
            let _no_panic = cross_from_wire(decoded);
        }
    }
}

#[test]
fn a_refused_message_names_the_field() {
    // Goal: a peer of another version is diagnosed from the message alone.
    let empty = v1::CrossMessage { from_group: 1, to_group: 2, cut: 0, body: None };
    assert_eq!(cross_from_wire(empty).expect_err("no body").field(), "body");
    let ask = v1::cross_message::Body::Ask(v1::Attempt { group: 1, ballot: None, counter: 1 });
    let ask = v1::CrossMessage { from_group: 1, to_group: 2, cut: 0, body: Some(ask) };
    assert_eq!(cross_from_wire(ask).expect_err("no ballot").field(), "ask.ballot");
    let nobody = v1::CrossMessage { from_group: 0, to_group: 2, cut: 0, body: None };
    assert_eq!(cross_from_wire(nobody).expect_err("no sender").field(), "from_group");
}
