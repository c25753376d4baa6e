//! Is a history of one register linearizable? Wing and Gong's search with Lowe's memory of states.
//!
//! Called with the operations of one key. An operation whose outcome is unknown may take effect at any
//! time after it was asked, or never. A refused compare-and-set is a read of "something else".
//!
//! Unknown operations are what makes the search explode, so one is tried only where the state it leaves
//! lets another operation take effect that looks at the state. That loses nothing: an unknown operation
//! directly before a write, or at the end, can be left out. An operation that only looks, and may come next with
//! what it saw, does come next, and nothing else is tried there: in any order that goes on from here it can be moved
//! to the front.

use std::collections::BTreeSet;

use crate::history::{Action, Answer, Operation, Outcome};

/// What an operation does to a register and says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It held this.
    Read(Option<u64>),
    /// It holds this now.
    Write(Option<u64>),
    /// It held the first and holds the second now.
    Cas(Option<u64>, Option<u64>),
    /// It held anything but this.
    Differs(Option<u64>),
}

impl Kind {
    /// True if it leaves the state as it is.
    fn only_looks(self) -> bool {
        matches!(self, Kind::Read(_) | Kind::Differs(_))
    }

    /// The state after it, if it may take effect in `state`.
    fn apply(self, state: Option<u64>) -> Option<Option<u64>> {
        match self {
            Kind::Read(value) => (state == value).then_some(state),
            Kind::Write(value) => Some(value),
            Kind::Cas(expected, new) => (state == expected).then_some(new),
            Kind::Differs(value) => (state != value).then_some(state),
        }
    }
}

/// An operation on a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is.
    pub kind: Kind,
    /// When it was asked.
    pub invoked: u64,
    /// When its outcome came; `None` if it is unknown.
    pub returned: Option<u64>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none. The number of the event (in the order given) that no order could get past.
    Violation {
        /// The event.
        stuck: usize,
        /// How many events fit before it at best.
        fitted: usize,
    },
    /// Too many orders to look at.
    Undecided,
}

/// The events of one register that matter: reads without an answer and writes that surely had no
/// effect do not.
pub fn events<'a>(operations: impl IntoIterator<Item = &'a Operation>) -> Vec<Event> {
    operations.into_iter().filter_map(event).collect()
}

fn event(operation: &Operation) -> Option<Event> {
    let (kind, is_known) = match (&operation.action, &operation.outcome) {
        (Action::Read, Outcome::Applied(Answer::Value(value))) => (Kind::Read(*value), true),
        (Action::Write(value), Outcome::Applied(_)) => (Kind::Write(*value), true),
        (Action::Write(value), Outcome::Unknown) => (Kind::Write(*value), false),
        (Action::Cas { expected, new }, Outcome::Applied(_)) => (Kind::Cas(*expected, *new), true),
        (Action::Cas { expected, new }, Outcome::Unknown) => (Kind::Cas(*expected, *new), false),
        (Action::Cas { expected, .. }, Outcome::NotApplied { is_refusal: true, .. }) => {
            (Kind::Differs(*expected), true)
        }
        (Action::Read | Action::Write(_) | Action::Cas { .. }, _)
        | (Action::Append(_) | Action::Count, _) => return None,
    };
    let returned = is_known.then_some(operation.returned);
    Some(Event { kind, invoked: operation.seen_from(), returned })
}

/// Searches an order. The register starts without a value. Gives up after `steps_max` steps.
#[must_use]
pub fn check(events: &[Event], steps_max: u64) -> Verdict {
    Search::new(events).run(steps_max)
}

/// An operation that was put into the order, and how to take it out again.
struct Frame {
    event: usize,
    state_before: Option<u64>,
    /// Where to go on looking: in the list of known events, or among the unknown ones.
    next: Candidate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    Known(usize),
    Unknown(usize),
}

struct Search<'a> {
    events: &'a [Event],
    /// Known events by invocation.
    known: Vec<usize>,
    /// Unknown events by invocation.
    unknown: Vec<usize>,
    /// Everything before this position of `known` is placed.
    first_open: usize,
    placed: Vec<u64>,
    placed_known: usize,
    state: Option<u64>,
    seen: BTreeSet<(Vec<u64>, Option<u64>)>,
    stack: Vec<Frame>,
    /// The best that was reached: events placed, and who was waiting longest then.
    best: (usize, usize),
}

