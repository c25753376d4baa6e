//! Bytes of a log that change by themselves, while its server is down.
//!
//! Only such bytes as the log itself says were durable: what was written behind them tells. What nobody says that of
//! cannot be told from a write that a power cut tore (docs/STORAGE_FORMAT.md, "Recovery").

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_log::{Disk, Log, LogError, LogMark, LogOffset, LogOptions, SimDisk};
use rand::Rng;
use rand::rngs::SmallRng;

/// The folder of the segments.
const FOLDER: &str = "log";
/// Where the head of a segment says at which offset of the log it begins.
const BASE_AT: std::ops::Range<u64> = 40..48;

/// The bytes of one segment that are known to be durable.
struct Part {
    path: String,
    bytes: u64,
}

/// Flips a bit of the log. False if nothing of it is known to be durable. Nobody may have it open.
pub fn flip_log(disk: &SimDisk, rng: &mut SmallRng) -> bool {
    let parts = durable_parts(&disk.mount()).unwrap_or_else(|error| panic!("a log: {error}"));
    let all: u64 = parts.iter().map(|part| part.bytes).sum();
    if all == 0 {
        return false;
    }
    let mut at = rng.random_range(0..all);
    for Part { path, bytes } in &parts {
        if at < *bytes {
            // Where a segment begins is what finds the others here.
            let at = if BASE_AT.contains(&at) { at + 8 } else { at };
            disk.flip_bit(path, at, rng.random_range(0..8));
            return true;
        }
        at -= bytes;
    }
    unreachable!("it is less than the sum");
}

fn durable_parts(disk: &Arc<dyn Disk>) -> std::io::Result<Vec<Part>> {
    let Some(end) = durable_end(disk) else { return Ok(Vec::new()) };
    let mut begins = BTreeMap::new();
    for name in disk.list(FOLDER)?.into_iter().filter(|name| name.ends_with(".seg")) {
        let path = format!("{FOLDER}/{name}");
        let mut base = [0; 8];
        disk.open(&path)?.read_exact_at(BASE_AT.start, &mut base)?;
        begins.insert(u64::from_le_bytes(base), path);
    }
    let ends = begins.keys().copied().skip(1).chain([u64::MAX]);
    let parts = begins.iter().zip(ends).map(|((begin, path), next)| Part {
        path: path.clone(),
        bytes: next.min(end.0).saturating_sub(*begin),
    });
    Ok(parts.collect())
}

/// The end of a look at a log: there is nothing to open.
struct Looked;

impl From<LogError> for Looked {
    fn from(_: LogError) -> Looked {
        Looked
    }
}

/// Everything of the log below was durable. Looks as a start does, and turns back before it writes.
fn durable_end(disk: &Arc<dyn Disk>) -> Option<LogOffset> {
    let (options, mark, disk) = (LogOptions::small(), LogMark::default(), Arc::clone(disk));
    let mut durable = None;
    let look = |_: &_, _: &_, end: LogOffset| {
        durable = Some(end);
        Err(Looked)
    };
    let opened = Log::open_judged(disk, options, 1, mark, BTreeMap::new(), look);
    assert!(opened.is_err(), "it was only looked at");
    durable
}

#[cfg(test)]
mod tests {
    use quorate_log::Frame;
    use quorate_types::{GroupId, Slot};
    use rand::SeedableRng;

    use super::*;

    /// Goal: wherever it hits, a start finds it, and never takes it for the end of the log.
    #[test]
    fn a_flipped_bit_is_found() {
        for seed in 0..200 {
            let disk = SimDisk::new();
            assert!(!flip_log(&disk, &mut SmallRng::seed_from_u64(seed)), "there is no log");
            let (mut writer, _, _) = Log::open(disk.mount(), LogOptions::small(), 7).unwrap();
            for slot in 1..=5 {
                let slot = Slot(slot);
                let frame =
                    Frame { group: GroupId(1), first: slot, last: slot, body: vec![9; 70].into() };
                writer.append(&[frame]).unwrap();
                writer.sync().unwrap();
            }
            drop(writer);
            disk.kill();
            assert!(flip_log(&disk, &mut SmallRng::seed_from_u64(seed)));
            let (_, _, found) = Log::open(disk.mount(), LogOptions::small(), 7).unwrap();
            assert!(!found.damage.is_empty(), "seed {seed}");
        }
    }
}
