//! The promise file: two copies of the node's record, one of which is always whole.
//!
//! Opened by the server before the log; stored by the log thread before a promise, a lease longer
//! than any before, a new peer or a frame in a new segment of the log counts.
//!
//! | file | written |
//! |---|---|
//! | `promises.a` | first, and synced |
//! | `promises.b` | then, and synced |
//!
//! A power cut tears at most the copy being written; the other is then whole. Copies are written in
//! place once they exist; the first time they are written under another name, so that a start that
//! dies in its first store leaves a fresh folder and not an unreadable one.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use quorate_types::{Ballot, GroupId};
use tracing::{error, info};

use crate::disk::{Disk, DiskFile};
use crate::error::LogError;
use crate::record::{Decoded, FORMAT, NodeRecord};
use crate::segment::{DIR, Name};

const COPIES: [&str; 2] = ["promises.a", "promises.b"];

/// What was found at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A new data folder: neither a copy nor a log.
    Fresh,
    /// The newest record stored.
    Valid(NodeRecord),
    /// Promises were made and are not known any more. The node must not vote, accept or promise a
    /// lease until each of its replicas is replaced under a new id.
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// The two copies, ready to be stored to.
pub struct PromiseFile {
    disk: Arc<dyn Disk>,
    files: [Option<Arc<dyn DiskFile>>; 2],
    version: u64,
    refused: Option<String>,
    poisoned: Option<String>,
}

impl PromiseFile {
    /// Reads both copies and takes the higher valid one, or the one valid; then makes both equal to
    /// it and durable before it is returned.
    ///
    /// The repair is not housekeeping. After a killed process the higher copy may be readable and
    /// not on the disk, and the lower copy may be older than what is about to be relied on; the
    /// next torn store would take the node back behind a promise it had repeated from this record.
    ///
    /// # Errors
    /// `FORMAT_UNKNOWN` if another version wrote a copy, `DISK_FULL` or `DISK_FAILED`.
    pub fn open(disk: Arc<dyn Disk>) -> Result<(PromiseFile, Opened), LogError> {
        let mut copies = [const { None }; 2];
        let mut files = [const { None }; 2];
        for (place, path) in COPIES.into_iter().enumerate() {
            files[place] = open_copy(disk.as_ref(), path)?;
            if let Some(file) = &files[place] {
                copies[place] = read_copy(file.as_ref(), path)?;
            }
        }
        let exist = files.iter().any(Option::is_some);
        let mut promises = PromiseFile { disk, files, version: 0, refused: None, poisoned: None };
        let chosen = choose(&copies);
        if let Some(record) = promises.repair(copies)? {
            let (version, groups) = (record.version, record.groups.len());
            info!(copy = chosen, version, groups, "read the promises");
            return Ok((promises, Opened::Valid(record)));
        }
        if !exist && !has_log(promises.disk.as_ref())? {
            info!("the data folder is fresh");
            return Ok((promises, Opened::Fresh));
        }
        let reason = if exist { "no copy is valid" } else { "no copy exists beside the log" };
        error!(reason, "the promises are unreadable");
        promises.refused = Some(reason.to_owned());
        Ok((promises, Opened::Unreadable { reason: reason.to_owned() }))
    }

    /// Stores the record under the next version. When this returns, both copies are durable.
    ///
    /// # Errors
    /// `PROMISES_UNREADABLE` if they were at start; `DISK_FULL` or `DISK_FAILED`, after which
    /// nothing is stored any more and the caller aborts the process.
    pub fn store(&mut self, record: &NodeRecord) -> Result<(), LogError> {
        if let Some(reason) = &self.refused {
            return Err(LogError::PromisesUnreadable { reason: reason.clone() });
        }
        if let Some(reason) = &self.poisoned {
            return Err(LogError::Poisoned { reason: reason.clone() });
        }
        self.version += 1;
        self.write(&record.encode(self.version), &[0, 1])
    }

    /// Stores a record although the old ones were unreadable: every replica in it has a new id, so
    /// no old promise binds it.
    ///
    /// # Errors
    /// As [`PromiseFile::store`].
    pub fn store_anew(&mut self, record: &NodeRecord) -> Result<(), LogError> {
        self.refused = None;
        self.store(record)
    }

