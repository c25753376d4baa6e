//! How far an import has come, kept in the user's state folder, so that the same command goes on
//! where it was interrupted.
//!
//! A checkpoint belongs to the content of the file, the cluster, the table and the choice of columns:
//! with any of them changed the import begins anew. It only saves time. Rows have the same keys and
//! values each time, so writing them again changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use quorate_types::ClusterId;
use serde::{Deserialize, Serialize};

use super::rows::Mapping;
use crate::exit::Failure;
use crate::values;

/// The format of checkpoint files.
const VERSION: u32 = 1;
/// Bytes read at once for the digest.
const CHUNK_BYTES: usize = 1 << 20;

/// The content of a checkpoint file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    version: u32,
    /// The file as the user named it, for people.
    pub(crate) file: String,
    /// The table, for people.
    pub(crate) table: String,
    /// Records of the file that are settled, from the first without a gap.
    pub(crate) records_done: u64,
    /// How many of them were written.
    pub(crate) rows_written: u64,
    /// How many of them were left out as bad rows.
    pub(crate) rows_bad: u64,
}

impl Checkpoint {
    /// The start of an import.
    pub(crate) fn new(file: &str, table: &str) -> Checkpoint {
        Checkpoint {
            version: VERSION,
            file: file.to_owned(),
            table: table.to_owned(),
            records_done: 0,
            rows_written: 0,
            rows_bad: 0,
        }
    }

    /// The checkpoint at `path`; `None` if there is none that can be used.
    pub(crate) fn load(path: &Path) -> Option<Checkpoint> {
        let text = fs::read_to_string(path).ok()?;
        let found: Checkpoint = serde_json::from_str(&text).ok()?;
        (found.version == VERSION).then_some(found)
    }

    /// Replaces the file at `path` as a whole.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        let partial = path.with_extension("partial");
        let written = match path.parent() {
            Some(folder) => fs::create_dir_all(folder),
            None => Ok(()),
        };
        written
            .and_then(|()| fs::write(&partial, text))
            .and_then(|()| fs::rename(&partial, path))
            .map_err(|error| Failure::file("write", path, &error))
    }

    /// Removes the file at `path`, if there is one.
    pub(crate) fn remove(path: &Path) {
        // What stays behind only saves the same rows from being written again.
        let _ = fs::remove_file(path);
    }
}

/// Where the checkpoint of an import is kept.
pub(crate) fn path_of(
    state: &Path,
    digest: &Digest,
    cluster: ClusterId,
    table: &str,
    mapping: &Mapping,
) -> PathBuf {
    let mut choice = Digest::default();
    let optional = |column: &Option<String>| column.clone().unwrap_or_else(|| "\0".to_owned());
    let mut words = vec![optional(&mapping.uid_column), optional(&mapping.key_column)];
    words.push(mapping.key_prefix.clone());
    words.extend(mapping.columns.iter().cloned());
    for word in words {
        choice.add(word.as_bytes());
        choice.add(b"\0");
    }
    let name = format!("{}-{cluster}-{table}-{}.json", digest.text(), choice.text());
    state.join("quorate").join("imports").join(name)
}

/// The folder for state of this user: `XDG_STATE_HOME`, or `.local/state` at home.
///
/// # Errors
/// If neither is known.
pub(crate) fn state_folder() -> Result<PathBuf, Failure> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let absolute = |path: &PathBuf| path.is_absolute();
    folder("XDG_STATE_HOME")
        .filter(absolute)
        .or_else(|| folder("HOME").filter(absolute).map(|home| home.join(".local").join("state")))
        .ok_or_else(|| {
            Failure::usage(
                "there is no folder for the progress of the import",
                "set XDG_STATE_HOME or HOME to an absolute path",
            )
        })
}

/// What tells the content of two files apart: length, crc32c and FNV-1a. Good against mistakes, not
/// against somebody who wants to fool himself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    length: u64,
    crc: u32,
    fnv: u64,
}

