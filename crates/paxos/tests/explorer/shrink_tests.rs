//! Tests of the shrinker and of the scripts it writes.

use quorate_paxos::{LeaseMode, Output};
use quorate_types::{ReplicaId, Slot};

use crate::adversary::Adversary;
use crate::common::cluster::Setup;
use crate::common::event::Event;
use crate::invariants::Scope;
use crate::run::{Ending, Rules, Schedule, Totals, explore, play};
use crate::shrink::shrink;
use crate::world::World;
use crate::{planted, report, script};

const EVENTS_MAX: u64 = 10_000_000;

/// Goal: of many events those remain that the failure needs, in their order and as plain as can be.
#[test]
fn only_what_is_needed_remains() {
    let tick = |id| Event::Tick(ReplicaId(id));
    let propose = Event::Propose { id: ReplicaId(2), first: 7, count: 3 };
    let mut events: Vec<Event> = (0..500).map(|n| tick(1 + n % 5)).collect();
    events[123] = propose;
    events[400] = Event::Start(ReplicaId(3));
    let schedule =
        Schedule { setup: Setup::plain(5, LeaseMode::Lease), events, ending: Ending::None };

    let small = shrink(schedule, EVENTS_MAX, |candidate| {
        let at = |wanted: fn(&Event) -> bool| candidate.events.iter().position(wanted);
        let proposed = at(|event| matches!(event, Event::Propose { .. }));
        let started = at(|event| matches!(event, Event::Start(_)));
        matches!((proposed, started), (Some(first), Some(second)) if first < second)
            && candidate.setup.clocks.len() >= 3
    });

    let plain = Event::Propose { id: ReplicaId(2), first: 7, count: 1 };
    assert_eq!(small.events, vec![plain, Event::Start(ReplicaId(3))]);
    assert_eq!(small.setup, Setup::plain(3, LeaseMode::Lease));
}

/// Goal: a schedule that fails only as a whole is left as it is.
#[test]
fn nothing_is_left_out_that_is_needed() {
    let events: Vec<Event> = (0..17).map(|_| Event::Tick(ReplicaId(1))).collect();
    let schedule =
        Schedule { setup: Setup::plain(1, LeaseMode::Lease), events, ending: Ending::None };
    let small = shrink(schedule.clone(), EVENTS_MAX, |candidate| candidate.events.len() == 17);
    assert_eq!(small, schedule);
}

/// A rule that does not hold.
fn nothing_above_3(_: ReplicaId, out: &Output) {
    for batch in &out.applies {
        assert!(batch.last() <= Slot(3), "slot {} is chosen", batch.last());
    }
}

const NOTHING_ABOVE_3: Rules = Rules { scope: Scope::All, extra: Some(nothing_above_3) };

/// Goal: a failing seed becomes a short script, and the golden runner shows the same outcome by it.
#[test]
fn a_failing_seed_becomes_a_short_script() {
    if planted().is_some() {
        return;
    }
    for seed in 1..4 {
        let found = explore(seed, 4000, NOTHING_ABOVE_3, &mut Totals::default());
        let (schedule, failure) = found.expect("a seed chooses more than three slots");

        let (path, text) =
            report::report(&format!("test_{seed}"), seed, schedule, &failure, NOTHING_ABOVE_3);

        let commands = text.lines().filter(|line| line.starts_with('>')).count();
        assert!(commands < 60, "{commands} commands remain:\n{text}");
        assert_eq!(std::fs::read_to_string(path).unwrap(), text);
        let run = script::replay(&text);
        assert_eq!(run.panic, None);
        assert_eq!(run.transcript, text, "the script is a recording of itself");
        assert!(text.contains(" applies 4@"), "slot 4 is not chosen:\n{text}");
    }
}

/// Goal: a schedule that is played again happens as it did when it was drawn.
#[test]
fn a_schedule_plays_again() {
    if planted().is_some() {
        return;
    }
    for seed in 10..20 {
        let rules = NOTHING_ABOVE_3;
        let Some((schedule, failure)) = explore(seed, 4000, rules, &mut Totals::default()) else {
            continue;
        };
        assert_eq!(play(&schedule, rules), Some(failure));
    }
}

/// Goal: the script of a schedule is that schedule: whatever is drawn, the golden runner comes to the
/// same state by it.
#[test]
fn scripts_say_what_was_drawn() {
    if planted().is_some() {
        return;
    }
    let mut kinds: Vec<std::mem::Discriminant<Event>> = Vec::new();
    for seed in 0..160 {
        let (mut adversary, setup) = Adversary::new(seed, 600);
        let mut world = World::new(setup.clone(), Scope::All, None);
        let mut events = Vec::new();
        while let Some(event) = adversary.draw(&world.cluster) {
            world.apply(&event);
            events.push(event);
        }
        kinds.extend(events.iter().map(std::mem::discriminant));
        kinds.sort_by_key(|kind| format!("{kind:?}"));
        kinds.dedup();

        let mut text =
            report::script_of(&Schedule { setup, events, ending: Ending::None }, seed, "");
        text.push_str("> show all\n");
        let run = script::replay(&text);

        assert_eq!(run.panic, None, "seed {seed}");
        let stands: Vec<&str> =
            run.transcript.rsplit_once("> show all\n").expect("shown").1.lines().collect();
        let expected = world.cluster.nodes.iter().map(|(id, node)| {
            let status =
                node.core.as_ref().map(|core| core.status(node.now(world.cluster.real_ns)));
            format!("  {}", script::print::stand(*id, status.as_ref()))
        });
        assert_eq!(stands, expected.collect::<Vec<_>>(), "seed {seed}");
    }
    assert_eq!(kinds.len(), 35, "every event was drawn");
}
