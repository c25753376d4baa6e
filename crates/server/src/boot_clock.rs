//! The boot clock: it counts suspend, so that a lease does not outlive a machine's sleep (trap 19).

use quorate_replica::Clock;
use quorate_types::BootTime;
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> BootTime {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        BootTime(seconds * 1_000_000_000 + nanos)
    }
    fn wall_ms(&self) -> u64 {
        let time = clock_gettime(ClockId::Realtime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds * 1_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
    }
}
