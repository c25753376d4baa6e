//! The manifest of a backup: what it holds, of which cluster, as of which cut. It is the last object that
//! is written, so a backup without one was never finished.
//!
//! Two objects: `manifest.json`, and `manifest.sha256` with the digest of its bytes, in the form that
//! `sha256sum --check` reads.

use bytes::Bytes;
use quorate_types::{ClusterId, CutId, GroupId, LogTime, Slot};
use serde::{Deserialize, Serialize};

use crate::books::{Books, LedgerTotal};
use crate::digest::{Digest, sha256};
use crate::error::BackupError;
use crate::place::BackupId;

/// The format that this version writes, and the only one it reads.
pub const FORMAT: u32 = 1;
/// Greater than any slot or time that a log comes to.
const POSITION_MAX: u64 = u64::MAX / 2;
/// The name of the manifest in its backup.
pub const MANIFEST: &str = "manifest.json";
/// The name of the object with its digest.
pub const MANIFEST_DIGEST: &str = "manifest.sha256";

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The id of the backup.
    pub id: String,
    /// When the cut was made, UTC, by the clock of who made the backup.
    pub created: String,
    /// The version of the program that made it.
    pub made_by: String,
    /// Where it comes from.
    pub cluster: Cluster,
    /// The cut that all of it is as of.
    pub cut: u64,
    /// Digest over the digests of all groups: equal for equal states of equal groups.
    pub sha256: String,
    /// Each group, in order of number.
    pub groups: Vec<GroupPart>,
    /// What the accounts of all groups add up to.
    pub ledgers: Vec<LedgerTotal>,
}

/// The cluster that was backed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Its id, which no restored cluster may have.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The text of its cluster file: what tables there were, and where rows belonged.
    pub file: String,
}

/// One group in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupPart {
    /// Its number.
    pub group: u32,
    /// The unit it belonged to.
    pub unit: String,
    /// No record is of a later slot.
    pub upto: u64,
    /// Log time at that slot, in ms.
    pub log_time_ms: u64,
    /// How many records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Digest over the bytes of all records in order: equal for equal states.
    pub sha256: String,
    /// The objects that hold them, in order.
    pub objects: Vec<Object>,
}

/// One object with records of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// Its name in the backup.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// How many records it holds.
    pub records: u64,
    /// crc32c of its bytes.
    pub crc32c: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

impl GroupPart {
    /// The group.
    #[must_use]
    pub fn id(&self) -> GroupId {
        GroupId(self.group)
    }

    /// No record is of a later slot.
    #[must_use]
    pub fn upto(&self) -> Slot {
        Slot(self.upto)
    }

    /// True if no log could go on from here: a cut has a slot, and there are slots behind it.
    fn is_nowhere(&self) -> bool {
        self.upto == 0 || POSITION_MAX < self.upto || POSITION_MAX < self.log_time_ms
    }

    /// Log time at that slot.
    #[must_use]
    pub fn log_time(&self) -> LogTime {
        LogTime(self.log_time_ms)
    }
}

impl Manifest {
    /// Of what was written of a backup.
    #[must_use]
    pub fn new(
        id: &BackupId,
        cluster: Cluster,
        cut: u64,
        groups: Vec<GroupPart>,
        books: &Books,
    ) -> Manifest {
        Manifest {
            format: FORMAT,
            id: id.to_string(),
            created: id.created(),
            made_by: env!("CARGO_PKG_VERSION").to_owned(),
            cluster,
            cut,
            sha256: state_digest(&groups),
            groups,
            ledgers: books.totals(),
        }
    }

    /// The cut that all of it is as of.
    #[must_use]
    pub fn cut(&self) -> CutId {
        CutId(self.cut)
    }

    /// True if it is of this cluster.
    #[must_use]
    pub fn is_of(&self, cluster: ClusterId) -> bool {
        self.cluster.id == cluster.to_string()
    }

