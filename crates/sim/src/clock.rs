//! The boot clock of a simulated node: virtual time at its own rate, from its own start.

use std::sync::Mutex;
use std::sync::PoisonError;

use quorate_replica::Clock;
use quorate_types::BootTime;
use tokio::time::Instant;

const BILLION: i128 = 1_000_000_000;

/// A clock that runs too fast or too slow by some parts in a billion. A power cut starts it anew, a
/// killed process does not.
#[derive(Debug)]
pub struct SimClock {
    boot: Mutex<Boot>,
    rate_error_ppb: i64,
}

#[derive(Clone, Copy, Debug)]
struct Boot {
    at: Instant,
    shows: u64,
}

impl SimClock {
    /// A clock that shows `shows` nanoseconds now.
    #[must_use]
    pub fn new(rate_error_ppb: i64, shows: u64) -> SimClock {
        SimClock { boot: Mutex::new(Boot { at: Instant::now(), shows }), rate_error_ppb }
    }

    /// The machine was switched on: the clock starts again.
    pub fn reboot(&self, shows: u64) {
        let boot = Boot { at: Instant::now(), shows };
        *self.boot.lock().unwrap_or_else(PoisonError::into_inner) = boot;
    }
}

impl Clock for SimClock {
    fn now(&self) -> BootTime {
        let boot = *self.boot.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = boot.at.elapsed().as_nanos() as i128;
        let shown = elapsed + elapsed * i128::from(self.rate_error_ppb) / BILLION;
        BootTime(boot.shows + u64::try_from(shown).unwrap_or(0))
    }
}
