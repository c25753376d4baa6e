//! How fast rows may go out to other nodes: as fast as allowed, unless clients notice.
//!
//! What clients wait for is the log. So the governor looks at how long writes of the log take on this node: first
//! while hardly anything goes out, which is what they take by themselves, then all the time. Not at their mean,
//! which hides what clients complain of, but at the slowest hundredth: if it takes half as long again as
//! by itself, less goes out; if not, more does, up to half of the full rate. Whoever has no clients to disturb, or a disk
//! that does both, is there after half a minute.
//!
//! Pure: the moments and the readings come from `snapshots.rs`.

use std::time::Duration;

use quorate_replica::{LogWaits, WaitStep};
use tokio::time::Instant;

/// At most this part of the full rate goes out by itself: some is left for backups, and for who is in a hurry.
const SHARE: f64 = 1.0 / 2.0;
/// At least this part of the full rate goes out, whatever the log does.
const FLOOR: f64 = 1.0 / 32.0;
/// How long hardly anything goes out at first, to see what the log does by itself.
const LISTEN: Duration = Duration::from_secs(2);
/// With fewer writes than this meanwhile there is nobody to disturb.
const LISTEN_WRITES: u64 = 20;
/// After this long without anything sent it listens once more.
const REST: Duration = Duration::from_secs(10);
/// How often the rate changes.
const STEP: Duration = Duration::from_millis(500);
/// Of the writes of a step, one in so many may take half as long again as the slowest hundredth by itself, and one more.
const ONE_IN: u64 = 100;
/// Clients do not notice less than this.
const NOTICED: Duration = Duration::from_millis(1);
/// In a step with more of these the rate falls to this part,
const FALLS: f64 = 0.5;
/// in any other it rises by this part of the full rate.
const RISES: f64 = 1.0 / 128.0;

/// With each stream that broke off the least rate of the next one is so many times as high.
const HURRIES: u64 = 4;

/// Bytes a second that go out of `full` whatever clients notice, when so many streams of the same rows have broken
/// off. Nodes that come and go take their views along, and a stream that is slower than they come never ends.
pub(crate) fn least(full: u64, broken: u32) -> u64 {
    let times = HURRIES.saturating_pow(broken);
    ((full as f64 * FLOOR) as u64).saturating_mul(times).min(full)
}

/// Decides how many bytes a second may go out.
#[derive(Clone, Debug)]
pub(crate) struct Governor {
    /// The full rate.
    full: f64,
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
    /// Few take so long.
    Below(WaitStep),
}

impl Governor {
    /// Of so many bytes a second.
    pub(crate) fn new(full: u64) -> Governor {
        let full = full.max(1) as f64;
        let (calm, sent_at, step_began) = (Calm::Listening, None, None);
        Governor { full, rate: full * FLOOR, calm, sent_at, step_began }
    }

    /// Bytes a second that may go out now, when the log has this behind it.
    pub(crate) fn rate(&mut self, now: Instant, waits: LogWaits) -> f64 {
        let has_rested = self.sent_at.is_none_or(|at| REST <= now.duration_since(at));
        self.sent_at = Some(now);
        if has_rested {
            (self.rate, self.calm) = (self.full * FLOOR, Calm::Listening);
            self.step_began = None;
        }
        let (began, before) = *self.step_began.get_or_insert((now, waits));
        let lasts = if self.calm == Calm::Listening { LISTEN } else { STEP };
        if lasts <= now.duration_since(began) {
            self.step_began = Some((now, waits));
            self.step(&waits.since(&before));
        }
        self.rate
    }

    /// A step has ended in which the log made these writes.
    fn step(&mut self, waits: &LogWaits) {
        match self.calm {
            Calm::Listening if waits.writes() < LISTEN_WRITES => self.calm = Calm::Nobody,
            Calm::Listening => {
                let slow = waits.slowest_hundredth().half_as_long_again();
                self.calm = Calm::Below(slow.max(WaitStep::of(NOTICED)));
            }
            Calm::Below(slow) if waits.writes() / ONE_IN + 1 < waits.at_least(slow) => {
                self.rate *= FALLS;
            }
            Calm::Below(_) | Calm::Nobody => self.rate += self.full * RISES,
        }
        self.rate = self.rate.clamp(self.full * FLOOR, self.full * SHARE);
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
                self.waits.add(5, write);
                self.rate();
            }
            self.rate()
        }
    }

    const CALM: Duration = Duration::from_millis(2);
    const BUSY: Duration = Duration::from_millis(9);

    #[test]
    fn whoever_lost_streams_is_sent_rows_faster() {
        // Goal: under nodes that die again and again rows come over at last.
        let rates: Vec<u64> = [0, 1, 2, 3, u32::MAX].map(|broken| least(1_600, broken)).into();
        assert_eq!(rates, [50, 200, 800, 1_600, 1_600]);
        assert_eq!(least(u64::MAX, u32::MAX), u64::MAX);
    }

    #[test]
    fn the_rate_is_full_while_the_log_is_not_disturbed() {
        // Goal: it begins low, to listen, and is full some seconds later, not at once.
        let mut setting = Setting::new();
        assert_eq!(setting.rate(), 50.0);
        assert_eq!(setting.after(1, CALM), 50.0);
        assert_eq!(setting.after(40, CALM), 800.0);
    }

    #[test]
    fn the_rate_falls_while_the_log_is_disturbed_and_rises_again() {
        // Goal: never below the floor, so that a refill ends; and for no longer than needed.
        let mut setting = Setting::new();
        assert_eq!(setting.after(40, CALM), 800.0);
        assert!(setting.after(1, BUSY) <= 200.0);
        assert_eq!(setting.after(10, BUSY), 50.0);
        assert_eq!(setting.after(40, CALM), 800.0);
    }

    #[test]
    fn a_few_slow_writes_are_enough_and_single_ones_are_not() {
        // Goal: the slowest hundredth decides, which a mean does not show.
        let mut setting = Setting::new();
        setting.after(40, CALM);
        for _ in 0..10 {
            setting.waits.add(1, BUSY);
            assert_eq!(setting.after(1, CALM), 800.0);
        }
        setting.waits.add(4, BUSY);
        assert!(setting.after(1, CALM) < 800.0);
    }

    #[test]
    fn a_log_that_nobody_writes_to_holds_nothing_up() {
        let mut setting = Setting::new();
        for _ in 0..1_000 {
            setting.now += Duration::from_millis(50);
            setting.rate();
        }
        assert_eq!(setting.rate(), 800.0);
    }

    #[test]
    fn what_is_calm_is_found_out_again_after_a_rest() {
        // Goal: a log that is slow by itself is no reason to send less for ever.
        let mut setting = Setting::new();
        setting.after(10, CALM);
        setting.now += REST;
        assert_eq!(setting.rate(), 50.0);
        assert_eq!(setting.after(40, BUSY), 800.0);
    }
}
