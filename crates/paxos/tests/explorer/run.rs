//! Plays the schedule of a seed and remembers it, and plays a schedule again.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::adversary::Adversary;
use crate::common::cluster::Setup;
use crate::common::event::Event;
use crate::invariants::Scope;
use crate::world::{Extra, World};

/// What happened, and to whom.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub events: u64,
    pub acknowledged: usize,
    pub reads: u64,
    pub fresh: u64,
    pub elections: usize,
    pub chosen: usize,
    pub installed: u64,
    pub changed: u64,
    pub suspended: u64,
    /// Schedules that lose nodes for ever, those in which the group goes on by force, and replicas outlived.
    pub disasters: u64,
    pub recovered: u64,
    pub outlived: u64,
    /// Where clocks drift beyond the margin.
    pub stale_reads: u64,
    pub lease_overlaps: u64,
    pub seeds_beyond: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events: {} writes acknowledged, {} reads confirmed, {} replicas fresh, {} elections, \
             {} slots chosen, {} snapshots installed, {} changes of voters, voters set aside {} times\n\
             nodes lost for ever: {} seeds, in {} the group goes on by force, {} replicas outlived\n\
             beyond the drift bound: {} seeds, {} stale reads, leases overlapped at {} steps",
            self.events,
            self.acknowledged,
            self.reads,
            self.fresh,
            self.elections,
            self.chosen,
            self.installed,
            self.changed,
            self.suspended,
            self.disasters,
            self.recovered,
            self.outlived,
            self.seeds_beyond,
            self.stale_reads,
            self.lease_overlaps
        )
    }
}

impl Totals {
    fn add(&mut self, world: &World, events: usize) {
        self.events += events as u64;
        let (acknowledged, chosen, fresh, stale) = world.judge.counts(&world.cluster);
        self.acknowledged += acknowledged;
        self.reads += world.judge.reads.confirmed;
        self.fresh += fresh;
        self.elections += world.judge.ballots.count();
        self.chosen += chosen;
        self.installed += world.judge.installed;
        self.changed += world.judge.changed;
        self.suspended += world.judge.suspended;
        self.stale_reads += world.judge.reads.stale + stale;
        self.lease_overlaps += world.judge.one_lease.overlaps;
        let number = world.cluster.membership.membership.history().number;
        self.disasters += u64::from(!world.cluster.lost.is_empty());
        self.recovered += u64::from(0 < number);
        self.outlived += world.cluster.outlived();
        self.seeds_beyond += u64::from(world.cluster.setup.beyond_margin);
    }
}

/// A broken rule. Two failures are of one class if the same line of code found them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub place: String,
    pub message: String,
}

/// What follows the last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing: it fails before.
    None,
    /// Faults end, and the group must agree.
    Calm,
    /// And then the disk of the leader hangs.
    Hang,
}

impl Ending {
    fn play(self, world: &mut World) {
        match self {
            Ending::None => {}
            Ending::Calm => world.converge(),
            Ending::Hang => world.converge_and_hang(),
        }
    }
}

/// A schedule that can be played again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub setup: Setup,
    pub events: Vec<Event>,
    pub ending: Ending,
}

/// How a schedule is judged.
#[derive(Clone, Copy)]
pub struct Rules {
    pub scope: Scope,
    pub extra: Option<Extra>,
}

/// Plays a seed. Returns the schedule through the event at which it failed.
pub fn explore(
    seed: u64,
    moves: u64,
    rules: Rules,
    totals: &mut Totals,
) -> Option<(Schedule, Failure)> {
    let (mut adversary, setup) = Adversary::new(seed, moves);
    let mut schedule = Schedule { setup, events: Vec::new(), ending: Ending::None };
    let failure = watch(|| {
        let mut world = World::new(schedule.setup.clone(), rules.scope, rules.extra);
        while let Some(event) = adversary.draw(&world.cluster) {
            schedule.events.push(event);
            world.apply(&event);
        }
        schedule.ending = if adversary.weather.hangs_disk { Ending::Hang } else { Ending::Calm };
        schedule.ending.play(&mut world);
        totals.add(&world, schedule.events.len());
    });
    failure.map(|failure| (schedule, failure))
}

/// Plays a schedule again.
pub fn play(schedule: &Schedule, rules: Rules) -> Option<Failure> {
    watch(|| {
        let mut world = World::new(schedule.setup.clone(), rules.scope, rules.extra);
        for event in &schedule.events {
            world.apply(event);
        }
        schedule.ending.play(&mut world);
    })
}

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static FAILURE: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// Runs a schedule on this thread. A panic becomes a value and is not printed.
pub fn watch(run: impl FnOnce()) -> Option<Failure> {
    listen();
    WATCHED.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    WATCHED.set(false);
    result.err().map(|_| FAILURE.take().expect("the hook has seen the panic"))
}

/// Notes the place and the message of panics on threads that are watched.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !WATCHED.get() {
                return print(panic);
            }
            let place = panic.location().map_or_else(String::new, ToString::to_string);
            let message = panic.payload_as_str().unwrap_or("a panic without words").to_owned();
            FAILURE.set(Some(Failure { place, message }));
        }));
    });
}
