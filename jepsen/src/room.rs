//! Room on the disk for a run that writes gigabytes: whether there is enough, how much was taken, and that
//! none is left behind.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Failure;
use crate::cluster::Node;
use crate::fill::gigabytes;

/// Of the disk, nodes keep this part back: below it they refuse writes.
const KEPT_BACK: f64 = 0.1;
/// What rows take on a node at most, beside their own bytes: files that are compacted are there twice.
const ROWS_TAKE: f64 = 1.4;
/// What a node takes beside rows: log, promises.
const NODE_TAKES: u64 = 1_200_000_000;
/// How often the room taken is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Bytes of a block of `stat`.
const BLOCK_BYTES: u64 = 512;

/// What three nodes with so many bytes of rows take at most.
pub(crate) fn needed(bytes: u64) -> u64 {
    let rows = (bytes as f64 * ROWS_TAKE) as u64;
    (rows + NODE_TAKES) * Node::ALL.len() as u64
}

/// Says what a run will take, and fails if the disk of the folder does not have it.
pub(crate) fn check(folder: &Path, bytes: u64) -> Result<(), Failure> {
    let disk = rustix::fs::statvfs(folder)?;
    let free = disk.f_bavail * disk.f_frsize;
    let kept_back = (disk.f_blocks as f64 * disk.f_frsize as f64 * KEPT_BACK) as u64;
    let (needed, usable) = (needed(bytes), free.saturating_sub(kept_back));
    let words = format!(
        "takes up to {} GB in {}: three copies, logs and files that are rewritten; {} GB are free, of which \
         nodes keep {} GB back",
        gigabytes(needed),
        folder.display(),
        gigabytes(free),
        gigabytes(kept_back)
    );
    if usable < needed {
        return Err(format!("too little room on the disk: the run {words}").into());
    }
    println!("  {words}");
    Ok(())
}

/// Data folders that go when this is dropped. To be dropped after the processes that use them.
pub(crate) struct Folders(pub(crate) Vec<PathBuf>);

impl Drop for Folders {
    fn drop(&mut self) {
        for folder in &self.0 {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    eprintln!("left behind: {}: {error}", folder.display());
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
}

/// Watches how much room a folder takes, until it is dropped.
pub(crate) struct Peak {
    most: Arc<AtomicU64>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Peak {
    /// Watches a folder.
    pub(crate) fn watch(folder: PathBuf) -> Peak {
        let most = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = channel();
        let noted = Arc::clone(&most);
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                noted.fetch_max(taken(&folder), Ordering::Relaxed);
            }
        });
        Peak { most, stop: Some(stop), thread: Some(thread) }
    }

    /// The most that it has taken so far, in bytes.
    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join().is_err();
        }
    }
}

/// Bytes on the disk of everything in a folder. What goes meanwhile counts as nothing.
fn taken(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let of_entry = |entry: fs::DirEntry| match entry.metadata() {
        Ok(entry_is) if entry_is.is_dir() => taken(&entry.path()),
        Ok(entry_is) => entry_is.blocks() * BLOCK_BYTES,
        Err(_) => 0,
    };
    entries.flatten().map(of_entry).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_cannot_fit_is_refused() {
        // Goal: nodes that refuse writes half way through are no result.
        let folder = tempfile::tempdir().unwrap();
        let refused = check(folder.path(), 1 << 60).unwrap_err().to_string();
        assert!(refused.starts_with("too little room on the disk"), "{refused}");
        assert!(15_000_000_000 < needed(5_000_000_000), "three copies at least");
    }

    #[test]
    fn data_folders_go_with_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("n1");
        fs::create_dir_all(data.join("log")).unwrap();
        fs::write(data.join("log/1"), vec![1; 10_000]).unwrap();
        assert!(10_000 <= taken(folder.path()));
        drop(Folders(vec![data.clone(), folder.path().join("n2")]));
        assert!(!data.exists());
    }
}
