//! How fast rows may go out to other nodes: as fast as allowed, unless clients notice.
//!
//! What clients wait for is the log. So the governor looks at how long writes of the log take on this node: first
//! while hardly anything goes out, which is what they take by themselves, then all the time. If they take much
//! longer than by themselves, less goes out; if not, more does. Whoever has no clients to disturb, or a disk
//! that does both, sends at the full rate after some seconds.
//!
//! Pure: the moments and the readings come from `snapshots.rs`.

use std::time::Duration;

use quorate_replica::LogWaits;
use tokio::time::Instant;

/// At least this part of the full rate goes out, whatever the log does.
const FLOOR: f64 = 1.0 / 16.0;
/// How long hardly anything goes out at first, to see what the log does by itself.
const LISTEN: Duration = Duration::from_secs(1);
/// With fewer writes than this meanwhile there is nobody to disturb.
const LISTEN_WRITES: u64 = 10;
/// After this long without anything sent it listens once more.
const REST: Duration = Duration::from_secs(10);
/// How often the rate changes.
const STEP: Duration = Duration::from_millis(250);
/// Writes may take so many times as long as by themselves,
const LONGER: f64 = 1.5;
/// and this much more: clients do not notice less.
const SLACK: Duration = Duration::from_micros(200);
/// In a step with writes that take longer the rate falls to this part,
const FALLS: f64 = 0.5;
/// in any other it rises by this part of the full rate.
const RISES: f64 = 1.0 / 64.0;

/// Decides how many bytes a second may go out.
#[derive(Clone, Debug)]
pub(crate) struct Governor {
    /// The full rate.
    most: f64,
    /// The rate now.
    rate: f64,
    calm: Calm,
    /// When something was sent last.
    sent_at: Option<Instant>,
    step_began: Option<(Instant, LogWaits)>,
}

/// What writes of the log take by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calm {
    /// It is being found out.
    Listening,
    /// Nobody writes.
    Nobody,
    /// This long.
    Takes(Duration),
}

impl Governor {
    /// At most so many bytes a second.
    pub(crate) fn new(most: u64) -> Governor {
        let most = most.max(1) as f64;
        let (calm, sent_at, step_began) = (Calm::Listening, None, None);
        Governor { most, rate: most * FLOOR, calm, sent_at, step_began }
    }

    /// Bytes a second that may go out now, when the log has this behind it.
    pub(crate) fn rate(&mut self, now: Instant, waits: LogWaits) -> f64 {
        let has_rested = self.sent_at.is_none_or(|at| REST <= now.duration_since(at));
        self.sent_at = Some(now);
        if has_rested {
            (self.rate, self.calm) = (self.most * FLOOR, Calm::Listening);
            self.step_began = None;
        }
        let (began, before) = *self.step_began.get_or_insert((now, waits));
        let lasts = if self.calm == Calm::Listening { LISTEN } else { STEP };
        if lasts <= now.duration_since(began) {
            self.step_began = Some((now, waits));
            self.step(
                waits.writes.saturating_sub(before.writes),
                waits.busy.saturating_sub(before.busy),
            );
        }
        self.rate
    }

    /// A step has ended in which the log made so many writes, which took so long together.
    fn step(&mut self, writes: u64, busy: Duration) {
        let mean = busy.div_f64(writes.max(1) as f64);
        match self.calm {
            Calm::Listening => {
                self.calm = if writes < LISTEN_WRITES { Calm::Nobody } else { Calm::Takes(mean) };
                return;
            }
            Calm::Takes(calm) if calm.mul_f64(LONGER) + SLACK < mean => self.rate *= FALLS,
            Calm::Takes(_) | Calm::Nobody => self.rate += self.most * RISES,
        }
        self.rate = self.rate.clamp(self.most * FLOOR, self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A governor of 1,600 bytes a second, a clock and a log.
    struct Setting {
        governor: Governor,
        now: Instant,
        waits: LogWaits,
    }

    impl Setting {
        fn new() -> Setting {
            let (governor, now) = (Governor::new(1_600), Instant::now());
            let mut setting = Setting { governor, now, waits: LogWaits::default() };
            setting.rate();
            setting
        }

        fn rate(&mut self) -> f64 {
            self.governor.rate(self.now, self.waits)
        }

        /// Sends for a while, during which the log makes 100 writes a second that take so long each.
        fn after(&mut self, seconds: u32, write: Duration) -> f64 {
            for _ in 0..20 * seconds {
                self.now += Duration::from_millis(50);
                self.waits.writes += 5;
                self.waits.busy += 5 * write;
                self.rate();
            }
            self.rate()
        }
    }

    const CALM: Duration = Duration::from_millis(2);
    const BUSY: Duration = Duration::from_millis(9);

    #[test]
    fn the_rate_is_full_while_the_log_is_not_disturbed() {
        // Goal: it begins low, to listen, and is full some seconds later, not at once.
        let mut setting = Setting::new();
        assert_eq!(setting.rate(), 100.0);
        assert_eq!(setting.after(1, CALM), 100.0);
        assert_eq!(setting.after(20, CALM), 1_600.0);
    }

    #[test]
    fn the_rate_falls_while_the_log_is_disturbed_and_rises_again() {
        // Goal: never below the floor, so that a refill ends; and for no longer than needed.
        let mut setting = Setting::new();
        assert_eq!(setting.after(21, CALM), 1_600.0);
        assert!(setting.after(1, BUSY) <= 400.0);
        assert_eq!(setting.after(10, BUSY), 100.0);
        assert_eq!(setting.after(20, CALM), 1_600.0);
    }

    #[test]
    fn a_log_that_nobody_writes_to_holds_nothing_up() {
        let mut setting = Setting::new();
        for _ in 0..500 {
            setting.now += Duration::from_millis(50);
            setting.rate();
        }
        assert_eq!(setting.rate(), 1_600.0);
    }

    #[test]
    fn what_is_calm_is_found_out_again_after_a_rest() {
        // Goal: a log that is slow by itself is no reason to send less for ever.
        let mut setting = Setting::new();
        setting.after(10, CALM);
        setting.now += REST;
        assert_eq!(setting.rate(), 100.0);
        assert_eq!(setting.after(21, BUSY), 1_600.0);
    }
}
