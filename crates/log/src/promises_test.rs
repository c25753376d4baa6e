//! Goal: whatever a power cut leaves of the two copies, no stored promise is forgotten.

use std::collections::BTreeMap;

use quorate_types::{ClusterId, Incarnation, NodeId, ReplicaId, ReplicaKind};

use super::*;
use crate::disk::sim::{CrashMode, SimDisk};
use crate::frame::{LogOffset, SegmentId};
use crate::record::{GroupRecord, LogMark, MembershipRecord};

fn record(round: u64) -> NodeRecord {
    let promised = Ballot { round, replica: ReplicaId(1) };
    // The record grows and shrinks from store to store.
    let groups = (0..=(round % 5) as u32 * 9)
        .map(|group| {
            (
                GroupId(group),
                GroupRecord {
                    replica: ReplicaId(1),
                    kind: ReplicaKind::Full,
                    promised,
                    pinned: false,
                    membership: MembershipRecord::default(),
                },
            )
        })
        .collect();
    NodeRecord {
        version: 0,
        cluster: ClusterId(1),
        node: NodeId(1),
        incarnation: Incarnation(1),
        lease_ns_max: round,
        log: LogMark { segment: SegmentId(round), durable: LogOffset(round * 100) },
        reborn: false,
        peers: BTreeMap::new(),
        groups,
    }
}

/// Opens and stores until something fails; keeps account of what was relied on.
fn live(disk: &SimDisk, relied_on: &mut u64, tried: &mut u64) -> Result<(), LogError> {
    let (mut file, opened) = PromiseFile::open(disk.mount())?;
    match opened {
        Opened::Fresh => assert_eq!(*relied_on, 0, "a promise is forgotten"),
        Opened::Valid(found) => {
            let round = found.lease_ns_max;
            assert!(*relied_on <= round && round <= *tried, "{relied_on} {round} {tried}");
            assert_eq!(NodeRecord { version: 0, ..found }, record(round));
            // The node may repeat this promise now, without another store.
            *relied_on = round;
        }
        Opened::Unreadable { reason } => panic!("unreadable after {relied_on}: {reason}"),
    }
    for _ in 0..3 {
        *tried += 1;
        file.store(&record(*tried))?;
        *relied_on = *tried;
    }
    Ok(())
}

#[test]
fn no_sequence_of_kills_and_power_cuts_forgets_a_promise() {
    for seed in 0..3_000_u64 {
        let disk = SimDisk::new();
        let (mut relied_on, mut tried) = (0, 0);
        for round in 0..6 {
            let dice = (seed * 6 + round).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            disk.stop_after(dice % 20);
            let _ = live(&disk, &mut relied_on, &mut tried);
            match (dice >> 8) % 3 {
                0 => disk.kill(),
                _ => disk.crash_as(CrashMode::ALL[(dice >> 12) as usize % 7], dice),
            }
        }
        live(&disk, &mut relied_on, &mut tried).expect("nothing stops it");
    }
}
