//! Bank: kills, pauses and cuts of the network, one after the other, under a load of payments between units
//! and transfers, until so many transactions were acknowledged. Then everything is compared.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::Order;
use crate::Failure;
use crate::bank::{Bank, get};
use crate::cluster::{Cluster, Node};
use crate::health::{connect, leaders, wait_healthy};
use crate::network::Network;
use crate::report::{Outcome, ms, seconds};

const FAULT: &str = "bank";
/// How long a fault lasts, in ms.
const FAULT_MS: std::ops::Range<u64> = 500..4_000;
/// How long nothing is broken between two, in ms.
const CALM_MS: std::ops::Range<u64> = 300..2_000;
/// How long nothing may be acknowledged after a fault was mended.
const PROGRESS_PATIENCE: Duration = Duration::from_secs(60);
/// How long a cluster may take to stop when asked.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// What is broken first, so that a short run has every kind: numbers of `Break::draw`.
const EACH_KIND: [u32; 4] = [0, 4, 6, 9];
/// Shown of what is wrong.
const WRONG_SHOWN: usize = 100;

/// What breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Break {
    /// SIGKILL.
    Kill(Vec<Node>),
    /// SIGSTOP.
    Pause(Node),
    /// Nothing arrives from here to there.
    Cut(Vec<(Node, Node)>),
    /// Nobody reaches it, clients neither.
    TakeOff(Node),
}

impl Break {
    /// The next one: first one of each kind, then any. A leader is hit more often than chance would
    /// have it.
    fn draw(random: &mut SmallRng, number: usize, leader: Option<Node>) -> Break {
        let any = Node::ALL[random.random_range(0..Node::ALL.len())];
        let node = leader.filter(|_| random.random_bool(0.5)).unwrap_or(any);
        let other = node.others()[random.random_range(0..2)];
        let drawn = random.random_range(0..10);
        match EACH_KIND.get(number).copied().unwrap_or(drawn) {
            0..2 => Break::Kill(vec![node]),
            2 => Break::Kill(node.others()),
            3 => Break::Kill(Node::ALL.to_vec()),
            4..6 => Break::Pause(node),
            6 => Break::TakeOff(node),
            7 => Break::Cut(vec![(node, other), (other, node)]),
            8 => Break::Cut(node.others().into_iter().map(|other| (node, other)).collect()),
            _ => {
                let both = |other| [(node, other), (other, node)];
                Break::Cut(node.others().into_iter().flat_map(both).collect())
            }
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Break::Kill(_) => "kill",
            Break::Pause(_) => "pause",
            Break::Cut(_) => "cut",
            Break::TakeOff(_) => "take-off",
        }
    }

    fn happen(&self, cluster: &mut Cluster) -> Result<(), Failure> {
        match self {
            Break::Kill(nodes) => cluster.kill(nodes)?,
            Break::Pause(node) => cluster.pause(*node)?,
            Break::Cut(links) => {
                for (from, to) in links {
                    cluster.network()?.cut(*from, *to)?;
                }
            }
            Break::TakeOff(node) => cluster.network()?.take_off(*node)?,
        }
        Ok(())
    }

    fn mend(&self, cluster: &mut Cluster) -> Result<(), Failure> {
        match self {
            Break::Kill(nodes) => cluster.start(nodes)?,
            Break::Pause(node) => cluster.resume(*node)?,
            Break::Cut(links) => {
                for (from, to) in links {
                    cluster.network()?.mend(*from, *to)?;
                }
            }
            Break::TakeOff(node) => cluster.network()?.put_back(*node)?,
        }
        Ok(())
    }
}