impl Default for Digest {
    fn default() -> Digest {
        Digest { length: 0, crc: 0, fnv: 0xcbf2_9ce4_8422_2325 }
    }
}

impl Digest {
    /// Of everything a reader gives.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn of(mut reader: impl Read) -> io::Result<Digest> {
        let mut digest = Digest::default();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(digest),
                Ok(count) => digest.add(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        for byte in bytes {
            self.fnv = (self.fnv ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// In hexadecimal digits.
    pub(crate) fn text(&self) -> String {
        let Digest { length, crc, fnv } = self;
        let (length, crc, fnv) = (length.to_be_bytes(), crc.to_be_bytes(), fnv.to_be_bytes());
        values::to_hex(&[&length[2..], &crc, &fnv].concat())
    }
}

/// Which records are settled when they are settled out of order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// Every record through here is settled.
    through: u64,
    /// Settled ones above, not adjacent to `through`.
    above: BTreeSet<u64>,
}

impl Watermark {
    /// Starts with every record through `through` settled.
    pub(crate) fn at(through: u64) -> Watermark {
        Watermark { through, above: BTreeSet::new() }
    }

    /// A record is settled.
    pub(crate) fn settle(&mut self, record: u64) {
        if self.through < record {
            self.above.insert(record);
        }
        while self.above.remove(&(self.through + 1)) {
            self.through += 1;
        }
    }

    /// Every record through here is settled.
    pub(crate) fn through(&self) -> u64 {
        self.through
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(columns: &[&str]) -> Mapping {
        Mapping {
            uid_column: Some("user".to_owned()),
            key_column: None,
            key_prefix: "line-".to_owned(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        }
    }

    #[test]
    fn a_checkpoint_survives_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("down.json");
        assert_eq!(Checkpoint::load(&path), None);
        let checkpoint =
            Checkpoint { records_done: 12, rows_written: 10, ..Checkpoint::new("a.csv", "load") };
        checkpoint.save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path), Some(checkpoint));
        fs::write(&path, "{\"version\": 1").unwrap();
        assert_eq!(Checkpoint::load(&path), None);
        Checkpoint::remove(&path);
        assert!(!path.exists());
    }

    #[test]
    fn every_part_of_an_import_has_its_own_checkpoint() {
        let digest = |text: &str| Digest::of(text.as_bytes()).unwrap();
        let state = Path::new("/state");
        let path = |text: &str, cluster: u128, table: &str, columns: &[&str]| {
            path_of(state, &digest(text), ClusterId(cluster), table, &mapping(columns))
        };
        let base = path("a", 1, "load", &[]);
        assert_eq!(base, path("a", 1, "load", &[]));
        let others = [
            path("b", 1, "load", &[]),
            path("a", 2, "load", &[]),
            path("a", 1, "profiles", &[]),
            path("a", 1, "load", &["x"]),
            path("a", 1, "load", &["x", "y"]),
            path("a", 1, "load", &["xy"]),
        ];
        let mut all: Vec<&PathBuf> = others.iter().chain([&base]).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 7);
        assert!(base.starts_with("/state/quorate/imports"));
    }

    #[test]
    fn a_digest_does_not_depend_on_how_the_file_is_read() {
        let text = "x".repeat(3 * CHUNK_BYTES / 2);
        let (a, b) = text.as_bytes().split_at(7);
        assert_eq!(Digest::of(a.chain(b)).unwrap(), Digest::of(text.as_bytes()).unwrap());
        assert_eq!(Digest::of(&b"abc"[..]).unwrap().text().len(), 36);
    }

    #[test]
    fn records_settled_out_of_order_count_once_there_is_no_gap() {
        let mut watermark = Watermark::at(10);
        for (record, through) in [(12, 10), (13, 10), (11, 13), (5, 13), (15, 13), (14, 15)] {
            watermark.settle(record);
            assert_eq!(watermark.through(), through, "after {record}");
        }
        assert!(watermark.above.is_empty());
    }
}
