//! How long writes of the log took since the start of the node, as counts by time. The counts only grow: whoever
//! wants to know of a span of time takes those of its end without those of its beginning.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Everything shorter is in the first step.
const SHORTEST: Duration = Duration::from_micros(32);
/// So many steps double the time.
const STEPS_A_DOUBLING: u32 = 4;
/// The last step has everything from two seconds on.
const STEPS: usize = 65;

/// How many writes of the log took how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogWaits([u64; STEPS]);

/// A step of time: every step is longer than the one before by a fifth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaitStep(usize);

impl WaitStep {
    /// The step of writes that take so long.
    #[must_use]
    pub fn of(took: Duration) -> WaitStep {
        let doublings = (took.max(SHORTEST).as_secs_f64() / SHORTEST.as_secs_f64()).log2();
        WaitStep(((doublings * f64::from(STEPS_A_DOUBLING)) as usize).min(STEPS - 1))
    }

    /// The step of writes that take half as long again.
    #[must_use]
    pub fn half_as_long_again(self) -> WaitStep {
        WaitStep(self.0 + STEPS_A_DOUBLING as usize / 2) // By the root of two, as near as steps come.
    }
}

impl Default for LogWaits {
    fn default() -> LogWaits {
        LogWaits([0; STEPS])
    }
}

impl LogWaits {
    /// Counts writes that took so long.
    pub fn add(&mut self, writes: u64, took: Duration) {
        self.0[WaitStep::of(took).0] += writes;
    }

    /// How many.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those that were not counted in `before`, which is older.
    #[must_use]
    pub fn since(&self, before: &LogWaits) -> LogWaits {
        LogWaits(std::array::from_fn(|step| self.0[step].saturating_sub(before.0[step])))
    }

    /// How many took as long as this step, or longer.
    #[must_use]
    pub fn at_least(&self, step: WaitStep) -> u64 {
        self.0.iter().skip(step.0).sum()
    }

    /// The step in which the slowest hundredth begins; the first if there are none.
    #[must_use]
    pub fn slowest_hundredth(&self) -> WaitStep {
        let (wanted, mut slower) = (self.writes().div_ceil(100).max(1), 0);
        let reaches = |step: &usize| {
            slower += self.0[*step];
            wanted <= slower
        };
        WaitStep((0..STEPS).rev().find(reaches).unwrap_or(0))
    }
}

/// The counts as the log thread keeps them, and others read them.
#[derive(Debug)]
pub(crate) struct Counted([AtomicU64; STEPS]);

impl Default for Counted {
    fn default() -> Counted {
        Counted(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counted {
    pub(crate) fn add(&self, took: Duration) {
        self.0[WaitStep::of(took).0].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> LogWaits {
        LogWaits(std::array::from_fn(|step| self.0[step].load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_step_and_half_as_much_again_another() {
        // Goal: no time is out of range, and a step is as fine as promised.
        assert_eq!(WaitStep::of(Duration::ZERO), WaitStep(0));
        assert_eq!(WaitStep::of(Duration::MAX), WaitStep(STEPS - 1));
        for us in [40, 500, 1_000, 20_000, 900_000] {
            let step = |us| WaitStep::of(Duration::from_micros(us));
            let later = step(us).half_as_long_again();
            assert!(step(us + us / 4) <= later && later <= step(us + us / 2), "{us}");
            assert!(step(us) < step(us + us / 4), "{us}");
        }
    }

    #[test]
    fn the_slowest_hundredth_is_found() {
        // Goal: one in a hundred decides, neither the median nor one in a thousand.
        let mut waits = LogWaits::default();
        assert_eq!(waits.slowest_hundredth(), WaitStep(0));
        waits.add(980, Duration::from_millis(1));
        let before = waits;
        waits.add(19, Duration::from_millis(5));
        waits.add(1, Duration::from_secs(1));
        assert_eq!(waits.writes(), 1_000);
        assert_eq!(waits.slowest_hundredth(), WaitStep::of(Duration::from_millis(5)));
        assert_eq!(waits.at_least(WaitStep::of(Duration::from_millis(4))), 20);
        assert_eq!(waits.at_least(WaitStep::of(Duration::MAX).half_as_long_again()), 0);
        let later = waits.since(&before);
        assert_eq!((later.writes(), later.at_least(WaitStep(0))), (20, 20));
    }

    #[test]
    fn counts_are_read_as_they_were_added() {
        let counted = Counted::default();
        counted.add(Duration::from_millis(3));
        counted.add(Duration::from_secs(60));
        let mut waits = LogWaits::default();
        waits.add(1, Duration::from_millis(3));
        waits.add(1, Duration::from_secs(60));
        assert_eq!(counted.read(), waits);
    }
}
