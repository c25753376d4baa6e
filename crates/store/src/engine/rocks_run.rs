//! A run of records as a file of its own that RocksDB takes over: nothing of it goes through a memtable, and where no
//! other file has keys between its first and its last, it is never rewritten. What is rewritten is deleted later, and
//! on many disks a write of the log waits while a file is deleted.
//!
//! RocksDB syncs the file, its folder and the manifest that lists it before it says that it has taken it over, and
//! flushes a memtable first that has records or removals in its range. (`db/external_sst_file_ingestion_job.cc`)

use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rocksdb::{DB, IngestExternalFileOptions, Options, SstFileWriter};
use rustix::fs::{Advice, fadvise};

use super::EngineRun;
use super::rocks::{PIECE_BYTES, engine_error, file_format};
use crate::error::StoreError;
use crate::key::Key;

/// The folder of runs, in that of the database: RocksDB takes files over from the same file system only.
const FOLDER: &str = "runs";

static OPTIONS: LazyLock<Options> = LazyLock::new(|| {
    let mut options = Options::default();
    let blocks = file_format(&mut options);
    options.set_block_based_table_factory(&blocks);
    options
});

/// Makes the folder of runs of a database, without those that a crash has left.
pub(super) fn begin_runs(database: &Path) -> Result<PathBuf, StoreError> {
    let folder = database.join(FOLDER);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error)),
        _ => {}
    }
    fs::create_dir(&folder).map_err(|error| failed(&error))?;
    Ok(folder)
}

/// A file of records that is being written.
pub(super) struct RocksRun {
    db: Arc<DB>,
    writer: SstFileWriter<'static>,
    path: PathBuf,
    /// The file that the writer has open.
    file: File,
    /// Bytes of records since it was looked how long the file is.
    added: u64,
    /// So many bytes of the file are on their way to the disk.
    handed_over: u64,
    records: u64,
}

impl RocksRun {
    pub(super) fn begin(db: &Arc<DB>, path: PathBuf) -> Result<RocksRun, StoreError> {
        let writer = SstFileWriter::create(&OPTIONS);
        writer.open(&path).map_err(|error| engine_error("begin a run", &error))?;
        let file = File::open(&path).map_err(|error| failed(&error))?;
        let db = Arc::clone(db);
        Ok(RocksRun { db, writer, path, file, added: 0, handed_over: 0, records: 0 })
    }

    /// Begins to write what the file has to the disk, piece by piece: at its end all would go at once, and the writes
    /// of the log would wait. The pages are of no use here any more either.
    fn hand_over(&mut self) -> Result<(), StoreError> {
        let length = self.file.metadata().map_err(|error| failed(&error))?.len();
        while self.handed_over + PIECE_BYTES <= length {
            let advised = fadvise(
                &self.file,
                self.handed_over,
                NonZeroU64::new(PIECE_BYTES),
                Advice::DontNeed,
            );
            advised.map_err(|error| failed(&error.into()))?;
            self.handed_over += PIECE_BYTES;
        }
        Ok(())
    }
}

impl EngineRun for RocksRun {
    fn add(&mut self, key: &Key, value: &[u8]) -> Result<(), StoreError> {
        let added = self.writer.put(key.as_bytes(), value);
        added.map_err(|error| engine_error("add to a run", &error))?;
        self.records += 1;
        self.added += (key.as_bytes().len() + value.len()) as u64;
        if PIECE_BYTES <= self.added {
            self.added = 0;
            self.hand_over()?;
        }
        Ok(())
    }

    fn end(mut self: Box<Self>) -> Result<(), StoreError> {
        if self.records == 0 {
            return Ok(());
        }
        self.writer.finish().map_err(|error| engine_error("end a run", &error))?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        let taken = self.db.ingest_external_file_opts(&options, vec![&self.path]);
        taken.map_err(|error| engine_error("take a run over", &error))
    }
}

impl Drop for RocksRun {
    fn drop(&mut self) {
        // It is gone once it was taken over. What stays for another reason goes at the next start.
        let _gone = fs::remove_file(&self.path).is_err();
    }
}

fn failed(error: &io::Error) -> StoreError {
    StoreError::Engine { what: "write a run", reason: error.to_string() }
}