/// Breaks things until enough was acknowledged, then compares.
pub(crate) async fn run(order: Order<'_>) -> Result<Outcome, Failure> {
    let Order { options, folder, seed } = order;
    let network = match Network::create(options.base_port) {
        Ok(network) => network,
        Err(lacking) => return Ok(Outcome::skipped(FAULT, lacking.0)),
    };
    std::fs::create_dir_all(folder)?;
    let mut cluster =
        Cluster::in_network(&options.server, folder, options.base_port, Some(network))?;
    cluster.start(&Node::ALL)?;
    wait_healthy(&mut cluster, &Node::ALL).await?;
    let clients = [connect(&cluster).await?, connect(&cluster).await?];
    let mut random = SmallRng::seed_from_u64(seed);
    let mut bank = Bank::open(&clients[0]).await?;
    let started = Instant::now();
    bank.start(options, &clients, &mut random);
    let mut strikes = Strikes::default();
    let enough = |bank: &Bank| options.transactions <= bank.shared.counts.done();
    while strikes.all() < EACH_KIND.len() || !enough(&bank) {
        strikes.one(&mut cluster, &bank, &mut random).await?;
    }
    bank.stop().await?;
    let took = started.elapsed();
    let checking = Instant::now();
    let compared = bank.check(&connect(&cluster).await?).await?;
    for client in clients {
        client.close().await;
    }
    cluster.stop(STOP_PATIENCE)?;
    let (anomalies, mut wrong) = bank.shared.all_wrong();
    wrong.truncate(WRONG_SHOWN);
    let facts = facts(&bank, &strikes, took, anomalies);
    let counts = &bank.shared.counts;
    println!(
        "  {} payments ({} between units), {} transfers, {} not done, {} unknown, {} audits and looks \
         in {} s; compared in {} s; {anomalies} anomalies",
        get(&counts.paid),
        get(&counts.paid_far),
        get(&counts.moved),
        get(&counts.not_done),
        get(&counts.unknown),
        get(&counts.audits),
        seconds(took),
        seconds(checking.elapsed()),
    );
    crate::report::print_wrong(&wrong);
    Ok(Outcome {
        fault: FAULT,
        skipped: None,
        rounds: strikes.all() as u64,
        done: counts.done(),
        compared: compared.compared,
        missing: compared.missing,
        wrong,
        facts,
    })
}

/// What was broken so far.
#[derive(Default)]
struct Strikes {
    count: BTreeMap<&'static str, usize>,
    /// From mending to the first acknowledged transaction and healthy nodes.
    longest: Duration,
}

impl Strikes {
    fn all(&self) -> usize {
        self.count.values().sum()
    }

    async fn one(
        &mut self,
        cluster: &mut Cluster,
        bank: &Bank,
        random: &mut SmallRng,
    ) -> Result<(), Failure> {
        tokio::time::sleep(Duration::from_millis(random.random_range(CALM_MS))).await;
        let led = leaders(&connect(cluster).await?).await;
        let leader = led.into_values().collect::<Vec<_>>().choose(random).copied();
        let strike = Break::draw(random, self.all(), leader);
        let lasts = Duration::from_millis(random.random_range(FAULT_MS));
        let before = bank.shared.counts.done();
        strike.happen(cluster)?;
        tokio::time::sleep(lasts).await;
        let during = bank.shared.counts.done() - before;
        strike.mend(cluster)?;
        let mended = Instant::now();
        wait_healthy(cluster, &Node::ALL).await?;
        let (healthy, want) = (mended.elapsed(), bank.shared.counts.done() + 1);
        while bank.shared.counts.done() < want {
            if PROGRESS_PATIENCE < mended.elapsed() {
                return Err(format!("nothing was acknowledged after {strike:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.longest = self.longest.max(mended.elapsed());
        *self.count.entry(strike.word()).or_default() += 1;
        let (number, done, wrong) =
            (self.all(), bank.shared.counts.done(), bank.shared.all_wrong().0);
        println!(
            "  {number}: {strike:?} for {} s, {during} acknowledged meanwhile; healthy {} s after; \
             {done} in all, {wrong} wrong",
            seconds(lasts),
            seconds(healthy),
        );
        Ok(())
    }
}

fn facts(bank: &Bank, strikes: &Strikes, took: Duration, anomalies: u64) -> Value {
    let counts = &bank.shared.counts;
    json!({
        "payments": get(&counts.paid), "payments_between_units": get(&counts.paid_far),
        "transfers": get(&counts.moved), "asked_again": get(&counts.again),
        "not_done": get(&counts.not_done), "unknown": get(&counts.unknown),
        "audits": get(&counts.audits), "anomalies": anomalies, "took_ms": ms(took),
        "longest_recovery_ms": ms(strikes.longest), "faults": strikes.count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_has_every_kind() {
        // Goal: even the shortest run kills, pauses, cuts and takes off.
        let mut random = SmallRng::seed_from_u64(7);
        let draw = |number| Break::draw(&mut random, number, None).word();
        let words: Vec<&str> = (0..EACH_KIND.len()).map(draw).collect();
        assert_eq!(words, ["kill", "pause", "take-off", "cut"]);
    }
}
