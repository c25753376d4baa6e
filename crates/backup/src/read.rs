//! Reading backups: what there is at a place, whether it is as it was written, and its records.

use std::collections::VecDeque;

use bytes::Buf;
use quorate_store::{Portable, decode_page, encode_page};
use quorate_types::GroupId;

use crate::books::Books;
use crate::digest::{crc, sha256};
use crate::error::BackupError;
use crate::manifest::{GroupPart, MANIFEST, MANIFEST_DIGEST, Manifest, Object, state_digest};
use crate::place::{BackupId, Place};
use crate::write::{OBJECT_HEAD_BYTES, OBJECT_MAGIC, Seen};

/// A backup at a place.
#[derive(Debug)]
pub struct Found {
    /// Its id.
    pub id: BackupId,
    /// Bytes of all its objects.
    pub bytes: u64,
    /// Its manifest. `BackupError::Unfinished` if it has none, `Damaged` or `Format` if it cannot be read.
    pub manifest: Result<Manifest, BackupError>,
}

/// What a check has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Objects, without the manifest.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
}

/// The backups at a place, the newest first.
///
/// # Errors
/// `Place`.
pub async fn list(place: &Place) -> Result<Vec<Found>, BackupError> {
    let mut found = Vec::new();
    for id in place.backups().await? {
        let bytes = place.size(&id).await?;
        let manifest = match open(place, &id).await {
            Err(error @ BackupError::Place { .. }) => return Err(error),
            opened => opened,
        };
        found.push(Found { id, bytes, manifest });
    }
    Ok(found)
}

/// The manifest of a backup.
///
/// # Errors
/// `Missing`, `Unfinished`, `Damaged`, `Format`, `Place`.
pub async fn open(place: &Place, id: &BackupId) -> Result<Manifest, BackupError> {
    let (id_text, place_text) = (id.to_string(), place.to_string());
    let Some(text) = place.get(id, MANIFEST).await? else {
        return Err(match place.size(id).await? {
            0 => BackupError::Missing { id: id_text, place: place_text },
            _ => BackupError::Unfinished { id: id_text, place: place_text },
        });
    };
    let digest = place.get(id, MANIFEST_DIGEST).await?.unwrap_or_default();
    let manifest = Manifest::decode(id.as_str(), &text, &digest)?;
    if manifest.sha256 != state_digest(&manifest.groups) {
        let reason = "its digest is not that of its groups".to_owned();
        return Err(BackupError::Damaged { id: id_text, object: MANIFEST.to_owned(), reason });
    }
    Ok(manifest)
}

