//! The bucket of tokens that repetitions are paid from: one for all calls of a client.
//!
//! `call/attempt.rs` takes a token before a repetition and says when a call succeeded. Who finds the bucket
//! empty waits in line; only the first in line looks at the clock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::policy::RetryBudget;

/// So many calls that succeed put one token back.
const SUCCESSES_PER_TOKEN: u64 = 10;

/// The tokens, counted as the time in which they would come back.
#[derive(Debug)]
struct Bucket {
    /// In which one token comes back.
    interval_ns: u64,
    full_ns: u64,
    credit_ns: u64,
    at: Instant,
}

impl Bucket {
    fn new(budget: RetryBudget, now: Instant) -> Bucket {
        let interval_ns = 1_000_000_000 / u64::from(budget.per_second()).max(1);
        let full_ns = interval_ns * u64::from(budget.burst());
        Bucket { interval_ns, full_ns, credit_ns: full_ns, at: now }
    }

    /// Takes a token, or says how long until there is one.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_nanos();
        self.at = self.at.max(now);
        self.add(u64::try_from(passed).unwrap_or(u64::MAX));
        if self.credit_ns < self.interval_ns {
            return Err(Duration::from_nanos(self.interval_ns - self.credit_ns));
        }
        self.credit_ns -= self.interval_ns;
        Ok(())
    }

    /// Puts back what a call that succeeded is worth. True if the bucket is full then.
    fn earn(&mut self) -> bool {
        self.add(self.interval_ns.div_ceil(SUCCESSES_PER_TOKEN));
        self.credit_ns == self.full_ns
    }

    fn add(&mut self, credit_ns: u64) {
        self.credit_ns = self.credit_ns.saturating_add(credit_ns).min(self.full_ns);
    }
}

/// The budget of a client.
#[derive(Debug)]
pub(crate) struct Budget {
    /// `None`: everything may be repeated.
    bucket: Option<Mutex<Bucket>>,
    /// A token was taken and not earned back: until then calls that succeed have nothing to do here.
    is_short: AtomicBool,
    /// Held by the first in line.
    turn: tokio::sync::Mutex<()>,
    earned: Notify,
}

impl Budget {
    pub(crate) fn new(budget: Option<RetryBudget>) -> Budget {
        let bucket = budget.map(|it| Mutex::new(Bucket::new(it, Instant::now())));
        let (is_short, turn) = (AtomicBool::new(false), tokio::sync::Mutex::new(()));
        Budget { bucket, is_short, turn, earned: Notify::new() }
    }

    /// Takes a token for one repetition; waits in line while there is none.
    pub(crate) async fn take(&self) {
        let Some(bucket) = &self.bucket else { return };
        let _turn = self.turn.lock().await;
        loop {
            let taken = lock(bucket).take(Instant::now());
            self.is_short.store(true, Ordering::Relaxed);
            let Err(wait) = taken else { return };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.earned.notified() => {}
            }
        }
    }

    /// A call succeeded.
    pub(crate) fn succeeded(&self) {
        if !self.is_short.load(Ordering::Relaxed) {
            return;
        }
        if let Some(bucket) = &self.bucket {
            let is_full = lock(bucket).earn();
            if is_full {
                self.is_short.store(false, Ordering::Relaxed);
            }
            self.earned.notify_one();
        }
    }
}

fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_what_time_puts_in() {
        // Goal: over any time no more than the burst and the rate, and never more than the burst at once.
        let start = Instant::now();
        let mut bucket = Bucket::new(RetryBudget::new(3, 10), start);
        let mut taken = |ms: u64| bucket.take(start + Duration::from_millis(ms));
        assert_eq!([taken(0), taken(0), taken(0)], [Ok(()); 3]);
        assert_eq!(taken(0), Err(Duration::from_millis(100)));
        assert_eq!(taken(60), Err(Duration::from_millis(40)));
        assert_eq!((taken(100), taken(100)), (Ok(()), Err(Duration::from_millis(100))));
        let after_long: Vec<bool> = (0..5).map(|_| taken(1_000_000).is_ok()).collect();
        assert_eq!(after_long, [true, true, true, false, false]);
        assert!(taken(999_999).is_err(), "a clock that another thread read earlier adds nothing");
    }

    #[test]
    fn ten_successes_are_worth_one_repetition() {
        // Goal: a cluster that answers some calls is asked again a tenth of that more, not twice as often.
        let start = Instant::now();
        let mut bucket = Bucket::new(RetryBudget::new(2, 1), start);
        assert_eq!([bucket.take(start), bucket.take(start)], [Ok(()); 2]);
        for _ in 0..9 {
            assert!(!bucket.earn());
        }
        assert!(bucket.take(start).is_err());
        assert!(!bucket.earn());
        assert_eq!(bucket.take(start), Ok(()));
        let full: Vec<bool> = (0..21).map(|_| bucket.earn()).collect();
        assert_eq!(full.iter().position(|full| *full), Some(19), "it is full again");
    }

    #[tokio::test]
    async fn those_who_wait_are_let_through_by_calls_that_succeed() {
        // Goal: when the cluster answers again, nobody waits for the clock.
        let budget = Budget::new(Some(RetryBudget::new(1, 1)));
        budget.take().await;
        let mut waiting = Box::pin(budget.take());
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        for _ in 0..SUCCESSES_PER_TOKEN {
            assert!(futures::poll!(waiting.as_mut()).is_pending());
            budget.succeeded();
        }
        assert!(futures::poll!(waiting.as_mut()).is_ready());
    }
}
