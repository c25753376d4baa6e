//! The files of a data folder, by what they are. docs/STORAGE_FORMAT.md describes them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The segment being written.
    NewestSegment,
    /// A segment that is complete.
    OlderSegment,
    /// Room for a segment to come.
    FreeFile,
    /// The first copy of the promises.
    PromisesA,
    /// The second copy of the promises.
    PromisesB,
    /// Both copies.
    BothPromises,
    /// What keeps a second process out.
    Lock,
    /// Rows.
    Table,
    /// Which tables there are.
    Manifest,
    /// Which manifest counts.
    Current,
    /// The settings of RocksDB.
    Settings,
    /// The write-ahead log of RocksDB, which is not used.
    WriteAheadLog,
    /// The name of the database.
    Identity,
    /// What RocksDB has to say.
    Messages,
    /// The lock of RocksDB.
    RowsLock,
    /// Anything else.
    Other,
}

impl Kind {
    /// Every kind, in the order of the table.
    pub(super) const ALL: [Kind; 16] = [
        Kind::NewestSegment,
        Kind::OlderSegment,
        Kind::FreeFile,
        Kind::PromisesA,
        Kind::PromisesB,
        Kind::BothPromises,
        Kind::Lock,
        Kind::Table,
        Kind::Manifest,
        Kind::Current,
        Kind::Settings,
        Kind::WriteAheadLog,
        Kind::Identity,
        Kind::Messages,
        Kind::RowsLock,
        Kind::Other,
    ];

    /// Its line in the table.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::NewestSegment => "newest segment",
            Kind::OlderSegment => "older segment",
            Kind::FreeFile => "free segment",
            Kind::PromisesA => "promises.a",
            Kind::PromisesB => "promises.b",
            Kind::BothPromises => "both promises",
            Kind::Lock => "LOCK",
            Kind::Table => "rows: table",
            Kind::Manifest => "rows: MANIFEST",
            Kind::Current => "rows: CURRENT",
            Kind::Settings => "rows: OPTIONS",
            Kind::WriteAheadLog => "rows: WAL",
            Kind::Identity => "rows: IDENTITY",
            Kind::Messages => "rows: LOG",
            Kind::RowsLock => "rows: LOCK",
            Kind::Other => "any other",
        }
    }

    /// True if it is of RocksDB.
    pub(super) fn is_of_rows(self) -> bool {
        Kind::Table <= self && self <= Kind::RowsLock
    }

    /// What a file is, by its path in the data folder. A segment may also be the newest.
    fn of(path: &str) -> Kind {
        let Some(name) = path.strip_prefix("rows/") else {
            return match path {
                "LOCK" => Kind::Lock,
                "promises.a" => Kind::PromisesA,
                "promises.b" => Kind::PromisesB,
                _ if path.starts_with("log/") && path.ends_with(".seg") => Kind::OlderSegment,
                _ if path.starts_with("log/") && path.ends_with(".free") => Kind::FreeFile,
                _ => Kind::Other,
            };
        };
        match name {
            "CURRENT" => Kind::Current,
            "IDENTITY" => Kind::Identity,
            "LOCK" => Kind::RowsLock,
            _ if name.ends_with(".sst") => Kind::Table,
            _ if name.starts_with("MANIFEST-") => Kind::Manifest,
            _ if name.starts_with("OPTIONS-") => Kind::Settings,
            _ if name.ends_with(".log") => Kind::WriteAheadLog,
            _ if name.starts_with("LOG") => Kind::Messages,
            _ => Kind::Other,
        }
    }

    /// The files of this kind to be damaged, relative to the data folder: both copies of the promises,
    /// otherwise one. None if there is none.
    pub(super) fn choose(self, data: &Path) -> io::Result<Vec<String>> {
        let mut files = Vec::new();
        list(data, data, &mut files)?;
        files.sort();
        let segments: Vec<&(String, u64)> =
            files.iter().filter(|(path, _)| Kind::of(path) == Kind::OlderSegment).collect();
        let of_kind = |kind: Kind| files.iter().filter(move |(path, _)| Kind::of(path) == kind);
        let name = |file: &(String, u64)| file.0.clone();
        let one = match self {
            Kind::BothPromises => {
                let copies = of_kind(Kind::PromisesA).chain(of_kind(Kind::PromisesB));
                return Ok(copies.map(name).collect());
            }
            Kind::NewestSegment => segments.last().copied(),
            Kind::OlderSegment => segments.iter().rev().skip(1).max_by_key(|file| file.1).copied(),
            Kind::Table => of_kind(self).max_by_key(|file| file.1),
            _ => of_kind(self).next_back(),
        };
        Ok(one.map(name).into_iter().collect())
    }
}

fn list(root: &Path, folder: &Path, into: &mut Vec<(String, u64)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path: PathBuf = entry?.path();
        if path.is_dir() {
            list(root, &path, into)?;
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) {
            into.push((name.to_owned(), path.metadata()?.len()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_kind_and_the_right_one_is_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let sizes = [
            ("LOCK", 0),
            ("log/0000000001.seg", 10),
            ("log/0000000002.seg", 30),
            ("log/0000000003.seg", 20),
            ("log/0000000004.seg", 40),
            ("log/0000000005.free", 40),
            ("promises.a", 5),
            ("promises.b", 5),
            ("rows/000007.sst", 9),
            ("rows/000012.sst", 4),
            ("rows/000013.log", 0),
            ("rows/MANIFEST-000005", 7),
            ("rows/OPTIONS-000009", 7),
        ];
        for (name, bytes) in sizes {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![1; bytes]).unwrap();
        }
        let chosen = |kind: Kind| kind.choose(folder.path()).unwrap();
        assert_eq!(chosen(Kind::NewestSegment), ["log/0000000004.seg"]);
        assert_eq!(chosen(Kind::OlderSegment), ["log/0000000002.seg"]);
        assert_eq!(chosen(Kind::BothPromises), ["promises.a", "promises.b"]);
        assert_eq!(chosen(Kind::Table), ["rows/000007.sst"]);
        assert_eq!(chosen(Kind::WriteAheadLog), ["rows/000013.log"]);
        assert_eq!(chosen(Kind::Other), [""; 0]);
    }
}
