//! The two engines behind one face, so that one suite runs against both, and small helpers.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::sync::Arc;

use bytes::Bytes;
use quorate_store::{Change, CheckpointBatch, Engine, Key, Keyspace, Twin};
use quorate_types::{GroupId, SliceId, Slot, TableId, Uid};

/// An engine that a test can stop and crash.
pub(crate) trait Harness {
    /// The engine as it runs now.
    fn engine(&self) -> Arc<dyn Engine>;
    /// Kills it at once and starts it again.
    fn crash(&mut self, seed: u64);
    /// Stops it in order and starts it again. Nobody may hold the engine.
    fn restart(&mut self);
}

pub(crate) struct TwinHarness(Twin);

impl TwinHarness {
    /// A write buffer of a few batches, so that the twin also flushes by itself.
    pub(crate) fn new() -> TwinHarness {
        TwinHarness(Twin::with_write_buffer(4096))
    }
}

impl Harness for TwinHarness {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(self.0.clone())
    }

    fn crash(&mut self, seed: u64) {
        self.0.crash(seed);
    }

    fn restart(&mut self) {
        self.0.flush().expect("the twin never fails");
    }
}

#[cfg(not(madsim))]
pub(crate) mod rocks {
    use std::fs;
    use std::path::Path;

    use quorate_store::{Rocks, RocksOptions};
    use tempfile::TempDir;

    use super::{Arc, Engine, Harness};

    pub(crate) struct RocksHarness {
        folder: TempDir,
        engine: Option<Arc<Rocks>>,
    }

    impl RocksHarness {
        pub(crate) fn new() -> RocksHarness {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let engine = Some(open(folder.path()));
            RocksHarness { folder, engine }
        }

        pub(crate) fn folder(&self) -> &Path {
            self.folder.path()
        }
    }

    impl Harness for RocksHarness {
        fn engine(&self) -> Arc<dyn Engine> {
            Arc::<Rocks>::clone(self.engine.as_ref().expect("it is open"))
        }

        /// What a killed process leaves are the files as they stand at one moment. A copy of the
        /// folder is that, if nothing changed while it was made.
        fn crash(&mut self, _seed: u64) {
            let copy = tempfile::tempdir().expect("a temporary folder");
            while !copied_unchanged(self.folder.path(), copy.path()) {}
            self.engine = Some(open(copy.path()));
            self.folder = copy;
        }

        fn restart(&mut self) {
            let engine = self.engine.take().expect("it is open");
            assert_eq!(Arc::strong_count(&engine), 1, "somebody holds the engine");
            drop(engine);
            self.engine = Some(open(self.folder.path()));
        }
    }

    fn open(folder: &Path) -> Arc<Rocks> {
        // Files, and so runs, as small as those of the twin.
        let options = RocksOptions { file_bytes: 1024, ..RocksOptions::small() };
        Arc::new(Rocks::open(folder, &options).expect("the store opens"))
    }

    fn copied_unchanged(from: &Path, to: &Path) -> bool {
        for (name, _) in listed(to) {
            fs::remove_file(to.join(name)).expect("our own copy");
        }
        let before = listed(from);
        // A file that vanishes half-way shows as a difference below.
        let copied =
            before.iter().all(|(name, _)| fs::copy(from.join(name), to.join(name)).is_ok());
        copied && before == listed(from) && before == listed(to)
    }

    /// Names and lengths of the files that carry data, in order.
    fn listed(folder: &Path) -> Vec<(String, u64)> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).expect("the folder exists") {
            let entry = entry.expect("the folder is readable");
            let name = entry.file_name().into_string().expect("RocksDB's names are ASCII");
            let Ok(metadata) = entry.metadata() else { continue };
            if !name.starts_with("LO") && metadata.is_file() {
                files.push((name, metadata.len()));
            }
        }
        files.sort();
        files
    }
}

/// A row of `group`, ordered by `number`.
pub(crate) fn row(group: u32, number: u64) -> Key {
    let space = Keyspace::first(GroupId(group));
    space.row(SliceId(0), TableId(1), Uid(number), b"")
}

/// Below and above every row.
pub(crate) fn all_rows() -> (Key, Key) {
    let tag = |tag: u8| Key::from_bytes(&[tag]);
    (tag(0x10), tag(0x11))
}

pub(crate) fn value(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

pub(crate) fn number(value: &Bytes) -> u64 {
    u64::from_be_bytes(value[..].try_into().expect("written by `value`"))
}

pub(crate) fn put(key: Key, to: u64) -> Change {
    Change { key, value: Some(value(to)) }
}

pub(crate) fn delete(key: Key) -> Change {
    Change { key, value: None }
}

/// A batch that brings `group` to `slot`.
pub(crate) fn batch(group: u32, slot: u64, changes: Vec<Change>) -> CheckpointBatch {
    CheckpointBatch {
        records: changes.into_iter().map(|change| (change.key, change.value)).collect(),
        applied: [(GroupId(group), Slot(slot))].into(),
        bytes: 100,
        ..CheckpointBatch::default()
    }
}

/// Instantiates tests `fn name(harness: impl Harness)` of the parent module for both engines.
#[macro_export]
macro_rules! on_both_engines {
    ($($test:ident,)*) => {
        mod twin {
            $(#[test] fn $test() { super::$test(super::common::TwinHarness::new()); })*
        }
        #[cfg(not(madsim))]
        mod rocks {
            $(#[test] fn $test() { super::$test(super::common::rocks::RocksHarness::new()); })*
        }
    };
}
