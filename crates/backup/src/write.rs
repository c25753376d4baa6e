//! Making a backup: records of a group become objects, what was written becomes the manifest.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_store::{Keyspace, Portable, decode_page, encode_page};
use quorate_txn::money::account_of;
use quorate_types::{GroupId, LogTime, Slot};

use crate::books::Books;
use crate::digest::{Digest, crc, sha256};
use crate::error::BackupError;
use crate::manifest::{GroupPart, MANIFEST, MANIFEST_DIGEST, Manifest, Object};
use crate::place::{BackupId, Place};

/// An object is closed before it has more bytes.
pub(crate) const OBJECT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What every object with records begins with; the group follows (4 bytes, big-endian).
pub(crate) const OBJECT_MAGIC: &[u8; 4] = b"QBO1";
/// Bytes of an object before its first record.
pub(crate) const OBJECT_HEAD_BYTES: usize = OBJECT_MAGIC.len() + 4;

/// The objects of one group, as they are written.
pub struct GroupWriter {
    place: Place,
    id: BackupId,
    group: GroupId,
    /// The object that grows: head and records.
    growing: BytesMut,
    /// Records in it.
    count: u64,
    objects: Vec<Object>,
    seen: Seen,
    object_bytes_max: usize,
}

/// What went by of a group, and what its records must be: the same when they are written and when they
/// are read.
pub(crate) struct Seen {
    group: GroupId,
    last: Option<Bytes>,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: Digest,
    pub(crate) books: Books,
}

impl Seen {
    pub(crate) fn new(group: GroupId) -> Seen {
        let (digest, books) = (Digest::new(), Books::default());
        Seen { group, last: None, records: 0, bytes: 0, digest, books }
    }

    /// Takes one more; says what is wrong with it otherwise.
    pub(crate) fn take(&mut self, record: &Portable) -> Result<(), String> {
        if self.last.as_ref().is_some_and(|last| record.key <= *last) {
            return Err("a record is out of order".to_owned());
        }
        if !record.is_state() {
            return Err("a record is of a kind that no backup holds".to_owned());
        }
        let key = Keyspace::first(self.group).place(record).map_err(|error| error.to_string())?;
        if let Some(account) = account_of(&key, &record.value).map_err(|error| error.to_string())? {
            self.books.add(&account);
        }
        self.last = Some(record.key.clone());
        self.records += 1;
        self.bytes += record.bytes() as u64;
        Ok(())
    }
}

impl GroupWriter {
    /// Begins the objects of a group.
    #[must_use]
    pub fn new(place: &Place, id: &BackupId, group: GroupId) -> GroupWriter {
        GroupWriter {
            place: place.clone(),
            id: id.clone(),
            group,
            growing: BytesMut::new(),
            count: 0,
            objects: Vec::new(),
            seen: Seen::new(group),
            object_bytes_max: OBJECT_BYTES_MAX,
        }
    }

    /// Closes objects earlier: tests have few records and want several objects.
    #[must_use]
    pub fn with_small_objects(mut self, bytes: usize) -> GroupWriter {
        self.object_bytes_max = bytes;
        self
    }

    /// Takes the next page of records.
    ///
    /// # Errors
    /// `Foreign` if the page holds what no backup holds, `Place`.
    pub async fn write(&mut self, page: Bytes) -> Result<(), BackupError> {
        let group = self.group;
        let foreign = |reason| BackupError::Foreign { group: group.to_string(), reason };
        for record in decode_page(page).map_err(|error| foreign(error.to_string()))? {
            self.seen.take(&record).map_err(foreign)?;
            if !self.growing.is_empty()
                && self.object_bytes_max < self.growing.len() + record.bytes()
            {
                self.close().await?;
            }
            if self.growing.is_empty() {
                self.growing.put_slice(OBJECT_MAGIC);
                self.growing.put_u32(group.0);
            }
            let bytes = encode_page(&[record]);
            self.seen.digest.add(&bytes);
            self.growing.put_slice(&bytes);
            self.count += 1;
        }
        Ok(())
    }

    /// Bytes and records taken so far.
    #[must_use]
    pub fn taken(&self) -> (u64, u64) {
        (self.seen.bytes, self.seen.records)
    }

    /// Writes what is left, and says what there is. `upto` and `log_time` are those of the last entry that
    /// any of the records is of.
    ///
    /// # Errors
    /// `Place`.
    pub async fn finish(
        mut self,
        unit: &str,
        upto: Slot,
        log_time: LogTime,
    ) -> Result<(GroupPart, Books), BackupError> {
        if !self.growing.is_empty() {
            self.close().await?;
        }
        let Seen { records, bytes, digest, books, .. } = self.seen;
        let part = GroupPart {
            group: self.group.0,
            unit: unit.to_owned(),
            upto: upto.0,
            log_time_ms: log_time.0,
            records,
            bytes,
            sha256: digest.text(),
            objects: self.objects,
        };
        Ok((part, books))
    }

    async fn close(&mut self) -> Result<(), BackupError> {
        let bytes = self.growing.split().freeze();
        let object = Object {
            name: format!("{}/{:06}.records", self.group, self.objects.len() + 1),
            bytes: bytes.len() as u64,
            records: std::mem::take(&mut self.count),
            crc32c: crc(&bytes),
            sha256: sha256(&bytes),
        };
        self.place.put(&self.id, &object.name, bytes).await?;
        self.objects.push(object);
        Ok(())
    }
}

/// Writes the manifest: from now on the backup exists. Everything that it names is durable already.
///
/// # Errors
/// `Place`.
pub async fn publish(place: &Place, id: &BackupId, manifest: &Manifest) -> Result<(), BackupError> {
    let (text, digest) = manifest.encode();
    place.put(id, MANIFEST_DIGEST, digest).await?;
    place.put(id, MANIFEST, text).await
}
