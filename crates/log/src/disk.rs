//! What the log and the promise file need of a disk, so that a simulated one can take its place.
//!
//! Called by everything else in this crate, and by whoever keeps files of his own under the same
//! fault model. All calls are synchronous: the caller owns a thread for them, or, in simulation,
//! sleeps [`Disk::sync_latency`] of virtual time between a write and its sync.

#[cfg(not(madsim))]
pub mod real;
pub mod sim;
mod sim_state;

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

/// The files under one root. Paths are relative to it and use `/`; the root itself is `""`.
///
/// A new name, a rename and a removal survive a power cut only after [`Disk::sync_dir`] of their
/// folder. An error means that the call may have happened, in part or not at all.
pub trait Disk: Send + Sync + 'static {
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` if there is none, and whatever the system says.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates an empty file for reading and writing; an existing one is emptied.
    ///
    /// # Errors
    /// Whatever the system says.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// The names of the files directly in a folder, sorted.
    ///
    /// # Errors
    /// `NotFound` if there is no such folder, and whatever the system says.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Gives a file another name in the same folder, replacing what had that name.
    ///
    /// # Errors
    /// Whatever the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Whatever the system says.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names of a folder durable.
    ///
    /// # Errors
    /// After an error nobody knows which names are durable; the caller must not go on.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Creates a folder and those above it; existing ones are fine.
    ///
    /// # Errors
    /// Whatever the system says.
    fn create_dir_all(&self, dir: &str) -> io::Result<()>;

    /// Whether a file has this name.
    ///
    /// # Errors
    /// Whatever the system says.
    fn exists(&self, path: &str) -> io::Result<bool>;

    /// Bytes that may still be allocated.
    ///
    /// # Errors
    /// Whatever the system says.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Bytes of the whole disk.
    ///
    /// # Errors
    /// Whatever the system says.
    fn total_bytes(&self) -> io::Result<u64>;

    /// Virtual time that a sync takes. Zero on a real disk, where the call itself takes the time.
    fn sync_latency(&self) -> Duration {
        Duration::ZERO
    }
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Length in bytes.
    ///
    /// # Errors
    /// Whatever the system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// Whatever the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads up to `into.len()` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// Whatever the system says.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Reads exactly `into.len()` bytes.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before, and whatever the system says.
    fn read_exact_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if self.read_at(offset, into)? < into.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Writes all parts one after the other, as one write where the system can.
    ///
    /// # Errors
    /// After an error any part of it may be written.
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()>;

    /// Makes the bytes of the file durable, and its length.
    ///
    /// # Errors
    /// After an error the bytes may be readable and yet never reach the disk, even if a later call
    /// succeeds; the caller must not go on.
    fn sync_data(&self) -> io::Result<()>;

    /// Takes the room for the first `len` bytes now, so that writes there cannot run out of it. A
    /// shorter file reads as zeros up to `len` then.
    ///
    /// # Errors
    /// `StorageFull` if there is no room, and whatever the system says.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Cuts or extends the file to `len` bytes.
    ///
    /// # Errors
    /// Whatever the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;
}
