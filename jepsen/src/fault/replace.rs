//! Replace: every replica of every group moves to a node to spare and back, as an operator does it, under
//! load. Once nothing else happens, and clients may wait no longer than for a leader that dies; then nodes are
//! killed all the time.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use quorate_client::GroupId;
use rand::Rng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use super::Order;
use crate::Failure;
use crate::cluster::{Cluster, Node};
use crate::health::{leaders, wait_healthy};
use crate::report::{Outcome, ms, seconds};
use crate::trial::{Setup, Trial};

const FAULT: &str = "replace";
/// Writes of a group that show that it goes on.
const PROGRESS: u64 = 200;
/// How long a group may take for them.
const PROGRESS_PATIENCE: Duration = Duration::from_secs(60);
/// What a command of the operator may take before it is given up and started again.
const COMMAND_WAIT: &str = "20s";
/// How long a command may fail.
const COMMAND_PATIENCE: Duration = Duration::from_secs(300);
/// Longest pause of a writer in later rounds under kills. The view that rows are sent from dies with its node: those
/// that take longer to send than nodes live never arrive, and at full load every round makes them more.
const PAUSE_MAX: Duration = Duration::from_millis(40);
/// The exit code for what is written wrongly: trying again does not help.
const EXIT_USAGE: i32 = 2;
/// How long a killed node is down, in ms.
const DOWN_MS: std::ops::Range<u64> = 100..1_500;
/// How long nothing is killed between two, in ms.
const CALM_MS: std::ops::Range<u64> = 300..2_000;

/// Replaces everything, first calmly, then in `--rounds` rounds under kills, the first of them at full load as well.
pub(crate) async fn run(order: Order<'_>) -> Result<Outcome, Failure> {
    let Order { options, folder, seed } = order;
    let setup = Setup::with_spares(options, folder)?;
    let mut trial = Trial::start(setup, options.full_load(), seed).await?;
    let (handed_over, killed) = leader_changes(&mut trial).await?;
    println!(
        "  a leader hands over: nothing acknowledged for at most {} s; it is killed: {} s",
        seconds(handed_over),
        seconds(killed)
    );
    let calm = replace_all(&mut trial, false).await?;
    println!("  {}", calm.words());
    if killed < calm.stall {
        let (ours, theirs) = (seconds(calm.stall), seconds(killed));
        trial.note_wrong(format!(
            "while replicas were replaced nothing was acknowledged for {ours} s, while a leader was \
             dead for {theirs} s"
        ));
    }
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        let round = replace_all(&mut trial, true).await?;
        println!("  {}", round.words());
        rounds.push(round.json());
        trial.set_pause_max(PAUSE_MAX);
    }
    let facts = json!({
        "hand_over_stall_ms": ms(handed_over),
        "leader_killed_stall_ms": ms(killed),
        "calm": calm.json(),
        "under_kills": rounds,
    });
    trial.finish(FAULT, options.rounds, facts).await
}

/// What the leader of each group costs when it hands over, and when it is killed: the longest time without
/// an acknowledged write.
async fn leader_changes(trial: &mut Trial) -> Result<(Duration, Duration), Failure> {
    let (mut handed_over, mut killed) = (Duration::ZERO, Duration::ZERO);
    trial.begin_round();
    for group in groups(trial) {
        wait_steady(trial, group).await?;
        trial.ledger.reset_pulses();
        let leader = leader(trial, group).await?;
        trial.client.transfer_leader(group, None).await?;
        wait_led_elsewhere(trial, group, leader).await?;
        wait_steady(trial, group).await?;
        handed_over = handed_over.max(trial.ledger.pulse(group.0).stall(Instant::now()));

        let leader = self::leader(trial, group).await?;
        trial.ledger.reset_pulses();
        trial.cluster.kill(&[leader])?;
        trial.struck(false);
        wait_led_elsewhere(trial, group, leader).await?;
        wait_steady(trial, group).await?;
        killed = killed.max(trial.ledger.pulse(group.0).stall(Instant::now()));
        trial.cluster.start(&[leader])?;
        let nodes = trial.cluster.nodes();
        wait_healthy(&mut trial.cluster, &nodes).await?;
    }
    trial.end_load().await?;
    trial.check_recent().await?;
    Ok((handed_over, killed))
}

/// What came of replacing everything.
struct Replaced {
    /// Replicas that were replaced.
    replicas: usize,
    /// Nodes that were killed meanwhile.
    kills: usize,
    /// Commands that failed and were given again.
    again: usize,
    /// The longest time without an acknowledged write of a group.
    stall: Duration,
    took: Duration,
    wrong: usize,
}

impl Replaced {
    fn words(&self) -> String {
        let Replaced { replicas, kills, again, wrong, .. } = self;
        format!(
            "{replicas} replicas replaced in {} s, {kills} kills, {again} commands given again; nothing \
             acknowledged for at most {} s; {wrong} wrong",
            seconds(self.took),
            seconds(self.stall)
        )
    }

    fn json(&self) -> Value {
        json!({
            "replicas": self.replicas, "kills": self.kills, "again": self.again,
            "stall_ms": ms(self.stall), "took_ms": ms(self.took), "wrong": self.wrong,
        })
    }
}

