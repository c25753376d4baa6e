//! How well the disk of the log keeps up: the ladder of a disk that fails slowly.
//!
//! | sign | what the node does |
//! |---|---|
//! | a sync takes over 100 ms on average, for 10 s | hands its leaderships to replicas without that sign |
//! | no write finishes for 1 s | renews no lease (the core, trap 21): others may lead after it ends |
//! | no write finishes for 5 s | is the last choice as leader |
//! | no write finishes for 20 s | stops, so that its supervisor, and its peers, notice |
//!
//! The log thread says when it begins and ends, through the gauge, because it cannot say anything while
//! it waits for the disk. The shard looks at the gauge when it keeps house.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_paxos::Health;
use quorate_types::BootTime;

use crate::clock::Clock;
use crate::log_waits::{Counted, LogWaits};

/// Over how long the mean time of a write is taken.
const WINDOW: Duration = Duration::from_secs(10);
/// A mean above this makes a disk slow.
const SLOW: Duration = Duration::from_millis(100);
/// A write that takes longer makes the node unfit to lead.
const UNFIT: Duration = Duration::from_secs(5);
/// A write that takes longer ends the node.
const DEAD: Duration = Duration::from_secs(20);
/// Looks come four times a second; a longer gap means that the whole node stood still, not its disk.
const STOOD_STILL: Duration = Duration::from_secs(2);

/// What the log thread does now and has done. Clones share it.
#[derive(Clone)]
pub(crate) struct DiskGauge {
    clock: Arc<dyn Clock>,
    state: Arc<GaugeState>,
}

#[derive(Debug, Default)]
struct GaugeState {
    /// When the write that runs began, in nanoseconds of the boot clock; 0 if none runs.
    busy_since_ns: AtomicU64,
    /// Writes that ended, and how long they took together.
    writes: AtomicU64,
    busy_ns: AtomicU64,
    /// How long each of them took.
    waits: Counted,
    /// Since when the node has been running without a pause, as the shard found.
    awake_since_ns: AtomicU64,
}

impl DiskGauge {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> DiskGauge {
        DiskGauge { clock, state: Arc::default() }
    }

    /// The log thread turns to the disk.
    pub(crate) fn begin(&self) {
        self.state.busy_since_ns.store(self.clock.now().0.max(1), Ordering::Release);
    }

    /// The disk has answered.
    pub(crate) fn end(&self) {
        let began = self.state.busy_since_ns.swap(0, Ordering::AcqRel);
        // A write that was under way when the node stood still is not charged for that.
        let began = began.max(self.state.awake_since_ns.load(Ordering::Acquire));
        let took = self.clock.now().0.saturating_sub(began);
        self.state.waits.add(Duration::from_nanos(took));
        self.state.busy_ns.fetch_add(took, Ordering::AcqRel);
        self.state.writes.fetch_add(1, Ordering::AcqRel);
    }

    /// How long writes took, the one that runs as long as it has taken by now.
    pub(crate) fn waits(&self) -> LogWaits {
        let mut waits = self.state.waits.read();
        if let Some(began) = self.reading().busy_since {
            waits.add(1, self.clock.now().since(began));
        }
        waits
    }

    /// How long all writes that ended took together.
    pub(crate) fn busy(&self) -> Duration {
        self.reading().busy
    }

    /// The node has stood still until now.
    fn woke(&self, now: BootTime) {
        self.state.awake_since_ns.store(now.0, Ordering::Release);
    }

    fn reading(&self) -> Reading {
        let began = self.state.busy_since_ns.load(Ordering::Acquire);
        Reading {
            busy_since: (began != 0).then_some(BootTime(began)),
            writes: self.state.writes.load(Ordering::Acquire),
            busy: Duration::from_nanos(self.state.busy_ns.load(Ordering::Acquire)),
        }
    }
}

/// The gauge at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reading {
    busy_since: Option<BootTime>,
    writes: u64,
    busy: Duration,
}

/// The disk of the log does not answer: the node stops, rather than stand in the way half alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the disk of the log has not finished a write for {hung_for:?}")]
pub struct DiskHangs {
    /// For how long.
    pub hung_for: Duration,
}

