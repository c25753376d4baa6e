//! Random schedules of the pure core: agreement, durability, linearizable reads and convergence, checked
//! on every step. `QUORATE_SEEDS=A..B` chooses other seeds, `QUORATE_STEPS` their length.

#![allow(unreachable_pub, missing_docs)]

mod carry_out;
mod chosen;
mod node;
mod rng;
mod weather;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

fn seeds() -> std::ops::Range<u64> {
    let text = std::env::var("QUORATE_SEEDS").unwrap_or_else(|_| "0..600".to_owned());
    let (from, end) = text.split_once("..").expect("QUORATE_SEEDS is A..B");
    from.parse().expect("a number")..end.parse().expect("a number")
}

/// Goal: no schedule breaks an invariant, and every one converges once its faults end.
#[test]
fn random_schedules_keep_every_invariant() {
    let steps: u64 =
        std::env::var("QUORATE_STEPS").map_or(4000, |text| text.parse().expect("a number"));
    let (mut acked, mut reads, mut elections, mut chosen) = (0, 0, 0, 0);
    for seed in seeds() {
        let mut world = World::new(seed);
        let weather = world.weather;
        let run = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..steps {
                world.step();
            }
            world.converge();
        }));
        if let Err(panic) = run {
            eprintln!(
                "replay: QUORATE_SEEDS={seed}..{} QUORATE_STEPS={steps} cargo test -p quorate-paxos --test explorer",
                seed + 1
            );
            eprintln!("options: {weather:?}");
            std::panic::resume_unwind(panic);
        }
        acked += world.acked_writes;
        reads += world.confirmed_reads;
        elections += world.elections;
        chosen += world.chosen.len();
    }
    println!(
        "{acked} writes acknowledged, {reads} reads confirmed, {elections} elections, {chosen} slots chosen"
    );
    assert!(acked > 0 && reads > 0 && elections > 0, "the schedules did nothing");
}
