//! How much memory and disk the demo takes, all of it: this process, its nodes and their folder.
//! Looked at twice a second; the greatest sums count.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;

use super::process::running_pids;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of a block in a file's metadata.
const BLOCK_BYTES: u64 = 512;

/// Peaks in bytes; 0 where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Peaks {
    /// Resident memory of all processes together.
    pub(crate) memory_bytes: u64,
    /// Disk blocks of the folder.
    pub(crate) disk_bytes: u64,
}

/// Watches until dropped.
#[derive(Debug)]
pub(crate) struct Monitor {
    peaks: Arc<[AtomicU64; 2]>,
    task: JoinHandle<()>,
}

impl Monitor {
    /// Starts to watch the folder and the nodes.
    pub(crate) fn start(folder: PathBuf) -> Monitor {
        let peaks: Arc<[AtomicU64; 2]> = Arc::default();
        let task = tokio::spawn(watch(folder, Arc::clone(&peaks)));
        Monitor { peaks, task }
    }

    /// The peaks so far.
    pub(crate) fn peaks(&self) -> Peaks {
        let [memory, disk] = &*self.peaks;
        Peaks {
            memory_bytes: memory.load(Ordering::Relaxed),
            disk_bytes: disk.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(folder: PathBuf, peaks: Arc<[AtomicU64; 2]>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        let folder = folder.clone();
        let look = move || (memory_bytes(), disk_bytes(&folder));
        let Ok((memory, disk)) = tokio::task::spawn_blocking(look).await else { return };
        peaks[0].fetch_max(memory, Ordering::Relaxed);
        peaks[1].fetch_max(disk, Ordering::Relaxed);
    }
}

fn memory_bytes() -> u64 {
    let nodes = running_pids().into_iter().map(|pid| pid.as_raw_nonzero().to_string());
    let all = nodes.chain(["self".to_owned()]);
    all.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .filter_map(|status| resident_bytes(&status))
        .sum()
}

/// The resident memory in a process's status.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Files that vanish meanwhile count nothing.
fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let of_entry = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * BLOCK_BYTES,
        Err(_) => 0,
    };
    entries.flatten().map(of_entry).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_disk_are_read() {
        let status = "Name:\tquorate\nVmPeak:\t  900000 kB\nVmRSS:\t   12345 kB\nThreads:\t4\n";
        assert_eq!(resident_bytes(status), Some(12_345 * 1024));
        assert_eq!(resident_bytes("Name:\tquorate\n"), None);

        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), vec![1; 100_000]).unwrap();
        assert!(100_000 <= disk_bytes(folder.path()));
        assert_eq!(disk_bytes(&folder.path().join("nothing")), 0);
    }
}