/// What is to be done about the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskVerdict {
    /// Nothing, or less than the others say.
    Lives,
    /// Slow for a whole window: leaderships should go to healthier nodes. Said once a window.
    HandOver,
    /// The node must stop.
    Dead(DiskHangs),
}

/// The judge of a disk. Pure: readings in, verdicts out.
#[derive(Debug)]
pub(crate) struct DiskHealth {
    window_began: BootTime,
    looked_at: BootTime,
    /// Since when the node has been running without a pause.
    awake_since: BootTime,
    at_begin: Reading,
    is_slow: bool,
    is_unfit: bool,
}

impl DiskHealth {
    pub(crate) fn new(now: BootTime) -> DiskHealth {
        DiskHealth {
            window_began: now,
            looked_at: now,
            awake_since: now,
            at_begin: Reading::default(),
            is_slow: false,
            is_unfit: false,
        }
    }

    /// Looks at the gauge.
    pub(crate) fn look(&mut self, now: BootTime, gauge: &DiskGauge) -> DiskVerdict {
        if self.stood_still(now) {
            gauge.woke(now);
        }
        self.judge(now, gauge.reading())
    }

    fn stood_still(&self, now: BootTime) -> bool {
        STOOD_STILL < now.since(self.looked_at)
    }

    fn judge(&mut self, now: BootTime, reading: Reading) -> DiskVerdict {
        if self.stood_still(now) {
            self.awake_since = now;
            // What the disk did before says nothing: a write may have been held up by the pause.
            self.window_began = now;
            self.at_begin = reading;
        }
        self.looked_at = now;
        let hung_since = reading.busy_since.map(|began| began.max(self.awake_since));
        let running = hung_since.map_or(Duration::ZERO, |began| now.since(began));
        self.is_unfit = UNFIT < running;
        if DEAD < running {
            return DiskVerdict::Dead(DiskHangs { hung_for: running });
        }
        if now.since(self.window_began) < WINDOW {
            return DiskVerdict::Lives;
        }
        // A write that runs counts as one that ends now, or a disk that hangs would look idle.
        let writes = reading.writes - self.at_begin.writes + u64::from(!running.is_zero());
        let busy = reading.busy - self.at_begin.busy + running;
        self.is_slow = SLOW * u32::try_from(writes).unwrap_or(u32::MAX) < busy;
        self.window_began = now;
        self.at_begin = reading;
        if self.is_slow { DiskVerdict::HandOver } else { DiskVerdict::Lives }
    }

