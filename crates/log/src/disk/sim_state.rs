//! What a simulated disk holds: bytes that are durable, bytes that are only cached, and the rules
//! by which a power cut decides about the difference.
//!
//! Used by `sim.rs` only, which adds the handles, the faults and the lock.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;

/// The unit a drive writes whole.
const SECTOR_BYTES: u64 = 512;

/// What a power cut does to that which was not synced. Renames, new names and removals are kept or
/// lost one by one in every mode but the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// Everything had reached the disk.
    KeepAll,
    /// Nothing had.
    DropAll,
    /// Each write is kept, lost, or kept in some of its sectors.
    TearSectors,
    /// Each write is kept, lost, or kept up to some byte.
    TearBytes,
    /// Each write is kept, lost, or kept with one bit flipped.
    FlipBits,
    /// Later writes may be kept while earlier ones are lost, each whole.
    Reorder,
    /// Any of the above for each write.
    Mixed,
}

impl CrashMode {
    /// Every mode, for tests that try them all.
    pub const ALL: [CrashMode; 7] = [
        CrashMode::KeepAll,
        CrashMode::DropAll,
        CrashMode::TearSectors,
        CrashMode::TearBytes,
        CrashMode::FlipBits,
        CrashMode::Reorder,
        CrashMode::Mixed,
    ];
}

/// Bytes of a file. Only the written part is held; the rest up to `len` reads as zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    bytes: Vec<u8>,
    pub(super) len: u64,
}

impl Content {
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let count = self.len.saturating_sub(offset).min(into.len() as u64) as usize;
        let held = (self.bytes.len() as u64).saturating_sub(offset).min(count as u64) as usize;
        let from = offset.min(self.bytes.len() as u64) as usize;
        into[..held].copy_from_slice(&self.bytes[from..from + held]);
        into[held..count].fill(0);
        count
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset as usize + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset as usize..end].copy_from_slice(bytes);
        self.len = self.len.max(end as u64);
    }

    fn set_len(&mut self, len: u64) {
        self.bytes.truncate(len.min(self.bytes.len() as u64) as usize);
        self.len = len;
    }

    fn flip(&mut self, offset: u64, bit: u8) {
        let mut byte = [0];
        if self.read(offset, &mut byte) == 1 {
            self.write(offset, &[byte[0] ^ (1 << (bit % 8))]);
        }
    }
}

/// A change of a file that is not durable yet.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) durable: Content,
    pub(super) cached: Content,
    pub(super) unsynced: Vec<Change>,
}

impl File {
    pub(super) fn change(&mut self, change: Change) {
        apply(&mut self.cached, &change);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            apply(&mut self.durable, &change);
        }
    }

    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        self.durable.flip(offset, bit);
        self.cached.flip(offset, bit);
    }

    fn crash(&mut self, mode: CrashMode, rng: &mut SmallRng) {
        for change in std::mem::take(&mut self.unsynced) {
            survive(&mut self.durable, change, mode, rng);
        }
        self.cached = self.durable.clone();
    }
}

fn apply(content: &mut Content, change: &Change) {
    match change {
        Change::Write { offset, bytes } => content.write(*offset, bytes),
        Change::SetLen(len) => content.set_len(*len),
    }
}

/// Applies what a power cut leaves of one change.
fn survive(content: &mut Content, change: Change, mode: CrashMode, rng: &mut SmallRng) {
    let mode = match mode {
        CrashMode::Mixed => CrashMode::ALL[rng.random_range(0..6)],
        other => other,
    };
    let keep = match mode {
        CrashMode::KeepAll => true,
        CrashMode::DropAll => false,
        _ => rng.random_bool(0.5),
    };
    let tear = !matches!(mode, CrashMode::KeepAll | CrashMode::DropAll | CrashMode::Reorder)
        && rng.random_bool(0.5);
    let Change::Write { offset, mut bytes } = change else {
        if keep {
            apply(content, &change);
        }
        return;
    };
    if !tear || bytes.is_empty() {
        if keep {
            content.write(offset, &bytes);
        }
        return;
    }
    match mode {
        CrashMode::TearSectors => {
            let mut at = offset;
            let end = offset + bytes.len() as u64;
            while at < end {
                let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                if rng.random_bool(0.5) {
                    content.write(at, &bytes[(at - offset) as usize..(next - offset) as usize]);
                }
                at = next;
            }
        }
        CrashMode::FlipBits => {
            let at = rng.random_range(0..bytes.len());
            bytes[at] ^= 1 << rng.random_range(0..8);
            content.write(offset, &bytes);
        }
        _ => content.write(offset, &bytes[..rng.random_range(0..bytes.len())]),
    }
}

/// A change of names that is not durable yet.
#[derive(Clone, Debug)]
pub(super) enum Naming {
    Link { name: String, file: u64 },
    Rename { from: String, to: String, file: u64 },
    Unlink { name: String },
}

impl Naming {
    fn dir(&self) -> &str {
        match self {
            Naming::Link { name, .. } | Naming::Unlink { name } => dir_of(name),
            Naming::Rename { to, .. } => dir_of(to),
        }
    }
}

/// All files with their cached and their durable names.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) files: BTreeMap<u64, File>,
    pub(super) names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced_names: Vec<Naming>,
    next_file: u64,
}

impl Files {
    pub(super) fn create(&mut self, path: &str) -> u64 {
        if let Some(file) = self.names.get(path) {
            return *file;
        }
        self.next_file += 1;
        let file = self.next_file;
        self.files.insert(file, File::default());
        self.name(Naming::Link { name: path.to_owned(), file });
        file
    }

    pub(super) fn name(&mut self, naming: Naming) {
        rename(&mut self.names, &naming);
        self.unsynced_names.push(naming);
    }

    pub(super) fn sync_dir(&mut self, dir: &str) {
        for naming in std::mem::take(&mut self.unsynced_names) {
            if naming.dir() == dir {
                rename(&mut self.durable_names, &naming);
            } else {
                self.unsynced_names.push(naming);
            }
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|file| self.files.get(file)).map(|f| f.cached.len).sum()
    }

    pub(super) fn crash(&mut self, mode: CrashMode, rng: &mut SmallRng) {
        for naming in std::mem::take(&mut self.unsynced_names) {
            let keep = match mode {
                CrashMode::KeepAll => true,
                CrashMode::DropAll => false,
                _ => rng.random_bool(0.5),
            };
            if keep {
                rename(&mut self.durable_names, &naming);
            }
        }
        self.names = self.durable_names.clone();
        let named: Vec<u64> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
        for file in self.files.values_mut() {
            file.crash(mode, rng);
        }
    }
}

fn rename(names: &mut BTreeMap<String, u64>, naming: &Naming) {
    match naming {
        Naming::Link { name, file } => {
            names.insert(name.clone(), *file);
        }
        Naming::Rename { from, to, file } => {
            // The old name may by now stand for another file if an earlier change was lost.
            if names.get(from) == Some(file) {
                names.remove(from);
            }
            names.insert(to.clone(), *file);
        }
        Naming::Unlink { name } => {
            names.remove(name);
        }
    }
}

pub(super) fn dir_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}