/// Reads every object again and compares everything that the manifest says. `progress` is called with what
/// was read so far.
///
/// # Errors
/// `Missing`, `Unfinished`, `Format`, `Place`. What is damaged is in the list, object by object.
pub async fn verify(
    place: &Place,
    id: &BackupId,
    mut progress: impl FnMut(Verified),
) -> Result<(Verified, Vec<BackupError>), BackupError> {
    let mut verified = Verified::default();
    let manifest = match open(place, id).await {
        Err(error @ BackupError::Damaged { .. }) => return Ok((verified, vec![error])),
        opened => opened?,
    };
    let (mut damages, mut books) = (Vec::new(), Books::default());
    for part in &manifest.groups {
        let mut reader = GroupReader::new(place, id, part);
        loop {
            match reader.next().await {
                Ok(Some(records)) => {
                    verified.records += records.len() as u64;
                    verified.objects += 1;
                    verified.bytes += reader.last_bytes;
                    progress(verified);
                }
                Ok(None) => break books.join(&reader.seen.books),
                Err(error @ BackupError::Damaged { .. }) => {
                    damages.push(error);
                    if !reader.skip_damaged() {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
    if damages.is_empty() && books.totals() != manifest.ledgers {
        damages.push(BackupError::Damaged {
            id: id.to_string(),
            object: MANIFEST.to_owned(),
            reason: "its ledgers are not what the accounts add up to".to_owned(),
        });
    }
    Ok((verified, damages))
}

/// The records of one group, object by object, each checked before it is handed out.
pub struct GroupReader<'a> {
    place: &'a Place,
    id: &'a BackupId,
    part: &'a GroupPart,
    left: VecDeque<&'a Object>,
    seen: Seen,
    /// Bytes of the object read last.
    last_bytes: u64,
    /// An object was passed over, so that digests of the whole mean nothing.
    has_skipped: bool,
    is_ended: bool,
}

impl<'a> GroupReader<'a> {
    /// Begins with the first object of a group.
    #[must_use]
    pub fn new(place: &'a Place, id: &'a BackupId, part: &'a GroupPart) -> GroupReader<'a> {
        let (left, seen) = (part.objects.iter().collect(), Seen::new(part.id()));
        let (last_bytes, has_skipped, is_ended) = (0, false, false);
        GroupReader { place, id, part, left, seen, last_bytes, has_skipped, is_ended }
    }

    /// The records of the next object; `None` at the end, where all of them together were found right.
    ///
    /// # Errors
    /// `Damaged` with the object, `Place`.
    pub async fn next(&mut self) -> Result<Option<Vec<Portable>>, BackupError> {
        let Some(object) = self.left.front().copied() else {
            return self.end();
        };
        let damaged = |reason: String| self.damaged(&object.name, reason);
        let Some(bytes) = self.place.get(self.id, &object.name).await? else {
            return Err(damaged("it is missing".to_owned()));
        };
        if bytes.len() as u64 != object.bytes {
            let reason = format!("it has {} bytes, not {}", bytes.len(), object.bytes);
            return Err(damaged(reason));
        }
        if crc(&bytes) != object.crc32c || sha256(&bytes) != object.sha256 {
            return Err(damaged("its bytes are not those that were written".to_owned()));
        }
        let group = self.part.id();
        let mut rest = bytes;
        if rest.len() < OBJECT_HEAD_BYTES
            || rest.split_to(OBJECT_MAGIC.len()) != OBJECT_MAGIC.as_slice()
            || GroupId(rest.get_u32()) != group
        {
            return Err(damaged(format!("it holds no records of {group}")));
        }
        let records = decode_page(rest).map_err(|error| damaged(error.to_string()))?;
        if records.len() as u64 != object.records {
            let reason = format!("it has {} records, not {}", records.len(), object.records);
            return Err(damaged(reason));
        }
        for record in &records {
            let taken = self.seen.take(record);
            taken.map_err(|reason| self.damaged(&object.name, reason))?;
        }
        self.seen.digest.add(&encode_page(&records));
        self.last_bytes = object.bytes;
        self.left.pop_front();
        Ok(Some(records))
    }

    /// What the accounts of the group add up to, as far as they were read.
    #[must_use]
    pub fn books(&self) -> &Books {
        &self.seen.books
    }

    /// Passes over the object that is damaged. False if there is nothing to go on with.
    fn skip_damaged(&mut self) -> bool {
        self.has_skipped = true;
        self.left.pop_front().is_some()
    }

    fn end(&mut self) -> Result<Option<Vec<Portable>>, BackupError> {
        if self.is_ended || self.has_skipped {
            return Ok(None);
        }
        self.is_ended = true;
        let GroupPart { records, bytes, sha256, .. } = self.part;
        let digest = self.seen.digest.clone().text();
        if (self.seen.records, self.seen.bytes, &digest) != (*records, *bytes, sha256) {
            let reason = format!("the records of {} are not those that it counts", self.part.id());
            return Err(self.damaged(MANIFEST, reason));
        }
        Ok(None)
    }

    fn damaged(&self, object: &str, reason: String) -> BackupError {
        BackupError::Damaged { id: self.id.to_string(), object: object.to_owned(), reason }
    }
}
