//! Answers to questions of freshness take their time: the wide round trips of several cities.

use std::collections::VecDeque;
use std::time::Duration;

use quorate_paxos::message::{Ask, Heartbeat, Message, Prepare, Told};
use quorate_paxos::{Input, LeaseMode, Options, Replica, Timing};
use quorate_types::{Ballot, BootTime, GroupId, ReplicaId, ReplicaKind, Slot};

use crate::bench::{Bench, R2, R3, fresh};

fn fresh_after(timing: Timing, round_trip: Duration) -> Option<BootTime> {
    let ids = [1, 2, 3].map(ReplicaId);
    let options = Options {
        group: GroupId(1),
        replica: ids[1],
        kind: ReplicaKind::Full,
        timing,
        pinned: false,
        log_budget_bytes: u64::MAX,
    };
    let ms = |n: u64| BootTime(n * 1_000_000);
    let mut it = Replica::new(ms(1), options, fresh());
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
                slot_releasable: Slot::ZERO,
                slot_secured: Slot::ZERO,
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
                let told = Told {
                    ballot: ask.ballot,
                    asked_at: ask.asked_at,
                    slot_applied: Slot::ZERO,
                    slot_last: Slot::ZERO,
                };
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
    let (group, timing) = (GroupId(1), Timing::lan());
    let options = Options {
        group,
        replica: ids[1],
        kind: ReplicaKind::Full,
        timing,
        pinned: false,
        log_budget_bytes: u64::MAX,
    };
    let mut it = Replica::new(BootTime(1_000_000), options, fresh());
    let ballot = Ballot { round: 1, replica: ids[0] };
    let prepare = Message::Prepare(Prepare { ballot, handover_from: None });
    let _ = it.step(BootTime(2_000_000), Input::Message { from: ids[0], message: prepare });
    let _ = it.step(BootTime(3_000_000), Input::PromiseSynced { ballot });
    let (sent_at, zero) = (BootTime(3_000_000), Slot::ZERO);
    let heartbeat = Heartbeat {
        ballot,
        sent_at,
        slot_committed: zero,
        slot_releasable: zero,
        slot_secured: zero,
    };
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
        let told = Message::Told(Told {
            ballot,
            asked_at,
            slot_applied: Slot::ZERO,
            slot_last: Slot::ZERO,
        });
        let _ = it.step(now, Input::Message { from: ReplicaId(1), message: told });
        assert_eq!(it.fresh_at(now), None);
    }
    let told = Message::Told(Told {
        ballot,
        asked_at: now,
        slot_applied: Slot::ZERO,
        slot_last: Slot::ZERO,
    });
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
    let told =
        Message::Told(Told { ballot, asked_at, slot_applied: Slot(99), slot_last: Slot(99) });
    let _ = it.step(BootTime(11_000_000), Input::Message { from: ReplicaId(1), message: told });
    assert!(!asks(&mut it, 500), "an answer is there");
    // It still follows.
    let (sent_at, zero) = (BootTime(10_500_000_000), Slot::ZERO);
    let heartbeat = Heartbeat {
        ballot,
        sent_at,
        slot_committed: zero,
        slot_releasable: zero,
        slot_secured: zero,
    };
    let message = Message::Heartbeat(heartbeat);
    let _ = it.step(BootTime(10_500_000_000), Input::Message { from: ReplicaId(1), message });
    assert!(asks(&mut it, 10_501));
}

/// Goal: a follower that asks again and again, or whose questions the network doubles, takes no more room at
/// the leader than two of its questions, and takes none from others.
#[test]
fn two_questions_of_a_follower_wait_at_the_leader() {
    // Without leases every question waits for the next round of heartbeats.
    let mut bench = Bench::serving(LeaseMode::ReadIndex);
    bench.pass(Duration::from_millis(10));
    let ballot = bench.core.promised();
    let ask = |asked_at| Message::Ask(Ask { ballot, asked_at: BootTime(asked_at), left: None });
    for asked_at in 1..=5 {
        bench.hear(R2, ask(asked_at));
    }
    bench.hear(R3, ask(9));
    assert_eq!(answers(&mut bench), [(R2, 1), (R2, 2), (R3, 9)]);
    // Answered, they make room.
    bench.pass(Duration::from_millis(10));
    bench.hear(R2, ask(11));
    assert_eq!(answers(&mut bench), [(R2, 11)]);
}

/// Who is told within three rounds of heartbeats, and of which question: one that comes while a round is
/// under way needs the next.
fn answers(bench: &mut Bench) -> Vec<(ReplicaId, u64)> {
    let mut told = Vec::new();
    for _ in 0..3 {
        bench.pass(Timing::lan().renew);
        bench.tick();
        let out = bench.confirmed(R2, bench.now);
        told.extend(out.messages.into_iter().filter_map(|(to, message)| match message {
            Message::Told(told) => Some((to, told.asked_at.0)),
            _ => None,
        }));
    }
    told
}
