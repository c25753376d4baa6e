//! Room on the disk for a run that writes gigabytes: whether there is enough, how much was taken, and that
//! none is left behind.

use std::collections::BTreeMap;
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

/// How large files are.
#[derive(Default)]
pub(crate) struct Sizes(BTreeMap<PathBuf, u64>);

impl Sizes {
    /// Those in these folders, and in the folders in them. What goes meanwhile is none.
    pub(crate) fn of(folders: &[PathBuf]) -> Sizes {
        let mut sizes = Sizes::default();
        folders.iter().for_each(|folder| sizes.add(folder));
        sizes
    }

    fn add(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(entry_is) if entry_is.is_dir() => self.add(&entry.path()),
                Ok(entry_is) => drop(self.0.insert(entry.path(), entry_is.len())),
                Err(_) => {}
            }
        }
    }

    /// Bytes that came: of new files, and at the end of others.
    pub(crate) fn since(&self, before: &Sizes) -> u64 {
        let had = |path| before.0.get(path).copied().unwrap_or(0);
        self.0.iter().map(|(path, has)| has.saturating_sub(had(path))).sum()
    }
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
    fn new_and_longer_files_count() {
        // Goal: files that are rewritten are seen, and those that shrink or go do not hide them.
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: usize| {
            fs::create_dir_all(folder.path().join("store")).unwrap();
            fs::write(folder.path().join("store").join(name), vec![1; bytes]).unwrap();
        };
        let sizes = || Sizes::of(&[folder.path().to_owned(), folder.path().join("none")]);
        let nothing = sizes();
        write("1.sst", 700);
        let one = sizes();
        assert_eq!((one.since(&nothing), nothing.since(&one)), (700, 0));
        write("1.sst", 800);
        write("2.sst", 30);
        assert_eq!(sizes().since(&one), 130);
        write("1.sst", 5);
        assert_eq!(sizes().since(&one), 30);
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
