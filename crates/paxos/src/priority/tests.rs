//! Goal: replicas are compared by health, lag, pin, rank, slowness and id, in this order, and both sides
//! of a comparison agree.

use std::cmp::Ordering;

use proptest::prelude::*;
use quorate_types::{Ballot, EntryId, ReplicaId, Slot};

use super::{Health, LAG_EQUAL_BYTES, Standing};

fn standing(replica: u64) -> Standing {
    Standing {
        replica: ReplicaId(replica),
        health: Health::default(),
        last: EntryId { slot: Slot(9), ballot: Ballot { round: 1, replica: ReplicaId(1) } },
        log_bytes: 100 * LAG_EQUAL_BYTES,
        pinned: false,
        rank: 1,
    }
}

/// `r1`, which would lead, loses once `edit` has been made to it.
fn check_worse(edit: impl Fn(&mut Standing)) {
    let mut left = standing(1);
    let right = standing(2);
    assert!(left.is_better_than(&right));
    edit(&mut left);
    assert!(right.is_better_than(&left), "{left:?}");
}

fn lag(standing: &mut Standing, bytes: u64) {
    standing.last.slot = Slot(standing.last.slot.0 - 1);
    standing.log_bytes -= bytes;
}

#[test]
fn each_field_decides_before_the_id() {
    check_worse(|s| s.health.draining = true);
    check_worse(|s| s.health.fatal_faults = 1);
    check_worse(|s| s.health.serious_faults = 1);
    check_worse(|s| s.rank = 2);
    check_worse(|s| lag(s, LAG_EQUAL_BYTES));
}

#[test]
fn earlier_fields_outweigh_later_ones() {
    // Each edit makes r1 better in one field and worse in the one before it.
    check_worse(|s| {
        s.rank = 0;
        lag(s, 2 * LAG_EQUAL_BYTES);
    });
    check_worse(|s| {
        s.pinned = true;
        s.health.fatal_faults = 1;
    });
    let mut left = standing(1);
    left.rank = 9;
    left.pinned = true;
    assert!(left.is_better_than(&standing(2)), "a pin outweighs the rank");
    let mut left = standing(1);
    left.rank = 0;
    left.health.serious_faults = 7;
    assert!(left.is_better_than(&standing(2)), "the rank outweighs slowness");
}

#[test]
fn lag_below_a_mebibyte_is_none() {
    let mut left = standing(1);
    lag(&mut left, LAG_EQUAL_BYTES - 1);
    assert!(left.is_better_than(&standing(2)));
    // Lags of the same power of two are equal too, the longer log does not matter by itself.
    let mut left = standing(1);
    left.log_bytes += 3 * LAG_EQUAL_BYTES;
    assert_eq!(left.last, standing(2).last);
    assert!(left.is_better_than(&standing(2)));
}

#[test]
fn a_longer_log_of_an_older_ballot_is_the_lagging_one() {
    let mut older = standing(1);
    older.log_bytes += 50 * LAG_EQUAL_BYTES;
    older.last.slot = Slot(1000);
    let mut newer = standing(2);
    newer.last.ballot.round = 2;
    // It counts as equal, because it has nothing the other lacks in bytes; rank and id decide.
    assert!(older.is_better_than(&newer));
}

fn standings() -> impl Strategy<Value = Standing> {
    let health =
        (any::<bool>(), 0u8..2, 0u8..2).prop_map(|(draining, fatal_faults, serious_faults)| {
            Health { draining, fatal_faults, serious_faults }
        });
    (1u64..4, health, 0u64..4, 0u64..4, any::<bool>(), 0u16..2).prop_map(
        |(replica, health, slot, mebibytes, pinned, rank)| Standing {
            replica: ReplicaId(replica),
            health,
            last: EntryId { slot: Slot(slot), ballot: Ballot::ZERO },
            log_bytes: mebibytes * LAG_EQUAL_BYTES,
            pinned,
            rank,
        },
    )
}

proptest! {
    #[test]
    fn both_sides_agree(left in standings(), right in standings()) {
        prop_assert_eq!(left.compare(&right), right.compare(&left).reverse());
        prop_assert_eq!(left.compare(&left), Ordering::Equal);
        if left.replica != right.replica {
            prop_assert!(left.is_better_than(&right) || right.is_better_than(&left));
        }
    }
}

#[test]
fn the_place_alone_leads_home() {
    // Goal: a leadership goes home to a better place only, and never to a node in worse health.
    let own = standing(2);
    let home = Standing { rank: 0, ..standing(1) };
    assert!(home.is_better_placed_than(&own));
    let pinned = Standing { pinned: true, rank: 9, ..standing(1) };
    assert!(pinned.is_better_placed_than(&own) && !home.is_better_placed_than(&pinned));

    let edits: [fn(&mut Standing); 5] = [
        |s| s.rank = 1, // Equal, and the lower id does not count.
        |s| s.health.draining = true,
        |s| s.health.fatal_faults = 1,
        |s| s.health.serious_faults = 1,
        |s| lag(s, LAG_EQUAL_BYTES),
    ];
    for edit in edits {
        let mut other = home;
        edit(&mut other);
        assert!(!other.is_better_placed_than(&own), "{other:?}");
    }
    // Both have the same fault, or only we have: that is no reason to stay.
    let slow = |mut standing: Standing| {
        standing.health.serious_faults = 1;
        standing
    };
    assert!(slow(home).is_better_placed_than(&slow(own)) && home.is_better_placed_than(&slow(own)));
    assert!(!standing(1).is_better_placed_than(&slow(own)), "health alone leads nobody home");
}