/// Moves every replica to a node to spare, and back.
async fn replace_all(trial: &mut Trial, kills_nodes: bool) -> Result<Replaced, Failure> {
    trial.begin_round();
    let groups = groups(trial);
    for group in &groups {
        wait_steady(trial, *group).await?;
    }
    let operator = Operator::new(&trial.cluster, &groups);
    trial.ledger.reset_pulses();
    let started = Instant::now();
    let working = tokio::task::spawn_blocking(move || operator.replace_all());
    let mut kills = 0;
    while kills_nodes && !working.is_finished() {
        let calm = trial.random.random_range(CALM_MS);
        tokio::time::sleep(Duration::from_millis(calm)).await;
        kill_one(trial).await?;
        kills += 1;
    }
    let again = working.await??;
    let took = started.elapsed();
    let nodes = trial.cluster.nodes();
    wait_healthy(&mut trial.cluster, &nodes).await?;
    let mut stall = Duration::ZERO;
    for group in &groups {
        wait_steady(trial, *group).await?;
        stall = stall.max(trial.ledger.pulse(group.0).stall(Instant::now()));
    }
    trial.end_load().await?;
    let wrong = trial.check_recent().await?.wrong.len();
    for group in &groups {
        check_members(trial, *group).await?;
    }
    let replicas = 2 * groups.len() * Node::ALL.len();
    Ok(Replaced { replicas, kills, again, stall, took, wrong })
}

/// Kills any node, and starts it a moment later.
async fn kill_one(trial: &mut Trial) -> Result<(), Failure> {
    let nodes = trial.cluster.nodes();
    let node = *nodes.choose(&mut trial.random).ok_or("no node")?;
    trial.cluster.kill(&[node])?;
    trial.struck(false);
    let down = trial.random.random_range(DOWN_MS);
    tokio::time::sleep(Duration::from_millis(down)).await;
    trial.cluster.start(&[node])?;
    Ok(())
}

/// Who gives the commands.
struct Operator {
    command: Box<dyn Fn() -> Command + Send>,
    groups: Vec<GroupId>,
}

impl Operator {
    fn new(cluster: &Cluster, groups: &[GroupId]) -> Operator {
        Operator { command: cluster.operator(), groups: groups.to_vec() }
    }

    /// There with one command for a node, back with one for each replica. Says how many had to be given
    /// again.
    fn replace_all(&self) -> Result<usize, Failure> {
        let mut again = 0;
        let pairs = || Node::ALL.into_iter().zip(Node::SPARES);
        for (node, spare) in pairs() {
            again += self.give(&format!("node replace {node} --by {spare}"))?;
        }
        for (node, spare) in pairs() {
            for group in &self.groups {
                again += self.give(&format!("group replace {group} {spare} --by {node}"))?;
            }
        }
        Ok(again)
    }

    /// Gives a command until it ends well.
    fn give(&self, words: &str) -> Result<usize, Failure> {
        let deadline = Instant::now() + COMMAND_PATIENCE;
        for again in 0.. {
            let mut command = (self.command)();
            let output =
                command.args(words.split(' ')).args(["--yes", "--wait", COMMAND_WAIT]).output()?;
            if output.status.success() {
                return Ok(again);
            }
            let is_usage = output.status.code() == Some(EXIT_USAGE);
            if is_usage || deadline < Instant::now() {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(format!("quorate {words}: {}: {said}", output.status).into());
            }
        }
        unreachable!("the loop ends by returning")
    }
}

fn groups(trial: &Trial) -> Vec<GroupId> {
    trial.client.topology().groups().map(|group| group.id).collect()
}

async fn leader(trial: &Trial, group: GroupId) -> Result<Node, Failure> {
    let deadline = Instant::now() + PROGRESS_PATIENCE;
    while Instant::now() < deadline {
        if let Some(leader) = leaders(&trial.client).await.get(&group) {
            return Ok(*leader);
        }
    }
    Err(format!("{group} has no leader").into())
}

async fn wait_led_elsewhere(trial: &Trial, group: GroupId, from: Node) -> Result<(), Failure> {
    let deadline = Instant::now() + PROGRESS_PATIENCE;
    while leader(trial, group).await? == from {
        if deadline < Instant::now() {
            return Err(format!("{group} is led by {from} for ever").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Waits until a group has acknowledged some more.
async fn wait_steady(trial: &Trial, group: GroupId) -> Result<(), Failure> {
    let want = trial.ledger.pulse(group.0).done + PROGRESS;
    trial.wait_done_in(group.0, want, Instant::now() + PROGRESS_PATIENCE).await
}

/// The members must be those of the cluster file again.
async fn check_members(trial: &mut Trial, group: GroupId) -> Result<(), Failure> {
    let members = trial.client.members(group).await?;
    let voters: BTreeMap<_, _> =
        members.members.iter().map(|member| (member.node, member.role.word())).collect();
    let wanted: BTreeMap<_, _> = Node::ALL.map(|node| (node.id(), "voter")).into();
    if voters != wanted || members.members.len() != wanted.len() {
        trial.note_wrong(format!("{group} has the members {voters:?} at the end"));
    }
    Ok(())
}
