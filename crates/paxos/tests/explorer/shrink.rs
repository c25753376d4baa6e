//! Cuts a schedule down to what its failure needs: whole kinds of events first, then halves, quarters and
//! so on down to single events (delta debugging: Zeller and Hildebrandt, 2002), then plainer numbers. It
//! goes on until nothing can be left out any more or so much was played that a person would not wait
//! longer. No clock is read: the same failure becomes the same script on every machine.

use quorate_paxos::Timing;

use crate::common::event::Event;
use crate::run::{Ending, Schedule};

/// Roughly what the calm after a schedule costs.
const CALM_EVENTS: u64 = 10_000;

/// The shrinker of one schedule.
pub struct Shrinker<Fails> {
    /// True if a schedule fails in the same way.
    fails: Fails,
    /// How many events may still be played.
    events_left: u64,
    best: Schedule,
}

/// The smallest schedule that was found and still fails.
pub fn shrink(
    schedule: Schedule,
    events_max: u64,
    fails: impl FnMut(&Schedule) -> bool,
) -> Schedule {
    let mut shrinker = Shrinker { fails, events_left: events_max, best: schedule };
    shrinker.run();
    shrinker.best
}

impl<Fails: FnMut(&Schedule) -> bool> Shrinker<Fails> {
    fn run(&mut self) {
        self.leave_out_kinds();
        loop {
            let before = (self.best.events.len(), self.best.setup.clocks.len());
            self.leave_out_chunks();
            self.leave_out_replicas();
            self.make_setup_plain();
            self.make_events_plain();
            let after = (self.best.events.len(), self.best.setup.clocks.len());
            if after == before || self.is_over() {
                return;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.events_left == 0
    }

    /// Keeps a candidate if it still fails.
    fn try_it(&mut self, candidate: Schedule) -> bool {
        if self.is_over() || candidate == self.best {
            return false;
        }
        let calm = if candidate.ending == Ending::None { 0 } else { CALM_EVENTS };
        let cost = candidate.events.len() as u64 + calm + 1;
        self.events_left = self.events_left.saturating_sub(cost);
        let is_better = (self.fails)(&candidate);
        if is_better {
            self.best = candidate;
        }
        is_better
    }

    fn try_events(&mut self, events: Vec<Event>) -> bool {
        let candidate = Schedule { events, ..self.best.clone() };
        self.try_it(candidate)
    }

    /// Everything of one kind, or everything that concerns one replica.
    fn leave_out_kinds(&mut self) {
        let mut kinds: Vec<std::mem::Discriminant<Event>> = Vec::new();
        for event in &self.best.events {
            let kind = std::mem::discriminant(event);
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        for kind in kinds {
            let rest =
                self.best.events.iter().filter(|event| std::mem::discriminant(*event) != kind);
            let rest = rest.copied().collect();
            self.try_events(rest);
        }
        for (id, _) in (1..).zip(self.best.setup.clocks.clone()) {
            let rest = self.best.events.iter().filter(|event| {
                let (first, second) = event.replicas();
                [first, second].iter().flatten().all(|replica| replica.0 != id)
            });
            let rest = rest.copied().collect();
            self.try_events(rest);
        }
    }

    /// Ever smaller parts, from the end, because what comes last is needed least often.
    fn leave_out_chunks(&mut self) {
        let mut size = self.best.events.len().div_ceil(2);
        while size > 0 && !self.is_over() {
            let mut end = self.best.events.len();
            let mut shrunk = false;
            while end > 0 && !self.is_over() {
                let from = end.saturating_sub(size);
                let events = &self.best.events;
                let rest = events[..from].iter().chain(&events[end..]).copied().collect();
                shrunk |= self.try_events(rest);
                end = from;
            }
            // Once more with the same size if that helped: parts may need each other.
            if !shrunk || size > 1 {
                size /= 2;
            }
        }
    }

    /// Fewer replicas: events of the others do nothing.
    fn leave_out_replicas(&mut self) {
        while self.best.setup.clocks.len() > 1 {
            let mut candidate = self.best.clone();
            candidate.setup.clocks.pop();
            candidate.setup.ranks.pop();
            if !self.try_it(candidate) {
                return;
            }
        }
    }

    /// Clocks that start together and run alike, ranks in order, the usual margin.
    fn make_setup_plain(&mut self) {
        let plain = crate::common::cluster::Setup::plain(
            self.best.setup.clocks.len() as u64,
            self.best.setup.mode,
        );
        let mut candidate = self.best.clone();
        candidate.setup = plain.clone();
        self.try_it(candidate);
        let mut candidate = self.best.clone();
        candidate.setup.ranks = plain.ranks;
        self.try_it(candidate);
        let mut candidate = self.best.clone();
        candidate.setup.lease_margin = Timing::lan().lease_margin;
        self.try_it(candidate);
        for index in 0..self.best.setup.clocks.len() {
            let mut candidate = self.best.clone();
            candidate.setup.clocks[index].ppm = 0;
            self.try_it(candidate);
            let mut candidate = self.best.clone();
            candidate.setup.clocks[index].start_ns = plain.clocks[index].start_ns;
            self.try_it(candidate);
        }
    }

    /// Plainer numbers, and one span of time in place of two.
    fn make_events_plain(&mut self) {
        let mut at = self.best.events.len();
        while at > 0 && !self.is_over() {
            at -= 1;
            let event = self.best.events[at];
            if let (Event::Pass { ns }, Some(Event::Pass { ns: next })) =
                (event, self.best.events.get(at + 1).copied())
            {
                let mut events = self.best.events.clone();
                events[at] = Event::Pass { ns: ns + next };
                events.remove(at + 1);
                self.try_events(events);
            }
            for plainer in plainer(event) {
                let mut events = self.best.events.clone();
                events[at] = plainer;
                if self.try_events(events) {
                    break;
                }
            }
        }
    }
}

/// Plainer forms of an event, the plainest first.
fn plainer(event: Event) -> Vec<Event> {
    match event {
        Event::Pass { ns } => {
            let units = [1_000_000_000, 100_000_000, 10_000_000, 1_000_000, 100_000, 1_000];
            let up = units.iter().map(|unit| ns.next_multiple_of(*unit));
            // Down to the next whole unit too; zero is tried by leaving it out.
            let down = units.iter().map(|unit| ns / unit * unit).filter(|ns| *ns > 0);
            let mut spans: Vec<u64> = up
                .zip(down.map(Some).chain(std::iter::repeat(None)))
                .flat_map(|(up, down)| std::iter::once(up).chain(down))
                .collect();
            spans.retain(|span| trailing_zeros(*span) > trailing_zeros(ns));
            spans.into_iter().map(|ns| Event::Pass { ns }).collect()
        }
        Event::SyncLog { id, count } if count != usize::MAX => {
            vec![Event::SyncLog { id, count: usize::MAX }]
        }
        Event::AnswerRead { id, count } if count != usize::MAX => {
            vec![Event::AnswerRead { id, count: usize::MAX }]
        }
        Event::Propose { id, first, count } if count > 1 => {
            vec![Event::Propose { id, first, count: 1 }]
        }
        Event::Crash { id, keep, keep_promise } if keep > 0 || keep_promise => vec![
            Event::Crash { id, keep: 0, keep_promise: false },
            Event::Crash { id, keep, keep_promise: false },
            Event::Crash { id, keep: 0, keep_promise },
        ],
        _ => Vec::new(),
    }
    .into_iter()
    .filter(|plainer| *plainer != event)
    .collect()
}

/// Zeros at the end of a number as it is written: the more, the plainer.
fn trailing_zeros(mut number: u64) -> u32 {
    let mut zeros = 0;
    while number > 0 && number.is_multiple_of(10) {
        number /= 10;
        zeros += 1;
    }
    zeros
}
