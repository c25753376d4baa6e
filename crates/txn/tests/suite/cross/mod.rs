//! Cross-unit transactions under random schedules: groups whose leaders change, messages that are lost,
//! doubled and late, and clients that ask again. `group.rs` is a group, `world.rs` runs many, `cuts.rs`
//! puts the views at a cut together, `looks.rs` reads rows of all groups in two rounds, `payments.rs` and `payments_cuts.rs` do the same with transfers. `joints.rs`
//! has scripts of cases where sessions, entries and attempts meet, `sides.rs` of what two groups say of
//! one batch.

mod cuts;
mod group;
mod joints;
mod looks;
mod payments;
mod payments_cuts;
mod payments_judge;
#[cfg(madsim)]
mod planted;
mod rounds;
mod sides;
mod world;

use world::World;

/// Seeds of one run of the suite; `QUORATE_SEEDS=0..100000` asks for others.
const SEEDS: std::ops::Range<u64> = 0..300;
/// Random steps of a seed, before everything is left to settle; `QUORATE_STEPS` asks for others.
const STEPS: usize = 1500;

#[test]
fn money_is_neither_lost_nor_doubled_whatever_happens() {
    // Goal: under any schedule, transactions over several groups are atomic, serializable, take effect
    // once, and leave neither locks nor records behind.
    #[cfg(madsim)]
    planted::plant_what_is_asked_for();
    let (seeds, steps) = (seeds(), steps());
    let (mut committed, mut cuts, mut looks) = (0, 0, 0);
    for seed in seeds.clone() {
        let result = std::panic::catch_unwind(|| World::run(seed, steps));
        match result {
            Ok(counts) => {
                committed += counts.committed;
                cuts += counts.cuts;
                looks += counts.looks;
            }
            Err(_) => panic!(
                "replay: QUORATE_SEEDS={seed}..{} QUORATE_STEPS={steps} \
                 scripts/cargo test -p quorate-txn --test suite cross",
                seed + 1
            ),
        }
    }
    let runs = seeds.end - seeds.start;
    println!("{runs} seeds, {committed} transactions committed, {cuts} cuts, {looks} looks");
    assert!(runs * 5 < committed, "only {committed} transactions committed: nothing was tested");
    assert!(runs * 2 < cuts, "only {cuts} cuts: nothing was tested");
    assert!(runs * 2 < looks, "only {looks} looks: nothing was tested");
}

#[test]
fn transfers_between_groups_are_neither_lost_nor_doubled_whatever_happens() {
    // Goal: under any schedule, transfers between groups are atomic, keep every floor, take effect once
    // under their id, and every balance read shows all that was acknowledged, in its order.
    let (seeds, steps) = (seeds(), steps());
    let (mut created, mut reads, mut cuts) = (0, 0, 0);
    for seed in seeds.clone() {
        let result = std::panic::catch_unwind(|| payments::run(seed, steps));
        match result {
            Ok(counts) => {
                (created, reads) = (created + counts.created, reads + counts.reads);
                cuts += counts.cuts;
            }
            Err(_) => panic!(
                "replay: QUORATE_SEEDS={seed}..{} QUORATE_STEPS={steps} \
                 scripts/cargo test -p quorate-txn --test suite cross::transfers",
                seed + 1
            ),
        }
    }
    let runs = seeds.end - seeds.start;
    println!("{runs} seeds, {created} transfers created, {reads} reads judged, {cuts} cuts");
    assert!(runs * 20 < created.min(reads), "only {created} and {reads}: nothing was tested");
    assert!(runs < 2 * cuts, "only {cuts} cuts: nothing was tested");
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("QUORATE_SEEDS") else { return SEEDS };
    let (from, end) = text.split_once("..").expect("QUORATE_SEEDS is FROM..END");
    from.parse().expect("a number")..end.parse().expect("a number")
}

fn steps() -> usize {
    std::env::var("QUORATE_STEPS").map_or(STEPS, |text| text.parse().expect("a number"))
}