impl<'a> Search<'a> {
    fn new(events: &'a [Event]) -> Search<'a> {
        let mut order: Vec<usize> = (0..events.len()).collect();
        order.sort_by_key(|event| events[*event].invoked);
        let (known, unknown) =
            order.into_iter().partition(|event| events[*event].returned.is_some());
        Search {
            events,
            known,
            unknown,
            first_open: 0,
            placed: vec![0; events.len().div_ceil(64)],
            placed_known: 0,
            state: None,
            seen: BTreeSet::new(),
            stack: Vec::new(),
            best: (0, 0),
        }
    }

    fn run(mut self, steps_max: u64) -> Verdict {
        let mut from = Candidate::Known(0);
        for _ in 0..steps_max {
            if self.placed_known == self.known.len() {
                return Verdict::Linearizable;
            }
            match self.find(from) {
                Some((event, state, next)) => {
                    self.place(event, state, next);
                    from = Candidate::Known(self.first_open);
                }
                None => match self.take_back() {
                    Some(next) => from = next,
                    None => return Verdict::Violation { stuck: self.best.1, fitted: self.best.0 },
                },
            }
        }
        Verdict::Undecided
    }

    fn is_placed(&self, event: usize) -> bool {
        self.placed[event / 64] >> (event % 64) & 1 == 1
    }

    fn flip(&mut self, event: usize) {
        self.placed[event / 64] ^= 1 << (event % 64);
    }

    /// Nothing asked later than this may come next: some operation had its outcome by then.
    fn horizon(&self) -> u64 {
        let mut horizon = u64::MAX;
        for event in &self.known[self.first_open..] {
            let event = *event;
            if horizon < self.events[event].invoked {
                break;
            }
            if !self.is_placed(event) {
                horizon = horizon.min(self.events[event].returned.unwrap_or(u64::MAX));
            }
        }
        horizon
    }

    /// The next event that may take effect now and leads to a state not seen before.
    fn find(&mut self, from: Candidate) -> Option<(usize, Option<u64>, Candidate)> {
        let horizon = self.horizon();
        let mut unknown_from = 0;
        match from {
            Candidate::Known(position) => {
                if let Some(event) = self.looks_now(horizon) {
                    let no_other = Candidate::Unknown(self.unknown.len());
                    return self.try_place(event).map(|state| (event, state, no_other));
                }
                for position in position..self.known.len() {
                    let event = self.known[position];
                    if horizon < self.events[event].invoked {
                        break;
                    }
                    if let Some(state) = self.try_place(event) {
                        return Some((event, state, Candidate::Known(position + 1)));
                    }
                }
            }
            Candidate::Unknown(position) => unknown_from = position,
        }
        for position in unknown_from..self.unknown.len() {
            let event = self.unknown[position];
            if horizon < self.events[event].invoked {
                break;
            }
            let leads_on = !self.is_placed(event)
                && (self.events[event].kind.apply(self.state))
                    .is_some_and(|state| self.is_awaited(event, state, horizon));
            if leads_on && let Some(state) = self.try_place(event) {
                return Some((event, state, Candidate::Unknown(position + 1)));
            }
        }
        None
    }

    /// An event that only looks, and may take effect now.
    fn looks_now(&self, horizon: u64) -> Option<usize> {
        let open = self.known[self.first_open..].iter().copied();
        let mut open = open.take_while(|event| self.events[*event].invoked <= horizon);
        open.find(|event| {
            let kind = self.events[*event].kind;
            !self.is_placed(*event) && kind.only_looks() && kind.apply(self.state).is_some()
        })
    }

    /// True if some other event that looks at the state could come right after `event` left `state`.
    fn is_awaited(&self, event: usize, state: Option<u64>, horizon: u64) -> bool {
        let looks = |other: usize| {
            let Event { kind, invoked, .. } = self.events[other];
            other != event
                && invoked <= horizon
                && !self.is_placed(other)
                && !matches!(kind, Kind::Write(_))
                && kind.apply(state).is_some()
        };
        let open = self.known[self.first_open..].iter();
        let known = open.take_while(|other| self.events[**other].invoked <= horizon);
        known.chain(&self.unknown).any(|other| looks(*other))
    }

    /// The state after `event`, if it may come next and that is news.
    fn try_place(&mut self, event: usize) -> Option<Option<u64>> {
        if self.is_placed(event) {
            return None;
        }
        let state = self.events[event].kind.apply(self.state)?;
        self.flip(event);
        let is_new = self.seen.insert((self.placed.clone(), state));
        self.flip(event);
        is_new.then_some(state)
    }

    fn place(&mut self, event: usize, state: Option<u64>, next: Candidate) {
        self.stack.push(Frame { event, state_before: self.state, next });
        self.flip(event);
        self.state = state;
        self.placed_known += usize::from(self.events[event].returned.is_some());
        while self.known.get(self.first_open).is_some_and(|first| self.is_placed(*first)) {
            self.first_open += 1;
        }
        if self.best.0 < self.placed_known {
            let open = self.known.iter().filter(|open| !self.is_placed(**open));
            let stuck = open.min_by_key(|open| self.events[**open].returned);
            self.best = (self.placed_known, stuck.copied().unwrap_or(0));
        }
    }

    fn take_back(&mut self) -> Option<Candidate> {
        let Frame { event, state_before, next } = self.stack.pop()?;
        self.flip(event);
        self.state = state_before;
        self.placed_known -= usize::from(self.events[event].returned.is_some());
        if self.events[event].returned.is_some() {
            let position = self.known.iter().position(|known| *known == event);
            self.first_open = self.first_open.min(position.unwrap_or(0));
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const STEPS: u64 = 1_000_000;

    fn is_linearizable(events: &[Event]) -> bool {
        match check(events, STEPS) {
            Verdict::Linearizable => true,
            Verdict::Violation { .. } => false,
            Verdict::Undecided => panic!("undecided"),
        }
    }

    fn done(kind: Kind, invoked: u64, returned: u64) -> Event {
        Event { kind, invoked, returned: Some(returned) }
    }

    fn open(kind: Kind, invoked: u64) -> Event {
        Event { kind, invoked, returned: None }
    }

    /// Tries every order of every choice of the unknown events.
    fn brute_force(events: &[Event], placed: u32, state: Option<u64>) -> bool {
        let is_open = |i: usize| placed >> i & 1 == 0;
        let rest = |i: &usize| is_open(*i) && events[*i].returned.is_some();
        let horizon = (0..events.len()).filter(rest).filter_map(|i| events[i].returned).min();
        let Some(horizon) = horizon else {
            return true;
        };
        (0..events.len()).filter(|i| is_open(*i) && events[*i].invoked <= horizon).any(|i| {
            let next = events[i].kind.apply(state);
            next.is_some_and(|next| brute_force(events, placed | 1 << i, next))
        })
    }

    /// Goal: the search and brute force agree on every small history.
    #[test]
    fn agrees_with_brute_force_on_random_histories() {
        let mut rng = SmallRng::seed_from_u64(1);
        let (mut good, mut bad) = (0, 0);
        for _ in 0..60_000 {
            let values = 3;
            let value = |rng: &mut SmallRng| match rng.random_range(0..=values) {
                0 => None,
                some => Some(some),
            };
            let events: Vec<Event> = (0..rng.random_range(1..=7))
                .map(|_| {
                    let kind = match rng.random_range(0..5) {
                        0 | 1 => Kind::Read(value(&mut rng)),
                        2 => Kind::Write(value(&mut rng)),
                        3 => Kind::Cas(value(&mut rng), value(&mut rng)),
                        _ => Kind::Differs(value(&mut rng)),
                    };
                    let invoked = rng.random_range(0..20);
                    let is_update = matches!(kind, Kind::Write(_) | Kind::Cas(..));
                    let is_open = is_update && rng.random_bool(0.4);
                    let returned = (!is_open).then(|| invoked + rng.random_range(0..8));
                    Event { kind, invoked, returned }
                })
                .collect();
            let want = brute_force(&events, 0, None);
            assert_eq!(is_linearizable(&events), want, "{events:#?}");
            *(if want { &mut good } else { &mut bad }) += 1;
        }
        assert!(5_000 < good && 5_000 < bad, "{good} good, {bad} bad");
    }

    /// Goal: the verdicts people know by heart.
    #[test]
    fn golden_histories() {
        use Kind::{Cas, Differs, Read, Write};
        let (one, two) = (Some(1), Some(2));
        let stale_read = [done(Write(one), 0, 1), done(Write(two), 2, 3), done(Read(one), 4, 5)];
        let lost_write = [done(Write(one), 0, 1), done(Read(None), 2, 3)];
        let read_back_in_time =
            [done(Write(one), 0, 10), done(Read(one), 1, 2), done(Read(None), 3, 4)];
        let two_winners =
            [done(Write(one), 0, 1), done(Cas(one, two), 2, 5), done(Cas(one, Some(3)), 2, 5)];
        let wrong_refusal = [done(Write(one), 0, 1), done(Differs(one), 2, 3)];
        let phantom = [done(Read(two), 0, 1)];
        for bad in [
            &stale_read[..],
            &lost_write,
            &read_back_in_time,
            &two_winners,
            &wrong_refusal,
            &phantom,
        ] {
            assert!(!is_linearizable(bad), "{bad:?}");
        }
        let concurrent = [done(Write(one), 0, 9), done(Read(one), 1, 2), done(Read(one), 3, 4)];
        let late = [
            open(Write(two), 0),
            done(Write(one), 1, 2),
            done(Read(one), 3, 4),
            done(Read(two), 5, 6),
        ];
        let never = [open(Write(two), 0), done(Read(None), 1, 2), done(Read(None), 3, 4)];
        let chained = [open(Write(one), 0), open(Cas(one, two), 0), done(Read(two), 5, 6)];
        let refused = [open(Write(two), 0), done(Differs(None), 1, 2)];
        for good in [&concurrent[..], &late, &never, &chained, &refused] {
            assert!(is_linearizable(good), "{good:?}");
        }
    }

    /// Goal: many unknown writes do not make a good history undecidable.
    #[test]
    fn unknown_writes_cost_little() {
        let mut events = Vec::new();
        for i in 0..60 {
            events.push(open(Kind::Write(Some(1000 + i)), i));
        }
        for i in 0..400 {
            let at = 100 + 10 * i;
            events.push(done(Kind::Write(Some(i)), at, at + 12));
            events.push(done(Kind::Read(Some(i)), at + 13, at + 15));
        }
        // One of them takes effect very late.
        events.push(done(Kind::Read(Some(1030)), 9_000, 9_001));
        events.retain(|event| event.kind != Kind::Read(Some(399)));
        assert_eq!(check(&events, 100_000), Verdict::Linearizable);
    }

    /// Goal: many that look at the same time are not tried in every order before a history is called bad.
    #[test]
    fn those_that_only_look_cost_little() {
        let mut events = Vec::new();
        for i in 0..20 {
            let at = 100 * i;
            events.push(done(Kind::Write(Some(i)), at, at + 90));
            let looks = [Kind::Read(Some(i)), Kind::Differs(Some(1_000))];
            events.extend((0..16).map(|j| done(looks[j % 2], at + 5, at + 80)));
        }
        assert_eq!(check(&events, 10_000), Verdict::Linearizable);
        events.push(done(Kind::Read(Some(7)), 9_000, 9_001));
        let stuck = events.len() - 1;
        assert_eq!(check(&events, 10_000), Verdict::Violation { stuck, fitted: stuck });
    }

    /// Goal: a report names an event that people can look at.
    #[test]
    fn a_violation_names_where_the_search_got_stuck() {
        let events = [
            done(Kind::Write(Some(1)), 0, 1),
            done(Kind::Write(Some(2)), 2, 3),
            done(Kind::Read(Some(1)), 4, 5),
        ];
        assert_eq!(check(&events, STEPS), Verdict::Violation { stuck: 2, fitted: 2 });
    }
}
