//! Visits every state that can be reached within the bounds, once, nearest first.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Instant;

use quorate_paxos::LeaseMode;

use crate::rules::{Event, Rules};
use crate::world::World;

/// How a state was reached.
struct Trail {
    event: String,
    before: Option<Rc<Trail>>,
}

/// More states than this mean that the bounds of a scenario are too wide to be searched.
const STATES_MAX: usize = 1_000_000;

/// Fails with the shortest way to a state that breaks a rule, or if it cannot visit all states.
pub fn search(name: &str, rules: &Rules, start: World) {
    let began = clock();
    let mut seen = BTreeSet::from([name_of(&start)]);
    let mut waiting: VecDeque<(World, usize, Option<Rc<Trail>>)> =
        VecDeque::from([(start, 0, None)]);
    let (mut transitions, mut depth) = (0_u64, 0);
    while let Some((world, at, trail)) = waiting.pop_front() {
        depth = depth.max(at);
        for event in world.events(rules) {
            transitions += 1;
            let mut next = world.clone();
            let happened = catch_unwind(AssertUnwindSafe(|| {
                next.happen(rules, event);
                next.check_durability();
                if rules.mode == LeaseMode::Lease {
                    next.check_leases();
                }
            }));
            let fails = happened.is_err();
            if !fails && !seen.insert(name_of(&next)) {
                continue;
            }
            let event = describe(&world, event);
            let trail = Rc::new(Trail { event, before: trail.clone() });
            if fails {
                panic!("{name} after {} states:\n{}", seen.len(), story(&trail));
            }
            assert!(seen.len() <= STATES_MAX, "{name}: more than {STATES_MAX} states");
            waiting.push_back((next, at + 1, Some(trail)));
        }
    }
    let (states, took) = (seen.len(), began.elapsed());
    println!("{name}: {states} states, {transitions} transitions, depth {depth}, {took:.1?}");
}

/// How long a search takes is printed, and decides nothing.
#[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
fn clock() -> Instant {
    Instant::now()
}

/// 128 bits that stand for a state.
fn name_of(world: &World) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, world.budget, &world.history, world.now).hash(&mut hasher);
        world.nodes.iter().for_each(|node| node.name.hash(&mut hasher));
        world.wire.iter().for_each(|envelope| envelope.name.hash(&mut hasher));
        hasher.finish()
    };
    u128::from(half(0)) << 64 | u128::from(half(1))
}

fn describe(world: &World, event: Event) -> String {
    match event {
        Event::Deliver { place, again } => {
            let envelope = &world.wire[place];
            let (from, to) = (envelope.from + 1, envelope.to + 1);
            let again = if again { ", and once more later" } else { "" };
            format!("r{from} -> r{to}{again}: {:?}", envelope.message)
        }
        other => format!("{other:?}"),
    }
}

fn story(trail: &Trail) -> String {
    let mut lines = Vec::new();
    let mut next = Some(trail);
    while let Some(trail) = next {
        lines.push(trail.event.as_str());
        next = trail.before.as_deref();
    }
    lines.reverse();
    lines.join("\n")
}
