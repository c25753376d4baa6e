//! Settings of the log.

use crate::error::LogError;

/// Smallest segment: tests roll often, but a head and a frame must fit.
const SEGMENT_BYTES_MIN: u64 = 1024;
/// Largest segment: recovery reads one segment into memory.
const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Settings of the log. Those of a running log may change from start to start.
#[derive(Clone, Debug, PartialEq)]
pub struct LogOptions {
    /// Bytes of a segment file, allocated ahead.
    pub segment_bytes: u64,
    /// Most bytes of all segments. At the limit an append fails with `DISK_FULL`, having written
    /// nothing.
    pub bytes_cap: u64,
    /// Part of the disk and of `bytes_cap` that is kept back: below it `has_room` says no, so that
    /// clients are refused while elections and hand-overs can still be logged.
    pub reserve_ratio: f64,
    /// Released segment files kept for reuse; more are removed.
    pub recycled_max: usize,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            segment_bytes: 64 * 1024 * 1024,
            bytes_cap: 16 * 1024 * 1024 * 1024,
            reserve_ratio: 0.1,
            recycled_max: 4,
        }
    }
}

impl LogOptions {
    /// For laptops, the demo and simulations.
    #[must_use]
    pub fn small() -> LogOptions {
        LogOptions {
            segment_bytes: 4 * 1024 * 1024,
            bytes_cap: 256 * 1024 * 1024,
            recycled_max: 2,
            ..LogOptions::default()
        }
    }

    /// Checks that the settings make sense together.
    ///
    /// # Errors
    /// `CONFIG_INVALID` naming the setting.
    pub fn validate(&self) -> Result<(), LogError> {
        let invalid = |reason: String| Err(LogError::InvalidOptions { reason });
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return invalid(format!(
                "segment-bytes is {}, not between {SEGMENT_BYTES_MIN} and {SEGMENT_BYTES_MAX}",
                self.segment_bytes
            ));
        }
        if self.bytes_cap < self.segment_bytes.saturating_mul(2) {
            return invalid(format!("bytes-cap {} is below two segments", self.bytes_cap));
        }
        if !(0.0..0.9).contains(&self.reserve_ratio) {
            return invalid(format!("reserve-ratio is {}, not below 0.9", self.reserve_ratio));
        }
        Ok(())
    }

    /// The part of `bytes` that is kept back.
    pub(crate) fn reserve_of(&self, bytes: u64) -> u64 {
        (bytes as f64 * self.reserve_ratio) as u64
    }
}
