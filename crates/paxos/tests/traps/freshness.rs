//! Answers to questions of freshness take their time: the wide round trips of several cities.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quorate_paxos::message::{Heartbeat, Message, Prepare, Told};
use quorate_paxos::{Input, Options, Replica, Restored, Timing};
use quorate_types::{Ballot, BootTime, GroupId, ReplicaId, Slot};

fn fresh_after(timing: Timing, round_trip: Duration) -> Option<BootTime> {
    let ids = [1, 2, 3].map(ReplicaId);
    let options = Options {
        group: GroupId(1),
        replica: ids[1],
        voters: ids.iter().map(|id| (*id, id.0 as u16)).collect::<BTreeMap<_, _>>(),
        timing,
        pinned: false,
    };
    let ms = |n: u64| BootTime(n * 1_000_000);
    let mut it = Replica::new(ms(1), options, Restored::fresh());
    let ballot = Ballot { round: 1, replica: ids[0] };
    let prepare = Message::Prepare(Prepare { ballot, handover_from: None });
    let _ = it.step(ms(2), Input::Message { from: ids[0], message: prepare });
    let _ = it.step(ms(3), Input::PromiseSynced { ballot });
    let mut answers: VecDeque<(BootTime, Told)> = VecDeque::new();
    for at in (4..20_000).step_by(2) {
        let now = ms(at);
        let mut outs = Vec::new();
        if at % 100 == 0 {
            let heartbeat = Heartbeat {
                ballot,
                sent_at: now,
                slot_committed: Slot::ZERO,
                slot_held_by_all: Slot::ZERO,
            };
            outs.push(it.step(
                now,
                Input::Message { from: ids[0], message: Message::Heartbeat(heartbeat) },
            ));
        }
        while answers.front().is_some_and(|(due, _)| *due <= now) {
            let (_, told) = answers.pop_front().expect("looked at just now");
            outs.push(it.step(now, Input::Message { from: ids[0], message: Message::Told(told) }));
        }
        if at % 50 == 0 {
            outs.push(it.step(now, Input::AskFresh)); // a driver where reads wait
        }
        for (_, message) in outs.into_iter().flat_map(|out| out.messages) {
            if let Message::Ask(ask) = message {
                let told =
                    Told { ballot: ask.ballot, asked_at: ask.asked_at, slot_applied: Slot::ZERO };
                answers.push_back((now + round_trip, told));
            }
        }
    }
    it.fresh_at(ms(20_000))
}

/// Goal: answers are heard that come before the question is asked again.
#[test]
fn answers_that_take_less_than_two_renewals_are_heard() {
    assert!(fresh_after(Timing::lan(), Duration::from_millis(190)).is_some());
    assert!(fresh_after(Timing::wan(), Duration::from_millis(480)).is_some());
}

/// Goal: so are those that come later.
#[test]
fn answers_that_take_longer_than_two_renewals_are_heard() {
    assert!(fresh_after(Timing::lan(), Duration::from_millis(260)).is_some());
}

/// Goal: so are those that wait for a round of heartbeats between cities.
#[test]
fn read_index_answers_over_two_wide_round_trips_are_heard() {
    assert!(fresh_after(Timing::wan().read_index(), Duration::from_millis(560)).is_some());
}

/// A follower of `r1` at 3 ms of its clock.
fn follower() -> (Replica, Ballot) {
    let ids = [1, 2, 3].map(ReplicaId);
    let voters = ids.iter().map(|id| (*id, id.0 as u16)).collect();
    let (group, timing) = (GroupId(1), Timing::lan());
    let options = Options { group, replica: ids[1], voters, timing, pinned: false };
    let mut it = Replica::new(BootTime(1_000_000), options, Restored::fresh());
    let ballot = Ballot { round: 1, replica: ids[0] };
    let prepare = Message::Prepare(Prepare { ballot, handover_from: None });
    let _ = it.step(BootTime(2_000_000), Input::Message { from: ids[0], message: prepare });
    let _ = it.step(BootTime(3_000_000), Input::PromiseSynced { ballot });
    let (sent_at, zero) = (BootTime(3_000_000), Slot::ZERO);
    let heartbeat = Heartbeat { ballot, sent_at, slot_committed: zero, slot_held_by_all: zero };
    let message = Message::Heartbeat(heartbeat);
    let _ = it.step(BootTime(3_000_000), Input::Message { from: ids[0], message });
    (it, ballot)
}

/// Goal: only what was asked in this life is answered: before its machine was started anew, the clock of
/// a replica may have shown any time.
#[test]
fn an_answer_to_what_was_not_asked_says_nothing() {
    let (mut it, ballot) = follower();
    let now = BootTime(900_000_000);
    let _ = it.step(now, Input::AskFresh);
    let stamps = [BootTime(899_999_999), BootTime(900_000_001)];
    for asked_at in stamps {
        let told = Message::Told(Told { ballot, asked_at, slot_applied: Slot::ZERO });
        let _ = it.step(now, Input::Message { from: ReplicaId(1), message: told });
        assert_eq!(it.fresh_at(now), None);
    }
    let told = Message::Told(Told { ballot, asked_at: now, slot_applied: Slot::ZERO });
    let _ = it.step(now, Input::Message { from: ReplicaId(1), message: told });
    assert_eq!(it.fresh_at(now), Some(now));
}

/// Goal: a position that does not come is not waited for without end: the leader is asked anew.
#[test]
fn a_position_that_never_comes_is_given_up() {
    let (mut it, ballot) = follower();
    let asks = |it: &mut Replica, ms: u64| {
        let out = it.step(BootTime(ms * 1_000_000), Input::AskFresh);
        out.messages.iter().any(|(_, message)| matches!(message, Message::Ask(_)))
    };
    assert!(asks(&mut it, 10));
    let asked_at = BootTime(10_000_000);
    let told = Message::Told(Told { ballot, asked_at, slot_applied: Slot(99) });
    let _ = it.step(BootTime(11_000_000), Input::Message { from: ReplicaId(1), message: told });
    assert!(!asks(&mut it, 500), "an answer is there");
    // It still follows.
    let (sent_at, zero) = (BootTime(10_500_000_000), Slot::ZERO);
    let heartbeat = Heartbeat { ballot, sent_at, slot_committed: zero, slot_held_by_all: zero };
    let message = Message::Heartbeat(heartbeat);
    let _ = it.step(BootTime(10_500_000_000), Input::Message { from: ReplicaId(1), message });
    assert!(asks(&mut it, 10_501));
}
