//! Random numbers of a seed. Independent streams, so that a change of what one part of a run draws leaves
//! the others as they were.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Streams of random numbers of one seed; independent, so that a change in one leaves the others.
#[derive(Clone, Copy, Debug)]
pub enum Draw {
    /// The options.
    Options,
    /// The schedule of faults.
    Faults,
    /// What power cuts take, where clocks start again.
    Crashes,
    /// Which messages are lost, doubled, late.
    Network,
    /// What a worker of the workload asks.
    Worker(u32),
    /// Changes of members that an operator asks for.
    Churn(u32),
    /// Random bits of a node at a start.
    Node(u32, u64),
}

/// The random numbers of `draw` under `seed`.
#[must_use]
pub fn random(seed: u64, draw: Draw) -> SmallRng {
    let (stream, number) = match draw {
        Draw::Options => (1, 0),
        Draw::Faults => (2, 0),
        Draw::Crashes => (3, 0),
        Draw::Worker(worker) => (4, u64::from(worker)),
        Draw::Network => (6, 0),
        Draw::Churn(operator) => (7, u64::from(operator)),
        Draw::Node(node, start) => (5, u64::from(node) << 32 | start),
    };
    let mixed =
        (seed ^ (stream << 56)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.rotate_left(17);
    SmallRng::seed_from_u64(mixed)
}

/// One of several, all equally likely.
pub fn pick<T: Copy>(rng: &mut SmallRng, choices: &[T]) -> T {
    choices[rng.random_range(0..choices.len())]
}