    /// The version last stored or read.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Makes both copies durable and equal to the newest, which it returns.
    ///
    /// B is only ever written while A is durable with the same version, A with a new version only
    /// while B is durable with the one before; so the copy that is not written is always whole.
    fn repair(&mut self, [a, b]: [Option<NodeRecord>; 2]) -> Result<Option<NodeRecord>, LogError> {
        let (mut record, a_is_durable) = match (a, b) {
            (None, None) => return Ok(None),
            (Some(a), None) => (a, true),
            (None, Some(b)) => (b, false),
            (Some(a), Some(b)) if a.version < b.version => (b, false),
            (Some(a), Some(b)) => {
                let same = a.version == b.version;
                (a, same)
            }
        };
        if a_is_durable {
            self.write(&record.encode(record.version), &[1])?;
        } else {
            record.version += 1;
            self.write(&record.encode(record.version), &[0, 1])?;
        }
        self.version = record.version;
        // The name of a copy may be as little durable as its bytes.
        self.disk.sync_dir("").map_err(|e| LogError::io("sync folder", ".", e))?;
        Ok(Some(record))
    }

    fn write(&mut self, bytes: &[u8], order: &[usize]) -> Result<(), LogError> {
        for &place in order {
            if let Err(error) = self.write_copy(bytes, place) {
                let error = LogError::io("store", COPIES[place], error);
                self.poisoned = Some(error.to_string());
                return Err(error);
            }
        }
        Ok(())
    }

    fn write_copy(&mut self, bytes: &[u8], place: usize) -> io::Result<()> {
        if let Some(file) = &self.files[place] {
            file.write_at(0, &[IoSlice::new(bytes)])?;
            return file.sync_data();
        }
        let path = COPIES[place];
        let fresh = format!("{path}.new");
        let file = self.disk.create(&fresh)?;
        file.write_at(0, &[IoSlice::new(bytes)])?;
        file.sync_data()?;
        self.disk.rename(&fresh, path)?;
        self.disk.sync_dir("")?;
        self.files[place] = Some(file);
        Ok(())
    }
}

/// The copy that counts, for people.
fn choose(copies: &[Option<NodeRecord>; 2]) -> &'static str {
    match copies {
        [Some(a), Some(b)] if a.version == b.version => "both",
        [Some(a), Some(b)] if a.version < b.version => COPIES[1],
        [None, Some(_)] => COPIES[1],
        [Some(_), _] => COPIES[0],
        [None, None] => "none",
    }
}

/// Checks the promises against those at the head of the newest log segment. Lower ones mean that
/// the copies are older than promises the node has made: they count as unreadable. A group that the
/// record does not have counts as one that promised nothing.
///
/// # Errors
/// `PROMISES_UNREADABLE` naming the first such group.
pub fn check_floors(
    record: &NodeRecord,
    floors: &BTreeMap<GroupId, Ballot>,
) -> Result<(), LogError> {
    for (group, floor) in floors {
        let promised = record.groups.get(group).map_or(Ballot::ZERO, |group| group.promised);
        if promised < *floor {
            let reason = format!("{group} promised {promised}, below {floor} in the log");
            error!(%group, %promised, %floor, "the promises are older than the log");
            return Err(LogError::PromisesUnreadable { reason });
        }
    }
    info!(floors = floors.len(), "no promise is below its floor in the log");
    Ok(())
}

fn open_copy(disk: &dyn Disk, path: &str) -> Result<Option<Arc<dyn DiskFile>>, LogError> {
    match disk.open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LogError::io("open", path, error)),
    }
}

/// The record of a copy, `None` if it is invalid. A read error is one kind of invalid.
fn read_copy(file: &dyn DiskFile, path: &str) -> Result<Option<NodeRecord>, LogError> {
    let len = file.len().map_err(|e| LogError::io("stat", path, e))?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    if let Err(error) = file.read_exact_at(0, &mut bytes) {
        error!(path, %error, "a copy of the promises cannot be read");
        return Ok(None);
    }
    match NodeRecord::decode(&bytes) {
        Decoded::Valid(record) => Ok(Some(record)),
        Decoded::Invalid => {
            error!(path, "a copy of the promises is invalid");
            Ok(None)
        }
        Decoded::UnknownFormat(found) => {
            Err(LogError::FormatUnknown { path: path.to_owned(), found, known: FORMAT })
        }
    }
}

fn has_log(disk: &dyn Disk) -> Result<bool, LogError> {
    match disk.list(DIR) {
        Ok(names) => {
            Ok(names.iter().any(|name| matches!(Name::parse(name), Some(Name::Segment(_)))))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(LogError::io("list", DIR, error)),
    }
}

#[cfg(test)]
#[path = "promises_test.rs"]
mod tests;
