//! What happened, as one number: equal when a seed is run again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// The list of events so far, hashed. Clones share it.
#[derive(Clone, Debug)]
pub struct Trace {
    started: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    hash: u64,
    events: u64,
    is_shown: bool,
}

impl Trace {
    /// An empty trace that starts now; `is_shown` prints each event to stderr.
    #[must_use]
    pub fn new(is_shown: bool) -> Trace {
        let state = State { hash: 0xcbf2_9ce4_8422_2325, events: 0, is_shown };
        Trace { started: Instant::now(), state: Arc::new(Mutex::new(state)) }
    }

    /// Virtual nanoseconds since the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Adds an event with the time.
    pub fn event(&self, what: &str) {
        let now = self.now();
        let mut state = self.lock();
        if state.is_shown {
            eprintln!("{:>12.6} {what}", now as f64 / 1e9);
        }
        state.add(&now.to_le_bytes());
        state.add(what.as_bytes());
        state.add(b"\n");
        state.events += 1;
    }

    /// The hash of all events.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.lock().hash
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.lock().events
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// FNV-1a: the same with every compiler and on every machine.
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
