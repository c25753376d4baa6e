//! What this process takes of its machine, as the system counts it.

use std::fs;
use std::time::Duration;

/// Since the start of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// CPU time of all threads, in user code and in the kernel.
    pub(crate) cpu: Duration,
    /// Bytes it caused to be written to disks.
    pub(crate) written_bytes: u64,
    /// Memory it holds now.
    pub(crate) resident_bytes: u64,
}

/// The usage, where the system says it.
pub(crate) fn usage() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let io = fs::read_to_string("/proc/self/io").ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some(Usage {
        cpu: cpu(&stat, rustix::param::clock_ticks_per_second())?,
        written_bytes: number_after(&io, "write_bytes:")?,
        resident_bytes: number_after(&status, "VmRSS:")? * 1024,
    })
}

/// User and system time of a line of `stat`. The name, second and in brackets, may hold anything.
fn cpu(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // Fields 14 and 15 of the line, counted from 1; the first two are cut off.
    let user: u64 = fields.get(11)?.parse().ok()?;
    let system: u64 = fields.get(12)?.parse().ok()?;
    let ticks = user + system;
    Some(Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64))
}

/// The number in the line that starts so.
fn number_after(text: &str, start: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(start))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a ) (b) S 1 7 7 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 9 0 500 1000 200";
        assert_eq!(cpu(stat, 100), Some(Duration::from_secs(3)));
        assert_eq!(cpu("7 (a) S 1", 100), None);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = usage().expect("Linux says it");
        assert!(0 < usage.resident_bytes);
    }

    #[test]
    fn numbers_are_found_by_their_names() {
        let io = "wchar: 5\nwrite_bytes: 12288\ncancelled_write_bytes: 4096\n";
        assert_eq!(number_after(io, "write_bytes:"), Some(12_288));
        assert_eq!(number_after(io, "nothing:"), None);
    }
}
