//! What the machine does by itself, to compare with: the sync of a small write, a round trip.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

/// Syncs measured; each may take milliseconds.
const SYNCS: usize = 200;
/// Bytes of each write.
const WRITE_BYTES: usize = 4096;
/// Bytes of the file, written beforehand as the segments of the log are.
const FILE_BYTES: usize = 1024 * 1024;
/// Round trips measured.
const ROUND_TRIPS: usize = 20;

/// The median time of a 4 KiB overwrite with `fdatasync` in a folder. `quorate cluster init` asks too.
///
/// # Errors
/// If the folder cannot be written to.
pub(crate) fn sync_latency(folder: &Path) -> io::Result<Duration> {
    let path = folder.join("sync-latency");
    let measured = measure(&path);
    std::fs::remove_file(&path)?;
    measured
}

fn measure(path: &Path) -> io::Result<Duration> {
    let mut file = File::create(path)?;
    file.write_all(&vec![1; FILE_BYTES])?;
    file.sync_all()?;
    let mut times = Vec::with_capacity(SYNCS);
    for turn in 0..SYNCS {
        let at = turn * WRITE_BYTES % FILE_BYTES;
        let started = Instant::now();
        file.seek(SeekFrom::Start(at as u64))?;
        file.write_all(&[turn as u8; WRITE_BYTES])?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

/// The median time to open a connection: a round trip and what two kernels do about it.
///
/// # Errors
/// If nobody listens.
pub(super) async fn round_trip(address: &str) -> io::Result<Duration> {
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let started = Instant::now();
        drop(TcpStream::connect(address).await?);
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times[ROUND_TRIPS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_takes_time_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Duration::ZERO < sync_latency(folder.path()).expect("it writes"));
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0);
    }
}
