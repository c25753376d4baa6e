//! SIGKILL: of all nodes at once, of one, of two. Again and again, on the same data folders.

use rand::seq::IndexedRandom;

use super::Order;
use crate::Failure;
use crate::cluster::Node;
use crate::report::{Outcome, TITLES};
use crate::trial::{Setup, Trial, rounds_json};

const FAULT: &str = "kill";

/// Runs the rounds.
pub(crate) async fn run(order: Order<'_>) -> Result<Outcome, Failure> {
    let Order { options, folder, seed } = order;
    let setup = Setup::new(options, folder)?;
    let mut trial = Trial::start(setup, options.full_load(), seed).await?;
    println!("{TITLES}");
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        let number = trial.begin_round();
        let count = victims(number);
        let nodes: Vec<Node> =
            Node::ALL.choose_multiple(&mut trial.random, count).copied().collect();
        let load = trial.run_load(options).await;
        trial.cluster.kill(&nodes)?;
        trial.struck(count == Node::ALL.len());
        let round = trial.recover(&nodes, load).await?;
        println!("{}", round.line());
        rounds.push(round);
    }
    trial.finish(FAULT, options.rounds, rounds_json(&rounds)).await
}

/// How many nodes die in a round: all in every second one, otherwise one and two by turns.
fn victims(round: u64) -> usize {
    match round % 4 {
        0 => 2,
        2 => 1,
        _ => Node::ALL.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_has_one_of_each() {
        assert_eq!((1..=4).map(victims).collect::<Vec<_>>(), [3, 1, 3, 2]);
    }
}