    /// Bytes of all objects, without the manifest.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.groups.iter().flat_map(|group| &group.objects).map(|object| object.bytes).sum()
    }

    /// Records of all groups.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.groups.iter().map(|group| group.records).sum()
    }

    /// How many objects, without the manifest.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.groups.iter().map(|group| group.objects.len()).sum()
    }

    /// The bytes of the manifest, and those of the object with its digest.
    #[must_use]
    pub fn encode(&self) -> (Bytes, Bytes) {
        let mut text =
            serde_json::to_string_pretty(self).expect("texts, numbers and lists of them");
        text.push('\n');
        let digest = digest_line(text.as_bytes());
        (text.into(), digest.into())
    }

    /// Reads a manifest back.
    ///
    /// # Errors
    /// `Damaged` if the bytes are not those that the digest is of, or say what no manifest says; `Format`.
    pub fn decode(id: &str, text: &[u8], digest: &[u8]) -> Result<Manifest, BackupError> {
        let damaged = |reason: String| BackupError::Damaged {
            id: id.to_owned(),
            object: MANIFEST.to_owned(),
            reason,
        };
        if digest_line(text).as_bytes() != digest {
            return Err(damaged(format!("it is not what {MANIFEST_DIGEST} says")));
        }
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let Versioned { format } =
            serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))?;
        if format != FORMAT {
            return Err(BackupError::Format { id: id.to_owned(), format });
        }
        let manifest: Manifest =
            serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))?;
        if manifest.id != id {
            return Err(damaged(format!("it is the manifest of backup {}", manifest.id)));
        }
        if !manifest.groups.is_sorted_by(|one, next| one.group < next.group) {
            return Err(damaged("its groups are out of order".to_owned()));
        }
        if manifest.groups.iter().any(|group| group.is_nowhere()) {
            return Err(damaged("a group stands at an impossible slot or time".to_owned()));
        }
        Ok(manifest)
    }
}

/// Digest over the digests of groups.
pub(crate) fn state_digest(groups: &[GroupPart]) -> String {
    let mut digest = Digest::new();
    for group in groups {
        digest.add(&group.group.to_be_bytes());
        digest.add(group.sha256.as_bytes());
    }
    digest.text()
}

fn digest_line(text: &[u8]) -> String {
    format!("{}  {MANIFEST}\n", sha256(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let object = Object {
            name: "g1/000001.records".to_owned(),
            bytes: 70,
            records: 2,
            crc32c: "00000001".to_owned(),
            sha256: sha256(b"object"),
        };
        let group = GroupPart {
            group: 1,
            unit: "RZ00".to_owned(),
            upto: 12,
            log_time_ms: 5,
            records: 2,
            bytes: 62,
            sha256: sha256(b"records"),
            objects: vec![object],
        };
        let ledger =
            LedgerTotal { ledger: 840, sum: i128::MIN, reserved: 7, ..LedgerTotal::default() };
        Manifest {
            format: FORMAT,
            id: "x".to_owned(),
            created: "2026-01-02T03:04:05Z".to_owned(),
            made_by: "0.1.0".to_owned(),
            cluster: Cluster {
                id: "c".to_owned(),
                name: "n".to_owned(),
                file: "a = \"b\"\n".to_owned(),
            },
            cut: 9,
            sha256: state_digest(std::slice::from_ref(&group)),
            groups: vec![group],
            ledgers: vec![ledger],
        }
    }

    #[test]
    fn a_manifest_survives_its_bytes() {
        let (text, digest) = manifest().encode();
        assert_eq!(Manifest::decode("x", &text, &digest).unwrap(), manifest());
    }

    #[test]
    fn every_changed_byte_of_a_manifest_is_noticed() {
        // Goal: what is restored is what was written, or nothing is.
        let (text, digest) = manifest().encode();
        for at in 0..text.len() + digest.len() {
            let (mut text, mut digest) = (text.to_vec(), digest.to_vec());
            match at.checked_sub(text.len()) {
                None => text[at] ^= 1,
                Some(at) => digest[at] ^= 1,
            }
            let error = Manifest::decode("x", &text, &digest).expect_err("it is another one");
            assert!(matches!(error, BackupError::Damaged { .. }), "byte {at}: {error}");
        }
    }

    #[test]
    fn another_format_and_another_backup_are_refused_by_name() {
        // Goal: nobody guesses at what a newer version wrote, and no manifest stands for another backup.
        let (text, digest) = Manifest { format: 2, ..manifest() }.encode();
        let error = Manifest::decode("x", &text, &digest).unwrap_err();
        assert!(matches!(error, BackupError::Format { format: 2, .. }), "{error}");
        for upto in [0, u64::MAX] {
            let mut wrong = manifest();
            wrong.groups[0].upto = upto;
            let (text, digest) = wrong.encode();
            let error = Manifest::decode("x", &text, &digest).unwrap_err();
            assert!(error.to_string().contains("an impossible slot"), "{error}");
        }
        let (text, digest) = manifest().encode();
        let error = Manifest::decode("y", &text, &digest).unwrap_err();
        assert!(error.to_string().contains("of backup x"), "{error}");
    }
}