    /// Faults as the core counts them.
    pub(crate) fn faults(&self) -> Health {
        Health {
            draining: false,
            fatal_faults: u8::from(self.is_unfit),
            serious_faults: u8::from(self.is_slow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows what it was set to.
    #[derive(Default)]
    struct ManualClock(AtomicU64);

    impl ManualClock {
        fn set(&self, now: BootTime) {
            self.0.store(now.0, Ordering::Release);
        }
    }

    impl Clock for ManualClock {
        fn now(&self) -> BootTime {
            BootTime(self.0.load(Ordering::Acquire))
        }
    }

    fn at(millis: u64) -> BootTime {
        BootTime::ZERO + Duration::from_millis(millis)
    }

    /// Looks every 250 ms until `until_ms` and says what the last look said.
    fn watch(disk: &mut DiskHealth, until_ms: u64, reading: Reading) -> DiskVerdict {
        let mut now = disk.looked_at;
        while now < at(until_ms) {
            now = (now + Duration::from_millis(250)).min(at(until_ms));
            let verdict = disk.judge(now, reading);
            if now == at(until_ms) {
                return verdict;
            }
        }
        panic!("the watch goes back to {until_ms} ms");
    }

    fn reading(busy_since_ms: Option<u64>, writes: u64, busy_ms: u64) -> Reading {
        let busy = Duration::from_millis(busy_ms);
        Reading { busy_since: busy_since_ms.map(at), writes, busy }
    }

    /// Goal: a disk is slow by its mean over a window, not by one slow write, and recovers the same way.
    #[test]
    fn slow_is_a_mean_over_a_window() {
        let mut disk = DiskHealth::new(at(0));
        assert_eq!(watch(&mut disk, 9_000, reading(None, 10, 5_000)), DiskVerdict::Lives);
        // One write of 3 s among a thousand quick ones.
        assert_eq!(watch(&mut disk, 10_000, reading(None, 1_000, 5_000)), DiskVerdict::Lives);
        assert_eq!(disk.faults().serious_faults, 0);
        // Then forty writes of 200 ms.
        assert_eq!(watch(&mut disk, 20_000, reading(None, 1_040, 13_000)), DiskVerdict::HandOver);
        assert_eq!(disk.faults().serious_faults, 1);
        assert_eq!(watch(&mut disk, 30_000, reading(None, 2_040, 14_000)), DiskVerdict::Lives);
        assert_eq!(disk.faults().serious_faults, 0);
    }

    /// Goal: a write that hangs first makes the node unfit, then ends it.
    #[test]
    fn a_disk_that_hangs_climbs_the_ladder() {
        let mut disk = DiskHealth::new(at(0));
        let hangs = reading(Some(1_000), 7, 70);
        assert_eq!(watch(&mut disk, 5_900, hangs), DiskVerdict::Lives);
        assert_eq!(disk.faults().fatal_faults, 0);
        assert_eq!(watch(&mut disk, 6_100, hangs), DiskVerdict::Lives);
        assert_eq!(disk.faults().fatal_faults, 1);
        assert_eq!(watch(&mut disk, 10_000, hangs), DiskVerdict::HandOver);
        let hung_for = Duration::from_millis(20_100);
        let dead = DiskVerdict::Dead(DiskHangs { hung_for });
        assert_eq!(watch(&mut disk, 21_100, hangs), dead);
    }

    /// Goal: a node that was stopped or suspended in the middle of a write does not blame its disk.
    #[test]
    fn a_pause_of_the_node_is_no_fault_of_the_disk() {
        let mut disk = DiskHealth::new(at(0));
        let writing = reading(Some(1_000), 7, 70);
        assert_eq!(disk.judge(at(1_250), writing), DiskVerdict::Lives);
        assert_eq!(disk.judge(at(60_000), writing), DiskVerdict::Lives);
        assert_eq!(disk.faults(), Health::default());
    }

    /// Goal: nor does one whose write ended right after the pause, before anybody looked, or after.
    #[test]
    fn a_write_is_not_charged_for_a_pause() {
        let mut disk = DiskHealth::new(at(0));
        assert_eq!(watch(&mut disk, 9_000, reading(None, 18, 180)), DiskVerdict::Lives);
        // One write of 60 s, which was mostly the pause.
        let after = reading(None, 19, 60_180);
        assert_eq!(disk.judge(at(69_000), after), DiskVerdict::Lives);
        assert_eq!(watch(&mut disk, 80_000, after), DiskVerdict::Lives);
        assert_eq!(disk.faults(), Health::default());

        let clock = Arc::new(ManualClock::default());
        let gauge = DiskGauge::new(Arc::clone(&clock) as Arc<dyn Clock>);
        clock.set(at(1_000));
        gauge.begin();
        clock.set(at(61_000));
        let mut disk = DiskHealth::new(at(1_000));
        assert_eq!(disk.look(at(61_000), &gauge), DiskVerdict::Lives);
        clock.set(at(61_005));
        gauge.end();
        assert_eq!(gauge.reading(), reading(None, 1, 5));
    }

    /// Goal: a disk that is written to rarely is not slow for that.
    #[test]
    fn an_idle_disk_is_healthy() {
        let mut disk = DiskHealth::new(at(0));
        for window in 1..5 {
            let idle = reading(None, 20 * window, 20 * window);
            assert_eq!(watch(&mut disk, 10_000 * window, idle), DiskVerdict::Lives);
        }
        assert_eq!(disk.faults(), Health::default());
    }
}
