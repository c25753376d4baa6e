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
