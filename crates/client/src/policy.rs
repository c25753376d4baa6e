//! How often a call is tried, how long it pauses in between, and how much all calls together may repeat.
//!
//! Public through [`Builder::retry`](crate::Builder::retry). What may be repeated at all is not decided
//! here and cannot be set: `retry` knows what sending a request twice does.

use std::time::Duration;

/// When the client gives up repeating.
///
/// The default repeats until the deadline of the call, with pauses that grow from 10 ms to 250 ms, within
/// the default [`RetryBudget`].
///
/// | what sending it twice does | calls | repeated after | given up with |
/// |---|---|---|---|
/// | nothing: a read | `get`, `get_many`, `scan`, `account`, cuts, `members` | every loss, every refusal that may pass | `NotApplied` |
/// | nothing more: a write under an id | `put`, `delete`, `compare_and_set`, `transaction`, accounts, transfers | the same, under the same id | `NotApplied` if every attempt was refused or never sent, else `Unknown` |
/// | another effect | `transfer_leader`, `change_members` | only what is known not to have happened | the first lost attempt ends it: `Unknown` |
///
/// Not counted, and not paused for: going to the leader that a node names (twice in a row), fetching a newer
/// topology (once a call), opening a new session in place of one that has expired (three times).
///
/// ```
/// use std::time::Duration;
/// use quorate_client::{Client, RetryBudget, RetryPolicy};
///
/// let retry = RetryPolicy::default()
///     .attempts(5)
///     .pauses(Duration::from_millis(5), Duration::from_millis(100))
///     .budget(RetryBudget::new(50, 20));
/// let builder = Client::builder("h1:6440,h2:6440").retry(retry);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    attempts_max: Option<u32>,
    pause_first: Duration,
    pause_max: Duration,
    budget: Option<RetryBudget>,
    seed: Option<u64>,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            attempts_max: None,
            pause_first: Duration::from_millis(10),
            pause_max: Duration::from_millis(250),
            budget: Some(RetryBudget::default()),
            seed: None,
        }
    }
}

impl RetryPolicy {
    /// Never repeats: the first attempt that is not answered, or refused, ends the call.
    #[must_use]
    pub fn never() -> RetryPolicy {
        RetryPolicy::default().attempts(1)
    }

    /// Most attempts of one request, at least 1. Without it the deadline of the call is the only limit.
    #[must_use]
    pub fn attempts(self, most: u32) -> RetryPolicy {
        RetryPolicy { attempts_max: Some(most), ..self }
    }

    /// The pause before the second attempt is drawn between 0 and `first`; the upper end doubles each time,
    /// up to `longest`. Where a server names a time, that counts instead.
    #[must_use]
    pub fn pauses(self, first: Duration, longest: Duration) -> RetryPolicy {
        RetryPolicy { pause_first: first, pause_max: longest, ..self }
    }

    /// What all calls of the client together may repeat.
    #[must_use]
    pub fn budget(self, budget: RetryBudget) -> RetryPolicy {
        RetryPolicy { budget: Some(budget), ..self }
    }

    /// Repeats without a budget. For tests, and for programs with one call at a time.
    #[must_use]
    pub fn without_budget(self) -> RetryPolicy {
        RetryPolicy { budget: None, ..self }
    }

    /// Draws pauses from this seed, so that a test sees the same ones again.
    #[must_use]
    pub fn seed(self, seed: u64) -> RetryPolicy {
        RetryPolicy { seed: Some(seed), ..self }
    }

    pub(crate) fn attempts_max(&self) -> Option<u32> {
        self.attempts_max
    }

    pub(crate) fn seed_of_pauses(&self) -> Option<u64> {
        self.seed
    }

    pub(crate) fn budget_of_all(&self) -> Option<RetryBudget> {
        self.budget
    }

    /// The longest pause after this many others.
    pub(crate) fn pause_after(&self, pauses: u32) -> Duration {
        self.pause_first.saturating_mul(1 << pauses.min(16)).min(self.pause_max)
    }

    /// What is wrong with it: the name of the setting, and why.
    pub(crate) fn mistake(&self) -> Option<(&'static str, String)> {
        if self.attempts_max == Some(0) {
            return Some(("retry.attempts", "a request is tried at least once".to_owned()));
        }
        if self.pause_first.is_zero() || self.pause_max < self.pause_first {
            let (first, longest) = (self.pause_first, self.pause_max);
            let message = format!("pauses grow from {first:?} to {longest:?}");
            return Some(("retry.pauses", message));
        }
        match self.budget {
            Some(RetryBudget { burst, per_second }) if burst == 0 || per_second == 0 => {
                let message = "a budget of 0 lets nothing be repeated; use `RetryPolicy::never`";
                Some(("retry.budget", message.to_owned()))
            }
            Some(_) | None => None,
        }
    }
}

/// A bucket of tokens, one for each repetition: what keeps a client from hammering a cluster that is sick.
///
/// It is full at first. A repetition takes a token, time puts some back, and every tenth call that succeeds
/// puts one back. A call that finds it empty waits for its turn, and until its deadline at most: it ends then
/// with the last answer of a server, in [`Phase::Budget`](crate::Phase::Budget).
///
/// So whatever the cluster does, a client sends it at most one request for each call, a tenth of the calls
/// that succeed, `burst` once, and `per_second`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    burst: u32,
    per_second: u32,
}

impl Default for RetryBudget {
    /// 1,000 at once and 500 a second: several hundred callers get through a change of leader without
    /// noticing it.
    fn default() -> RetryBudget {
        RetryBudget::new(1000, 500)
    }
}

impl RetryBudget {
    /// A bucket of `burst` tokens, into which time puts `per_second`. Both at least 1.
    #[must_use]
    pub const fn new(burst: u32, per_second: u32) -> RetryBudget {
        RetryBudget { burst, per_second }
    }

    /// The most that may be repeated at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// What may be repeated in the long run.
    #[must_use]
    pub fn per_second(&self) -> u32 {
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        // Goal: no policy makes a loop without a pause, or a client that cannot even try.
        let policy = RetryPolicy::default();
        let ms = Duration::from_millis;
        assert_eq!(policy.mistake(), None);
        assert_eq!(RetryPolicy::never().mistake(), None);
        let wrong = [
            (policy.attempts(0), "retry.attempts"),
            (policy.pauses(ms(0), ms(5)), "retry.pauses"),
            (policy.pauses(ms(6), ms(5)), "retry.pauses"),
            (policy.budget(RetryBudget::new(0, 1)), "retry.budget"),
            (policy.budget(RetryBudget::new(1, 0)), "retry.budget"),
        ];
        for (policy, setting) in wrong {
            assert_eq!(policy.mistake().map(|(name, _)| name), Some(setting));
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        // Goal: whatever the settings, pauses neither overflow nor grow without end.
        let policy = RetryPolicy::default();
        let pauses: Vec<u128> = (0..7).map(|it| policy.pause_after(it).as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 250, 250]);
        let endless = policy.pauses(Duration::MAX, Duration::MAX);
        assert_eq!(endless.pause_after(u32::MAX), Duration::MAX);
    }
}
