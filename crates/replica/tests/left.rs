//! Goal: what a replica had that has left for good is given up whatever step of that the power fails at: it is whole
//! before that is durable and never comes back after it, the id it had is never used again, and whatever comes after it
//! keeps its promise.
#![cfg(not(madsim))]

mod node;

use std::collections::BTreeMap;

use node::{End, Found, GROUP, Ledger, leave, live, remains};
use quorate_log::{CrashMode, SimDisk};
use quorate_store::{Engine, Key, Twin};
use quorate_types::{NodeId, ReplicaId};

/// Enough for several segments.
const WRITES: u64 = 16;

/// The records of the group in the engine, of any incarnation.
fn records(twin: &Twin) -> usize {
    let count = |tag: u8| {
        let front = Key::from_bytes(&[&[tag][..], &GROUP.0.to_be_bytes()].concat());
        twin.scan(&front, &front.prefix_end(), usize::MAX).expect("the twin works").len()
    };
    (0x10..=0xff).map(count).sum()
}

#[test]
fn a_power_cut_after_every_step_of_leaving_brings_nothing_back() {
    let mut founds: BTreeMap<String, u32> = BTreeMap::new();
    for mode in CrashMode::ALL {
        for step in 0.. {
            let (disk, twin, mut ledger) = (SimDisk::new(), Twin::new(), Ledger::default());
            assert_eq!(live(&disk, &twin, &mut ledger, WRITES), End::AllAnswered);
            disk.kill();
            let (_, before, _) = remains(&disk);
            disk.stop_after(step);
            let (_, end) = leave(&disk, &twin, &mut ledger);
            disk.crash_as(mode, step);
            twin.crash(step);

            let (found, after) = leave(&disk, &twin, &mut ledger);
            assert_eq!(after, End::AllAnswered, "{mode:?} after step {step}");
            let found = found.expect("it started");
            let again = found == Found::Again;
            assert!(again || end == End::Stopped, "what was told is forgotten: {mode:?}");
            *founds.entry(format!("{found:?}")).or_default() += 1;

            disk.crash_as(mode, step + 1);
            twin.crash(step + 1);
            let (replica, promised, frames) = remains(&disk);
            assert_eq!(replica, ReplicaId::later_on(NodeId(1), 7));
            assert!(before <= promised, "a promise of this disk is forgotten");
            assert_eq!(frames, 0, "{mode:?} after step {step}: its log is back");
            let (found, _) = leave(&disk, &twin, &mut ledger);
            assert_eq!(found, Some(Found::Again));
            assert_eq!(records(&twin), 0, "{mode:?} after step {step}: its rows are back");
            if end == End::AllAnswered {
                break;
            }
        }
    }
    println!("{founds:?}");
    assert!(founds.values().all(|count| 5 < *count) && founds.len() == 3, "{founds:?}");
}
